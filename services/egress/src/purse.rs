//! What an agent may use up here, drawn from its budgets in pieces: no packet waits for a question, but for the first of all,
//! and the last unit is the last.
//!
//! The gate says by `egress.watch` up to how much it may have to use, and is told by `egress.fund` up to how much it may. Both
//! are totals since its start, so that what is said twice counts once. What it was told of and does not use goes back when
//! the agent ends; what it does not come to say counts as used.

use crate::core::Denied;
use crate::flow::Held;
use octant_api::agents::Amounts;
use octant_api::egress::Draw;
use octant_ids::Aid;
use octant_sys::clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How much is drawn at a time: an eighth of what was used, between these. What an agent does not use of it nobody else can
/// use meanwhile.
const BYTES: (u64, u64) = (256 << 10, 16 << 20);
const REQUESTS: (u64, u64) = (16, 1024);
/// How often who waits for an answer looks for it.
const LOOK: Duration = Duration::from_millis(1);
/// How long an answer may take. A service that is blocked makes the gate deny, not hang.
const WITHIN_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
struct State {
    limit: Amounts,
    used: Amounts,
    asking: Option<Question>,
    asked: u64,
    /// Of what the last answer gave no more, though more was wanted.
    short: Vec<Unit>,
    closed: bool,
}

/// A question that is not answered.
#[derive(Debug)]
struct Question {
    number: u64,
    since_ns: u64,
    want: Amounts,
}

fn piece(used: u64, (least, most): (u64, u64)) -> u64 {
    (used / 8).clamp(least, most)
}

impl State {
    /// How much of a unit there is yet.
    fn rest(&self, unit: Unit) -> u64 {
        unit.of(self.limit).saturating_sub(unit.of(self.used))
    }

    /// Whether it is time to ask for more of a unit: half of a piece is gone.
    fn low(&self, unit: Unit) -> bool {
        self.asking.is_none()
            && !self.short.contains(&unit)
            && self.rest(unit) < piece(unit.of(self.used), unit.pieces()) / 2
    }

    fn ask(&mut self, since_ns: u64) {
        let Amounts { bytes, requests, .. } = self.used;
        let want = Amounts {
            bytes: bytes.saturating_add(piece(bytes, BYTES)),
            requests: requests.saturating_add(piece(requests, REQUESTS)),
            ..Amounts::default()
        };
        self.asked += 1;
        self.asking = Some(Question { number: self.asked, since_ns, want: want.zip(self.limit, u64::max) });
    }
}

/// One agent's.
#[derive(Debug)]
pub(crate) struct Purse {
    aid: Aid,
    state: Mutex<State>,
    /// Whoever passes questions on.
    wake: Arc<Notify>,
}

/// Which of the amounts is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Requests,
}

impl Unit {
    const ALL: [Self; 2] = [Self::Bytes, Self::Requests];

    fn of(self, amounts: Amounts) -> u64 {
        match self {
            Self::Bytes => amounts.bytes,
            Self::Requests => amounts.requests,
        }
    }

    fn pieces(self) -> (u64, u64) {
        match self {
            Self::Bytes => BYTES,
            Self::Requests => REQUESTS,
        }
    }

    /// So many of it, and of nothing else.
    fn amount(self, count: u64) -> Amounts {
        match self {
            Self::Bytes => Amounts { bytes: count, ..Amounts::default() },
            Self::Requests => Amounts { requests: count, ..Amounts::default() },
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Bytes => "network.bytes",
            Self::Requests => "network.requests",
        }
    }
}

