//! Budgets: to the unit, in any interleaving.

use crate::{Amount, Books, Limits, Reservation, Span, Used};
use octant_llm::Kind;
use proptest::prelude::*;

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, microusd: tokens * 3 }
}

fn books(minute: u64, day: u64, total: u64) -> Books<&'static str> {
    let mut books = Books::default();
    let limit = |count| Amount { tokens: count, microusd: u64::MAX };
    books.limit("a", Limits { minute: limit(minute), day: limit(day), total: limit(total) });
    books
}

#[test]
fn what_is_reserved_cannot_be_had_twice() {
    let mut books = books(100, 1000, 10_000);
    let first = books.reserve(&["a"], tokens(60), 0).unwrap();
    let short = books.reserve(&["a"], tokens(60), 1000).unwrap_err();
    assert_eq!((short.span, short.unit, short.cap, short.left), (Span::Minute, "tokens", 100, 40));
    assert_eq!(short.again_in_ms, Some(59_000));
    assert_eq!(books.room(&["a"], 0).tokens, 40);
    books.settle(first, tokens(10), 2000);
    assert_eq!(books.room(&["a"], 2000).tokens, 90);
    let again = books.reserve(&["a"], tokens(90), 2000).unwrap();
    books.release(again, 2000);
    assert_eq!(books.room(&["a"], 2000).tokens, 90, "what came to nothing is there again");
    let failure = short.failure();
    assert_eq!((failure.kind, failure.retry_after_ms), (Kind::RateLimited, Some(59_000)));
    assert!(
        failure.message.contains("the call may need 60 tokens, and 40 of 100 are left in this minute"),
        "{failure}"
    );
    let never = books.reserve(&["a"], tokens(101), 2000).unwrap_err().failure();
    assert_eq!(never.retry_after_ms, None, "there are never so many");
}

#[test]
fn windows_begin_anew_and_what_is_under_way_counts_in_the_next() {
    let mut books = books(100, 150, 1000);
    let held = books.reserve(&["a"], tokens(80), 59_999).unwrap();
    assert_eq!(books.room(&["a"], 60_000).tokens, 20, "a call under way may still use it");
    books.settle(held, tokens(80), 60_001);
    assert_eq!(books.room(&["a"], 60_002).tokens, 20);
    let next = books.reserve(&["a"], tokens(70), 120_000).unwrap();
    books.settle(next, tokens(70), 120_000);
    assert_eq!(books.reserve(&["a"], tokens(1), 180_000).unwrap_err().span, Span::Day);
    assert_eq!(books.room(&["a"], 86_400_000).tokens, 100);
    assert_eq!(books.room(&["a"], 60_000).tokens, 0, "a clock that goes back brings nothing back");
}

#[test]
fn more_than_was_reserved_is_owed() {
    let mut books = books(100, 1000, 1000);
    let held = books.reserve(&["a"], tokens(10), 0).unwrap();
    books.settle(held, tokens(130), 0);
    assert_eq!(books.room(&["a"], 0).tokens, 0);
    let (used, reserved) = books.used(&"a", 0).unwrap();
    assert_eq!((used[0].amount.tokens, used[2].amount.tokens, reserved.tokens), (130, 130, 0));
    assert!(books.reserve(&["a"], tokens(1), 0).is_err());
    assert!(books.reserve(&["a"], tokens(0), 0).is_ok(), "nothing is always there");
}

