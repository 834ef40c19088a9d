//! Agents that agents spawn, over their own sockets.

use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key, manifest, signed};
use crate::spawner::Spawner;
use crate::store::Store;
use octant_api::agent::{
    Child, ChildrenRequest, KillRequest, LogsRequest, NoteRequest, SpawnRequest, WaitRequest,
};
use octant_api::agents::{self, AgentState, ExitInfo};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::Aid;
use serde_json::{Value, json};

pub(super) const SLEEP: &str = "exec sleep 60";

/// The change that lets a manifest spawn.
pub(super) fn may(depth: u64, descendants: u64) -> (String, String) {
    ("allowed = false".into(), format!("allowed = true\ndepth = {depth}\ndescendants = {descendants}"))
}

/// A manifest of an agent that sleeps, and may spawn.
pub(super) fn text(
    name: &str,
    command: &str,
    depth: u64,
    descendants: u64,
    change: &[(&str, &str)],
) -> String {
    let (from, to) = may(depth, descendants);
    let change: Vec<(&str, &str)> = change.iter().copied().chain([(from.as_str(), to.as_str())]).collect();
    manifest(name, command, &change)
}

/// A machine with room for a family, whose operator may give every role.
pub(super) fn machinery() -> Machinery {
    let mut machinery = Machinery::new();
    machinery.max_agents = 32;
    let trusted = machinery.scratch.path().join("trusted/ada.pub");
    std::fs::write(trusted, key().public_file("ada", "admin")).unwrap();
    machinery
}

pub(super) async fn root(world: &World, name: &str, depth: u64, descendants: u64) -> Aid {
    let text = text(name, SLEEP, depth, descendants, &policy("adopt"));
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

pub(super) async fn spawn(machinery: &Machinery, parent: Aid, text: String) -> Result<Child, ApiError> {
    machinery.guest(parent).call(&SpawnRequest { manifest: text }).await.map_err(api)
}

async fn left(machinery: &Machinery, aid: Aid) -> u64 {
    machinery.guest(aid).call(&ChildrenRequest::default()).await.unwrap().descendants_left
}

pub(super) fn payload(entry: &AppendRequest) -> Value {
    entry.payload.read().unwrap()
}

fn ended(world: &World, aid: Aid) -> bool {
    world.manager.info(aid).unwrap().state.ended()
}

pub(super) fn policy(name: &'static str) -> [(&'static str, &'static str); 2] {
    let policy = match name {
        "wind-down" => "on_parent_death = \"wind-down\"",
        "adopt" => "on_parent_death = \"adopt\"",
        _ => "on_parent_death = \"terminate\" ",
    };
    [("on_parent_death = \"terminate\"", policy), ("\"analyst\"", "\"admin\"")]
}

#[tokio::test]
async fn a_child_runs_within_its_parent_and_says_from_whom_it_comes() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 2, 4).await;
    let asked = text("helper", "echo done; exit 7", 1, 1, &[("pids_max = 16", "pids_max = 99")]);
    let child = spawn(&machinery, parent, asked).await.unwrap();
    assert_eq!((child.parent, child.depth, child.name.as_str()), (Some(parent), 1, "helper"));
    let narrowed = child.narrowed.iter().find(|row| row.field == "resources.pids_max").unwrap();
    assert_eq!((narrowed.asked.as_str(), narrowed.got.as_str()), ("99", "16"), "as data");
    assert!(!child.grants.is_empty());
    let client = machinery.guest(parent);
    let done = client.call(&WaitRequest { agent: "helper".into() }).await.unwrap();
    assert_eq!((done.aid, done.exit), (child.aid, Some(ExitInfo::Code(7))));
    let logs = LogsRequest { agent: child.aid.to_string(), output: None, follow: true };
    let mut stream = client.stream(&logs).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().data.0, b"done\n");
    assert_eq!(client.call(&ChildrenRequest::default()).await.unwrap().agents, []);
    assert_eq!(client.call(&ChildrenRequest { all: true }).await.unwrap().agents.len(), 1);
    until("the child is sealed", || machinery.ledger.told().contains(&"seal".to_owned())).await;
    // What the parent gave is its own deed; everything of the child's says from whom it comes.
    let given = machinery.ledger.of(Kind::Grant);
    assert_eq!((given[0].actor, given[0].subject), (Some(parent), Some(child.manifest_digest)));
    assert_eq!(payload(&given[0])["agent"], json!(child.aid));
    let lineage = json!({"parent": parent, "depth": 1, "root": parent, "operator": "ada"});
    let entries = machinery.ledger.entries.lock().unwrap().clone();
    let own = entries.iter().filter(|e| e.agent == Some(child.aid));
    let own: Vec<_> = own.filter(|e| !matches!(e.kind, Kind::Seal)).collect();
    assert!(own.len() >= 6, "{own:?}");
    assert!(own.iter().all(|e| payload(e)["lineage"] == lineage), "{own:?}");
    // The intent comes after what was given, and the spawner had its ticket.
    let at = |wanted: &AppendRequest| entries.iter().position(|e| e == wanted).unwrap();
    let intent = own.iter().find(|e| e.kind == Kind::Intent).unwrap();
    assert!(at(&given[0]) < at(intent) && intent.ticket_for.is_some());
    assert_eq!(payload(intent)["asked_by"], json!(parent));
}

