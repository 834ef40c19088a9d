//! How the graph moves: one function for each event, the passing of deadlines, and what follows for other units.

use super::{
    Action, BACKOFF_FIRST_NS, BACKOFF_MAX_NS, BURST, BURST_WINDOW_NS, Ended, Failure, Graph, KILL_AGAIN_NS,
    KILLS_BEFORE_ABANDON, Kind, Notice, State, TIMEOUT_WEIGHT, after,
};
use octant_api::unit::{Criticality, Restart};
use octant_ids::ByteSize;

impl Graph {
    fn change(&mut self, unit: usize, state: State, why: String, now: u64, out: &mut Vec<Action>) {
        let u = &mut self.units[unit];
        u.state = state;
        u.since = now;
        u.why.clone_from(&why);
        if !u.state.is_active() {
            u.pid = None;
            u.healthy = None;
        }
        out.push(Action::Changed { unit, state: self.state(unit), why });
    }

    pub(super) fn spawned(&mut self, unit: usize, pid: u32, now: u64, out: &mut Vec<Action>) {
        match self.units[unit].state {
            State::Starting { .. } => {
                self.units[unit].pid = Some(pid);
                if self.defs[unit].kind == Kind::Simple {
                    self.ready(unit, now, out);
                }
            }
            // It was told to stop before its start was reported.
            State::Stopping { .. } => {
                self.units[unit].pid = Some(pid);
                out.push(Action::Terminate { unit, pid });
            }
            _ => {}
        }
    }

    fn ready(&mut self, unit: usize, now: u64, out: &mut Vec<Action>) {
        let deadline = after(now, self.defs[unit].watchdog_ns);
        self.change(unit, State::Ready { deadline }, String::new(), now, out);
    }

    pub(super) fn notified(&mut self, unit: usize, notice: Notice, now: u64, out: &mut Vec<Action>) {
        let starting = matches!(self.units[unit].state, State::Starting { .. });
        let active = self.units[unit].state.is_active();
        match notice {
            Notice::Ready if starting && self.defs[unit].kind == Kind::Notify => self.ready(unit, now, out),
            Notice::Alive => {
                if let State::Ready { deadline } = &mut self.units[unit].state {
                    *deadline = after(now, self.defs[unit].watchdog_ns);
                }
            }
            Notice::Healthy if active => {
                let before = self.units[unit].healthy.replace(true);
                if before == Some(false) {
                    self.units[unit].why.clear();
                    out.push(Action::Changed { unit, state: self.state(unit), why: "healthy again".into() });
                }
            }
            Notice::Unhealthy(why) if active => {
                let before = self.units[unit].healthy.replace(false);
                if before != Some(false) || self.units[unit].why != why {
                    self.units[unit].why.clone_from(&why);
                    let why = format!("unhealthy: {why}");
                    out.push(Action::Changed { unit, state: self.state(unit), why });
                }
            }
            // Said too early, too late or by the wrong kind of unit: nothing follows from it.
            Notice::Ready | Notice::Healthy | Notice::Unhealthy(_) => {}
        }
    }

    pub(super) fn exited(&mut self, unit: usize, pid: u32, how: Ended, now: u64, out: &mut Vec<Action>) {
        if self.units[unit].pid != Some(pid) {
            return;
        }
        self.units[unit].pid = None;
        // Whatever the main process left behind goes with it: the next start finds an empty cgroup.
        out.push(Action::Kill(unit));
        let text = match how {
            Ended::Code(code) => format!("ended with code {code}"),
            Ended::Signal(signal) => format!("ended by signal {signal}"),
            Ended::OutOfMemory(Some(max)) => format!("killed at its memory_max of {}", ByteSize(max)),
            Ended::OutOfMemory(None) => "killed: the machine had no memory left".to_owned(),
        };
        let def = &self.defs[unit];
        let clean = how == Ended::Code(0)
            && (def.kind == Kind::Oneshot || matches!(def.restart, Restart::OnFailure | Restart::Never));
        match std::mem::replace(&mut self.units[unit].state, State::Down) {
            State::Stopping { failure: Some(failure), .. } => self.failure(unit, failure, now, out),
            State::Stopping { failure: None, .. } => self.change(unit, State::Down, text, now, out),
            State::Starting { .. } | State::Ready { .. } if clean => {
                self.change(unit, State::Done, text, now, out);
            }
            State::Starting { .. } if self.defs[unit].kind == Kind::Notify => {
                let text = format!("{text} before it was ready");
                self.failure(unit, Failure::new(text), now, out);
            }
            _ => self.failure(unit, Failure::new(text), now, out),
        }
    }

