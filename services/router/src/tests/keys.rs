//! Programs outside of workstations, who show keys.

use super::doors::{post, said};
use super::{CHAT, CHUNKS, Line, PLENTY, Upstream, World, deployment, events, json};
use octant_api::router::{DataClass, IssueRequest, WindowLimits};
use serde_json::json as value;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;

const HELLO: &str = r#"{"model":"p-a/m-a","max_tokens":3,"messages":[{"role":"user","content":"Hi"}]}"#;
const CHAT_PATH: &str = "/v1/chat/completions";
/// What one call of [`HELLO`] uses: as the upstream says.
const EACH: u64 = 12;

/// A router that listens for programs outside, at a port that nobody had just now.
async fn world(upstream: &Upstream, more: &str) -> (World, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let file = deployment("a", "chat", upstream.at) + &format!("[listen]\nat = \"{at}\"\n{more}");
    let world = World::new(&file, &[], PLENTY).await;
    assert_eq!(world.router.door.stands(), (at.to_string(), String::new()));
    (world, at)
}

fn wish(name: &str) -> IssueRequest {
    IssueRequest {
        name: name.into(),
        models: vec!["p-a/*".into()],
        data: DataClass::Any,
        max_price_microusd: None,
        limits: WindowLimits::default(),
        ttl_ms: None,
    }
}

async fn issue(world: &World, wish: IssueRequest) -> String {
    world.router.keyring.issue(&world.router, "operator:0", wish).await.unwrap()
}

async fn ask(at: SocketAddr, head: &str, body: &str) -> String {
    said(TcpStream::connect(at).await.unwrap(), &post(CHAT_PATH, head, body)).await
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

#[tokio::test]
async fn whoever_shows_a_key_is_its_name_and_may_what_it_may() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let (world, at) = world(&upstream, "").await;
    let key = issue(&world, wish("ci")).await;
    for head in [bearer(&key), format!("x-api-key: {key}\r\n"), format!("api-key: {key}\r\n")] {
        let answer = ask(at, &head, HELLO).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Hello"), "{answer}");
    }
    let denied = ask(at, &bearer(&key), &HELLO.replace("p-a/m-a", "p-b/m-b")).await;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let lines = world.lines(9).await;
    let what = |line: &&Line| matches!(line, Line::Intent(_, what) if what["by"] == "key:ci");
    assert_eq!(lines.iter().filter(what).count(), 3);
    let made = matches!(&lines[0], Line::Intent(_, what) if what["do"] == "issue a key" && what["by"] == "operator:0");
    assert!(made, "{lines:?}");
    let rows = world.router.tally.rows(Some("key:ci"));
    assert_eq!(
        rows.iter()
            .map(|row| (row.usage.calls, row.usage.denied))
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (3, 1)
    );
    let kept = std::fs::read_to_string(world.dir.join("keys.json")).unwrap();
    let everything = format!("{kept} {lines:?} {:?}", world.router.keyring);
    assert!(!everything.contains(&key) && !everything.contains(&key[10..]), "it is nowhere: {everything}");
    assert!(!upstream.asked.lock().unwrap().iter().any(|asked| asked.contains(&key[5..])), "nor upstream");
}

