//! What callers may use in a minute, in a day, in all, alone and together; and what of that outlives the router.
//!
//! A cap of a day, or of all, holds over a restart too, also one that nobody expected: before a call may use more than the
//! file says, the file says so. It is written some way ahead, so few calls wait for it, and a router that was killed counts
//! what was written as used. One that stops in order writes what was used. The ledger has the same numbers, but they would
//! have to be read out of the partitions of every agent at each start, sealed ones too.

use crate::agents::lock;
use octant_ids::Aid;
use octant_route::{Amount, Books, Exceeded, Limits, Reservation, Span, Used};
use octant_service::{read_kept, replace};
use octant_sys::clock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// How far ahead is written, as a part of the cap.
const AHEAD: u64 = 64;
/// The longest file that is read, in bytes, and how many accounts there are in it.
const FILE_MAX: u64 = 8 << 20;
const ACCOUNTS_MAX: usize = 16_384;
const DAY_MS: u64 = 86_400_000;

/// What the file says of one account: up to how much it may have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// The number of the day since 1970.
    day: u64,
    /// Tokens and millionths of a dollar, on that day.
    used_that_day: (u64, u64),
    /// The same, in all.
    used: (u64, u64),
}

type Claims = BTreeMap<Aid, Claim>;

/// Why nothing is reserved.
#[derive(Debug)]
pub(crate) enum NoWindow {
    Exceeded(Exceeded<Aid>),
    /// What may be used cannot be written down.
    Unkept(String),
}

/// What is given back unless it is taken out: who asks can go away while it waits.
struct Held<'a> {
    windows: &'a Windows,
    reserved: Option<Reservation<Aid>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            lock(&self.windows.books).release(reserved, clock::wall_ms());
        }
    }
}

/// The windows of all callers.
#[derive(Debug)]
pub(crate) struct Windows {
    books: Mutex<Books<Aid>>,
    path: PathBuf,
    /// Why what was used before is not known; then nothing is reserved where that counts.
    fault: Option<String>,
    claims: Mutex<Claims>,
    /// Held by who writes.
    turn: tokio::sync::Mutex<()>,
}

fn amount((tokens, microusd): (u64, u64)) -> Amount {
    Amount { tokens, microusd }
}

/// Whether there is a cap of what is used in all.
fn counted(limits: &Limits) -> bool {
    limits.total != Amount::UNLIMITED
}

/// Whether a restart has to know what was used.
fn outlasts(limits: &Limits) -> bool {
    limits.day != Amount::UNLIMITED || counted(limits)
}

impl Windows {
    /// With what was used before, as far as that counts now.
    pub(crate) fn open(path: PathBuf) -> Self {
        let (mut claims, fault) = match read_kept::<Claims>(&path, FILE_MAX) {
            Ok(claims) => (claims, None),
            Err(why) => (Claims::new(), Some(format!("{}: {why}", path.display()))),
        };
        if let Some(why) = &fault {
            tracing::error!("whoever has a cap of a day or in all may use nothing: {why}");
        }
        let today = clock::wall_ms() / DAY_MS;
        // Of agents that are gone nothing is worth anything tomorrow.
        claims.retain(|_, claim| claim.day >= today || claim.used != (0, 0));
        let mut books = Books::default();
        for (account, claim) in &claims {
            let day = Used { number: claim.day, amount: amount(claim.used_that_day) };
            let total = Used { number: 0, amount: amount(claim.used) };
            books.restore(*account, [Used::default(), day, total]);
        }
        let (books, claims) = (Mutex::new(books), Mutex::new(claims));
        Self { books, path, fault, claims, turn: tokio::sync::Mutex::default() }
    }

    /// The most that these accounts have room for together.
    pub(crate) fn room(&self, accounts: &[(Aid, Limits)]) -> Amount {
        let mut books = lock(&self.books);
        for (account, limits) in accounts {
            books.limit(*account, *limits);
        }
        books.room(&names(accounts), clock::wall_ms())
    }

