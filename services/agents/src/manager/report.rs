//! What the kernel reports about agents.

use super::{Agent, Inner, Manager, about};
use crate::accesses;
use crate::calls::{self, Denied, PAUSE, Read, Report};
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
        self.take_in(self.reports.read())
    }

    /// Takes in what was read; whether there was nothing more to read.
    pub(crate) fn take_in(&self, read: Read) -> bool {
        if read.lost || !read.reports.is_empty() || !read.accesses.is_empty() {
            let mut inner = self.inner();
            if read.lost {
                for agent in inner.agents.values_mut().filter(|agent| agent.state.phase.live()) {
                    agent.saved.info.calls_unreported = Some(LOST.to_owned());
                    let accesses = &mut agent.saved.info.accesses_unreported;
                    *accesses = self.reports.landlock_missing().or_else(|| Some(LOST.to_owned()));
                }
            }
            let mut new = New::default();
            count(&mut inner, &read.reports, &mut new);
            count_accesses(&mut inner, read.accesses, &mut new);
            for (aid, (calls, accesses)) in new {
                self.record_denied(&mut inner, aid, &calls, &accesses);
            }
        }
        read.all
    }

    /// Puts on record that something was denied to an agent that was not before. How often is in its last record.
    fn record_denied(&self, inner: &mut Inner, aid: Aid, calls: &[String], accesses: &[String]) {
        let Some(agent) = inner.agents.get(&aid).filter(|agent| !agent.sealed) else { return };
        let mut what = json!({"agent": aid, "name": agent.saved.info.name});
        for (name, new) in [("denied_calls", calls), ("denied_accesses", accesses)] {
            if !new.is_empty() {
                what[name] = json!(new);
            }
        }
        let manifest = Some(agent.saved.info.manifest_digest);
        // While `inner` is held, so that it comes before the seal.
        self.records.later(AppendRequest { manifest, ..about(aid, Kind::Decision, &what) });
        self.keep(inner, aid, false);
    }
}

/// What was denied to each agent for the first time: calls, and accesses.
type New = BTreeMap<Aid, (Vec<String>, Vec<String>)>;

/// Counts calls.
fn count(inner: &mut Inner, reports: &[Report], new: &mut New) {
    for report in reports {
        let Some(agent) = report.slot().and_then(|slot| inner.in_slot(slot)) else { continue };
        let first = calls::count(&mut agent.saved.info.denied_calls, report);
        if let Some(call) = first {
            new.entry(agent.saved.info.aid).or_default().0.push(call);
        }
    }
}

/// Counts accesses. The first of a domain comes before it is said whose that is.
fn count_accesses(inner: &mut Inner, denied: Vec<Denied>, new: &mut New) {
    for denied in denied {
        let (domain, found) = match denied {
            Denied::Access(access) => (access.domain, vec![access]),
            Denied::Domain(domain) => {
                let found = inner.unclaimed.of(domain.number);
                if let Some(agent) = inner.in_slot(domain.slot) {
                    agent.saved.domain = Some(domain.number);
                }
                (domain.number, found)
            }
        };
        let whose = inner
            .agents
            .values_mut()
            .find(|agent| agent.saved.slot.is_some() && agent.saved.domain == Some(domain));
        let Some(agent) = whose else {
            found.into_iter().for_each(|access| inner.unclaimed.add(access));
            continue;
        };
        let accesses = &mut agent.saved.info.denied_accesses;
        let firsts = found.iter().filter_map(|access| accesses::count(accesses, access));
        let firsts: Vec<String> = firsts.collect();
        if !firsts.is_empty() {
            new.entry(agent.saved.info.aid).or_default().1.extend(firsts);
        }
    }
}

impl Inner {
    fn in_slot(&mut self, slot: u32) -> Option<&mut Agent> {
        self.agents.values_mut().find(|agent| agent.saved.slot == Some(slot))
    }
}
