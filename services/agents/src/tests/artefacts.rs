//! What is kept of workspaces, and forks.

use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key, signed};
use octant_api::agent::SnapshotRequest;
use octant_api::agents::{
    AgentInfo, AgentState, Artefacts, ArtefactsRequest, ForkRequest, KillRequest, RemoveArtefactsRequest,
    ShowRequest, Snapshot, SpawnRequest, SuspendRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Sha256};
use octant_tree::{Shelf, Store};
use serde_json::Value;

const REPORT: (&str, &str) = ("retain = []", "retain = [\"/workspace/report\"]");

impl World {
    async fn kept(&self, aid: Aid) -> AgentInfo {
        self.operator.call(&ArtefactsRequest { agent: aid.to_string() }).await.unwrap()
    }
}

async fn spawn(world: &World, command: &str, change: &[(&str, &str)]) -> Aid {
    world
        .operator
        .call(&SpawnRequest { envelope: signed("report", command, change), task: None })
        .await
        .unwrap()
        .aid
}

/// What the ledger was told about what was kept, and that the seal came after it.
fn told(machinery: &Machinery) -> Vec<Value> {
    let entries = machinery.ledger.entries.lock().unwrap();
    let kept = |value: &Value| value["artefacts"].is_object();
    let of = |entry: &octant_api::ledger::AppendRequest| entry.payload.read::<Value>().unwrap_or_default();
    if let Some(seal) = entries.iter().position(|entry| entry.kind == Kind::Seal) {
        assert!(entries[seal..].iter().all(|entry| !kept(&of(entry))), "after the seal");
    }
    entries.iter().map(of).filter(kept).map(|value| value["artefacts"].clone()).collect()
}

#[test]
fn what_the_manifest_names_is_kept_when_the_agent_ends_and_goes_when_an_operator_says_so() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        let command = "mkdir $WORK/report; echo found > $WORK/report/text; echo no > $WORK/private; mkfifo $WORK/report/pipe";
        let aid = spawn(world, command, &[REPORT]).await;
        let kept = world.kept(aid).await.artefacts.unwrap();
        assert_eq!((kept.entries, kept.bytes, kept.failed.as_deref()), (2, 6, None));
        assert_eq!(kept.left_out.iter().map(|row| row.place.as_str()).collect::<Vec<_>>(), ["report/pipe"]);
        let tree = kept.tree.unwrap();
        let shelf = Shelf::new(&machinery.scratch.path().join("state/artefacts"));
        assert_eq!(shelf.tree(tree).unwrap().bytes(), 6);
        until("it is so", || world.manager.info(aid).unwrap().state == AgentState::Archived).await;
        let asked = machinery.spawner.asked.lock().unwrap().clone();
        let of = |what: &str| asked.iter().position(|word| word == what).unwrap();
        assert!(of("kill") < of("collect") && of("collect") < of("retire"), "{asked:?}");
        until("it is so", || machinery.ledger.told().contains(&"seal".to_owned())).await;
        let told = told(&machinery);
        assert_eq!((told.len(), &told[0]["tree"]), (1, &serde_json::json!(tree)));
        assert_eq!(told[0]["left_out"][0][0], "report/pipe");
        // Nothing of the workspace is held any more.
        assert!(machinery.shelf.0.lock().unwrap().is_empty());
        let gone = world.operator.call(&RemoveArtefactsRequest { tree }).await.unwrap();
        assert_eq!(gone.agents, [aid]);
        assert!(world.kept(aid).await.artefacts.unwrap().removed);
        assert!(shelf.tree(tree).is_err());
        let error = world.operator.call(&RemoveArtefactsRequest { tree }).await.unwrap_err();
        assert!(error.to_string().contains("there is no tree"), "{error}");
    });
}

/// The agent's own request, and what its operator is shown of it.
async fn snapshot(machinery: &Machinery, aid: Aid) -> Result<Artefacts, ApiError> {
    machinery.guest(aid).call(&SnapshotRequest {}).await.map_err(api)
}

async fn shown(world: &World, aid: Aid) -> Vec<Snapshot> {
    world.operator.call(&ShowRequest { agent: aid.to_string() }).await.unwrap().snapshots
}

