//! What operators ask for, and how an end begins.

use super::{Ending, How, Source, Supervisor};
use crate::graph::Event;
use crate::operator::allowed;
use crate::units::{CONSOLE, JOB};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use octant_api::boot::Mode;
use octant_api::journal::Kind;
use octant_api::operator::{AccountChange, Answer, End, Op, Phase, Request, UnitState, UnitStatus};
use octant_ids::Exit;
use octant_sys::clock;

/// A request as the record has it; the unit has a field of its own.
fn words(request: &Request) -> String {
    let op = format!("{:?}", request.op).to_lowercase();
    match request.op {
        Op::Exit | Op::Configure => format!("{op} {}", request.arg),
        _ => op,
    }
}

/// What the console reports, in words.
fn report(request: &Request) -> String {
    let (name, terminal) = request.unit.split_once('@').unwrap_or((&request.unit, ""));
    // A name that is no account's may be a passphrase at the wrong question, and is not told even to us.
    let name = if name.is_empty() { "an unknown name" } else { name };
    let at = if terminal.is_empty() { String::new() } else { format!(" at {terminal}") };
    match request.op {
        Op::Login => format!("login: {name} as user {}{at}", request.arg),
        Op::Refused => format!("login refused: {name}{at}"),
        Op::Logout => format!("logout: {name} as user {}{at}", request.arg),
        Op::Answered => format!("login: challenge answered by key {name}{at}"),
        _ => format!("account {}: {name}", AccountChange::words(request.arg)),
    }
}

