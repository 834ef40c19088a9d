//! Inspection workers: what one cannot do, what one cannot ask, and whose connections end with it.

use super::inject::{API, MINE, SECRET, credential, get, host, trusting, with_api};
use super::{FREE, World, alone, authority, gate_of};
use crate::packets::{ABOUT_MAX, Packets, TO_WORKER_MAX};
use crate::said::{Answer, Ask, Begin, End, Inspect, Said, What};
use crate::starter::Start;
use crate::worker::PROFILE;
use octant_api::egress::Credential;
use octant_ids::Sha256;
use octant_outside::Vet;
use octant_sys::probe;
use rustls::pki_types::ServerName;
use serde_json::json;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const AS_PRISONER: &str = "OCTANT_TEST_PRISONER";
/// What it says once it has tried everything.
const TRIED: &str = "the prisoner has tried everything";

/// What a worker that is somebody else's tries, confined as every worker is.
fn prisoner() {
    let mine = std::os::unix::net::UnixStream::pair().unwrap();
    octant_service::confine_helper("egress-worker", &[PROFILE]).unwrap();
    let mut got = Vec::new();
    let mut attempt = |what: &'static str, done: bool| got.extend(done.then_some(what));
    attempt("read a file", std::fs::read("/etc/passwd").is_ok());
    attempt("read itself", std::fs::read("/proc/self/mem").is_ok());
    attempt("write a file", std::fs::write("/tmp/octant-prisoner", b"x").is_ok());
    attempt(
        "connect",
        std::net::TcpStream::connect("127.0.0.1:9").is_err_and(|e| e.raw_os_error() != Some(1)),
    );
    attempt(
        "ask a service",
        std::os::unix::net::UnixStream::connect("/run/octant/vault.sock")
            .is_err_and(|e| e.raw_os_error() != Some(1)),
    );
    attempt("listen", std::net::TcpListener::bind("127.0.0.1:0").is_ok());
    attempt("have another socket", std::os::unix::net::UnixStream::pair().is_ok());
    attempt("start a thread", std::thread::Builder::new().spawn(|| ()).is_ok());
    attempt("start a program", Command::new("/bin/true").spawn().is_ok());
    attempt("signal its parent", nix::sys::signal::kill(nix::unistd::getppid(), None).is_ok());
    // By the call that names a thread too, which on older kernels nothing else would keep to this process.
    attempt("signal a thread", nix::sys::signal::raise(nix::sys::signal::SIGURG).is_ok());
    let denied = |(_, number): &(&str, i64)| probe::attempt(*number) == probe::EPERM;
    attempt("trace, and all else that no workstation may", !probe::DENIED.iter().all(denied));
    // What it has goes on working, or nothing was shown.
    let (mut one, mut other) = mine;
    std::io::Write::write_all(&mut one, b"x").unwrap();
    std::io::Read::read_exact(&mut other, &mut [0]).unwrap();
    assert!(got.is_empty(), "a worker can {got:?}");
    std::io::Write::write_all(&mut std::io::stderr(), TRIED.as_bytes()).unwrap();
}