#[test]
fn an_agent_has_what_its_manifest_names_kept_while_it_runs_and_stands_still_meanwhile() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        let command =
            "mkdir $WORK/report; echo found > $WORK/report/text; echo no > $WORK/private; exec sleep 60";
        let aid = spawn(world, command, &[REPORT]).await;
        let work = machinery.scratch.path().join(format!("{aid}.work"));
        until("it is so", || std::fs::metadata(work.join("private")).is_ok_and(|file| file.len() == 3)).await;
        machinery.spawner.asked.lock().unwrap().clear();
        let kept = snapshot(&machinery, aid).await.unwrap();
        let tree = kept.tree.unwrap();
        assert_eq!((kept.entries, kept.bytes, kept.whole), (2, 6, false));
        let asked = machinery.spawner.asked.lock().unwrap().clone();
        assert_eq!(asked, ["freeze", "collect", "thaw"]);
        let shelf = Shelf::new(&machinery.scratch.path().join("state/artefacts"));
        assert_eq!(shelf.tree(tree).unwrap().bytes(), 6);
        let of =
            |entry: &octant_api::ledger::AppendRequest| entry.payload.read::<Value>().unwrap_or_default();
        let on_record: Vec<Value> = machinery.ledger.of(Kind::Lifecycle).iter().map(of).collect();
        assert!(
            on_record.iter().any(|entry| entry["snapshot"]["tree"] == serde_json::json!(tree)),
            "{on_record:?}"
        );
        // The same again is kept once; what has changed is another one.
        assert_eq!(snapshot(&machinery, aid).await.unwrap().tree, Some(tree));
        assert_eq!(shown(world, aid).await.iter().map(|taken| taken.tree).collect::<Vec<_>>(), [tree]);
        std::fs::write(work.join("report/text"), "more").unwrap();
        let second = snapshot(&machinery, aid).await.unwrap().tree.unwrap();
        assert_eq!(
            shown(world, aid).await.iter().map(|taken| taken.tree).collect::<Vec<_>>(),
            [tree, second]
        );
        // A list of agents has none of it, and an operator removes them one by one.
        world.operator.call(&RemoveArtefactsRequest { tree }).await.unwrap();
        assert_eq!(shown(world, aid).await.iter().map(|taken| taken.tree).collect::<Vec<_>>(), [second]);
        assert!(shelf.tree(tree).is_err() && shelf.tree(second).is_ok());
        world.operator.call(&KillRequest { agent: aid.to_string(), grace_ms: 0 }).await.unwrap();
        assert_eq!(world.kept(aid).await.artefacts.unwrap().tree, Some(second), "the end's is the same tree");
    });
}

#[test]
fn a_snapshot_that_cannot_be_is_refused_and_leaves_the_agent_as_it_was() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        let aid = spawn(world, "exec sleep 60", &[]).await;
        let error = snapshot(&machinery, aid).await.unwrap_err();
        assert_eq!(error.code, Code::Denied, "{error}");
        let aid = spawn(world, "mkdir $WORK/report; exec sleep 60", &[REPORT]).await;
        *machinery.spawner.unreadable.lock().unwrap() = Some("the spawner restarts".into());
        let error = snapshot(&machinery, aid).await.unwrap_err();
        assert!(error.to_string().contains("the spawner restarts"), "{error}");
        assert_eq!(machinery.spawner.asked.lock().unwrap().last().unwrap(), "thaw");
        *machinery.spawner.unreadable.lock().unwrap() = None;
        // One that an operator has suspended stays so.
        world.operator.call(&SuspendRequest { agent: aid.to_string() }).await.unwrap();
        snapshot(&machinery, aid).await.unwrap();
        assert_eq!(machinery.spawner.asked.lock().unwrap().last().unwrap(), "collect");
        // Without a record nothing is kept.
        let before = shown(world, aid).await;
        std::fs::write(machinery.scratch.path().join(format!("{aid}.work/report/new")), "new").unwrap();
        machinery.ledger.refuse(Some(0));
        let error = snapshot(&machinery, aid).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        machinery.ledger.refuse(None);
        assert_eq!(shown(world, aid).await, before);
        let trees = Store::open(&machinery.scratch.path().join("state/artefacts")).unwrap().trees().unwrap();
        assert_eq!(trees, before.iter().map(|taken| taken.tree).collect::<Vec<_>>());
    });
}

