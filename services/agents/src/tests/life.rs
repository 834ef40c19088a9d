//! Lives of agents, from a signed envelope to the archive.

use super::world::{Machinery, World, refusal, signed};
use crate::core::prepared::Program;
use octant_api::agent::{NoteRequest, SelfRequest};
use octant_api::agents::{
    AgentInfo, AgentState, ExitInfo, KillRequest, ListRequest, LogsRequest, Output, ShowRequest,
    SpawnRequest, WaitRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::Aid;
use octant_wire::{Client, WireError};
use std::time::Duration;

impl World {
    pub(super) async fn spawn(&self, envelope: String) -> Result<AgentInfo, ApiError> {
        self.operator.call(&SpawnRequest { envelope, task: None }).await.map_err(api)
    }

    pub(super) async fn wait(&self, agent: &str) -> AgentInfo {
        self.operator.call(&WaitRequest { agent: agent.into() }).await.unwrap()
    }

    async fn show(&self, agent: &str) -> Result<AgentInfo, ApiError> {
        self.operator.call(&ShowRequest { agent: agent.into() }).await.map_err(api)
    }

    pub(super) async fn kill(&self, agent: &str, grace_ms: u64) -> AgentInfo {
        self.operator.call(&KillRequest { agent: agent.into(), grace_ms }).await.unwrap()
    }

    async fn list(&self, all: bool) -> Vec<AgentInfo> {
        self.operator.call(&ListRequest { all }).await.unwrap().agents
    }

    async fn output(&self, agent: &str, follow: bool) -> (String, String) {
        let request = LogsRequest { agent: agent.into(), output: None, follow };
        let mut stream = self.operator.stream(&request).await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(chunk) = stream.next().await.unwrap() {
            match chunk.stream {
                Output::Stdout => out.extend(chunk.data.0),
                Output::Stderr => err.extend(chunk.data.0),
            }
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }
}

pub(super) fn api(error: WireError) -> ApiError {
    match error {
        WireError::Api(error) => error,
        other => panic!("{other}"),
    }
}

/// Waits until something holds that happens soon. The limit only ends a test that would never end.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not come true: {what}");
}

const WHOLE: [&str; 10] = [
    "provisioned",
    "command",
    "validated",
    "intent",
    "outcome",
    "isolated",
    "running",
    "terminated",
    "archived",
    "seal",
];

#[tokio::test]
async fn a_whole_life_is_on_record_in_order() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let started = world.spawn(signed("one", "echo out; echo err >&2; exit 3", &[])).await.unwrap();
    assert_eq!(started.operator, "ada");
    let ended = world.wait(&started.aid.to_string()).await;
    assert_eq!((ended.exit, ended.pid), (Some(ExitInfo::Code(3)), None));
    assert!(ended.ended_ms >= ended.started_ms && ended.started_ms.is_some());
    assert_eq!(world.output("one", true).await, ("out\n".to_owned(), "err\n".to_owned()));
    until("sealed", || machinery.ledger.told().len() == WHOLE.len()).await;
    assert_eq!(machinery.ledger.told(), WHOLE);
    let entries = machinery.ledger.entries.lock().unwrap();
    assert!(entries.iter().all(|entry| entry.agent == Some(started.aid)), "all of it is in its partition");
    assert!(entries.iter().all(|entry| entry.manifest == Some(started.manifest_digest)));
    assert_eq!((entries[1].operator, entries[2].operator), (Some(0), None));
    assert_eq!(entries[4].intent, Some(4), "the outcome names its intent");
    assert_eq!(*machinery.spawner.redeemed.lock().unwrap(), [4], "with the ticket of this intent");
    assert_eq!(entries[3].ticket_for.as_ref().map(|name| name.as_str()), Some("spawner"));
    let intent: serde_json::Value = entries[3].payload.read().unwrap();
    assert_eq!(intent["plan"], serde_json::json!(entries[3].subject.unwrap()));
    assert_eq!(intent["accept_missing"], serde_json::json!(["cgroup"]));
    assert_eq!(intent["asked_by"], "operator:0");
    assert_eq!(*machinery.spawner.asked.lock().unwrap(), ["spawn", "kill", "retire"]);
    assert!(machinery.shelf.0.lock().unwrap().is_empty(), "PID 1 keeps nothing of it");
    let archived: serde_json::Value = entries[8].payload.read().unwrap();
    let found = &archived["nothing_left"];
    assert_eq!((&found["processes"], &found["namespaces_looked_for"]), (&0.into(), &2.into()), "{archived}");
    assert!(found["leases"].is_string() && found["socket"] == "closed", "{archived}");
}

