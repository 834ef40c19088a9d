//! What a program may take for an end, where it and the upstream speak the same.

use super::{PLENTY, Script, Upstream, World, deployment, outcome};
use octant_llm::{Dialect, Event, Kind};
use serde_json::json as value;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const ANTHROPIC: &str = "/anthropic/v1/messages";
const OLLAMA: &str = "/api/chat";
const BODY: &str = r#"{"model":"p-a/m-a","stream":true,"max_tokens":50,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#;

/// Each dialect that programs speak, its path, what asks, and a stream of it by its events.
fn golden() -> [(Dialect, &'static str, &'static str, String, Vec<String>); 4] {
    let named = |text: &str| {
        let events = text.split_inclusive("\n\n").map(|event| event.replace('\n', "\r\n"));
        events.collect::<Vec<String>>()
    };
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<String>>();
    let plain = |text: &str| text.split_inclusive("\n\n").map(str::to_owned).collect::<Vec<String>>();
    let asks = r#"{"model":"p-a/m-a","stream":true,"max_output_tokens":50,"input":"Hi"}"#;
    [
        (Dialect::Chat, "chat", CHAT, BODY.to_owned(), plain(include_str!("ends/chat.txt"))),
        (
            Dialect::Responses,
            "responses",
            RESPONSES,
            asks.to_owned(),
            named(include_str!("ends/responses.txt")),
        ),
        (
            Dialect::Anthropic,
            "anthropic",
            ANTHROPIC,
            BODY.to_owned(),
            named(include_str!("ends/anthropic.txt")),
        ),
        (Dialect::OllamaChat, "ollama", OLLAMA, BODY.to_owned(), lines(include_str!("ends/ollama.txt"))),
    ]
}

/// An answer of these bytes, which ends with its connection.
fn raw(dialect: Dialect, bytes: &[u8]) -> Script {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nConnection: close\r\n\r\n", dialect.stream_type());
    // In pieces, so that no event comes at once.
    [head.as_bytes()].into_iter().chain(bytes.chunks(41)).map(<[u8]>::to_vec).collect()
}

/// How the program understands what it got.
fn heard(dialect: Dialect, body: &str) -> Event {
    let mut decoder = dialect.decoder();
    let mut events = decoder.push(body.as_bytes());
    events.extend(decoder.end());
    events.pop().expect("a terminal event")
}

/// What came behind the events that are the upstream's own; how many those are.
fn behind<'a>(body: &'a str, events: &[String]) -> (usize, &'a str) {
    let own = events.iter().scan(0, |length, event| {
        *length += event.len();
        Some(*length)
    });
    let whole = events.concat();
    let count =
        own.take_while(|length| body.get(..*length).is_some_and(|own| whole.starts_with(own))).count();
    (count, &body[events[..count].concat().len()..])
}

/// What is asked of a stream of these bytes: the status, what comes of it, and what is on record.
async fn said(
    dialect: Dialect,
    name: &str,
    path: &str,
    asks: &str,
    bytes: String,
) -> (u16, String, serde_json::Value) {
    let upstream = Upstream::new(vec![raw(dialect, bytes.as_bytes())]).await;
    let file = deployment("a", name, upstream.at) + "[retry]\ntries = 1\n";
    let world = World::new(&file, &["p-a/*"], PLENTY).await;
    let (status, _, body) = world.ask(path, asks).await;
    (status, body, value!(outcome(&world.lines(2).await)))
}

/// A stream that is cut anywhere comes as whole events and an error.
async fn cut_anywhere(which: usize) {
    let (dialect, name, path, asks, events) = golden().into_iter().nth(which).unwrap();
    let whole = events.concat();
    let begins = 1 + events.iter().position(|event| event.contains("Hel")).unwrap();
    let begins = events[..begins].concat().len();
    // What the last event lacks then are line ends.
    let complete = whole.trim_end().len();
    for at in 0..=whole.len() {
        let (status, body, record) = said(dialect, name, path, &asks, whole[..at].to_owned()).await;
        let (count, rest) = behind(&body, &events);
        let about = format!("{name} at {at}: {body}");
        if status != 200 {
            assert!(at < begins && status == 502 && record["failed"] == "cut", "{about}");
        } else if at < complete {
            assert!(events[..count].concat().len() <= at && count < events.len(), "{about}");
            assert!(events[..=count].concat().len() > at, "every event that is whole is passed on: {about}");
            assert!(rest.starts_with(['{', 'd', 'e']) && rest.contains("\"error\""), "{about}");
            assert!(matches!(heard(dialect, &body), Event::Failed(_)), "{about}");
            assert_eq!(record["failed"], "cut", "{about}");
        } else {
            assert!(body.starts_with(&whole[..at]) && body.ends_with('\n'), "{about}");
            assert!(body.lines().eq(whole.lines()), "{about}");
            assert!(matches!(heard(dialect, &body), Event::Finished { .. }), "{about}");
            assert_eq!(record["done"], true, "{about}");
        }
    }
}

#[tokio::test]
async fn a_cut_stream_of_chat_comes_as_whole_events_and_an_error() {
    cut_anywhere(0).await;
}

