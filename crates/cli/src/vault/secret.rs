//! Secret bytes on their way between a person or a file and the vault.
//!
//! They are in one buffer each, which has all its room from the start: one that grew would leave copies behind. They go
//! to the vault, and come from it, in a pipe.

use super::error::VaultError;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use octant_api::vault::VALUE_MAX;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use zeroize::Zeroizing;

/// How long, in milliseconds, the vault may leave a pipe open after its answer: it is full before the answer is sent.
const PATIENCE_MS: u16 = 10_000;

/// Bytes that are wiped when they are dropped, and shown nowhere.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    /// Both are from the same person, who learns nothing from the time that it takes.
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Secret {
    /// Nothing yet, and room for `max` bytes.
    pub(super) fn with_room(max: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(max)))
    }

    /// So many bytes, all zeros.
    pub(super) fn zeros(len: usize) -> Self {
        Self(Zeroizing::new(vec![0; len]))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// One more byte; false, and no change, when there is no room.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        let room = self.0.len() < self.0.capacity();
        if room {
            self.0.push(byte);
        }
        room
    }

    /// So many more bytes as there is room for.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = self.0.capacity() - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Takes the last character away: a byte, and before it what makes one UTF-8 character with it.
    pub(super) fn pop(&mut self) {
        while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the end of the line away.
    pub(super) fn chomp(&mut self) {
        for end in [b'\n', b'\r'] {
            if self.0.last() != Some(&end) {
                return;
            }
            self.0.pop();
        }
    }

    /// Everything until the end of `fd`, at most `max` bytes.
    pub(super) fn read(fd: BorrowedFd<'_>, max: usize) -> Result<Self, ReadError> {
        Self::read_when(fd, max, || Ok(()))
    }

    /// A whole file, at most `max` bytes.
    pub(super) fn read_file(path: &Path, what: &'static str, max: usize) -> Result<Self, VaultError> {
        let from = || path.display().to_string();
        let file = File::open(path).map_err(|source| VaultError::Read { what, from: from(), source })?;
        Self::read(file.as_fd(), max).map_err(|error| error.of(what, from()))
    }

    /// What the vault put into a pipe beside its answer.
    pub(super) fn receive(pipe: &OwnedFd) -> Result<Self, ReadError> {
        Self::read_when(pipe.as_fd(), VALUE_MAX, || {
            let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(PATIENCE_MS)) {
                Ok(0) => Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(Errno::EINTR) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    fn read_when(
        fd: BorrowedFd<'_>,
        max: usize,
        wait: impl Fn() -> io::Result<()>,
    ) -> Result<Self, ReadError> {
        // One byte more than there may be shows that there is more.
        let mut secret = Self::zeros(max.saturating_add(1));
        let mut len = 0;
        loop {
            wait().map_err(ReadError::Io)?;
            match read(fd, &mut secret.0[len..]) {
                Ok(0) => break,
                Ok(got) => len += got,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ReadError::Io(errno.into())),
            }
            if len > max {
                return Err(ReadError::TooLong(max));
            }
        }
        secret.0.truncate(len);
        Ok(secret)
    }

    /// The reading end of a pipe that holds all of it, and that nobody can write to any more.
    pub(super) fn pipe(&self, what: &'static str) -> Result<OwnedFd, VaultError> {
        pipe_of(&self.0, what)
    }
}

/// See [`Secret::pipe`].
pub(super) fn pipe_of(bytes: &[u8], what: &'static str) -> Result<OwnedFd, VaultError> {
    let fail = |errno: Errno| VaultError::Pipe { what, source: errno.into() };
    let full = || VaultError::PipeFull { what, bytes: bytes.len() };
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(fail)?;
    // A pipe that is too small would otherwise wait for a reader that comes after the writer.
    fcntl(&writing, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(fail)?;
    let mut left = bytes;
    while !left.is_empty() {
        match write(&writing, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(full()),
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(reading)
}

/// Why secret bytes cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There are more than so many.
    TooLong(usize),
    /// The kernel's reason.
    Io(io::Error),
}

impl ReadError {
    /// The same, with what was to be read from where.
    pub(super) fn of(self, what: &'static str, from: String) -> VaultError {
        match self {
            Self::TooLong(max) => VaultError::TooLong { what, from, max },
            Self::Io(source) => VaultError::Read { what, from, source },
        }
    }

    /// The same as the end of a sentence.
    pub(super) fn why(&self) -> String {
        match self {
            Self::TooLong(max) => format!("it is longer than {max} bytes"),
            Self::Io(source) => source.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_put_into_a_pipe_comes_out_whole_and_ends() {
        for len in [0, 1, 4096, VALUE_MAX - 1, VALUE_MAX] {
            let mut secret = Secret::zeros(len);
            secret.bytes_mut().fill(7);
            let pipe = secret.pipe("the value").unwrap();
            assert!(Secret::receive(&pipe).unwrap() == secret, "{len}");
        }
    }

    #[test]
    fn what_no_pipe_holds_is_refused_and_does_not_wait() {
        let error = Secret::zeros(VALUE_MAX + 1).pipe("the value").unwrap_err();
        assert!(matches!(error, VaultError::PipeFull { bytes, .. } if bytes == VALUE_MAX + 1));
        assert!(error.next().unwrap().contains("pipe-user-pages-soft"));
    }

    #[test]
    fn more_than_there_may_be_is_refused() {
        let (reading, writing) = io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let mut writing = writing;
            let _gone = writing.write_all(&[7; VALUE_MAX + 1]);
        });
        let error = Secret::read(reading.as_fd(), VALUE_MAX).unwrap_err();
        assert!(matches!(error, ReadError::TooLong(VALUE_MAX)));
        drop(reading);
        thread.join().unwrap();
    }

    #[test]
    fn a_buffer_never_grows_and_is_never_shown() {
        let mut secret = Secret::with_room(3);
        let place = secret.0.as_ptr();
        for byte in *b"abc" {
            assert!(secret.push(byte));
        }
        while secret.0.len() < secret.0.capacity() {
            assert!(secret.push(b'x'));
        }
        assert!(!secret.push(b'y'));
        assert_eq!(place, secret.0.as_ptr());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn a_line_ends_once_and_a_character_goes_whole() {
        let of = |text: &str| {
            let mut secret = Secret::with_room(16);
            assert!(text.bytes().all(|byte| secret.push(byte)));
            secret
        };
        for (text, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("", "")] {
            let mut secret = of(text);
            secret.chomp();
            assert_eq!(secret.bytes(), expected.as_bytes(), "{text:?}");
        }
        for (text, expected) in [("ab", "a"), ("aä", "a"), ("a€", "a"), ("", "")] {
            let mut secret = of(text);
            secret.pop();
            assert_eq!(secret.bytes(), expected.as_bytes(), "{text:?}");
        }
    }
}
