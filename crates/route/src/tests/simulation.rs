//! Ten thousand calls against scripted deployments, under a clock that is only a number.

use super::{allowed, failure, lab, read, wish};
use crate::{Call, Catalogue, Health, Load, Next, Plan, Standing, Strategy, Wish, choose, seed};
use octant_llm::{Failure, Kind};
use std::collections::BTreeMap;

const LOAD: Load = Load { input: 250, output: 100 };

type Answer = Result<(), Failure>;
/// How a deployment answers at a time: after how many milliseconds, and what.
type Script = fn(at_ms: u64, chance: u64) -> (u64, Answer);

type UnderWay = (Call, Plan, Answer);

struct World {
    all: Catalogue,
    health: Health,
    scripts: Vec<Script>,
    now_ms: u64,
    /// Calls under way, by when they end.
    ends: BTreeMap<(u64, u64), UnderWay>,
    number: u64,
    seed: u64,
    asked: Vec<u64>,
    answered: u64,
    refused: u64,
}

impl World {
    fn new(text: &str, scripts: Vec<Script>, seed: u64) -> Self {
        let all = read(text);
        let health = Health::new(&all, seed, 0);
        let asked = vec![0; scripts.len()];
        Self {
            all,
            health,
            scripts,
            now_ms: 0,
            ends: BTreeMap::new(),
            number: 0,
            seed,
            asked,
            answered: 0,
            refused: 0,
        }
    }

    /// A request comes.
    fn request(&mut self, strategy: Strategy) {
        let any = allowed(&["*"]);
        self.number += 1;
        let seed = seed::number(self.seed, self.number);
        let wish = Wish { seed, strategy: Some(strategy), ..wish("g", &any) };
        let choice = choose(&self.all, &self.health, &wish, self.now_ms);
        let plan = Plan::new(&self.all, &choice, LOAD, seed, self.now_ms, self.now_ms + 60_000);
        self.next(plan);
    }

    /// The plan goes on, at once or not at all: who would have to wait goes away, so that time stays in order.
    fn next(&mut self, plan: Plan) {
        let deployment = match plan.next(&self.health, self.now_ms) {
            Next::Try { deployment, after_ms: 0 } => deployment,
            Next::Try { .. } | Next::Give(_) => return self.refused += 1,
        };
        let before = self.health.standing(deployment, LOAD, self.now_ms);
        assert_eq!(before, Standing::Ready, "nobody is asked who has to be waited for");
        let call = self.health.started(deployment, LOAD, self.now_ms).unwrap();
        self.asked[deployment] += 1;
        self.number += 1;
        let chance = seed::number(!self.seed, self.number);
        let (takes_ms, answer) = self.scripts[deployment](self.now_ms, chance);
        self.ends.insert((self.now_ms + takes_ms, self.number), (call, plan, answer));
    }

    /// Time passes; what ends meanwhile ends in its order.
    fn until(&mut self, ms: u64) {
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= ms) {
            let ((at_ms, _), (call, mut plan, answer)) = entry.remove_entry();
            self.now_ms = at_ms;
            match answer {
                Ok(()) => {
                    self.health.succeeded(call, LOAD, at_ms);
                    self.answered += 1;
                }
                Err(failure) => {
                    let deployment = call.deployment();
                    self.health.failed(call, &failure, at_ms);
                    plan.failed(deployment, &failure, false);
                    self.next(plan);
                }
            }
        }
        self.now_ms = ms;
    }

    fn run(mut self, calls: u64, every_ms: u64, strategy: Strategy) -> Self {
        for call in 0..calls {
            self.until(call * every_ms);
            self.request(strategy);
        }
        self.until(u64::MAX);
        assert_eq!(self.answered + self.refused, calls, "every request comes to an end");
        for deployment in 0..self.scripts.len() {
            assert_eq!(self.health.under_way(deployment), 0, "and none is forgotten");
        }
        self
    }
}

fn well(_: u64, chance: u64) -> (u64, Answer) {
    (20 + chance % 50, Ok(()))
}

fn slow(_: u64, chance: u64) -> (u64, Answer) {
    (400 + chance % 50, Ok(()))
}

