//! One deployment is asked: with its key, in its dialect. Who tries again, and whom else, is not decided here.

use crate::aws::AwsKey;
use crate::router::{Router, Setup};
use crate::scrub::Scrub;
use crate::secrets::Coming;
use crate::upstream::{Answer, NoAnswer};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use octant_ids::SecretName;
use octant_llm::{Failure, Kind};
use octant_route::{Auth, Deployment, Health};
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How many bytes of a failure are read.
const FAILURE_MAX: usize = 64 << 10;

/// An upstream that has begun to answer.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) answer: Answer,
    /// Takes the key out of what it says.
    pub(crate) scrub: Scrub,
}

impl Spoken {
    /// Whether it answers in one piece though a stream was asked for.
    pub(crate) fn is_json(&self) -> bool {
        let kind = self.answer.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"))
    }
}

/// What is sent to it.
pub(crate) struct Sending<'a> {
    /// Which deployment.
    pub(crate) index: usize,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    /// What a program of the same dialect says besides.
    pub(crate) hints: Option<&'a HeaderMap>,
    /// How long it has until it begins to answer.
    pub(crate) within: Duration,
    /// Its key, where that is on its way already.
    pub(crate) key: Option<Coming>,
}

/// Why a deployment did not answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// It was not asked, since the vault does not give its key now: nobody has refused that key.
    NoKey(Failure),
    /// It could not be asked, or said that it does not answer.
    Failed(Failure),
    /// It was asked, and what it has done since nobody knows.
    Lost(Failure),
}

impl Silence {
    pub(crate) fn failure(&self) -> &Failure {
        let (Self::NoKey(failure) | Self::Failed(failure) | Self::Lost(failure)) = self;
        failure
    }

    /// The call came to nothing because of this.
    pub(crate) fn ends(&self, call: octant_route::Call, health: &mut Health) {
        let now = crate::router::now_ms();
        match self {
            Self::NoKey(_) => health.without_key(call, now),
            Self::Failed(failure) | Self::Lost(failure) => health.failed(call, failure, now),
        }
    }
}

impl From<NoAnswer> for Silence {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Refused(_) | NoAnswer::Unreachable(_) => Self::Failed(failure_of(error)),
            NoAnswer::Late(_) | NoAnswer::Lost(_) => Self::Lost(failure_of(error)),
        }
    }
}

