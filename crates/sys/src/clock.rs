//! The clocks. Everything in Octant reads time here, so that one place decides which clock a thing is measured by.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::io;

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

/// Nanoseconds since 1970-01-01 UTC (CLOCK_REALTIME), for what sets that clock by others.
#[must_use]
pub fn wall_ns() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME)
}

/// Sets CLOCK_REALTIME.
///
/// # Errors
/// `EPERM` without CAP_SYS_TIME; `EINVAL` for a time before the machine's boot.
pub fn set_wall(ns: u64) -> io::Result<()> {
    let seconds = i64::try_from(ns / 1_000_000_000).map_err(io::Error::other)?;
    let nanos = i64::try_from(ns % 1_000_000_000).map_err(io::Error::other)?;
    Ok(clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, nanos))?)
}

/// Has CLOCK_REALTIME run a little faster or slower (half a millisecond each second) until it has gained so many
/// microseconds, in place of what is left of an earlier wish.
///
/// # Errors
/// `EPERM` without CAP_SYS_TIME.
pub fn slew(us: i64) -> io::Result<()> {
    // SAFETY: timex is plain numbers, for which zeros are values.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = us;
    // SAFETY: the pointer is to a timex of this function's own, which the call reads and writes.
    let done = unsafe { libc::adjtimex(&raw mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
