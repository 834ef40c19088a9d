//! Server and clients over real sockets.

use crate::*;
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Deadline, Need};
use octant_ids::Principal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! parameters {
    ($($name:ident { $($field:ident: $type:ty),* })+) => { $(
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
    )+ };
}

parameters! {
    EchoRequest { text: String }
    SleepRequest { ms: u64 }
    CountRequest { to: u64, size: usize }
    SecretRequest {}
    LongRequest { text: String }
    SwapRequest {}
    NumberRequest { n: u64 }
}

mod api {
    use super::*;
    octant_api::rpc! {
        /// For tests.
        service "test" {
            /// Answers with its text.
            "echo" => echo, Echo(EchoRequest) -> String,
                needs [Need::Operator, Need::Agent], deadline Deadline::Ms(5000), idempotent: true;
            /// Answers late.
            "sleep" => sleep, Sleep(SleepRequest) -> u64,
                needs [Need::Operator], deadline Deadline::Ms(5000);
            /// Sends numbers with `size` bytes beside each.
            "count" => count, Count(CountRequest) -> u64, stream (u64, String),
                needs [Need::Operator], deadline Deadline::Open;
            /// For nobody who calls here.
            "secret" => secret, Secret(SecretRequest) -> u64,
                needs [Need::Service("vault")], deadline Deadline::Ms(5000);
            /// Takes a longer line.
            "long" => long, Long(LongRequest) -> usize,
                needs [Need::Operator], deadline Deadline::Ms(5000), line_max: 2 << 20;
            /// Answers with the descriptor that came.
            "swap" => swap, Swap(SwapRequest) -> usize,
                needs [Need::Operator], deadline Deadline::Ms(5000), fds_in: 1, fds_out: 1;
            /// Answers with the number after it.
            "number" => number, Number(NumberRequest) -> u64,
                needs [Need::Operator], deadline Deadline::Ms(5000), idempotent: true;
        }
    }
}

#[derive(Debug, Default)]
struct Service {
    secrets: AtomicU64,
    started: AtomicU64,
    dropped: AtomicU64,
}

struct OnDrop<'a>(&'a AtomicU64);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl api::Handler<Call> for Service {
    async fn echo(&self, request: EchoRequest, _: Call) -> Result<String, ApiError> {
        Ok(request.text)
    }
    async fn sleep(&self, request: SleepRequest, _: Call) -> Result<u64, ApiError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let _on_drop = OnDrop(&self.dropped);
        tokio::time::sleep(Duration::from_millis(request.ms)).await;
        Ok(request.ms)
    }
    async fn count(
        &self,
        request: CountRequest,
        items: Sink<(u64, String)>,
        _: Call,
    ) -> Result<u64, ApiError> {
        let _on_drop = OnDrop(&self.dropped);
        for n in 0..request.to {
            items.send(&(n, "x".repeat(request.size))).await?;
            self.started.store(n + 1, Ordering::SeqCst);
        }
        Ok(request.to)
    }
    async fn secret(&self, _: SecretRequest, _: Call) -> Result<u64, ApiError> {
        Ok(self.secrets.fetch_add(1, Ordering::SeqCst))
    }
    async fn long(&self, request: LongRequest, _: Call) -> Result<usize, ApiError> {
        Ok(request.text.len())
    }
    async fn swap(&self, _: SwapRequest, mut call: Call) -> Result<usize, ApiError> {
        let fds = call.take_fds();
        let count = fds.len();
        fds.into_iter().try_for_each(|fd| call.attach(fd)).map(|()| count)
    }
    async fn number(&self, request: NumberRequest, _: Call) -> Result<u64, ApiError> {
        Ok(request.n + 1)
    }
}

