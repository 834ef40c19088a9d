//! The witness over HTTP: what is asked, what is answered, and what a peer cannot do to it.

use super::{Dir, ORIGIN, Running, Tree, WITNESS};
use crate::Limits;
use ed25519_dalek::{Signature, VerifyingKey};
use octant_tlog::witness::REQUEST_MAX;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const ANY_PORT: &str = "127.0.0.1:0";

/// A witness's key as C2SP tlog-cosignature says, with nothing of this workspace in it.
struct Cosigner {
    id: u32,
    key: VerifyingKey,
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        WITNESS
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let (time, signature) = signature.split_first_chunk::<8>().unwrap();
        let message = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
        let message = [message.as_bytes(), text].concat();
        self.key.verify_strict(&message, &Signature::from_slice(signature).unwrap()).is_ok()
    }
}

#[tokio::test]
async fn another_implementation_verifies_its_cosignatures() {
    let dir = Dir::new();
    let running = Running::start(&dir.0.join("state"), ANY_PORT, Limits::default()).await;
    let tree = Tree::new(&[1; 40]);
    for (old, new) in [(0, 1), (1, 33), (33, 33), (33, 40)] {
        let (status, lines) = running.post(tree.request(old, new)).await;
        assert_eq!(status, 200, "{lines}");
        let key = ed25519_dalek::SigningKey::from_bytes(&[2; 32]).verifying_key();
        // The key's id covers the algorithm 0x04, which signed_note's own function takes as the key's first byte.
        let id = signed_note::key_id(WITNESS, &[&[4_u8], key.as_bytes().as_slice()].concat());
        let log = StandardVerifier::new(&tree.key.verifier().to_string()).unwrap();
        let known = VerifierList::new(vec![Box::new(log), Box::new(Cosigner { id, key })]);
        let note = Note::from_bytes(format!("{}{lines}", tree.checkpoint(new)).as_bytes()).unwrap();
        let (verified, rest) = note.verify(&known).unwrap();
        let names: Vec<&str> = verified.iter().map(signed_note::Signature::name).collect();
        assert_eq!((names, rest.len()), (vec![ORIGIN, WITNESS], 0));
    }
    running.stop().await;
}

#[tokio::test]
async fn answers_have_the_status_and_type_that_the_protocol_says() {
    let dir = Dir::new();
    let running = Running::start(&dir.0.join("state"), ANY_PORT, Limits::default()).await;
    let tree = Tree::new(&[1; 9]);
    assert_eq!(running.post(tree.request(0, 6)).await.0, 200);
    let rows = [
        (post("/add-checkpoint", &tree.request(0, 6)), "HTTP/1.1 409 ", "text/x.tlog.size", "\r\n\r\n6\n"),
        (post("/add-checkpoint", &tree.request(7, 6)), "HTTP/1.1 400 ", "text/plain", ""),
        (post("/add-checkpoint", "old x"), "HTTP/1.1 400 ", "text/plain", "line 1"),
        (post("/", &tree.request(6, 6)), "HTTP/1.1 404 ", "text/plain", "/add-checkpoint"),
        (post("/add-checkpoint?x", &tree.request(6, 6)), "HTTP/1.1 404 ", "text/plain", ""),
        (
            "GET /add-checkpoint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
            "HTTP/1.1 405 ",
            "text/plain",
            "POST",
        ),
        (
            post("/add-checkpoint", &tree.request(6, 9)),
            "HTTP/1.1 200 ",
            "text/plain",
            "\r\n\r\n\u{2014} w1.example ",
        ),
    ];
    for (request, status, content_type, body) in rows {
        let answer = exchange(&running, &request).await;
        assert!(answer.starts_with(status), "{request}: {answer}");
        assert!(answer.to_ascii_lowercase().contains(&format!("content-type: {content_type}")), "{answer}");
        assert!(answer.contains(body), "{answer}");
    }
    running.stop().await;
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.url.to_string().trim_start_matches("http://")).await.unwrap()
}

