//! A new configuration has to show that it works: the machine is healthy with it in time and stays so for a while, or the
//! one that worked last is in force again, at once.

use super::Supervisor;
use crate::edition;
use octant_api::boot::Mode;
use octant_api::journal::Kind;
use octant_api::operator::{Answer, Health, Request, UnitState};
use octant_editions::{BASE, Editions, Verdict, name};
use octant_sys::clock;

/// So long everything has to be healthy: two rounds of the services' probes of themselves.
const HEALTHY_FOR_NS: u64 = 5_000_000_000;

/// An edition that has still to show that it works.
#[derive(Debug)]
pub(super) struct Trial {
    edition: u32,
    deadline_ns: u64,
    healthy_since: Option<u64>,
    told: bool,
}

impl Supervisor {
    /// Begins where the edition in force has neither word. After a replacement of PID 1 the time begins anew.
    pub(super) fn begin_trial(&mut self) {
        let edition = self.config.edition;
        let editions = Editions::of(&self.setup.layout);
        // That a machine works without any is noted once, so that there is something to go back to.
        let plain = edition == BASE && self.setup.mode == Mode::Machine && editions.worked().is_none();
        let open = plain || editions.verdict(edition) == Verdict::Open;
        let deadline_ns = clock::monotonic_ns().saturating_add(self.config.init.health_within_ns());
        self.trial = open.then_some(Trial { edition, deadline_ns, healthy_since: None, told: false });
    }

    /// The machine ends before there is a word on its configuration. In order, the start is not counted; in an emergency
    /// the next one begins with what worked.
    pub(super) fn end_trial(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        let editions = Editions::of(&self.setup.layout);
        let emergency = self.ending.as_ref().and_then(|ending| ending.emergency.clone());
        if let Some(why) = emergency
            && editions.way_back(trial.edition).is_some()
        {
            edition::leave(&editions, trial.edition, &why, &mut self.console);
        } else if let Err(error) = editions.uncount() {
            self.console.alarm(&error.to_string());
        }
    }

    /// What of Octant itself is not as it should be, and whether that is for good.
    fn ailment(&self) -> Option<(String, bool)> {
        let own = (0..self.units.len()).filter(|unit| self.units[*unit].built_in);
        own.filter_map(|unit| {
            let (state, health) = (self.graph.state(unit), self.graph.health(unit));
            if state == UnitState::Ready && matches!(health, Health::Ok | Health::None) {
                return None;
            }
            let word = if state == UnitState::Ready { health.as_str() } else { state.as_str() };
            let why = self.graph.why(unit);
            let colon = if why.is_empty() { "" } else { ": " };
            let text = format!("{} is {word}{colon}{why}", self.graph.def(unit).name);
            Some((text, state == UnitState::Failed))
        })
        .max_by_key(|(_, lost)| *lost)
    }

    /// Looks whether there is a word on the configuration.
    pub(super) fn judge(&mut self) {
        if self.trial.is_none() || self.ending.is_some() {
            return;
        }
        let (now, ailment) = (clock::monotonic_ns(), self.ailment());
        let Some(trial) = &mut self.trial else { return };
        let edition = trial.edition;
        let Some((why, lost)) = ailment else {
            let since = *trial.healthy_since.get_or_insert(now);
            if now.saturating_sub(since) >= HEALTHY_FOR_NS {
                self.trial = None;
                self.worked(edition);
            }
            return;
        };
        trial.healthy_since = None;
        if edition == BASE {
            return;
        }
        if now < trial.deadline_ns && !lost {
            return;
        }
        let editions = Editions::of(&self.setup.layout);
        if editions.way_back(edition).is_none() {
            // Nothing is known to be better. It stays, and is still good when the machine gets healthy after all.
            if std::mem::replace(&mut trial.told, true) {
                return;
            }
            let text = format!(
                "the machine is not healthy with configuration {edition}: {why}; it stays, there is nothing to go back to"
            );
            return self.tell(&text);
        }
        let s = self.config.init.health_within_ns() / 1_000_000_000;
        let why = if lost { why } else { format!("the machine was not healthy within {s} s: {why}") };
        let text = edition::leave(&editions, edition, &why, &mut self.console);
        self.trial = None;
        self.journal.record(Kind::Config, "", &text, now);
        self.dirty = true;
        if editions.current() == edition {
            return;
        }
        match self.can_replace() {
            Ok(()) => self.replace_self(),
            Err(why) => {
                self.tell(&format!("{} is in force from the next boot on: {why}", name(editions.current())))
            }
        }
    }