impl Supervisor {
    pub(super) fn accept_operator(&mut self) {
        let operators = self.operators();
        match self.operator.accept(&operators) {
            Ok(Some((key, fd))) => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, Source::Operator(key).encode());
                if let Err(error) = self.epoll.add(fd, event) {
                    self.console.alarm(&format!("operator socket: {error}"));
                }
            }
            Ok(None) => {
                if self.operator.says_refusal(clock::monotonic_ns()) {
                    self.console.say("operator socket: too many connections; refused");
                }
            }
            // The caller went away before it was accepted.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => self.console.alarm(&format!("operator socket: {error}")),
        }
    }

    /// Who may act, beside root.
    fn operators(&self) -> Vec<u32> {
        [&self.config.init.operators[..], &[self.setup.operator]].concat()
    }

    pub(super) fn obey(&mut self, key: u32, request: &Request, uid: u32) {
        if !allowed(request.op, uid, &self.operators()) {
            let text = format!("user {uid} may not do this; run it as the operator or as root");
            return self.operator.answer(key, &[Answer::Result { ok: false, text }]);
        }
        if request.op == Op::Status {
            let answers = self.status();
            return self.operator.answer(key, &answers);
        }
        if request.op.is_report() {
            let ok = self.journal.channel.has_room();
            self.record_command(uid, CONSOLE, &report(request));
            let full = "too much waits for the ledger, which takes nothing; see `octant status`";
            let text = if ok { "on record" } else { full }.into();
            return self.operator.answer(key, &[Answer::Result { ok, text }]);
        }
        if request.op == Op::Intend {
            let answer = self.intend(request, uid);
            return self.operator.answer(key, &[answer]);
        }
        // On its way to the ledger before anything is done. PID 1 waits for nobody, so it may become durable after.
        let what = words(request);
        self.record_command(uid, &request.unit, &what);
        let answer = match self.command(request) {
            Ok(text) => Answer::Result { ok: true, text },
            Err(text) => {
                self.record_command(uid, &request.unit, &format!("{what}: refused: {text}"));
                Answer::Result { ok: false, text }
            }
        };
        self.operator.answer(key, &[answer]);
        if matches!(request.op, Op::Reexec | Op::Configure) {
            self.replace_self();
        }
    }

    pub(super) fn record_command(&mut self, uid: u32, unit: &str, text: &str) {
        self.journal.record(Kind::Command { uid }, unit, text, clock::monotonic_ns());
        self.dirty = true;
    }

    fn command(&mut self, request: &Request) -> Result<String, String> {
        let why = "an operator asked for it";
        let end = |how| (how, if how == How::Exit { request.arg & 0xff } else { 0 });
        let ending = match request.op {
            Op::Poweroff => Some(end(How::Poweroff)),
            Op::Reboot => Some(end(How::Reboot)),
            Op::Halt => Some(end(How::Halt)),
            Op::Exit => Some(end(How::Exit)),
            _ => None,
        };
        if let Some((how, code)) = ending {
            self.begin_end(how, code, why);
            return Ok("shutting down".into());
        }
        if request.op == Op::Reexec {
            return self.can_replace().map(|()| "PID 1 replaces itself; every unit goes on".into());
        }
        if request.op == Op::Configure {
            return self.configure(request.arg);
        }
        if self.graph.shutting_down() {
            return Err("everything is being shut down; nothing can be started or stopped any more".into());
        }
        let Some(unit) = self.graph.find(&request.unit) else {
            return Err(format!("no unit is named {:?}; `octant status` lists them", request.unit));
        };
        if let Some(why) = &self.graph.def(unit).broken {
            return Err(format!("{why}; correct the file, then `octant reexec`"));
        }
        let event = match request.op {
            Op::Start => Event::Start(unit),
            Op::Stop => Event::Stop(unit),
            _ => Event::Restart(unit),
        };
        self.feed(event);
        Ok(format!("{} is {}", request.unit, self.graph.state(unit).as_str()))
    }

    fn status(&self) -> Vec<Answer> {
        let (mut answers, now) = (Vec::new(), clock::monotonic_ns());
        for unit in 0..self.graph.len() {
            let why = self.graph.why(unit);
            let text = if why.is_empty() { self.runtime[unit].said.clone() } else { why };
            answers.push(Answer::Unit(UnitStatus {
                name: self.graph.def(unit).name.clone(),
                state: self.graph.state(unit),
                health: self.graph.health(unit),
                pid: self.graph.pid(unit).unwrap_or(0),
                restarts: self.graph.restarts(unit),
                since_ns: self.graph.since(unit),
                uid: self.units[unit].uid,
                heard_ms: self.runtime[unit]
                    .heard_ns
                    .map(|at| u32::try_from(now.saturating_sub(at) / 1_000_000).unwrap_or(u32::MAX)),
                used: self.cgroups.used(&self.graph.def(unit).name),
                out_of_memory: self.runtime[unit].out_of_memory,
                text,
            }));
        }
        let (phase, mut reason) = self.graph.phase();
        if phase == Phase::Running && !self.cgroups.missing.is_empty() {
            reason = format!("running without: {}", self.cgroups.missing.join("; "));
        }
        if let Some(note) = self.note_of_edition() {
            let semicolon = if reason.is_empty() { "" } else { "; " };
            reason += &format!("{semicolon}{note}");
        }
        let backlogs = [("records", &self.journal.channel), ("words on exits", &self.exits)];
        for (what, (waiting, lost)) in backlogs.map(|(what, channel)| (what, channel.backlog())) {
            for (count, fate) in [(waiting as u64, "wait"), (lost, "lost")] {
                if count > 0 {
                    let semicolon = if reason.is_empty() { "" } else { "; " };
                    reason += &format!("{semicolon}{count} {what} of PID 1 {fate}");
                }
            }
        }
        answers.push(Answer::End(End {
            count: u32::try_from(self.graph.len()).unwrap_or(u32::MAX),
            phase,
            reason,
        }));
        answers
    }

    /// Begins the orderly end; the first reason wins, except that an emergency is never taken back.
    pub(super) fn begin_end(&mut self, how: How, code: i32, why: &str) {
        if self.ending.is_some() {
            return;
        }
        self.console.share(false);
        let text = format!("going down ({}): {why}", format!("{how:?}").to_lowercase());
        self.console.say(&text);
        self.journal.record(Kind::Boot, "", &text, clock::monotonic_ns());
        self.ending = Some(Ending { how, code, emergency: None });
        self.dirty = true;
        self.mark_shutdown();
        self.feed(Event::Shutdown);
    }

    /// Octant cannot go on. The caller feeds [`Event::Shutdown`].
    pub(super) fn emergency(&mut self, why: &str) {
        self.console.emergency(why);
        self.journal.record(Kind::Boot, "", &format!("EMERGENCY: {why}"), clock::monotonic_ns());
        let code = i32::from(Exit::Unhealthy.code());
        self.ending = Some(Ending { how: How::Exit, code, emergency: Some(why.to_owned()) });
        self.mark_shutdown();
    }

    /// `agents` cannot tell its own restart from the end of everything by its SIGTERM: this file says it. At the end
    /// it winds its agents down within its time; what is left is killed when it is down.
    fn mark_shutdown(&mut self) {
        let path = self.setup.layout.run.join("shutdown");
        if let Err(error) = std::fs::write(&path, "") {
            self.console.alarm(&format!("{}: {error}; agents are killed without a grace", path.display()));
        }
    }

    pub(super) fn kill_agents(&mut self) {
        if let Err(error) = self.cgroups.kill_agents() {
            self.console.alarm(&format!("agents cannot be killed by their cgroup: {error}"));
        }
    }

    pub(super) fn job_ended(&mut self, why: &str) {
        // Without a code it never ran: what failed is in the reason.
        let code = self.job_code.unwrap_or(i32::from(Exit::Internal.code()));
        if self.setup.mode == Mode::Machine {
            self.console.alarm(&format!("job exit {code}"));
        }
        self.begin_end(How::Exit, code, &format!("the job {why}"));
    }

    /// A job whose needs are lost for good never starts: everything ends with the reason instead of waiting forever.
    pub(super) fn give_up_on_job(&mut self) {
        let Some(job) = self.graph.find(JOB) else { return };
        if self.ending.is_some() || self.graph.state(job) != UnitState::Waiting {
            return;
        }
        if let Some(need) = self.graph.lost_need(job) {
            let why = format!("the job cannot start: {}", self.graph.why(need));
            let code = i32::from(Exit::Unavailable.code());
            if self.setup.mode == Mode::Machine {
                self.console.alarm(&format!("job exit {code}"));
            }
            self.begin_end(How::Exit, code, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_console_reports_is_recorded_in_words() {
        let report = |op, unit: &str, arg| report(&Request { op, unit: unit.into(), arg });
        assert_eq!(report(Op::Login, "alice@ttyS0", 0), "login: alice as user 0 at ttyS0");
        assert_eq!(report(Op::Refused, "@tty1", 0), "login refused: an unknown name at tty1");
        assert_eq!(report(Op::Logout, "bob@pts/3", 1000), "logout: bob as user 1000 at pts/3");
        assert_eq!(report(Op::Account, "bob", 2), "account removed: bob");
        assert_eq!(
            report(Op::Answered, "3f2a9c0012ab45ef@tty1", 0),
            "login: challenge answered by key 3f2a9c0012ab45ef at tty1"
        );
    }

    #[test]
    fn a_command_is_recorded_in_the_words_that_asked_for_it() {
        let words = |op, arg| words(&Request { op, unit: "web".into(), arg });
        assert_eq!(words(Op::Restart, 0), "restart");
        assert_eq!(words(Op::Exit, 3), "exit 3");
    }
}
