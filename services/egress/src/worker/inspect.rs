//! One connection of a program to a host that a secret is used at: requests get secrets where they are meant to stand,
//! answers are looked through on their way back.

use super::Work;
use super::ahead::{Ahead, Filled};
use super::asking::Asking;
use super::target;
use super::upstream::{HEAD_LIST_MAX, Sender, Upstream, Version};
use super::using::{Using, scrubbed};
use crate::inject::{self, Credential, Misuse, Put};
use crate::message::{Body, HEAD_MAX, HEAD_WITHIN, HEADERS_MAX, code_of, passed_on, say, strip};
use crate::said::{Inspect, Said, What};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use octant_manifest::HostName;
use rustls::server::Acceptor;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// How many requests of one connection of HTTP/2 are under way at once.
const STREAMS_MAX: u32 = 64;
/// How many of them a program may take back before they were looked at; one that does so for ever is closed.
const RESETS_MAX: usize = 32;

/// The longest body that is read before it goes on, and how long it may take.
const BODY_MAX: usize = 1 << 20;
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// Why a request has no answer of a host.
pub(crate) enum Not {
    /// It is refused here.
    Misused(Misuse),
    /// It is refused by the gate.
    Denied(String),
    /// The same, because a budget is used up.
    Over(String),
    /// It is allowed and did not come about.
    Failed(String),
}

impl From<Misuse> for Not {
    fn from(misuse: Misuse) -> Self {
        Self::Misused(misuse)
    }
}

fn unread(why: &str) -> Not {
    Not::Misused(Misuse::Request(why.to_owned()))
}

struct Session {
    work: Arc<Work>,
    asking: Arc<Asking>,
    host: HostName,
    port: u16,
    credentials: Vec<Credential>,
    /// What both sides speak.
    version: Version,
    /// The connection to the host, or why there is none.
    upstream: Mutex<Option<Result<Upstream, Not>>>,
}

/// Serves the connection until either side, or the gate, is done with it.
pub(crate) async fn serve(
    work: &Arc<Work>,
    connection: Inspect,
    stream: OwnedFd,
    control: OwnedFd,
) -> io::Result<()> {
    let asking = Arc::new(Asking::new(control)?);
    let stream = TcpStream::from_std(std::net::TcpStream::from(stream))?;
    let hello = STANDARD.decode(&connection.hello).map_err(io::Error::other)?;
    let stream = Ahead::new(hello, stream);
    tokio::select! {
        biased;
        gone = asking.listen() => gone,
        served = converse(Arc::clone(work), connection, Arc::clone(&asking), stream) => served,
    }
}

