//! From an envelope to an agent that can be isolated.

use super::approve::{Deed, Used};
use super::budget::given;
use super::family::lineage;
use super::network::trust_of;
use super::{Agent, Manager, Start, no_agent};
use crate::admit::{self, Admitted, Asks, Refused, WHAT};
use crate::core::budget::Account;
use crate::core::prepared::Program;
use crate::core::{self, Effect, Event, State};
use crate::describe;
use crate::log::Log;
use crate::store::{Chain, Retain, Saved, StoreError, Terms};
use crate::words::Words;
use octant_api::agents::{AgentInfo, AgentState};
use octant_api::error::{ApiError, Code};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{Action, Audience, Ceiling, Declared, Effective, Envelope, EnvelopeError, KeyId, Rule};
use octant_sys::{clock, entropy};
use octant_workstation::Plan;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

impl Manager {
    /// Spawns an agent. To be run as a task of its own: it must not stop half way because a caller went away.
    pub(crate) async fn spawn(
        self: Arc<Self>,
        text: String,
        caller: Principal,
        begin: Begin,
    ) -> Result<AgentInfo, ApiError> {
        let now_ms = clock::wall_ms();
        let aid = new_aid(now_ms)?;
        let envelope = Envelope::parse(text.as_bytes());
        let digest = admit::digest(&envelope);
        let (mut admitted, mut approved) = (self.admit(envelope, false, now_ms).await, None);
        if let Err(Refused { asks: Some(asks), error }) = &admitted {
            let rules = error.data.rules.clone();
            match self.approve_unlimited(asks, &begin, &caller).await {
                Ok(used) => {
                    approved = Some(used);
                    admitted = self.admit(Envelope::parse(text.as_bytes()), true, now_ms).await;
                }
                Err(mut waits) => {
                    waits.data.rules = rules;
                    admitted = Err(waits.into());
                }
            }
        }
        let unlimited = approved.is_some();
        let chain = |text| Chain { envelope: text, admitted_ms: now_ms, unlimited, delegated: Vec::new() };
        // What is prepared has begun with what its manifest says alone.
        if begin.workspace.is_none()
            && let Ok(Admitted { declared, rights }) = &admitted
            && let Some(prepared) = self.take_prepared(declared, rights, &caller, now_ms)
            && let Ok(Admitted { rights, .. }) = admitted
        {
            self.entitle(prepared, rights);
            self.hear(prepared, begin.words);
            self.keep_chain(prepared, &chain(text));
            self.note_approval(prepared, approved);
            return self.let_go_prepared(prepared).await;
        }
        let mut saved = Saved::new(&self.site.boot_id, blank(aid, digest));
        saved.words.clone_from(&begin.words);
        let first = self.provision(saved, None, &caller, Program::Starts).inspect_err(|error| {
            let what = json!({"do": "spawn", "manifest": digest, "refused": error.message});
            self.record_command(aid, &caller, what);
        })?;
        let reserved = match admitted {
            Ok(Admitted { declared, rights }) => {
                self.entitle(aid, rights);
                let asked = Asked::Operator { declared: &declared, caller: &caller, begin: &begin };
                self.introduce(aid).await.and_then(|()| self.reserve(aid, &asked, now_ms))
            }
            Err(Refused { error, .. }) => Err(error),
        };
        let event = match reserved {
            Ok(()) => {
                self.keep_chain(aid, &chain(text));
                Event::Verified
            }
            Err(error) => self.refused(aid, error),
        };
        self.note_approval(aid, approved);
        // Verifying adds no authority, so the record of the beginning can go together with what follows.
        self.drive_after(aid, first, event).await;
        self.outcome(aid)
    }

    /// From an envelope to rights, for now.
    pub(super) async fn admit(
        self: &Arc<Self>,
        envelope: Result<Envelope, EnvelopeError>,
        unlimited: bool,
        now_ms: u64,
    ) -> Result<Admitted, Refused> {
        let audience = Audience { machine: &self.site.machine, now_ms };
        admit::admit(envelope, self.trusted().await, &audience, &self.ceiling(unlimited))
    }

