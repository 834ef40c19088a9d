//! What was counted goes to a collector that the operator names: OTLP over HTTP, in JSON, once a minute.

use crate::metrics::otlp::Span;
use crate::router::Router;
use crate::upstream::{Endpoint, NoAnswer, NoEndpoint};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};
use octant_sys::clock;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often it is told, and how long it has to take that.
const EVERY: Duration = Duration::from_secs(60);
const WITHIN: Duration = Duration::from_secs(10);
/// How many bytes of its answer are read.
const ANSWER_MAX: usize = 64 << 10;
/// Where collectors take metrics, behind their address.
const PATH: &str = "/v1/metrics";

/// Why a collector has not taken everything.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error(transparent)]
    Way(#[from] NoAnswer),
    #[error("nothing came within {WITHIN:?}")]
    Late,
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("it has taken a part of it: {0:?}")]
    Part(String),
}

/// A collector.
#[derive(Debug)]
pub(crate) struct Collector {
    endpoint: Endpoint,
    /// Since when is counted, by the clock of the wall.
    since_ns: u64,
    instance: String,
}

impl Collector {
    /// The one at this address, as OpenTelemetry's own settings have it: without the path of its method.
    pub(crate) fn new(address: &str, instance: String) -> Result<Self, NoEndpoint> {
        Ok(Self { endpoint: Endpoint::parse(address, false)?, since_ns: clock::wall_ns(), instance })
    }

    /// Tells it everything since the start.
    pub(crate) async fn push(&self, router: &Router) -> Result<(), NotTaken> {
        let span = Span { since_ns: self.since_ns, until_ns: clock::wall_ns() };
        let body = router.metrics.otlp(&self.instance, span).to_string();
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = Method::POST;
        parts.uri = hyper::Uri::from_static(PATH);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.endpoint.aim(&mut parts)?;
        let request = Request::from_parts(parts, Full::new(Bytes::from(body)));
        let asking = async {
            let answer = router.upstreams.send(&self.endpoint, request).await?;
            let body = answer.body.whole(ANSWER_MAX).await?;
            Ok::<_, NoAnswer>((answer.head.status, body))
        };
        let (status, body) = timeout(WITHIN, asking).await.map_err(|_| NotTaken::Late)??;
        if !status.is_success() {
            return Err(NotTaken::Status(status.as_u16()));
        }
        // Whoever takes all of it may say nothing.
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        match said["partialSuccess"]["errorMessage"].as_str() {
            Some(why) if !why.is_empty() => Err(NotTaken::Part(why.chars().take(200).collect())),
            _ => Ok(()),
        }
    }

    /// Tells it for as long as the router runs; what does not go well is logged when it begins and when it ends.
    pub(crate) async fn run(self, router: Arc<Router>) {
        let (mut well, host) = (true, &self.endpoint.host);
        loop {
            sleep(EVERY).await;
            let taken = self.push(&router).await;
            match &taken {
                Err(why) if well => {
                    tracing::warn!("the collector at {host} does not take what was counted: {why}")
                }
                Ok(()) if !well => tracing::info!("the collector at {host} takes what was counted again"),
                _ => {}
            }
            well = taken.is_ok();
        }
    }
}
