//! The whole gate between two networks of its own: the agent's, where the addresses that stand for names are on its
//! loopback, and one for the gate and all hosts. Needs root, as every test does that makes a namespace.

mod attacks;
mod database;
mod http;
mod http2;
mod inject;
mod through;
mod worker;

use crate::authority::{Authority, sealed};
use crate::book::Book;
use crate::doors::{self, Listener};
use crate::gate::{Client, Gate};
use crate::secrets::{Secrets, Value as SecretValue, Wanted};
use crate::starter::Start;
use crate::workers::Workers;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use nix::sched::CloneFlags;
use octant_api::egress::{
    AdmitRequest, Admitted, Caps, Credential, Door, HostLease, Login, NAMES_V4, NAMES_V6,
};
use octant_ids::{Aid, Sha256};
use octant_manifest::HostName;
use octant_outside::Resolve;
use octant_outside::Vet;
use octant_sys::netlink;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// What was put on record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Intent(u64, Value),
    Outcome(u64, Value),
    Denied(Value),
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) lines: Mutex<Vec<Line>>,
    next: AtomicU64,
    pub(super) broken: AtomicBool,
}

impl Book for Arc<Ledger> {
    fn intent(
        &self,
        _: Aid,
        payload: Value,
    ) -> Pin<Box<dyn Future<Output = Result<u64, String>> + Send + '_>> {
        Box::pin(async move {
            if self.broken.load(Ordering::Relaxed) {
                return Err("the ledger is broken".to_owned());
            }
            let seq = self.next.fetch_add(1, Ordering::Relaxed) + 1;
            self.lines.lock().unwrap().push(Line::Intent(seq, payload));
            Ok(seq)
        })
    }

    fn outcome(&self, _: Aid, intent: u64, payload: &Value) {
        self.lines.lock().unwrap().push(Line::Outcome(intent, payload.clone()));
    }

    fn denied(&self, _: Aid, payload: &Value) {
        self.lines.lock().unwrap().push(Line::Denied(payload.clone()));
    }

    fn hurry(&self) {}
}

/// Names outside.
#[derive(Debug, Default)]
pub(super) struct Outside {
    names: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    pub(super) asked: AtomicU64,
}

impl Resolve for Outside {
    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.names.lock().unwrap().get(host.as_str()).cloned().ok_or_else(|| "no such name".to_owned())
        })
    }
}

/// A vault in which every secret of a name has a value.
#[derive(Debug, Default)]
pub(super) struct Vault {
    pub(super) values: Mutex<BTreeMap<String, String>>,
    pub(super) asked: Mutex<Vec<Wanted>>,
}

impl Secrets for Arc<Vault> {
    fn open(&self, wanted: Wanted) -> Pin<Box<dyn Future<Output = Result<SecretValue, String>> + Send + '_>> {
        Box::pin(async move {
            let value = self.values.lock().unwrap().get(wanted.secret.as_str()).cloned();
            self.asked.lock().unwrap().push(wanted);
            let value = value.ok_or_else(|| "it was not granted".to_owned())?;
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(value.as_bytes()).unwrap();
            Ok(SecretValue { fd: reader.into(), bytes: value.len() as u64 })
        })
    }
}

/// The variable that says to a copy of this program that it is a worker.
const AS_WORKER: &str = "OCTANT_TEST_WORKER";

/// Workers that are copies of this program, each of which runs that test and nothing else.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) all: Mutex<Vec<Child>>,
}

impl Start for Arc<Copies> {
    fn start(&self, socket: OwnedFd) -> std::io::Result<u64> {
        let (this, name) = (std::env::current_exe()?, "tests::a_worker_ends_with_the_socket_of_its_gate");
        let child = Command::new(this)
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(AS_WORKER, "1")
            .stdin(socket)
            .stdout(Stdio::null())
            .spawn()?;
        let mut all = self.all.lock().unwrap();
        all.push(child);
        Ok(all.len() as u64 - 1)
    }

