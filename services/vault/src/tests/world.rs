//! A ledger in memory, a scratch directory, and the vault between them.

use crate::audit::Audit;
use crate::bytes::{Memory, pipe};
use crate::handlers::Methods;
use crate::machine::Facts;
use crate::store::Place;
use crate::vault::{Site, Vault, first_phase};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{
    AppendRequest, Appended, CheckpointInfo, CheckpointRequest, Entry, Head, HeadRequest, QueryPage,
    QueryRequest, Witnessed,
};
use octant_api::rpc::{Deadline, Need, Request};
use octant_api::vault::{self as api, NewSlot, SlotKind};
use octant_ids::{Principal, Sha256};
use octant_service::Records;
use octant_sys::clock;
use octant_wire::{Call, Client, Identity, Limits, Trigger, WireError, serve, shutdown};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UnixListener;

pub(super) const PASSPHRASE: &[u8] = b"correct horse battery";
pub(super) const BOOT: &str = "00112233445566778899aabbccddeeff";

/// A directory of one test.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        Self::below(std::env::temp_dir())
    }

    /// In memory where there is some: what is written is not waited for.
    pub(super) fn quick() -> Self {
        let memory = PathBuf::from("/dev/shm");
        Self::below(if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    fn below(parent: PathBuf) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("octant-vault-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("state")).unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

macro_rules! as_it_is {
    ($($name:ident($inner:ty)),+) => {$(
        /// The ledger's own parameters.
        #[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub(crate) struct $name($inner);
    )+};
}

as_it_is!(Append(AppendRequest), GetHead(HeadRequest), Query(QueryRequest), Checkpoint(CheckpointRequest));

mod part {
    use super::*;
    octant_api::rpc! {
        /// The part of the ledger that the vault uses.
        service "ledger" {
            /// As the ledger's.
            "append" => append, Append(Append) -> Appended,
                needs [Need::AnyService, Need::Operator], deadline Deadline::Ms(10_000);
            /// As the ledger's.
            "head" => head, GetHead(GetHead) -> Head,
                needs [Need::AnyService, Need::Operator], deadline Deadline::Ms(10_000);
            /// As the ledger's.
            "query" => query, Query(Query) -> QueryPage,
                needs [Need::AnyService, Need::Operator], deadline Deadline::Ms(10_000);
            /// As the ledger's.
            "checkpoint" => checkpoint, Checkpoint(Checkpoint) -> CheckpointInfo,
                needs [Need::AnyService, Need::Operator], deadline Deadline::Ms(10_000);
        }
    }
}

/// How the ledger behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    #[default]
    Good,
    Refuses,
    Hangs,
    /// As good as ever, but what says that this is done waits until the mood is another.
    Holds(&'static str),
}

/// A ledger that keeps what it is given.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: Mutex<Vec<AppendRequest>>,
    pub(super) mood: Mutex<Mood>,
}

impl Ledger {
    async fn behave(&self) -> Result<(), ApiError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Good | Mood::Holds(_) => Ok(()),
            Mood::Refuses => Err(ApiError::new(Code::Full, "append", "ledger", "it is full", "make room")),
            Mood::Hangs => std::future::pending().await,
        }
    }

    /// What is on record, as short texts: the kind, and what was done or became of it.
    pub(super) fn told(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let text = |entry: &AppendRequest| {
            let value: serde_json::Value = entry.payload.read().unwrap();
            let what = value["do"].as_str().unwrap_or_default().to_owned();
            let became = match (&value["denied"], &value["done"]) {
                (serde_json::Value::String(why), _) => format!(" denied: {why}"),
                (_, serde_json::Value::Bool(done)) => format!(" done={done}"),
                _ => String::new(),
            };
            format!("{} {what}{became}", entry.kind.as_str()).replace("  ", " ")
        };
        entries.iter().map(text).collect()
    }

    /// Everything on record as one text.
    pub(super) fn text(&self) -> String {
        let entries = self.entries.lock().unwrap();
        entries.iter().map(|entry| entry.payload.text().to_owned() + "\n").collect()
    }
}

