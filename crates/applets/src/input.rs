//! Reading operands.

use crate::output::complain;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// A file, or standard input for `-`.
pub(crate) fn open(file: &OsStr) -> io::Result<Box<dyn BufRead>> {
    if file == "-" {
        return Ok(Box::new(BufReader::with_capacity(64 * 1024, io::stdin())));
    }
    let file = File::open(file)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(BufReader::with_capacity(64 * 1024, file)))
}

/// Does something with each file, or with standard input where none is named. A file that cannot be read is told of, and the
/// rest is done; the exit code.
pub(crate) fn each(
    name: &str,
    files: &[OsString],
    mut act: impl FnMut(&OsStr, &mut dyn BufRead) -> io::Result<()>,
) -> i32 {
    let stdin = [OsString::from("-")];
    let files = if files.is_empty() { &stdin[..] } else { files };
    let mut code = 0;
    for file in files {
        if let Err(error) = open(file).and_then(|mut reader| act(file, &mut *reader)) {
            complain(name, &format_args!("{}: {error}", Path::new(file).display()));
            code = 1;
        }
    }
    code
}