#[tokio::test]
async fn who_shows_none_or_another_is_not_let_in_and_only_so_often() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let (world, at) = world(&upstream, "").await;
    let key = issue(&world, wish("ci")).await;
    let other = issue(&world, wish("other")).await;
    let mixed = format!("{}x-api-key: {other}\r\n", bearer(&key));
    for head in
        ["", "x-api-key: octk_a\r\n", &bearer(&key[..key.len() - 1]), &mixed, "Authorization: Basic YTpi\r\n"]
    {
        let answer = ask(at, head, HELLO).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("invalid_api_key"), "{answer}");
        let head = answer.to_ascii_lowercase();
        assert!(head.contains("www-authenticate: bearer") && head.contains("connection: close"), "{answer}");
    }
    let anthropic = said(TcpStream::connect(at).await.unwrap(), &post("/v1/messages", "", HELLO)).await;
    assert!(
        anthropic.contains("authentication_error") && anthropic.contains("\"type\":\"error\""),
        "{anthropic}"
    );
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(ask(at, "x-api-key: octk_a\r\n", HELLO).await[9..12].to_owned());
    }
    assert!(codes.contains(&"429".to_owned()), "{codes:?}");
    // What others try at its address does not shut out who has a key.
    assert!(ask(at, &bearer(&key), HELLO).await.starts_with("HTTP/1.1 200"));
    assert_eq!(upstream.asked.lock().unwrap().len(), 1);
    world.router.keyring.tell_again(&world.router);
    let denied = world.lines(5).await;
    let denied =
        denied.iter().filter(|line| matches!(line, Line::Decided(what) if what["denied"].as_str().is_some()));
    assert_eq!(denied.count(), 2, "once, and as a count");
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_cut_while_it_is_used() {
    let mut script = events(&CHUNKS[..2]);
    script.push(Vec::new());
    let upstream = Upstream::new(vec![script]).await;
    let (world, at) = world(&upstream, "").await;
    let key = issue(&world, wish("ci")).await;
    let body = HELLO.replacen('{', r#"{"stream":true,"#, 1);
    let (answer, ()) = tokio::join!(async { ask(at, &bearer(&key), &body).await }, async {
        while upstream.asked.lock().unwrap().is_empty() || world.router.keyring.list()[0].open == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(world.router.keyring.revoke(&world.router, "operator:0", "ci").await.unwrap(), 1);
    });
    assert!(answer.contains("Hello") && answer.contains("is gone") && !answer.contains("[DONE]"), "{answer}");
    assert!(ask(at, &bearer(&key), HELLO).await.starts_with("HTTP/1.1 401"));
    assert!(world.router.keyring.revoke(&world.router, "operator:0", "ci").await.is_err());
    let lines = world.lines(6).await;
    let revoked =
        |line: &Line| matches!(line, Line::Decided(what) if what["do"] == "revoke a key" && what["cut"] == 1);
    assert!(lines.iter().any(revoked), "{lines:?}");
    let again = crate::issued::Keyring::open(world.dir.join("keys.json"), &world.router.agents);
    assert_eq!(again.count(), 0, "nor does it come back");
}

#[tokio::test]
async fn no_key_is_good_that_is_not_on_record_or_whose_time_is_over() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let (world, at) = world(&upstream, "").await;
    world.ledger.broken.store(true, Ordering::Relaxed);
    assert!(world.router.keyring.issue(&world.router, "operator:0", wish("ci")).await.is_err());
    assert!(world.router.keyring.list().is_empty() && !world.dir.join("keys.json").exists());
    world.ledger.broken.store(false, Ordering::Relaxed);
    for bad in [
        wish(""),
        wish("a b"),
        wish("../x"),
        wish(&"a".repeat(65)),
        IssueRequest { models: vec![], ..wish("a") },
        IssueRequest { models: vec!["a b".into()], ..wish("a") },
        IssueRequest { ttl_ms: Some(0), ..wish("a") },
    ] {
        assert!(
            world.router.keyring.issue(&world.router, "operator:0", bad.clone()).await.is_err(),
            "{bad:?}"
        );
    }
    let short = issue(&world, IssueRequest { ttl_ms: Some(1), ..wish("short") }).await;
    let long = issue(&world, wish("long")).await;
    assert!(world.router.keyring.issue(&world.router, "operator:0", wish("long")).await.is_err(), "twice");
    while octant_sys::clock::wall_ms() <= world.router.keyring.list()[0].until_ms.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert!(ask(at, &bearer(&short), HELLO).await.starts_with("HTTP/1.1 401"));
    assert!(world.router.keyring.sweep(&world.router).await);
    assert_eq!(world.router.keyring.list().len(), 1);
    // A router that starts anew knows those that are good.
    let again = crate::issued::Keyring::open(world.dir.join("keys.json"), &world.router.agents);
    let mut headers = hyper::HeaderMap::new();
    headers.insert("x-api-key", long.parse().unwrap());
    assert_eq!(again.find(&headers, at.ip()).unwrap().who(), "key:long");
    std::fs::write(world.dir.join("keys.json"), "{").unwrap();
    let torn = crate::issued::Keyring::open(world.dir.join("keys.json"), &world.router.agents);
    assert!(torn.find(&headers, at.ip()).is_err());
    assert!(torn.issue(&world.router, "operator:0", wish("new")).await.is_err());
    assert_eq!(std::fs::read_to_string(world.dir.join("keys.json")).unwrap(), "{", "it is not written over");
}

