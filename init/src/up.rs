//! `octant up`: Octant in a PID namespace on a machine that runs something else.

use crate::args::layer;
use crate::cgroup::Cradle;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use octant_ids::Exit;
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{Program, default_signals, exit_now};
use octant_sys::process;
use std::ffi::{CString, OsString};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `octant up` was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct UpArgs {
    /// Where everything is kept.
    dir: Option<PathBuf>,
    /// Layers of isolation that may be missing.
    accept_missing: Vec<String>,
    /// The job: a command and its arguments; empty for none.
    job: Vec<String>,
}

/// Why Octant does not come up.
#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("{0}; usage: octant up [--dir DIR] [--accept-missing cgroup] [-- COMMAND...]")]
    Usage(String),
    #[error(
        "`octant up` has to run as root for now: it makes namespaces and starts services under their own users. Try: sudo {0}"
    )]
    NotRoot(String),
    #[error("{}: {source}", path.display())]
    Dir { path: PathBuf, source: io::Error },
    #[error("{}: the services, which are not root, cannot get through {}; give --dir a place below /var/lib or /tmp, or chmod o+x it", dir.display(), closed.display())]
    Closed { dir: PathBuf, closed: PathBuf },
    #[error("an Octant runs below {} already; `octant --dir {} status` shows it, another --dir gives another one", .0.display(), .0.display())]
    Running(PathBuf),
    #[error("{step}: {source}")]
    System { step: &'static str, source: io::Error },
}

impl UpError {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NotRoot(_) => Exit::Denied,
            Self::Dir { .. } | Self::Closed { .. } | Self::Running(_) | Self::System { .. } => Exit::Failed,
        }
    }
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> UpError {
    move |source| UpError::System { step, source }
}

/// Runs Octant in new namespaces until it ends; its exit code is ours. `args` is what follows `octant up`.
#[must_use]
pub fn up(args: &[OsString]) -> ExitCode {
    match UpArgs::parse(args).and_then(|args| run(&args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            use std::io::Write;
            let _nobody_else_to_tell = writeln!(io::stderr(), "octant up: {error}");
            error.exit().into()
        }
    }
}

impl UpArgs {
    fn parse(args: &[OsString]) -> Result<Self, UpError> {
        let mut out = Self::default();
        let mut args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| UpError::Usage(format!("{arg} needs a value")));
            match arg.as_str() {
                "--dir" => out.dir = Some(value()?.into()),
                "--accept-missing" => {
                    let name = layer(value()?).map_err(|error| UpError::Usage(error.to_string()))?;
                    out.accept_missing.push(name);
                }
                "--" => out.job = args.by_ref().collect(),
                _ => match arg.strip_prefix("--accept-missing=") {
                    Some(name) => {
                        let name =
                            layer(name.to_owned()).map_err(|error| UpError::Usage(error.to_string()))?;
                        out.accept_missing.push(name);
                    }
                    None => return Err(UpError::Usage(format!("unknown argument {arg:?}"))),
                },
            }
        }
        Ok(out)
    }
}

fn run(args: &UpArgs) -> Result<u8, UpError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::NotRoot(std::env::args().collect::<Vec<_>>().join(" ")));
    }
    let dir = args.dir.clone().unwrap_or_else(|| "/var/lib/octant-up".into());
    let dir = prepare_dir(&dir)?;
    if answers(&octant_ids::Layout::under(&dir).operator_socket()) {
        return Err(UpError::Running(dir));
    }
    let program = pid_1(args, &dir).map_err(at("the command line of PID 1"))?;
    let signals = SigSet::from_iter([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ]);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)
        .map_err(io::Error::from)
        .map_err(at("signals"))?;
    let namespaces =
        nix::libc::CLONE_NEWNS | nix::libc::CLONE_NEWPID | nix::libc::CLONE_NEWIPC | nix::libc::CLONE_NEWUTS;
    let terminal = io::stdin().is_terminal().then(|| nix::unistd::tcgetpgrp(io::stdin()).ok()).flatten();
    let cradle = Cradle::make(&std::process::id().to_string());
    let cgroup = cradle.as_ref().map(|cradle| cradle.init.as_fd());
    let cloned = clone3(&CloneArgs { namespaces, cgroup, ..CloneArgs::new() });
    match cloned.map_err(at("new namespaces"))? {
        Cloned::Child => become_pid_1(&program),
        Cloned::Parent { pid, pidfd: _unused } => {
            if args.job.is_empty() {
                use std::io::Write;
                let dir = dir.display();
                let _best_effort = writeln!(
                    io::stderr(),
                    "octant: `octant --dir {dir} status` connects to it; Ctrl-C stops it"
                );
            }
            let code = wait(pid, &signals).map_err(at("waiting for PID 1"));
            if let Some(cradle) = cradle {
                cradle.remove();
            }
            if let Some(group) = terminal {
                // The job had the terminal; without this the caller's shell would be stopped at its next read. SIGTTOU
                // would stop us for asking, so it is blocked first.
                let ttou = SigSet::from_iter([Signal::SIGTTOU]);
                let _best_effort = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ttou), None);
                let _best_effort = nix::unistd::tcsetpgrp(io::stdin(), group);
            }
            code
        }
    }
}

