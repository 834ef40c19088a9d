//! Suspending agents, slowing them down, and giving that back.

use super::family;
use super::life::{api, until};
use super::restart::{life, runtime, spawn, wait};
use super::world::{Machinery, World, key, manifest, signed};
use crate::spawner::NotHeld;
use octant_api::agents::{
    AgentInfo, AgentState, ExitInfo, KillRequest, ResumeRequest, SuspendRequest, ThrottleRequest,
    UnthrottleRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::Aid;
use serde_json::Value;

const ONE: &str = "one";
const SLEEP: &str = "exec sleep 60";

impl World {
    async fn suspend(&self) -> Result<AgentInfo, ApiError> {
        self.operator.call(&SuspendRequest { agent: ONE.into() }).await.map_err(api)
    }

    async fn resume(&self, for_ms: Option<u64>) -> Result<AgentInfo, ApiError> {
        self.operator.call(&ResumeRequest { agent: ONE.into(), for_ms }).await.map_err(api)
    }

    async fn throttle(&self, cpu_percent: u64) -> Result<AgentInfo, ApiError> {
        self.operator.call(&ThrottleRequest { agent: ONE.into(), cpu_percent }).await.map_err(api)
    }

    async fn unthrottle(&self) -> Result<AgentInfo, ApiError> {
        self.operator.call(&UnthrottleRequest { agent: ONE.into() }).await.map_err(api)
    }

    async fn end(&self) -> AgentInfo {
        self.operator.call(&KillRequest { agent: ONE.into(), grace_ms: 60_000 }).await.unwrap()
    }

    fn state(&self) -> AgentState {
        self.manager.list(true)[0].state
    }
}

/// Whether the agent's process is stopped.
fn stopped(machinery: &Machinery) -> bool {
    let pid = *machinery.spawner.running.lock().unwrap().values().next().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}

fn asked(machinery: &Machinery) -> Vec<String> {
    machinery.spawner.asked.lock().unwrap().clone()
}

#[tokio::test]
async fn a_suspended_agent_does_not_run_and_goes_on_where_it_was() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    spawn(&world, ONE, SLEEP).await;
    let info = world.suspend().await.unwrap();
    assert_eq!(
        (info.state, info.reason.as_deref()),
        (AgentState::Suspended, Some("suspended by an operator"))
    );
    until("it is stopped", || stopped(&machinery)).await;
    assert_eq!(world.suspend().await.unwrap().state, AgentState::Suspended, "twice is no fault");
    let info = world.resume(None).await.unwrap();
    assert_eq!((info.state, info.reason), (AgentState::Running, None));
    until("it runs", || !stopped(&machinery)).await;
    until("all is on record", || machinery.ledger.told().len() == 12).await;
    assert_eq!(machinery.ledger.told()[7..], ["command", "suspended", "command", "command", "running"]);
    let entry = machinery.ledger.entries.lock().unwrap()[8].clone();
    let what: Value = entry.payload.read().unwrap();
    assert_eq!((&what["from"], &what["reason"]), (&"running".into(), &"suspended by an operator".into()));
    let error = world.resume(None).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.message.contains("is not suspended"), "{error}");
    assert_eq!(world.end().await.exit, Some(ExitInfo::Signal(15)));
    assert_eq!(world.suspend().await.unwrap_err().code, Code::Conflict, "it has ended");
}

#[tokio::test]
async fn a_suspension_does_not_wait_for_the_ledger_and_a_resume_does() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    spawn(&world, ONE, SLEEP).await;
    machinery.ledger.refuse(Some(0));
    assert_eq!(world.suspend().await.unwrap().state, AgentState::Suspended);
    assert_eq!(world.resume(None).await.unwrap_err().code, Code::Unavailable);
    assert_eq!(world.state(), AgentState::Suspended);
    until("it is stopped", || stopped(&machinery)).await;
    assert!(!asked(&machinery).contains(&"thaw".to_owned()));
    // The command is taken and the change is not.
    machinery.ledger.refuse(None);
    until("both are on record", || machinery.ledger.told().len() == 9).await;
    machinery.ledger.refuse(Some(10));
    let error = world.resume(None).await.unwrap_err();
    assert!(error.code == Code::Unavailable && error.message.contains("the ledger"), "{error}");
    assert!(stopped(&machinery) && world.state() == AgentState::Suspended);
    machinery.ledger.refuse(None);
    assert_eq!(world.resume(None).await.unwrap().state, AgentState::Running);
    world.end().await;
}

