//! Who is asked, in which order, and why others are not.

use super::{allowed, failure, lab, read, wish};
use crate::{
    Abilities, Ability, Cap, Catalogue, Choice, DataClass, Health, Load, Reason, Strategy as Order, Wish,
    choose,
};
use octant_llm::{Format, Image, Kind, Part, Tool};
use proptest::prelude::*;

const FILE: &str = r#"
[[deployment]]
name = "haiku"
provider = "anthropic"
model = "claude-haiku-4-5"
key = "llm/anthropic"
retention = "none"

[[deployment]]
name = "mini"
provider = "openai"
model = "gpt-4o-mini"
key = "llm/openai"

[[deployment]]
name = "odd"
provider = "together"
model = "somebody/new"
key = "llm/together"

[[deployment]]
name = "here"
provider = "ollama"
model = "small"
window = 4096
can = ["tools"]

[[group]]
name = "all"
deployments = ["haiku", "mini", "odd", "here"]
"#;

fn order(catalogue: &Catalogue, choice: &Choice) -> Vec<String> {
    choice
        .candidates
        .iter()
        .map(|candidate| catalogue.deployments[candidate.deployment].name.clone())
        .collect()
}

fn reason<'a>(catalogue: &Catalogue, choice: &'a Choice, name: &str) -> Option<&'a Reason> {
    let left = choice.left_out.iter().find(|left| catalogue.deployments[left.deployment].name == name);
    left.map(|left| &left.reason)
}

#[test]
fn who_cannot_or_may_not_is_left_out_for_its_reason() {
    let all = read(FILE);
    let health = Health::new(&all, 1, 0);
    let any = allowed(&["all"]);
    let base = wish("all", &any);
    let out = |wish: &Wish<'_>, name: &str| {
        let choice = choose(&all, &health, wish, 0);
        assert_eq!(choice.candidates.len() + choice.left_out.len(), 4, "nobody is forgotten");
        reason(&all, &choice, name).cloned()
    };
    assert_eq!(choose(&all, &health, &base, 0).candidates.len(), 4);
    let vision = Wish { needs: Abilities::from(vec![Ability::Answers, Ability::Vision]), ..base };
    let lacks = Abilities::default().with(Ability::Vision);
    assert_eq!(out(&vision, "here"), Some(Reason::Lacks(lacks)));
    assert_eq!(out(&vision, "odd"), Some(Reason::Unknown(lacks)));
    assert_eq!(out(&vision, "haiku"), None);
    assert_eq!(out(&Wish { data: DataClass::LocalOnly, ..base }, "haiku"), Some(Reason::NotLocal));
    assert_eq!(out(&Wish { data: DataClass::LocalOnly, ..base }, "here"), None);
    assert_eq!(out(&Wish { data: DataClass::NoRetention, ..base }, "mini"), Some(Reason::Keeps));
    assert_eq!(out(&Wish { data: DataClass::NoRetention, ..base }, "haiku"), None);
    let cheap = Wish { cap: Some(Cap { input: 150_000, output: 600_000 }), ..base };
    assert_eq!(out(&cheap, "haiku"), Some(Reason::Price));
    assert_eq!(out(&cheap, "mini"), None);
    assert_eq!(out(&cheap, "odd"), Some(Reason::NoPrice));
    assert_eq!(out(&Wish { priced: true, ..base }, "odd"), Some(Reason::NoPrice), "money is counted");
    assert_eq!(out(&Wish { priced: true, ..base }, "here"), None, "this machine costs nothing");
    let long = Wish { input: 8 * 4000, ..base };
    assert_eq!(out(&long, "here"), Some(Reason::Window { needs: 4100, has: 4096 }));
    assert_eq!(out(&Wish { input: 3 * 4000, ..base }, "here"), None, "only the provider knows");
    let wordy = Wish { output: Some(20_000), ..base };
    assert_eq!(out(&wordy, "mini"), Some(Reason::Output { asked: 20_000, has: 16_384 }));
}

