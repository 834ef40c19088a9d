//! Packets between the gate and an inspection worker: a message and its descriptors, whole or not at all.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use octant_sys::packet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The longest packet to a worker: the first bytes of a connection and an agent's secrets by name.
pub(crate) const TO_WORKER_MAX: usize = 160 << 10;
/// The longest one about one connection, either way.
pub(crate) const ABOUT_MAX: usize = 16 << 10;

/// Two ends that are connected to each other and to nothing else.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// One end.
#[derive(Debug)]
pub(crate) struct Packets {
    /// The runtime's kind of a socket of this family; no stream is read from it.
    socket: UnixStream,
    most: usize,
}

impl Packets {
    /// `most` is the longest packet that is received.
    pub(crate) fn new(socket: OwnedFd, most: usize) -> io::Result<Self> {
        Ok(Self { socket: UnixStream::from_std(StdStream::from(socket))?, most })
    }

    /// Sends a message, and waits while the other side has no room for it.
    pub(crate) async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let send = || packet::send(self.socket.as_fd(), &bytes, fds);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// The next message; none at the end.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = Vec::new();
        let most = self.most;
        let receive = || {
            // Only once there is something, so that who waits holds no memory.
            buffer.resize(most, 0);
            packet::receive(self.socket.as_fd(), &mut buffer)
        };
        let packet = self.socket.async_io(Interest::READABLE, receive).await?;
        if packet.len == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&buffer[..packet.len])?, packet.fds)))
    }
}
