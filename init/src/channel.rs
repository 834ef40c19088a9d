//! A one-way channel of small datagrams to a service that may be away: bounded, and its losses are counted.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use octant_api::journal::{Kind, Record};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// How many datagrams wait in PID 1 beyond what the socket itself holds (some two hundred).
const WAITING_MAX: usize = 512;

/// The channel. PID 1 keeps both ends, so that what was sent survives a restart of the reader.
#[derive(Debug)]
pub(crate) struct Channel {
    near: OwnedFd,
    far: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    /// How many were lost and have not been told of yet.
    lost: u64,
    /// How many were lost since the boot.
    lost_ever: u64,
}

/// A channel as one PID 1 leaves it to the next: the descriptors, what waits, what was lost.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) near: RawFd,
    pub(crate) far: RawFd,
    waiting: VecDeque<Vec<u8>>,
    lost: u64,
    lost_ever: u64,
}

impl Channel {
    /// A new channel.
    ///
    /// # Errors
    /// What socketpair(2) reports.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(Self { near, far, waiting: VecDeque::new(), lost: 0, lost_ever: 0 })
    }

    /// The channel of a replaced PID 1, from what it left and the two ends. After a fault the last datagrams may be sent
    /// twice, since what waited was noted before they were sent; none is missing without a count.
    #[must_use]
    pub(crate) fn resume(saved: Saved, near: OwnedFd, far: OwnedFd) -> Self {
        let Saved { near: _, far: _, waiting, lost, lost_ever } = saved;
        Self { near, far, waiting, lost, lost_ever }
    }

    /// What the next PID 1 needs of it.
    #[must_use]
    pub(crate) fn saved(&self) -> Saved {
        Saved {
            near: self.near.as_raw_fd(),
            far: self.far.as_raw_fd(),
            waiting: self.waiting.clone(),
            lost: self.lost,
            lost_ever: self.lost_ever,
        }
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
            self.lose();
            return;
        }
        self.waiting.push_back(datagram);
        self.flush();
    }

    fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
        self.lost_ever = self.lost_ever.saturating_add(1);
    }

    /// How many datagrams wait in PID 1, and how many were lost since the boot.
    #[must_use]
    pub(crate) fn backlog(&self) -> (usize, u64) {
        (self.waiting.len(), self.lost_ever)
    }

    /// Whether two more datagrams would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() + 2 <= WAITING_MAX
    }

    /// Sends what waits, as far as the socket takes it. Returns whether anything was sent.
    pub(crate) fn flush(&mut self) -> bool {
        let before = self.waiting.len();
        while let Some(datagram) = self.waiting.front() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.near.as_raw_fd(), datagram, flags) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => break,
                // Both ends are ours, so the reader cannot have gone away; whatever else it is, this datagram is lost.
                Err(_) => self.lose(),
            }
            self.waiting.pop_front();
        }
        self.waiting.len() < before
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
        assert_eq!(journal.channel.backlog().1, lost + unreported, "and all of it is still counted");
    }

    #[test]
    fn what_waits_and_what_was_lost_goes_over_a_replacement() {
        let mut channel = Channel::new().unwrap();
        let sent: Vec<Vec<u8>> = (0..1000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        sent.iter().for_each(|datagram| channel.send(datagram.clone()));
        let json = serde_json::to_vec(&channel.saved()).unwrap();
        let (waiting, lost) = channel.backlog();
        assert!(waiting > 0 && lost > 0);
        let Channel { near, far, .. } = channel;
        let mut channel = Channel::resume(serde_json::from_slice(&json).unwrap(), near, far);
        assert_eq!(channel.backlog(), (waiting, lost));
        let (mut seen, mut buffer) = (Vec::new(), [0; 8]);
        loop {
            match recv(channel.ends().1.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => seen.push(buffer[..length].to_vec()),
                Err(_) if channel.waiting.is_empty() => break,
                Err(_) => drop(channel.flush()),
            }
        }
        assert_eq!(seen, sent[..sent.len() - usize::try_from(lost).unwrap()], "in order, none missing");
    }
}