#[tokio::test]
async fn a_suspended_agent_is_ended_at_once_and_sealed() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    spawn(&world, ONE, "trap '' TERM; while :; do sleep 0.01; done").await;
    world.suspend().await.unwrap();
    // Its grace would be a minute in which it could do nothing.
    let ended = world.end().await;
    assert_eq!(ended.exit, Some(ExitInfo::Signal(9)));
    assert_eq!(ended.reason.as_deref(), Some("ended by an operator"));
    until("sealed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
}

#[tokio::test]
async fn a_throttle_lowers_and_is_given_back_after_its_record() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    spawn(&world, ONE, SLEEP).await;
    let share = world.manager.store.load().unwrap().0[0].terms.clone().unwrap();
    for percent in [0, share.cpu_percent, u64::MAX] {
        let error = world.throttle(percent).await.unwrap_err();
        assert!(error.code == Code::InvalidParams && error.message.contains("in its manifest"), "{error}");
    }
    let info = world.throttle(20).await.unwrap();
    assert_eq!((info.state, info.cpu_percent), (AgentState::Throttled, Some(20)));
    assert_eq!(world.throttle(30).await.unwrap_err().code, Code::Conflict);
    assert_eq!(world.throttle(10).await.unwrap().cpu_percent, Some(10));
    world.suspend().await.unwrap();
    assert_eq!(world.unthrottle().await.unwrap_err().code, Code::Conflict);
    assert_eq!(world.resume(None).await.unwrap().state, AgentState::Throttled);
    machinery.ledger.refuse(Some(0));
    assert_eq!(world.unthrottle().await.unwrap_err().code, Code::Unavailable);
    machinery.ledger.refuse(None);
    let info = world.unthrottle().await.unwrap();
    assert_eq!((info.state, info.cpu_percent), (AgentState::Running, None));
    let full = format!("speed {} {}", share.cpu_percent, share.cpu_weight);
    assert_eq!(asked(&machinery)[1..], ["speed 20 1", "speed 10 1", "freeze", "thaw", &full]);
    world.end().await;
}

#[tokio::test]
async fn a_layer_that_is_missing_is_named_and_nothing_changes() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    spawn(&world, ONE, SLEEP).await;
    let missing = NotHeld { code: Code::LayerMissing, why: "layer cgroup: it is not here".into() };
    *machinery.spawner.not_held.lock().unwrap() = Some(missing);
    for error in [world.suspend().await.unwrap_err(), world.throttle(10).await.unwrap_err()] {
        assert!(error.code == Code::LayerMissing && error.message.contains("layer cgroup"), "{error}");
        assert_eq!(world.state(), AgentState::Running);
    }
    until("the commands are on record", || machinery.ledger.told().len() == 9).await;
    assert_eq!(machinery.ledger.told()[7..], ["command", "command"]);
    world.end().await;
}

const FREEZE: [(&str, &str); 2] =
    [("ttl = \"5min\"", "ttl = 400"), ("on_timeout = \"end\"", "on_timeout = \"freeze\"")];

