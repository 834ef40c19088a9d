//! What an agent may use up of its budgets, drawn from them before it is used: reserved for each call, settled after it.
//!
//! The router says by `router.watch` up to how much it may have to use, and is told by `router.fund` up to how much it may.
//! Both are totals since its start, so that what is said twice counts once. It asks for an eighth of what was used more than a
//! call needs, and again before that is gone: an agent's first calls wait for an answer each, and hardly any of its
//! thousandth. What is reserved for calls that are under way when the agent ends counts as used.

use crate::core::Denied;
use octant_api::agents::Amounts;
use octant_api::egress::Draw;
use octant_ids::Aid;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an answer may take. A service that is blocked makes the router deny, not hang.
const WITHIN: Duration = Duration::from_secs(10);
/// The most that is asked for in advance. What an agent does not use of it nobody else can use meanwhile.
const AHEAD: Amounts = Amounts { tokens: 1 << 20, microusd: 10_000_000, bytes: 0, requests: 0 };

#[derive(Debug, Default)]
struct State {
    limit: Amounts,
    used: Amounts,
    reserved: Amounts,
    /// What is asked for and not answered.
    asking: Option<Amounts>,
    /// How many questions were asked, and how many answered.
    asked: u64,
    answered: u64,
    /// Of what the last answer gave nothing, though more was wanted.
    dry: Vec<Unit>,
    closed: bool,
}

/// What is counted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Tokens,
    Money,
}

impl Unit {
    const ALL: [Self; 2] = [Self::Tokens, Self::Money];

    fn of(self, amounts: Amounts) -> u64 {
        match self {
            Self::Tokens => amounts.tokens,
            Self::Money => amounts.microusd,
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Tokens => "models.tokens",
            Self::Money => "models.spend_usd",
        }
    }
}

impl State {
    fn taken(&self) -> Amounts {
        self.used.zip(self.reserved, u64::saturating_add)
    }

    fn free(&self) -> Amounts {
        self.limit.zip(self.taken(), u64::saturating_sub)
    }

    /// As much as is asked for in advance.
    fn ahead(&self) -> Amounts {
        self.used.zip(AHEAD, |used, most| (used / 8).min(most))
    }

    fn take(&mut self, amounts: Amounts) -> Amounts {
        self.reserved = self.reserved.zip(amounts, u64::saturating_add);
        amounts
    }

    fn ask(&mut self, most: Amounts) {
        let want = self.taken().zip(most, u64::saturating_add).zip(self.ahead(), u64::saturating_add);
        self.asked += 1;
        self.asking = Some(want.zip(self.limit, u64::max));
    }

    /// Whether it is time to ask for more: half of what was asked for in advance is gone, and more may be given.
    fn is_low(&self) -> bool {
        let (free, ahead) = (self.free(), self.ahead());
        let low = |unit: &Unit| !self.dry.contains(unit) && unit.of(free) < unit.of(ahead) / 2;
        self.asking.is_none() && Unit::ALL.iter().any(low)
    }

    /// The units of which there is less than this.
    fn short_of(&self, amounts: Amounts) -> Vec<Unit> {
        let free = self.free();
        Unit::ALL.into_iter().filter(|unit| unit.of(free) < unit.of(amounts)).collect()
    }
}

/// One agent's.
#[derive(Debug)]
pub(crate) struct Purse {
    aid: Aid,
    state: Mutex<State>,
    /// Whoever passes questions on.
    wake: Arc<Notify>,
    /// Who waits for an answer.
    funded: Notify,
}

/// What is reserved for a call. Dropped without a word it is given back.
#[derive(Debug)]
pub(crate) struct Hold {
    purse: Arc<Purse>,
    amounts: Amounts,
}

impl Hold {
    pub(crate) fn amounts(&self) -> Amounts {
        self.amounts
    }

    /// Gives back what is beyond so much.
    pub(crate) fn shrink(&mut self, to: Amounts) {
        let to = to.zip(self.amounts, u64::min);
        let back = self.amounts.zip(to, u64::saturating_sub);
        let mut state = self.purse.state();
        state.reserved = state.reserved.zip(back, u64::saturating_sub);
        self.amounts = to;
    }

    /// So much was used, be it more than was reserved.
    pub(crate) fn settle(mut self, used: Amounts) {
        {
            let mut state = self.purse.state();
            state.used = state.used.zip(used, u64::saturating_add);
        }
        self.shrink(Amounts::default());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shrink(Amounts::default());
    }
}

