//! Calling a service from code without a runtime: commands, tests, PID 1's children before their runtime.

use crate::client::{Received, SLACK_MS, read_answer, read_item, request_line};
use crate::error::WireError;
use crate::frame::{REPLY_DEPTH_MAX, REPLY_MAX};
use crate::scan::Scanner;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octant_api::rpc::{Deadline, Request, StreamRequest};
use octant_sys::{clock, packet};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

const READ: usize = 16 << 10;

/// A connection to one service, for one call at a time.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    next: i64,
    buffer: Vec<u8>,
    /// Descriptors that came with what is in `buffer`.
    fds: Vec<OwnedFd>,
}

impl Client {
    /// Connects to the service that listens at `path`.
    ///
    /// # Errors
    /// [`WireError::Connect`].
    pub fn connect(path: &Path) -> Result<Self, WireError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| WireError::Connect { path: path.to_owned(), source })?;
        Ok(Self { stream, next: 1, buffer: Vec::new(), fds: Vec::new() })
    }

    /// Calls a method within the deadline of its table.
    ///
    /// # Errors
    /// [`WireError::Api`] is the service's answer; everything else leaves open whether it was carried out.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply, WireError> {
        let within = match R::METHOD.deadline {
            Deadline::Ms(ms) => Some(ms),
            Deadline::Open => None,
        };
        self.call_for(request, None, within)
    }

    /// Calls a method within `ms` milliseconds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_within<R: Request>(&mut self, request: &R, ms: u64) -> Result<R::Reply, WireError> {
        self.call_for(request, Some(ms), Some(ms))
    }

    /// Calls a method with descriptors, and gives those that come with the answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_with<R: Request>(
        &mut self,
        request: &R,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(R::Reply, Vec<OwnedFd>), WireError> {
        let id = self.send(request, None, fds)?;
        let within = match R::METHOD.deadline {
            Deadline::Ms(ms) => Some(ms),
            Deadline::Open => None,
        };
        let reply = self.answer(request, id, within)?;
        let fds = std::mem::take(&mut self.fds);
        if fds.len() > R::METHOD.fds_out {
            let why = format!("{} descriptors came with it, {} are declared", fds.len(), R::METHOD.fds_out);
            return Err(WireError::Protocol { method: R::METHOD.name, why });
        }
        Ok((reply, fds))
    }

    fn call_for<R: Request>(
        &mut self,
        request: &R,
        said: Option<u64>,
        within: Option<u64>,
    ) -> Result<R::Reply, WireError> {
        let id = self.send(request, said, &[])?;
        self.answer(request, id, within)
    }

    fn answer<R: Request>(&mut self, _: &R, id: i64, within: Option<u64>) -> Result<R::Reply, WireError> {
        let ends = within.map(|ms| (ms, clock::monotonic_ns().saturating_add(1_000_000 * (ms + SLACK_MS))));
        loop {
            let line = self.line(R::METHOD.name, ends)?;
            // The answer of an earlier call whose deadline had passed may still come.
            if answers(&line, id) {
                return read_answer::<R>(&line);
            }
        }
    }

    /// Calls a method that sends items before its answer; the connection is used up by it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stream<R: StreamRequest>(mut self, request: &R) -> Result<Stream<R>, WireError> {
        let id = self.send(request, None, &[])?;
        Ok(Stream { client: self, id, end: None, request: PhantomData })
    }

    fn send<R: Request>(
        &mut self,
        request: &R,
        said: Option<u64>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<i64, WireError> {
        let id = self.next;
        self.next += 1;
        let line = request_line(id, request, said)?;
        let send = |stream: &mut UnixStream| {
            // Descriptors ride on the first byte.
            let (first, rest) = line.split_at(usize::from(!fds.is_empty()));
            if !fds.is_empty() {
                packet::send(stream.as_fd(), first, fds)?;
            }
            stream.write_all(rest)
        };
        send(&mut self.stream).map_err(|source| WireError::Io {
            step: "send",
            peer: R::METHOD.name.to_owned(),
            source,
        })?;
        Ok(id)
    }

    /// The next line. `ends`: the deadline for messages, and when it is over, on the monotonic clock.
    fn line(&mut self, method: &'static str, ends: Option<(u64, u64)>) -> Result<Vec<u8>, WireError> {
        let failed = |source| WireError::Io { step: "read the answer of", peer: method.to_owned(), source };
        let (mut scanner, mut scanned) = (Scanner::default(), 0);
        loop {
            if let Some(offset) = scanner.feed(&self.buffer[scanned..]) {
                let after = self.buffer.split_off(scanned + offset + 1);
                let line = std::mem::replace(&mut self.buffer, after);
                if scanner.deepest() > REPLY_DEPTH_MAX {
                    return Err(WireError::Protocol { method, why: "it nests too deep".to_owned() });
                }
                return Ok(line);
            }
            scanned = self.buffer.len();
            if scanned > REPLY_MAX {
                return Err(WireError::Protocol { method, why: "it is too long".to_owned() });
            }
            let left = match ends {
                None => PollTimeout::NONE,
                Some((ms, end)) => match end.saturating_sub(clock::monotonic_ns()) {
                    0 => return Err(WireError::Deadline { method, ms }),
                    left => PollTimeout::try_from(left.div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX),
                },
            };
            // Who sleeps in a read is woken when the peer has read, too; this waits for an answer alone.
            match poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)], left) {
                // The look at the clock above says whether that was all the time there was.
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            self.buffer.resize(scanned + READ, 0);
            let got = packet::receive(self.stream.as_fd(), &mut self.buffer[scanned..]);
            let got = got.map(|mut packet| {
                self.fds.append(&mut packet.fds);
                packet.len
            });
            self.buffer.truncate(scanned + got.as_ref().copied().unwrap_or(0));
            match got {
                Ok(0) => return Err(WireError::Closed { method }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn answers(line: &[u8], id: i64) -> bool {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        id: Option<i64>,
    }
    // An answer without an id is about the line itself, which can only be the one just sent.
    serde_json::from_slice::<OnlyId>(line).map_or(true, |got| got.id.is_none_or(|got| got == id))
}

/// The items of a method that sends some before its answer.
#[derive(Debug)]
pub struct Stream<R: StreamRequest> {
    client: Client,
    id: i64,
    end: Option<R::Reply>,
    request: PhantomData<fn(R)>,
}

impl<R: StreamRequest> Stream<R> {
    /// The answer, once there are no more items.
    pub fn end(self) -> Option<R::Reply> {
        self.end
    }
}

impl<R: StreamRequest> Iterator for Stream<R> {
    type Item = Result<R::Item, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        loop {
            let line = match self.client.line(R::METHOD.name, None) {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            match read_item::<R>(&line, self.id) {
                Ok(Received::Item(item)) => return Some(Ok(item)),
                Ok(Received::Other) => {}
                Ok(Received::End(end)) => {
                    self.end = Some(end);
                    return None;
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
