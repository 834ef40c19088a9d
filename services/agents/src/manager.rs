//! Performs what the lifecycle decides: every agent of this Octant, and all that happens to one.

mod approve;
mod attend;
mod budget;
mod end;
mod family;
mod hold;
mod keep;
mod lend;
mod look;
mod models;
mod network;
mod post;
mod prepare;
mod report;
mod say;
mod serve;
mod snapshot;
mod spawn;
mod trust;

use self::post::Post;
use self::prepare::Spare;
pub(crate) use self::prepare::Wishes;
pub(crate) use self::serve::Servers;
pub(crate) use self::spawn::Begin;
use crate::accesses;
use crate::admit::WHAT;
use crate::approvals::Queue;
use crate::archive::Archive;
use crate::calls::Reports;
use crate::core::held::Held;
use crate::core::{self, Became, Effect, Event, Record, State};
use crate::exits::Exits;
use crate::log::Log;
use crate::secrets::Ends;
use crate::served::pins::Pins;
use crate::spawner::Spawner;
use crate::store::{Saved, Store};
use crate::trust::Noted;
use crate::words;
use octant_api::agents::AgentState;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Appended, Kind};
use octant_api::ticket::Ticket;
use octant_ids::{Aid, Principal, ServiceName, Sha256, uid};
use octant_manifest::{Ceiling, Effective};
use octant_service::{Kept, Left, Notifier, Records, record};
use octant_sys::clock;
use octant_wire::{Client, Shutdown, Trigger};
use octant_workstation::Plan;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

const REQUESTS: usize = 6;
/// Where records stay that the ledger had not taken when this service was stopped.
const LEFT: &str = "records.json";

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
    /// The most bytes that are kept of all workspaces together.
    pub(crate) artefact_bytes: u64,
    /// Where agents' cgroups are, when there are any.
    pub(crate) agents_cgroup: Option<PathBuf>,
}

/// The services that it speaks to beside the ledger.
pub(crate) struct Ways {
    pub(crate) vault: Client,
    /// The one way out of workstations.
    pub(crate) gate: Client,
    /// The way to models.
    pub(crate) router: Client,
}

/// Every agent of this Octant.
pub(crate) struct Manager {
    pub(crate) records: Records,
    pub(crate) vault: Client,
    /// The one way out of workstations.
    gate: Client,
    /// The way to models.
    router: Client,
    /// What the vault has to be told.
    ends: Ends,
    pub(crate) site: Site,
    pub(crate) exits: Arc<Exits>,
    pub(crate) store: Store,
    pub(crate) approvals: Queue,
    /// What is on record of the trusted set.
    noted: tokio::sync::Mutex<Noted>,
    archive: Arc<tokio::sync::Mutex<Archive>>,
    kept: Kept,
    post: Post,
    reports: Reports,
    wishes: Wishes,
    servers: Servers,
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
    /// What Landlock denied in domains of which it is not known yet whose they are.
    unclaimed: accesses::Waiting,
}

#[derive(Debug)]
struct Agent {
    state: State,
    saved: Saved,
    log: Arc<Log>,
    changed: watch::Sender<AgentState>,
    /// Told when something is said to it.
    said: watch::Sender<u64>,
    /// The operator who asked for it.
    operator: Option<u32>,
    /// What the intent to spawn it says, and what is spawned until the spawner has it.
    intent: Value,
    start: Option<Start>,
    /// What is kept of one whose program waits, until a spawn takes it.
    spare: Option<Spare>,
    /// Whether PID 1 was given handles of it to keep, or may have been by an earlier run of this service.
    deposited: bool,
    /// Whether its seal is on its way: what is recorded from then on cannot be in its partition any more.
    sealed: bool,
    /// Whether the spawner was asked: then there may be something to retire.
    asked: bool,
    /// What was looked for in its retirement and not found: the last but the seal that is recorded about it.
    nothing_left: Option<Value>,
    /// How often what is left of it could not be removed.
    residue: u32,
    pidfd: Option<Arc<OwnedFd>>,
    socket: Option<OwnedFd>,
    /// The router's socket in it, until its end: a router that has started anew gets it again.
    models: Option<OwnedFd>,
    /// What it reads and what it writes, of a server of tools that is not spoken with yet.
    speech: Option<(OwnedFd, OwnedFd)>,
    /// Its workspace, until what is to be kept of it is.
    workspace: Option<Arc<OwnedFd>>,
    /// How often that was tried.
    tried_to_keep: u32,
    /// Held while the kernel is brought to what the state says: one such change at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Stops the serving of its socket; gone once that has been stopped for good.
    guest: Option<Trigger>,
    /// What a caller of `spawn` is told, when there is more to say than the state does.
    failure: Option<ApiError>,
    /// What it may do, until its end; after a restart as far as that can still be established.
    rights: Option<Effective>,
}

