//! Whose a failure is, and what follows.

use super::{failure, lab, read};
use crate::{Blame, Call, Catalogue, Health, Load, Standing, Why, blame};
use octant_llm::{Failure, Kind};

const LOAD: Load = Load { input: 10, output: 10 };

fn fail(health: &mut Health, deployment: usize, kind: Kind, now_ms: u64) {
    let call = start(health, deployment, now_ms);
    health.failed(call, &failure(kind), now_ms);
}

fn start(health: &mut Health, deployment: usize, now_ms: u64) -> Call {
    health.started(deployment, LOAD, now_ms).unwrap_or_else(|standing| panic!("{standing:?}"))
}

fn until(health: &Health, deployment: usize, now_ms: u64) -> (u64, Why) {
    match health.standing(deployment, LOAD, now_ms) {
        Standing::Waits { until_ms, why } => (until_ms, why),
        other => panic!("{other:?}"),
    }
}

fn keyed() -> Catalogue {
    let one = |name: &str, model: &str, key: &str| {
        format!(
            "[[deployment]]\nname = \"{name}\"\nprovider = \"openai\"\nmodel = \"{model}\"\nkey = \"{key}\"\n"
        )
    };
    read(&(one("a", "m", "k1") + &one("b", "m", "k2") + &one("c", "n", "k1")))
}

#[test]
fn each_failure_is_somebody_s() {
    for (kind, whose) in [
        (Kind::Invalid, Blame::Caller),
        (Kind::TooLarge, Blame::Caller),
        (Kind::ContextLength, Blame::Nobody),
        (Kind::Cancelled, Blame::Nobody),
        (Kind::Untranslatable, Blame::Nobody),
        (Kind::Unauthenticated, Blame::Key),
        (Kind::Forbidden, Blame::Key),
        (Kind::Spent, Blame::Key),
        (Kind::NotFound, Blame::Deployment),
        (Kind::RateLimited, Blame::Deployment),
        (Kind::Upstream, Blame::Deployment),
        (Kind::Overloaded, Blame::Deployment),
        (Kind::Timeout, Blame::Deployment),
        (Kind::Cut, Blame::Deployment),
        (Kind::Malformed, Blame::Deployment),
        (Kind::Unreachable, Blame::Provider),
    ] {
        assert_eq!(blame(kind), whose, "{kind:?}");
    }
}

#[test]
fn a_wrong_key_is_out_everywhere_until_an_operator_has_looked() {
    let all = keyed();
    for (kind, why) in [(Kind::Unauthenticated, Why::KeyRefused), (Kind::Spent, Why::KeySpent)] {
        let mut health = Health::new(&all, 1, 0);
        fail(&mut health, 0, kind, 5);
        for deployment in [0, 2] {
            assert_eq!(health.standing(deployment, LOAD, u64::MAX), Standing::Out(why.clone()));
            assert_eq!(health.started(deployment, LOAD, 5).unwrap_err(), Standing::Out(why.clone()));
        }
        assert_eq!(health.standing(1, LOAD, 5), Standing::Ready, "the other key");
        health.reload(&all, 5);
        assert_eq!(health.standing(0, LOAD, 5), Standing::Ready);
    }
}

#[test]
fn what_is_said_of_money_once_the_answer_has_begun_is_not_about_the_key() {
    let all = keyed();
    let mut health = Health::new(&all, 1, 0);
    for kind in [Kind::Spent, Kind::Unauthenticated, Kind::Forbidden] {
        for _ in 0..5 {
            let mut call = start(&mut health, 0, 0);
            health.first_byte(&mut call, 1);
            health.failed(call, &failure(kind), 2);
        }
        assert_eq!(health.standing(0, LOAD, 2), Standing::Ready, "an agent's own budget cut it: {kind:?}");
    }
}

#[test]
fn a_vault_that_gives_no_key_now_may_give_it_later() {
    let all = keyed();
    let mut health = Health::new(&all, 1, 0);
    let call = start(&mut health, 0, 0);
    health.without_key(call, 0);
    let (again, why) = until(&health, 0, 0);
    assert_eq!(why, Why::NoKey);
    assert!((500..=1000).contains(&again));
    assert_eq!(health.standing(2, LOAD, 0), Standing::Ready, "each finds out for itself");
    let call = start(&mut health, 0, again);
    health.succeeded(call, LOAD, again);
    assert_eq!((health.success(0, again), health.under_way(0)), (1000, 0));
}

#[test]
fn what_is_forbidden_three_times_is_out_for_this_model_alone() {
    let all = keyed();
    let mut health = Health::new(&all, 1, 0);
    fail(&mut health, 0, Kind::Forbidden, 0);
    fail(&mut health, 0, Kind::Forbidden, 0);
    let call = start(&mut health, 0, 0);
    health.succeeded(call, LOAD, 0);
    for at in [0, 0, 0, 0, 299_999, 300_000, 300_000, 300_000] {
        assert_eq!(
            health.standing(0, LOAD, at),
            Standing::Ready,
            "one caller's content is not the key's fault"
        );
        fail(&mut health, 0, Kind::Forbidden, at);
    }
    assert_eq!(health.standing(0, LOAD, u64::MAX), Standing::Out(Why::Forbidden));
    assert_eq!(health.standing(2, LOAD, 0), Standing::Ready);
    health.reload(&all, 0);
    assert_eq!(health.standing(0, LOAD, 0), Standing::Ready);
}

