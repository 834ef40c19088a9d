//! What programs and upstreams try.

use super::{CHAT, CHUNKS, KEY, Line, PLENTY, Upstream, World, deployment, events, json, outcome};
use crate::http::BODY_MAX;
use crate::secrets::how_to;
use serde_json::{Value, json as value};
use std::sync::atomic::Ordering;
use std::time::Duration;

const HELLO: &str = r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi"}]}"#;

#[tokio::test]
async fn a_model_that_was_not_granted_is_not_asked_and_that_is_on_record() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at) + "[aliases]\nmine = \"p-a/m-a\"\n";
    let world = World::new(&file, &["other/*", "p-a"], PLENTY).await;
    for model in ["p-a/m-a", "mine", "m-a", "p-a/*", "*", "other/x", "", "p-a/m-a\\u0000"] {
        let body = HELLO.replace("p-a/m-a", model);
        for path in ["/v1/chat/completions", "/v1/responses", "/anthropic/v1/messages", "/api/chat"] {
            let body = body.replacen('{', r#"{"max_tokens":5,"#, 1);
            let (status, _, answer) = world.ask(path, &body).await;
            assert!((400..405).contains(&status), "{path} {model}: {status} {answer}");
        }
    }
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
    let lines = world.lines(1).await;
    let denied = |line: &Line| matches!(line, Line::Decided(what) if what["field"] == "models.allowed");
    assert!(
        lines.iter().any(denied) && !lines.iter().any(|line| matches!(line, Line::Intent(..))),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_upstream_that_sends_the_key_back_tells_it_to_nobody() {
    let reflected = format!(r#"{{"error":{{"message":"bad key {KEY} given"}}}}"#);
    let chunk = CHUNKS[1].replace("Hello", KEY);
    let (one, two) = chunk.split_at(chunk.find(KEY).unwrap() + 9);
    let mut torn = events(&CHUNKS[..1]);
    torn.extend([format!("data: {one}").into_bytes(), format!("{two}\n\n").into_bytes()]);
    torn.extend(events(&CHUNKS[2..]).into_iter().skip(1));
    let scripts =
        vec![json("400 Bad Request", &reflected), json("200 OK", &CHAT.replace("Hello", KEY)), torn];
    let upstream = Upstream::new(scripts).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let stream = HELLO.replacen('{', r#"{"stream":true,"#, 1);
    for (body, status) in [(HELLO, 400), (HELLO, 200), (stream.as_str(), 200)] {
        let (is, head, answer) = world.ask("/v1/chat/completions", body).await;
        assert_eq!(is, status, "{answer}");
        assert!(answer.contains("[key]") && !answer.contains(KEY) && !head.contains(KEY), "{answer}");
    }
    let lines = world.lines(6).await;
    assert!(!format!("{lines:?} {:?} {}", world.router, world.router.metrics.text()).contains(KEY));
}

#[tokio::test]
async fn nothing_is_asked_that_cannot_be_put_on_record_or_has_no_key() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at)
        + &deployment("b", "chat", upstream.at).replace("test/key", "other/key");
    let world = World::new(&file, &["*"], PLENTY).await;
    let (status, _, answer) = world.ask("/v1/chat/completions", &HELLO.replace("p-a/m-a", "p-b/m-b")).await;
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("other/key"), "{answer}");
    world.ledger.broken.store(true, Ordering::Relaxed);
    let (status, _, answer) = world.ask("/v1/chat/completions", HELLO).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
    assert!(world.agent.purse.close().tokens == 0, "nothing was used");
    let name = "test/key".parse().unwrap();
    assert!(how_to(&name, "h.example.org").contains("--to service:router --mode use --host h.example.org"));
}

#[tokio::test]
async fn a_key_comes_while_the_ledger_works_and_nothing_is_sent_before_both_are_there() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    world.ledger.slow.store(true, Ordering::Relaxed);
    let key_came = async {
        while world.keys.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Long enough to send a request, were it sent.
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(upstream.asked.lock().unwrap().is_empty(), "the intent is not on record");
        assert!(world.ledger.lines.lock().unwrap().is_empty());
        world.ledger.slow.store(false, Ordering::Relaxed);
    };
    let ((status, _, answer), ()) = tokio::join!(world.ask("/v1/chat/completions", HELLO), key_came);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.keys.load(Ordering::Relaxed), 1, "it was asked for once");
    assert_eq!(upstream.asked.lock().unwrap().len(), 1);
    // Where the intent does not come to be on record the key was of no use to anybody.
    world.ledger.broken.store(true, Ordering::Relaxed);
    let (status, _, answer) = world.ask("/v1/chat/completions", HELLO).await;
    assert!(status == 503 && answer.contains("put on record"), "{status} {answer}");
    assert_eq!(upstream.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_that_two_readers_could_read_in_two_ways_are_refused() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["*"], PLENTY).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n";
    for more in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
    ] {
        let (status, _, answer) = world.raw(format!("{head}Connection: close\r\n{more}").as_bytes()).await;
        assert!(status == 400, "{more:?}: {status} {answer}");
    }
    let twice = r#"{"model":"p-a/m-a","model":"p-b/m-b","messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", twice).await;
    assert_eq!(status, 400, "{answer}");
    // Its own key, and whatever else it says of itself, stays here.
    let own = format!(
        "{head}Connection: close\r\nAuthorization: Bearer mine-mine\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\nContent-Length: {}\r\n\r\n{HELLO}",
        HELLO.len()
    );
    let (status, _, _) = world.raw(own.as_bytes()).await;
    assert_eq!(status, 200);
    let asked = upstream.last().to_ascii_lowercase();
    assert!(!["mine-mine", "x-forwarded-for", "cookie"].iter().any(|own| asked.contains(own)), "{asked}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["*"], PLENTY).await;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        BODY_MAX + 1
    );
    let (status, _, answer) = world.raw(head.as_bytes()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["error"]["type"]), (413, &value!("request_too_large")));
}

#[tokio::test]
async fn what_is_taken_away_is_cut_while_it_is_under_way() {
    let mut script = events(&CHUNKS[..2]);
    script.push(Vec::new());
    let upstream = Upstream::new(vec![script]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = HELLO.replacen('{', r#"{"stream":true,"#, 1);
    let (answer, ()) = tokio::join!(world.ask("/v1/chat/completions", &body), async {
        while world.agent.show().open == 0 || upstream.asked.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut word = crate::core::tests::word(world.agent.aid, &["p-b/*"]);
        word.generation = 2;
        assert_eq!(world.router.agents.admit(&word).unwrap().1, 1);
    });
    assert!(answer.2.contains("Hello") && answer.2.contains("gone"), "{}", answer.2);
    assert_eq!(outcome(&world.lines(2).await)["failed"], "cancelled");
    let mut old = crate::core::tests::word(world.agent.aid, &["*"]);
    old.generation = 1;
    assert!(world.router.agents.admit(&old).is_err(), "an older word is not taken");
    world.router.agents.dismiss(world.agent.aid).unwrap();
    assert!(tokio::net::TcpStream::connect(world.at).await.is_err() || world.get("/v1/models").await.0 == 0);
}