/// What the spawner is asked for.
#[derive(Debug)]
struct Start {
    plan: Plan,
    /// The digest of the plan's bytes: the subject of the intent.
    digest: Sha256,
    /// When the life above it is over, in nanoseconds of CLOCK_BOOTTIME.
    until_ns: Option<u64>,
    /// What the ledger answered the intent with.
    ticket: Option<Ticket>,
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
    /// What a server of tools reads. Not kept: neither is what was said to it.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) socket: Option<OwnedFd>,
    /// The router's socket in its workstation.
    pub(crate) models: Option<OwnedFd>,
    /// Where something of its workspace is to be kept.
    pub(crate) workspace: Option<OwnedFd>,
}

impl Handles {
    fn try_clone(&self) -> io::Result<Self> {
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        let Self { pidfd, input, stdout, stderr, socket, models, workspace } = self;
        Ok(Self {
            pidfd: clone(pidfd)?,
            input: clone(input)?,
            stdout: clone(stdout)?,
            stderr: clone(stderr)?,
            socket: clone(socket)?,
            models: clone(models)?,
            workspace: clone(workspace)?,
        })
    }
}

/// What PID 1 keeps longest: until what is to be kept of it is.
const WORKSPACE: &str = "work";

/// The names under which PID 1 keeps an agent's handles.
pub(crate) fn kept_names(aid: Aid) -> [String; 6] {
    ["pid", "out", "err", "sock", "llm", WORKSPACE].map(|what| format!("{aid}.{what}"))
}

/// Why something that was asked for is not done.
pub(crate) type Refusal = (Code, String);

/// What the service's own directory has of an earlier run.
pub(crate) struct Files {
    pub(crate) store: Store,
    pub(crate) approvals: Queue,
    pub(crate) noted: Noted,
    pub(crate) wishes: Wishes,
    pub(crate) pins: Pins,
}

type Boxed = Pin<Box<dyn Future<Output = Option<Refusal>> + Send>>;

