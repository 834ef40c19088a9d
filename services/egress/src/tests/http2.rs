//! HTTP/2 on inspected connections: both sides speak it, or neither.

use super::inject::{API, MINE, SECRET, certified, credential, trusting, with_api};
use super::through::answers;
use super::{FREE, World, alone};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use octant_api::agents::Amounts;
use octant_api::egress::Caps;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Frames = BoxBody<Bytes, Infallible>;

/// What a channel gives, as a body.
struct Fed(mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// Answers with the request's own body as it comes, after what the host was sent as a key, and ends with that key.
async fn mirror(request: Request<Incoming>) -> Response<Frames> {
    let key = request.headers().get("x-api-key").cloned().unwrap_or(HeaderValue::from_static("none"));
    let (feed, body) = mpsc::channel(4);
    let said = key.clone();
    tokio::spawn(async move {
        let mut body = request.into_body();
        let _ = feed.send(Frame::data(Bytes::copy_from_slice(said.as_bytes()))).await;
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                let _ = feed.send(Frame::data(data)).await;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-key", said);
        let _ = feed.send(Frame::trailers(trailers)).await;
    });
    let mut response = Response::new(Fed(body).boxed());
    response.headers_mut().insert("x-mirror", key);
    response
}

/// A host that speaks HTTP/2 to who offers it; the heads of requests that it heard.
async fn host(world: &World) -> Arc<Mutex<Vec<String>>> {
    let mut config = certified(world, API);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("11.0.0.2:443").await.unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (keeps, acceptor) = (Arc::clone(&keeps), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request: Request<Incoming>| {
                    keeps.lock().unwrap().push(format!("{} {:?}", request.uri(), request.headers()));
                    async move { Ok::<_, Infallible>(mirror(request).await) }
                });
                let io = TokioIo::new(stream);
                let _ = match h2 {
                    true => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    }
                    false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                };
            });
        }
    });
    heard
}

async fn with_h2(world: &World) -> (Arc<Mutex<Vec<String>>>, String) {
    with_h2_held_to(world, FREE).await
}

async fn with_h2_held_to(world: &World, caps: Caps) -> (Arc<Mutex<Vec<String>>>, String) {
    world.name(API, &["11.0.0.2"]);
    let heard = host(world).await;
    world.vault.values.lock().unwrap().insert("prod/api".into(), SECRET.into());
    let admitted = world.admit_with(&["tls://api.example.org:443"], &[], caps, &[credential()]).await;
    (heard, admitted.authority.unwrap())
}

/// A program's connection that offers these; which of them is spoken.
async fn offering(
    world: &World,
    authority: &str,
    offers: &[&[u8]],
) -> io::Result<(TlsStream<TcpStream>, Option<Vec<u8>>)> {
    let mut config = (*trusting(authority)).clone();
    config.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
    let stream = world.connect("api.example.org.", 443).await?;
    let name = ServerName::try_from(API).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let spoken = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok((stream, spoken))
}

async fn h2(world: &World, authority: &str) -> SendRequest<Frames> {
    let (stream, spoken) = offering(world, authority, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(spoken.as_deref(), Some(&b"h2"[..]));
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(uri: &str, headers: &[(&str, &str)]) -> Request<Frames> {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::new()).boxed()).unwrap()
}

#[test]
fn both_directions_stream_and_what_comes_back_is_looked_through() {
    alone(|world| async move {
        let (heard, authority) = with_h2(&world).await;
        let mut sender = h2(&world, &authority).await;
        let (feed, body) = mpsc::channel(1);
        let request = Request::builder()
            .method("POST")
            .uri("https://api.example.org/service/Method")
            .header("x-api-key", MINE)
            .header("te", "trailers")
            .header("grpc-accept-encoding", "gzip")
            .body(Fed(body).boxed())
            .unwrap();
        // The answer begins before the request has ended.
        let mut response = sender.send_request(request).await.unwrap();
        let masked = "*".repeat(SECRET.len());
        assert_eq!(response.headers()["x-mirror"].as_bytes(), masked.as_bytes());
        let mut next = async || response.body_mut().frame().await.map(Result::unwrap);
        assert_eq!(next().await.unwrap().into_data().unwrap(), masked.as_bytes());
        // One of them ends as a secret begins, and comes all the same.
        for piece in ["one", "two", "three", "long", "four"] {
            feed.send(Frame::data(piece.into())).await.unwrap();
            let mut heard = Vec::new();
            while heard.len() < piece.len() {
                heard.extend(next().await.unwrap().into_data().unwrap());
            }
            assert_eq!(heard, piece.as_bytes());
        }
        drop(feed);
        let trailers = next().await.unwrap().into_trailers().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], trailers["x-key"].as_bytes()),
            (&HeaderValue::from_static("0"), masked.as_bytes())
        );
        assert!(next().await.is_none());
        let heard = heard.lock().unwrap().join("\n");
        assert!(
            heard.starts_with("https://api.example.org/service/Method ") && !heard.contains(MINE),
            "{heard}"
        );
        for said in [
            "\"te\": \"trailers\"",
            "\"accept-encoding\": \"identity\"",
            "\"grpc-accept-encoding\": \"identity\"",
            SECRET,
        ] {
            assert!(heard.contains(said), "{said}: {heard}");
        }
        world.outcome(|v| v["status"] == 200).await;
    });
}

