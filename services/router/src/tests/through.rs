//! What goes through, and how.

use super::{CHAT, CHUNKS, KEY, Line, PLENTY, Upstream, World, deployment, events, json, outcome};
use serde_json::{Value, json as value};
use std::sync::atomic::Ordering;

const HELLO: &str =
    r#"{"model":"p-a/m-a","own_field":[1, 2.50],"messages":[{"role":"user","content":"Hi"}]}"#;

#[tokio::test]
async fn the_same_dialect_passes_byte_for_byte_with_another_model_and_a_key() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let mut word = crate::core::tests::word(octant_ids::Aid::from_bytes([7; 16]), &["p-a/*"]);
    word.extras = true;
    let world = World::with(&deployment("a", "chat", upstream.at), word, PLENTY).await;
    let (status, head, body) = world.ask("/v1/chat/completions", HELLO).await;
    assert_eq!((status, body.as_str()), (200, CHAT), "{head}");
    let asked = upstream.last();
    assert!(asked.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("authorization: Bearer {KEY}\r\n")), "{asked}");
    assert!(
        asked.contains(r#""model":"m-a","own_field":[1, 2.50],"messages":[{"role":"user","content":"Hi"}]}"#),
        "{asked}"
    );
    let lines = world.lines(2).await;
    let Line::Intent(1, intent) = &lines[0] else { panic!("{lines:?}") };
    assert_eq!(intent["model"], "p-a/m-a");
    assert_eq!(intent["to"][0]["key"], "test/key");
    let done = outcome(&lines);
    assert_eq!((&done["done"], &done["stop"]), (&value!(true), &value!("end")));
    assert_eq!((&done["usage"]["input"], &done["usage"]["output"]), (&value!(9), &value!(3)));
    assert_eq!(done["microusd"], 9 + 2 * 3);
    assert!(!format!("{lines:?}").contains(KEY) && !format!("{lines:?}").contains("Hello"), "{lines:?}");
    let usage = world.agent.total();
    assert_eq!((usage.calls, usage.input, usage.output, usage.microusd), (1, 9, 3, 15));
    assert_eq!(world.agent.purse.close().tokens, 12, "settled to the unit");
}

