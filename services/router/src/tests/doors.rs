//! The sockets at which the router is asked, beside that in an agent's network.

use super::{CHAT, Line, PLENTY, Upstream, World, deployment, json};
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
    assert_eq!(world.agent.total().calls, 1, "on its account");
    world.router.agents.dismiss(world.agent.aid).unwrap();
    while !serving.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(over_unix(&path, HELLO).await, "", "nobody listens any more");
}

#[tokio::test]
async fn what_a_caller_says_of_its_own_answers_is_on_record_and_moves_the_next() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at)
        + &deployment("b", "chat", upstream.at)
        + "[[group]]\nname = \"both\"\ndeployments = [\"a\", \"b\"]\nstrategy = \"success\"\n";
    let world = World::new(&file, &["both"], PLENTY).await;
    let hello = HELLO.replace("p-a/m-a", "both");
    let id = |head: &str| {
        let (_, rest) = head.split_once("octant-call-id: ").unwrap();
        rest.split("\r\n").next().unwrap().to_owned()
    };
    let judge = |id: String, ok: bool| format!(r#"{{"id":"{id}","ok":{ok}}}"#);
    let path = "/octant/v1/feedback";
    // Whom it is asked of first, nobody says; from then on it is the other.
    let (_, head, _) = world.ask("/v1/chat/completions", &hello).await;
    let first = id(&head);
    for _ in 0..9 {
        let (_, head, _) = world.ask("/v1/chat/completions", &hello).await;
        assert_eq!(world.ask(path, &judge(id(&head), false)).await.0, 200);
    }
    assert_eq!(world.ask(path, &judge(first.clone(), true)).await.0, 200);
    for bad in [judge(first, true), judge("0".into(), false), judge("x".into(), false)] {
        assert_eq!(world.ask(path, &bad).await.0, 404, "{bad}");
    }
    assert_eq!(world.ask(path, "{}").await.0, 400);
    // Another's answers are not its to judge.
    let (_, head, _) = world.ask("/v1/chat/completions", &hello).await;
    let other = world.router.agents.operator(0);
    let theirs = crate::judged::judge(&world.router, &other, judge(id(&head), false).as_bytes());
    assert_eq!(theirs.status(), 404);
    let lines = world.lines(32).await;
    let said =
        lines.iter().filter(|line| matches!(line, Line::Decided(what) if what["do"] == "judge an answer"));
    assert_eq!(said.count(), 10);
    let asked = |name: &str| {
        let by = |line: &&Line| matches!(line, Line::Outcome(_, what) if what["deployment"] == name);
        lines.iter().filter(by).count()
    };
    assert!(
        asked("a") >= 3 && asked("b") >= 3,
        "whoever was rejected stood back: {} {}",
        asked("a"),
        asked("b")
    );
}
