//! The gate: which agents there are, and the way from an accepted socket to a connection outside.
//!
//! Every way out ends in [`Gate::pass`]: one decision, one record before the first byte, one look at the address, and one
//! record at the end.

use crate::authority::{Authority, NoAuthority};
use crate::book::Book;
use crate::core::{Allowed, BadWord, Denied, Purpose, Rights, Rule};
use crate::flow::{End, Flow, Meter};
use crate::names::{Names, is_ours};
use crate::purse::Purse;
use crate::secrets::{Secrets, Value as SecretValue, Wanted};
use crate::workers::{Worker, Workers};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use octant_api::agents::Amounts;
use octant_api::egress::{
    AdmitRequest, Admitted, AtGate, Door, Draw, LeaseState, Open, PORTS_MAX, Preview, Usage,
};
use octant_ids::{Aid, SecretName};
use octant_manifest::HostName;
use octant_outside::{Resolve, Vet};
use octant_sys::clock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const ADDRESSES_MAX: usize = 4;
/// How many open connections are listed.
const LISTED_MAX: usize = 100;
/// How many connections all agents have open together, where the machine lets the gate open so many descriptors.
const OPEN_MAX: u64 = 16_000;

/// How many that is of so many descriptors: each connection has two, and an eighth is for listeners, names and services.
fn most_open(descriptors: u64) -> u64 {
    ((descriptors - descriptors / 8) / 2).min(OPEN_MAX)
}

/// Whether there is a place for one connection more: among the agent's own, and among those of all agents. Each is what is
/// open and how many may be.
fn has_place((own, most): (u64, u64), (all, most_open): (u64, u64)) -> Result<(), Denied> {
    if own >= most {
        return Err(Denied::Connections(most));
    }
    if all >= most_open { Err(Denied::Full(most_open)) } else { Ok(()) }
}

/// Has urgent data of TCP stand in line with the rest (RFC 6093, section 6). Elsewhere splice(2) would stand still before it,
/// and take it for the end once the other side has closed.
pub(crate) fn in_line(stream: &TcpStream) {
    if let Err(error) = setsockopt(stream, sockopt::OobInline, &true) {
        tracing::debug!("urgent data is not passed on: {error}");
    }
}

/// A name that no registry ever gives (RFC 6761).
const NOBODYS: &str = "nobody.octant.invalid";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn now_ms() -> u64 {
    clock::boottime_ns() / 1_000_000
}

/// The gate, for all agents.
pub(crate) struct Gate {
    book: Box<dyn Book>,
    resolve: Box<dyn Resolve>,
    vet: Vet,
    secrets: Box<dyn Secrets>,
    pub(crate) workers: Workers,
    clients: Mutex<BTreeMap<Aid, Arc<Client>>>,
    /// How many connections all agents have open together.
    open: Arc<AtomicU64>,
    /// How many can be.
    most_open: u64,
    /// Told when something is to be drawn from a budget.
    pub(crate) drawing: Arc<Notify>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("vet", &self.vet)
            .field("agents", &lock(&self.clients).len())
            .finish_non_exhaustive()
    }
}

/// One agent at the gate.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) aid: Aid,
    pub(crate) names: Mutex<Names>,
    rights: watch::Sender<Arc<Rights>>,
    meter: Arc<Meter>,
    denials: Mutex<octant_service::Denials>,
    /// Vouches for its worker where a secret is used for it.
    authority: Option<Authority>,
    /// Reads its requests there; made when there is one.
    worker: Mutex<Option<Arc<Worker>>>,
    /// Held by who makes one.
    pub(crate) making: tokio::sync::Mutex<()>,
    doors: Mutex<BTreeMap<Door, AbortHandle>>,
    open: Mutex<BTreeMap<u64, Showing>>,
}

/// An open connection, for who looks.
#[derive(Debug)]
struct Showing {
    host: String,
    port: u16,
    flow: Arc<Flow>,
}