#[tokio::test]
async fn what_an_agent_lacks_is_shown_loudly() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let narrow = [("read = []", "read = [\"/srv\", \"/root\"]")];
    world.spawn(signed("one", "exec sleep 60", &narrow)).await.unwrap();
    let listed = world.list(false).await;
    assert_eq!(listed[0].missing_layers, ["cgroup"]);
    assert!(listed[0].layers.is_empty() && listed[0].grants.is_empty());
    let shown = world.show("one").await.unwrap();
    assert!(shown.layers.iter().any(|l| l.name == "seccomp"));
    assert!(shown.grants.iter().any(|g| g == "read /srv"), "{:?}", shown.grants);
    assert_eq!(shown.denials[0].field, "filesystem.read");
    assert_eq!(world.manager.count(), (1, 1, 0));
    world.kill("one", 0).await;
}

#[tokio::test]
async fn nothing_starts_without_the_ledger() {
    for refused in 0..4 {
        let machinery = Machinery::new();
        machinery.ledger.refuse(Some(refused));
        let world = machinery.start("b1");
        let error = world.spawn(signed("one", "true", &[])).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        assert!(machinery.spawner.asked.lock().unwrap().is_empty(), "the spawner was not asked");
        assert!(world.manager.records.healthy().await.is_err());
        // Its rejection is recorded once the ledger takes records again.
        machinery.ledger.refuse(None);
        until("the rejection is recorded", || machinery.ledger.told().contains(&"rejected".to_owned())).await;
        until("and sealed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
    }
}

#[tokio::test]
async fn what_runs_without_a_record_of_its_isolation_is_ended() {
    for refused in 4..7 {
        let machinery = Machinery::new();
        machinery.ledger.refuse(Some(refused));
        let world = machinery.start("b1");
        let error = world.spawn(signed("one", "exec sleep 60", &[])).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        let ended = world.wait("one").await;
        assert_eq!(ended.exit, Some(ExitInfo::Signal(9)));
        assert!(machinery.spawner.running.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_ledger() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    world.spawn(signed("one", "exec sleep 60", &[])).await.unwrap();
    machinery.ledger.refuse(Some(0));
    let ended = world.kill("one", 0).await;
    assert_eq!(ended.exit, Some(ExitInfo::Signal(9)));
    assert_eq!(ended.reason.as_deref(), Some("ended by an operator"));
    machinery.ledger.refuse(None);
    until("it is recorded after", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
    let after = ["command", "ended by an operator", "terminated", "archived", "seal"];
    assert_eq!(machinery.ledger.told()[7..], after);
    let command = machinery.ledger.of(Kind::Command).pop().unwrap();
    assert_eq!((command.operator, command.agent), (Some(0), Some(ended.aid)));
    let what: serde_json::Value = command.payload.read().unwrap();
    assert_eq!((&what["do"], &what["grace_ms"]), (&"kill".into(), &0.into()));
    // Of one that is sealed already the command is on record all the same, and not in its partition.
    world.kill("one", 0).await;
    until("recorded", || machinery.ledger.of(Kind::Command).len() == 3).await;
    assert_eq!(machinery.ledger.of(Kind::Command)[2].agent, None);
    assert_eq!(world.manager.records.backlog().1, 0, "nothing was lost");
}

#[tokio::test]
async fn grace_lets_a_program_end_by_itself() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let polite = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    world.spawn(signed("polite", polite, &[])).await.unwrap();
    until("the trap is set", || {
        world
            .manager
            .log(world.manager.find("polite").unwrap())
            .unwrap()
            .read(&mut Default::default())
            .unwrap()
            .is_some()
    })
    .await;
    assert_eq!(world.kill("polite", 60_000).await.exit, Some(ExitInfo::Code(7)));
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    world.spawn(signed("deaf", deaf, &[])).await.unwrap();
    assert_eq!(world.kill("deaf", 50).await.exit, Some(ExitInfo::Signal(9)));
}

#[tokio::test]
async fn a_life_ends_with_its_time() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    world.spawn(signed("short", "exec sleep 60", &[("ttl = \"5min\"", "ttl = 50")])).await.unwrap();
    let ended = world.wait("short").await;
    assert_eq!(ended.reason.as_deref(), Some("its time to live is over"));
}

#[tokio::test]
async fn a_spawn_is_refused_with_its_code_and_leaves_nothing() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let good = signed("one", "true", &[]);
    let expired = signed("one", "true", &[("2035-01-01", "2020-01-01")]);
    let elsewhere = signed("one", "true", &[("[\"*\"]", "[\"m2\"]")]);
    let models = signed("one", "true", &[("allowed = []", "allowed = [\"anthropic/*\"]")]);
    let admin = signed("one", "true", &[("role = \"analyst\"", "role = \"admin\"")]);
    let forever = signed("one", "true", &[("ttl = \"5min\"", "ttl = \"unlimited\"")]);
    let large = signed("one", "true", &[("memory_max = \"64MiB\"", "memory_max = \"2GiB\"")]);
    let two = signed("one", "true", &[("add = []", "add = [\"bpf\"]"), ("pids_max = 16", "pids_max = 0")]);
    let reserved = signed("one", "true", &[("read = []", "read = [\"/usr/share\", \"/etc/passwd\"]")]);
    let cases = [
        ("manifest = 1".to_owned(), Code::Unverified, &["signature"][..]),
        ("{}".to_owned(), Code::InvalidParams, &["signature"]),
        (expired, Code::Denied, &["signature"]),
        (elsewhere, Code::Denied, &["signature"]),
        (models, Code::InvalidParams, &["schema"]),
        (two, Code::InvalidParams, &["schema", "deny-list"]),
        (admin, Code::Denied, &["role-ceiling"]),
        (forever, Code::ApprovalNeeded, &["unlimited-lifetime"]),
        (large, Code::InvalidParams, &["resources"]),
    ];
    for (number, (envelope, code, rules)) in cases.into_iter().enumerate() {
        let error = world.spawn(envelope).await.unwrap_err();
        assert_eq!((error.code, error.data.rules.join(" ")), (code, rules.join(" ")), "{error}");
        let mut kept = Vec::new();
        until("the rejection is on record", || {
            kept = machinery.ledger.of(Kind::Lifecycle);
            kept.retain(|entry| entry.payload.read::<serde_json::Value>().unwrap()["to"] == "rejected");
            kept.len() == number + 1
        })
        .await;
        let last: serde_json::Value = kept[number].payload.read().unwrap();
        assert_eq!(last["rules"], serde_json::json!(rules), "{last}");
    }
    // Narrowed to nothing by the role, and so no conflict with what the workstation lays out.
    assert!(world.spawn(reserved).await.is_ok());
    std::fs::write(machinery.scratch.path().join("trusted/junk"), "x").unwrap();
    assert_eq!(world.spawn(good).await.unwrap_err().code, Code::Unavailable);
    let asked = machinery.spawner.asked.lock().unwrap().iter().filter(|a| *a == "spawn").count();
    assert_eq!(asked, 1);
    let rejected = world.list(true).await;
    assert!(rejected.iter().filter(|a| a.state == AgentState::Rejected).all(|a| a.reason.is_some()));
}

#[tokio::test]
async fn an_identifier_is_nobody_elses() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let first = world.spawn(signed("one", "true", &[])).await.unwrap();
    let saved = crate::store::Saved::new("b1", first.clone());
    let caller = octant_ids::Principal::Operator(0);
    let error = world.manager.provision(saved, None, &caller, Program::Starts).unwrap_err();
    assert_eq!((error.code, &error.data.rules[..]), (Code::Conflict, &["unique-identity".to_owned()][..]));
    assert_eq!(world.show(&first.aid.to_string()).await.unwrap().name, "one", "nothing of it was changed");
}

