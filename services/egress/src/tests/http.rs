//! Plain HTTP, by the host's address and by the proxy.

use super::through::answers;
use super::{FREE, World, alone, say};
use crate::hello::tests::{client_hello, record};
use octant_api::agents::Amounts;
use octant_api::egress::Caps;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An answer "ok" on a connection that goes on, with headers that are for the next hop alone.
const KEEPS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nProxy-Authenticate: x\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\nok";

/// A host that gives every request this answer and keeps what it heard.
pub(super) async fn host(at: &str, answer: &'static [u8]) -> Arc<Mutex<String>> {
    let listener = TcpListener::bind(at).await.unwrap();
    let heard = Arc::<Mutex<String>>::default();
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let keeps = Arc::clone(&keeps);
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    keeps.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    heard
}

async fn with_web(world: &World) -> Arc<Mutex<String>> {
    world.name("web.example.org", &["11.0.0.3"]);
    world.name("evil.org", &["11.0.0.3"]);
    let heard = host("11.0.0.3:80", KEEPS).await;
    world.admit(&["http://web.example.org:80", "tls://api.example.org:443"], &[], FREE).await;
    heard
}

async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    // Every answer here ends with its body: "ok", or a line of why not.
    let whole =
        |text: &str| text.contains("\r\n\r\nok") || (text.contains("octant: ") && text.ends_with('\n'));
    while !whole(&text) {
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => break,
        }
    }
    text
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[test]
fn every_request_is_held_to_its_host() {
    alone(|world| async move {
        let heard = with_web(&world).await;
        let mut stream = world.connect("web.example.org.", 80).await.unwrap();
        let good = "GET /a?b HTTP/1.1\r\nHost: Web.Example.org\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nProxy-Authorization: Basic x\r\n\r\n";
        for _ in 0..2 {
            let answer = ask(&mut stream, good).await;
            assert_eq!(code(&answer), 200, "{answer}");
            assert!(!answer.to_ascii_lowercase().contains("x-hop"), "{answer}");
        }
        let said = heard.lock().unwrap().clone();
        assert!(
            said.contains("GET /a?b HTTP/1.1\r\n")
                && said.to_ascii_lowercase().contains("host: web.example.org\r\n"),
            "{said}"
        );
        assert!(
            !said.to_ascii_lowercase().contains("x-mine") && !said.to_ascii_lowercase().contains("proxy-"),
            "{said}"
        );
        // Who offers to go on in HTTP/2 goes on without, and the host hears nothing of it.
        let offer = "GET / HTTP/1.1\r\nHost: web.example.org\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                     HTTP2-Settings: AAMAAABk\r\n\r\n";
        let answer = ask(&mut stream, offer).await;
        assert_eq!(code(&answer), 200, "{answer}");
        assert!(!heard.lock().unwrap().to_ascii_lowercase().contains("h2c"));
        // The next request on the same connection names another host.
        let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost: evil.org\r\n\r\n").await;
        assert_eq!(code(&answer), 421, "{answer}");
        let bad = [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: web.example.org\r\nHost: evil.org\r\n\r\n", 400),
            ("GET http://evil.org/ HTTP/1.1\r\nHost: web.example.org\r\n\r\n", 421),
            ("GET / HTTP/1.1\r\nHost: web.example.org:8080\r\n\r\n", 421),
            ("GET / HTTP/1.1\r\nHost: x@web.example.org\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: web.example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                400,
            ),
            ("CONNECT evil.org:80 HTTP/1.1\r\nHost: evil.org:80\r\n\r\n", 400),
            (
                "GET / HTTP/1.1\r\nHost: web.example.org\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: web.example.org\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                400,
            ),
            ("GET / HTTP/1.1\r\nHost : web.example.org\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: web.example.org\r\n X: folded\r\n\r\n", 400),
        ];
        heard.lock().unwrap().clear();
        for (request, expected) in bad {
            let mut stream = world.connect("web.example.org.", 80).await.unwrap();
            let answer = ask(&mut stream, request).await;
            assert_eq!(code(&answer), expected, "{request:?}: {answer}");
        }
        assert_eq!(*heard.lock().unwrap(), "", "nothing of it was sent on");
        // Of two lengths one counts (RFC 9112 section 6.3), the host is told that one only, and nothing after it is read.
        let two = "POST / HTTP/1.1\r\nHost: web.example.org\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                   0\r\n\r\nGET / HTTP/1.1\r\nHost: evil.org\r\n\r\n";
        let mut stream = world.connect("web.example.org.", 80).await.unwrap();
        let answer = ask(&mut stream, two).await;
        let said = heard.lock().unwrap().to_ascii_lowercase();
        assert!(code(&answer) == 200 && answer.contains("connection: close"), "{answer}");
        assert!(said.matches("http/1.1").count() == 1 && !said.contains("evil"), "{said}");
        assert!(!said.contains("content-length: 5"), "{said}");
    });
}

