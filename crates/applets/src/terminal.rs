//! The terminal of utilities that fill the screen: its size, its keys one by one, and its state put back at the end.

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

/// A key, as far as pager and editor know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Control(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Delete,
    /// One that nobody knows.
    Other,
}

/// The terminal, with every key given at once and nothing echoed.
pub(crate) struct Terminal {
    device: File,
    before: Termios,
    /// What was read and is no key yet.
    pending: Vec<u8>,
}

impl Terminal {
    /// Takes the terminal of this process over.
    pub(crate) fn open() -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&device)?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.input_flags.remove(nix::sys::termios::InputFlags::ICRNL | nix::sys::termios::InputFlags::IXON);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&device, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { device, before, pending: Vec::new() })
    }

    /// Rows and columns; 24 and 80 where a serial line does not say.
    pub(crate) fn size(&self) -> (usize, usize) {
        match terminal_size::terminal_size_of(&self.device) {
            Some((terminal_size::Width(columns), terminal_size::Height(rows))) if rows > 1 && columns > 1 => {
                (rows.into(), columns.into())
            }
            _ => (24, 80),
        }
    }

    /// Writes all of a screen at once.
    pub(crate) fn draw(&mut self, screen: &str) -> io::Result<()> {
        self.device.write_all(screen.as_bytes())
    }

    /// Waits for a key; `None` when the terminal is gone.
    pub(crate) fn key(&mut self) -> io::Result<Option<Key>> {
        loop {
            if let Some((key, used)) = decode(&self.pending) {
                self.pending.drain(..used);
                return Ok(Some(key));
            }
            // An escape by itself is known by nothing following it.
            if !self.pending.is_empty() && !self.more()? {
                self.pending.remove(0);
                return Ok(Some(Key::Escape));
            }
            let mut bytes = [0; 64];
            match self.device.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.pending.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether more comes within a tenth of a second, as long as a slow line takes for the rest of a key.
    fn more(&self) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::from(100_u16))? > 0)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to put back.
        let _ = tcsetattr(&self.device, SetArg::TCSADRAIN, &self.before);
    }
}

/// The first key of these bytes and its length; `None` where more may follow.
fn decode(bytes: &[u8]) -> Option<(Key, usize)> {
    let first = *bytes.first()?;
    match first {
        b'\r' | b'\n' => Some((Key::Enter, 1)),
        0x7f | 0x08 => Some((Key::Backspace, 1)),
        0x1b => escape(bytes),
        0..0x20 => Some((Key::Control(char::from(first + 0x60)), 1)),
        0x20..0x80 => Some((Key::Char(char::from(first)), 1)),
        _ => {
            let length = match first {
                0xc2..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf5 => 4,
                _ => return Some((Key::Other, 1)),
            };
            let text = bytes.get(..length)?;
            match std::str::from_utf8(text).ok().and_then(|text| text.chars().next()) {
                Some(c) => Some((Key::Char(c), length)),
                None => Some((Key::Other, 1)),
            }
        }
    }
}

fn escape(bytes: &[u8]) -> Option<(Key, usize)> {
    let second = *bytes.get(1)?;
    if second != b'[' && second != b'O' {
        return Some((Key::Escape, 1));
    }
    let end = bytes.iter().skip(2).position(|b| (0x40..0x7f).contains(b))? + 2;
    let key = match (&bytes[2..end], bytes[end]) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"3", b'~') => Key::Delete,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => Key::Other,
    };
    Some((key, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded() {
        type Case = (&'static [u8], Option<(Key, usize)>);
        let cases: &[Case] = &[
            (b"a", Some((Key::Char('a'), 1))),
            ("ä".as_bytes(), Some((Key::Char('ä'), 2))),
            (&[0xc3], None),
            (&[0xff, b'a'], Some((Key::Other, 1))),
            (b"\x1b", None),
            (b"\x1b[", None),
            (b"\x1b[A", Some((Key::Up, 3))),
            (b"\x1bOB", Some((Key::Down, 3))),
            (b"\x1b[6~x", Some((Key::PageDown, 4))),
            (b"\x1b[99;5u", Some((Key::Other, 7))),
            (b"\x1bx", Some((Key::Escape, 1))),
            (b"\x04", Some((Key::Control('d'), 1))),
            (b"\r", Some((Key::Enter, 1))),
            (b"", None),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(decode(bytes), *wanted, "{bytes:?}");
        }
    }
}