impl part::Handler<Call> for Ledger {
    async fn append(&self, request: Append, _: Call) -> Result<Appended, ApiError> {
        let what: serde_json::Value = request.0.payload.read().unwrap();
        let holds = |mood: Mood| matches!(mood, Mood::Holds(held) if what["do"] == held);
        while holds(*self.mood.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.behave().await?;
        let mut entries = self.entries.lock().unwrap();
        entries.push(request.0);
        Ok(Appended { seq: entries.len() as u64, hash: Sha256::ZERO, ticket: None })
    }

    async fn head(&self, _: GetHead, _: Call) -> Result<Head, ApiError> {
        let refused = (*self.mood.lock().unwrap() != Mood::Good).then(|| "it is full".to_owned());
        let seq = self.entries.lock().unwrap().len() as u64;
        Ok(Head { seq, hash: Sha256::ZERO, refused, checkpointed: 0, witnessed: Witnessed::default() })
    }

    async fn query(&self, request: Query, _: Call) -> Result<QueryPage, ApiError> {
        let entries = self.entries.lock().unwrap();
        let found = entries.iter().zip(1..).filter(|(entry, seq)| {
            *seq >= request.0.from && request.0.subject.is_none_or(|subject| entry.subject == Some(subject))
        });
        let entry = |(entry, seq): (&AppendRequest, u64)| Entry {
            seq,
            boot_id: BOOT.to_owned(),
            mono_ns: 0,
            wall_ms: 0,
            actor: Principal::Service("vault".parse().unwrap()),
            kind: entry.kind,
            backfilled: false,
            intent: entry.intent,
            partition: None,
            manifest: None,
            policy: None,
            subject: entry.subject,
            payload: entry.payload.clone(),
            erasable: None,
            outside: None,
            prev: Sha256::ZERO,
            hash: Sha256::ZERO,
        };
        Ok(QueryPage { entries: found.map(entry).collect(), next: None })
    }

    async fn checkpoint(&self, _: Checkpoint, _: Call) -> Result<CheckpointInfo, ApiError> {
        let (checkpoint, key, witnessed) = (String::new(), "log+1+key".to_owned(), Witnessed::default());
        Ok(CheckpointInfo { checkpoint, key, size: 0, root: Sha256::ZERO, witnessed })
    }
}

/// A runtime as the service has it.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// One running vault.
pub(super) struct World {
    pub(super) scratch: Arc<Scratch>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) vault: Arc<Vault>,
    pub(super) operator: Client,
    pub(super) agents: Client,
    pub(super) egress: Client,
    stop: Trigger,
}

impl World {
    /// A first start.
    pub(super) fn new() -> Self {
        Self::start(Arc::new(Scratch::new()), Arc::default(), &[], BOOT)
    }

    /// A start in this directory. Needs a runtime.
    pub(super) fn start(
        scratch: Arc<Scratch>,
        ledger: Arc<Ledger>,
        facts: &[(&str, &str)],
        boot: &str,
    ) -> Self {
        let (trigger, stop) = shutdown();
        let listen = |name: &str, principal: Option<&str>| {
            let path = scratch.path(name);
            let _was_there = fs::remove_file(&path);
            let identity = match principal {
                None => Identity::PeerCredentials { operator: nix::unistd::getuid().as_raw() },
                Some(name) => Identity::Listener(Principal::Service(name.parse().unwrap())),
            };
            (UnixListener::bind(&path).unwrap(), identity, stop.clone())
        };
        let (listener, identity, until) = listen("ledger.sock", Some("vault"));
        let server = part::Server(Arc::clone(&ledger));
        tokio::spawn(serve(listener, server, identity, Limits::default(), until));
        let client = || Client::new(scratch.path("ledger.sock"));
        let records = Arc::new(Records::new(client()));
        let (recording, until) = (Arc::clone(&records), stop.clone());
        tokio::spawn(async move { recording.run(&until, || {}).await });
        let place = Place::take(&scratch.path("state")).unwrap();
        let phase = first_phase(&place);
        let site = Site {
            boot: boot.to_owned(),
            key_file: scratch.path("etc/key"),
            approvals: scratch.path("etc/approvals.json"),
            release_key: scratch.path("etc/release.pub"),
            facts: facts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect::<Facts>(),
        };
        let memory = Memory::new().unwrap();
        let vault = Arc::new(Vault::new(site, Audit::new(records, client()), memory, None, place, phase));
        let methods = Arc::new(Methods::new(Arc::clone(&vault)));
        for (name, principal) in
            [("vault.sock", None), ("agents.sock", Some("agents")), ("egress.sock", Some("egress"))]
        {
            let (listener, identity, until) = listen(name, principal);
            let server = api::Server(Arc::clone(&methods));
            tokio::spawn(serve(listener, server, identity, Limits::default(), until));
        }
        let to = |name: &str| Client::new(scratch.path(name));
        let (operator, agents, egress) = (to("vault.sock"), to("agents.sock"), to("egress.sock"));
        Self { scratch, ledger, vault, operator, agents, egress, stop: trigger }
    }

