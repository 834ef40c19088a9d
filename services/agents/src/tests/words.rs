//! What operators say to agents, and how these hear it.

use super::family::{SLEEP, machinery, payload};
use super::life::api;
use super::restart::life;
use super::world::{World, signed};
use crate::words::digest;
use octant_api::agent::{Word, WordsRequest};
use octant_api::agents::{KillRequest, SayRequest, SpawnRequest, Task};
use octant_api::error::Code;
use octant_api::ledger::Kind;
use octant_wire::Client;
use serde_json::json;

fn say(agent: &str, text: Option<&str>, stop: bool) -> SayRequest {
    SayRequest { agent: agent.to_owned(), text: text.map(str::to_owned), stop }
}

#[tokio::test]
async fn a_task_and_words_are_on_record_by_their_digests_and_heard_over_the_agents_socket() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let task = Some(Task { text: Some("the secret task".into()), more: true });
    let spawn = SpawnRequest { envelope: signed("one", SLEEP, &[]), task };
    let aid = world.operator.call(&spawn).await.unwrap().aid;
    let hear = |after, stops, wait_ms| {
        let socket = machinery.guest(aid);
        async move { socket.call(&WordsRequest { after, stops, wait_ms }).await.unwrap() }
    };
    let heard = hear(0, None, 0).await;
    assert_eq!(heard.words, [Word { number: 1, text: "the secret task".into() }]);
    assert!(heard.more && hear(1, None, 0).await.words.is_empty());
    let waits = tokio::spawn(hear(1, Some(0), 30_000));
    world.operator.call(&say("one", None, true)).await.unwrap();
    let heard = waits.await.unwrap();
    assert_eq!((heard.words.len(), heard.stops, heard.stopped_at), (0, 1, 1));
    let said = world.operator.call(&say("one", Some("another word"), false)).await.unwrap();
    assert_eq!((said.number, hear(1, None, 0).await.words[0].text.as_str()), (2, "another word"));
    for (text, stop) in [(None, false), (Some(" "), false), (Some("x".repeat(70_000).as_str()), false)] {
        let error = world.operator.call(&say("one", text, stop)).await.map_err(api).unwrap_err();
        assert_eq!(error.code, Code::InvalidParams, "{error}");
    }
    world.operator.call(&KillRequest { agent: "one".into(), grace_ms: 0 }).await.unwrap();
    let error = world.operator.call(&say("one", Some("x"), false)).await.map_err(api).unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    let commands: Vec<_> = machinery.ledger.of(Kind::Command).iter().map(payload).collect();
    let of = |what: &str, text: &str| {
        let digest = json!(digest(text));
        commands.iter().any(|row| row["do"] == what && (row["task"] == digest || row["text"] == digest))
    };
    assert!(of("spawn", "the secret task") && of("say", "another word"), "{commands:?}");
    assert!(commands.iter().any(|row| row["stop"] == true));
    assert!(!format!("{commands:?}").contains("secret task"), "no words are on record");
}

#[test]
fn what_was_said_is_heard_after_a_restart_too() {
    let machinery = machinery();
    let aid = life(&machinery, "b1", async |world: &World| {
        let task = Some(Task { text: Some("the task".into()), more: false });
        let spawn = SpawnRequest { envelope: signed("one", SLEEP, &[]), task };
        world.operator.call(&spawn).await.unwrap().aid
    });
    life(&machinery, "b1", async |_: &World| {
        let guest = Client::new(machinery.scratch.path().join(format!("{aid}.sock")));
        assert_eq!(guest.call(&WordsRequest::default()).await.unwrap().words.len(), 1);
    });
}
