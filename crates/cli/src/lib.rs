//! The operator's command line, and the commands that an agent has.
//!
//! Owns: the tree of commands, its help texts, the form of every answer and error on the terminal.
//! Promises: exit codes from [`octant_ids::Exit`]; an error says what failed, where, why and what to do next;
//! text that came from an agent or a service cannot control the terminal; no colour, no lines that are longer
//! than the terminal is wide.
//! No secret byte is in an argument, in the environment, in a message or in an error.
//! Never: opens a service's files (images and snapshots are nobody's but the operator's, and logs have to be readable when nothing runs) or decides what is allowed; it asks, over the sockets, as anyone could.
#![forbid(unsafe_code)]

mod acp;
mod agents;
mod approvals;
mod args;
mod chat;
mod complete;
mod deeds;
mod doctor;
mod egress;
mod error;
mod family;
mod image;
mod inside;
mod ledger;
mod logs;
mod manifest;
mod mcp;
mod message;
mod network;
mod operator;
mod out;
mod router;
mod servers;
mod service;
mod ssh;
mod top;
mod trust;
mod units;
mod vault;
mod witness;
mod workspace;

#[cfg(test)]
mod tests;

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
pub use complete::complete;
use error::CliError;
use octant_api::ledger::VerifyReport;
use octant_api::operator::Op;
use octant_api::unit::Spec;
use octant_ids::{Exit, Layout};
use operator::Operator;
use out::Out;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vault::Input;

/// What the binary puts in because it lies in crates that this one does not depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links {
    /// Reads the configuration below an `etc` directory as PID 1 would: what there is, or what is wrong, a line a
    /// thing. Without it `octant config check` says that this build cannot.
    pub check_config: Option<CheckConfig>,
    /// Verifies the record that `octant run` keeps in a directory, against these checkpoints besides. Without it
    /// `octant ledger verify DIR` says that this build cannot.
    pub verify_record: Option<VerifyRecord>,
    /// What PID 1 starts by itself, for `octant doctor` to compare with what is there.
    pub boot: &'static [Spec],
}

/// See [`Links::check_config`].
pub type CheckConfig = fn(&Path) -> Result<Vec<String>, Vec<String>>;

/// See [`Links::verify_record`].
pub type VerifyRecord = fn(&Path, &[String]) -> Result<VerifyReport, String>;

/// Runs one command; `args` starts with the program's name.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    main_with(args, Links::default())
}

/// The same, with what the binary puts in.
#[must_use]
pub fn main_with(args: Vec<OsString>, links: Links) -> ExitCode {
    let environment = std::env::var_os("OCTANT_DIR").filter(|dir| !dir.is_empty());
    let input = io::stdin();
    run(args, environment.map(PathBuf::from), links, Input::new(&input), Out::stdout).into()
}

/// The tree of commands, for documentation and completion.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Whether `octant NAME` is a command of this crate.
#[must_use]
pub fn is_command(name: &str) -> bool {
    command().find_subcommand(name).is_some()
}

fn run(
    args: Vec<OsString>,
    environment: Option<PathBuf>,
    links: Links,
    input: Input<'_>,
    out: impl FnOnce(bool) -> Out,
) -> Exit {
    let command = command().term_width(out::terminal_columns().min(100));
    let cli = match command.try_get_matches_from(&args).and_then(|found| Cli::from_arg_matches(&found)) {
        Ok(cli) => cli,
        Err(error) if let Some(error) = vault::hide(&args, &error) => {
            out(false).error(report(&error, false).as_bytes());
            return error.exit();
        }
        Err(error) if error.use_stderr() => {
            out(false).error(error.render().to_string().as_bytes());
            return Exit::Usage;
        }
        Err(help) => {
            let mut out = out(false);
            // A terminal that went away needs no help text.
            let _gone = out.raw(help.render().to_string().as_bytes());
            return Exit::Ok;
        }
    };
    let mut out = out(cli.global.json);
    let dir = cli.global.dir.clone().or(environment);
    let layout = dir.map_or_else(Layout::system, |dir| Layout::under(&dir));
    match act(&cli.command, &layout, links, input, &mut out).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(CliError::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            out.error(report(&error, cli.global.json).as_bytes());
            error.exit()
        }
    }
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: &'a str,
    next: Option<&'a str>,
    exit: u8,
}

