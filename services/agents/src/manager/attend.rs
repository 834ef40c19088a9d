//! An agent and its handles: isolating it, reading it, serving its socket, watching for its end.

use super::prepare::Spare;
use super::{Handles, Manager, Start, WORKSPACE, kept_names};
use crate::admit::WHAT;
use crate::core::held::Suspension;
use crate::core::{Ending, Event};
use crate::guest::Guest;
use crate::spawner::Spawner;
use crate::tools::Front;
use crate::{describe, drain};
use octant_api::agents::{ExitInfo, Output};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::OnTimeout;
use octant_sys::clock;
use octant_wire::{Identity, Limits, serve, shutdown};
use octant_workstation::{Spawned, Stdio, Step};
use serde_json::json;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// How long after its end was seen PID 1 may take to say how a process ended.
const EXIT_WORD: Duration = Duration::from_secs(2);
/// How long what an agent wrote last may take to be read after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// The connections and requests of one agent: enough for a program with some threads, or for a
/// shell that waits for some children, and little to hold.
const GUEST: Limits = Limits {
    connections: 8,
    in_flight: 8,
    stall: Duration::from_secs(10),
    idle: Duration::from_secs(600),
    // An agent's authority ends with it: what it asked before is not finished.
    grace: Duration::from_millis(100),
};
const MS: u64 = 1_000_000;
/// Why nothing is started under an agent that has no time left.
pub(super) const TIME_ABOVE: &str = "the time to live of the agent that it is under is over";
const NO_TICKET: &str = "the ledger gave no ticket for the spawner";

/// The standard descriptors of a program: this service's ends of its pipes, and those that it gets, in order.
struct Standard {
    input: Option<OwnedFd>,
    out: OwnedFd,
    err: OwnedFd,
    ends: Vec<OwnedFd>,
}

impl Standard {
    fn of(stdio: Stdio) -> io::Result<Self> {
        let ((out, out_end), (err, err_end)) = (drain::pipe()?, drain::pipe()?);
        let mut ends = vec![out_end, err_end];
        let input = match stdio {
            Stdio::Served => {
                let (end, input) = drain::pipe()?;
                ends.insert(0, end);
                Some(input)
            }
            Stdio::Pipes | Stdio::Caller | Stdio::Terminal => None,
        };
        Ok(Self { input, out, err, ends })
    }
}

/// When a life of so many milliseconds from now on is over, in nanoseconds of CLOCK_BOOTTIME.
pub(crate) fn deadline(ms: u64) -> u64 {
    clock::boottime_ns().saturating_add(ms.saturating_mul(MS))
}

/// What a step that failed means for who asked.
fn code_of(step: Step) -> Code {
    match step {
        Step::Request | Step::Ticket => Code::Unavailable,
        Step::Check | Step::Sources => Code::InvalidParams,
        Step::Execute | Step::Remove => Code::Failed,
        _ => Code::LayerMissing,
    }
}

impl Manager {
    pub(super) async fn isolate(self: &Arc<Self>, aid: Aid) -> Event {
        let network = self.connects(aid);
        let (start, waits) = {
            let mut inner = self.inner();
            let Some(agent) = inner.agents.get_mut(&aid) else { return Event::NotIsolated(String::new()) };
            agent.asked = true;
            agent.saved.asked_ns = clock::monotonic_ns();
            let (start, waits) = (agent.start.take(), agent.state.prepared());
            self.keep(&mut inner, aid, false);
            (start, waits)
        };
        let Some(Start { plan, digest, until_ns, ticket }) = start else {
            return Event::NotIsolated("it has no plan".to_owned());
        };
        let Some(ticket) = ticket else {
            return self.not_isolated(aid, Code::Unavailable, NO_TICKET);
        };
        if until_ns.is_some_and(|until_ns| until_ns <= clock::boottime_ns()) {
            return self.not_isolated(aid, Code::Denied, TIME_ABOVE);
        }
        let Standard { input, out, err, ends } = match Standard::of(plan.stdio) {
            Ok(standard) => standard,
            Err(error) => {
                return self.not_isolated(aid, Code::Unavailable, &format!("make its pipes: {error}"));
            }
        };
        // A program that has a network runs once that is there.
        let build = move |spawner: &dyn Spawner| {
            let ends: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
            match waits || network {
                true => spawner.prepare(&plan, &ticket, &ends),
                false => spawner.spawn(&plan, &ticket, &ends),
            }
        };
        let spawned = match self.blocking(build).await {
            Err(gone) => return self.not_isolated(aid, Code::Internal, &gone),
            Ok(Err(error)) => return self.not_isolated(aid, code_of(error.step), &error.to_string()),
            Ok(Ok(spawned)) => spawned,
        };
        let Spawned { pid, pidfd, socket, models, workspace, report, terminal: _none } = spawned;
        {
            let mut inner = self.inner();
            if let Some(agent) = inner.agents.get_mut(&aid) {
                agent.saved.info.pid = Some(pid);
                agent.saved.info.layers = describe::layers(&report);
                agent.saved.info.missing_layers = describe::missing(&report);
            }
        }
        let (pidfd, stdout, stderr, socket) = (Some(pidfd), Some(out), Some(err), Some(socket));
        let handles = Handles { pidfd, input, stdout, stderr, socket, models, workspace };
        self.keep_models(aid, &handles);
        let ready = if waits {
            self.put_by(aid, digest, &handles)
        } else {
            self.deposit(aid, &handles);
            self.begin_life(aid, until_ns);
            match network {
                true => self.start_with_network(aid, digest).await,
                false => Ok(()),
            }
        };
        match ready.and_then(|()| self.attend(aid, handles)) {
            Ok(()) => Event::Isolated,
            Err(why) => {
                self.kill(aid).await;
                self.not_isolated(aid, Code::Internal, &why)
            }
        }
    }

