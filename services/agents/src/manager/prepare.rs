//! Workstations that are built before anybody spawns their agents.
//!
//! An operator's wish is for a manifest and a number. It is on record, kept on disk, and stands until it is taken back,
//! its manifest is accepted no longer or used up, or its workstations cannot be built. While it stands there are so many
//! agents with identifiers of their own whose programs wait; a spawn of the same manifest takes one of them after all that
//! is checked for any spawn, and another is made. None of them outlives this service: a program that nobody has asked for
//! is not worth a way of its own through a restart.

use super::Begin;
use super::network::trust_of;
use super::spawn::{Asked, blank, new_aid};
use super::{Agent, Handles, Manager, Start};
use crate::admit::{self, Admitted, WHAT};
use crate::core::prepared::Program;
use crate::core::{Ending, Event};
use crate::store::Saved;
use octant_api::agents::{AgentInfo, PREPARED_MAX, Prepared};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{Declared, Effective, Envelope};
use octant_service::{KeepError, record, replace};
use octant_sys::clock;
use octant_wire::Shutdown;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often it is looked whether every wish still stands. What is no longer trusted cannot be taken meanwhile either:
/// each spawn is admitted anew.
const SWEEP: Duration = Duration::from_secs(10);
/// How many times in a row a workstation cannot be built before its wish is given up.
const TRIES: u32 = 3;
const EXTENSION: &str = "wish";
const PREPARE: &str = "prepare agents";

/// What an operator wants prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    envelope: String,
    count: u64,
    by: Principal,
    name: String,
    operator: String,
    /// How many times in a row it could not be fulfilled.
    #[serde(skip)]
    failed: u32,
}

/// The wishes that stand, by their manifests' digests.
#[derive(Debug)]
pub(crate) struct Wishes {
    dir: PathBuf,
    rows: Mutex<BTreeMap<Sha256, Wish>>,
    /// Held while anything is prepared: one at a time.
    turn: tokio::sync::Mutex<()>,
    wake: Notify,
}

/// What is kept of an agent whose program waits.
#[derive(Debug)]
pub(super) struct Spare {
    /// The digest of the plan that its workstation was built from.
    pub(super) plan: Sha256,
    /// What PID 1 is given to keep once its program runs.
    pub(super) handles: Handles,
}

impl Wishes {
    /// Reads the wishes that an earlier run left. One that cannot be read is not fulfilled.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let (mut rows, mut sum) = (BTreeMap::new(), 0);
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let read = fs::read(&path).map_err(|e| e.to_string());
            let wish =
                read.and_then(|bytes| serde_json::from_slice::<Wish>(&bytes).map_err(|e| e.to_string()));
            let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            match (wish, named) {
                (Ok(wish), Some(digest)) if sum + wish.count <= PREPARED_MAX => {
                    sum += wish.count;
                    rows.insert(digest, wish);
                }
                (wish, _) => {
                    let why =
                        wish.err().unwrap_or_else(|| "it is one too many, or not named by a digest".into());
                    tracing::error!("{}: {why}; what it asks for is not prepared", path.display());
                }
            }
        }
        let (turn, wake) = (tokio::sync::Mutex::default(), Notify::new());
        Ok(Self { dir: dir.to_owned(), rows: Mutex::new(rows), turn, wake })
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Sha256, Wish>> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: Sha256) -> PathBuf {
        self.dir.join(digest.to_string()).with_extension(EXTENSION)
    }

    fn get(&self, digest: Sha256) -> Option<Wish> {
        self.rows().get(&digest).cloned()
    }

    /// How many others than this manifest's are wished for.
    fn beside(&self, digest: Sha256) -> u64 {
        self.rows().iter().filter(|(other, _)| **other != digest).map(|(_, wish)| wish.count).sum()
    }

    fn add(&self, digest: Sha256, wish: Wish) -> Result<(), KeepError> {
        // Numbers, text and a principal: there is nothing in it that JSON cannot say.
        let bytes = serde_json::to_vec(&wish).unwrap_or_default();
        replace(&self.path(digest), &bytes, true)?;
        self.rows().insert(digest, wish);
        Ok(())
    }

    fn remove(&self, digest: Sha256) -> Option<Wish> {
        let wish = self.rows().remove(&digest)?;
        let path = self.path(digest);
        if let Err(error) = fs::remove_file(&path) {
            tracing::error!("{}: {error}; after a restart it is fulfilled again", path.display());
        }
        Some(wish)
    }

    /// Counts a failure; whether it was the last.
    fn failed(&self, digest: Sha256) -> bool {
        let mut rows = self.rows();
        let Some(wish) = rows.get_mut(&digest) else { return false };
        wish.failed += 1;
        wish.failed >= TRIES
    }

    fn worked(&self, digest: Sha256) {
        if let Some(wish) = self.rows().get_mut(&digest) {
            wish.failed = 0;
        }
    }
}

