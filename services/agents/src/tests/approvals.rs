//! What waits for an operator's answer, who cannot give it, and what an answer counts for.

use super::family::{self, payload, policy};
use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key, listen, manifest, signed};
use crate::approvals::{ANSWER_MS, Now, OPEN_OF_ONE};
use crate::handlers::Methods;
use octant_api::agent::{self, ApprovalInfo, Body, LeaseRequest, SendRequest};
use octant_api::agents::{
    self, AgentInfo, AgentState, AnswerRequest, Approval, ApprovalRequest, ApprovalState, ApprovalsRequest,
    PermitRequest, Permitted, ResumeRequest, SpawnRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_api::vault::Mode;
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{
    Action, Answer, Asked, Ceiling, Decision, Machine, Roles, SigningKey, TrustedKeys, digest,
};
use octant_sys::clock;
use octant_wire::{Client, shutdown};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// An operator who may answer for everything.
fn boss() -> SigningKey {
    SigningKey::from_seed([4; 32])
}

/// Adds operators to those whom a machine trusts, or takes them away.
fn trust(machinery: &Machinery, name: &str, text: &str) {
    std::fs::write(machinery.scratch.path().join("trusted").join(name), text).unwrap();
}

/// A machine whose operators may give and approve everything.
pub(super) fn machinery() -> Machinery {
    let machinery = family::machinery();
    trust(&machinery, "boss.pub", &boss().public_file("boss", "admin"));
    machinery
}

fn forever(name: &str) -> SpawnRequest {
    SpawnRequest {
        envelope: signed(name, "exec sleep 60", &[("ttl = \"5min\"", "ttl = \"unlimited\"")]),
        task: None,
    }
}

fn answer(asked: &Approval, decision: Decision) -> Answer {
    Answer {
        approval: asked.id.clone(),
        digest: asked.digest,
        decision,
        machine: "m1".into(),
        not_after_ms: clock::wall_ms() + 60_000,
    }
}

impl World {
    async fn open(&self) -> Vec<Approval> {
        self.operator.call(&ApprovalsRequest::default()).await.unwrap().approvals
    }

    pub(super) async fn shown(&self, id: &str) -> Approval {
        self.operator.call(&ApprovalRequest { id: id.into() }).await.unwrap()
    }

    /// The request that a refusal names.
    pub(super) async fn asked(&self, refusal: ApiError) -> Approval {
        assert_eq!(refusal.code, Code::ApprovalNeeded, "{refusal}");
        let asked = self.shown(refusal.data.approval.as_ref().unwrap()).await;
        assert!(refusal.message.contains(&asked.digest.to_string()), "{refusal}");
        assert!(refusal.data.next.contains("octant approvals allow"), "{refusal}");
        asked
    }

    async fn spawns(&self, name: &str) -> Result<AgentInfo, ApiError> {
        self.operator.call(&forever(name)).await.map_err(api)
    }

    /// Asks for an agent whose life has no end; the request that waits then.
    async fn asks(&self, name: &str) -> Approval {
        self.asked(self.spawns(name).await.unwrap_err()).await
    }

    async fn answers(&self, answer: &Answer, key: &SigningKey) -> Result<Approval, ApiError> {
        let envelope = String::from_utf8(answer.sign(key)).unwrap();
        self.operator.call(&AnswerRequest { envelope }).await.map_err(api)
    }

    pub(super) async fn deny(&self, asked: &Approval) -> Approval {
        self.answers(&answer(asked, Decision::Deny), &boss()).await.unwrap()
    }

    pub(super) async fn allow(&self, asked: &Approval) -> Approval {
        self.answers(&answer(asked, Decision::Allow), &boss()).await.unwrap()
    }
}

fn spawned(machinery: &Machinery) -> usize {
    machinery.spawner.asked.lock().unwrap().iter().filter(|what| *what == "spawn").count()
}

fn answers_on_record(machinery: &Machinery) -> Vec<AppendRequest> {
    let commands = machinery.ledger.of(Kind::Command).into_iter();
    commands.filter(|entry| payload(entry)["do"] == "answer").collect()
}

/// An agent that has to ask for these actions, and may be in the room `ops`.
async fn bound(world: &World, name: &str, required: &[&str]) -> Aid {
    let required = format!("required = {required:?}");
    let change = [("required = []", required.as_str()), ("join = []", "join = [\"ops\"]")];
    let change: Vec<_> = change.into_iter().chain(policy("terminate")).collect();
    let text = family::text(name, family::SLEEP, 2, 8, &change);
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

fn says(text: &str) -> SendRequest {
    SendRequest { room: "ops".into(), kind: "note".into(), body: Body::Text(text.into()) }
}

#[test]
fn what_an_operator_allows_is_done_once_also_after_a_restart() {
    let machinery = machinery();
    let asked = life(&machinery, "b1", async |world: &World| {
        let asked = world.asks("one").await;
        assert_eq!((asked.action.as_str(), asked.asked_by.as_str()), ("lifetime.unlimited", "operator:0"));
        let what = asked.what.clone().unwrap();
        assert_eq!(digest(what.text().as_bytes()), asked.digest, "exactly what will be done");
        let what: Value = what.read().unwrap();
        assert_eq!((&what["machine"], &what["method"]), (&json!("m1"), &json!("agents.spawn")));
        assert!(what["params"]["manifest"].as_str().unwrap().contains("unlimited"), "the manifest itself");
        assert_eq!(world.asks("one").await.id, asked.id, "the same is asked once");
        asked
    });
    assert_eq!(spawned(&machinery), 0);
    let rejected = machinery.ledger.of(Kind::Lifecycle).into_iter().any(|entry| {
        let what = payload(&entry);
        what["to"] == "rejected" && what["reason"].as_str().is_some_and(|why| why.contains(&asked.id))
    });
    assert!(rejected, "the request is on record");
    life(&machinery, "b2", async |world: &World| {
        assert_eq!(world.allow(&asked).await.state, ApprovalState::Allowed);
    });
    life(&machinery, "b3", async |world: &World| {
        let info = world.spawns("one").await.unwrap();
        assert_eq!((info.state, info.name.as_str()), (AgentState::Running, "one"));
        assert!(info.grants.contains(&"time to live unlimited".to_owned()), "{:?}", info.grants);
        let intent = payload(&machinery.ledger.of(Kind::Intent).pop().unwrap());
        assert_eq!(intent["approval"], json!({"id": asked.id, "digest": asked.digest}));
        assert_eq!(world.shown(&asked.id).await.state, ApprovalState::Used);
        world.kill("one", 0).await;
    });
    life(&machinery, "b3", async |world: &World| {
        let again = world.asks("one").await;
        assert_ne!(again.id, asked.id, "it was used up");
        let error = world.answers(&answer(&asked, Decision::Allow), &boss()).await.unwrap_err();
        assert!(error.code == Code::Conflict && error.message.contains("used already"), "{error}");
    });
    assert_eq!(spawned(&machinery), 1);
}

#[tokio::test]
async fn an_auditor_can_verify_an_answer_from_the_ledger_alone() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    world.allow(&asked).await;
    let entry = answers_on_record(&machinery).pop().unwrap();
    assert_eq!((entry.subject, entry.operator), (Some(asked.digest), Some(0)));
    let what = payload(&entry);
    assert_eq!((&what["operator"], &what["key"]), (&json!("boss"), &json!(boss().id())));
    let keys = TrustedKeys::from_files(&[("b.pub".into(), boss().public_file("boss", "admin"))]).unwrap();
    let action: Action = what["action"].as_str().unwrap().parse().unwrap();
    let id = what["approval"].as_str().unwrap();
    let of = Asked {
        approval: id,
        digest: entry.subject.unwrap(),
        action: &action,
        role: "analyst",
        machine: "m1",
        now_ms: clock::wall_ms(),
    };
    let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1, cpus: 1 });
    let envelope = what["answer"].to_string();
    let done = Answer::verify(envelope.as_bytes(), &of, &keys, &ceiling).unwrap();
    assert_eq!((done.decision, done.signer.operator.as_str()), (Decision::Allow, "boss"));
}

