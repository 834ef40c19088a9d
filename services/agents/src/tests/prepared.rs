//! Agents whose workstations are built before anybody spawns them.

use super::life::{api, until};
use super::restart::{life, wait};
use super::world::{Machinery, World, key, refusal, signed};
use octant_api::agent::NoteRequest;
use octant_api::agents::{
    AgentInfo, AgentState, DiscardRequest, KillRequest, PrepareRequest, Prepared, PreparedRequest,
    SpawnRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use octant_wire::Client;
use serde_json::Value;

const SLEEP: &str = "exec sleep 60";

impl World {
    async fn prepare(&self, envelope: &str, count: u64) -> Result<Prepared, ApiError> {
        self.operator.call(&PrepareRequest { envelope: envelope.into(), count }).await.map_err(api)
    }

    async fn prepared(&self) -> Vec<Prepared> {
        self.operator.call(&PreparedRequest {}).await.unwrap().prepared
    }

    fn phase(&self, aid: Aid) -> AgentState {
        self.manager.info(aid).unwrap().state
    }

    /// Waits until so many wait for the one manifest.
    async fn replenished(&self, count: usize) -> Vec<Aid> {
        until("as many wait as were asked for", || self.manager.prepared()[0].agents.len() == count).await;
        self.manager.prepared()[0].agents.clone()
    }
}

fn asked(machinery: &Machinery, what: &str) -> usize {
    machinery.spawner.asked.lock().unwrap().iter().filter(|asked| *asked == what).count()
}

/// What is on record in an agent's partition.
fn about(machinery: &Machinery, aid: Aid) -> Vec<AppendRequest> {
    let entries = machinery.ledger.entries.lock().unwrap();
    entries.iter().filter(|entry| entry.agent == Some(aid)).cloned().collect()
}

fn payload(entry: &AppendRequest) -> Value {
    entry.payload.read().unwrap()
}

fn told(entries: &[AppendRequest]) -> Vec<String> {
    let text = |entry: &AppendRequest| {
        let what = payload(entry);
        let of = |field: &str| what[field].as_str().map(str::to_owned);
        of("to").or(of("end_asked")).unwrap_or_else(|| entry.kind.as_str().to_owned())
    };
    entries.iter().map(text).collect()
}

#[tokio::test]
async fn a_spawn_takes_what_is_prepared_after_a_command_and_an_intent_of_its_own() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", "echo ran; exec sleep 60", &[]);
    let made = world.prepare(&envelope, 1).await.unwrap();
    let [aid] = made.agents[..] else { panic!("{made:?}") };
    assert_eq!((made.name.as_str(), made.count, made.asked_by.as_str()), ("one", 1, "operator:0"));
    let first = &machinery.ledger.entries.lock().unwrap()[0].clone();
    assert_eq!(
        (first.kind, first.operator, first.agent),
        (Kind::Command, Some(0), None),
        "the wish comes first"
    );
    let before = about(&machinery, aid);
    assert_eq!(told(&before), ["provisioned", "validated", "intent", "outcome", "isolated"]);
    assert_eq!(payload(&before[2])["do"], "prepare");
    let info = world.manager.info(aid).unwrap();
    assert_eq!((info.state, info.prepared, info.started_ms), (AgentState::Isolated, true, None));
    assert!(machinery.shelf.0.lock().unwrap().is_empty(), "it does not outlive this service");

    let spawned = world.spawn(envelope.clone()).await.unwrap();
    assert_eq!((spawned.aid, spawned.state, spawned.prepared), (aid, AgentState::Running, false));
    assert!(spawned.started_ms.is_some());
    let after = about(&machinery, aid)[before.len()..].to_vec();
    assert_eq!(told(&after), ["command", "intent", "outcome", "running"]);
    let (old, new) = (payload(&before[2]), payload(&after[1]));
    assert_eq!(
        (&new["do"], &new["prepared"], &new["asked_by"]),
        (&"spawn".into(), &true.into(), &"operator:0".into())
    );
    assert_eq!((after[1].subject, &new["plan"]), (before[2].subject, &old["plan"]), "the same plan");
    assert_eq!(payload(&after[0])["do"], "spawn");
    let intents = machinery.ledger.of(Kind::Outcome);
    assert!(intents[0].intent < intents[1].intent, "each intent has its outcome");
    assert_eq!((asked(&machinery, "spawn"), asked(&machinery, "release")), (0, 1));
    let log = world.manager.log(aid).unwrap();
    until("it runs", || log.read(&mut Default::default()).unwrap().is_some()).await;
    let guest = Client::new(machinery.scratch.path().join(format!("{aid}.sock")));
    guest.call(&NoteRequest { text: "served".into() }).await.unwrap();

    let next = world.replenished(1).await;
    assert_ne!(next, [aid], "one that was used is used up");
    let other = world.spawn(envelope).await.unwrap();
    assert_eq!(other.aid, next[0]);
    let found = world.operator.call(&octant_api::agents::ShowRequest { agent: "one".into() }).await;
    assert!(found.is_err(), "two have the name, and those that wait have none");
}

