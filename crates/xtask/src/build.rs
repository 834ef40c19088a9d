//! Building the binary: statically linked, in a target directory of its own.

use crate::args::Args;
use crate::elf::Linkage;
use crate::json::Json;
use crate::packages;
use crate::sh::{self, Res, Steps};
use crate::workspace::{TARGET, Workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// How much the compiler optimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to link: what `run` and `test` boot.
    Release,
    /// What is shipped, and what the benches measure.
    Dist,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }

    /// How long the first build takes, measured on two cores.
    pub(crate) fn first_time(self) -> &'static str {
        match self {
            Self::Release => "about 8 min the first time",
            Self::Dist => "about 12 min the first time",
        }
    }
}

/// Builds `octant` and checks that it needs nothing but the kernel.
///
/// # Errors
/// A package is missing, the build fails, or the result is not a static program that starts as it lies in the file.
pub(crate) fn octant(workspace: &Workspace, profile: Profile) -> Res<PathBuf> {
    packages::ensure(workspace, packages::BUILD)?;
    cargo(workspace, "build", profile, &["-p", "octant"])?;
    let binary = directory(workspace, profile).join("octant");
    check(&binary)?;
    Ok(binary)
}

/// Builds every program of the tests crate as static as `octant`, so that they run inside a workstation too;
/// `features` may add programs, such as the one that measures.
///
/// # Errors
/// The build fails.
pub(crate) fn helpers(workspace: &Workspace, profile: Profile, features: &str) -> Res<PathBuf> {
    packages::ensure(workspace, packages::BUILD)?;
    cargo(workspace, "build", profile, &["-p", "octant-tests", "--bins", "--features", features])?;
    Ok(directory(workspace, profile))
}

/// Builds the tests of the spawner as a static program, which boots as the first process of a machine.
///
/// # Errors
/// The build fails, or cargo does not say where the program is.
pub(crate) fn spawn_tests(workspace: &Workspace) -> Res<PathBuf> {
    let words = [
        "-p",
        "octant-workstation",
        "--test",
        "spawn",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    let said = sh::text(&mut command(workspace, "test", Profile::Release, &words)?)?;
    let place = |line: &str| {
        let message = Json::parse(line).ok()?;
        Some(PathBuf::from(message.get("executable").text()?))
    };
    let found = said.lines().filter_map(place).next_back();
    found.ok_or_else(|| "cargo does not say where the tests of the spawner are".into())
}

/// Runs cargo for static binaries.
pub(crate) fn cargo(workspace: &Workspace, verb: &str, profile: Profile, words: &[&str]) -> Res {
    sh::run(&mut command(workspace, verb, profile, words)?)
}

fn command(workspace: &Workspace, verb: &str, profile: Profile, words: &[&str]) -> Res<Command> {
    let mut command = workspace.cargo(&[verb, "--locked", "--profile", profile.name(), "--target", TARGET]);
    command.args(words);
    static_environment(workspace, profile, &mut command)?;
    Ok(command)
}

/// What every static program is compiled and linked with: to the one address at which it runs, so that no start has a hundred
/// thousand addresses to make right (docs/adr/0010-linked-to-one-address.md). And what panics ends (`panic = "abort"`), so
/// nobody reads the tables by which a stack would be unwound, which are a tenth of the file.
const FLAGS: [&str; 3] =
    ["-Ctarget-feature=+crt-static", "-Cforce-unwind-tables=no", "-Crelocation-model=static"];

fn static_environment(workspace: &Workspace, profile: Profile, command: &mut Command) -> Res {
    let seccomp = sh::text(Command::new("gcc").arg("-print-file-name=libseccomp.a"))?;
    let Some(library_dir) = Path::new(seccomp.trim()).parent().and_then(|dir| dir.canonicalize().ok()) else {
        return Err(format!("gcc found libseccomp.a at {:?}, which is not there", seccomp.trim()));
    };
    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    if profile == Profile::Dist {
        // What is shipped says nothing of where it was built. Not for the quick profile: there a checkout in
        // another place would be built again from nothing.
        flags.push(format!("--remap-path-prefix={}=octant", workspace.root.display()));
        if let Some(home) = cargo_home() {
            flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        }
    }
    command
        .env("CARGO_TARGET_DIR", workspace.static_target())
        // Stands above every other way to give flags, so that the result does not depend on the caller's shell.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("LIBSECCOMP_LINK_TYPE", "static")
        .env("LIBSECCOMP_LIB_PATH", library_dir)
        // Build scripts of the utilities read it to choose which messages go in.
        .env("LANG", "C.UTF-8");
    Ok(())
}

fn cargo_home() -> Option<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn directory(workspace: &Workspace, profile: Profile) -> PathBuf {
    workspace.static_target().join(TARGET).join(profile.name())
}

fn check(binary: &Path) -> Res {
    let linkage = Linkage::of(&sh::read(binary)?).and_then(Linkage::check_static);
    linkage.map_err(|error| format!("{}: {error}", binary.display()))
}

/// `cargo x dist`.
pub(crate) fn dist(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    const USAGE: &str = "cargo x dist\n\n\
        Builds the binary that is shipped: static, optimised over crates.\n\
        Prints where it is, its size and its SHA-256. Nothing else is needed to run it but a kernel.";
    if args.help(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    args.finish()?;
    let mut steps = Steps::new(3);
    steps.next("looking for system packages");
    packages::ensure(workspace, packages::BUILD)?;
    steps.next(&format!("building the binary ({})", Profile::Dist.first_time()));
    let binary = octant(workspace, Profile::Dist)?;
    steps.next("reading it back: static, nothing writable and executable");
    let size = std::fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
    let digest = sh::sha256(&binary)?;
    println!(
        "\n{}\n  {} ({size} bytes)\n  sha256 {digest}\n  done in {}",
        binary.display(),
        sh::human_bytes(size),
        steps.finish()
    );
    Ok(ExitCode::SUCCESS)
}