/// A place among the connections that an agent has open.
#[derive(Debug)]
pub(crate) struct Place(Arc<Client>, Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.meter.open.fetch_sub(1, Ordering::Relaxed);
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NotPassed {
    /// It is not allowed.
    Denied(Denied),
    /// It is allowed, and did not come about.
    Failed(String),
}

impl From<Denied> for NotPassed {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// A connection to a host. What became of it is recorded when this is dropped, whatever ended it.
pub(crate) struct Passage {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) flow: Arc<Flow>,
    gate: Arc<Gate>,
    client: Arc<Client>,
    pub(crate) intent: u64,
    address: Option<SocketAddr>,
    since_ns: u64,
    end: Mutex<Option<String>>,
}

impl Passage {
    /// Says how it ended; the first word counts.
    pub(crate) fn ended(&self, end: impl Into<String>) {
        lock(&self.end).get_or_insert_with(|| end.into());
    }

    /// As [`Self::ended`].
    pub(crate) fn ended_by(&self, end: &End) {
        match end {
            End::Closed => self.ended("closed"),
            End::Failed(error) => self.ended(format!("failed: {error}")),
            End::Cut(why) => self.ended(format!("cut: {why}")),
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        lock(&self.client.open).remove(&self.intent);
        let end = lock(&self.end).take().unwrap_or_else(|| "cut: the agent or the gate ended".to_owned());
        let ms = clock::monotonic_ns().saturating_sub(self.since_ns) / 1_000_000;
        let payload = json!({
            "done": self.address.is_some(),
            "end": end,
            "address": self.address,
            "bytes_out": self.flow.bytes_out.load(Ordering::Relaxed),
            "bytes_in": self.flow.bytes_in.load(Ordering::Relaxed),
            "ms": ms,
        });
        self.gate.outcome(self.client.aid, self.intent, &payload);
    }
}

/// What a secret is used for, and where.
#[derive(Debug)]
pub(crate) struct UsedFor<'a> {
    pub(crate) host: &'a HostName,
    pub(crate) port: u16,
    pub(crate) purpose: &'a Purpose,
    /// The ledger entry of the connection.
    pub(crate) connection: u64,
}

/// A secret in use. What became of it is recorded when this is dropped.
pub(crate) struct SecretUse {
    gate: Arc<Gate>,
    aid: Aid,
    intent: u64,
    became: Option<Value>,
}

impl SecretUse {
    /// Says what became of it.
    pub(crate) fn became(&mut self, what: Value) {
        self.became = Some(what);
    }
}

impl Drop for SecretUse {
    fn drop(&mut self) {
        let unknown = || json!({"done": false, "why": "the request came to no answer"});
        let became = self.became.take().unwrap_or_else(unknown);
        self.gate.outcome(self.aid, self.intent, &became);
    }
}

/// Why a word of `agents` is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error(transparent)]
    Bad(#[from] BadWord),
    #[error("{0} ports are more than {PORTS_MAX}")]
    Ports(usize),
    #[error(transparent)]
    Authority(#[from] NoAuthority),
    #[error("generation {0} is not newer than {1}, which is in force")]
    Old(u64, u64),
}

impl Client {
    /// What it may reach right now.
    pub(crate) fn rights(&self) -> Arc<Rights> {
        Arc::clone(&self.rights.borrow())
    }

    /// Takes a request out of its budget, where it has one.
    pub(crate) async fn take_request(&self) -> Result<(), Denied> {
        match &self.meter.purse {
            Some(purse) => purse.take_request().await,
            None => Ok(()),
        }
    }

    /// Takes what `agents` says of its budgets.
    pub(crate) fn fund(&self, limit: Amounts) {
        if let Some(purse) = &self.meter.purse {
            purse.fund(limit);
        }
    }

    /// Whether a connection to a host may be made.
    pub(crate) fn decide(&self, host: &HostName, port: u16) -> Result<Allowed, Denied> {
        self.rights().decide(host, port, now_ms())
    }

    /// The authority that its programs trust.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The worker that it has now.
    pub(crate) fn worker(&self) -> Option<Arc<Worker>> {
        lock(&self.worker).clone()
    }

    /// Has this worker from here on.
    pub(crate) fn has_worker(&self, worker: Worker) -> Arc<Worker> {
        let worker = Arc::new(worker);
        *lock(&self.worker) = Some(Arc::clone(&worker));
        worker
    }

    /// Ends its worker, and with it every connection that the worker has.
    fn end_worker(&self) {
        if let Some(worker) = lock(&self.worker).take() {
            worker.end();
        }
    }

    fn usage(&self) -> Usage {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            connections: of(&self.meter.used.connections),
            denied: of(&self.meter.denied),
            bytes_out: of(&self.meter.bytes_out),
            bytes_in: of(&self.meter.bytes_in),
        }
    }

    fn show(&self) -> AtGate {
        let (rights, now_ms) = (self.rights(), now_ms());
        let lease = |lease: &crate::core::Lease| LeaseState {
            lease: lease.said.clone(),
            left_ms: lease.said.until_ms.saturating_sub(now_ms),
            bytes: lease.used.bytes.load(Ordering::Relaxed),
            connections: lease.used.connections.load(Ordering::Relaxed),
        };
        let open = lock(&self.open);
        let row = |(intent, showing): (&u64, &Showing)| Open {
            host: showing.host.clone(),
            port: showing.port,
            rule: showing.flow.rule.to_string(),
            intent: *intent,
            bytes_out: showing.flow.bytes_out.load(Ordering::Relaxed),
            bytes_in: showing.flow.bytes_in.load(Ordering::Relaxed),
        };
        AtGate {
            aid: self.aid,
            generation: rights.generation,
            hosts: rights.grants.iter().map(ToString::to_string).collect(),
            leases: rights.leases.iter().map(lease).collect(),
            caps: rights.caps,
            doors: lock(&self.doors).keys().copied().collect(),
            open: open.iter().take(LISTED_MAX).map(row).collect(),
            open_count: open.len() as u64,
            usage: self.usage(),
        }
    }
}

impl Gate {
    pub(crate) fn new(
        book: Box<dyn Book>,
        resolve: Box<dyn Resolve>,
        vet: Vet,
        secrets: Box<dyn Secrets>,
        workers: Workers,
    ) -> Self {
        Self {
            book,
            resolve,
            vet,
            secrets,
            workers,
            clients: Mutex::default(),
            open: Arc::default(),
            // Where it cannot be asked there is the least that any system gives.
            most_open: most_open(getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft)),
            drawing: Arc::default(),
        }
    }

    /// Puts a word of `agents` in force.
    pub(crate) fn admit(
        &self,
        asked: &AdmitRequest,
        kept: Option<Authority>,
    ) -> Result<Admitted, NotAdmitted> {
        let mut clients = lock(&self.clients);
        let before = clients.get(&asked.aid).map(|client| client.rights());
        let used = |id: &str| {
            let leases = before.as_ref()?.leases.iter();
            leases.clone().find(|lease| lease.said.id == id).map(|lease| Arc::clone(&lease.used))
        };
        let rights = Rights::read(asked.generation, &asked.hosts, &asked.leases, asked.caps, used)?.using(
            &asked.credentials,
            &asked.logins,
            asked.manifest,
        )?;
        let ports = rights.ports();
        if ports.len() > PORTS_MAX {
            return Err(NotAdmitted::Ports(ports.len()));
        }
        let shared = [Door::Dns, Door::DnsTcp, Door::Proxy, Door::Socks];
        let mut wanted: BTreeSet<Door> =
            shared.into_iter().chain(ports.into_iter().map(Door::Port)).collect();
        let Some(client) = clients.get(&asked.aid) else {
            let hosts = rights.vouched();
            // The one of an earlier run of the gate is what running programs trust.
            let authority = match kept.filter(|kept| kept.is_for(hosts.iter())) {
                _ if hosts.is_empty() => None,
                Some(kept) => Some(kept),
                None => Some(Authority::new(hosts.iter())?),
            };
            let pem = authority.as_ref().map(|authority| authority.pem().to_owned());
            let purse = asked.caps.drawn.then(|| Purse::new(asked.aid, Arc::clone(&self.drawing)));
            let client = Client {
                aid: asked.aid,
                authority,
                worker: Mutex::default(),
                making: tokio::sync::Mutex::default(),
                names: Mutex::new(Names::new(asked.aid)),
                rights: watch::Sender::new(Arc::new(rights)),
                meter: Arc::new(Meter::new(purse)),
                denials: Mutex::default(),
                doors: Mutex::default(),
                open: Mutex::default(),
            };
            clients.insert(asked.aid, Arc::new(client));
            return Ok(Admitted { cut: 0, missing: wanted.into_iter().collect(), authority: pem });
        };
        let is = client.rights().generation;
        if asked.generation < is {
            return Err(NotAdmitted::Old(asked.generation, is));
        }
        let now_ms = now_ms();
        let cut =
            lock(&client.open).values().filter(|open| rights.still(&open.flow.rule, now_ms).is_err()).count();
        client.rights.send_replace(Arc::new(rights));
        let mut doors = lock(&client.doors);
        // A port that no rule names any more is a port that nothing listens on.
        doors.retain(|door, serving| {
            let stays = wanted.remove(door);
            if !stays {
                serving.abort();
            }
            stays
        });
        let authority = client.authority().map(|authority| authority.pem().to_owned());
        Ok(Admitted { cut: cut as u64, missing: wanted.into_iter().collect(), authority })
    }

    /// Cuts everything of an agent, and says what it used, and what of that was drawn from its budgets.
    pub(crate) fn dismiss(&self, aid: Aid) -> (Usage, Option<Amounts>) {
        let Some(client) = lock(&self.clients).remove(&aid) else { return (Usage::default(), None) };
        let drawn = client.meter.purse.as_ref().map(Purse::close);
        // What has no rule is cut; what waits for a first byte finds nothing either.
        let none = Rights {
            grants: Vec::new(),
            leases: Vec::new(),
            credentials: Vec::new(),
            logins: Vec::new(),
            ..(*client.rights()).clone()
        };
        client.rights.send_replace(Arc::new(none));
        client.end_worker();
        for door in std::mem::take(&mut *lock(&client.doors)).into_values() {
            door.abort();
        }
        self.tell_again(&client);
        self.book.hurry();
        (client.usage(), drawn)
    }

    pub(crate) fn client(&self, aid: Aid) -> Option<Arc<Client>> {
        lock(&self.clients).get(&aid).cloned()
    }

    fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.clients).values().cloned().collect()
    }

    /// What is to be drawn from budgets, with the number of each question.
    pub(crate) fn questions(&self) -> Vec<(u64, Draw)> {
        let clients = self.all();
        clients.iter().filter_map(|client| client.meter.purse.as_ref()?.question()).collect()
    }

    /// Every agent, or one.
    pub(crate) fn list(&self, only: Option<Aid>) -> Vec<AtGate> {
        let wanted = |client: &&Arc<Client>| only.is_none_or(|aid| aid == client.aid);
        self.all().iter().filter(wanted).map(|client| client.show()).collect()
    }

    /// How many agents and how many open connections there are.
    pub(crate) fn count(&self) -> (usize, u64) {
        (lock(&self.clients).len(), self.open.load(Ordering::Relaxed))
    }

    /// What is listened on for an agent.
    pub(crate) fn doors(&self, client: &Client) -> Vec<Door> {
        lock(&client.doors).keys().copied().collect()
    }

    /// Whether a name that nobody was granted is denied to everybody.
    pub(crate) fn probe(&self) -> Result<(), String> {
        let nobodys: HostName = NOBODYS.parse().map_err(|error| format!("{NOBODYS}: {error}"))?;
        for client in self.all() {
            let named = client.rights().names(&nobodys, now_ms());
            if let (false, Ok(allowed)) = (named, client.decide(&nobodys, 443)) {
                return Err(format!(
                    "{} would reach {NOBODYS}, which no grant names: {allowed:?}",
                    client.aid
                ));
            }
        }
        Ok(())
    }

    /// Serves a listener of an agent from here on, in place of one for the same.
    pub(crate) fn open_door(&self, client: &Client, door: Door, serving: AbortHandle) {
        if let Some(before) = lock(&client.doors).insert(door, serving) {
            before.abort();
        }
    }

    /// Records what was denied more than once since the last time.
    pub(crate) fn tell_all_again(&self) {
        for client in self.all() {
            self.tell_again(&client);
        }
    }

    /// Records what became of an intent.
    fn outcome(&self, aid: Aid, intent: u64, payload: &Value) {
        self.book.outcome(aid, intent, payload);
        if self.client(aid).is_none() {
            // The agent has ended, and its partition is sealed soon.
            self.book.hurry();
        }
    }

    fn tell_again(&self, client: &Client) {
        let again = lock(&client.denials).again();
        if !again.is_empty() {
            self.book.denied(client.aid, &json!({ "do": "connect", "denied": "again", "times": again }));
        }
    }

    /// Records a denial.
    pub(crate) fn denied(&self, client: &Client, to: &str, port: u16, why: &Denied) {
        client.meter.denied.fetch_add(1, Ordering::Relaxed);
        let to: String = to.chars().take(255).collect();
        if lock(&client.denials).add(format!("{to}:{port}: {why}")) {
            let mut payload = json!({
                "do": "connect", "denied": why.to_string(), "host": to, "port": port, "next": why.next(client.aid, &to, port),
                "field": why.field(),
            });
            if matches!(why, Denied::Canary(_)) {
                payload["canary"] = json!(true);
            }
            self.book.denied(client.aid, &payload);
        }
    }

    /// Takes one of the places for connections; every accepted socket has one, whatever comes of it.
    pub(crate) fn place(&self, client: &Arc<Client>) -> Result<Place, Denied> {
        let most = client.rights().caps.connections;
        let all = self.open.fetch_add(1, Ordering::Relaxed);
        let before = client.meter.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(client), Arc::clone(&self.open));
        has_place((before, most), (all, self.most_open))?;
        Ok(place)
    }

    /// The name that a program means by what it says: a name, or an address that stands for one.
    pub(crate) fn host(&self, client: &Client, said: &str) -> Result<HostName, Denied> {
        let bare = said.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(said);
        match bare.parse::<IpAddr>() {
            Ok(address) => self.host_of(client, address),
            Err(_) => said.parse().map_err(Denied::BadName),
        }
    }

    /// The name that an address stands for.
    pub(crate) fn host_of(&self, client: &Client, address: IpAddr) -> Result<HostName, Denied> {
        match lock(&client.names).name(address) {
            Some(host) => Ok(host.clone()),
            None if is_ours(address) => Err(Denied::NoName(address)),
            None => Err(Denied::Address),
        }
    }

    /// What would be decided, without doing anything.
    pub(crate) fn preview(&self, client: &Client, host: &str, port: u16) -> Preview {
        let decided = self.host(client, host).and_then(|host| client.decide(&host, port).map(|a| (host, a)));
        match decided {
            Ok((host, allowed)) => Preview {
                allowed: true,
                host: host.to_string(),
                port,
                rule: allowed.any().map(ToString::to_string).unwrap_or_default(),
                why: String::new(),
                next: String::new(),
            },
            Err(why) => Preview {
                allowed: false,
                host: host.to_owned(),
                port,
                rule: String::new(),
                why: why.to_string(),
                next: why.next(client.aid, host, port),
            },
        }
    }

    /// Makes a connection that a rule allows: on record before anything is asked for or sent, to an address that was
    /// looked at and to no other.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        client: &Arc<Client>,
        host: &HostName,
        port: u16,
        protocol: &'static str,
        rule: &Rule,
    ) -> Result<Passage, NotPassed> {
        let rights = client.rights();
        // The program may have taken its time since it was decided.
        rights.still(rule, now_ms())?;
        if let Some(lease) = rights.lease(rule)
            && !lease.used.take_connection(lease.said.connections)
        {
            return Err(Denied::LeaseConnections(lease.said.id.clone()).into());
        }
        client.take_request().await?;
        let payload: Value = json!({
            "do": "connect", "host": host.as_str(), "port": port, "protocol": protocol,
            "rule": rule.to_string(), "generation": rights.generation,
        });
        // Meanwhile what is known of the host is looked at, which nobody outside notices.
        let ready = async { self.resolve.known(host).map(|found| self.vetted(host, found)) };
        let (intent, vetted) = tokio::join!(self.book.intent(client.aid, payload), ready);
        let intent = intent.map_err(NotPassed::Failed)?;
        client.meter.used.connections.fetch_add(1, Ordering::Relaxed);
        let flow = Arc::new(Flow {
            rule: rule.clone(),
            meter: Arc::clone(&client.meter),
            rights: client.rights.subscribe(),
            bytes_out: Default::default(),
            bytes_in: Default::default(),
        });
        let showing = Showing { host: host.to_string(), port, flow: Arc::clone(&flow) };
        lock(&client.open).insert(intent, showing);
        let mut passage = Passage {
            stream: None,
            flow,
            gate: Arc::clone(self),
            client: Arc::clone(client),
            intent,
            address: None,
            since_ns: clock::monotonic_ns(),
            end: Mutex::default(),
        };
        let connected = tokio::select! {
            biased;
            why = passage.flow.cut() => Err(NotPassed::Denied(why)),
            connected = self.reach(host, port, vetted) => connected,
        };
        match connected {
            Ok((stream, address)) => {
                (passage.stream, passage.address) = (Some(stream), Some(address));
                Ok(passage)
            }
            Err(not) => {
                match &not {
                    NotPassed::Denied(why) => passage.ended(format!("denied: {why}")),
                    NotPassed::Failed(why) => passage.ended(format!("failed: {why}")),
                }
                Err(not)
            }
        }
    }

    /// Takes a secret for one request or login: on record before the vault is asked.
    pub(crate) async fn use_secret(
        self: &Arc<Self>,
        client: &Arc<Client>,
        secret: &SecretName,
        request: &UsedFor<'_>,
    ) -> Result<(SecretUse, SecretValue), NotPassed> {
        let UsedFor { host, port, purpose, connection } = request;
        let mut what = json!({
            "do": "use a secret", "secret": secret, "host": host.as_str(), "port": port, "connection": connection,
        });
        match purpose {
            Purpose::Request { method, path_sha256 } => {
                (what["method"], what["path_sha256"]) = (json!(method), json!(path_sha256));
            }
            Purpose::Login { user, database } => {
                (what["user"], what["database"]) = (json!(user), json!(database));
            }
        }
        let intent = self.book.intent(client.aid, what).await.map_err(NotPassed::Failed)?;
        let mut used = SecretUse { gate: Arc::clone(self), aid: client.aid, intent, became: None };
        let rights = client.rights();
        let wanted = Wanted {
            aid: client.aid,
            manifest: rights.manifest,
            secret: secret.clone(),
            host: (*host).clone(),
        };
        match self.secrets.open(wanted).await {
            Ok(value) => Ok((used, value)),
            Err(why) => {
                used.became(json!({"done": false, "why": why}));
                Err(Denied::NoSecret { secret: secret.to_string(), host: host.to_string(), why }.into())
            }
        }
    }

    /// Those of a host's addresses that may be connected to.
    fn vetted(&self, host: &HostName, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Denied> {
        self.vet.good(found).map_err(|why| Denied::Refused(host.to_string(), why))
    }

    /// Connects to a host, at the addresses that were looked at already, or that are asked for now.
    async fn reach(
        &self,
        host: &HostName,
        port: u16,
        vetted: Option<Result<Vec<IpAddr>, Denied>>,
    ) -> Result<(TcpStream, SocketAddr), NotPassed> {
        let good = match vetted {
            Some(good) => good?,
            None => {
                let found = self.resolve.addresses(host).await;
                let failed = |why| NotPassed::Failed(format!("{host} has no address: {why}"));
                self.vetted(host, found.map_err(failed)?)?
            }
        };
        let mut last = String::new();
        for address in good.into_iter().take(ADDRESSES_MAX) {
            let to = SocketAddr::new(address, port);
            match tokio::time::timeout(CONNECT, TcpStream::connect(to)).await {
                Ok(Ok(stream)) => {
                    // What is small is not held back; a socket that cannot do that is no worse.
                    let _ = stream.set_nodelay(true);
                    in_line(&stream);
                    return Ok((stream, to));
                }
                Ok(Err(error)) => last = format!("{to}: {error}"),
                Err(_) => last = format!("{to}: no answer within {CONNECT:?}"),
            }
        }
        Err(NotPassed::Failed(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        for descriptors in [0, 1, 256, 1024, 20_000, 65_536, u64::MAX] {
            let most = most_open(descriptors);
            assert!(most <= OPEN_MAX && most.saturating_mul(2) <= descriptors, "{most} of {descriptors}");
        }
        assert_eq!((most_open(20_000), most_open(65_536)), (8_750, OPEN_MAX));
    }

    #[test]
    fn who_has_no_place_is_told_whose_places_are_taken() {
        assert_eq!(has_place((7, 8), (99, 100)), Ok(()));
        assert_eq!(has_place((8, 8), (99, 100)), Err(Denied::Connections(8)));
        // The agent's own come first: that is what it can do something about.
        assert_eq!(has_place((8, 8), (100, 100)), Err(Denied::Connections(8)));
        assert_eq!(has_place((7, 8), (100, 100)), Err(Denied::Full(100)));
    }
}
