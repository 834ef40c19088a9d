//! The way of a message: its room, the ledger, the mailboxes, those who wait.

use super::Manager;
use crate::mailbox::{self, Letter, Mailboxes};
use octant_api::agent::{Received, SendRequest, Sent};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Sha256};
use octant_manifest::Action;
use octant_service::record;
use octant_sys::clock;
use serde_json::json;
use sha2::Digest;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The longest wait for a message, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// How many rooms can be written to at once; rooms that share a line wait for each other.
const LINES: usize = 64;

/// Every mailbox, and what orders and wakes.
#[derive(Debug)]
pub(crate) struct Post {
    boxes: Mutex<Mailboxes>,
    wakes: Mutex<BTreeMap<Aid, Arc<Notify>>>,
    /// Held from the record of a message to its delivery, so that a room's messages arrive in the ledger's order.
    lines: [tokio::sync::Mutex<()>; LINES],
}

impl Default for Post {
    fn default() -> Self {
        let lines = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Self { boxes: Mutex::default(), wakes: Mutex::default(), lines }
    }
}

impl Post {
    fn boxes(&self) -> MutexGuard<'_, Mailboxes> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakes(&self) -> MutexGuard<'_, BTreeMap<Aid, Arc<Notify>>> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, agent: Aid) -> Option<Arc<Notify>> {
        self.wakes().get(&agent).map(Arc::clone)
    }

    fn line(&self, room: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        room.hash(&mut hasher);
        &self.lines[usize::try_from(hasher.finish() % LINES as u64).unwrap_or(0)]
    }

    /// Takes an agent's mailbox away, with everything in it.
    pub(super) fn close(&self, agent: Aid) {
        self.boxes().close(agent);
        let gone = self.wakes().remove(&agent);
        if let Some(waiting) = gone {
            waiting.notify_waiters();
        }
    }
}

fn refuse<T>(code: Code, room: &str, why: impl std::fmt::Display, next: &str) -> Result<T, ApiError> {
    let shown: String = room.chars().take(64).collect();
    Err(ApiError::new(code, "send a message", shown, why, next))
}

impl Manager {
    /// Gives an agent that runs its mailbox, for the rooms that it may be in; one that it has stays.
    pub(super) fn open_mailbox(&self, aid: Aid, restarted: bool) {
        let rooms = {
            let inner = self.inner();
            let rights = inner.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
            rights
                .map(|rights| rights.grants().rooms().iter().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        // In microseconds since the boot: more than the last number before a restart, since nobody gets a message in
        // each of them.
        let first = clock::boottime_ns() / 1000;
        let mut boxes = self.post.boxes();
        if !boxes.has(aid) {
            boxes.open(aid, rooms, first, restarted);
            self.post.wakes().entry(aid).or_default();
        }
    }

    /// Sends a message: on record first, then in the mailboxes.
    pub(crate) async fn send(self: &Arc<Self>, from: Aid, asked: SendRequest) -> Result<Sent, ApiError> {
        // Nobody is asked about what could not be done anyway.
        if mailbox::flaw(&asked.kind, &asked.body).is_none() && self.post.boxes().is_in(from, &asked.room) {
            let action = Action::named("message", &asked.room);
            let action = action.or_else(|e| refuse(Code::InvalidParams, &asked.room, e, ""))?;
            self.permit(from, action, "agent.send", &asked).await?;
        }
        let SendRequest { room, kind, body } = asked;
        if let Some(why) = mailbox::flaw(&kind, &body) {
            let code =
                if body.text().len() > mailbox::BODY_MAX { Code::TooLong } else { Code::InvalidParams };
            return refuse(code, &room, why, "see the method's schema");
        }
        let info = self.info(from)?;
        let _in_order = self.post.line(&room).lock().await;
        let to = {
            let boxes = self.post.boxes();
            if !boxes.is_in(from, &room) {
                let next = "its manifest has to name the room in [rooms], and so that of each agent above it";
                return refuse(Code::NotFound, &room, "this agent is in no such room", next);
            }
            boxes.receivers(from, &room)
        };
        let what = json!({
            "room": room,
            "kind": kind,
            "form": body.form(),
            "bytes": body.text().len(),
            "to": to,
        });
        let mut entry = record(Kind::Message, &what);
        entry.actor = Some(from);
        entry.subject = Some(Sha256(sha2::Sha256::digest(body.text()).into()));
        entry.manifest = Some(info.manifest_digest);
        let (done, all) = self.records.append(&[entry]).await;
        let seq = match (done.as_slice(), all) {
            ([Some(done)], Ok(())) => done.seq,
            (_, Ok(())) => {
                return refuse(Code::Internal, &room, "the ledger's answer is missing", "try again");
            }
            (_, Err(error)) => {
                let why = format!("the ledger did not accept it: {error}");
                return refuse(Code::Unavailable, &room, why, "try again");
            }
        };
        let letter = Letter { seq, room, from, name: info.name, kind, sent_ms: clock::wall_ms(), body };
        let receivers = self.post.boxes().deliver(letter, &to);
        to.into_iter().filter_map(|aid| self.post.wake(aid)).for_each(|wake| wake.notify_waiters());
        Ok(Sent { seq, receivers })
    }

    /// What is in an agent's mailbox; waits for something where there is nothing.
    pub(crate) async fn receive(&self, aid: Aid, after: u64, wait_ms: u64) -> Received {
        let wait = Duration::from_millis(wait_ms.min(WAIT_MAX_MS));
        let until = tokio::time::Instant::now() + wait;
        loop {
            let Some(wake) = self.post.wake(aid) else { return Received::default() };
            // Enabled before the look, so that what comes after the look wakes it.
            let mut woken = std::pin::pin!(wake.notified());
            woken.as_mut().enable();
            let got = self.post.boxes().receive(aid, after);
            if !got.messages.is_empty() || got.lost > 0 {
                return got;
            }
            if tokio::time::timeout_at(until, woken).await.is_err() {
                return self.post.boxes().receive(aid, after);
            }
        }
    }
}
