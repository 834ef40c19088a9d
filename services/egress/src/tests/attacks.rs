//! What a program tries that means to get out: docs/escapes.md names each of these by its test.

use super::http::host;
use super::inject::{API, MINE, SECRET, ask as ask_inspected};
use super::{FREE, World, alone, lease, say};
use crate::hello::tests::{client_hello, record};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::io::ErrorKind;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An address of a host that is reached by its name, in every spelling that some reader takes for it.
const SPELLINGS: [&str; 26] = [
    "11.0.0.1",
    "11.0.0.1.",
    "11.1",
    "11.0.1",
    "011.0.0.1",
    "0x0b.0.0.1",
    "0x0b000001",
    "0xb000001",
    "184549377",
    "013.0.0.1",
    "0000000013.00.00.01",
    "11.0.0.0x1",
    "11.000.000.001",
    "[::ffff:11.0.0.1]",
    "::ffff:11.0.0.1",
    "[::ffff:b00:1]",
    "[::11.0.0.1]",
    "[0:0:0:0:0:ffff:0b00:0001]",
    "[64:ff9b::b00:1]",
    "11.0.0.1%00.db.example.org",
    "11.0.0.1#db.example.org",
    "①①.⓪.⓪.①",
    "11。0。0。1",
    "11.0.0.1/",
    " 11.0.0.1",
    "+11.0.0.1",
];

/// Names that are no other name for a granted one, though some reader thinks so.
const LOOKALIKES: [&str; 20] = [
    "db.example.org\0.evil.org",
    "db.example.org\0",
    "db.example.org%00.evil.org",
    "db.example.org.evil.org",
    "evil.org/db.example.org",
    "evil.org#db.example.org",
    "evil.org?db.example.org",
    "evil.org@db.example.org",
    "db.example.org@evil.org",
    "db.example.org:5432@evil.org",
    "db.example.org\\.evil.org",
    "db.exam\u{200b}ple.org",
    "db.exаmple.org",
    "db。example。org",
    "ｄｂ.example.org",
    "xn--db-.example.org.evil.org",
    "db..example.org",
    ".db.example.org",
    "*.example.org",
    "db example.org",
];

async fn with_db(world: &World) -> Arc<AtomicU64> {
    world.name("db.example.org", &["11.0.0.1"]);
    world.name("evil.org", &["11.0.0.1"]);
    let count = world.echo("11.0.0.1:5432").await;
    world.admit(&["tcp://db.example.org:5432"], &[], FREE).await;
    count
}

/// The answer of SOCKS to a name; the connection, if it was let through.
async fn socks(world: &World, name: &str) -> (u8, TcpStream) {
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend(name.as_bytes());
    request.extend(5432_u16.to_be_bytes());
    let mut stream = world.dial("127.0.0.1:1080".parse().unwrap()).await.unwrap();
    assert_eq!(say(&mut stream, &[5, 1, 0], 2).await.unwrap(), [5, 0]);
    let answer = say(&mut stream, &request, 10).await.unwrap();
    (answer[1], stream)
}

/// The code of the proxy's answer.
async fn proxied(world: &World, request: &str) -> Option<u16> {
    let mut stream = world.dial("127.0.0.1:3128".parse().unwrap()).await.unwrap();
    let answer = say(&mut stream, request.as_bytes(), 12).await.unwrap_or_default();
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok())
}

#[test]
fn no_spelling_of_an_address_and_no_likeness_of_a_name_is_let_through() {
    alone(|world| async move {
        let count = with_db(&world).await;
        for said in SPELLINGS.iter().chain(&LOOKALIKES) {
            assert_eq!(socks(&world, said).await.0, 2, "{said:?} by SOCKS");
            let connect = format!("CONNECT {said}:5432 HTTP/1.1\r\nHost: {said}:5432\r\n\r\n");
            assert!(proxied(&world, &connect).await.is_none_or(|code| code >= 400), "{said:?} by CONNECT");
            let whole = format!("GET http://{said}:5432/ HTTP/1.1\r\nHost: {said}:5432\r\n\r\n");
            assert!(proxied(&world, &whole).await.is_none_or(|code| code >= 400), "{said:?} by the proxy");
            // What is no ASCII a program's own library makes ASCII of first.
            let name = format!("{}.", said.trim_end_matches('.'));
            if said.is_ascii() && Name::from_str(&name).is_ok() {
                let answer = world.ask(&name, RecordType::A).await;
                assert!(answer.is_err(), "{said:?} as a question: {answer:?}");
            }
        }
        // Four bytes are an address too, and so are sixteen.
        for address in [&[1, 11, 0, 0, 1][..], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 11, 0, 0, 1]] {
            let mut stream = world.dial("127.0.0.1:1080".parse().unwrap()).await.unwrap();
            assert_eq!(say(&mut stream, &[5, 1, 0], 2).await.unwrap(), [5, 0]);
            let request = [&[5, 1, 0], address, &5432_u16.to_be_bytes()].concat();
            assert_eq!(say(&mut stream, &request, 10).await.unwrap()[1], 2);
        }
        assert_eq!((count.load(Ordering::Relaxed), world.outside.asked.load(Ordering::Relaxed)), (0, 0));
        // The same name in another case, and with its dot, is the same name.
        assert_eq!(socks(&world, "DB.Example.ORG.").await.0, 0);
    });
}