    /// An attempt failed: pause and try again, or give up.
    pub(super) fn failure(&mut self, unit: usize, failure: Failure, now: u64, out: &mut Vec<Action>) {
        let Failure { why, weight } = failure;
        if self.shutting_down || !self.units[unit].wanted {
            return self.change(unit, State::Down, why, now, out);
        }
        if self.defs[unit].restart == Restart::Never {
            return self.lose(unit, why, now, out);
        }
        let window = BURST_WINDOW_NS.max(self.defs[unit].ready_within_ns.saturating_mul(8));
        let failures = &mut self.units[unit].failures;
        failures.retain(|at| now.saturating_sub(*at) < window);
        failures.extend(std::iter::repeat_n(now, weight));
        let count = failures.len();
        if count > BURST {
            return self.lose(unit, format!("{why}; it failed too often"), now, out);
        }
        self.units[unit].restarts = self.units[unit].restarts.saturating_add(1);
        let pause = self.pause(count);
        let why = format!("{why}; again in {} ms", pause / 1_000_000);
        self.change(unit, State::BackOff { deadline: now.saturating_add(pause) }, why, now, out);
    }

    fn lose(&mut self, unit: usize, why: String, now: u64, out: &mut Vec<Action>) {
        self.change(unit, State::Failed, why.clone(), now, out);
        if self.defs[unit].criticality == Criticality::Required && self.emergency.is_none() {
            self.emergency = Some(format!("{} failed: {why}", self.defs[unit].name));
            // At once, not with the runner's answer: nothing may be started in between.
            self.shutting_down = true;
            out.push(Action::Emergency { unit, why });
        }
    }

    /// The pause before the next attempt: doubled each time, half of it random, so that units that failed together do
    /// not come back together.
    fn pause(&mut self, failures: usize) -> u64 {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let full = (BACKOFF_FIRST_NS << doublings).min(BACKOFF_MAX_NS);
        // splitmix64 (Steele, Lea, Flood 2014): one add and three mixes; quality enough for jitter.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        full / 2 + mixed % (full / 2 + 1)
    }

    pub(super) fn want(&mut self, unit: usize, now: u64, out: &mut Vec<Action>) {
        if self.shutting_down || self.defs[unit].broken.is_some() {
            return;
        }
        let u = &mut self.units[unit];
        u.wanted = true;
        u.failures.clear();
        if let State::Stopping { failure, .. } = &mut u.state {
            // It is being killed for a failure, which is forgiven like the others: it starts again when it is gone.
            *failure = None;
        }
        if matches!(u.state, State::Failed | State::Done | State::BackOff { .. }) {
            self.change(unit, State::Down, "an operator starts it".into(), now, out);
        }
    }

    pub(super) fn restart(&mut self, unit: usize, now: u64, out: &mut Vec<Action>) {
        if self.shutting_down {
            return;
        }
        self.want(unit, now, out);
        if matches!(self.units[unit].state, State::Starting { .. } | State::Ready { .. }) {
            self.stop(unit, "an operator restarts it".into(), now, out);
        }
    }

    fn stop(&mut self, unit: usize, why: String, now: u64, out: &mut Vec<Action>) {
        let deadline = now.saturating_add(self.defs[unit].stop_within_ns);
        self.change(unit, State::Stopping { deadline, kills: 0, failure: None }, why, now, out);
        if let Some(pid) = self.units[unit].pid {
            out.push(Action::Terminate { unit, pid });
        }
    }

