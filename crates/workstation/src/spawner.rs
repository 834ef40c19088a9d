//! `octant spawner`: the one process that keeps the capabilities to build namespaces.
//!
//! It has one thread, serves one request at a time, and treats its caller as hostile: who calls is asked of the
//! kernel, what is asked is a fixed header and a sealed plan, and every promise about user ids, cgroups, capabilities,
//! the floor of denied system calls and mount sources is kept here, whatever the plan says. It builds nothing without a
//! ticket of the ledger for the plan's very bytes; to end a workstation takes none.

use crate::collect;
use crate::enforce::{self, DEVICES, Filters, Granted, NAMESPACES, Site, Standing};
use crate::filter;
use crate::kernel::{Call, Kernel, Real, wait_readable};
pub use crate::kernel::{Fault, Side};
use crate::listen::{Listen, MAX_LISTEN};
use crate::network::Network;
use crate::owners::Owners;
use crate::pinned::Pinned;
use crate::plan::{Bind, Layer, Plan, Report, Stdio, Syscalls};
use crate::readback::namespaces_of;
use crate::request::{MAX_PLAN, Op, REQUEST_MAX, Reply, Request, unseal};
use crate::residue;
use crate::snapshot::Snapshot;
use crate::sources::Guard;
use crate::step::{SpawnError, Step};
use crate::tickets::{Tickets, digest};
use crate::users::Users;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, SFlag, fstat};
use octant_api::boot::BootConfig;
use octant_ids::{Aid, uid};
use octant_sys::clone::{CloneArgs, Cloned};
use octant_sys::hooks::Hooks;
use octant_sys::{clock, confine, packet};
use octant_ticket::Keys;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

/// How many connections are served at once. `agents` needs one; the rest is room for its restart.
const MAX_CONNECTIONS: usize = 8;
/// The most bytes of a cgroup.events, which has two lines.
const EVENTS_BYTES: u64 = 4096;

/// What it says first to the process that started it for itself.
pub(crate) const READY: &[u8] = b"ready";

/// What the spawner is started with.
#[derive(Debug)]
pub struct Options {
    /// Who asks.
    pub socket: Socket,
    /// What PID 1 says about this Octant.
    pub config: BootConfig,
    /// Its key for tickets, or why it has none: then every spawn is refused for that.
    pub tickets: Result<Keys, String>,
    /// What goes wrong in each spawn; for tests that have a main function of their own. Nothing that the spawner reads
    /// can set it.
    pub fault: Option<Fault>,
}

/// Where requests come from, by SOCK_SEQPACKET.
#[derive(Debug)]
pub enum Socket {
    /// From the service `agents`, through this listener.
    Listening(OwnedFd),
    /// From the process that started the spawner for itself (`octant run`), and the spawner ends with it. Standard
    /// descriptors of that process may go to an agent.
    Connected(OwnedFd),
}

/// Why the spawner cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SpawnerError {
    /// A step of its own start failed.
    #[error("the spawner cannot start: {what}: {error}")]
    Start {
        /// What it was doing.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The trial of the namespaces failed.
    #[error("the spawner cannot build a workstation on this kernel: {0}")]
    Trial(io::Error),
    /// Waiting for requests failed.
    #[error("the spawner cannot wait for requests: {0}")]
    Poll(io::Error),
}

/// One workstation that runs, or has run and is not retired.
#[derive(Debug)]
struct Entry {
    /// `None` for one that an earlier spawner made and no cgroup leaf names.
    aid: Option<Aid>,
    pidfd: OwnedFd,
    /// What its retirement looks for.
    held: residue::Held,
    /// Where its program waits to be let go.
    waits: Option<Waits>,
}

/// A program that waits. When this is dropped first, its workstation ends.
#[derive(Debug)]
struct Waits {
    channel: OwnedFd,
    /// The digest of its plan: what the ticket to let it go is for.
    plan: octant_ids::Sha256,
}

struct Spawner {
    config: BootConfig,
    kernel: Real,
    tickets: Tickets,
    accept_missing: Vec<Layer>,
    agents_uid: u32,
    agents_cgroup: Option<OwnedFd>,
    devices: Vec<OwnedFd>,
    octant: OwnedFd,
    landlock_abi: u32,
    own_namespaces: Vec<(String, u64)>,
    reaper: Rc<[confine::Instruction]>,
    fallbacks: Rc<[confine::Instruction]>,
    /// Without a network and with one.
    floor: [Rc<[confine::Instruction]>; 2],
    collector: Rc<[confine::Instruction]>,
    profiles: HashMap<Syscalls, Filters>,
    pinned: Pinned,
    slots: BTreeMap<u32, Entry>,
    /// Whether it works for the process that started it.
    for_caller: bool,
    caller: Option<Users>,
    /// What is asked where agents with hosts connect to, or why nothing is.
    hooks: Result<Hooks, String>,
    /// The network of the next workstation, made while nobody waits for it.
    network: Option<Network>,
    /// When it is tried again to make one.
    next_network_ns: u64,
    owners: Owners,
}

