//! Terminals: who controls them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes `terminal` the controlling terminal of the calling session leader, so that Ctrl-C reaches its jobs. Takes it
/// from another session when the caller is root.
///
/// # Errors
/// What ioctl(2) reports: not a terminal, or the caller leads no session.
pub fn take_control(terminal: &impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 1) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