    /// Uses up an operator's approval of a life without end, or asks for one.
    async fn approve_unlimited(
        self: &Arc<Self>,
        asks: &Asks,
        begin: &Begin,
        caller: &Principal,
    ) -> Result<Used, ApiError> {
        if begin.workspace.is_some() {
            // What is approved is a manifest, and the snapshot would not be a part of it.
            let why = "what waits for an approval cannot begin with a snapshot that is named here";
            let next = "name the snapshot in the manifest";
            return Err(ApiError::new(Code::InvalidParams, WHAT, "its workspace", why, next));
        }
        let failed = |e| ApiError::new(Code::Internal, WHAT, "approval", e, "report it as a fault of Octant");
        let deed = Deed {
            action: Action::UnlimitedLifetime,
            agent: None,
            family: None,
            name: &asks.name,
            role: &asks.role,
            manifest: asks.digest,
            by: caller.to_string(),
            method: "agents.spawn",
            params: Json::of(&json!({"manifest": asks.text})).map_err(failed)?,
        };
        self.approved(deed).await
    }

    /// Names in the intent the approval that was used for it.
    pub(super) fn note_approval(&self, aid: Aid, approved: Option<Used>) {
        if let (Some(used), Some(agent)) = (approved, self.inner().agents.get_mut(&aid)) {
            agent.intent["approval"] = json!(used);
        }
    }