#[tokio::test]
async fn a_child_is_refused_with_every_reason_and_nothing_is_begun() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 1, 2).await;
    let wrong =
        manifest("x", "true", &[("\"ada\"", "\"eve\""), ("\"/bin/sh\"", "\"/bin/ls\""), ("\"ls\", ", "")]);
    let error = spawn(&machinery, parent, wrong).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParams, "{error}");
    let wrong = manifest("x", "true", &[("\"ada\"", "\"eve\""), ("\"analyst\"", "\"wizard\"")]);
    let error = spawn(&machinery, parent, wrong).await.unwrap_err();
    for reason in ["identity.operator", "identity.role"] {
        assert!(error.message.contains(reason), "{reason} in {error}");
    }
    assert_eq!(left(&machinery, parent).await, 2);
    assert_eq!(world.manager.list(true).len(), 1, "no identifier was given out");
    until("both refusals are on record", || machinery.ledger.of(Kind::Grant).len() == 2).await;
    let refusal = machinery.ledger.of(Kind::Grant).pop().unwrap();
    assert_eq!(refusal.actor, Some(parent));
    assert!(payload(&refusal)["refused"].as_str().unwrap().contains("wizard"));
    let signed = signed("x", "true", &[]);
    let error = spawn(&machinery, parent, signed).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParams, "what an operator signed is no manifest of a child: {error}");
    let long = "#".repeat(200 << 10);
    assert_eq!(spawn(&machinery, parent, long).await.unwrap_err().code, Code::TooLong);
}

#[tokio::test]
async fn depth_descendants_uses_and_places_are_bounded() {
    let mut machinery = machinery();
    machinery.max_agents = 5;
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 2, 5).await;
    let refused = async |parent, text: String| {
        let error = spawn(&machinery, parent, text).await.unwrap_err();
        (error.code, error.message)
    };
    let leaf = || manifest("leaf", SLEEP, &[]);
    let child = spawn(&machinery, parent, text("child", SLEEP, 9, 3, &[])).await.unwrap().aid;
    assert_eq!((left(&machinery, parent).await, left(&machinery, child).await), (1, 3));
    let (code, why) = refused(parent, text("greedy", SLEEP, 1, 1, &[])).await;
    assert!(code == Code::Denied && why.contains("2 asked and 1 left"), "{why}");
    let grandchild = spawn(&machinery, child, text("grandchild", SLEEP, 9, 2, &[])).await.unwrap().aid;
    assert_eq!(left(&machinery, child).await, 2, "who may spawn nobody holds nothing back");
    let (code, why) = refused(grandchild, leaf()).await;
    assert!(code == Code::Denied && why.contains("may spawn nobody"), "{why}");
    // A manifest that was used up by its own word.
    let once = manifest("once", "true", &[("max_spawns = 100", "max_spawns = 1")]);
    let first = spawn(&machinery, child, once.clone()).await.unwrap().aid;
    world.wait(&first.to_string()).await;
    let (code, why) = refused(child, once).await;
    assert!(code == Code::Denied && why.contains("1 times"), "{why}");
    spawn(&machinery, child, leaf()).await.unwrap();
    assert_eq!((left(&machinery, parent).await, left(&machinery, child).await), (1, 0));
    let (code, why) = refused(parent, leaf()).await;
    assert!(code == Code::Busy && why.contains("4 agents run"), "{why}");
    assert_eq!(
        left(&machinery, parent).await,
        0,
        "one that was begun is used up, so that nobody begins for ever"
    );
    let other = root(&world, "other", 1, 1).await;
    assert!(!ended(&world, other), "an operator has a place left");
    world.kill("child", 0).await;
    until("they have ended with it", || world.manager.list(false).len() == 2).await;
    assert_eq!(left(&machinery, parent).await, 0, "it had used up all of its share");
}