/// `octant spawner`, as PID 1 starts it: with the descriptors `socket`, `config` and `tickets`; or as `octant run` does,
/// with `connection` in place of `socket`.
#[must_use]
pub fn main() -> ExitCode {
    let served = inherited().and_then(serve);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the unit's log.
            let _ = writeln!(io::stderr(), "{error}");
            octant_ids::Exit::Failed.into()
        }
    }
}

/// What PID 1 handed over, by the names of LISTEN_FDNAMES.
fn inherited() -> Result<Options, SpawnerError> {
    let missing = |what| SpawnerError::Start { what, error: Errno::EBADF.into() };
    let names = std::env::var("LISTEN_FDNAMES").map_err(|_| missing("read LISTEN_FDNAMES"))?;
    let take = |wanted: &str, what| {
        let place = names.split(':').position(|name| name == wanted).ok_or_else(|| missing(what))?;
        let number = i32::try_from(place + 3).map_err(|_| missing(what))?;
        start(what, octant_sys::inherit::take(number))
    };
    let socket = if names.split(':').any(|name| name == "connection") {
        Socket::Connected(take("connection", "take the inherited connection")?)
    } else {
        Socket::Listening(take("socket", "take the inherited socket")?)
    };
    let mut json = Vec::new();
    let config = File::from(take("config", "take the inherited configuration")?);
    // PID 1 wrote it and left the position at the end.
    let mut config = start("rewind the configuration", (&config).rewind().map(|()| config))?;
    let read = (&mut config).take(BootConfig::MAX as u64 + 1).read_to_end(&mut json);
    start("read the configuration", read)?;
    let config = start("parse the configuration", BootConfig::from_json(&json).map_err(io::Error::other))?;
    let tickets = if names.split(':').any(|name| name == "tickets") {
        let keys = File::from(take("tickets", "take the inherited keys")?);
        Keys::read(keys).map_err(|error| error.to_string())
    } else {
        Err("PID 1 gave no descriptor `tickets`; see its log for why, then restart ledger and spawner".into())
    };
    Ok(Options { socket, config, tickets, fault: None })
}

/// Serves until the listening socket is gone.
///
/// # Errors
/// [`SpawnerError`]: the start or the trial failed, or poll(2) did.
pub fn serve(options: Options) -> Result<(), SpawnerError> {
    let notify = crate::notify::Notify::from_environment();
    let tickets = Tickets::new(options.tickets, clock::boottime_ns());
    let for_caller = matches!(options.socket, Socket::Connected(_));
    let mut spawner = Spawner::new(options.config, tickets, options.fault, for_caller)?;
    let (listener, mut connections) = match options.socket {
        Socket::Listening(listener) => (listener, Vec::new()),
        Socket::Connected(connection) => {
            // A ticket of before this moment would not count, so the other side has to know when it is over. Its one
            // spawn is the trial.
            start("say that it is there", packet::send(connection.as_fd(), READY, &[]))?;
            while spawner.request(connection.as_fd()) {}
            return Ok(());
        }
    };
    trial().map_err(SpawnerError::Trial)?;
    notify.send(&format!("READY=1\n{}\nSTATUS=builds workstations", spawner.health(Ok(()))));
    let beat_ms = notify.beat_ms();
    let mut last_trial = clock::monotonic_ns();
    loop {
        spawner.keep_a_network();
        let ready = wait(&listener, &connections, beat_ms).map_err(SpawnerError::Poll)?;
        // The watchdog's beat, and once a minute the same trial as at the start.
        notify.send("WATCHDOG=1");
        if clock::monotonic_ns().saturating_sub(last_trial) > 60_000_000_000 {
            last_trial = clock::monotonic_ns();
            notify.send(&spawner.health(trial()));
        }
        let mut kept = Vec::new();
        for (i, connection) in connections.into_iter().enumerate() {
            if !ready.contains(&(i + 1)) || spawner.request(connection.as_fd()) {
                kept.push(connection);
            }
        }
        connections = kept;
        if ready.contains(&0)
            && let Some(connection) = accept(&listener, spawner.agents_uid)
        {
            if connections.len() == MAX_CONNECTIONS {
                // The oldest is of an `agents` that is gone, or of one that has lost count.
                connections.remove(0);
            }
            connections.push(connection);
        }
    }
}

/// Which of the listener (0) and the connections (from 1) have something to say.
fn wait(listener: &OwnedFd, connections: &[OwnedFd], timeout_ms: u16) -> io::Result<Vec<usize>> {
    let mut fds: Vec<PollFd<'_>> = std::iter::once(listener)
        .chain(connections)
        .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
        .collect();
    match poll(&mut fds, PollTimeout::from(timeout_ms)) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    Ok(fds.iter().enumerate().filter(|(_, fd)| fd.any() == Some(true)).map(|(i, _)| i).collect())
}

