//! The kernel's audit records, beside an audit daemon or without one.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The record of a system call that a seccomp filter denied (linux/audit.h).
pub const SECCOMP: u16 = 1326;
/// The record of an access that Landlock denied.
pub const LANDLOCK_ACCESS: u16 = 1423;
/// The record of a Landlock domain, at its first denial and at its end.
pub const LANDLOCK_DOMAIN: u16 = 1424;
/// The first ABI version of Landlock that makes records.
pub const LANDLOCK_ABI: u32 = 7;
/// Longer than any record (MAX_AUDIT_MESSAGE_LENGTH) with its head.
pub const RECORD_MAX: usize = 9 << 10;
/// The group of those who read records (AUDIT_NLGRP_READLOG).
const READERS: u32 = 1;
/// struct nlmsghdr: length, type, flags, sequence, port.
const HEAD: usize = 16;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST: u16 = 5;
/// NLMSG_ERROR: how a request ended.
const ERROR: u16 = 2;
/// How many seconds an answer may take.
const ANSWER_S: i64 = 5;
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

/// AUDIT_GET, AUDIT_SET and AUDIT_ADD_RULE.
const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
/// AUDIT_STATUS_ENABLED in the mask of struct audit_status; the field follows it.
const ENABLED: u32 = 1;
/// AUDIT_FILTER_TASK, and AUDIT_NEVER: what a rule is asked at, and what it says.
const AT_NEW_TASKS: u32 = 1;
const NEVER: u32 = 0;
/// AUDIT_BITMASK_SIZE and AUDIT_MAX_FIELDS.
const MASK_WORDS: usize = 64;
const FIELDS: usize = 64;

/// Whether audit is on, which is for the whole machine. Records of seccomp are made all the same, those of Landlock only then.
///
/// # Errors
/// `EPERM` without CAP_AUDIT_CONTROL over the machine or outside of its first PID namespace, `ECONNREFUSED` outside of its
/// first user namespace,
/// `EPROTONOSUPPORT` on a kernel without audit.
pub fn is_on() -> io::Result<bool> {
    let status = ask(GET, &[])?;
    let enabled = status.get(4..8).and_then(|bytes| bytes.first_chunk());
    enabled
        .map(|bytes| u32::from_ne_bytes(*bytes) != 0)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
}

/// Switches audit on, for the whole machine, without what it costs otherwise: a rule says first that no process that is made
/// from now on has its system calls audited.
///
/// # Errors
/// As [`is_on`].
pub fn switch_on() -> io::Result<()> {
    match ask(ADD_RULE, &never()) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => drop(other?),
    }
    // struct audit_status, as far as the mask names it; the kernel takes the rest as zeros.
    let status: Vec<u8> = [ENABLED, 1].into_iter().chain([0; 9]).flat_map(u32::to_ne_bytes).collect();
    ask(SET, &status).map(drop)
}

/// A struct audit_rule_data: flags, action, how many fields, the mask of calls; fields, values, their flags, length of text.
fn never() -> Vec<u8> {
    let words = [AT_NEW_TASKS, NEVER, 0].into_iter().chain([u32::MAX; MASK_WORDS]).chain([0; 3 * FIELDS + 1]);
    words.flat_map(u32::to_ne_bytes).collect()
}

/// Sends one request and gives what the kernel answers it with, nothing where it only says that it is done.
fn ask(kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkAudit))?;
    // The kernel's audit thread answers, which is not the one that asks.
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_S))?;
    let length =
        u32::try_from(HEAD + body.len()).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    send(fd.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut buffer = [0; RECORD_MAX];
    loop {
        match receive(fd.as_fd(), &mut buffer)? {
            // struct nlmsgerr: 0, or a negative errno.
            Some((ERROR, text)) => match text.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                Some(0) if kind != GET => return Ok(Vec::new()),
                // The answer itself comes after it.
                Some(0) => {}
                Some(negative) => return Err(io::Error::from_raw_os_error(negative.saturating_neg())),
                None => return Err(io::Error::from_raw_os_error(libc::EPROTO)),
            },
            Some((GET, status)) if kind == GET => return Ok(status.to_vec()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_has_the_size_that_the_kernel_asks_for() {
        assert_eq!(never().len(), 1040);
        assert_eq!(never()[..12], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn whether_it_is_on_is_answered_or_refused() {
        // Which of the two depends on who runs the test, and where; that it is one of them within the time does not.
        let refusals = [libc::EPERM, libc::ECONNREFUSED, libc::EPROTONOSUPPORT];
        if let Err(error) = is_on() {
            assert!(error.raw_os_error().is_some_and(|code| refusals.contains(&code)), "{error}");
        }
    }
}
