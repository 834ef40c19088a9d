//! Log first: what the vault is about to do is on stable storage in the ledger before it is done, or it is not done.

use crate::hex::Hex;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind, QueryRequest};
use octant_ids::{Aid, Principal, Sha256};
use octant_service::{Records, record};
use octant_wire::{Client, WireError};
use serde_json::{Value, json};
use sha2::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long the ledger has to take an intent. A ledger that is blocked makes the vault deny, not hang.
pub(crate) const LEDGER_WITHIN: Duration = Duration::from_secs(2);

/// No vault sees more changes.
const EPOCH_MAX: u64 = 1 << 60;

/// The way to the ledger.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) records: Arc<Records>,
    /// For questions, which are few.
    asking: Client,
}

/// Proof that an intent is on stable storage: the right to do what it says, once. [`Audit::intent`] is the only maker,
/// and what reveals or changes anything takes it by value.
#[derive(Debug)]
#[must_use = "an intent of which nothing comes has to have its outcome recorded"]
pub(crate) struct Recorded {
    seq: u64,
    agent: Option<Aid>,
    subject: Option<Sha256>,
}

impl Recorded {
    /// The intent's entry.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

/// What an intent is about.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) payload: Value,
    /// The agent whose partition it stands in.
    pub(crate) agent: Option<Aid>,
    /// The vault whose next epoch it makes.
    pub(crate) subject: Option<Sha256>,
}

/// By what the ledger's entries about a vault's changes are found.
pub(crate) fn subject(vault: &[u8; 16]) -> Sha256 {
    Sha256(sha2::Sha256::new_with_prefix(b"octant vault 1 changes").chain_update(vault).finalize().into())
}

/// By what the entries are found with which vaults of this machine were made.
pub(crate) fn made() -> Sha256 {
    Sha256(sha2::Sha256::digest(b"octant vault 1 made").into())
}

fn unavailable(why: impl std::fmt::Display) -> ApiError {
    let next = "see `octant status`; nothing that bears a secret is done without a record";
    ApiError::new(Code::Unavailable, "put an intent on record", "ledger", why, next)
}

impl Audit {
    pub(crate) fn new(records: Arc<Records>, asking: Client) -> Self {
        Self { records, asking }
    }

    /// Puts an intent on record, within [`LEDGER_WITHIN`].
    ///
    /// # Errors
    /// The ledger did not accept it in that time; then nothing may be done. It can be on record all the same, and has no
    /// outcome then.
    pub(crate) async fn intent(&self, intent: Intent) -> Result<Recorded, ApiError> {
        let Intent { payload, agent, subject } = intent;
        let entry = AppendRequest { agent, subject, ..record(Kind::Intent, &payload) };
        let entries = [entry];
        let appended = tokio::time::timeout(LEDGER_WITHIN, self.records.append(&entries));
        match appended.await {
            Err(_) => Err(unavailable(format!("the ledger did not answer within {LEDGER_WITHIN:?}"))),
            Ok((_, Err(error))) => Err(unavailable(format!("the ledger did not accept it: {error}"))),
            Ok((done, Ok(()))) => match done.into_iter().next().flatten() {
                Some(done) => Ok(Recorded { seq: done.seq, agent, subject }),
                None => Err(unavailable("the ledger's answer is missing")),
            },
        }
    }

    /// Records what became of an intent, without waiting.
    pub(crate) fn outcome(&self, recorded: Recorded, payload: &Value) {
        let Recorded { seq, agent, subject } = recorded;
        let entry = AppendRequest { intent: Some(seq), agent, subject, ..record(Kind::Outcome, payload) };
        self.records.later(entry);
    }

    /// Records what was done without an intent because it takes authority away, or that something was denied.
    pub(crate) fn later(&self, payload: &Value, agent: Option<Aid>, subject: Option<Sha256>) {
        let kind = if payload.get("denied").is_some() { Kind::Decision } else { Kind::Grant };
        self.records.later(AppendRequest { agent, subject, ..record(kind, payload) });
    }

