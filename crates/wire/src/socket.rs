//! A connected socket. It wakes its owner when there is something to read; that there is room to write is looked for only
//! where there was none.
//!
//! The runtime's own stream asks the kernel for both, and a peer makes room with every line that it reads: each message
//! would wake its sender too, for nothing, and take a processor from whoever works on the answer.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use octant_sys::packet;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::net::UnixStream;

/// The room that a read is given: little for the first of a line, since most lines are short, then as much as there is of
/// it.
const READ: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 10;

/// The socket.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<OwnedFd>);

/// That there is something to read, or the end of it.
pub(crate) type Readable<'a> = AsyncFdReadyGuard<'a, OwnedFd>;

impl Socket {
    /// Of a stream that is connected.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        // It stays non-blocking.
        watch(OwnedFd::from(stream.into_std()?), Interest::READABLE).map(Self)
    }

    /// Connects to what listens at `path`.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(UnixStream::connect(path).await?)
    }

    /// Waits until there is something to read, or the end of it.
    pub(crate) async fn readable(&self) -> io::Result<Readable<'_>> {
        self.0.readable().await
    }

    /// Reads whatever is there to the end of `buffer`; `Ok(0)` is the end of what the peer sends. Without `fds` the kernel
    /// closes descriptors that come along. That there is nothing is `WouldBlock`, and only that ends `ready`: what a peer
    /// sent under another user id, or with descriptors, comes in a read of its own, however much room there is.
    ///
    /// # Errors
    /// What recvmsg(2) reports, and `EMSGSIZE` for more descriptors than [`packet::MAX_FDS`] that nobody has taken yet.
    pub(crate) fn receive(
        ready: &mut Readable<'_>,
        buffer: &mut Vec<u8>,
        fds: Option<&mut Vec<OwnedFd>>,
    ) -> io::Result<usize> {
        let old = buffer.len();
        buffer.resize(old + old.clamp(*READ.start(), *READ.end()), 0);
        let room = &mut buffer[old..];
        let received = ready
            .try_io(|fd| match fds {
                None => Ok(recv(fd.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT)?),
                Some(fds) => {
                    let mut received = packet::receive(fd.as_fd(), room)?;
                    fds.append(&mut received.fds);
                    if fds.len() > packet::MAX_FDS {
                        return Err(Errno::EMSGSIZE.into());
                    }
                    Ok(received.len)
                }
            })
            .unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()));
        buffer.truncate(old + received.as_ref().map_or(0, |len| *len));
        received
    }

    /// Writes what there is room for, now; descriptors ride on the first byte.
    pub(crate) fn write(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        Ok(sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?)
    }

    /// Waits until there is room to write.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        // Under a number of its own, since what is asked for a number cannot be changed. It goes when this returns.
        let again = watch(self.0.get_ref().try_clone()?, Interest::WRITABLE)?;
        again.writable().await.map(drop)
    }
}

fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that change their descriptor; this one keeps it"
    )]
    AsyncFd::with_interest(fd, interest)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
