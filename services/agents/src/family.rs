//! What an agent asks about those below it. Who it is is known from its socket; it reaches its own descendants only.

use crate::core::{Ending, Event};
use crate::guest::Guest;
use octant_api::agent::{
    CHILD_MANIFEST_MAX, Child, Children, ChildrenRequest, KillRequest, SpawnRequest, WaitRequest,
};
use octant_api::agents::AgentInfo;
use octant_api::error::{ApiError, Code};
use octant_sys::clock;
use serde_json::json;
use std::sync::{Arc, PoisonError};

/// What an agent sees of one below it: nothing of the host.
fn child(info: AgentInfo) -> Child {
    Child {
        aid: info.aid,
        name: info.name,
        role: info.role,
        state: info.state,
        parent: info.parent,
        depth: info.depth,
        exit: info.exit,
        reason: info.reason,
        started_ms: info.started_ms,
        ended_ms: info.ended_ms,
        manifest_digest: info.manifest_digest,
        narrowed: info.denials,
        grants: info.grants,
    }
}

fn short(info: AgentInfo) -> Child {
    Child { narrowed: Vec::new(), grants: Vec::new(), ..child(info) }
}

impl Guest {
    /// Takes a place among what this agent does to others.
    fn may_act(&self, what: &'static str) -> Result<(), ApiError> {
        let taken = self.family.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns());
        let why = "this agent spawns faster than it may";
        if taken { Ok(()) } else { Err(ApiError::new(Code::Busy, what, "agent", why, "wait a second")) }
    }
}

pub(crate) async fn spawn(guest: &Guest, asked: SpawnRequest) -> Result<Child, ApiError> {
    const WHAT: &str = "spawn a child";
    let bytes = asked.manifest.len();
    if bytes > CHILD_MANIFEST_MAX {
        let why = format!("it has {bytes} bytes, more than {CHILD_MANIFEST_MAX}");
        return Err(ApiError::new(Code::TooLong, WHAT, "manifest", why, "make it shorter"));
    }
    guest.may_act(WHAT)?;
    // A task of its own: a caller who goes away must not leave an agent half started.
    let task = tokio::spawn(Arc::clone(&guest.manager).spawn_child(guest.aid, asked.manifest));
    let ended = |e| ApiError::new(Code::Internal, WHAT, "agent.spawn", e, "try again");
    task.await.map_err(ended)?.map(child)
}

pub(crate) fn children(guest: &Guest, asked: &ChildrenRequest) -> Children {
    let (infos, descendants_left) = guest.manager.below(guest.aid, asked.all);
    Children { agents: infos.into_iter().map(short).collect(), descendants_left }
}

pub(crate) async fn wait(guest: &Guest, asked: &WaitRequest) -> Result<Child, ApiError> {
    let aid = guest.manager.find_below(guest.aid, &asked.agent)?;
    guest.manager.ended(aid).await.map(short)
}

pub(crate) async fn kill(guest: &Guest, asked: &KillRequest) -> Result<Child, ApiError> {
    let aid = guest.manager.find_below(guest.aid, &asked.agent)?;
    // An end is never refused for being one too many; that it was asked for is in the other's partition anyway.
    if guest.may_act("end a descendant").is_ok() {
        let what = json!({"do": "kill", "agent": aid, "grace_ms": asked.grace_ms});
        guest.manager.record_deed(guest.aid, what);
    }
    let event = Event::EndAsked { why: Ending::Parent, grace_ms: asked.grace_ms };
    let task = tokio::spawn(guest.manager.drive(aid, event));
    let ended = |e| ApiError::new(Code::Internal, "end a descendant", aid.to_string(), e, "try again");
    task.await.map_err(ended)?;
    guest.manager.ended(aid).await.map(short)
}
