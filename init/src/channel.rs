//! A one-way channel of small datagrams to a service that may be away: bounded, and its losses are counted.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use octant_api::journal::{Kind, Record};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// How many datagrams wait in PID 1 beyond what the socket itself holds (some two hundred).
const WAITING_MAX: usize = 512;

/// The channel. PID 1 keeps both ends, so that what was sent survives a restart of the reader.
#[derive(Debug)]
pub(crate) struct Channel {
    near: OwnedFd,
    far: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    lost: u64,
}

impl Channel {
    /// A new channel.
    ///
    /// # Errors
    /// What socketpair(2) reports.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(Self::resume(near, far))
    }

    /// The channel of a replaced PID 1, from its two ends.
    #[must_use]
    pub(crate) fn resume(near: OwnedFd, far: OwnedFd) -> Self {
        Self { near, far, waiting: VecDeque::new(), lost: 0 }
    }

    /// Both ends.
    #[must_use]
    pub(crate) fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.near.as_fd(), self.far.as_fd())
    }

    /// Sends a datagram, or keeps it until [`Channel::flush`]. When too many wait it is dropped and counted: the oldest
    /// are kept, because the first thing that went wrong explains the others.
    pub(crate) fn send(&mut self, datagram: Vec<u8>) {
        if self.waiting.len() >= WAITING_MAX {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.waiting.push_back(datagram);
        self.flush();
    }

    /// Whether two more datagrams would be taken.
    fn has_room(&self) -> bool {
        self.waiting.len() + 2 <= WAITING_MAX
    }

    /// Sends what waits, as far as the socket takes it. Returns whether nothing waits any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(datagram) = self.waiting.front() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.near.as_raw_fd(), datagram, flags) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => return false,
                // Both ends are ours, so the reader cannot have gone away; whatever else it is, this datagram is lost.
                Err(_) => self.lost = self.lost.saturating_add(1),
            }
            self.waiting.pop_front();
        }
        true
    }

    /// How many datagrams were lost since this was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// The journal: records to the ledger.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The channel under it.
    pub(crate) channel: Channel,
    /// Whether the ledger has been ready once: what comes before is marked as filled in later.
    pub(crate) ledger_was_ready: bool,
}

impl Journal {
    /// Records something; `unit` is empty for PID 1 itself.
    pub(crate) fn record(&mut self, kind: Kind, unit: &str, text: &str, mono_ns: u64) {
        let backfilled = !self.ledger_was_ready;
        if self.channel.lost > 0 && self.channel.has_room() {
            let lost = self.channel.take_lost();
            let text = lost.to_string();
            let record = Record { kind: Kind::Lost, backfilled, mono_ns, unit: String::new(), text };
            self.channel.send(record.encode());
        }
        let record = Record { kind, backfilled, mono_ns, unit: unit.into(), text: text.into() };
        self.channel.send(record.encode());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::recv;

    #[test]
    fn what_the_reader_does_not_take_is_bounded_and_counted() {
        let mut journal = Journal { channel: Channel::new().unwrap(), ledger_was_ready: false };
        for n in 0..2000 {
            journal.record(Kind::Unit, "a", &format!("record {n}"), n);
        }
        let mut seen = Vec::new();
        let mut buffer = [0; Record::MAX];
        loop {
            let far = journal.channel.ends().1.as_raw_fd();
            match recv(far, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => seen.push(Record::decode(&buffer[..length]).unwrap()),
                Err(_) if journal.channel.waiting.is_empty() => break,
                Err(_) => drop(journal.channel.flush()),
            }
        }
        assert!(seen.iter().all(|record| record.backfilled));
        let lost: u64 =
            seen.iter().filter(|r| r.kind == Kind::Lost).map(|r| r.text.parse::<u64>().unwrap()).sum();
        let unreported = journal.channel.lost;
        let records = seen.iter().filter(|r| r.kind == Kind::Unit).count() as u64;
        assert!(unreported + lost > 0, "two thousand did not fit");
        assert_eq!(records + lost + unreported, 2000, "none is missing without a count");
        assert!(seen.len() < 1500, "what waits is bounded");
        journal.record(Kind::Unit, "a", "after", 2000);
        let far = journal.channel.ends().1.as_raw_fd();
        let length = recv(far, &mut buffer, MsgFlags::MSG_DONTWAIT).unwrap();
        let notice = Record::decode(&buffer[..length]).unwrap();
        assert_eq!((notice.kind, notice.text), (Kind::Lost, unreported.to_string()));
    }
}