impl Manager {
    pub(crate) fn new(
        site: Site,
        records: Records,
        ways: Ways,
        files: Files,
        spawner: Arc<dyn Spawner>,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> Self {
        let Ways { vault, gate, router } = ways;
        let Files { store, approvals, noted, wishes, pins } = files;
        let exits = Arc::new(Exits::default());
        let requests = Semaphore::new(REQUESTS);
        let kept = Kept::new(store.dir().join(LEFT));
        let archive = Arc::new(tokio::sync::Mutex::new(Archive::new(store.dir(), site.artefact_bytes)));
        records.take_up(kept.read());
        let post = Post::new(store.dir());
        Self {
            records,
            vault,
            gate,
            router,
            ends: Ends::default(),
            site,
            exits,
            store,
            approvals,
            noted: tokio::sync::Mutex::new(noted),
            archive,
            kept,
            post,
            wishes,
            servers: Servers::new(pins),
            reports: Reports::new(None, None),
            spawner,
            keeper,
            requests,
            inner: Mutex::default(),
        }
    }

    /// With the kernel's reports of denied system calls.
    pub(crate) fn reporting(self, reports: Reports) -> Self {
        Self { reports, ..self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an event happen to an agent, and does what follows from it; says why that was refused, if it was.
    pub(crate) fn drive(self: &Arc<Self>, aid: Aid, event: Event) -> Boxed {
        self.drive_after(aid, Vec::new(), event)
    }

    /// The same, with something to be done before what follows. Boxed because what follows can be a task that
    /// lets another event happen.
    fn drive_after(self: &Arc<Self>, aid: Aid, before: Vec<Effect>, event: Event) -> Boxed {
        let manager = Arc::clone(self);
        Box::pin(async move {
            let (mut before, mut refusal) = (Some(before), None);
            let mut events = VecDeque::from([event]);
            while let Some(event) = events.pop_front() {
                let isolated = event == Event::Isolated;
                let mut effects = before.take().unwrap_or_default();
                let (follows, ended) = manager.step(aid, event);
                effects.extend(follows);
                if ended {
                    manager.bereave(aid);
                    // One that was never built may have been introduced to the gate.
                    manager.close_network(aid);
                }
                match manager.perform_all(aid, effects, &mut refusal).await {
                    Ok(follow) => {
                        events.extend(follow);
                        events.extend(isolated.then_some(Event::Released));
                    }
                    Err(not_recorded) => events.push_front(not_recorded),
                }
            }
            refusal
        })
    }

    /// What has to be done now, and whether this was its end.
    fn step(&self, aid: Aid, event: Event) -> (Vec<Effect>, bool) {
        let mut inner = self.inner();
        let Some(agent) = inner.agents.get_mut(&aid) else { return (Vec::new(), false) };
        let (state, effects) = core::step(agent.state.clone(), event);
        if state == agent.state {
            return (effects, false);
        }
        let moved = state.phase != agent.state.phase;
        let ended = state.phase.ended() && !agent.state.phase.ended();
        agent.state = state;
        agent.saved.held = agent.state.held.clone();
        let info = &mut agent.saved.info;
        info.state = agent.state.phase;
        let held = agent.state.held.suspension.filter(|_| info.state == AgentState::Suspended);
        info.reason = held.map(|why| why.reason().to_owned()).or_else(|| agent.state.reason.clone());
        info.prepared = agent.state.prepared();
        info.cpu_percent = agent.state.held.throttle.filter(|_| info.state.live());
        info.exit = agent.state.exit;
        if moved && info.state.ended() {
            info.pid = None;
            info.ended_ms.get_or_insert_with(clock::wall_ms);
            info.calls_unreported = info.calls_unreported.take().or_else(|| self.reports.missing());
            let missing = || self.reports.landlock_missing();
            info.accesses_unreported = info.accesses_unreported.take().or_else(missing);
            agent.log.close();
        }
        if agent.state.phase == AgentState::Rejected && !agent.asked {
            // The spawner never heard of it, so there is nothing to retire.
            let slot = agent.saved.slot.take();
            slot.map(|slot| inner.slots.remove(&slot));
        }
        if ended {
            self.post.close(aid);
            self.settle(&mut inner, aid);
        }
        self.keep(&mut inner, aid, moved);
        (effects, ended)
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
        // One that is not sealed has something to be recorded yet.
        let old: Vec<Aid> = ended.filter(|a| a.sealed).map(|a| a.saved.info.aid).take(excess).collect();
        for aid in old {
            inner.agents.remove(&aid);
            let gone = self.store.remove(aid).map_err(|e| e.to_string());
            let gone = gone.and(Log::remove(self.store.dir(), aid).map_err(|e| e.to_string()));
            if let Err(error) = gone {
                tracing::warn!("{aid}: what was kept of it cannot be removed: {error}");
            }
        }
    }

    /// Does what has to be done, in order; stops at a record that was not accepted. Records that follow each
    /// other go to the ledger together, and so to its disk: what comes after them waits for all.
    async fn perform_all(
        self: &Arc<Self>,
        aid: Aid,
        effects: Vec<Effect>,
        refusal: &mut Option<Refusal>,
    ) -> Result<Vec<Event>, Event> {
        let (mut follow, mut records) = (Vec::new(), Vec::new());
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            if let Effect::Record(record) = effect {
                records.push(record);
                continue;
            }
            if let Err(not_recorded) = self.record(aid, std::mem::take(&mut records)).await {
                // What waits for the ledger waits all the same: a rejection is on record sooner or later.
                let rest = std::iter::once(effect).chain(effects);
                let later = rest.filter_map(|effect| match effect {
                    Effect::RecordLater(record) => Some(record),
                    _ => None,
                });
                later.for_each(|record| self.record_later(aid, &record));
                return Err(not_recorded);
            }
            if let Effect::Refuse(code, why) = effect {
                *refusal = Some((code, why));
                continue;
            }
            follow.extend(self.perform(aid, effect).await);
        }
        self.record(aid, records).await?;
        Ok(follow)
    }

    async fn perform(self: &Arc<Self>, aid: Aid, effect: Effect) -> Option<Event> {
        match effect {
            // `perform_all` has taken these out.
            Effect::Record(_) | Effect::Refuse(..) => {}
            Effect::Give(time, record) => return Some(self.give(aid, time, &record).await),
            Effect::SetFreezer => return self.set_freezer(aid).await,
            Effect::SetSpeed => return self.set_speed(aid).await,
            Effect::Extend(until_ns) => self.extend(aid, until_ns),
            Effect::RecordLater(record) => self.record_later(aid, &record),
            Effect::Isolate => return Some(self.isolate(aid).await),
            Effect::Release => return Some(self.release(aid).await),
            Effect::Serve => return self.open_socket(aid),
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
            Effect::Retire => return self.retire(aid).await,
            Effect::RetireLater => self.retire_later(aid),
        }
        None
    }

    async fn record(&self, aid: Aid, records: Vec<Record>) -> Result<(), Event> {
        let entries: Vec<(Record, AppendRequest)> = {
            let inner = self.inner();
            let Some(agent) = inner.agents.get(&aid) else { return Ok(()) };
            records.into_iter().filter_map(|record| Some((record.clone(), entry(agent, &record)?))).collect()
        };
        let (records, entries): (Vec<Record>, Vec<AppendRequest>) = entries.into_iter().unzip();
        let (done, all) = self.records.append(&entries).await;
        self.take_ticket(aid, &records, done);
        if all.is_ok() && records.contains(&Record::Outcome(Became::Done)) {
            self.close_intent(aid);
        }
        all.map_err(|error| {
            let why = format!("the ledger did not accept a record: {error}");
            let next = "see `octant status`; nothing is started without a record";
            self.fail(aid, ApiError::new(Code::Unavailable, WHAT, "ledger", &why, next));
            Event::NotRecorded(why)
        })
    }

    /// Keeps the number of an intent that was accepted, and its ticket.
    fn take_ticket(&self, aid: Aid, records: &[Record], done: Vec<Option<Appended>>) {
        let intent = records.iter().zip(done).find(|(record, _)| **record == Record::Intent);
        let Some((_, Some(done))) = intent else { return };
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.saved.intent = Some(done.seq);
            if let Some(start) = &mut agent.start {
                start.ticket = done.ticket;
            }
        }
    }

    /// What became of its intent is on record, and is not said again.
    fn close_intent(&self, aid: Aid) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.saved.intent = None;
        }
    }

    fn record_later(&self, aid: Aid, record: &Record) {
        let mut inner = self.inner();
        let Some(agent) = inner.agents.get_mut(&aid) else { return };
        let Some(entry) = entry(agent, record) else { return };
        // While `inner` is held, so that nothing comes into the queue behind the seal that belongs before it.
        self.records.later(entry);
        if *record == Record::Seal {
            agent.sealed = true;
            agent.saved.sealed = true;
            self.keep(&mut inner, aid, false);
        }
    }

    /// Puts an operator's command about an agent, or its own deed, on record, without waiting.
    pub(crate) fn record_command(&self, aid: Aid, caller: &Principal, what: Value) {
        let inner = self.inner();
        if let Some(entry) = command(&inner, aid, caller, what) {
            self.records.later(entry);
        }
    }

    /// The same for what gives something to an agent, before it is followed.
    pub(crate) async fn record_command_first(
        &self,
        aid: Aid,
        caller: &Principal,
        what: Value,
    ) -> Result<(), Refusal> {
        let Some(entry) = command(&self.inner(), aid, caller, what) else { return Ok(()) };
        let (_, all) = self.records.append(&[entry]).await;
        all.map_err(|error| (Code::Unavailable, format!("the ledger did not accept the command: {error}")))
    }

    /// Takes an agent over that an earlier run of this service left in this state.
    pub(crate) fn take_over(
        &self,
        saved: Saved,
        phase: AgentState,
        workspace: Option<OwnedFd>,
    ) -> Result<(), ApiError> {
        let info = &saved.info;
        if phase.ended() {
            // Whether the vault was told before the restart is not known; told twice it does nothing.
            self.ends.add(info.aid);
            self.post.close(info.aid);
        }
        let (exit, reason, sealed) = (info.exit, info.reason.clone(), saved.sealed);
        // The reason of a suspension is of the suspension.
        let reason = reason.filter(|_| info.state != AgentState::Suspended);
        let held = if phase.live() { saved.held.clone() } else { Held::default() };
        let state = State { exit, reason, sealed, held, ..State::new(phase) };
        let mut agent = self.agent(state, saved)?;
        (agent.asked, agent.deposited, agent.sealed) = (true, true, sealed);
        agent.workspace = workspace.map(Arc::new);
        if !phase.ended() && !agent.saved.info.prepared {
            agent.rights = self.rights_again(&agent.saved);
        }
        let mut inner = self.inner();
        inner.slots.extend(agent.saved.slot);
        inner.agents.insert(agent.saved.info.aid, agent);
        Ok(())
    }

    /// Opens the socket of an agent that was taken over alive, and puts that on record. By then every such agent has its
    /// mailbox: what one says reaches all.
    pub(crate) fn adopted(self: &Arc<Self>, aid: Aid) -> Vec<Event> {
        let Ok(info) = self.info(aid) else { return Vec::new() };
        let what = json!({"agent": aid, "name": info.name, "adopted": true, "as": info.state.as_str()});
        self.records.later(about(aid, Kind::Lifecycle, &what));
        let (manager, of) = (Arc::clone(self), aid);
        tokio::spawn(async move { manager.go_on(of).await });
        self.open_socket(aid).into_iter().chain([Event::Adopted]).collect()
    }

    /// Runs what goes on beside requests, until `stop`.
    pub(crate) async fn run(self: &Arc<Self>, stop: &Shutdown) {
        // What the run before left is removed when the ledger has it, and not before.
        let had = || {
            if let Err(error) = self.kept.write(&Left::default()) {
                tracing::warn!("what the ledger has been given it is given again at the next start: {error}");
            }
        };
        tokio::join!(
            self.records.run(stop, had),
            self.ends.run(&self.vault, stop),
            self.read_reports(stop),
            self.deny_unanswered(stop),
            self.watch_trust(stop),
            self.keep_prepared(stop),
            self.watch_gate(stop),
            self.watch_router(stop)
        );
        // Kept before they are tried once more: PID 1 does not wait for ever.
        self.leave_records();
        self.records.hand_over().await;
        self.leave_records();
    }

    /// Keeps what the ledger has not taken for the next run of this service.
    fn leave_records(&self) {
        let left = self.records.left();
        let count = left.waiting.len();
        match self.kept.write(&left) {
            Ok(()) if count > 0 => {
                tracing::warn!("{count} records that the ledger did not take are kept for the next start");
            }
            Ok(()) => {}
            Err(error) => tracing::error!("{count} records that the ledger did not take are lost: {error}"),
        }
    }
}

