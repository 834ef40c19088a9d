//! The sockets at which the router is asked, beside that in an agent's network.

use super::{CHAT, PLENTY, Upstream, World, deployment, json};
use crate::http;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const HELLO: &str = r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi"}]}"#;

/// What comes as an answer to these bytes, until the end.
pub(super) async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    // Whoever is not listened to hears of it by the end.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

/// A request with these lines in its head.
pub(super) fn post(path: &str, head: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}"
    )
}

async fn over_unix(path: &Path, body: &str) -> String {
    let Ok(stream) = UnixStream::connect(path).await else { return String::new() };
    said(stream, &post("/v1/chat/completions", "", body)).await
}

#[tokio::test]
async fn an_agents_unix_socket_is_the_agent_and_ends_with_it() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let path = world.dir.join("llm.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(http::serve(Arc::clone(&world.router), Arc::clone(&world.agent), listener));
    world.agent.listens(vec![serving.abort_handle()]);
    let answer = over_unix(&path, HELLO).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Hello"), "{answer}");
    // It may there what its manifest says, and nothing more.
    let denied = over_unix(&path, &HELLO.replace("p-a/m-a", "p-b/m-b")).await;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    assert_eq!(world.agent.rows().iter().map(|row| row.usage.calls).sum::<u64>(), 1, "on its account");
    world.router.agents.dismiss(world.agent.aid).unwrap();
    while !serving.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(over_unix(&path, HELLO).await, "", "nobody listens any more");
}
