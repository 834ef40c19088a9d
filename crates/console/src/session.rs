//! The shell of who has logged in: its user, its place, its environment, and its end.

use crate::accounts::Account;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{Gid, Uid, chown, getpgrp, tcsetpgrp};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How often it is looked whether what opened a session still counts.
const LOOK_MS: u16 = 1_000;
/// How long what a session leaves behind may take to be gone.
const EMPTY_TRIES: u32 = 250;
const EMPTY_PAUSE: Duration = Duration::from_millis(20);

/// What comes from outside while the shell runs: its keys are the terminal's, whose signals are not for us.
const SIGNALS: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGTTOU,
];

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The shell, in words.
    pub(crate) how: String,
    /// Whether that was because this process is to end.
    pub(crate) told: bool,
}

/// Runs the shell until it ends; a hangup and an order to end are its too. Once `counts` says no it is ended at once. What it
/// leaves behind ends with it: it could go on reading the terminal, and so what the next one types.
pub(crate) fn run(account: &Account, terminal: &str, counts: impl Fn() -> bool) -> io::Result<Ended> {
    let group = match Group::enter() {
        // Who is root could leave any group.
        Err(_) if account.uid == 0 => None,
        entered => Some(entered?),
    };
    let ended = begin(account, terminal, counts);
    let left = group.map_or(Ok(()), Group::end);
    let ended = ended?;
    left.map(|()| ended)
}

fn begin(account: &Account, terminal: &str, counts: impl Fn() -> bool) -> io::Result<Ended> {
    let mut child = shell(account, terminal).spawn()?;
    let signals = SigSet::from_iter(SIGNALS);
    // After the start: a child inherits what is blocked.
    signals.thread_block()?;
    let ended = wait(&mut child, &signals, counts);
    let back = take_back();
    signals.thread_unblock()?;
    back?;
    ended
}

/// A cgroup of the session's own, below the one that this process is in.
struct Group {
    own: PathBuf,
    session: PathBuf,
}

impl Group {
    /// Makes it and goes in, so that the shell begins in it.
    fn enter() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let path =
            groups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::NotFound)?;
        let own = Path::new("/sys/fs/cgroup").join(path);
        // Nothing is made where this is no cgroup.
        if statfs(&own)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let session = own.join("session");
        match fs::create_dir(&session) {
            // Of a session whose end was not seen.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::write(session.join("cgroup.kill"), "1")?;
            }
            made => made?,
        }
        fs::write(session.join("cgroup.procs"), "0")?;
        Ok(Self { own, session })
    }

    /// Goes out, and ends all that is left in it.
    fn end(self) -> io::Result<()> {
        fs::write(self.own.join("cgroup.procs"), "0")?;
        fs::write(self.session.join("cgroup.kill"), "1")?;
        for _ in 0..EMPTY_TRIES {
            match fs::remove_dir(&self.session) {
                // Its last process is still ending.
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    std::thread::sleep(EMPTY_PAUSE)
                }
                removed => return removed,
            }
        }
        Err(io::Error::other("processes of the session do not end"))
    }
}

fn wait(child: &mut Child, signals: &SigSet, counts: impl Fn() -> bool) -> io::Result<Ended> {
    let mut told = false;
    let incoming = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        // First, because it may have ended before its signal was blocked.
        if let Some(status) = child.try_wait()? {
            return Ok(Ended { how: words(status), told });
        }
        if !counts() {
            child.kill()?;
            child.wait()?;
            return Ok(Ended { how: "the key that opened it does not count any more".into(), told });
        }
        match poll(&mut [PollFd::new(incoming.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK_MS)) {
            Err(nix::Error::EINTR) | Ok(0) => continue,
            ready => ready?,
        };
        let Some(info) = incoming.read_signal()? else { continue };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        if matches!(signal, Some(Signal::SIGHUP | Signal::SIGTERM)) {
            told = true;
            // An interactive shell obeys a hangup, and hands it on to its jobs.
            match octant_sys::process::signal(child.id(), Signal::SIGHUP) {
                Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
    }
}

/// The terminal belongs to whoever was in its foreground last; the next question needs it.
fn take_back() -> io::Result<()> {
    match tcsetpgrp(io::stdin(), getpgrp()) {
        // It was hung up, or is no terminal that controls us.
        Ok(()) | Err(nix::Error::ENOTTY | nix::Error::EIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

fn shell(account: &Account, terminal: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // A dash before the name makes it a login shell.
    command.arg0("-sh").env_clear();
    let home = home(account);
    command.current_dir(&home).env("HOME", &home);
    command.env("USER", &account.name).env("LOGNAME", &account.name).env("SHELL", "/bin/sh");
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin".into());
    command.env("PATH", path).env("TERM", kind(terminal));
    if let Some(directory) = std::env::var_os("OCTANT_DIR") {
        command.env("OCTANT_DIR", directory);
    }
    // The standard library drops all other groups together with the user.
    if account.uid != 0 {
        command.uid(account.uid).gid(account.uid);
    }
    command
}

/// What kind of terminal it is: the kernel's own, or whatever is at the other end of a line, which all know a VT220.
fn kind(terminal: &str) -> &'static str {
    let own = terminal.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    match own {
        true => "linux",
        false if terminal.starts_with("pts/") => "xterm",
        false => "vt220",
    }
}

/// The working directory to begin in, made when it is not there; `/` where that cannot be.
fn home(account: &Account) -> PathBuf {
    let home =
        if account.uid == 0 { PathBuf::from("/root") } else { PathBuf::from("/home").join(&account.name) };
    if home.is_dir() || make_home(&home, account.uid).is_ok() { home } else { "/".into() }
}

fn make_home(home: &Path, uid: u32) -> io::Result<()> {
    if let Some(above) = home.parent() {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new().mode(0o700).create(home)?;
    Ok(chown(home, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_of_a_kind_that_programs_know() {
        assert_eq!(
            ["tty1", "ttyS0", "hvc0", "pts/3", "console"].map(kind),
            ["linux", "vt220", "vt220", "xterm", "vt220"]
        );
    }

    #[test]
    fn an_end_is_said_in_words() {
        assert_eq!(
            (words(ExitStatus::from_raw(3 << 8)), words(ExitStatus::from_raw(9))),
            ("exit code 3".into(), "signal 9".into())
        );
    }
}