/// An operator's command about what is prepared; it is about no one agent.
fn command(by: &Principal, what: &Value) -> AppendRequest {
    let mut entry = record(Kind::Command, what);
    if let Principal::Operator(uid) = by {
        entry.operator = Some(*uid);
    }
    entry
}

impl Manager {
    /// Prepares agents from a signed manifest, as many as are asked for, and from then on. To be run as a task of its own,
    /// as a spawn.
    pub(crate) async fn prepare(
        self: Arc<Self>,
        envelope: String,
        count: u64,
        caller: Principal,
    ) -> Result<Prepared, ApiError> {
        let refuse = |code, why: String, next| Err(ApiError::new(code, PREPARE, "count", why, next));
        let _turn = self.wishes.turn.lock().await;
        let digest = admit::digest(&Envelope::parse(envelope.as_bytes()));
        if !(1..=PREPARED_MAX).contains(&count) {
            let why = format!("{count} is not between 1 and {PREPARED_MAX}");
            return refuse(Code::InvalidParams, why, "see `octant agent prepared` for what is");
        }
        let others = self.wishes.beside(digest);
        if others + count > PREPARED_MAX {
            let why = format!(
                "{others} are prepared or to be, and with {count} more there are over {PREPARED_MAX}"
            );
            return refuse(Code::Busy, why, "see `octant agent prepared --drop`");
        }
        let what = json!({"do": "prepare", "manifest": digest, "count": count});
        let Admitted { declared, .. } = self.admit_beforehand(&envelope).await.inspect_err(|error| {
            let mut what = what.clone();
            what["refused"] = json!(error.message);
            self.records.later(command(&caller, &what));
        })?;
        let (_, recorded) = self.records.append(&[command(&caller, &what)]).await;
        recorded.map_err(|error| {
            let why = format!("the ledger did not accept the command: {error}");
            ApiError::new(Code::Unavailable, PREPARE, "ledger", why, "see `octant status`")
        })?;
        let identity = declared.manifest().identity();
        let (name, operator) = (identity.name.clone(), identity.operator.clone());
        let wish = Wish { envelope, count, by: caller, name, operator, failed: 0 };
        self.wishes.add(digest, wish).map_err(|error| {
            ApiError::new(Code::Unavailable, PREPARE, "the wish", error, "see the state directory of agents")
        })?;
        if let Err(error) = self.tend(digest).await {
            // Who asks is told, and so need not be told by its absence later.
            self.give_up(digest, &error.message);
            return Err(error);
        }
        self.prepared().into_iter().find(|row| row.manifest_digest == digest).ok_or_else(|| {
            ApiError::new(Code::Conflict, PREPARE, "the wish", "it was taken back meanwhile", "ask again")
        })
    }

    /// Every wish, with the agents that wait.
    pub(crate) fn prepared(&self) -> Vec<Prepared> {
        let rows = self.wishes.rows().clone();
        let row = |(digest, wish): (Sha256, Wish)| Prepared {
            manifest_digest: digest,
            name: wish.name,
            operator: wish.operator,
            asked_by: wish.by.to_string(),
            count: wish.count,
            agents: self.waiting(digest),
        };
        rows.into_iter().map(row).collect()
    }

