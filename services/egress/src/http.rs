//! Plain HTTP: every request is read whole in its head, decided for the host that it names, and written anew, so that no
//! two readers of the same bytes can disagree about where one request ends.

use crate::core::{Denied, Rule};
use crate::doors;
use crate::flow::Metered;
use crate::gate::{Client, Gate, NotPassed, Passage, SecretUse, UsedFor};
use crate::inject::{self, Place, Scrub};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Uri};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use octant_manifest::{HostName, Protocol};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest head, in bytes.
const HEAD_MAX: usize = 64 << 10;
/// How many headers a request has at the most.
const HEADERS_MAX: usize = 128;

type Body = BoxBody<Bytes, hyper::Error>;

/// A connection of which the first bytes were read already.
#[derive(Debug)]
pub(crate) struct Prefixed {
    first: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl Prefixed {
    pub(crate) fn new(first: Vec<u8>, stream: TcpStream) -> Self {
        Self { first, at: 0, stream }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.first[self.at..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = rest.len().min(into.remaining());
        into.put_slice(&rest[..count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Where the requests of one connection go.
enum Where {
    /// To the host whose address it was made to.
    Host(HostName, u16, Rule, Protocol),
    /// To whom each request names: it was made to the proxy.
    Named,
}

/// One connection of a program, and the one to a host behind it.
struct Session {
    gate: Arc<Gate>,
    client: Arc<Client>,
    goes: Where,
    upstream: Mutex<Option<Upstream>>,
}

struct Upstream {
    host: HostName,
    port: u16,
    sender: SendRequest<Incoming>,
    passage: Arc<Passage>,
}

/// Serves requests on a connection that a program made to a host's address.
pub(crate) async fn guarded(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: Prefixed,
    host: HostName,
    port: u16,
    rule: Rule,
) {
    serve(gate, client, stream, Where::Host(host, port, rule, Protocol::Http)).await;
}

/// Serves requests in TLS that ends here, since a secret is used at the host.
pub(crate) async fn inspected(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: Prefixed,
    host: HostName,
    port: u16,
    rule: Rule,
) {
    let Some(authority) = client.authority() else { return };
    let config = match authority.as_host(&host) {
        Ok(config) => config,
        Err(error) => return tracing::error!("{}: {host}: {error}", client.aid),
    };
    let accepted = tokio::time::timeout(HEAD_WITHIN, TlsAcceptor::from(config).accept(stream)).await;
    match accepted {
        Ok(Ok(stream)) => serve(gate, client, stream, Where::Host(host, port, rule, Protocol::Tls)).await,
        Ok(Err(error)) => tracing::debug!("TLS of {} for {host} did not come about: {error}", client.aid),
        Err(_) => tracing::debug!("TLS of {} for {host} did not come about in time", client.aid),
    }
}

/// Serves a connection to the proxy.
pub(crate) async fn proxy(gate: Arc<Gate>, client: Arc<Client>, stream: TcpStream) {
    serve(&gate, &client, Prefixed::new(Vec::new(), stream), Where::Named).await;
}

async fn serve<S>(gate: &Arc<Gate>, client: &Arc<Client>, stream: S, goes: Where)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let session = Arc::new(Session {
        gate: Arc::clone(gate),
        client: Arc::clone(client),
        goes,
        upstream: Mutex::default(),
    });
    let serving = Arc::clone(&session);
    let service = service_fn(move |request| {
        let session = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(answer(&session, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection of {} ended: {error}", client.aid);
    }
    if let Some(upstream) = session.upstream.lock().await.take() {
        upstream.passage.ended("closed");
    }
}

/// Why a request has no answer of a host.
enum Not {
    Denied(String, u16, Denied),
    Failed(String),
}

async fn answer(session: &Arc<Session>, request: Request<Incoming>) -> Response<Body> {
    let answered = if request.method() == Method::CONNECT {
        tunnel(session, request)
    } else {
        forward(session, request).await
    };
    match answered {
        Ok(response) => response,
        Err(Not::Denied(host, port, why)) => {
            session.gate.denied(&session.client, &host, port, &why);
            let code = match why {
                Denied::Host { .. } => StatusCode::MISDIRECTED_REQUEST,
                Denied::Request(_) | Denied::BadName(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::FORBIDDEN,
            };
            say(code, &format!("octant: {why}; {}\n", why.next(session.client.aid, &host, port)))
        }
        Err(Not::Failed(why)) => say(StatusCode::BAD_GATEWAY, &format!("octant: {why}\n")),
    }
}

fn say(code: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    // Nothing that comes after a refusal is read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A port and a name out of `host:port`.
fn split(authority: &Authority, usual: Option<u16>) -> Result<(&str, u16), Denied> {
    if authority.as_str().contains('@') {
        return Err(Denied::Request("a name and a password stand before the host"));
    }
    let port = authority.port_u16().or(usual.filter(|_| authority.port().is_none()));
    port.filter(|port| *port > 0)
        .map(|port| (authority.host(), port))
        .ok_or(Denied::Request("the port is missing"))
}

/// Hands the connection over to a host, once the program has been told that it may.
fn tunnel(session: &Arc<Session>, mut request: Request<Incoming>) -> Result<Response<Body>, Not> {
    let refused = |why| Not::Denied("a tunnel".to_owned(), 0, why);
    if !matches!(session.goes, Where::Named) {
        return Err(refused(Denied::Request("CONNECT is for a proxy")));
    }
    let authority = request.uri().authority().cloned();
    let authority = authority.ok_or_else(|| refused(Denied::Request("CONNECT names no host")))?;
    let (said, port) = split(&authority, None).map_err(refused)?;
    let denied = |why| Not::Denied(said.to_owned(), port, why);
    let host = session.gate.host(&session.client, said).map_err(denied)?;
    session.client.decide(&host, port).map_err(denied)?;
    let (gate, client) = (Arc::clone(&session.gate), Arc::clone(&session.client));
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<Prefixed>>() else { return };
        // A program that speaks before it was told that it may is not waited for.
        if parts.read_buf.is_empty() {
            let Prefixed { stream, .. } = parts.io.into_inner();
            doors::carry(&gate, &client, stream, &host, port).await;
        }
    });
    let mut response = Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// The port that is left out of a URL.
fn usual_port(protocol: Protocol) -> u16 {
    if protocol == Protocol::Tls { 443 } else { 80 }
}

/// The host that a request means, which every part of it agrees on.
fn target(session: &Session, request: &Request<Incoming>) -> Result<(HostName, u16, Rule, Protocol), Not> {
    let denied = |said: &str, port, why| Not::Denied(said.to_owned(), port, why);
    let hosts: Vec<&HeaderValue> = request.headers().get_all(header::HOST).iter().collect();
    let said = match hosts.as_slice() {
        [host] => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        _ => None,
    };
    let said =
        said.ok_or_else(|| denied("a request", 80, Denied::Request("not exactly one host is named")))?;
    let whole = request.uri().authority();
    match (&session.goes, whole) {
        (Where::Host(host, port, rule, protocol), whole) => {
            for authority in [Some(&said), whole].into_iter().flatten() {
                let (name, its) = split(authority, Some(usual_port(*protocol)))
                    .map_err(|why| denied(host.as_str(), *port, why))?;
                // A program may leave the port out where it is not the usual one: which it is, the connection tells.
                let same_port = its == *port || authority.port().is_none();
                if name.parse().as_ref() != Ok(host) || !same_port {
                    let got = authority.to_string();
                    return Err(denied(host.as_str(), *port, Denied::Host { host: host.to_string(), got }));
                }
            }
            // What was allowed when the connection was made may have been revoked since.
            let allowed =
                session.client.decide(host, *port).map_err(|why| denied(host.as_str(), *port, why))?;
            let rule = allowed.rule(*protocol).cloned().unwrap_or_else(|| rule.clone());
            Ok((host.clone(), *port, rule, *protocol))
        }
        (Where::Named, None) => {
            Err(denied("a request", 80, Denied::Request("a proxy is asked with the whole URL")))
        }
        (Where::Named, Some(authority)) => {
            if request.uri().scheme_str() != Some("http") {
                let why = Denied::Request("only http is asked in the open; for https there is CONNECT");
                return Err(denied(authority.host(), 443, why));
            }
            let (name, port) = split(authority, Some(80)).map_err(|why| denied(authority.host(), 80, why))?;
            let (other, its) = split(&said, Some(80)).map_err(|why| denied(name, port, why))?;
            let client = &session.client;
            let host = session.gate.host(client, name).map_err(|why| denied(name, port, why))?;
            if session.gate.host(client, other).as_ref() != Ok(&host) || its != port {
                let got = said.to_string();
                return Err(denied(name, port, Denied::Host { host: host.to_string(), got }));
            }
            let allowed = client.decide(&host, port).map_err(|why| denied(name, port, why))?;
            let rule = allowed.rule(Protocol::Http).or(allowed.opaque()).cloned();
            let granted = Denied::OtherProtocol { host: host.to_string(), granted: "tls" };
            rule.map(|rule| (host, port, rule, Protocol::Http)).ok_or_else(|| denied(name, port, granted))
        }
    }
}

/// What belongs to one connection and not to a request (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Takes out of a message what belongs to the connection that it came on.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

async fn forward(session: &Arc<Session>, mut request: Request<Incoming>) -> Result<Response<Body>, Not> {
    let (host, port, rule, protocol) = target(session, &request)?;
    let bad = |why| Not::Denied(host.to_string(), port, Denied::Request(why));
    if request.headers().contains_key(header::UPGRADE) {
        return Err(bad("another protocol is asked for; tcp://HOST:PORT grants a connection unread"));
    }
    if request.version() != Version::HTTP_11 {
        return Err(bad("it is not HTTP/1.1"));
    }
    strip(request.headers_mut());
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let inspected = protocol == Protocol::Tls;
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let rights = session.client.rights();
    let places = inject::places(&rights.credentials, &host, inspected, path.as_str(), request.headers())
        .map_err(|why| Not::Denied(host.to_string(), port, why))?;
    *request.uri_mut() = Uri::from(path);
    let named = if port == usual_port(protocol) { host.to_string() } else { format!("{host}:{port}") };
    let named = HeaderValue::from_str(&named).map_err(|_| bad("its host cannot be written"))?;
    request.headers_mut().insert(header::HOST, named);
    let mut upstream = session.upstream.lock().await;
    let again = upstream.take().filter(|up| {
        let still =
            up.passage.flow.rights.borrow().still(&up.passage.flow.rule, crate::gate::now_ms()).is_ok();
        up.host == host && up.port == port && up.passage.flow.rule == rule && !up.sender.is_closed() && still
    });
    let mut up = match again {
        Some(up) => up,
        None => open(session, &host, port, &rule, protocol).await?,
    };
    let mut using = Using::default();
    if inspected {
        using.put_all(session, &up, &places, &mut request).await?;
    }
    let sent = match up.sender.ready().await {
        Ok(()) => up.sender.send_request(request).await,
        Err(error) => Err(error),
    };
    let response = sent.map_err(|error| Not::Failed(format!("{host}:{port} gave no answer: {error}")))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Not::Failed(format!("{host}:{port} changed the protocol without being asked")));
    }
    using.answered(response.status());
    let response =
        if inspected { scrubbed(response, using.scrub, &host)? } else { response.map(BodyExt::boxed) };
    *upstream = Some(up);
    Ok(passed_on(response))
}

fn passed_on(mut response: Response<Body>) -> Response<Body> {
    strip(response.headers_mut());
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    response
}

/// The secrets of one request.
#[derive(Default)]
struct Using {
    uses: Vec<SecretUse>,
    scrub: Scrub,
}

impl Using {
    /// Puts every secret of a request in its place.
    async fn put_all(
        &mut self,
        session: &Session,
        up: &Upstream,
        places: &[Place],
        request: &mut Request<Incoming>,
    ) -> Result<(), Not> {
        let denied = |why| Not::Denied(up.host.to_string(), up.port, why);
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        let connection = up.passage.intent;
        let what = UsedFor { host: &up.host, port: up.port, method: &method, path: &path, connection };
        for place in places {
            let taken = session.gate.use_secret(&session.client, &place.secret, &what).await;
            let (mut used, value) = taken.map_err(|not| match not {
                NotPassed::Denied(why) => denied(why),
                NotPassed::Failed(why) => Not::Failed(why),
            })?;
            if let Err(why) = place.put(request.headers_mut(), &value) {
                used.became(json!({"done": false, "why": why}));
                let (secret, host) = (place.secret.to_string(), up.host.to_string());
                return Err(denied(Denied::NoSecret { secret, host, why }));
            }
            self.scrub.add(&value);
            self.uses.push(used);
        }
        // An answer is read on its way back: all of it, and as it is.
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !places.is_empty() {
            headers.remove(header::RANGE);
            headers.remove(header::IF_RANGE);
        }
        Ok(())
    }

    /// Says that a host answered.
    fn answered(&mut self, status: StatusCode) {
        for used in &mut self.uses {
            used.became(json!({"done": true, "status": status.as_u16()}));
        }
    }
}

/// An answer without the secrets that the request had.
fn scrubbed(response: Response<Incoming>, scrub: Scrub, host: &HostName) -> Result<Response<Body>, Not> {
    let (mut parts, body) = response.into_parts();
    let other = |name: HeaderName, plain: &str| {
        parts
            .headers
            .get_all(name)
            .iter()
            .any(|value| !value.as_bytes().eq_ignore_ascii_case(plain.as_bytes()))
    };
    if other(header::CONTENT_ENCODING, "identity") || other(header::TRANSFER_ENCODING, "chunked") {
        return Err(Not::Failed(format!("{host} encodes its answer although it was asked not to")));
    }
    // The reason after the status is a host's own words too.
    parts.extensions.clear();
    for value in parts.headers.values_mut() {
        let shown = scrub.whole(value.as_bytes());
        if shown != value.as_bytes() {
            *value = HeaderValue::from_bytes(&shown).map_err(|error| Not::Failed(error.to_string()))?;
        }
    }
    Ok(Response::from_parts(parts, Scrubbed { inner: body, scrub, over: false }.boxed()))
}

/// A body from which secrets are taken out on the way. What comes after the body is not passed on.
struct Scrubbed {
    inner: Incoming,
    scrub: Scrub,
    over: bool,
}

impl hyper::body::Body for Scrubbed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while !self.over {
            let goes = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame.into_data().map(|data| self.scrub.push(&data)).unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.over = true;
                    self.scrub.end()
                }
            };
            if !goes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(goes.into()))));
            }
        }
        Poll::Ready(None)
    }
}