/// Accepts a connection if its other side is the service `agents`; anybody else is closed without an answer.
fn accept(listener: &OwnedFd, agents_uid: u32) -> Option<OwnedFd> {
    let fd = packet::accept(listener.as_fd()).ok()?;
    let peer = getsockopt(&fd, sockopt::PeerCredentials).ok()?;
    (peer.uid() == agents_uid).then_some(fd)
}

/// Whether this kernel and these capabilities can build what a workstation needs: a process in all namespaces at once.
/// It ends where it begins and nothing runs in it, so it needs no ticket.
fn trial() -> io::Result<()> {
    let namespaces = NAMESPACES | CloneFlags::CLONE_NEWNET.bits();
    let args = CloneArgs { namespaces, ..CloneArgs::new() };
    match octant_sys::clone::clone3(&args)? {
        Cloned::Child => confine::exit_now(0),
        Cloned::Parent { pid, pidfd } => {
            wait_readable(pidfd.as_fd(), 5000)?;
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
            nix::sys::wait::waitpid(pid, None)?;
            Ok(())
        }
    }
}

fn start<T, E: Into<io::Error>>(what: &'static str, result: Result<T, E>) -> Result<T, SpawnerError> {
    result.map_err(|error| SpawnerError::Start { what, error: error.into() })
}

impl Spawner {
    fn new(
        config: BootConfig,
        tickets: Tickets,
        fault: Option<Fault>,
        for_caller: bool,
    ) -> Result<Self, SpawnerError> {
        // What it makes in a new root has the modes that it says, whatever it was started with.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
        // The reaper of each workstation is a copy of this process, and has to see its agent end.
        start("wait for children", confine::wait_for_children())?;
        let path = OFlag::O_PATH | OFlag::O_CLOEXEC;
        // The binary by its path, since its mount must be one of the namespace that is made next; then compared.
        let exe = start("find the Octant binary", std::fs::read_link("/proc/self/exe"))?;
        start("take a mount namespace", own_mounts())?;
        let octant = start("open the Octant binary", nix::fcntl::open(exe.as_path(), path, Mode::empty()))?;
        start("compare the Octant binary", same_file(octant.as_fd()))?;
        let mut devices = Vec::new();
        for name in DEVICES {
            let fd =
                nix::fcntl::open(format!("/dev/{name}").as_str(), path | OFlag::O_NOFOLLOW, Mode::empty());
            devices.push(start("open the device nodes", fd)?);
        }
        let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let agents_cgroup = match &config.agents_cgroup {
            Some(dir) => Some(start(
                "open the agents' cgroup",
                nix::fcntl::open(dir.as_path(), directory, Mode::empty()),
            )?),
            None => None,
        };
        let agents_uid = match uid::of_service("agents") {
            _ if for_caller => Ok(nix::unistd::getuid().as_raw()),
            Some(uid @ 1..) => Ok(uid),
            _ => Err(Errno::EINVAL),
        };
        let other = |error: filter::FilterError| io::Error::other(error.to_string());
        let accept_missing = config.accept_missing.iter().filter_map(|name| Layer::of_name(name)).collect();
        let caller = own_users(for_caller)?;
        let mut spawner = Self {
            kernel: Real::new(fault),
            tickets,
            accept_missing,
            agents_uid: start("find the user of agents", agents_uid)?,
            agents_cgroup,
            devices,
            octant,
            landlock_abi: confine::landlock_abi(),
            own_namespaces: start("read the own namespaces", namespaces_of("self"))?,
            reaper: start("compile the reaper's filter", filter::of_reaper().map_err(other))?.into(),
            fallbacks: filter::fallbacks().into(),
            floor: [false, true].map(|network| filter::floor(network).into()),
            collector: start("compile the collector's filter", filter::of_collector().map_err(other))?.into(),
            profiles: HashMap::new(),
            pinned: Pinned::new(config.layout.state.join("pinned")),
            slots: BTreeMap::new(),
            for_caller,
            caller,
            hooks: hooks_of(caller),
            network: None,
            next_network_ns: 0,
            owners: Owners::default(),
            config,
        };
        spawner.slots = start("find the agents that run", recover())?;
        start("drop the capabilities that it does not need", keep_only_needed(caller.is_some()))?;
        Ok(spawner)
    }

    /// Makes the network of the next workstation, if there is none. Why it cannot is said to whoever asks for a workstation: it
    /// is tried again then.
    fn keep_a_network(&mut self) {
        // Where it takes its time to fail, others are not kept waiting for that again and again.
        const AGAIN_NS: u64 = 60_000_000_000;
        let now = clock::monotonic_ns();
        if self.network.is_none() && now >= self.next_network_ns {
            self.network = Network::make(&mut self.kernel).ok();
            self.next_network_ns = if self.network.is_some() { 0 } else { now + AGAIN_NS };
        }
    }

