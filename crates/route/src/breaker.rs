//! A breaker: who fails too often is left alone for a while, and then tried by one call.
//!
//! | state | a call | it ends well | it ends badly |
//! |---|---|---|---|
//! | closed | goes | counts | counts; open where there were [`IN_A_ROW`], or [`PERCENT`] of at least [`AT_LEAST`] in [`WINDOW_MS`] |
//! | open | waits until its time is over, then half-open | - | - |
//! | half-open | one goes, the others wait | closed | open, for twice as long |
//!
//! A call that began before the state changed says nothing about the new one.

use crate::seed;

/// In which time outcomes are counted.
const WINDOW_MS: u64 = 60_000;
const SLOTS: usize = 6;
/// So many calls there must have been before their share counts.
const AT_LEAST: u32 = 10;
/// The share of bad ones that opens.
const PERCENT: u32 = 50;
/// So many bad ones without a good one between open it however few calls there are.
const IN_A_ROW: u32 = 5;
/// How long it is open the first time, and at most.
const FIRST_MS: u64 = 5_000;
const MOST_MS: u64 = 60_000;
/// When somebody looks again whether the try has ended.
const AGAIN_MS: u64 = 250;
/// A try that has said nothing for so long has failed.
const TRY_MS: u64 = 600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_ms: u64 },
    Half { since_ms: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    state: State,
    /// How often the state has changed.
    era: u64,
    /// Good and bad calls by slot of the window, and the number of the slot that counts now.
    slots: [(u32, u32); SLOTS],
    slot: u64,
    in_a_row: u32,
    /// How often it was opened since it was closed last.
    opened: u32,
    seed: u64,
}

