//! What a collector gets, and what it may answer.

use super::{CHAT, PLENTY, Upstream, World, deployment, json};
use crate::push::{Collector, NotTaken};
use serde_json::{Value, json as value};

#[tokio::test]
async fn a_collector_gets_what_was_counted_and_nothing_that_was_said() {
    let scripts = [
        json("200 OK", r#"{"partialSuccess":{}}"#),
        json("200 OK", r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"too old"}}"#),
        json("503 Service Unavailable", ""),
    ];
    let (upstream, collector) =
        (Upstream::new(vec![json("200 OK", CHAT)]).await, Upstream::new(scripts.into()).await);
    let world = World::new(&deployment("a", "chat", upstream.at), &["p-a/*"], PLENTY).await;
    let hello = r#"{"model":"p-a/m-a","messages":[{"role":"user","content":"Hi there"}]}"#;
    assert_eq!(world.ask("/v1/chat/completions", hello).await.0, 200);
    world.lines(2).await;
    let address = format!("http://{}", collector.at);
    let to = Collector::new(&address, "run-1".into()).unwrap();
    assert_eq!(to.push(&world.router).await, Ok(()));
    let asked = collector.last();
    assert!(asked.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    let tokens = &body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][2]["sum"]["dataPoints"];
    assert_eq!((&tokens[0]["asInt"], &tokens[1]["asInt"]), (&value!("9"), &value!("3")));
    assert!(!asked.contains("Hi there") && !asked.contains("Hello"), "{asked}");
    assert_eq!(to.push(&world.router).await, Err(NotTaken::Part("too old".into())));
    assert_eq!(to.push(&world.router).await, Err(NotTaken::Status(503)));
    // Without TLS only on this machine.
    let elsewhere = Collector::new("http://192.0.2.1:4318", String::new()).unwrap();
    assert!(matches!(elsewhere.push(&world.router).await, Err(NotTaken::Way(_))));
    assert!(Collector::new("collector:4318", String::new()).is_err());
}