    /// Reserves in all of them, or in none.
    pub(crate) async fn reserve(
        &self,
        accounts: &[(Aid, Limits)],
        amount: Amount,
    ) -> Result<Reservation<Aid>, NoWindow> {
        let now = clock::wall_ms();
        let reserved = lock(&self.books).reserve(&names(accounts), amount, now);
        let reserved = reserved.map_err(NoWindow::Exceeded)?;
        let outlast: Vec<_> = accounts.iter().filter(|(_, limits)| outlasts(limits)).copied().collect();
        if outlast.is_empty() {
            return Ok(reserved);
        }
        let mut held = Held { windows: self, reserved: Some(reserved) };
        self.claim(&outlast, now).await.map_err(NoWindow::Unkept)?;
        held.reserved.take().ok_or_else(|| NoWindow::Unkept("it was given back".to_owned()))
    }

    /// What a call came to.
    pub(crate) fn settle(&self, reserved: Reservation<Aid>, used: Amount) {
        lock(&self.books).settle(reserved, used, clock::wall_ms());
    }

    /// Forgets an account: with the next that is written it is in the file no more.
    pub(crate) fn forget(&self, account: &Aid) {
        lock(&self.books).forget(account);
        lock(&self.claims).remove(account);
    }

    /// What can have been used by now; in all only where that is `counted`.
    fn now(&self, account: &Aid, counted: bool, now_ms: u64) -> Claim {
        let books = lock(&self.books);
        let Some((used, reserved)) = books.used(account, now_ms) else { return Claim::default() };
        let of = |span: Span| {
            let used = used[span as usize].amount;
            let tokens = used.tokens.saturating_add(reserved.tokens);
            (tokens, used.microusd.saturating_add(reserved.microusd))
        };
        let day = used[Span::Day as usize].number.max(now_ms / DAY_MS);
        Claim { day, used_that_day: of(Span::Day), used: if counted { of(Span::Total) } else { (0, 0) } }
    }

    /// Whether the file says as much already.
    fn covered(&self, accounts: &[(Aid, Limits)], now_ms: u64) -> bool {
        let within = |is: (u64, u64), said: (u64, u64), cap: Amount| {
            let within = |is, said, cap| is <= said || cap == u64::MAX;
            within(is.0, said.0, cap.tokens) && within(is.1, said.1, cap.microusd)
        };
        accounts.iter().all(|(account, limits)| {
            let is = self.now(account, counted(limits), now_ms);
            let Some(said) = lock(&self.claims).get(account).copied() else { return false };
            said.day == is.day
                && within(is.used_that_day, said.used_that_day, limits.day)
                && within(is.used, said.used, limits.total)
        })
    }

    /// Has the file say what these may have used, and some more.
    async fn claim(&self, accounts: &[(Aid, Limits)], now_ms: u64) -> Result<(), String> {
        if self.covered(accounts, now_ms) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if self.covered(accounts, now_ms) {
            return Ok(());
        }
        let mut next = lock(&self.claims).clone();
        let beyond = |used: (u64, u64), cap: Amount| {
            let beyond = |used: u64, cap: u64| match cap {
                u64::MAX => used,
                cap => used.saturating_add(cap / AHEAD).min(cap.max(used)),
            };
            (beyond(used.0, cap.tokens), beyond(used.1, cap.microusd))
        };
        for (account, limits) in accounts {
            let mut claim = self.now(account, counted(limits), now_ms);
            claim.used_that_day = beyond(claim.used_that_day, limits.day);
            if counted(limits) {
                claim.used = beyond(claim.used, limits.total);
            }
            next.insert(*account, claim);
        }
        if next.len() > ACCOUNTS_MAX {
            return Err(format!(
                "there are more than {ACCOUNTS_MAX} accounts with a cap that outlasts the router"
            ));
        }
        self.write(next).await
    }

    /// Writes what was used, and no more: the router stops.
    pub(crate) async fn close(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let (now_ms, claims) = (clock::wall_ms(), lock(&self.claims).clone());
        let exact =
            |(account, claim): (&Aid, &Claim)| (*account, self.now(account, claim.used != (0, 0), now_ms));
        let exact = claims.iter().map(exact).collect();
        self.write(exact).await
    }

