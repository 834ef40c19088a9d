//! The nine rules: each is broken by something, has a name of its own, and all that are broken are told.

use super::{authentic, ceiling, declared, key, root, trusts, with};
use crate::{
    Delegated, Draft, Effective, Envelope, RightsError, Rule, broken, broken_by_child, sign, template,
};

#[test]
fn the_rules_have_their_order_and_names() {
    assert!(Rule::ALL.is_sorted_by(|a, b| a < b));
    let names: Vec<String> =
        Rule::ALL.iter().map(|r| serde_json::to_string(r).unwrap().replace('"', "")).collect();
    assert_eq!(names, Rule::ALL.map(Rule::name), "one name, on the wire and in the ledger");
}

#[test]
fn signature_comes_before_anything_is_read() {
    // Neither a manifest nor signed by somebody who is trusted.
    let envelope = Envelope::parse(&sign(b"not a manifest", &[&key(2)])).unwrap();
    let error = envelope.verify(&trusts(&key(1), "admin"), &super::here()).unwrap_err();
    assert_eq!(error.rules(), [Rule::Signature]);
    let foreign = authentic(&with("machines = [\"*\"]", "machines = [\"m2\"]"), "admin").unwrap_err();
    assert_eq!(foreign.rules(), [Rule::Signature]);
    let errors = declared(&template("hello", "analyst", "eve"), "admin").unwrap_err();
    assert_eq!(errors.rules(), [Rule::Signature], "another operator than the signer");
}

#[test]
fn schema_and_deny_list_are_told_apart_and_together() {
    let denied = with("add = []", "add = [\"bpf\"]");
    assert_eq!(Draft::parse(denied.as_bytes()).unwrap_err().rules(), [Rule::DenyList]);
    let both = denied.replace("pids_max = 16", "pids_max = 0");
    assert_eq!(Draft::parse(both.as_bytes()).unwrap_err().rules(), [Rule::Schema, Rule::DenyList]);
}

#[test]
fn role_resources_and_lifetime_are_told_at_once() {
    let rule = |text: &str, role: &str| root(text, role).unwrap_err().rule();
    assert_eq!(rule(&template("hello", "admin", "ada"), "analyst"), Rule::RoleCeiling);
    assert_eq!(rule(&with("memory_max = \"64MiB\"", "memory_max = \"9GiB\""), "admin"), Rule::Resources);
    assert_eq!(rule(&with("ttl = \"5min\"", "ttl = \"unlimited\""), "admin"), Rule::UnlimitedLifetime);
    assert_eq!(rule(&with("[skills]\nallowed = []", "[skills]\nallowed = [\"any\"]"), "admin"), Rule::Schema);

    let text = with("memory_max = \"64MiB\"", "memory_max = \"9GiB\"")
        .replace("cpu_quota_percent = 100", "cpu_quota_percent = 1000")
        .replace("role = \"analyst\"", "role = \"admin\"")
        .replace("ttl = \"5min\"", "ttl = \"unlimited\"");
    let reasons = Effective::root(&declared(&text, "developer").unwrap(), &ceiling()).unwrap_err();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert_eq!(broken(&reasons), [Rule::RoleCeiling, Rule::Resources, Rule::UnlimitedLifetime]);
}

#[test]
fn a_child_breaks_the_intersection_and_the_budget_and_takes_nothing() {
    let mut parent = root(&template("parent", "analyst", "ada"), "admin").unwrap();
    let text = with("utilities = [\"sh\", \"ls\", \"cat\"]", "utilities = [\"awk\"]")
        .replace("executable = \"/bin/sh\"", "executable = \"/bin/awk\"");
    let before = parent.allotment().parts();
    let wish = Delegated::read(text.as_bytes(), &super::here()).unwrap();
    let reasons = parent.narrow(&wish, &ceiling(), None).unwrap_err();
    assert!(reasons.iter().any(|r| matches!(r, RightsError::ProgramNarrowed(_))), "{reasons:?}");
    assert_eq!(broken_by_child(&reasons), [Rule::ParentIntersection, Rule::SpawnBudget]);
    assert_eq!(parent.allotment().parts(), before);
    let skills = with("[skills]\nallowed = []", "[skills]\nallowed = [\"any\"]");
    let wish = Delegated::read(skills.as_bytes(), &super::here()).unwrap();
    let reasons = parent.narrow(&wish, &ceiling(), None).unwrap_err();
    assert!(reasons.iter().any(|r| matches!(r, RightsError::Unenforceable(_))), "{reasons:?}");
}