/// Fails always, from the second minute to the fourth.
fn ill(at_ms: u64, chance: u64) -> (u64, Answer) {
    let ill = (60_000..180_000).contains(&at_ms);
    (20 + chance % 50, if ill { Err(failure(Kind::Upstream)) } else { Ok(()) })
}

/// Fails once in five calls.
fn weak(_: u64, chance: u64) -> (u64, Answer) {
    (20, if chance.is_multiple_of(5) { Err(failure(Kind::Upstream)) } else { Ok(()) })
}

/// Has ten requests in each ten seconds, and says so.
fn narrow(at_ms: u64, chance: u64) -> (u64, Answer) {
    if chance.is_multiple_of(10) {
        let retry_after_ms = Some(10_000 - at_ms % 10_000);
        return (5, Err(Failure { retry_after_ms, ..failure(Kind::RateLimited) }));
    }
    (20, Ok(()))
}

#[test]
fn weights_are_kept_to() {
    let mut text = lab(3, "");
    for (index, weight) in [1, 2, 7].into_iter().enumerate() {
        text = text
            .replace(&format!("model = \"m{index}\""), &format!("model = \"m{index}\"\nweight = {weight}"));
    }
    let world = World::new(&text, vec![well, well, well], 1).run(10_000, 20, Strategy::Weighted);
    assert_eq!(world.answered, 10_000);
    for (asked, expected) in world.asked.iter().zip([1000_u64, 2000, 7000]) {
        assert!(asked.abs_diff(expected) < 250, "{:?}", world.asked);
    }
}

#[test]
fn who_fails_is_left_alone_and_comes_back() {
    for seed in 0..3 {
        let mut world = World::new(&lab(3, ""), vec![well, ill, well], seed);
        let mut during = 0;
        for call in 0..10_000 {
            world.until(call * 30);
            if call * 30 == 60_000 {
                during = world.asked[1];
            }
            if call * 30 == 180_000 {
                during = world.asked[1] - during;
            }
            world.request(Strategy::Weighted);
        }
        world.until(u64::MAX);
        assert_eq!(world.answered, 10_000, "the others answered all the time");
        // 4,000 calls came meanwhile, a third of which would have gone to it: those that opened the breaker, those that were
        // under way then, and one try for each time that it was open.
        assert!((5..40).contains(&during), "{during}");
        let after = world.asked[1];
        assert!(after > 1300, "it is asked again when it is well: {after}");
    }
}

#[test]
fn retry_after_is_honoured_and_nobody_starves() {
    let world = World::new(&lab(3, ""), vec![narrow, well, weak], 5).run(10_000, 20, Strategy::Weighted);
    assert_eq!(world.answered, 10_000);
    assert!(world.asked.iter().all(|asked| *asked > 50), "{:?}", world.asked);
    let world = World::new(&lab(1, ""), vec![narrow], 5).run(10_000, 20, Strategy::Weighted);
    assert!(world.asked[0] < 1000 && world.answered + world.refused == 10_000, "{:?}", world.asked);
}

#[test]
fn the_fastest_and_the_best_get_most_and_the_others_are_not_forgotten() {
    let world = World::new(&lab(3, ""), vec![slow, well, slow], 2).run(10_000, 200, Strategy::Latency);
    assert!(world.asked[1] > 9000, "{:?}", world.asked);
    assert!(world.asked[0] >= 4 && world.asked[2] >= 4, "who was slow is measured again: {:?}", world.asked);
    let world = World::new(&lab(3, ""), vec![weak, well, weak], 2).run(10_000, 1000, Strategy::Success);
    assert!(world.asked[1] > 6000, "{:?}", world.asked);
    assert!(world.asked[0] >= 4 && world.asked[2] >= 4, "{:?}", world.asked);
}

#[test]
fn all_down_ends_with_a_refusal_and_few_calls() {
    let dead: Script = |_, _| (3, Err(failure(Kind::Unreachable)));
    let world = World::new(&lab(3, ""), vec![dead, dead, dead], 3).run(10_000, 20, Strategy::Weighted);
    assert_eq!(world.answered, 0);
    let asked: u64 = world.asked.iter().sum();
    assert!(asked < 60, "200 seconds of a dead provider: {asked}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run =
        |seed| World::new(&lab(3, ""), vec![narrow, ill, weak], seed).run(2000, 50, Strategy::Weighted).asked;
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
