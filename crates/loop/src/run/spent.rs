//! How long a loop has run. The time in which it was frozen does not count: who suspends an agent does not spend its time.

use octant_sys::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the time is taken.
const TICK: Duration = Duration::from_millis(250);
/// The most that counts between two times: more is a freeze.
const MOST_MS: u64 = 5_000;

/// The time so far, in all runs of the loop.
#[derive(Debug, Clone)]
pub(super) struct Spent(Arc<AtomicU64>);

/// The end of the time.
#[derive(Debug, Clone)]
pub(super) struct Late {
    spent: Spent,
    most_ms: u64,
}

impl Spent {
    /// Goes on from there.
    pub(super) fn start(ms: u64) -> Self {
        let spent = Self(Arc::new(AtomicU64::new(ms)));
        let counted = Arc::downgrade(&spent.0);
        thread::spawn(move || {
            let mut last = clock::monotonic_ns() / 1_000_000;
            while let Some(counted) = counted.upgrade() {
                let now = clock::monotonic_ns() / 1_000_000;
                counted.fetch_add(now.saturating_sub(last).min(MOST_MS), Ordering::Relaxed);
                last = now;
                drop(counted);
                thread::sleep(TICK);
            }
        });
        spent
    }

    pub(super) fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
