//! The agents at the router: what each may ask, what it has used, what of it is under way.

use crate::core::{BadWord, Denied, Rights};
use crate::http::Room;
use crate::judged::Recent;
use crate::purse::Purse;
use crate::tally::add;
use octant_api::agents::Amounts;
use octant_api::router::{AdmitRequest, AtRouter, Usage};
use octant_ids::{Aid, Principal};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// How many calls of one agent are under way at a time.
const CALLS_MAX: u64 = 256;
/// How many bytes the requests of these have together. Each is there up to four times: as it came, as it is understood, as it
/// is sent, and what is kept of it.
const BYTES_MAX: u64 = 128 << 20;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, so what it guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One agent, or who asks without one: an operator, or who shows a key.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Of who is no agent a number that no agent has.
    pub(crate) aid: Aid,
    /// Who is no agent, as records say it: `operator:UID` or `key:NAME`.
    pub(crate) by: Option<String>,
    rights: watch::Sender<Arc<Rights>>,
    pub(crate) purse: Arc<Purse>,
    pub(crate) denials: Mutex<octant_service::Denials>,
    /// Those that serve its listeners: in its network, and its Unix socket.
    listeners: Mutex<Vec<AbortHandle>>,
    pub(crate) room: Room,
    /// Its last answers, which it may judge.
    pub(crate) answered: Mutex<Recent>,
    open: AtomicU64,
    /// The bytes of their requests.
    bytes: AtomicU64,
    used: Mutex<Usage>,
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Place(Arc<Agent>, u64);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Agent {
    fn new(aid: Aid, by: Option<String>, rights: Rights, drawing: &Arc<Notify>) -> Self {
        Self {
            aid,
            by,
            rights: watch::Sender::new(Arc::new(rights)),
            purse: Arc::new(Purse::new(aid, Arc::clone(drawing))),
            denials: Mutex::default(),
            listeners: Mutex::default(),
            room: Room::default(),
            answered: Mutex::default(),
            open: AtomicU64::default(),
            bytes: AtomicU64::default(),
            used: Mutex::default(),
        }
    }

    /// Who it is, in a word.
    pub(crate) fn who(&self) -> String {
        self.by.clone().unwrap_or_else(|| self.aid.to_string())
    }

    /// Who has no budget that is drawn from: all is funded.
    fn funded(aid: Aid, by: String, rights: Rights, drawing: &Arc<Notify>) -> Arc<Self> {
        let agent = Self::new(aid, Some(by), rights, drawing);
        agent.purse.fund(Amounts { tokens: u64::MAX, microusd: u64::MAX, ..Amounts::default() });
        Arc::new(agent)
    }

    /// It may ask nothing any more: what is under way is cut.
    pub(crate) fn end(&self) {
        self.rights.send_replace(Arc::new(self.rights().none()));
        self.listens(Vec::new());
    }

    /// Whose records are of it: those of who is no agent are the machine's own, and say who.
    pub(crate) fn on_record(&self) -> Option<Aid> {
        self.by.is_none().then_some(self.aid)
    }

    /// What it may ask right now.
    pub(crate) fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights.borrow())
    }

    /// Waits until a model may not be asked any more.
    pub(crate) async fn revoked(&self, asked: &str, own: &str) -> Denied {
        let mut rights = self.rights.subscribe();
        loop {
            let decided = rights.borrow_and_update().decide(asked, own);
            match decided {
                Ok(()) => {}
                Err(Denied::Dismissed) => return Denied::Dismissed,
                Err(_) => return Denied::Revoked,
            }
            if rights.changed().await.is_err() {
                return Denied::Dismissed;
            }
        }
    }

    /// Waits until it is gone.
    pub(crate) async fn gone(&self) {
        let mut rights = self.rights.subscribe();
        // The sender is this agent's own, so there is always one.
        let _ = rights.wait_for(|rights| rights.dismissed).await;
    }

    /// A place among the calls that it has under way, for a request of so many bytes.
    pub(crate) fn place(self: &Arc<Self>, bytes: usize) -> Result<Place, Denied> {
        let bytes = bytes as u64;
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Place(Arc::clone(self), bytes);
        if before >= CALLS_MAX {
            return Err(Denied::Calls(CALLS_MAX));
        }
        if held.saturating_add(bytes) > BYTES_MAX { Err(Denied::Bytes(BYTES_MAX)) } else { Ok(place) }
    }

    /// Counts what was used.
    pub(crate) fn count(&self, more: &Usage) {
        add(&mut lock(&self.used), more);
    }

    /// Is listened for from here on, in place of earlier listeners.
    pub(crate) fn listens(&self, serving: Vec<AbortHandle>) {
        std::mem::replace(&mut *lock(&self.listeners), serving).iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn has_listener(&self) -> bool {
        !lock(&self.listeners).is_empty()
    }

    pub(crate) fn total(&self) -> Usage {
        *lock(&self.used)
    }

    pub(crate) fn show(&self) -> AtRouter {
        let rights = self.rights();
        AtRouter {
            aid: self.aid,
            models: rights.models.iter().map(ToString::to_string).collect(),
            data: rights.data,
            listens: self.has_listener(),
            open: self.open.load(Ordering::Relaxed),
            usage: self.total(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    all: Mutex<BTreeMap<Aid, Arc<Agent>>>,
    /// Those who ask without an agent, by user: root, and whom this Octant belongs to.
    operators: Mutex<BTreeMap<u32, Arc<Agent>>>,
    /// Told when something is to be drawn from a budget.
    pub(crate) drawing: Arc<Notify>,
}

impl Agents {
    /// Puts a word of `agents` in force; the agent, and how many calls that cuts.
    pub(crate) fn admit(&self, said: &AdmitRequest) -> Result<(Arc<Agent>, u64), BadWord> {
        let rights = Rights::read(said)?;
        let mut all = lock(&self.all);
        if let Some(agent) = all.get(&said.aid) {
            let is = agent.rights().generation;
            if said.generation < is {
                return Err(BadWord::Old(said.generation, is));
            }
            // Those that go on find that out themselves; each that is under way is looked at once.
            let cut =
                if rights.models == agent.rights().models { 0 } else { agent.open.load(Ordering::Relaxed) };
            agent.rights.send_replace(Arc::new(rights));
            return Ok((Arc::clone(agent), cut));
        }
        let agent = Arc::new(Agent::new(said.aid, None, rights, &self.drawing));
        all.insert(said.aid, Arc::clone(&agent));
        Ok((agent, 0))
    }

    /// Who shows a key of this name.
    pub(crate) fn keyed(&self, aid: Aid, name: &str, rights: Rights) -> Arc<Agent> {
        Agent::funded(aid, format!("key:{name}"), rights, &self.drawing)
    }

    /// An operator.
    pub(crate) fn operator(&self, uid: u32) -> Arc<Agent> {
        let mut operators = lock(&self.operators);
        let agent = operators.entry(uid).or_insert_with(|| {
            // An agent's begins with its time, which is never 0.
            let mut aid = [0; 16];
            aid[12..].copy_from_slice(&uid.to_be_bytes());
            let by = Principal::Operator(uid).to_string();
            Agent::funded(Aid::from_bytes(aid), by, Rights::operators(), &self.drawing)
        });
        Arc::clone(agent)
    }

    /// Cuts everything of an agent; the agent, if there was one.
    pub(crate) fn dismiss(&self, aid: Aid) -> Option<Arc<Agent>> {
        let agent = lock(&self.all).remove(&aid)?;
        agent.end();
        Some(agent)
    }

    pub(crate) fn get(&self, aid: Aid) -> Option<Arc<Agent>> {
        lock(&self.all).get(&aid).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<Agent>> {
        lock(&self.all).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_one_agent_have_so_many_bytes_together() {
        let word = crate::core::tests::word(Aid::from_bytes([1; 16]), &["*"]);
        let (agent, _) = Agents::default().admit(&word).unwrap();
        let half = usize::try_from(BYTES_MAX / 2).unwrap();
        let places = [agent.place(half).unwrap(), agent.place(half).unwrap()];
        assert_eq!(agent.place(1).unwrap_err(), Denied::Bytes(BYTES_MAX));
        drop(places);
        let many: Vec<Place> = (0..CALLS_MAX).map(|_| agent.place(1).unwrap()).collect();
        assert_eq!(agent.place(0).unwrap_err(), Denied::Calls(CALLS_MAX));
        drop(many);
        assert_eq!((agent.show().open, agent.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