#[test]
fn every_stream_is_held_to_its_host() {
    alone(|world| async move {
        let (heard, authority) = with_h2(&world).await;
        let mut sender = h2(&world, &authority).await;
        for (uri, headers, code) in [
            ("https://evil.org/", &[][..], 421),
            ("https://api.example.org:8443/", &[], 421),
            ("https://x@api.example.org/", &[], 400),
            ("https://api.example.org/", &[("host", "evil.org")], 421),
            ("http://api.example.org/", &[], 400),
            ("https://api.example.org/", &[("x-note", MINE)], 403),
            ("https://api.example.org/?k=octs_abcdefghijklmnopqrstuv", &[], 403),
            ("https://api.example.org/", &[("authorization", "Bearer octs_bbbbbbbbbbbbbbbbbbbbbb")], 403),
        ] {
            let answer = sender.send_request(get(uri, headers)).await.unwrap();
            assert_eq!(answer.status(), code, "{uri} {headers:?}");
        }
        let connect = Request::builder().method("CONNECT").uri("api.example.org:443");
        let connect = connect.body(Full::new(Bytes::new()).boxed()).unwrap();
        assert!(sender.send_request(connect).await.is_ok_and(|answer| answer.status() == 400));
        assert_eq!(*heard.lock().unwrap(), Vec::<String>::new(), "nothing of it was sent on");
        // The connection is none the worse for it.
        assert_eq!(sender.send_request(get("https://api.example.org/", &[])).await.unwrap().status(), 200);
        assert_eq!(world.denied().iter().filter(|why| why.contains("not this agent's")).count(), 1);
    });
}