/// A server on a thread of its own; stopped and joined when dropped.
struct Running {
    path: PathBuf,
    service: Arc<Service>,
    trigger: Option<Trigger>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn with(limits: Limits, identity: Identity) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("octant-wire-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        let (trigger, stop) = shutdown();
        let service = Arc::new(Service::default());
        let server = api::Server(Arc::clone(&service));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                serve(listener, server, identity, limits, stop).await.unwrap();
            });
        });
        Self { path, service, trigger: Some(trigger), thread: Some(thread) }
    }

    fn new() -> Self {
        let operator = nix::unistd::getuid().as_raw();
        Self::with(Limits::default(), Identity::PeerCredentials { operator })
    }

    fn raw(&self) -> Raw {
        Raw(BufReader::new(StdStream::connect(&self.path).unwrap()))
    }

    fn client(&self) -> blocking::Client {
        blocking::Client::connect(&self.path).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.trigger.take());
        let joined = self.thread.take().unwrap().join();
        let _ = std::fs::remove_file(&self.path);
        if !std::thread::panicking() {
            joined.unwrap();
        }
    }
}

/// A peer that can say anything.
struct Raw(BufReader<StdStream>);

impl Raw {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
    fn code(&mut self) -> Code {
        let answer = self.answer();
        let number = answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"));
        Code::of_number(i32::try_from(number).unwrap())
    }
    fn works(&mut self) {
        self.send(request("\"w\"", "test.number", "{\"n\":1}"));
        assert_eq!(self.answer(), json!({"jsonrpc": "2.0", "id": "w", "result": 2}));
    }
}

fn request(id: &str, method: &str, params: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n")
}

fn code(error: &WireError) -> Code {
    match error {
        WireError::Api(error) => error.code,
        other => panic!("{other}"),
    }
}

fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came true");
}

#[test]
fn calls_are_answered() {
    let server = Running::new();
    let mut client = server.client();
    for text in ["", "\n\"\\", "é\u{1f600}", &"x".repeat(900_000)] {
        assert_eq!(client.call(&EchoRequest { text: text.to_owned() }).unwrap(), text);
    }
}

#[test]
fn hostile_lines_get_a_typed_error_and_the_connection_lives() {
    let server = Running::new();
    let mut raw = server.raw();
    let deep = request("1", "test.echo", &format!("{{\"text\":{}1{}}}", "[".repeat(40), "]".repeat(40)));
    for (line, expected) in [
        ("x\n".to_owned(), Code::Parse),
        ("\u{1}\u{2}\n".to_owned(), Code::Parse),
        ("[]\n".to_owned(), Code::InvalidRequest),
        ("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"test.echo\"}\n".to_owned(), Code::InvalidRequest),
        (deep, Code::TooDeep),
        (format!("{}\n", "[".repeat(500_000)), Code::TooDeep),
        (request("1", "test.nothing", "{}"), Code::MethodNotFound),
        (request("1", "test.echo", "{}"), Code::InvalidParams),
        (request("1", "test.echo", "{\"text\":1}"), Code::InvalidParams),
        (request("1", "test.echo", "{\"text\":\"\",\"more\":1}"), Code::InvalidParams),
        (request("1", "test.echo", "{\"text\":\"\",\"_meta\":{\"deadline_ms\":-1}}"), Code::InvalidParams),
        (request("1", "test.echo", "[]"), Code::InvalidRequest),
        (request("1", "test.secret", "{}"), Code::Denied),
        (request("1", "test.secret", "{\"wrong\":1}"), Code::Denied),
    ] {
        raw.send(&line);
        assert_eq!(raw.code(), expected, "{}", &line[..line.len().min(100)]);
        raw.works();
    }
    raw.send([0xff, 0xfe, b'\n']);
    assert_eq!(raw.code(), Code::Parse);
    raw.send("\n  \r\n");
    raw.works();
    raw.send(request("1", "test.echo", "{\"_meta\":{\"deadline_ms\":9,\"other\":[]},\"text\":\"a\"}"));
    assert_eq!(raw.answer()["result"], "a");
    assert_eq!(server.service.secrets.load(Ordering::SeqCst), 0);
}