    fn end(&self, number: u64) {
        let child = &mut self.all.lock().unwrap()[usize::try_from(number).unwrap()];
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// It runs as the test, and in processes that [`Copies`] start as their worker, whose socket is in place of standard input.
#[test]
fn a_worker_ends_with_the_socket_of_its_gate() {
    if std::env::var_os(AS_WORKER).is_some() {
        return crate::worker::run(std::io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    }
    let copies = Arc::<Copies>::default();
    let (ours, theirs) = crate::packets::pair().unwrap();
    copies.start(theirs).unwrap();
    let mut worker = copies.all.lock().unwrap().remove(0);
    assert!(worker.try_wait().unwrap().is_none(), "it waits for its gate");
    drop(ours);
    assert!(worker.wait().unwrap().success());
}

/// The authority that hosts outside have their certificates from.
pub(super) fn authority() -> (Arc<Issuer<'static, KeyPair>>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let roots = params.self_signed(&key).unwrap().pem();
    (Arc::new(Issuer::new(params, key)), roots)
}

/// A gate with one agent, and hosts.
pub(super) struct World {
    pub(super) gate: Arc<Gate>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) outside: Arc<Outside>,
    pub(super) vault: Arc<Vault>,
    pub(super) copies: Arc<Copies>,
    pub(super) issuer: Arc<Issuer<'static, KeyPair>>,
    pub(super) aid: Aid,
    pub(super) roots: String,
    generation: AtomicU64,
    networks: Networks,
}

/// The agent's network, and the one outside it in which the thread is.
#[derive(Debug)]
struct Networks {
    agents: File,
    outside: File,
}

fn unshared() -> File {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    netlink::loopback_up().unwrap();
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn agents() -> File {
    let agents = unshared();
    netlink::local_route(NAMES_V4.0.into(), NAMES_V4.1).unwrap();
    netlink::local_route(NAMES_V6.0.into(), NAMES_V6.1).unwrap();
    agents
}

impl Networks {
    fn new() -> Self {
        let agents = agents();
        let outside = unshared();
        // 11/8 are the hosts: as public as any.
        netlink::local_route("11.0.0.0".parse().unwrap(), 8).unwrap();
        Self { agents, outside }
    }

    /// The network of another agent, with the same outside.
    fn beside(&self) -> Self {
        let networks = Self { agents: agents(), outside: self.outside.try_clone().unwrap() };
        nix::sched::setns(&networks.outside, CloneFlags::CLONE_NEWNET).unwrap();
        networks
    }

    /// Makes a socket in the agent's network, where it then stays.
    fn inside<T>(&self, make: impl FnOnce() -> T) -> T {
        nix::sched::setns(&self.agents, CloneFlags::CLONE_NEWNET).unwrap();
        let made = make();
        nix::sched::setns(&self.outside, CloneFlags::CLONE_NEWNET).unwrap();
        made
    }
}

pub(super) const FREE: Caps = Caps { connections: 16, bytes: None, bytes_per_second: None, drawn: false };

/// Runs a test in a network of its own.
pub(super) fn alone<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let networks = Networks::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(World::new(networks)).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(super) fn lease(id: &str, host: &str, for_ms: u64) -> HostLease {
    HostLease {
        id: id.into(),
        host: host.into(),
        until_ms: crate::gate::now_ms() + for_ms,
        bytes: None,
        connections: None,
        reason: "a test".into(),
        by: "operator:0".into(),
    }
}

pub(super) fn gate_of(
    ledger: &Arc<Ledger>,
    outside: &Arc<Outside>,
    vault: &Arc<Vault>,
    vet: Vet,
    start: Box<dyn Start>,
    roots: &str,
) -> Gate {
    let workers = Workers::new(start, sealed(roots.as_bytes()).unwrap());
    let (ledger, outside, vault) = (Arc::clone(ledger), Arc::clone(outside), Arc::clone(vault));
    Gate::new(Box::new(ledger), Box::new(outside), vet, Box::new(vault), workers, 20_000)
}

impl World {
    fn new(networks: Networks) -> Self {
        let (ledger, outside) = (Arc::<Ledger>::default(), Arc::<Outside>::default());
        let vet = Vet { allow: vec!["11.0.0.0/8".parse().unwrap()] };
        let (vault, (issuer, roots)) = (Arc::<Vault>::default(), authority());
        let copies = Arc::<Copies>::default();
        let gate = gate_of(&ledger, &outside, &vault, vet, Box::new(Arc::clone(&copies)), &roots);
        Self {
            vault,
            copies,
            issuer,
            gate: Arc::new(gate),
            roots,
            ledger,
            outside,
            aid: Aid::from_bytes([5; 16]),
            generation: AtomicU64::new(1),
            networks,
        }
    }

    /// Another agent at the same gate.
    pub(super) fn beside(&self) -> Self {
        Self {
            gate: Arc::clone(&self.gate),
            ledger: Arc::clone(&self.ledger),
            outside: Arc::clone(&self.outside),
            vault: Arc::clone(&self.vault),
            copies: Arc::clone(&self.copies),
            issuer: Arc::clone(&self.issuer),
            roots: self.roots.clone(),
            aid: Aid::from_bytes([6; 16]),
            generation: AtomicU64::new(1),
            networks: self.networks.beside(),
        }
    }

    /// Says what the agent may reach, and listens where that needs it.
    pub(super) async fn admit(&self, hosts: &[&str], leases: &[HostLease], caps: Caps) -> u64 {
        self.admit_with(hosts, leases, caps, &[]).await.cut
    }

    /// The same, with secrets that are used for it.
    pub(super) async fn admit_with(
        &self,
        hosts: &[&str],
        leases: &[HostLease],
        caps: Caps,
        credentials: &[Credential],
    ) -> Admitted {
        self.admit_all(hosts, leases, caps, credentials, None)
    }

    /// The same, with an authority that an earlier gate made.
    pub(super) async fn admit_kept(
        &self,
        hosts: &[&str],
        credentials: &[Credential],
        kept: Option<Authority>,
    ) -> Admitted {
        self.admit_all(hosts, &[], FREE, credentials, kept)
    }

    /// The same, with databases that it is logged in to.
    pub(super) fn admit_logins(&self, hosts: &[&str], logins: &[Login]) -> Admitted {
        self.admit_asked(AdmitRequest { logins: logins.to_vec(), ..self.asks(hosts, &[], FREE, &[]) }, None)
    }

    fn asks(
        &self,
        hosts: &[&str],
        leases: &[HostLease],
        caps: Caps,
        credentials: &[Credential],
    ) -> AdmitRequest {
        AdmitRequest {
            aid: self.aid,
            generation: self.generation.fetch_add(1, Ordering::Relaxed),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            leases: leases.to_vec(),
            credentials: credentials.to_vec(),
            logins: Vec::new(),
            manifest: Some(Sha256([3; 32])),
            caps,
        }
    }

    fn admit_all(
        &self,
        hosts: &[&str],
        leases: &[HostLease],
        caps: Caps,
        credentials: &[Credential],
        kept: Option<Authority>,
    ) -> Admitted {
        self.admit_asked(self.asks(hosts, leases, caps, credentials), kept)
    }

    fn admit_asked(&self, asked: AdmitRequest, kept: Option<Authority>) -> Admitted {
        let admitted = self.gate.admit(&asked, kept);
        let admitted = admitted.unwrap();
        for door in &admitted.missing {
            self.listen(*door);
        }
        admitted
    }

    fn listen(&self, door: Door) {
        let (ip, port) = door.place();
        let at = SocketAddr::new(ip.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
        let fd: OwnedFd = self.networks.inside(|| match door {
            Door::Dns => std::net::UdpSocket::bind(at).unwrap().into(),
            _ => std::net::TcpListener::bind(at).unwrap().into(),
        });
        let listener = Listener::new(fd, door).unwrap();
        let client = self.client();
        let serving = doors::serve(Arc::clone(&self.gate), Arc::clone(&client), door, listener);
        self.gate.open_door(&client, door, tokio::spawn(serving).abort_handle());
    }

    pub(super) fn client(&self) -> Arc<Client> {
        self.gate.client(self.aid).unwrap()
    }

    /// Has a name lead to an address.
    pub(super) fn name(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.outside.names.lock().unwrap().insert(host.to_owned(), addresses);
    }

    /// A host at an address that sends back what it hears; how many have connected.
    pub(super) async fn echo(&self, at: &str) -> Arc<AtomicU64> {
        let listener = TcpListener::bind(at).await.unwrap();
        let count = Arc::<AtomicU64>::default();
        let counting = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counting.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        count
    }

    /// What a program does: asks for the name, and connects to what it is told.
    pub(super) async fn connect(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let address =
            self.ask(host, RecordType::A).await.map_err(|code| std::io::Error::other(code.to_string()))?;
        self.dial(SocketAddr::new(address, port)).await
    }

    /// Connects from the agent's network.
    pub(super) async fn dial(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let socket =
            self.networks.inside(|| if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
        socket?.connect(to).await
    }

    /// A datagram socket in the agent's network.
    pub(super) fn datagrams(&self) -> UdpSocket {
        let socket = self.networks.inside(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_nonblocking(true).unwrap();
        UdpSocket::from_std(socket).unwrap()
    }

    pub(super) async fn ask(&self, host: &str, kind: RecordType) -> Result<IpAddr, ResponseCode> {
        let socket = self.datagrams();
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_str(host).unwrap(), kind));
        socket.send_to(&message.to_vec().unwrap(), "127.0.0.53:53").await.unwrap();
        let mut buffer = [0; 1024];
        let (count, _) = socket.recv_from(&mut buffer).await.unwrap();
        let reply = Message::from_vec(&buffer[..count]).unwrap();
        match reply.answers.first().map(|answer| &answer.data) {
            Some(RData::A(a)) => Ok(a.0.into()),
            Some(RData::AAAA(a)) => Ok(a.0.into()),
            _ => Err(reply.metadata.response_code),
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.ledger.lines.lock().unwrap().clone()
    }

    /// Waits for an outcome that says this.
    pub(super) async fn outcome(&self, of: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let found = self.lines().into_iter().find_map(|line| match line {
                Line::Outcome(_, value) if of(&value) => Some(value),
                _ => None,
            });
            if let Some(value) = found {
                return value;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no such outcome: {:?}", self.lines());
    }

    /// The reasons of what was denied.
    pub(super) fn denied(&self) -> Vec<String> {
        let lines = self.lines().into_iter();
        lines
            .filter_map(|line| {
                if let Line::Denied(v) = line { v["denied"].as_str().map(str::to_owned) } else { None }
            })
            .collect()
    }
}

/// Sends bytes, and gives what comes back until so many are there or the end.
pub(super) async fn say(stream: &mut TcpStream, bytes: &[u8], back: usize) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; back];
    let mut at = 0;
    while at < back {
        match stream.read(&mut answer[at..]).await? {
            0 => break,
            count => at += count,
        }
    }
    answer.truncate(at);
    Ok(answer)
}
