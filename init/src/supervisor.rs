//! The event loop: one thread, one epoll, and the graph. What the graph decides is done here.

use crate::cgroup::Cgroups;
use crate::channel::{Channel, Journal};
use crate::config::{Config, ConsoleMode};
use crate::console::Console;
use crate::graph::{Action, Ended, Event, Graph, Notice};
use crate::notify::{self, Notify, Say};
use crate::operator::{OperatorSocket, Read};
use crate::output::{Output, STREAMS};
use crate::tickets::Tickets;
use crate::units::{JOB, Unit};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use octant_api::boot::Mode;
use octant_api::exits::Exit;
use octant_api::journal::Kind;
use octant_api::logs::{Line, Stream};
use octant_api::operator::UnitState;
use octant_ids::Layout;
use octant_sys::{clock, process};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

mod control;
mod launch;
mod resume;
mod trial;

pub(crate) use resume::{ResumeError, Resumed, take_saved};

/// What PID 1 was told or found out at its start, and keeps when it replaces itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Where it runs.
    pub(crate) mode: Mode,
    /// Its directories.
    pub(crate) layout: Layout,
    /// 32 hexadecimal digits.
    pub(crate) boot_id: String,
    /// The operator's user id.
    pub(crate) operator: u32,
    /// Layers of isolation that may be missing.
    pub(crate) accept_missing: Vec<String>,
    /// The job's command.
    pub(crate) job: Option<String>,
    /// What is on the console.
    #[serde(default)]
    pub(crate) console: ConsoleMode,
    /// The path of the binary on disk, for the replacement by a newer one.
    pub(crate) exe: PathBuf,
    /// When PID 1 started, CLOCK_MONOTONIC nanoseconds.
    pub(crate) started_ns: u64,
    /// Every service that a configuration may name, those that do not run included.
    #[serde(default)]
    pub(crate) known: Vec<String>,
}

/// How everything ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// Power off.
    Poweroff,
    /// Boot again.
    Reboot,
    /// Stop.
    Halt,
    /// Exit with the code; on a machine: power off.
    Exit,
}

/// The end that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// How.
    pub(crate) how: How,
    /// The exit code for `octant up` and containers.
    pub(crate) code: i32,
    /// Why Octant cannot go on, when that is the reason.
    pub(crate) emergency: Option<String>,
}

/// What PID 1 keeps of a unit beside the graph's state.
#[derive(Debug)]
struct Runtime {
    socket: Option<OwnedFd>,
    /// The router's second one.
    http: Option<OwnedFd>,
    output: Output,
    stored: Vec<(String, OwnedFd)>,
    said: String,
    /// When it last said how it is, CLOCK_MONOTONIC nanoseconds.
    heard_ns: Option<u64>,
    /// How often the kernel has killed it for want of memory.
    out_of_memory: u32,
    /// The last main process: also the id of its process group, for a kill where there are no cgroups.
    last_pid: Option<u32>,
}

/// Everything that PID 1 needs to supervise.
#[derive(Debug)]
pub(crate) struct Supervisor {
    setup: Setup,
    config: Config,
    graph: Graph,
    units: Vec<Unit>,
    runtime: Vec<Runtime>,
    console: Console,
    journal: Journal,
    exits: Channel,
    /// Lines on their way to the log's writer.
    lines: Channel,
    cgroups: Cgroups,
    notify: Notify,
    operator: OperatorSocket,
    tickets: Tickets,
    epoll: Epoll,
    signals: SignalFd,
    ending: Option<Ending>,
    all_down: bool,
    announced_ready: bool,
    job_code: Option<i32>,
    /// Times of faults of PID 1 itself within the last minute.
    faults: Vec<u64>,
    state_fd: Option<OwnedFd>,
    /// Whether a fault leads to a successor with the state in `state_fd`.
    armed: bool,
    dirty: bool,
    pending: VecDeque<Event>,
    feeding: bool,
    watchdog: Option<crate::machine::Watchdog>,
    buttons: Vec<crate::machine::PowerButton>,
    /// A configuration that has still to show that it works.
    trial: Option<trial::Trial>,
}

/// What an epoll event is about; in the upper half of its 64 bits, with an index in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Notify,
    Operators,
    Operator(u32),
    Output(u32),
    Journal,
    Exits,
    Button(u32),
    Lines,
}

