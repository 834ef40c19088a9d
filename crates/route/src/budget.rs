//! What may be used in a minute, in a day, in all: reserved before, settled after.
//!
//! A reservation counts in every window until it is settled, so that calls under way together cannot use more than there is;
//! what it comes to counts in the windows in which it is settled. Times are milliseconds since 1970; minutes and days are
//! UTC's. A clock that goes back does not bring a window back.

use octant_llm::{Failure, Kind};
use std::collections::BTreeMap;
use std::fmt;

/// Tokens, and millionths of a US dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Tokens.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub microusd: u64,
}

impl Amount {
    /// Without a limit.
    pub const UNLIMITED: Self = Self { tokens: u64::MAX, microusd: u64::MAX };

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self { tokens: f(self.tokens, other.tokens), microusd: f(self.microusd, other.microusd) }
    }

    fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }
}

/// How much an account may use in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In a minute.
    pub minute: Amount,
    /// In a day.
    pub day: Amount,
    /// In all.
    pub total: Amount,
}

impl Default for Limits {
    fn default() -> Self {
        Self { minute: Amount::UNLIMITED, day: Amount::UNLIMITED, total: Amount::UNLIMITED }
    }
}

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A minute.
    Minute,
    /// A day.
    Day,
    /// For ever.
    Total,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Day, Self::Total];

    fn length_ms(self) -> u64 {
        match self {
            Self::Minute => 60_000,
            Self::Day => 86_400_000,
            Self::Total => u64::MAX,
        }
    }

    fn of(self, limits: &Limits) -> Amount {
        match self {
            Self::Minute => limits.minute,
            Self::Day => limits.day,
            Self::Total => limits.total,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "in this minute",
            Self::Day => "today (UTC)",
            Self::Total => "in all",
        })
    }
}

/// What was used in one window: the number of the window since 1970, and how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Which.
    pub number: u64,
    /// How much.
    pub amount: Amount,
}

#[derive(Debug, Clone, Default)]
struct Account {
    limits: Limits,
    used: [Used; 3],
    reserved: Amount,
}

impl Account {
    fn used(&self, span: Span, now_ms: u64) -> Used {
        let used = self.used[span as usize];
        let number = now_ms / span.length_ms();
        if number > used.number { Used { number, amount: Amount::default() } } else { used }
    }

    fn left(&self, span: Span, now_ms: u64) -> Amount {
        span.of(&self.limits).minus(self.used(span, now_ms).amount).minus(self.reserved)
    }
}

/// There is not so much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded<K> {
    /// Whose.
    pub account: K,
    /// In which window.
    pub span: Span,
    /// Of what: `tokens` or `microusd`.
    pub unit: &'static str,
    /// How much there may be.
    pub cap: u64,
    /// How much is left.
    pub left: u64,
    /// How much was asked for.
    pub wanted: u64,
    /// In how many milliseconds the next window begins.
    pub again_in_ms: Option<u64>,
}

impl<K: fmt::Display> Exceeded<K> {
    /// What is said to who asked.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let Self { account, span, unit, cap, left, wanted, again_in_ms } = self;
        let message = format!(
            "the budget of {account} is used up: the call may need {wanted} {unit}, and {left} of {cap} are left {span}"
        );
        let kind = if *span == Span::Minute { Kind::RateLimited } else { Kind::Spent };
        let mut failure = Failure::new(kind, message);
        // Who asks for more than there ever is need not come again.
        failure.retry_after_ms = again_in_ms.filter(|_| wanted <= cap);
        failure
    }
}

/// What is reserved for one call. It is given back by [`Books::settle`] or [`Books::release`], whatever happens.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Reservation<K> {
    accounts: Vec<K>,
    amount: Amount,
}

impl<K> Reservation<K> {
    /// How much.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }
}

/// The accounts: of agents, of those below an agent together, of operators.
#[derive(Debug, Clone)]
pub struct Books<K> {
    accounts: BTreeMap<K, Account>,
}

impl<K> Default for Books<K> {
    fn default() -> Self {
        Self { accounts: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Books<K> {
    /// Says how much an account may use; what it has used stays.
    pub fn limit(&mut self, account: K, limits: Limits) {
        self.accounts.entry(account).or_default().limits = limits;
    }

    /// Says what an account had used before a restart.
    pub fn restore(&mut self, account: K, used: [Used; 3]) {
        self.accounts.entry(account).or_default().used = used;
    }

    /// What an account has used, by window, and what is reserved.
    #[must_use]
    pub fn used(&self, account: &K, now_ms: u64) -> Option<([Used; 3], Amount)> {
        let found = self.accounts.get(account)?;
        Some((Span::ALL.map(|span| found.used(span, now_ms)), found.reserved))
    }

    /// Forgets an account.
    pub fn forget(&mut self, account: &K) {
        self.accounts.remove(account);
    }

    /// The most that could be reserved in all of these accounts together. An account that nobody knows has nothing.
    #[must_use]
    pub fn room(&self, accounts: &[K], now_ms: u64) -> Amount {
        accounts.iter().fold(Amount::UNLIMITED, |room, account| {
            let Some(found) = self.accounts.get(account) else { return Amount::default() };
            Span::ALL.into_iter().fold(room, |room, span| room.zip(found.left(span, now_ms), u64::min))
        })
    }

    /// Reserves so much in each of these accounts, or in none.
    ///
    /// # Errors
    /// In which there is not so much. An account that nobody knows has nothing.
    pub fn reserve(
        &mut self,
        accounts: &[K],
        amount: Amount,
        now_ms: u64,
    ) -> Result<Reservation<K>, Exceeded<K>> {
        let mut own: Vec<K> = accounts.to_vec();
        own.sort();
        own.dedup();
        let nothing = Amount::default();
        let unknown = Account {
            limits: Limits { minute: nothing, day: nothing, total: nothing },
            ..Account::default()
        };
        for account in &own {
            let found = self.accounts.get(account).unwrap_or(&unknown);
            for span in Span::ALL {
                let (cap, left) = (span.of(&found.limits), found.left(span, now_ms));
                let again_in_ms = (span != Span::Total).then(|| span.length_ms() - now_ms % span.length_ms());
                let short = |unit, cap, left, wanted| Exceeded {
                    account: account.clone(),
                    span,
                    unit,
                    cap,
                    left,
                    wanted,
                    again_in_ms,
                };
                if amount.tokens > left.tokens {
                    return Err(short("tokens", cap.tokens, left.tokens, amount.tokens));
                }
                if amount.microusd > left.microusd {
                    return Err(short("microusd", cap.microusd, left.microusd, amount.microusd));
                }
            }
        }
        for account in &own {
            if let Some(found) = self.accounts.get_mut(account) {
                found.reserved = found.reserved.plus(amount);
            }
        }
        Ok(Reservation { accounts: own, amount })
    }

    /// What the call came to. More than was reserved is owed all the same, and stands in the way of the next.
    pub fn settle(&mut self, reservation: Reservation<K>, used: Amount, now_ms: u64) {
        for account in &reservation.accounts {
            let Some(found) = self.accounts.get_mut(account) else { continue };
            found.reserved = found.reserved.minus(reservation.amount);
            for span in Span::ALL {
                let mut window = found.used(span, now_ms);
                window.amount = window.amount.plus(used);
                found.used[span as usize] = window;
            }
        }
    }

    /// The call came to nothing.
    pub fn release(&mut self, reservation: Reservation<K>, now_ms: u64) {
        self.settle(reservation, Amount::default(), now_ms);
    }
}
