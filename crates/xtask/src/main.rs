//! `cargo x`: build, boot and test Octant with one command each.
//!
//! Owns: the order of the steps, the system packages that each needs, what is in the image.
//! Promises: a command that needs something says what, why and how to get it before it starts long work;
//! nothing outside the target directory is written, except packages that the package manager installs.
//! Never: depends on a crate that has dependencies itself, so that the first command answers within seconds.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod apt;
mod args;
mod bench;
mod build;
mod cpio;
mod elf;
mod elsewhere;
mod firmware;
mod image;
mod json;
mod kernel;
mod logs;
mod mkosi;
mod modules;
mod node;
mod oci;
mod packages;
mod peers;
mod postgres;
mod python;
mod qemu;
mod run;
mod sh;
mod suite;
mod tidy;
mod uki;
mod workspace;

use args::Args;
use sh::Res;
use std::process::ExitCode;
use workspace::Workspace;

/// One command of `cargo x`.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, Args) -> Res<ExitCode>,
}

/// In the order in which a newcomer meets them.
const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        about: "boot Octant in QEMU (--container, --pidns, --mkosi: elsewhere)",
        run: run::main,
    },
    Command { name: "test", about: "everything that CI runs, in order", run: suite::test },
    Command {
        name: "check",
        about: "format, clippy and tidy: what to run before a commit",
        run: suite::check,
    },
    Command {
        name: "image",
        about: "build the boot image (--uki, --oci, --mkosi, --disk: that form)",
        run: image::main,
    },
    Command {
        name: "dist",
        about: "build the binary that is shipped and check that it is static",
        run: build::dist,
    },
    Command { name: "bench", about: "measure what docs/specification.md promises", run: bench::main },
    Command {
        name: "sim",
        about: "run the service graph under a seed (--seed N, --seeds N)",
        run: bench::sim,
    },
    Command { name: "tidy", about: "check the rules that no compiler checks", run: tidy::main },
    Command {
        name: "packages",
        about: "show the system packages that each command uses",
        run: packages::main,
    },
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = if arguments.is_empty() { "help".to_owned() } else { arguments.remove(0) };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        println!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("cargo x: there is no command {name:?}\n\n{}", help());
        return ExitCode::from(2);
    };
    let outcome = Workspace::find().and_then(|workspace| (command.run)(&workspace, Args::new(arguments)));
    outcome.unwrap_or_else(|error| {
        eprintln!("\ncargo x {name}: {error}");
        ExitCode::FAILURE
    })
}

fn help() -> String {
    let mut text = String::from("cargo x COMMAND [--help]\n\n");
    for command in COMMANDS {
        text += &format!("  {:<9} {}\n", command.name, command.about);
    }
    text + "\nThe first `cargo x run` takes several minutes: it builds one binary with every utility in it."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_different_names_and_the_help_has_all_of_them() {
        let text = help();
        for (at, command) in COMMANDS.iter().enumerate() {
            assert!(text.contains(&format!("\n  {} ", command.name)), "{}", command.name);
            assert!(COMMANDS[..at].iter().all(|other| other.name != command.name), "{}", command.name);
        }
    }
}
