//! HTTP/2 towards upstreams: one connection, many streams. Who asks first makes the connection; the others wait for it.
//!
//! What an upstream can make the router keep is bounded: by a window for each stream, which opens again only as a program
//! reads, by a window of the connection that holds all of them, so that no slow program stops another, and by a budget for
//! small frames.

use crate::upstream::{HEAD_MAX, HEADERS_MAX, NoAnswer, said};
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::response::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Uri, header};
use octant_sys::clock;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Its name in TLS (RFC 7301).
pub(crate) const ALPN: &[u8] = b"h2";
/// How many streams one connection has at the most, however many more its upstream takes.
const STREAMS_MAX: usize = 100;
/// How many bytes of one stream wait at the most for a program to read them.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same of all streams of a connection.
const WINDOW: u32 = STREAM_WINDOW * 100;
/// How many bytes short of 256 all frames together may be that wait. A frame that waits takes that much memory, whatever it
/// has in it.
const SHORT_MAX: usize = 16 << 20;
/// How many connections to one upstream there are at the most; the streams of a further one wait for their turn.
pub(crate) const LINES_MAX: usize = 64;
/// How long a connection is kept on which nobody asks.
const IDLE_NS: u64 = 30_000_000_000;

/// How a connection that died is noticed while streams wait on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings {
    /// After so long a silence it is asked for a sign.
    pub(crate) after: Duration,
    /// That has to come within this time.
    pub(crate) within: Duration,
}

impl Default for Pings {
    fn default() -> Self {
        Self { after: Duration::from_secs(30), within: Duration::from_secs(15) }
    }
}

/// Why a stream has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The upstream says that it has done nothing with it, or nothing of it was sent: it can be asked again.
    Unheard(String),
    Failed(NoAnswer),
}

/// A connection.
pub(crate) struct Line {
    sender: SendRequest<Bytes>,
    /// How many streams are open.
    open: AtomicUsize,
    /// How many streams the upstream takes at a time.
    takes: watch::Receiver<usize>,
    /// Whether no further stream begins on it.
    over: AtomicBool,
    /// Why the router gave it up.
    given_up: OnceLock<String>,
    /// When something came of any of its streams, or one of them ended.
    heard_ns: AtomicU64,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("open", &self.open).field("over", &self.over).finish_non_exhaustive()
    }
}

impl Line {
    /// Begins to speak HTTP/2 on a connection. It is ready once the upstream has said how many streams it takes.
    pub(crate) async fn begin<S>(stream: S, pings: Pings) -> Result<Arc<Self>, NoAnswer>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(0)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .data_frame_budget(SHORT_MAX)
            .max_header_list_size(HEAD_MAX);
        let begun = builder.handshake(stream).await;
        let (sender, connection) = begun.map_err(|error| NoAnswer::Lost(said(&error)))?;
        let (tell, mut takes) = watch::channel(0);
        let line = Arc::new(Self {
            sender,
            open: AtomicUsize::new(0),
            takes: takes.clone(),
            over: AtomicBool::new(false),
            given_up: OnceLock::new(),
            heard_ns: AtomicU64::new(clock::monotonic_ns()),
        });
        tokio::spawn(drive(connection, tell, Arc::downgrade(&line), pings));
        let ready = takes.wait_for(|takes| *takes > 0).await.map(drop);
        ready.map_err(|_| NoAnswer::Lost("it ended before it took a stream".into()))?;
        Ok(line)
    }

    fn has_room(&self) -> bool {
        self.open() < (*self.takes.borrow()).min(STREAMS_MAX)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        // Who drives it has ended where nobody says any more how many it takes.
        self.over.load(Ordering::Relaxed) || self.takes.has_changed().is_err()
    }

    fn heard(&self) {
        self.heard_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
    }

    fn silent_ns(&self) -> u64 {
        clock::monotonic_ns().saturating_sub(self.heard_ns.load(Ordering::Relaxed))
    }

    fn why(&self, error: &h2::Error) -> String {
        self.given_up.get().cloned().unwrap_or_else(|| said(error))
    }
}

/// Keeps a connection going until it ends, or gives no sign of life.
async fn drive<S>(
    mut connection: Connection<S, Bytes>,
    tell: watch::Sender<usize>,
    line: Weak<Line>,
    pings: Pings,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pong = connection.ping_pong();
    let conversing = poll_fn(|context| {
        let done = Pin::new(&mut connection).poll(context);
        let takes = connection.max_concurrent_send_streams();
        tell.send_if_modified(|told| std::mem::replace(told, takes) != takes);
        done
    });
    tokio::select! {
        done = conversing => if let Err(error) = done {
            tracing::debug!("a connection to an upstream ended: {}", said(&error));
        },
        () = dead(pong, &line, pings) => if let Some(line) = line.upgrade() {
            let why = format!("the connection gave no sign of life within {:?}", pings.within);
            // Nobody else writes there.
            let _ = line.given_up.set(why);
        },
    }
}

/// Comes back once a connection with open streams gives no sign of life, or is nobody's any more.
async fn dead(pong: Option<PingPong>, line: &Weak<Line>, pings: Pings) {
    let Some(mut pong) = pong else { return std::future::pending().await };
    let after_ns = u64::try_from(pings.after.as_nanos()).unwrap_or(u64::MAX);
    let mut wait = pings.after;
    loop {
        sleep(wait).await;
        // One that nobody has any more had its time to close.
        let Some(line) = line.upgrade() else { return };
        let silent = (line.open() > 0).then(|| line.silent_ns());
        drop(line);
        wait = match silent {
            Some(ns) if ns >= after_ns => {
                if !matches!(timeout(pings.within, pong.ping(Ping::opaque())).await, Ok(Ok(_))) {
                    return;
                }
                pings.after
            }
            Some(ns) => Duration::from_nanos(after_ns - ns),
            None => pings.after,
        };
    }
}