/// Sends bytes, the last of a connection, and reads until the witness closes it. Empty when there was no place.
async fn exchange(running: &Running, request: &str) -> String {
    let mut stream = connect(running).await;
    // A connection that is reset was closed by the witness, before it was answered or after.
    let sent = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await.map(drop);
    for error in [sent, read].into_iter().filter_map(Result::err) {
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_unix_socket_serves_and_a_stale_one_is_replaced() {
    let dir = Dir::new();
    let path = dir.0.join("w.sock");
    let address = format!("unix:{}", path.display());
    let tree = Tree::new(&[1; 9]);
    for (old, new) in [(0, 3), (3, 9)] {
        let running = Running::start(&dir.0.join("state"), &address, Limits::default()).await;
        let (status, body) = running.post(tree.request(old, new)).await;
        assert_eq!(status, 200, "{body}");
        running.stop().await;
        // The socket's file is still there; nobody listens at it.
        assert!(path.exists() && UnixStream::connect(&path).await.is_err());
    }
    // What is no socket is not removed.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    let error = crate::Listener::bind(&address.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn too_much_is_refused() {
    let dir = Dir::new();
    let running = Running::start(&dir.0.join("state"), ANY_PORT, Limits::default()).await;
    // What says so itself is not read at all.
    let head =
        format!("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", REQUEST_MAX + 1);
    let mut stream = connect(&running).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // What does not say so is read up to the limit.
    let mut stream = connect(&running).await;
    let head = "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (mut reading, mut writing) = stream.split();
    let write = async {
        for _ in 0..64 {
            // The witness answers before all is sent, and closes.
            if writing.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let read = async { reading.read_exact(&mut answer).await.map(|_| answer) };
    let (answer, ()) = tokio::join!(read, write);
    assert_eq!(&answer.unwrap(), b"HTTP/1.1 413");
    // A header without an end.
    let mut stream = connect(&running).await;
    let _ = stream.write_all(format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20)).as_bytes()).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(running.post(Tree::new(&[1; 9]).request(0, 6)).await.0, 200, "it goes on");
    running.stop().await;
}

#[tokio::test]
async fn slow_peers_are_let_go() {
    let dir = Dir::new();
    let quick = Duration::from_millis(100);
    let limits = Limits { header: quick, body: quick, ..Limits::default() };
    let running = Running::start(&dir.0.join("state"), ANY_PORT, limits).await;
    // Nothing at all; half a header; a whole request and then nothing.
    let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (sent, answered) in [("", ""), ("POST /add-checkpoint HTT", ""), (whole, "HTTP/1.1 404 ")] {
        let mut stream = connect(&running).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(answered) || answer.starts_with("HTTP/1.1 408"), "{sent:?}: {answer}");
    }
    // A body that does not end.
    let mut stream = connect(&running).await;
    let head = "POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold 0\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    running.stop().await;
}

#[tokio::test]
async fn places_are_few_and_come_back() {
    let dir = Dir::new();
    let limits = Limits { connections: 2, ..Limits::default() };
    let running = Running::start(&dir.0.join("state"), ANY_PORT, limits).await;
    let keep_alive = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut holding = Vec::new();
    for _ in 0..2 {
        // An answer means that the place is taken.
        let mut stream = connect(&running).await;
        stream.write_all(keep_alive.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        holding.push(stream);
    }
    let mut third = connect(&running).await;
    let mut answer = Vec::new();
    let read = third.read_to_end(&mut answer).await;
    assert!(read.is_err() || answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    drop(holding);
    let tree = Tree::new(&[1; 9]);
    loop {
        // The witness notices by itself that the others are gone.
        let answer = exchange(&running, &post("/add-checkpoint", &tree.request(0, 6))).await;
        if !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            break;
        }
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test]
async fn of_many_at_once_one_is_first() {
    let dir = Dir::new();
    let running = Arc::new(Running::start(&dir.0.join("state"), ANY_PORT, Limits::default()).await);
    let trees = [Tree::new(&[1; 20]), Tree::new(&[2; 20])];
    let mut tasks = Vec::new();
    for size in 1..=16_u64 {
        let (running, request) = (Arc::clone(&running), trees[usize::from(size % 2 == 0)].request(0, size));
        tasks.push(tokio::spawn(async move { (size, running.post(request).await) }));
    }
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            (size, (200, _)) => first.push(size),
            (_, (409, body)) => others.push(body),
            (size, other) => panic!("{size}: {other:?}"),
        }
    }
    assert_eq!((first.len(), others.len()), (1, 15));
    assert!(others.iter().all(|body| *body == format!("{}\n", first[0])), "{first:?} {others:?}");
    Arc::into_inner(running).unwrap().stop().await;
}
