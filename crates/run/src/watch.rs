//! Whether what is guarded still is.
//!
//! The kernel keeps the program from removing a mount point, and nobody outside: a file that is replaced there, as `git
//! config` and editors do, takes its mount away inside. Then the program could write what came in its place, so it ends.

use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// The mounts of a workstation.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    /// None where the program has ended already, and with it what it had mounted.
    file: Option<File>,
    guarded: Vec<String>,
}

/// What the kernel has for a process that has ended, whether it was waited for or not.
fn unless_ended<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    const ENDED: [Errno; 3] = [Errno::EINVAL, Errno::ENOENT, Errno::ESRCH];
    match done {
        Err(error) if ENDED.map(|errno| Some(errno as i32)).contains(&error.raw_os_error()) => Ok(None),
        done => done.map(Some),
    }
}

impl Watch {
    /// Of the workstation with this first process.
    pub(crate) fn new(pid: u32, guarded: Vec<String>) -> io::Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/mountinfo"));
        Ok(Self { file: unless_ended(File::open(&path))?, path, guarded })
    }

    /// Has an exceptional condition when a mount came or went.
    pub(crate) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// What is guarded no more, if anything.
    pub(crate) fn lost(&self) -> io::Result<Option<&str>> {
        let mounts = unless_ended(fs::read_to_string(&self.path))?;
        Ok(mounts.and_then(|mounts| lost(&mounts, &self.guarded)))
    }
}

fn lost<'a>(mounts: &str, guarded: &'a [String]) -> Option<&'a str> {
    let there = |target: &str| {
        mounts.lines().any(|line| line.split(' ').nth(4).map(unescaped).as_deref() == Some(target))
    };
    guarded.iter().map(String::as_str).find(|target| !there(target))
}

/// A path as it is: the kernel writes spaces, tabs, line breaks and backslashes in octal (proc_pid_mountinfo(5)).
fn unescaped(text: &str) -> String {
    const ESCAPES: [(&str, &str); 4] = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    ESCAPES.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_went_is_named() {
        let mounts =
            "36 35 98:0 / / rw - tmpfs x rw\n37 36 8:1 /p/.git /workspace/a\\040b ro - ext4 /dev/x rw\n";
        let guarded = |path: &str| vec![path.to_owned()];
        assert_eq!(lost(mounts, &guarded("/workspace/a b")), None);
        assert_eq!(lost(mounts, &guarded("/workspace/.git/config")), Some("/workspace/.git/config"));
        assert_eq!(lost("", &guarded("/workspace")), Some("/workspace"));
    }
}
