//! What waits for an operator's answer. One queue, on stable storage: a request outlives this service and the machine.
//!
//! A request holds everything that will be done, and its digest is of exactly that. An answer names the digest that the
//! operator has seen. One that is allowed is taken out of the queue, durably, before it is carried out: it is used once,
//! whatever happens then. One that nobody answers in its time is denied.

use octant_api::agents::{Approval, ApprovalState};
use octant_ids::Sha256;
use octant_service::{KeepError, replace};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an operator has to answer.
pub(crate) const ANSWER_MS: u64 = 3_600_000;
/// How many requests can wait: each holds a signed manifest.
const WAITING_MAX: usize = 8;
/// How many answered ones are kept to be looked at; without what would have been done.
const ANSWERED_MAX: usize = 64;
const FILE: &str = "approvals.json";

/// Why a request cannot be made or answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApprovalError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("there is no approval {0}")]
    Unknown(String),
    #[error("it is {} already: {why}", state.as_str())]
    Answered { state: ApprovalState, why: String },
    #[error("the answer is to a request with digest {given}, and this one has {is}")]
    Digest { given: Sha256, is: Sha256 },
    #[error("{WAITING_MAX} requests wait for an answer; answer one")]
    Full,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) info: Approval,
    /// The envelope to be spawned, while it waits.
    envelope: String,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    path: PathBuf,
    rows: Mutex<Vec<Row>>,
}

/// The digest of exactly what will be done.
fn digest(action: &str, envelope: &str) -> Sha256 {
    let mut hash = sha2::Sha256::new();
    for part in ["octant approval v1", action, envelope] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Sha256(hash.finalize().into())
}

impl Queue {
    /// Reads the queue. One that is damaged stops the start: what it held was asked for.
    pub(crate) fn open(dir: &std::path::Path) -> Result<Self, ApprovalError> {
        let path = dir.join(FILE);
        let rows = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| ApprovalError::Damaged { path: path.clone(), why: e.to_string() })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ApprovalError::Read { path, source }),
        };
        Ok(Self { path, rows: Mutex::new(rows) })
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps changed rows, durably, and only then counts them as changed.
    fn keep(&self, rows: &mut Vec<Row>, mut next: Vec<Row>) -> Result<(), ApprovalError> {
        let answered = next.iter().filter(|row| row.info.state != ApprovalState::Waiting).count();
        let mut excess = answered.saturating_sub(ANSWERED_MAX);
        next.retain(|row| {
            let old = row.info.state != ApprovalState::Waiting && excess > 0;
            excess -= usize::from(old);
            !old
        });
        let damaged =
            |e: serde_json::Error| ApprovalError::Damaged { path: self.path.clone(), why: e.to_string() };
        replace(&self.path, &serde_json::to_vec(&next).map_err(damaged)?, true)?;
        *rows = next;
        Ok(())
    }

    /// Asks. The same that waits already is not asked twice.
    pub(crate) fn ask(
        &self,
        id: String,
        action: &str,
        subject: String,
        asked_by: String,
        envelope: String,
        now_ms: u64,
    ) -> Result<Approval, ApprovalError> {
        let digest = digest(action, &envelope);
        let mut rows = self.rows();
        let waits = |row: &&Row| row.info.state == ApprovalState::Waiting && now_ms < row.info.expires_ms;
        if let Some(same) = rows.iter().filter(waits).find(|row| row.info.digest == digest) {
            return Ok(same.info.clone());
        }
        if rows.iter().filter(waits).count() >= WAITING_MAX {
            return Err(ApprovalError::Full);
        }
        let info = Approval {
            id,
            action: action.to_owned(),
            subject,
            asked_by,
            digest,
            asked_ms: now_ms,
            expires_ms: now_ms.saturating_add(ANSWER_MS),
            state: ApprovalState::Waiting,
            why: String::new(),
        };
        let mut next = rows.clone();
        next.push(Row { info: info.clone(), envelope });
        self.keep(&mut rows, next)?;
        Ok(info)
    }

    /// Every request, oldest first.
    pub(crate) fn list(&self) -> Vec<Approval> {
        self.rows().iter().map(|row| row.info.clone()).collect()
    }

    /// One request.
    pub(crate) fn show(&self, id: &str) -> Result<Approval, ApprovalError> {
        let found = self.rows().iter().find(|row| row.info.id == id).map(|row| row.info.clone());
        found.ok_or_else(|| ApprovalError::Unknown(id.chars().take(64).collect()))
    }

    /// Answers a request that waits, once and for good. Gives what is to be done where it is allowed.
    pub(crate) fn answer(
        &self,
        id: &str,
        given: Sha256,
        state: ApprovalState,
        by: &str,
        now_ms: u64,
    ) -> Result<(Approval, String), ApprovalError> {
        let mut rows = self.rows();
        let mut next = rows.clone();
        let unknown = || ApprovalError::Unknown(id.chars().take(64).collect());
        let row = next.iter_mut().find(|row| row.info.id == id).ok_or_else(unknown)?;
        let info = &mut row.info;
        if info.state != ApprovalState::Waiting {
            return Err(ApprovalError::Answered { state: info.state, why: info.why.clone() });
        }
        if now_ms >= info.expires_ms {
            return Err(ApprovalError::Answered { state: ApprovalState::Expired, why: no_answer() });
        }
        // The digest anew: what is carried out is what is kept, whatever the file was made to say.
        let is = digest(&info.action, &row.envelope);
        if given != info.digest || given != is {
            return Err(ApprovalError::Digest { given, is });
        }
        (info.state, info.why) = (state, format!("by {by}"));
        let answered = (info.clone(), std::mem::take(&mut row.envelope));
        self.keep(&mut rows, next)?;
        Ok(answered)
    }

    /// Denies what nobody has answered in its time; gives what that was.
    pub(crate) fn expire(&self, now_ms: u64) -> Result<Vec<Approval>, ApprovalError> {
        let mut rows = self.rows();
        let mut next = rows.clone();
        let mut over = Vec::new();
        for row in &mut next {
            if row.info.state == ApprovalState::Waiting && now_ms >= row.info.expires_ms {
                (row.info.state, row.info.why) = (ApprovalState::Expired, no_answer());
                row.envelope.clear();
                over.push(row.info.clone());
            }
        }
        if !over.is_empty() {
            self.keep(&mut rows, next)?;
        }
        Ok(over)
    }
}

