//! What goes on record: before a byte leaves, that it will; at the end, what became of it; and what was denied.

use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use octant_service::{Records, record};
use serde_json::Value;
use std::collections::BTreeMap;
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

/// How many different denials of one agent are told apart.
const KINDS_MAX: usize = 256;

/// What one agent was denied: each thing is recorded when it happens first, and then as a count, so that a program that
/// tries for ever fills neither the ledger nor the way to it.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    seen: BTreeMap<String, u64>,
}

impl Denials {
    /// Counts one, and says whether it is to be recorded now.
    pub(crate) fn add(&mut self, what: String) -> bool {
        if let Some(count) = self.seen.get_mut(&what) {
            *count += 1;
            return false;
        }
        let new = self.seen.len() < KINDS_MAX;
        let key = if new { what } else { "anything else".to_owned() };
        let count = self.seen.entry(key).or_default();
        *count += u64::from(!new);
        new
    }

    /// What was denied again since the last time, and how often.
    pub(crate) fn again(&mut self) -> BTreeMap<String, u64> {
        let again =
            self.seen.iter().filter(|(_, count)| **count > 0).map(|(what, count)| (what.clone(), *count));
        let again = again.collect();
        self.seen.values_mut().for_each(|count| *count = 0);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_again_is_counted() {
        let mut denials = Denials::default();
        assert!(denials.add("a:1".into()) && !denials.add("a:1".into()) && !denials.add("a:1".into()));
        assert!(denials.add("b:1".into()));
        assert_eq!(denials.again(), BTreeMap::from([("a:1".to_owned(), 2)]));
        assert!(denials.again().is_empty() && !denials.add("a:1".into()));
        for n in 0..10 * KINDS_MAX {
            denials.add(format!("c:{n}"));
        }
        assert!(denials.seen.len() <= KINDS_MAX + 1);
        let all: u64 = denials.again().values().sum();
        assert_eq!(all, 1 + (10 * KINDS_MAX - (KINDS_MAX - 2)) as u64);
    }
}
