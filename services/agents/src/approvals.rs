//! What waits for an operator's answer. One queue, on stable storage: a request outlives this service and the machine.
//!
//! | state   | what happens           | then    |
//! |---------|------------------------|---------|
//! | waiting | an answer that counts  | allowed or denied |
//! | waiting | its time is over, or its agent | expired |
//! | allowed | it is used             | used    |
//! | allowed | the answer's time is over, or its agent | expired |
//!
//! A request is the text of exactly what will be done, and its digest. Whoever asks asks again with the same text after
//! the answer: then it is used, once. Nothing is carried out from here, so nothing here has to be believed for longer
//! than it takes to compare two digests.
//!
//! Time never goes back in here: neither what has expired nor what was answered becomes open again when the clock of the
//! machine is set back.

use octant_api::agents::{Approval, ApprovalState};
use octant_api::text::Json;
use octant_ids::{Aid, Sha256};
use octant_service::{KeepError, replace};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How long an operator has to answer, in milliseconds.
pub(crate) const ANSWER_MS: u64 = 3_600_000;
/// How many requests of one who asks can be open. What is one too many is refused; nothing is pushed out.
pub(crate) const OPEN_OF_ONE: usize = 8;
/// The same for an agent that an operator spawned with all its descendants.
const OPEN_OF_FAMILY: usize = 32;
/// The same for all agents, and for everybody: agents do not take the last places of operators.
const OPEN_OF_AGENTS: usize = 224;
const OPEN: usize = 256;
/// How many closed ones are kept to be looked at; without what would have been done.
const CLOSED: usize = 256;
/// The longest file of a request: a manifest, every byte of which JSON can write with six.
const FILE_MAX: u64 = 2 << 20;
const DIR: &str = "approvals";
const MS: u64 = 1_000_000;

/// Why a request cannot be made, answered or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApprovalError {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("there is no approval {0}")]
    Unknown(String),
    #[error("it is {} already: {why}", state.as_str())]
    Closed { state: ApprovalState, why: String },
    #[error("it is being used right now, and counts once")]
    InUse,
    #[error("{count} requests of {whose} wait already, which is the limit; let an operator answer them")]
    Full { count: usize, whose: &'static str },
}

/// The time: by the machine's clock, which can be set, and since its boot, which cannot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    pub(crate) wall_ms: u64,
    pub(crate) boot_ns: u64,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) role: String,
    pub(crate) agent: Option<Aid>,
    /// The first of the agent's line: itself where an operator spawned it.
    pub(crate) family: Option<Aid>,
    pub(crate) asked_by: String,
    /// Exactly what will be done.
    pub(crate) what: Json,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    info: Approval,
    family: Option<Aid>,
    /// The signed answer, while it can be used.
    answer: Option<String>,
    /// Whether it is being used. Not kept: what was not done by a restart is not done.
    #[serde(skip)]
    in_use: bool,
}

impl Row {
    fn open(&self) -> bool {
        !self.info.state.closed()
    }

    fn close(&mut self, state: ApprovalState, why: String) {
        (self.info.state, self.info.why) = (state, why);
        (self.info.what, self.answer) = (None, None);
    }
}

/// Where what is asked for stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// It waits for an answer; whether it was asked just now.
    Waits { asked: Approval, new: bool },
    /// An operator denied it, and is not asked again as long as that request would have lasted.
    Denied(Approval),
    /// It may be done, with the answer that says so. It is in use until it is [`Queue::used`] or its [`InUse`] is gone.
    Allowed { asked: Approval, answer: String },
}

/// That a request is being used. Where that comes to nothing, since a step failed or who asked went away, it can be used
/// still.
#[derive(Debug)]
pub(crate) struct InUse<'a> {
    queue: &'a Queue,
    id: String,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut inner = self.queue.inner();
        if let Some(row) = inner.rows.iter_mut().find(|row| row.info.id == self.id) {
            row.in_use = false;
        }
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    dir: PathBuf,
    inner: Mutex<Inner>,
    /// Told of each change of a state.
    changed: watch::Sender<()>,
    /// Held by who takes an answer, from its record to its effect.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Oldest first.
    rows: Vec<Row>,
    latest: Now,
}

impl Inner {
    /// The time in milliseconds since 1970, which never goes back and goes on at least as fast as the machine's uptime.
    fn time(&mut self, now: Now) -> u64 {
        let since = now.boot_ns.saturating_sub(self.latest.boot_ns) / MS;
        let wall_ms = now.wall_ms.max(self.latest.wall_ms.saturating_add(since));
        self.latest = Now { wall_ms, boot_ns: now.boot_ns };
        wall_ms
    }

    fn find(&self, id: &str) -> Result<usize, ApprovalError> {
        let found = self.rows.iter().position(|row| row.info.id == id);
        found.ok_or_else(|| ApprovalError::Unknown(id.chars().take(64).collect()))
    }