/// The place of one stream on a connection.
#[derive(Debug)]
pub(crate) struct Place(Arc<Line>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.heard();
    }
}

impl Place {
    fn on(line: &Arc<Line>) -> Self {
        line.open.fetch_add(1, Ordering::Relaxed);
        line.heard();
        Self(Arc::clone(line))
    }

    /// Asks; the request is aimed, and is sent over TLS.
    pub(crate) async fn send(self, request: Request<Full<Bytes>>) -> Result<(Parts, Stream), Unanswered> {
        let (head, body) = addressed(request).await.map_err(Unanswered::Failed)?;
        // A line that is over refuses here, with nothing sent.
        let ready = self.0.sender.clone().ready().await;
        let mut sender = ready.map_err(|error| self.unheard(&error))?;
        let begun = sender.send_request(head, body.is_empty());
        let (answer, mut sending) = begun.map_err(|error| self.failed(&error))?;
        if !body.is_empty()
            && let Err(error) = sending.send_data(body, true)
        {
            tracing::debug!("an upstream's stream ended before its request: {}", said(&error));
        }
        let answer = answer.await.map_err(|error| self.failed(&error))?;
        self.0.heard();
        let (head, body) = answer.into_parts();
        if head.headers.len() > HEADERS_MAX {
            let why = format!("its head has more than {HEADERS_MAX} fields");
            return Err(Unanswered::Failed(NoAnswer::Lost(why)));
        }
        Ok((head, Stream { body, place: self }))
    }

    fn unheard(&self, error: &h2::Error) -> Unanswered {
        self.0.over.store(true, Ordering::Relaxed);
        Unanswered::Unheard(self.0.why(error))
    }

    /// What it means that there is no answer: RFC 9113 section 8.7 says of which requests nothing was done.
    fn failed(&self, error: &h2::Error) -> Unanswered {
        let untouched = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
        if untouched && error.is_remote() {
            return self.unheard(error);
        }
        Unanswered::Failed(NoAnswer::Lost(self.0.why(error)))
    }
}

/// A request as HTTP/2 has it: whom it is for stands in its target.
async fn addressed(request: Request<Full<Bytes>>) -> Result<(Request<()>, Bytes), NoAnswer> {
    let refused = |what: &str| NoAnswer::Refused(format!("{what} is no target of a request"));
    let (mut head, body) = request.into_parts();
    let host = head.headers.remove(header::HOST);
    let host = host.ok_or_else(|| refused("a request without a host"))?;
    let mut target = std::mem::take(&mut head.uri).into_parts();
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| refused("its host"))?;
    (target.scheme, target.authority) = (Some(Scheme::HTTPS), Some(authority));
    target.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(target).map_err(|_| refused("its path"))?;
    let Ok(body) = body.collect().await;
    let body = body.to_bytes();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Ok((Request::from_parts(head, ()), body))
}

/// The rest of an answer. Where it is not read to its end, its stream is reset, and with it the call at the upstream.
#[derive(Debug)]
pub(crate) struct Stream {
    body: RecvStream,
    place: Place,
}

impl Stream {
    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, NoAnswer>> {
        match self.body.data().await? {
            Ok(bytes) => {
                self.place.0.heard();
                // Whoever reads so far may have as much again.
                let _ = self.body.flow_control().release_capacity(bytes.len());
                Some(Ok(bytes))
            }
            // It wants no more of the request, and has said all.
            Err(error) if error.reason() == Some(Reason::NO_ERROR) && error.is_reset() => None,
            Err(error) => Some(Err(NoAnswer::Lost(self.place.0.why(&error)))),
        }
    }
}

/// Whether a connection was made, once that is known.
pub(crate) type Made = watch::Receiver<Option<Result<(), NoAnswer>>>;

/// What is known of an upstream that TLS leads to.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Arc<Line>>,
    making: Option<Made>,
    /// Whether it spoke HTTP/1.1 when it was asked last: everybody makes a connection then.
    alone: bool,
}

/// How one asks.
#[derive(Debug)]
pub(crate) enum Turn {
    /// On a connection that others have too.
    Place(Place),
    /// On a connection of one's own.
    Alone,
    /// When the connection is there that is being made.
    Wait(Made),
    /// Once one has made the connection, and has told the others.
    Make(watch::Sender<Option<Result<(), NoAnswer>>>),
}

impl Lines {
    pub(crate) fn turn(&mut self) -> Turn {
        self.lines.retain(|line| !line.is_over());
        let full = self.lines.len() >= LINES_MAX;
        let free = self.lines.iter().find(|line| line.has_room());
        let least = || self.lines.iter().filter(|_| full).min_by_key(|line| line.open());
        if let Some(line) = free.or_else(least) {
            return Turn::Place(Place::on(line));
        }
        if self.alone {
            return Turn::Alone;
        }
        match &self.making {
            // One that was given up without a word is not waited for.
            Some(making) if making.borrow().is_none() && making.has_changed().is_ok() => {
                Turn::Wait(making.clone())
            }
            _ => {
                let (tell, made) = watch::channel(None);
                self.making = Some(made);
                Turn::Make(tell)
            }
        }
    }

    /// A connection was made on which HTTP/2 is spoken, or not.
    pub(crate) fn made(&mut self, line: Option<Arc<Line>>) {
        self.alone = line.is_none();
        self.lines.extend(line);
    }

    /// Lets go of what was not used for long; whether anything is left to know.
    pub(crate) fn sweep(&mut self) -> bool {
        self.lines.retain(|line| !line.is_over() && (line.open() > 0 || line.silent_ns() < IDLE_NS));
        self.alone || self.making.is_some() || !self.lines.is_empty()
    }
}