#[tokio::test]
async fn a_life_whose_time_is_over_is_frozen_and_needs_a_new_time_within_bounds() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let request = octant_api::agents::SpawnRequest { envelope: signed(ONE, SLEEP, &FREEZE), task: None };
    world.operator.call(&request).await.unwrap();
    until("its time is over", || world.state() == AgentState::Suspended).await;
    let info = world.manager.list(true).remove(0);
    assert!(info.reason.unwrap().contains("its time to live is over"));
    until("it is stopped", || stopped(&machinery)).await;
    assert_eq!(world.resume(None).await.unwrap_err().code, Code::InvalidParams);
    for ms in [0, 401, u64::MAX] {
        let error = world.resume(Some(ms)).await.unwrap_err();
        assert!(error.code == Code::InvalidParams && error.message.contains("400ms"), "{error}");
    }
    assert_eq!(world.resume(Some(400)).await.unwrap().state, AgentState::Running);
    let command = machinery.ledger.of(Kind::Command).pop().unwrap();
    assert_eq!(command.payload.read::<Value>().unwrap()["for_ms"], 400);
    until("that is over too", || world.state() == AgentState::Suspended).await;
    assert_eq!(world.end().await.exit, Some(ExitInfo::Signal(9)));
}

/// When the lives of both are over.
fn deadlines(world: &World, one: Aid, other: Aid) -> [Option<u64>; 2] {
    let saved = world.manager.store.load().unwrap().0;
    [one, other].map(|aid| saved.iter().find(|saved| saved.info.aid == aid).unwrap().deadline_ns)
}

#[tokio::test]
async fn no_new_time_of_a_child_goes_beyond_its_parents() {
    let machinery = family::machinery();
    let world = machinery.start("b1");
    let time = [("ttl = \"5min\"", "ttl = 3000"), FREEZE[1], ("\"analyst\"", "\"admin\"")];
    let lead = family::text(ONE, SLEEP, 1, 2, &time);
    let envelope = String::from_utf8(octant_manifest::sign(lead.as_bytes(), &[&key()])).unwrap();
    let parent =
        world.operator.call(&octant_api::agents::SpawnRequest { envelope, task: None }).await.unwrap().aid;
    let child = family::spawn(&machinery, parent, manifest("child", SLEEP, &FREEZE[1..])).await.unwrap().aid;
    let [lasts, above] = deadlines(&world, child, parent);
    assert!(lasts.is_some() && lasts <= above, "{lasts:?} {above:?}");
    let state = |aid| world.manager.info(aid).unwrap().state;
    until("both have had their time", || [parent, child].map(state) == [AgentState::Suspended; 2]).await;
    let asked = ResumeRequest { agent: child.to_string(), for_ms: Some(1) };
    let error = world.operator.call(&asked).await.map_err(api).unwrap_err();
    assert!(error.code == Code::InvalidParams && error.message.contains("under is over"), "{error}");
    world.resume(Some(3000)).await.unwrap();
    let most = world.manager.store.load().unwrap().0.into_iter().find(|saved| saved.info.aid == child);
    let most = most.unwrap().terms.unwrap().ttl_ms;
    // Less than its parent's at once, and more than what is left of that a while later.
    tokio::time::sleep(std::time::Duration::from_millis(3001 - most.unwrap())).await;
    let asked = ResumeRequest { agent: child.to_string(), for_ms: most };
    assert_eq!(world.operator.call(&asked).await.unwrap().state, AgentState::Running);
    let [lasts, above] = deadlines(&world, child, parent);
    assert_eq!(lasts, above);
    world.end().await;
    until("it ends with its parent", || state(child).ended()).await;
}

#[tokio::test]
async fn the_family_of_a_suspended_agent_goes_on_until_that_ends() {
    let machinery = family::machinery();
    let world = machinery.start("b1");
    let parent = family::root(&world, ONE, 1, 4).await;
    let below = async |name, how| {
        let text = manifest(name, SLEEP, &family::policy(how));
        family::spawn(&machinery, parent, text).await.unwrap().aid
    };
    let (dies, stays) = (below("dies", "terminate").await, below("stays", "adopt").await);
    world.suspend().await.unwrap();
    let info = |aid| world.manager.info(aid).unwrap();
    assert_eq!([dies, stays].map(|aid| info(aid).state), [AgentState::Running; 2]);
    let suspend = SuspendRequest { agent: dies.to_string() };
    world.operator.call(&suspend).await.unwrap();
    assert_eq!(world.end().await.exit, Some(ExitInfo::Signal(9)));
    until("one ends too", || info(dies).state.ended()).await;
    assert_eq!(info(dies).reason.as_deref(), Some("the agent that it was under has ended"));
    until("the other is the operator's", || info(stays).parent.is_none()).await;
    assert_eq!(info(stays).state, AgentState::Running);
    world.operator.call(&KillRequest { agent: "stays".into(), grace_ms: 0 }).await.unwrap();
}

