//! Calling a service from async code.

use crate::error::WireError;
use crate::frame::{self, FromServer, REPLY_DEPTH_MAX, REPLY_MAX};
use crate::outbox::{Gone, Outbox};
use crate::scan::Scanner;
use crate::socket::{Readable, Socket};
use octant_api::rpc::{Deadline, Method, Request, StreamRequest};
use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// How long this side gives the service's own deadline to be reported before it stops waiting by itself, so
/// that the better message of the two is the one that is seen.
pub(crate) const SLACK_MS: u64 = 500;
/// How long a service may take nothing of a request.
const STALL: Duration = Duration::from_secs(30);
/// A stream has its connection to itself, so its id is always the same.
const STREAM_ID: i64 = 1;
/// How many calls with descriptors can be under way to one service, each on a connection of its own: far fewer than the
/// share of its connections that a server gives to one service.
const CARRIERS: usize = 8;

/// A connection to one service, made when it is first needed and again after it broke. Any number of calls
/// can be under way at once.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    link: Mutex<Option<Arc<Link>>>,
    carriers: Carriers,
    next: AtomicI64,
}

/// For calls with descriptors, one at a time on each: which line a descriptor came with is certain only where no other
/// line is under way.
#[derive(Debug)]
struct Carriers {
    /// One for each call that can be under way; who comes first gets one first.
    places: Semaphore,
    /// Those with nothing under way.
    free: Mutex<Vec<Carrier>>,
}

/// A connection of calls with descriptors.
#[derive(Debug)]
struct Carrier {
    outbox: Arc<Outbox>,
    lines: Lines,
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
        Self {
            path: path.into(),
            link: Mutex::default(),
            carriers: Carriers { places: Semaphore::new(CARRIERS), free: Mutex::default() },
            next: AtomicI64::new(1),
        }
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

    /// Calls a method with descriptors, and gives those that come with the answer. Eight such calls to one service can be
    /// under way at once; further ones wait, within their deadline. Dropping the call takes it back.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_with<R: Request>(
        &self,
        request: &R,
        fds: &[OwnedFd],
    ) -> Result<(R::Reply, Vec<OwnedFd>), WireError> {
        let method = R::METHOD;
        let call = self.carry(request, fds);
        let (line, fds) = match method.deadline {
            Deadline::Open => call.await?,
            Deadline::Ms(ms) => {
                tokio::time::timeout(Duration::from_millis(ms.saturating_add(SLACK_MS)), call)
                    .await
                    .map_err(|_| WireError::Deadline { method: method.name, ms })??
            }
        };
        if fds.len() > method.fds_out {
            let why = format!("{} descriptors came with it, {} are declared", fds.len(), method.fds_out);
            return Err(protocol(method, why));
        }
        Ok((read_answer::<R>(&line)?, fds))
    }

    async fn carry<R: Request>(
        &self,
        request: &R,
        fds: &[OwnedFd],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), WireError> {
        let method = R::METHOD.name;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let line = request_line(id, request, None)?;
        // Given back when this returns or is dropped.
        let _place = self.carriers.places.acquire().await.map_err(|_| WireError::Closed { method })?;
        for fresh in [false, true] {
            // Taken out: what is dropped or fails on the way leaves no connection behind on which an answer still comes.
            let mut carrier = match self.carriers.take(fresh) {
                Some(carrier) => carrier,
                None => Carrier::connect(&self.path).await?,
            };
            let sent = match fds {
                [] => carrier.outbox.send(&line).await,
                fds => carrier.outbox.send_with(&line, fds).await,
            };
            match (sent, fresh) {
                (Ok(()), _) => {}
                (Err(Gone), false) => continue,
                (Err(Gone), true) => return Err(WireError::Closed { method }),
            }
            let answer = carrier.lines.next().await.map_err(|source| WireError::Io {
                step: "read the answer of",
                peer: method.to_owned(),
                source,
            })?;
            return match answer {
                Some(answer) => {
                    let fds = std::mem::take(&mut carrier.lines.fds);
                    match line_id(&answer) {
                        Some(other) if other != id => {
                            return Err(protocol(R::METHOD, "it answers another request"));
                        }
                        // After more than an answer nothing on this connection is certain.
                        Some(_) if carrier.lines.buffer.is_empty() => {
                            locked(&self.carriers.free).push(carrier);
                        }
                        // Without an id it is about the connection, which ends.
                        Some(_) | None => {}
                    }
                    Ok((answer, fds))
                }
                // A connection that was closed meanwhile, as by a restart, took the request without reading it.
                None if !fresh && R::METHOD.idempotent => continue,
                None => Err(WireError::Closed { method }),
            };
        }
        Err(WireError::Closed { method })
    }

    async fn link(&self, fresh: bool) -> Result<Arc<Link>, WireError> {
        if let Some(link) = locked(&self.link).as_ref().filter(|link| !fresh && !locked(&link.waiting).closed)
        {
            return Ok(Arc::clone(link));
        }
        let socket = Arc::new(connect(&self.path).await?);
        let link =
            Arc::new(Link { outbox: Outbox::new(Arc::clone(&socket), STALL), waiting: Mutex::default() });
        tokio::spawn(read_answers(socket, Arc::downgrade(&link)));
        *locked(&self.link) = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Calls a method that sends items before its answer, over a connection of its own, so that a slow reader
    /// holds up nobody else. Dropping the stream takes the call back.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn stream<R: StreamRequest>(&self, request: &R) -> Result<Stream<R>, WireError> {
        let socket = Arc::new(connect(&self.path).await?);
        let outbox = Outbox::new(Arc::clone(&socket), STALL);
        let line = request_line(STREAM_ID, request, None)?;
        outbox.send(&line).await.map_err(|Gone| WireError::Closed { method: R::METHOD.name })?;
        Ok(Stream { lines: Lines::new(socket), end: None, request: PhantomData })
    }
}