#[test]
fn a_line_beyond_the_limit_is_refused_once_and_skipped() {
    let server = Running::new();
    let mut raw = server.raw();
    let text = |len: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(len));
    // Another method of this service takes up to 2 MiB, so this one is read and then refused.
    raw.send(request("1", "test.echo", &text(1 << 20)));
    assert_eq!(raw.code(), Code::TooLong);
    raw.send(request("1", "test.long", &text(1 << 20)));
    assert_eq!(raw.answer()["result"], 1 << 20);
    raw.send(request("1", "test.long", &text(9 << 20)));
    assert_eq!(raw.code(), Code::TooLong);
    raw.works();
}

#[test]
fn requests_in_flight_are_bounded_and_their_ids_unique() {
    let server = Running::new();
    let mut raw = server.raw();
    for id in 0..64 {
        raw.send(request(&id.to_string(), "test.sleep", "{\"ms\":60000}"));
    }
    raw.send(request("\"more\"", "test.sleep", "{\"ms\":1}"));
    assert_eq!(raw.code(), Code::Busy);
    raw.send("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":7}}\n");
    raw.send(request("8", "test.sleep", "{\"ms\":1}"));
    assert_eq!(raw.code(), Code::DuplicateId);
    raw.send(request("7", "test.sleep", "{\"ms\":1}"));
    assert_eq!(raw.answer(), json!({"jsonrpc": "2.0", "id": 7, "result": 1}));
    drop(raw);
    until(|| server.service.dropped.load(Ordering::SeqCst) == 65);
}

#[test]
fn a_deadline_ends_the_work_and_says_so() {
    let server = Running::new();
    let mut client = server.client();
    let error = client.call_within(&SleepRequest { ms: 60_000 }, 20).unwrap_err();
    assert_eq!(code(&error), Code::Deadline);
    assert_eq!(server.service.dropped.load(Ordering::SeqCst), 1);
    assert_eq!(client.call(&NumberRequest { n: 1 }).unwrap(), 2);
}

#[test]
fn answers_come_in_the_order_of_their_work() {
    let server = Running::new();
    let mut raw = server.raw();
    raw.send(request("1", "test.sleep", "{\"ms\":200}") + &request("2", "test.number", "{\"n\":1}"));
    assert_eq!(raw.answer()["id"], 2);
    assert_eq!(raw.answer()["id"], 1);
}

#[test]
fn streams_send_items_then_their_end() {
    let server = Running::new();
    let mut stream = server.client().stream(&CountRequest { to: 500, size: 3000 }).unwrap();
    for n in 0..500 {
        assert_eq!(stream.next().unwrap().unwrap().0, n);
    }
    assert!(stream.next().is_none());
    assert_eq!(stream.end(), Some(500));
}

