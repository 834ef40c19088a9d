//! Children: reaping them and signalling them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;

/// A reaped child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its process id.
    pub pid: u32,
    /// The raw wait status. nix's decoded form has no place for real-time signals, so it is kept as it came.
    pub status: i32,
}

/// Reaps one child that has ended, without waiting; `None` when there is none.
///
/// # Errors
/// What waitpid(2) reports, except that having no children at all is `None`.
pub fn reap() -> io::Result<Option<Reaped>> {
    let mut status: libc::c_int = 0;
    // SAFETY: `status` is valid for the write; -1 and WNOHANG need nothing else.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match u32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(Reaped { pid, status })),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// What kill(2) reports; `EINVAL` for process id 0 or one beyond the kernel's range, which would mean a group.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(kill(to_pid(pid)?, signal)?)
}

/// Sends a signal to a process group.
///
/// # Errors
/// As [`signal`].
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    let leader = to_pid(leader)?;
    Ok(kill(Pid::from_raw(-leader.as_raw()), signal)?)
}

/// Has the kernel end this process when the thread that made it ends. `parent` is that process, as it was told to the
/// child by its own side of the fork.
///
/// # Errors
/// `ESRCH` when that process is gone already, so that nobody would be waited for.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if std::os::unix::process::parent_id() == parent {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ESRCH))
}

fn to_pid(pid: u32) -> io::Result<Pid> {
    match i32::try_from(pid) {
        Ok(pid) if pid > 1 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_everything_and_ones_own_group_cannot_be_signalled_by_accident() {
        for pid in [0, 1, u32::MAX] {
            assert_eq!(signal(pid, Signal::SIGTERM).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{pid}");
            assert!(signal_group(pid, Signal::SIGTERM).is_err(), "{pid}");
        }
    }
}
