//! The way of a message: its room, the ledger, the mailboxes, those who wait.

use super::Manager;
use crate::mailbox::kept::Kept;
use crate::mailbox::{self, Letter, Line, Mailboxes};
use octant_api::agent::{Received, SendRequest, Sent};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Sha256};
use octant_manifest::Action;
use octant_service::record;
use octant_sys::clock;
use serde_json::json;
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The longest wait for a message, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// How many rooms can be written to at once; rooms that share a line wait for each other.
const LINES: usize = 64;

/// Mailboxes, with the file of each.
#[derive(Debug, Default)]
struct Boxes {
    boxes: Mailboxes,
    kept: BTreeMap<Aid, Kept>,
}

impl Boxes {
    /// The mailbox that an agent had in an earlier run of this service, if it can be read; else a new one, which says
    /// so where there was one.
    fn open(&mut self, dir: &Path, agent: Aid, rooms: BTreeSet<String>, first: u64, restarted: bool) {
        if restarted {
            match Kept::read(dir, agent) {
                Ok((kept, lines)) => {
                    self.boxes.open_again(agent, rooms, lines);
                    self.kept.insert(agent, kept);
                    return;
                }
                Err(error) if !rooms.is_empty() => {
                    tracing::error!("{agent}: what was in its mailbox is lost: {error}");
                }
                // Nobody could send it anything.
                Err(_) => {}
            }
        }
        let (mut kept, written_to) = (Kept::new(dir, agent), !rooms.is_empty());
        self.boxes.open(agent, rooms, first, restarted && written_to);
        // There from the beginning: one that is missing after a restart is lost, and not empty.
        if let Some(is) = self.boxes.is(agent).filter(|_| written_to)
            && let Err(error) = kept.write_anew(&is)
        {
            tracing::error!(
                "{agent}: its mailbox cannot be kept: {error}; tried again with its first message"
            );
        }
        self.kept.insert(agent, kept);
    }

    /// Keeps what is about to happen to a mailbox.
    fn keep(&mut self, agent: Aid, line: &Line) -> Result<(), String> {
        let kept = self.kept.get_mut(&agent).ok_or("it has no mailbox any more")?;
        kept.add(|| self.boxes.is(agent), line).map_err(|error| error.to_string())
    }

    /// Puts a message into the mailboxes of those who are to get it and still have one, once that is kept; says how
    /// many. Who cannot be given it is told that something is lost.
    fn deliver(&mut self, letter: Letter, to: &[Aid]) -> u64 {
        let (weight, letter) = (letter.weight(), Arc::new(letter));
        let line = Line::Put(Letter::clone(&letter));
        let mut count = 0;
        for aid in to.iter().filter(|aid| self.boxes.has(**aid)).collect::<Vec<_>>() {
            match self.keep(*aid, &line) {
                Ok(()) => {
                    self.boxes.put(*aid, &letter, weight);
                    count += 1;
                }
                Err(error) => {
                    tracing::error!("{aid}: message {} cannot be put into its mailbox: {error}", letter.seq);
                    self.boxes.lose(*aid);
                }
            }
        }
        count
    }

    /// What waits for an agent, once it is kept that it has read the rest.
    fn receive(&mut self, agent: Aid, after: u64) -> Result<Received, String> {
        if self.boxes.changes(agent, after) {
            self.keep(agent, &Line::Read(after))?;
        }
        Ok(self.boxes.receive(agent, after))
    }
}

/// Every mailbox, and what orders and wakes.
#[derive(Debug)]
pub(crate) struct Post {
    /// Where the mailboxes' files are.
    dir: PathBuf,
    boxes: Mutex<Boxes>,
    wakes: Mutex<BTreeMap<Aid, Arc<Notify>>>,
    /// Held from the record of a message to its delivery, so that a room's messages arrive in the ledger's order.
    lines: [tokio::sync::Mutex<()>; LINES],
}

impl Post {
    pub(super) fn new(dir: &Path) -> Self {
        let lines = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Self { dir: dir.to_owned(), boxes: Mutex::default(), wakes: Mutex::default(), lines }
    }

    fn boxes(&self) -> MutexGuard<'_, Boxes> {
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
        {
            let mut boxes = self.boxes();
            boxes.boxes.close(agent);
            boxes.kept.remove(&agent);
            if let Err(error) = Kept::remove(&self.dir, agent) {
                tracing::error!("{agent}: the file of its mailbox cannot be removed: {error}");
            }
        }
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
    /// Gives an agent that runs its mailbox, for the rooms that it may be in; one that it has stays, also over a restart
    /// of this service.
    pub(crate) fn open_mailbox(&self, aid: Aid, restarted: bool) {
        let rooms = {
            let inner = self.inner();
            let rights = inner.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
            rights
                .map(|rights| rights.grants().rooms().iter().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        // In microseconds since the boot: where a mailbox is lost, more than its last number, since nobody gets a message
        // in each of them.
        let first = clock::boottime_ns() / 1000;
        let mut boxes = self.post.boxes();
        if !boxes.boxes.has(aid) {
            boxes.open(&self.post.dir, aid, rooms, first, restarted);
            self.post.wakes().entry(aid).or_default();
        }
    }

    /// Sends a message: on record first, then in the mailboxes.
    pub(crate) async fn send(self: &Arc<Self>, from: Aid, asked: SendRequest) -> Result<Sent, ApiError> {
        // Nobody is asked about what could not be done anyway.
        if mailbox::flaw(&asked.kind, &asked.body).is_none()
            && self.post.boxes().boxes.is_in(from, &asked.room)
        {
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
            if !boxes.boxes.is_in(from, &room) {
                let next = "its manifest has to name the room in [rooms], and so that of each agent above it";
                return refuse(Code::NotFound, &room, "this agent is in no such room", next);
            }
            boxes.boxes.receivers(from, &room)
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
    pub(crate) async fn receive(&self, aid: Aid, after: u64, wait_ms: u64) -> Result<Received, ApiError> {
        let wait = Duration::from_millis(wait_ms.min(WAIT_MAX_MS));
        let until = tokio::time::Instant::now() + wait;
        loop {
            let Some(wake) = self.post.wake(aid) else { return Ok(Received::default()) };
            // Enabled before the look, so that what comes after the look wakes it.
            let mut woken = std::pin::pin!(wake.notified());
            woken.as_mut().enable();
            let got = self.take_out(aid, after)?;
            if !got.messages.is_empty() || got.lost > 0 {
                return Ok(got);
            }
            if tokio::time::timeout_at(until, woken).await.is_err() {
                return self.take_out(aid, after);
            }
        }
    }

    fn take_out(&self, aid: Aid, after: u64) -> Result<Received, ApiError> {
        self.post.boxes().receive(aid, after).map_err(|why| {
            let why = format!("what was read cannot be taken out for good: {why}");
            ApiError::new(Code::Unavailable, "receive messages", aid.to_string(), why, "try again")
        })
    }
}

#[cfg(test)]
impl Manager {
    /// As after a write to a mailbox's file that failed.
    pub(crate) fn break_mailbox(&self, aid: Aid) {
        self.post.boxes().kept.insert(aid, Kept::new(&self.post.dir, aid));
    }
}