#[test]
fn a_life_that_was_allowed_to_have_no_end_can_be_divided_also_after_a_restart() {
    let machinery = machinery();
    let without_end = ("ttl = \"5min\"", "ttl = \"unlimited\"");
    let aid = life(&machinery, "b1", async |world: &World| {
        let lead = family::text("lead", family::SLEEP, 1, 4, &[without_end, ("\"analyst\"", "\"admin\"")]);
        let envelope = String::from_utf8(octant_manifest::sign(lead.as_bytes(), &[&key()])).unwrap();
        let spawn = SpawnRequest { envelope, task: None };
        let asked = world.asked(world.operator.call(&spawn).await.map_err(api).unwrap_err()).await;
        world.allow(&asked).await;
        world.operator.call(&spawn).await.unwrap().aid
    });
    for name in ["one", "two"] {
        life(&machinery, "b1", async |world: &World| {
            family::spawn(&machinery, aid, manifest(name, family::SLEEP, &[])).await.unwrap();
            // What was approved is the life of the one that asked.
            let endless = manifest("endless", family::SLEEP, &[without_end]);
            let child = family::spawn(&machinery, aid, endless).await.unwrap();
            let ttl = child.narrowed.iter().find(|row| row.field == "lifetime.ttl").unwrap();
            assert!(ttl.asked == "unlimited" && ttl.got.ends_with("ms"), "{ttl:?}");
            assert!(world.open().await.is_empty());
        });
    }
    life(&machinery, "b1", async |world: &World| {
        world.kill("lead", 0).await;
        until("all have ended", || world.manager.list(false).is_empty()).await;
    });
}

