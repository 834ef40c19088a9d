//! HTTP as it is spoken with programs: one listener for each agent, requests with bounds, answers in the dialect of the path.

use crate::agents::Agent;
use crate::call;
use crate::issued::Wrong;
use crate::router::Router;
use crate::surface::{NoAsk, ask, dialect_of};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use octant_ids::Principal;
use octant_llm::{Dialect, Failure, Kind};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// How long the head of a request may take, how long it is, and how many headers it has at the most.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// The longest body, in bytes, and how long it may take.
pub(crate) const BODY_MAX: usize = 32 << 20;
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How many connections one agent has open, and how many of its bodies are read at a time.
const CONNECTIONS_MAX: usize = 512;
const BODIES_MAX: usize = 8;
/// How many pieces of an answer wait for a program that reads slowly. What comes beyond waits at the upstream.
const PIECES: usize = 16;
/// The pause after a socket could not be accepted: the process has no descriptor left, and others close some.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What answers are made of.
pub(crate) type Reply = Response<BoxBody<Bytes, Infallible>>;

/// An answer that comes in pieces. It ends where its sender is dropped; where this is dropped the sender hears of it.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A body in pieces, and where they come from.
pub(crate) fn pieces() -> (mpsc::Sender<Bytes>, BoxBody<Bytes, Infallible>) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (sender, Pieces(receiver).boxed())
}

/// An answer that is there.
pub(crate) fn whole(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// The media type of what is no stream.
pub(crate) const JSON: &str = "application/json";

/// A failure, as programs of this dialect expect it.
pub(crate) fn failed(dialect: Dialect, failure: &Failure) -> Reply {
    let (status, body) = dialect.write_failure(failure);
    let mut reply = whole(status, JSON, body);
    if let Some(ms) = failure.retry_after_ms {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    }
    // The router is the only one that tries again; SDKs of OpenAI and Anthropic heed this.
    if !matches!(failure.kind, Kind::RateLimited | Kind::Overloaded) {
        reply.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    }
    reply
}

/// What a call needs of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) body: Bytes,
    /// What is passed on to an upstream of the same dialect.
    pub(crate) hints: HeaderMap,
}

/// How much of HTTP one caller has under way, over all of its sockets.
#[derive(Debug)]
pub(crate) struct Room {
    connections: Arc<Semaphore>,
    bodies: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { connections, bodies: Semaphore::new(BODIES_MAX) }
    }
}

