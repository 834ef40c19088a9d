//! A world: units, their processes, an operator, time.

use crate::random::Random;
use crate::rules::{Known, Rule, Violation};
use octant_api::operator::UnitState;
use octant_api::unit::{Criticality, Restart};
use octant_init::graph::{Action, Def, Ended, Event, Graph, Kind, Notice};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// How long things go wrong.
const TROUBLE_NS: u64 = 180 * SECOND;
/// How long everything may take to become ready when nothing goes wrong any more: the longest possible stop of a hung
/// process, and eight levels of slow starts.
const CALM_NS: u64 = 120 * SECOND;
/// How long a shutdown may take: every unit in turn ignores SIGTERM and then does not die.
const SHUTDOWN_NS: u64 = 240 * SECOND;
const HISTORY: usize = 40;

/// Something that a process or an operator does at its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Ready {
        unit: usize,
        pid: u32,
    },
    Alive {
        unit: usize,
        pid: u32,
    },
    Unhealthy {
        unit: usize,
        pid: u32,
        sick: bool,
    },
    Exit {
        unit: usize,
        pid: u32,
        code: i32,
    },
    Operator,
    /// PID 1 replaces itself.
    Replace,
    /// An exit, a notice of a process that is no unit's.
    Stranger,
}

/// How a process behaves.
#[derive(Debug, Clone, Copy)]
struct Character {
    /// Whether SIGTERM ends it.
    obeys: bool,
    /// Whether SIGKILL ends it within the time that anybody waits.
    dies: bool,
}

