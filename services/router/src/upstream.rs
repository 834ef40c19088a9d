//! Connections to upstreams: made to an address that was looked at, in TLS, kept for the next request.
//!
//! In HTTP/1.1 one request has a connection for itself. Where its answer is not read to its end, since who asked has gone
//! away, the connection is closed, and with it the call at the upstream. An upstream that speaks HTTP/2 says so in TLS, and
//! requests share its connection.

use crate::streams::{ALPN, LINES_MAX, Line, Lines, Pings, Place, Stream, Turn, Unanswered};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::{request, response::Parts};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use octant_manifest::HostName;
use octant_outside::{Resolve, Vet};
use octant_sys::clock;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take, with TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const ADDRESSES_MAX: usize = 4;
/// How many connections to one upstream are kept, and for how long. Most servers close one after a minute.
const IDLE_MAX: usize = 64;
const IDLE_NS: u64 = 30_000_000_000;
/// The longest head of an answer, in bytes, and how many headers it has at the most.
pub(crate) const HEAD_MAX: u32 = 64 << 10;
pub(crate) const HEADERS_MAX: usize = 128;
/// How often one request is sent that an upstream sends back untouched.
const SENT_MAX: usize = 4;
/// How long nothing may come of an answer that has begun.
const SILENT: Duration = Duration::from_secs(300);

/// How an upstream is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Tls,
    Plain,
    Unix(PathBuf),
}

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    way: Way,
    /// Its name, without a port: what keys are granted for.
    pub(crate) host: String,
    port: u16,
    path: String,
    /// Whether it may be spoken to without TLS though it is not this machine.
    plain: bool,
}

/// Why a text is no address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no upstream's address; write https://HOST/PATH, http://127.0.0.1:PORT/PATH or unix:/PATH")]
pub(crate) struct NoEndpoint(String);

impl Endpoint {
    /// Reads `https://HOST[:PORT][/PATH]`, the same with `http`, or `unix:/PATH`.
    pub(crate) fn parse(base: &str, plain: bool) -> Result<Self, NoEndpoint> {
        let bad = || NoEndpoint(base.chars().take(200).collect());
        if let Some(path) = base.strip_prefix("unix:") {
            let good = path.starts_with('/') && !path.contains('\0');
            let of = |path: &str| Self {
                way: Way::Unix(path.into()),
                host: "localhost".into(),
                port: 0,
                path: String::new(),
                plain,
            };
            return good.then(|| of(path)).ok_or_else(bad);
        }
        let (way, usual, rest) = match (base.strip_prefix("https://"), base.strip_prefix("http://")) {
            (Some(rest), _) => (Way::Tls, 443, rest),
            (_, Some(rest)) => (Way::Plain, 80, rest),
            _ => return Err(bad()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| bad())?),
            _ => (authority, usual),
        };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(legal) || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad());
        }
        Ok(Self {
            way,
            host: host.to_ascii_lowercase(),
            port,
            path: path.trim_end_matches('/').to_owned(),
            plain,
        })
    }

    /// Its address as an address, where it is one.
    fn address(&self) -> Option<IpAddr> {
        match self.host.as_str() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        }
    }

    /// Whether it is this machine.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.way, Way::Unix(_)) || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Aims a request here: the path and query in it are those behind the endpoint's own.
    pub(crate) fn aim(&self, request: &mut request::Parts) -> Result<(), NoAnswer> {
        let target = format!("{}{}", self.path, request.uri);
        let bad = |what: String| NoAnswer::Refused(format!("{what} is no target of a request"));
        request.uri = target.parse().map_err(|_| bad(target.clone()))?;
        let host = self.authority().parse().map_err(|_| bad(self.authority()))?;
        request.headers.insert(hyper::header::HOST, host);
        Ok(())
    }

    /// What stands in a request's `Host`.
    fn authority(&self) -> String {
        match (&self.way, self.port) {
            (Way::Tls, 443) | (Way::Plain, 80) | (Way::Unix(_), _) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Late(String),
    #[error("{0}")]
    Lost(String),
}

type Sender = SendRequest<Full<Bytes>>;

/// Upstreams, and the connections that are kept to them.
pub(crate) struct Upstreams {
    resolve: Box<dyn Resolve>,
    vet: Vet,
    tls: Arc<ClientConfig>,
    pings: Pings,
    idle: Mutex<BTreeMap<Endpoint, Vec<(u64, Sender)>>>,
    lines: Mutex<BTreeMap<Endpoint, Lines>>,
}

/// A connection that was made.
enum Made {
    Alone(Sender),
    Shared(Arc<Line>),
}

/// A connection to ask on.
enum Asked {
    /// And whether nobody else asked on it before.
    Alone(Sender, bool),
    Shared(Place),
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").field("vet", &self.vet).finish_non_exhaustive()
    }
}

