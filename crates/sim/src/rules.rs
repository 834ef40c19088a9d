//! What must hold in every world.

use octant_init::graph::{BACKOFF_FIRST_NS, BURST, BURST_WINDOW_NS, Def, Kind};
use std::collections::VecDeque;
use std::fmt;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A unit never has two processes.
    OneProcess,
    /// A unit is started only when all that it needs is ready.
    NeedsFirst,
    /// A unit is told to end only when no dependant of it runs, unless it alone is restarted.
    DependantsFirst,
    /// Nothing is started once a shutdown has begun.
    NoStartInShutdown,
    /// A unit is not started again before its pause, nor after its failures are used up.
    RestartLimits,
    /// Only processes that exist are told to end.
    KnownProcess,
    /// A shutdown ends.
    ShutdownEnds,
    /// When nothing fails any more, everything that is wanted becomes ready.
    Recovery,
    /// What the graph says of a unit is true of its process.
    TrueState,
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// The seed of the world.
    pub seed: u64,
    /// The rule.
    pub rule: Rule,
    /// The fake time, nanoseconds.
    pub at_ns: u64,
    /// What happened against the rule.
    pub what: String,
    /// The last things that happened before.
    pub history: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at_ns / 1_000_000;
        writeln!(f, "seed {}: {:?} broken at {ms} ms: {}", self.seed, self.rule, self.what)?;
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        write!(f, "reproduce with: cargo x sim --seed {}", self.seed)
    }
}

/// What the rules know of a unit: from the world's side, never from the graph's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) pid: Option<u32>,
    pub(crate) said_ready: bool,
    pub(crate) done: bool,
    pub(crate) told_to_end: bool,
    /// When it failed, since an operator last forgave it.
    pub(crate) failures: VecDeque<u64>,
    pub(crate) restarted_by_operator: bool,
}

impl Known {
    /// Whether dependants may be started.
    pub(crate) fn is_up(&self, def: &Def) -> bool {
        match def.kind {
            Kind::Oneshot => self.done,
            Kind::Notify => self.pid.is_some() && self.said_ready && !self.told_to_end,
            Kind::Simple => self.pid.is_some() && !self.told_to_end,
        }
    }

    /// Whether a start now keeps the limits on restarts.
    pub(crate) fn may_start(&self, now: u64) -> Result<(), String> {
        let recent = self.failures.iter().filter(|at| now.saturating_sub(**at) < BURST_WINDOW_NS).count();
        if recent > BURST {
            return Err(format!("started after {recent} failures within the window"));
        }
        match self.failures.back() {
            Some(last) if now.saturating_sub(*last) < BACKOFF_FIRST_NS / 2 => {
                Err(format!("started {} us after a failure", now.saturating_sub(*last) / 1000))
            }
            _ => Ok(()),
        }
    }
}