#[tokio::test]
async fn each_answer_that_counts_for_nothing_says_why() {
    let machinery = machinery();
    let stranger = SigningKey::from_seed([9; 32]);
    let analyst = SigningKey::from_seed([10; 32]);
    trust(&machinery, "ann.pub", &analyst.public_file("ann", "analyst"));
    let old = SigningKey::from_seed([11; 32]);
    let line = old.public_file("old", "admin");
    trust(&machinery, "old.pub", &format!("{} until=2020-01-01T00:00:00Z", line.trim_end()));
    let lost = SigningKey::from_seed([12; 32]);
    trust(&machinery, "lost.pub", &lost.public_file("lost", "admin"));
    trust(&machinery, "revoked", &format!("{} stolen\n", lost.id()));
    let world = machinery.start("b1");
    let (one, two) = (world.asks("one").await, world.asks("two").await);
    let allow = answer(&one, Decision::Allow);
    let now = clock::wall_ms();
    let cases = [
        (allow.clone(), &stranger, Code::Unverified, "no trusted key"),
        (allow.clone(), &analyst, Code::Denied, "may not answer"),
        (allow.clone(), &old, Code::Unverified, "counted until"),
        (allow.clone(), &lost, Code::Unverified, "revoked"),
        (Answer { digest: two.digest, ..allow.clone() }, &boss(), Code::Denied, "digest"),
        (Answer { machine: "m2".into(), ..allow.clone() }, &boss(), Code::Denied, "machine"),
        (Answer { not_after_ms: now, ..allow.clone() }, &boss(), Code::Denied, "counted until"),
        (Answer { not_after_ms: now + (48 << 20) * 100, ..allow.clone() }, &boss(), Code::Denied, "24 h"),
        (Answer { approval: "nobody".into(), ..allow.clone() }, &boss(), Code::NotFound, "no approval"),
    ];
    for (answer, key, code, why) in cases {
        let error = world.answers(&answer, key).await.unwrap_err();
        assert!(error.code == code && error.message.contains(why), "{code:?} {why}: {error}");
    }
    for text in ["allow".to_owned(), forever("one").envelope, serde_json::to_string(&allow).unwrap()] {
        let error = world.operator.call(&AnswerRequest { envelope: text }).await.map_err(api).unwrap_err();
        assert!([Code::Unverified, Code::InvalidParams].contains(&error.code), "{error}");
    }
    assert_eq!(world.shown(&one.id).await.state, ApprovalState::Waiting);
    assert_eq!(answers_on_record(&machinery), [], "only what counts is on record as an answer");
    let denied = world.answers(&answer(&one, Decision::Deny), &boss()).await.unwrap();
    assert_eq!(denied.state, ApprovalState::Denied);
    let error = world.answers(&allow, &boss()).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.message.contains("denied already: by boss"), "{error}");
    let error = world.spawns("one").await.unwrap_err();
    assert!(
        error.code == Code::Denied && error.message.contains("by boss"),
        "and is not asked again: {error}"
    );
    assert_eq!((world.open().await.len(), spawned(&machinery)), (1, 0));
}

#[tokio::test]
async fn nobody_but_an_operator_sees_a_request_or_brings_an_answer() {
    let machinery = machinery();
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
        let envelope = String::from_utf8(answer(&asked, Decision::Allow).sign(&boss())).unwrap();
        assert_eq!(api(client.call(&AnswerRequest { envelope }).await.unwrap_err()).code, Code::Denied);
        assert_eq!(api(client.call(&ApprovalsRequest::default()).await.unwrap_err()).code, Code::Denied);
        let show = ApprovalRequest { id: asked.id.clone() };
        assert_eq!(api(client.call(&show).await.unwrap_err()).code, Code::Denied);
    }
    assert_eq!(world.shown(&asked.id).await.state, ApprovalState::Waiting);
}