/// An answer whose head is there.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: Body,
}

/// The rest of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Alone {
        incoming: Incoming,
        /// The connection, to be kept at the end.
        back: Option<(Arc<Upstreams>, Endpoint, Sender)>,
    },
    Shared(Stream),
}

impl Body {
    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, NoAnswer>> {
        loop {
            let late = |_| Err(NoAnswer::Late(format!("nothing came for {SILENT:?}")));
            let piece = timeout(SILENT, self.piece()).await.unwrap_or_else(|out| Some(late(out)))?;
            if !piece.as_ref().is_ok_and(Bytes::is_empty) {
                return Some(piece);
            }
        }
    }

    async fn piece(&mut self) -> Option<Result<Bytes, NoAnswer>> {
        let (incoming, back) = match self {
            Self::Shared(stream) => return stream.next().await,
            Self::Alone { incoming, back } => (incoming, back),
        };
        let Some(frame) = incoming.frame().await else {
            if let Some((upstreams, endpoint, sender)) = back.take() {
                upstreams.keep(endpoint, sender);
            }
            return None;
        };
        // Trailers say nothing here.
        Some(
            frame
                .map(|frame| frame.into_data().unwrap_or_default())
                .map_err(|error| NoAnswer::Lost(said(&error))),
        )
    }