fn become_pid_1(program: &Program) -> ! {
    // If `octant up` is killed, its Octant ends in order rather than going on unseen.
    let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from);
    let error = match tied.and_then(|()| default_signals()) {
        Ok(()) => program.execute(),
        Err(error) => error,
    };
    use std::io::Write;
    let _nobody_else_to_tell = writeln!(io::stderr(), "octant up: PID 1 cannot be executed: {error}");
    exit_now(i32::from(Exit::Internal.code()))
}

/// Hands signals on until the child has ended.
fn wait(pid: u32, signals: &SigSet) -> io::Result<u8> {
    let child = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    let incoming = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC)?;
    loop {
        let Some(info) = incoming.read_signal()? else { continue };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        match signal {
            Some(Signal::SIGCHLD) => match waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => return Ok(u8::try_from(code & 0xff).unwrap_or(1)),
                WaitStatus::Signaled(_, signal, _) => {
                    return Ok(u8::try_from(128 + signal as i32).unwrap_or(255));
                }
                _ => {}
            },
            // A Ctrl-C reaches PID 1 from the terminal as well; it takes the second for what it is.
            Some(signal) => {
                process::signal(pid, if signal == Signal::SIGQUIT { Signal::SIGTERM } else { signal })?
            }
            None => {}
        }
    }
}

fn pid_1(args: &UpArgs, dir: &Path) -> io::Result<Program> {
    let text = |text: String| CString::new(text).map_err(io::Error::other);
    let operator = std::env::var("SUDO_UID").ok().filter(|uid| uid.parse::<u32>().is_ok());
    let mut argv: Vec<String> = ["octant", "init", "--mode", "namespace"].map(String::from).into();
    argv.extend(["--dir".into(), dir.display().to_string()]);
    argv.extend(["--operator".into(), operator.unwrap_or_else(|| "0".into())]);
    for name in &args.accept_missing {
        argv.extend(["--accept-missing".into(), name.clone()]);
    }
    if !args.job.is_empty() {
        argv.extend(["--job".into(), shell_line(&args.job)]);
    }
    let env = std::env::vars_os().map(|(name, value)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        CString::new(entry.into_encoded_bytes()).map_err(io::Error::other)
    });
    let env = env.collect::<io::Result<Vec<_>>>()?;
    Ok(Program::new(c"/proc/self/exe".into(), argv.into_iter().map(text).collect::<io::Result<_>>()?, env))
}

/// The command as a line for the shell: one word is a line of its own (as `sh -c` takes it), several are quoted.
fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        _ => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Whether a PID 1 listens there.
fn answers(path: &Path) -> bool {
    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None)
        .and_then(|fd| connect(fd.as_raw_fd(), &UnixAddr::new(path)?))
        .is_ok()
}

/// Makes the directory and checks that the services' users can reach it.
fn prepare_dir(dir: &Path) -> Result<PathBuf, UpError> {
    let failed = |source| UpError::Dir { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let dir = dir.canonicalize().map_err(failed)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    for parent in dir.ancestors() {
        let mode = std::fs::metadata(parent).map_err(failed)?.permissions().mode();
        if mode & 0o001 == 0 {
            return Err(UpError::Closed { dir: dir.clone(), closed: parent.to_owned() });
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<UpArgs, UpError> {
        UpArgs::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_and_job_are_told_apart() {
        let args = parse(&["--dir", "/x", "--accept-missing=cgroup", "--", "echo", "--dir"]).unwrap();
        assert_eq!((args.dir, args.accept_missing), (Some("/x".into()), vec!["cgroup".to_owned()]));
        assert_eq!(args.job, ["echo", "--dir"]);
        assert!(parse(&["--accept-missing", "all"]).is_err());
        assert!(parse(&["echo"]).is_err());
    }

    #[test]
    fn a_command_keeps_its_words() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(shell_line(&words(&["exit 3"])), "exit 3");
        assert_eq!(shell_line(&words(&["echo", "a b", "it's", ""])), r"echo 'a b' 'it'\''s' ''");
    }
}
