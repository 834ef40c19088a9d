//! The clocks. Everything in Octant reads time here, so that one place decides which clock a thing is measured by.

use nix::time::{ClockId, clock_gettime};

fn read_ns(clock: ClockId) -> u64 {
    // The three clocks below exist on every kernel that Octant runs on; a clock that cannot be read is
    // answered with 0, which makes every deadline of that clock far away rather than already passed.
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

/// Nanoseconds since boot, not counting suspend (CLOCK_MONOTONIC). For deadlines and durations.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds since boot, counting suspend (CLOCK_BOOTTIME).
#[must_use]
pub fn boottime_ns() -> u64 {
    read_ns(ClockId::CLOCK_BOOTTIME)
}

/// Milliseconds since 1970-01-01 UTC (CLOCK_REALTIME). It can jump; never compute a duration with it.
#[must_use]
pub fn wall_ms() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_forward_and_agree_about_their_order() {
        let first = monotonic_ns();
        assert!(first > 0 && monotonic_ns() >= first);
        assert!(boottime_ns() >= first, "boottime counts at least what monotonic counts");
        assert!(wall_ms() > 1_600_000_000_000, "the wall clock is after 2020");
    }
}
