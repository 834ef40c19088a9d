//! Commands from standard input when it is not a terminal.

use crate::session::{Input, Read};
use crate::{Extensions, Failure};
use brush_core::{Shell, ShellExtensions};
use nix::errno::Errno;
use std::io;

/// The longest command; more than any script needs, less than would fill the memory.
const COMMAND_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Reads whole commands: lines, until they parse.
#[derive(Debug)]
pub(crate) struct Lines;

impl Input for Lines {
    async fn read(&mut self, shell: &mut Shell<Extensions>) -> Result<Read, Failure> {
        let mut command = Vec::new();
        loop {
            let ended = read_one_line(&mut command).map_err(Failure::Input)?;
            if command.is_empty() {
                return Ok(Read::End);
            }
            let text = String::from_utf8_lossy(&command);
            if ended || complete(shell, &text) {
                return Ok(Read::Command(text.into_owned()));
            }
        }
    }
}

/// Whether a text is a whole command (or can never become one).
pub(crate) fn complete(shell: &Shell<impl ShellExtensions>, text: &str) -> bool {
    match shell.parse_string(text) {
        Err(brush_parser::ParseError::Tokenizing { inner, .. }) => !inner.is_incomplete(),
        Err(brush_parser::ParseError::ParsingAtEndOfInput) => false,
        Err(brush_parser::ParseError::ParsingNear(_)) | Ok(_) => true,
    }
}

/// Appends one line; true when the input ended.
///
/// Byte by byte, as POSIX wants: what stands behind the command belongs to the program that it starts.
fn read_one_line(line: &mut Vec<u8>) -> io::Result<bool> {
    let mut byte = [0_u8; 1];
    loop {
        match nix::unistd::read(io::stdin(), &mut byte) {
            Ok(0) => return Ok(true),
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if byte[0] == b'\n' {
            return Ok(false);
        }
        if line.len() > COMMAND_MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a command has more than 16 MiB"));
        }
    }
}
