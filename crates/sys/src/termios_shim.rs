//! Terminal speeds in a static program.
//!
//! The crate `libc` names these four functions with glibc's symbol version (`cfsetispeed@GLIBC_2.2.5`), so that a
//! dynamic program keeps the old meaning after glibc 2.42 changed it. A static libc.a has no symbol versions, so a
//! program that uses them (`stty`) does not link. These are the missing names; each calls the plain one.

use libc::{c_int, speed_t, termios};

/// The plain names, which libc.a has.
mod plain {
    use libc::{c_int, speed_t, termios};

    unsafe extern "C" {
        pub(super) fn cfgetispeed(settings: *const termios) -> speed_t;
        pub(super) fn cfgetospeed(settings: *const termios) -> speed_t;
        pub(super) fn cfsetispeed(settings: *mut termios, speed: speed_t) -> c_int;
        pub(super) fn cfsetospeed(settings: *mut termios, speed: speed_t) -> c_int;
    }
}

/// Does nothing. A call from the binary keeps this module, and with it the four names, in the link.
#[inline(never)]
pub fn keep() {}

#[unsafe(export_name = "cfgetispeed@GLIBC_2.2.5")]
extern "C" fn get_input(settings: *const termios) -> speed_t {
    // SAFETY: the caller of cfgetispeed passes a valid pointer; it goes on unchanged.
    unsafe { plain::cfgetispeed(settings) }
}

#[unsafe(export_name = "cfgetospeed@GLIBC_2.2.5")]
extern "C" fn get_output(settings: *const termios) -> speed_t {
    // SAFETY: the caller of cfgetospeed passes a valid pointer; it goes on unchanged.
    unsafe { plain::cfgetospeed(settings) }
}

#[unsafe(export_name = "cfsetispeed@GLIBC_2.2.5")]
extern "C" fn set_input(settings: *mut termios, speed: speed_t) -> c_int {
    // SAFETY: the caller of cfsetispeed passes a valid pointer; it goes on unchanged.
    unsafe { plain::cfsetispeed(settings, speed) }
}

#[unsafe(export_name = "cfsetospeed@GLIBC_2.2.5")]
extern "C" fn set_output(settings: *mut termios, speed: speed_t) -> c_int {
    // SAFETY: the caller of cfsetospeed passes a valid pointer; it goes on unchanged.
    unsafe { plain::cfsetospeed(settings, speed) }
}