#[tokio::test]
async fn a_revocation_counts_at_once() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    world.spawn(signed("one", "true", &[])).await.unwrap();
    let revoked = format!("{} lost\n", super::world::key().id());
    std::fs::write(machinery.scratch.path().join("trusted/revoked"), revoked).unwrap();
    let error = world.spawn(signed("one", "true", &[])).await.unwrap_err();
    assert_eq!(error.code, Code::Unverified);
    assert!(error.message.contains("revoked: lost"), "{error}");
}

#[tokio::test]
async fn a_manifest_can_be_used_as_often_as_it_says() {
    let machinery = Machinery::new();
    let once = signed("one", "true", &[("max_spawns = 100", "max_spawns = 1")]);
    let world = machinery.start("b1");
    world.spawn(once.clone()).await.unwrap();
    assert_eq!(world.spawn(once.clone()).await.unwrap_err().code, Code::Denied);
    drop(world);
    let again = machinery.start("b2");
    assert_eq!(again.spawn(once).await.unwrap_err().code, Code::Denied, "also after a restart");
}

#[tokio::test]
async fn a_layer_that_is_missing_refuses_the_spawn_and_gives_the_slot_back() {
    let machinery = Machinery::new();
    *machinery.spawner.refuse.lock().unwrap() = Some(refusal());
    let world = machinery.start("b1");
    let error = world.spawn(signed("one", "true", &[])).await.unwrap_err();
    assert_eq!(error.code, Code::LayerMissing);
    assert!(error.message.contains("landlock"), "{error}");
    assert_eq!(*machinery.spawner.asked.lock().unwrap(), ["spawn", "retire"]);
    until("recorded", || machinery.ledger.told().len() == 7).await;
    assert_eq!(machinery.ledger.told()[4..], ["outcome", "rejected", "seal"]);
    let outcome = machinery.ledger.of(Kind::Outcome).pop().unwrap();
    let became: serde_json::Value = outcome.payload.read().unwrap();
    assert!(
        became["refused"].as_str().unwrap().contains("landlock") && outcome.intent == Some(4),
        "{became}"
    );
    for _ in 0..3 {
        world.spawn(signed("more", "exec sleep 60", &[])).await.unwrap();
    }
    assert_eq!(world.spawn(signed("more", "true", &[])).await.unwrap_err().code, Code::Busy);
    for agent in world.list(false).await {
        world.kill(&agent.aid.to_string(), 0).await;
    }
}

