use crate::{Rule, Violation, run};

#[test]
fn a_thousand_worlds_keep_every_rule() {
    for seed in 0..1000 {
        if let Err(violation) = run(seed) {
            panic!("{violation}");
        }
    }
}

#[test]
fn a_violation_says_how_to_see_it_again() {
    let violation = Violation {
        seed: 42,
        rule: Rule::OneProcess,
        at_ns: 5_000_000,
        what: "u1".into(),
        history: vec!["before".into()],
    };
    let text = violation.to_string();
    assert!(text.starts_with("seed 42: OneProcess broken at 5 ms: u1"), "{text}");
    assert!(text.ends_with("reproduce with: cargo x sim --seed 42"), "{text}");
}
