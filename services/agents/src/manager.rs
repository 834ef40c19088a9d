//! Performs what the lifecycle decides: every agent of this Octant, and all that happens to one.

use crate::admit::{self, Admitted, WHAT};
use crate::core::{self, Effect, Ending, Event, Record, State};
use crate::exits::Exits;
use crate::guest::{Bucket, Guest};
use crate::log::Log;
use crate::records::{Records, request};
use crate::spawner::Spawner;
use crate::store::{Saved, Store};
use crate::{describe, drain};
use octant_api::agent;
use octant_api::agents::{AgentInfo, AgentState, ExitInfo, Output};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Principal, uid};
use octant_manifest::{Audience, Ceiling, Envelope};
use octant_service::Notifier;
use octant_sys::{clock, entropy};
use octant_wire::{Identity, Limits, Shutdown, Trigger, serve, shutdown};
use octant_workstation::{Plan, Spawned};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// How long after its end was seen PID 1 may take to say how a process ended.
const EXIT_WORD: Duration = Duration::from_secs(2);
/// How long what an agent wrote last may take to be read after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// The pause before an end is tried again that could not be had.
const AGAIN: Duration = Duration::from_secs(1);
/// The connections and requests of one agent: enough for a program with some threads, and little to hold.
const GUEST: Limits = Limits {
    connections: 16,
    in_flight: 8,
    stall: Duration::from_secs(10),
    idle: Duration::from_secs(600),
    // An agent's authority ends with it: what it asked before is not finished.
    grace: Duration::from_millis(100),
};
const REQUESTS: usize = 6;
const MS: u64 = 1_000_000;

/// Who keeps descriptors over a restart of this service: PID 1.
pub(crate) trait Keeper: Send + Sync + 'static {
    /// Keeps one under a name.
    fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()>;
    /// Lets go of it.
    fn unstore(&self, name: &str) -> io::Result<()>;
}

impl Keeper for Notifier {
    fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        Self::store(self, name, fd)
    }

    fn unstore(&self, name: &str) -> io::Result<()> {
        Self::unstore(self, name)
    }
}

/// What does not change while the service runs.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) boot_id: String,
    /// This machine's identifier in manifests' audiences.
    pub(crate) machine: String,
    pub(crate) trusted: PathBuf,
    pub(crate) accept_missing: Vec<String>,
    pub(crate) ceiling: Ceiling,
    pub(crate) max_agents: usize,
    pub(crate) keep_ended: usize,
    pub(crate) log_bytes: u64,
}

/// Every agent of this Octant.
pub(crate) struct Manager {
    pub(crate) records: Records,
    pub(crate) site: Site,
    pub(crate) exits: Arc<Exits>,
    pub(crate) store: Store,
    spawner: Arc<dyn Spawner>,
    /// PID 1, who keeps descriptors over a restart; none in tests.
    keeper: Option<Arc<dyn Keeper>>,
    /// How many requests to the spawner can be under way; it serves 8 connections.
    requests: Semaphore,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    agents: BTreeMap<Aid, Agent>,
    slots: BTreeSet<u32>,
    /// Where the search for a free slot starts: a slot's user ids come again as late as possible.
    next_slot: u32,
}

#[derive(Debug)]
struct Agent {
    state: State,
    saved: Saved,
    log: Arc<Log>,
    changed: watch::Sender<AgentState>,
    /// What the intent to spawn it says, and the plan until the spawner has it.
    intent: Value,
    plan: Option<(Plan, Option<u64>)>,
    /// Whether the spawner was asked: then there may be something to retire.
    asked: bool,
    pidfd: Option<Arc<OwnedFd>>,
    socket: Option<OwnedFd>,
    /// Stops the serving of its socket; gone once that has been stopped for good.
    guest: Option<Trigger>,
    /// What a caller of `spawn` is told, when there is more to say than the state does.
    failure: Option<ApiError>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("site", &self.site).finish_non_exhaustive()
    }
}

/// A handle of a running agent that was kept over a restart of this service.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) socket: Option<OwnedFd>,
}