#[test]
fn a_name_is_allowed_as_it_is_asked_or_as_the_model_s_own() {
    let all = read(&format!("[aliases]\nother = \"all\"\n{FILE}"));
    let health = Health::new(&all, 1, 0);
    let names = |asked: &str, patterns: &[&str]| {
        let patterns = allowed(patterns);
        let mut found = order(&all, &choose(&all, &health, &wish(asked, &patterns), 0));
        found.sort();
        found
    };
    assert_eq!(
        names("all", &["all"]).len(),
        4,
        "what the operator put into a group that is allowed is allowed"
    );
    assert_eq!(names("other", &["all"]).len(), 4);
    assert_eq!(names("all", &["anthropic/*", "openai/gpt-4o-mini"]), ["haiku", "mini"]);
    assert_eq!(names("claude-haiku-4-5", &["anthropic/*"]), ["haiku"]);
    assert_eq!(names("all", &[]), Vec::<String>::new());
    assert_eq!(names("all\n", &["*"]), Vec::<String>::new());
    assert_eq!(names("*", &["*"]), Vec::<String>::new(), "a pattern is not a name");
}

#[test]
fn a_refusal_says_why_and_nothing_of_what_is_not_allowed() {
    let all = read(FILE);
    let health = Health::new(&all, 1, 0);
    let none = allowed(&["x/*"]);
    for asked in ["all", "gpt-4o-mini"] {
        let failure = choose(&all, &health, &wish(asked, &none), 0).refusal(&all, asked);
        assert_eq!(failure.kind, Kind::Forbidden);
        assert_eq!(
            failure.message,
            format!("model {asked:?}: the manifest's models.allowed does not name it")
        );
    }
    let some = allowed(&["*"]);
    let said = |wish: Wish<'_>| choose(&all, &health, &wish, 0).refusal(&all, wish.asked);
    assert_eq!(said(wish("nothing", &some)).kind, Kind::NotFound);
    let vision = Abilities::from(vec![Ability::Vision]);
    let failure = said(Wish { needs: vision, ..wish("here", &some) });
    assert_eq!((failure.kind, failure.field.as_deref()), (Kind::Invalid, Some("model")));
    assert!(
        failure.message.ends_with("ollama/small: it cannot do what the request needs: vision"),
        "{failure}"
    );
    assert_eq!(said(Wish { input: 1 << 20, ..wish("here", &some) }).kind, Kind::ContextLength);
    assert_eq!(said(Wish { data: DataClass::LocalOnly, ..wish("mini", &some) }).kind, Kind::Forbidden);
    let shown = said(wish(&"x\u{1b}".repeat(500), &some)).message;
    assert!(shown.len() < 400 && !shown.contains('\u{1b}'), "what is shown is bounded: {shown}");
}

