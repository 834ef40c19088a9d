//! The shell: brush, embedded as `sh`.
//!
//! Owns: the command line of `sh`, its start ([`main`]), the line editor of its terminal.
//! Promises: POSIX scripts and most of bash run; utilities are started through exec like any program, from
//! `/bin/<name>` or, where no such file exists, by the name through `/proc/self/exe`.
//! Never: is part of PID 1's own work. Nothing in booting, supervising or stopping is a shell script.
//!
//! # What brush does not do (0.5)
//!
//! - **Pipelines of shell code can stand still for good.** A stage that is a compound command (a loop, `{ ...; }`,
//!   `(...)`, `if`) or a function runs to its end before the next stage is started. Once it has written more than a
//!   pipe holds (64 KiB) nobody reads: `seq 20000 | while read -r x; do echo "$x"; done | tail -1` and `f | wc -l`
//!   hang. As the last stage it is sound. Programs and builtins do run beside each other, `eval` too, which is the
//!   way around: `seq 20000 | eval 'while read -r x; do echo "$x"; done' | tail -1` and `eval f | wc -l`.
//! - A job in the background is a task of the shell: `wait`, `wait %1` and `jobs` know it, but `$!` is empty,
//!   `wait PID` finds nothing and `kill %1` has no process (a job that was stopped with Ctrl-Z has one). To end it by
//!   time use `timeout 10 command &`.
//! - Traps run for `EXIT`, `ERR`, `DEBUG` and `RETURN`. A trap for a signal is accepted and does not run.
//! - `select`, `wait -n` and `disown` are missing.
//! - A subshell is a copy inside this process, not a fork: `umask` and `ulimit` in it change the outer shell too, and
//!   `$BASHPID` is the outer one's. A closed pipe ends a subshell at its next `echo` or `printf`; other builtins only
//!   fail.
//! - `exit` in the last stage of a pipeline ends the whole shell unless the stage is `(...)`, and so does a closed
//!   standard output at the next `echo` there.
//! - Ctrl-C on a terminal ends the program that runs, not the loop around it; a loop of builtins alone does not hear it.
//! - `exec NAME` looks for NAME in PATH only, not among the utilities without a file.
//!
//! A unit that needs signals or background process numbers is therefore a unit of its own, not a script.
#![forbid(unsafe_code)]

mod closed;
mod complete;
mod editor;
mod input;
mod kill;
mod line;
mod options;
mod wait;

use brush_builtins::{BuiltinSet, ShellBuilderExt};
use brush_core::builtins::{builtin, simple_builtin};
use brush_core::extensions::{ErrorFormatter, ShellExtensions, ShellExtensionsImpl};
use brush_core::openfiles::OpenFile;
use brush_core::{ProfileLoadBehavior, RcLoadBehavior, Shell, ShellVariable};
use brush_interactive::{InteractiveOptions, InteractiveShell, ShellError};
use options::{Options, Source};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Threads for command substitutions and background jobs, each of which may block on its pipe, so that more than this
/// many at once could stand still. Builtins in pipelines have threads of their own.
const WORKERS: usize = 8;

/// Exit codes of POSIX sh 2.8.2.
const USAGE: u8 = 2;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The way to run a utility that has no file: the own program, under the utility's name.
const OWN_PROGRAM: &str = "/proc/self/exe";

const HELP: &str = "\
Usage: sh [OPTION]... [FILE [ARGUMENT]...]
       sh [OPTION]... -c COMMAND [NAME [ARGUMENT]...]
       sh [OPTION]... -s [ARGUMENT]...
Run FILE, COMMAND or what comes on standard input.

  -c            run the first operand
  -i            behave as on a terminal
  -l, --login   read /etc/profile and ~/.profile first
  -s            read commands from standard input
  -a -C -e -f -n -u -v -x, -o NAME
                as with set; + in place of - unsets
";

/// Why the shell ended before or beside its script.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot use standard input: {0}")]
    Input(io::Error),
    #[error("cannot start: {0}")]
    Start(brush_core::Error),
    #[error("cannot read the profile: {0}")]
    Profile(brush_core::Error),
    #[error("{path}: {error}")]
    Script { path: String, error: io::Error },
    #[error("{0}")]
    Run(brush_core::Error),
    #[error("{0}")]
    Interactive(#[from] ShellError),
}

/// How messages begin: `sh: `, as other shells do.
#[derive(Clone, Default)]
struct Messages;

impl ErrorFormatter for Messages {
    fn format_error(&self, error: &brush_core::Error, _shell: &Shell<impl ShellExtensions>) -> String {
        format!("sh: {error:#}\n")
    }
}

type Extensions = ShellExtensionsImpl<Messages>;
type SharedShell = Arc<Mutex<Shell<Extensions>>>;