impl Purse {
    pub(crate) fn new(aid: Aid, wake: Arc<Notify>) -> Self {
        Self { aid, state: Mutex::default(), wake, funded: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves as much as `most`, or where there is not so much what there is, if that is as much as `least`.
    ///
    /// # Errors
    /// Which budget is used up, or that what is left is reserved for calls that are under way.
    pub(crate) async fn reserve(self: &Arc<Self>, least: Amounts, most: Amounts) -> Result<Hold, Denied> {
        let mut mine = None;
        loop {
            let funded = self.funded.notified();
            tokio::pin!(funded);
            // Before the look, so that no answer falls between.
            funded.as_mut().enable();
            {
                let mut state = self.state();
                if state.closed {
                    return Err(Denied::Dismissed);
                }
                let answered = mine.is_some_and(|number| state.answered >= number);
                let given_out = |unit: &Unit| answered && state.dry.contains(unit);
                if let Some(unit) = state.short_of(least).into_iter().find(given_out) {
                    return Err(lacking(&state, unit, least));
                }
                if state.short_of(most).iter().all(given_out) {
                    let amounts = state.free().zip(most, u64::min);
                    let amounts = state.take(amounts);
                    if state.is_low() {
                        state.ask(Amounts::default());
                        self.wake.notify_waiters();
                    }
                    return Ok(Hold { purse: Arc::clone(self), amounts });
                }
                if mine.is_none() || answered {
                    if state.asking.is_none() {
                        state.ask(most);
                        self.wake.notify_waiters();
                    }
                    mine = Some(state.asked);
                }
            }
            if tokio::time::timeout(WITHIN, funded).await.is_err() {
                // The next that comes has it asked for again.
                self.state().asking = None;
                return Err(Denied::NoWord);
            }
        }
    }

    /// The question that is not answered, with its number.
    pub(crate) fn question(&self) -> Option<(u64, Draw)> {
        let state = self.state();
        let want = state.asking?;
        Some((state.asked, Draw { aid: self.aid, used: state.used, want }))
    }

    /// Takes an answer: up to how much may be used.
    pub(crate) fn fund(&self, limit: Amounts) {
        let mut state = self.state();
        let before = state.limit;
        state.limit = before.zip(limit, u64::max);
        if let Some(want) = state.asking.take() {
            // Some of what was wanted is given in parts; nothing at all of what lacks is the end.
            let stuck = |unit: &Unit| {
                let now = unit.of(state.limit);
                now < unit.of(want) && now == unit.of(before)
            };
            state.dry = Unit::ALL.into_iter().filter(stuck).collect();
            state.answered = state.asked;
        }
        drop(state);
        self.funded.notify_waiters();
    }

    /// Ends it: nothing can be reserved any more. What was used.
    pub(crate) fn close(&self) -> Amounts {
        let mut state = self.state();
        state.closed = true;
        let all = state.used.zip(state.reserved, u64::saturating_add);
        drop(state);
        self.funded.notify_waiters();
        all
    }
}

/// Why there is too little: it is used up, or only reserved.
fn lacking(state: &State, unit: Unit, least: Amounts) -> Denied {
    let all = unit.of(state.limit).saturating_sub(unit.of(state.used));
    let reserved = unit.of(state.reserved) > 0 && all >= unit.of(least);
    if reserved { Denied::Reserved(unit.field()) } else { Denied::Budget(unit.field()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(tokens: u64) -> Amounts {
        Amounts { tokens, ..Amounts::default() }
    }

    fn purse() -> Arc<Purse> {
        Arc::new(Purse::new(Aid::from_bytes([1; 16]), Arc::default()))
    }

    /// Answers every question out of so much in all, a quarter at a time as `agents` does.
    fn bank(purse: &Arc<Purse>, total: u64, step: u64) -> tokio::task::JoinHandle<()> {
        let purse = Arc::clone(purse);
        tokio::spawn(async move {
            let mut given = 0;
            loop {
                if let Some((_, draw)) = purse.question() {
                    given = draw.want.tokens.min(total).min(given + step).max(given);
                    purse.fund(tokens(given));
                }
                tokio::task::yield_now().await;
            }
        })
    }

    #[tokio::test]
    async fn what_is_reserved_nobody_else_has_and_what_is_not_used_comes_back() {
        let purse = purse();
        let bank = bank(&purse, 1000, 300);
        let first = purse.reserve(tokens(700), tokens(700)).await.unwrap();
        assert_eq!(first.amounts(), tokens(700));
        let denied = purse.reserve(tokens(400), tokens(400)).await.unwrap_err();
        assert_eq!(denied, Denied::Reserved("models.tokens"));
        let part = purse.reserve(tokens(100), tokens(400)).await.unwrap();
        assert_eq!(part.amounts(), tokens(300), "what there is");
        first.settle(tokens(650));
        drop(part);
        let rest = purse.reserve(tokens(1), tokens(9999)).await.unwrap();
        assert_eq!(rest.amounts(), tokens(350));
        rest.settle(tokens(350));
        let denied = purse.reserve(tokens(1), tokens(1)).await.unwrap_err();
        assert_eq!(denied, Denied::Budget("models.tokens"));
        assert_eq!(purse.close(), tokens(1000), "to the unit");
        assert_eq!(purse.reserve(tokens(0), tokens(0)).await.unwrap_err(), Denied::Dismissed);
        bank.abort();
    }

    #[tokio::test]
    async fn of_many_calls_hardly_any_waits_for_an_answer() {
        let purse = purse();
        let bank = bank(&purse, u64::MAX / 2, u64::MAX / 4);
        for _ in 0..1000 {
            purse.reserve(tokens(100), tokens(100)).await.unwrap().settle(tokens(100));
        }
        bank.abort();
        let asked = purse.state().asked;
        assert!(asked < 100, "{asked} questions");
        assert!(purse.state().limit.tokens < 120_000, "an eighth in advance, and no more");
        assert_eq!(purse.close(), tokens(100_000));
    }

    #[tokio::test]
    async fn that_there_is_no_more_money_is_no_word_of_tokens() {
        let purse = purse();
        let of = |tokens, microusd| Amounts { tokens, microusd, ..Amounts::default() };
        purse.fund(of(0, 100));
        purse.reserve(of(0, 80), of(0, 80)).await.unwrap().settle(of(0, 80));
        let given = Arc::clone(&purse);
        let bank = tokio::spawn(async move {
            let mut tokens = 0;
            loop {
                if given.question().is_some() {
                    tokens += 10;
                    given.fund(of(tokens, 100));
                }
                tokio::task::yield_now().await;
            }
        });
        let hold = purse.reserve(of(50, 15), of(50, 15)).await.unwrap();
        assert_eq!(hold.amounts(), of(50, 15), "more tokens were asked for until there were enough");
        hold.settle(of(50, 15));
        let denied = purse.reserve(of(5, 6), of(5, 6)).await.unwrap_err();
        assert_eq!(denied, Denied::Budget("models.spend_usd"));
        bank.abort();
    }

    #[tokio::test]
    async fn sixty_four_callers_stop_at_the_cap() {
        let purse = purse();
        let bank = bank(&purse, 10_000, 1_500);
        let callers: Vec<_> = (0..64_u64)
            .map(|number| {
                let purse = Arc::clone(&purse);
                tokio::spawn(async move {
                    let mut used = 0;
                    loop {
                        let want = tokens(1 + number % 7 * 10);
                        match purse.reserve(want, want).await {
                            Ok(hold) => {
                                tokio::task::yield_now().await;
                                used += want.tokens;
                                hold.settle(want);
                            }
                            Err(Denied::Reserved(_)) => tokio::task::yield_now().await,
                            Err(_) => return used,
                        }
                    }
                })
            })
            .collect();
        let mut all = 0;
        for caller in callers {
            all += caller.await.unwrap();
        }
        bank.abort();
        assert_eq!(purse.close().tokens, all);
        assert!(all <= 10_000 && all == 10_000, "those that want one stop at the last: {all}");
    }

    proptest! {
        #[test]
        fn nobody_uses_more_than_there_is(total in 0_u64..5000, wants in prop::collection::vec((1_u64..900, 0_u64..900), 0..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let used = runtime.block_on(async {
                let purse = purse();
                let bank = bank(&purse, total, total / 4 + 1);
                for (want, uses) in wants {
                    if let Ok(hold) = purse.reserve(tokens(1), tokens(want)).await {
                        let has = hold.amounts().tokens;
                        hold.settle(tokens(uses.min(has)));
                    }
                }
                bank.abort();
                purse.close().tokens
            });
            prop_assert!(used <= total);
        }
    }
}
