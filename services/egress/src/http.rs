//! Plain HTTP: every request is read whole in its head, decided for the host that it names, and written anew, so that no
//! two readers of the same bytes can disagree about where one request ends.

use crate::core::{Denied, Rule};
use crate::doors;
use crate::flow::Metered;
use crate::gate::{Client, Gate, NotPassed, Passage};
use crate::inject;
use crate::message::{Body, HEAD_MAX, HEAD_WITHIN, HEADERS_MAX, code_of, passed_on, say, split, strip};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Uri};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use octant_manifest::{HostName, Protocol};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The port that is left out of a URL.
const USUAL_PORT: u16 = 80;
/// How HTTP/2 begins without TLS (RFC 9113 section 3.4). No method has this name.
const HTTP2: &[u8] = b"PRI ";

/// Where the requests of one connection go.
enum Where {
    /// To the host whose address it was made to.
    Host(HostName, u16, Rule),
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
    stream: TcpStream,
    host: HostName,
    port: u16,
    rule: Rule,
) {
    serve(gate, client, stream, Where::Host(host, port, rule)).await;
}

/// Serves a connection to the proxy.
pub(crate) async fn proxy(gate: Arc<Gate>, client: Arc<Client>, stream: TcpStream) {
    serve(&gate, &client, stream, Where::Named).await;
}