#[tokio::test]
async fn what_was_allowed_is_checked_again_when_it_is_done() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    world.allow(&asked).await;
    // The one who signed.
    trust(&machinery, "revoked", &format!("{} lost\n", key().id()));
    assert_eq!(world.spawns("one").await.unwrap_err().code, Code::Unverified);
    // The one who answered.
    trust(&machinery, "revoked", &format!("{} lost\n", boss().id()));
    let error = world.spawns("one").await.unwrap_err();
    assert!(error.code == Code::Unverified && error.message.contains("lost"), "{error}");
    // The role that the one who answered has now.
    trust(&machinery, "revoked", "");
    trust(&machinery, "boss.pub", &boss().public_file("boss", "developer"));
    let error = world.spawns("one").await.unwrap_err();
    assert!(error.code == Code::Denied && error.message.contains("may not answer"), "{error}");
    assert_eq!(spawned(&machinery), 0);
    trust(&machinery, "boss.pub", &boss().public_file("boss", "admin"));
    world.spawns("one").await.unwrap();
    world.kill("one", 0).await;
}

#[tokio::test]
async fn what_is_not_on_record_does_not_count() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let asked = world.asks("one").await;
    machinery.ledger.refuse(Some(0));
    let error = world.answers(&answer(&asked, Decision::Allow), &boss()).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert_eq!(world.shown(&asked.id).await.state, ApprovalState::Waiting);
    machinery.ledger.refuse(None);
    world.allow(&asked).await;
    machinery.ledger.refuse(Some(0));
    assert_eq!(world.spawns("one").await.unwrap_err().code, Code::Unavailable);
    assert_eq!((world.shown(&asked.id).await.state, spawned(&machinery)), (ApprovalState::Allowed, 0));
    machinery.ledger.refuse(None);
    world.spawns("one").await.unwrap();
    world.kill("one", 0).await;
}

#[tokio::test]
async fn no_answer_in_time_is_a_denial_with_its_reason_and_a_clock_set_back_opens_nothing() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let (one, two) = (world.asks("one").await, world.asks("two").await);
    world.allow(&two).await;
    let at = |wall_ms: u64| Now { wall_ms, boot_ns: clock::boottime_ns() };
    let later = clock::wall_ms() + ANSWER_MS + 1;
    world.manager.expire(at(later));
    let error = world.answers(&answer(&one, Decision::Allow), &boss()).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.message.contains("nobody answered"), "{error}");
    // The clock of the machine says what it said before; the queue knows better.
    let again = world.asks("one").await;
    assert!(again.asked_ms >= later && again.id != one.id, "{again:?}");
    let short = Answer { not_after_ms: clock::wall_ms() + 60_000, ..answer(&again, Decision::Allow) };
    let error = world.answers(&short, &boss()).await.unwrap_err();
    assert!(error.message.contains("counted until"), "{error}");
    assert_eq!(world.spawns("two").await.unwrap_err().code, Code::ApprovalNeeded, "its answer is over too");
    until("both are on record", || {
        let decisions = machinery.ledger.of(Kind::Decision).into_iter();
        decisions.filter(|entry| payload(entry)["denied"].is_string()).count() == 2
    })
    .await;
    assert_eq!(spawned(&machinery), 0);
}

#[tokio::test]
async fn of_two_answers_at_once_one_counts_and_of_two_uses_one_passes() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = bound(&world, "one", &["message:ops"]).await;
    let guest = machinery.guest(aid);
    let asked = world.asked(api(guest.call(&says("now")).await.unwrap_err())).await;
    let (allow, deny) = (answer(&asked, Decision::Allow), answer(&asked, Decision::Deny));
    let (boss, ada) = (boss(), key());
    let (first, second) = tokio::join!(world.answers(&allow, &boss), world.answers(&deny, &ada));
    let allowed = first.is_ok();
    assert!(allowed != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(answers_on_record(&machinery).len(), 1, "the one that counts");
    if !allowed {
        let again = world.asked(api(guest.call(&says("again")).await.unwrap_err())).await;
        world.allow(&again).await;
    }
    let text = says(if allowed { "now" } else { "again" });
    let (a, b) = tokio::join!(guest.call(&text), guest.call(&text));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(machinery.ledger.of(Kind::Message).len(), 1);
    world.kill("one", 0).await;
}