    /// What a caller of `spawn` is told.
    pub(super) fn outcome(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid).ok_or_else(|| no_agent(&aid.to_string()))?;
        match &agent.failure {
            None if agent.state.phase != AgentState::Rejected => Ok(agent.saved.info.clone()),
            Some(error) => Err(error.clone()),
            None => {
                let why = agent.state.reason.clone().unwrap_or_default();
                Err(ApiError::new(Code::Failed, WHAT, aid.to_string(), why, "see the ledger"))
            }
        }
    }

    pub(super) fn refused(&self, aid: Aid, error: ApiError) -> Event {
        let why = error.message.clone();
        self.fail(aid, error);
        Event::Refused(why)
    }

    /// Keeps the first error for the caller of `spawn`.
    pub(super) fn fail(&self, aid: Aid, error: ApiError) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.failure.get_or_insert(error);
        }
    }

    /// Takes a new agent in: its record, with the rights that it has already where an agent gave them.
    pub(crate) fn provision(
        &self,
        saved: Saved,
        rights: Option<Effective>,
        caller: &Principal,
        program: Program,
    ) -> Result<Vec<Effect>, ApiError> {
        let aid = saved.info.aid;
        // Eighty random bits are nobody else's; that is checked all the same, since everything is kept by them.
        if self.inner().agents.contains_key(&aid) {
            let why = "another agent has or had this identifier; spawn it again";
            return Err(admit::broke(Code::Conflict, "its identifier", &why, &[Rule::UniqueIdentity]));
        }
        let (state, effects) = match program {
            Program::Starts => core::provision(),
            _ => core::prepare(),
        };
        let mut agent = self.agent(state, saved)?;
        if let Some(rights) = rights {
            agent.entitle(rights);
        }
        agent.operator = match caller {
            Principal::Operator(uid) => Some(*uid),
            _ => None,
        };
        self.inner().agents.insert(aid, agent);
        Ok(effects)
    }

    pub(super) fn agent(&self, state: State, saved: Saved) -> Result<Agent, ApiError> {
        let aid = saved.info.aid;
        let log = Log::open(self.store.dir(), aid, self.site.log_bytes).map_err(|e| {
            ApiError::new(Code::Unavailable, WHAT, "its output", e, "see the state directory")
        })?;
        if state.phase.ended() {
            log.close();
        }
        Ok(Agent {
            changed: watch::Sender::new(state.phase),
            said: watch::Sender::new(0),
            state,
            saved,
            log: Arc::new(log),
            operator: None,
            intent: Value::Null,
            start: None,
            spare: None,
            deposited: false,
            sealed: false,
            asked: false,
            nothing_left: None,
            residue: 0,
            pidfd: None,
            socket: None,
            models: None,
            speech: None,
            workspace: None,
            tried_to_keep: 0,
            turn: Arc::default(),
            guest: None,
            failure: None,
            rights: None,
        })
    }

    /// The ceiling of an agent that an operator spawns, where one approved a life without end or did not.
    pub(super) fn ceiling(&self, unlimited: bool) -> Ceiling {
        let ceiling = self.site.ceiling.clone();
        if unlimited { ceiling.with_unlimited_lifetime_approved() } else { ceiling }
    }

    /// Gives an agent its rights.
    pub(super) fn entitle(&self, aid: Aid, rights: Effective) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.entitle(rights);
        }
    }

    /// Gives an agent that was prepared what is said to it first.
    fn hear(&self, aid: Aid, words: Words) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.saved.words = words;
            agent.said.send_modify(|count| *count += 1);
        }
    }

    /// Everything that a start needs and that can be refused without asking anybody else.
    pub(super) fn reserve(&self, aid: Aid, asked: &Asked<'_>, now_ms: u64) -> Result<(), ApiError> {
        let mut inner = self.inner();
        let running = inner.running();
        let most = match asked {
            // One that is prepared is not among them yet.
            Asked::Operator { .. } | Asked::Prepared { .. } => self.site.max_agents,
            // Families do not take the last places, so that an operator can always start one more.
            Asked::Agent { .. } => self.site.max_agents - self.site.max_agents.div_ceil(8),
        };
        // This one is among them.
        if running > most {
            let why = format!("{} agents run", running - 1);
            let next = "end one, or raise max_agents in [agents] of octant.toml";
            return Err(ApiError::new(Code::Busy, WHAT, "max_agents", why, next));
        }
        let until_ns = match asked {
            Asked::Operator { .. } | Asked::Prepared { .. } => None,
            // Its end is handed on to those who are there when it comes: from here on this one is.
            Asked::Agent { parent } => inner.alive(*parent)?.saved.deadline_ns,
        };
        let full = || ApiError::new(Code::Busy, WHAT, "slots", "every slot is taken", "end an agent");
        let slot = inner.free_slot().ok_or_else(full)?;
        inner.take_server_name(aid, asked)?;
        let agent = inner.agents.get_mut(&aid).ok_or_else(|| no_agent(&aid.to_string()))?;
        let rights = agent.rights.as_ref().ok_or_else(|| no_agent(&aid.to_string()))?;
        let base = asked.begin().and_then(|begin| begin.workspace);
        let plan = self.spawner.plan(rights, aid, slot, base, trust_of(&agent.saved)).map_err(|why| {
            ApiError::new(Code::InvalidParams, WHAT, "manifest", why, "change the manifest")
        })?;
        if let Asked::Operator { declared, .. } = asked {
            self.count_use(declared, now_ms)?;
        }
        // What the spawner gets is on record without being in it.
        let digest = plan.digest().map_err(|e| {
            ApiError::new(Code::Internal, WHAT, "the plan", e, "report it as a fault of Octant")
        })?;
        let identity = rights.identity();
        (agent.saved.slot, agent.saved.signed_with) = (Some(slot), asked.signed_with(&agent.saved));
        agent.saved.allotment = rights.allotment().parts();
        agent.saved.on_parent_death = Some(rights.on_parent_death());
        agent.saved.info.name.clone_from(&identity.name);
        agent.saved.info.role.clone_from(&identity.role);
        agent.saved.info.operator.clone_from(&identity.operator);
        agent.saved.info.workspace = plan.snapshot;
        agent.saved.info.fork_of = asked.begin().and_then(|begin| begin.fork_of);
        agent.saved.info.grants = describe::grants(rights);
        agent.saved.info.denials = describe::denials(rights);
        agent.intent = json!({
            "do": "spawn",
            "agent": aid,
            "name": identity.name,
            "role": identity.role,
            "operator": identity.operator,
            "key": asked.key(),
            "asked_by": asked.by(),
            "lineage": lineage(&agent.saved),
            "manifest": rights.digest(),
            "program": rights.program().executable,
            "slot": slot,
            "workspace": plan.snapshot,
            "fork_of": agent.saved.info.fork_of,
            "plan": digest,
            "accept_missing": self.site.accept_missing,
            "narrowed": agent.saved.info.denials,
        });
        agent.saved.terms = Some(terms(rights, &plan));
        agent.start = Some(Start { plan, digest, until_ns, ticket: None });
        inner.slots.insert(slot);
        Ok(())
    }

    /// Counts a use of a signed manifest.
    pub(super) fn count_use(&self, declared: &Declared, now_ms: u64) -> Result<(), ApiError> {
        let validity = declared.manifest().validity();
        let counted = self.store.count(declared.digest(), validity.max_spawns, validity.not_after_ms, now_ms);
        counted.map_err(|e| {
            let place = "the count of spawns";
            match e {
                // The signature was for so many.
                StoreError::Used { .. } => admit::broke(Code::Denied, place, &e, &[Rule::Signature]),
                _ => ApiError::new(Code::Unavailable, WHAT, place, e, ""),
            }
        })
    }
}

