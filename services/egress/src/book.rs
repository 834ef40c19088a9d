//! What goes on record: before a byte leaves, that it will; at the end, what became of it; and what was denied.

use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use octant_service::{Records, record};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long the ledger has to take an intent. A ledger that is blocked makes the gate deny, not hang.
const WITHIN: Duration = Duration::from_secs(5);

/// The way to the ledger. A seam: tests put another one in its place.
pub(crate) trait Book: Send + Sync {
    /// Puts an intent on record; answers with its number when it is durable.
    fn intent(
        &self,
        aid: Aid,
        payload: Value,
    ) -> Pin<Box<dyn Future<Output = Result<u64, String>> + Send + '_>>;
    /// Records what became of it, without waiting.
    fn outcome(&self, aid: Aid, intent: u64, payload: &Value);
    /// Records that something was denied, without waiting.
    fn denied(&self, aid: Aid, payload: &Value);
    /// Has what waits to be recorded with others recorded now.
    fn hurry(&self);
}

impl Book for Arc<Records> {
    fn intent(
        &self,
        aid: Aid,
        payload: Value,
    ) -> Pin<Box<dyn Future<Output = Result<u64, String>> + Send + '_>> {
        Box::pin(async move {
            let entries = [AppendRequest { agent: Some(aid), ..record(Kind::Intent, &payload) }];
            match tokio::time::timeout(WITHIN, self.append(&entries)).await {
                Err(_) => Err(format!("the ledger did not answer within {WITHIN:?}")),
                Ok((_, Err(error))) => Err(format!("the ledger did not accept it: {error}")),
                Ok((done, Ok(()))) => {
                    let first = done.into_iter().next().flatten();
                    first.map(|done| done.seq).ok_or_else(|| "the ledger's answer is missing".to_owned())
                }
            }
        })
    }

    fn outcome(&self, aid: Aid, intent: u64, payload: &Value) {
        let entry =
            AppendRequest { intent: Some(intent), agent: Some(aid), ..record(Kind::Outcome, payload) };
        self.later(entry);
    }

    fn denied(&self, aid: Aid, payload: &Value) {
        self.later(AppendRequest { agent: Some(aid), ..record(Kind::Decision, payload) });
    }

    fn hurry(&self) {
        Records::hurry(self);
    }
}