    /// What it says about its work, after a trial.
    fn health(&self, tried: io::Result<()>) -> String {
        match (tried, self.tickets.missing()) {
            (Err(error), _) => format!("X_OCTANT_HEALTH=no namespaces: {error}"),
            (Ok(()), Some(why)) => format!("X_OCTANT_HEALTH={why}"),
            (Ok(()), None) => "X_OCTANT_HEALTH=ok".into(),
        }
    }

    /// Serves one request; whether the connection stays.
    fn request(&mut self, connection: BorrowedFd<'_>) -> bool {
        let mut buffer = [0; REQUEST_MAX + 1];
        let packet = match packet::receive(connection, &mut buffer) {
            Ok(packet) if packet.len > 0 => packet,
            // The end of the connection, or a packet that is none of ours.
            _ => return false,
        };
        let bytes = buffer.get(..packet.len).unwrap_or_default();
        let answer = Request::decode(bytes).and_then(|request| match request.op {
            Op::Spawn | Op::Prepare => self.spawn(&request, packet.fds),
            Op::Release => self.release(&request).map(|()| (0, None, Vec::new())),
            Op::Listen => self.listen(&request, packet.fds).map(|fds| (0, None, fds)),
            Op::Kill => self.kill(&request).map(|()| (0, None, Vec::new())),
            Op::Retire => self.retire(&request).map(|looked_for| (looked_for, None, Vec::new())),
            Op::Terminate => self.terminate(&request).map(|()| (0, None, Vec::new())),
            Op::Collect => self.collect(&request, packet.fds).map(|(pid, pidfd)| (pid, None, vec![pidfd])),
        });
        let (reply, fds) = match answer {
            Ok((pid, report, fds)) => (Reply(Ok((pid, report))), fds),
            Err(error) => (Reply(Err(error)), Vec::new()),
        };
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        // A caller that asks and does not read fills its own queue, and then loses its connection.
        packet::send(connection, &reply.encode(), &fds).is_ok()
    }

