//! The terminal of a login: keys one by one, with a time limit, without echo where it is a secret.

use crate::line::{Line, Press};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    ControlFlags, FlushArg, InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios,
    tcflush, tcgetattr, tcsetattr,
};
use octant_sys::clock;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A line.
    Line(Line),
    /// Ctrl-C.
    Cancelled,
    /// The end of the input, or a hangup.
    Ended,
    /// The time is over.
    TimedOut,
}

/// A terminal, taken over for questions; its modes as they should be when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    file: File,
    sane: Termios,
}

impl Terminal {
    /// Takes over the terminal on standard input.
    pub(crate) fn open() -> io::Result<Self> {
        Self::take(io::stdin().as_fd().try_clone_to_owned()?)
    }

    /// Takes over this terminal. What was typed before the question is thrown away: nobody saw a question yet.
    pub(crate) fn take(fd: OwnedFd) -> io::Result<Self> {
        let sane = sane(tcgetattr(&fd)?);
        tcsetattr(&fd, SetArg::TCSANOW, &by_key(&sane))?;
        tcflush(&fd, FlushArg::TCIFLUSH)?;
        Ok(Self { file: fd.into(), sane })
    }

    /// Writes a text; line ends are made right by the terminal.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())
    }

    /// Asks for a line until a time, CLOCK_MONOTONIC; with `shown` it is seen while it is typed.
    pub(crate) fn ask(&mut self, question: &str, shown: bool, deadline_ns: u64) -> io::Result<Answer> {
        self.write(question)?;
        let mut line = Line::new();
        loop {
            let Some(key) = self.key(deadline_ns)? else {
                self.write("\n")?;
                return Ok(Answer::TimedOut);
            };
            let Some(key) = key else { return Ok(Answer::Ended) };
            match line.press(key) {
                Press::Done => {
                    self.write("\n")?;
                    return Ok(Answer::Line(line));
                }
                Press::Cancel => {
                    self.write("\n")?;
                    return Ok(Answer::Cancelled);
                }
                Press::End => return Ok(Answer::Ended),
                Press::More { erased } if shown => {
                    self.write(&"\x08 \x08".repeat(erased))?;
                    if key >= 0x20 && key != 0x7f {
                        self.file.write_all(&[key])?;
                    }
                }
                Press::More { .. } => {}
            }
        }
    }

    /// The next key; none when the time is over, `Some(None)` when the terminal is gone.
    fn key(&mut self, deadline_ns: u64) -> io::Result<Option<Option<u8>>> {
        loop {
            let left = deadline_ns.saturating_sub(clock::monotonic_ns()).div_ceil(1_000_000);
            if left == 0 {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) | Err(nix::Error::EINTR) => continue,
                other => other?,
            };
            let mut key = [0];
            match nix::unistd::read(&self.file, &mut key) {
                Ok(0) | Err(nix::Error::EIO) => return Ok(Some(None)),
                Err(nix::Error::EINTR | nix::Error::EAGAIN) => {}
                Ok(_) => return Ok(Some(Some(key[0]))),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever comes next sets what it needs; a terminal that is gone needs nothing.
        let _gone = tcsetattr(&self.file, SetArg::TCSANOW, &self.sane);
    }
}

/// What a person expects of a terminal, whatever was done to it before: `stty sane`.
fn sane(mut modes: Termios) -> Termios {
    modes.input_flags = InputFlags::ICRNL | InputFlags::IXON | InputFlags::BRKINT | InputFlags::IUTF8;
    modes.output_flags = OutputFlags::OPOST | OutputFlags::ONLCR;
    modes.local_flags = LocalFlags::ISIG
        | LocalFlags::ICANON
        | LocalFlags::ECHO
        | LocalFlags::ECHOE
        | LocalFlags::ECHOK
        | LocalFlags::ECHOCTL
        | LocalFlags::ECHOKE
        | LocalFlags::IEXTEN;
    modes.control_flags |= ControlFlags::CREAD | ControlFlags::HUPCL;
    // The usual keys (linux/termios.h, INIT_C_CC).
    for (key, value) in [
        (SpecialCharacterIndices::VINTR, 0x03),
        (SpecialCharacterIndices::VQUIT, 0x1c),
        (SpecialCharacterIndices::VERASE, 0x7f),
        (SpecialCharacterIndices::VKILL, 0x15),
        (SpecialCharacterIndices::VEOF, 0x04),
        (SpecialCharacterIndices::VSTART, 0x11),
        (SpecialCharacterIndices::VSTOP, 0x13),
        (SpecialCharacterIndices::VSUSP, 0x1a),
        (SpecialCharacterIndices::VMIN, 1),
        (SpecialCharacterIndices::VTIME, 0),
    ] {
        modes.control_chars[key as usize] = value;
    }
    modes
}

/// Without echo, without lines, without signals: keys as they come.
fn by_key(sane: &Termios) -> Termios {
    let mut modes = sane.clone();
    modes.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
    modes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn pair() -> (OwnedFd, OwnedFd) {
        let devpts = File::open("/dev/pts").unwrap();
        let master = octant_sys::console::open_master(devpts.as_fd()).unwrap();
        let terminal = octant_sys::console::open_terminal(master.as_fd()).unwrap();
        (master, terminal)
    }

    fn soon() -> u64 {
        clock::monotonic_ns() + 20_000_000_000
    }

    /// As much as is expected, which may come in parts.
    fn shown(master: &OwnedFd, length: usize) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let mut part = [0; 256];
            let got = nix::unistd::read(master, &mut part).unwrap();
            bytes.extend_from_slice(&part[..got]);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_secret_is_not_shown_and_a_name_is() {
        let (master, slave) = pair();
        let mut terminal = Terminal::take(slave).unwrap();
        for (visible, expected) in [(true, "name: bob\x08 \x08b\r\n"), (false, "name: \r\n")] {
            nix::unistd::write(&master, b"bob\x7fb\r").unwrap();
            let Answer::Line(line) = terminal.ask("name: ", visible, soon()).unwrap() else {
                panic!("no line")
            };
            assert_eq!(line.bytes(), b"bob");
            assert_eq!(shown(&master, expected.len()), expected);
        }
    }

    #[test]
    fn silence_a_cancel_and_a_hangup_are_told_apart() {
        let (master, slave) = pair();
        let mut terminal = Terminal::take(slave.try_clone().unwrap()).unwrap();
        assert!(matches!(
            terminal.ask("", false, clock::monotonic_ns() + 1_000_000).unwrap(),
            Answer::TimedOut
        ));
        nix::unistd::write(&master, b"ab\x03").unwrap();
        assert!(matches!(terminal.ask("", false, soon()).unwrap(), Answer::Cancelled));
        nix::unistd::write(&master, b"\x04").unwrap();
        assert!(matches!(terminal.ask("", false, soon()).unwrap(), Answer::Ended));
        drop(terminal);
        assert!(tcgetattr(&slave).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON));
        let mut terminal = Terminal::take(slave).unwrap();
        drop(master);
        assert!(!matches!(terminal.ask("", false, soon()), Ok(Answer::Line(_) | Answer::TimedOut)));
    }
}
