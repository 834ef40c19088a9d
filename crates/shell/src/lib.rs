//! The shell: brush, embedded as `sh`.
//!
//! Owns: the command line of `sh`, its start ([`main`]), the line editor of its terminal.
//! Promises: POSIX scripts and most of bash run; utilities are started through exec like any program, from
//! `/bin/<name>` or, where no such file exists, by the name through `/proc/self/exe`.
//! Never: is part of PID 1's own work. Nothing in booting, supervising or stopping is a shell script.
//!
//! What differs from other shells, with the way around, is in `docs/shell.md`. brush-core is patched for what could not
//! be done from outside: `third_party/brush-core/PATCHES.md`.
#![forbid(unsafe_code)]

mod command;
mod complete;
mod editor;
mod history;
mod input;
mod jobs;
mod kill;
mod line;
mod options;
mod printf;
mod session;
mod test;
mod trap;
mod wait;

use brush_builtins::{BuiltinSet, ShellBuilderExt, default_builtins};
use brush_core::builtins::{Registration, builtin, simple_builtin};
use brush_core::extensions::{ErrorFormatter, ShellExtensions, ShellExtensionsImpl};
use brush_core::openfiles::OpenFile;
use brush_core::signals::Inbox;
use brush_core::{ProfileLoadBehavior, RcLoadBehavior, Shell, ShellVariable};
use options::{Options, Source};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Threads for stages of pipelines, command substitutions and background jobs of shell code. Each may block on its pipe,
/// so that one which had to wait for a free thread could stand still: more than a script has at once.
const THREADS: usize = 4096;

/// As the first thread has: functions that call themselves need stack.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// A function that calls itself without end stops here with a message, subshells in between counted.
const CALLS: usize = 4000;

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

/// brush's own builtin of this name, for those of ours that leave something to it.
fn original(name: &str) -> Option<&'static Registration<Extensions>> {
    static ALL: LazyLock<HashMap<String, Registration<Extensions>>> =
        LazyLock::new(|| default_builtins(BuiltinSet::BashMode));
    ALL.get(name)
}

/// What may stand at the end of the operator's command line: given the words behind `octant` and the one that is begun.
pub type Complete = fn(&[String], &str) -> Vec<String>;

/// Runs the shell and gives its exit code.
///
/// `arguments[0]` is the name it was called by; a leading `-` makes it a login shell. `utilities` are the names
/// that the own program answers to: those without a file in PATH are run through it.
#[must_use]
pub fn main(
    arguments: Vec<OsString>,
    utilities: impl Iterator<Item = &'static str>,
    complete: Complete,
) -> u8 {
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
    match start(options, utilities, complete) {
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

fn start(
    options: Options,
    utilities: impl Iterator<Item = &'static str>,
    complete: Complete,
) -> Result<u8, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // One worker drives files and timers; shell code runs in this thread and in threads of its own.
    builder.worker_threads(1).max_blocking_threads(THREADS).thread_stack_size(STACK_BYTES);
    let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
    let code = runtime.block_on(async {
        let shell = build(&options, utilities).await?;
        run(shell, options, complete).await
    });
    // Shell code in the background ends with this process; until then it is not to find its runtime gone.
    std::mem::forget(runtime);
    // Whoever waits for this process sees the signal, as if the `EXIT` trap had not been run first.
    if let Some(signal) = Inbox::root().fatal() {
        brush_core::signals::die_of(signal);
    }
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
    let history = std::env::var("HOME").map(|home| home + "/.sh_history").unwrap_or_default();
    let defaults = [("PATH", "/bin"), ("PS1", editor::prompt()), ("HISTFILE", &history)];
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
        // POSIX: `set -e` holds in command substitutions too.
        .enable_shopt_option("inherit_errexit")
        .max_function_call_depth(CALLS)
        .shell_product_display_str("octant sh".into())
        .default_builtins(BuiltinSet::BashMode)
        .builtin("kill", simple_builtin::<kill::Kill, Extensions>())
        .builtin("trap", simple_builtin::<trap::Trap, Extensions>().special())
        .builtin("wait", builtin::<wait::Wait, Extensions>())
        .builtin("jobs", builtin::<jobs::Jobs, Extensions>())
        .builtin("test", simple_builtin::<test::Test, Extensions>())
        .builtin("[", simple_builtin::<test::Test, Extensions>())
        .builtin("disown", builtin::<jobs::Disown, Extensions>());
    for (name, builtin) in [command::registration(), printf::registration()].into_iter().flatten() {
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
    let utilities = utilities.map(|name| (name.to_owned(), PathBuf::from(OWN_PROGRAM)));
    shell.program_location_cache_mut().set_fallbacks(utilities.collect());
    let profile = if options.login { ProfileLoadBehavior::LoadDefault } else { ProfileLoadBehavior::Skip };
    shell.load_config(&profile, &RcLoadBehavior::Skip).await.map_err(Failure::Profile)?;
    Ok(shell)
}

async fn run(mut shell: Shell<Extensions>, options: Options, complete: Complete) -> Result<u8, Failure> {
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
        Source::Input if io::stdin().is_terminal() => {
            let mut editor = editor::Editor::new(&shell, complete);
            session::run(&mut shell, &mut editor).await?;
            Ok(shell.last_exit_status())
        }
        Source::Input => {
            session::run(&mut shell, &mut input::Lines).await?;
            Ok(shell.last_exit_status())
        }
    }
}