#[test]
fn what_callers_do_wrong_opens_nothing() {
    let all = read(&lab(1, ""));
    let mut health = Health::new(&all, 1, 0);
    for kind in [Kind::Invalid, Kind::TooLarge, Kind::ContextLength, Kind::Untranslatable, Kind::Cancelled] {
        for _ in 0..50 {
            fail(&mut health, 0, kind, 0);
        }
        assert_eq!(health.standing(0, LOAD, 0), Standing::Ready, "{kind:?}");
    }
    assert_eq!(health.success(0, 0), 1000, "and counts for nothing");
    assert_eq!(health.under_way(0), 0);
}

#[test]
fn retry_after_is_kept_to_and_not_believed_for_ever() {
    let all = read(&lab(1, ""));
    let mut health = Health::new(&all, 1, 0);
    let call = start(&mut health, 0, 100);
    let limited = |ms| Failure { retry_after_ms: Some(ms), ..failure(Kind::RateLimited) };
    health.failed(call, &limited(2500), 100);
    assert_eq!(until(&health, 0, 100), (2600, Why::Cooling));
    assert!(health.started(0, LOAD, 2599).is_err());
    let call = start(&mut health, 0, 2600);
    health.failed(call, &limited(u64::MAX), 2600);
    assert_eq!(until(&health, 0, 2600).0, 2600 + 3_600_000);
    let mut health = Health::new(&all, 1, 0);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        fail(&mut health, 0, Kind::RateLimited, now);
        let next = until(&health, 0, now).0;
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses.windows(2).take(5).all(|pair| pair[1] >= pair[0]), "longer each time: {pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 60_000));
    let call = start(&mut health, 0, now);
    health.succeeded(call, LOAD, now);
    fail(&mut health, 0, Kind::RateLimited, now);
    assert!(until(&health, 0, now).0 - now <= 1000, "and from the beginning after a success");
}

#[test]
fn an_open_breaker_lets_one_try_through() {
    let all = read(&lab(1, ""));
    let mut health = Health::new(&all, 1, 0);
    for _ in 0..5 {
        fail(&mut health, 0, Kind::Upstream, 0);
    }
    let (opens, why) = until(&health, 0, 0);
    assert_eq!(why, Why::Failing);
    let probe = start(&mut health, 0, opens);
    assert!(matches!(health.started(0, LOAD, opens), Err(Standing::Waits { why: Why::Failing, .. })));
    health.abandoned(probe, opens);
    let probe = start(&mut health, 0, opens);
    assert!(
        health.started(0, LOAD, opens + 1).is_err(),
        "who went away gave the try back, and it is taken again"
    );
    health.failed(probe, &failure(Kind::Invalid), opens);
    assert_eq!(health.standing(0, LOAD, opens), Standing::Ready, "it answers");
}

#[test]
fn who_cannot_be_reached_takes_all_of_its_provider_out() {
    let all = read(&lab(2, ""));
    let mut health = Health::new(&all, 1, 0);
    for _ in 0..5 {
        fail(&mut health, 0, Kind::Unreachable, 0);
    }
    assert_eq!(until(&health, 1, 0).1, Why::Unreachable);
    let opens = until(&health, 0, 0).0.max(until(&health, 1, 0).0);
    let call = start(&mut health, 1, opens);
    assert!(health.started(0, LOAD, opens).is_err(), "one try for the provider too");
    health.failed(call, &failure(Kind::Upstream), opens);
    assert_eq!(health.standing(1, LOAD, opens), Standing::Ready, "a bad answer is an answer");
}

#[test]
fn limits_are_kept_to_before_the_provider_says_no() {
    let all = read(&lab(1, "rpm = 60\ntpm = 600\nat_once = 2\n"));
    let mut health = Health::new(&all, 1, 0);
    let heavy = Load { input: 300, output: 300 };
    let call = health.started(0, heavy, 0).unwrap();
    assert_eq!(until(&health, 0, 0).1, Why::Pace("tpm".to_owned()));
    health.succeeded(call, Load { input: 90, output: 10 }, 0);
    let first = start(&mut health, 0, 0);
    let second = start(&mut health, 0, 0);
    assert_eq!(until(&health, 0, 0).1, Why::AtOnce);
    health.abandoned(first, 0);
    health.abandoned(second, 0);
    assert_eq!(health.standing(0, LOAD, 0), Standing::Ready, "what was not used was given back");

    let all = read(&lab(1, ""));
    let mut health = Health::new(&all, 1, 0);
    let call = start(&mut health, 0, 0);
    let told = [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "20s"),
    ];
    health.headers(&call, &told, 0, 0);
    health.succeeded(call, LOAD, 0);
    assert_eq!(until(&health, 0, 0), (2000, Why::Pace("requests".to_owned())));
    assert!(health.started(0, LOAD, 1999).is_err());
    let call = start(&mut health, 0, 2000);
    health.headers(&call, &[("x-ratelimit-remaining-requests", "9")], 2000, 0);
    assert_eq!(health.standing(0, LOAD, 2000), Standing::Ready);
    health.abandoned(call, 2000);
}

#[test]
fn a_reload_keeps_what_is_known_of_who_stays() {
    let all = read(&lab(3, ""));
    let mut health = Health::new(&all, 1, 0);
    for _ in 0..5 {
        fail(&mut health, 2, Kind::Upstream, 0);
    }
    let held = start(&mut health, 1, 0);
    let less = read(&lab(3, "").replace("name = \"d0\"", "name = \"x0\"").replace("\"d0\", ", "\"x0\", "));
    health.reload(&less, 0);
    assert_eq!(until(&health, 2, 0).1, Why::Failing);
    assert_eq!(health.under_way(1), 1);
    let two = read(&lab(2, ""));
    health.reload(&two, 0);
    health.succeeded(held, LOAD, 0);
    assert_eq!(health.under_way(1), 0);
    assert_eq!(health.standing(2, LOAD, 0), Standing::Out(Why::Gone), "who is not there is not asked");
}
