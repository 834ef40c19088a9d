//! What the kernel reports about agents.

use super::{Inner, Manager, about};
use crate::calls::{self, PAUSE, Report};
use crate::drain;
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use octant_wire::Shutdown;
use serde_json::json;
use std::collections::BTreeMap;

/// What is said of an agent that lived while reports were lost.
const LOST: &str = "there were more of them than could be read, and some are not counted";

impl Manager {
    /// Takes in reports until `stop`.
    pub(super) async fn read_reports(&self, stop: &Shutdown) {
        let Some(socket) = self.reports.socket() else { return };
        let watched = match drain::watch(socket) {
            Ok(watched) => watched,
            Err(error) => {
                tracing::error!("reports of denied system calls cannot be waited for: {error}");
                return;
            }
        };
        self.reports.try_out();
        let reading = async {
            loop {
                // It is never closed, so this does not fail while the runtime lives.
                let Ok(mut ready) = watched.readable().await else { return };
                if self.take_in_reports() {
                    ready.clear_ready();
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = stop.requested() => {}
        }
    }

    /// Takes in the reports that are there; whether that was all.
    pub(super) fn take_in_reports(&self) -> bool {
        let read = self.reports.read();
        if read.lost || !read.reports.is_empty() {
            let mut inner = self.inner();
            if read.lost {
                for agent in inner.agents.values_mut().filter(|agent| agent.state.phase.live()) {
                    agent.saved.info.calls_unreported = Some(LOST.to_owned());
                }
            }
            for (aid, calls) in count(&mut inner, &read.reports) {
                self.record_denied(&mut inner, aid, &calls);
            }
        }
        read.all
    }

    /// Puts on record that calls were denied to an agent that were not before. How often is in its last record.
    fn record_denied(&self, inner: &mut Inner, aid: Aid, calls: &[String]) {
        let Some(agent) = inner.agents.get(&aid).filter(|agent| !agent.sealed) else { return };
        let what = json!({"agent": aid, "name": agent.saved.info.name, "denied_calls": calls});
        let manifest = Some(agent.saved.info.manifest_digest);
        // While `inner` is held, so that it comes before the seal.
        self.records.later(AppendRequest { manifest, ..about(aid, Kind::Decision, &what) });
        self.keep(inner, aid, false);
    }
}

/// Counts reports; what was denied to each agent for the first time.
fn count(inner: &mut Inner, reports: &[Report]) -> BTreeMap<Aid, Vec<String>> {
    let mut new: BTreeMap<Aid, Vec<String>> = BTreeMap::new();
    for report in reports {
        let Some(slot) = report.slot() else { continue };
        let Some(agent) = inner.agents.values_mut().find(|agent| agent.saved.slot == Some(slot)) else {
            continue;
        };
        let first = calls::count(&mut agent.saved.info.denied_calls, report);
        if let Some(call) = first {
            new.entry(agent.saved.info.aid).or_default().push(call);
        }
    }
    new
}
