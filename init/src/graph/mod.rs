//! The service graph: a pure state machine, `step(Event, now) -> Vec<Action>`.
//!
//! # How it thinks
//!
//! A unit has a *wish* (wanted or not, set at boot, by an operator, or by a shutdown) and a *state* (what is true of
//! its process). Events change one unit's state; then [`Graph::settle`] walks the units three times and derives
//! everything that follows for the others. Units are kept so that what a unit needs stands before it, therefore one
//! walk forward sees every loss, one walk backward stops dependants before what they need, and one walk forward
//! starts what became possible. Nothing recurses and nothing is propagated twice.
//!
//! | state     | process | leaves it when                                                                       |
//! |-----------|---------|--------------------------------------------------------------------------------------|
//! | Down      | no      | wanted, and all it needs is ready -> Starting                                        |
//! | Starting  | yes     | says ready (or needs not say) -> Ready; deadline -> killed; ends -> see "an end"     |
//! | Ready     | yes     | silent past its watchdog -> killed; must stop -> Stopping; ends -> see "an end"      |
//! | Stopping  | yes     | ends -> Down (or "a failure" when it was killed for one); deadline -> cgroup killed  |
//! | BackOff   | no      | the pause is over -> Down, from where it starts again; must stop -> Down             |
//! | Failed    | no      | an operator starts it                                                                |
//! | Done      | no      | an operator starts it                                                                |
//!
//! *An end* that nobody asked for is a failure unless it is code 0 of a oneshot unit or of one that restarts only
//! on failure: that is Done. *A failure* of a unit that never restarts is Failed; otherwise it is BackOff, doubling from
//! [`BACKOFF_FIRST_NS`] with jitter, until [`BURST`] failures lie within [`BURST_WINDOW_NS`]: that is Failed.
//! A start that was not ready in time counts twice.
//!
//! *Must stop*: not wanted, or everything is being shut down, or something that it needs must stop or is lost for good
//! (Failed, or Done without being a oneshot). A unit that is only between two attempts is not lost: its listening
//! socket is kept, so its dependants go on and their requests queue.
//!
//! A required unit in Failed is an Emergency: reported once, and everything is shut down.

use octant_api::operator::{Health, Phase, UnitState};
use octant_api::unit::{Criticality, Restart};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

mod settle;
#[cfg(test)]
mod tests;

/// The pause before the first restart. Long enough that a unit which dies at once does not fill a CPU, short enough
/// that nobody notices a single crash (dinit waits 200 ms, systemd 100 ms).
pub const BACKOFF_FIRST_NS: u64 = 100_000_000;
/// The longest pause.
pub const BACKOFF_MAX_NS: u64 = 30_000_000_000;
/// How many failures within [`BURST_WINDOW_NS`] are forgiven.
pub const BURST: usize = 6;
/// The shortest span in which failures are counted. It is eight times a unit's time to become ready where that is
/// longer: otherwise one that always uses up its time would never have failed often enough.
pub const BURST_WINDOW_NS: u64 = 60_000_000_000;
/// A start that was not ready in time counts as so many failures: nobody wants to wait for seven of them.
const TIMEOUT_WEIGHT: usize = 2;
/// How long after a kill the graph waits for the process to be reaped before it kills again. Only a process stuck in
/// the kernel needs it.
pub const KILL_AGAIN_NS: u64 = 3_000_000_000;
/// After so many kills during a shutdown a process counts as gone: a machine must be able to go down although one
/// process hangs in the kernel.
const KILLS_BEFORE_ABANDON: u8 = 2;

/// How a unit shows that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It says `READY=1`.
    Notify,
    /// It is ready as soon as it runs.
    Simple,
    /// Its work is its run: ready means ended with code 0.
    Oneshot,
}

/// What the graph has to know about a unit. Times are nanoseconds.
#[derive(Debug, Clone)]
pub struct Def {
    /// Its name.
    pub name: String,
    /// The units that must be ready before it starts: indices smaller than its own.
    pub needs: Vec<usize>,
    /// How it shows that it is ready.
    pub kind: Kind,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// What its loss means.
    pub criticality: Criticality,
    /// From start to ready; 0 for no limit.
    pub ready_within_ns: u64,
    /// From the request to end until its cgroup is killed.
    pub stop_within_ns: u64,
    /// The longest silence; 0 for no watchdog.
    pub watchdog_ns: u64,
    /// Why it can never be started (its file is wrong).
    pub broken: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The kernel killed it for want of memory: at its own bound, in bytes, or because the machine had none left.
    OutOfMemory(Option<u64>),
}

