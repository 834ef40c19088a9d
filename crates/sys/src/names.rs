//! Users and groups in a static program.

use std::ffi::{CStr, c_char, c_int};
use std::io;

/// What the C library looks names up in (nsswitch.conf(5)).
const DATABASES: [&CStr; 4] = [c"passwd", c"group", c"initgroups", c"shadow"];

/// Has users and groups looked up in `/etc/passwd` and `/etc/group` alone, whatever `/etc/nsswitch.conf` says: other sources
/// are libraries that the C library loads, and a static program that loads one crashes (`passwd: files systemd`, as Debian
/// has it, and a name that is in no file).
///
/// # Errors
/// The C library has no such database, or no memory.
pub fn from_files_alone() -> io::Result<()> {
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    DATABASES.into_iter().try_for_each(|database| {
        // SAFETY: both are texts that end with a zero and live as long as the program; glibc copies what it keeps.
        match unsafe { __nss_configure_lookup(database.as_ptr(), c"files".as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        from_files_alone().unwrap();
        assert_eq!(nix::unistd::User::from_name("root").unwrap().map(|user| user.uid.as_raw()), Some(0));
        assert!(nix::unistd::User::from_name("octant-no-such-user").unwrap().is_none());
        assert!(nix::unistd::Group::from_name("octant-no-such-group").unwrap().is_none());
    }
}
