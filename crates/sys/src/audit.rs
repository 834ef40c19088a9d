//! The kernel's audit records, beside an audit daemon or without one.

use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The record of a system call that a seccomp filter denied (linux/audit.h).
pub const SECCOMP: u16 = 1326;
/// Longer than any record (MAX_AUDIT_MESSAGE_LENGTH) with its head.
pub const RECORD_MAX: usize = 9 << 10;
/// The group of those who read records (AUDIT_NLGRP_READLOG).
const READERS: u32 = 1;
/// struct nlmsghdr: length, type, flags, sequence, port.
const HEAD: usize = 16;
/// How many bytes of records may wait to be read; the kernel counts about a kilobyte for each.
const WAITING_BYTES: usize = 1 << 20;

/// A socket, without blocking, to which the kernel sends every audit record from now on. It sends them within the
/// machine's first network namespace only: elsewhere nothing ever comes.
///
/// # Errors
/// `EPERM` without CAP_AUDIT_READ over the machine, `EPROTONOSUPPORT` on a kernel without audit.
pub fn listen() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkAudit))?;
    // Where it is not granted (a container), some hundred records can wait.
    let _as_it_is = setsockopt(&fd, sockopt::RcvBufForce, &WAITING_BYTES);
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, READERS))?;
    Ok(fd)
}

/// Receives one record: its type and its text. `None` for what did not come from the kernel.
///
/// # Errors
/// `EWOULDBLOCK` when there is none, `ENOBUFS` when some were lost since the last call.
pub fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> io::Result<Option<(u16, &'a [u8])>> {
    let (length, from) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer)?;
    let record = buffer.get(..length).and_then(|bytes| bytes.split_at_checked(HEAD));
    let kind =
        record.and_then(|(head, text)| Some((u16::from_ne_bytes(*head.get(4..)?.first_chunk()?), text)));
    Ok(kind.filter(|_| from.is_some_and(|from| from.pid() == 0)))
}
