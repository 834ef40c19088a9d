//! The glue between the ledger and its process.

use crate::follow::Following;
use crate::journal;
use crate::open::TornTail;
use crate::publish::Witnesses;
use crate::read::Reader;
use crate::refusal::Refusal;
use crate::store::{Options, Store, own, unknown};
use crate::writer::{Writer, WriterLimits};
use octant_api::error::Code;
use octant_api::ledger::{Kind, Server, Witnessed};
use octant_api::unit::{Criticality, Restart, Spec};
use octant_ids::ByteSize;
use octant_service::{Context, Health, Notifier, ServeError, Service, Shutdown, StartError};
use octant_ticket::{Issuer, Keys};
use octant_tlog::entry::{self, Draft};
use octant_tlog::note::{Algorithm, Verifier};
use octant_wire::{Identity, Limits};
use serde::Deserialize;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

/// `[ledger]` of octant.toml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A segment that reached this size is followed by a new one; 1 MiB to 1 GiB.
    pub segment_bytes: ByteSize,
    /// How much of the file system is kept for the system's own records; agents' notes and intents are refused when less
    /// is free. At most 64 GiB.
    pub reserve_bytes: ByteSize,
    /// How many entries an agent can make in its life.
    pub agent_entries: u64,
    /// How many bytes they can have.
    pub agent_bytes: ByteSize,
    /// The verifier keys of the witnesses (C2SP signed-note), at most 16.
    pub witnesses: Vec<String>,
    /// How many of them have to cosign before the log calls itself complete.
    pub quorum: u32,
}

impl Default for Config {
    fn default() -> Self {
        let Options { segment_bytes, reserve_bytes, agent_entries, agent_bytes, .. } = Options::default();
        Self {
            segment_bytes: ByteSize(segment_bytes),
            reserve_bytes: ByteSize(reserve_bytes),
            agent_entries,
            agent_bytes: ByteSize(agent_bytes),
            witnesses: Vec::new(),
            quorum: 0,
        }
    }
}

impl Config {
    fn options(&self) -> Result<Options, StartError> {
        let wrong = |field: &str, why: String| Err(StartError::new("read the configuration", field, why));
        let sizes = [
            ("ledger.segment_bytes", self.segment_bytes, 1 << 20, 1 << 30),
            ("ledger.reserve_bytes", self.reserve_bytes, 0, 64 << 30),
            ("ledger.agent_bytes", self.agent_bytes, 1 << 10, u64::MAX),
        ];
        for (field, size, least, most) in sizes {
            if !(least..=most).contains(&size.0) {
                return wrong(field, format!("{size} is not from {} to {}", ByteSize(least), ByteSize(most)));
            }
        }
        if self.witnesses.len() > WITNESSES_MAX {
            let why = format!("{} are more than {WITNESSES_MAX}", self.witnesses.len());
            return wrong("ledger.witnesses", why);
        }
        let mut keys: Vec<Verifier> = Vec::new();
        for text in &self.witnesses {
            let key: Verifier = match text.parse() {
                Ok(key) => key,
                Err(error) => return wrong("ledger.witnesses", format!("{text}: {error}")),
            };
            if key.algorithm() != Algorithm::CosignatureV1 {
                let why = format!(
                    "{} is of {}, and cosignatures of that cannot be checked here",
                    key.name(),
                    key.algorithm()
                );
                return wrong("ledger.witnesses", why);
            }
            if keys.iter().any(|known| known.public_key() == key.public_key() || known.name() == key.name()) {
                return wrong("ledger.witnesses", format!("{} is there twice", key.name()));
            }
            keys.push(key);
        }
        if self.quorum as usize > keys.len() {
            let why = format!("{} of {} witnesses can never cosign", self.quorum, keys.len());
            return wrong("ledger.quorum", why);
        }
        Ok(Options {
            segment_bytes: self.segment_bytes.0,
            reserve_bytes: self.reserve_bytes.0,
            agent_entries: self.agent_entries,
            agent_bytes: self.agent_bytes.0,
            witnesses: Witnesses::new(keys, self.quorum),
            ..Options::default()
        })
    }
}