#[tokio::test]
async fn what_a_child_did_not_use_up_comes_back() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 3, 10).await;
    let child = spawn(&machinery, parent, text("child", SLEEP, 2, 6, &policy("adopt"))).await.unwrap().aid;
    let grandchild =
        spawn(&machinery, child, text("grand", SLEEP, 1, 2, &policy("adopt"))).await.unwrap().aid;
    assert_eq!((left(&machinery, parent).await, left(&machinery, child).await), (3, 3));
    world.kill(&child.to_string(), 0).await;
    assert_eq!(left(&machinery, parent).await, 6);
    until("it is adopted", || world.manager.info(grandchild).unwrap().parent == Some(parent)).await;
    world.kill(&grandchild.to_string(), 0).await;
    assert_eq!(left(&machinery, parent).await, 8, "ten, less the two that lived");
}

#[tokio::test]
async fn an_agent_reaches_its_own_descendants_and_nobody_else() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let (one, two) = (root(&world, "one", 2, 4).await, root(&world, "two", 2, 4).await);
    let child = spawn(&machinery, one, text("child", SLEEP, 1, 1, &[])).await.unwrap().aid;
    let grandchild = spawn(&machinery, child, manifest("grand", SLEEP, &[])).await.unwrap().aid;
    let nobody = Aid::new(1, [1; 10]);
    let ask = async |from: Aid, whom: String| {
        let client = machinery.guest(from);
        let kill =
            client.call(&KillRequest { agent: whom.clone(), grace_ms: 0 }).await.map_err(api).unwrap_err();
        let wait = client.call(&WaitRequest { agent: whom.clone() }).await.map_err(api).unwrap_err();
        let logs = LogsRequest { agent: whom, output: None, follow: false };
        let logs = client.stream(&logs).await.unwrap().next().await.map_err(api).unwrap_err();
        assert_eq!((&kill, &wait), (&logs, &logs));
        (kill.code, kill.message.split(": ").last().unwrap().to_owned())
    };
    let unknown = ask(two, nobody.to_string()).await;
    for (from, whom) in [
        (two, child.to_string()),
        (two, grandchild.to_string()),
        (two, "child".to_owned()),
        (two, one.to_string()),
        (child, one.to_string()),
        (child, child.to_string()),
        (grandchild, child.to_string()),
    ] {
        assert_eq!(ask(from, whom.clone()).await, unknown, "{from} asks for {whom}");
    }
    assert_eq!(unknown.0, Code::NotFound);
    let agents = machinery.guest(one).call(&ChildrenRequest::default()).await.unwrap().agents;
    assert_eq!(agents.iter().map(|a| a.aid).collect::<Vec<_>>(), [child, grandchild]);
    let killed =
        machinery.guest(one).call(&KillRequest { agent: "grand".into(), grace_ms: 0 }).await.unwrap();
    assert_eq!(killed.reason.as_deref(), Some("ended by an agent above it"));
    assert!(!ended(&world, child));
    let deed = machinery.ledger.of(Kind::Grant).into_iter().find(|e| payload(e)["do"] == "kill").unwrap();
    assert_eq!((deed.actor, payload(&deed)["agent"].clone()), (Some(one), json!(grandchild)));
}

#[tokio::test]
async fn a_parents_end_is_what_each_below_it_says() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 3, 20).await;
    let child = spawn(&machinery, parent, text("child", SLEEP, 2, 10, &policy("adopt"))).await.unwrap().aid;
    let told = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    let below = async |name, command, how| {
        spawn(&machinery, child, text(name, command, 1, 1, &policy(how))).await.unwrap().aid
    };
    let dies = below("dies", SLEEP, "terminate").await;
    let winds = below("winds", told, "wind-down").await;
    let stays = below("stays", SLEEP, "adopt").await;
    let last = spawn(&machinery, dies, manifest("last", SLEEP, &[])).await.unwrap().aid;
    let log = world.manager.log(winds).unwrap();
    until("its trap is set", || log.read(&mut Default::default()).unwrap().is_some()).await;
    world.kill("child", 0).await;
    until("those that end with it have", || [dies, winds, last].iter().all(|aid| ended(&world, *aid))).await;
    for aid in [dies, winds, last] {
        let info = world.manager.info(aid).unwrap();
        assert_eq!(info.reason.as_deref(), Some("the agent that it was under has ended"), "{}", info.name);
    }
    assert_eq!(world.manager.info(dies).unwrap().exit, Some(ExitInfo::Signal(9)));
    assert_eq!(
        world.manager.info(winds).unwrap().exit,
        Some(ExitInfo::Code(0)),
        "it was told and ended itself"
    );
    assert_eq!(world.manager.info(stays).unwrap().parent, Some(parent), "it is its grandparent's now");
    assert_eq!(machinery.guest(parent).call(&ChildrenRequest::default()).await.unwrap().agents.len(), 1);
    world.kill("lead", 0).await;
    until("it is the operator's", || world.manager.info(stays).unwrap().parent.is_none()).await;
    assert!(!ended(&world, stays));
    machinery.guest(stays).call(&NoteRequest { text: "still here".into() }).await.unwrap();
    until("both adoptions are on record", || {
        let lives = machinery.ledger.of(Kind::Lifecycle);
        lives.iter().filter(|e| e.agent == Some(stays) && payload(e).get("under").is_some()).count() == 2
    })
    .await;
    world.kill("stays", 0).await;
}