/// What a unit says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is ready.
    Ready,
    /// It is alive (the watchdog's sign).
    Alive,
    /// Its probe of its own work succeeded.
    Healthy,
    /// Its probe failed, and why.
    Unhealthy(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The answer to [`Action::Spawn`]: it runs.
    Spawned {
        /// Which unit.
        unit: usize,
        /// Its main process.
        pid: u32,
    },
    /// The answer to [`Action::Spawn`]: it could not be started.
    SpawnFailed {
        /// Which unit.
        unit: usize,
        /// Which step failed and why.
        why: String,
    },
    /// A unit's main process was reaped.
    Exited {
        /// Which unit.
        unit: usize,
        /// The process.
        pid: u32,
        /// How it ended.
        how: Ended,
    },
    /// A unit said something.
    Notified {
        /// Which unit.
        unit: usize,
        /// What it said.
        notice: Notice,
    },
    /// Time passed; also makes what is wanted start.
    Tick,
    /// An operator wants a unit up; failures are forgotten.
    Start(usize),
    /// An operator wants a unit and its dependants down.
    Stop(usize),
    /// An operator wants a unit stopped and started, its dependants untouched.
    Restart(usize),
    /// Everything shall go down, in reverse order.
    Shutdown,
}

/// What the runner has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the unit's process and answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn(usize),
    /// Ask the main process to end (SIGTERM).
    Terminate {
        /// Which unit.
        unit: usize,
        /// Its main process.
        pid: u32,
    },
    /// Kill everything in the unit's cgroup.
    Kill(usize),
    /// The unit's state changed; for the journal and the console.
    Changed {
        /// Which unit.
        unit: usize,
        /// The new state.
        state: UnitState,
        /// Why.
        why: String,
    },
    /// A required unit is lost for good.
    Emergency {
        /// Which unit.
        unit: usize,
        /// Why it is lost.
        why: String,
    },
    /// The shutdown is complete: no unit has a process.
    AllDown,
}

/// Where one unit is. Deadlines are CLOCK_MONOTONIC nanoseconds; `u64::MAX` is never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Down,
    Starting { deadline: u64 },
    Ready { deadline: u64 },
    Stopping { deadline: u64, kills: u8, failure: Option<Failure> },
    BackOff { deadline: u64 },
    Failed,
    Done,
}

/// What a process is killed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    why: String,
    /// For how many failures it counts.
    weight: usize,
}

impl Failure {
    fn new(why: String) -> Self {
        Self { why, weight: 1 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unit {
    broken: bool,
    wanted: bool,
    state: State,
    pid: Option<u32>,
    healthy: Option<bool>,
    failures: VecDeque<u64>,
    restarts: u32,
    since: u64,
    why: String,
}

/// What survives when PID 1 replaces itself: every unit's state by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    units: Vec<(String, Unit)>,
    shutting_down: bool,
    emergency: Option<String>,
    booted: bool,
}

/// A unit list that cannot be a graph.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unit {unit} needs a unit that does not stand before it in the list")]
pub struct NotOrdered {
    /// The unit.
    pub unit: String,
}

/// The graph.
#[derive(Debug)]
pub struct Graph {
    defs: Vec<Def>,
    units: Vec<Unit>,
    shutting_down: bool,
    all_down: bool,
    emergency: Option<String>,
    booted: bool,
    random: u64,
}

impl Graph {
    /// A graph in which every unit is down and wanted; `seed` is for the jitter of restarts.
    ///
    /// # Errors
    /// [`NotOrdered`] when a unit needs one that does not stand before it.
    pub fn new(defs: Vec<Def>, seed: u64, now: u64) -> Result<Self, NotOrdered> {
        if let Some((_, bad)) = defs.iter().enumerate().find(|(i, d)| d.needs.iter().any(|n| n >= i)) {
            return Err(NotOrdered { unit: bad.name.clone() });
        }
        let units = defs.iter().map(|def| Unit::new(def, now)).collect();
        Ok(Self {
            defs,
            units,
            shutting_down: false,
            all_down: false,
            emergency: None,
            booted: false,
            random: seed,
        })
    }

    /// What has to be kept over a replacement of PID 1.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved {
            units: self.defs.iter().zip(&self.units).map(|(d, u)| (d.name.clone(), u.clone())).collect(),
            shutting_down: self.shutting_down,
            emergency: self.emergency.clone(),
            booted: self.booted,
        }
    }

