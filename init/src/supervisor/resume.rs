//! How PID 1 comes to be: fresh at boot, or as the replacement of itself with everything handed over.
//!
//! After each change the state is written into a new memfd, which then takes one fixed descriptor number. When PID 1
//! faults (a panic, a signal that would kill it) its handler executes `/proc/self/exe init --resume N` and nothing
//! else, because the faulting process can be trusted with nothing else. An operator's replacement is the same with the
//! binary on disk. The new PID 1 takes the descriptors that the state names and closes all others.

use super::{Ending, Runtime, Setup, SetupError, Supervisor, at, block_signals};
use crate::cgroup::{BoundError, Cgroups};
use crate::channel::{self, Channel, Journal};
use crate::config::Config;
use crate::console::Console;
use crate::graph::{self, Graph};
use crate::notify::Notify;
use crate::operator::OperatorSocket;
use crate::output::{Output, Pipe};
use crate::sockets;
use crate::tickets::Tickets;
use crate::units::{Socket, Unit, Units};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use octant_api::boot::Mode;
use octant_api::journal::Kind;
use octant_api::logs::LogConfig;
use octant_api::unit::ROUTER;
use octant_editions::Editions;
use octant_ids::Layout;
use octant_sys::confine::Program;
use octant_sys::{clock, descriptor, entropy, fault, inherit, process};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// So many faults within [`FAULT_WINDOW_NS`] are survived; one more is an Emergency.
const FAULTS_MAX: usize = 3;
const FAULT_WINDOW_NS: u64 = 60_000_000_000;
const VERSION: u32 = 2;
const STATE_MAX: u64 = 16 << 20;

/// What one PID 1 leaves to the next. Numbers are descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// Whether the replacement was asked for; otherwise it is a fault.
    asked: bool,
    setup: Setup,
    config: Config,
    graph: graph::Saved,
    ending: Option<Ending>,
    announced_ready: bool,
    job_code: Option<i32>,
    ledger_was_ready: bool,
    faults: Vec<u64>,
    cgroup_top: Option<PathBuf>,
    cgroup_origin: Option<PathBuf>,
    cgroup_missing: Vec<String>,
    notify: RawFd,
    operator: RawFd,
    journal: channel::Saved,
    exits: channel::Saved,
    /// None of a PID 1 that wrote logs itself.
    #[serde(default)]
    lines: Option<channel::Saved>,
    tickets: BTreeMap<String, RawFd>,
    watchdog: Option<RawFd>,
    units: BTreeMap<String, SavedUnit>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedUnit {
    socket: Option<RawFd>,
    #[serde(default)]
    http: Option<RawFd>,
    /// What it prints; of a PID 1 that had one pipe for both, its complaints too.
    output: (RawFd, RawFd),
    #[serde(default)]
    complaints: Option<(RawFd, RawFd)>,
    stored: Vec<(String, RawFd)>,
    said: String,
    #[serde(default)]
    heard_ns: Option<u64>,
    #[serde(default)]
    out_of_memory: u32,
    last_pid: Option<u32>,
}

/// Why a replaced PID 1's state cannot be used. The only way on is the Emergency.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// It cannot be read.
    #[error("the state of the PID 1 before this one cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is torn, or of another version.
    #[error("the state of the PID 1 before this one is not understood: {0}")]
    Format(String),
    /// Supervision could not be set up again.
    #[error("supervision cannot be taken up again: {0}")]
    Setup(#[from] SetupError),
}

/// The state of a replaced PID 1, read and checked.
#[derive(Debug)]
pub(crate) struct Resumed {
    saved: Saved,
    state: File,
    /// How many faults there were within the last minute, when there were too many.
    pub(crate) too_many_faults: Option<usize>,
}

impl Resumed {
    /// What the PID 1 before was told.
    #[must_use]
    pub(crate) fn setup(&self) -> &Setup {
        &self.saved.setup
    }

    /// Takes over what this PID 1 knows of by itself: it may be another program than the one before.
    pub(crate) fn knows(&mut self, services: Vec<String>) {
        self.saved.setup.known = services;
    }

    /// The configuration that the PID 1 before ran with.
    pub(crate) fn config(&self) -> &Config {
        &self.saved.config
    }

    /// Whether the replacement was asked for.
    pub(crate) fn asked(&self) -> bool {
        self.saved.asked
    }
}

