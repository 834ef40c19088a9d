//! Agents that agents spawn: out of whose rights they come, under whom they are, and what an end means for those below.

use super::approve::Used;
use super::attend::TIME_ABOVE;
use super::spawn::{Asked, blank, new_aid};
use super::{Agent, Inner, Manager, about};
use crate::admit::{self, WHAT};
use crate::core::held::Suspension;
use crate::core::prepared::Program;
use crate::core::{Ending, Event};
use crate::store::{Chain, Saved};
use octant_api::agents::AgentInfo;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Millis, Principal};
use octant_manifest::{Action, Audience, Delegated, Effective, Envelope, OnParentDeath, TrustedKeys};
use octant_service::record;
use octant_sys::clock;
use serde_json::{Value, json};
use std::sync::Arc;

/// How long an agent has that is told that it winds down, in milliseconds.
const WIND_DOWN_MS: u64 = 10_000;
const MS: u64 = 1_000_000;

/// Who is above an agent, up to the operator who signed; nothing for an agent that an operator spawned.
pub(super) fn lineage(saved: &Saved) -> Value {
    let [root, ..] = saved.ancestors.as_slice() else { return Value::Null };
    json!({
        "parent": saved.ancestors.last(),
        "depth": saved.ancestors.len(),
        "root": root,
        "operator": saved.info.operator,
    })
}

/// The record of what a parent gave: its own deed, in its partition.
pub(super) fn given(saved: &Saved) -> Option<AppendRequest> {
    let what = json!({
        "do": "spawn",
        "agent": saved.info.aid,
        "name": saved.info.name,
        "depth": saved.ancestors.len(),
        "operator": saved.info.operator,
        "descendants": saved.allotment[0],
    });
    let mut entry = record(Kind::Grant, &what);
    entry.actor = Some(*saved.ancestors.last()?);
    entry.subject = Some(saved.info.manifest_digest);
    Some(entry)
}

/// How much is left of an agent's life; nothing where it has no end.
fn life_left(saved: &Saved) -> Option<Millis> {
    let now_ns = clock::boottime_ns();
    saved.deadline_ns.map(|end| Millis(end.saturating_sub(now_ns) / MS))
}

impl Inner {
    /// An agent that has not ended, nor is about to.
    pub(super) fn alive(&mut self, aid: Aid) -> Result<&mut Agent, ApiError> {
        let alive = |agent: &&mut Agent| !agent.state.phase.ended() && agent.state.ending.is_none();
        self.agents.get_mut(&aid).filter(alive).ok_or_else(|| {
            ApiError::new(Code::Denied, WHAT, aid.to_string(), "it has ended, or is about to", "nothing")
        })
    }

    /// The nearest above an agent that has not ended.
    pub(super) fn heir(&self, saved: &Saved) -> Option<Aid> {
        let lives = |aid: &&Aid| self.agents.get(aid).is_some_and(|agent| !agent.state.phase.ended());
        saved.ancestors.iter().rev().find(lives).copied()
    }
}

impl Manager {
    /// Spawns an agent under another. To be run as a task of its own, as [`Manager::spawn`].
    pub(crate) async fn spawn_child(
        self: Arc<Self>,
        parent: Aid,
        text: String,
    ) -> Result<AgentInfo, ApiError> {
        let now_ms = clock::wall_ms();
        let aid = new_aid(now_ms)?;
        let audience = Audience { machine: &self.site.machine, now_ms };
        let taken = match admit::child(&text, &audience) {
            Ok(wish) => self.take_approved(parent, aid, &wish, &text).await,
            Err(error) => Err(error),
        };
        // Until it is begun there is no partition but the parent's.
        let refused = |error: &ApiError| {
            let manifest = octant_manifest::digest(text.as_bytes());
            let what = json!({"do": "spawn", "manifest": manifest, "refused": error.message});
            self.record_deed(parent, what);
        };
        let (mut chain, approved, saved, rights) = taken.inspect_err(refused)?;
        // Where its output cannot be kept, its share stays used up: the disk has to be looked at first.
        let first = self.provision(saved, Some(rights), &Principal::Agent(parent), Program::Starts);
        let first = first.inspect_err(refused)?;
        let introduced = self.introduce(aid).await;
        let event = match introduced.and_then(|()| self.reserve(aid, &Asked::Agent { parent }, now_ms)) {
            Ok(()) => {
                chain.delegated.push(text);
                self.keep_chain(aid, &chain);
                Event::Verified
            }
            Err(error) => self.refused(aid, error),
        };
        self.note_approval(aid, approved);
        self.drive_after(aid, first, event).await;
        self.outcome(aid)
    }