impl Carriers {
    /// One with nothing under way. After one that turned out to be closed, `fresh`, there is none: the service was started
    /// again, and the others are as dead.
    fn take(&self, fresh: bool) -> Option<Carrier> {
        let mut free = locked(&self.free);
        if fresh {
            free.clear();
        }
        free.pop()
    }
}

impl Carrier {
    async fn connect(path: &Path) -> Result<Self, WireError> {
        let socket = Arc::new(connect(path).await?);
        let outbox = Outbox::new(Arc::clone(&socket), STALL);
        Ok(Self { outbox, lines: Lines { takes_fds: true, ..Lines::new(socket) } })
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

async fn connect(path: &Path) -> Result<Socket, WireError> {
    Socket::connect(path).await.map_err(|source| WireError::Connect { path: path.to_owned(), source })
}

/// Hands each answer to its call until the connection or the client is gone.
async fn read_answers(socket: Arc<Socket>, link: std::sync::Weak<Link>) {
    let mut lines = Lines::new(socket);
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
    socket: Arc<Socket>,
    buffer: Vec<u8>,
    scanner: Scanner,
    scanned: usize,
    /// Whether descriptors are taken; without, the kernel closes what comes along.
    takes_fds: bool,
    fds: Vec<OwnedFd>,
}

impl Lines {
    fn new(socket: Arc<Socket>) -> Self {
        let (buffer, scanner, fds) = (Vec::new(), Scanner::default(), Vec::new());
        Self { socket, buffer, scanner, scanned: 0, takes_fds: false, fds }
    }

    fn read(&mut self, ready: &mut Readable<'_>) -> io::Result<usize> {
        let fds = self.takes_fds.then_some(&mut self.fds);
        Socket::receive(ready, &mut self.buffer, fds)
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
            let socket = Arc::clone(&self.socket);
            match self.read(&mut socket.readable().await?) {
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