/// Reads the state behind an inherited descriptor and closes every descriptor that it does not name. `attempt` counts
/// the successors that faulted before they had a state of their own.
///
/// # Errors
/// [`ResumeError`].
pub(crate) fn take_saved(fd: RawFd, attempt: u32) -> Result<Resumed, ResumeError> {
    let mut file = File::from(inherit::take(fd)?);
    let attempts = usize::try_from(attempt).unwrap_or(usize::MAX);
    if attempts <= FAULTS_MAX {
        // Until it has saved a state of its own, a fault of this PID 1 leads to one more attempt with the same state.
        let program = successor(c"/proc/self/exe".into(), fd, attempt.saturating_add(1))?;
        fault::execute_instead_of_dying(program)?;
    }
    let mut bytes = Vec::new();
    file.rewind()?;
    Read::by_ref(&mut file).take(STATE_MAX).read_to_end(&mut bytes)?;
    let mut saved: Saved = serde_json::from_slice(&bytes).map_err(|e| ResumeError::Format(e.to_string()))?;
    if saved.version != VERSION {
        return Err(ResumeError::Format(format!("version {} is not {VERSION}", saved.version)));
    }
    let mut keep = vec![saved.notify, saved.operator, fd];
    for channel in [&saved.journal, &saved.exits].into_iter().chain(&saved.lines) {
        keep.extend([channel.near, channel.far]);
    }
    keep.extend(saved.tickets.values());
    keep.extend(saved.watchdog);
    for unit in saved.units.values() {
        keep.extend(unit.socket.into_iter().chain(unit.http));
        keep.extend([unit.output.0, unit.output.1]);
        keep.extend(unit.complaints.iter().flat_map(|ends| [ends.0, ends.1]));
        keep.extend(unit.stored.iter().map(|(_, fd)| *fd));
    }
    inherit::close_all_but(&keep)?;
    let now = clock::monotonic_ns();
    saved.faults.retain(|at| now.saturating_sub(*at) < FAULT_WINDOW_NS);
    if !saved.asked {
        saved.faults.push(now);
    }
    let count = saved.faults.len().saturating_add(attempts);
    let too_many_faults = Some(count).filter(|count| *count > FAULTS_MAX);
    Ok(Resumed { saved, state: file, too_many_faults })
}

/// The parts that both ways of coming to be have to provide.
struct Parts {
    setup: Setup,
    config: Config,
    console: Console,
    cgroups: Cgroups,
    graph: Graph,
    units: Units,
    runtime: Vec<Runtime>,
    journal: Journal,
    exits: Channel,
    lines: Channel,
    notify: Notify,
    operator: OperatorSocket,
    tickets: Tickets,
    watchdog: Option<crate::machine::Watchdog>,
}

impl Supervisor {
    /// Supervision at boot: every socket is made, nothing is started yet.
    ///
    /// # Errors
    /// [`SetupError`] with the failing step.
    pub(crate) fn new(
        setup: Setup,
        config: Config,
        units: Units,
        cgroups: Cgroups,
        tickets: Tickets,
        console: Console,
    ) -> Result<Self, SetupError> {
        let layout = &setup.layout;
        let mut runtime = Vec::new();
        for (def, unit) in units.defs.iter().zip(&units.units) {
            runtime.push(begun(&def.name, unit, layout, config.log())?);
        }
        let path = layout.operator_socket();
        let operator = sockets::listening(&path, Socket { packets: true, mode: 0o666, owner: 0 });
        let notify_path = layout.run.join("notify.sock");
        let parts = Parts {
            graph: new_graph(&units)?,
            runtime,
            journal: Journal {
                channel: Channel::new().map_err(at("the journal's channel"))?,
                ledger_was_ready: false,
            },
            exits: Channel::new().map_err(at("the channel of exits"))?,
            lines: Channel::new().map_err(at("the channel of lines"))?,
            notify: Notify::new(&notify_path).map_err(at(notify_path.display().to_string()))?,
            operator: OperatorSocket::new(operator.map_err(at(path.display().to_string()))?),
            tickets,
            watchdog: crate::machine::Watchdog::open(setup.mode),
            setup,
            config,
            console,
            cgroups,
            units,
        };
        Self::assemble(parts)
    }