#[tokio::test]
async fn a_stream_passes_and_what_the_router_asked_for_itself_is_taken_out() {
    let upstream = Upstream::new(vec![events(&CHUNKS)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = r#"{"model":"p-a/m-a","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, head, body) = world.ask("/v1/chat/completions", body).await;
    assert_eq!(status, 200, "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
    let wanted: String = [0, 1, 2, 4].map(|at| format!("data: {}\n\n", CHUNKS[at])).concat();
    assert_eq!(body, wanted);
    assert!(upstream.last().contains(r#""stream_options":{"include_usage":true}"#), "{}", upstream.last());
    let done = outcome(&world.lines(2).await);
    assert_eq!((&done["done"], &done["usage"]["output"]), (&value!(true), &value!(3)));
    let again = r#"{"model":"p-a/m-a","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#;
    let (_, _, body) = world.ask("/v1/chat/completions", again).await;
    assert!(body.contains(CHUNKS[3]), "who asks for it has it: {body}");
}

#[tokio::test]
async fn another_dialect_is_translated_both_ways_whole_and_as_a_stream() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT), events(&CHUNKS)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = r#"{"model":"p-a/m-a","max_tokens":50,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/anthropic/v1/messages", body).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (status, &answer["content"][0]["text"], &answer["stop_reason"]),
        (200, &value!("Hello"), &value!("end_turn"))
    );
    assert_eq!(answer["usage"]["output_tokens"], 3);
    let stream = body.replacen('{', r#"{"stream":true,"#, 1);
    let (status, _, answer) = world.ask("/anthropic/v1/messages", &stream).await;
    assert_eq!(status, 200);
    for wanted in ["event: message_start", "\"text\":\"Hello\"", "event: message_stop"] {
        assert!(answer.contains(wanted), "{answer}");
    }
    let done = outcome(&world.lines(4).await);
    assert_eq!((&done["done"], &done["usage"]["input"]), (&value!(true), &value!(9)));
}

#[tokio::test]
async fn where_one_fails_another_is_asked_and_only_before_the_first_word() {
    let broken =
        Upstream::new(vec![json("500 Internal Server Error", r#"{"error":{"message":"no"}}"#)]).await;
    let good = Upstream::new(vec![events(&CHUNKS[..2]), events(&CHUNKS)]).await;
    let file = format!(
        "{}{}[[group]]\nname = \"g\"\ndeployments = [\"a\"]\nfallbacks = [\"h\"]\n[[group]]\nname = \"h\"\ndeployments = [\"b\"]\n[retry]\ntries = 1\n",
        deployment("a", "chat", broken.at),
        deployment("b", "chat", good.at)
    );
    let world = World::new(&file, &["g"], PLENTY).await;
    let body = r#"{"model":"g","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", body).await;
    assert_eq!(status, 200);
    assert!(
        answer.contains("Hello") && answer.contains("\"error\"") && !answer.contains("[DONE]"),
        "cut is an error: {answer}"
    );
    let done = outcome(&world.lines(2).await);
    assert_eq!((&done["failed"], &done["deployment"]), (&value!("cut"), &value!("b")));
    assert_eq!(done["tries"][0]["failed"], "upstream");
    assert_eq!(good.asked.lock().unwrap().len(), 1, "what has begun is not begun again");
}

#[tokio::test]
async fn who_goes_away_stops_the_call_at_the_upstream() {
    let mut script = events(&CHUNKS[..2]);
    script.push(Vec::new());
    let upstream = Upstream::new(vec![script]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = r#"{"model":"p-a/m-a","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let asking = world.ask("/v1/chat/completions", body);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), asking).await.is_err());
    let done = outcome(&world.lines(2).await);
    assert_eq!(done["failed"], "cancelled");
    for _ in 0..1000 {
        if upstream.left.load(Ordering::Relaxed) == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the upstream still has its connection");
}

#[tokio::test]
async fn who_asks_is_told_what_it_may_ask_in_every_dialect() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = deployment("a", "chat", upstream.at) + &deployment("b", "chat", upstream.at);
    let world = World::new(&file, &["p-a/m-a"], PLENTY).await;
    for (path, at) in [("/v1/models", "data"), ("/anthropic/v1/models", "data"), ("/api/tags", "models")] {
        let (status, _, body) = world.get(path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body[at].as_array().unwrap().len()), (200, 2), "{path}: {body}");
        assert!(body.to_string().contains("p-a/m-a"), "{body}");
    }
    let (_, _, body) = world.get("/v1/models/a").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["context_length"], 100_000);
    assert_eq!(body["architecture"]["input_modalities"], value!(["text"]));
    assert_eq!(body["pricing"], value!({"prompt": "0.000001000000", "completion": "0.000002000000"}));
    let (status, _, _) = world.get("/v1/models/p-b%2Fm-b").await;
    assert_eq!(status, 404);
    let count = r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi there"}]}"#;
    let (status, head, body) = world.ask("/anthropic/v1/messages/count_tokens", count).await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("x-octant-tokens: estimate") && body.contains("input_tokens"), "{head} {body}");
    assert_eq!(upstream.asked.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn vectors_are_made() {
    let vectors = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,1.0]}],"model":"e","usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    let upstream = Upstream::new(vec![json("200 OK", vectors)]).await;
    let file = deployment("a", "chat", upstream.at)
        .replace("\"answers\", \"streaming\", \"tools\"", "\"embeddings\"");
    let world = World::new(&file, &["p-a/*"], PLENTY).await;
    let (status, _, body) = world.ask("/v1/embeddings", r#"{"model":"p-a/m-a","input":"x"}"#).await;
    assert_eq!((status, body.as_str()), (200, vectors));
    assert!(upstream.last().starts_with("POST /v1/embeddings "), "{}", upstream.last());
    assert_eq!(outcome(&world.lines(2).await)["usage"]["input"], 4);
}

#[tokio::test]
async fn an_upstream_that_answers_a_stream_in_one_piece_is_streamed_all_the_same() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let body = r#"{"model":"p-a/m-a","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, head, answer) = world.ask("/v1/chat/completions", body).await;
    assert_eq!(status, 200);
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
    assert!(answer.contains("Hello") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
}

#[tokio::test]
async fn what_the_manifest_lets_be_kept_is_kept_and_given_again_to_the_same_agent_alone() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file = "[cache]\nbytes = 1000000\nentries = 10\nttl_ms = 60000\n".to_owned()
        + &deployment("a", "chat", upstream.at);
    let mut word = crate::core::tests::word(octant_ids::Aid::from_bytes([3; 16]), &["p-a/*"]);
    (word.cache, word.keep_prompts) = (true, true);
    let world = World::with(&file, word, PLENTY).await;
    let plain = HELLO.replace("\"own_field\":[1, 2.50],", "");
    let asks = |temperature: &str| plain.replacen('{', &format!("{{\"temperature\":{temperature},"), 1);
    for (body, asked) in [(asks("0"), 1), (asks("0"), 1), (asks("0.5"), 2), (asks("0.5"), 3)] {
        let (status, _, answer) = world.ask("/v1/chat/completions", &body).await;
        assert!(status == 200 && answer.contains("Hello"), "{answer}");
        assert_eq!(upstream.asked.lock().unwrap().len(), asked, "{body}");
    }
    let lines = world.lines(7).await;
    assert!(
        lines.iter().any(|line| matches!(line, Line::Decided(what) if what["cached"] == true)),
        "{lines:?}"
    );
    assert_eq!(world.agent.total().cached, 1);
    let kept = world.dir.join("kept");
    for _ in 0..1000 {
        if std::fs::read_dir(&kept).is_ok_and(|files| files.count() == 3) {
            let first = std::fs::read_to_string(kept.join(format!("{:020}.json", 1))).unwrap();
            assert!(first.contains("Hi") && first.contains("Hello"), "{first}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("what was said is not kept");
}

#[tokio::test]
async fn an_upstream_that_dies_while_others_are_asked_in_its_stead_is_one_more_that_failed() {
    let broken =
        Upstream::new(vec![json("500 Internal Server Error", r#"{"error":{"message":"no"}}"#)]).await;
    // It takes over, says who it is, and is gone before its first word; the next one does not even say that.
    let dies = Upstream::new(vec![events(&CHUNKS[..1])]).await;
    let silent = Upstream::new(vec![Vec::new()]).await;
    let good = Upstream::new(vec![events(&CHUNKS)]).await;
    let all = [("a", &broken), ("b", &dies), ("c", &silent), ("d", &good)];
    let file: String = all.iter().map(|(name, upstream)| deployment(name, "chat", upstream.at)).collect();
    let group = |name: &str, next: &str| {
        format!("[[group]]\nname = \"g{name}\"\ndeployments = [\"{name}\"]\nfallbacks = [{next}]\n")
    };
    let groups =
        [group("a", "\"gb\", \"gc\", \"gd\""), group("b", ""), group("c", ""), group("d", "")].concat();
    let world = World::new(&(file + &groups + "[retry]\ntries = 1\n"), &["g*"], PLENTY).await;
    let body = r#"{"model":"ga","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", body).await;
    let wanted: String = [0, 1, 2, 4].map(|at| format!("data: {}\n\n", CHUNKS[at])).concat();
    assert_eq!((status, answer), (200, wanted), "nothing of those that died is in it");
    let done = outcome(&world.lines(2).await);
    assert_eq!((&done["done"], &done["deployment"]), (&value!(true), &value!("d")));
    let tries: Vec<(&Value, &Value)> =
        done["tries"].as_array().unwrap().iter().map(|one| (&one["deployment"], &one["failed"])).collect();
    let of = |name: &str, failed: &str| (value!(name), value!(failed));
    let wanted = [of("a", "upstream"), of("b", "cut"), of("c", "cut")];
    assert_eq!(tries, wanted.iter().map(|(name, failed)| (name, failed)).collect::<Vec<_>>());
}
