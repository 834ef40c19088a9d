//! clone3(2): a new process with its pidfd, its cgroup and its namespaces in one step.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// What [`clone3`] makes. Start with [`CloneArgs::new`] and add.
#[derive(Debug, Clone, Copy)]
pub struct CloneArgs<'a> {
    /// New namespaces (`CLONE_NEW*`), 0 for none.
    pub namespaces: i32,
    /// The cgroup v2 directory that the child is born in; `None`: the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether the caller's parent becomes the child's parent (`CLONE_PARENT`), and so the one that reaps it.
    pub parent: bool,
}

impl CloneArgs<'_> {
    /// A plain child: no new namespace, the caller's cgroup, reaped by the caller.
    #[must_use]
    pub const fn new() -> Self {
        Self { namespaces: 0, cgroup: None, parent: false }
    }
}

impl CloneArgs<'_> {
    fn is_plain(&self) -> bool {
        self.namespaces == 0 && self.cgroup.is_none() && !self.parent
    }
}

impl Default for CloneArgs<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Which side of a [`clone3`] the caller finds itself on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The process that asked.
    Parent {
        /// The child's process id in the caller's PID namespace.
        pid: u32,
        /// A handle on exactly that process, close-on-exec.
        pidfd: OwnedFd,
    },
}

// The kernel's struct clone_args, version 2 (88 bytes, with `cgroup`).
#[repr(C)]
#[derive(Default)]
struct RawArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child process that continues as a copy of the caller, as fork(2) does.
///
/// # Errors
/// `EDEADLK` when the process has more than one thread: the copy would hold locks that nobody frees.
/// Where `/proc` is not mounted the number of threads cannot be told, and that error is returned instead.
/// Otherwise what clone3(2) reports.
pub fn clone3(args: &CloneArgs<'_>) -> io::Result<Cloned> {
    if threads()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EDEADLK));
    }
    let mut pidfd: libc::c_int = -1;
    let namespaces = u64::from(args.namespaces.cast_unsigned());
    let mut raw = RawArgs {
        flags: namespaces | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..RawArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    if args.parent {
        raw.flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
        raw.exit_signal = 0; // The kernel takes the caller's own and refuses another (EINVAL).
    }
    // SAFETY: no memory is shared with the child (no CLONE_VM), the process has one thread (checked above), and
    // `raw` and `pidfd` live until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const raw, size_of::<RawArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        1.. => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: u32::try_from(pid).unwrap_or(0), pidfd })
        }
        _ => match io::Error::last_os_error() {
            // Container runtimes hide clone3 behind ENOSYS, since their filters cannot see its flags.
            error if error.raw_os_error() == Some(libc::ENOSYS) && args.is_plain() => fork(),
            error => Err(error),
        },
    }
}

/// A plain child by the old call.
fn fork() -> io::Result<Cloned> {
    // SAFETY: the process has one thread (checked by the caller), so the copy holds no lock of another.
    match unsafe { libc::fork() } {
        0 => Ok(Cloned::Child),
        ..0 => Err(io::Error::last_os_error()),
        pid => {
            let pid = pid.unsigned_abs();
            Ok(Cloned::Parent { pid, pidfd: crate::descriptor::of_process(pid)? })
        }
    }
}

/// How many threads this process has: each is a directory in `/proc/self/task`, beside `.` and `..`.
pub(crate) fn threads() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness runs each test in a thread of its own.
        let error = clone3(&CloneArgs::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
    }

    #[test]
    fn the_kernel_knows_this_struct_size() {
        assert_eq!(size_of::<RawArgs>(), 88);
    }
}
