//! Messages between agents, over their own sockets.

use super::family::{SLEEP, machinery, payload, spawn, text};
use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key};
use octant_api::agent::{Body, ReceiveRequest, Received, SendRequest, Sent};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_api::text::Json;
use octant_ids::{Aid, Sha256};
use serde_json::json;
use sha2::Digest;

/// An agent that may be in these rooms.
async fn agent(world: &World, name: &str, rooms: &[&str]) -> Aid {
    let join = format!("join = {rooms:?}");
    let text = text(name, SLEEP, 1, 4, &[("join = []", &join), ("\"analyst\"", "\"admin\"")]);
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

async fn send(machinery: &Machinery, from: Aid, room: &str, body: Body) -> Result<Sent, ApiError> {
    let request = SendRequest { room: room.into(), kind: "test.note".into(), body };
    machinery.guest(from).call(&request).await.map_err(api)
}

async fn say(machinery: &Machinery, from: Aid, room: &str, text: &str) -> Result<Sent, ApiError> {
    send(machinery, from, room, Body::Text(text.into())).await
}

async fn receive(machinery: &Machinery, aid: Aid, after: u64, wait_ms: u64) -> Received {
    machinery.guest(aid).call(&ReceiveRequest { after, wait_ms }).await.unwrap()
}

fn texts(got: &Received) -> Vec<&str> {
    got.messages.iter().map(|message| message.body.text()).collect()
}

#[tokio::test]
async fn a_message_is_on_record_by_its_digest_and_then_in_the_others_mailboxes() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let one = agent(&world, "one", &["team", "pair"]).await;
    let two = agent(&world, "two", &["team", "pair"]).await;
    let three = agent(&world, "three", &["team"]).await;
    let json = Body::Json(Json::from_text("{ \"found\":[1,2.50] }".into()).unwrap());
    let sent = send(&machinery, one, "team", json.clone()).await.unwrap();
    assert_eq!(sent.receivers, 2);
    assert_eq!(say(&machinery, one, "pair", "between us").await.unwrap().receivers, 1);
    let got = receive(&machinery, two, 0, 0).await;
    assert_eq!(texts(&got), ["{ \"found\":[1,2.50] }", "between us"], "to the letter");
    let first = &got.messages[0];
    assert_eq!((first.from, first.name.as_str(), first.seq), (one, "one", sent.seq));
    assert_eq!((first.room.as_str(), first.kind.as_str()), ("team", "test.note"));
    assert_eq!(receive(&machinery, three, 0, 0).await.messages.len(), 1);
    assert_eq!(receive(&machinery, one, 0, 0).await.messages, [], "nobody gets its own");
    assert_eq!(receive(&machinery, two, got.cursor, 0).await.messages, []);
    let entry = machinery.ledger.of(Kind::Message)[0].clone();
    assert_eq!((entry.actor, entry.agent), (Some(one), None));
    assert_eq!(entry.subject, Some(Sha256(sha2::Sha256::digest(json.text()).into())));
    let what = payload(&entry);
    assert_eq!((&what["room"], &what["form"], &what["bytes"]), (&json!("team"), &json!("json"), &json!(20)));
    assert_eq!(what["to"], json!([two, three]));
    assert!(!entry.payload.text().contains("found"), "what it says is not in it");
}

#[tokio::test]
async fn who_is_not_in_a_room_learns_nothing_of_it() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let _inside = agent(&world, "inside", &["secret"]).await;
    let outside = agent(&world, "outside", &["team"]).await;
    let known = say(&machinery, outside, "secret", "x").await.unwrap_err();
    let unknown = say(&machinery, outside, "nowhere", "x").await.unwrap_err();
    assert_eq!(known.code, Code::NotFound);
    assert_eq!(known.message.replace("secret", "nowhere"), unknown.message);
    let long = say(&machinery, outside, "team", &"x".repeat(20_000)).await.unwrap_err();
    assert_eq!(long.code, Code::TooLong);
    let odd = SendRequest { room: "team".into(), kind: "Not This".into(), body: Body::Text("x".into()) };
    let odd = machinery.guest(outside).call(&odd).await.map_err(api).unwrap_err();
    assert_eq!(odd.code, Code::InvalidParams);
    assert!(machinery.ledger.of(Kind::Message).is_empty());
    let mut busy = 0;
    for _ in 0..100 {
        busy += usize::from(say(&machinery, outside, "team", "x").await.is_err_and(|e| e.code == Code::Busy));
    }
    assert!(busy > 0, "messages have a rate");
}