impl Source {
    fn encode(self) -> u64 {
        let (kind, index) = match self {
            Self::Signals => (0, 0),
            Self::Notify => (1, 0),
            Self::Operators => (2, 0),
            Self::Operator(key) => (3, key),
            Self::Output(unit) => (4, unit),
            Self::Journal => (5, 0),
            Self::Exits => (6, 0),
            Self::Button(n) => (7, n),
            Self::Lines => (8, 0),
        };
        (kind << 32) | u64::from(index)
    }

    fn decode(data: u64) -> Option<Self> {
        let index = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        Some(match data >> 32 {
            0 => Self::Signals,
            1 => Self::Notify,
            2 => Self::Operators,
            3 => Self::Operator(index),
            4 => Self::Output(index),
            5 => Self::Journal,
            6 => Self::Exits,
            7 => Self::Button(index),
            8 => Self::Lines,
            _ => return None,
        })
    }
}

/// A step of the start of supervision that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(crate) struct SetupError {
    /// Which step, with the path or unit in it.
    pub(crate) step: String,
    /// Why.
    pub(crate) source: io::Error,
}

pub(crate) fn at(step: impl Into<String>) -> impl FnOnce(io::Error) -> SetupError {
    move |source| SetupError { step: step.into(), source }
}

/// The signals that PID 1 reads from its signalfd. All others stay blocked too, except those of a fault.
const SIGNALS: [Signal; 6] =
    [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPWR, Signal::SIGUSR1];

