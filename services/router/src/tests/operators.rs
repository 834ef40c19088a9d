//! Operators who ask without an agent.

use super::{CHAT, CHUNKS, Line, Upstream, World, deployment, events, json, outcome, tokens};
use crate::http;
use serde_json::json as value;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Where operators ask this router, which belongs to `operator`.
fn surface(world: &World, operator: u32) -> PathBuf {
    let path = world.dir.join(format!("{operator}.sock"));
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(http::serve_operators(Arc::clone(&world.router), operator, listener));
    path
}

/// Whose this process is: what it makes is theirs.
fn own_uid(world: &World) -> u32 {
    std::fs::metadata(&world.dir).unwrap().uid()
}

async fn asked(path: &PathBuf, target: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    // Whoever is no operator is not listened to.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn an_operator_asks_every_model_without_a_budget_and_is_on_record() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT), events(&CHUNKS)]).await;
    let file =
        deployment("a", "chat", upstream.at).replace("price = { input = 1000000, output = 2000000 }\n", "");
    let world = World::new(&file, &["other/*"], tokens(0)).await;
    let uid = own_uid(&world);
    let path = surface(&world, uid);
    for (target, stream) in [("/v1/chat/completions", false), ("/anthropic/v1/messages", true)] {
        let body = value!({"model": "p-a/m-a", "stream": stream, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]});
        let said = asked(&path, target, &body.to_string()).await;
        assert!(said.starts_with("HTTP/1.1 200 OK") && said.contains("Hello"), "{said}");
    }
    let lines = world.lines(4).await;
    let by: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Intent(_, intent) => Some(intent["by"].clone()),
            _ => None,
        })
        .collect();
    assert_eq!(by, [value!(format!("operator:{uid}")), value!(format!("operator:{uid}"))]);
    assert_eq!((&outcome(&lines)["done"], &outcome(&lines)["usage"]["output"]), (&value!(true), &value!(3)));
    assert_eq!(world.router.agents.list().len(), 1, "no agent comes of it");
    let unknown = asked(
        &path,
        "/v1/chat/completions",
        r#"{"model":"nobody/none","messages":[{"role":"user","content":"Hi"}]}"#,
    )
    .await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
}

#[tokio::test]
async fn without_the_ledger_an_operator_asks_nothing_either() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["*"], tokens(0)).await;
    world.ledger.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let path = surface(&world, own_uid(&world));
    let said = asked(
        &path,
        "/v1/chat/completions",
        r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi"}]}"#,
    )
    .await;
    assert!(said.starts_with("HTTP/1.1 503") && upstream.asked.lock().unwrap().is_empty(), "{said}");
}

#[test]
fn only_an_operator_counts_as_one() {
    use octant_ids::Principal;
    let service = octant_ids::uid::of_service("agents").unwrap();
    for (uid, is) in [(0, true), (1000, true), (1001, false), (service, false)] {
        assert_eq!(matches!(Principal::of_uid(uid, 1000), Principal::Operator(_)), is, "{uid}");
    }
}