#[test]
fn a_tool_of_the_programs_own_is_asked_for_once_and_answered_over_a_restart() {
    let machinery = machinery();
    let own = |tool: &str, text: String| agent::PermitRequest {
        tool: tool.into(),
        arguments: Json::from_text(text).unwrap(),
    };
    let run = || own("shell_run", "{\"command\":\"rm -r a\\u001b\"}".into());
    let (aid, asked) = life(&machinery, "b1", async |world: &World| {
        let aid = bound(world, "one", &["tool:shell_run", "tool:file_*"]).await;
        let guest = machinery.guest(aid);
        let asked = world.asked(api(guest.call(&run()).await.unwrap_err())).await;
        assert_eq!((asked.action.as_str(), asked.agent), ("tool:shell_run", Some(aid)));
        let what: Value = asked.what.as_ref().unwrap().read().unwrap();
        assert_eq!(what["params"]["arguments"]["command"], "rm -r a\u{1b}", "what an operator is shown");
        let again = world.asked(api(guest.call(&run()).await.unwrap_err())).await;
        assert_eq!(again.id, asked.id, "asked twice it is one");
        let more = own("shell_run", "{\"command\":\"rm -r b\"}".into());
        let denied = world.asked(api(guest.call(&more).await.unwrap_err())).await;
        world.deny(&denied).await;
        assert_eq!(api(guest.call(&more).await.unwrap_err()).code, Code::Denied);
        let free = guest.call(&own("note_taking", "{}".into())).await.unwrap();
        assert_eq!(free, Permitted { approval: None }, "what the manifest does not demand is not asked for");
        let wrong = [
            (own("file_*", "{}".into()), Code::InvalidParams),
            (own("git__push", "{}".into()), Code::InvalidParams),
            (own("", "{}".into()), Code::InvalidParams),
            (own("shell_run", format!("\"{}\"", "x".repeat(agent::PERMIT_MAX))), Code::TooLong),
        ];
        for (request, code) in wrong {
            assert_eq!(api(guest.call(&request).await.unwrap_err()).code, code, "{}", request.tool);
        }
        (aid, asked)
    });
    life(&machinery, "b1", async |world: &World| {
        world.allow(&asked).await;
        let guest = machinery.guest(aid);
        assert_eq!(guest.call(&run()).await.unwrap(), Permitted { approval: Some(asked.id.clone()) });
        let next = world.asked(api(guest.call(&run()).await.unwrap_err())).await;
        assert_ne!(next.id, asked.id, "an answer is for once");
        world.kill("one", 0).await;
    });
    let used = |entry: &AppendRequest| payload(entry)["used"] == true;
    assert_eq!(machinery.ledger.of(Kind::Decision).iter().filter(|entry| used(entry)).count(), 1);
}

#[tokio::test]
async fn an_agent_waits_for_the_answer_and_says_exactly_what_was_allowed() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = bound(&world, "one", &["message:*"]).await;
    let other = bound(&world, "two", &[]).await;
    let (guest, stranger) = (machinery.guest(aid), machinery.guest(other));
    let asked = world.asked(api(guest.call(&says("one")).await.unwrap_err())).await;
    assert_eq!((asked.agent, asked.action.as_str()), (Some(aid), "message:ops"));
    let wait = agent::ApprovalRequest { id: asked.id.clone(), wait_ms: 60_000 };
    let error = api(stranger.call(&wait).await.unwrap_err());
    assert_eq!(error.code, Code::NotFound, "others' requests look like none");
    let (waited, _) = tokio::join!(guest.call(&wait), world.allow(&asked));
    let waited: ApprovalInfo = waited.unwrap();
    assert_eq!((waited.state, waited.why.as_str()), (ApprovalState::Allowed, "by boss"));
    let error = api(guest.call(&says("another")).await.unwrap_err());
    assert_eq!(error.code, Code::ApprovalNeeded, "another text is another deed");
    guest.call(&says("one")).await.unwrap();
    assert_eq!(api(guest.call(&says("one")).await.unwrap_err()).code, Code::ApprovalNeeded, "once");
    stranger.call(&says("one")).await.unwrap();
    // The use is on record before the deed.
    let entries = machinery.ledger.entries.lock().unwrap().clone();
    let used = entries.iter().position(|e| e.kind == Kind::Decision && payload(e)["used"] == true).unwrap();
    let message = entries.iter().position(|e| e.kind == Kind::Message).unwrap();
    assert!(used < message && entries[used].agent == Some(aid), "{entries:?}");
    let room = SendRequest { room: "elsewhere".into(), ..says("x") };
    assert_eq!(api(guest.call(&room).await.unwrap_err()).code, Code::NotFound, "nobody is asked in vain");
    let lease = LeaseRequest { name: "prod/db".parse().unwrap(), mode: Mode::Reveal, ttl_ms: None };
    assert_eq!(api(guest.call(&lease).await.unwrap_err()).code, Code::Unavailable, "the vault is not there");
    world.kill("one", 0).await;
    world.kill("two", 0).await;
}