    fn spawn(
        &mut self,
        request: &Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(u32, Option<Report>, Vec<OwnedFd>), SpawnError> {
        let refused = |step, text: String| Err(SpawnError::refused(step, text));
        let mut fds = fds.into_iter();
        let Some(plan) = fds.next() else {
            return refused(Step::Request, "a spawn comes with a plan".into());
        };
        let len = usize::try_from(request.plan_len).unwrap_or(usize::MAX);
        let bytes = unseal(plan, len, MAX_PLAN)?;
        // Before anything is made of them: who has no ticket learns nothing and reaches no parser.
        let hash = digest(&bytes);
        let redeemed = self.tickets.redeem(request.ticket.as_ref(), &hash, clock::boottime_ns())?;
        let mut plan: Plan = serde_json::from_slice(&bytes).map_err(|error| {
            SpawnError::refused(Step::Request, format!("the plan cannot be read: {error}"))
        })?;
        if (plan.slot, plan.aid) != (request.slot, request.aid) {
            return refused(Step::Request, "the plan is for another agent than the request".into());
        }
        plan.check().map_err(|error| SpawnError::refused(Step::Check, error.to_string()))?;
        if let Some(entry) = self.slots.get(&plan.slot) {
            let holder =
                entry.aid.map_or_else(|| "an agent of an earlier spawner".into(), |aid| aid.to_string());
            return refused(Step::Check, format!("slot {} is taken by {holder}", plan.slot));
        }
        if self.slots.values().any(|entry| entry.aid == Some(plan.aid)) {
            return refused(Step::Check, format!("{} exists", plan.aid));
        }
        let given = self.standard(plan.stdio, fds.collect())?;
        let mut sources = self.sources(&plan)?;
        crate::image::lay_below(&mut plan, &mut sources, &self.config.layout.images())?;
        let workspaces = self.config.layout.workspaces();
        let snapshot =
            plan.snapshot.map(|digest| Snapshot::open(digest, &workspaces, &plan.workspace)).transpose()?;
        let filters = self.filters(&plan.syscalls)?;
        let site = Site {
            agents_cgroup: self.agents_cgroup.as_ref().map(AsFd::as_fd),
            accept_missing: &self.accept_missing,
            devices: &self.devices,
            octant: self.octant.as_fd(),
            agents_uid: self.agents_uid,
            filters,
            landlock_abi: self.landlock_abi,
            own_namespaces: &self.own_namespaces,
            tickets: &self.tickets,
            caller: self.caller,
            hooks: self.hooks.as_ref().map_err(String::as_str),
            owners: &self.owners,
        };
        self.kernel.count = 0;
        let (granted, network) = (Granted { sources, snapshot, ..given }, self.network.take());
        let standing = if request.op == Op::Prepare {
            enforce::stand(&mut self.kernel, &plan, redeemed, &site, granted, network)?
        } else {
            enforce::spawn(&mut self.kernel, &plan, redeemed, &site, granted, network)?
        };
        let Standing { pid, pidfd, socket, models, terminal, workspace, report, channel, .. } = standing;
        let kept = pidfd
            .try_clone()
            .map_err(|error| SpawnError::failed(Step::Request, "keep the new process's handle", &error))?;
        let waits = (request.op == Op::Prepare).then_some(Waits { channel, plan: hash });
        let held = residue::Held::of(pid);
        self.slots.insert(plan.slot, Entry { aid: Some(plan.aid), pidfd: kept, held, waits });
        let more = models.into_iter().chain(terminal).chain(workspace);
        Ok((pid, Some(report), [pidfd, socket].into_iter().chain(more).collect()))
    }

    /// Opens what the plan binds, and puts copies in place of what it names by digest.
    fn sources(&mut self, plan: &Plan) -> Result<Vec<OwnedFd>, SpawnError> {
        let refused = |error: &dyn std::error::Error| SpawnError::refused(Step::Sources, error.to_string());
        let guard = Guard::new(&self.config.layout).map_err(|error| refused(&error))?;
        let open = |bind: &Bind| guard.open(&bind.source).map_err(|error| refused(&error));
        let mut sources = plan.binds.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        self.pinned.replace(plan, &mut sources)?;
        Ok(sources)
    }

    /// Lets a program go that waits, on a ticket of its own: the one that it was prepared with is used up.
    fn release(&mut self, request: &Request) -> Result<(), SpawnError> {
        let waits = self.entry(request)?.waits.as_ref().map(|waits| waits.plan);
        let none = || {
            let text = format!("the program of {} does not wait", request.aid);
            SpawnError::refused(Step::Execute, text)
        };
        let plan = waits.ok_or_else(none)?;
        // With a bad ticket it waits on.
        let _durable: octant_ticket::Redeemed =
            self.tickets.redeem(request.ticket.as_ref(), &plan, clock::boottime_ns())?;
        let waits =
            self.slots.get_mut(&request.slot).and_then(|entry| entry.waits.take()).ok_or_else(none)?;
        enforce::release(&mut self.kernel, waits.channel.as_fd()).map_err(|error| match self.kill(request) {
            Ok(()) => error,
            Err(kill) => SpawnError { text: format!("{}; and then: {kill}", error.text), ..error },
        })
    }

    /// Makes sockets in an agent's network that its caller gives to the gate.
    fn listen(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, SpawnError> {
        let entry = self.entry(request)?;
        let sealed = fds.into_iter().next();
        let sealed = sealed.ok_or_else(|| SpawnError::refused(Step::Request, "nothing says what for"))?;
        let bytes = unseal(sealed, usize::try_from(request.plan_len).unwrap_or(usize::MAX), MAX_LISTEN)?;
        let _durable: octant_ticket::Redeemed =
            self.tickets.redeem(request.ticket.as_ref(), &digest(&bytes), clock::boottime_ns())?;
        Listen::read(&bytes, request.aid)?.open(entry.pidfd.as_fd())
    }

    /// The descriptors of the program, which came behind the plan.
    fn standard(&self, stdio: Stdio, fds: Vec<OwnedFd>) -> Result<Granted, SpawnError> {
        let refused = |text: &str| Err(SpawnError::refused(Step::Request, text));
        let pipes = |stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd| {
            for (name, fd) in [("standard output", &stdout), ("standard error", &stderr)] {
                only_a_pipe(name, fd.as_fd(), OFlag::O_WRONLY)?;
            }
            Ok(Granted { sources: Vec::new(), snapshot: None, stdin, stdout, stderr, stopped: None })
        };
        if stdio == Stdio::Pipes {
            let Ok([stdout, stderr]) = <[OwnedFd; 2]>::try_from(fds) else {
                return refused("a spawn comes with the plan, standard output and standard error");
            };
            return pipes(None, stdout, stderr);
        }
        if stdio == Stdio::Served {
            let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
                return refused("the spawn of a server comes with the plan and three standard descriptors");
            };
            only_a_pipe("standard input", stdin.as_fd(), OFlag::O_RDONLY)?;
            return pipes(Some(stdin), stdout, stderr);
        }
        if !self.for_caller {
            return refused("only `octant run` gives an agent standard descriptors of its own");
        }
        let Ok([stdin, stdout, stderr, stopped]) = <[OwnedFd; 4]>::try_from(fds) else {
            return refused("a spawn comes with the plan, three standard descriptors and a pipe");
        };
        for fd in [&stdin, &stdout, &stderr] {
            no_way_out(fd.as_fd())?;
        }
        only_a_pipe("the pipe for what was stopped", stopped.as_fd(), OFlag::O_WRONLY)?;
        let (stdin, stopped) = (Some(stdin), Some(stopped));
        Ok(Granted { sources: Vec::new(), snapshot: None, stdin, stdout, stderr, stopped })
    }

    fn filters(&mut self, syscalls: &Syscalls) -> Result<Filters, SpawnError> {
        // A hostile caller could name endless sets of additional calls.
        const MAX_CACHED: usize = 64;
        if let Some(filters) = self.profiles.get(syscalls) {
            return Ok(filters.clone());
        }
        let profile: Rc<[confine::Instruction]> = filter::of_profile(syscalls)
            .map_err(|error| SpawnError::refused(Step::Filter, error.to_string()))?
            .into();
        let mut hash = Sha256::new();
        let floor = &self.floor[usize::from(syscalls.network)];
        for part in [&profile, &self.fallbacks, floor] {
            for i in part.iter() {
                hash.update(i.code.to_le_bytes());
                hash.update([i.jt, i.jf]);
                hash.update(i.k.to_le_bytes());
            }
        }
        let digest = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let [fallbacks, reaper, floor] = [&self.fallbacks, &self.reaper, floor].map(Rc::clone);
        let filters = Filters { profile, fallbacks, reaper, floor, digest };
        if self.profiles.len() >= MAX_CACHED {
            self.profiles.clear();
        }
        self.profiles.insert(syscalls.clone(), filters.clone());
        Ok(filters)
    }

    fn entry(&self, request: &Request) -> Result<&Entry, SpawnError> {
        match self.slots.get(&request.slot) {
            Some(entry) if entry.aid.is_none_or(|aid| aid == request.aid) => Ok(entry),
            _ => {
                let text = format!("there is no {} in slot {}", request.aid, request.slot);
                Err(SpawnError::refused(Step::Remove, text))
            }
        }
    }

    /// The agent's leaf, where there is one.
    fn leaf(&self, aid: Aid) -> Result<Option<OwnedFd>, SpawnError> {
        let Some(parent) = &self.agents_cgroup else { return Ok(None) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match nix::fcntl::openat(parent, aid.to_string().as_str(), flags, Mode::empty()) {
            Ok(leaf) => Ok(Some(leaf)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(SpawnError::failed(Step::Remove, "open the cgroup leaf", &error.into())),
        }
    }

    /// Whether none of its processes runs, as the kernel says.
    fn frozen(&self, aid: Aid) -> Result<bool, SpawnError> {
        let Some(leaf) = self.leaf(aid)? else { return Ok(false) };
        let failed = |error: io::Error| SpawnError::failed(Step::Collect, "read cgroup.events", &error);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let events = nix::fcntl::openat(&leaf, "cgroup.events", flags, Mode::empty());
        let mut text = String::new();
        File::from(events.map_err(|error| failed(error.into()))?)
            .take(EVENTS_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Ok(text.lines().any(|line| line == "frozen 1"))
    }

    fn kill(&mut self, request: &Request) -> Result<(), SpawnError> {
        let leaf = self.leaf(request.aid)?;
        let entry = self.entry(request)?;
        Real::default()
            .kill(entry.pidfd.as_fd(), leaf.as_ref().map(AsFd::as_fd))
            .map_err(|error| SpawnError::failed(Step::Remove, "kill", &error))
    }

    /// The reaper passes the signal on to the agent's program.
    fn terminate(&self, request: &Request) -> Result<(), SpawnError> {
        let pidfd = self.entry(request)?.pidfd.as_fd();
        confine::signal_pidfd(pidfd, Signal::SIGTERM as i32)
            .map_err(|error| SpawnError::failed(Step::Remove, "pidfd_send_signal(SIGTERM)", &error))
    }

    /// Starts the process that reads what is to be kept of a workspace: when nothing runs that could change it, because
    /// the agent has ended or is frozen.
    fn collect(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<(u32, OwnedFd), SpawnError> {
        let refused = |text: String| SpawnError::refused(Step::Collect, text);
        let base = uid::agent_base(request.slot).ok_or_else(|| refused("there is no such slot".into()))?;
        if let Some(entry) = self.slots.get(&request.slot) {
            let ended = wait_readable(entry.pidfd.as_fd(), 0).is_ok();
            let another = entry.aid.is_some_and(|aid| aid != request.aid);
            if another || !(ended || self.frozen(request.aid)?) {
                return Err(refused(format!("slot {} has an agent that runs", request.slot)));
            }
        }
        let len = usize::try_from(request.plan_len).unwrap_or(usize::MAX);
        let agent = Users::Range(base).agent();
        let tickets = &self.tickets;
        collect::start(fds, len, agent, &self.collector, || tickets.forget())
    }

    /// Removes what is left, and looks whether anything still is: in how many of its namespaces.
    fn retire(&mut self, request: &Request) -> Result<u32, SpawnError> {
        let running = self.entry(request).is_ok();
        if running {
            self.kill(request)?;
        } else if self.slots.values().any(|entry| entry.aid == Some(request.aid)) {
            return Err(SpawnError::refused(Step::Remove, format!("{} is in another slot", request.aid)));
        }
        // One that ended before this spawner started is in no slot any more; its leaf may still be there.
        if let (Some(parent), Some(leaf)) = (&self.agents_cgroup, self.leaf(request.aid)?) {
            drop(leaf);
            let name = request.aid.to_string();
            remove_leaf(&mut Real::default(), parent.as_fd(), &name).map_err(|error| {
                SpawnError::failed(Step::Remove, format!("remove the cgroup leaf {name}"), &error)
            })?;
        }
        let none = residue::Held::default();
        let held = self.entry(request).map_or(&none, |entry| &entry.held);
        let looked_for = held.count();
        let found = residue::find(request.slot, held, &self.own_namespaces)
            .map_err(|error| SpawnError::failed(Step::Remove, "look for what is left of it", &error))?;
        if let Some(residue) = found {
            return Err(SpawnError::refused(Step::Remove, residue.to_string()));
        }
        if running {
            self.slots.remove(&request.slot);
        }
        Ok(looked_for)
    }
}

/// What the spawner keeps of the capabilities that it was started with, and why. A new user namespace has its own full
/// set, so what the new processes need is not here.
const NEEDED: [(caps::Capability, &str); 8] = [
    (caps::Capability::CAP_SYS_ADMIN, "namespaces, file systems and mounts"),
    (caps::Capability::CAP_SETUID, "map the slot's user ids"),
    (caps::Capability::CAP_SETGID, "map the slot's group ids"),
    (
        caps::Capability::CAP_CHOWN,
        "give the agent its socket, and agents the files to kill, freeze and slow down with",
    ),
    (
        caps::Capability::CAP_DAC_OVERRIDE,
        "open granted paths wherever they are; kill through the file that agents owns",
    ),
    (caps::Capability::CAP_KILL, "kill what has another user"),
    (caps::Capability::CAP_SYS_PTRACE, "read back the state of the new processes"),
    (caps::Capability::CAP_SETFCAP, "map root of the own user namespace, where there is nobody else"),
];

/// Who a workstation's processes are where the spawner is not root of the machine. On one of Octant's own there is a whole
/// pool of users.
fn own_users(for_caller: bool) -> Result<Option<Users>, SpawnerError> {
    let caller = if for_caller { start("read the own users", crate::users::of_caller())? } else { None };
    if caller.is_some() {
        // Such a spawner can enter a network below its own, and come back to its own only.
        start("take a network of its own", unshare(CloneFlags::CLONE_NEWNET))?;
    }
    Ok(caller)
}

/// What is asked where agents with hosts connect to, or why nothing is.
fn hooks_of(caller: Option<Users>) -> Result<Hooks, String> {
    if caller.is_some() {
        return Err("only the machine's root may have any".to_owned());
    }
    Hooks::load(&crate::listen::hooked_ways()).map_err(|error| {
        format!("the kernel takes no programs for cgroups here (CONFIG_CGROUP_BPF, bpf(2)): {error}")
    })
}

fn keep_only_needed(for_user: bool) -> io::Result<()> {
    use caps::CapSet;
    nix::sys::prctl::set_no_new_privs()?;
    let other = |error: caps::errors::CapsError| io::Error::other(error);
    for set in [CapSet::Ambient, CapSet::Bounding, CapSet::Inheritable] {
        caps::clear(None, set).map_err(other)?;
    }
    let held = caps::read(None, CapSet::Permitted).map_err(other)?;
    let needed = |cap: &caps::Capability| for_user || *cap != caps::Capability::CAP_SETFCAP;
    let kept = NEEDED.iter().map(|row| row.0).filter(|cap| held.contains(cap)).filter(needed).collect();
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)
}

/// Removes a leaf whose processes have just been killed: their exit may still be on its way.
pub(crate) fn remove_leaf<K: Kernel>(kernel: &mut K, parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match kernel.call(&Call::RemoveLeaf { parent, name }) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) && tries < 500 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            other => return other.map(drop),
        }
    }
}

/// Output goes to a pipe's writing end and nowhere else, and a server's input comes from a reading end: through a socket
/// descriptors could come in, through a file or a device the agent could reach what it was not granted.
pub(crate) fn only_a_pipe(name: &str, fd: BorrowedFd<'_>, end: OFlag) -> Result<(), SpawnError> {
    let failed = |error: Errno| SpawnError::failed(Step::Request, name, &error.into());
    let kind = fstat(fd).map_err(failed)?.st_mode & SFlag::S_IFMT.bits();
    let mode =
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).map_err(failed)? & OFlag::O_ACCMODE.bits();
    if kind == SFlag::S_IFIFO.bits() && mode == end.bits() {
        return Ok(());
    }
    Err(SpawnError::refused(
        Step::Request,
        format!(
            "{name} is not the {} end of a pipe",
            if end == OFlag::O_RDONLY { "reading" } else { "writing" }
        ),
    ))
}