impl From<Failure> for Silence {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What went wrong on the way, in words for a program.
pub(crate) fn failure_of(error: NoAnswer) -> Failure {
    match error {
        NoAnswer::Refused(why) => {
            Failure::new(Kind::Unreachable, format!("{why}; see octant.toml and router.toml"))
        }
        NoAnswer::Unreachable(why) => {
            Failure::new(Kind::Unreachable, format!("the upstream cannot be reached: {why}"))
        }
        NoAnswer::Late(why) => Failure::new(Kind::Timeout, format!("the upstream took too long: {why}")),
        NoAnswer::Lost(why) => Failure::new(Kind::Cut, format!("the upstream's answer broke off: {why}")),
    }
}

/// Asks. What the upstream says of its limits is noted.
pub(crate) async fn ask(
    router: &Router,
    setup: &Setup,
    sending: Sending<'_>,
    call: &octant_route::Call,
) -> Result<Spoken, Silence> {
    let Sending { index, path, body, hints, within, key } = sending;
    let (deployment, endpoint) = (&setup.catalogue.deployments[index], &setup.endpoints[index]);
    let mut parts = head(deployment, path, hints)?;
    endpoint.aim(&mut parts).map_err(failure_of)?;
    let body = Bytes::from(body);
    let scrub = match &deployment.key {
        None => Scrub::new(b""),
        Some(name) => {
            let key = key.unwrap_or_else(|| router.keys.key(name, &endpoint.host)).await;
            let key = key.map_err(|why| Silence::NoKey(Failure::new(Kind::Unauthenticated, why)))?;
            show(deployment, &mut parts, &body, (name, &key))?
        }
    };
    let request = Request::from_parts(parts, Full::new(body));
    let sent = timeout(within, router.upstreams.send(endpoint, request)).await;
    let late = || NoAnswer::Late(format!("nothing came within {within:?}"));
    let answer = sent.unwrap_or_else(|_| Err(late()))?;
    note(setup, call, &answer.head.headers);
    if answer.head.status.is_success() {
        return Ok(Spoken { answer, scrub });
    }
    Err(refused(deployment, answer, scrub).await.into())
}

/// What stands before the body, but for the host and the key.
fn head(deployment: &Deployment, path: String, hints: Option<&HeaderMap>) -> Result<Parts, Failure> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::POST;
    parts.uri = path.parse().map_err(|_| invalid(deployment, "the path of its method"))?;
    let headers = &mut parts.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .insert(header::USER_AGENT, HeaderValue::from_static(concat!("octant/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &deployment.provider.headers {
        headers.insert(header_name(deployment, name)?, header_value(deployment, value.as_bytes())?);
    }
    for (name, value) in hints.into_iter().flatten() {
        headers.insert(name, value.clone());
    }
    Ok(parts)
}

/// Shows the key as the provider wants it; gives what takes it out of the answer again.
fn show(
    deployment: &Deployment,
    parts: &mut Parts,
    body: &[u8],
    (name, key): (&SecretName, &[u8]),
) -> Result<Scrub, Failure> {
    let key = key.trim_ascii();
    let (header, value) = match &deployment.provider.auth {
        Auth::Bearer => (header::AUTHORIZATION, Zeroizing::new([b"Bearer ", key].concat())),
        Auth::Header(name) => (header_name(deployment, name)?, Zeroizing::new(key.to_vec())),
        Auth::SigV4 => {
            let key = AwsKey::read(key).map_err(|why| {
                let words = format!(
                    "the secret {name} is no key of AWS: {why}; octant vault rotate {name} --from FILE"
                );
                Failure::new(Kind::Unauthenticated, words)
            })?;
            let region = deployment.region.as_deref().ok_or_else(|| invalid(deployment, "its region"))?;
            let signed = key.sign(parts, body, region, octant_sys::clock::wall_ms());
            signed.map_err(|why| {
                Failure::new(
                    Kind::NotFound,
                    format!("deployment {}: it is not signed: {why}", deployment.name),
                )
            })?;
            return Ok(Scrub::new(key.token()));
        }
        Auth::None => return Err(invalid(deployment, "how it wants its key")),
    };
    let mut value = header_value(deployment, &value)?;
    value.set_sensitive(true);
    parts.headers.insert(header, value);
    Ok(Scrub::new(key))
}

/// Notes what an upstream says of its limits.
fn note(setup: &Setup, call: &octant_route::Call, headers: &HeaderMap) {
    let texts = texts(headers);
    let (now, wall) = (crate::router::now_ms(), octant_sys::clock::wall_ms());
    crate::agents::lock(&setup.health).headers(call, &texts, now, wall);
}

fn texts(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

/// What an upstream says that does not answer, without its key.
async fn refused(deployment: &Deployment, answer: Answer, mut scrub: Scrub) -> Failure {
    let Answer { head, body } = answer;
    // What is longer, or breaks off, says what its status says.
    let body = body.whole(FAILURE_MAX).await.unwrap_or_default();
    let body = scrub.whole(&body);
    let mut failure =
        deployment.provider.dialect.read_failure(head.status.as_u16(), &texts(&head.headers), &body);
    // A redirection would lead to a host that nobody has named.
    if head.status.is_redirection() {
        failure =
            Failure::new(Kind::Malformed, format!("{} redirects; write its own address", deployment.name));
    }
    failure
}

fn invalid(deployment: &Deployment, what: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("deployment {}: {what} is nothing that can be sent", deployment.name),
    )
}

fn header_name(deployment: &Deployment, name: &str) -> Result<HeaderName, Failure> {
    name.parse().map_err(|_| invalid(deployment, "the name of a header"))
}

fn header_value(deployment: &Deployment, value: &[u8]) -> Result<HeaderValue, Failure> {
    // The words of the error would be the key's.
    HeaderValue::from_bytes(value).map_err(|_| invalid(deployment, "its key, or another header's value,"))
}