    pub(super) fn pass_deadlines(&mut self, now: u64, out: &mut Vec<Action>) {
        for unit in 0..self.units.len() {
            if self.units[unit].state.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            let def = &self.defs[unit];
            match &mut self.units[unit].state {
                State::Starting { .. } => {
                    let why = format!("not ready within {} ms", def.ready_within_ns / 1_000_000);
                    self.kill_for(unit, Failure { why, weight: TIMEOUT_WEIGHT }, now, out);
                }
                State::Ready { .. } => {
                    let why = format!("no sign of life for {} ms", def.watchdog_ns / 1_000_000);
                    self.kill_for(unit, Failure::new(why), now, out);
                }
                State::Stopping { kills, .. } if self.shutting_down && *kills >= KILLS_BEFORE_ABANDON => {
                    let why = "its process does not die; left behind".to_owned();
                    self.change(unit, State::Down, why, now, out);
                }
                State::Stopping { deadline, kills, .. } => {
                    *kills = kills.saturating_add(1);
                    *deadline = now.saturating_add(KILL_AGAIN_NS);
                    out.push(Action::Kill(unit));
                }
                State::BackOff { .. } => self.change(unit, State::Down, String::new(), now, out),
                State::Down | State::Failed | State::Done => {}
            }
        }
    }

    fn kill_for(&mut self, unit: usize, failure: Failure, now: u64, out: &mut Vec<Action>) {
        let deadline = now.saturating_add(KILL_AGAIN_NS);
        let why = failure.why.clone();
        let state = State::Stopping { deadline, kills: 1, failure: Some(failure) };
        self.change(unit, state, why, now, out);
        out.push(Action::Kill(unit));
    }

    /// What follows for every unit: see the module's header.
    pub(super) fn settle(&mut self, now: u64, out: &mut Vec<Action>) {
        let mut must_stop = vec![false; self.len()];
        for unit in 0..self.len() {
            must_stop[unit] = self.shutting_down
                || !self.units[unit].wanted
                || self.defs[unit].needs.iter().any(|need| must_stop[*need] || self.lost(*need));
        }
        for unit in (0..self.len()).rev() {
            if !must_stop[unit] {
                continue;
            }
            match self.units[unit].state {
                State::Starting { .. } | State::Ready { .. } if !self.has_active_dependant(unit) => {
                    let why = self.stop_reason(unit);
                    self.stop(unit, why, now, out);
                }
                State::BackOff { .. } => {
                    let why = self.stop_reason(unit);
                    self.change(unit, State::Down, why, now, out);
                }
                _ => {}
            }
        }
        for (unit, must_stop) in must_stop.into_iter().enumerate() {
            let possible = self.units[unit].state == State::Down && !must_stop;
            if possible && self.defs[unit].needs.iter().all(|need| self.satisfied(*need)) {
                let deadline = after(now, self.defs[unit].ready_within_ns);
                self.change(unit, State::Starting { deadline }, String::new(), now, out);
                out.push(Action::Spawn(unit));
            }
        }
        self.conclude(out);
    }

    fn conclude(&mut self, out: &mut Vec<Action>) {
        if !self.booted {
            self.booted = (0..self.len()).all(|unit| !self.units[unit].wanted || self.as_it_should(unit));
        }
        if self.shutting_down && !self.all_down && !self.units.iter().any(|unit| unit.state.is_active()) {
            self.all_down = true;
            out.push(Action::AllDown);
        }
    }

    fn has_active_dependant(&self, unit: usize) -> bool {
        (unit + 1..self.len())
            .any(|other| self.units[other].state.is_active() && self.defs[other].needs.contains(&unit))
    }

    fn stop_reason(&self, unit: usize) -> String {
        if self.shutting_down {
            return "shutdown".into();
        }
        match self.lost_need(unit) {
            Some(need) => {
                format!("{}, which it needs, is {}", self.defs[need].name, self.state(need).as_str())
            }
            None if !self.units[unit].wanted => "an operator stopped it".into(),
            None => "something that it needs stops".into(),
        }
    }
}