/// What a person gives can be anything that is read and written, and nothing through which more comes in: a directory
/// leads to the host's files, and a socket carries descriptors.
fn no_way_out(fd: BorrowedFd<'_>) -> Result<(), SpawnError> {
    let stat = fstat(fd).map_err(|error| SpawnError::failed(Step::Request, "fstat", &error.into()))?;
    let kind = stat.st_mode & SFlag::S_IFMT.bits();
    if [SFlag::S_IFIFO, SFlag::S_IFREG, SFlag::S_IFCHR].iter().any(|good| kind == good.bits()) {
        return Ok(());
    }
    let text = "a standard descriptor is neither a pipe, a file nor a terminal";
    Err(SpawnError::refused(Step::Request, text))
}

/// The slots that workstations on this machine have.
///
/// # Errors
/// What reading `/proc` reports.
pub fn taken_slots() -> io::Result<BTreeSet<u32>> {
    Ok(recover()?.into_keys().collect())
}

/// A mount namespace of the spawner's own, which follows the machine's mounts and gives nothing back, and in which `/`
/// is a mount with a parent: pivot_root(2) refuses the kernel's initial root.
fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SLAVE,
        None::<&str>,
    )?;
    if root_has_parent(&std::fs::read_to_string("/proc/self/mountinfo")?) {
        return Ok(());
    }
    let flags = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(Some("/"), "/", None::<&str>, flags, None::<&str>)?;
    nix::unistd::chdir("/")?;
    // The working directory is still the mount below; `..` of it is the one on top.
    nix::unistd::chdir("..")?;
    nix::unistd::chroot(".")?;
    Ok(())
}