#[tokio::test]
async fn a_child_lives_no_longer_than_its_parent_was_given() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let short =
        text("lead", SLEEP, 1, 2, &[("ttl = \"5min\"", "ttl = \"1500ms\""), ("\"analyst\"", "\"admin\"")]);
    let envelope = String::from_utf8(octant_manifest::sign(short.as_bytes(), &[&key()])).unwrap();
    let parent = world.spawn(envelope).await.unwrap().aid;
    let child = spawn(&machinery, parent, text("child", SLEEP, 1, 1, &policy("adopt"))).await.unwrap();
    let narrowed = child.narrowed.iter().find(|row| row.field == "lifetime.ttl").unwrap();
    assert_eq!(narrowed.asked, "300000ms");
    let done = world.wait(&child.aid.to_string()).await;
    assert_eq!(done.reason.as_deref(), Some("its time to live is over"));
    assert!(ended(&world, parent) || world.wait("lead").await.state.ended());
}

#[tokio::test]
async fn children_come_at_a_rate() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 1, 100).await;
    let mut busy = 0;
    for _ in 0..24 {
        let refused = spawn(&machinery, parent, "not TOML".into()).await.unwrap_err();
        busy += usize::from(refused.code == Code::Busy);
    }
    assert!(busy > 0, "however wrong they are");
}

#[tokio::test]
async fn a_ledger_that_refuses_gives_no_child_and_the_share_comes_back() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = root(&world, "lead", 1, 3).await;
    machinery.ledger.refuse(Some(machinery.ledger.entries.lock().unwrap().len()));
    let error = spawn(&machinery, parent, manifest("x", SLEEP, &[])).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert_eq!(machinery.spawner.asked.lock().unwrap().iter().filter(|a| *a == "spawn").count(), 1);
    machinery.ledger.refuse(None);
    assert_eq!(left(&machinery, parent).await, 2, "the one that was begun is used up");
    let list = world.operator.call(&agents::ListRequest { all: false }).await.unwrap().agents;
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].state, AgentState::Running);
}

#[test]
fn a_parent_that_ends_while_the_service_is_away_leaves_its_family_as_each_says() {
    let machinery = machinery();
    let (parent, dies, stays, below) = life(&machinery, "b1", async |world: &World| {
        let parent = root(world, "lead", 3, 20).await;
        let dies =
            spawn(&machinery, parent, text("dies", SLEEP, 1, 4, &policy("terminate"))).await.unwrap().aid;
        let stays =
            spawn(&machinery, parent, text("stays", SLEEP, 1, 4, &policy("adopt"))).await.unwrap().aid;
        let below = spawn(&machinery, dies, manifest("below", SLEEP, &[])).await.unwrap().aid;
        (parent, dies, stays, below)
    });
    machinery.spawner.kill(0, parent).unwrap();
    machinery.shelf.0.lock().unwrap().retain(|name, _| !name.starts_with(&parent.to_string()));
    life(&machinery, "b1", async |world: &World| {
        until("the others ended", || [parent, dies, below].iter().all(|aid| ended(world, *aid))).await;
        until("it is adopted", || world.manager.info(stays).unwrap().parent.is_none()).await;
        machinery.guest(stays).call(&NoteRequest { text: "still here".into() }).await.unwrap();
        until("they are sealed", || machinery.ledger.of(Kind::Seal).len() == 3).await;
    });
    // The same once more, with the end of the parent on record and nothing done about it.
    life(&machinery, "b1", async |world: &World| {
        assert!(!ended(world, stays));
        world.kill("stays", 0).await;
    });
}

