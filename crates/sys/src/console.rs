//! Terminals: who controls them.

use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

fn done(result: libc::c_int) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a terminal in the devpts at this directory, and unlocks it: the side of who shows it.
///
/// # Errors
/// What openat(2) or ioctl(2) reports.
pub fn open_master(devpts: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master = openat(devpts, c"ptmx", flags, nix::sys::stat::Mode::empty())?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an integer through the pointer, which lives until the call returns.
    done(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    Ok(master)
}

/// The other side of a terminal, without going by its name (ioctl_tty(2), TIOCGPTPEER).
///
/// # Errors
/// What ioctl(2) reports.
pub fn open_terminal(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags, no pointer.
    let number = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    done(number)?;
    // SAFETY: ioctl succeeded, so `number` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives a terminal the modes and the size of another.
///
/// # Errors
/// One of them is not a terminal.
pub fn copy_modes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    tcsetattr(to, SetArg::TCSANOW, &tcgetattr(from)?)?;
    copy_size(from, to)
}

/// Gives a terminal the size of another; the programs on it are told (SIGWINCH).
///
/// # Errors
/// One of them is not a terminal.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize through the pointer.
    done(unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    // SAFETY: TIOCSWINSZ reads one struct winsize through the pointer.
    done(unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

/// A terminal's rows and columns; none for what is no terminal, or does not know them, as a serial line.
#[must_use]
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize through the pointer.
    let done = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Brings a virtual terminal to the front and waits until it is there; `console` is any virtual terminal.
///
/// # Errors
/// What ioctl(2) reports.
pub fn show(console: BorrowedFd<'_>, number: u16) -> io::Result<()> {
    const VT_ACTIVATE: libc::c_ulong = 0x5606;
    const VT_WAITACTIVE: libc::c_ulong = 0x5607;
    // SAFETY: both take a number, no pointer.
    done(unsafe { libc::ioctl(console.as_raw_fd(), VT_ACTIVATE, libc::c_ulong::from(number)) })?;
    // SAFETY: as above.
    done(unsafe { libc::ioctl(console.as_raw_fd(), VT_WAITACTIVE, libc::c_ulong::from(number)) })
}

/// Says what a key gives: `table` is the combination of shift keys, `key` the key's number, `value` what it gives.
///
/// # Errors
/// What ioctl(2) reports; `EPERM` without CAP_SYS_TTY_CONFIG.
pub fn set_key(console: BorrowedFd<'_>, table: u8, key: u8, value: u16) -> io::Result<()> {
    const KDSKBENT: libc::c_ulong = 0x4b47;
    // The kernel's struct kbentry.
    #[repr(C)]
    struct Entry {
        table: u8,
        key: u8,
        value: u16,
    }
    let entry = Entry { table, key, value };
    // SAFETY: KDSKBENT reads one struct kbentry through the pointer.
    done(unsafe { libc::ioctl(console.as_raw_fd(), KDSKBENT, &raw const entry) })
}

/// Hangs up the terminal that controls the caller: whoever else has it open can do nothing with it any more.
///
/// # Errors
/// What vhangup(2) reports.
pub fn hang_up() -> io::Result<()> {
    // SAFETY: no pointers.
    done(unsafe { libc::vhangup() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_of_a_terminal_belong_together() {
        let devpts = std::fs::File::open("/dev/pts").unwrap();
        let master = open_master(devpts.as_fd()).unwrap();
        let terminal = open_terminal(master.as_fd()).unwrap();
        assert!(nix::unistd::isatty(&terminal).unwrap());
        nix::unistd::write(&terminal, b"x").unwrap();
        assert_eq!(nix::unistd::read(&master, &mut [0; 4]), Ok(1));
        copy_modes(terminal.as_fd(), terminal.as_fd()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(copy_size(null.as_fd(), terminal.as_fd()).is_err());
    }
}
