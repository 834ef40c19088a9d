//! What a restart of the service, or of the machine, does to agents.

use super::life::until;
use super::world::{Machinery, World, signed};
use crate::manager::about;
use crate::store::{Saved, Store};
use octant_api::agent::NoteRequest;
use octant_api::agents::{AgentInfo, AgentState, ExitInfo, KillRequest, SpawnRequest, WaitRequest};
use octant_api::ledger::Kind;
use octant_ids::Aid;
use octant_service::{Kept, Left};
use octant_wire::Client;
use tokio::runtime::{Builder, Runtime};

pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs the service until the work is done, and then lets it die with everything that it was doing.
pub(super) fn life<T>(machinery: &Machinery, boot_id: &str, work: impl AsyncFnOnce(&World) -> T) -> T {
    let runtime = runtime();
    let done = runtime.block_on(async {
        let world = machinery.start(boot_id);
        let done = work(&world).await;
        (done, world)
    });
    drop(runtime);
    done.0
}

pub(super) async fn spawn(world: &World, name: &str, command: &str) -> AgentInfo {
    world.operator.call(&SpawnRequest { envelope: signed(name, command, &[]), task: None }).await.unwrap()
}

pub(super) async fn wait(world: &World, agent: &str) -> AgentInfo {
    world.operator.call(&WaitRequest { agent: agent.into() }).await.unwrap()
}

#[test]
fn a_running_agent_is_adopted_with_its_output_socket_and_exit() {
    let machinery = Machinery::new();
    let go = machinery.scratch.path().join("go");
    let command = format!("echo one; while ! [ -e {} ]; do sleep 0.01; done; echo two; exit 4", go.display());
    let aid = life(&machinery, "b1", async |world: &World| {
        let aid = spawn(world, "one", &command).await.aid;
        let log = world.manager.log(aid).unwrap();
        until("it has written", || log.read(&mut Default::default()).unwrap().is_some()).await;
        aid
    });
    life(&machinery, "b1", async |world: &World| {
        let guest = Client::new(machinery.scratch.path().join(format!("{aid}.sock")));
        guest.call(&NoteRequest { text: "still here".into() }).await.unwrap();
        std::fs::write(&go, "").unwrap();
        let ended = wait(world, "one").await;
        assert_eq!(ended.exit, Some(ExitInfo::Code(4)));
        let log = world.manager.log(aid).unwrap();
        let (mut at, mut text) = (Default::default(), Vec::new());
        while let Some((_, bytes)) = log.read(&mut at).unwrap() {
            text.extend(bytes);
        }
        assert_eq!(text, b"one\ntwo\n");
        until("archived", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
        let told = machinery.ledger.told();
        assert!(
            told.contains(&"adopted".to_owned()) && told.contains(&"note still here".to_owned()),
            "{told:?}"
        );
        assert_eq!(told.iter().filter(|t| *t == "terminated").count(), 1);
    });
    let before = machinery.ledger.told().len();
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.manager.info(aid).unwrap().state, AgentState::Archived, "and it stays so");
        spawn(world, "two", "true").await;
    });
    assert_eq!(machinery.ledger.told()[before], "provisioned", "and nothing more is recorded about it");
}

#[test]
fn a_running_agent_whose_handles_are_gone_is_ended() {
    let machinery = Machinery::new();
    let aid = life(&machinery, "b1", async |world: &World| spawn(world, "one", "exec sleep 60").await.aid);
    machinery.shelf.0.lock().unwrap().clear();
    life(&machinery, "b1", async |world: &World| {
        let ended = wait(world, &aid.to_string()).await;
        assert_eq!(ended.reason.as_deref(), Some("its handles were lost in a restart"));
        until("it is dead", || machinery.spawner.running.lock().unwrap().is_empty()).await;
    });
}

#[test]
fn a_life_in_another_boot_is_over() {
    let machinery = Machinery::new();
    let aid = life(&machinery, "b1", async |world: &World| spawn(world, "one", "exec sleep 60").await.aid);
    life(&machinery, "b2", async |world: &World| {
        let ended = wait(world, &aid.to_string()).await;
        assert_eq!(ended.reason.as_deref(), Some("it ended with the boot that it ran in"));
        until("archived", || world.manager.info(aid).unwrap().state == AgentState::Archived).await;
    });
}

