//! How long a loop has run. The time in which it was frozen does not count: who suspends an agent does not spend its time.

use octant_sys::clock;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the time is taken.
const TICK: Duration = Duration::from_millis(250);
/// The most that counts between two times: more is a freeze.
const MOST_MS: u64 = 5_000;

/// The time so far, in all runs of the loop.
#[derive(Debug, Clone)]
pub(super) struct Spent(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    ms: u64,
    /// Up to when it is counted, on the monotonic clock.
    upto_ms: u64,
}

/// The end of the time.
#[derive(Debug, Clone)]
pub(super) struct Late {
    spent: Spent,
    most_ms: u64,
}

impl Counted {
    fn count(&mut self, now_ms: u64) -> u64 {
        self.ms += now_ms.saturating_sub(self.upto_ms).min(MOST_MS);
        self.upto_ms = self.upto_ms.max(now_ms);
        self.ms
    }
}

fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}

impl Spent {
    /// Goes on from there.
    pub(super) fn start(ms: u64) -> Self {
        let spent = Self(Arc::new(Mutex::new(Counted { ms, upto_ms: now_ms() })));
        let counted = Arc::downgrade(&spent.0);
        // Whoever asks counts too; this is for the time in which nobody does, so that a freeze can be told from it.
        thread::spawn(move || {
            while let Some(counted) = counted.upgrade() {
                Self(counted).ms();
                thread::sleep(TICK);
            }
        });
        spent
    }

    pub(super) fn ms(&self) -> u64 {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count(now_ms())
    }

    pub(super) fn late(&self, most_ms: u64) -> Late {
        Late { spent: self.clone(), most_ms }
    }
}

impl Late {
    pub(super) fn is_over(&self) -> bool {
        self.spent.ms() >= self.most_ms
    }

    /// The same on the monotonic clock, as far as it can be known.
    pub(super) fn end_ns(&self) -> u64 {
        let left = self.most_ms.saturating_sub(self.spent.ms());
        clock::monotonic_ns().saturating_add(left.saturating_mul(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_does_not_count() {
        let mut counted = Counted { ms: 7, upto_ms: 1_000 };
        assert_eq!((counted.count(1_250), counted.count(1_250)), (257, 257));
        assert_eq!(counted.count(900_000_000), 257 + MOST_MS);
        assert_eq!(counted.count(1), 257 + MOST_MS, "it never goes back");
    }
}
