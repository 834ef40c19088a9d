//! Ending agents, and removing what is left of them.

use super::Manager;
use crate::core::Event;
use crate::spawner::Spawner;
use octant_ids::Aid;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The pause before a kill is tried again that could not be had.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause before what is left of an agent is looked at again.
const RETIRE_LAST: Duration = Duration::from_secs(60);

impl Manager {
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Spawner) -> T + Send + 'static,
    ) -> Result<T, String> {
        let spawner = Arc::clone(&self.spawner);
        // Never closed, so there is always a permit in the end.
        let _permit = self.requests.acquire().await.map_err(|e| e.to_string())?;
        let done = tokio::task::spawn_blocking(move || work(&*spawner)).await;
        done.map_err(|e| format!("the request to the spawner was not finished: {e}"))
    }

    pub(super) fn slot(&self, aid: Aid) -> Option<u32> {
        self.inner().agents.get(&aid).and_then(|agent| agent.saved.slot)
    }

    pub(super) async fn signal(self: &Arc<Self>, aid: Aid) {
        let Some(slot) = self.slot(aid) else { return };
        let told = self.blocking(move |spawner| spawner.terminate(slot, aid)).await;
        if let Err(error) = told.and_then(|told| told) {
            tracing::warn!("{aid} cannot be asked to end: {error}; it is killed when its time is over");
        }
    }

    /// Kills, and goes on trying in the background when that fails.
    pub(super) async fn kill(self: &Arc<Self>, aid: Aid) {
        if self.killed(aid).await {
            return;
        }
        let manager = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                if manager.killed(aid).await {
                    return;
                }
            }
        });
    }

    /// Whether all its processes were killed, or it has ended by itself.
    pub(super) async fn killed(&self, aid: Aid) -> bool {
        let Some(slot) = self.slot(aid) else { return true };
        let killed = self.blocking(move |spawner| spawner.kill(slot, aid)).await.and_then(|done| done);
        let Err(error) = killed else { return true };
        // A workstation that is gone cannot be killed; its retirement tells whether anything is left.
        let gone = self.inner().agents.get(&aid).is_none_or(|agent| agent.state.phase.ended());
        if !gone {
            tracing::error!("{aid} cannot be killed: {error}; trying again");
        }
        gone
    }

    /// Kills an agent of which only the name is known.
    pub(crate) fn kill_unknown(&self, aid: Aid) {
        self.ends.add(aid);
        self.post.close(aid);
        let spawner = Arc::clone(&self.spawner);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = spawner.kill(u32::MAX, aid) {
                tracing::error!("{aid} cannot be killed: {error}");
            }
        });
    }

    pub(super) async fn retire(&self, aid: Aid) -> Option<Event> {
        let slot = self.slot(aid)?;
        if !self.keep_artefacts(aid).await {
            if let Some(agent) = self.inner().agents.get_mut(&aid) {
                agent.residue += 1;
            }
            return Some(Event::Residue);
        }
        // Again, should PID 1 not have taken it the first time.
        let kept = self.let_go(aid, true);
        // While the gate or the router holds sockets in it, its network is not gone.
        let closed = if self.has_network(aid) { self.network_closed(aid).await } else { Ok(()) };
        let closed = closed.and(if self.has_models(aid) { self.models_closed(aid).await } else { Ok(()) });
        let retired = self.blocking(move |spawner| spawner.retire(slot, aid)).await.and_then(|done| done);
        let done = closed.and(retired);
        self.take_in_reports();
        let mut inner = self.inner();
        let still_open = || kept.first().map(|name| format!("PID 1 still keeps {name}"));
        let namespaces = match done.and_then(|looked_for| still_open().map_or(Ok(looked_for), Err)) {
            Ok(namespaces) => namespaces,
            Err(error) => {
                let agent = inner.agents.get_mut(&aid)?;
                agent.residue += 1;
                // Said again only now and then: it can stay so until an operator does something about it.
                if agent.residue.is_power_of_two() {
                    tracing::error!("{aid}: something of it is left: {error}; trying again");
                }
                return Some(Event::Residue);
            }
        };
        let told = !self.ends.waits(aid);
        if let Some(agent) = inner.agents.get_mut(&aid) {
            agent.nothing_left = Some(json!({
                "processes": 0,
                "cgroup": "removed",
                "namespaces_looked_for": namespaces,
                "mounts": 0,
                "socket": "closed",
                "leases": if told { "the vault was told" } else { "the vault is being told" },
            }));
        }
        inner.slots.remove(&slot);
        if let Some(agent) = inner.agents.get_mut(&aid) {
            agent.saved.slot = None;
        }
        self.keep(&mut inner, aid, false);
        Some(Event::Retired)
    }
    /// Tries again to remove what is left of an agent, at growing intervals.
    pub(super) fn retire_later(self: &Arc<Self>, aid: Aid) {
        let tried = self.inner().agents.get(&aid).map_or(0, |agent| agent.residue.min(6));
        let manager = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(RETIRE_LAST.min(AGAIN * 2_u32.pow(tried) / 4)).await;
            if let Some(event) = manager.retire(aid).await {
                manager.drive(aid, event).await;
            }
        });
    }
}