#[test]
fn a_server_name_has_one_form() {
    alone(|world| async move {
        world.name(API, &["11.0.0.2"]);
        let count = world.echo("11.0.0.2:443").await;
        world.admit(&["tls://api.example.org:443", "tls://*.wild.example.org:443"], &[], FREE).await;
        for bad in [
            &b"api.example.org.evil.org"[..],
            b"evil.org",
            b"*.example.org",
            b"x.api.example.org",
            b"api.example.org\0",
            b"api.example.org\0.evil.org",
            b"api..example.org",
            b".api.example.org",
            b"api.example.org/",
            b"11.0.0.2",
            b"[::ffff:11.0.0.2]",
            b"xn--api-.example.org",
            "api.exаmple.org".as_bytes(),
            b"",
            b" api.example.org",
        ] {
            let mut stream = world.connect("api.example.org.", 443).await.unwrap();
            let said = say(&mut stream, &record(&client_hello(&[bad])), 1).await;
            assert!(said.map_or(true, |back| back.is_empty()), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
        // In other letters it is the same name. The bytes come one by one, and in records of their own.
        let message = client_hello(&[b"API.example.ORG"]);
        let (one, other) = message.split_at(9);
        let pieces = [record(one), record(other)].concat();
        let mut stream = world.connect("api.example.org.", 443).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in &pieces {
            stream.write_all(&[*byte]).await.unwrap();
        }
        assert_eq!(say(&mut stream, b"", pieces.len()).await.unwrap(), pieces);
    });
}

/// Requests that two readers could understand in two ways, each to one host.
fn smuggled(host: &str) -> Vec<String> {
    let with = |lines: &str, body: &str| format!("POST /in HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}");
    let inner = "GET /smuggled HTTP/1.1\r\nHost: evil.org\r\n\r\n";
    let chunked = format!("0\r\n\r\n{inner}");
    vec![
        with("Content-Length: 4\r\nContent-Length: 0\r\n", inner),
        with("Content-Length: 0, 4\r\n", inner),
        with("Content-Length: +4\r\n", inner),
        with("Content-Length: -1\r\n", inner),
        with("Content-Length: 0x4\r\n", inner),
        with("Content-Length : 4\r\n", inner),
        with("Content-Length: 4 4\r\n", inner),
        with("Content-Length: 99999999999999999999\r\n", inner),
        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &chunked),
        with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &chunked),
        with("Transfer-Encoding: xchunked\r\n", &chunked),
        with("Transfer-Encoding: chunked, identity\r\n", &chunked),
        with("Transfer-Encoding: identity\r\nContent-Length: 4\r\n", inner),
        with("Transfer-Encoding : chunked\r\n", &chunked),
        with("Transfer-Encoding: \x0bchunked\r\n", &chunked),
        with("Transfer-Encoding: chunked\r\n", "5;x=\"\r\nabcde\r\n"),
        with("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc"),
        with("Transfer-Encoding: chunked\r\n", "0x5\r\nabcde\r\n0\r\n\r\n"),
        with("Transfer-Encoding: chunked\r\n", "5\nabcde\n0\n\n"),
        with(" X-Folded: 1\r\n", ""),
        with("X-A: 1\r\n X-Folded: 2\r\n", ""),
        with("X-A: 1\rX-B: 2\r\n", ""),
        with("X-A: 1\0\r\n", ""),
        with("X A: 1\r\n", ""),
        with(": 1\r\n", ""),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}, evil.org\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: evil.org\r\nX-Forwarded-Host: {host}\r\n\r\n"),
        format!("GET http://evil.org/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET //evil.org/ HTTP/1.0\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1 \r\nHost: {host}\r\n\r\n"),
        format!("GET /\u{7f}x HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET  / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/2.0\r\nHost: {host}\r\n\r\n"),
        format!("GET /\r\nHost: {host}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ]
}

/// What is wrong with what a host heard, if anything is: another request than the one that was asked, or a request that is
/// not in its only form.
fn misheard(heard: &str) -> Option<&'static str> {
    let low = heard.to_ascii_lowercase();
    let head = low.split("\r\n\r\n").next().unwrap_or_default();
    let lengths =
        head.matches("\r\ncontent-length:").count() + head.matches("\r\ntransfer-encoding:").count();
    [
        (low.contains("smuggled") && !low.contains("post /in"), "the inner request came alone"),
        (low.matches(" http/1.1\r\n").count() > 1 && lengths == 0, "two requests, and no length"),
        (lengths > 1, "two lengths"),
        (low.contains("host: evil.org"), "another host's request"),
        (head.contains('\0') || head.replace("\r\n", "").contains(['\r', '\n']), "a head with two readings"),
        (head.contains("\r\n ") || head.contains(" :"), "a folded line"),
    ]
    .into_iter()
    .find_map(|(wrong, what)| wrong.then_some(what))
}

