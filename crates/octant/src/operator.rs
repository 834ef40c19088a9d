//! The operator's command line.

use octant_ids::Exit;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Commands that exist.
const COMMANDS: [&str; 3] = ["halt", "poweroff", "reboot"];

/// Whether this is a command of the operator's.
pub(crate) fn is_operators(name: &str) -> bool {
    COMMANDS.contains(&name)
}

/// Runs one; the first argument is the program's name.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let name = arguments.get(1).map_or("octant".into(), |name| name.to_string_lossy());
    let _ = writeln!(io::stderr(), "{name}: this command is not in this build");
    Exit::Unavailable.into()
}