#[tokio::test]
async fn a_child_is_in_no_room_that_its_parent_may_not_be_in() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let parent = agent(&world, "lead", &["team"]).await;
    let other = agent(&world, "other", &["board"]).await;
    let wants = text("child", SLEEP, 1, 1, &[("join = []", "join = [\"team\", \"board\"]")]);
    let child = spawn(&machinery, parent, wants).await.unwrap();
    assert!(child.narrowed.iter().any(|row| row.field == "rooms.join" && row.got == "[\"team\"]"));
    assert_eq!(say(&machinery, other, "board", "x").await.unwrap().receivers, 0);
    assert_eq!(say(&machinery, child.aid, "board", "x").await.unwrap_err().code, Code::NotFound);
    assert_eq!(say(&machinery, parent, "team", "to you").await.unwrap().receivers, 1);
    assert_eq!(texts(&receive(&machinery, child.aid, 0, 0).await), ["to you"]);
}

#[tokio::test]
async fn what_the_ledger_does_not_take_is_not_delivered() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let (one, two) = (agent(&world, "one", &["team"]).await, agent(&world, "two", &["team"]).await);
    machinery.ledger.refuse(Some(0));
    assert_eq!(say(&machinery, one, "team", "lost").await.unwrap_err().code, Code::Unavailable);
    machinery.ledger.refuse(None);
    say(&machinery, one, "team", "there").await.unwrap();
    assert_eq!(texts(&receive(&machinery, two, 0, 0).await), ["there"]);
}

#[tokio::test]
async fn a_room_has_one_order_whoever_writes_and_a_wait_ends_with_a_message() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let writers = [agent(&world, "one", &["team"]).await, agent(&world, "two", &["team"]).await];
    let reader = agent(&world, "reader", &["team"]).await;
    let reading = async {
        let (mut after, mut seqs) = (0, Vec::new());
        while seqs.len() < 40 {
            let got = receive(&machinery, reader, after, 20_000).await;
            assert!(!got.messages.is_empty(), "it waits for one");
            seqs.extend(got.messages.iter().map(|message| message.seq));
            after = got.cursor;
        }
        (after, seqs)
    };
    let writing = async |from: Aid| {
        for n in 0..20 {
            say(&machinery, from, "team", &n.to_string()).await.unwrap();
        }
    };
    let ((after, seqs), (), ()) = tokio::join!(reading, writing(writers[0]), writing(writers[1]));
    assert!(seqs.is_sorted() && seqs.len() == 40, "in the ledger's order, each once: {seqs:?}");
    assert_eq!(receive(&machinery, reader, after, 1).await.messages.len(), 0, "and a wait has an end");
}

/// Two agents in one room.
async fn pair(world: &World) -> (Aid, Aid) {
    (agent(world, "one", &["team"]).await, agent(world, "two", &["team"]).await)
}