    /// Supervision as the PID 1 before left it.
    ///
    /// # Errors
    /// [`ResumeError::Setup`] with the failing step.
    pub(crate) fn resume(
        resumed: Resumed,
        config: Config,
        units: Units,
        console: Console,
    ) -> Result<Self, ResumeError> {
        let mut saved = resumed.saved;
        let mut runtime = Vec::new();
        for (def, unit) in units.defs.iter().zip(&units.units) {
            let layout = &saved.setup.layout;
            runtime.push(match saved.units.remove(&def.name) {
                Some(old) => gone_on(&def.name, unit, old, layout, config.log())?,
                None => begun(&def.name, unit, layout, config.log())?,
            });
        }
        let channel = |saved: channel::Saved| {
            let (near, far) = pair((saved.near, saved.far))?;
            Ok::<_, SetupError>(Channel::resume(saved, near, far))
        };
        let tickets = saved.tickets.into_iter().map(|(name, fd)| Ok((name, take(fd)?)));
        let tickets = Tickets::resume(tickets.collect::<Result<_, SetupError>>()?);
        let mut graph = new_graph(&units)?;
        let strangers = graph.restore(saved.graph);
        let parts = Parts {
            graph,
            runtime,
            journal: Journal { channel: channel(saved.journal)?, ledger_was_ready: saved.ledger_was_ready },
            exits: channel(saved.exits)?,
            lines: match saved.lines {
                Some(lines) => channel(lines)?,
                None => Channel::new().map_err(at("the channel of lines"))?,
            },
            tickets,
            notify: Notify::resume(take(saved.notify)?),
            operator: OperatorSocket::new(take(saved.operator)?),
            watchdog: saved.watchdog.map(take).transpose()?.map(crate::machine::Watchdog::resume),
            cgroups: Cgroups::resume(saved.cgroup_top, saved.cgroup_origin, saved.cgroup_missing),
            setup: saved.setup,
            config,
            console,
            units,
        };
        let mut this = Self::assemble(parts)?;
        this.ending = saved.ending;
        this.announced_ready = saved.announced_ready;
        this.job_code = saved.job_code;
        this.faults = saved.faults;
        this.state_fd = Some(resumed.state.into());
        this.share_console();
        this.after_replacement(saved.asked, &strangers);
        Ok(this)
    }

