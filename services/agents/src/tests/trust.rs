//! Changes of the trusted set: on record before anybody acts under them, and what a revocation ends.

use super::family::{self, machinery, payload};
use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key, signed};
use octant_api::agents::{AgentState, ResumeRequest, SpawnRequest, TrustList, TrustRequest};
use octant_api::error::Code;
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Aid, Sha256};
use octant_manifest::SigningKey;
use serde_json::{Value, json};

fn trust(machinery: &Machinery, name: &str, text: &str) {
    std::fs::write(machinery.scratch.path().join("trusted").join(name), text).unwrap();
}

/// What is on record of the set: each change, and of which key.
fn told(machinery: &Machinery) -> Vec<(String, Sha256)> {
    let changes = machinery.ledger.trust.lock().unwrap().clone();
    let told = |e: &AppendRequest| (payload(e)["change"].as_str().unwrap().to_owned(), e.subject.unwrap());
    changes.iter().map(|(_, entry)| told(entry)).collect()
}

fn last(machinery: &Machinery) -> Value {
    payload(&machinery.ledger.trust.lock().unwrap().last().unwrap().1)
}

async fn look(world: &World) -> TrustList {
    world.operator.call(&TrustRequest {}).await.unwrap()
}

fn state(world: &World, aid: Aid) -> AgentState {
    world.manager.info(aid).unwrap().state
}

#[tokio::test]
async fn a_key_is_on_record_before_the_first_manifest_under_it_is_accepted() {
    let machinery = machinery();
    machinery.ledger.refuse(Some(0));
    let world = machinery.start("b1");
    let error = world.spawn(signed("one", family::SLEEP, &[])).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert_eq!(world.operator.call(&TrustRequest {}).await.map_err(api).unwrap_err().code, Code::Unavailable);
    machinery.ledger.refuse(None);
    world.spawn(signed("one", family::SLEEP, &[])).await.unwrap();
    let entries = machinery.ledger.entries.lock().unwrap().clone();
    let (before, added) = machinery.ledger.trust.lock().unwrap()[0].clone();
    let validated = entries.iter().position(|entry| payload(entry)["to"] == "validated").unwrap();
    assert!(before < validated, "{entries:?}");
    let what = payload(&added);
    assert_eq!((added.kind, &what["change"]), (Kind::Grant, &json!("added")));
    assert_eq!((&what["key"], &what["role"]), (&json!(key().id()), &json!("admin")));
    let listed = look(&world).await.keys;
    assert!(listed.len() == 1 && listed[0].since_ms > 0 && what["set"].is_string(), "{listed:?}");
    // A role that can do more: first on record, then it counts.
    let ann = SigningKey::from_seed([20; 32]);
    trust(&machinery, "ann.pub", &ann.public_file("ann", "analyst"));
    look(&world).await;
    trust(&machinery, "ann.pub", &ann.public_file("ann", "admin"));
    trust(&machinery, "old.pub", &format!("{} until=2020-01-01T00:00:00Z", ann_line([21; 32])));
    look(&world).await;
    std::fs::remove_file(machinery.scratch.path().join("trusted/old.pub")).unwrap();
    look(&world).await;
    look(&world).await;
    until("the removal is on record", || told(&machinery).len() == 6).await;
    let old = SigningKey::from_seed([21; 32]).id().0;
    let expected = [
        ("added", key().id().0),
        ("added", ann.id().0),
        ("changed", ann.id().0),
        ("added", old),
        ("expired", old),
        ("removed", old),
    ];
    assert_eq!(told(&machinery), expected.map(|(what, key)| (what.to_owned(), key)), "each once");
    world.kill("one", 0).await;
}

fn ann_line(seed: [u8; 32]) -> String {
    SigningKey::from_seed(seed).public_file("old", "admin").trim_end().to_owned()
}