#[test]
fn an_end_of_which_those_below_were_not_told_is_told_after_a_restart() {
    let machinery = machinery();
    let (parent, child) = life(&machinery, "b1", async |world: &World| {
        let parent = root(world, "lead", 3, 20).await;
        let child = spawn(&machinery, parent, manifest("child", SLEEP, &[])).await.unwrap().aid;
        (parent, child)
    });
    let store = Store::open(machinery.scratch.path().join("state")).unwrap();
    let (mut all, _) = store.load().unwrap();
    let saved = all.iter_mut().find(|saved| saved.info.aid == parent).unwrap();
    (saved.info.state, saved.slot, saved.sealed) = (AgentState::Archived, None, true);
    store.save(saved).unwrap();
    machinery.spawner.kill(0, parent).unwrap();
    life(&machinery, "b1", async |world: &World| {
        until("it ended", || ended(world, child)).await;
        let info = world.manager.info(child).unwrap();
        assert_eq!(info.reason.as_deref(), Some("the agent that it was under has ended"));
    });
}

#[test]
fn a_restart_gives_nobody_more_and_a_revoked_key_gives_no_more_children() {
    let machinery = machinery();
    let (parent, child) = life(&machinery, "b1", async |world: &World| {
        let parent = root(world, "lead", 3, 10).await;
        let child = spawn(&machinery, parent, text("child", SLEEP, 1, 3, &[])).await.unwrap().aid;
        spawn(&machinery, child, manifest("one", SLEEP, &[])).await.unwrap();
        (parent, child)
    });
    life(&machinery, "b1", async |world: &World| {
        assert_eq!((left(&machinery, parent).await, left(&machinery, child).await), (6, 2));
        let two =
            spawn(&machinery, child, manifest("two", SLEEP, &[("pids_max = 16", "pids_max = 99")])).await;
        let two = two.unwrap();
        assert_eq!((two.depth, two.parent), (2, Some(child)));
        assert!(two.narrowed.iter().any(|row| row.got == "16"), "within its line: {:?}", two.narrowed);
        world.kill("one", 0).await;
        assert_eq!(left(&machinery, child).await, 1, "what was used up before stays so");
    });
    let refused = async || {
        let error = spawn(&machinery, child, manifest("three", SLEEP, &[])).await.unwrap_err();
        assert_eq!(error.code, Code::Unverified, "{error}");
    };
    life(&machinery, "b1", async |world: &World| {
        let revoked = format!("{} lost\n", key().id());
        std::fs::write(machinery.scratch.path().join("trusted/revoked"), revoked).unwrap();
        refused().await;
        assert!(!ended(world, child));
    });
    life(&machinery, "b1", async |world: &World| {
        refused().await;
        assert_eq!(machinery.guest(child).call(&ChildrenRequest::default()).await.unwrap().agents.len(), 1);
        world.kill("lead", 0).await;
        until("all have ended", || world.manager.list(false).is_empty()).await;
    });
}

/// An agent that is frozen when its time of so many milliseconds is over, and then asks for a child.
async fn short_lived(world: &World, ttl: &str) -> Aid {
    let [_, admin] = policy("adopt");
    let short = [("ttl = \"5min\"", ttl), ("on_timeout = \"end\"", "on_timeout = \"freeze\""), admin];
    let text = text("lead", SLEEP, 1, 4, &short);
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

#[tokio::test]
async fn an_agent_whose_time_is_over_gets_no_child() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = short_lived(&world, "ttl = 300").await;
    until("its time is over", || world.manager.info(parent).unwrap().state == AgentState::Suspended).await;
    let error = spawn(&machinery, parent, text("child", SLEEP, 1, 1, &[])).await.unwrap_err();
    assert_eq!(error.code, Code::Denied);
    assert!(error.message.contains("time to live of the agent that it is under is over"), "{error:?}");
    assert_eq!(left(&machinery, parent).await, 4, "and it has cost nothing");
    assert_eq!(machinery.spawner.asked.lock().unwrap().iter().filter(|asked| *asked == "spawn").count(), 1);
}

#[tokio::test]
async fn a_child_that_is_being_started_when_the_time_above_is_over_is_refused() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = short_lived(&world, "ttl = 1500").await;
    machinery.ledger.slow_ms.store(2000, std::sync::atomic::Ordering::Relaxed);
    let error = spawn(&machinery, parent, text("child", SLEEP, 1, 1, &[])).await.unwrap_err();
    machinery.ledger.slow_ms.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(error.code, Code::Denied);
    assert!(error.message.contains("time to live of the agent that it is under is over"), "{error:?}");
    assert_eq!(machinery.spawner.asked.lock().unwrap().iter().filter(|asked| *asked == "spawn").count(), 1);
    // But for itself, as with every child that was begun.
    until("its share is back", || world.manager.below(parent, false) == (Vec::new(), 3)).await;
}
