//! The battery-backed clock (rtc(4)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTC_RD_TIME: libc::c_ulong = 0x8024_7009;
const RTC_SET_TIME: libc::c_ulong = 0x4024_700a;

/// Second, minute, hour, day of the month from 1, month from 0, years since 1900, and what the kernel leaves unset: the
/// start of a struct tm.
pub type Fields = [i32; 9];

/// What the clock shows.
///
/// # Errors
/// What ioctl(2) reports.
pub fn read(clock: BorrowedFd<'_>) -> io::Result<Fields> {
    let mut fields: Fields = [0; 9];
    // SAFETY: RTC_RD_TIME writes a struct of nine ints through the pointer.
    let done = unsafe { libc::ioctl(clock.as_raw_fd(), RTC_RD_TIME, fields.as_mut_ptr()) };
    if done == 0 { Ok(fields) } else { Err(io::Error::last_os_error()) }
}

/// Sets the clock.
///
/// # Errors
/// What ioctl(2) reports.
pub fn set(clock: BorrowedFd<'_>, fields: &Fields) -> io::Result<()> {
    // SAFETY: RTC_SET_TIME reads a struct of nine ints through the pointer.
    let done = unsafe { libc::ioctl(clock.as_raw_fd(), RTC_SET_TIME, fields.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