    /// For who has the turn.
    async fn write(&self, claims: Claims) -> Result<(), String> {
        if let Some(why) = &self.fault {
            return Err(why.clone());
        }
        let (path, text) =
            (self.path.clone(), serde_json::to_vec(&claims).map_err(|error| error.to_string())?);
        let written = tokio::task::spawn_blocking(move || replace(&path, &text, true)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        *lock(&self.claims) = claims;
        Ok(())
    }
}

fn names(accounts: &[(Aid, Limits)]) -> Vec<Aid> {
    accounts.iter().map(|(account, _)| *account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const CAP: u64 = 1000;

    fn limits(total: u64) -> Limits {
        Limits { total: Amount { tokens: total, microusd: u64::MAX }, ..Limits::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Calls of 64 callers begin, end with less than was reserved, or are lost with a router that is killed: what
        /// they can have used is never more than the cap, alone and together.
        #[test]
        fn no_cap_is_passed_whenever_the_router_is_killed(steps in vec((0..64_u8, 1..80_u64, 0..8_u8), 1..120)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let dir = std::env::temp_dir().join(format!("octant-windows-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let path = dir.join("windows.json");
            let _ = std::fs::remove_file(&path);
            let all = Aid::from_bytes([255; 16]);
            let mut windows = Windows::open(path.clone());
            let (mut under_way, mut used) = (Vec::new(), BTreeMap::<Aid, u64>::new());
            for (caller, tokens, step) in steps {
                let own = Aid::from_bytes([caller % 4; 16]);
                let accounts = [(own, limits(CAP / 2)), (all, limits(CAP))];
                match step {
                    0 => {
                        // What was under way may have been used, all of it.
                        for (own, amount, _) in under_way.drain(..) {
                            *used.entry(own).or_default() += amount;
                        }
                        windows = Windows::open(path.clone());
                    }
                    1..=3 => if let Some((own, amount, reserved)) = under_way.pop() {
                        let amount = tokens.min(amount);
                        *used.entry(own).or_default() += amount;
                        windows.settle(reserved, Amount { tokens: amount, microusd: 1 });
                    },
                    _ => {
                        windows.room(&accounts);
                        let amount = Amount { tokens, microusd: 1 };
                        if let Ok(reserved) = runtime.block_on(windows.reserve(&accounts, amount)) {
                            under_way.push((own, tokens, reserved));
                        }
                    }
                }
                let held = |own: Option<Aid>| {
                    let open = under_way.iter().filter(|(of, ..)| own.is_none_or(|own| own == *of));
                    let used = used.iter().filter(|(of, _)| own.is_none_or(|own| own == **of));
                    open.map(|(_, amount, _)| amount).sum::<u64>() + used.map(|(_, amount)| amount).sum::<u64>()
                };
                prop_assert!(held(None) <= CAP && held(Some(own)) <= CAP / 2);
            }
        }
    }

    #[tokio::test]
    async fn who_goes_away_while_it_is_written_down_gives_back_what_was_reserved() {
        let dir = std::env::temp_dir().join(format!("octant-gone-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let windows = Windows::open(dir.join("windows.json"));
        let accounts = [(Aid::from_bytes([1; 16]), limits(CAP))];
        windows.room(&accounts);
        let amount = Amount { tokens: CAP, microusd: 1 };
        let turn = windows.turn.lock().await;
        let mut asking = Box::pin(windows.reserve(&accounts, amount));
        tokio::select! {
            biased;
            _ = &mut asking => panic!("it has the turn, which somebody else has"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(windows.room(&accounts).tokens, 0);
        drop(asking);
        assert_eq!(windows.room(&accounts).tokens, CAP);
        drop(turn);
        assert!(windows.reserve(&accounts, amount).await.is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn what_was_used_and_cannot_be_read_lets_nobody_use_more() {
        let dir = std::env::temp_dir().join(format!("octant-unread-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("windows.json");
        std::fs::write(&path, "[]").unwrap();
        let windows = Windows::open(path.clone());
        let one = Amount { tokens: 1, microusd: 0 };
        let capped = [(Aid::from_bytes([1; 16]), limits(CAP))];
        windows.room(&capped);
        assert!(matches!(windows.reserve(&capped, one).await, Err(NoWindow::Unkept(_))));
        // Who has no cap that outlasts the router loses nothing by it.
        let free = [(Aid::from_bytes([2; 16]), Limits::default())];
        windows.room(&free);
        assert!(windows.reserve(&free, one).await.is_ok());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[]");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
