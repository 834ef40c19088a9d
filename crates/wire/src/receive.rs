//! One read from a peer, with the descriptors that come along where they are taken.

use nix::errno::Errno;
use octant_sys::packet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The room that a read is given.
const READ: usize = 16 << 10;

/// Reads whatever is there to the end of `buffer`; `Ok(0)` is the end of what the peer sends. Without `fds` the kernel
/// closes descriptors that come along.
///
/// # Errors
/// What recvmsg(2) reports, and `EMSGSIZE` for more descriptors than [`packet::MAX_FDS`] that nobody has taken yet.
pub(crate) fn receive(
    stream: &UnixStream,
    buffer: &mut Vec<u8>,
    fds: Option<&mut Vec<OwnedFd>>,
) -> io::Result<usize> {
    let Some(fds) = fds else {
        buffer.reserve(READ);
        return stream.try_read_buf(buffer);
    };
    let old = buffer.len();
    buffer.resize(old + READ, 0);
    let received = stream.try_io(Interest::READABLE, || packet::receive(stream.as_fd(), &mut buffer[old..]));
    buffer.truncate(old + received.as_ref().map_or(0, |packet| packet.len));
    let mut received = received?;
    fds.append(&mut received.fds);
    if fds.len() > packet::MAX_FDS {
        return Err(io::Error::from_raw_os_error(Errno::EMSGSIZE as i32));
    }
    Ok(received.len)
}
