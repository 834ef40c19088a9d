//! Round trips over the wire: the codec by itself, with server and client in one runtime as the prototype that set
//! the goal was measured, and a real method of a running service, which adds two changes of process.

use crate::instance::Instance;
use crate::table::{Row, Samples, us};
use octant_api::error::ApiError;
use octant_api::ledger::HeadRequest;
use octant_api::rpc::{Deadline, Need};
use octant_sys::clock::monotonic_ns;
use octant_wire::{Call, Client, Identity, Limits, serve, shutdown};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

const CALLS: usize = 20_000;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PingRequest {
    number: u64,
    text: String,
}

mod api {
    use super::{Deadline, Need, PingRequest};
    octant_api::rpc! {
        /// For the bench.
        service "ping" {
            /// Answers with the number after it.
            "ping" => ping, Ping(PingRequest) -> u64,
                needs [Need::Operator], deadline Deadline::Ms(5000), idempotent: true;
        }
    }
}

struct Pong;

impl api::Handler<Call> for Pong {
    async fn ping(&self, request: PingRequest, _call: Call) -> Result<u64, ApiError> {
        Ok(request.number + 1)
    }
}

async fn in_one_runtime(path: &Path) -> Result<Samples, String> {
    let listener = tokio::net::UnixListener::bind(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (trigger, stop) = shutdown();
    let identity = Identity::PeerCredentials { operator: 0 };
    let server =
        tokio::spawn(serve(listener, api::Server(Arc::new(Pong)), identity, Limits::default(), stop));
    let client = Client::new(path);
    let mut samples = Vec::with_capacity(CALLS);
    for number in 0..CALLS as u64 {
        let before = monotonic_ns();
        let answer = client.call(&PingRequest { number, text: "a short text".into() }).await;
        samples.push(monotonic_ns() - before);
        if answer.map_err(|e| format!("ping: {e}"))? != number + 1 {
            return Err("ping: a wrong answer".into());
        }
    }
    drop((client, trigger));
    server.await.map_err(|e| e.to_string())?.map_err(|e| format!("the server: {e}"))?;
    Ok(Samples::new(samples))
}

fn between_processes(instance: &Instance) -> Result<Samples, String> {
    let failed = |e| format!("ledger.head: {e}");
    let mut client = octant_wire::blocking::Client::connect(&instance.socket("ledger")).map_err(failed)?;
    let mut samples = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let before = monotonic_ns();
        client.call(&HeadRequest {}).map_err(failed)?;
        samples.push(monotonic_ns() - before);
    }
    Ok(Samples::new(samples))
}

fn figure(samples: &Samples) -> String {
    format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990)))
}

/// The rows of the table.
pub(crate) fn rows(instance: &Instance, scratch: &Path) -> Result<Vec<Row>, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let codec = runtime.block_on(in_one_runtime(&scratch.join("ping.sock")))?;
    let processes = between_processes(instance)?;
    Ok(vec![
        Row {
            what: "wire round trip, server and client in one runtime".into(),
            ours: figure(&codec),
            peers: String::new(),
            goal: "p50 ≤ 15 µs, p99 ≤ 60 µs".into(),
            met: Some(codec.median() <= 15_000 && codec.at(990) <= 60_000),
        },
        Row {
            what: "wire round trip between two processes (ledger.head)".into(),
            ours: figure(&processes),
            peers: String::new(),
            goal: "none: the kernel's two changes of process are most of it".into(),
            met: None,
        },
    ])
}