#[tokio::test]
async fn a_life_begins_when_the_program_is_let_go() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[("ttl = \"5min\"", "ttl = 400")]);
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(world.phase(aid), AgentState::Isolated, "its time does not run while it waits");
    assert_eq!(world.spawn(envelope).await.unwrap().aid, aid);
    let ended = wait(&world, &aid.to_string()).await;
    assert_eq!(ended.reason.as_deref(), Some("its time to live is over"));
}

/// Everything that is checked for a spawn is checked when one is taken.
#[tokio::test]
async fn what_would_refuse_a_spawn_refuses_it_though_it_is_prepared() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[("max_spawns = 100", "max_spawns = 2")]);
    let made = world.prepare(&envelope, 5).await.unwrap();
    assert_eq!((made.count, made.agents.len()), (5, 2), "no more than its manifest can be used");
    let mut tampered: Value = serde_json::from_str(&envelope).unwrap();
    tampered["signatures"][0]["sig"] = Value::from("A".repeat(86) + "==");
    let error = world.spawn(tampered.to_string()).await.unwrap_err();
    assert_eq!(error.code, Code::Unverified);
    assert_eq!(world.replenished(2).await, made.agents, "and that used none up");
    for _ in 0..2 {
        world.spawn(envelope.clone()).await.unwrap();
    }
    until("the wish is given up", || world.manager.prepared().is_empty()).await;
    let error = world.spawn(envelope).await.unwrap_err();
    assert!(error.message.contains("max_spawns") || error.code == Code::Denied, "{error:?}");
    let given_up = machinery.ledger.of(Kind::Decision);
    assert_eq!(payload(&given_up[0])["dropped"], "its manifest is used up");
}

#[tokio::test]
async fn a_life_without_end_still_needs_its_approval() {
    let machinery = super::approvals::machinery();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[("ttl = \"5min\"", "ttl = \"unlimited\"")]);
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    let refused = world.spawn(envelope.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::ApprovalNeeded);
    assert_eq!(world.phase(aid), AgentState::Isolated);
    let waits = world.manager.approvals.list().pop().unwrap();
    world.allow(&waits).await;
    assert_eq!(world.spawn(envelope).await.unwrap().aid, aid);
    let intent = payload(&machinery.ledger.of(Kind::Intent)[1]);
    assert_eq!(intent["approval"]["id"], Value::from(waits.id));
}

#[tokio::test]
async fn what_is_prepared_under_a_key_ends_with_its_revocation() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let aid = world.prepare(&signed("one", SLEEP, &[]), 1).await.unwrap().agents[0];
    let revoked = format!("{} stolen\n", key().id());
    std::fs::write(machinery.scratch.path().join("trusted/revoked"), revoked).unwrap();
    world.operator.call(&octant_api::agents::TrustRequest {}).await.unwrap();
    until("it has ended", || world.phase(aid).ended()).await;
    until("the wish is given up", || world.manager.prepared().is_empty()).await;
    assert_eq!(asked(&machinery, "release"), 0);
}

#[tokio::test]
async fn a_signer_who_is_not_trusted_any_more_has_nothing_prepared() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[]);
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    std::fs::remove_file(machinery.scratch.path().join("trusted/ada.pub")).unwrap();
    std::fs::write(machinery.scratch.path().join("trusted/eve.pub"), other_key()).unwrap();
    let error = world.spawn(envelope).await.unwrap_err();
    assert_eq!(error.code, Code::Unverified);
    assert_eq!(asked(&machinery, "release"), 0);
    world.manager.look_at_wishes();
    until("it is archived", || world.phase(aid) == AgentState::Archived).await;
    assert_eq!(world.prepared().await, []);
    until("it is sealed", || told(&about(&machinery, aid)).contains(&"seal".to_owned())).await;
    let end = ["it was prepared, and is not wanted any more", "terminated", "archived", "seal"];
    assert_eq!(told(&about(&machinery, aid))[5..], end);
    let entries = about(&machinery, aid);
    assert_eq!(payload(&entries[7])["nothing_left"]["processes"], 0, "with proof that nothing is left");
    let why = payload(&machinery.ledger.of(Kind::Decision)[0]);
    assert!(why["dropped"].as_str().unwrap().contains("trusted"), "{why}");
}

