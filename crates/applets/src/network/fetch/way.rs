//! The way to a server: its addresses, a connection, TLS.

use super::super::options::Options;
use super::super::{Failed, failed};
use super::url::Url;
use super::{CONNECT_S, USAGE};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use octant_net::names::{Names, Want};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// curl's exit codes.
const RESOLVE: i32 = 6;
const CONNECT: i32 = 7;
const TLS: i32 = 35;
const CERTIFICATE: i32 = 60;
const AUTHORITIES: i32 = 77;

/// The same for every server.
pub(super) struct Way {
    names: Names,
    want: Want,
    connect: Duration,
    /// Read when the first server needs it.
    authorities: Option<String>,
}

impl Way {
    pub(super) fn new(options: &Options) -> Result<Self, Failed> {
        let want = match (options.has('4'), options.has('6')) {
            (true, false) => Want::V4,
            (false, true) => Want::V6,
            _ => Want::Any,
        };
        let connect = options.number('c', CONNECT_S).map_err(|why| failed(USAGE, why))?.max(1);
        // An agent's gate has an authority of its own for hosts at which it uses a secret, and says so there.
        let authorities =
            options.value('a').map(str::to_owned).or_else(|| std::env::var("SSL_CERT_FILE").ok());
        let authorities = authorities.filter(|path| !path.is_empty());
        Ok(Self { names: Names::system(), want, connect: Duration::from_secs(connect), authorities })
    }

    /// A connection on which one request can be sent.
    pub(super) async fn open(&self, url: &Url) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let found = self.names.addresses(&url.host, self.want).map_err(|error| failed(RESOLVE, error))?;
        let mut last = failed(CONNECT, format_args!("{} has no address", url.host));
        for ip in found {
            let at = SocketAddr::from((ip, url.port));
            match tokio::time::timeout(self.connect, TcpStream::connect(at)).await {
                Err(_) => {
                    last = failed(
                        super::TIME,
                        format_args!("{at}: no connection within {} s", self.connect.as_secs()),
                    )
                }
                Ok(Err(error)) => last = failed(CONNECT, format_args!("{at}: {error}")),
                Ok(Ok(stream)) if url.secure => return self.secured(url, stream).await,
                Ok(Ok(stream)) => return begun(stream).await,
            }
        }
        Err(last)
    }

    async fn secured(&self, url: &Url, stream: TcpStream) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(TLS, error))?
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        let name = ServerName::try_from(url.host.clone())
            .map_err(|error| failed(TLS, format_args!("{}: {error}", url.host)))?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        match tokio::time::timeout(self.connect, connecting).await {
            Err(_) => Err(failed(
                super::TIME,
                format_args!("{}: no TLS within {} s", url.host, self.connect.as_secs()),
            )),
            Ok(Ok(stream)) => begun(stream).await,
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let code = if matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
                    CERTIFICATE
                } else {
                    TLS
                };
                Err(failed(code, format_args!("{}: {error}", url.host)))
            }
        }
    }

    fn roots(&self) -> Result<RootCertStore, Failed> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.authorities else {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
            return Ok(roots);
        };
        let wrong = |why: &dyn std::fmt::Display| failed(AUTHORITIES, format_args!("{path}: {why}"));
        let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(roots) }
    }
}

async fn begun(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failed> {
    let begun = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|error| failed(CONNECT, format_args!("HTTP: {error}")))?;
    // How it ends is seen in the answer.
    drop(tokio::spawn(connection));
    Ok(sender)
}
