//! Bytes from one descriptor to another, both of which others may keep waiting.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How much is on its way at most.
const ROOM: usize = 16 << 10;

/// One direction.
#[derive(Debug)]
pub(crate) struct Relay {
    from: OwnedFd,
    to: Option<OwnedFd>,
    waiting: Vec<u8>,
    done: usize,
    at_end: bool,
    /// Whether it reads at the moment.
    pub(crate) open: bool,
}

impl Relay {
    /// From one to the other. `from` may block: it is read only when there is something. `to` is made not to block where
    /// it is ours alone.
    pub(crate) fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to: Some(to), waiting: Vec::new(), done: 0, at_end: false, open: true }
    }

    /// What it waits for: to read, to write, or nothing.
    pub(crate) fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let to = self.to.as_ref()?;
        match (self.waiting.is_empty(), self.at_end || !self.open) {
            (false, _) => Some((to.as_fd(), PollFlags::POLLOUT)),
            (true, false) => Some((self.from.as_fd(), PollFlags::POLLIN)),
            (true, true) => None,
        }
    }

    /// Passes on what did not come from where it reads, behind what is on its way.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// Does what it waited for.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.read()?;
        }
        self.write()
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; ROOM];
        match nix::unistd::read(&self.from, &mut buffer) {
            // A terminal that nobody has any more says EIO.
            Ok(0) | Err(Errno::EIO) => {
                self.at_end = true;
                // Who reads the other side learns of the end.
                self.to = None;
            }
            Ok(len) => {
                buffer.truncate(len);
                (self.waiting, self.done) = (buffer, 0);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        let rest = self.waiting.get(self.done..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        match nix::unistd::write(to, rest) {
            Ok(len) => self.done += len,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody wants it any more.
            Err(Errno::EPIPE | Errno::EIO) => {
                self.to = None;
                self.at_end = true;
            }
            Err(errno) => return Err(errno.into()),
        }
        if self.done >= self.waiting.len() {
            self.waiting.clear();
            self.done = 0;
        }
        Ok(())
    }

    /// Takes on everything that is there already, when nothing more comes: the program has ended.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        while let Some((fd, flags)) = self.wants() {
            use nix::poll::{PollFd, PollTimeout, poll};
            let timeout = if flags == PollFlags::POLLOUT { PollTimeout::NONE } else { PollTimeout::ZERO };
            match poll(&mut [PollFd::new(fd, flags)], timeout) {
                Ok(0) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => self.step()?,
            }
        }
        Ok(())
    }
}

/// Makes a descriptor that only this process has not block.
pub(crate) fn unblock(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe2, read, write};

    #[test]
    fn what_is_added_comes_behind_what_was_read_and_again_after_that() {
        let (from, typed) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (shown, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut relay = Relay::new(from, to);
        let mut buffer = [0; 16];
        for _ in 0..2 {
            write(&typed, b"ab").unwrap();
            relay.step().unwrap();
            relay.add(b"c");
            assert!(relay.wants().unwrap().1 == PollFlags::POLLOUT);
            relay.step().unwrap();
            let len = read(&shown, &mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"abc");
        }
    }
}