#[tokio::test]
async fn a_cap_of_a_day_or_in_all_is_kept_by_many_at_once_and_over_a_restart() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let (world, at) = world(&upstream, "[keys]\ntokens_per_day = 2000\n").await;
    let limits = WindowLimits { tokens_per_day: Some(800), ..WindowLimits::default() };
    let key = issue(&world, IssueRequest { limits, ..wish("ci") }).await;
    let ask = |_| {
        let head = bearer(&key);
        tokio::spawn(async move { ask(at, &head, HELLO).await })
    };
    let mut answered = 0;
    for call in (0..64).map(ask).collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.get(9..12) {
            Some("200") => answered += 1,
            _ => assert!(answer.contains("tokens_per_day of key:ci"), "{answer}"),
        }
    }
    assert!(answered > 0 && answered * EACH <= 800, "{answered}");
    let used = || {
        let text = std::fs::read_to_string(world.dir.join("windows.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let most = |all: &serde_json::Value| {
        all.as_object().unwrap().values().map(|row| row["used_that_day"][0].as_u64().unwrap()).max().unwrap()
    };
    assert!(most(&used()) >= answered * EACH, "what can be used is written before: {}", used());
    world.router.windows.close().await.unwrap();
    assert_eq!(most(&used()), answered * EACH, "in order it is what was used");
    let again = crate::windows::Windows::open(world.dir.join("windows.json"));
    let account: octant_ids::Aid = used().as_object().unwrap().keys().next().unwrap().parse().unwrap();
    let day = octant_route::Amount { tokens: 800, microusd: u64::MAX };
    let room = again.room(&[(account, octant_route::Limits { day, ..Default::default() })]);
    assert_eq!(room.tokens, 800 - answered * EACH);
    assert_eq!(value!(upstream.asked.lock().unwrap().len()), value!(answered));
}

#[tokio::test]
async fn nobody_listens_for_other_machines_before_there_is_a_key_nor_unencrypted_unasked() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let file =
        |plain: &str| deployment("a", "chat", upstream.at) + "[listen]\nat = \"0.0.0.0:17071\"\n" + plain;
    let world = World::new(&file("plain = true\n"), &[], PLENTY).await;
    let (at, fault) = world.router.door.stands();
    assert!(at.is_empty() && fault.contains("nobody has a key"), "{fault}");
    assert!(world.router.warnings().iter().any(|warning| warning.contains("octant router key new")));
    std::fs::write(world.dir.join("router.toml"), file("")).unwrap();
    let why = world.router.reload().unwrap_err();
    assert!(why.contains("not encrypted") && why.contains("plain = true"), "{why}");
    std::fs::write(world.dir.join("router.toml"), file("").replace("0.0.0.0:17071", "127.0.0.1:80")).unwrap();
    assert!(world.router.reload().unwrap_err().contains("port for root"));
}

#[tokio::test]
async fn who_has_not_shown_a_key_is_not_read_and_what_two_could_read_in_two_ways_is_refused() {
    let upstream = Upstream::new(vec![json("200 OK", CHAT)]).await;
    let (world, at) = world(&upstream, "").await;
    let key = issue(&world, wish("ci")).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    // The body never comes: who has no key does not have it waited for.
    let early =
        said(TcpStream::connect(at).await.unwrap(), &format!("{head}Content-Length: 99999\r\n\r\n")).await;
    assert!(early.starts_with("HTTP/1.1 401"), "{early}");
    for more in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
    ] {
        let request = format!("{head}{}{more}", bearer(&key));
        let answer = said(TcpStream::connect(at).await.unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{more:?}: {answer}");
    }
    let many = format!("{head}{}{}\r\n", bearer(&key), "a: b\r\n".repeat(200));
    let answer = said(TcpStream::connect(at).await.unwrap(), &many).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(upstream.asked.lock().unwrap().is_empty());
}