#[test]
fn each_request_is_taken_out_of_the_budget_on_a_connection_that_stays_too() {
    alone(|world| async move {
        world.name("web.example.org", &["11.0.0.3"]);
        let heard = host("11.0.0.3:80", KEEPS).await;
        world.admit(&["http://web.example.org:80"], &[], Caps { drawn: true, ..FREE }).await;
        answers(&world, Amounts { bytes: 1 << 20, requests: 2, ..Amounts::default() });
        let mut stream = world.connect("web.example.org.", 80).await.unwrap();
        let request = "GET /x HTTP/1.1\r\nHost: web.example.org\r\n\r\n";
        let mut codes = Vec::new();
        for _ in 0..3 {
            codes.push(code(&ask(&mut stream, request).await));
        }
        assert_eq!(codes, [200, 200, 429], "{}", heard.lock().unwrap());
        assert_eq!(heard.lock().unwrap().matches("GET /x").count(), 2, "the third never left");
        assert_eq!(world.gate.dismiss(world.aid).1.unwrap().requests, 2);
    });
}

#[test]
fn the_proxy_decides_as_any_other_way() {
    alone(|world| async move {
        let heard = with_web(&world).await;
        let proxy = || async { world.dial("127.0.0.1:3128".parse().unwrap()).await.unwrap() };
        let mut stream = proxy().await;
        let answer =
            ask(&mut stream, "GET http://web.example.org/x HTTP/1.1\r\nHost: web.example.org\r\n\r\n").await;
        assert_eq!(code(&answer), 200, "{answer}");
        assert!(heard.lock().unwrap().contains("GET /x HTTP/1.1\r\n"));
        heard.lock().unwrap().clear();
        let bad = [
            ("GET http://evil.org/ HTTP/1.1\r\nHost: evil.org\r\n\r\n", 403),
            ("GET http://web.example.org/ HTTP/1.1\r\nHost: evil.org\r\n\r\n", 421),
            ("GET http://11.0.0.3/ HTTP/1.1\r\nHost: 11.0.0.3\r\n\r\n", 403),
            ("GET http://[::ffff:11.0.0.3]/ HTTP/1.1\r\nHost: [::ffff:11.0.0.3]\r\n\r\n", 403),
            ("GET http://0x0b000003/ HTTP/1.1\r\nHost: 0x0b000003\r\n\r\n", 400),
            ("GET http://184549379/ HTTP/1.1\r\nHost: 184549379\r\n\r\n", 400),
            ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
            ("GET http://web.example.org:81/ HTTP/1.1\r\nHost: web.example.org:81\r\n\r\n", 403),
            ("GET https://web.example.org/ HTTP/1.1\r\nHost: web.example.org\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: web.example.org\r\n\r\n", 400),
            ("CONNECT evil.org:443 HTTP/1.1\r\nHost: evil.org:443\r\n\r\n", 403),
            ("CONNECT 11.0.0.3:80 HTTP/1.1\r\nHost: 11.0.0.3:80\r\n\r\n", 403),
            ("CONNECT web.example.org:443 HTTP/1.1\r\nHost: web.example.org:443\r\n\r\n", 403),
            ("CONNECT web.example.org HTTP/1.1\r\nHost: web.example.org\r\n\r\n", 400),
        ];
        for (request, expected) in bad {
            let mut stream = proxy().await;
            let answer = ask(&mut stream, request).await;
            assert_eq!(code(&answer), expected, "{request:?}: {answer}");
            assert!(answer.contains("octant: "), "{answer}");
            // Many clients show no more of it than this line.
            let first = answer.lines().next().unwrap().contains("octant: ");
            assert_eq!(first, request.starts_with("CONNECT"), "{answer}");
        }
        assert_eq!(*heard.lock().unwrap(), "");
    });
}

#[test]
fn a_tunnel_is_held_to_its_grant_too() {
    alone(|world| async move {
        with_web(&world).await;
        world.name("api.example.org", &["11.0.0.2"]);
        let count = world.echo("11.0.0.2:443").await;
        let connect = b"CONNECT api.example.org:443 HTTP/1.1\r\nHost: api.example.org:443\r\n\r\n";
        let open = || async {
            let mut stream = world.dial("127.0.0.1:3128".parse().unwrap()).await.unwrap();
            stream.write_all(connect).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
            stream
        };
        let hello = record(&client_hello(&[b"api.example.org"]));
        let mut stream = open().await;
        assert_eq!(say(&mut stream, &hello, hello.len()).await.unwrap(), hello);
        for bad in [record(&client_hello(&[b"evil.org"])), b"CONNECT evil.org:443 HTTP/1.1\r\n\r\n".to_vec()]
        {
            let mut stream = open().await;
            assert!(say(&mut stream, &bad, 1).await.map_or(true, |b| b.is_empty()), "{bad:?}");
        }
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    });
}