    /// All of it, up to so many bytes.
    pub(crate) async fn whole(mut self, most: usize) -> Result<Vec<u8>, NoAnswer> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if all.len() + piece.len() > most {
                return Err(NoAnswer::Lost(format!("the answer has more than {most} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// An error with what is behind it.
pub(crate) fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Upstreams {
    pub(crate) fn new(resolve: Box<dyn Resolve>, vet: Vet, mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        let (idle, lines) = (Mutex::default(), Mutex::default());
        Self { resolve, vet, tls: Arc::new(tls), pings: Pings::default(), idle, lines }
    }

    /// With another patience with connections that are silent.
    #[cfg(test)]
    pub(crate) fn with_pings(self, pings: Pings) -> Self {
        Self { pings, ..self }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Lines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<Endpoint, Vec<(u64, Sender)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, endpoint: Endpoint, sender: Sender) {
        let now = clock::monotonic_ns();
        let mut idle = self.idle();
        let kept = idle.entry(endpoint).or_default();
        kept.retain(|(since, sender)| !sender.is_closed() && now.saturating_sub(*since) < IDLE_NS);
        if !sender.is_closed() && kept.len() < IDLE_MAX {
            kept.push((now, sender));
        }
    }

    fn kept(&self, endpoint: &Endpoint) -> Option<Sender> {
        let now = clock::monotonic_ns();
        let mut idle = self.idle();
        let kept = idle.get_mut(endpoint)?;
        // The one that was used last is the likeliest to be open yet.
        while let Some((since, sender)) = kept.pop() {
            if !sender.is_closed() && now.saturating_sub(since) < IDLE_NS {
                return Some(sender);
            }
        }
        None
    }

    /// Lets go of what was not used for long.
    pub(crate) fn sweep(&self) {
        let now = clock::monotonic_ns();
        self.idle().retain(|_, kept| {
            kept.retain(|(since, sender)| !sender.is_closed() && now.saturating_sub(*since) < IDLE_NS);
            !kept.is_empty()
        });
        self.lines().retain(|_, lines| lines.sweep());
    }

    /// Sends a request that was aimed at this endpoint. One of which an upstream has done nothing is sent again.
    pub(crate) async fn send(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, NoAnswer> {
        let mut last = String::new();
        for _ in 0..SENT_MAX {
            let place = loop {
                let (sender, fresh) = match self.connection(endpoint).await? {
                    Asked::Shared(place) => break place,
                    Asked::Alone(sender, fresh) => (sender, fresh),
                };
                match self.alone(endpoint, sender, request).await {
                    Ok(answer) => return Ok(answer),
                    // Nothing of it was sent: the connection was closed while it was kept.
                    Err((_, Some(unsent))) if !fresh => request = unsent,
                    Err((why, _)) => return Err(why),
                }
            };
            match place.send(request.clone()).await {
                Ok((head, stream)) => return Ok(Answer { head, body: Body::Shared(stream) }),
                Err(Unanswered::Unheard(why)) => last = why,
                Err(Unanswered::Failed(why)) => return Err(why),
            }
        }
        Err(NoAnswer::Lost(format!("it was sent back {SENT_MAX} times: {last}")))
    }

    /// Asks on a connection of one's own; gives the request back where nothing of it was sent.
    async fn alone(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, (NoAnswer, Option<Request<Full<Bytes>>>)> {
        if let Err(error) = sender.ready().await {
            return Err((NoAnswer::Lost(said(&error)), Some(request)));
        }
        let response = sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message();
            (NoAnswer::Lost(said(error.error())), unsent)
        })?;
        let (head, incoming) = response.into_parts();
        // Who switches to another protocol is not understood any more.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err((NoAnswer::Lost("it wants to speak something else than HTTP".into()), None));
        }
        let back = Some((Arc::clone(self), endpoint.clone(), sender));
        Ok(Answer { head, body: Body::Alone { incoming, back } })
    }

    /// A connection to ask on: one that is there, or else a new one.
    async fn connection(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Asked, NoAnswer> {
        // Others may be faster to take the places of one that was made.
        for _ in 0..=LINES_MAX {
            if let Some(sender) = self.kept(endpoint) {
                return Ok(Asked::Alone(sender, false));
            }
            let turn = match endpoint.way {
                Way::Tls => self.lines().entry(endpoint.clone()).or_default().turn(),
                Way::Plain | Way::Unix(_) => Turn::Alone,
            };
            let mut made = match turn {
                Turn::Place(place) => return Ok(Asked::Shared(place)),
                Turn::Alone => match self.connect(endpoint).await? {
                    Made::Alone(sender) => return Ok(Asked::Alone(sender, true)),
                    Made::Shared(line) => {
                        self.lines().entry(endpoint.clone()).or_default().made(Some(line));
                        continue;
                    }
                },
                Turn::Wait(made) => made,
                Turn::Make(tell) => {
                    let made = tell.subscribe();
                    // It is made for whoever waits, even where who began has gone away.
                    tokio::spawn(Arc::clone(self).make(endpoint.clone(), tell));
                    made
                }
            };
            let gone = || NoAnswer::Unreachable(format!("{}: no connection was made", endpoint.host));
            made.wait_for(Option::is_some)
                .await
                .map_err(|_| gone())?
                .clone()
                .unwrap_or_else(|| Err(gone()))?;
        }
        Err(NoAnswer::Unreachable(format!(
            "{}: connections to it end as soon as they are made",
            endpoint.host
        )))
    }

    /// Makes a connection that others may ask on too, and tells who waits.
    async fn make(self: Arc<Self>, endpoint: Endpoint, tell: watch::Sender<Option<Result<(), NoAnswer>>>) {
        let told = self.connect(&endpoint).await.map(|made| {
            let line = match made {
                Made::Shared(line) => Some(line),
                Made::Alone(sender) => {
                    self.keep(endpoint.clone(), sender);
                    None
                }
            };
            self.lines().entry(endpoint).or_default().made(line);
        });
        tell.send_replace(Some(told));
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Made, NoAnswer> {
        let connecting = async {
            match &endpoint.way {
                Way::Unix(path) => {
                    let failed =
                        |error: std::io::Error| NoAnswer::Unreachable(format!("{}: {error}", path.display()));
                    converse(UnixStream::connect(path).await.map_err(failed)?).await
                }
                Way::Plain => {
                    if !endpoint.is_local() && !endpoint.plain {
                        return Err(NoAnswer::Refused(format!(
                            "{} would be spoken to without TLS; write https, or plain = true for its provider",
                            endpoint.host
                        )));
                    }
                    converse(self.reach(endpoint).await?).await
                }
                Way::Tls => {
                    let stream = self.secured(endpoint).await?;
                    match stream.get_ref().1.alpn_protocol() {
                        Some(ALPN) => Line::begin(stream, self.pings).await.map(Made::Shared),
                        _ => converse(stream).await,
                    }
                }
            }
        };
        match timeout(CONNECT, connecting).await {
            Ok(done) => done,
            Err(_) => {
                Err(NoAnswer::Unreachable(format!("{}: no connection within {CONNECT:?}", endpoint.host)))
            }
        }
    }

    async fn secured(
        &self,
        endpoint: &Endpoint,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, NoAnswer> {
        let failed = |why: String| NoAnswer::Unreachable(format!("{}: TLS: {why}", endpoint.host));
        let name = ServerName::try_from(endpoint.host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| failed(error.to_string()))?;
        let stream = self.reach(endpoint).await?;
        let connecting = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        connecting.await.map_err(|error| failed(error.to_string()))
    }

    /// A connection to one of its addresses, each of which was looked at.
    async fn reach(&self, endpoint: &Endpoint) -> Result<TcpStream, NoAnswer> {
        let refused = |why: String| NoAnswer::Refused(format!("{}: {why}", endpoint.host));
        let good = match endpoint.address() {
            // The operator names this machine where it is meant.
            Some(address) if address.is_loopback() => vec![address],
            Some(address) => self.vet.good(vec![address]).map_err(refused)?,
            None => self.vet.good(self.addresses(endpoint).await?).map_err(refused)?,
        };
        let mut last = String::new();
        for address in good.into_iter().take(ADDRESSES_MAX) {
            let to = SocketAddr::new(address, endpoint.port);
            match TcpStream::connect(to).await {
                Ok(stream) => {
                    // What is small is not held back; a socket that cannot do that is no worse.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = format!("{to}: {error}"),
            }
        }
        Err(NoAnswer::Unreachable(last))
    }

    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<IpAddr>, NoAnswer> {
        let failed = |why: String| NoAnswer::Unreachable(format!("{} has no address: {why}", endpoint.host));
        let host: HostName = endpoint.host.parse().map_err(|error| failed(format!("{error}")))?;
        if let Some(found) = self.resolve.known(&host) {
            return Ok(found);
        }
        self.resolve.addresses(&host).await.map_err(failed)
    }
}

async fn converse<S>(stream: S) -> Result<Made, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX as usize).max_headers(HEADERS_MAX);
    let made = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|error| NoAnswer::Lost(said(&error)))?;
    drive(connection);
    Ok(Made::Alone(sender))
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to an upstream ended: {}", said(&error));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_upstreams_are_read_one_way_only() {
        let of = |base: &str| {
            Endpoint::parse(base, false).map(|e| (e.host.clone(), e.port, e.path.clone(), e.is_local()))
        };
        assert_eq!(
            of("https://API.example.org/v1/"),
            Ok(("api.example.org".into(), 443, "/v1".into(), false))
        );
        assert_eq!(of("http://127.0.0.1:8080"), Ok(("127.0.0.1".into(), 8080, String::new(), true)));
        assert_eq!(of("http://[::1]:80/x"), Ok(("[::1]".into(), 80, "/x".into(), true)));
        assert_eq!(of("unix:/run/model.sock"), Ok(("localhost".into(), 0, String::new(), true)));
        let bad = [
            "",
            "api.example.org",
            "ftp://a.b/",
            "https://",
            "https://a b/",
            "https://u@h.org/",
            "https://h.org:x/",
            "unix:rel",
            "https://h.org/a\r\nX: y",
        ];
        for base in bad {
            assert!(of(base).is_err(), "{base}");
        }
    }
}