    /// Refuses one more where there are enough.
    fn room(&self, wanted: &Wanted) -> Result<(), ApprovalError> {
        let open = |of: &dyn Fn(&Row) -> bool| self.rows.iter().filter(|row| row.open() && of(row)).count();
        let family = |row: &Row| row.family.is_some() && row.family == wanted.family;
        let agent = wanted.agent.is_some();
        let limits: [(usize, usize, &'static str); 4] = [
            (open(&|row| row.info.asked_by == wanted.asked_by), OPEN_OF_ONE, "the same who asks"),
            (open(&family), OPEN_OF_FAMILY, "this agent's family"),
            (open(&|row| agent && row.info.agent.is_some()), OPEN_OF_AGENTS, "agents"),
            (open(&|_| true), OPEN, "everybody"),
        ];
        match limits.into_iter().find(|(count, limit, _)| count >= limit) {
            Some((count, _, whose)) => Err(ApprovalError::Full { count, whose }),
            None => Ok(()),
        }
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ApprovalError {
    move |source| ApprovalError::Io { step, path: path.to_owned(), source }
}

/// The digest of exactly what will be done.
pub(crate) fn digest(what: &Json) -> Sha256 {
    Sha256(sha2::Sha256::digest(what.text()).into())
}

fn load(path: &Path) -> Result<Row, ApprovalError> {
    let damaged = |why: String| ApprovalError::Damaged { path: path.to_owned(), why };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    read.map_err(failed("read", path))?;
    let row: Row = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if path.file_stem().is_none_or(|name| *name != *row.info.id) {
        return Err(damaged("it is another request's".to_owned()));
    }
    // What will be done is what the digest says, whatever the file was made to say.
    if row.info.what.as_ref().is_some_and(|what| digest(what) != row.info.digest) {
        return Err(damaged("what would be done is not what was asked for".to_owned()));
    }
    Ok(row)
}

impl Queue {
    /// Reads the queue, in a directory that exists. One that is damaged stops the start: what it held was asked for.
    pub(crate) fn open(state: &Path) -> Result<Self, ApprovalError> {
        let dir = state.join(DIR);
        fs::create_dir_all(&dir).map_err(failed("create", &dir))?;
        let mut rows = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
            let path = entry.map_err(failed("list", &dir))?.path();
            // A file that was being replaced when the machine stopped is none.
            if path.extension().is_some_and(|extension| extension == "json") {
                rows.push(load(&path)?);
            }
        }
        rows.sort_by(|a, b| (a.info.asked_ms, &a.info.id).cmp(&(b.info.asked_ms, &b.info.id)));
        // It was at least so late before.
        let wall_ms = rows.iter().map(|row| row.info.asked_ms).max().unwrap_or(0);
        let inner = Mutex::new(Inner { rows, latest: Now { wall_ms, boot_ns: u64::MAX } });
        Ok(Self { dir, inner, changed: watch::Sender::default(), turn: tokio::sync::Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a changed row, durably, and only then counts it as changed.
    fn keep(&self, inner: &mut Inner, row: Row) -> Result<(), ApprovalError> {
        let path = self.dir.join(format!("{}.json", row.info.id));
        let bytes = serde_json::to_vec(&row)
            .map_err(|e| ApprovalError::Damaged { path: path.clone(), why: e.to_string() })?;
        replace(&path, &bytes, true)?;
        match inner.rows.iter_mut().find(|known| known.info.id == row.info.id) {
            Some(known) => *known = row,
            None => inner.rows.push(row),
        }
        self.changed.send_replace(());
        self.prune(inner)
    }

    /// Forgets the oldest of those that are closed.
    fn prune(&self, inner: &mut Inner) -> Result<(), ApprovalError> {
        let closed = inner.rows.iter().filter(|row| !row.open()).count();
        for _ in CLOSED..closed {
            let Some(at) = inner.rows.iter().position(|row| !row.open()) else { break };
            let path = self.dir.join(format!("{}.json", inner.rows[at].info.id));
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            inner.rows.remove(at);
        }
        Ok(())
    }

    /// The time of the queue, in milliseconds since 1970.
    pub(crate) fn time(&self, now: Now) -> u64 {
        self.inner().time(now)
    }

    /// Asks, or says where the same stands that was asked before.
    pub(crate) fn ask(&self, id: String, wanted: &Wanted, now: Now) -> Result<Stands, ApprovalError> {
        let digest = digest(&wanted.what);
        let mut inner = self.inner();
        let now_ms = inner.time(now);
        let same = |row: &&mut Row| {
            let info = &row.info;
            info.digest == digest && info.asked_by == wanted.asked_by && now_ms < info.expires_ms
        };
        for row in inner.rows.iter_mut().rev().filter(same) {
            let asked = row.info.clone();
            match (asked.state, &row.answer) {
                (ApprovalState::Waiting, _) => return Ok(Stands::Waits { asked, new: false }),
                (ApprovalState::Denied, _) => return Ok(Stands::Denied(asked)),
                (ApprovalState::Allowed, _) if row.in_use => return Err(ApprovalError::InUse),
                (ApprovalState::Allowed, Some(answer)) => {
                    let answer = answer.clone();
                    row.in_use = true;
                    return Ok(Stands::Allowed { asked, answer });
                }
                _ => {}
            }
        }
        inner.room(wanted)?;
        let asked = Approval {
            id,
            action: wanted.action.clone(),
            subject: wanted.subject.clone(),
            role: wanted.role.clone(),
            agent: wanted.agent,
            asked_by: wanted.asked_by.clone(),
            digest,
            asked_ms: now_ms,
            expires_ms: now_ms.saturating_add(ANSWER_MS),
            state: ApprovalState::Waiting,
            why: String::new(),
            what: Some(wanted.what.clone()),
        };
        let row = Row { info: asked.clone(), family: wanted.family, answer: None, in_use: false };
        self.keep(&mut inner, row)?;
        Ok(Stands::Waits { asked, new: true })
    }

    /// Every request, oldest first, without what will be done.
    pub(crate) fn list(&self) -> Vec<Approval> {
        let short = |row: &Row| Approval { what: None, ..row.info.clone() };
        self.inner().rows.iter().map(short).collect()
    }

    /// One request.
    pub(crate) fn show(&self, id: &str) -> Result<Approval, ApprovalError> {
        let inner = self.inner();
        inner.find(id).map(|at| inner.rows[at].info.clone())
    }

    /// One request that waits, for an answer to it.
    pub(crate) fn waiting(&self, id: &str, now: Now) -> Result<Approval, ApprovalError> {
        let mut inner = self.inner();
        let now_ms = inner.time(now);
        let info = inner.find(id).map(|at| &inner.rows[at].info)?;
        let why = || if info.state == ApprovalState::Waiting { no_answer() } else { info.why.clone() };
        match info.state {
            ApprovalState::Waiting if now_ms < info.expires_ms => Ok(info.clone()),
            ApprovalState::Waiting => {
                Err(ApprovalError::Closed { state: ApprovalState::Expired, why: why() })
            }
            state => Err(ApprovalError::Closed { state, why: why() }),
        }
    }

    /// Answers a request that waits, once and for good.
    pub(crate) fn answer(
        &self,
        id: &str,
        until_ms: Option<u64>,
        by: &str,
        envelope: &str,
        now: Now,
    ) -> Result<Approval, ApprovalError> {
        // Again: its time may have ended meanwhile.
        self.waiting(id, now)?;
        let mut inner = self.inner();
        let mut row = inner.rows[inner.find(id)?].clone();
        if row.info.state != ApprovalState::Waiting {
            return Err(ApprovalError::Closed { state: row.info.state, why: row.info.why });
        }
        match until_ms {
            Some(until_ms) => {
                (row.info.state, row.info.why) = (ApprovalState::Allowed, format!("by {by}"));
                row.info.expires_ms = until_ms;
                row.answer = Some(envelope.to_owned());
            }
            None => row.close(ApprovalState::Denied, format!("by {by}")),
        }
        let info = Approval { what: None, ..row.info.clone() };
        self.keep(&mut inner, row)?;
        Ok(info)
    }

    /// Uses up what is in use, durably: only then may it be done.
    pub(crate) fn used(&self, id: &str) -> Result<(), ApprovalError> {
        let mut inner = self.inner();
        let mut row = inner.rows[inner.find(id)?].clone();
        let why = row.info.why.clone();
        row.close(ApprovalState::Used, why);
        row.in_use = false;
        self.keep(&mut inner, row)
    }

    /// Holds what is in use, for as long as whoever uses it does not give up.
    pub(crate) fn in_use(&self, id: String) -> InUse<'_> {
        InUse { queue: self, id }
    }

    /// Denies what nobody has answered or used in its time, and what is for an agent that has ended; gives what that was.
    pub(crate) fn expire(
        &self,
        now: Now,
        ended: impl Fn(Aid) -> bool,
    ) -> Result<Vec<Approval>, ApprovalError> {
        let mut inner = self.inner();
        let now_ms = inner.time(now);
        let mut over = Vec::new();
        for mut row in inner.rows.clone() {
            if !row.open() || row.in_use {
                continue;
            }
            let why = match row.info.state {
                _ if row.info.agent.is_some_and(&ended) => "denied, since the agent has ended".to_owned(),
                _ if now_ms < row.info.expires_ms => continue,
                ApprovalState::Waiting => no_answer(),
                _ => "denied, since it was not used while the answer counted".to_owned(),
            };
            row.close(ApprovalState::Expired, why);
            over.push(row.info.clone());
            self.keep(&mut inner, row)?;
        }
        Ok(over)
    }

    /// Waits until a request is answered, or closed otherwise.
    pub(crate) async fn answered(&self, id: &str) -> Result<Approval, ApprovalError> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let info = self.show(id)?;
            // The queue does not end before whoever waits in it.
            if info.state != ApprovalState::Waiting || changed.changed().await.is_err() {
                return Ok(info);
            }
        }
    }
}

fn no_answer() -> String {
    format!("denied, since nobody answered within {} minutes", ANSWER_MS / 60_000)
}
