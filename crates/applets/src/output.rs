//! Writing to the standard streams.

use std::fmt::Display;
use std::io::{self, Write};

/// Reports a failure on standard error.
pub(crate) fn complain(name: &str, message: &dyn Display) {
    // Nothing is left to tell it to when standard error itself is gone.
    let _ = writeln!(io::stderr(), "{name}: {message}");
}

/// Writes a whole text to standard output and gives the exit code for it.
pub(crate) fn print(name: &str, text: &str) -> i32 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            complain(name, &format_args!("cannot write to standard output: {error}"));
            1
        }
    }
}

/// Answers `--help` and `--version` for the utilities of this crate: the exit code when one was asked for.
pub(crate) fn help_or_version(arguments: &[std::ffi::OsString], name: &str, help: &str) -> Option<i32> {
    let first = arguments.get(1)?;
    if first == "--help" {
        Some(print(name, help))
    } else if first == "--version" {
        Some(print(name, &format!("{name} (octant) {}\n", env!("CARGO_PKG_VERSION"))))
    } else {
        None
    }
}