#[test]
fn both_sides_speak_the_same_version() {
    alone(|world| async move {
        let (heard, authority) = with_h2(&world).await;
        let (mut stream, spoken) = offering(&world, &authority, &[b"http/1.1"]).await.unwrap();
        assert_eq!(spoken.as_deref(), Some(&b"http/1.1"[..]));
        let request =
            format!("GET / HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\nX-Api-Key: {MINE}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("HTTP/1.1 200") && !text.contains(SECRET), "{text}");
        assert!(heard.lock().unwrap()[0].starts_with("/ "), "{heard:?}");
    });
    alone(|world| async move {
        // A host that knows nothing of HTTP/2.
        let (_, authority) = with_api(&world).await;
        let (_, spoken) = offering(&world, &authority, &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(spoken.as_deref(), Some(&b"http/1.1"[..]));
        assert!(offering(&world, &authority, &[b"h2"]).await.is_err());
    });
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A head as HPACK has it, each line as a literal (RFC 7541 section 6.2.2).
fn head(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in lines {
        head.push(0);
        for text in [name, value] {
            // 7 bits, and what goes beyond in one more byte.
            match u8::try_from(text.len()).unwrap() {
                short @ ..127 => head.push(short),
                long => head.extend([127, long - 127]),
            }
            head.extend(text.as_bytes());
        }
    }
    head
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Says this over and over, and gives the code with which the connection was closed; none where it was cut short.
async fn flood(world: &World, authority: &str, mut next: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let (mut stream, spoken) = offering(world, authority, &[b"h2"]).await.unwrap();
    assert_eq!(spoken.as_deref(), Some(&b"h2"[..]));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let says = async {
        // Far more than any limit.
        for n in 0..20_000 {
            if writer.write_all(&next(n)).await.is_err() {
                return;
            }
        }
        panic!("there was no end to it");
    };
    let hears = async {
        loop {
            let mut header = [0; 9];
            reader.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            reader.read_exact(&mut payload).await.ok()?;
            if let (GOAWAY, Some(code)) = (header[3], payload.get(4..8)) {
                return Some(u32::from_be_bytes(code.try_into().unwrap()));
            }
        }
    };
    tokio::join!(says, hears).1
}

/// The codes of answers, and that who is over the budget is told which and what to do.
async fn code_of(answered: hyper::Result<Response<Incoming>>) -> u16 {
    let answer = answered.unwrap();
    let code = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    if code == 429 {
        assert!(text.contains("network.requests") && text.contains("octant agent budget agent-"), "{text}");
    }
    code
}

#[test]
fn each_stream_is_a_request_of_the_budget_to_the_last() {
    alone(|world| async move {
        let (heard, authority) = with_h2_held_to(&world, Caps { drawn: true, ..FREE }).await;
        answers(&world, Amounts { bytes: 1 << 30, requests: 21, ..Amounts::default() });
        // Two connections at once, and many streams on each.
        let (one, other) = tokio::join!(h2(&world, &authority), h2(&world, &authority));
        let mut asking = tokio::task::JoinSet::new();
        for sender in [one, other] {
            for key in [MINE, "none"].repeat(15) {
                let mut sender = sender.clone();
                let request = get("https://api.example.org/", &[("x-api-key", key)]);
                asking.spawn(async move { code_of(sender.send_request(request).await).await });
            }
        }
        let codes = asking.join_all().await;
        let of = |code| codes.iter().filter(|found| **found == code).count();
        assert_eq!((of(200), of(429), heard.lock().unwrap().len()), (21, 39, 21), "{codes:?}");
        assert_eq!(world.gate.dismiss(world.aid).1.unwrap().requests, 21);
    });
}

#[test]
fn the_next_request_on_a_connection_that_stays_is_one_of_the_budget() {
    alone(|world| async move {
        let (heard, authority) = with_h2_held_to(&world, Caps { drawn: true, ..FREE }).await;
        answers(&world, Amounts { bytes: 1 << 30, requests: 3, ..Amounts::default() });
        let (stream, _) = offering(&world, &authority, &[b"http/1.1"]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut codes = Vec::new();
        for _ in 0..4 {
            sender.ready().await.unwrap();
            codes.push(
                code_of(sender.send_request(get("/", &[("host", API), ("x-api-key", MINE)])).await).await,
            );
        }
        assert_eq!((codes, heard.lock().unwrap().len()), (vec![200, 200, 200, 429], 3));
        assert_eq!(
            world.vault.asked.lock().unwrap().len(),
            3,
            "who is over the budget has no secret taken either"
        );
        assert_eq!(world.denied().iter().filter(|why| why.contains("network.requests")).count(), 1);
        assert_eq!(world.gate.dismiss(world.aid).1.unwrap().requests, 3);
    });
}

#[test]
fn a_flood_is_closed_and_harms_no_other_connection() {
    alone(|world| async move {
        let (heard, authority) = with_h2(&world).await;
        let mut other = h2(&world, &authority).await;
        let request = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", API),
            (":path", "/"),
            ("x-api-key", MINE),
        ];
        // Requests that are taken back at once (CVE-2023-44487): ENHANCE_YOUR_CALM, or no more is read.
        let resets = flood(&world, &authority, |n| {
            let mut both = frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head(&request));
            both.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
            both
        });
        assert!(matches!(resets.await, None | Some(11)));
        // Of what was taken back the host heard at the most what was under way at once.
        assert!(heard.lock().unwrap().len() < 1_000, "{}", heard.lock().unwrap().len());
        // A head that has no end (VU#421644).
        let endless = flood(&world, &authority, |n| match n {
            0 => frame(HEADERS, END_STREAM, 1, &head(&request)),
            _ => frame(CONTINUATION, 0, 1, &head(&[("x-more", &"x".repeat(100))])),
        });
        assert!(matches!(endless.await, None | Some(11 | 1)));
        assert_eq!(other.send_request(get("https://api.example.org/", &[])).await.unwrap().status(), 200);
        assert_eq!(world.copies.all.lock().unwrap().len(), 1, "its worker is still the same");
    });
}

#[test]
fn who_is_not_heard_out_makes_nobody_hold_anything() {
    alone(|world| async move {
        let (_, authority) = with_h2(&world).await;
        for (kind, payload) in [(PING, &[7; 8][..]), (SETTINGS, &[0, 3, 0, 0, 0, 100])] {
            // Questions without end from who reads no answer: sooner or later no more is taken.
            let (mut stream, _) = offering(&world, &authority, &[b"h2"]).await.unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            let many = frame(kind, 0, 0, payload).repeat(1_000);
            let mut taken = 0_u64;
            while let Ok(Ok(())) =
                tokio::time::timeout(std::time::Duration::from_secs(1), stream.write_all(&many)).await
            {
                taken += many.len() as u64;
                assert!(taken < 64 << 20, "all of it was taken");
            }
            let mut other = h2(&world, &authority).await;
            assert_eq!(other.send_request(get("https://api.example.org/", &[])).await.unwrap().status(), 200);
        }
    });
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    alone(|world| async move {
        let (heard, authority) = with_h2(&world).await;
        let mut sender = h2(&world, &authority).await;
        let long = "x".repeat(70_000);
        let answer = sender.send_request(get("https://api.example.org/", &[("x-long", &long)])).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
        assert!(heard.lock().unwrap().is_empty());
    });
}