#[tokio::test]
async fn what_waits_ends_when_its_manifest_has_expired() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let mut outline = octant_manifest::Outline::minimal("one", "analyst", "ada");
    // Whole seconds; at least one and a half from now.
    outline.not_after_ms = (octant_sys::clock::wall_ms() + 2500) / 1000 * 1000;
    let envelope = octant_manifest::sign(outline.text().as_bytes(), &[&key()]);
    let envelope = String::from_utf8(envelope).unwrap();
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    let looked = || {
        world.manager.look_at_wishes();
        world.phase(aid) == AgentState::Archived
    };
    until("it is freed", looked).await;
    assert_eq!(world.prepared().await, []);
    let why = payload(&machinery.ledger.of(Kind::Decision)[0]);
    assert!(why["dropped"].as_str().unwrap().contains("was valid until"), "{why}");
    assert_eq!(world.spawn(envelope).await.unwrap_err().code, Code::Denied);
}

/// It is freed in the moment in which a spawn wants it: one of the two comes first, and the other knows.
#[tokio::test]
async fn freeing_what_waits_never_ends_what_a_spawn_has_taken() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[]);
    for _ in 0..12 {
        world.prepare(&envelope, 1).await.unwrap();
        let discard = DiscardRequest::default();
        let (spawned, gone) = tokio::join!(world.spawn(envelope.clone()), world.operator.call(&discard));
        let gone: Vec<Aid> = gone.unwrap().prepared.into_iter().flat_map(|row| row.agents).collect();
        if let Ok(info) = spawned {
            assert!(!gone.contains(&info.aid));
            assert_eq!(world.phase(info.aid), AgentState::Running);
            world.kill(&info.aid.to_string(), 0).await;
        }
        world.operator.call(&discard).await.unwrap();
    }
}

fn other_key() -> String {
    octant_manifest::SigningKey::from_seed([8; 32]).public_file("eve", "analyst")
}

#[tokio::test]
async fn an_operator_takes_a_wish_back() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let (one, two) = (signed("one", SLEEP, &[]), signed("two", SLEEP, &[]));
    let one = world.prepare(&one, 2).await.unwrap();
    let two = world.prepare(&two, 1).await.unwrap();
    let running = machinery.spawner.running.lock().unwrap().len();
    assert_eq!(running, 3);
    let discard = DiscardRequest { manifest: Some(one.manifest_digest) };
    let gone = world.operator.call(&discard).await.unwrap().prepared;
    assert_eq!(gone[0].agents, one.agents);
    assert!(one.agents.iter().all(|aid| world.phase(*aid).ended()));
    assert_eq!(world.prepared().await, [two]);
    assert_eq!(world.operator.call(&discard).await.map_err(api).unwrap_err().code, Code::NotFound);
    world.operator.call(&DiscardRequest::default()).await.unwrap();
    assert_eq!(world.prepared().await, []);
    let files = std::fs::read_dir(machinery.scratch.path().join("state")).unwrap();
    assert!(files.map(|file| file.unwrap().path()).all(|path| path.extension().is_none_or(|e| e != "wish")));
}

#[tokio::test]
async fn numbers_have_bounds_and_what_cannot_be_built_is_not_wished_for() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let (one, two) = (signed("one", SLEEP, &[]), signed("two", SLEEP, &[]));
    for count in [0, 65] {
        assert_eq!(world.prepare(&one, count).await.unwrap_err().code, Code::InvalidParams);
    }
    let stranger = Client::new(machinery.scratch.path().join("stranger.sock"));
    let asks = PrepareRequest { envelope: one.clone(), count: 1 };
    assert_eq!(stranger.call(&asks).await.map_err(api).unwrap_err().code, Code::Denied);
    assert_eq!(world.prepare("{}", 1).await.unwrap_err().code, Code::InvalidParams);
    *machinery.spawner.refuse.lock().unwrap() = Some(refusal());
    let error = world.prepare(&one, 1).await.unwrap_err();
    assert_eq!(error.code, Code::LayerMissing);
    assert_eq!(world.prepared().await, []);
    machinery.ledger.refuse(Some(0));
    assert_eq!(world.prepare(&one, 1).await.unwrap_err().code, Code::Unavailable);
    machinery.ledger.refuse(None);
    assert_eq!(asked(&machinery, "prepare"), 1, "nothing without a record");
    // Those that wait do not take the places of those that run, and run only where there is one.
    assert_eq!(world.prepare(&two, 4).await.unwrap().agents.len(), 4);
    assert_eq!(world.prepare(&one, 61).await.unwrap_err().code, Code::Busy);
    for _ in 0..3 {
        assert_eq!(world.spawn(two.clone()).await.unwrap().state, AgentState::Running);
    }
    assert_eq!(world.spawn(two).await.unwrap_err().code, Code::Busy);
}

