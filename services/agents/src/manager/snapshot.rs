//! What an agent has kept of its own workspace while it runs.

use super::keep::{Due, Room, summary};
use super::{Manager, about, no_agent};
use crate::spawner::NotHeld;
use octant_api::agents::{Artefacts, SNAPSHOTS_MAX, Snapshot};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Sha256};
use octant_sys::clock;
use serde_json::json;

const WHAT: &str = "keep a snapshot of the workspace";

fn refuse(code: Code, aid: Aid, why: impl ToString, next: &str) -> ApiError {
    ApiError::new(code, WHAT, aid.to_string(), why.to_string(), next)
}

fn full(aid: Aid) -> ApiError {
    let why = format!("{SNAPSHOTS_MAX} are kept already");
    let next = "an operator makes room: `octant agent artefacts AGENT --snapshot DIGEST --remove`";
    refuse(Code::Full, aid, why, next)
}

impl Manager {
    /// Keeps what the manifest says is kept, as it is at one moment: the agent is frozen while it is read, so that no file
    /// is one half of what it was and one half of what it becomes.
    pub(crate) async fn snapshot(&self, aid: Aid) -> Result<Artefacts, ApiError> {
        // Waited for while the agent still runs.
        let room = self.room().await;
        let due = self.due(aid)?;
        let mut kept = self.collect_frozen(aid, due, room).await?;
        let Some(tree) = kept.tree else {
            return Err(refuse(Code::Internal, aid, "what was kept has no digest", "see the log of agents"));
        };
        let entry = about(aid, Kind::Lifecycle, &json!({"agent": aid, "snapshot": summary(&kept)}));
        if let (_, Err(error)) = self.records.append(&[entry]).await {
            self.forget(tree).await;
            let why = format!("the ledger did not accept the record: {error}");
            return Err(refuse(Code::Unavailable, aid, why, "try again; nothing is kept without a record"));
        }
        if let Err(error) = self.note_snapshot(aid, tree, &kept) {
            self.forget(tree).await;
            return Err(error);
        }
        kept.failed = None;
        Ok(kept)
    }

    /// Puts it among the agent's own; of several that were taken at once only as many as there is room for.
    fn note_snapshot(&self, aid: Aid, tree: Sha256, kept: &Artefacts) -> Result<(), ApiError> {
        let left_out = kept.more_left_out + kept.left_out.len() as u64;
        let (entries, bytes) = (kept.entries, kept.bytes);
        let mut inner = self.inner();
        let agent = inner.agents.get_mut(&aid).ok_or_else(|| no_agent(&aid.to_string()))?;
        let snapshots = &mut agent.saved.info.snapshots;
        // What is the same as before is kept once.
        snapshots.retain(|snapshot| snapshot.tree != tree);
        if snapshots.len() >= SNAPSHOTS_MAX {
            return Err(full(aid));
        }
        snapshots.push(Snapshot { tree, taken_ms: clock::wall_ms(), entries, bytes, left_out });
        self.keep(&mut inner, aid, false);
        Ok(())
    }

    /// What is to be kept of an agent that may still have a snapshot kept.
    fn due(&self, aid: Aid) -> Result<Due, ApiError> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid).ok_or_else(|| no_agent(&aid.to_string()))?;
        if !agent.state.phase.live() {
            return Err(refuse(Code::Conflict, aid, "it does not run", "what is kept at its end is kept"));
        }
        if agent.saved.info.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(full(aid));
        }
        match Due::of(agent) {
            Some(due) => due.map_err(|why| refuse(Code::Failed, aid, why, "see the log of agents")),
            None => {
                let why = "its manifest keeps nothing of its workspace";
                Err(refuse(Code::Denied, aid, why, "name what is kept in lifetime.retain of the manifest"))
            }
        }
    }

    async fn collect_frozen(&self, aid: Aid, due: Due, room: Room) -> Result<Artefacts, ApiError> {
        // Nobody else freezes it or lets it run meanwhile.
        let turn = self.turn(aid).ok_or_else(|| no_agent(&aid.to_string()))?;
        let _turn = turn.lock().await;
        let stopped = self.at_once(move |spawner| spawner.freeze(aid, true)).await;
        let kept = match stopped {
            Ok(()) => self.collect(aid, due, room).await.map_err(|why| (Code::Failed, why)),
            Err(not) => Err((not.code, format!("it cannot be frozen for it: {}", not.why))),
        };
        // Also where freezing failed: a part of it may stand still.
        let suspended = self.inner().agents.get(&aid).is_some_and(|agent| agent.state.held.frozen());
        if !suspended && let Err(not) = self.at_once(move |spawner| spawner.freeze(aid, false)).await {
            tracing::error!("{aid} was frozen for a snapshot and cannot be let go on: {}", not.why);
        }
        kept.map_err(|(code, why)| refuse(code, aid, why, "try again, or write what matters elsewhere"))
    }

    /// Lets an agent go on that an earlier run of this service froze for a snapshot, and did not live to let go on.
    pub(super) async fn go_on(&self, aid: Aid) {
        let Some(turn) = self.turn(aid) else { return };
        let _turn = turn.lock().await;
        let suspended = self.inner().agents.get(&aid).is_none_or(|agent| agent.state.held.frozen());
        if suspended {
            return;
        }
        match self.at_once(move |spawner| spawner.freeze(aid, false)).await {
            // Where nothing can be frozen nothing was.
            Ok(()) | Err(NotHeld { code: Code::LayerMissing, .. }) => {}
            Err(not) => tracing::warn!("{aid} may stand still since a snapshot: {}", not.why),
        }
    }

    /// Takes back what is not on record, unless it is something else's too.
    async fn forget(&self, tree: Sha256) {
        let room = self.room().await;
        let others = self.inner().agents.values().any(|agent| {
            let info = &agent.saved.info;
            info.artefacts.as_ref().is_some_and(|kept| kept.tree == Some(tree))
                || info.snapshots.iter().any(|snapshot| snapshot.tree == tree)
        });
        if others {
            return;
        }
        let removed = tokio::task::spawn_blocking(move || room.remove(tree)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!("the snapshot {tree} is kept and not on record: {error}");
        }
    }
}
