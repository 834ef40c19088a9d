//! Which arguments of which system calls name files.

/// What a call does with the file that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads it, or looks at it.
    Read,
    /// Changes what is in it, or its attributes; makes it where it is not there.
    Write,
    /// Makes, renames or removes its name in its directory.
    Entry,
    /// Executes it.
    Execute,
    /// What the flags in this argument say (open(2)).
    Flags(usize),
    /// What the flags in the structure behind this argument say (openat2(2)).
    How(usize),
}

/// Where a call has the path: the argument with the directory, if it has one, and the one with the text.
pub(crate) type Named = (Option<usize>, usize, Access);

use Access::{Entry, Execute, Flags, How, Read, Write};

/// The calls that name files, sorted.
const CALLS: &[(&str, &[Named])] = &[
    ("access", &[(None, 0, Read)]),
    ("chdir", &[(None, 0, Read)]),
    ("chmod", &[(None, 0, Write)]),
    ("chown", &[(None, 0, Write)]),
    ("creat", &[(None, 0, Write)]),
    ("execve", &[(None, 0, Execute)]),
    ("execveat", &[(Some(0), 1, Execute)]),
    ("faccessat", &[(Some(0), 1, Read)]),
    ("faccessat2", &[(Some(0), 1, Read)]),
    ("fchmodat", &[(Some(0), 1, Write)]),
    ("fchmodat2", &[(Some(0), 1, Write)]),
    ("fchownat", &[(Some(0), 1, Write)]),
    ("getxattr", &[(None, 0, Read)]),
    ("inotify_add_watch", &[(None, 1, Read)]),
    ("lchown", &[(None, 0, Write)]),
    ("lgetxattr", &[(None, 0, Read)]),
    ("link", &[(None, 0, Read), (None, 1, Entry)]),
    ("linkat", &[(Some(0), 1, Read), (Some(2), 3, Entry)]),
    ("lstat", &[(None, 0, Read)]),
    ("mkdir", &[(None, 0, Entry)]),
    ("mkdirat", &[(Some(0), 1, Entry)]),
    ("mknod", &[(None, 0, Entry)]),
    ("mknodat", &[(Some(0), 1, Entry)]),
    ("newfstatat", &[(Some(0), 1, Read)]),
    ("open", &[(None, 0, Flags(1))]),
    ("openat", &[(Some(0), 1, Flags(2))]),
    ("openat2", &[(Some(0), 1, How(2))]),
    ("readlink", &[(None, 0, Read)]),
    ("readlinkat", &[(Some(0), 1, Read)]),
    ("rename", &[(None, 0, Entry), (None, 1, Entry)]),
    ("renameat", &[(Some(0), 1, Entry), (Some(2), 3, Entry)]),
    ("renameat2", &[(Some(0), 1, Entry), (Some(2), 3, Entry)]),
    ("rmdir", &[(None, 0, Entry)]),
    ("stat", &[(None, 0, Read)]),
    ("statfs", &[(None, 0, Read)]),
    ("statx", &[(Some(0), 1, Read)]),
    ("symlink", &[(None, 1, Entry)]),
    ("symlinkat", &[(Some(1), 2, Entry)]),
    ("truncate", &[(None, 0, Write)]),
    ("unlink", &[(None, 0, Entry)]),
    ("unlinkat", &[(Some(0), 1, Entry)]),
    ("utimensat", &[(Some(0), 1, Write)]),
    ("utimes", &[(None, 0, Write)]),
];

/// The files that a call names.
pub(crate) fn named(call: &str) -> &'static [Named] {
    CALLS.binary_search_by(|row| row.0.cmp(call)).map_or(&[], |at| CALLS[at].1)
}

/// Calls that no workstation has, and what programs fall back to.
pub(crate) fn fallback(call: &str) -> Option<&'static str> {
    match call {
        "clone3" => Some("clone"),
        "openat2" => Some("openat"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_searched_by_halves() {
        assert!(CALLS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(named("openat"), [(Some(0), 1, Flags(2))]);
        assert!(named("read").is_empty());
    }
}