/// Makes a connection to a host for requests.
async fn open(
    session: &Arc<Session>,
    host: &HostName,
    port: u16,
    rule: &Rule,
    protocol: Protocol,
) -> Result<Upstream, Not> {
    let passed = session.gate.pass(&session.client, host, port, protocol.name(), rule).await;
    let mut passage = passed.map_err(|not| match not {
        NotPassed::Denied(why) => Not::Denied(host.to_string(), port, why),
        NotPassed::Failed(why) => Not::Failed(why),
    })?;
    let stream = passage.stream.take().ok_or_else(|| Not::Failed("the connection is gone".into()))?;
    let passage = Arc::new(passage);
    let metered = Metered::new(stream, Arc::clone(&passage.flow));
    let sender = if protocol == Protocol::Tls {
        let failed = |why: String| {
            passage.ended(format!("failed: {why}"));
            Not::Failed(format!("{host}:{port}: {why}"))
        };
        let name = ServerName::try_from(host.to_string()).map_err(|error| failed(error.to_string()))?;
        let connecting = session.gate.tls.connect(name, metered);
        let connected = tokio::select! {
            biased;
            why = passage.flow.cut() => return Err(failed(why.to_string())),
            connected = tokio::time::timeout(HEAD_WITHIN, connecting) => connected,
        };
        let stream = connected.map_err(|_| failed("no TLS within the time for it".into()))?;
        converse(stream.map_err(|error| failed(format!("TLS: {error}")))?, &passage).await?
    } else {
        converse(metered, &passage).await?
    };
    Ok(Upstream { host: host.clone(), port, sender, passage })
}

/// Begins to speak HTTP to a host, for as long as the rule for it stands.
async fn converse<S>(stream: S, passage: &Arc<Passage>) -> Result<SendRequest<Incoming>, Not>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Not::Failed(error.to_string()))?;
    let held = Arc::clone(passage);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            why = held.flow.cut() => held.ended(format!("cut: {why}")),
            ended = connection => match ended {
                Ok(()) => held.ended("closed"),
                Err(error) => held.ended(format!("failed: {error}")),
            },
        }
    });
    Ok(sender)
}