/// The names under which PID 1 keeps an agent's handles.
pub(crate) fn kept_names(aid: Aid) -> [String; 4] {
    ["pid", "out", "err", "sock"].map(|what| format!("{aid}.{what}"))
}

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Manager {
    pub(crate) fn new(
        site: Site,
        records: Records,
        store: Store,
        spawner: Arc<dyn Spawner>,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Self {
        let exits = Arc::new(Exits::default());
        let requests = Semaphore::new(REQUESTS);
        Self { records, site, exits, store, spawner, keeper, requests, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- Looking ----

    /// What is known of an agent.
    pub(crate) fn info(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let inner = self.inner();
        inner.agents.get(&aid).map(|agent| agent.saved.info.clone()).ok_or_else(|| no_agent(&aid.to_string()))
    }

    /// Every agent, oldest first.
    pub(crate) fn list(&self, ended: bool) -> Vec<AgentInfo> {
        let inner = self.inner();
        let infos = inner.agents.values().map(|agent| &agent.saved.info);
        infos.filter(|info| ended || !info.state.ended()).cloned().collect()
    }

    /// The agent that a text means: an identifier, the last 4 or more characters of one, or a name. An agent
    /// that has not ended comes before those of the same name that have.
    pub(crate) fn find(&self, text: &str) -> Result<Aid, ApiError> {
        let inner = self.inner();
        if let Ok(aid) = text.parse::<Aid>() {
            return inner.agents.get(&aid).map(|_| aid).ok_or_else(|| no_agent(text));
        }
        let named: Vec<&AgentInfo> = inner
            .agents
            .values()
            .map(|agent| &agent.saved.info)
            .filter(|info| info.name == text || (text.len() >= 4 && info.aid.to_string().ends_with(text)))
            .collect();
        let live: Vec<&AgentInfo> = named.iter().copied().filter(|info| !info.state.ended()).collect();
        match (live.as_slice(), named.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one.aid),
            ([], []) => Err(no_agent(text)),
            ([], several) | (several, _) => {
                let aids: Vec<String> =
                    several.iter().rev().take(8).map(|info| info.aid.to_string()).collect();
                let why = format!("{} agents are meant by it: {}", several.len(), aids.join(", "));
                let shown: String = text.chars().take(64).collect();
                Err(ApiError::new(Code::Conflict, "find an agent", shown, why, "name one by its identifier"))
            }
        }
    }

    pub(crate) fn log(&self, aid: Aid) -> Result<Arc<Log>, ApiError> {
        let inner = self.inner();
        inner.agents.get(&aid).map(|agent| Arc::clone(&agent.log)).ok_or_else(|| no_agent(&aid.to_string()))
    }

    /// Waits until an agent has ended.
    pub(crate) async fn ended(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let changed = self.inner().agents.get(&aid).map(|agent| agent.changed.subscribe());
        let mut changed = changed.ok_or_else(|| no_agent(&aid.to_string()))?;
        // An error means that the agent was forgotten, which happens only after its end.
        let _ = changed.wait_for(|state| state.ended()).await;
        self.info(aid)
    }

    /// How many agents have not ended, and how many of them lack a layer.
    pub(crate) fn count(&self) -> (usize, usize) {
        let inner = self.inner();
        let live = inner.agents.values().map(|a| &a.saved.info).filter(|info| !info.state.ended());
        live.fold((0, 0), |(all, bare), info| (all + 1, bare + usize::from(!info.missing_layers.is_empty())))
    }

    /// Whether the spawner takes requests.
    pub(crate) async fn spawner_healthy(&self) -> Result<(), String> {
        self.blocking(|spawner| spawner.ping())
            .await?
            .map_err(|e| format!("the spawner does not answer: {e}"))
    }

    // ---- Spawning ----

    /// Spawns an agent. To be run as a task of its own: it must not stop half way because a caller went away.
    pub(crate) async fn spawn(
        self: Arc<Self>,
        text: String,
        caller: Principal,
    ) -> Result<AgentInfo, ApiError> {
        let now_ms = clock::wall_ms();
        let mut random = [0; 10];
        entropy::fill_unseeded(&mut random)
            .map_err(|e| ApiError::new(Code::Internal, WHAT, "its identifier", e, "try again"))?;
        let aid = Aid::new(now_ms, random);
        let envelope = Envelope::parse(text.as_bytes());
        let first = self.provision(aid, &envelope)?;
        if let Err(event) = self.perform_all(aid, first).await {
            self.drive(aid, event).await;
            return self.outcome(aid);
        }
        let admitted = admit::admit(
            envelope,
            admit::trusted(&self.site.trusted),
            &Audience { machine: &self.site.machine, now_ms },
            &self.site.ceiling,
        );
        let event = match admitted.and_then(|admitted| self.reserve(aid, &admitted, &caller, now_ms)) {
            Ok(()) => Event::Verified,
            Err(error) => self.refused(aid, error),
        };
        self.drive(aid, event).await;
        self.outcome(aid)
    }

    /// What a caller of `spawn` is told.
    fn outcome(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
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

    fn refused(&self, aid: Aid, error: ApiError) -> Event {
        let why = error.message.clone();
        self.fail(aid, error);
        Event::Refused(why)
    }

    /// Keeps the first error for the caller of `spawn`.
    fn fail(&self, aid: Aid, error: ApiError) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.failure.get_or_insert(error);
        }
    }

    fn provision(
        &self,
        aid: Aid,
        envelope: &Result<Envelope, octant_manifest::EnvelopeError>,
    ) -> Result<Vec<Effect>, ApiError> {
        let (state, effects) = core::provision();
        let info = AgentInfo {
            aid,
            name: String::new(),
            role: String::new(),
            operator: String::new(),
            state: state.phase,
            pid: None,
            exit: None,
            reason: None,
            started_ms: None,
            ended_ms: None,
            manifest_digest: admit::digest(envelope),
            missing_layers: Vec::new(),
            layers: Vec::new(),
            denials: Vec::new(),
            grants: Vec::new(),
        };
        let agent = self.agent(state, Saved::new(&self.site.boot_id, info))?;
        self.inner().agents.insert(aid, agent);
        Ok(effects)
    }

    fn agent(&self, state: State, saved: Saved) -> Result<Agent, ApiError> {
        let aid = saved.info.aid;
        let log = Log::open(self.store.dir(), aid, self.site.log_bytes).map_err(|e| {
            ApiError::new(Code::Unavailable, WHAT, "its output", e, "see the state directory")
        })?;
        if state.phase.ended() {
            log.close();
        }
        Ok(Agent {
            changed: watch::Sender::new(state.phase),
            state,
            saved,
            log: Arc::new(log),
            intent: Value::Null,
            plan: None,
            asked: false,
            pidfd: None,
            socket: None,
            guest: None,
            failure: None,
        })
    }

    /// Everything that a start needs and that can be refused without asking anybody else.
    fn reserve(
        &self,
        aid: Aid,
        admitted: &Admitted,
        caller: &Principal,
        now_ms: u64,
    ) -> Result<(), ApiError> {
        let Admitted { declared, rights } = admitted;
        let mut inner = self.inner();
        let live = inner.agents.values().filter(|agent| !agent.state.phase.ended()).count();
        // This one is among them.
        if live > self.site.max_agents {
            let why = format!("{} agents run", live - 1);
            let next = "end one, or raise max_agents in [agents] of octant.toml";
            return Err(ApiError::new(Code::Busy, WHAT, "max_agents", why, next));
        }
        let slot = inner
            .free_slot()
            .ok_or_else(|| ApiError::new(Code::Busy, WHAT, "slots", "every slot is taken", "end an agent"))?;
        let plan = self.spawner.plan(rights, aid, slot).map_err(|why| {
            ApiError::new(Code::InvalidParams, WHAT, "manifest", why, "change the manifest")
        })?;
        let validity = declared.manifest().validity();
        let counted = self.store.count(declared.digest(), validity.max_spawns, validity.not_after_ms, now_ms);
        counted.map_err(|e| {
            let code = match e {
                crate::store::StoreError::Used { .. } => Code::Denied,
                _ => Code::Unavailable,
            };
            ApiError::new(code, WHAT, "the count of spawns", e, "")
        })?;
        inner.slots.insert(slot);
        let Some(agent) = inner.agents.get_mut(&aid) else { return Err(no_agent(&aid.to_string())) };
        let identity = rights.identity();
        agent.saved.slot = Some(slot);
        agent.saved.info.name.clone_from(&identity.name);
        agent.saved.info.role.clone_from(&identity.role);
        agent.saved.info.operator.clone_from(&identity.operator);
        agent.saved.info.grants = describe::grants(rights);
        agent.saved.info.denials = describe::denials(rights);
        agent.intent = json!({
            "do": "spawn",
            "agent": aid,
            "name": identity.name,
            "role": identity.role,
            "operator": identity.operator,
            "key": declared.signer().key,
            "asked_by": caller.to_string(),
            "manifest": declared.digest(),
            "program": rights.program().executable,
            "slot": slot,
            "accept_missing": self.site.accept_missing,
            "narrowed": agent.saved.info.denials,
        });
        agent.plan = Some((plan, rights.ttl().map(|ttl| ttl.0)));
        Ok(())
    }

    // ---- The lifecycle ----

    /// Lets an event happen to an agent, and does what follows from it. Boxed because what follows can be a
    /// task that lets another event happen.
    pub(crate) fn drive(self: &Arc<Self>, aid: Aid, event: Event) -> Boxed {
        let manager = Arc::clone(self);
        Box::pin(async move {
            let mut events = VecDeque::from([event]);
            while let Some(event) = events.pop_front() {
                let isolated = event == Event::Isolated;
                let effects = manager.step(aid, event);
                match manager.perform_all(aid, effects).await {
                    Ok(follow) => {
                        events.extend(follow);
                        events.extend(isolated.then_some(Event::Released));
                    }
                    Err(not_recorded) => events.push_front(not_recorded),
                }
            }
        })
    }

    fn step(&self, aid: Aid, event: Event) -> Vec<Effect> {
        let mut inner = self.inner();
        let Some(agent) = inner.agents.get_mut(&aid) else { return Vec::new() };
        let (state, effects) = core::step(agent.state.clone(), event);
        if state == agent.state {
            return effects;
        }
        let moved = state.phase != agent.state.phase;
        agent.state = state;
        let info = &mut agent.saved.info;
        info.state = agent.state.phase;
        info.reason.clone_from(&agent.state.reason);
        info.exit = agent.state.exit;
        if moved && info.state.ended() {
            info.pid = None;
            info.ended_ms.get_or_insert_with(clock::wall_ms);
            agent.log.close();
        }
        if agent.state.phase == AgentState::Rejected && !agent.asked {
            // The spawner never heard of it, so there is nothing to retire.
            let slot = agent.saved.slot.take();
            slot.map(|slot| inner.slots.remove(&slot));
        }
        self.keep(&mut inner, aid, moved);
        effects
    }

    /// Writes an agent's record, tells those who wait, and forgets agents that ended long ago.
    fn keep(&self, inner: &mut Inner, aid: Aid, moved: bool) {
        let Some(agent) = inner.agents.get(&aid) else { return };
        if let Err(error) = self.store.save(&agent.saved) {
            // It goes on: what is lost is its adoption after a restart, which then ends it.
            tracing::error!("{aid}: its record cannot be kept: {error}");
        }
        if !moved {
            return;
        }
        tracing::info!("{aid} ({}) is {}", agent.saved.info.name, agent.state.phase.as_str());
        agent.changed.send_replace(agent.state.phase);
        let ended = inner.agents.values().filter(|a| a.state.phase.ended() && a.saved.slot.is_none());
        let excess = ended.clone().count().saturating_sub(self.site.keep_ended);
        let old: Vec<Aid> = ended.map(|a| a.saved.info.aid).take(excess).collect();
        for aid in old {
            inner.agents.remove(&aid);
            let gone = self.store.remove(aid).map_err(|e| e.to_string());
            let gone = gone.and(Log::remove(self.store.dir(), aid).map_err(|e| e.to_string()));
            if let Err(error) = gone {
                tracing::warn!("{aid}: what was kept of it cannot be removed: {error}");
            }
        }
    }

    /// Does what has to be done, in order; stops at a record that was not accepted.
    async fn perform_all(self: &Arc<Self>, aid: Aid, effects: Vec<Effect>) -> Result<Vec<Event>, Event> {
        let mut follow = Vec::new();
        for effect in effects {
            follow.extend(self.perform(aid, effect).await?);
        }
        Ok(follow)
    }

    async fn perform(self: &Arc<Self>, aid: Aid, effect: Effect) -> Result<Option<Event>, Event> {
        match effect {
            Effect::Record(record) => self.record(aid, &record).await?,
            Effect::RecordLater(record) => {
                if let Some(entry) = self.entry(aid, &record) {
                    self.records.later(entry);
                }
            }
            Effect::Isolate => return Ok(Some(self.isolate(aid).await)),
            Effect::Serve => return Ok(self.open_socket(aid)),
            Effect::Signal => self.signal(aid).await,
            Effect::ArmGrace(ms) => {
                let manager = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    manager.drive(aid, Event::GraceOver).await;
                });
            }
            Effect::Kill => self.kill(aid).await,
            Effect::CloseSocket => self.close_socket(aid),
            Effect::Retire => return Ok(self.retire(aid).await),
            Effect::RetireLater => {
                let manager = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    if let Some(event) = manager.retire(aid).await {
                        manager.drive(aid, event).await;
                    }
                });
            }
        }
        Ok(None)
    }

    // ---- Records ----

    async fn record(&self, aid: Aid, record: &Record) -> Result<(), Event> {
        let Some(entry) = self.entry(aid, record) else { return Ok(()) };
        match self.records.append(&entry).await {
            Ok(done) => {
                if *record == Record::Intent
                    && let Some(agent) = self.inner().agents.get_mut(&aid)
                {
                    agent.saved.intent = Some(done.seq);
                }
                Ok(())
            }
            Err(error) => {
                let why = format!("the ledger did not accept a record: {error}");
                let next = "see `octant status`; nothing is started without a record";
                self.fail(aid, ApiError::new(Code::Unavailable, WHAT, "ledger", &why, next));
                Err(Event::NotRecorded(why))
            }
        }
    }

    fn entry(&self, aid: Aid, record: &Record) -> Option<AppendRequest> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid)?;
        let info = &agent.saved.info;
        let (kind, payload) = match record {
            Record::Transition { from, to } => (
                Kind::Lifecycle,
                json!({
                    "agent": aid,
                    "name": info.name,
                    "from": from.map(AgentState::as_str),
                    "to": to.as_str(),
                    "manifest": info.manifest_digest,
                    "reason": info.reason,
                    "exit": info.exit,
                }),
            ),
            Record::Intent => (Kind::Intent, agent.intent.clone()),
            Record::Outcome if agent.state.phase == AgentState::Rejected => {
                (Kind::Outcome, json!({"agent": aid, "refused": info.reason}))
            }
            Record::Outcome => (
                Kind::Outcome,
                json!({
                    "agent": aid,
                    "pid": info.pid,
                    "missing_layers": info.missing_layers,
                    "layers": info.layers,
                }),
            ),
            Record::EndAsked(why) => {
                (Kind::Lifecycle, json!({"agent": aid, "name": info.name, "end_asked": why.reason()}))
            }
        };
        let mut entry = request(kind, &payload);
        entry.intent = agent.saved.intent.filter(|_| *record == Record::Outcome);
        Some(entry)
    }

    // ---- Isolation ----

    async fn isolate(self: &Arc<Self>, aid: Aid) -> Event {
        let start = {
            let mut inner = self.inner();
            let Some(agent) = inner.agents.get_mut(&aid) else { return Event::NotIsolated(String::new()) };
            agent.asked = true;
            agent.saved.asked_ns = clock::monotonic_ns();
            let start = agent.plan.take();
            self.keep(&mut inner, aid, false);
            start
        };
        let Some((plan, ttl_ms)) = start else { return Event::NotIsolated("it has no plan".to_owned()) };
        let pipes = drain::pipe().and_then(|out| Ok((out, drain::pipe()?)));
        let ((out, out_end), (err, err_end)) = match pipes {
            Ok(pipes) => pipes,
            Err(error) => {
                return self.not_isolated(aid, Code::Unavailable, &format!("make its pipes: {error}"));
            }
        };
        let spawned = self.blocking(move |spawner| spawner.spawn(&plan, out_end, err_end)).await;
        let spawned = match spawned {
            Err(gone) => return self.not_isolated(aid, Code::Internal, &gone),
            // Errno 0 is the spawner's own refusal; else the kernel could not put a layer in place.
            Ok(Err(error)) => return self.not_isolated(aid, Code::LayerMissing, &error.to_string()),
            Ok(Ok(spawned)) => spawned,
        };
        let Spawned { pid, pidfd, socket, report } = spawned;
        let deadline_ns = ttl_ms.map(|ms| clock::boottime_ns().saturating_add(ms.saturating_mul(MS)));
        {
            let mut inner = self.inner();
            if let Some(agent) = inner.agents.get_mut(&aid) {
                agent.saved.deadline_ns = deadline_ns;
                agent.saved.info.pid = Some(pid);
                agent.saved.info.started_ms = Some(clock::wall_ms());
                agent.saved.info.layers = describe::layers(&report);
                agent.saved.info.missing_layers = describe::missing(&report);
            }
        }
        let handles =
            Handles { pidfd: Some(pidfd), stdout: Some(out), stderr: Some(err), socket: Some(socket) };
        self.deposit(aid, &handles);
        match self.attend(aid, handles) {
            Ok(()) => Event::Isolated,
            Err(why) => {
                self.kill(aid).await;
                self.not_isolated(aid, Code::Internal, &why)
            }
        }
    }

    fn not_isolated(&self, aid: Aid, code: Code, why: &str) -> Event {
        let next = "see `octant doctor` for what this machine lacks";
        self.fail(aid, ApiError::new(code, WHAT, aid.to_string(), why, next));
        Event::NotIsolated(why.to_owned())
    }

    /// Gives an agent's handles to PID 1 to keep. Without them an agent does not survive a restart of this
    /// service; it still runs.
    fn deposit(&self, aid: Aid, handles: &Handles) {
        let Some(keeper) = &self.keeper else { return };
        let Handles { pidfd, stdout, stderr, socket } = handles;
        for (name, fd) in kept_names(aid).iter().zip([pidfd, stdout, stderr, socket]) {
            if let Some(fd) = fd
                && let Err(error) = keeper.store(name, fd.as_fd())
            {
                tracing::error!(
                    "{aid}: PID 1 does not keep {name}: {error}; a restart of agents will end it"
                );
            }
        }
    }

    /// Reads what an agent writes, and watches for its end and the end of its time.
    pub(crate) fn attend(self: &Arc<Self>, aid: Aid, handles: Handles) -> Result<(), String> {
        let Handles { pidfd, stdout, stderr, socket } = handles;
        let pidfd = pidfd.map(Arc::new).ok_or("it has no process handle")?;
        let watched = drain::watch(Arc::clone(&pidfd)).map_err(|e| format!("watch its process: {e}"))?;
        let (log, pid, since, deadline_ns) = {
            let mut inner = self.inner();
            let agent = inner.agents.get_mut(&aid).ok_or("it is not known")?;
            agent.pidfd = Some(pidfd);
            agent.socket = socket;
            let saved = &agent.saved;
            (Arc::clone(&agent.log), saved.info.pid.unwrap_or(0), saved.asked_ns, saved.deadline_ns)
        };
        let mut drains = Vec::new();
        for (stream, fd) in [(Output::Stdout, stdout), (Output::Stderr, stderr)] {
            let Some(fd) = fd else { continue };
            drains.push(
                drain::start(fd, stream, Arc::clone(&log)).map_err(|e| format!("read its output: {e}"))?,
            );
        }
        tokio::spawn(Arc::clone(self).watch_exit(aid, watched, pid, since, drains));
        if let Some(deadline_ns) = deadline_ns {
            tokio::spawn(Arc::clone(self).watch_lifetime(aid, deadline_ns));
        }
        Ok(())
    }

    async fn watch_exit(
        self: Arc<Self>,
        aid: Aid,
        pidfd: AsyncFd<Arc<OwnedFd>>,
        pid: u32,
        since: u64,
        drains: Vec<JoinHandle<()>>,
    ) {
        let mut word = self.exits.of(pid, since);
        let exit = tokio::select! {
            seen = &mut word => seen.ok(),
            _ = pidfd.readable() => tokio::time::timeout(EXIT_WORD, word).await.ok().and_then(Result::ok),
        };
        // What it wrote last is still in the pipes.
        for drain in drains {
            let _ = tokio::time::timeout(LAST_OUTPUT, drain).await;
        }
        let exit = exit
            .and_then(|exit| exit.code().map(ExitInfo::Code).or_else(|| exit.signal().map(ExitInfo::Signal)));
        self.drive(aid, Event::Exited(exit)).await;
    }

    /// CLOCK_BOOTTIME counts a suspended machine's time and the runtime's timers do not, so it is looked at
    /// again and again.
    async fn watch_lifetime(self: Arc<Self>, aid: Aid, deadline_ns: u64) {
        loop {
            let left = Duration::from_nanos(deadline_ns.saturating_sub(clock::boottime_ns()));
            if left.is_zero() {
                break;
            }
            let ended = self.ended(aid);
            if tokio::time::timeout(left.min(Duration::from_secs(60)), ended).await.is_ok() {
                return;
            }
        }
        self.drive(aid, Event::EndAsked { why: Ending::Lifetime, grace_ms: 0 }).await;
    }

    // ---- The agent's socket ----

    fn open_socket(self: &Arc<Self>, aid: Aid) -> Option<Event> {
        let socket = {
            let mut inner = self.inner();
            let agent = inner.agents.get_mut(&aid)?;
            // Its end may have come while `running` was put on record.
            if agent.state.phase != AgentState::Running || agent.state.ending.is_some() {
                return None;
            }
            agent.socket.take()
        };
        let end = |why: String| {
            self.fail(aid, ApiError::new(Code::Internal, WHAT, aid.to_string(), &why, "try again"));
            Some(Event::NotRecorded(why))
        };
        let Some(socket) = socket else { return end("its socket is gone".to_owned()) };
        let listener = std::os::unix::net::UnixListener::from(socket);
        let listener =
            listener.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(listener));
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return end(format!("its socket cannot be served: {error}")),
        };
        let (trigger, stop) = shutdown();
        let guest = Guest { manager: Arc::clone(self), aid, notes: Mutex::new(Bucket::full()) };
        let identity = Identity::Listener(Principal::Agent(aid));
        tokio::spawn(async move {
            let server = agent::Server(Arc::new(guest));
            if let Err(error) = serve(listener, server, identity, GUEST, stop).await {
                tracing::error!("{aid}: its socket is not served any more: {error}");
            }
        });
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.guest = Some(trigger);
        }
        None
    }

    fn close_socket(&self, aid: Aid) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            // Dropping the trigger stops the serving; dropping the others closes them.
            (agent.guest, agent.socket, agent.pidfd) = (None, None, None);
        }
        let Some(keeper) = &self.keeper else { return };
        for name in kept_names(aid) {
            if let Err(error) = keeper.unstore(&name) {
                tracing::warn!("{aid}: PID 1 goes on keeping {name}: {error}");
            }
        }
    }

    // ---- Ending ----

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Spawner) -> T + Send + 'static,
    ) -> Result<T, String> {
        let spawner = Arc::clone(&self.spawner);
        // Never closed, so there is always a permit in the end.
        let _permit = self.requests.acquire().await.map_err(|e| e.to_string())?;
        let done = tokio::task::spawn_blocking(move || work(&*spawner)).await;
        done.map_err(|e| format!("the request to the spawner was not finished: {e}"))
    }

    fn slot(&self, aid: Aid) -> Option<u32> {
        self.inner().agents.get(&aid).and_then(|agent| agent.saved.slot)
    }

    async fn signal(self: &Arc<Self>, aid: Aid) {
        let pidfd = self.inner().agents.get(&aid).and_then(|agent| agent.pidfd.clone());
        let (Some(slot), Some(pidfd)) = (self.slot(aid), pidfd) else { return };
        let told = self.blocking(move |spawner| spawner.terminate(slot, aid, pidfd.as_fd())).await;
        if let Err(error) = told.and_then(|told| told) {
            tracing::warn!("{aid} cannot be asked to end: {error}; it is killed when its time is over");
        }
    }

    /// Kills, and goes on trying in the background when that fails.
    async fn kill(self: &Arc<Self>, aid: Aid) {
        if self.killed(aid).await {
            return;
        }
        let manager = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                if manager.killed(aid).await {
                    return;
                }
            }
        });
    }

    /// Whether all its processes were killed, or it has ended by itself.
    async fn killed(&self, aid: Aid) -> bool {
        let Some(slot) = self.slot(aid) else { return true };
        let killed = self.blocking(move |spawner| spawner.kill(slot, aid)).await.and_then(|done| done);
        let Err(error) = killed else { return true };
        // A workstation that is gone cannot be killed; its retirement tells whether anything is left.
        let gone = self.inner().agents.get(&aid).is_none_or(|agent| agent.state.phase.ended());
        if !gone {
            tracing::error!("{aid} cannot be killed: {error}; trying again");
        }
        gone
    }

    async fn retire(&self, aid: Aid) -> Option<Event> {
        let slot = self.slot(aid)?;
        let done = self.blocking(move |spawner| spawner.retire(slot, aid)).await.and_then(|done| done);
        if let Err(error) = done {
            tracing::error!("{aid}: something of it is left: {error}; trying again");
            return Some(Event::Residue);
        }
        let mut inner = self.inner();
        inner.slots.remove(&slot);
        if let Some(agent) = inner.agents.get_mut(&aid) {
            agent.saved.slot = None;
        }
        self.keep(&mut inner, aid, false);
        Some(Event::Retired)
    }

    // ---- Over a restart of this service ----

    /// Takes an agent over that an earlier run of this service left in this state.
    pub(crate) fn take_over(&self, saved: Saved, phase: AgentState) -> Result<(), ApiError> {
        let info = &saved.info;
        let state = State { phase, ending: None, exit: info.exit, early: None, reason: info.reason.clone() };
        let mut agent = self.agent(state, saved)?;
        agent.asked = true;
        let mut inner = self.inner();
        inner.slots.extend(agent.saved.slot);
        inner.agents.insert(agent.saved.info.aid, agent);
        Ok(())
    }

    /// Opens the socket of an agent that was taken over as running, and puts that on record.
    pub(crate) fn resume(self: &Arc<Self>, aid: Aid) -> Option<Event> {
        let name = self.info(aid).map(|info| info.name).unwrap_or_default();
        self.records.later(request(Kind::Lifecycle, &json!({"agent": aid, "name": name, "adopted": true})));
        self.open_socket(aid)
    }

    /// Runs what goes on beside requests, until `stop`.
    pub(crate) async fn run(&self, stop: &Shutdown) {
        self.records.run(stop).await;
    }
}

impl Inner {
    fn free_slot(&mut self) -> Option<u32> {
        let slots = (self.next_slot..uid::AGENT_SLOTS).chain(0..self.next_slot);
        let slot = slots.into_iter().find(|slot| !self.slots.contains(slot))?;
        self.next_slot = (slot + 1) % uid::AGENT_SLOTS;
        Some(slot)
    }
}

fn no_agent(text: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::new(
        Code::NotFound,
        "find an agent",
        shown,
        "there is no such agent",
        "see `octant agent list --all`",
    )
}
