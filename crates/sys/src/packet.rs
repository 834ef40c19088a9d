//! Packets over AF_UNIX SOCK_SEQPACKET with descriptors and the kernel's word on who sent them.

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, UnixCredentials, accept4, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors in one packet.
pub const MAX_FDS: usize = 8;
// The kernel's own limit (SCM_MAX_FD). The receive buffer holds that many, because descriptors that do not fit
// would be lost open in this process.
const KERNEL_MAX_FDS: usize = 253;

/// A packet as received.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes were received; 0 is the end of the connection.
    pub len: usize,
    /// Descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// The sender's process id in the receiver's PID namespace and its user id, where SO_PASSCRED is set.
    pub sender: Option<(i32, u32)>,
}

/// Sends one packet.
///
/// # Errors
/// What sendmsg(2) reports; `EINVAL` for more than [`MAX_FDS`] descriptors.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let iov = [IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet; descriptors beyond [`MAX_FDS`] and packets beyond `buffer` are an error, never cut.
///
/// # Errors
/// What recvmsg(2) reports; `EMSGSIZE` when the packet or its descriptors did not fit.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut space = nix::cmsg_space!([RawFd; KERNEL_MAX_FDS], UnixCredentials);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut packet = Packet { len: message.bytes, fds: Vec::new(), sender: None };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmRights(raw) => {
                // SAFETY: the kernel has just made these descriptors for this process; nothing else owns them.
                packet.fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            ControlMessageOwned::ScmCredentials(c) => packet.sender = Some((c.pid(), c.uid())),
            _ => {}
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || packet.fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(packet)
}

/// Accepts a connection, close-on-exec and non-blocking: a peer that does not read must not hold its server up.
///
/// # Errors
/// What accept4(2) reports.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: accept4 has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockType, setsockopt, socketpair, sockopt};
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_and_the_senders_process_id_arrive() {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        setsockopt(&b, sockopt::PassCred, &true).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(a.as_fd(), b"x", &[null.as_fd()]).unwrap();
        let packet = receive(b.as_fd(), &mut [0; 16]).unwrap();
        assert_eq!((packet.len, packet.fds.len()), (1, 1));
        assert_eq!(packet.sender.unwrap().0, i32::try_from(std::process::id()).unwrap());
        send(a.as_fd(), &[7; 32], &[]).unwrap();
        let error = receive(b.as_fd(), &mut [0; 16]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    }
}
