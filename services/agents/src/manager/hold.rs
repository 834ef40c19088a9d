//! Freezing agents, slowing them down, and giving that back.

use super::attend::{TIME_ABOVE, deadline};
use super::{Manager, entry};
use crate::core::{Event, Record};
use crate::spawner::{NotHeld, Spawner};
use crate::store::Terms;
use octant_api::error::Code;
use octant_ids::Aid;
use octant_sys::clock;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The share of the processors that a throttled agent has when others want them: the least that there is.
const LEAST_WEIGHT: u64 = 1;

impl Manager {
    /// Puts on record what an agent gets back.
    pub(super) async fn give(&self, aid: Aid, time: u32, record: &Record) -> Event {
        let entry = self.inner().agents.get(&aid).and_then(|agent| entry(agent, record));
        let (_, all) = self.records.append(entry.as_slice()).await;
        match all {
            Ok(()) => Event::Given(time),
            Err(error) => Event::NotGiven(time, format!("the ledger did not accept the record: {error}")),
        }
    }

    /// Freezes an agent or lets it run, as its state says.
    pub(super) async fn set_freezer(&self, aid: Aid) -> Option<Event> {
        let turn = self.turn(aid)?;
        let _turn = turn.lock().await;
        // Read only now: what is written last is what the state says.
        let frozen = self.inner().agents.get(&aid)?.state.held.frozen();
        Some(match self.at_once(move |spawner| spawner.freeze(aid, frozen)).await {
            Ok(()) if frozen => Event::Frozen,
            Ok(()) => Event::Thawed,
            Err(NotHeld { code, why }) => Event::FreezerFailed { frozen, code, why },
        })
    }

    /// Slows an agent down or gives its share of the processors back, as its state says.
    pub(super) async fn set_speed(&self, aid: Aid) -> Option<Event> {
        let turn = self.turn(aid)?;
        let _turn = turn.lock().await;
        let (slowed, terms) = {
            let inner = self.inner();
            let agent = inner.agents.get(&aid)?;
            (agent.state.held.slowed(), agent.saved.terms.clone()?)
        };
        let (percent, weight) = match slowed {
            Some(percent) => (percent, LEAST_WEIGHT),
            None => (terms.cpu_percent, terms.cpu_weight),
        };
        Some(match self.at_once(move |spawner| spawner.speed(aid, percent, weight)).await {
            Ok(()) if slowed.is_some() => Event::Slowed,
            Ok(()) => Event::Restored,
            Err(NotHeld { code, why }) => Event::SpeedFailed { slowed: slowed.is_some(), code, why },
        })
    }

    pub(super) fn turn(&self, aid: Aid) -> Option<Arc<Mutex<()>>> {
        self.inner().agents.get(&aid).map(|agent| Arc::clone(&agent.turn))
    }

    /// Does what writes a file, and so waits behind no spawn.
    pub(super) async fn at_once(
        &self,
        work: impl FnOnce(&dyn Spawner) -> Result<(), NotHeld> + Send + 'static,
    ) -> Result<(), NotHeld> {
        let spawner = Arc::clone(&self.spawner);
        let done = tokio::task::spawn_blocking(move || work(&*spawner)).await;
        done.map_err(|e| NotHeld { code: Code::Internal, why: e.to_string() })?
    }

    /// Gives an agent a new time to live.
    pub(super) fn extend(self: &Arc<Self>, aid: Aid, until_ns: u64) {
        let mut inner = self.inner();
        let Some(agent) = inner.agents.get_mut(&aid) else { return };
        agent.saved.deadline_ns = Some(until_ns);
        self.keep(&mut inner, aid, false);
        tokio::spawn(Arc::clone(self).watch_lifetime(aid, until_ns));
    }

    /// When the life of an agent that is resumed for so long is over. No more can be had than it was spawned with: what
    /// its operator signed for, and no more than is left to the one that it is under.
    pub(crate) fn until(&self, aid: Aid, for_ms: u64) -> Result<u64, String> {
        let most = self.terms(aid).and_then(|terms| terms.ttl_ms).unwrap_or(0);
        if for_ms == 0 || for_ms > most {
            return Err(format!(
                "{for_ms}ms is not between 1ms and {most}ms, the time to live in its manifest"
            ));
        }
        let until_ns = deadline(for_ms);
        match self.life_above(aid) {
            Some(above_ns) if above_ns <= clock::boottime_ns() => {
                Err(format!("{TIME_ABOVE}; resume that first"))
            }
            above_ns => Ok(above_ns.map_or(until_ns, |above_ns| until_ns.min(above_ns))),
        }
    }

    /// When the life of the one that an agent is under is over; none where that has no end or there is nobody.
    fn life_above(&self, aid: Aid) -> Option<u64> {
        let inner = self.inner();
        let parent = inner.agents.get(&aid)?.saved.info.parent?;
        inner.agents.get(&parent)?.saved.deadline_ns
    }

    /// Refuses a throttle that would not be one.
    pub(crate) fn below_share(&self, aid: Aid, percent: u64) -> Result<(), String> {
        let share = self.terms(aid).map_or(0, |terms| terms.cpu_percent);
        if percent == 0 || percent >= share {
            return Err(format!(
                "{percent}% is not between 1% and less than {share}%, the share in its manifest"
            ));
        }
        Ok(())
    }

    fn terms(&self, aid: Aid) -> Option<Terms> {
        self.inner().agents.get(&aid).and_then(|agent| agent.saved.terms.clone())
    }
}