#[tokio::test]
async fn a_lease_is_asked_for_before_the_vault_is() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = bound(&world, "one", &["lease:prod/*"]).await;
    let lease = |name: &str| LeaseRequest { name: name.parse().unwrap(), mode: Mode::Reveal, ttl_ms: None };
    let guest = machinery.guest(aid);
    let asked = world.asked(api(guest.call(&lease("prod/db")).await.unwrap_err())).await;
    assert_eq!(asked.action, "lease:prod/db");
    assert_eq!(
        api(guest.call(&lease("test/db")).await.unwrap_err()).code,
        Code::Unavailable,
        "no vault here"
    );
    world.allow(&asked).await;
    assert_eq!(
        api(guest.call(&lease("prod/db")).await.unwrap_err()).code,
        Code::Unavailable,
        "no vault here"
    );
    world.kill("one", 0).await;
}

#[tokio::test]
async fn a_child_is_spawned_as_it_was_allowed_and_has_to_ask_for_all_that_its_parent_has_to() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let lead = bound(&world, "lead", &["spawn", "message:ops"]).await;
    let text = |name: &str| {
        let policy = policy("terminate");
        let change = [("join = []", "join = [\"ops\"]"), ("required = []", "required = [\"lease:*\"]")];
        let change: Vec<_> = change.into_iter().chain(policy).collect();
        family::text(name, family::SLEEP, 1, 1, &change)
    };
    let bad = text("worker").replace("\"ada\"", "\"eve\"");
    let error = family::spawn(&machinery, lead, bad.clone()).await.unwrap_err();
    assert!(error.code == Code::Denied && world.open().await.is_empty(), "nobody is asked in vain: {error}");
    until("the refusal is on record with the manifest", || {
        let digest = json!(digest(bad.as_bytes()));
        machinery.ledger.of(Kind::Grant).iter().any(|entry| payload(entry)["manifest"] == digest)
    })
    .await;
    let refusal = family::spawn(&machinery, lead, text("worker")).await.unwrap_err();
    let asked = world.asked(refusal).await;
    assert_eq!(asked.action, "spawn");
    let what: Value = asked.what.as_ref().unwrap().read().unwrap();
    assert_eq!(what["params"]["manifest"], json!(text("worker")), "the whole of it is shown");
    world.allow(&asked).await;
    let other = family::spawn(&machinery, lead, text("other")).await.unwrap_err();
    assert_eq!(other.code, Code::ApprovalNeeded);
    let worker = family::spawn(&machinery, lead, text("worker")).await.unwrap();
    let required = worker.narrowed.iter().find(|row| row.field == "approvals.required").unwrap();
    assert_eq!(required.got, "[\"spawn\", \"lease:*\", \"message:ops\"]");
    let intent = machinery.ledger.of(Kind::Intent).pop().unwrap();
    assert_eq!(payload(&intent)["approval"]["id"], json!(asked.id));
    assert_eq!(
        intent.manifest,
        Some(worker.manifest_digest),
        "an accepted manifest is on record by its digest"
    );
    let mine = world.asked(api(machinery.guest(worker.aid).call(&says("x")).await.unwrap_err())).await;
    assert_eq!((mine.agent, mine.role.as_str()), (Some(worker.aid), "admin"));
    // What an agent asked for is void with it.
    world.kill("lead", 0).await;
    until("all have ended", || world.manager.list(false).is_empty()).await;
    let error = world.answers(&answer(&mine, Decision::Allow), &boss()).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.message.contains("ended"), "{error}");
    world.manager.expire(Now { wall_ms: clock::wall_ms(), boot_ns: clock::boottime_ns() });
    assert!(world.open().await.is_empty());
}

