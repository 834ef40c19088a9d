//! What waits for an operator's answer, and who cannot give it.

use super::family;
use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key, listen, manifest, signed};
use crate::approvals::ANSWER_MS;
use crate::handlers::Methods;
use octant_api::agents::{
    self, AgentInfo, AgentState, AllowRequest, Approval, ApprovalRequest, ApprovalState, ApprovalsRequest,
    DenyRequest, KillRequest, SpawnRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Principal, Sha256};
use octant_sys::clock;
use octant_wire::{Client, shutdown};
use serde_json::Value;
use std::sync::Arc;

fn forever(name: &str) -> SpawnRequest {
    SpawnRequest { envelope: signed(name, "exec sleep 60", &[("ttl = \"5min\"", "ttl = \"unlimited\"")]) }
}

impl World {
    /// Asks for an agent whose life has no end; the request that waits then.
    async fn asks(&self, name: &str) -> Approval {
        let error = self.operator.call(&forever(name)).await.map_err(api).unwrap_err();
        assert!(error.code == Code::Denied && error.message.contains("approval"), "{error}");
        let waiting = self.operator.call(&ApprovalsRequest::default()).await.unwrap().approvals;
        let asked = waiting.into_iter().find(|approval| approval.subject == name).unwrap();
        assert!(
            error.message.contains(&asked.id) && error.message.contains(&asked.digest.to_string()),
            "{error}"
        );
        asked
    }

    async fn allow(&self, id: &str, digest: Sha256) -> Result<AgentInfo, ApiError> {
        self.operator.call(&AllowRequest { id: id.into(), digest }).await.map_err(api)
    }

    async fn stands(&self, id: &str) -> ApprovalState {
        self.operator.call(&ApprovalRequest { id: id.into() }).await.unwrap().state
    }
}

fn spawned(machinery: &Machinery) -> usize {
    machinery.spawner.asked.lock().unwrap().iter().filter(|what| *what == "spawn").count()
}

#[test]
fn what_an_operator_allows_is_done_once_also_after_a_restart() {
    let machinery = Machinery::new();
    let asked = life(&machinery, "b1", async |world: &World| {
        let asked = world.asks("one").await;
        assert_eq!((asked.action.as_str(), asked.asked_by.as_str()), ("lifetime.unlimited", "operator:0"));
        assert_eq!(world.asks("one").await.id, asked.id, "the same is asked once");
        asked
    });
    assert_eq!(spawned(&machinery), 0);
    let rejected = machinery.ledger.of(Kind::Lifecycle).into_iter().any(|entry| {
        let what: Value = entry.payload.read().unwrap();
        what["to"] == "rejected" && what["reason"].as_str().is_some_and(|why| why.contains(&asked.id))
    });
    assert!(rejected, "the request is on record");
    life(&machinery, "b2", async |world: &World| {
        let info = world.allow(&asked.id, asked.digest).await.unwrap();
        assert_eq!((info.state, info.name.as_str()), (AgentState::Running, "one"));
        assert!(info.grants.contains(&"time to live unlimited".to_owned()), "{:?}", info.grants);
        let intent: Value = machinery.ledger.of(Kind::Intent).pop().unwrap().payload.read().unwrap();
        assert_eq!(intent["approval"]["digest"], asked.digest.to_string());
        let command = machinery.ledger.of(Kind::Command).into_iter().find(|entry| {
            let what: Value = entry.payload.read().unwrap();
            what["do"] == "allow"
        });
        assert_eq!(command.unwrap().subject, Some(asked.digest));
        let error = world.allow(&asked.id, asked.digest).await.unwrap_err();
        assert!(error.code == Code::Conflict && error.message.contains("allowed already"), "{error}");
        let kill = KillRequest { agent: "one".into(), grace_ms: 0 };
        world.operator.call(&kill).await.unwrap();
    });
    life(&machinery, "b2", async |world: &World| {
        assert_eq!(world.allow(&asked.id, asked.digest).await.unwrap_err().code, Code::Conflict);
    });
    assert_eq!(spawned(&machinery), 1);
}

#[test]
fn a_life_that_was_allowed_to_have_no_end_can_be_divided_also_after_a_restart() {
    let machinery = family::machinery();
    let without_end = ("ttl = \"5min\"", "ttl = \"unlimited\"");
    let aid = life(&machinery, "b1", async |world: &World| {
        let lead = family::text("lead", family::SLEEP, 1, 4, &[without_end, ("\"analyst\"", "\"admin\"")]);
        let envelope = String::from_utf8(octant_manifest::sign(lead.as_bytes(), &[&key()])).unwrap();
        world.operator.call(&SpawnRequest { envelope }).await.unwrap_err();
        let asked = world.operator.call(&ApprovalsRequest::default()).await.unwrap().approvals.remove(0);
        world.allow(&asked.id, asked.digest).await.unwrap().aid
    });
    for name in ["one", "two"] {
        life(&machinery, "b1", async |world: &World| {
            family::spawn(&machinery, aid, manifest(name, family::SLEEP, &[])).await.unwrap();
            // What was approved is the life of the one that asked.
            let endless = manifest("endless", family::SLEEP, &[without_end]);
            let child = family::spawn(&machinery, aid, endless).await.unwrap();
            let ttl = child.narrowed.iter().find(|row| row.field == "lifetime.ttl").unwrap();
            assert!(ttl.asked == "unlimited" && ttl.got.ends_with("ms"), "{ttl:?}");
            assert!(world.operator.call(&ApprovalsRequest::default()).await.unwrap().approvals.is_empty());
        });
    }
    life(&machinery, "b1", async |world: &World| {
        let kill = KillRequest { agent: "lead".into(), grace_ms: 0 };
        world.operator.call(&kill).await.unwrap();
        until("all have ended", || world.manager.list(false).is_empty()).await;
    });
}