/// Whether the mount at `/` lies on another mount: its own id and its parent's differ.
fn root_has_parent(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').take(5).collect();
        matches!(fields[..], [id, parent, _, _, "/"] if id != parent)
    })
}

fn same_file(path: BorrowedFd<'_>) -> io::Result<()> {
    let (ours, theirs) = (nix::sys::stat::stat("/proc/self/exe")?, fstat(path)?);
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        return Ok(());
    }
    Err(io::Error::other("the file at the binary's path is another one"))
}

/// The workstations that outlived an earlier spawner: every process that is PID 1 of a namespace of its own and whose
/// users are of the pool.
fn recover() -> io::Result<BTreeMap<u32, Entry>> {
    let mut slots = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ends while it is looked at is none that runs.
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let Some(slot) = slot_of(&status) else { continue };
        let (Ok(host), Ok(pidfd)) =
            (std::fs::read_to_string(format!("/proc/{pid}/cgroup")), octant_sys::descriptor::of_process(pid))
        else {
            continue;
        };
        let aid = host.lines().filter_map(|line| line.rsplit('/').next()).find_map(|name| name.parse().ok());
        slots.insert(slot, Entry { aid, pidfd, held: residue::Held::of(pid), waits: None });
    }
    Ok(slots)
}

/// The slot of a living process that is PID 1 of an agent's namespace.
fn slot_of(status: &str) -> Option<u32> {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let user: u32 = field("Uid:")?.split_whitespace().next()?.parse().ok()?;
    let inner = field("NSpid:")?.split_whitespace().last()?;
    let alive = !field("State:")?.starts_with(['Z', 'X']);
    let slot = user.checked_sub(uid::AGENT_BASE)? / uid::AGENT_RANGE;
    (alive && inner == "1" && slot < uid::AGENT_SLOTS).then_some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_running_workstation_is_found_again() {
        let status = |uid: u32, state: &str, inner: &str| {
            format!("Name:\tx\nState:\t{state}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t77\t{inner}\n")
        };
        let user = uid::agent_base(5).unwrap() + uid::AGENT_INSIDE;
        assert_eq!(slot_of(&status(user, "S (sleeping)", "1")), Some(5));
        assert_eq!(slot_of(&status(user, "Z (zombie)", "1")), None);
        assert_eq!(slot_of(&status(user, "S (sleeping)", "2")), None);
        assert_eq!(slot_of(&status(1000, "S (sleeping)", "1")), None);
    }

    #[test]
    fn the_initial_root_is_told_from_a_mounted_one() {
        assert!(!root_has_parent(
            "1 1 0:2 / / rw - rootfs rootfs rw\n23 1 0:22 / /sys rw - sysfs sysfs rw\n"
        ));
        assert!(root_has_parent("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"));
    }
}