#[test]
fn a_revocation_freezes_all_that_the_key_signed_for_and_an_operator_decides() {
    let machinery = machinery();
    let other = SigningKey::from_seed([22; 32]);
    trust(&machinery, "eve.pub", &other.public_file("eve", "admin"));
    let [lead, child, else_one] = life(&machinery, "b1", async |world: &World| {
        let lead = family::root(world, "lead", 2, 4).await;
        let child = family::spawn(&machinery, lead, family::text("child", family::SLEEP, 1, 1, &[])).await;
        let text = super::world::manifest("eves", family::SLEEP, &[("\"ada\"", "\"eve\"")]);
        let envelope = String::from_utf8(octant_manifest::sign(text.as_bytes(), &[&other])).unwrap();
        [lead, child.unwrap().aid, world.spawn(envelope).await.unwrap().aid]
    });
    life(&machinery, "b1", async |world: &World| {
        trust(&machinery, "revoked", &format!("{} stolen\n", key().id()));
        // Nobody says so: it is noticed all the same.
        until("both are frozen", || {
            [lead, child].iter().all(|aid| state(world, *aid) == AgentState::Suspended)
        })
        .await;
        assert_eq!(state(world, else_one), AgentState::Running);
        until("it is on record", || told(&machinery).iter().any(|(what, _)| what == "revoked")).await;
        let what = last(&machinery);
        assert_eq!((&what["key"], &what["reason"]), (&json!(key().id()), &json!("stolen")));
        let frozen: Vec<Aid> = serde_json::from_value(what["frozen"].clone()).unwrap();
        assert!(frozen.len() == 2 && frozen.contains(&lead) && frozen.contains(&child), "{what}");
        assert!(what["frozen_after_ms"].is_u64(), "with the time that it took: {what}");
        let reason = world.manager.info(child).unwrap().reason.unwrap();
        assert!(reason.contains("revoked"), "{reason}");
        let error = world.spawn(signed("one", family::SLEEP, &[])).await.unwrap_err();
        assert_eq!(error.code, Code::Unverified);
        let resume = ResumeRequest { agent: "lead".into(), for_ms: None };
        assert_eq!(world.operator.call(&resume).await.unwrap().state, AgentState::Running);
        let text = family::text("more", family::SLEEP, 1, 1, &[]);
        let error = family::spawn(&machinery, lead, text).await.unwrap_err();
        assert_eq!(error.code, Code::Unverified, "it goes on, and gives nothing on: {error}");
    });
    life(&machinery, "b1", async |world: &World| {
        look(world).await;
        assert_eq!(state(world, lead), AgentState::Running, "decided once");
        until("the child is frozen again", || state(world, child) == AgentState::Suspended).await;
        assert_eq!(told(&machinery).iter().filter(|(what, _)| what == "revoked").count(), 1);
        for agent in ["lead", "eves"] {
            world.kill(agent, 0).await;
        }
        until("all have ended", || world.manager.list(false).is_empty()).await;
    });
}

#[test]
fn what_was_revoked_while_the_service_was_down_is_followed_when_it_starts() {
    let machinery = machinery();
    let lead = life(&machinery, "b1", async |world: &World| family::root(world, "lead", 2, 4).await);
    trust(&machinery, "revoked", &format!("{} stolen\n", key().id()));
    // Its file with it: what it signed is void all the same.
    std::fs::remove_file(machinery.scratch.path().join("trusted/ada.pub")).unwrap();
    life(&machinery, "b1", async |world: &World| {
        until("it is frozen", || state(world, lead) == AgentState::Suspended).await;
        until("it is on record", || told(&machinery).len() == 2).await;
        let listed = look(world).await.keys;
        assert_eq!(listed[0].revoked.as_deref(), Some("stolen"));
        world.kill("lead", 0).await;
    });
}

#[tokio::test]
async fn what_cannot_be_frozen_ends() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let lead = family::root(&world, "lead", 2, 4).await;
    let why = "no freezer here".to_owned();
    *machinery.spawner.not_held.lock().unwrap() =
        Some(crate::spawner::NotHeld { code: Code::LayerMissing, why });
    trust(&machinery, "revoked", &format!("{} stolen\n", key().id()));
    look(&world).await;
    until("it has ended", || state(&world, lead).ended()).await;
    let reason = world.manager.info(lead).unwrap().reason.unwrap();
    assert!(reason.contains("could not be kept suspended"), "{reason}");
    let damaged = machinery.scratch.path().join("trusted/notes.txt");
    std::fs::write(&damaged, "").unwrap();
    let spawn = SpawnRequest { envelope: signed("one", "true", &[]), task: None };
    let error = world.operator.call(&spawn).await.map_err(api).unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "a set that is not understood trusts nobody: {error}");
}
