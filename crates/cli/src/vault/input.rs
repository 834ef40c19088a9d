//! Standard input, and the person at it where it is a terminal.

use super::error::VaultError;
use super::secret::{ReadError, Secret};
use crate::out::{Out, printable};
use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices as Key, Termios, tcgetattr, tcsetattr};
use nix::unistd::{isatty, read};
use std::os::fd::{AsFd, BorrowedFd};
use zeroize::Zeroizing;

/// The longest answer to a question that is typed with echo.
const ANSWER_MAX: usize = 1024;
const PIPE: &str = "standard input";
const TERMINAL: &str = "the terminal";

/// Standard input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    fd: BorrowedFd<'a>,
    terminal: bool,
}

impl<'a> Input<'a> {
    pub(crate) fn new(fd: &'a impl AsFd) -> Self {
        let fd = fd.as_fd();
        Self { fd, terminal: isatty(fd).unwrap_or(false) }
    }

    /// Whether there is somebody to ask.
    pub(super) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Asks for secret lines, each after its question, without echo.
    ///
    /// Lines are read key by key: the kernel's own line editing cuts a line after 4095 bytes without a word, and a ^C
    /// would end this process with the terminal still mute.
    pub(super) fn ask_hidden<const N: usize>(
        self,
        questions: [&str; N],
        what: &'static str,
        max: usize,
        out: &mut Out,
    ) -> Result<[Secret; N], VaultError> {
        let mute = Mute::on(self.fd)?;
        let mut lines = [const { None }; N];
        for (line, question) in lines.iter_mut().zip(questions) {
            out.error(format!("{}: ", printable(question)).as_bytes());
            let typed = self.typed(&mute, what, max);
            out.error(b"\n");
            *line = Some(typed?);
        }
        Ok(lines.map(|line| line.unwrap_or_else(|| Secret::with_room(0))))
    }

    fn typed(self, mute: &Mute<'_>, what: &'static str, max: usize) -> Result<Secret, VaultError> {
        let mut line = Secret::with_room(max);
        loop {
            let key = self.byte().map_err(|error| error.of(what, TERMINAL.to_owned()))?;
            match mute.press(key, &mut line) {
                Press::More => {}
                Press::Done if line.bytes().is_empty() => {
                    return Err(VaultError::Empty { what, from: TERMINAL.to_owned() });
                }
                Press::Done if line.bytes().len() <= max => return Ok(line),
                Press::Stop => return Err(VaultError::Interrupted { what }),
                Press::Done | Press::Full => {
                    return Err(VaultError::TooLong { what, from: TERMINAL.to_owned(), max });
                }
            }
        }
    }

    /// Asks a question whose answer may be seen.
    pub(super) fn ask(self, question: &str, out: &mut Out) -> Result<String, VaultError> {
        out.error(format!("{} ", printable(question)).as_bytes());
        let line = self.line("the answer", ANSWER_MAX)?;
        Ok(String::from_utf8_lossy(line.bytes()).trim().to_owned())
    }

    /// Whether whoever is asked says yes.
    pub(super) fn agrees(self, question: &str, out: &mut Out) -> Result<bool, VaultError> {
        let answer = self.ask(&format!("{question} [y/N]"), out)?;
        Ok(matches!(answer.as_str(), "y" | "Y" | "yes"))
    }

    /// The next line without its end; what comes after it is left for others. Empty at the end of the input.
    pub(super) fn line(self, what: &'static str, max: usize) -> Result<Secret, VaultError> {
        let from = || if self.terminal { TERMINAL } else { PIPE }.to_owned();
        // Room for the line's end.
        let mut line = Secret::with_room(max.saturating_add(2));
        while let Some(byte) = self.byte().map_err(|error| error.of(what, from()))? {
            if !line.push(byte) {
                return Err(VaultError::TooLong { what, from: from(), max });
            }
            if byte == b'\n' {
                break;
            }
        }
        line.chomp();
        if line.bytes().len() > max {
            return Err(VaultError::TooLong { what, from: from(), max });
        }
        Ok(line)
    }

    /// Everything there is.
    pub(super) fn whole(self, what: &'static str, max: usize) -> Result<Secret, VaultError> {
        Secret::read(self.fd, max).map_err(|error| error.of(what, PIPE.to_owned()))
    }

    /// The next byte; none at the end.
    fn byte(self) -> Result<Option<u8>, ReadError> {
        let mut byte = Zeroizing::new([0]);
        loop {
            match read(self.fd, &mut *byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(byte[0])),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ReadError::Io(errno.into())),
            }
        }
    }
}

/// What a key does to the line.
#[derive(Debug, PartialEq, Eq)]
enum Press {
    More,
    Done,
    Stop,
    Full,
}

/// A terminal that gives every key and shows none, until this is dropped.
struct Mute<'a> {
    fd: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Mute<'a> {
    fn on(fd: BorrowedFd<'a>) -> Result<Self, VaultError> {
        let fail = |step| move |errno: Errno| VaultError::Terminal { step, source: errno.into() };
        let before = tcgetattr(fd).map_err(fail("read the terminal's settings"))?;
        let mut mute = before.clone();
        let shown = LocalFlags::ECHO | LocalFlags::ECHONL;
        mute.local_flags.remove(shown | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN);
        mute.control_chars[Key::VMIN as usize] = 1;
        mute.control_chars[Key::VTIME as usize] = 0;
        // What was typed before the question was shown, and was shown itself, is no answer.
        tcsetattr(fd, SetArg::TCSAFLUSH, &mute).map_err(fail("switch the terminal's echo off"))?;
        Ok(Self { fd, before })
    }

    fn press(&self, key: Option<u8>, line: &mut Secret) -> Press {
        // 0 in place of a key: the terminal has none for this (_POSIX_VDISABLE).
        let is =
            |index: Key| key.is_some_and(|key| key != 0 && key == self.before.control_chars[index as usize]);
        match key {
            None => return Press::Stop,
            Some(b'\n' | b'\r') => return Press::Done,
            Some(_) if is(Key::VEOF) => {
                return if line.bytes().is_empty() { Press::Stop } else { Press::Done };
            }
            Some(_) if is(Key::VINTR) || is(Key::VQUIT) || is(Key::VSUSP) => return Press::Stop,
            Some(_) if is(Key::VKILL) => line.clear(),
            Some(8 | 127) => line.pop(),
            Some(_) if is(Key::VERASE) => line.pop(),
            Some(key) if !line.push(key) => return Press::Full,
            Some(_) => {}
        }
        Press::More
    }
}

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        // What comes after the line, as the rest of something pasted, must not become a command of the shell's. A
        // terminal that went away needs no echo.
        let _gone = tcsetattr(self.fd, SetArg::TCSAFLUSH, &self.before);
    }
}