#[test]
fn an_orphan_goes_on_under_another_only_once_that_was_allowed_also_over_restarts() {
    let machinery = machinery();
    let adopt: Vec<_> =
        policy("adopt").into_iter().chain([("required = []", "required = [\"adopt\"]")]).collect();
    let [lead, bad, good] = life(&machinery, "b1", async |world: &World| {
        let lead = family::root(world, "lead", 2, 4).await;
        let child = async |name: &str| {
            let text = family::text(name, family::SLEEP, 1, 1, &adopt);
            family::spawn(&machinery, lead, text).await.unwrap().aid
        };
        [lead, child("bad").await, child("good").await]
    });
    life(&machinery, "b1", async |world: &World| {
        world.kill("lead", 0).await;
        for aid in [bad, good] {
            until("it is frozen", || world.manager.info(aid).unwrap().state == AgentState::Suspended).await;
            let info = world.manager.info(aid).unwrap();
            assert!(info.reason.unwrap().contains("needs an approval") && info.parent.is_none(), "{aid}");
        }
        until("both are asked about", || world.manager.approvals.list().len() == 2).await;
    });
    life(&machinery, "b1", async |world: &World| {
        until("it is frozen again", || world.manager.info(good).unwrap().state == AgentState::Suspended)
            .await;
        let open = world.open().await;
        assert_eq!(open.len(), 2, "asked once: {open:?}");
        let of = |aid: Aid| open.iter().find(|asked| asked.agent == Some(aid)).unwrap().id.clone();
        let resume = |aid: Aid| ResumeRequest { agent: aid.to_string(), for_ms: None };
        let error = world.operator.call(&resume(good)).await.map_err(api).unwrap_err();
        assert_eq!(error.data.approval, Some(of(good)), "{error}");
        world.allow(&world.shown(&of(good)).await).await;
        world.answers(&answer(&world.shown(&of(bad)).await, Decision::Deny), &boss()).await.unwrap();
        assert_eq!(world.operator.call(&resume(good)).await.unwrap().state, AgentState::Running);
        let error = world.operator.call(&resume(bad)).await.map_err(api).unwrap_err();
        assert!(error.code == Code::Denied && error.message.contains("by boss"), "{error}");
        assert!(!world.manager.list(false).iter().any(|info| info.aid == lead));
        world.kill("good", 0).await;
        world.kill("bad", 0).await;
    });
}

#[tokio::test]
async fn services_ask_in_the_same_queue_each_for_what_it_does() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let aid = bound(&world, "one", &["tool:git/*", "spend:0.5"]).await;
    let (_trigger, stop) = shutdown();
    let as_service = |name: &str| {
        let path = machinery.scratch.path().join(format!("{name}.sock"));
        let methods = agents::Server(Arc::new(Methods(Arc::clone(&world.manager))));
        listen(path.clone(), methods, Principal::Service(name.parse().unwrap()), &stop);
        Client::new(path)
    };
    let (router, egress, search) = (as_service("router"), as_service("egress"), as_service("search"));
    let permit = |action: &str, params: &str| PermitRequest {
        agent: aid,
        action: action.into(),
        method: "router.call".into(),
        params: Json::from_text(params.into()).unwrap(),
    };
    let push = permit("tool:git/push", "{\"ref\":\"main\"}");
    let free = Permitted { approval: None };
    assert_eq!(
        router.call(&permit("tool:date", "{}")).await.unwrap(),
        free,
        "its manifest does not demand it"
    );
    assert_eq!(router.call(&permit("spend:0.499999", "{}")).await.unwrap(), free);
    for (client, action) in [(&search, "tool:git/push"), (&egress, "tool:git/push"), (&router, "spawn")] {
        assert_eq!(api(client.call(&permit(action, "{}")).await.unwrap_err()).code, Code::Denied, "{action}");
    }
    for action in ["tool:git/*", "tool:", "x"] {
        assert_eq!(api(router.call(&permit(action, "{}")).await.unwrap_err()).code, Code::InvalidParams);
    }
    let operator = world.operator.call(&push).await.map_err(api).unwrap_err();
    assert_eq!(operator.code, Code::Denied);
    let nobody = PermitRequest { agent: Aid::new(1, [1; 10]), ..push.clone() };
    assert_eq!(api(router.call(&nobody).await.unwrap_err()).code, Code::Unavailable);
    let asked = world.asked(api(router.call(&push).await.unwrap_err())).await;
    world.allow(&asked).await;
    let forced = permit("tool:git/push", "{\"ref\":\"main\",\"force\":true}");
    assert_eq!(api(router.call(&forced).await.unwrap_err()).code, Code::ApprovalNeeded);
    // Who asks and goes away in the middle has not used it.
    let service = Principal::Service("router".parse().unwrap());
    let gone = tokio::time::timeout(Duration::ZERO, world.manager.permit_for(&service, push.clone())).await;
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(router.call(&push).await.unwrap().approval, Some(asked.id));
    assert_eq!(api(router.call(&push).await.unwrap_err()).code, Code::ApprovalNeeded, "once");
    assert_eq!(api(egress.call(&permit("spend:3", "{}")).await.unwrap_err()).code, Code::ApprovalNeeded);
    world.kill("one", 0).await;
}