impl Breaker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: State::Closed, era: 0, slots: [(0, 0); SLOTS], slot: 0, in_a_row: 0, opened: 0, seed }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.slots = [(0, 0); SLOTS];
        self.in_a_row = 0;
    }

    /// Until when it has to be waited for.
    pub(crate) fn until_ms(&self, now_ms: u64) -> Option<u64> {
        match self.state {
            State::Open { until_ms } if now_ms < until_ms => Some(until_ms),
            State::Half { since_ms } if now_ms < since_ms.saturating_add(TRY_MS) => {
                Some(now_ms.saturating_add(AGAIN_MS))
            }
            _ => None,
        }
    }

    #[cfg(test)]
    fn closed(&self) -> bool {
        self.state == State::Closed
    }

    /// A call begins, which nothing here holds back; it is told the state that it says something about.
    pub(crate) fn start(&mut self, now_ms: u64) -> u64 {
        if self.state != State::Closed {
            // Its time is over, or the try's before it: this is the try.
            self.enter(State::Half { since_ms: now_ms });
        }
        self.era
    }

    /// It ended well.
    pub(crate) fn good(&mut self, era: u64, now_ms: u64) {
        if era == self.era {
            self.close();
            self.in_a_row = 0;
            self.count(now_ms, |slot| slot.0 += 1);
        }
    }

    /// It was answered, in a way that says nothing of how well it does.
    pub(crate) fn answered(&mut self, era: u64) {
        if era == self.era {
            self.close();
        }
    }

    /// It ended badly.
    pub(crate) fn bad(&mut self, era: u64, now_ms: u64) {
        if era != self.era {
            return;
        }
        self.in_a_row += 1;
        self.count(now_ms, |slot| slot.1 += 1);
        let (good, bad) =
            self.slots.iter().fold((0_u32, 0_u32), |sum, slot| (sum.0 + slot.0, sum.1 + slot.1));
        let share =
            good + bad >= AT_LEAST && u64::from(bad) * 100 >= u64::from(good + bad) * u64::from(PERCENT);
        if share || self.in_a_row >= IN_A_ROW || self.state != State::Closed {
            let most = FIRST_MS.saturating_mul(1 << self.opened.min(16)).min(MOST_MS);
            let until_ms = now_ms.saturating_add(seed::jitter(self.seed, self.era, most));
            self.opened += 1;
            self.enter(State::Open { until_ms });
        }
    }

    /// It ended without a word about who was called: a try is given back.
    pub(crate) fn nothing(&mut self, era: u64, now_ms: u64) {
        if era == self.era && matches!(self.state, State::Half { .. }) {
            self.enter(State::Open { until_ms: now_ms });
        }
    }

    fn close(&mut self) {
        if self.state != State::Closed {
            self.opened = 0;
            self.enter(State::Closed);
        }
    }

    fn count(&mut self, now_ms: u64, add: impl Fn(&mut (u32, u32))) {
        let slots = SLOTS as u64;
        let slot = now_ms / (WINDOW_MS / slots);
        // Everything between the last slot and this one was empty.
        for passed in 1..=slot.saturating_sub(self.slot).min(slots) {
            self.slots[usize::try_from((self.slot + passed) % slots).unwrap_or(0)] = (0, 0);
        }
        if slot.saturating_sub(self.slot) > slots {
            self.slots = [(0, 0); SLOTS];
        }
        self.slot = self.slot.max(slot);
        add(&mut self.slots[usize::try_from(self.slot % slots).unwrap_or(0)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(times: u32) -> Breaker {
        let mut breaker = Breaker::new(1);
        for _ in 0..times {
            let era = breaker.start(0);
            breaker.bad(era, 0);
        }
        breaker
    }

    #[test]
    fn it_opens_after_so_many_in_a_row() {
        assert!(failing(IN_A_ROW - 1).closed());
        let mut breaker = failing(IN_A_ROW);
        let until = breaker.until_ms(0).unwrap();
        assert!((FIRST_MS / 2..=FIRST_MS).contains(&until));
        assert_eq!(breaker.until_ms(until), None, "its time is over");
        let era = breaker.start(until);
        assert!(breaker.until_ms(until).is_some(), "one try, and the others wait");
        breaker.bad(era, until);
        let next = breaker.until_ms(until).unwrap() - until;
        assert!((FIRST_MS..=2 * FIRST_MS).contains(&next), "twice as long: {next}");
        let after = until + next;
        let era = breaker.start(after);
        breaker.good(era, after);
        assert!(breaker.closed());
    }

    #[test]
    fn it_opens_at_a_share_of_enough_calls() {
        let mut breaker = Breaker::new(1);
        for call in 0..9 {
            let era = breaker.start(0);
            if call % 2 == 0 { breaker.bad(era, 0) } else { breaker.good(era, 0) }
        }
        assert!(breaker.closed(), "too few");
        let mut later = breaker.clone();
        breaker.bad(breaker.era, 0);
        assert!(!breaker.closed());
        for call in 0..20 {
            // A minute later the old ones do not count, and one of three is not enough.
            let era = later.start(WINDOW_MS * 2);
            if call % 3 == 0 { later.bad(era, WINDOW_MS * 2) } else { later.good(era, WINDOW_MS * 2) }
        }
        assert!(later.closed());
    }

    #[test]
    fn a_call_from_before_says_nothing() {
        let mut breaker = Breaker::new(1);
        let old = breaker.start(0);
        for _ in 0..IN_A_ROW {
            breaker.bad(old, 0);
        }
        let until = breaker.until_ms(0).unwrap();
        breaker.good(old, 1);
        assert!(!breaker.closed());
        let probe = breaker.start(until);
        breaker.bad(old, until);
        breaker.good(old, until);
        assert!(!breaker.closed());
        breaker.nothing(probe, until);
        assert_eq!(breaker.until_ms(until), None, "who went away gives the try back");
        let probe = breaker.start(until);
        breaker.answered(probe);
        assert!(breaker.closed());
    }

    #[test]
    fn a_try_that_never_ends_does_not_hold_it_for_ever() {
        let mut breaker = failing(IN_A_ROW);
        let _ = breaker.start(10_000);
        assert_eq!(breaker.until_ms(10_001), Some(10_001 + AGAIN_MS));
        assert_eq!(breaker.until_ms(10_000 + TRY_MS), None);
        let era = breaker.start(10_000 + TRY_MS);
        breaker.good(era, 10_000 + TRY_MS);
        assert!(breaker.closed());
    }
}