/// Runs the shell and gives its exit code.
///
/// `arguments[0]` is the name it was called by; a leading `-` makes it a login shell. `utilities` are the names
/// that the own program answers to: those without a file in PATH are run through it.
#[must_use]
pub fn main(arguments: Vec<OsString>, utilities: impl Iterator<Item = &'static str>) -> u8 {
    let options = match options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            report(&error);
            return USAGE;
        }
    };
    if options.help {
        // Standard output may be closed; there is nobody to tell then.
        return u8::from(io::stdout().write_all(HELP.as_bytes()).is_err());
    }
    match start(options, utilities) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            match &error {
                Failure::Script { error, .. } if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
                Failure::Script { .. } => CANNOT_RUN,
                _ => USAGE,
            }
        }
    }
}

fn report(error: &dyn std::error::Error) {
    // Nothing is left to tell it to when standard error itself is gone.
    let _ = writeln!(io::stderr(), "sh: {error}");
}

fn start(options: Options, utilities: impl Iterator<Item = &'static str>) -> Result<u8, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKERS).enable_all().build().map_err(Failure::Runtime)?;
    let code = runtime.block_on(async {
        let shell = build(&options, utilities).await?;
        run(shell, options).await
    });
    // Background tasks may still wait for their children; they end with this process.
    runtime.shutdown_background();
    code
}

/// Makes the shell, without running anything in it but the profile.
async fn build(
    options: &Options,
    utilities: impl Iterator<Item = &'static str>,
) -> Result<Shell<Extensions>, Failure> {
    let mut descriptors = HashMap::new();
    if !io::stdin().is_terminal() {
        // brush's own standard input reads ahead, so that after `read` nothing would be left for the next program.
        let input = io::stdin().as_fd().try_clone_to_owned().map_err(Failure::Input)?;
        descriptors.insert(0, OpenFile::from(File::from(input)));
    }
    let defaults = [("PATH", "/bin"), ("PS1", "\\h:\\w\\$ ")];
    let missing = defaults.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
    let mut builder = Shell::builder_with_extensions::<Extensions>()
        .enable_options(options.set.clone())
        .disable_options(options.unset.clone())
        .login(options.login)
        .interactive(options.interactive)
        .command_string_mode(matches!(options.source, Source::Command(_)))
        .read_commands_from_stdin(matches!(options.source, Source::Input))
        .profile(ProfileLoadBehavior::Skip)
        .rc(RcLoadBehavior::Skip)
        .shell_name(options.name.clone())
        .shell_args(options.arguments.clone())
        .error_formatter(Messages)
        .fds(descriptors)
        .shell_product_display_str("octant sh".into())
        .default_builtins(BuiltinSet::BashMode)
        .builtin("kill", simple_builtin::<kill::Kill, Extensions>())
        .builtin("wait", builtin::<wait::Wait, Extensions>());
    for (name, builtin) in closed::writers() {
        builder = builder.builtin(name, builtin);
    }
    for (name, value) in missing {
        let mut variable = ShellVariable::new(value);
        if name == "PATH" {
            variable.export();
        }
        builder = builder.var(name, variable);
    }
    let mut shell = builder.build().await.map_err(Failure::Start)?;
    for name in utilities {
        if shell.find_first_executable_in_path(name).is_none() {
            shell.program_location_cache_mut().set(name, OWN_PROGRAM.into());
        }
    }
    let profile = if options.login { ProfileLoadBehavior::LoadDefault } else { ProfileLoadBehavior::Skip };
    shell.load_config(&profile, &RcLoadBehavior::Skip).await.map_err(Failure::Profile)?;
    Ok(shell)
}

async fn run(mut shell: Shell<Extensions>, options: Options) -> Result<u8, Failure> {
    match options.source {
        Source::Command(command) => {
            shell.run_dash_c_command(command).await.map_err(Failure::Run)?;
            Ok(shell.last_exit_status())
        }
        Source::Script(path) => {
            // brush answers a missing script with its own code; POSIX wants 127 and 126.
            File::open(&path).map_err(|error| Failure::Script { path: path.clone(), error })?;
            shell.run_script(Path::new(&path), options.arguments.iter()).await.map_err(Failure::Run)?;
            Ok(shell.last_exit_status())
        }
        Source::Input => {
            let shell: SharedShell = Arc::new(Mutex::new(shell));
            let how = InteractiveOptions::default();
            if io::stdin().is_terminal() {
                let mut input = editor::Editor::default();
                InteractiveShell::new(&shell, &mut input, &how)?.run_interactively().await?;
            } else {
                let mut input = input::Lines;
                InteractiveShell::new(&shell, &mut input, &how)?.run_interactively().await?;
            }
            let code = shell.lock().await.last_exit_status();
            Ok(code)
        }
    }
}