#[tokio::test]
async fn what_is_left_of_an_agent_is_removed_in_the_end() {
    let machinery = Machinery::new();
    *machinery.spawner.residue.lock().unwrap() = 1;
    let world = machinery.start("b1");
    world.spawn(signed("one", "true", &[])).await.unwrap();
    assert_eq!(world.wait("one").await.state, AgentState::Terminated);
    assert!(!machinery.ledger.told().contains(&"archived".to_owned()), "something is left");
    until("archived", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
}

#[tokio::test]
async fn an_intent_without_a_ticket_is_not_acted_on_and_is_closed() {
    let machinery = Machinery::new();
    machinery.ledger.no_tickets.store(true, std::sync::atomic::Ordering::Relaxed);
    let world = machinery.start("b1");
    let error = world.spawn(signed("one", "true", &[])).await.unwrap_err();
    assert!(error.code == Code::Unavailable && error.message.contains("no ticket"), "{error}");
    until("closed", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
    assert_eq!(machinery.ledger.told()[3..], ["intent", "outcome", "rejected", "seal"]);
    assert!(!machinery.spawner.asked.lock().unwrap().contains(&"spawn".to_owned()));
}

#[tokio::test]
async fn a_record_that_the_ledger_will_never_take_holds_no_other_up_and_is_counted() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let aid = world.spawn(signed("one", "exec sleep 60", &[])).await.unwrap().aid;
    // As after a loss that an operator acknowledged.
    machinery.ledger.partitions.lock().unwrap().insert(aid, false);
    world.kill("one", 0).await;
    until("the loss is on record", || !machinery.ledger.of(Kind::Lost).is_empty()).await;
    until("and counted", || world.manager.records.backlog() == (0, 4)).await;
    machinery.ledger.partitions.lock().unwrap().clear();
    world.spawn(signed("two", "true", &[])).await.unwrap();
    until("others are recorded", || machinery.ledger.told().last().is_some_and(|l| l == "seal")).await;
}

#[tokio::test]
async fn an_agent_puts_notes_on_record_under_its_own_name() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let aid = world.spawn(signed("one", "exec sleep 60", &[])).await.unwrap().aid;
    let guest = Client::new(machinery.scratch.path().join(format!("{aid}.sock")));
    let noted = guest.call(&NoteRequest { text: "found it".into() }).await.unwrap();
    assert_eq!(noted.seq, 8);
    let note = machinery.ledger.entries.lock().unwrap()[7].clone();
    assert_eq!((note.actor, note.agent), (Some(aid), None), "the actor says whom it is about");
    assert_eq!(guest.call(&SelfRequest {}).await.unwrap().aid, aid);
    let long = NoteRequest { text: "x".repeat(5000) };
    assert_eq!(api(guest.call(&long).await.unwrap_err()).code, Code::TooLong);
    let error = guest.call(&ListRequest { all: true }).await.unwrap_err();
    assert_eq!(api(error).code, Code::MethodNotFound, "an agent sees no other");
    let mut refused = 0;
    for _ in 0..64 {
        let note = guest.call(&NoteRequest { text: "again".into() }).await;
        refused += usize::from(note.is_err_and(|e| api(e).code == Code::Busy));
    }
    assert!(refused > 0, "notes have a rate");
    world.kill("one", 0).await;
    until("its socket is closed", || {
        std::os::unix::net::UnixStream::connect(machinery.scratch.path().join(format!("{aid}.sock"))).is_err()
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_agent_half_started() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let request = SpawnRequest { envelope: signed("one", "exec sleep 60", &[]), task: None };
    let gone = tokio::time::timeout(Duration::from_micros(1), world.operator.call(&request)).await;
    if gone.is_err() {
        // The request may not have been sent at all; ask again in that case.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if world.list(true).await.is_empty() {
            world.spawn(request.envelope).await.unwrap();
        }
    }
    until("it runs", || world.manager.list(false).iter().all(|a| a.state == AgentState::Running)).await;
    world.kill("one", 0).await;
}

#[tokio::test]
async fn agents_are_found_by_identifier_end_of_it_or_name() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let first = world.spawn(signed("one", "true", &[])).await.unwrap().aid.to_string();
    world.wait(&first).await;
    let second = world.spawn(signed("one", "exec sleep 60", &[])).await.unwrap().aid.to_string();
    assert_eq!(world.show("one").await.unwrap().aid.to_string(), second, "the one that runs");
    assert_eq!(world.show(&first[first.len() - 8..]).await.unwrap().aid.to_string(), first);
    for nobody in ["", "two", "agent-", &Aid::new(1, [1; 10]).to_string()] {
        assert_eq!(world.show(nobody).await.unwrap_err().code, Code::NotFound, "{nobody}");
    }
    world.kill("one", 0).await;
    assert_eq!(world.show("one").await.unwrap_err().code, Code::Conflict);
}

