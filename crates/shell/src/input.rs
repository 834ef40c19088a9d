//! Commands from standard input when it is not a terminal.

use brush_core::{Shell, ShellExtensions};
use brush_interactive::{InputBackend, InteractivePrompt, ReadResult, ShellError, ShellRef};
use nix::errno::Errno;
use std::io;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// The longest command; more than any script needs, less than would fill the memory.
const COMMAND_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Reads whole commands: lines, until they parse.
#[derive(Debug)]
pub(crate) struct Lines;

impl InputBackend for Lines {
    fn read_line(
        &mut self,
        shell: &ShellRef<impl ShellExtensions>,
        _prompt: InteractivePrompt,
    ) -> Result<ReadResult, ShellError> {
        let mut command = Vec::new();
        loop {
            let ended = read_one_line(&mut command).map_err(ShellError::InputError)?;
            if command.is_empty() {
                return Ok(ReadResult::Eof);
            }
            let text = String::from_utf8_lossy(&command);
            let whole = || block_in_place(|| complete(&Handle::current().block_on(shell.lock()), &text));
            if ended || whole() {
                return Ok(ReadResult::Input(text.into_owned()));
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
