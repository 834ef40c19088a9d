//! Acting upon the trusted set, each change of it on record.

use super::Manager;
use crate::admit;
use crate::core::held::Suspension;
use crate::core::{Ending, Event};
use crate::manager::approve::now;
use crate::trust::{Change, Changed};
use octant_api::agents::TrustList;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Sha256};
use octant_manifest::TrustedKeys;
use octant_service::record;
use octant_sys::clock;
use octant_wire::Shutdown;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the set is looked at when nobody asks: how long a revocation that is written by hand takes at most until
/// it is followed. `octant trust` asks at once.
const LOOK: Duration = Duration::from_secs(2);
const MS: u64 = 1_000_000;

fn entry(changed: &Changed, set: Sha256, frozen: Option<(&[Aid], u64)>) -> AppendRequest {
    let mut what = json!({ "do": "trust", "set": set });
    if let (Some(what), Ok(serde_json::Value::Object(of))) =
        (what.as_object_mut(), serde_json::to_value(changed))
    {
        what.extend(of);
    }
    if let Some((agents, after_ms)) = frozen {
        what["frozen"] = json!(agents);
        what["frozen_after_ms"] = json!(after_ms);
    }
    AppendRequest { subject: Some(changed.key), ..record(Kind::Grant, &what) }
}

impl Manager {
    /// The trusted set as it is now, with everything that follows from what has changed in it done and on record. Where a
    /// change that adds to it cannot be recorded, nobody is trusted.
    pub(crate) async fn trusted(self: &Arc<Self>) -> Result<TrustedKeys, ApiError> {
        let mut noted = self.noted.lock().await;
        // Read with the lock held, so that nobody acts upon an older set after a newer one is on record.
        let set = admit::trusted(&self.site.trusted).map_err(|e| admit::untrusted(&e))?;
        let (changes, next) = noted.compare(&set, now());
        if changes.is_empty() {
            return Ok(set);
        }
        let revoked: BTreeSet<Sha256> =
            changes.iter().filter(|changed| changed.change == Change::Revoked).map(|c| c.key).collect();
        let start_ns = clock::monotonic_ns();
        let frozen = self.hold_all_of(&revoked).await;
        let after_ms = (clock::monotonic_ns() - start_ns) / MS;
        let of =
            |key: Sha256| -> Vec<Aid> { frozen.iter().filter(|row| row.1 == key).map(|row| row.0).collect() };
        let entries: Vec<AppendRequest> = changes
            .iter()
            .map(|changed| match changed.change {
                Change::Revoked => entry(changed, next.digest(), Some((&of(changed.key), after_ms))),
                _ => entry(changed, next.digest(), None),
            })
            .collect();
        let failed = |place: &str, why: String| {
            let next = "see `octant status`; nobody is trusted until that is on record";
            ApiError::new(Code::Unavailable, "follow a change of the trusted set", place, why, next)
        };
        if changes.iter().any(|changed| changed.change.adds()) {
            let (_, recorded) = self.records.append(&entries).await;
            recorded.map_err(|error| failed("ledger", error.to_string()))?;
        } else {
            entries.into_iter().for_each(|entry| self.records.later(entry));
        }
        // What is prepared under a key that counts no more is not wanted any more.
        self.look_at_wishes();
        next.keep().map_err(|error| failed("state directory", error.to_string()))?;
        *noted = next;
        Ok(set)
    }

    /// Freezes every agent whose line begins with a manifest that one of these keys signed. One that is still being
    /// started is ended. Gives who that was, with the key.
    async fn hold_all_of(self: &Arc<Self>, keys: &BTreeSet<Sha256>) -> Vec<(Aid, Sha256)> {
        if keys.is_empty() {
            return Vec::new();
        }
        let theirs: Vec<(Aid, Sha256, bool)> = {
            let inner = self.inner();
            let live = inner.agents.iter().filter(|(_, agent)| !agent.state.phase.ended());
            live.filter_map(|(aid, agent)| {
                let key = agent.saved.signed_with.filter(|key| keys.contains(key))?;
                Some((*aid, key, agent.state.phase.live()))
            })
            .collect()
        };
        let tasks: Vec<_> = theirs
            .iter()
            .map(|(aid, _, live)| {
                let event = if *live {
                    Event::SuspendAsked(Suspension::Revoked)
                } else {
                    Event::EndAsked { why: Ending::Revoked, grace_ms: 0 }
                };
                tokio::spawn(self.drive(*aid, event))
            })
            .collect();
        for task in tasks {
            if let Ok(Some((_, why))) = task.await {
                tracing::warn!("an agent under a revoked key: {why}");
            }
        }
        theirs.into_iter().map(|(aid, key, _)| (aid, key)).collect()
    }

    /// Every key of the set, as it is on record.
    pub(crate) async fn trust(self: &Arc<Self>) -> Result<TrustList, ApiError> {
        self.trusted().await?;
        Ok(TrustList { keys: self.noted.lock().await.list() })
    }

    /// Looks at the set now and then, until `stop`.
    pub(crate) async fn watch_trust(self: &Arc<Self>, stop: &Shutdown) {
        let mut before = None;
        while !stop.is_requested() {
            let error = self.trusted().await.err().map(|error| error.to_string());
            if error != before {
                if let Some(error) = &error {
                    tracing::error!("{error}");
                }
                before = error;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.requested() => {}
            }
        }
    }
}
