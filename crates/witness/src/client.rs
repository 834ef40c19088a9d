//! One request to a witness.

use crate::address::{To, Url};
use crate::server::Stream;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use octant_tlog::witness::TEXT_TYPE;
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// The longest answer, in bytes: some signature lines.
const ANSWER_MAX: usize = 16 << 10;
/// The longest header of an answer, in bytes.
const HEADER_MAX: usize = 16 << 10;

/// Why a witness gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("cannot connect to {url}: {source}")]
    Connect {
        /// The witness's URL.
        url: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It does not speak HTTP, or broke off.
    #[error("{url}: the request failed: {why}")]
    Http {
        /// The witness's URL.
        url: String,
        /// What happened.
        why: String,
    },
    /// Its answer is longer than any right one.
    #[error("{url}: the answer has more than {ANSWER_MAX} bytes")]
    TooLong {
        /// The witness's URL.
        url: String,
    },
    /// It took too long.
    #[error("{url}: no answer within {ms} ms")]
    Late {
        /// The witness's URL.
        url: String,
        /// How long was waited, in milliseconds.
        ms: u128,
    },
}

/// An answer, nothing of it checked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// A connection to a witness; all requests about one checkpoint go over the same.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    url: &'a Url,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    /// How long one step may take.
    patience: Duration,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<'a> Connection<'a> {
    pub(crate) async fn open(url: &'a Url, patience: Duration) -> Result<Self, ClientError> {
        let connecting = async {
            let stream = connect(&url.to)
                .await
                .map_err(|source| ClientError::Connect { url: url.to_string(), source })?;
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(HEADER_MAX)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| ClientError::Http { url: url.to_string(), why: error.to_string() })?;
            // How it ends is seen by the request that waits for an answer.
            let driver = tokio::spawn(async move { drop(connection.await) });
            Ok(Self { url, sender, driver, patience })
        };
        timely(url, patience, connecting).await
    }

    /// Posts one `add-checkpoint` request.
    pub(crate) async fn add_checkpoint(&mut self, body: String) -> Result<Answer, ClientError> {
        let (url, patience) = (self.url, self.patience);
        timely(url, patience, self.post(body)).await
    }

    async fn post(&mut self, body: String) -> Result<Answer, ClientError> {
        let url = self.url;
        let failed = |why: String| ClientError::Http { url: url.to_string(), why };
        let request = Request::post(format!("{}/add-checkpoint", url.prefix))
            .header(HOST, &url.host)
            .header(USER_AGENT, "octant")
            .header(CONTENT_TYPE, TEXT_TYPE)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(error.to_string()))?;
        self.sender.ready().await.map_err(|error| failed(error.to_string()))?;
        let response = self.sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        match body {
            Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(ClientError::TooLong { url: url.to_string() })
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

async fn timely<T>(
    url: &Url,
    within: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let late = |_| ClientError::Late { url: url.to_string(), ms: within.as_millis() };
    tokio::time::timeout(within, work).await.map_err(late)?
}

async fn connect(to: &To) -> io::Result<Box<dyn Stream>> {
    match to {
        To::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        To::Tcp(addresses) => {
            let stream = TcpStream::connect(addresses.as_slice()).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}
