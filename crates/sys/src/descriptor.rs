//! Descriptors by number: what was inherited, what is left open.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A copy of `fd` with exactly this number (close-on-exec when `cloexec`), replacing what had it.
///
/// # Errors
/// What dup3(2) reports; `EINVAL` when `fd` has this number already.
pub fn place(fd: BorrowedFd<'_>, number: i32, cloexec: bool) -> io::Result<OwnedFd> {
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: no pointers; replacing `number` is what the caller asked for, and it must not own it elsewhere.
    if unsafe { libc::dup3(fd.as_raw_fd(), number, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: dup3 succeeded, so `number` is a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from `first` on (close_range(2)).
///
/// # Errors
/// What close_range(2) reports.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: no pointers. The caller is about to execute or to leave; owners of the closed numbers never run.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// A copy of the descriptor with a number of at least `first`, close-on-exec.
///
/// # Errors
/// What fcntl(2) reports.
pub fn copy_above(fd: BorrowedFd<'_>, first: i32) -> io::Result<OwnedFd> {
    let number = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(first))?;
    // SAFETY: fcntl has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A copy of the descriptor that has this number, whoever owns it; close-on-exec.
///
/// # Errors
/// `EBADF` when none has.
pub fn copy_of(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a copy takes nothing from who owns the original.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A descriptor of the process with this id (pidfd_open(2)).
///
/// # Errors
/// `ESRCH` when there is none.
pub fn of_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(number @ 0..) = i32::try_from(number) else { return Err(io::Error::last_os_error()) };
    // SAFETY: pidfd_open has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor except these.
///
/// # Errors
/// What close_range(2) reports.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 0;
    for number in kept {
        if number > first {
            // SAFETY: no pointers; the caller owns nothing but what is kept that it will use again.
            if unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = number + 1;
    }
    close_from(first)
}