#[tokio::test]
async fn one_that_is_taken_is_used_up_whatever_becomes_of_it() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[]);
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    *machinery.spawner.refuse.lock().unwrap() = Some(refusal());
    let error = world.spawn(envelope.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::LayerMissing);
    until("it is archived", || world.phase(aid) == AgentState::Archived).await;
    assert_ne!(world.replenished(1).await, [aid]);
    let outcome = machinery.ledger.of(Kind::Outcome).into_iter().rfind(|entry| entry.agent == Some(aid));
    assert!(payload(&outcome.unwrap())["refused"].is_string());
    // The ledger is full when the next is taken: it does not run.
    let aid = world.replenished(1).await[0];
    let entries = machinery.ledger.entries.lock().unwrap().len();
    machinery.ledger.refuse(Some(entries));
    assert_eq!(world.spawn(envelope).await.unwrap_err().code, Code::Unavailable);
    until("it ends", || world.phase(aid).ended()).await;
    assert_eq!(asked(&machinery, "release"), 1);
    let log = world.manager.log(aid).unwrap();
    assert!(log.read(&mut Default::default()).unwrap().is_none());
}

#[tokio::test]
async fn two_spawns_at_once_never_get_the_same_one() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[]);
    world.prepare(&envelope, 1).await.unwrap();
    let spawn = || world.spawn(envelope.clone());
    let (a, b, c) = tokio::join!(spawn(), spawn(), spawn());
    let aids: std::collections::BTreeSet<Aid> = [a, b, c].map(|info| info.unwrap().aid).into();
    assert_eq!(aids.len(), 3);
}

#[tokio::test]
async fn one_that_ends_while_it_waits_is_replaced() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let envelope = signed("one", SLEEP, &[]);
    let aid = world.prepare(&envelope, 1).await.unwrap().agents[0];
    let kill = KillRequest { agent: aid.to_string(), grace_ms: 60_000 };
    let ended = world.operator.call(&kill).await.unwrap();
    assert_eq!((ended.reason.as_deref(), ended.started_ms), (Some("ended by an operator"), None));
    world.manager.look_at_wishes();
    assert_ne!(world.replenished(1).await, [aid]);
}

#[test]
fn a_restart_drops_what_waits_and_keeps_the_wish() {
    let machinery = Machinery::new();
    let envelope = signed("one", SLEEP, &[]);
    let (waits, runs) = life(&machinery, "b1", async |world: &World| {
        world.prepare(&envelope, 2).await.unwrap();
        let runs = world.spawn(envelope.clone()).await.unwrap().aid;
        (world.replenished(2).await, runs)
    });
    let new = life(&machinery, "b1", async |world: &World| {
        until("they are dropped", || waits.iter().all(|aid| world.phase(*aid) == AgentState::Archived)).await;
        let reason = world.manager.info(waits[0]).unwrap().reason.unwrap();
        assert!(reason.contains("does not outlive"), "{reason}");
        assert_eq!(world.phase(runs), AgentState::Running, "one that was taken is adopted");
        let outcomes = machinery.ledger.of(Kind::Outcome);
        assert!(
            outcomes.iter().all(|entry| payload(entry).get("unknown").is_none()),
            "each is known already"
        );
        let new = world.replenished(2).await;
        assert!(new.iter().all(|aid| !waits.contains(aid)));
        new
    });
    life(&machinery, "b2", async |world: &World| {
        until("they are gone", || new.iter().all(|aid| world.phase(*aid).ended())).await;
        world.replenished(2).await;
        let taken: AgentInfo = world.operator.call(&SpawnRequest { envelope, task: None }).await.unwrap();
        assert_eq!(taken.state, AgentState::Running);
    });
}
