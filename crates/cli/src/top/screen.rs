//! The terminal: what differs is written, and nothing is asked.

use super::keys::{Key, keys};
use super::view::Drawn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// How soon a new snapshot and another size are noticed.
const LOOK_MS: u16 = 100;
/// What an 80-column serial console shows, which has no size that could be asked for.
const USUAL: (usize, usize) = (80, 24);

/// Something that happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Key(Key),
    /// The terminal is gone, or this process was told to end.
    Over,
}

/// A terminal that shows the view until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    input: OwnedFd,
    output: File,
    signals: SignalFd,
    before: Termios,
    shown: Vec<Drawn>,
    size: (usize, usize),
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open(input: impl AsFd, output: impl AsFd) -> io::Result<Self> {
        let input = input.as_fd().try_clone_to_owned()?;
        let output = File::from(output.as_fd().try_clone_to_owned()?);
        let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]);
        ends.thread_block()?;
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&input, SetArg::TCSADRAIN, &raw)?;
        let mut screen = Self { input, output, signals, before, shown: Vec::new(), size: (0, 0) };
        // Without the cursor, where the terminal knows that.
        screen.output.write_all(b"\x1b[?25l\x1b[H\x1b[J")?;
        Ok(screen)
    }

    /// Columns and rows. Another size is drawn anew.
    pub(super) fn size(&mut self) -> (usize, usize) {
        let size = terminal_size::terminal_size_of(&self.output)
            .map(|(columns, rows)| (usize::from(columns.0), usize::from(rows.0)))
            .filter(|(columns, rows)| *columns > 0 && *rows > 0);
        let size = size.unwrap_or(USUAL);
        if self.size != size {
            self.size = size;
            self.shown.clear();
        }
        size
    }

    /// Shows these lines: what is there already is not written again, which a slow line would take seconds for.
    pub(super) fn draw(&mut self, lines: &[Drawn]) -> io::Result<()> {
        let mut bytes = String::new();
        if self.shown.is_empty() {
            bytes.push_str("\x1b[0m\x1b[H\x1b[J");
        }
        for (row, line) in lines.iter().enumerate().filter(|(row, line)| self.shown.get(*row) != Some(*line))
        {
            let (on, off) = if line.marked { ("\x1b[7m", "\x1b[0m") } else { ("", "") };
            // Writing to a String cannot fail.
            let _ = write!(bytes, "\x1b[{};1H{on}{}{off}\x1b[K", row + 1, line.text);
        }
        if !bytes.is_empty() {
            self.output.write_all(bytes.as_bytes())?;
            self.shown = lines.to_vec();
        }
        Ok(())
    }

    /// What has happened, after a moment at most.
    pub(super) fn events(&mut self) -> io::Result<Vec<Event>> {
        let mut ready = [
            PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut ready, PollTimeout::from(LOOK_MS))? == 0 {
            return Ok(Vec::new());
        }
        if ready[1].any() == Some(true) {
            return Ok(vec![Event::Over]);
        }
        let mut bytes = [0; 256];
        match nix::unistd::read(&self.input, &mut bytes) {
            Ok(0) | Err(_) => Ok(vec![Event::Over]),
            Ok(length) => Ok(keys(&bytes[..length]).into_iter().map(Event::Key).collect()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs neither.
        let _gone = self.output.write_all(b"\x1b[0m\x1b[H\x1b[J\x1b[?25h");
        let _gone = tcsetattr(&self.input, SetArg::TCSADRAIN, &self.before);
    }
}
