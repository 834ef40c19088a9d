//! How agents' processes ended, as PID 1 reaped them.

use crate::drain;
use octant_api::exits::Exit;
use octant_sys::packet;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::sync::oneshot;

/// How many exits are kept that nobody asked for yet: a program can end before the spawner's answer is read.
const EARLY_MAX: usize = 256;

/// The exits of processes, for those who wait for one.
#[derive(Debug, Default)]
pub(crate) struct Exits(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    early: VecDeque<Exit>,
    waiting: HashMap<u32, oneshot::Sender<Exit>>,
}

impl Exits {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exit of a process that was started after `since_ns` (CLOCK_MONOTONIC): process ids come again, so an
    /// older exit of the same id is another's.
    pub(crate) fn of(&self, pid: u32, since_ns: u64) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner();
        let place = inner.early.iter().position(|e| e.pid == pid && e.mono_ns >= since_ns);
        match place.and_then(|place| inner.early.remove(place)) {
            // Who asks holds the receiver.
            Some(exit) => drop(sender.send(exit)),
            None => drop(inner.waiting.insert(pid, sender)),
        }
        receiver
    }

    /// Takes note of an exit.
    pub(crate) fn seen(&self, exit: Exit) {
        let mut inner = self.inner();
        if let Some(sender) = inner.waiting.remove(&exit.pid) {
            // Who does not wait any more has seen the end otherwise.
            let _ = sender.send(exit);
            return;
        }
        if inner.early.len() == EARLY_MAX {
            inner.early.pop_front();
        }
        inner.early.push_back(exit);
    }

    /// Reads PID 1's channel until it ends.
    pub(crate) async fn read(self: Arc<Self>, channel: OwnedFd) -> io::Result<()> {
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&channel, flags)?;
        let channel = drain::watch(Arc::new(channel))?;
        let mut frame = [0; Exit::LEN];
        loop {
            let received =
                channel.async_io(Interest::READABLE, |fd| packet::receive(fd.as_fd(), &mut frame)).await?;
            if received.len == 0 {
                return Ok(());
            }
            match Exit::decode(&frame[..received.len]) {
                Some(exit) => self.seen(exit),
                None => tracing::warn!(
                    "PID 1 sent an exit of {} bytes, which this build cannot read",
                    received.len
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: u32, mono_ns: u64) -> Exit {
        Exit { pid, status: 0, mono_ns }
    }

    #[test]
    fn an_exit_finds_who_waits_before_and_after() {
        let exits = Exits::default();
        let mut waiting = exits.of(7, 100);
        exits.seen(exit(7, 200));
        assert_eq!(waiting.try_recv().unwrap().mono_ns, 200);
        exits.seen(exit(8, 50));
        exits.seen(exit(8, 300));
        assert_eq!(exits.of(8, 100).try_recv().unwrap().mono_ns, 300, "the older one is another's");
        assert!(exits.of(8, 100).try_recv().is_err());
    }

    #[test]
    fn what_nobody_asks_for_is_bounded() {
        let exits = Exits::default();
        for pid in 0..1000 {
            exits.seen(exit(pid, 1));
        }
        assert!(exits.of(0, 0).try_recv().is_err());
        assert!(exits.of(999, 0).try_recv().is_ok());
        assert!(exits.inner().early.len() < EARLY_MAX + 1);
    }
}