#[test]
fn a_peer_that_does_not_read_is_held_up_and_its_leaving_ends_the_work() {
    let server = Running::new();
    let stream = server.client().stream(&CountRequest { to: u64::MAX, size: 10_000 }).unwrap();
    until(|| server.service.started.load(Ordering::SeqCst) > 10);
    // It fills the socket and the bounded buffer, far from 2^64 items.
    std::thread::sleep(Duration::from_millis(300));
    let sent = server.service.started.load(Ordering::SeqCst);
    assert!(sent < 500, "{sent} items of 10 kB were sent to a peer that reads none");
    server.client().call(&NumberRequest { n: 1 }).unwrap();
    drop(stream);
    until(|| server.service.dropped.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_is_closed() {
    let limits = Limits { stall: Duration::from_millis(100), ..Limits::default() };
    let operator = nix::unistd::getuid().as_raw();
    let server = Running::with(limits, Identity::PeerCredentials { operator });
    let stream = server.client().stream(&CountRequest { to: u64::MAX, size: 10_000 }).unwrap();
    until(|| server.service.dropped.load(Ordering::SeqCst) == 1);
    drop(stream);
    let mut raw = server.raw();
    raw.send("{\"unfinished");
    assert_eq!(raw.code(), Code::Deadline);
    assert_eq!(raw.0.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn a_half_closed_peer_still_gets_its_answers() {
    let server = Running::new();
    let mut raw = server.raw();
    raw.send(request("1", "test.sleep", "{\"ms\":100}"));
    raw.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(raw.answer()["result"], 100);
}

#[test]
fn too_many_connections_are_turned_away() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let operator = nix::unistd::getuid().as_raw();
    let server = Running::with(limits, Identity::PeerCredentials { operator });
    let (mut one, mut two) = (server.raw(), server.raw());
    one.works();
    two.works();
    assert_eq!(server.raw().code(), Code::Busy);
    assert_eq!(code(&server.client().call(&NumberRequest { n: 1 }).unwrap_err()), Code::Busy);
    runtime().block_on(async {
        let client = Client::new(&server.path);
        assert_eq!(code(&client.call(&NumberRequest { n: 1 }).await.unwrap_err()), Code::Busy);
    });
    drop(one);
    until(|| {
        let mut raw = server.raw();
        raw.send(request("1", "test.number", "{\"n\":1}"));
        raw.answer()["result"] == 2
    });
}

#[test]
fn strangers_and_services_cannot_keep_the_operator_out() {
    let mut shares = server::Shares::default();
    let mut held: Vec<_> = (0..100).filter_map(|uid| shares.take(&Principal::Stranger(uid), 24)).collect();
    assert_eq!(held.len(), 3, "all strangers have one share");
    let service = Principal::of_uid(octant_ids::uid::of_service("ledger").unwrap(), 0);
    held.extend((0..100).filter_map(|_| shares.take(&service, 24)));
    assert_eq!(held.len(), 3 + 8, "a service has one of its own");
    assert!((0..100).all(|_| shares.take(&Principal::Operator(0), 24).is_some()));
    held.clear();
    assert!(shares.take(&Principal::Stranger(1), 24).is_some(), "what was given back can be taken");
}

#[test]
fn the_listener_is_the_identity_where_it_is_said_so() {
    let aid = octant_ids::Aid::new(1, [1; 10]);
    let server = Running::with(Limits::default(), Identity::Listener(Principal::Agent(aid)));
    let mut client = server.client();
    assert_eq!(client.call(&EchoRequest { text: "a".into() }).unwrap(), "a");
    assert_eq!(code(&client.call(&NumberRequest { n: 1 }).unwrap_err()), Code::Denied);
    let stranger = nix::unistd::getuid().as_raw() + 1;
    let principal = Principal::of_uid(stranger, 0);
    assert!(api::INTERFACE.methods.iter().all(|method| method.authorise(&principal).is_err()));
}

#[test]
fn requests_in_flight_finish_when_the_service_stops() {
    let server = Running::new();
    let mut raw = server.raw();
    raw.send(request("1", "test.sleep", "{\"ms\":200}"));
    until(|| server.service.started.load(Ordering::SeqCst) == 1);
    server.trigger.as_ref().unwrap().pull();
    assert_eq!(raw.answer()["result"], 200);
    assert_eq!(raw.0.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn streams_end_at_once_when_the_service_stops() {
    let limits = Limits { grace: Duration::from_secs(3600), ..Limits::default() };
    let operator = nix::unistd::getuid().as_raw();
    let server = Running::with(limits, Identity::PeerCredentials { operator });
    let mut stream = server.client().stream(&CountRequest { to: u64::MAX, size: 10_000 }).unwrap();
    stream.next().unwrap().unwrap();
    server.trigger.as_ref().unwrap().pull();
    let error = stream.find_map(Result::err).unwrap();
    assert_eq!(code(&error), Code::Unavailable);
}

#[test]
fn descriptors_ride_only_where_they_are_declared() {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::{AsFd, AsRawFd};
    let server = Running::new();
    let mut raw = server.raw();
    let send = |raw: &mut Raw, line: &str, fds: &[i32]| {
        let rights = [ControlMessage::ScmRights(fds)];
        let iov = [std::io::IoSlice::new(line.as_bytes())];
        sendmsg::<()>(raw.0.get_ref().as_raw_fd(), &iov, &rights, MsgFlags::empty(), None).unwrap();
    };
    let (mut reader, writer) = std::io::pipe().unwrap();
    send(&mut raw, &request("1", "test.number", "{\"n\":1}"), &[writer.as_raw_fd()]);
    assert_eq!(raw.code(), Code::InvalidParams);
    send(&mut raw, &request("1", "test.swap", "{}"), &[writer.as_raw_fd(); 2]);
    assert_eq!(raw.code(), Code::InvalidParams);
    raw.works();
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "a refused descriptor is still open in the server");
    let null = std::fs::File::open("/dev/null").unwrap();
    send(&mut raw, &request("1", "test.swap", "{}"), &[null.as_raw_fd()]);
    let mut buffer = [0; 4096];
    let packet = octant_sys::packet::receive(raw.0.get_ref().as_fd(), &mut buffer).unwrap();
    assert_eq!(packet.fds.len(), 1);
    assert_eq!(serde_json::from_slice::<Value>(&buffer[..packet.len]).unwrap()["result"], 1);
}

#[test]
fn both_clients_send_descriptors_and_take_those_that_come_back() {
    let server = Running::new();
    let pipe = |text: &[u8]| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text).unwrap();
        std::os::fd::OwnedFd::from(reader)
    };
    let read = |fd: std::os::fd::OwnedFd| {
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    let mut client = server.client();
    for round in ["one", "two"] {
        let fd = pipe(round.as_bytes());
        let (count, mut back) = client.call_with(&SwapRequest {}, &[std::os::fd::AsFd::as_fd(&fd)]).unwrap();
        assert_eq!((count, back.len()), (1, 1));
        assert_eq!(read(back.remove(0)), round);
        assert_eq!(client.call(&NumberRequest { n: 1 }).unwrap(), 2, "and the connection goes on");
    }
    runtime().block_on(async {
        let client = Client::new(&server.path);
        let calls = ["a", "b", "c"].map(|text| {
            let fds = vec![pipe(text.as_bytes())];
            let client = &client;
            async move { (text, client.call_with(&SwapRequest {}, &fds).await.unwrap()) }
        });
        let [a, b, c] = calls;
        let (a, b, c, number) = tokio::join!(a, b, c, client.call(&NumberRequest { n: 7 }));
        assert_eq!(number.unwrap(), 8);
        for (text, (count, mut back)) in [a, b, c] {
            assert_eq!((count, read(back.remove(0))), (1, text.to_owned()));
        }
        // An error brings none.
        let error = client.call_with(&SwapRequest {}, &[pipe(b""), pipe(b"")]).await.unwrap_err();
        assert_eq!(code(&error), Code::InvalidParams);
    });
}

#[test]
fn calls_with_descriptors_run_side_by_side_up_to_eight() {
    let server = Running::new();
    runtime().block_on(async {
        let client = Arc::new(Client::new(&server.path));
        let call = || {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.call_with(&SleepRequest { ms: 60_000 }, &[]).await.map(drop) })
        };
        let calls: Vec<_> = (0..8).map(|_| call()).collect();
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let started = async |wanted| {
            for _ in 0..2000 {
                if count(&server.service.started) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("{} have started, not {wanted}", count(&server.service.started));
        };
        started(8).await;
        let ninth = call();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((count(&server.service.started), count(&server.service.dropped)), (8, 0));
        calls[3].abort();
        started(9).await;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        ninth.abort();
        assert_eq!(client.call_with(&NumberRequest { n: 1 }, &[]).await.unwrap().0, 2);
    });
}

#[test]
fn a_connection_is_used_again_after_an_answer_and_not_after_a_call_that_was_dropped() {
    let server = Running::new();
    let number =
        async |client: &Client, n| client.call_with(&NumberRequest { n }, &[]).await.map(|got| got.0);
    runtime().block_on(async {
        let client = Client::new(&server.path);
        assert_eq!(number(&client, 1).await.unwrap(), 2);
        let moved = server.path.with_extension("moved");
        std::fs::rename(&server.path, &moved).unwrap();
        assert_eq!(number(&client, 2).await.unwrap(), 3, "nobody could connect now");
        // Its answer would come before that of the next call.
        let slow = client.call_with(&SleepRequest { ms: 100 }, &[]);
        assert!(tokio::time::timeout(Duration::from_millis(20), slow).await.is_err());
        let error = number(&client, 3).await.unwrap_err();
        assert!(matches!(error, WireError::Connect { .. }), "{error}");
        std::fs::rename(&moved, &server.path).unwrap();
        assert_eq!(number(&client, 3).await.unwrap(), 4);
    });
    until(|| server.service.dropped.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_connection_that_says_more_than_an_answer_is_not_used_again() {
    let path = std::env::temp_dir().join(format!("octant-wire-{}-more.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Answers the first request twice, the second as somebody else's, the third as it should.
    let thread = std::thread::spawn(move || {
        for (first, more) in [(1, true), (9, false), (3, false)] {
            let mut raw = Raw(BufReader::new(listener.accept().unwrap().0));
            let mut line = String::new();
            raw.0.read_line(&mut line).unwrap();
            let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{first},\"result\":{first}}}\n");
            raw.send(answer.repeat(1 + usize::from(more)));
            assert_eq!(raw.0.read(&mut [0; 9]).unwrap(), 0, "it is closed");
        }
    });
    runtime().block_on(async {
        let client = Client::new(&path);
        let call = async || client.call_with(&NumberRequest { n: 0 }, &[]).await.map(|got| got.0);
        assert_eq!(call().await.unwrap(), 1);
        let error = call().await.unwrap_err();
        assert!(matches!(error, WireError::Protocol { .. }), "{error}");
        assert_eq!(call().await.unwrap(), 3);
    });
    thread.join().unwrap();
    std::fs::remove_file(&path).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_async_client_multiplexes_withdraws_and_reconnects() {
    let first = Running::new();
    let path = first.path.clone();
    runtime().block_on(async {
        let client = Arc::new(Client::new(&path));
        let calls: Vec<_> = (0..60)
            .map(|n| {
                let client = Arc::clone(&client);
                tokio::spawn(async move { client.call(&SleepRequest { ms: n % 7 }).await.unwrap() })
            })
            .collect();
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), n % 7);
        }
        let dropped = first.service.dropped.load(Ordering::SeqCst);
        let slow = SleepRequest { ms: 60_000 };
        let gone = tokio::time::timeout(Duration::from_millis(50), client.call(&slow)).await;
        assert!(gone.is_err());
        while first.service.dropped.load(Ordering::SeqCst) == dropped {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut stream = client.stream(&CountRequest { to: 3, size: 1 }).await.unwrap();
        while stream.next().await.unwrap().is_some() {}
        assert_eq!(stream.end(), Some(3));
        drop(first);
        let error = client.call(&NumberRequest { n: 1 }).await.unwrap_err();
        assert!(matches!(error, WireError::Connect { .. }), "{error}");
        assert_eq!(error.exit(), octant_ids::Exit::Unavailable);
        let second = Running::new();
        std::fs::rename(&second.path, &path).unwrap();
        assert_eq!(client.call(&NumberRequest { n: 1 }).await.unwrap(), 2);
        std::fs::rename(&path, &second.path).unwrap();
    });
}

#[test]
fn the_corpus_of_lines_is_survived() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/wire");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        fuzz_line(&std::fs::read(file.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 10, "the corpus has only {files} files");
}

proptest::proptest! {
    #[test]
    fn no_bytes_stop_the_reader(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        fuzz_line(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_line_stops_the_reader(at in 0_usize..90, byte in proptest::prelude::any::<u8>()) {
        let mut line = request("1", "ledger.append", "{\"kind\":\"note\",\"payload\":{\"a\":[1]}}").into_bytes();
        let place = at % line.len();
        line[place] = byte;
        fuzz_line(&line);
    }
}
