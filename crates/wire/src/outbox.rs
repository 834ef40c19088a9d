//! What is on its way to a peer: written at once where the socket takes it, kept in bounds where not.

use crate::socket::Socket;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A sender waits while more than this many bytes are kept for a peer that reads slowly.
const HIGH_WATER: usize = 256 << 10;
/// A buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 64 << 10;

/// The peer is gone, or took nothing for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer is gone")]
pub(crate) struct Gone;

#[derive(Debug)]
pub(crate) struct Outbox {
    socket: Arc<Socket>,
    state: Mutex<State>,
    room: Notify,
    stall: Duration,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<u8>,
    /// How much of `kept` is already written.
    written: usize,
    draining: bool,
    closed: bool,
}

impl State {
    fn left(&self) -> usize {
        self.kept.len() - self.written
    }
}

impl Outbox {
    /// `stall`: how long a peer may take nothing while something is kept for it.
    pub(crate) fn new(socket: Arc<Socket>, stall: Duration) -> Arc<Self> {
        Arc::new(Self { socket, state: Mutex::default(), room: Notify::new(), stall })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one line; waits while the peer is too far behind.
    pub(crate) async fn send(self: &Arc<Self>, line: &[u8]) -> Result<(), Gone> {
        loop {
            let room = self.room.notified();
            if let Some(done) = self.try_send(line) {
                return done;
            }
            room.await;
        }
    }

    /// Sends one line if the peer is not too far behind.
    pub(crate) fn try_send(self: &Arc<Self>, line: &[u8]) -> Option<Result<(), Gone>> {
        let mut state = self.state();
        if state.closed {
            return Some(Err(Gone));
        }
        if state.left() > HIGH_WATER {
            return None;
        }
        let mut line = line;
        if state.left() == 0 {
            match self.socket.write(line, &[]) {
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.close(&mut state);
                    return Some(Err(Gone));
                }
            }
        }
        self.keep(&mut state, line);
        Some(Ok(()))
    }

    /// Sends one line with descriptors, which ride on its first byte.
    pub(crate) async fn send_with(self: &Arc<Self>, line: &[u8], fds: &[OwnedFd]) -> Result<(), Gone> {
        loop {
            let room = self.room.notified();
            let empty = {
                let mut state = self.state();
                if state.closed {
                    return Err(Gone);
                }
                if state.left() == 0 {
                    match self.socket.write(line, fds) {
                        Ok(written) => {
                            self.keep(&mut state, &line[written..]);
                            return Ok(());
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => {
                            self.close(&mut state);
                            return Err(Gone);
                        }
                    }
                }
                state.left() == 0
            };
            if empty {
                let writable = tokio::time::timeout(self.stall, self.socket.writable()).await;
                if !matches!(writable, Ok(Ok(()))) {
                    self.close(&mut self.state());
                    return Err(Gone);
                }
            } else {
                room.await;
            }
        }
    }

    fn keep(self: &Arc<Self>, state: &mut State, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        state.kept.extend_from_slice(rest);
        if !state.draining {
            state.draining = true;
            tokio::spawn(Arc::clone(self).drain());
        }
    }

    async fn drain(self: Arc<Self>) {
        loop {
            let writable = tokio::time::timeout(self.stall, self.socket.writable()).await;
            let mut state = self.state();
            if !matches!(writable, Ok(Ok(()))) {
                self.close(&mut state);
                return;
            }
            match self.socket.write(&state.kept[state.written..], &[]) {
                Ok(written) => state.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.close(&mut state);
                    return;
                }
            }
            if state.left() == 0 {
                state.written = 0;
                state.draining = false;
                if state.kept.capacity() > KEEP {
                    state.kept = Vec::new()
                } else {
                    state.kept.clear()
                }
                self.room.notify_waiters();
                return;
            }
            // Moves what is left to the front now and then, so that the buffer does not grow with its past.
            if state.written > HIGH_WATER {
                let written = std::mem::take(&mut state.written);
                state.kept.drain(..written);
            }
            if state.left() <= HIGH_WATER {
                self.room.notify_waiters();
            }
        }
    }

    fn close(&self, state: &mut State) {
        state.closed = true;
        state.draining = false;
        state.kept = Vec::new();
        state.written = 0;
        // Wakes the reader of this connection, which ends it. It fails only when the peer is gone already.
        let _ = nix::sys::socket::shutdown(self.socket.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both);
        self.room.notify_waiters();
    }

    /// Waits until everything is written or given up.
    pub(crate) async fn flushed(&self) {
        loop {
            let room = self.room.notified();
            {
                let state = self.state();
                if state.closed || state.left() == 0 {
                    return;
                }
            }
            room.await;
        }
    }
}