    /// Takes over the state of another PID 1's units. Returns the processes of units that this graph does not have:
    /// the new binary no longer knows them, so they must be killed.
    pub fn restore(&mut self, saved: Saved) -> Vec<(String, u32)> {
        let mut strangers = Vec::new();
        for (name, unit) in saved.units {
            match self.defs.iter().position(|def| def.name == name) {
                // Its file has been corrected: a new beginning.
                Some(at) if unit.broken && self.defs[at].broken.is_none() => {}
                Some(at) if self.defs[at].broken.is_none() => self.units[at] = unit,
                _ => strangers.extend(unit.pid.map(|pid| (name, pid))),
            }
        }
        self.shutting_down = saved.shutting_down;
        self.emergency = saved.emergency;
        self.booted = saved.booted;
        strangers
    }

    /// Takes one event and says what follows from it.
    pub fn step(&mut self, event: Event, now: u64) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Spawned { unit, pid } => self.spawned(unit, pid, now, &mut out),
            Event::SpawnFailed { unit, why } => {
                if self.units[unit].state.is_active() {
                    self.failure(unit, Failure::new(why), now, &mut out);
                }
            }
            Event::Exited { unit, pid, how } => self.exited(unit, pid, how, now, &mut out),
            Event::Notified { unit, notice } => self.notified(unit, notice, now, &mut out),
            Event::Tick => {}
            Event::Start(unit) => self.want(unit, now, &mut out),
            Event::Stop(unit) => {
                self.units[unit].wanted = false;
                self.units[unit].why = "an operator stopped it".into();
            }
            Event::Restart(unit) => self.restart(unit, now, &mut out),
            Event::Shutdown => self.shutting_down = true,
        }
        self.pass_deadlines(now, &mut out);
        self.settle(now, &mut out);
        out
    }

    /// When [`Event::Tick`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.units.iter().filter_map(|unit| unit.state.deadline()).min()
    }

    /// The number of units.
    #[must_use]
    pub fn len(&self) -> usize {
        self.defs.len()
    }

    /// Whether there are no units.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.defs.is_empty()
    }

    /// The unit of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.defs.iter().position(|def| def.name == name)
    }

    /// A unit's definition.
    #[must_use]
    pub fn def(&self, unit: usize) -> &Def {
        &self.defs[unit]
    }

    /// A unit's main process.
    #[must_use]
    pub fn pid(&self, unit: usize) -> Option<u32> {
        self.units[unit].pid
    }

    /// The unit whose main process this is.
    #[must_use]
    pub fn unit_of(&self, pid: u32) -> Option<usize> {
        self.units.iter().position(|unit| unit.pid == Some(pid))
    }

    /// Whether everything is going down.
    #[must_use]
    pub fn shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// How often the unit was started again by itself.
    #[must_use]
    pub fn restarts(&self, unit: usize) -> u32 {
        self.units[unit].restarts
    }

    /// Since when the unit is in its state.
    #[must_use]
    pub fn since(&self, unit: usize) -> u64 {
        self.units[unit].since
    }

    /// The unit's state in the operator's words.
    #[must_use]
    pub fn state(&self, unit: usize) -> UnitState {
        let u = &self.units[unit];
        match u.state {
            State::Down if u.wanted && !self.shutting_down => UnitState::Waiting,
            State::Down => UnitState::Down,
            State::Starting { .. } => UnitState::Starting,
            State::Ready { .. } => UnitState::Ready,
            State::Stopping { .. } => UnitState::Stopping,
            State::BackOff { .. } => UnitState::BackOff,
            State::Failed => UnitState::Failed,
            State::Done => UnitState::Done,
        }
    }

    /// What the unit says about its own work.
    #[must_use]
    pub fn health(&self, unit: usize) -> Health {
        match self.units[unit].healthy {
            _ if self.defs[unit].kind != Kind::Notify => Health::None,
            Some(true) => Health::Ok,
            Some(false) => Health::Unhealthy,
            None => Health::Unknown,
        }
    }

    /// Why the unit is where it is, for a person.
    #[must_use]
    pub fn why(&self, unit: usize) -> String {
        if self.state(unit) == UnitState::Waiting
            && let Some(need) = self.defs[unit].needs.iter().find(|need| !self.satisfied(**need))
        {
            return format!("waits for {}, which is {}", self.defs[*need].name, self.state(*need).as_str());
        }
        self.units[unit].why.clone()
    }

    /// A unit that this one needs and that is lost for good, when there is one.
    #[must_use]
    pub fn lost_need(&self, unit: usize) -> Option<usize> {
        self.defs[unit].needs.iter().copied().find(|need| self.lost(*need))
    }

    /// What Octant as a whole is doing, and why it is not running as wanted.
    #[must_use]
    pub fn phase(&self) -> (Phase, String) {
        if let Some(why) = &self.emergency {
            return (Phase::Emergency, why.clone());
        }
        if self.shutting_down {
            return (Phase::Stopping, String::new());
        }
        let bad = |unit: usize| self.units[unit].wanted && !self.as_it_should(unit);
        let sick = |unit: usize| self.units[unit].healthy == Some(false);
        match (0..self.len()).find(|unit| bad(*unit)).or_else(|| (0..self.len()).find(|unit| sick(*unit))) {
            None => (Phase::Running, String::new()),
            Some(unit) => {
                let phase = if self.booted { Phase::Degraded } else { Phase::Booting };
                let what = format!("{} is {}", self.defs[unit].name, self.word(unit));
                let why = self.why(unit);
                (phase, if why.is_empty() { what } else { format!("{what}: {why}") })
            }
        }
    }

    fn word(&self, unit: usize) -> &'static str {
        match self.state(unit) {
            UnitState::Ready => self.health(unit).as_str(),
            state => state.as_str(),
        }
    }

    /// Whether dependants may run: ready, or done when its work is its run.
    fn satisfied(&self, unit: usize) -> bool {
        match self.units[unit].state {
            State::Ready { .. } => self.defs[unit].kind != Kind::Oneshot,
            State::Done => self.defs[unit].kind == Kind::Oneshot,
            _ => false,
        }
    }

    /// Whether nothing more is to be expected of it: up, done, or a oneshot at its work, which is its purpose.
    fn as_it_should(&self, unit: usize) -> bool {
        match self.units[unit].state {
            State::Done => true,
            State::Starting { .. } => self.defs[unit].kind == Kind::Oneshot,
            _ => self.satisfied(unit),
        }
    }

    /// Whether it will not come back by itself.
    fn lost(&self, unit: usize) -> bool {
        match self.units[unit].state {
            State::Failed => true,
            State::Done => self.defs[unit].kind != Kind::Oneshot,
            _ => false,
        }
    }
}

impl Unit {
    fn new(def: &Def, now: u64) -> Self {
        Self {
            broken: def.broken.is_some(),
            wanted: def.broken.is_none(),
            state: if def.broken.is_some() { State::Failed } else { State::Down },
            pid: None,
            healthy: None,
            failures: VecDeque::new(),
            restarts: 0,
            since: now,
            why: def.broken.clone().unwrap_or_default(),
        }
    }
}

impl State {
    /// Whether there is, or is about to be, a process.
    fn is_active(&self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Ready { .. } | Self::Stopping { .. })
    }

    fn deadline(&self) -> Option<u64> {
        match self {
            Self::Starting { deadline }
            | Self::Ready { deadline }
            | Self::Stopping { deadline, .. }
            | Self::BackOff { deadline } => (*deadline != u64::MAX).then_some(*deadline),
            Self::Down | Self::Failed | Self::Done => None,
        }
    }
}

/// `now + span`, where a span of 0 means never.
fn after(now: u64, span: u64) -> u64 {
    if span == 0 { u64::MAX } else { now.saturating_add(span) }
}