/// Who asks for an agent.
pub(super) enum Asked<'a> {
    /// An operator, with what is signed.
    Operator {
        /// What was signed.
        declared: &'a Declared,
        /// Who brought it.
        caller: &'a Principal,
        /// What its workspace begins with.
        begin: &'a Begin,
    },
    /// An operator, beforehand: nothing is counted yet.
    Prepared {
        /// Who signed.
        key: KeyId,
        /// Who wished for it.
        caller: &'a Principal,
    },
    /// An agent, which has taken it out of its own rights.
    Agent {
        /// That agent.
        parent: Aid,
    },
}

/// What a new agent begins with, as far as that is for the spawn to say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Begin {
    /// The snapshot that its workspace begins with.
    pub(crate) workspace: Option<Sha256>,
    /// The agent whose workspace that is of.
    pub(crate) fork_of: Option<Aid>,
    /// What is said to it.
    pub(crate) words: Words,
}

impl Asked<'_> {
    fn begin(&self) -> Option<&Begin> {
        match self {
            Self::Operator { begin, .. } => Some(begin),
            Self::Prepared { .. } | Self::Agent { .. } => None,
        }
    }

    pub(super) fn key(&self) -> Option<KeyId> {
        match self {
            Self::Operator { declared, .. } => Some(declared.signer().key),
            Self::Prepared { key, .. } => Some(*key),
            Self::Agent { .. } => None,
        }
    }

    /// The key that signed for the first of the line: a child's is known from its parent.
    fn signed_with(&self, saved: &Saved) -> Option<Sha256> {
        self.key().map(|key| key.0).or(saved.signed_with)
    }

    pub(super) fn by(&self) -> String {
        match self {
            Self::Operator { caller, .. } | Self::Prepared { caller, .. } => caller.to_string(),
            Self::Agent { parent } => Principal::Agent(*parent).to_string(),
        }
    }
}

/// What a manifest says that counts while the agent lives, and at its end.
fn terms(rights: &Effective, plan: &Plan) -> Terms {
    Terms {
        ttl_ms: rights.ttl().map(|ttl| ttl.0),
        on_timeout: rights.on_timeout(),
        cpu_percent: plan.limits.cpu_quota_percent.into(),
        cpu_weight: plan.limits.cpu_weight.into(),
        retain: Retain::of(rights.grants().retain()),
    }
}

/// A new identifier.
pub(super) fn new_aid(now_ms: u64) -> Result<Aid, ApiError> {
    let mut random = [0; 10];
    entropy::fill_unseeded(&mut random)
        .map_err(|e| ApiError::new(Code::Internal, WHAT, "its identifier", e, "try again"))?;
    Ok(Aid::new(now_ms, random))
}

/// What is known of an agent whose manifest nobody has read yet.
pub(super) fn blank(aid: Aid, manifest_digest: Sha256) -> AgentInfo {
    AgentInfo {
        aid,
        name: String::new(),
        role: String::new(),
        operator: String::new(),
        state: AgentState::Provisioned,
        parent: None,
        depth: 0,
        pid: None,
        exit: None,
        reason: None,
        cpu_percent: None,
        prepared: false,
        started_ms: None,
        ended_ms: None,
        manifest_digest,
        workspace: None,
        fork_of: None,
        artefacts: None,
        snapshots: Vec::new(),
        missing_layers: Vec::new(),
        layers: Vec::new(),
        denials: Vec::new(),
        denied_calls: Vec::new(),
        calls_unreported: None,
        denied_accesses: Vec::new(),
        accesses_unreported: None,
        grants: Vec::new(),
    }
}

impl Agent {
    /// Gives it its rights, with what there is to be used up.
    fn entitle(&mut self, rights: Effective) {
        self.saved.network = rights.grants().has_network();
        self.saved.models = rights.grants().has_models();
        self.saved.account = Account::given(given(&rights));
        self.saved.allotment = rights.allotment().parts();
        self.rights = Some(rights);
    }
}
