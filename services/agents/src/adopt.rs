//! After a restart of this service: what an earlier run left is taken over, or ended.

use crate::core::{Ending, Event};
use crate::manager::{Handles, Manager, about, kept_names};
use crate::store::{Saved, StoreError};
use octant_api::agents::AgentState;
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use serde_json::json;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An agent that was taken over and what happens to it next.
pub(crate) type Pending = Vec<(Aid, Vec<Event>)>;

/// Takes over every agent that is on disk. What has to happen to them is given back: it needs the ledger and
/// the spawner, for which the start of this service does not wait.
pub(crate) fn adopt(manager: &Arc<Manager>, stored: Vec<(String, OwnedFd)>) -> Result<Pending, StoreError> {
    let mut stored: HashMap<String, OwnedFd> = stored.into_iter().collect();
    let (saved, damaged) = manager.store.load()?;
    let mut pending = Vec::new();
    for saved in saved {
        let aid = saved.info.aid;
        let handles = handles(aid, &mut stored);
        match take_over(manager, saved, handles) {
            Ok(events) if events.is_empty() => {}
            Ok(events) => pending.push((aid, events)),
            Err(why) => tracing::error!("{aid}: it cannot be taken over: {why}"),
        }
    }
    for (aid, events) in &mut pending {
        if events[..] == [Event::Adopted] {
            *events = manager.adopted(*aid);
        }
    }
    pending.extend(manager.orphans());
    for (aid, error) in damaged {
        // Nothing is known of it but its name. It is killed by that, where it has a cgroup; the spawner keeps
        // its slot, and refuses to give that to another.
        tracing::error!("{aid}: {error}; ending it");
        let what = json!({"agent": aid, "damaged": error.to_string()});
        manager.records.later(about(aid, Kind::Lifecycle, &what));
        manager.kill_unknown(aid);
    }
    Ok(pending)
}

fn handles(aid: Aid, stored: &mut HashMap<String, OwnedFd>) -> Handles {
    let [pidfd, stdout, stderr, socket, models, workspace] = kept_names(aid).map(|name| stored.remove(&name));
    Handles { pidfd, input: None, stdout, stderr, socket, models, workspace }
}

/// Takes one agent over; gives what happens to it next.
fn take_over(manager: &Arc<Manager>, mut saved: Saved, mut handles: Handles) -> Result<Vec<Event>, String> {
    use AgentState as Phase;
    let aid = saved.info.aid;
    let here = saved.boot_id == manager.site.boot_id;
    let phase = saved.info.state;
    let ended = phase.ended();
    let workspace = handles.workspace.take();
    let add = |saved, phase| manager.take_over(saved, phase, workspace).map_err(|e| e.to_string());
    if ended && saved.slot.is_none() {
        // Nothing of it is left. Whether the last records were taken is not known unless its seal was among them.
        let last = if saved.sealed { Vec::new() } else { vec![Event::Retired] };
        add(saved, phase)?;
        return Ok(last);
    }
    if ended {
        // Something of it was left: try again.
        add(saved, phase)?;
        return Ok(vec![Event::Residue]);
    }
    if !here {
        saved.info.reason = Some("it ended with the boot that it ran in".to_owned());
        add(saved, Phase::Running)?;
        return Ok(vec![Event::Exited(None)]);
    }
    let unrecorded = saved.intent.filter(|_| phase == Phase::Isolated);
    if let Some(intent) = unrecorded {
        // Its workstation stood, but the outcome may never have been taken, and it is ended below.
        let unknown = "the service ended before the outcome was known to be on record";
        manager.records.later(AppendRequest {
            intent: Some(intent),
            ..about(aid, Kind::Outcome, &json!({"agent": aid, "unknown": unknown}))
        });
    }
    match phase {
        Phase::Running | Phase::Suspended | Phase::Throttled
            if handles.pidfd.is_some() && handles.socket.is_some() && saved.serves.is_none() =>
        {
            add(saved, phase)?;
            manager.attend(aid, handles)?;
            manager.open_mailbox(aid, true);
            Ok(vec![Event::Adopted])
        }
        // What was said to a server of tools, and what it was about to say, is lost with the service that spoke with it.
        Phase::Isolated | Phase::Running | Phase::Suspended | Phase::Throttled => {
            let why = if saved.info.prepared { Ending::NotKept } else { Ending::Lost };
            let lost = Event::EndAsked { why, grace_ms: 0 };
            let attended = handles.pidfd.is_some();
            add(saved, phase)?;
            if attended {
                manager.attend(aid, handles)?;
                return Ok(vec![lost]);
            }
            // Nobody would say when it ends; the kill and the retirement see to it.
            Ok(vec![lost, Event::Exited(None)])
        }
        // The service ended while it was being started: whether the spawner built anything is not known.
        _ => {
            add(saved, Phase::Validated)?;
            Ok(vec![Event::CutOff("the service ended while it was being started".to_owned())])
        }
    }
}
