//! The secrets of one request: put into it, and taken out of its answer.

use super::asking::Asking;
use super::inspect::Not;
use crate::inject::{Misuse, Put};
use crate::message::Body;
use crate::said::{End, Said, What};
use crate::scrub::Scrub;
use crate::secrets::{Value, read};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use octant_ids::{SecretName, Sha256};
use octant_manifest::HostName;
use sha2::Digest as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// How long what may be the begin of a secret waits for what follows it. A program that waits for it in turn goes on then.
const HELD: Duration = Duration::from_millis(20);
/// What gRPC calls the encodings that an answer may have.
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// A secret in use. What became of it is said when this is dropped.
pub(super) struct Used {
    asking: Arc<Asking>,
    of: u64,
    pub(super) end: End,
}

impl Used {
    /// Asks the gate for the value.
    pub(super) async fn ask(
        asking: &Arc<Asking>,
        secret: &SecretName,
        what: What,
    ) -> Result<(Self, Value), Not> {
        let failed = |why: String| Not::Failed(format!("{secret}: {why}"));
        let (of, told) = asking.ask(what).await.map_err(|error| failed(error.to_string()))?;
        let value = match told {
            (Said::Given { bytes }, Some(fd)) => Value { fd, bytes },
            (Said::Denied(why), _) => return Err(Not::Denied(why)),
            (Said::Over(why), _) => return Err(Not::Over(why)),
            (Said::Failed(why), _) => return Err(failed(why)),
            _ => return Err(failed("the gate gave no secret".into())),
        };
        let end = End::Failed("it came to no answer".to_owned());
        Ok((Self { asking: Arc::clone(asking), of, end }, value))
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        let what = What::Became { of: self.of, end: self.end.clone() };
        let asking = Arc::clone(&self.asking);
        tokio::spawn(async move { asking.tell(what).await });
    }
}

#[derive(Default)]
pub(crate) struct Using {
    uses: Vec<Used>,
    scrub: Scrub,
}

impl Using {
    /// Puts every secret of a request in its place.
    pub(crate) async fn put_all(
        &mut self,
        asking: &Arc<Asking>,
        puts: &[Put],
        parts: &mut Parts,
        body: &mut Option<Bytes>,
    ) -> Result<(), Not> {
        // An answer is read on its way back: all of it, and as it is. What is signed is signed with this.
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if parts.headers.contains_key(GRPC_ACCEPT_ENCODING) {
            parts.headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if !puts.is_empty() {
            parts.headers.remove(header::RANGE);
            parts.headers.remove(header::IF_RANGE);
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path_sha256 = Sha256(sha2::Sha256::digest(path.as_bytes()).into());
        for put in puts {
            let (secret, method) = (put.secret.clone(), parts.method.to_string());
            let failed = |why: String| Not::Failed(format!("{}: {why}", put.secret));
            let what = What::Use { secret, method, path_sha256 };
            let (used, value) = Used::ask(asking, &put.secret, what).await?;
            self.uses.push(used);
            let value = read(value).map_err(|error| failed(error.to_string()))?;
            if let Err(why) = put.put(parts, body, &value) {
                if let Some(used) = self.uses.last_mut() {
                    used.end = End::Failed(why.clone());
                }
                return Err(Misuse::Unfit { secret: put.secret.clone(), why }.into());
            }
            self.scrub.add(&value);
        }
        Ok(())
    }

    /// Says that a host answered.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.uses.iter_mut().for_each(|used| used.end = End::Answered(status.as_u16()));
        self.uses.clear();
    }
}

/// Takes secrets out of the values of headers.
fn cover(scrub: &Scrub, headers: &mut HeaderMap) -> Result<(), header::InvalidHeaderValue> {
    for value in headers.values_mut() {
        let shown = scrub.whole(value.as_bytes());
        if shown != value.as_bytes() {
            *value = HeaderValue::from_bytes(&shown)?;
        }
    }
    Ok(())
}

/// An answer without the secrets that the request had.
pub(crate) fn scrubbed(
    response: Response<Incoming>,
    using: Using,
    host: &HostName,
) -> Result<Response<Body>, Not> {
    let (mut parts, body) = response.into_parts();
    let other = |name: HeaderName, plain: &str| {
        let values = parts.headers.get_all(name);
        values.iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(plain.as_bytes()))
    };
    let grpc = HeaderName::from_static("grpc-encoding");
    if other(header::CONTENT_ENCODING, "identity")
        || other(header::TRANSFER_ENCODING, "chunked")
        || other(grpc, "identity")
    {
        return Err(Not::Failed(format!("{host} encodes its answer although it was asked not to")));
    }
    // The reason after the status is a host's own words too.
    parts.extensions.clear();
    cover(&using.scrub, &mut parts.headers).map_err(|error| Not::Failed(error.to_string()))?;
    let body = Scrubbed { inner: body, scrub: using.scrub, trailers: None, over: false, pause: None };
    Ok(Response::from_parts(parts, body.boxed()))
}

/// A body from which secrets are taken out on the way, and what comes after it.
struct Scrubbed {
    inner: Incoming,
    scrub: Scrub,
    trailers: Option<HeaderMap>,
    over: bool,
    /// Until when what is held back waits for more.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Scrubbed {
    /// What was held back for long enough.
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        if !self.scrub.holds_little() {
            return Poll::Pending;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(HELD)));
        std::task::ready!(pause.as_mut().poll(context));
        self.pause = None;
        Poll::Ready(self.scrub.release().into())
    }
}

impl hyper::body::Body for Scrubbed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        while !self.over {
            let Poll::Ready(next) = Pin::new(&mut self.inner).poll_frame(context) else {
                return self.poll_release(context).map(|goes| Some(Ok(Frame::data(goes))));
            };
            self.pause = None;
            let goes = match next {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.scrub.push(data),
                    Err(frame) => {
                        // One whose values cannot be written without the secret is not passed on.
                        let trailers = frame.into_trailers().ok();
                        self.trailers = trailers.and_then(|mut trailers| {
                            cover(&self.scrub, &mut trailers).ok().map(|()| trailers)
                        });
                        continue;
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.over = true;
                    self.scrub.end().into()
                }
            };
            if !goes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(goes))));
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