#[tokio::test]
async fn a_life_that_cannot_be_frozen_at_its_time_ends() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    *machinery.spawner.not_held.lock().unwrap() =
        Some(NotHeld { code: Code::LayerMissing, why: "layer cgroup".into() });
    let request = octant_api::agents::SpawnRequest { envelope: signed(ONE, SLEEP, &FREEZE), task: None };
    world.operator.call(&request).await.unwrap();
    let ended = wait(&world, ONE).await;
    assert_eq!(ended.reason.as_deref(), Some("its time to live is over"));
}

#[test]
fn what_is_held_stays_so_over_a_restart() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        spawn(world, ONE, SLEEP).await;
        world.throttle(20).await.unwrap();
    });
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.state(), AgentState::Throttled);
        let times = |word: &str| asked(&machinery).iter().filter(|asked| *asked == word).count();
        until("the kernel is told again", || times("speed 20 1") == 2).await;
        until("a snapshot that was not ended holds it no more", || times("thaw") == 1).await;
        world.suspend().await.unwrap();
    });
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.state(), AgentState::Suspended);
        let frozen = || asked(&machinery).iter().filter(|asked| *asked == "freeze").count();
        until("it is frozen again", || frozen() == 2).await;
        until("it is stopped", || stopped(&machinery)).await;
        let info = world.manager.list(true).remove(0);
        assert_eq!(info.reason.as_deref(), Some("suspended by an operator"));
        assert_eq!(world.resume(None).await.unwrap().state, AgentState::Throttled);
    });
    life(&machinery, "b1", async |world: &World| {
        world.suspend().await.unwrap();
    });
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.end().await.exit, Some(ExitInfo::Signal(9)));
        until("sealed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
        assert_eq!(world.manager.list(true)[0].reason.as_deref(), Some("ended by an operator"));
    });
    let adopted = machinery.ledger.of(Kind::Lifecycle).into_iter().filter_map(|entry| {
        let what: Value = entry.payload.read().unwrap();
        what["adopted"].as_bool().map(|_| what["as"].as_str().unwrap().to_owned())
    });
    assert_eq!(adopted.collect::<Vec<_>>(), ["throttled", "suspended", "throttled", "suspended"]);
}

/// It died after it had decided to freeze, before it knew that this was done.
#[test]
fn a_suspension_that_was_cut_off_is_finished() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| drop(spawn(world, ONE, SLEEP).await));
    let store = crate::store::Store::open(machinery.scratch.path().join("state")).unwrap();
    let mut saved = store.load().unwrap().0.remove(0);
    saved.held.suspension = Some(crate::core::held::Suspension::Operator);
    store.save(&saved).unwrap();
    life(&machinery, "b1", async |world: &World| {
        until("it is suspended", || world.state() == AgentState::Suspended).await;
        until("it is stopped", || stopped(&machinery)).await;
        until("on record", || machinery.ledger.told().contains(&"suspended".to_owned())).await;
        world.end().await;
    });
}

#[test]
fn what_cannot_be_kept_suspended_after_a_restart_ends() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        spawn(world, ONE, SLEEP).await;
        world.suspend().await.unwrap();
    });
    *machinery.spawner.not_held.lock().unwrap() = Some(NotHeld { code: Code::Failed, why: "gone".into() });
    let runtime = runtime();
    runtime.block_on(async {
        let world = machinery.start("b1");
        let ended = wait(&world, ONE).await;
        assert_eq!(ended.reason.as_deref(), Some("it could not be kept suspended or throttled"));
    });
}