async fn serve(gate: &Arc<Gate>, client: &Arc<Client>, stream: TcpStream, goes: Where) {
    let Some(stream) = not_http2(gate, client, stream, &goes).await else { return };
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

/// Refuses what begins as HTTP/2: here no request says so in a way that this gate reads.
async fn not_http2(gate: &Gate, client: &Client, mut stream: TcpStream, goes: &Where) -> Option<TcpStream> {
    let mut first = [0; HTTP2.len()];
    let count = timeout(HEAD_WITHIN, stream.peek(&mut first)).await.ok()?.ok()?;
    if first[..count] != *HTTP2 {
        return Some(stream);
    }
    let why = Denied::Request("HTTP/2 is spoken in TLS alone".into());
    let (host, port) = match goes {
        Where::Host(host, port, _) => (host.as_str(), *port),
        Where::Named => ("the proxy", USUAL_PORT),
    };
    gate.denied(client, host, port, &why);
    let text = format!("octant: {why}; {}\n", why.next(client.aid, host, port));
    let head = "HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Type: text/plain";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    // Who does not read it sees the end all the same.
    let _ = timeout(HEAD_WITHIN, stream.write_all(answer.as_bytes())).await;
    None
}

/// Why a request has no answer of a host.
enum Not {
    Denied(String, u16, Denied),
    Failed(String),
}

async fn answer(session: &Arc<Session>, request: Request<Incoming>) -> Response<Body> {
    let tunnels = request.method() == Method::CONNECT;
    let answered = if tunnels { tunnel(session, request) } else { forward(session, request).await };
    match answered {
        Ok(response) => response,
        Err(Not::Denied(host, port, why)) => {
            session.gate.denied(&session.client, &host, port, &why);
            let next = why.next(session.client.aid, &host, port);
            let mut response = refusal(code_of(&why), &format!("octant: {why}; {next}\n"));
            // Of what a proxy says to CONNECT clients show the first line alone.
            if let (true, Ok(reason)) = (tunnels, ReasonPhrase::try_from(format!("octant: {why}"))) {
                response.extensions_mut().insert(reason);
            }
            response
        }
        Err(Not::Failed(why)) => refusal(StatusCode::BAD_GATEWAY, &format!("octant: {why}\n")),
    }
}

fn refusal(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = say(code, text);
    // Nothing that comes after a refusal is read.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Hands the connection over to a host, once the program has been told that it may.
fn tunnel(session: &Arc<Session>, mut request: Request<Incoming>) -> Result<Response<Body>, Not> {
    let refused = |why| Not::Denied("a tunnel".to_owned(), 0, why);
    if !matches!(session.goes, Where::Named) {
        return Err(refused(Denied::Request("CONNECT is for a proxy".into())));
    }
    let authority = request.uri().authority().cloned();
    let authority = authority.ok_or_else(|| refused(Denied::Request("CONNECT names no host".into())))?;
    let (said, port) = split(&authority, None).map_err(refused)?;
    let denied = |why| Not::Denied(said.to_owned(), port, why);
    let host = session.gate.host(&session.client, said).map_err(denied)?;
    session.client.decide(&host, port).map_err(denied)?;
    let (gate, client) = (Arc::clone(&session.gate), Arc::clone(&session.client));
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        // A program that speaks before it was told that it may is not waited for.
        if parts.read_buf.is_empty() {
            doors::carry(&gate, &client, parts.io.into_inner(), &host, port).await;
        }
    });
    let mut response = Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// The host that a request means, which every part of it agrees on.
fn target(session: &Session, request: &Request<Incoming>) -> Result<(HostName, u16, Rule), Not> {
    let denied = |said: &str, port, why| Not::Denied(said.to_owned(), port, why);
    let hosts: Vec<&HeaderValue> = request.headers().get_all(header::HOST).iter().collect();
    let said = match hosts.as_slice() {
        [host] => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        _ => None,
    };
    let said =
        said.ok_or_else(|| denied("a request", 80, Denied::Request("not exactly one host is named".into())))?;
    let whole = request.uri().authority();
    match (&session.goes, whole) {
        (Where::Host(host, port, rule), whole) => {
            for authority in [Some(&said), whole].into_iter().flatten() {
                let (name, its) =
                    split(authority, Some(USUAL_PORT)).map_err(|why| denied(host.as_str(), *port, why))?;
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
            let rule = allowed.rule(Protocol::Http).cloned().unwrap_or_else(|| rule.clone());
            Ok((host.clone(), *port, rule))
        }
        (Where::Named, None) => {
            Err(denied("a request", 80, Denied::Request("a proxy is asked with the whole URL".into())))
        }
        (Where::Named, Some(authority)) => {
            if request.uri().scheme_str() != Some("http") {
                let why =
                    Denied::Request("only http is asked in the open; for https there is CONNECT".into());
                return Err(denied(authority.host(), 443, why));
            }
            let (name, port) =
                split(authority, Some(USUAL_PORT)).map_err(|why| denied(authority.host(), 80, why))?;
            let (other, its) = split(&said, Some(USUAL_PORT)).map_err(|why| denied(name, port, why))?;
            let client = &session.client;
            let host = session.gate.host(client, name).map_err(|why| denied(name, port, why))?;
            if session.gate.host(client, other).as_ref() != Ok(&host) || its != port {
                let got = said.to_string();
                return Err(denied(name, port, Denied::Host { host: host.to_string(), got }));
            }
            let allowed = client.decide(&host, port).map_err(|why| denied(name, port, why))?;
            let rule = allowed.rule(Protocol::Http).or(allowed.opaque()).cloned();
            let granted = Denied::OtherProtocol { host: host.to_string(), granted: "tls" };
            rule.map(|rule| (host, port, rule)).ok_or_else(|| denied(name, port, granted))
        }
    }
}

async fn forward(session: &Arc<Session>, mut request: Request<Incoming>) -> Result<Response<Body>, Not> {
    let (host, port, rule) = target(session, &request)?;
    let bad = |why: &'static str| Not::Denied(host.to_string(), port, Denied::Request(why.into()));
    // Who offers HTTP/2 beside goes on without it (RFC 9110 section 7.8); any other protocol is meant.
    if request.headers().get_all(header::UPGRADE).iter().any(|to| to != "h2c") {
        return Err(bad("another protocol is asked for; tcp://HOST:PORT grants a connection unread"));
    }
    if request.version() != Version::HTTP_11 {
        return Err(bad("it is not HTTP/1.1"));
    }
    strip(request.headers_mut());
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    // Here no secret is put anywhere.
    if inject::is_canary(path.as_str(), request.headers()) {
        return Err(Not::Denied(host.to_string(), port, Denied::Canary(host.to_string())));
    }
    *request.uri_mut() = Uri::from(path);
    let named = if port == USUAL_PORT { host.to_string() } else { format!("{host}:{port}") };
    let named = HeaderValue::from_str(&named).map_err(|_| bad("its host cannot be written"))?;
    request.headers_mut().insert(header::HOST, named);
    let mut upstream = session.upstream.lock().await;
    let again = upstream.take().filter(|up| {
        let still =
            up.passage.flow.rights.borrow().still(&up.passage.flow.rule, crate::gate::now_ms()).is_ok();
        up.host == host && up.port == port && up.passage.flow.rule == rule && !up.sender.is_closed() && still
    });
    let mut up = match again {
        Some(up) => {
            let taken = session.client.take_request().await;
            taken.map_err(|why| Not::Denied(host.to_string(), port, why))?;
            up
        }
        None => open(session, &host, port, &rule).await?,
    };
    let sent = match up.sender.ready().await {
        Ok(()) => up.sender.send_request(request).await,
        Err(error) => Err(error),
    };
    let response = sent.map_err(|error| Not::Failed(format!("{host}:{port} gave no answer: {error}")))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Not::Failed(format!("{host}:{port} changed the protocol without being asked")));
    }
    *upstream = Some(up);
    Ok(passed_on(response.map(BodyExt::boxed)))
}

/// Makes a connection to a host for requests, which lasts as long as the rule for it stands.
async fn open(session: &Arc<Session>, host: &HostName, port: u16, rule: &Rule) -> Result<Upstream, Not> {
    let passed = session.gate.pass(&session.client, host, port, Protocol::Http.name(), rule).await;
    let mut passage = passed.map_err(|not| match not {
        NotPassed::Denied(why) => Not::Denied(host.to_string(), port, why),
        NotPassed::Failed(why) => Not::Failed(why),
    })?;
    let stream = passage.stream.take().ok_or_else(|| Not::Failed("the connection is gone".into()))?;
    let passage = Arc::new(passage);
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(Metered::new(stream, Arc::clone(&passage.flow))))
        .await
        .map_err(|error| Not::Failed(error.to_string()))?;
    let held = Arc::clone(&passage);
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
    Ok(Upstream { host: host.clone(), port, sender, passage })
}