#[tokio::test]
async fn an_answer_to_something_else_counts_for_nothing() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let (one, two) = (world.asks("one").await, world.asks("two").await);
    for digest in [two.digest, Sha256::ZERO] {
        assert_eq!(world.allow(&one.id, digest).await.unwrap_err().code, Code::Denied);
        let deny = DenyRequest { id: one.id.clone(), digest };
        assert_eq!(world.operator.call(&deny).await.map_err(api).unwrap_err().code, Code::Denied);
    }
    assert_eq!(world.allow("nobody", one.digest).await.unwrap_err().code, Code::NotFound);
    assert_eq!(world.stands(&one.id).await, ApprovalState::Waiting);
    let deny = DenyRequest { id: one.id.clone(), digest: one.digest };
    assert_eq!(world.operator.call(&deny).await.unwrap().state, ApprovalState::Denied);
    assert_eq!(world.allow(&one.id, one.digest).await.unwrap_err().code, Code::Conflict);
    assert_eq!(world.stands(&two.id).await, ApprovalState::Waiting);
    assert_eq!(spawned(&machinery), 0);
}

#[tokio::test]
async fn nobody_but_an_operator_sees_or_answers_a_request() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    let (_trigger, stop) = shutdown();
    let service = |name: &str| Principal::Service(name.parse().unwrap());
    let callers = [Principal::Agent(Aid::new(1, [1; 10])), service("governance"), service("vault")];
    for (i, caller) in callers.into_iter().chain([Principal::Stranger(7)]).enumerate() {
        let path = machinery.scratch.path().join(format!("caller{i}.sock"));
        let methods = agents::Server(Arc::new(Methods(Arc::clone(&world.manager))));
        listen(path.clone(), methods, caller, &stop);
        let client = Client::new(path);
        let allow = AllowRequest { id: asked.id.clone(), digest: asked.digest };
        assert_eq!(api(client.call(&allow).await.unwrap_err()).code, Code::Denied);
        let deny = DenyRequest { id: asked.id.clone(), digest: asked.digest };
        assert_eq!(api(client.call(&deny).await.unwrap_err()).code, Code::Denied);
        assert_eq!(api(client.call(&ApprovalsRequest::default()).await.unwrap_err()).code, Code::Denied);
    }
    assert_eq!(world.stands(&asked.id).await, ApprovalState::Waiting);
    assert_eq!(spawned(&machinery), 0);
}

#[tokio::test]
async fn what_was_allowed_is_checked_again_when_it_is_done() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    let revoked = format!("{} lost\n", key().id());
    std::fs::write(machinery.scratch.path().join("trusted/revoked"), revoked).unwrap();
    assert_eq!(world.allow(&asked.id, asked.digest).await.unwrap_err().code, Code::Unverified);
    std::fs::remove_file(machinery.scratch.path().join("trusted/revoked")).unwrap();
    assert_eq!(world.allow(&asked.id, asked.digest).await.unwrap_err().code, Code::Conflict, "it is used up");
    assert_eq!(spawned(&machinery), 0);
}

#[tokio::test]
async fn an_answer_that_is_not_on_record_is_none() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    machinery.ledger.refuse(Some(0));
    assert_eq!(world.allow(&asked.id, asked.digest).await.unwrap_err().code, Code::Unavailable);
    assert_eq!((world.stands(&asked.id).await, spawned(&machinery)), (ApprovalState::Waiting, 0));
    machinery.ledger.refuse(None);
    world.allow(&asked.id, asked.digest).await.unwrap();
    world.operator.call(&KillRequest { agent: "one".into(), grace_ms: 0 }).await.unwrap();
}

#[tokio::test]
async fn no_answer_in_time_is_a_denial_with_its_reason() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    world.manager.expire(clock::wall_ms() + ANSWER_MS + 1);
    let error = world.allow(&asked.id, asked.digest).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.message.contains("nobody answered"), "{error}");
    until("it is on record", || machinery.ledger.of(Kind::Decision).len() == 1).await;
    let what: Value = machinery.ledger.of(Kind::Decision)[0].payload.read().unwrap();
    assert_eq!(what["approval"], asked.id);
    assert!(what["denied"].as_str().is_some_and(|why| why.contains("nobody answered")), "{what}");
    assert!(world.operator.call(&ApprovalsRequest::default()).await.unwrap().approvals.is_empty());
    assert_eq!(spawned(&machinery), 0);
}
