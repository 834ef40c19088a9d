//! The process that inspection workers are made from: a copy of the gate from before it knew anything, with one thread. It
//! makes workers and ends them, at the gate's word alone; so the gate itself never makes a process.
//!
//! ```text
//! PID 1 ── gate ── starter ── worker of one agent, worker of another, ...
//! ```
//! Each ends with the one before it: the kernel kills it (PR_SET_PDEATHSIG).

use crate::packets;
use crate::worker;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::Signal;
use octant_ids::Exit;
use octant_service::confine_helper;
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{exit_now, signal_pidfd};
use octant_sys::descriptor::close_all_but;
use octant_sys::process::{end_with_parent, reap};
use octant_sys::{confine, packet};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// What the starter may ask of the kernel beyond what its workers may.
pub(crate) const PROFILE: &str = include_str!("../starter.json");
/// How often it looks for workers that have ended, in milliseconds.
const LOOK_MS: u16 = 5_000;
/// A word to it: a letter and a worker's number.
const WORD: usize = 9;
const START: u8 = b'S';
const END: u8 = b'E';

/// Makes workers, and ends them. A seam: tests put another one in its place.
pub(crate) trait Start: Send + Sync {
    /// Makes a worker that is told everything by this socket, and gives its number. Where that comes to nothing the
    /// socket is closed.
    fn start(&self, socket: OwnedFd) -> io::Result<u64>;
    /// Ends it, whatever it is at.
    fn end(&self, number: u64);
}

/// The gate's way to the starter.
#[derive(Debug)]
pub(crate) struct Starter {
    socket: UnixStream,
    next: AtomicU64,
}

impl Starter {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from_std(StdStream::from(socket))?;
        Ok(Self { socket, next: AtomicU64::new(1) })
    }

    fn say(&self, letter: u8, number: u64, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.socket.as_fd(), &word(letter, number), fds)
    }

    /// Waits until there is no starter any more.
    pub(crate) async fn gone(&self) {
        let receive = || packet::receive(self.socket.as_fd(), &mut [0; WORD]);
        // It never says anything, so whatever comes is its end.
        let _ = self.socket.async_io(Interest::READABLE, receive).await;
    }
}

impl Start for Arc<Starter> {
    fn start(&self, socket: OwnedFd) -> io::Result<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.say(START, number, &[socket.as_fd()])?;
        Ok(number)
    }

    fn end(&self, number: u64) {
        if let Err(error) = self.say(END, number, &[]) {
            tracing::warn!("worker {number} cannot be ended, and ends when its socket closes: {error}");
        }
    }
}

fn word(letter: u8, number: u64) -> [u8; WORD] {
    let mut word = [letter; WORD];
    word[1..].copy_from_slice(&number.to_be_bytes());
    word
}

fn read(word: &[u8]) -> Option<(u8, u64)> {
    let (letter, number) = word.split_first()?;
    Some((*letter, u64::from_be_bytes(number.try_into().ok()?)))
}

/// Makes the starter, and gives the way to it. Call it in a process that has one thread and is not confined.
pub(crate) fn make() -> io::Result<OwnedFd> {
    let (ours, theirs) = packets::pair()?;
    let parent = std::process::id();
    match clone3(&CloneArgs::new())? {
        Cloned::Parent { .. } => Ok(ours),
        Cloned::Child => {
            let code = match starter(parent, &theirs) {
                Ok(()) => Exit::Ok,
                Err(why) => {
                    tracing::error!("the starter of inspection workers ends: {why}");
                    Exit::Failed
                }
            };
            exit_now(code.code().into())
        }
    }
}

/// What the starter does until the gate is gone.
fn starter(parent: u32, socket: &OwnedFd) -> Result<(), String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    alone(parent, socket).map_err(step("leave everything behind"))?;
    confine_helper("egress-starter", &[worker::PROFILE, PROFILE]).map_err(|error| error.to_string())?;
    let mut workers: BTreeMap<u64, OwnedFd> = BTreeMap::new();
    loop {
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(LOOK_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(format!("wait for the gate: {error}")),
        }
        while reap().map_err(step("wait for workers"))?.is_some() {}
        let mut bytes = [0; WORD];
        let packet = match packet::receive(socket.as_fd(), &mut bytes) {
            Ok(packet) if packet.len == 0 => return Ok(()),
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(format!("listen to the gate: {error}")),
        };
        match (read(&bytes[..packet.len]), packet.fds.into_iter().next()) {
            (Some((START, number)), Some(channel)) => match worker_of(channel) {
                Ok(pidfd) => drop(workers.insert(number, pidfd)),
                Err(error) => tracing::error!("no worker can be made: {error}"),
            },
            (Some((END, number)), _) => {
                if let Some(pidfd) = workers.remove(&number) {
                    // One that has ended by itself is not there to be ended.
                    let _ = signal_pidfd(pidfd.as_fd(), Signal::SIGKILL as i32);
                }
            }
            _ => return Err("the gate says what is no word".to_owned()),
        }
    }
}

fn worker_of(channel: OwnedFd) -> io::Result<OwnedFd> {
    let parent = std::process::id();
    match clone3(&CloneArgs::new())? {
        Cloned::Parent { pidfd, .. } => Ok(pidfd),
        Cloned::Child => {
            let ended = alone(parent, &channel)
                .map_err(|error| format!("leave everything behind: {error}"))
                .and_then(|()| worker::run(channel));
            if let Err(why) = &ended {
                tracing::error!("an inspection worker ends: {why}");
            }
            exit_now(if ended.is_ok() { Exit::Ok } else { Exit::Failed }.code().into())
        }
    }
}

/// Leaves behind what the process before this one had, but for one socket and standard error.
fn alone(parent: u32, socket: &OwnedFd) -> io::Result<()> {
    end_with_parent(parent)?;
    confine::default_signals()?;
    close_all_but(&[socket.as_fd(), io::stderr().as_fd()])?;
    // Others of the same user neither read its memory nor its descriptors.
    Ok(set_dumpable(false)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_said() {
        assert_eq!(read(&word(START, 7)), Some((START, 7)));
        assert_eq!(read(&word(END, u64::MAX)), Some((END, u64::MAX)));
        assert_eq!(read(b""), None);
        assert_eq!(read(b"S1234567"), None);
    }
}