#[tokio::test]
async fn one_that_asks_for_everything_fills_its_own_places_and_pushes_nothing_out() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let (loud, quiet) = (bound(&world, "loud", &["tool:*"]).await, bound(&world, "quiet", &["tool:*"]).await);
    let router = Principal::Service("router".parse().unwrap());
    let ask = async |agent: Aid, n: usize| {
        let (action, method) = ("tool:x".into(), "router.call".into());
        let params = Json::of(&n).unwrap();
        world.manager.permit_for(&router, PermitRequest { agent, action, method, params }).await
    };
    let mut refused = 0;
    for n in 0..10_000 {
        let error = ask(loud, n).await.unwrap_err();
        refused += usize::from(error.code == Code::Busy);
        assert_eq!(error.code == Code::ApprovalNeeded, n < OPEN_OF_ONE, "{n}: {error}");
    }
    assert_eq!(refused, 10_000 - OPEN_OF_ONE);
    let first = world.asked(ask(loud, 0).await.unwrap_err()).await;
    assert_eq!(world.open().await[0].id, first.id, "the oldest is still there");
    assert_eq!(
        ask(quiet, 0).await.unwrap_err().code,
        Code::ApprovalNeeded,
        "others have places of their own"
    );
    assert_eq!(world.asks("three").await.asked_by, "operator:0");
    world.answers(&answer(&first, Decision::Deny), &boss()).await.unwrap();
    assert_eq!(ask(loud, OPEN_OF_ONE).await.unwrap_err().code, Code::ApprovalNeeded, "a place is free again");
    world.kill("loud", 0).await;
    world.kill("quiet", 0).await;
}

#[test]
fn a_restart_at_any_point_neither_loses_a_request_nor_lets_it_pass_twice() {
    let machinery = machinery();
    let aid = life(&machinery, "b1", async |world: &World| bound(world, "one", &["message:ops"]).await);
    let asked = life(&machinery, "b1", async |world: &World| {
        world.asked(api(machinery.guest(aid).call(&says("x")).await.unwrap_err())).await
    });
    life(&machinery, "b1", async |world: &World| {
        assert_eq!(world.shown(&asked.id).await.what, asked.what, "all of it is there");
        world.allow(&asked).await;
    });
    // It died between the record of the use and the use: the deed was not done, and is done once.
    life(&machinery, "b1", async |world: &World| {
        let adopted = || machinery.ledger.told().iter().filter(|what| *what == "adopted").count();
        until("nothing else is recorded", || adopted() == 3).await;
        machinery.ledger.refuse(Some(machinery.ledger.entries.lock().unwrap().len() + 1));
        assert!(machinery.guest(aid).call(&says("x")).await.is_err());
        assert_eq!(world.shown(&asked.id).await.state, ApprovalState::Used, "never back to allowed");
        machinery.ledger.refuse(None);
    });
    life(&machinery, "b1", async |world: &World| {
        let error = api(machinery.guest(aid).call(&says("x")).await.unwrap_err());
        assert_ne!(world.asked(error).await.id, asked.id);
        assert_eq!(machinery.ledger.of(Kind::Message), []);
        world.kill("one", 0).await;
    });
}

#[test]
fn what_was_changed_on_disk_stops_the_start() {
    let machinery = machinery();
    let asked = life(&machinery, "b1", async |world: &World| world.asks("one").await);
    let state = machinery.scratch.path().join("state");
    let path = state.join(format!("approvals/{}.json", asked.id));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(crate::approvals::Queue::open(&state).is_ok());
    std::fs::write(&path, text.replace("sleep 60", "sleep 61")).unwrap();
    let error = crate::approvals::Queue::open(&state).unwrap_err();
    assert!(error.to_string().contains("not what was asked for"), "{error}");
    std::fs::write(&path, "{").unwrap();
    assert!(crate::approvals::Queue::open(&state).is_err());
    std::fs::write(&path, text).unwrap();
    std::fs::write(path.with_extension("new"), "{").unwrap();
    assert!(crate::approvals::Queue::open(&state).is_ok(), "a file that was being written is none");
    assert_ne!(asked.digest, Sha256::ZERO);
}
