//! Keeping what a manifest says is to be kept of its agent's workspace: after its last process has ended, and before the
//! workspace is let go.

use super::{Agent, Manager, about};
use crate::archive::Archive;
use crate::store::Retain;
use octant_api::agents::{AgentInfo, AgentState, Artefacts, Fetched, RecordRequest, Recorded};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Principal, Sha256};
use octant_service::record;
use octant_tree::{Place, StoreError, Wish};
use serde_json::{Value, json};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// How often it is tried. Between the tries there are the pauses of a retirement, up to a minute.
const TRIES: u32 = 8;
/// How many of what was left out the ledger names, and how much of each name; the agent's record has more.
const TOLD: usize = 16;
const TOLD_CHARS: usize = 200;
/// The most bytes of what an operator's deed is of.
const OF_BYTES: usize = 1024;
/// How long the process that reads may take to end after its last word, in milliseconds.
const READER_MS: u16 = 5_000;

/// What was to be kept, and through what.
pub(super) struct Due {
    slot: u32,
    wish: Wish,
    workspace: Arc<OwnedFd>,
}

impl Due {
    /// What of this agent is kept, as its manifest says; none where nothing is.
    pub(super) fn of(agent: &Agent) -> Option<Result<Self, String>> {
        let retain = agent.saved.terms.as_ref()?.retain.as_ref()?;
        let slot = agent.saved.slot?;
        let lost = || "its workspace was lost in a restart of agents".to_owned();
        let workspace = agent.workspace.clone().ok_or_else(lost);
        Some(workspace.and_then(|workspace| Ok(Self { slot, wish: wish_of(retain)?, workspace })))
    }
}

/// What is kept, while one agent's is added to it: one at a time, so that each knows how much room there is.
pub(super) type Room = tokio::sync::OwnedMutexGuard<Archive>;

impl Manager {
    /// Keeps what is to be kept of an ended agent; whether that is over, done or given up.
    pub(super) async fn keep_artefacts(&self, aid: Aid) -> bool {
        let due = {
            let inner = self.inner();
            let Some(agent) = inner.agents.get(&aid) else { return true };
            let info = &agent.saved.info;
            let (Some(due), None, Some(_)) = (Due::of(agent), &info.artefacts, info.started_ms) else {
                return true;
            };
            due
        };
        let kept = match due {
            Ok(due) => self.collect(aid, due, self.room().await).await,
            Err(why) => return self.kept(aid, Artefacts { failed: Some(why), ..Artefacts::default() }),
        };
        let tried = {
            let mut inner = self.inner();
            let Some(agent) = inner.agents.get_mut(&aid) else { return true };
            agent.tried_to_keep += 1;
            agent.tried_to_keep
        };
        match kept {
            Ok(artefacts) => self.kept(aid, artefacts),
            Err(why) if tried >= TRIES => {
                tracing::error!("{aid}: what was to be kept of it is not: {why}");
                self.kept(aid, Artefacts { failed: Some(why), ..Artefacts::default() })
            }
            Err(why) => {
                tracing::warn!("{aid}: what is to be kept of it cannot be read: {why}; trying again");
                false
            }
        }
    }

    pub(super) async fn room(&self) -> Room {
        Arc::clone(&self.archive).lock_owned().await
    }