/// The answer of a host that takes one request a connection.
const CLOSES: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[test]
fn a_request_has_one_meaning_or_none() {
    alone(|world| async move {
        world.name("web.example.org", &["11.0.0.3"]);
        let heard = host("11.0.0.3:80", CLOSES).await;
        world.admit(&["http://web.example.org:80"], &[], FREE).await;
        for request in smuggled("web.example.org") {
            heard.lock().unwrap().clear();
            let mut stream = world.connect("web.example.org.", 80).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let heard = heard.lock().unwrap().clone();
            assert_eq!(misheard(&heard), None, "{request:?} came as {heard:?}");
            let answer = String::from_utf8_lossy(&answer);
            assert!(!heard.is_empty() || !answer.contains(" 200 "), "{request:?}: {answer}");
        }
        let http2 = world.denied().into_iter().filter(|why| why.contains("HTTP/2")).count();
        assert_eq!(http2, 1, "{:?}", world.denied());
    });
}

#[test]
fn a_request_that_is_read_for_a_secret_has_one_meaning_or_none() {
    alone(|world| async move {
        let (heard, authority) = super::inject::with_api(&world).await;
        for request in smuggled(API) {
            heard.lock().unwrap().clear();
            let head = format!("X-Api-Key: {MINE}\r\nConnection: close\r\n\r\n");
            let request = request.replacen("\r\n\r\n", &format!("\r\n{head}"), 1);
            let asked = tokio::time::timeout(
                std::time::Duration::from_secs(2),
                ask_inspected(&world, &authority, &request),
            );
            // One that waits for the rest of a body has no answer.
            let answer = asked.await.ok().and_then(Result::ok).unwrap_or_default();
            let heard = heard.lock().unwrap().clone();
            assert_eq!(misheard(&heard), None, "{request:?} came as {heard:?}");
            assert!(!answer.contains(SECRET), "{answer}");
        }
    });
}