#[test]
fn a_start_that_was_cut_off_is_cleaned_up() {
    let machinery = Machinery::new();
    let aid = Aid::new(1, [1; 10]);
    let info = AgentInfo { state: AgentState::Validated, ..super::info(aid) };
    let mut saved = Saved::new("b1", info);
    (saved.slot, saved.intent) = (Some(5), Some(77));
    machinery.ledger.partitions.lock().unwrap().insert(aid, true);
    Store::open(machinery.scratch.path().join("state")).unwrap().save(&saved).unwrap();
    life(&machinery, "b1", async |world: &World| {
        let ended = wait(world, &aid.to_string()).await;
        assert_eq!(ended.state, AgentState::Rejected);
        until("it is retired", || *machinery.spawner.asked.lock().unwrap() == ["retire"]).await;
        until("it is sealed", || machinery.ledger.told() == ["outcome", "rejected", "seal"]).await;
    });
    let outcome = machinery.ledger.of(Kind::Outcome).pop().unwrap();
    let became: serde_json::Value = outcome.payload.read().unwrap();
    assert_eq!((outcome.intent, outcome.agent), (Some(77), Some(aid)));
    assert!(became["unknown"].is_string() && became.get("pid").is_none(), "{became}");
}

#[test]
fn an_outcome_that_may_not_be_on_record_is_unknown() {
    let machinery = Machinery::new();
    let aid = Aid::new(1, [1; 10]);
    let info = AgentInfo { state: AgentState::Isolated, ..super::info(aid) };
    let mut saved = Saved::new("b1", info);
    (saved.slot, saved.intent) = (Some(5), Some(77));
    machinery.ledger.partitions.lock().unwrap().insert(aid, true);
    Store::open(machinery.scratch.path().join("state")).unwrap().save(&saved).unwrap();
    life(&machinery, "b1", async |_: &World| {
        until("it is sealed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
    });
    let outcome = machinery.ledger.of(Kind::Outcome).pop().unwrap();
    let became: serde_json::Value = outcome.payload.read().unwrap();
    assert!(outcome.intent == Some(77) && became["unknown"].is_string(), "{became}");
}

#[test]
fn an_end_whose_seal_may_be_missing_is_sealed_once() {
    let machinery = Machinery::new();
    let aid = Aid::new(1, [1; 10]);
    let saved = Saved::new("b1", AgentInfo { state: AgentState::Archived, ..super::info(aid) });
    machinery.ledger.partitions.lock().unwrap().insert(aid, true);
    Store::open(machinery.scratch.path().join("state")).unwrap().save(&saved).unwrap();
    for _ in 0..2 {
        life(&machinery, "b1", async |world: &World| {
            until("it is sealed", || machinery.ledger.told().contains(&"seal".to_owned())).await;
            assert_eq!(world.manager.records.backlog().1, 0);
        });
    }
    assert_eq!(machinery.ledger.told(), ["seal"]);
}

#[test]
fn what_the_ledger_did_not_take_before_a_restart_it_is_given_after() {
    let machinery = Machinery::new();
    let runtime = runtime();
    runtime.block_on(async {
        let mut world = machinery.start("b1");
        spawn(&world, "one", "exec sleep 60").await;
        machinery.ledger.refuse(Some(0));
        let kill = KillRequest { agent: "one".into(), grace_ms: 0 };
        world.operator.call(&kill).await.unwrap();
        until("it is archived", || world.manager.list(true)[0].state == AgentState::Archived).await;
        world.stop().await;
    });
    drop(runtime);
    machinery.ledger.refuse(None);
    life(&machinery, "b1", async |world: &World| {
        until("it is sealed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
        assert_eq!(world.manager.records.backlog().1, 0);
    });
    let after = ["command", "ended by an operator", "terminated", "archived", "seal"];
    assert_eq!(machinery.ledger.told()[7..], after, "in order, each once");
}

/// Three records of an agent's end, as a run before left them.
fn left_by_the_run_before(machinery: &Machinery, aid: Aid) -> Kept {
    let kept = Kept::new(machinery.scratch.path().join("state/records.json"));
    let of = |kind, to: &str| about(aid, kind, &serde_json::json!({"agent": aid, "to": to}));
    let waiting = ["terminated", "archived"].map(|to| of(Kind::Lifecycle, to)).to_vec();
    let waiting = [waiting, vec![of(Kind::Seal, "")]].concat();
    kept.write(&Left { waiting, lost: 0 }).unwrap();
    kept
}

#[test]
fn what_was_left_is_kept_until_the_ledger_has_it_however_often_this_service_dies() {
    let machinery = Machinery::new();
    let aid = Aid::new(1, [1; 10]);
    let kept = left_by_the_run_before(&machinery, aid);
    machinery.ledger.partitions.lock().unwrap().insert(aid, true);
    let left = kept.read();
    for taken in [0, 0, 2] {
        // It dies while the ledger has none of them, and then with two of three.
        machinery.ledger.refuse(Some(taken));
        life(&machinery, "b1", async |world: &World| {
            until("it was refused", || world.manager.records.backlog().0 > 0).await;
        });
        assert_eq!(kept.read(), left);
    }
    machinery.ledger.refuse(None);
    life(&machinery, "b1", async |_: &World| {
        until("they are removed", || kept.read() == Left::default()).await;
    });
    let twice = ["terminated", "archived", "terminated", "archived", "seal"];
    assert_eq!(machinery.ledger.told(), twice, "none has disappeared");
}

/// It died after the ledger had taken everything and before the file was removed.
#[test]
fn records_that_appear_twice_are_not_counted_as_lost() {
    let machinery = Machinery::new();
    let aid = Aid::new(1, [1; 10]);
    let kept = left_by_the_run_before(&machinery, aid);
    machinery.ledger.partitions.lock().unwrap().insert(aid, false);
    life(&machinery, "b1", async |world: &World| {
        until("they are removed", || kept.read() == Left::default()).await;
        assert_eq!(world.manager.records.backlog(), (0, 0));
    });
    assert_eq!(machinery.ledger.told(), ["terminated", "archived"]);
    assert!(machinery.ledger.of(Kind::Lifecycle).iter().all(|entry| entry.agent.is_none()));
}

#[test]
fn that_records_were_left_which_cannot_be_read_is_put_on_record() {
    let machinery = Machinery::new();
    let kept = left_by_the_run_before(&machinery, Aid::new(1, [1; 10]));
    let path = machinery.scratch.path().join("state/records.json");
    std::fs::write(&path, b"{").unwrap();
    life(&machinery, "b1", async |_: &World| {
        until("the loss is on record", || machinery.ledger.told() == ["lost"]).await;
    });
    assert_eq!(kept.read(), Left::default());
    assert!(path.with_extension("damaged").exists());
}

#[test]
fn a_partition_that_cannot_be_opened_yet_waits_and_lets_the_seal_by_that_makes_room() {
    let machinery = Machinery::new();
    let (old, new) = (Aid::new(1, [1; 10]), Aid::new(2, [2; 10]));
    *machinery.ledger.room.lock().unwrap() = Some(1);
    machinery.ledger.partitions.lock().unwrap().insert(old, true);
    life(&machinery, "b1", async |world: &World| {
        let later = |aid, kind, to: &str| {
            world.manager.records.later(about(aid, kind, &serde_json::json!({"agent": aid, "to": to})));
        };
        later(new, Kind::Lifecycle, "rejected");
        later(new, Kind::Seal, "");
        later(old, Kind::Lifecycle, "archived");
        later(old, Kind::Seal, "");
        until("both are sealed", || machinery.ledger.of(Kind::Seal).len() == 2).await;
        assert_eq!(world.manager.records.backlog().1, 0, "nothing is lost");
    });
    assert_eq!(machinery.ledger.told(), ["archived", "seal", "rejected", "seal"]);
}

#[test]
fn a_lifetime_goes_on_over_a_restart() {
    let machinery = Machinery::new();
    let short = signed("one", "exec sleep 60", &[("ttl = \"5min\"", "ttl = 300")]);
    life(&machinery, "b1", async |world: &World| {
        world.operator.call(&SpawnRequest { envelope: short, task: None }).await.unwrap();
    });
    life(&machinery, "b1", async |world: &World| {
        let ended = wait(world, "one").await;
        assert_eq!(ended.reason.as_deref(), Some("its time to live is over"));
    });
}

#[test]
fn an_adopted_agent_can_be_killed() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| drop(spawn(world, "one", "exec sleep 60").await));
    life(&machinery, "b1", async |world: &World| {
        let kill = KillRequest { agent: "one".into(), grace_ms: 0 };
        assert_eq!(world.operator.call(&kill).await.unwrap().exit, Some(ExitInfo::Signal(9)));
    });
}