    /// Ends the process that this one stands for, and gives what outlives it.
    pub(super) async fn end(self) -> (Arc<Scratch>, Arc<Ledger>) {
        self.stop.pull();
        let gone = Arc::downgrade(&self.vault);
        let (scratch, ledger) = (self.scratch, self.ledger);
        drop((self.vault, self.operator, self.agents, self.egress));
        while gone.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (scratch, ledger)
    }

    /// An operator's call with bytes beside it.
    pub(super) async fn call<R: Request>(
        &self,
        request: &R,
        bytes: Option<&[u8]>,
    ) -> Result<(R::Reply, Option<Vec<u8>>), ApiError> {
        call(&self.operator, request, bytes).await
    }

    /// Makes a vault that opens with [`PASSPHRASE`].
    pub(super) async fn init(&self) -> api::Initialised {
        let slot = NewSlot::of(SlotKind::Passphrase);
        self.call(&api::InitRequest { slot, replace: None }, Some(PASSPHRASE)).await.unwrap().0
    }

    /// Unseals with [`PASSPHRASE`].
    pub(super) async fn unseal(&self) -> Result<api::Unsealed, ApiError> {
        self.call(&unseal(api::With::Passphrase), Some(PASSPHRASE)).await.map(|done| done.0)
    }

    /// Stores an opaque secret.
    pub(super) async fn put(&self, name: &str, value: &[u8]) {
        self.call(&put(name), Some(value)).await.unwrap();
    }

    /// Waits until the ledger has so many entries.
    pub(super) async fn recorded(&self, count: usize) {
        for _ in 0..500 {
            if self.ledger.entries.lock().unwrap().len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} entries did not come: {:#?}", self.ledger.told());
    }
}

/// A call with bytes beside it.
pub(super) async fn call<R: Request>(
    client: &Client,
    request: &R,
    bytes: Option<&[u8]>,
) -> Result<(R::Reply, Option<Vec<u8>>), ApiError> {
    let fds: Vec<OwnedFd> = bytes.map(|bytes| pipe(bytes).unwrap()).into_iter().collect();
    match client.call_with(request, &fds).await {
        Ok((reply, mut back)) => {
            let bytes = back.pop().map(|fd| {
                let mut bytes = Vec::new();
                fs::File::from(fd).read_to_end(&mut bytes).unwrap();
                bytes
            });
            Ok((reply, bytes))
        }
        Err(WireError::Api(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

pub(super) fn unseal(with: api::With) -> api::UnsealRequest {
    api::UnsealRequest { with, accept_machine: None, accept_rollback: None }
}

pub(super) fn put(name: &str) -> api::PutRequest {
    api::PutRequest {
        name: name.parse().unwrap(),
        kind: api::Kind::Opaque,
        about: String::new(),
        username: String::new(),
        url: String::new(),
        labels: Default::default(),
        not_after_ms: None,
        generate: false,
    }
}

/// The vault's file.
pub(super) fn file(scratch: &Scratch) -> PathBuf {
    scratch.path("state/vault")
}

/// Whether any file below a directory has these bytes in it.
pub(super) fn anywhere(dir: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let found = |path: &PathBuf| {
        let content = fs::read(path).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.is_file() && found(&path) {
                return Some(path);
            }
        }
    }
    None
}

/// The time of a test.
pub(super) fn wall_ms() -> u64 {
    clock::wall_ms()
}