#[test]
fn questions_tell_nobody_anything_however_they_are_asked() {
    alone(|world| async move {
        world.admit(&["tls://*.wild.example.org:443"], &[], FREE).await;
        let label = "x".repeat(63);
        let mut refused = 0;
        for n in 0..200 {
            // What is below a wildcard has an address here, and nobody outside hears of it.
            let name = format!("{n:0>60x}.{label}.wild.example.org.");
            assert!(world.ask(&name, RecordType::A).await.is_ok());
            let name = format!("{n:0>60x}.{label}.evil.org.");
            refused += u64::from(world.ask(&name, RecordType::TXT).await == Err(ResponseCode::NXDomain));
        }
        assert_eq!(refused, 200);
        // The same in one connection of TCP, many in one segment.
        let mut stream = world.dial("127.0.0.53:53".parse().unwrap()).await.unwrap();
        let question = |name: &str| {
            let mut message = Message::query();
            message.add_query(Query::query(Name::from_str(name).unwrap(), RecordType::NULL));
            let bytes = message.to_vec().unwrap();
            [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
        };
        let many: Vec<u8> = (0..100).flat_map(|n| question(&format!("{n}.{label}.evil.org."))).collect();
        stream.write_all(&many).await.unwrap();
        for _ in 0..100 {
            let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        }
        // A length that no question has ends it.
        stream.write_all(&[0xff, 0xff]).await.unwrap();
        assert!(stream.read_u8().await.is_err());
        assert_eq!(world.outside.asked.load(Ordering::Relaxed), 0);
        assert!(world.denied().len() <= 300, "the ledger is not filled by it");
    });
}

#[test]
fn datagrams_go_nowhere() {
    alone(|world| async move {
        world.name(API, &["11.0.0.2"]);
        world.admit(&["tls://api.example.org:443"], &[], FREE).await;
        let address = world.ask("api.example.org.", RecordType::A).await.unwrap();
        // QUIC, questions to somebody else, and multicast.
        for to in [format!("{address}:443"), "8.8.8.8:53".into(), "224.0.0.251:5353".into()] {
            let socket = world.datagrams();
            let asked = async {
                socket.connect(&to).await?;
                socket.send(b"x").await?;
                socket.recv(&mut [0; 16]).await
            };
            // To a group of its own network a datagram may go, and there is nobody.
            let answer = tokio::time::timeout(std::time::Duration::from_millis(300), asked).await;
            assert!(!matches!(answer, Ok(Ok(_))), "{to}: {answer:?}");
            if to.ends_with(":443") {
                assert_eq!(answer.unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            }
        }
    });
}

#[test]
fn a_thousand_reloads_under_load_let_nothing_through_that_is_denied() {
    alone(|world| async move {
        let count = with_db(&world).await;
        let (db, lent) = ("tcp://db.example.org:5432", "tcp://lent.example.org:5432");
        world.name("lent.example.org", &["11.0.0.1"]);
        let mut kept = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut kept, b"hello", 5).await.unwrap(), b"hello");
        let world = Arc::new(world);
        let (over, denied, granted) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let load = async {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(socks(&world, "evil.org").await.0, 2, "it was never granted");
                denied.fetch_add(1, Ordering::Relaxed);
                let (code, mut stream) = socks(&world, "db.example.org").await;
                assert_eq!(code, 0, "it was always granted");
                assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
                granted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let reloads = async {
            for n in 0..1_000_u64 {
                let leases = if n % 2 == 0 { vec![lease("l", lent, 60_000)] } else { Vec::new() };
                world.admit(&[db], &leases, FREE).await;
                // What a word says holds from its answer on.
                let code = socks(&world, "lent.example.org").await.0;
                assert_eq!(code, if n % 2 == 0 { 0 } else { 2 }, "reload {n}");
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, reloads);
        let (denied, granted) = (denied.into_inner(), granted.into_inner());
        assert!(denied > 100 && granted > 100, "{denied} and {granted} under load");
        // A connection whose rule stood all the time has lived through all of it.
        assert_eq!(say(&mut kept, b"still", 5).await.unwrap(), b"still");
        assert!(count.load(Ordering::Relaxed) >= granted);
    });
}

#[test]
fn who_opens_many_and_says_nothing_slows_nobody_else() {
    alone(|world| async move {
        with_db(&world).await;
        world
            .admit(
                &["tls://api.example.org:443", "http://web.example.org:80", "tcp://db.example.org:5432"],
                &[],
                FREE,
            )
            .await;
        let beside = world.beside();
        beside.admit(&["tcp://db.example.org:5432"], &[], FREE).await;
        let mut silent = Vec::new();
        for port in [1080, 3128, 53].into_iter().cycle().take(usize::try_from(FREE.connections).unwrap()) {
            let ip: [u8; 4] = if port == 53 { [127, 0, 0, 53] } else { [127, 0, 0, 1] };
            let mut stream = world.dial((ip, port).into()).await.unwrap();
            // A little, and then nothing more.
            let begins: &[u8] = match port {
                1080 => b"\x05",
                3128 => b"GET http://db",
                _ => b"\0",
            };
            stream.write_all(begins).await.unwrap();
            silent.push(stream);
        }
        // All places of that agent are taken, and none of another's.
        for n in 0..100 {
            let mut stream = beside.connect("db.example.org.", 5432).await.unwrap();
            assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello", "{n}");
        }
        let mut more = world.connect("db.example.org.", 5432).await.unwrap();
        assert!(say(&mut more, b"hello", 5).await.map_or(true, |back| back.is_empty()));
        assert!(world.denied().iter().any(|why| why.contains("as many as it may")), "{:?}", world.denied());
        let open = world.gate.count().1;
        assert!(open <= 2 * FREE.connections, "{open}");
        // Questions have no part in that.
        assert!(world.ask("db.example.org.", RecordType::A).await.is_ok());
        drop(silent);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let mut again = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut again, b"hello", 5).await.unwrap(), b"hello");
    });
}

#[test]
fn another_server_behind_the_same_address_is_not_reached_where_requests_are_read() {
    alone(|world| async move {
        let (heard, authority) = super::inject::with_api(&world).await;
        for request in [
            "GET / HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n\r\n",
            "GET https://other.example.org/ HTTP/1.1\r\nHost: api.example.org\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: api.example.org.evil.org\r\nConnection: close\r\n\r\n",
        ] {
            let answer = ask_inspected(&world, &authority, request).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 421"), "{request}: {answer}");
        }
        assert_eq!(*heard.lock().unwrap(), "");
    });
}