/// A socket that programs connect to.
pub(crate) trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // What is small is not held back; a socket that cannot do that is no worse.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves a listener of an agent until it is closed. Whoever connects there is that agent.
pub(crate) async fn serve(router: Arc<Router>, agent: Arc<Agent>, listener: impl Accept) {
    loop {
        // Who has as many open as may be waits in the kernel's queue.
        let Ok(place) = Arc::clone(&agent.room.connections).acquire_owned().await else { return };
        match listener.next().await {
            Ok(stream) => {
                let (router, agent) = (Arc::clone(&router), Arc::clone(&agent));
                tokio::spawn(async move {
                    let caller = Caller::Known(Arc::clone(&agent));
                    tokio::select! {
                        () = converse(&router, &caller, stream) => {}
                        // Its calls have said so already where they could.
                        () = async { agent.gone().await; tokio::time::sleep(ACCEPT_AGAIN).await } => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection of {} cannot be accepted: {error}", agent.aid);
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Who is at the other end of a connection.
enum Caller {
    Known(Arc<Agent>),
    /// Whoever each request shows a key of.
    Outside(IpAddr),
}

/// Serves programs outside of workstations, each request of which shows a key.
pub(crate) async fn serve_outside(router: Arc<Router>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let _ = stream.set_nodelay(true);
                let router = Arc::clone(&router);
                tokio::spawn(async move {
                    converse(&router, &Caller::Outside(from.ip()), stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a connection from outside cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// What who shows no good key is told.
fn not_let_in(dialect: Dialect, wrong: Wrong) -> Reply {
    let (kind, what) = match wrong {
        Wrong::None => {
            (Kind::Unauthenticated, "octant: show one key: Authorization: Bearer KEY, x-api-key or api-key")
        }
        Wrong::Bad => (Kind::Unauthenticated, "octant: this key is not good, or not any more"),
        Wrong::Often => (Kind::RateLimited, "octant: too many wrong keys came from there"),
    };
    let next = "an operator makes one: octant router key new";
    let mut failure = Failure::new(kind, format!("{what}; {next}"));
    failure.retry_after_ms = (wrong == Wrong::Often).then_some(60_000);
    let mut reply = failed(dialect, &failure);
    if kind == Kind::Unauthenticated {
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // Each costs a connection.
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// Serves operators, whom the kernel names. `operator` is whom this Octant belongs to.
pub(crate) async fn serve_operators(router: Arc<Router>, operator: u32, listener: UnixListener) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.peer_cred().map(|peer| (stream, peer.uid())),
            Err(error) => Err(error),
        };
        match accepted.map(|(stream, uid)| (stream, Principal::of_uid(uid, operator))) {
            Ok((stream, Principal::Operator(uid))) => {
                let router = Arc::clone(&router);
                tokio::spawn(async move {
                    let caller = Caller::Known(router.agents.operator(uid));
                    converse(&router, &caller, stream).await;
                    drop(place);
                });
            }
            Ok((_, other)) => tracing::warn!("{other} is no operator: its connection is closed"),
            Err(error) => {
                tracing::warn!("a connection of an operator cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn converse(
    router: &Arc<Router>,
    caller: &Caller,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(router, caller, request).await) });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        let who = match caller {
            Caller::Known(agent) => agent.who(),
            Caller::Outside(from) => from.to_string(),
        };
        tracing::debug!("a connection of {who} ended: {error}");
    }
}

async fn answer(router: &Arc<Router>, caller: &Caller, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let dialect = dialect_of(&path);
    let agent = match caller {
        Caller::Known(agent) => Arc::clone(agent),
        Caller::Outside(from) => match router.keyring.find(request.headers(), *from) {
            Ok(agent) => agent,
            Err(wrong) => {
                router.keyring.refused(router, *from);
                return not_let_in(dialect, wrong);
            }
        },
    };
    let asked = ask(request.method().as_str(), &path);
    let ask = match asked {
        Ok(ask) => ask,
        Err(NoAsk::Path) => {
            let what = format!("{path:.100} is no path of the router; see docs/router.md for those that are");
            return failed(dialect, &Failure::new(Kind::NotFound, what));
        }
        Err(NoAsk::Method(wanted)) => {
            let what = format!("{} {path} is asked with {wanted}", request.method());
            let mut reply = failed(dialect, &Failure::new(Kind::Invalid, what));
            *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return reply;
        }
    };
    if let Err(failure) = plain(request.headers()) {
        return failed(dialect, &failure);
    }
    let hints = hints(request.headers());
    let Ok(reading) = agent.room.bodies.acquire().await else { return failed(dialect, &closing()) };
    let body = match read(request.into_body()).await {
        Ok(body) => body,
        Err(failure) => return failed(dialect, &failure),
    };
    drop(reading);
    // A connection has room for its work as long as it is open: what a call needs beyond that goes with the call.
    Box::pin(call::answer(router, &agent, ask, Asked { body, hints })).await
}

fn closing() -> Failure {
    Failure::new(Kind::Overloaded, "the router stops; try again")
}

/// Refuses what two readers could understand in two ways (RFC 9112, section 6.3).
fn plain(headers: &HeaderMap) -> Result<(), Failure> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if lengths > 1 || (lengths == 1 && chunked) {
        let why = "the request says its length in two ways; say it once";
        return Err(Failure::new(Kind::Invalid, why));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::new(Kind::Invalid, "compressed requests are not read; send it as it is"));
    }
    Ok(())
}

/// Headers that change what a provider does, and nothing else: of all others none goes further than here.
const HINTS: [&str; 2] = ["anthropic-beta", "openai-beta"];
const HINT_MAX: usize = 1024;

fn hints(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in HINTS {
        let one = headers.get(name).filter(|value| value.len() <= HINT_MAX && value.to_str().is_ok());
        if let Some(value) = one {
            out.insert(name, value.clone());
        }
    }
    out
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let too_large = || {
        let what = format!("the request has more than {BODY_MAX} bytes; send less");
        Failure::new(Kind::TooLarge, what)
    };
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await {
        Err(_) => {
            Err(Failure::new(Kind::Timeout, format!("the request did not come within {BODY_WITHIN:?}")))
        }
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(Failure::new(Kind::Invalid, format!("the request did not come whole: {error}")))
        }
    }
}

/// Answers that need no model.
pub(crate) fn alive() -> Reply {
    whole(200, "text/plain; charset=utf-8", "Ollama is running")
}

/// As Ollama says it.
pub(crate) fn version() -> Reply {
    whole(200, JSON, format!("{{\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION")))
}