#[tokio::test]
async fn a_cut_stream_of_responses_comes_as_whole_events_and_an_error() {
    cut_anywhere(1).await;
}

#[tokio::test]
async fn a_cut_stream_of_anthropic_comes_as_whole_events_and_an_error() {
    cut_anywhere(2).await;
}

#[tokio::test]
async fn a_cut_stream_of_ollama_comes_as_whole_events_and_an_error() {
    cut_anywhere(3).await;
}

#[tokio::test]
async fn what_is_no_event_is_not_passed_on_and_ends_the_stream() {
    for (dialect, name, path, asks, events) in golden() {
        let garbage = if dialect == Dialect::OllamaChat {
            "{\"this is\": not\n"
        } else {
            "data: {\"this is\": not\n\n"
        };
        let at = 1 + events.iter().position(|event| event.contains("Hel")).unwrap();
        let bytes = events[..at].concat() + garbage + &events[at..].concat();
        let (_, body, record) = said(dialect, name, path, &asks, bytes).await;
        let (count, rest) = behind(&body, &events);
        assert!(count == at && !body.contains("this is\": not\n"), "{name}: {body}");
        assert!(rest.contains("\"error\""), "{name}: {rest}");
        assert!(matches!(heard(dialect, &body), Event::Failed(_)), "{name}: {body}");
        assert_eq!((&record["done"], &record["failed"]), (&value!(false), &value!("malformed")), "{name}");
    }
}

#[tokio::test]
async fn an_end_before_its_reason_is_held_back() {
    let wrong = [
        "data: [DONE]\n\n",
        "data: [DONE]\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "{\"model\":\"m\",\"done\":true,\"done_reason\":\"not yet\"}\n",
    ];
    for ((dialect, name, path, asks, events), wrong) in golden().into_iter().zip(wrong) {
        let at = 1 + events.iter().position(|event| event.contains("Hel")).unwrap();
        let (_, body, record) = said(dialect, name, path, &asks, events[..at].concat() + wrong).await;
        assert!(!body.contains(wrong.trim()) && body.contains("\"error\""), "{name}: {body}");
        assert!(matches!(heard(dialect, &body), Event::Failed(_)), "{name}: {body}");
        assert_eq!(record["done"], false, "{name}");
    }
    let (dialect, name, path, asks, events) = golden().into_iter().nth(1).unwrap();
    let early = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\"}}\n\n".to_owned();
    let (_, body, record) = said(dialect, name, path, &asks, events[..3].concat() + &early).await;
    assert!(!body.contains("response.completed") && record["done"] == false, "{body}");
}

#[tokio::test]
async fn behind_the_end_nothing_is_passed_on() {
    for (dialect, name, path, asks, events) in golden() {
        let (_, body, record) = said(dialect, name, path, &asks, events.concat() + &events.concat()).await;
        assert_eq!((body, &record["done"]), (events.concat(), &value!(true)), "{name}");
    }
}

#[tokio::test]
async fn a_failure_that_an_upstream_says_is_said_once_and_of_this_answer() {
    let (dialect, name, path, asks, events) = golden().into_iter().nth(1).unwrap();
    let error = "data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"it broke\"}\n\n";
    let (_, body, record) = said(dialect, name, path, &asks, events[..3].concat() + error).await;
    assert!(body.matches("it broke").count() == 1 && body.contains("response.failed"), "{body}");
    assert!(body.matches("\"resp_1\"").count() > 1, "{body}");
    assert_eq!(record["failed"], "upstream");
    let Event::Failed(failure) = heard(dialect, &body) else { panic!("{body}") };
    assert_eq!(failure.kind, Kind::Upstream);
}

#[tokio::test]
async fn what_the_program_s_dialect_has_no_word_for_is_what_the_outcome_says() {
    let searches = concat!(
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":7,\"content_block\":",
        "{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":7}\n\n",
    );
    let [chat, _, anthropic, _] = golden().map(|(.., events)| events);
    let end = anthropic.iter().position(|event| event.contains("message_delta")).unwrap();
    let searching = anthropic[..end].concat() + searches + &anthropic[end..].concat();
    let filtered = chat.concat().replace(r#""finish_reason":"stop""#, r#""finish_reason":"content_filter""#);
    let cases = [
        (
            Dialect::Anthropic,
            "anthropic",
            (CHAT, Dialect::Chat),
            searching,
            "server_tool_use",
            "untranslatable",
        ),
        (
            Dialect::Chat,
            "chat",
            (OLLAMA, Dialect::OllamaChat),
            filtered,
            "filter kept the answer back",
            "upstream",
        ),
    ];
    let asks = r#"{"model":"p-a/m-a","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    for (dialect, name, (path, ours), bytes, word, failed) in cases {
        let (status, body, record) = said(dialect, name, path, asks, bytes).await;
        assert!(status == 200 && body.contains("Hel") && body.matches(word).count() == 1, "{status} {body}");
        assert!(matches!(heard(ours, &body), Event::Failed(_)), "{body}");
        assert_eq!((&record["done"], &record["failed"]), (&value!(false), &value!(failed)), "{record}");
        assert!(record["why"].as_str().unwrap().contains(word), "{record}");
    }
}