    fn worked(&mut self, edition: u32) {
        let editions = Editions::of(&self.setup.layout);
        if edition == BASE {
            if let Err(error) = editions.mark_good(BASE) {
                self.console.alarm(&error.to_string());
            }
            return;
        }
        let text = match editions.mark_good(edition).and_then(|()| editions.refuse(None)) {
            Ok(()) => format!("configuration {edition} works"),
            Err(error) => format!("configuration {edition} works, and that cannot be noted: {error}"),
        };
        self.tell(&text);
    }

    fn tell(&mut self, text: &str) {
        self.console.alarm(text);
        self.journal.record(Kind::Config, "", text, clock::monotonic_ns());
        self.dirty = true;
    }

    /// What an operator has to know of it in `octant status`.
    pub(super) fn note_of_edition(&self) -> Option<String> {
        if let Some(trial) = self.trial.as_ref().filter(|trial| trial.edition != BASE) {
            return Some(format!("configuration {} has still to show that it works", trial.edition));
        }
        Editions::of(&self.setup.layout).refused()
    }

    /// Puts on record which edition is to be in force.
    pub(super) fn intend(&mut self, request: &Request, uid: u32) -> Answer {
        let edition = u32::try_from(request.arg).unwrap_or(u32::MAX);
        let words = match edition {
            BASE => Some(String::new()),
            _ => Editions::of(&self.setup.layout).info(edition).map(|info| format!(": {}", info.words())),
        };
        let Some(words) = words else {
            let text = format!("there is no configuration {edition}; `octant config show` lists them");
            return Answer::Result { ok: false, text };
        };
        let ok = self.journal.channel.has_room();
        self.record_command(uid, "", &format!("intend {}{words}", name(edition)));
        let full = "too much waits for the ledger, which takes nothing; see `octant status`";
        Answer::Result { ok, text: if ok { "on record" } else { full }.into() }
    }

    /// Puts an edition in force. The replacement of PID 1 that follows reads it.
    pub(super) fn configure(&mut self, edition: i32) -> Result<String, String> {
        let edition = u32::try_from(edition).map_err(|_| "no configuration has such a number".to_owned())?;
        let editions = Editions::of(&self.setup.layout);
        self.can_replace()?;
        let names: Vec<&str> = self.own_names();
        crate::config::load(&self.setup.layout, edition, &names).map_err(|error| error.to_string())?;
        // Something has to have worked, or there is nothing to go back to.
        if self.config.edition == BASE && editions.worked().is_none() && self.ailment().is_none() {
            editions.mark_good(BASE).map_err(|error| error.to_string())?;
        }
        editions.choose(edition).map_err(|error| error.to_string())?;
        // Before the answer: whoever asks next whom the machine trusts is told what is in force.
        edition::trust(&editions, edition, &self.setup.layout, &mut self.console);
        if editions.verdict(edition) == Verdict::Good {
            editions.refuse(None).map_err(|error| error.to_string())?;
        }
        let work = if editions.verdict(edition) == Verdict::Open {
            "; it has still to show that it works"
        } else {
            ""
        };
        Ok(format!("{} is in force{work}", name(edition)))
    }

    /// Starts anew what another configuration is for.
    pub(crate) fn begin_again(&mut self, units: &[String]) {
        for name in units {
            if let Some(unit) = self.graph.find(name) {
                self.feed(crate::graph::Event::Restart(unit));
            }
        }
    }
}