/// It runs twice: as the test, and in a process of its own as the worker.
#[test]
fn a_worker_reaches_nothing_by_itself() {
    if std::env::var_os(AS_PRISONER).is_some() {
        return prisoner();
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args([
            "tests::worker::a_worker_reaches_nothing_by_itself",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(AS_PRISONER, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains(TRIED), "{said}");
}

/// A connection of a program that stays.
async fn stay(world: &World, authority: &str) -> TlsStream<TcpStream> {
    let stream = world.connect("api.example.org.", 443).await.unwrap();
    let name = ServerName::try_from(API).unwrap();
    TlsConnector::from(trusting(authority)).connect(name, stream).await.unwrap()
}

/// One request on it; the code of the answer, or none when the connection is gone.
async fn once(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: {API}\r\nX-Api-Key: {MINE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    while !text.ends_with("ok") {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => return None,
        }
    }
    text.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn a_worker_that_dies_takes_one_agents_connections_and_no_others() {
    alone(|world| async move {
        let (_, mine) = with_api(&world).await;
        let beside = world.beside();
        let hosts = ["tls://api.example.org:443"];
        let others = beside.admit_with(&hosts, &[], FREE, &[credential()]).await.authority.unwrap();
        let (mut one, mut other) = (stay(&world, &mine).await, stay(&beside, &others).await);
        for stream in [&mut one, &mut other] {
            assert_eq!(once(stream).await.as_deref(), Some("302"));
        }
        assert_eq!(world.copies.all.lock().unwrap().len(), 2, "each agent has a worker of its own");
        let pid = world.copies.all.lock().unwrap()[0].id();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        for (limit, most) in
            [("Max data size", 256 << 20), ("Max open files", 4096), ("Max core file size", 0)]
        {
            let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
            let hard = line.split_ascii_whitespace().nth(1).unwrap();
            assert!(hard.parse::<u64>().is_ok_and(|hard| hard <= most), "{limit}: {line}");
        }
        // As a fault in what it reads would end it.
        world.copies.end(0);
        assert_eq!(once(&mut one).await, None);
        assert_eq!(once(&mut other).await.as_deref(), Some("302"));
        // The next connection has another worker.
        let mut again = stay(&world, &mine).await;
        assert_eq!(once(&mut again).await.as_deref(), Some("302"));
        assert_eq!(world.copies.all.lock().unwrap().len(), 3);
        // With its agent a worker ends, and it alone.
        world.gate.dismiss(world.aid);
        assert_eq!(once(&mut again).await, None);
        assert_eq!(once(&mut other).await.as_deref(), Some("302"));
    });
}

/// Workers that are the test itself.
#[derive(Default)]
struct Rogues(Mutex<Vec<OwnedFd>>);

impl Start for Arc<Rogues> {
    fn start(&self, socket: OwnedFd) -> std::io::Result<u64> {
        self.0.lock().unwrap().push(socket);
        Ok(0)
    }

    fn end(&self, _: u64) {}
}

#[test]
fn a_worker_is_refused_what_is_not_its_connections() {
    alone(|world| async move {
        let rogues = Arc::<Rogues>::default();
        let vet = Vet { allow: vec!["11.0.0.0/8".parse().unwrap()] };
        let start = Box::new(Arc::clone(&rogues));
        let gate = gate_of(&world.ledger, &world.outside, &world.vault, vet, start, &authority().1);
        let world = World { gate: Arc::new(gate), ..world };
        with_api(&world).await;
        let evil = host(&world, "evil.org", "11.0.0.9:443").await;
        world.name("evil.org", &["11.0.0.9"]);
        let beside = world.beside();
        let others = Credential { secret: "prod/others".parse().unwrap(), ..credential() };
        beside.admit_with(&["tls://api.example.org:443"], &[], FREE, &[others]).await;
        world.vault.values.lock().unwrap().insert("prod/others".into(), "another-secret".into());

        let mut stream = world.connect("api.example.org.", 443).await.unwrap();
        stream
            .write_all(&crate::hello::tests::record(&crate::hello::tests::client_hello(&[API.as_bytes()])))
            .await
            .unwrap();
        let socket = loop {
            if let Some(socket) = rogues.0.lock().unwrap().pop() {
                break socket;
            }
            tokio::task::yield_now().await;
        };
        let socket = Packets::new(socket, TO_WORKER_MAX).unwrap();
        let (Begin {}, fds) = socket.receive().await.unwrap().unwrap();
        assert_eq!(fds.len(), 2);
        let (inspect, fds): (Inspect, _) = socket.receive().await.unwrap().unwrap();
        // It is told what stands for its own agent's secrets at this host, and nothing else.
        assert_eq!((inspect.host.as_str(), inspect.credentials), (API, vec![credential()]));
        let control = Packets::new(fds.into_iter().nth(1).unwrap(), ABOUT_MAX).unwrap();
        let ask = async |id: u64, what: What| -> (Said, Vec<OwnedFd>) {
            control.send(&Ask { id, what }, &[]).await.unwrap();
            let (Answer { id: of, said }, fds) = control.receive().await.unwrap().unwrap();
            assert_eq!(of, id);
            (said, fds)
        };
        let of = |secret: &str| What::Use {
            secret: secret.parse().unwrap(),
            method: "GET".into(),
            path_sha256: Sha256([0; 32]),
        };
        for (id, secret) in [(1, "prod/others"), (2, "prod/nobodys"), (3, "prod/api")] {
            // The last is its own, and there is no connection yet to send it on.
            assert!(matches!(ask(id, of(secret)).await.0, Said::Denied(_)), "{secret}");
        }
        assert!(world.vault.asked.lock().unwrap().is_empty());
        let (said, fds) = ask(4, What::Open).await;
        assert!(matches!(said, Said::Opened) && fds.len() == 1);
        assert!(matches!(ask(5, of("prod/others")).await.0, Said::Denied(_)));
        let (said, fds) = ask(6, of("prod/api")).await;
        assert!(matches!(said, Said::Given { bytes } if bytes == SECRET.len() as u64) && fds.len() == 1);
        // What it says of another's request changes nothing, and a word that there is not ends the connection.
        control
            .send(&Ask { id: 0, what: What::Became { of: 99, end: End::Answered(200) } }, &[])
            .await
            .unwrap();
        control.send(&json!({"id": 7, "what": {"open": {"host": "evil.org"}}}), &[]).await.unwrap();
        assert!(control.receive::<Answer>().await.is_ok_and(|end| end.is_none()));
        assert_eq!(*evil.lock().unwrap(), "");
        let asked = world.vault.asked.lock().unwrap().clone();
        assert!(asked.len() == 1 && asked[0].aid == world.aid && asked[0].host.as_str() == API, "{asked:?}");
        world.outcome(|v| v["why"] == "the request came to no answer").await;
    });
}

#[test]
fn a_worker_that_cannot_be_made_is_a_connection_that_ends() {
    alone(|world| async move {
        struct Nobody;
        impl Start for Nobody {
            fn start(&self, _: OwnedFd) -> std::io::Result<u64> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn end(&self, _: u64) {}
        }
        let vet = Vet { allow: vec!["11.0.0.0/8".parse().unwrap()] };
        let gate = gate_of(&world.ledger, &world.outside, &world.vault, vet, Box::new(Nobody), "");
        let world = World { gate: Arc::new(gate), ..world };
        let (heard, authority) = with_api(&world).await;
        let answer = super::inject::ask(&world, &authority, &get("/", "")).await;
        assert!(answer.is_err() && heard.lock().unwrap().is_empty(), "{answer:?}");
    });
}