fn report(error: &CliError, json: bool) -> String {
    let (what, next) = (error.to_string(), error.next());
    if json {
        let document = ErrorDocument { error: &what, next: next.as_deref(), exit: error.exit().code() };
        return serde_json::to_string(&document).unwrap_or(what) + "\n";
    }
    let what = what.lines().map(out::printable).collect::<Vec<_>>().join("\n  ");
    let next = next.map_or_else(String::new, |next| format!("\n  next: {}", out::printable(&next)));
    format!("octant: {what}{next}\n")
}

fn act(
    command: &Command,
    layout: &Layout,
    links: Links,
    input: Input<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    let operator = Operator::new(layout);
    match command {
        Command::Status => units::status(&operator, out),
        Command::Health { wait } => units::health(&operator, wait.0, out),
        Command::Service(command) => units::service(&operator, command, out),
        Command::Manifest(command) => manifest::run(command, layout, out),
        Command::Trust(command) => trust::run(command, layout, out),
        Command::Doctor => doctor::run(layout, links.boot, out),
        Command::Upgrade => units::machine(&operator, Op::Reexec, "upgrade", out),
        Command::Poweroff => units::machine(&operator, Op::Poweroff, "power off", out),
        Command::Reboot => units::machine(&operator, Op::Reboot, "reboot", out),
        Command::Halt => units::machine(&operator, Op::Halt, "halt", out),
        Command::Completion { shell } => completion(*shell, out),
        Command::Agent(command) => agents::run(command, layout, out),
        Command::Chat(asked) => chat::run(asked, layout, out),
        Command::Acp { manifest, key } => acp::run(manifest, key.as_deref(), layout, out),
        Command::Approvals(command) => approvals::run(command, layout, out),
        Command::Egress(command) => egress::run(command, layout, out),
        Command::Router(command) => router::run(command, layout, out),
        Command::Network(command) => network::run(command, layout, out),
        Command::Image(command) => image::run(command, layout, out),
        Command::Live => top::run(layout, out),
        Command::Logs(asked) => logs::run(asked, layout, out),
        Command::Ledger(command) => ledger::run(command, layout, links.verify_record, out),
        Command::Workspace(command) => workspace::run(command, layout, out),
        Command::Vault(command) => vault::run(command, layout, input, out),
        Command::Config(args::Config::Check) => check_config(links.check_config, layout, out),
        Command::Message(command) => message::run(command, layout, out),
        Command::Secret(command) => vault::of_agent(command, layout, input, out),
        Command::Lease(wish) => inside::lease(wish, layout, out),
        Command::Mcp { command: None } => mcp::run(layout, out),
        Command::Mcp { command: Some(command) } => servers::run(command, layout, out),
        Command::SshAgent { serve: Some(dir), .. } => ssh::serve(dir, layout, out),
        Command::SshAgent { command, .. } => ssh::run(command, layout),
        Command::Note { text } => inside::note(text, layout, out),
        Command::Itself { probe: Some(step), .. } => {
            doctor::probe(step).map_err(|source| CliError::System { step: "try what is denied", source })
        }
        Command::Itself { attempt: None, .. } => inside::describe(layout, out),
        Command::Itself { attempt: Some(what), .. } => inside::attempt(*what, layout, out),
    }
}

#[derive(Serialize)]
struct ConfigDocument {
    valid: bool,
    lines: Vec<String>,
}

fn check_config(check: Option<CheckConfig>, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let Some(check) = check else {
        let (what, why) =
            ("cannot check the configuration".to_owned(), "this build has no PID 1 in it".to_owned());
        return Err(CliError::Refused { what, why, exit: Exit::Unavailable, next: None });
    };
    let checked = check(&layout.etc);
    let valid = checked.is_ok();
    let lines = checked.unwrap_or_else(|wrong| wrong);
    let count = lines.len();
    if out.json {
        out.json(&ConfigDocument { valid, lines })?;
    } else {
        lines.iter().try_for_each(|line| out.line(out::printable(line)))?;
    }
    if valid {
        return Ok(());
    }
    let (path, why) = (layout.etc.clone(), format!("{count} problems, see above"));
    Err(CliError::Invalid { path, kind: "configuration", why })
}

fn completion(shell: args::Shell, out: &mut Out) -> Result<(), CliError> {
    let mut script = Vec::new();
    let generator = match shell {
        args::Shell::Bash => clap_complete::Shell::Bash,
        args::Shell::Zsh => clap_complete::Shell::Zsh,
        args::Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(generator, &mut command(), "octant", &mut script);
    out.raw(&script)
}