fn no_answer() -> String {
    format!("denied, since nobody answered within {} minutes", ANSWER_MS / 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Scratch;

    fn ask(queue: &Queue, id: &str, envelope: &str, now_ms: u64) -> Result<Approval, ApprovalError> {
        queue.ask(id.into(), "lifetime.unlimited", "one".into(), "operator:0".into(), envelope.into(), now_ms)
    }

    fn allow(queue: &Queue, asked: &Approval, digest: Sha256, now_ms: u64) -> Result<String, ApprovalError> {
        queue.answer(&asked.id, digest, ApprovalState::Allowed, "operator:0", now_ms).map(|done| done.1)
    }

    #[test]
    fn an_answer_counts_once_for_what_was_seen_and_over_restarts() {
        let scratch = Scratch::new();
        let open = || Queue::open(scratch.path()).unwrap();
        let one = ask(&open(), "a", "one", 1).unwrap();
        let two = ask(&open(), "b", "two", 1).unwrap();
        assert_eq!(ask(&open(), "c", "one", 2).unwrap(), one, "it waits already");
        let error = allow(&open(), &one, two.digest, 2).unwrap_err();
        assert!(matches!(error, ApprovalError::Digest { .. }), "{error}");
        assert_eq!(allow(&open(), &one, one.digest, 2).unwrap(), "one");
        let error = allow(&open(), &one, one.digest, 3).unwrap_err();
        assert!(matches!(error, ApprovalError::Answered { state: ApprovalState::Allowed, .. }), "{error}");
        assert!(ask(&open(), "c", "one", 4).unwrap().id == "c", "used up, so it is asked anew");
        assert!(matches!(open().show("x").unwrap_err(), ApprovalError::Unknown(_)));
    }

    #[test]
    fn what_nobody_answers_is_denied() {
        let scratch = Scratch::new();
        let queue = Queue::open(scratch.path()).unwrap();
        let one = ask(&queue, "a", "one", 1).unwrap();
        assert_eq!(queue.expire(ANSWER_MS).unwrap(), []);
        let error = allow(&queue, &one, one.digest, 1 + ANSWER_MS).unwrap_err();
        assert!(
            matches!(error, ApprovalError::Answered { state: ApprovalState::Expired, .. }),
            "before it is swept"
        );
        let over = queue.expire(1 + ANSWER_MS).unwrap();
        assert_eq!(over[0].state, ApprovalState::Expired);
        assert!(over[0].why.contains("60 minutes"), "{}", over[0].why);
        assert_eq!(queue.expire(2 + ANSWER_MS).unwrap(), [], "once");
        assert!(allow(&queue, &one, one.digest, 2).is_err(), "also when the clock is put back");
    }

    #[test]
    fn what_was_changed_on_disk_is_not_carried_out() {
        let scratch = Scratch::new();
        let one = ask(&Queue::open(scratch.path()).unwrap(), "a", "one", 1).unwrap();
        let path = scratch.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap().replace("\"envelope\":\"one\"", "\"envelope\":\"two\"");
        fs::write(&path, text).unwrap();
        let error = allow(&Queue::open(scratch.path()).unwrap(), &one, one.digest, 2).unwrap_err();
        assert!(matches!(error, ApprovalError::Digest { .. }), "{error}");
        fs::write(&path, "{").unwrap();
        assert!(matches!(Queue::open(scratch.path()), Err(ApprovalError::Damaged { .. })));
    }

    #[test]
    fn the_queue_is_bounded() {
        let scratch = Scratch::new();
        let queue = Queue::open(scratch.path()).unwrap();
        for i in 0..100 {
            let asked = ask(&queue, &i.to_string(), &i.to_string(), 1).unwrap();
            queue.answer(&asked.id, asked.digest, ApprovalState::Denied, "operator:0", 1).unwrap();
        }
        assert_eq!((queue.list().len(), queue.list()[0].id.as_str()), (ANSWERED_MAX, "36"));
        for i in 0..WAITING_MAX {
            ask(&queue, &format!("w{i}"), &format!("w{i}"), 1).unwrap();
        }
        assert!(matches!(ask(&queue, "more", "more", 1), Err(ApprovalError::Full)));
        assert!(ask(&queue, "more", "more", 1 + ANSWER_MS).is_ok(), "the others wait no more");
    }
}