#[test]
fn it_is_kept_after_a_kill_and_within_the_room_that_there_is() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        let fill = "mkdir $WORK/report; head -c 900000 /dev/zero | tr '\\\\0' $0 > $WORK/report/large; echo ready; exec sleep 60";
        let mut kept = Vec::new();
        for letter in ["a", "b"] {
            let aid = spawn(world, &fill.replace("$0", letter), &[REPORT]).await;
            let large = machinery.scratch.path().join(format!("{aid}.work/report/large"));
            until("it is so", || std::fs::metadata(&large).is_ok_and(|file| file.len() == 900_000)).await;
            world.operator.call(&KillRequest { agent: aid.to_string(), grace_ms: 0 }).await.unwrap();
            kept.push(world.kept(aid).await.artefacts.unwrap());
        }
        // The service may keep 1 MiB in all.
        assert_eq!((kept[0].bytes, kept[0].left_out.len()), (900_000, 0));
        assert_eq!((kept[1].bytes, kept[1].left_out[0].place.as_str()), (0, "report/large"));
        let aid = spawn(world, "true", &[]).await;
        assert_eq!(world.kept(aid).await.artefacts, None, "its manifest keeps nothing");
    });
}

#[test]
fn what_cannot_be_read_yet_is_read_later_also_by_the_next_run() {
    let machinery = Machinery::new();
    *machinery.spawner.unreadable.lock().unwrap() = Some("the spawner restarts".into());
    let aid = life(&machinery, "b1", async |world: &World| {
        let aid = spawn(world, "mkdir $WORK/report; echo found > $WORK/report/text", &[REPORT]).await;
        until("it is so", || machinery.spawner.asked.lock().unwrap().contains(&"collect".to_owned())).await;
        assert!(!machinery.spawner.asked.lock().unwrap().contains(&"retire".to_owned()), "it is not let go");
        aid
    });
    *machinery.spawner.unreadable.lock().unwrap() = None;
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.kept(aid).await.artefacts.unwrap().bytes, 6);
        until("it is so", || world.manager.info(aid).unwrap().state == AgentState::Archived).await;
    });
}

#[test]
fn a_fork_begins_with_the_snapshot_and_needs_a_manifest_that_allows_it() {
    let machinery = Machinery::new();
    let public = key().public_file("ada", "developer");
    std::fs::write(machinery.scratch.path().join("trusted/ada.pub"), public).unwrap();
    life(&machinery, "b1", async |world: &World| {
        let role = ("role = \"analyst\"", "role = \"developer\"");
        let any = [("read = []", "workspace = \"any\"\nread = []"), role];
        let aid = spawn(world, "true", &any).await;
        let fork =
            ForkRequest { agent: aid.to_string(), workspace: Sha256([7; 32]), envelope: None, task: None };
        let info = world.operator.call(&fork).await.unwrap();
        assert_eq!(info.workspace, Some(Sha256([7; 32])));
        let intents = machinery.ledger.of(Kind::Intent);
        let intent: Value = intents.last().unwrap().payload.read().unwrap();
        assert_eq!(intent["fork_of"], serde_json::json!(aid));
        assert_eq!(intent["workspace"], serde_json::json!(Sha256([7; 32])));
        // From another manifest, which does not leave it open.
        let closed = signed("report", "true", &[role]);
        let error =
            world.operator.call(&ForkRequest { envelope: Some(closed), ..fork.clone() }).await.unwrap_err();
        assert!(error.to_string().contains("filesystem.workspace"), "{error}");
        // One that waits for an approval cannot be bound to a snapshot.
        let endless = signed("report", "true", &[any[0], any[1], ("ttl = \"5min\"", "ttl = \"unlimited\"")]);
        let error =
            world.operator.call(&ForkRequest { envelope: Some(endless), ..fork.clone() }).await.unwrap_err();
        assert!(error.to_string().contains("approval"), "{error}");
        let show = ShowRequest { agent: aid.to_string() };
        assert_eq!(world.operator.call(&show).await.unwrap().workspace, None);
    });
}