#[test]
fn all_accounts_or_none() {
    let mut books = books(100, 100, 100);
    books.limit("b", Limits { total: Amount { tokens: u64::MAX, microusd: 5 }, ..Limits::default() });
    let short = books.reserve(&["a", "b"], Amount { tokens: 1, microusd: 6 }, 0).unwrap_err();
    assert_eq!((short.account, short.unit, short.span), ("b", "microusd", Span::Total));
    assert_eq!(short.failure().kind, Kind::Spent);
    assert_eq!(books.room(&["a"], 0).tokens, 100, "nothing was taken");
    let held = books.reserve(&["a", "b", "a"], Amount { tokens: 60, microusd: 5 }, 0).unwrap();
    assert_eq!(held.amount().tokens, 60);
    assert_eq!(books.room(&["a"], 0).tokens, 40, "once, however often it is named");
    assert!(books.reserve(&["nobody"], tokens(1), 0).is_err(), "whom nobody knows has nothing");
    assert_eq!(books.room(&["nobody"], 0), Amount::default());
    books.forget(&"b");
    books.settle(held, tokens(1), 0);
    assert!(books.used(&"b", 0).is_none());
}

#[test]
fn what_was_used_before_a_restart_is_used() {
    let mut books = books(100, 100, 100);
    let held = books.reserve(&["a"], tokens(30), 5).unwrap();
    books.settle(held, tokens(30), 5);
    let (used, _) = books.used(&"a", 5).unwrap();
    let mut after = self::books(100, 100, 100);
    after.restore("a", used);
    assert_eq!(after.room(&["a"], 6).tokens, 70);
    assert_eq!(after.used(&"a", 60_000).unwrap().0[0], Used { number: 1, amount: Amount::default() });
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { account: usize, both: bool, count: u64 },
    Settle { which: usize, share: u64 },
    Release { which: usize },
    Later { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..2, any::<bool>(), 0_u64..400).prop_map(|(account, both, count)| Step::Reserve { account, both, count }),
        3 => (any::<usize>(), 0_u64..=100).prop_map(|(which, share)| Step::Settle { which, share }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (0_u64..100_000).prop_map(|ms| Step::Later { ms }),
    ]
}

proptest! {
    /// Any interleaving of calls: each reserves, and settles or gives back later, in any order.
    #[test]
    fn settled_and_reserved_are_never_above_a_cap(steps in prop::collection::vec(step(), 1..300)) {
        const CAP: [u64; 3] = [500, 1500, 4000];
        let names = ["a", "b"];
        let mut books = Books::default();
        let limit = |count: u64| Amount { tokens: count, microusd: count * 2 };
        for name in names {
            books.limit(name, Limits { minute: limit(CAP[0]), day: limit(CAP[1]), total: limit(CAP[2]) });
        }
        let mut held: Vec<Reservation<&str>> = Vec::new();
        let mut now_ms = 86_399_000;
        let mut spent = 0;
        for step in steps {
            match step {
                Step::Reserve { account, both, count } => {
                    let accounts = if both { &names[..] } else { &names[account..=account] };
                    let room = books.room(accounts, now_ms);
                    let wanted = Amount { tokens: count, microusd: count * 2 };
                    let granted = books.reserve(accounts, wanted, now_ms);
                    prop_assert_eq!(granted.is_ok(), count <= room.tokens, "what there is room for is granted, and no more");
                    held.extend(granted);
                }
                Step::Settle { which, share } if !held.is_empty() => {
                    let one = held.swap_remove(which % held.len());
                    let tokens = one.amount().tokens;
                    let used = Amount { tokens: tokens * share / 100, microusd: tokens * share / 100 * 2 };
                    spent += used.tokens;
                    books.settle(one, used, now_ms);
                }
                Step::Release { which } if !held.is_empty() => {
                    let one = held.swap_remove(which % held.len());
                    books.release(one, now_ms);
                }
                Step::Settle { .. } | Step::Release { .. } => {}
                Step::Later { ms } => now_ms += ms,
            }
            let mut totals = 0;
            for name in names {
                let (used, reserved) = books.used(&name, now_ms).unwrap();
                for (window, cap) in used.iter().zip(CAP) {
                    prop_assert!(window.amount.tokens + reserved.tokens <= cap);
                    prop_assert!(window.amount.microusd + reserved.microusd <= cap * 2);
                }
                totals += used[2].amount.tokens;
            }
            prop_assert!(totals >= spent, "nothing that was used is forgotten");
        }
    }
}
