//! What a program says so that the router reads one thing and the upstream another, or counts less than it used.

use super::{CHAT, PLENTY, Upstream, World, deployment, json};

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