    fn after_replacement(&mut self, asked: bool, strangers: &[(String, u32)]) {
        let text = if asked {
            "PID 1 has replaced itself as asked; every unit goes on".to_owned()
        } else {
            format!("PID 1 faulted and has replaced itself (fault {} within a minute)", self.faults.len())
        };
        self.console.alarm(&text);
        self.journal.record(Kind::Boot, "", &text, clock::monotonic_ns());
        for (name, pid) in strangers {
            self.console.alarm(&format!("{name} is no unit any more; its process {pid} is killed"));
            let killed = self.cgroups.kill_unit(name);
            if !matches!(killed, Ok(true)) {
                // Already gone is as good as killed.
                let _may_be_gone = process::signal_group(*pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        self.bound_again();
        // Children that ended between the fault and now raised their SIGCHLD at nobody.
        self.reap();
    }

    /// Gives every unit that runs the bounds that the configuration has now.
    fn bound_again(&mut self) {
        for unit in (0..self.graph.len()).filter(|unit| self.graph.pid(*unit).is_some()) {
            let name = &self.graph.def(unit).name;
            // What is missing was said when the unit was started.
            if let Err(error @ BoundError::Write { .. }) =
                self.cgroups.bound(name, &self.units[unit].resources)
            {
                self.console.alarm(&format!("{name}: {error}; its bounds are as they were"));
            }
        }
    }

    fn assemble(parts: Parts) -> Result<Self, SetupError> {
        let buttons = match parts.setup.mode {
            Mode::Machine => crate::machine::PowerButton::find(),
            Mode::Container | Mode::Namespace => Vec::new(),
        };
        let mut this = Self {
            setup: parts.setup,
            config: parts.config,
            graph: parts.graph,
            units: parts.units.units,
            runtime: parts.runtime,
            console: parts.console,
            journal: parts.journal,
            exits: parts.exits,
            lines: parts.lines,
            cgroups: parts.cgroups,
            notify: parts.notify,
            operator: parts.operator,
            tickets: parts.tickets,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
                .map_err(io::Error::from)
                .map_err(at("epoll"))?,
            signals: block_signals().map_err(io::Error::from).map_err(at("signalfd"))?,
            ending: None,
            all_down: false,
            announced_ready: false,
            job_code: None,
            faults: Vec::new(),
            state_fd: None,
            armed: false,
            dirty: true,
            pending: VecDeque::new(),
            feeding: false,
            watchdog: parts.watchdog,
            buttons,
            trial: None,
        };
        this.watch().map_err(io::Error::from).map_err(at("epoll"))?;
        this.begin_trial();
        Ok(this)
    }

    /// Records which configuration is in force.
    pub(crate) fn record_config(&mut self, text: &str) {
        self.journal.record(Kind::Config, "", text, clock::monotonic_ns());
    }

    /// Records the phases of the boot, with the times at which they ended.
    pub(crate) fn record_phases(&mut self, started: u64, phases: &[(&'static str, u64)]) {
        let mut before = started;
        for (name, at) in phases {
            let us = at.saturating_sub(before) / 1000;
            before = *at;
            let text = format!("boot: {name} took {}.{:03} ms", us / 1000, us % 1000);
            self.journal.record(Kind::Boot, "", &text, *at);
            self.console.say(&text);
        }
    }

    pub(super) fn save_if_dirty(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if let Err(error) = self.save(false) {
            // Supervision goes on; only a fault from here on would find an older state.
            self.console.alarm(&format!("the state for a replacement cannot be kept: {error}"));
        }
    }

    fn save(&mut self, asked: bool) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.saved(asked))?;
        let mut file = File::from(memfd_create("octant-state", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&bytes)?;
        let fd = match self.state_fd.take() {
            // The number stays, so that the program armed for a fault stays right; dup3 swaps at once.
            Some(old) => descriptor::place(file.as_fd(), old.into_raw_fd(), true)?,
            None => OwnedFd::from(file),
        };
        if !self.armed {
            fault::execute_instead_of_dying(successor(c"/proc/self/exe".into(), fd.as_raw_fd(), 0)?)?;
            self.armed = true;
        }
        self.state_fd = Some(fd);
        Ok(())
    }

    fn saved(&self, asked: bool) -> Saved {
        let raw = |fd: &OwnedFd| fd.as_raw_fd();
        let unit = |runtime: &Runtime| SavedUnit {
            socket: runtime.socket.as_ref().map(raw),
            http: runtime.http.as_ref().map(raw),
            output: ends(&runtime.output.pipes[0]),
            complaints: Some(ends(&runtime.output.pipes[1])),
            stored: runtime.stored.iter().map(|(name, fd)| (name.clone(), raw(fd))).collect(),
            said: runtime.said.clone(),
            heard_ns: runtime.heard_ns,
            out_of_memory: runtime.out_of_memory,
            last_pid: runtime.last_pid,
        };
        let (cgroup_top, cgroup_origin) = self.cgroups.saved();
        Saved {
            version: VERSION,
            asked,
            setup: self.setup.clone(),
            config: self.config.clone(),
            graph: self.graph.save(),
            ending: self.ending.clone(),
            announced_ready: self.announced_ready,
            job_code: self.job_code,
            ledger_was_ready: self.journal.ledger_was_ready,
            faults: self.faults.clone(),
            cgroup_top,
            cgroup_origin,
            cgroup_missing: self.cgroups.missing.clone(),
            notify: self.notify.as_fd().as_raw_fd(),
            operator: self.operator.listener().as_raw_fd(),
            journal: self.journal.channel.saved(),
            exits: self.exits.saved(),
            lines: Some(self.lines.saved()),
            tickets: self.tickets.saved(),
            watchdog: self.watchdog.as_ref().map(|watchdog| watchdog.as_fd().as_raw_fd()),
            units: (0..self.graph.len())
                .map(|at| (self.graph.def(at).name.clone(), unit(&self.runtime[at])))
                .collect(),
        }
    }

    /// Whether the binary on disk can be executed and the configuration is right: asked before the point of no return.
    pub(super) fn can_replace(&self) -> Result<(), String> {
        let names = self.own_names();
        let edition = Editions::of(&self.setup.layout).current();
        crate::config::load(&self.setup.layout, edition, &names).map_err(|error| error.to_string())?;
        let exe = &self.setup.exe;
        nix::unistd::access(exe, nix::unistd::AccessFlags::X_OK)
            .map_err(|error| format!("{}: {error}; put the new binary there first", exe.display()))
    }

    /// The tables that octant.toml may have.
    pub(super) fn own_names(&self) -> Vec<&str> {
        self.setup.known.iter().map(String::as_str).collect()
    }

    /// Executes the binary on disk. Returns, with everything as before, only when that failed.
    pub(super) fn replace_self(&mut self) {
        if self.can_replace().is_err() {
            return;
        }
        let tried = self.save(true).and_then(|()| {
            let number = self.state_fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let exe = self.setup.exe.as_os_str().as_encoded_bytes();
            fault::execute_instead_of_dying(successor(CString::new(exe)?, number, 0)?)?;
            Err::<(), _>(fault::execute_now())
        });
        if let Err(error) = tried {
            self.console.alarm(&format!("PID 1 cannot replace itself: {error}"));
        }
        // Back to what a fault needs.
        self.armed = false;
        self.dirty = true;
    }
}

fn take(fd: RawFd) -> Result<OwnedFd, SetupError> {
    inherit::take(fd).map_err(at("an inherited descriptor"))
}

fn pair((one, other): (RawFd, RawFd)) -> Result<(OwnedFd, OwnedFd), SetupError> {
    Ok((take(one)?, take(other)?))
}

/// What there was of a unit before, and is still.
fn gone_on(
    name: &str,
    unit: &Unit,
    old: SavedUnit,
    layout: &Layout,
    log: LogConfig,
) -> Result<Runtime, SetupError> {
    let pipe = |ends| {
        let (read_end, write_end) = pair(ends)?;
        Pipe::resume(read_end, write_end).map_err(at("a pipe for output"))
    };
    let complaints = old.complaints.map_or_else(|| Pipe::new().map_err(at("a pipe")), pipe);
    let stored = old.stored.into_iter().map(|(name, fd)| Ok((name, take(fd)?)));
    Ok(Runtime {
        socket: old.socket.map(take).transpose()?,
        // A PID 1 of before this socket had none.
        http: old.http.map_or_else(|| http(name, unit, layout), |fd| take(fd).map(Some))?,
        output: Output::new([pipe(old.output)?, complaints?], log),
        stored: stored.collect::<Result<_, SetupError>>()?,
        said: old.said,
        heard_ns: old.heard_ns,
        out_of_memory: old.out_of_memory,
        last_pid: old.last_pid,
    })
}

/// What there is of a unit that was not there before.
fn begun(name: &str, unit: &Unit, layout: &Layout, log: LogConfig) -> Result<Runtime, SetupError> {
    let path = layout.socket(name);
    let socket = unit.socket.map(|what| sockets::listening(&path, what)).transpose();
    Ok(Runtime {
        socket: socket.map_err(at(path.display().to_string()))?,
        http: http(name, unit, layout)?,
        output: Output::new(pipes().map_err(at("pipes for output"))?, log),
        stored: Vec::new(),
        said: String::new(),
        heard_ns: None,
        out_of_memory: 0,
        last_pid: None,
    })
}

/// Where operators ask the router's models over HTTP: nobody else can connect.
fn http(name: &str, unit: &Unit, layout: &Layout) -> Result<Option<OwnedFd>, SetupError> {
    if name != ROUTER || !unit.built_in {
        return Ok(None);
    }
    let path = layout.router_http();
    let socket = sockets::listening(&path, Socket { packets: false, mode: 0o600, owner: 0 });
    socket.map(Some).map_err(at(path.display().to_string()))
}

fn pipes() -> io::Result<[Pipe; 2]> {
    Ok([Pipe::new()?, Pipe::new()?])
}

/// The numbers of both ends.
fn ends(pipe: &Pipe) -> (RawFd, RawFd) {
    let (read_end, write_end) = pipe.ends();
    (read_end.as_raw_fd(), write_end.as_raw_fd())
}

fn new_graph(units: &Units) -> Result<Graph, SetupError> {
    let mut seed = [0; 8];
    entropy::fill_unseeded(&mut seed).map_err(at("randomness"))?;
    let graph = Graph::new(units.defs.clone(), u64::from_ne_bytes(seed), clock::monotonic_ns());
    graph.map_err(|error| SetupError { step: "the service graph".into(), source: io::Error::other(error) })
}

/// The program that takes over: `octant init --resume N --attempt K`.
fn successor(path: CString, state: RawFd, attempt: u32) -> io::Result<Program> {
    let text = |text: String| CString::new(text).map_err(io::Error::other);
    let args = ["octant", "init", "--resume", &state.to_string(), "--attempt", &attempt.to_string()]
        .map(str::to_owned);
    let env = std::env::vars().map(|(name, value)| text(format!("{name}={value}")));
    let env = env.collect::<io::Result<Vec<_>>>()?;
    Ok(Program::new(path, args.into_iter().map(text).collect::<io::Result<_>>()?, env))
}