/// An open ledger: one writer, any number of readers.
#[derive(Debug, Clone)]
pub struct Ledger {
    writer: Arc<Writer>,
    reader: Arc<Reader>,
    pub(crate) following: Arc<Following>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) witnesses: Arc<Witnesses>,
    /// Verifying reads the whole log: one at a time.
    pub(crate) verifying: Arc<Semaphore>,
    /// Proofs for anybody: two at a time.
    pub(crate) proofs: Arc<Semaphore>,
}

impl Ledger {
    /// Opens the ledger below `dir` and starts its writer. A tail that was torn by a crash is cut off and put on
    /// record, and so are intents of earlier boots of which nobody said what became of them.
    ///
    /// # Errors
    /// [`StartError`]: a file cannot be made, opened or read, or the thread cannot be started.
    pub fn open(
        dir: &Path,
        boot_id: &str,
        options: Options,
        limits: WriterLimits,
        issuer: Issuer,
    ) -> Result<Self, StartError> {
        let boot = entry::boot_id(boot_id).ok_or_else(|| {
            StartError::new("read the boot's id", boot_id, "it is not 32 hexadecimal digits")
        })?;
        let opened = Store::open(dir, boot, options);
        let (mut store, torn) =
            opened.map_err(|error| StartError::new("open the ledger", dir.display(), error))?;
        if let Err(error) = store.finish_change() {
            tracing::error!("{error}");
        }
        let witnesses = Arc::new(store.options.witnesses.clone());
        let reader = store.reader();
        if let Some(refusal) = reader.refusal() {
            tracing::error!("the ledger is damaged and can only be read: {refusal}");
        }
        let open = store.intents_of_earlier_boots();
        let writer = Writer::start(store, limits)
            .map_err(|error| StartError::new("start the writer", "thread", error))?;
        let following = Arc::new(Following::open(&dir.join("index.sqlite")));
        let (verifying, proofs) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(2)));
        let (writer, issuer) = (Arc::new(writer), Arc::new(issuer));
        let ledger = Self { writer, reader, following, issuer, witnesses, verifying, proofs };
        let failed = |what: &str, why: String| StartError::new("put a start on record", what, why);
        let drafts = torn.iter().map(torn_tail);
        let unknowns = open
            .into_iter()
            .map(|seq| unknown(seq, "nobody said what became of it before the machine started again"));
        for draft in drafts.chain(unknowns) {
            let draft = draft.map_err(|refusal| failed("draft", refusal.to_string()))?;
            // Not waited for: a disk that is full now must not keep the ledger from being read. The writer takes it
            // before anything that is queued later, and logs it when it is refused.
            ledger.writer.append(draft).map(drop).map_err(|error| failed("writer", error.to_string()))?;
        }
        Ok(ledger)
    }

    /// Reads it.
    #[must_use]
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Appends to it.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}

fn torn_tail(torn: &TornTail) -> Result<Draft, Refusal> {
    tracing::warn!(
        "{} unacknowledged bytes at offset {} of {} were cut off after a crash: {}",
        torn.bytes,
        torn.offset,
        torn.segment,
        torn.why
    );
    own(
        Kind::Lost,
        &serde_json::json!({
            "text": "the end of the ledger was torn by a crash; nothing acknowledged is missing",
            "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes, "why": torn.why,
        }),
    )
}

/// The most witnesses of a log.
const WITNESSES_MAX: usize = 16;
/// How long after a start partitions of earlier boots are sealed that nobody has sealed: `agents` does it for those that
/// it knows within seconds.
const STALE: Duration = Duration::from_secs(600);

pub(crate) const NAME: &str = "ledger";
/// How often and how soon a health check asks again for a place in a full queue: a second in all, in which the
/// queue drains several times on a disk that works.
const PROBE_TRIES: u32 = 50;
const PROBE_AGAIN: Duration = Duration::from_millis(20);

/// The keys for tickets that PID 1 gave; without them no intent gets a ticket, and the log works all the same.
fn issuer(tickets: Option<OwnedFd>) -> Result<Issuer, StartError> {
    let failed = |why: String| StartError::new("read the keys for tickets", "tickets", why);
    let Some(tickets) = tickets else {
        tracing::warn!("PID 1 gave no keys for tickets: no actuator will act");
        return Keys::new([]).map(Issuer::new).map_err(|error| failed(error.to_string()));
    };
    Keys::read(File::from(tickets)).map(Issuer::new).map_err(|error| failed(error.to_string()))
}

