//! The one retry loop.

use super::{allowed, failure, lab, read, wish};
use crate::{Catalogue, Health, Load, Next, Plan, Standing, choose};
use octant_llm::{Failure, Kind};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LOAD: Load = Load { input: 250, output: 100 };

/// A request's tries, as a router makes them.
struct Run {
    health: Health,
    plan: Plan,
    now_ms: u64,
    asked: Vec<usize>,
    waited: Vec<u64>,
}

impl Run {
    fn new(all: &Catalogue, asked: &str, health: Health, until_ms: u64) -> Self {
        let any = allowed(&["*"]);
        let choice = choose(all, &health, &wish(asked, &any), 0);
        let plan = Plan::new(all, &choice, LOAD, 7, 0, until_ms);
        Self { health, plan, now_ms: 0, asked: Vec::new(), waited: Vec::new() }
    }

    /// Tries until it ends; each deployment always answers in the same way.
    fn all(mut self, answer: impl Fn(usize) -> Result<(), Failure>) -> (Result<usize, Failure>, Self) {
        loop {
            let (deployment, after_ms) = match self.plan.next(&self.health, self.now_ms) {
                Next::Give(failure) => return (Err(failure), self),
                Next::Try { deployment, after_ms } => (deployment, after_ms),
            };
            self.now_ms += after_ms;
            self.waited.push(after_ms);
            self.asked.push(deployment);
            assert!(self.asked.len() < 50, "it ends: {:?}", self.asked);
            let call = self.health.started(deployment, LOAD, self.now_ms).unwrap();
            match answer(deployment) {
                Ok(()) => {
                    self.health.succeeded(call, LOAD, self.now_ms);
                    return (Ok(deployment), self);
                }
                Err(failure) => {
                    self.health.failed(call, &failure, self.now_ms);
                    self.plan.failed(deployment, &failure, false);
                }
            }
        }
    }
}

fn two_groups() -> Catalogue {
    let text = lab(3, "").replace(
        "deployments = [\"d0\", \"d1\", \"d2\"]",
        "deployments = [\"d0\", \"d1\"]\nfallbacks = [\"h\"]",
    );
    read(&(text + "[[group]]\nname = \"h\"\ndeployments = [\"d2\"]\n"))
}

fn run(all: &Catalogue) -> Run {
    Run::new(all, "g", Health::new(all, 1, 0), u64::MAX)
}

#[test]
fn first_the_others_of_the_group_then_again_then_the_next_group() {
    let all = two_groups();
    let (end, run) = run(&all).all(|_| Err(failure(Kind::Upstream)));
    assert_eq!(end.unwrap_err().kind, Kind::Upstream);
    let (first, second) = (run.asked[0], run.asked[1]);
    assert!(first != second && first < 2 && second < 2);
    assert_eq!(run.asked, [first, second, first, 2, 2, 2], "three tries in each group");
    assert_eq!(run.waited[..2], [0, 0], "another one at once");
    assert!((500..=1000).contains(&run.waited[2]), "the same one after a pause: {:?}", run.waited);
    assert_eq!(run.waited[3], 0);
    assert!(
        (250..=500).contains(&run.waited[4]) && (500..=1000).contains(&run.waited[5]),
        "{:?}",
        run.waited
    );
    assert_eq!(run.plan.tried(), 6);
}

#[test]
fn the_first_that_answers_ends_it() {
    let all = two_groups();
    let (end, run) =
        run(&all).all(|deployment| if deployment == 2 { Ok(()) } else { Err(failure(Kind::NotFound)) });
    assert_eq!(end, Ok(2));
    assert_eq!(run.asked.len(), 3, "who does not have the model is not asked for it twice");
    assert_eq!(run.waited, [0, 0, 0]);
}

#[test]
fn what_the_caller_did_wrong_is_said_at_once() {
    let all = two_groups();
    for kind in [Kind::Invalid, Kind::TooLarge, Kind::Cancelled] {
        let (end, run) = run(&all).all(|_| Err(failure(kind)));
        assert_eq!((end.unwrap_err().kind, run.asked.len()), (kind, 1));
    }
}

#[test]
fn nothing_is_tried_again_once_a_byte_has_gone() {
    let all = two_groups();
    let mut run = run(&all);
    let Next::Try { deployment, .. } = run.plan.next(&run.health, 0) else { panic!("nobody") };
    run.plan.failed(deployment, &failure(Kind::Cut), true);
    assert_eq!(run.plan.next(&run.health, 0), Next::Give(failure(Kind::Cut)));
}

#[test]
fn a_prompt_that_is_too_long_goes_only_where_there_is_more_room() {
    let text = lab(3, "").replace("name = \"d0\"", "window = 8000\nname = \"d0\"");
    let text = text.replace("name = \"d1\"", "window = 4000\nname = \"d1\"");
    let all = read(&(text.replace("name = \"d2\"", "window = 16000\nname = \"d2\"")));
    let (end, run) = run(&all).all(|d| if d == 2 { Ok(()) } else { Err(failure(Kind::ContextLength)) });
    assert_eq!(end, Ok(2));
    let at = |deployment| run.asked.iter().position(|asked| *asked == deployment);
    assert!(
        at(1).is_none_or(|one| at(0).is_none_or(|zero| one < zero)),
        "never to a smaller one: {:?}",
        run.asked
    );
}