    /// Takes a child's rights out of its parent's, where an operator has approved that if one has to. Gives also where the
    /// parent's rights come from.
    async fn take_approved(
        self: &Arc<Self>,
        parent: Aid,
        aid: Aid,
        wish: &Delegated,
        text: &str,
    ) -> Result<(Chain, Option<Used>, Saved, Effective), ApiError> {
        let (mut chain, mut whole) = self.chain_of(parent).await?;
        if whole.grants().approvals().cover(&Action::Spawn) {
            // Nobody is asked about what could not be done anyway.
            let (left, allotment) = {
                let mut inner = self.inner();
                let saved = &inner.alive(parent)?.saved;
                (life_left(saved), saved.allotment)
            };
            whole.limit_allotment(allotment);
            let tried = whole.narrow(wish, &self.site.ceiling, left);
            tried.map_err(|reasons| admit::child_refused(&reasons))?;
        }
        let approved = self.permit(parent, Action::Spawn, "agent.spawn", &json!({"manifest": text})).await?;
        if approved.is_some() {
            // The ledger was waited for, and who signed may have been revoked meanwhile. From here on nothing is waited
            // for until the child is known to be under the same key, so that the next revocation finds it.
            chain = self.chain_of(parent).await?.0;
        }
        let (saved, rights) = self.take_share(parent, aid, wish)?;
        Ok((chain, approved, saved, rights))
    }

    /// Takes a child's rights out of its parent's.
    fn take_share(&self, parent: Aid, aid: Aid, wish: &Delegated) -> Result<(Saved, Effective), ApiError> {
        let mut inner = self.inner();
        let above = inner.alive(parent)?;
        let refuse = |code, why: &str, next| Err(ApiError::new(code, WHAT, "manifest", why, next));
        let Some(rights) = above.rights.as_mut() else {
            let why = "what this agent may do could not be established again after a restart";
            return refuse(Code::Unavailable, why, "let an operator look at the log of agents");
        };
        let max = wish.manifest().validity().max_spawns;
        let used = above.saved.children_of.get(&wish.digest()).copied().unwrap_or(0);
        if used >= max {
            let why = format!("this agent may use this manifest {max} times and has");
            return refuse(Code::Denied, &why, "write another, or a larger max_spawns");
        }
        let left = life_left(&above.saved);
        if left == Some(Millis(0)) {
            return refuse(
                Code::Denied,
                TIME_ABOVE,
                "nothing, or let an operator resume that one for a time",
            );
        }
        let child = rights
            .narrow(wish, &self.site.ceiling, left)
            .map_err(|reasons| admit::child_refused(&reasons))?;
        above.saved.allotment = rights.allotment().parts();
        above.saved.children_of.insert(wish.digest(), used + 1);
        let mut saved = Saved::new(&self.site.boot_id, blank(aid, wish.digest()));
        saved.ancestors = above.saved.ancestors.iter().copied().chain([parent]).collect();
        saved.signed_with = above.saved.signed_with;
        saved.info.parent = Some(parent);
        saved.info.depth = saved.ancestors.len() as u64;
        saved.info.name.clone_from(&child.identity().name);
        saved.info.role.clone_from(&child.identity().role);
        saved.info.operator.clone_from(&child.identity().operator);
        saved.allotment = child.allotment().parts();
        self.keep(&mut inner, parent, false);
        Ok((saved, child))
    }

    /// Keeps where an agent's rights come from. Without it, it still runs; after a restart it can spawn nobody.
    pub(super) fn keep_chain(&self, aid: Aid, chain: &Chain) {
        if let Err(error) = self.store.save_chain(aid, chain) {
            tracing::error!("{aid}: where its rights come from cannot be kept: {error}");
        }
    }

    /// What an operator signed for an agent, to spawn another from it.
    pub(crate) fn signed_manifest(&self, aid: Aid) -> Result<String, ApiError> {
        let refused = |code, why: &str| {
            let next = "give a signed manifest for the new agent";
            ApiError::new(code, "fork an agent", aid.to_string(), why, next)
        };
        match self.store.load_chain(aid) {
            Ok(Some(chain)) if chain.delegated.is_empty() => Ok(chain.envelope),
            Ok(Some(_)) => {
                Err(refused(Code::InvalidParams, "an agent wrote its manifest, and nobody signed it"))
            }
            Ok(None) => Err(refused(Code::NotFound, "its manifest is not kept any more")),
            Err(error) => Err(refused(Code::Unavailable, &error.to_string())),
        }
    }