    /// Keeps what is to be kept of an agent of which nothing runs.
    pub(super) async fn collect(&self, aid: Aid, due: Due, archive: Room) -> Result<Artefacts, String> {
        let Due { slot, wish, workspace } = due;
        let text = |error: StoreError| error.to_string();
        let wish = archive.bounded(wish).map_err(text)?;
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))?;
        let asked = wish.clone();
        let reader = self
            .blocking(move |spawner| spawner.collect(slot, aid, &asked, workspace.as_fd(), write.as_fd()))
            .await??;
        let taken = tokio::task::spawn_blocking(move || {
            let taken = archive.take(&wish, read).map_err(text);
            // It has the agent's user, so that nothing could be retired while it is there.
            let mut ended = [nix::poll::PollFd::new(reader.as_fd(), nix::poll::PollFlags::POLLIN)];
            match nix::poll::poll(&mut ended, READER_MS) {
                Ok(0) | Err(_) => tracing::warn!("{aid}: the process that read its workspace is still there"),
                Ok(_) => {}
            }
            taken
        });
        taken.await.map_err(|e| format!("the keeping was not finished: {e}"))?
    }

    /// Puts on record what was kept, and lets the workspace go.
    fn kept(&self, aid: Aid, artefacts: Artefacts) -> bool {
        let mut inner = self.inner();
        let Some(agent) = inner.agents.get_mut(&aid) else { return true };
        let mut entry = about(aid, Kind::Lifecycle, &told(aid, &agent.saved.info.name, &artefacts));
        entry.agent = entry.agent.filter(|_| !agent.sealed);
        self.records.later(entry);
        agent.saved.info.artefacts = Some(artefacts);
        agent.workspace = None;
        agent.changed.send_modify(|_| {});
        self.keep(&mut inner, aid, false);
        true
    }

    /// What is known of an agent once what is to be kept of it is; of one that keeps nothing, once it has ended.
    pub(crate) async fn artefacts(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let mut changed = {
            let inner = self.inner();
            let agent = inner.agents.get(&aid).ok_or_else(|| super::no_agent(&aid.to_string()))?;
            agent.changed.subscribe()
        };
        loop {
            let info = self.info(aid)?;
            let over = matches!(info.state, AgentState::Archived | AgentState::Rejected);
            if info.artefacts.is_some() || over {
                return Ok(info);
            }
            if changed.changed().await.is_err() {
                return self.info(aid);
            }
        }
    }

    /// Artefacts, as a stream out of a pipe.
    pub(crate) async fn fetch(&self, tree: Sha256) -> Result<(Fetched, OwnedFd), ApiError> {
        let given = self.archive.lock().await.give(tree);
        let (pipe, entries, bytes) = given.map_err(|error| failed("give artefacts out", tree, &error))?;
        Ok((Fetched { entries, bytes }, pipe))
    }

    /// Puts on record what an operator does with images and snapshots.
    pub(crate) async fn record_kept(
        &self,
        request: &RecordRequest,
        caller: &Principal,
    ) -> Result<Recorded, ApiError> {
        const WHAT: &str = "record what is done";
        let RecordRequest { deed, digest, of } = request;
        if of.len() > OF_BYTES {
            let why = format!("what it is of has {} bytes, the limit is {OF_BYTES}", of.len());
            return Err(ApiError::new(Code::InvalidParams, WHAT, digest.to_string(), why, "say less"));
        }
        let mut entry = record(Kind::Command, &json!({"do": deed, "digest": digest, "of": of}));
        entry.operator = operator(caller);
        let (mut done, all) = self.records.append(&[entry]).await;
        let next = "see `octant status`; nothing is kept for agents without a record";
        all.map_err(|error| ApiError::new(Code::Unavailable, WHAT, "ledger", error.to_string(), next))?;
        let seq = done.pop().flatten().map(|done| done.seq);
        seq.map(|seq| Recorded { seq })
            .ok_or_else(|| ApiError::new(Code::Internal, WHAT, "ledger", "it did not say which entry", next))
    }

    /// Removes artefacts; whose they were.
    pub(crate) async fn remove_artefacts(
        &self,
        tree: Sha256,
        caller: &Principal,
    ) -> Result<Vec<Aid>, ApiError> {
        const WHAT: &str = "remove artefacts";
        let archive = Arc::clone(&self.archive).lock_owned().await;
        let removed = tokio::task::spawn_blocking(move || archive.remove(tree)).await;
        removed
            .map_err(|e| ApiError::new(Code::Internal, WHAT, tree.to_string(), e, "try again"))?
            .map_err(|error| failed(WHAT, tree, &error))?;
        let mut inner = self.inner();
        let of = |info: &AgentInfo| {
            let end = info.artefacts.as_ref().is_some_and(|kept| kept.tree == Some(tree));
            end || info.snapshots.iter().any(|snapshot| snapshot.tree == tree)
        };
        let theirs = inner.agents.iter().filter(|(_, agent)| of(&agent.saved.info));
        let agents: Vec<Aid> = theirs.map(|(aid, _)| *aid).collect();
        for aid in &agents {
            if let Some(agent) = inner.agents.get_mut(aid) {
                let info = &mut agent.saved.info;
                info.snapshots.retain(|snapshot| snapshot.tree != tree);
                for artefacts in info.artefacts.iter_mut().filter(|kept| kept.tree == Some(tree)) {
                    artefacts.removed = true;
                }
            }
            self.keep(&mut inner, *aid, false);
        }
        // It takes something away, so the record need not come first.
        let mut entry =
            record(Kind::Command, &json!({"do": "remove_artefacts", "artefacts": tree, "of": agents}));
        entry.operator = operator(caller);
        self.records.later(entry);
        Ok(agents)
    }
}

fn operator(caller: &Principal) -> Option<u32> {
    match caller {
        Principal::Operator(uid) => Some(*uid),
        _ => None,
    }
}

fn failed(what: &str, tree: Sha256, error: &StoreError) -> ApiError {
    let code = if matches!(error, StoreError::NotFound(_)) { Code::NotFound } else { Code::Failed };
    let next = "see `octant agent list --all` and `octant agent artefacts`";
    ApiError::new(code, what, tree.to_string(), error.to_string(), next)
}

fn wish_of(retain: &Retain) -> Result<Wish, String> {
    let parse = |text: &String| Place::parse(text.as_bytes()).map_err(|e| e.to_string());
    let places = retain.places.as_ref().map(|all| all.iter().map(parse).collect()).transpose()?;
    Ok(Wish { places, bytes: retain.bytes, entries: retain.files })
}

/// What the ledger is told.
fn told(aid: Aid, name: &str, artefacts: &Artefacts) -> Value {
    json!({"agent": aid, "name": name, "artefacts": summary(artefacts)})
}

/// What was kept, as short as an entry has room for.
pub(super) fn summary(artefacts: &Artefacts) -> Value {
    let clip = |text: &str| text.chars().take(TOLD_CHARS).collect::<String>();
    let left_out: Vec<Value> =
        artefacts.left_out.iter().take(TOLD).map(|row| json!([clip(&row.place), clip(&row.why)])).collect();
    let more = artefacts.more_left_out + artefacts.left_out.len().saturating_sub(TOLD) as u64;
    json!({
        "tree": artefacts.tree,
        "entries": artefacts.entries,
        "bytes": artefacts.bytes,
        "left_out": left_out,
        "more_left_out": more,
        "failed": artefacts.failed.as_deref().map(clip),
    })
}
