//! The one retry loop: clients and upstreams under it have none.
//!
//! A *retry* is another try within a group: of another deployment at once, of the same one after a pause that doubles. A
//! *fallback* is another group. Who has to be waited for is passed over as long as anybody else can be asked. Nothing is tried
//! again once a byte of content has gone to who asked, or when its deadline would pass before.

use crate::catalogue::Catalogue;
use crate::choose::Choice;
use crate::health::{Blame, Health, Load, Standing, blame};
use crate::seed;
use octant_llm::{Failure, Kind};

/// The pause before the same deployment is asked again: the first time, at most.
const PAUSE_MS: (u64, u64) = (500, 8000);
/// For longer than this nobody is waited for: who asks is told when to come again.
const WAIT_MOST_MS: u64 = 30_000;

/// How often it is tried, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How many tries there are in one group.
    pub tries: u32,
    /// How long all tries may take together, where who asks says nothing less.
    pub deadline_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { tries: 3, deadline_ms: 600_000 }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask this deployment, after so many milliseconds.
    Try {
        /// Which.
        deployment: usize,
        /// After how many milliseconds.
        after_ms: u64,
    },
    /// Nobody: say this to who asked.
    Give(Failure),
}

#[derive(Debug)]
struct Row {
    deployment: usize,
    /// Which of the groups.
    group: usize,
    window: Option<u64>,
    tries: u32,
    out: bool,
}

/// The tries for one request.
#[derive(Debug)]
pub struct Plan {
    rows: Vec<Row>,
    groups: usize,
    load: Load,
    tries: u32,
    until_ms: u64,
    seed: u64,
    last: Option<Failure>,
    ended: bool,
}

impl Plan {
    /// A plan for who was chosen. `until_ms` is when it is too late for who asks; the catalogue's own deadline is kept too.
    #[must_use]
    pub fn new(
        catalogue: &Catalogue,
        choice: &Choice,
        load: Load,
        seed: u64,
        now_ms: u64,
        until_ms: u64,
    ) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut rows = Vec::new();
        for candidate in &choice.candidates {
            if names.last() != Some(&candidate.group.as_str()) {
                names.push(&candidate.group);
            }
            let window = catalogue.deployments.get(candidate.deployment).and_then(|own| own.known.window);
            let deployment = candidate.deployment;
            rows.push(Row { deployment, group: names.len() - 1, window, tries: 0, out: false });
        }
        let Retries { tries, deadline_ms } = catalogue.retries;
        let until_ms = until_ms.min(now_ms.saturating_add(deadline_ms));
        Self { rows, groups: names.len(), load, tries, until_ms, seed, last: None, ended: false }
    }

    /// When it is too late.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// How many tries there have been.
    #[must_use]
    pub fn tried(&self) -> u32 {
        self.rows.iter().map(|row| row.tries).sum()
    }

    /// A try failed; `answered`: a byte of content has gone to who asked.
    pub fn failed(&mut self, deployment: usize, failure: &Failure, answered: bool) {
        self.last = Some(failure.clone());
        let whose = blame(failure.kind);
        self.ended |= answered || whose == Blame::Caller || failure.kind == Kind::Cancelled;
        let Some(row) = self.rows.iter_mut().find(|row| row.deployment == deployment) else { return };
        row.tries += 1;
        let window = row.window;
        // The same answer would come again.
        row.out |= matches!(whose, Blame::Key | Blame::Nobody) || failure.kind == Kind::NotFound;
        if failure.kind == Kind::ContextLength {
            for row in &mut self.rows {
                row.out |= row.window.zip(window).is_some_and(|(has, had)| has <= had);
            }
        }
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self, health: &Health, now_ms: u64) -> Next {
        if self.ended || now_ms >= self.until_ms {
            return Next::Give(self.failure(None));
        }
        let mut soonest: Option<(u64, usize)> = None;
        for group in 0..self.groups {
            let rows = || self.rows.iter().filter(move |row| row.group == group);
            let tried: u32 = rows().map(|row| row.tries).sum();
            if tried >= self.tries {
                continue;
            }
            let mut again: Option<(u32, u64, usize)> = None;
            for row in rows().filter(|row| !row.out) {
                let ready_ms = match health.standing(row.deployment, self.load, now_ms) {
                    Standing::Ready => now_ms,
                    Standing::Waits { until_ms, .. } => until_ms,
                    Standing::Out(_) => continue,
                };
                if row.tries == 0 && ready_ms <= now_ms {
                    return Next::Try { deployment: row.deployment, after_ms: 0 };
                }
                let at_ms = ready_ms.max(if row.tries == 0 {
                    0
                } else {
                    now_ms.saturating_add(self.pause_ms(tried))
                });
                if ready_ms <= now_ms && again.is_none_or(|(tries, ..)| row.tries < tries) {
                    again = Some((row.tries, at_ms, row.deployment));
                }
                if soonest.is_none_or(|(other, _)| at_ms < other) {
                    soonest = Some((at_ms, row.deployment));
                }
            }
            if let Some((_, at_ms, deployment)) = again
                && at_ms < self.until_ms
            {
                return Next::Try { deployment, after_ms: at_ms - now_ms };
            }
        }
        match soonest {
            Some((at_ms, deployment)) if at_ms < self.until_ms && at_ms - now_ms <= WAIT_MOST_MS => {
                Next::Try { deployment, after_ms: at_ms - now_ms }
            }
            other => Next::Give(self.failure(other.map(|(at_ms, _)| at_ms - now_ms))),
        }
    }

    fn pause_ms(&self, tried: u32) -> u64 {
        let most = PAUSE_MS.0.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(PAUSE_MS.1);
        seed::jitter(self.seed, u64::from(tried), most)
    }

    /// What is said to who asked, with when to come again where that is known.
    fn failure(&self, wait_ms: Option<u64>) -> Failure {
        let none = || {
            let (kind, why) = match wait_ms {
                Some(_) => (
                    Kind::Overloaded,
                    "every deployment that may be asked has to be waited for; octant router status says why",
                ),
                None => (Kind::Timeout, "the request's time was over before any deployment was asked"),
            };
            Failure::new(kind, why)
        };
        let mut failure = self.last.clone().unwrap_or_else(none);
        if blame(failure.kind) == Blame::Deployment || self.last.is_none() {
            failure.retry_after_ms = wait_ms.or(failure.retry_after_ms);
        }
        failure
    }
}
