//! Calling a service from async code.

use crate::error::WireError;
use crate::frame::{self, FromServer, REPLY_DEPTH_MAX, REPLY_MAX};
use crate::outbox::{Gone, Outbox};
use crate::scan::Scanner;
use octant_api::rpc::{Deadline, Method, Request, StreamRequest};
use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// How long this side gives the service's own deadline to be reported before it stops waiting by itself, so
/// that the better message of the two is the one that is seen.
pub(crate) const SLACK_MS: u64 = 500;
/// How long a service may take nothing of a request.
const STALL: Duration = Duration::from_secs(30);
/// A stream has its connection to itself, so its id is always the same.
const STREAM_ID: i64 = 1;
const READ: usize = 16 << 10;

/// A connection to one service, made when it is first needed and again after it broke. Any number of calls
/// can be under way at once.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    link: Mutex<Option<Arc<Link>>>,
    next: AtomicI64,
}

#[derive(Debug)]
struct Link {
    outbox: Arc<Outbox>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Set when the connection is gone: nothing will be answered any more.
    closed: bool,
    calls: HashMap<i64, oneshot::Sender<Vec<u8>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, so what a poisoned lock guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client of the service that listens at `path`. Nothing is connected yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), link: Mutex::new(None), next: AtomicI64::new(1) }
    }

    /// The socket that it connects to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls a method within the deadline of its table. Dropping the call takes it back.
    ///
    /// # Errors
    /// [`WireError::Api`] is the service's answer; everything else leaves open whether it was carried out.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Reply, WireError> {
        let within = match R::METHOD.deadline {
            Deadline::Ms(ms) => Some(ms),
            Deadline::Open => None,
        };
        self.call_for(request, None, within).await
    }

    /// Calls a method within `ms` milliseconds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within<R: Request>(&self, request: &R, ms: u64) -> Result<R::Reply, WireError> {
        self.call_for(request, Some(ms), Some(ms)).await
    }

    async fn call_for<R: Request>(
        &self,
        request: &R,
        said: Option<u64>,
        within: Option<u64>,
    ) -> Result<R::Reply, WireError> {
        let call = self.call_open(request, said);
        let line = match within {
            None => call.await?,
            Some(ms) => tokio::time::timeout(Duration::from_millis(ms.saturating_add(SLACK_MS)), call)
                .await
                .map_err(|_| WireError::Deadline { method: R::METHOD.name, ms })??,
        };
        read_answer::<R>(&line)
    }

    async fn call_open<R: Request>(&self, request: &R, said: Option<u64>) -> Result<Vec<u8>, WireError> {
        let method = R::METHOD;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = request_line(id, request, said)?;
        // A connection that turns out to be closed before anything was sent on it is made anew, once.
        for fresh in [false, true] {
            let link = self.link(fresh).await?;
            let Some(answer) = link.expect(id) else { continue };
            let withdraw = Withdraw { link: &link, id };
            if link.outbox.send(&line).await == Err(Gone) {
                continue;
            }
            let answer = answer.await;
            drop(withdraw);
            return answer.map_err(|_| WireError::Closed { method: method.name });
        }
        Err(WireError::Closed { method: method.name })
    }

    async fn link(&self, fresh: bool) -> Result<Arc<Link>, WireError> {
        if let Some(link) = locked(&self.link).as_ref().filter(|link| !fresh && !locked(&link.waiting).closed)
        {
            return Ok(Arc::clone(link));
        }
        let stream = Arc::new(connect(&self.path).await?);
        let link =
            Arc::new(Link { outbox: Outbox::new(Arc::clone(&stream), STALL), waiting: Mutex::default() });
        tokio::spawn(read_answers(stream, Arc::downgrade(&link)));
        *locked(&self.link) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Calls a method that sends items before its answer, over a connection of its own, so that a slow reader
    /// holds up nobody else. Dropping the stream takes the call back.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn stream<R: StreamRequest>(&self, request: &R) -> Result<Stream<R>, WireError> {
        let stream = Arc::new(connect(&self.path).await?);
        let outbox = Outbox::new(Arc::clone(&stream), STALL);
        let line = request_line(STREAM_ID, request, None)?;
        outbox.send(&line).await.map_err(|Gone| WireError::Closed { method: R::METHOD.name })?;
        Ok(Stream { lines: Lines::new(stream), end: None, request: PhantomData })
    }
}

/// Takes a call back when nobody waits for it any more.
struct Withdraw<'a> {
    link: &'a Arc<Link>,
    id: i64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if locked(&self.link.waiting).calls.remove(&self.id).is_none() {
            return;
        }
        let mut line = Vec::new();
        frame::write_cancel(&mut line, self.id);
        // A peer too far behind to take it finds out when it answers.
        let _ = self.link.outbox.try_send(&line);
    }
}

impl Link {
    /// A place for an answer; none when the connection is gone.
    fn expect(&self, id: i64) -> Option<oneshot::Receiver<Vec<u8>>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = locked(&self.waiting);
        if waiting.closed {
            return None;
        }
        waiting.calls.insert(id, sender);
        Some(receiver)
    }
}

async fn connect(path: &Path) -> Result<UnixStream, WireError> {
    UnixStream::connect(path).await.map_err(|source| WireError::Connect { path: path.to_owned(), source })
}