fn block_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::all();
    for fault in [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE] {
        mask.remove(fault);
    }
    mask.thread_set_mask()?;
    SignalFd::with_flags(&SIGNALS.into_iter().collect(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

impl Supervisor {
    fn watch(&self) -> nix::Result<()> {
        let add = |fd: std::os::fd::BorrowedFd<'_>, source: Source, flags: EpollFlags| {
            self.epoll.add(fd, EpollEvent::new(flags, source.encode()))
        };
        add(self.signals.as_fd(), Source::Signals, EpollFlags::EPOLLIN)?;
        add(self.notify.as_fd(), Source::Notify, EpollFlags::EPOLLIN)?;
        add(self.operator.listener(), Source::Operators, EpollFlags::EPOLLIN)?;
        // Edge-triggered: these are nearly always writable, and only the moment of becoming so again matters.
        let writable = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        add(self.journal.channel.ends().0, Source::Journal, writable)?;
        add(self.exits.ends().0, Source::Exits, writable)?;
        add(self.lines.ends().0, Source::Lines, writable)?;
        for (pipe, at) in self.runtime.iter().flat_map(|runtime| &runtime.output.pipes).zip(0..) {
            add(pipe.ends().0, Source::Output(at), EpollFlags::EPOLLIN)?;
        }
        for (button, n) in self.buttons.iter().zip(0..) {
            add(button.as_fd(), Source::Button(n), EpollFlags::EPOLLIN)?;
        }
        Ok(())
    }

    /// Runs until everything is down; returns how to end.
    ///
    /// # Errors
    /// What epoll_wait(2) reports, which it does not in a sane kernel.
    pub(crate) fn run(&mut self) -> io::Result<Ending> {
        self.feed(Event::Tick);
        loop {
            if let (true, Some(ending)) = (self.all_down, &self.ending) {
                return Ok(ending.clone());
            }
            self.save_if_dirty();
            let mut events = [EpollEvent::empty(); 32];
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                if let Some(source) = Source::decode(event.data()) {
                    self.handle(source);
                }
            }
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.ping();
            }
            self.feed(Event::Tick);
            self.judge();
            self.give_up_on_job();
            self.tell_dropped();
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let now = clock::monotonic_ns();
        let graph = self.graph.next_deadline().map(|due| due.saturating_sub(now).div_ceil(1_000_000));
        let watchdog = self.watchdog.as_ref().map(|_| crate::machine::Watchdog::PERIOD_MS);
        let owed = self.runtime.iter().any(|runtime| runtime.output.owes()).then_some(1_000);
        let trial = self.trial.as_ref().map(|_| 1_000);
        match graph.into_iter().chain(watchdog).chain(owed).chain(trial).min() {
            None => EpollTimeout::NONE,
            Some(ms) => EpollTimeout::try_from(ms.min(60_000)).unwrap_or(EpollTimeout::ZERO),
        }
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.read_signals(),
            Source::Notify => self.read_notices(),
            Source::Operators => self.accept_operator(),
            Source::Operator(key) => {
                if let Read::Request(request, uid) = self.operator.read(key) {
                    self.obey(key, &request, uid);
                }
            }
            Source::Output(at) => self.drain_one(at as usize / STREAMS.len(), at as usize % STREAMS.len()),
            // What waits is part of what a replacement gets.
            Source::Journal => self.dirty |= self.journal.channel.flush(),
            Source::Exits => self.dirty |= self.exits.flush(),
            Source::Lines => drop(self.lines.flush()),
            Source::Button(n) => {
                if self.buttons.get_mut(n as usize).is_some_and(crate::machine::PowerButton::pressed) {
                    self.begin_end(How::Poweroff, 0, "the power button was pressed");
                }
            }
        }
    }

    /// Gives the graph an event and does all that follows.
    ///
    /// An action may lead to another event. It queues behind, so that the actions of one event are never torn apart.
    fn feed(&mut self, event: Event) {
        self.pending.push_back(event);
        if self.feeding {
            return;
        }
        self.feeding = true;
        while let Some(event) = self.pending.pop_front() {
            for action in self.graph.step(event, clock::monotonic_ns()) {
                self.dirty = true;
                let follows = self.act(action);
                self.pending.extend(follows);
            }
        }
        self.feeding = false;
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(unit) => {
                return Some(match self.launch(unit) {
                    Ok(pid) => {
                        self.runtime[unit].last_pid = Some(pid);
                        Event::Spawned { unit, pid }
                    }
                    Err(error) => Event::SpawnFailed { unit, why: error.to_string() },
                });
            }
            Action::Terminate { unit, pid } => self.terminate(unit, pid),
            Action::Kill(unit) => self.kill(unit),
            Action::Changed { unit, state, why } => self.changed(unit, state, &why),
            Action::Emergency { unit, why } => {
                let why = format!("{} failed for good: {why}", self.graph.def(unit).name);
                self.emergency(&why);
                return Some(Event::Shutdown);
            }
            Action::AllDown => self.all_down = true,
        }
        None
    }

    fn terminate(&mut self, unit: usize, pid: u32) {
        // An interactive shell ignores SIGTERM; a hangup it obeys.
        let console = self.graph.def(unit).name == crate::units::CONSOLE;
        let signal = if console { Signal::SIGHUP } else { Signal::SIGTERM };
        // It may have ended a moment ago; its exit is then already on the way to us.
        if let Err(error) = process::signal(pid, signal)
            && error.raw_os_error() != Some(nix::libc::ESRCH)
        {
            self.console.alarm(&format!("{}: cannot be told to end: {error}", self.graph.def(unit).name));
        }
    }

    fn kill(&mut self, unit: usize) {
        let name = self.graph.def(unit).name.clone();
        let killed = self.cgroups.kill_unit(&name);
        if !matches!(killed, Ok(true))
            && let Some(leader) = self.runtime[unit].last_pid
            && let Err(error) = process::signal_group(leader, Signal::SIGKILL)
            && error.raw_os_error() != Some(nix::libc::ESRCH)
        {
            self.console.alarm(&format!("{name}: cannot be killed: {error}"));
        }
    }

    fn changed(&mut self, unit: usize, state: UnitState, why: &str) {
        let name = self.graph.def(unit).name.clone();
        let now = clock::monotonic_ns();
        let last = self.runtime[unit].output.last_line().to_owned();
        let mut text = state.as_str().to_owned();
        if !why.is_empty() {
            text = format!("{text}: {why}");
        }
        let bad = matches!(state, UnitState::BackOff | UnitState::Failed);
        if bad && !last.is_empty() {
            text = format!("{text}; it last said: {last}");
        }
        if matches!(state, UnitState::Starting) {
            self.runtime[unit].said.clear();
            self.runtime[unit].heard_ns = None;
            self.runtime[unit].output.forget();
        }
        if name == "ledger" && state == UnitState::Ready {
            self.journal.ledger_was_ready = true;
        }
        self.journal.record(Kind::Unit, &name, &text, now);
        if bad || (!why.is_empty() && state == UnitState::Ready) {
            self.console.alarm(&format!("{name}: {text}"));
        } else if self.setup.mode == Mode::Machine && state == UnitState::Ready {
            self.console.say(&format!("{name}: {text}"));
        }
        if name == JOB && matches!(state, UnitState::Done | UnitState::Failed) {
            self.job_ended(why);
        }
        if name == "agents" && self.graph.shutting_down() && state == UnitState::Down {
            self.kill_agents();
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(signal) = i32::try_from(info.ssi_signo)
                .map_err(io::Error::other)
                .and_then(|number| Signal::try_from(number).map_err(io::Error::from))
            else {
                continue;
            };
            let machine = self.setup.mode == Mode::Machine;
            match signal {
                Signal::SIGCHLD => self.reap(),
                // Ctrl-Alt-Del arrives as SIGINT once the kernel has been told not to act on it itself.
                Signal::SIGINT if machine => self.begin_end(How::Reboot, 0, "Ctrl-Alt-Del"),
                Signal::SIGPWR => self.begin_end(How::Poweroff, 0, "the power is failing"),
                Signal::SIGTERM if machine => self.begin_end(How::Poweroff, 0, "SIGTERM"),
                Signal::SIGHUP | Signal::SIGUSR1 if machine => {}
                other => self.begin_end(How::Exit, 0, other.as_str()),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let reaped = match process::reap() {
                Ok(Some(reaped)) => reaped,
                Ok(None) => return,
                Err(error) => return self.console.alarm(&format!("children cannot be reaped: {error}")),
            };
            let exit = Exit { pid: reaped.pid, status: reaped.status, mono_ns: clock::monotonic_ns() };
            let Some(unit) = self.graph.unit_of(reaped.pid) else {
                self.exits.send(exit.encode().to_vec());
                let lost = self.exits.take_lost();
                if lost > 0 {
                    let text =
                        format!("{lost} exit was not told to agents, which takes none; it looks for itself");
                    self.journal.record(Kind::Unit, "agents", &text, exit.mono_ns);
                }
                continue;
            };
            let how = self.how_it_ended(unit, &exit);
            if self.graph.def(unit).name == JOB {
                self.job_code = Some(match how {
                    Ended::Code(code) => code,
                    Ended::Signal(signal) => 128 + signal,
                    Ended::OutOfMemory(_) => 128 + nix::libc::SIGKILL,
                });
            }
            // What it printed last is the best reason that there is: read it before its end is told.
            self.drain(unit);
            self.feed(Event::Exited { unit, pid: reaped.pid, how });
        }
    }

    /// How a unit's main process ended; of a kill, whether it was for want of memory.
    fn how_it_ended(&mut self, unit: usize, exit: &Exit) -> Ended {
        let signal = match (exit.code(), exit.signal()) {
            (Some(code), _) => return Ended::Code(code),
            (None, signal) => signal.unwrap_or(0),
        };
        let name = &self.graph.def(unit).name;
        let memory = (signal == nix::libc::SIGKILL).then(|| self.cgroups.out_of_memory(name)).flatten();
        let Some(own_bound) = memory else { return Ended::Signal(signal) };
        let out_of_memory = &mut self.runtime[unit].out_of_memory;
        *out_of_memory = out_of_memory.saturating_add(1);
        Ended::OutOfMemory(self.units[unit].resources.memory_max.filter(|_| own_bound).map(|max| max.0))
    }

    fn drain(&mut self, unit: usize) {
        (0..STREAMS.len()).for_each(|stream| self.drain_one(unit, stream));
    }

    fn drain_one(&mut self, unit: usize, stream: usize) {
        let (console, lines, name) = (&mut self.console, &mut self.lines, &self.graph.def(unit).name);
        let Some(runtime) = self.runtime.get_mut(unit) else { return };
        let pid = runtime.last_pid.unwrap_or(0);
        // However much the operator's units say, there is room for what Octant's own do.
        let most = if self.units[unit].built_in { usize::MAX } else { FOREIGN_LINES };
        runtime.output.drain(stream, clock::monotonic_ns(), |text| {
            console.unit_line(name, text);
            lines.backlog().0 < most
                && hand_over(lines, name, pid, STREAMS[stream], &String::from_utf8_lossy(text))
        });
    }

    /// Says in the log, and on the console, which lines are not there.
    fn tell_dropped(&mut self) {
        let now = clock::monotonic_ns();
        for (unit, runtime) in
            self.runtime.iter_mut().enumerate().filter(|(_, runtime)| runtime.output.owes())
        {
            if !self.lines.has_room() {
                return;
            }
            if let Some(text) = runtime.output.owed(now) {
                let name = &self.graph.def(unit).name;
                self.console.unit_line(name, text.as_bytes());
                let pid = runtime.last_pid.unwrap_or(0);
                // There was room a moment ago, and nobody else fills it.
                let _taken = hand_over(&mut self.lines, name, pid, Stream::Log, &text);
            }
        }
    }

    fn read_notices(&mut self) {
        // Bounded, so that one chatty unit cannot keep the loop from the others.
        for _ in 0..64 {
            let message = match self.notify.receive() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => return self.console.alarm(&format!("notify socket: {error}")),
            };
            let own = self.graph.unit_of(message.pid);
            let unit = own.or_else(|| {
                (0..self.graph.len())
                    .find(|unit| self.cgroups.holds(&self.graph.def(*unit).name, message.pid))
            });
            let Some(unit) = unit else { continue };
            let mut fds = message.fds;
            for say in notify::parse(&message.text) {
                match say {
                    Say::Notice(notice) => {
                        if matches!(notice, Notice::Healthy | Notice::Unhealthy(_)) {
                            self.runtime[unit].heard_ns = Some(clock::monotonic_ns());
                        }
                        self.feed(Event::Notified { unit, notice });
                    }
                    Say::Status(status) => self.runtime[unit].said = status,
                    Say::Store(name) => self.store(unit, &name, std::mem::take(&mut fds)),
                    Say::Remove(name) => {
                        self.runtime[unit].stored.retain(|(known, _)| *known != name);
                        self.dirty = true;
                    }
                }
            }
            self.announce();
        }
    }

    fn store(&mut self, unit: usize, name: &str, fds: Vec<OwnedFd>) {
        let stored = &mut self.runtime[unit].stored;
        if stored.len() + fds.len() > launch::STORED_MAX {
            let unit = self.graph.def(unit).name.clone();
            self.console.alarm(&format!("{unit}: its descriptor store is full; {name} is not kept"));
            return;
        }
        stored.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        self.dirty = true;
    }

    /// Says once that everything is ready.
    fn announce(&mut self) {
        let built_in = (0..self.units.len()).filter(|unit| self.units[*unit].built_in);
        if self.announced_ready || !built_in.clone().all(|unit| self.graph.state(unit) == UnitState::Ready) {
            return;
        }
        self.announced_ready = true;
        let now = clock::monotonic_ns();
        let us = now.saturating_sub(self.setup.started_ns) / 1000;
        let names: Vec<&str> = built_in.map(|unit| self.graph.def(unit).name.as_str()).collect();
        let text = format!("ready after {}.{:03} ms: {}", us / 1000, us % 1000, names.join(" "));
        self.journal.record(Kind::Boot, "", &text, now);
        self.console.say(&text);
        self.share_console();
    }

    /// Leaves a machine's console to who works there, once everything has come up.
    fn share_console(&mut self) {
        let someone = self.setup.mode == Mode::Machine && self.setup.console != ConsoleMode::Off;
        self.console.share(someone && self.announced_ready && self.ending.is_none());
    }
}