    /// The latest epoch of a vault that the ledger shows to have been reached, and the number of the ledger's last entry.
    ///
    /// An outcome shows its epoch; an intent shows the epoch before its own, since it was announced from there.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn epoch(&self, vault: &[u8; 16], from: u64) -> Result<Reached, ApiError> {
        let mut request = QueryRequest { subject: Some(subject(vault)), from, ..own() };
        let mut reached = Reached::default();
        loop {
            let page = self.ask(&request).await?;
            for entry in &page.entries {
                let Ok(change) = entry.payload.read::<Change>() else { continue };
                reached.entries += 1;
                if change.epoch > EPOCH_MAX {
                    continue;
                }
                let shown = match entry.kind {
                    Kind::Intent => change.epoch.saturating_sub(1),
                    _ if change.done => change.epoch,
                    _ => 0,
                };
                if shown > reached.epoch {
                    (reached.epoch, reached.seq) = (shown, entry.seq);
                }
            }
            match page.next {
                Some(next) if next > request.from => request.from = next,
                _ => return Ok(reached),
            }
        }
    }

    /// The vault that the ledger says was made here last, if any. One that was only announced was never there: between the
    /// intent and the file the power may have gone, and a first start that was cut off there is begun again.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn last_made(&self) -> Result<Option<String>, ApiError> {
        let mut request = QueryRequest { subject: Some(made()), ..own() };
        let (mut announced, mut done) = (Vec::new(), BTreeSet::new());
        loop {
            let page = self.ask(&request).await?;
            for entry in &page.entries {
                if let Ok(made) = entry.payload.read::<Made>() {
                    announced.push((entry.seq, made.vault));
                }
                if entry.payload.read::<Became>().is_ok_and(|became| became.done) {
                    done.extend(entry.intent);
                }
            }
            match page.next {
                Some(next) if next > request.from => request.from = next,
                _ => break,
            }
        }
        for (seq, vault) in announced.into_iter().rev() {
            if done.contains(&seq) || self.has_changed(&vault).await? {
                return Ok(Some(vault.to_string()));
            }
        }
        Ok(None)
    }

    /// Whether there is anything on record about a vault that was made: it was there then, whatever has become of the
    /// outcome of its making.
    async fn has_changed(&self, vault: &Hex<16>) -> Result<bool, ApiError> {
        let request = QueryRequest { subject: Some(subject(&vault.0)), limit: 1, ..own() };
        Ok(!self.ask(&request).await?.entries.is_empty())
    }

    async fn ask(&self, request: &QueryRequest) -> Result<octant_api::ledger::QueryPage, ApiError> {
        let asked = tokio::time::timeout(LEDGER_WITHIN, self.asking.call(request)).await;
        let late = || unavailable(format!("the ledger did not answer within {LEDGER_WITHIN:?}"));
        asked.map_err(|_| late())?.map_err(|error: WireError| unavailable(error))
    }

    /// The log's verifier key.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn log_key(&self) -> Result<String, ApiError> {
        let request = octant_api::ledger::CheckpointRequest::default();
        let asked = tokio::time::timeout(LEDGER_WITHIN, self.asking.call(&request)).await;
        let late = || unavailable(format!("the ledger did not answer within {LEDGER_WITHIN:?}"));
        Ok(asked.map_err(|_| late())?.map_err(|error: WireError| unavailable(error))?.key)
    }
}

/// The vault's own entries: others may name the same subject.
fn own() -> QueryRequest {
    let vault = "vault".parse().ok().map(Principal::Service);
    QueryRequest { actor: vault, ..QueryRequest::default() }
}

/// What the ledger shows of a vault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The latest epoch.
    pub(crate) epoch: u64,
    /// The entry that shows it.
    pub(crate) seq: u64,
    /// How many entries were looked at.
    pub(crate) entries: u64,
}

/// What an entry about a change says.
#[derive(serde::Deserialize)]
struct Change {
    epoch: u64,
    #[serde(default)]
    done: bool,
}

#[derive(serde::Deserialize)]
struct Made {
    vault: Hex<16>,
}

/// What an outcome says.
#[derive(serde::Deserialize)]
struct Became {
    done: bool,
}

/// The payload of an outcome: done, or why not.
pub(crate) fn done<E: std::fmt::Display>(result: &Result<(), E>, epoch: Option<u64>) -> Value {
    let mut payload = match result {
        Ok(()) => json!({ "done": true }),
        Err(why) => json!({ "done": false, "why": why.to_string() }),
    };
    if let Some(epoch) = epoch {
        payload["epoch"] = epoch.into();
    }
    payload
}