#[test]
fn a_short_wait_is_waited_and_a_long_one_is_told() {
    let all = read(&lab(1, ""));
    let limited = |ms| Failure { retry_after_ms: Some(ms), ..failure(Kind::RateLimited) };
    let (end, run) = run(&all).all(|_| Err(limited(2000)));
    assert_eq!(run.waited, [0, 2000, 2000], "Retry-After is longer than the pause");
    assert_eq!(end.unwrap_err().kind, Kind::RateLimited);
    let (end, run) = self::run(&all).all(|_| Err(limited(45_000)));
    assert_eq!(run.asked.len(), 1);
    assert_eq!(end.unwrap_err().retry_after_ms, Some(45_000));
    let two = two_groups();
    let (end, run) =
        self::run(&two).all(|deployment| if deployment == 2 { Ok(()) } else { Err(limited(2000)) });
    assert_eq!((end, run.waited), (Ok(2), vec![0, 0, 0]), "nobody is waited for while another can be asked");
}

#[test]
fn the_deadline_is_kept() {
    let all = read(&lab(1, ""));
    let health = Health::new(&all, 1, 0);
    let (end, run) = Run::new(&all, "g", health, 100).all(|_| Err(failure(Kind::Upstream)));
    assert_eq!(run.asked.len(), 1, "the pause would pass it");
    assert_eq!(end.unwrap_err().kind, Kind::Upstream);
    let (end, run) = Run::new(&all, "g", Health::new(&all, 1, 0), 0).all(|_| Ok(()));
    assert_eq!((end.unwrap_err().kind, run.asked.len()), (Kind::Timeout, 0));
}

#[test]
fn who_is_out_is_not_asked_and_the_others_are_told_when_to_come() {
    let all = read(&lab(1, ""));
    let mut health = Health::new(&all, 1, 0);
    let call = health.started(0, LOAD, 0).unwrap();
    health.failed(call, &Failure { retry_after_ms: Some(100_000), ..failure(Kind::RateLimited) }, 0);
    let (end, run) = Run::new(&all, "g", health, u64::MAX).all(|_| Ok(()));
    let failure = end.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after_ms, run.asked.len()), (Kind::Overloaded, Some(100_000), 0));
}

const KINDS: [Kind; 9] = [
    Kind::Upstream,
    Kind::Overloaded,
    Kind::RateLimited,
    Kind::Timeout,
    Kind::Cut,
    Kind::Unreachable,
    Kind::NotFound,
    Kind::Unauthenticated,
    Kind::ContextLength,
];

proptest! {
    /// Whatever goes wrong, however long it takes: it ends, before the deadline, after so many tries in each group.
    #[test]
    fn every_plan_ends(answers in prop::collection::vec((0_usize..9, 0_u64..20_000, 0_u64..40_000), 12), until_ms in 1_u64..200_000) {
        let all = two_groups();
        let mut run = Run::new(&all, "g", Health::new(&all, 1, 0), until_ms);
        let mut tries = [0_u32; 2];
        let mut out = BTreeSet::new();
        for (kind, takes_ms, retry_after_ms) in answers {
            let Next::Try { deployment, after_ms } = run.plan.next(&run.health, run.now_ms) else { break };
            run.now_ms += after_ms;
            prop_assert!(run.now_ms < until_ms, "nobody is asked for what comes too late");
            prop_assert!(after_ms <= 30_000);
            prop_assert!(!out.contains(&deployment), "the same answer would come again");
            let asked_at_ms = run.now_ms - after_ms;
            let ready = |own: &usize| run.health.standing(*own, LOAD, asked_at_ms) == Standing::Ready;
            // Where the pause would pass the deadline, another group can still be asked at once.
            let in_time = asked_at_ms + 1000 < until_ms;
            let own_can = in_time && tries[0] < 3 && (0..2).any(|own| !out.contains(&own) && ready(&own));
            prop_assert!(deployment < 2 || !own_can, "the group's own first");
            tries[usize::from(deployment == 2)] += 1;
            let call = run.health.started(deployment, LOAD, run.now_ms).unwrap();
            run.now_ms += takes_ms;
            let failure = Failure { retry_after_ms: Some(retry_after_ms), ..failure(KINDS[kind]) };
            run.health.failed(call, &failure, run.now_ms);
            run.plan.failed(deployment, &failure, false);
            if kind >= 6 {
                out.insert(deployment);
            }
        }
        prop_assert!(tries.iter().all(|tries| *tries <= 3), "{:?}", tries);
        prop_assert!(matches!(run.plan.next(&run.health, run.now_ms), Next::Give(_)), "twelve answers are more than there are tries");
    }
}