    /// Where an agent's rights come from, if those who signed for them are still trusted: a revocation counts for what is
    /// handed down from the moment that it is written.
    pub(super) async fn chain_of(self: &Arc<Self>, aid: Aid) -> Result<(Chain, Effective), ApiError> {
        let lost = |why: String| {
            let next = "let an operator spawn this agent again";
            ApiError::new(Code::Unavailable, WHAT, "where this agent's rights come from", why, next)
        };
        let chain = self.store.load_chain(aid).map_err(|e| lost(e.to_string()))?;
        let chain = chain.ok_or_else(|| lost("it is not kept".to_owned()))?;
        let rights = self.follow(&chain, self.trusted().await)?;
        Ok((chain, rights))
    }

    /// The rights of an agent after a restart: made anew from what was signed, and no more of its allotment than was
    /// left. Who signed must still be trusted.
    pub(super) fn rights_again(&self, saved: &Saved) -> Option<Effective> {
        let aid = saved.info.aid;
        let made = self.store.load_chain(aid).map_err(|e| e.to_string()).and_then(|chain| {
            let chain = chain.ok_or("where they come from is not kept")?;
            let trusted = admit::trusted(&self.site.trusted).map_err(|e| admit::untrusted(&e));
            self.follow(&chain, trusted).map_err(|e| e.to_string())
        });
        let why = match made {
            Ok(mut rights) if rights.digest() == saved.info.manifest_digest => {
                rights.limit_allotment(saved.allotment);
                return Some(rights);
            }
            Ok(_) => "they are another manifest's".to_owned(),
            Err(why) => why,
        };
        tracing::warn!("{aid} goes on but can spawn nobody: its rights cannot be established again: {why}");
        None
    }

    fn follow(&self, chain: &Chain, trusted: Result<TrustedKeys, ApiError>) -> Result<Effective, ApiError> {
        let audience = Audience { machine: &self.site.machine, now_ms: chain.admitted_ms };
        let envelope = Envelope::parse(chain.envelope.as_bytes());
        let rights = admit::admit(envelope, trusted, &audience, &self.ceiling(chain.unlimited));
        let mut rights = rights.map_err(|refused| refused.error)?.rights;
        for text in &chain.delegated {
            let wish = admit::child(text, &audience)?;
            let narrowed = rights.narrow(&wish, &self.site.ceiling, None);
            rights = narrowed.map_err(|reasons| admit::child_refused(&reasons))?;
        }
        Ok(rights)
    }

    /// Gives what an agent that has ended did not use up to the nearest above it that lives.
    pub(super) fn settle(&self, inner: &mut Inner, ended: Aid) {
        let Some(agent) = inner.agents.get_mut(&ended) else { return };
        let rights = agent.rights.take();
        let heir = inner.agents.get(&ended).and_then(|agent| inner.heir(&agent.saved));
        let (Some(rights), Some(heir)) = (rights, heir) else { return };
        // Where the gate has something of it yet, its account is closed with the gate's last word.
        let account = inner.agents.get(&ended).map(|agent| &agent.saved.account);
        let account = account.filter(|account| account.settled()).cloned();
        let Some(above) = inner.agents.get_mut(&heir) else { return };
        if let Some(account) = account {
            above.saved.account.bury(&account);
        }
        let Some(own) = above.rights.as_mut() else { return };
        own.take_back(rights);
        above.saved.allotment = own.allotment().parts();
        self.keep(inner, heir, false);
    }

    /// What an agent's end means for those under it, as the manifest of each says.
    pub(super) fn bereave(self: &Arc<Self>, ended: Aid) {
        let under: Vec<Aid> = {
            let inner = self.inner();
            let under = inner.agents.values().filter(|agent| agent.saved.info.parent == Some(ended));
            under.filter(|agent| !agent.state.phase.ended()).map(|agent| agent.saved.info.aid).collect()
        };
        for aid in under {
            if let Some(event) = self.orphan(aid) {
                tokio::spawn(self.drive(aid, event));
            }
        }
    }