impl Agent {
    /// Whether a spawn of this manifest can take it; one that was taken waits for nobody else.
    fn waits_for(&self, manifest: Sha256) -> bool {
        self.state.waits() && self.start.is_none() && self.saved.info.manifest_digest == manifest
    }
}

impl Inner {
    /// How many agents have not ended, but for those whose programs nobody has asked for yet.
    fn running(&self) -> usize {
        self.agents.values().filter(|agent| !agent.state.phase.ended() && !agent.state.prepared()).count()
    }

    fn free_slot(&mut self) -> Option<u32> {
        let slots = (self.next_slot..uid::AGENT_SLOTS).chain(0..self.next_slot);
        let slot = slots.into_iter().find(|slot| !self.slots.contains(slot))?;
        self.next_slot = (slot + 1) % uid::AGENT_SLOTS;
        Some(slot)
    }
}

/// The name of the actuator that makes workstations.
const SPAWNER: &str = "spawner";

/// An operator's command about an agent, in its partition while that is open.
fn command(inner: &Inner, aid: Aid, caller: &Principal, mut what: Value) -> Option<AppendRequest> {
    what["agent"] = json!(aid);
    let open = |aid: Aid| inner.agents.get(&aid).is_some_and(|agent| !agent.sealed);
    match caller {
        Principal::Operator(uid) => {
            let mut entry = record(Kind::Command, &what);
            entry.operator = Some(*uid);
            entry.agent = open(aid).then_some(aid);
            Some(entry)
        }
        // In its own name, in its own partition.
        Principal::Agent(by) => {
            what["by"] = json!(by);
            let mut entry = record(Kind::Grant, &what);
            entry.actor = open(*by).then_some(*by);
            Some(entry)
        }
        _ => None,
    }
}