pub(crate) struct World {
    seed: u64,
    now: u64,
    random: Random,
    defs: Vec<Def>,
    graph: Graph,
    known: Vec<Known>,
    characters: Vec<Character>,
    deeds: BinaryHeap<Reverse<(u64, u64, Deed)>>,
    count: u64,
    next_pid: u32,
    shutting_down: bool,
    all_down: bool,
    /// Whether things still go wrong.
    faults: bool,
    history: VecDeque<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let defs = definitions(&mut random);
        let count = defs.len();
        #[expect(clippy::expect_used, reason = "each unit's needs are drawn from the units before it")]
        let graph = Graph::new(defs.clone(), random.next(), 0).expect("in order");
        Self {
            seed,
            now: 0,
            random,
            graph,
            known: vec![Known::default(); count],
            characters: vec![Character { obeys: true, dies: true }; count],
            defs,
            deeds: BinaryHeap::new(),
            count: 0,
            next_pid: 100,
            shutting_down: false,
            all_down: false,
            faults: true,
            history: VecDeque::new(),
        }
    }

    /// Everything goes wrong for a while.
    pub(crate) fn trouble(&mut self) -> Result<(), Violation> {
        let operator = self.random.below(20 * SECOND);
        self.plan(operator, Deed::Operator);
        let replace = self.random.below(60 * SECOND);
        self.plan(replace, Deed::Replace);
        let stranger = self.random.below(10 * SECOND);
        self.plan(stranger, Deed::Stranger);
        self.feed(Event::Tick)?;
        self.live_until(TROUBLE_NS, |world| world.all_down)
    }

    /// Nothing goes wrong any more; an operator starts what had failed or was stopped.
    pub(crate) fn calm(&mut self) -> Result<(), Violation> {
        self.faults = false;
        if self.shutting_down {
            return Ok(());
        }
        // Processes that were made to misbehave are replaced by good ones.
        for unit in 0..self.defs.len() {
            self.characters[unit] = Character { obeys: true, dies: true };
            self.forgive(unit);
            self.feed(Event::Start(unit))?;
            self.known[unit].restarted_by_operator = true;
            self.feed(Event::Restart(unit))?;
        }
        let end = self.now + CALM_NS;
        self.live_until(end, World::all_up)?;
        if self.shutting_down || self.all_up() {
            return Ok(());
        }
        let down = (0..self.defs.len()).find(|unit| !self.is_up(*unit)).unwrap_or(0);
        let what = format!(
            "{} is {}: {}",
            self.defs[down].name,
            self.graph.state(down).as_str(),
            self.graph.why(down)
        );
        Err(self.broken(Rule::Recovery, what))
    }

    /// Everything goes down, with new trouble on the way.
    pub(crate) fn shutdown(&mut self) -> Result<(), Violation> {
        if self.all_down {
            return Ok(());
        }
        self.faults = true;
        for unit in 0..self.defs.len() {
            let (obeys, dies) = (self.random.chance(70), self.random.chance(90));
            self.characters[unit] = Character { obeys, dies };
        }
        self.shutting_down = true;
        self.feed(Event::Shutdown)?;
        let end = self.now + SHUTDOWN_NS;
        self.live_until(end, |world| world.all_down)?;
        if self.all_down {
            Ok(())
        } else {
            Err(self.broken(Rule::ShutdownEnds, "units are still there".into()))
        }
    }

    fn all_up(&self) -> bool {
        (0..self.defs.len()).all(|unit| self.is_up(unit))
    }

    fn is_up(&self, unit: usize) -> bool {
        self.known[unit].is_up(&self.defs[unit]) || self.graph.state(unit) == UnitState::Done
    }

    fn live_until(&mut self, end: u64, enough: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while !enough(self) {
            let deed_at = self.deeds.peek().map(|Reverse((at, ..))| *at);
            let due = self.graph.next_deadline();
            let Some(next) = deed_at.into_iter().chain(due).min().filter(|at| *at <= end) else {
                self.now = self.now.max(end);
                return Ok(());
            };
            self.now = self.now.max(next);
            match deed_at {
                Some(at) if at <= self.now => {
                    if let Some(Reverse((_, _, deed))) = self.deeds.pop() {
                        self.happen(deed)?;
                    }
                }
                _ => self.feed(Event::Tick)?,
            }
        }
        Ok(())
    }

    fn plan(&mut self, after: u64, deed: Deed) {
        self.count += 1;
        self.deeds.push(Reverse((self.now + after, self.count, deed)));
    }

    fn happen(&mut self, deed: Deed) -> Result<(), Violation> {
        match deed {
            Deed::Ready { unit, pid } if self.known[unit].pid == Some(pid) => {
                self.known[unit].said_ready = true;
                self.feed(Event::Notified { unit, notice: Notice::Ready })
            }
            Deed::Alive { unit, pid } if self.known[unit].pid == Some(pid) => {
                let beat = self.defs[unit].watchdog_ns / 2;
                if !self.faults || !self.random.chance(1) {
                    self.plan(beat, Deed::Alive { unit, pid });
                }
                self.feed(Event::Notified { unit, notice: Notice::Alive })
            }
            Deed::Unhealthy { unit, pid, sick } if self.known[unit].pid == Some(pid) => {
                let notice =
                    if sick { Notice::Unhealthy("its probe failed".into()) } else { Notice::Healthy };
                let after = self.random.below(20 * SECOND);
                self.plan(after, Deed::Unhealthy { unit, pid, sick: !sick });
                self.feed(Event::Notified { unit, notice })
            }
            Deed::Exit { unit, pid, code } if self.known[unit].pid == Some(pid) => {
                self.exit(unit, Ended::Code(code))
            }
            Deed::Operator if self.faults => self.operate(),
            Deed::Replace if self.faults => self.replace(),
            Deed::Stranger if self.faults => self.stranger(),
            // Of a process that is gone.
            _ => Ok(()),
        }
    }

    fn exit(&mut self, unit: usize, how: Ended) -> Result<(), Violation> {
        let Some(pid) = self.known[unit].pid.take() else { return Ok(()) };
        let known = &mut self.known[unit];
        let asked = known.told_to_end || known.restarted_by_operator;
        known.done = self.defs[unit].kind == Kind::Oneshot && how == Ended::Code(0) && !asked;
        (known.said_ready, known.told_to_end, known.restarted_by_operator) = (false, false, false);
        if !asked && !known.done && how != Ended::Code(0) {
            known.failures.push_back(self.now);
        }
        self.feed(Event::Exited { unit, pid, how })?;
        self.check_true_states()
    }

    fn operate(&mut self) -> Result<(), Violation> {
        let after = self.random.below(30 * SECOND);
        self.plan(after, Deed::Operator);
        let unit = self.random.index(self.defs.len());
        match self.random.below(20) {
            0 if self.random.chance(20) => {
                self.shutting_down = true;
                self.feed(Event::Shutdown)
            }
            0..6 => {
                self.forgive(unit);
                // Whatever it is being ended for is forgiven too.
                self.known[unit].restarted_by_operator |= self.graph.state(unit) == UnitState::Stopping;
                self.feed(Event::Start(unit))
            }
            6..11 => self.feed(Event::Stop(unit)),
            _ => {
                self.forgive(unit);
                self.known[unit].restarted_by_operator = self.known[unit].pid.is_some();
                self.feed(Event::Restart(unit))
            }
        }
    }

    fn forgive(&mut self, unit: usize) {
        self.known[unit].failures.clear();
    }

    fn replace(&mut self) -> Result<(), Violation> {
        let after = self.random.below(60 * SECOND);
        self.plan(after, Deed::Replace);
        let saved = self.graph.save();
        #[expect(clippy::expect_used, reason = "the same definitions were in order before")]
        let mut next = Graph::new(self.defs.clone(), self.random.next(), self.now).expect("in order");
        let strangers = next.restore(saved);
        if !strangers.is_empty() {
            return Err(self.broken(Rule::TrueState, format!("{strangers:?} were lost in a replacement")));
        }
        self.graph = next;
        self.feed(Event::Tick)
    }

    /// Exits and notices that must change nothing.
    fn stranger(&mut self) -> Result<(), Violation> {
        let after = self.random.below(10 * SECOND);
        self.plan(after, Deed::Stranger);
        let unit = self.random.index(self.defs.len());
        self.feed(Event::Exited { unit, pid: 7, how: Ended::Signal(9) })?;
        if self.known[unit].pid.is_none() {
            self.feed(Event::Notified { unit, notice: Notice::Ready })?;
            self.feed(Event::Notified { unit, notice: Notice::Alive })?;
        }
        self.check_true_states()
    }

    fn feed(&mut self, event: Event) -> Result<(), Violation> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.note(&format!("{event:?}"));
            for action in self.graph.step(event, self.now) {
                self.note(&format!("  {action:?}"));
                if let Some(event) = self.act(action)? {
                    events.push_back(event);
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<Option<Event>, Violation> {
        match action {
            Action::Spawn(unit) => self.spawn(unit).map(Some),
            Action::Terminate { unit, pid } => self.terminate(unit, pid).map(|()| None),
            Action::Kill(unit) => {
                if let Some(pid) = self.known[unit].pid
                    && self.characters[unit].dies
                {
                    let after = self.random.below(5 * MS);
                    self.known[unit].told_to_end |= self.shutting_down;
                    self.plan(after, Deed::Exit { unit, pid, code: 137 });
                }
                Ok(None)
            }
            Action::Emergency { .. } => {
                self.shutting_down = true;
                Ok(Some(Event::Shutdown))
            }
            Action::AllDown => {
                self.all_down = true;
                Ok(None)
            }
            Action::Changed { .. } => Ok(None),
        }
    }

    fn spawn(&mut self, unit: usize) -> Result<Event, Violation> {
        if self.shutting_down {
            return Err(self.broken(Rule::NoStartInShutdown, self.defs[unit].name.clone()));
        }
        if self.known[unit].pid.is_some() {
            return Err(self.broken(Rule::OneProcess, self.defs[unit].name.clone()));
        }
        let missing = self.defs[unit].needs.iter().find(|need| !self.known[**need].is_up(&self.defs[**need]));
        if let Some(need) = missing {
            let what = format!("{} was started without {}", self.defs[unit].name, self.defs[*need].name);
            return Err(self.broken(Rule::NeedsFirst, what));
        }
        if let Err(what) = self.known[unit].may_start(self.now) {
            return Err(self.broken(Rule::RestartLimits, format!("{} was {what}", self.defs[unit].name)));
        }
        if self.faults && self.random.chance(4) {
            self.known[unit].failures.push_back(self.now);
            return Ok(Event::SpawnFailed { unit, why: "no memory".into() });
        }
        self.next_pid += 1;
        let pid = self.next_pid;
        self.known[unit] = Known {
            pid: Some(pid),
            failures: std::mem::take(&mut self.known[unit].failures),
            ..Known::default()
        };
        self.live(unit, pid);
        Ok(Event::Spawned { unit, pid })
    }

    /// Plans the life of a new process.
    fn live(&mut self, unit: usize, pid: u32) {
        let faults = self.faults;
        let fault = |random: &mut Random, percent| faults && random.chance(percent);
        self.characters[unit] =
            Character { obeys: !fault(&mut self.random, 10), dies: !fault(&mut self.random, 5) };
        if fault(&mut self.random, 15) {
            let after = self.random.below(500 * MS);
            return self.plan(after, Deed::Exit { unit, pid, code: 1 });
        }
        let ready_within = self.defs[unit].ready_within_ns;
        // A slow start is ready in time or too late; a good one well in time.
        let slow = if fault(&mut self.random, 20) { ready_within * 2 } else { ready_within / 4 };
        let ready = self.random.below(slow.max(1));
        match self.defs[unit].kind {
            Kind::Oneshot => self.plan(ready, Deed::Exit { unit, pid, code: 0 }),
            Kind::Simple => {}
            Kind::Notify => {
                if !fault(&mut self.random, 5) {
                    self.plan(ready, Deed::Ready { unit, pid });
                }
                let beat = self.defs[unit].watchdog_ns / 2;
                if beat > 0 {
                    self.plan(ready + beat, Deed::Alive { unit, pid });
                }
                self.plan(ready + beat, Deed::Unhealthy { unit, pid, sick: faults });
            }
        }
        if fault(&mut self.random, 50) {
            let after = self.random.below(60 * SECOND);
            let code = i32::from(self.random.chance(80));
            self.plan(after, Deed::Exit { unit, pid, code });
        }
    }

    fn terminate(&mut self, unit: usize, pid: u32) -> Result<(), Violation> {
        if self.known[unit].pid != Some(pid) {
            let what = format!("{} has no process {pid}", self.defs[unit].name);
            return Err(self.broken(Rule::KnownProcess, what));
        }
        let dependant = (0..self.defs.len())
            .find(|other| self.defs[*other].needs.contains(&unit) && self.known[*other].pid.is_some());
        if let Some(other) = dependant
            && !self.known[unit].restarted_by_operator
            // One that does not die is left behind in a shutdown.
            && !(self.shutting_down && self.graph.state(other) == UnitState::Down)
        {
            let what = format!("{} is stopped while {} runs", self.defs[unit].name, self.defs[other].name);
            return Err(self.broken(Rule::DependantsFirst, what));
        }
        self.known[unit].told_to_end = true;
        if self.characters[unit].obeys {
            let after = self.random.below(self.defs[unit].stop_within_ns);
            self.plan(after, Deed::Exit { unit, pid, code: 0 });
        }
        Ok(())
    }

    fn check_true_states(&mut self) -> Result<(), Violation> {
        for unit in 0..self.defs.len() {
            let state = self.graph.state(unit);
            let runs = matches!(state, UnitState::Starting | UnitState::Ready | UnitState::Stopping);
            let left_behind = self.shutting_down && state == UnitState::Down;
            if runs != self.known[unit].pid.is_some() && !left_behind {
                let what = format!("{} is said to be {}", self.defs[unit].name, state.as_str());
                return Err(self.broken(Rule::TrueState, what));
            }
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>9} ms {text}", self.now / MS));
    }

    fn broken(&self, rule: Rule, what: String) -> Violation {
        let history = self.history.iter().cloned().collect();
        Violation { seed: self.seed, rule, at_ns: self.now, what, history }
    }
}

fn definitions(random: &mut Random) -> Vec<Def> {
    let count = 1 + random.index(8);
    let mut defs: Vec<Def> = Vec::new();
    for unit in 0..count {
        let kind = match random.below(10) {
            0 => Kind::Simple,
            1 => Kind::Oneshot,
            _ => Kind::Notify,
        };
        let restart = match random.below(10) {
            0 => Restart::Never,
            1 | 2 => Restart::OnFailure,
            _ => Restart::Always,
        };
        let watchdog = if kind == Kind::Notify && random.chance(70) { 1 + random.below(10) } else { 0 };
        defs.push(Def {
            name: format!("u{unit}"),
            needs: (0..unit).filter(|_| random.chance(40)).collect(),
            kind,
            restart,
            criticality: if random.chance(10) { Criticality::Required } else { Criticality::Degrades },
            ready_within_ns: (1 + random.below(5)) * SECOND,
            stop_within_ns: (1 + random.below(5)) * SECOND,
            watchdog_ns: watchdog * SECOND,
            broken: None,
        });
    }
    defs
}