    /// What happens to those who lost the agent that they were under while this service was not there.
    pub(crate) fn orphans(self: &Arc<Self>) -> Vec<(Aid, Vec<Event>)> {
        let lost: Vec<Aid> = {
            let inner = self.inner();
            let gone = |parent: Aid| inner.agents.get(&parent).is_none_or(|agent| agent.state.phase.ended());
            let live = inner.agents.values().filter(|agent| !agent.state.phase.ended());
            live.filter(|agent| agent.saved.unadopted || agent.saved.info.parent.is_some_and(gone))
                .map(|a| a.saved.info.aid)
                .collect()
        };
        lost.into_iter().filter_map(|aid| Some((aid, vec![self.orphan(aid)?]))).collect()
    }

    /// What the end of the agent that it is under means for one: its own end, or another above it.
    fn orphan(self: &Arc<Self>, aid: Aid) -> Option<Event> {
        let mut inner = self.inner();
        let heir = inner.agents.get(&aid).and_then(|agent| inner.heir(&agent.saved));
        let agent = inner.agents.get_mut(&aid)?;
        // Where it is not known it ends: that is the least authority.
        let grace_ms = match agent.saved.on_parent_death.unwrap_or(OnParentDeath::Terminate) {
            OnParentDeath::Terminate => 0,
            OnParentDeath::WindDown => WIND_DOWN_MS,
            OnParentDeath::Adopt => {
                let before = std::mem::replace(&mut agent.saved.info.parent, heir);
                let info = &agent.saved.info;
                let what = json!({"agent": aid, "name": info.name, "parent_ended": before, "under": heir});
                // What is not known any more is taken to be demanded.
                let demanded = |rights: &Effective| rights.grants().approvals().cover(&Action::Adopt);
                agent.saved.unadopted |= agent.rights.as_ref().is_none_or(demanded);
                let waits = agent.saved.unadopted;
                // After a restart it can be under the same still, and wait for that to be approved.
                if before != heir {
                    self.records.later(about(aid, Kind::Lifecycle, &what));
                }
                self.keep(&mut inner, aid, false);
                drop(inner);
                if waits {
                    self.ask_adoption(aid);
                }
                return waits.then_some(Event::SuspendAsked(Suspension::Orphaned));
            }
        };
        Some(Event::EndAsked { why: Ending::ParentEnded, grace_ms })
    }

    /// Asks whether an agent may go on under another, without waiting.
    fn ask_adoption(self: &Arc<Self>, aid: Aid) {
        let manager = Arc::clone(self);
        tokio::spawn(async move {
            match manager.adoption(aid).await {
                Ok(()) => tracing::warn!("{aid} may go on under another; `octant agent resume` lets it"),
                Err(error) if error.code == Code::ApprovalNeeded => tracing::info!("{aid}: {error}"),
                Err(error) => tracing::error!("{aid} stays frozen: {error}"),
            }
        });
    }

    /// Lets an agent go on under another, if that has to be approved and is; what resumes it asks first.
    pub(crate) async fn adoption(self: &Arc<Self>, aid: Aid) -> Result<(), ApiError> {
        let (waits, under) = {
            let inner = self.inner();
            let saved = inner.agents.get(&aid).map(|agent| &agent.saved);
            saved.map_or((false, None), |saved| (saved.unadopted, saved.info.parent))
        };
        if waits {
            self.permit(aid, Action::Adopt, "agents.resume", &json!({"agent": aid, "under": under})).await?;
            let mut inner = self.inner();
            if let Some(agent) = inner.agents.get_mut(&aid).filter(|agent| agent.saved.info.parent == under) {
                agent.saved.unadopted = false;
                self.keep(&mut inner, aid, false);
            }
        }
        Ok(())
    }

    /// Puts on record what an agent did about others, without waiting.
    pub(crate) fn record_deed(&self, aid: Aid, mut what: Value) {
        what["by"] = json!(aid);
        let inner = self.inner();
        let open = inner.agents.get(&aid).is_some_and(|agent| !agent.sealed);
        let mut entry = record(Kind::Grant, &what);
        entry.actor = open.then_some(aid);
        // While `inner` is held, so that nothing comes into the queue behind the seal that belongs before it.
        self.records.later(entry);
    }

    /// The descendants of an agent, oldest first, and how many more it may have.
    pub(crate) fn below(&self, above: Aid, ended: bool) -> (Vec<AgentInfo>, u64) {
        let inner = self.inner();
        let below = inner.agents.values().filter(|agent| agent.saved.ancestors.contains(&above));
        let infos = below.map(|agent| &agent.saved.info).filter(|info| ended || !info.state.ended());
        let rights = inner.agents.get(&above).and_then(|agent| agent.rights.as_ref());
        (infos.cloned().collect(), rights.map_or(0, |rights| rights.allotment().parts()[0]))
    }
}
