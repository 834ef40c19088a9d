//! A witness and a feeder over loopback and unix sockets, with honest and dishonest logs on the other side.

mod crash;
mod feed;
mod ledger;
mod server;
mod state;

use crate::client::Connection;
use crate::{Answer, Config, Level, Limits, Listener, Say, Url, Witness, serve};
use octant_ids::Sha256;
use octant_tlog::checkpoint::{Checkpoint, sign};
use octant_tlog::merkle::{EMPTY_ROOT, Frontier, Nodes, consistency, leaf_hash};
use octant_tlog::note::{NoteKey, Verifier};
use octant_tlog::witness::Request;
use octant_wire::{Trigger, shutdown};
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const ORIGIN: &str = "octant/0123456789abcdef";
const WITNESS: &str = "w1.example";

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("octant-witness-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn log_key() -> NoteKey {
    NoteKey::from_seed(ORIGIN, [1; 32]).unwrap()
}

fn witness_key() -> NoteKey {
    NoteKey::cosigner(WITNESS, [2; 32]).unwrap()
}

/// A log's tree: every size can be signed, and every two can be proven.
#[derive(Clone)]
struct Tree {
    key: Arc<NoteKey>,
    frontier: Frontier,
    roots: Vec<Sha256>,
    nodes: HashMap<(u8, u64), Sha256>,
}

impl Nodes for Tree {
    type Error = Infallible;
    fn node(&self, height: u8, index: u64) -> Result<Sha256, Infallible> {
        Ok(self.nodes[&(height, index)])
    }
}

impl Tree {
    fn new(leaves: &[u8]) -> Self {
        let mut tree = Self {
            key: Arc::new(log_key()),
            frontier: Frontier::default(),
            roots: vec![EMPTY_ROOT],
            nodes: HashMap::new(),
        };
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree
    }

    fn push(&mut self, leaf: u8) {
        let nodes = &mut self.nodes;
        self.frontier.push(leaf_hash(&[leaf]), |height, index, hash| {
            nodes.insert((height, index), hash);
        });
        self.roots.push(self.frontier.root());
    }

    fn size(&self) -> u64 {
        self.frontier.size()
    }

    fn checkpoint(&self, size: u64) -> String {
        let root = self.roots[usize::try_from(size).unwrap()];
        sign(
            &self.key,
            &Checkpoint { origin: self.key.name().to_owned(), size, root, extensions: Vec::new() },
        )
    }

    fn proof(&self, old: u64, new: u64) -> Vec<Sha256> {
        if old == 0 || old >= new { Vec::new() } else { consistency(self, old, new).unwrap() }
    }

    fn request(&self, old: u64, new: u64) -> String {
        Request { old, proof: self.proof(old, new), checkpoint: &self.checkpoint(new) }.to_text()
    }
}

/// Lines of a log, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    fn say(&self) -> Say {
        let lines = self.clone();
        Arc::new(move |level, text| lines.0.lock().unwrap().push((level, text.to_owned())))
    }

    fn all(&self) -> Vec<(Level, String)> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, level: Level) -> Vec<String> {
        self.all().into_iter().filter(|(of, _)| *of == level).map(|(_, text)| text).collect()
    }
}

fn open(dir: &Path, lines: &Lines) -> Witness {
    open_with(dir, lines, witness_key(), vec![log_key().verifier()])
}

fn open_with(dir: &Path, lines: &Lines, key: NoteKey, logs: Vec<Verifier>) -> Witness {
    Witness::open(Config { key, logs, dir: dir.to_owned(), say: lines.say() }).unwrap()
}

/// Asks and gives the answer as its status and body.
fn ask(witness: &Witness, body: &str) -> (u16, String) {
    let Answer { status, body, .. } = witness.add_checkpoint(body.as_bytes());
    (status, body)
}

/// A witness that runs, and how to end it.
struct Running {
    trigger: Trigger,
    task: JoinHandle<std::io::Result<()>>,
    url: Url,
}

impl Running {
    async fn start(dir: &Path, address: &str, limits: Limits) -> Self {
        let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
        let url = match listener.tcp_address() {
            Some(address) => format!("http://{address}"),
            None => address.to_owned(),
        };
        let witness = Arc::new(open(dir, &Lines::default()));
        let (trigger, stop) = shutdown();
        let task = tokio::spawn(serve(vec![listener], witness, limits, stop));
        Self { trigger, task, url: url.parse().unwrap() }
    }

    async fn post(&self, body: String) -> (u16, String) {
        let mut connection = Connection::open(&self.url, Duration::from_secs(20)).await.unwrap();
        let answer = connection.add_checkpoint(body).await.unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    async fn stop(self) {
        self.trigger.pull();
        self.task.await.unwrap().unwrap();
    }
}
