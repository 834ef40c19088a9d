//! The witness over HTTP/1.1.

use crate::address::Address;
use crate::witness::{Answer, Witness};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use octant_tlog::witness::REQUEST_MAX;
use octant_wire::Shutdown;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How much peers may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once, over all listeners.
    pub connections: usize,
    /// How long a request's header may take, and how long a connection may be silent between requests.
    pub header: Duration,
    /// How long a request's body may take.
    pub body: Duration,
    /// How long a connection may last, requests or not.
    pub connection: Duration,
    /// How long requests under way have to finish when the witness stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 64 bodies of 1 MiB are what hostile peers can make a witness hold.
            connections: 64,
            header: Duration::from_secs(10),
            body: Duration::from_secs(10),
            // Whoever feeds a log connects again by itself.
            connection: Duration::from_secs(300),
            grace: Duration::from_secs(3),
        }
    }
}

/// The longest header of a request, in bytes: the least that the HTTP library takes.
const HEADER_MAX: usize = 8192;
/// The most fields of it.
const FIELDS_MAX: usize = 32;
/// The only path.
const PATH: &str = "/add-checkpoint";

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Listens at an address. A unix socket that nobody listens at any more is replaced; every user may connect, as
    /// to a TCP port, because a request proves itself.
    ///
    /// # Errors
    /// What bind(2) and listen(2) report.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Address::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// The TCP address that it has.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are one small packet; a stream that cannot be told so is only slower.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Removes a socket that nobody listens at. Anything else at the path stays, and bind(2) says so.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    match StdUnixStream::connect(path) {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// Serves every connection until `stop`, then lets requests under way finish.
///
/// # Errors
/// A listener failed for good; a failing connection never ends it.
pub async fn serve(
    listeners: Vec<Listener>,
    witness: Arc<Witness>,
    limits: Limits,
    stop: Shutdown,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, Arc::clone(&witness), Arc::clone(&places), limits, stop.clone()));
    }
    let mut result = Ok(());
    while let Some(ended) = accepting.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                result = Err(error);
                break;
            }
            Err(error) => {
                result = Err(io::Error::other(error));
                break;
            }
        }
    }
    // Every place free again means that every connection has ended.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.grace, places.acquire_many(all)).await;
    result
}

async fn accept(
    listener: Listener,
    witness: Arc<Witness>,
    places: Arc<Semaphore>,
    limits: Limits,
    stop: Shutdown,
) -> io::Result<()> {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(error) if passes(&error) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
            () = stop.requested() => return Ok(()),
        };
        // Beyond the limit a connection is closed without a word; whoever feeds a log tries again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (witness, stop) = (Arc::clone(&witness), stop.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(limits.connection, connection(stream, witness, limits, stop)).await;
            drop(place);
        });
    }
}

/// Whether accepting can go on after this error: one connection is gone, or the process is short of something.
fn passes(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let passing = [
        Errno::ECONNABORTED,
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOMEM,
        Errno::ENOBUFS,
        Errno::EPERM,
        Errno::EPROTO,
        Errno::ENETDOWN,
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
    ];
    passing.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

async fn connection(stream: Box<dyn Stream>, witness: Arc<Witness>, limits: Limits, stop: Shutdown) {
    let service = service_fn(move |request| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(respond(answer(request, witness, limits).await)) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEADER_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    tokio::select! {
        // How a connection ends is its peer's business.
        _ = serving.as_mut() => return,
        () = stop.requested() => serving.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limits.grace, serving).await;
}

async fn answer(request: Request<Incoming>, witness: Arc<Witness>, limits: Limits) -> Answer {
    if request.uri().path() != PATH || request.uri().query().is_some() {
        return Answer::text(404, format_args!("there is only {PATH} here"));
    }
    if request.method() != Method::POST {
        return Answer::text(405, format_args!("{PATH} takes POST only"));
    }
    let limit = u64::try_from(REQUEST_MAX).unwrap_or(u64::MAX);
    // What says that it is too long need not be sent to find out.
    if request.body().size_hint().lower() > limit {
        return Answer::text(413, format_args!("a request has at most {REQUEST_MAX} bytes"));
    }
    let body = Limited::new(request.into_body(), REQUEST_MAX).collect();
    let body = match tokio::time::timeout(limits.body, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Answer::text(413, format_args!("a request has at most {REQUEST_MAX} bytes"));
        }
        Ok(Err(error)) => return Answer::text(400, format_args!("the body cannot be read: {error}")),
        Err(_) => {
            let ms = limits.body.as_millis();
            return Answer::text(408, format_args!("the body did not come within {ms} ms"));
        }
    };
    // The work goes on when the peer is gone: what was begun is stored or not, as if it had stayed.
    let done = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    done.unwrap_or_else(|error| {
        Answer::text(500, format_args!("the request could not be worked on: {error}"))
    })
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { status, content_type, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status == 405 {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    // The rest of these bodies is not read, so nothing can follow them on the same connection.
    if [408, 413].contains(&status) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(error) => write!(f, "a TCP port ({error})"),
            },
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                write!(f, "unix:{}", path.unwrap_or(Path::new("?")).display())
            }
        }
    }
}