/// So many lines of the operator's units wait for the log's writer at the most.
const FOREIGN_LINES: usize = 256;

/// Hands a line to the log's writer; whether it was taken. Nothing here waits for a disk.
fn hand_over(lines: &mut Channel, unit: &str, pid: u32, stream: Stream, text: &str) -> bool {
    if !lines.has_room() {
        return false;
    }
    let line = Line { ms: clock::wall_ms(), unit: unit.to_owned(), pid, stream, text: text.to_owned() };
    line.packet().map(|packet| lines.send(packet)).is_ok()
}

impl Supervisor {
    /// The last steps after [`Supervisor::run`]; returns the exit code, on a machine only when the kernel refuses to
    /// end.
    pub(crate) fn finish(mut self, ending: &Ending) -> std::process::ExitCode {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.disarm();
        }
        self.kill_agents();
        self.end_trial();
        if self.setup.mode == Mode::Machine {
            let policy = self.config.init.emergency;
            let state = self.setup.layout.state.clone();
            return crate::shutdown::end_machine(ending, policy, &state, &mut self.console).into();
        }
        crate::shutdown::end_all_processes(&mut self.console);
        self.cgroups.remove();
        std::process::ExitCode::from(u8::try_from(ending.code & 0xff).unwrap_or(1))
    }
}
