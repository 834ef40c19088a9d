//! Descriptors by number: what was inherited, what is left open.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Makes `fd` the descriptor with this number (close-on-exec when `cloexec`), replacing what had it.
///
/// # Errors
/// What dup3(2) or fcntl(2) reports.
pub fn place(fd: OwnedFd, number: i32, cloexec: bool) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() == number {
        let flags = nix::fcntl::FdFlag::from_bits_truncate(i32::from(cloexec));
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(flags))?;
        return Ok(fd);
    }
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