fn mail(machinery: &Machinery) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(machinery.scratch.path().join("state")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "mail"))
        .collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_what_was_read_is_not() {
    let machinery = machinery();
    let (one, two, cursor) = life(&machinery, "b1", async |world: &World| {
        let (one, two) = pair(world).await;
        for text in ["read", "seen", "unseen"] {
            assert_eq!(say(&machinery, one, "team", text).await.unwrap().receivers, 1);
        }
        let got = receive(&machinery, two, 0, 0).await;
        // It says that it has read the first, and dies before it has the answer to the next.
        let first = got.messages[0].cursor;
        assert_eq!(texts(&receive(&machinery, two, first, 0).await), ["seen", "unseen"]);
        (one, two, first)
    });
    let json = Json::from_text("{ \"n\":[1,2.50] }".into()).unwrap();
    for _ in 0..2 {
        life(&machinery, "b1", async |world: &World| {
            until("both are served", || world.manager.list(false).len() == 2).await;
            let got = receive(&machinery, two, cursor, 0).await;
            assert!(!got.restarted && got.lost == 0);
            assert_eq!(texts(&got), ["seen", "unseen"], "each of them, and in order");
            assert_eq!(texts(&receive(&machinery, two, 0, 0).await), ["seen", "unseen"]);
            assert_eq!(receive(&machinery, one, 0, 0).await.messages, []);
        });
    }
    life(&machinery, "b1", async |world: &World| {
        until("both are served", || world.manager.list(false).len() == 2).await;
        send(&machinery, one, "team", Body::Json(json.clone())).await.unwrap();
        let got = receive(&machinery, two, cursor, 0).await;
        assert_eq!(texts(&got), ["seen", "unseen", json.text()], "to the letter");
        assert!(got.messages.windows(2).all(|two| two[0].cursor < two[1].cursor && two[0].seq < two[1].seq));
        assert_eq!(receive(&machinery, two, got.cursor, 0).await.messages, []);
        world.kill(&one.to_string(), 0).await;
        world.kill(&two.to_string(), 0).await;
        assert_eq!(mail(&machinery), [] as [std::path::PathBuf; 0], "a mailbox goes with its agent");
    });
}

#[test]
fn a_mailbox_goes_with_its_agent_also_where_that_ends_while_nobody_looks() {
    let machinery = machinery();
    life(&machinery, "b1", async |world: &World| {
        let (one, two) = pair(world).await;
        let gone = agent(world, "gone", &["team"]).await;
        assert_eq!(say(&machinery, one, "team", "x").await.unwrap().receivers, 2);
        world.kill(&gone.to_string(), 0).await;
        assert_eq!(say(&machinery, two, "team", "x").await.unwrap().receivers, 1, "gone with the agent");
        let _alone = agent(world, "alone", &[]).await;
    });
    assert_eq!(mail(&machinery).len(), 2, "who is in no room has no file");
    life(&machinery, "b2", async |world: &World| {
        until("they are gone", || world.manager.list(false).is_empty()).await;
        until("and their mail", || mail(&machinery).is_empty()).await;
    });
}

#[test]
fn a_mailbox_that_cannot_be_read_is_told_and_its_numbers_grow() {
    let machinery = machinery();
    let (one, two, cursor) = life(&machinery, "b1", async |world: &World| {
        let (one, two) = pair(world).await;
        say(&machinery, one, "team", "lost").await.unwrap();
        (one, two, receive(&machinery, two, 0, 0).await.cursor)
    });
    let two_has = |path: &std::path::Path| path.to_string_lossy().contains(&two.to_string());
    std::fs::write(mail(&machinery).iter().find(|path| two_has(path)).unwrap(), "{\n").unwrap();
    life(&machinery, "b1", async |world: &World| {
        until("both are served", || world.manager.list(false).len() == 2).await;
        let empty = receive(&machinery, two, cursor, 0).await;
        assert!(empty.messages.is_empty() && empty.restarted, "it is told that something may be missing");
        say(&machinery, one, "team", "again").await.unwrap();
        let got = receive(&machinery, two, cursor, 10_000).await;
        assert!(got.cursor > cursor + 1, "numbers grow over a restart");
        assert_eq!(texts(&got), ["again"]);
        assert!(!receive(&machinery, two, got.cursor, 0).await.restarted);
    });
}

/// A directory stands where the file has to be written anew.
#[tokio::test]
async fn what_cannot_be_kept_is_not_acknowledged() {
    let machinery = machinery();
    let world = machinery.start("b1");
    let (one, two) = pair(&world).await;
    say(&machinery, one, "team", "kept").await.unwrap();
    let cursor = receive(&machinery, two, 0, 0).await.cursor;
    let path = machinery.scratch.path().join(format!("state/{two}.mail"));
    world.manager.break_mailbox(two);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(say(&machinery, one, "team", "x").await.unwrap().receivers, 0);
    let request = ReceiveRequest { after: cursor, wait_ms: 0 };
    let error = machinery.guest(two).call(&request).await.map_err(api).unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    std::fs::remove_dir(&path).unwrap();
    let got = receive(&machinery, two, cursor, 0).await;
    assert_eq!((got.messages.len(), got.lost), (0, 1), "and the receiver is told");
}