/// Hands each answer to its call until the connection or the client is gone.
async fn read_answers(stream: Arc<UnixStream>, link: std::sync::Weak<Link>) {
    let mut lines = Lines::new(stream);
    loop {
        let line = lines.next().await;
        let Some(link) = link.upgrade() else { return };
        let mut waiting = locked(&link.waiting);
        let Ok(Some(line)) = line else {
            waiting.closed = true;
            // Dropping the senders tells every call that the connection is gone.
            waiting.calls.clear();
            return;
        };
        match line_id(&line) {
            Some(id) => {
                if let Some(sender) = waiting.calls.remove(&id) {
                    // A call that was dropped meanwhile does not want it.
                    let _ = sender.send(line);
                }
            }
            // An answer to nobody in particular is about the connection: it was turned away or broke a limit.
            None => {
                waiting.closed = true;
                for (_, sender) in waiting.calls.drain() {
                    let _ = sender.send(line.clone());
                }
                return;
            }
        }
    }
}

fn line_id(line: &[u8]) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        id: Option<i64>,
    }
    serde_json::from_slice::<OnlyId>(line).ok()?.id
}

/// The lines that a service sends.
#[derive(Debug)]
struct Lines {
    stream: Arc<UnixStream>,
    buffer: Vec<u8>,
    scanner: Scanner,
    scanned: usize,
}

impl Lines {
    fn new(stream: Arc<UnixStream>) -> Self {
        Self { stream, buffer: Vec::new(), scanner: Scanner::default(), scanned: 0 }
    }

    /// The next line; none at the end. Can be dropped and called again without loss.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(offset) = self.scanner.feed(&self.buffer[self.scanned..]) {
                let deepest = std::mem::take(&mut self.scanner).deepest();
                let end = self.scanned + offset + 1;
                let after = self.buffer.split_off(end);
                let line = std::mem::replace(&mut self.buffer, after);
                self.scanned = 0;
                if deepest > REPLY_DEPTH_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer nests too deep"));
                }
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > REPLY_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is too long"));
            }
            self.stream.readable().await?;
            self.buffer.reserve(READ);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The items of a method that sends some before its answer.
#[derive(Debug)]
pub struct Stream<R: StreamRequest> {
    lines: Lines,
    end: Option<R::Reply>,
    request: PhantomData<fn(R)>,
}

impl<R: StreamRequest> Stream<R> {
    /// The next item; none when the answer has come. Can be dropped and called again without loss.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn next(&mut self) -> Result<Option<R::Item>, WireError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let method = R::METHOD.name;
        loop {
            let line = self.lines.next().await.map_err(|source| WireError::Io {
                step: "read the answer of",
                peer: method.to_owned(),
                source,
            })?;
            let line = line.ok_or(WireError::Closed { method })?;
            match read_item::<R>(&line, STREAM_ID)? {
                Received::Item(item) => return Ok(Some(item)),
                Received::Other => {}
                Received::End(end) => {
                    self.end = Some(end);
                    return Ok(None);
                }
            }
        }
    }

    /// The answer, once [`Stream::next`] has said that there are no more items.
    pub fn end(self) -> Option<R::Reply> {
        self.end
    }
}

pub(crate) enum Received<R: StreamRequest> {
    Item(R::Item),
    End(R::Reply),
    /// It belongs to another call.
    Other,
}

pub(crate) fn read_item<R: StreamRequest>(line: &[u8], id: i64) -> Result<Received<R>, WireError> {
    let got = parse::<R>(line)?;
    match got.params {
        Some(params) if params.id == id => serde_json::from_str(params.item.get())
            .map(Received::Item)
            .map_err(|error| protocol(R::METHOD, error)),
        Some(_) => Ok(Received::Other),
        // An answer without an id is about the line itself, which can only be the one just sent.
        None if got.id.is_none_or(|answered| answered == id) => read_answer::<R>(line).map(Received::End),
        None => Ok(Received::Other),
    }
}

pub(crate) fn read_answer<R: Request>(line: &[u8]) -> Result<R::Reply, WireError> {
    let got = parse::<R>(line)?;
    match (got.result, got.error) {
        (_, Some(error)) => Err(WireError::Api(error)),
        (Some(result), None) => {
            serde_json::from_str(result.get()).map_err(|error| protocol(R::METHOD, error))
        }
        (None, None) => Err(protocol(R::METHOD, "it has neither a result nor an error")),
    }
}

fn parse<R: Request>(line: &[u8]) -> Result<FromServer<'_>, WireError> {
    serde_json::from_slice(line).map_err(|error| protocol(R::METHOD, error))
}

fn protocol(method: &'static Method, why: impl ToString) -> WireError {
    WireError::Protocol { method: method.name, why: why.to_string() }
}

/// A request's line, refused here when the service would refuse it for its length.
pub(crate) fn request_line<R: Request>(
    id: i64,
    request: &R,
    deadline_ms: Option<u64>,
) -> Result<Vec<u8>, WireError> {
    let method = R::METHOD;
    let refused = |why: String| WireError::Request { method: method.name, why };
    let mut line = Vec::with_capacity(256);
    frame::write_request(&mut line, id, method.name, request, deadline_ms)
        .map_err(|error| refused(error.to_string()))?;
    if line.len() > method.line_max {
        return Err(refused(format!("it has {} bytes, more than {}", line.len(), method.line_max)));
    }
    Ok(line)
}
