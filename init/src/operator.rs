//! The operator socket: fixed frames in, fixed frames out, authority from the kernel's word on who connected.

use nix::sys::socket::{MsgFlags, SockFlag, accept4, getsockopt, recv, send, sockopt};
use octant_api::operator::{Answer, Op, Request};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The most connections at once; the next one is closed at once.
const CONNECTIONS_MAX: usize = 64;
/// So many of them are only for those who may act: several others together cannot keep the operator out either.
const CONNECTIONS_RESERVED: usize = 16;
/// Refusals are said at most this often.
const SAID_EVERY_NS: u64 = 60_000_000_000;
/// The most of one user that is not root: nobody can keep the operator out by holding them all.
const CONNECTIONS_OF_ONE: usize = 8;

/// The socket and its connections.
#[derive(Debug)]
pub(crate) struct OperatorSocket {
    listener: OwnedFd,
    connections: BTreeMap<u32, (OwnedFd, u32)>,
    next: u32,
    quiet_until_ns: u64,
}

/// What reading a connection gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing yet.
    Nothing,
    /// The connection is over, or spoke nonsense; it has been dropped.
    Closed,
    /// A request and the user id of who made it.
    Request(Request, u32),
}

impl OperatorSocket {
    /// From a listening SOCK_SEQPACKET socket.
    #[must_use]
    pub(crate) fn new(listener: OwnedFd) -> Self {
        Self { listener, connections: BTreeMap::new(), next: 0, quiet_until_ns: 0 }
    }

    /// The listening socket.
    #[must_use]
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes one waiting connection: its key and descriptor, for epoll; none if its user has too many.
    ///
    /// # Errors
    /// What accept(2) reports; the connection is then gone.
    pub(crate) fn accept(&mut self, operators: &[u32]) -> io::Result<Option<(u32, BorrowedFd<'_>)>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = accept4(self.listener.as_raw_fd(), flags)?;
        let fd = octant_sys::inherit::take(raw)?;
        let uid = getsockopt(&fd, sockopt::PeerCredentials)?.uid();
        let of_one = self.connections.values().filter(|(_, other)| *other == uid).count();
        if !has_place(self.connections.len(), of_one, uid, operators) {
            return Ok(None);
        }
        self.next = self.next.wrapping_add(1);
        self.connections.insert(self.next, (fd, uid));
        Ok(self.connections.get(&self.next).map(|(fd, _)| (self.next, fd.as_fd())))
    }

    /// Whether a refusal is to be said: not each of a flood.
    pub(crate) fn says_refusal(&mut self, now_ns: u64) -> bool {
        let says = now_ns >= self.quiet_until_ns;
        if says {
            self.quiet_until_ns = now_ns.saturating_add(SAID_EVERY_NS);
        }
        says
    }

    /// Reads one request.
    pub(crate) fn read(&mut self, key: u32) -> Read {
        let Some((fd, uid)) = self.connections.get(&key) else { return Read::Closed };
        let mut frame = [0; Request::LEN + 1];
        let request = match recv(fd.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Read::Nothing,
            Ok(length) => Request::decode(&frame[..length]),
            Err(_) => None,
        };
        match request {
            Some(request) => Read::Request(request, *uid),
            None => {
                self.connections.remove(&key);
                Read::Closed
            }
        }
    }

    /// Sends an answer. A caller that does not read its answers is dropped: PID 1 waits for nobody.
    pub(crate) fn answer(&mut self, key: u32, answers: &[Answer]) {
        let Some((fd, _)) = self.connections.get(&key) else { return };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if answers.iter().any(|answer| send(fd.as_raw_fd(), &answer.encode(), flags).is_err()) {
            self.connections.remove(&key);
        }
    }
}

/// Whether one more connection of this user is taken where there are `all` and `of_one` of its own.
fn has_place(all: usize, of_one: usize, uid: u32, operators: &[u32]) -> bool {
    let reserved = if may_act(uid, operators) { 0 } else { CONNECTIONS_RESERVED };
    all < CONNECTIONS_MAX - reserved && (uid == 0 || of_one < CONNECTIONS_OF_ONE)
}

fn may_act(uid: u32, operators: &[u32]) -> bool {
    uid == 0 || operators.contains(&uid)
}

/// Who may ask for what.
#[must_use]
pub(crate) fn allowed(op: Op, uid: u32, operators: &[u32]) -> bool {
    if op.is_report() {
        // Who may start other users' shells is root anyway; nobody else's word on it counts.
        return uid == 0;
    }
    may_act(uid, operators) || (op == Op::Status && octant_ids::uid::service_of(uid).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_connects_there_is_a_place_for_operators() {
        let (mut all, mut taken) = (0, 0);
        for uid in 2000..2100 {
            for of_one in 0..100 {
                if has_place(all, of_one, uid, &[1000]) {
                    (all, taken) = (all + 1, taken + 1);
                }
            }
        }
        assert_eq!(taken, CONNECTIONS_MAX - CONNECTIONS_RESERVED);
        assert!(has_place(all, 0, 0, &[1000]) && has_place(all, 0, 1000, &[1000]));
        assert!(!has_place(CONNECTIONS_MAX, 0, 0, &[]), "root's are bounded too");
        assert!(!has_place(8, 8, 1000, &[1000]));
    }

    #[test]
    fn services_may_look_and_only_operators_may_act() {
        for op in Op::ALL {
            assert!(allowed(op, 0, &[]), "{op:?}");
            assert_eq!(allowed(op, 1000, &[1000]), !op.is_report(), "{op:?}");
            assert!(!allowed(op, 1000, &[]), "{op:?}");
            assert_eq!(allowed(op, 960, &[1000]), op == Op::Status);
            assert!(!allowed(op, octant_ids::uid::AGENT_BASE, &[1000]), "{op:?}");
        }
    }
}