/// A record about an agent, in its partition.
pub(crate) fn about(aid: Aid, kind: Kind, payload: &Value) -> AppendRequest {
    let mut entry = record(kind, payload);
    entry.agent = Some(aid);
    entry
}

/// What goes on record; none when there is nothing to say: no operator asked, or the intent whose outcome it would be
/// was not accepted.
fn entry(agent: &Agent, record: &Record) -> Option<AppendRequest> {
    let info = &agent.saved.info;
    let aid = info.aid;
    let mut entry = match record {
        Record::Transition { from, to } => {
            let mut what = json!({
                "agent": aid,
                "name": info.name,
                "from": from.map(AgentState::as_str),
                "to": to.as_str(),
                "manifest": info.manifest_digest,
                "lineage": family::lineage(&agent.saved),
                "reason": info.reason,
                "rules": agent.failure.as_ref().map_or(&[][..], |error| &error.data.rules),
                "exit": info.exit,
            });
            if let Some(found) = agent.nothing_left.as_ref().filter(|_| *to == AgentState::Archived) {
                what["nothing_left"] = found.clone();
                let counts = info.denied_calls.iter().map(|row| (row.call.as_str(), row.count));
                what["denied_calls"] = json!(counts.collect::<BTreeMap<_, _>>());
                let counts = info.denied_accesses.iter().map(|row| (row.name(), row.count));
                what["denied_accesses"] = json!(counts.collect::<BTreeMap<_, _>>());
            }
            about(aid, Kind::Lifecycle, &what)
        }
        Record::Command if agent.saved.ancestors.is_empty() => {
            let mut what = json!({"do": "spawn", "agent": aid, "manifest": info.manifest_digest});
            if let Some(task) = agent.saved.words.first() {
                what["task"] = json!(words::digest(task));
            }
            AppendRequest { operator: Some(agent.operator?), ..about(aid, Kind::Command, &what) }
        }
        // The parent's own deed, in its partition.
        Record::Command => return family::given(&agent.saved),
        Record::Intent => AppendRequest {
            subject: Some(agent.start.as_ref()?.digest),
            ticket_for: SPAWNER.parse::<ServiceName>().ok(),
            ..about(aid, Kind::Intent, &agent.intent)
        },
        Record::Outcome(became) => {
            let what = match became {
                Became::Done => json!({
                    "agent": aid,
                    "lineage": family::lineage(&agent.saved),
                    "pid": info.pid,
                    "missing_layers": info.missing_layers,
                    "layers": info.layers,
                }),
                Became::Refused => json!({"agent": aid, "refused": info.reason}),
                Became::Unknown => json!({"agent": aid, "unknown": info.reason}),
            };
            AppendRequest { intent: Some(agent.saved.intent?), ..about(aid, Kind::Outcome, &what) }
        }
        Record::EndAsked(why) => {
            let what = json!({"agent": aid, "name": info.name, "end_asked": why.reason()});
            about(aid, Kind::Lifecycle, &what)
        }
        Record::Seal => about(aid, Kind::Seal, &Value::Null),
    };
    entry.manifest = Some(info.manifest_digest).filter(|digest| *digest != Sha256::ZERO);
    if agent.sealed {
        // Nothing is accepted about it any more; the payload still names it.
        entry.agent = None;
    }
    Some(entry)
}

fn no_agent(text: &str) -> ApiError {
    no_agent_but(text, "see `octant agent list --all`")
}

fn no_agent_but(text: &str, next: &str) -> ApiError {
    let shown: String = text.chars().take(64).collect();
    ApiError::new(Code::NotFound, "find an agent", shown, "there is no such agent", next)
}