    /// Opens the network of a workstation whose program waits for that, and lets the program go, with a ticket of its own.
    async fn start_with_network(&self, aid: Aid, plan: Sha256) -> Result<(), String> {
        let slot = self.slot(aid).ok_or("it has no slot")?;
        let failed = |(_, why): (Code, String)| why;
        self.open_first_network(aid, slot).await.map_err(failed)?;
        let what = json!({"do": "let its program go", "agent": aid});
        let (intent, ticket) = self.intend(aid, plan, &what).await.map_err(failed)?;
        let released = self.blocking(move |spawner| spawner.release(slot, aid, &ticket)).await;
        let released = released.and_then(|done| done.map_err(|error| error.to_string()));
        let became = json!({"agent": aid, "done": released.is_ok(), "why": released.as_ref().err()});
        let outcome = super::about(aid, Kind::Outcome, &became);
        self.records.later(AppendRequest { intent: Some(intent), ..outcome });
        released
    }

    /// Has the router's socket at hand, for when the agent's network is opened.
    fn keep_models(&self, aid: Aid, handles: &Handles) {
        let models = handles.models.as_ref().and_then(|models| models.try_clone().ok());
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.models = models;
        }
    }

    /// Keeps what is needed of an agent whose program waits.
    fn put_by(&self, aid: Aid, plan: Sha256, handles: &Handles) -> Result<(), String> {
        let handles = handles.try_clone().map_err(|e| format!("keep its handles: {e}"))?;
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.spare = Some(Spare { plan, handles });
        }
        Ok(())
    }

    /// Its program runs: its life is as long as its manifest says, and no longer than the one above it; gives its end.
    fn begin_life(&self, aid: Aid, until_ns: Option<u64>) -> Option<u64> {
        let mut inner = self.inner();
        let saved = &mut inner.agents.get_mut(&aid)?.saved;
        let ttl_ms = saved.terms.as_ref().and_then(|terms| terms.ttl_ms);
        saved.deadline_ns = ttl_ms.map(deadline).into_iter().chain(until_ns).min();
        saved.info.started_ms = Some(clock::wall_ms());
        saved.deadline_ns
    }

    /// Lets the program of a prepared agent go, with the ticket of the intent to spawn it.
    pub(super) async fn release(self: &Arc<Self>, aid: Aid) -> Event {
        let taken = {
            let mut inner = self.inner();
            let taken = inner
                .agents
                .get_mut(&aid)
                .and_then(|agent| Some((agent.saved.slot?, agent.start.take()?, agent.spare.take()?)));
            // With the intent: a restart has to know that it is open.
            self.keep(&mut inner, aid, false);
            taken
        };
        let Some((slot, start, spare)) = taken else {
            return self.not_let_go(aid, Code::Conflict, "it ended while it was being let go");
        };
        let Some(ticket) = start.ticket else {
            return self.not_let_go(aid, Code::Unavailable, NO_TICKET);
        };
        self.deposit(aid, &spare.handles);
        if let Err((code, why)) = self.open_first_network(aid, slot).await {
            return self.not_let_go(aid, code, &why);
        }
        match self.blocking(move |spawner| spawner.release(slot, aid, &ticket)).await {
            Err(gone) => self.not_let_go(aid, Code::Internal, &gone),
            Ok(Err(error)) => self.not_let_go(aid, code_of(error.step), &error.to_string()),
            Ok(Ok(())) => {
                if let Some(deadline_ns) = self.begin_life(aid, None) {
                    tokio::spawn(Arc::clone(self).watch_lifetime(aid, deadline_ns));
                }
                Event::LetGo
            }
        }
    }

    fn not_let_go(&self, aid: Aid, code: Code, why: &str) -> Event {
        let next = "spawn it again; see the log of the spawner";
        self.fail(aid, ApiError::new(code, WHAT, aid.to_string(), why, next));
        Event::NotLetGo(why.to_owned())
    }

    pub(super) fn not_isolated(&self, aid: Aid, code: Code, why: &str) -> Event {
        let next = "see `octant doctor` for what this machine lacks";
        self.fail(aid, ApiError::new(code, WHAT, aid.to_string(), why, next));
        Event::NotIsolated(why.to_owned())
    }

    /// Gives an agent's handles to PID 1 to keep. Without them an agent does not survive a restart of this
    /// service; it still runs.
    pub(super) fn deposit(&self, aid: Aid, handles: &Handles) {
        let Some(keeper) = &self.keeper else { return };
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.deposited = true;
        }
        // What a server says is not kept any more than what it was told.
        let Handles { pidfd, input, stdout, stderr, socket, models, workspace } = handles;
        let stdout = stdout.as_ref().filter(|_| input.is_none());
        let (pidfd, stderr) = (pidfd.as_ref(), stderr.as_ref());
        let (socket, models, workspace) = (socket.as_ref(), models.as_ref(), workspace.as_ref());
        for (name, fd) in kept_names(aid).iter().zip([pidfd, stdout, stderr, socket, models, workspace]) {
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
        let Handles { pidfd, input, mut stdout, stderr, socket, models, workspace } = handles;
        let pidfd = pidfd.map(Arc::new).ok_or("it has no process handle")?;
        let watched = drain::watch(Arc::clone(&pidfd)).map_err(|e| format!("watch its process: {e}"))?;
        let (log, pid, since, deadline_ns) = {
            let mut inner = self.inner();
            let agent = inner.agents.get_mut(&aid).ok_or("it is not known")?;
            agent.pidfd = Some(pidfd);
            agent.socket = socket;
            agent.models = models;
            // What a server of tools writes is no output.
            agent.speech = input.and_then(|input| Some((input, stdout.take()?)));
            if let Some(workspace) = workspace {
                agent.workspace = Some(Arc::new(workspace));
            }
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

    pub(super) async fn watch_exit(
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
    pub(super) async fn watch_lifetime(self: Arc<Self>, aid: Aid, deadline_ns: u64) {
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
        let freeze = {
            let inner = self.inner();
            let terms = inner.agents.get(&aid).and_then(|agent| agent.saved.terms.as_ref());
            terms.is_some_and(|terms| terms.on_timeout == OnTimeout::Freeze)
        };
        let event = if freeze {
            Event::SuspendAsked(Suspension::Lifetime)
        } else {
            Event::EndAsked { why: Ending::Lifetime, grace_ms: 0 }
        };
        self.drive(aid, event).await;
    }

    pub(super) fn open_socket(self: &Arc<Self>, aid: Aid) -> Option<Event> {
        let socket = {
            let mut inner = self.inner();
            let agent = inner.agents.get_mut(&aid)?;
            // Its end may have come while `running` was put on record.
            if !agent.state.phase.live() || agent.state.ending.is_some() {
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
        self.open_mailbox(aid, false);
        self.serve_tools(aid);
        let (trigger, stop) = shutdown();
        let guest = Guest::new(Arc::clone(self), aid);
        let identity = Identity::Listener(Principal::Agent(aid));
        tokio::spawn(async move {
            if let Err(error) = serve(listener, Front::new(guest), identity, GUEST, stop).await {
                tracing::error!("{aid}: its socket is not served any more: {error}");
            }
        });
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.guest = Some(trigger);
        }
        None
    }

    pub(super) fn close_socket(self: &Arc<Self>, aid: Aid) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            // Dropping the trigger stops the serving; dropping the others closes them.
            (agent.guest, agent.socket, agent.pidfd, agent.spare) = (None, None, None, None);
            agent.models = None;
            agent.speech = None;
        }
        self.end_conversation(aid);
        self.close_network(aid);
        self.ends.add(aid);
        self.let_go(aid, false);
    }

    /// Has PID 1 let go of an agent's handles, also of its workspace where that is `over`; the names of those that it goes
    /// on keeping.
    pub(super) fn let_go(&self, aid: Aid, over: bool) -> Vec<String> {
        let deposited = self.inner().agents.get(&aid).is_none_or(|agent| agent.deposited);
        let Some(keeper) = self.keeper.as_ref().filter(|_| deposited) else { return Vec::new() };
        let mut kept = Vec::new();
        for name in kept_names(aid).into_iter().filter(|name| over || !name.ends_with(WORKSPACE)) {
            if let Err(error) = keeper.unstore(&name) {
                tracing::warn!("{aid}: PID 1 goes on keeping {name}: {error}");
                kept.push(name);
            }
        }
        kept
    }
}