async fn within<T>(of: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(HEAD_WITHIN, of).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Speaks TLS with the program, and in it what the host speaks: so the connection to the host comes first.
async fn converse(
    work: Arc<Work>,
    connection: Inspect,
    asking: Arc<Asking>,
    stream: Ahead<TcpStream>,
) -> io::Result<()> {
    let Inspect { host, port, hello: _, credentials, logins: _ } = connection;
    let host: HostName = host.parse().map_err(|error| io::Error::other(format!("{error}")))?;
    let credentials = credentials.iter().map(Credential::read).collect::<Result<_, _>>();
    let credentials = credentials.map_err(io::Error::other)?;
    let start = within(LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
    let versions = Version::offered(start.client_hello().alpn());
    let upstream = Upstream::open(&asking, &host, &work.roots, &versions).await;
    let version = match &upstream {
        Ok(upstream) => upstream.version(),
        Err(_) => *versions.last().unwrap_or(&Version::Http1),
    };
    let mut config = (*work.voucher.as_host(&host).map_err(io::Error::other)?).clone();
    config.alpn_protocols = vec![version.alpn().to_vec()];
    let stream = within(start.into_stream(Arc::new(config))).await?;
    let upstream = Mutex::new(Some(upstream));
    let session = Session { work, asking, host, port, credentials, version, upstream };
    session.serve(stream).await.map_err(io::Error::other)
}

impl Session {
    async fn serve(self, stream: TlsStream<Ahead<TcpStream>>) -> hyper::Result<()> {
        let stream = TokioIo::new(Filled::new(stream));
        let version = self.version;
        let session = Arc::new(self);
        let service = service_fn(move |request| {
            let session = Arc::clone(&session);
            async move { Ok::<_, Infallible>(session.answer(request).await) }
        });
        match version {
            Version::Http1 => {
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .max_buf_size(HEAD_MAX)
                    .max_headers(HEADERS_MAX)
                    .serve_connection(stream, service)
                    .await
            }
            Version::Http2 => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_header_list_size(HEAD_LIST_MAX)
                    .max_concurrent_streams(STREAMS_MAX)
                    .max_pending_accept_reset_streams(RESETS_MAX)
                    .max_local_error_reset_streams(RESETS_MAX)
                    .max_send_buf_size(HEAD_MAX)
                    .serve_connection(stream, service)
                    .await
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (code, text) = match self.forward(request).await {
            Ok(response) => return response,
            Err(Not::Misused(misuse)) => {
                self.asking.tell(What::Refused(misuse.clone())).await;
                let why = misuse.denied(&self.host);
                let next = why.advice().unwrap_or("see `octant agent why` of this agent");
                (code_of(&why), format!("{why}; {next}"))
            }
            Err(Not::Denied(why)) => (StatusCode::FORBIDDEN, why),
            Err(Not::Over(why)) => (StatusCode::TOO_MANY_REQUESTS, why),
            Err(Not::Failed(why)) => (StatusCode::BAD_GATEWAY, why),
        };
        let mut response = say(code, &format!("octant: {text}\n"));
        if self.version == Version::Http1 {
            // Nothing that comes after a refusal is read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Not> {
        let (mut parts, body) = request.into_parts();
        let Self { host, port, version, .. } = self;
        target::check(&parts, *version, host, *port)?;
        let trailers = parts.headers.get(header::TE).is_some_and(|te| te == "trailers");
        strip(&mut parts.headers);
        parts.headers.remove(header::TRANSFER_ENCODING);
        let (read, streamed) = if inject::reads_body(&self.credentials, host, &parts) {
            (Some(read(&parts, body).await?), None)
        } else {
            (None, Some(body))
        };
        let puts = inject::places(&self.credentials, host, &parts, read.as_deref())?;
        target::write(&mut parts, *version, host, *port)?;
        if trailers && *version == Version::Http2 {
            // What comes after a body is looked through too (gRPC ends with it).
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        self.exchange(parts, read, streamed, &puts).await
    }

    /// A connection to the host: the one there is, or another.
    async fn upstream(&self, before: Option<Result<Upstream, Not>>) -> Result<Upstream, Not> {
        let upstream = match before {
            Some(Err(why)) => return Err(why),
            Some(Ok(upstream)) if !upstream.is_closed() => upstream,
            _ => Upstream::open(&self.asking, &self.host, &self.work.roots, &[self.version]).await?,
        };
        if upstream.version() != self.version {
            return Err(Not::Failed(format!("{} speaks another version of HTTP than before", self.host)));
        }
        Ok(upstream)
    }

    /// Takes a request out of the agent's budget: all but the first on a connection, which came with it.
    async fn take(&self, fresh: bool) -> Result<(), Not> {
        if fresh {
            return Ok(());
        }
        let failed = |why: String| Not::Failed(format!("{}: {why}", self.host));
        match self.asking.ask(What::Request).await.map_err(|error| failed(error.to_string()))? {
            (_, (Said::Taken, _)) => Ok(()),
            (_, (Said::Denied(why), _)) => Err(Not::Denied(why)),
            (_, (Said::Over(why), _)) => Err(Not::Over(why)),
            _ => Err(failed("the gate let no request go on".into())),
        }
    }

    /// Sends a request, and gives the answer. Requests of HTTP/1.1 come one after another.
    async fn exchange(
        &self,
        mut parts: Parts,
        mut read: Option<Bytes>,
        streamed: Option<Incoming>,
        puts: &[Put],
    ) -> Result<Response<Body>, Not> {
        let mut slot = self.upstream.lock().await;
        let before = slot.take();
        let mut upstream = self.upstream(before).await?;
        let fresh = std::mem::take(&mut upstream.fresh);
        let mut using = Using::default();
        let whole = |parts, read: Option<Bytes>| {
            let read = read.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed());
            Request::from_parts(parts, streamed.map(BodyExt::boxed).or(read).unwrap_or_default())
        };
        let response = match &mut upstream.sender {
            Sender::Http1(_) => {
                let put = match self.take(fresh).await {
                    Ok(()) => using.put_all(&self.asking, puts, &mut parts, &mut read).await,
                    over => over,
                };
                let sent = match put {
                    Ok(()) => Ok(upstream.sender.send(whole(parts, read)).await),
                    Err(why) => Err(why),
                };
                *slot = Some(Ok(upstream));
                sent?
            }
            Sender::Http2(sender) => {
                let mut sender = Sender::Http2(sender.clone());
                *slot = Some(Ok(upstream));
                drop(slot);
                self.take(fresh).await?;
                using.put_all(&self.asking, puts, &mut parts, &mut read).await?;
                sender.send(whole(parts, read)).await
            }
        };
        let response =
            response.map_err(|error| Not::Failed(format!("{} gave no answer: {error}", self.host)))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Not::Failed(format!("{} changed the protocol without being asked", self.host)));
        }
        using.answered(response.status());
        Ok(passed_on(scrubbed(response, using, &self.host)?))
    }
}

/// Reads the body of a request, which is short and as it is.
async fn read(parts: &Parts, body: Incoming) -> Result<Bytes, Not> {
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unread("its body is encoded, and a secret is put into it"));
    }
    let read = timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await;
    let read = read.map_err(|_| unread("its body, which a secret is put into, does not come in time"))?;
    Ok(read
        .map_err(|_| unread("its body is too long to have a secret put into it, or breaks off"))?
        .to_bytes())
}