    /// Takes a wish back, or all of them, and ends the agents that wait for that; says which, when they have ended.
    pub(crate) async fn discard(
        self: &Arc<Self>,
        manifest: Option<Sha256>,
        caller: &Principal,
    ) -> Result<Vec<Prepared>, ApiError> {
        let mut gone = self.prepared();
        gone.retain(|row| manifest.is_none_or(|digest| row.manifest_digest == digest));
        if let (Some(digest), []) = (manifest, &gone[..]) {
            let why = "nothing is prepared for this manifest";
            let next = "see `octant agent prepared`";
            return Err(ApiError::new(
                Code::NotFound,
                "drop what is prepared",
                digest.to_string(),
                why,
                next,
            ));
        }
        for row in &gone {
            self.wishes.remove(row.manifest_digest);
            let what = json!({"do": "drop prepared", "manifest": row.manifest_digest, "agents": row.agents});
            self.records.later(command(caller, &what));
        }
        for row in &mut gone {
            for aid in &row.agents {
                self.end_prepared(*aid).await;
            }
            // A spawn may have been quicker.
            row.agents.retain(|aid| self.ends(*aid));
        }
        for aid in gone.iter().flat_map(|row| row.agents.iter().copied()) {
            self.ended(aid).await?;
        }
        Ok(gone)
    }

    /// Keeps as many prepared as are wished for, until `stop`.
    pub(super) async fn keep_prepared(self: &Arc<Self>, stop: &Shutdown) {
        loop {
            let digests: Vec<Sha256> = self.wishes.rows().keys().copied().collect();
            for digest in digests {
                tokio::select! {
                    biased;
                    () = stop.requested() => return,
                    () = self.look_after(digest) => {}
                }
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = self.wishes.wake.notified() => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Has the wishes looked at now.
    pub(crate) fn look_at_wishes(&self) {
        self.wishes.wake.notify_one();
    }

    async fn look_after(self: &Arc<Self>, digest: Sha256) {
        // A task of its own: what is begun is not left half done.
        let manager = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _turn = manager.wishes.turn.lock().await;
            manager.tend(digest).await
        });
        let tended = task.await;
        if let Ok(Err(error)) = tended {
            tracing::warn!("what is wished for manifest {digest} cannot be prepared: {error}");
            if self.wishes.failed(digest) {
                self.give_up(digest, &error.message);
            }
        }
    }

    /// Brings what waits for a manifest to what is wished for.
    async fn tend(self: &Arc<Self>, digest: Sha256) -> Result<(), ApiError> {
        while let Some(wish) = self.wishes.get(digest) {
            let admitted = match self.admit_beforehand(&wish.envelope).await {
                Ok(admitted) => admitted,
                Err(error) => {
                    if error.code != Code::Unavailable {
                        self.give_up(digest, &error.message);
                    }
                    return Err(error);
                }
            };
            let validity = admitted.declared.manifest().validity();
            let uses = self.store.uses_left(digest, validity.max_spawns);
            let waiting = self.waiting(digest);
            let wanted = usize::try_from(wish.count.min(uses)).unwrap_or(usize::MAX);
            match waiting.last() {
                _ if uses == 0 => self.give_up(digest, "its manifest is used up"),
                Some(last) if waiting.len() > wanted => self.end_prepared(*last).await,
                _ if waiting.len() == wanted => return Ok(()),
                _ => {
                    self.prepare_one(admitted, &wish).await?;
                    self.wishes.worked(digest);
                }
            }
        }
        // It was taken back while one was being built for it.
        self.end_waiting(digest);
        Ok(())
    }

    /// Admits a manifest of which nothing is run yet: whether an operator approved a life without end is asked when one is
    /// taken.
    async fn admit_beforehand(self: &Arc<Self>, envelope: &str) -> Result<Admitted, ApiError> {
        let envelope = Envelope::parse(envelope.as_bytes());
        let admitted = self.admit(envelope, true, clock::wall_ms()).await;
        admitted.map_err(|refused| refused.error)
    }

    async fn prepare_one(self: &Arc<Self>, admitted: Admitted, wish: &Wish) -> Result<(), ApiError> {
        let Admitted { declared, rights } = admitted;
        let now_ms = clock::wall_ms();
        let aid = new_aid(now_ms)?;
        let saved = Saved::new(&self.site.boot_id, blank(aid, rights.digest()));
        let first = self.provision(saved, Some(rights), &wish.by, Program::Prepares)?;
        let asked = Asked::Prepared { key: declared.signer().key, caller: &wish.by };
        let introduced = self.introduce(aid).await;
        let event = match introduced.and_then(|()| self.reserve(aid, &asked, now_ms)) {
            Ok(()) => Event::Verified,
            Err(error) => self.refused(aid, error),
        };
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.intent["do"] = json!("prepare");
        }
        self.drive_after(aid, first, event).await;
        self.outcome(aid).map(drop)
    }

