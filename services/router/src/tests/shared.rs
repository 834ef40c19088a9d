//! Upstreams that speak HTTP/2: what shares a connection, what breaks it, and what a hostile one gets out of it.

use super::{CHUNKS, Nowhere, PLENTY, World, deployment, outcome};
use crate::core::tests::word;
use crate::streams::Pings;
use crate::upstream::{Answer, Endpoint, NoAnswer, Upstreams};
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use octant_ids::Aid;
use octant_outside::Vet;
use octant_outside::tls::{extra_roots, provider, towards_hosts};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json as value};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

type Wire = TlsStream<TcpStream>;

/// A host of TLS on this machine.
struct Host {
    at: SocketAddr,
    roots: RootCertStore,
    /// How many connections were made to it.
    connections: Arc<AtomicUsize>,
}

impl Host {
    /// That offers this protocol, and does this with each connection; the first is number 0.
    async fn new<F, D>(alpn: &[u8], with: F) -> Self
    where
        F: Fn(usize, Wire) -> D + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let roots = extra_roots(certificate.pem().as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stream = acceptor.accept(stream).await.unwrap();
                tokio::spawn(with(counted.fetch_add(1, Ordering::Relaxed), stream));
            }
        });
        Self { at, roots, connections }
    }

    /// That speaks HTTP/2 as it should, takes so many streams of a connection, and answers each with this.
    async fn answering<F, D>(streams: u32, answer: F) -> Self
    where
        F: Fn(String, SendResponse<Bytes>) -> D + Clone + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        Self::new(b"h2", move |_, stream| {
            let answer = answer.clone();
            async move {
                let mut connection =
                    Builder::new().max_concurrent_streams(streams).handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let mut asked = Vec::new();
                        while let Some(Ok(bytes)) = body.data().await {
                            asked.extend_from_slice(&bytes);
                            body.flow_control().release_capacity(bytes.len()).unwrap();
                        }
                        answer(String::from_utf8(asked).unwrap(), respond).await;
                    });
                }
            }
        })
        .await
    }

    fn upstreams(&self) -> Arc<Upstreams> {
        self.with(Pings::default())
    }

    fn with(&self, pings: Pings) -> Arc<Upstreams> {
        let tls = towards_hosts(self.roots.clone()).unwrap();
        Arc::new(Upstreams::new(Box::new(Nowhere), Vet::default(), tls).with_pings(pings))
    }

    async fn ask(&self, upstreams: &Arc<Upstreams>, body: &str) -> Result<Answer, NoAnswer> {
        let endpoint = Endpoint::parse(&format!("https://localhost:{}/v1", self.at.port()), false).unwrap();
        let (mut parts, ()) = Request::post("/ask").body(()).unwrap().into_parts();
        endpoint.aim(&mut parts).unwrap();
        let request = Request::from_parts(parts, Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let asked = tokio::time::timeout(Duration::from_secs(60), upstreams.send(&endpoint, request));
        asked.await.expect("an answer, or why there is none")
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn whole(answer: Answer) -> Result<String, NoAnswer> {
    Ok(String::from_utf8(answer.body.whole(1 << 20).await?).unwrap())
}

/// One frame of HTTP/2, as RFC 9113 writes it.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// ACK of SETTINGS and PING; END_STREAM of DATA.
const LAST: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` of HPACK's own table.
const OK: &[u8] = &[0x88];

fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat())
}

fn reset(stream: u32, why: Reason) -> Vec<u8> {
    frame(RESET, 0, stream, &u32::from(why).to_be_bytes())
}

fn said(stream: u32, flags: u8, text: &str) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, OK), frame(DATA, flags, stream, text.as_bytes())].concat()
}

/// The other side of a connection, frame by frame.
struct Raw(Wire);

impl Raw {
    /// After the preface of both sides.
    async fn begin(mut stream: Wire) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    async fn next(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        if (head[3], head[4]) == (SETTINGS, 0) {
            self.say(&frame(SETTINGS, LAST, 0, &[])).await;
        }
        Some((head[3], head[4], u32::from_be_bytes(head[5..].try_into().unwrap())))
    }

    /// The stream of the next request.
    async fn asked(&mut self) -> Option<u32> {
        while let Some((kind, _, stream)) = self.next().await {
            if kind == HEADERS {
                return Some(stream);
            }
        }
        None
    }

    async fn say(&mut self, frames: &[u8]) {
        // Who has gone hears nothing.
        let _ = self.0.write_all(frames).await;
    }
}

/// A host that answers the first request of each connection with these frames, one script for each, the last again and again.
async fn scripted(scripts: Vec<fn(u32) -> Vec<u8>>) -> Host {
    Host::new(b"h2", move |number, stream| {
        let script = scripts[number.min(scripts.len() - 1)];
        async move {
            let mut raw = Raw::begin(stream).await;
            while let Some(stream) = raw.asked().await {
                raw.say(&script(stream)).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_hundred_streams_at_once_share_two_connections_and_none_is_mixed_up() {
    let all = Arc::new(Barrier::new(100));
    let host = Host::answering(50, move |asked, mut respond| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            for number in 0..20 {
                body.send_data(Bytes::from(format!("{asked} {number};")), number == 19).unwrap();
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let host = Arc::new(host);
    let upstreams = host.upstreams();
    let mut asking = JoinSet::new();
    for number in 0..100 {
        let (host, upstreams) = (Arc::clone(&host), Arc::clone(&upstreams));
        asking.spawn(async move {
            let said = whole(host.ask(&upstreams, &format!("q{number}")).await.unwrap()).await.unwrap();
            let wanted: String = (0..20).map(|piece| format!("q{number} {piece};")).collect();
            assert_eq!(said, wanted);
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn what_an_upstream_has_not_touched_is_asked_again_on_another_connection() {
    let away: fn(u32) -> Vec<u8> = |_| goaway(0);
    let refuses: fn(u32) -> Vec<u8> = |stream| reset(stream, Reason::REFUSED_STREAM);
    for first in [away, refuses] {
        let host = scripted(vec![first, |stream| said(stream, LAST, "well")]).await;
        let answer = host.ask(&host.upstreams(), "x").await.unwrap();
        assert_eq!((whole(answer).await, host.connections()), (Ok("well".to_owned()), 2));
    }
    let host = scripted(vec![refuses]).await;
    let never = host.ask(&host.upstreams(), "x").await.map(drop);
    assert!(matches!(&never, Err(NoAnswer::Lost(why)) if why.contains("4 times")), "{never:?}");
    assert_eq!(host.connections(), 4);
}

#[tokio::test]
async fn what_an_upstream_may_have_touched_is_not_asked_again() {
    let touched: [fn(u32) -> Vec<u8>; 2] = [
        |stream| reset(stream, Reason::INTERNAL_ERROR),
        |stream| [goaway(stream), b"no frame".repeat(9)].concat(),
    ];
    for first in touched {
        let host = scripted(vec![first, |stream| said(stream, LAST, "well")]).await;
        let lost = host.ask(&host.upstreams(), "x").await.map(drop);
        assert!(matches!(lost, Err(NoAnswer::Lost(_))), "{lost:?}");
        assert_eq!(host.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_goes_away_ends_the_streams_that_it_has() {
    let host = Host::new(b"h2", |number, stream| async move {
        let mut raw = Raw::begin(stream).await;
        let first = raw.asked().await.unwrap();
        raw.say(&said(first, 0, "one, ")).await;
        if number == 0 {
            raw.say(&goaway(first)).await;
            // A while later, when it is asked for a sign of life, the rest of the first comes.
            while let Some((kind, ..)) = raw.next().await {
                if kind == PING {
                    break;
                }
            }
        }
        raw.say(&frame(DATA, LAST, first, b"two")).await;
        while raw.next().await.is_some() {}
    })
    .await;
    let soon = Pings { after: Duration::from_millis(300), within: Duration::from_secs(50) };
    let upstreams = host.with(soon);
    let first = host.ask(&upstreams, "1").await.unwrap();
    // The word that it goes away comes before or after this is asked.
    let second = host.ask(&upstreams, "2").await.unwrap();
    assert_eq!((whole(second).await, whole(first).await), (Ok("one, two".into()), Ok("one, two".into())));
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn a_stream_that_is_reset_is_no_end_and_the_others_go_on() {
    let host = Host::new(b"h2", |_, stream| async move {
        let mut raw = Raw::begin(stream).await;
        let (first, second) = (raw.asked().await.unwrap(), raw.asked().await.unwrap());
        raw.say(&[said(first, 0, "half"), said(second, 0, "one, ")].concat()).await;
        raw.say(&[reset(first, Reason::INTERNAL_ERROR), frame(DATA, LAST, second, b"two")].concat()).await;
        while raw.next().await.is_some() {}
    })
    .await;
    let upstreams = host.upstreams();
    let (first, second) = tokio::join!(host.ask(&upstreams, "1"), host.ask(&upstreams, "2"));
    let mut both = [whole(first.unwrap()).await, whole(second.unwrap()).await];
    both.sort_by_key(Result::is_err);
    assert_eq!(both[0], Ok("one, two".to_owned()));
    assert!(matches!(&both[1], Err(NoAnswer::Lost(why)) if why.contains("internal error")), "{both:?}");
    assert_eq!(host.connections(), 1);
}

#[tokio::test]
async fn who_goes_away_resets_the_stream_and_keeps_the_connection() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let host = Host::answering(100, move |asked, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body = respond.send_response(Response::new(()), asked == "short").unwrap();
            if asked != "short" {
                let why = std::future::poll_fn(|context| body.poll_reset(context)).await;
                tell.send(why.unwrap()).unwrap();
            }
        }
    })
    .await;
    let upstreams = host.upstreams();
    drop(host.ask(&upstreams, "long").await.unwrap());
    assert_eq!(told.recv().await, Some(Reason::CANCEL));
    assert_eq!(whole(host.ask(&upstreams, "short").await.unwrap()).await, Ok(String::new()));
    assert_eq!(host.connections(), 1);
}

#[tokio::test]
async fn a_dead_connection_is_noticed_while_a_stream_waits_and_a_silent_one_is_not_dead() {
    let host = Host::new(b"h2", |_, stream| async move {
        let mut raw = Raw::begin(stream).await;
        while raw.next().await.is_some() {}
    })
    .await;
    let upstreams = host.with(Pings { after: Duration::from_millis(50), within: Duration::from_millis(100) });
    let dead = host.ask(&upstreams, "x").await.map(drop);
    assert!(matches!(&dead, Err(NoAnswer::Lost(why)) if why.contains("no sign of life")), "{dead:?}");
    let living = Host::answering(100, |_, mut respond| async move {
        tokio::time::sleep(Duration::from_millis(600)).await;
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let upstreams = living.with(Pings { after: Duration::from_millis(20), within: Duration::from_secs(50) });
    assert_eq!(whole(living.ask(&upstreams, "x").await.unwrap()).await, Ok(String::new()));
}

#[tokio::test]
async fn a_program_that_does_not_read_stops_its_upstream_and_no_other() {
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    let host = Host::answering(100, move |asked, mut respond| {
        let counted = Arc::clone(&counted);
        async move {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            let pieces = if asked == "slow" { 10_000 } else { 100 };
            for number in 0..pieces {
                body.reserve_capacity(4096);
                while body.capacity() < 4096 {
                    if std::future::poll_fn(|context| body.poll_capacity(context)).await.is_none() {
                        return;
                    }
                }
                body.send_data(Bytes::from(vec![b'x'; 4096]), number + 1 == pieces).unwrap();
                if asked == "slow" {
                    counted.fetch_add(4096, Ordering::Relaxed);
                }
            }
        }
    })
    .await;
    let upstreams = host.upstreams();
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(host.ask(&upstreams, "slow").await.unwrap());
    }
    let quick = host.ask(&upstreams, "quick").await.unwrap();
    assert_eq!(whole(quick).await.unwrap().len(), 100 * 4096);
    // A window of each; and where one is read, as much again as was read of it, and not a byte more.
    let window = 64 << 10;
    while sent.load(Ordering::Relaxed) < 20 * window {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut body = slow.pop().unwrap().body;
    let mut read = 0;
    while read < 10 * window {
        read += body.next().await.unwrap().unwrap().len();
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent >= 20 * window && sent <= 20 * window + read + window, "{sent} of {read}");
    assert_eq!(host.connections(), 1);
}

#[tokio::test]
async fn heads_without_end_and_floods_get_a_hostile_upstream_nothing() {
    // A header of 100 bytes, literally, as often as it is wanted.
    fn fields(count: usize) -> Vec<u8> {
        [&[0x00, 0x01, b'a', 100], &[b'b'; 100][..]].concat().repeat(count)
    }
    let many: fn(u32) -> Vec<u8> =
        |stream| frame(HEADERS, END_HEADERS | LAST, stream, &[OK, &fields(129)].concat());
    let long: fn(u32) -> Vec<u8> = |stream| {
        let more = (0..20).map(|_| frame(CONTINUATION, 0, stream, &fields(150)));
        [frame(HEADERS, 0, stream, OK), more.collect::<Vec<_>>().concat()].concat()
    };
    let short: fn(u32) -> Vec<u8> = |stream| {
        let head = frame(HEADERS, END_HEADERS, stream, OK);
        [head, frame(DATA, 0, stream, b"").repeat(200_000)].concat()
    };
    for hostile in [many, long] {
        let host = scripted(vec![hostile]).await;
        let lost = host.ask(&host.upstreams(), "x").await.map(drop);
        assert!(matches!(lost, Err(NoAnswer::Lost(_))), "{lost:?}");
    }
    let host = scripted(vec![short]).await;
    let lost = whole(host.ask(&host.upstreams(), "x").await.unwrap()).await;
    assert!(matches!(lost, Err(NoAnswer::Lost(_))), "{lost:?}");
    // Who floods with settings and does not read what they are answered with is not heard any more.
    let host = Host::new(b"h2", |_, stream| async move {
        let mut raw = Raw::begin(stream).await;
        raw.asked().await;
        let flood = frame(SETTINGS, 0, 0, &[]).repeat(1000);
        while raw.0.write_all(&flood).await.is_ok() {}
    })
    .await;
    let upstreams = host.with(Pings { after: Duration::from_millis(50), within: Duration::from_millis(200) });
    let lost = host.ask(&upstreams, "x").await.map(drop);
    assert!(matches!(lost, Err(NoAnswer::Lost(_))), "{lost:?}");
}

#[tokio::test]
async fn an_upstream_that_speaks_http_1_1_alone_is_spoken_to_as_before() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&heads);
    let host = Host::new(b"http/1.1", move |_, mut stream| {
        let heard = Arc::clone(&heard);
        async move {
            let mut bytes = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                heard.lock().await.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").await.unwrap();
            }
        }
    })
    .await;
    let upstreams = host.upstreams();
    for _ in 0..2 {
        assert_eq!(whole(host.ask(&upstreams, "x").await.unwrap()).await, Ok("well".to_owned()));
    }
    assert_eq!(host.connections(), 1);
    assert!(heads.lock().await[0].starts_with("POST /v1/ask HTTP/1.1\r\n"), "{heads:?}");
}

#[tokio::test]
async fn a_call_over_http_2_is_answered_as_any_and_its_reset_is_a_cut() {
    let host = Host::answering(100, |_, mut respond| async move {
        let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        let begun: String = CHUNKS[..2].iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        body.send_data(begun.into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        body.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let file = deployment("a", "chat", host.at).replace("http://127.0.0.1", "https://localhost");
    let word = word(Aid::from_bytes([9; 16]), &["p-a/*"]);
    let world = World::trusting(&file, word, PLENTY, host.roots.clone()).await;
    let body = r#"{"model":"p-a/m-a","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/v1/chat/completions", body).await;
    assert!(status == 200 && answer.contains("Hello") && answer.contains("\"error\""), "{answer}");
    let done = outcome(&world.lines(2).await);
    assert_eq!((&done["done"], &done["failed"]), (&value!(false), &value!("cut")), "{done:?}");
}

#[tokio::test]
async fn a_hundred_thousand_pieces_come_through_translated_in_their_order() {
    const PIECES: usize = 100_000;
    let host = Host::answering(100, |_, mut respond| async move {
        let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        for first in (0..PIECES).step_by(1000) {
            let piece =
                |number| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{number} \"}}}}]}}\n\n");
            let pieces: String = (first..first + 1000).map(piece).collect();
            body.send_data(pieces.into(), false).unwrap();
        }
        let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        body.send_data(end.into(), true).unwrap();
    })
    .await;
    let file = deployment("a", "chat", host.at).replace("http://127.0.0.1", "https://localhost");
    let file = file
        .replace("max_output = 1000", "max_output = 1000000")
        .replace("window = 100000", "window = 2000000");
    let world =
        World::trusting(&file, word(Aid::from_bytes([9; 16]), &["p-a/*"]), PLENTY, host.roots.clone()).await;
    let body = r#"{"model":"p-a/m-a","stream":true,"max_tokens":1000000,"messages":[{"role":"user","content":"Hi"}]}"#;
    let (status, _, answer) = world.ask("/anthropic/v1/messages", body).await;
    let pieces = answer.lines().filter_map(|line| {
        let event: Value = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        Some(event["delta"]["text"].as_str()?.to_owned())
    });
    let found: Vec<String> = pieces.collect();
    let wrong = found.iter().enumerate().find(|(number, piece)| **piece != format!("{number} "));
    assert_eq!((status, found.len(), wrong), (200, PIECES, None));
    assert_eq!(outcome(&world.lines(2).await)["done"], true);
}
