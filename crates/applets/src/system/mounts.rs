//! `mount` (the list only) and `umount`.

use super::proc_file;
use crate::output::{complain, help_or_version, print};
use nix::mount::{MntFlags, umount2};
use std::ffi::OsString;

const MOUNT_HELP: &str = "\
Usage: mount
List the mounted file systems. Mounting is PID 1's work and the workstation's, never a utility's.
";

const UMOUNT_HELP: &str = "\
Usage: umount [-f] [-l] DIRECTORY...
Detach file systems.

  -f    force, for a network file system that does not answer
  -l    detach now, clean up when nobody uses it any more
";

pub(crate) fn mount(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "mount", MOUNT_HELP) {
        return code;
    }
    if arguments.len() > 1 {
        complain("mount", &"this one only lists mounts; it takes no arguments");
        return 1;
    }
    match proc_file("mount", "/proc/self/mounts") {
        Ok(text) => print("mount", &text.lines().filter_map(mount_line).collect::<String>()),
        Err(code) => code,
    }
}

/// `source directory type options 0 0` (fstab(5)) becomes `source on directory type type (options)`.
fn mount_line(line: &str) -> Option<String> {
    let mut fields = line.split(' ').map(unescape);
    let (source, directory) = (fields.next()?, fields.next()?);
    let (kind, options) = (fields.next()?, fields.next()?);
    Some(format!("{source} on {directory} type {kind} ({options})\n"))
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

pub(crate) fn umount(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "umount", UMOUNT_HELP) {
        return code;
    }
    let mut flags = MntFlags::empty();
    let mut directories = Vec::new();
    for argument in arguments.iter().skip(1) {
        match argument.to_str() {
            Some("-f") => flags |= MntFlags::MNT_FORCE,
            Some("-l") => flags |= MntFlags::MNT_DETACH,
            Some(option) if option.starts_with('-') => {
                complain(
                    "umount",
                    &format_args!("unknown option {option}; umount --help lists what there is"),
                );
                return 2;
            }
            _ => directories.push(argument),
        }
    }
    if directories.is_empty() {
        complain("umount", &"no directory given");
        return 2;
    }
    let mut code = 0;
    for directory in directories {
        if let Err(error) = umount2(directory.as_os_str(), flags) {
            complain("umount", &format_args!("{}: {}", directory.display(), error.desc()));
            code = 1;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_line_is_rewritten_and_its_escapes_undone() {
        let line = mount_line("tmpfs /a\\040b\\134c tmpfs rw,nosuid 0 0");
        assert_eq!(line.as_deref(), Some("tmpfs on /a b\\c type tmpfs (rw,nosuid)\n"));
        assert_eq!(mount_line("tmpfs /x"), None);
        assert_eq!(unescape("end\\"), "end\\");
        assert_eq!(unescape("\\9zz"), "\\9zz");
    }
}