    /// The agents that wait for a spawn of a manifest, oldest first.
    fn waiting(&self, digest: Sha256) -> Vec<Aid> {
        let inner = self.inner();
        let waits = inner.agents.values().filter(|agent| agent.waits_for(digest));
        waits.map(|agent| agent.saved.info.aid).collect()
    }

    /// Gives a wish up, for what is on record, and ends the agents that wait for it.
    fn give_up(self: &Arc<Self>, digest: Sha256, why: &str) {
        let Some(wish) = self.wishes.remove(digest) else { return };
        let agents = self.waiting(digest);
        let what = json!({"prepared": agents, "name": wish.name, "manifest": digest, "dropped": why});
        let mut entry = record(Kind::Decision, &what);
        entry.manifest = Some(digest);
        self.records.later(entry);
        self.end_waiting(digest);
    }

    fn end_waiting(self: &Arc<Self>, digest: Sha256) {
        for aid in self.waiting(digest) {
            let manager = Arc::clone(self);
            tokio::spawn(async move { manager.end_prepared(aid).await });
        }
    }

    /// Ends one that waits; one that a spawn has taken meanwhile goes on.
    async fn end_prepared(self: &Arc<Self>, aid: Aid) {
        // Nobody else asked for it, so there is nobody to tell that it was ended already.
        let _refusal = self.drive(aid, Event::EndAsked { why: Ending::NotWanted, grace_ms: 0 }).await;
    }

    fn ends(&self, aid: Aid) -> bool {
        let inner = self.inner();
        let ends = |agent: &Agent| agent.state.ending.is_some() || agent.state.phase.ended();
        inner.agents.get(&aid).is_none_or(ends)
    }

    /// Takes an agent that waits for this manifest, if there is one and nothing speaks against it: then it is this
    /// spawn's, and its use is counted. Where something does, the spawn goes the whole way, and says there what it is.
    pub(super) fn take_prepared(
        &self,
        declared: &Declared,
        rights: &Effective,
        caller: &Principal,
        now_ms: u64,
    ) -> Option<Aid> {
        let mut inner = self.inner();
        if inner.running() >= self.site.max_agents {
            return None;
        }
        let agent = inner.agents.values_mut().find(|agent| agent.waits_for(declared.digest()))?;
        let (aid, slot) = (agent.saved.info.aid, agent.saved.slot?);
        let trust = trust_of(&agent.saved);
        let plan = self.spawner.plan(rights, aid, slot, None, trust).ok()?;
        let digest = plan.digest().ok()?;
        let built = agent.spare.as_ref()?.plan;
        if built != digest {
            tracing::error!(
                "{aid} was built from plan {built}, and its manifest gives {digest} now: not used"
            );
            return None;
        }
        self.count_use(declared, now_ms).ok()?;
        let asked = Asked::Operator { declared, caller, begin: &Begin::default() };
        agent.operator = match caller {
            Principal::Operator(uid) => Some(*uid),
            _ => None,
        };
        agent.saved.signed_with = Some(declared.signer().key.0);
        agent.intent["do"] = json!("spawn");
        agent.intent["prepared"] = json!(true);
        agent.intent["key"] = json!(asked.key());
        agent.intent["asked_by"] = json!(asked.by());
        agent.start = Some(Start { plan, digest, until_ns: None, ticket: None });
        Some(aid)
    }

    /// Lets go what a spawn has taken.
    pub(super) async fn let_go_prepared(self: &Arc<Self>, aid: Aid) -> Result<AgentInfo, ApiError> {
        let refused = self.drive(aid, Event::Taken).await;
        self.look_at_wishes();
        match refused {
            None => self.outcome(aid),
            Some((code, why)) => Err(ApiError::new(code, WHAT, aid.to_string(), why, "spawn it again")),
        }
    }
}
