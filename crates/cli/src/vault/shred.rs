//! Overwriting and removing a file whose secrets are in the vault now.

use super::VaultError;
use crate::error::CliError;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Zeros over the file that was read as `path`, which is then removed.
pub(super) fn shred(path: &Path, read: &File) -> Result<(), CliError> {
    let fail = |source: io::Error| CliError::Write { path: path.to_owned(), source };
    let refuse = |why| CliError::from(VaultError::NotShredded { path: path.to_owned(), why });
    let before = read.metadata().map_err(fail)?;
    if !before.is_file() {
        return Err(refuse("it is no regular file"));
    }
    if before.nlink() > 1 {
        return Err(refuse("it has other names too, under which it would be lost"));
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path);
    let mut file = opened.map_err(|source| match source.raw_os_error() {
        Some(errno) if errno == nix::errno::Errno::ELOOP as i32 => refuse("it is a symbolic link"),
        _ => fail(source),
    })?;
    let now = file.metadata().map_err(fail)?;
    if (now.dev(), now.ino()) != (before.dev(), before.ino()) {
        return Err(refuse("another file was put in its place meanwhile"));
    }
    let mut left = now.len();
    let zeros = [0; 4096];
    while left > 0 {
        let part = zeros.len().min(usize::try_from(left).unwrap_or(zeros.len()));
        file.write_all(&zeros[..part]).map_err(fail)?;
        left -= part as u64;
    }
    file.sync_all().and_then(|()| fs::remove_file(path)).map_err(fail)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)
}