impl Purse {
    pub(crate) fn new(aid: Aid, wake: Arc<Notify>) -> Self {
        Self { aid, state: Mutex::default(), wake }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to so many bytes.
    ///
    /// # Errors
    /// That there are none, or for how long to wait.
    pub(crate) fn take_bytes(&self, wanted: u64) -> Result<u64, Held> {
        self.take(Unit::Bytes, wanted)
    }

    /// Gives back bytes that were taken and not used.
    pub(crate) fn return_bytes(&self, count: u64) {
        let mut state = self.state();
        state.used.bytes = state.used.bytes.saturating_sub(count);
    }

    /// Takes one request, and waits for it where it has to.
    pub(crate) async fn take_request(&self) -> Result<(), Denied> {
        loop {
            match self.take(Unit::Requests, 1) {
                Ok(_) => return Ok(()),
                Err(Held::Wait(pause)) => tokio::time::sleep(pause).await,
                Err(Held::Cut(why)) => return Err(why),
            }
        }
    }

    fn take(&self, unit: Unit, wanted: u64) -> Result<u64, Held> {
        let mut state = self.state();
        if state.closed {
            return Err(Held::Cut(Denied::Dismissed));
        }
        let got = wanted.min(state.rest(unit));
        state.used = state.used.zip(unit.amount(got), u64::saturating_add);
        let now = clock::monotonic_ns();
        if got == 0 {
            let late = state.asking.as_ref().is_some_and(|asked| now - asked.since_ns > WITHIN_NS);
            if late || state.short.contains(&unit) {
                // The next that comes has it asked for again: something may have come back meanwhile.
                state.asking = state.asking.take().filter(|_| !late);
                state.short.retain(|short| *short != unit);
                return Err(Held::Cut(Denied::Budget(unit.field())));
            }
        }
        if state.low(unit) {
            state.ask(now);
            drop(state);
            self.wake.notify_waiters();
        }
        if got == 0 { Err(Held::Wait(LOOK)) } else { Ok(got) }
    }

    /// The question that is not answered, with its number.
    pub(crate) fn question(&self) -> Option<(u64, Draw)> {
        let state = self.state();
        let asked = state.asking.as_ref()?;
        Some((asked.number, Draw { aid: self.aid, used: state.used, want: asked.want }))
    }

    /// Takes an answer: up to how much may be used.
    pub(crate) fn fund(&self, limit: Amounts) {
        let mut state = self.state();
        let before = state.limit;
        let limit = before.zip(limit, u64::max);
        state.limit = limit;
        let Some(Question { want, .. }) = state.asking.take() else { return };
        // Some of what was wanted is given in parts; nothing at all is the end.
        let ends = |unit: &Unit| unit.of(limit) < unit.of(want) && unit.of(limit) == unit.of(before);
        state.short = Unit::ALL.into_iter().filter(ends).collect();
    }

    /// Ends it: nothing can be taken any more. What was used.
    pub(crate) fn close(&self) -> Amounts {
        let mut state = self.state();
        state.closed = true;
        state.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn purse() -> Purse {
        Purse::new(Aid::from_bytes([1; 16]), Arc::default())
    }

    impl Purse {
        fn close_look(&self) -> u64 {
            self.state().used.bytes
        }
    }

    fn amounts(bytes: u64, requests: u64) -> Amounts {
        Amounts { bytes, requests, ..Amounts::default() }
    }

    /// Answers what is asked, out of so much in all.
    fn answer(purse: &Purse, total: Amounts) {
        if let Some((_, draw)) = purse.question() {
            purse.fund(draw.want.zip(total, u64::min));
        }
    }

    #[test]
    fn the_last_unit_is_the_last() {
        let purse = purse();
        assert!(matches!(purse.take_bytes(10), Err(Held::Wait(_))), "the first waits for an answer");
        assert!(matches!(purse.take_bytes(10), Err(Held::Wait(_))));
        let total = amounts(300_001, 5);
        answer(&purse, total);
        let mut got = 0;
        loop {
            match purse.take_bytes(1000) {
                Ok(count) => got += count,
                Err(Held::Wait(_)) => answer(&purse, total),
                Err(Held::Cut(why)) => {
                    assert_eq!(why, Denied::Budget("network.bytes"));
                    break;
                }
            }
        }
        assert_eq!(got, 300_001, "to the unit");
        purse.return_bytes(1);
        assert_eq!(purse.take_bytes(9), Ok(1), "what did not go is there again");
        assert!(matches!(purse.take_bytes(9), Err(Held::Wait(_))), "and then it is asked for again");
        answer(&purse, amounts(400_000, 5));
        assert_eq!(purse.take_bytes(9), Ok(9), "since something may have come back");
        assert_eq!(purse.close().bytes, 300_010);
        assert!(matches!(purse.take_bytes(9), Err(Held::Cut(Denied::Dismissed))));
    }

    #[test]
    fn a_part_of_what_was_wanted_is_not_the_end() {
        let purse = purse();
        let _ = purse.take_bytes(1);
        for limit in [1, 5, 7] {
            purse.fund(amounts(limit, 0));
            let before = purse.close_look();
            assert_eq!(purse.take_bytes(100), Ok(limit - before), "all of the part");
            assert!(matches!(purse.take_bytes(1), Err(Held::Wait(_))), "and the rest is asked for");
        }
        purse.fund(amounts(7, 0));
        assert!(matches!(purse.take_bytes(1), Err(Held::Cut(Denied::Budget(_)))), "no more is the end");
        assert!(matches!(purse.take(Unit::Requests, 1), Err(Held::Cut(_))), "of requests too");
    }

    #[test]
    fn a_question_is_asked_before_the_piece_is_used_up() {
        let purse = purse();
        let _ = purse.take_bytes(1);
        answer(&purse, amounts(u64::MAX, u64::MAX));
        let mut waits = 0;
        for _ in 0..10_000 {
            match purse.take_bytes(64 << 10) {
                Ok(_) => answer(&purse, amounts(u64::MAX, u64::MAX)),
                Err(_) => waits += 1,
            }
        }
        assert_eq!(waits, 0, "no packet waits where answers come in time");
        let asked = purse.state().asked;
        assert!(asked < 600, "{asked} questions for 10,000 pieces of 64 KiB");
    }

    proptest! {
        #[test]
        fn nobody_uses_more_than_there_is(
            total in 0_u64..2_000_000, steps in prop::collection::vec((0_u64..100_000, any::<bool>(), 0_u64..1000), 0..200)
        ) {
            let purse = purse();
            let mut used = 0;
            for (wanted, answers, back) in steps {
                if let Ok(got) = purse.take_bytes(wanted) {
                    let back = back.min(got);
                    purse.return_bytes(back);
                    used += got - back;
                }
                if answers {
                    answer(&purse, amounts(total, 0));
                }
                prop_assert!(used <= total);
                prop_assert_eq!(purse.state().used.bytes, used);
            }
        }
    }
}