impl Ledger {
    /// One line for PID 1's status.
    fn status(&self) -> String {
        let witnessed = self.reader.publication().witnessed;
        let mut status = format!("{} entries", self.reader.tip().seq);
        if witnessed.quorum > 0 && (witnessed.have.len() as u64) < u64::from(witnessed.quorum) {
            let Witnessed { quorum, have, complete_to, .. } = witnessed;
            status.push_str(&format!(
                ", NOT COMPLETE: {} of {quorum} witnesses have cosigned, complete to entry {complete_to}",
                have.len()
            ));
        }
        status
    }

    /// Seals, some time after a start, partitions that earlier boots left open.
    async fn seal_stale(&self) {
        tokio::time::sleep(STALE).await;
        let sealed = match self.writer.run(Store::seal_stale) {
            Ok(answer) => answer.await.map_err(|error| error.to_string()).and_then(|done| done),
            Err(error) => Err(error.to_string()),
        };
        match sealed {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} partitions of earlier boots were sealed"),
            Err(why) => tracing::warn!("partitions of earlier boots stay open: {why}"),
        }
        std::future::pending::<()>().await;
    }
}

/// The ledger as PID 1 runs it.
#[derive(Debug)]
pub struct LedgerService {
    ledger: Arc<Ledger>,
    identity: Identity,
    boot_id: String,
    notifier: Notifier,
    journal: Mutex<Option<OwnedFd>>,
}

impl Service for LedgerService {
    const SPEC: Spec = Spec {
        name: NAME,
        about: "the record of every action",
        needs: &[],
        restart: Restart::Always,
        criticality: Criticality::Required,
        // Scanning a full segment takes about a second on a slow disk.
        ready_within_ms: 15_000,
        stop_within_ms: 5_000,
        watchdog_ms: 15_000,
        // Whoever may not call is refused by method; the socket itself is open to services and operators.
        socket_mode: 0o666,
        capabilities: &[],
        root: false,
        optional: false,
        argv: &["svc", NAME],
    };
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = Config;

    async fn open(config: Config, mut context: Context) -> Result<Self, StartError> {
        let dir = context.state_dir();
        let issuer = issuer(context.inherited.remove("tickets"))?;
        let boot_id = &context.boot.boot_id;
        let ledger = Ledger::open(&dir, boot_id, config.options()?, WriterLimits::default(), issuer)?;
        Ok(Self {
            ledger: Arc::new(ledger),
            identity: context.identity(),
            journal: Mutex::new(context.inherited.remove("journal")),
            boot_id: context.boot.boot_id,
            notifier: context.notifier,
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taking = async {
            if let Some(socket) = journal {
                let (writer, reader) = (self.ledger.writer(), self.ledger.reader());
                if let Err(error) = journal::take(socket, writer, reader, &self.boot_id).await {
                    tracing::error!("PID 1's records cannot be read: {error}; PID 1 counts what it loses");
                }
            }
            std::future::pending::<()>().await;
        };
        let following = Arc::clone(&self.ledger.following).run(Arc::clone(self.ledger.reader()));
        let beside = async {
            tokio::join!(taking, following, self.ledger.seal_stale());
        };
        let server = Server(Arc::clone(&self.ledger));
        let serving = octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop);
        tokio::select! {
            done = serving => done.map_err(|error| ServeError::new("accept connections", error)),
            () = beside => Ok(()),
        }
    }

    async fn health(&self) -> Health {
        self.notifier.status(&self.ledger.status());
        let mut tries = 0;
        let answer = loop {
            match self.ledger.writer().probe() {
                Ok(answer) => break answer,
                // A full queue is a busy ledger, not a sick one, as long as it drains.
                Err(error) if error.code == Code::Busy && tries < PROBE_TRIES => tries += 1,
                Err(error) => return Health::Bad(error.to_string()),
            }
            tokio::time::sleep(PROBE_AGAIN).await;
        };
        match answer.await {
            Ok(Ok(())) => Health::Ok,
            Ok(Err(refusal)) => Health::Bad(refusal.to_string()),
            Err(_) => Health::Bad("the writer has ended".to_owned()),
        }
    }
}