#[tokio::test]
async fn output_is_bounded_and_ended_agents_are_forgotten() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let flood = "i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done";
    world.spawn(signed("flood", flood, &[])).await.unwrap();
    let (out, _) = world.output("flood", true).await;
    assert!(out.ends_with("29999\n"), "{}", &out[out.len().saturating_sub(40)..]);
    let request = LogsRequest { agent: "flood".into(), output: Some(Output::Stderr), follow: false };
    let mut stream = world.operator.stream(&request).await.unwrap();
    assert!(stream.next().await.unwrap().is_none());
    let end = stream.end().unwrap();
    assert!(end.lost_bytes > 0 && end.state.ended());
    for i in 0..6 {
        world.spawn(signed(&format!("n{i}"), "true", &[])).await.unwrap();
        world.wait(&format!("n{i}")).await;
    }
    until("the oldest are forgotten", || world.manager.list(true).len() == 4).await;
    let files = std::fs::read_dir(machinery.scratch.path().join("state")).unwrap();
    let names: Vec<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|n| n.ends_with(".json")).count(), 4 + 2, "{names:?}");
}

#[tokio::test]
async fn a_stranger_may_do_nothing() {
    let machinery = Machinery::new();
    let _world = machinery.start("b1");
    let stranger = Client::new(machinery.scratch.path().join("stranger.sock"));
    let error =
        stranger.call(&SpawnRequest { envelope: signed("one", "true", &[]), task: None }).await.unwrap_err();
    assert_eq!(api(error).code, Code::Denied);
    let error = stranger.call(&ListRequest::default()).await.unwrap_err();
    assert_eq!(api(error).code, Code::Denied);
}
