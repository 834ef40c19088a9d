//! The connection to the host, as a worker has it: a socket to the gate, which passes bytes on, and TLS in it.

use super::ahead::{Ahead, Filled};
use super::asking::Asking;
use super::inspect::Not;
use crate::message::{Body, HEAD_MAX, HEAD_WITHIN, HEADERS_MAX};
use crate::said::{Said, What};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use octant_manifest::HostName;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Version {
    /// Its name in TLS (RFC 7301).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    /// What a program offers that is spoken here, the newest first; who offers nothing speaks HTTP/1.1.
    pub(crate) fn offered<'a>(names: Option<impl Iterator<Item = &'a [u8]>>) -> Vec<Self> {
        let names: Vec<&[u8]> = names.into_iter().flatten().collect();
        let offered: Vec<Self> = [Self::Http2, Self::Http1]
            .into_iter()
            .filter(|version| names.contains(&version.alpn()))
            .collect();
        if offered.is_empty() { vec![Self::Http1] } else { offered }
    }
}

pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// The connection; it ends when this is dropped.
pub(crate) struct Upstream {
    pub(crate) sender: Sender,
    /// Whether the request that came with the connection is still to be made.
    pub(crate) fresh: bool,
    conversing: AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.conversing.abort();
    }
}

/// A socket that leads to the host.
pub(super) async fn socket(asking: &Asking, host: &HostName) -> Result<UnixStream, Not> {
    let failed = |why: String| Not::Failed(format!("{host}: {why}"));
    let (_, (said, fd)) = asking.ask(What::Open).await.map_err(|error| failed(error.to_string()))?;
    let fd = match (said, fd) {
        (Said::Opened, Some(fd)) => fd,
        (Said::Denied(why), _) => return Err(Not::Denied(why)),
        (Said::Over(why), _) => return Err(Not::Over(why)),
        (Said::Failed(why), _) => return Err(failed(why)),
        _ => return Err(failed("the gate made no connection".into())),
    };
    UnixStream::from_std(StdStream::from(fd)).map_err(|error| failed(error.to_string()))
}

/// TLS on it, with a host that shows that it has this name.
pub(super) async fn secured(
    host: &HostName,
    config: ClientConfig,
    stream: UnixStream,
) -> Result<TlsStream<Ahead<UnixStream>>, Not> {
    let failed = |why: String| Not::Failed(format!("{host}: {why}"));
    let name = ServerName::try_from(host.to_string()).map_err(|error| failed(error.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, Ahead::new(Vec::new(), stream));
    match timeout(HEAD_WITHIN, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(format!("TLS: {error}"))),
        Err(_) => Err(failed("no TLS within the time for it".into())),
    }
}

impl Upstream {
    /// Makes one, on which one of these versions is spoken.
    pub(crate) async fn open(
        asking: &Asking,
        host: &HostName,
        roots: &ClientConfig,
        versions: &[Version],
    ) -> Result<Self, Not> {
        let mut config = roots.clone();
        config.alpn_protocols = versions.iter().map(|version| version.alpn().to_vec()).collect();
        let stream = secured(host, config, socket(asking, host).await?).await?;
        let spoken = if stream.get_ref().1.alpn_protocol() == Some(Version::Http2.alpn()) {
            Version::Http2
        } else {
            Version::Http1
        };
        let stream = TokioIo::new(Filled::new(stream));
        let said = |error: hyper::Error| Not::Failed(format!("{host}: {error}"));
        let (sender, conversing) = match spoken {
            Version::Http1 => {
                let mut builder = http1::Builder::new();
                builder.max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
                let (sender, connection) = builder.handshake(stream).await.map_err(said)?;
                (Sender::Http1(sender), converse(connection))
            }
            Version::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(HEAD_LIST_MAX).max_send_buf_size(HEAD_MAX);
                let (sender, connection) = builder.handshake(stream).await.map_err(said)?;
                (Sender::Http2(sender), converse(connection))
            }
        };
        Ok(Self { sender, fresh: true, conversing })
    }

    pub(crate) fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::Http1,
            Sender::Http2(_) => Version::Http2,
        }
    }

    /// Whether it is over.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// The longest head of HTTP/2.
pub(crate) const HEAD_LIST_MAX: u32 = 64 << 10;

fn converse(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> AbortHandle {
    let conversing = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to a host ended: {error}");
        }
    });
    conversing.abort_handle()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_what_both_know() {
        let of = |names: &[&'static [u8]]| Version::offered(Some(names.iter().copied()));
        assert_eq!(Version::offered(None::<std::iter::Empty<&[u8]>>), [Version::Http1]);
        assert_eq!(of(&[b"http/1.1", b"h2"]), [Version::Http2, Version::Http1]);
        assert_eq!(of(&[b"h2"]), [Version::Http2]);
        assert_eq!(of(&[b"http/1.1", b"h3"]), [Version::Http1]);
        assert_eq!(of(&[b"h3"]), [Version::Http1]);
    }
}