#[test]
fn the_cheapest_the_fastest_and_the_best_come_first() {
    let all = read(FILE);
    let any = allowed(&["all"]);
    let mut health = Health::new(&all, 1, 0);
    let first = |health: &Health, strategy, now_ms| {
        let wish = Wish { strategy: Some(strategy), ..wish("all", &any) };
        order(&all, &choose(&all, health, &wish, now_ms))
    };
    assert_eq!(first(&health, Order::Cost, 0), ["here", "mini", "haiku", "odd"]);
    for (deployment, ms) in [(0, 400), (1, 100), (2, 900), (3, 200)] {
        let mut call = health.started(deployment, Load::default(), 1000).unwrap();
        health.first_byte(&mut call, 1000 + ms);
        health.succeeded(call, Load { input: 1, output: 10 }, 1000 + ms + ms);
    }
    assert_eq!(first(&health, Order::Latency, 3000), ["mini", "here", "haiku", "odd"]);
    for _ in 0..3 {
        let call = health.started(1, Load::default(), 3000).unwrap();
        health.failed(call, &failure(Kind::Upstream), 3000);
        health.rejected(3, 3000);
    }
    let by_success = first(&health, Order::Success, 3000);
    assert_eq!(
        by_success[2..],
        ["here", "mini"],
        "one that was rejected, and one that failed: {by_success:?}"
    );
    // It is fair again, once what was measured is old.
    let firsts = |strategy, now_ms| {
        let of = |seed| {
            let wish = Wish { strategy: Some(strategy), seed, ..wish("all", &any) };
            order(&all, &choose(&all, &health, &wish, now_ms))[0].clone()
        };
        (0..200).map(of).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(firsts(Order::Latency, 10_000_000), 4);
    assert_eq!(firsts(Order::Success, 100_000_000), 4);
    assert_eq!(firsts(Order::Weighted, 0), 4);
}

#[test]
fn who_has_to_be_waited_for_comes_last() {
    let all = read(&lab(3, ""));
    let any = allowed(&["g"]);
    let mut health = Health::new(&all, 1, 0);
    let call = health.started(1, Load::default(), 0).unwrap();
    let mut slow = failure(Kind::RateLimited);
    slow.retry_after_ms = Some(7000);
    health.failed(call, &slow, 0);
    for seed in 0..20 {
        let choice = choose(&all, &health, &Wish { seed, ..wish("g", &any) }, 5);
        assert_eq!(choice.candidates[2].deployment, 1);
        assert_eq!(choice.candidates[2].waits.as_ref().map(|waits| waits.0), Some(7000));
        let said = choice.explain(&all, 5);
        assert!(
            said[2]
                .starts_with("3. d1 (lab/m1) of g: weighted, 1 by weight, but 6995 ms have to be waited: "),
            "{said:?}"
        );
    }
    let choice = choose(&all, &health, &wish("g", &any), 7000);
    assert!(choice.candidates.iter().all(|candidate| candidate.waits.is_none()));
}

#[test]
fn what_a_request_needs_is_seen() {
    let mut request = super::question("hello");
    let needs = |request: &octant_llm::Request| Abilities::needed(request).to_string();
    assert_eq!(needs(&request), "answers");
    request.stream = true;
    request.parallel_tools = Some(true);
    assert_eq!(needs(&request), "answers, streaming", "without tools nothing is parallel");
    let schema = octant_llm::Json::empty();
    request.tools.push(Tool { name: "t".to_owned(), description: None, schema, strict: None });
    request.format = Format::Json;
    request.reasoning =
        Some(octant_llm::Reasoning { budget: Some(1024), ..octant_llm::Reasoning::default() });
    let picture = Part::Image(Image::Url("https://a.example/x.png".to_owned()));
    let result = Part::ToolResult { id: "1".to_owned(), parts: vec![picture], failed: false };
    request.messages[0].parts.push(result);
    assert_eq!(needs(&request), "answers, tools, parallel_tools, vision, structured, reasoning, streaming");
}

proptest! {
    /// Whatever has happened to whom: everybody is asked in order or left out, once, and those that can be asked now come first.
    #[test]
    fn nobody_is_forgotten_and_nobody_is_asked_twice(
        happened in prop::collection::vec((0_usize..4, 0_usize..6, 0_u64..3000), 0..60),
        seed in any::<u64>(),
        order in 0_usize..4,
        input in 0_u64..2_000_000,
        output in prop::option::of(0_u64..200_000),
    ) {
        let kinds = [Kind::Upstream, Kind::RateLimited, Kind::Unauthenticated, Kind::Forbidden, Kind::Unreachable];
        let all = read(FILE);
        let mut health = Health::new(&all, seed, 0);
        let mut now_ms = 0;
        for (deployment, kind, later) in happened {
            now_ms += later;
            let Ok(call) = health.started(deployment, Load::default(), now_ms) else { continue };
            match kinds.get(kind) {
                Some(kind) => health.failed(call, &failure(*kind), now_ms),
                None => health.succeeded(call, Load { input: 5, output: 5 }, now_ms),
            }
        }
        let any = allowed(&["all"]);
        let strategy = [Order::Weighted, Order::Cost, Order::Latency, Order::Success][order];
        let wish = Wish { seed, strategy: Some(strategy), input, output, ..wish("all", &any) };
        let choice = choose(&all, &health, &wish, now_ms);
        let asked = choice.candidates.iter().map(|candidate| candidate.deployment);
        let mut seen: Vec<usize> = asked.chain(choice.left_out.iter().map(|left| left.deployment)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, vec![0, 1, 2, 3]);
        let waits: Vec<u64> = choice.candidates.iter().map(|c| c.waits.as_ref().map_or(0, |w| w.0)).collect();
        prop_assert!(waits.is_sorted());
        for candidate in &choice.candidates {
            let started = health.started(candidate.deployment, wish.load(), now_ms);
            // Calls of others can have taken a try meanwhile, and never is anybody asked who has to be waited for.
            prop_assert!(candidate.waits.is_none() || started.is_err());
            if let Ok(call) = started {
                health.abandoned(call, now_ms);
            }
        }
        prop_assert_eq!(&choose(&all, &health, &wish, now_ms), &choice, "the same, and a try was given back");
        prop_assert!(choice.explain(&all, now_ms).len() == 4);
    }
}
