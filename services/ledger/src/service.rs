//! The glue between the ledger and its process.

use crate::core::Draft;
use crate::journal;
use crate::read::Reader;
use crate::store::{Options, Store, TornTail};
use crate::writer::{Writer, WriterLimits};
use octant_api::error::Code;
use octant_api::ledger::{Kind, Server};
use octant_api::text::Json;
use octant_api::unit::{Criticality, Restart, Spec};
use octant_ids::{ByteSize, Principal};
use octant_service::{Context, Health, Notifier, ServeError, Service, Shutdown, StartError};
use octant_wire::{Identity, Limits};
use serde::Deserialize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixListener;

/// `[ledger]` of octant.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A segment that reached this size is followed by a new one; 1 MiB to 1 GiB.
    pub segment_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_bytes: ByteSize(Options::default().segment_bytes) }
    }
}

impl Config {
    fn options(self) -> Result<Options, StartError> {
        let ByteSize(segment_bytes) = self.segment_bytes;
        if !(1 << 20..=1 << 30).contains(&segment_bytes) {
            let why = format!("{} is not from 1MiB to 1GiB", self.segment_bytes);
            return Err(StartError::new("read the configuration", "ledger.segment_bytes", why));
        }
        Ok(Options { segment_bytes, ..Options::default() })
    }
}

/// An open ledger: one writer, any number of readers.
#[derive(Debug)]
pub struct Ledger {
    writer: Writer,
    reader: Arc<Reader>,
}

impl Ledger {
    /// Opens the ledger below `dir` and starts its writer. A tail that was torn by a crash is cut off and put on
    /// record.
    ///
    /// # Errors
    /// [`StartError`]: a file cannot be made, opened or read, or the thread cannot be started.
    pub fn open(
        dir: &Path,
        boot_id: &str,
        options: Options,
        limits: WriterLimits,
    ) -> Result<Self, StartError> {
        let opened = Store::open(dir, boot_id, options);
        let (store, torn) =
            opened.map_err(|error| StartError::new("open the ledger", dir.display(), error))?;
        let reader = store.reader();
        if let Some(refusal) = reader.refusal() {
            tracing::error!("the ledger is damaged and can only be read: {refusal}");
        }
        let writer = Writer::start(store, limits)
            .map_err(|error| StartError::new("start the writer", "thread", error))?;
        let ledger = Self { writer, reader };
        if let Some(torn) = torn {
            ledger.record_torn_tail(&torn)?;
        }
        Ok(ledger)
    }

    fn record_torn_tail(&self, torn: &TornTail) -> Result<(), StartError> {
        tracing::warn!(
            "{} unacknowledged bytes at offset {} of {} were cut off after a crash: {}",
            torn.bytes,
            torn.offset,
            torn.segment,
            torn.why
        );
        let failed = |why: String| StartError::new("put a torn tail on record", &torn.segment, why);
        let payload = serde_json::json!({
            "text": "the end of the ledger was torn by a crash; nothing acknowledged is missing",
            "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes, "why": torn.why,
        });
        let draft = Draft {
            actor: Principal::Service(NAME.parse().map_err(|error| failed(format!("{error}")))?),
            kind: Kind::Lost,
            intent: None,
            payload: Json::of(&payload).map_err(|error| failed(error.to_string()))?,
            observed_ns: None,
            backfilled: false,
        };
        // Not waited for: a disk that is full now must not keep the ledger from being read. The writer takes it
        // before anything that is queued later, and logs it when it is refused.
        self.writer.append(draft).map(drop).map_err(|error| failed(error.to_string()))
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

const NAME: &str = "ledger";
/// How often and how soon a health check asks again for a place in a full queue: a second in all, in which the
/// queue drains several times on a disk that works.
const PROBE_TRIES: u32 = 50;
const PROBE_AGAIN: Duration = Duration::from_millis(20);

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
        argv: &["svc", NAME],
    };
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = Config;

    async fn open(config: Config, mut context: Context) -> Result<Self, StartError> {
        let dir = context.state_dir();
        let ledger = Ledger::open(&dir, &context.boot.boot_id, config.options()?, WriterLimits::default())?;
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
        let server = Server(Arc::clone(&self.ledger));
        let serving = octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop);
        tokio::select! {
            done = serving => done.map_err(|error| ServeError::new("accept connections", error)),
            () = taking => Ok(()),
        }
    }

    async fn health(&self) -> Health {
        self.notifier.status(&format!("{} entries", self.ledger.reader().tip().seq));
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
