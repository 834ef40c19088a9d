//! From sealed to unsealed.
//!
//! | step | refused when |
//! |---|---|
//! | a slot gives the data key | wrong passphrase, share or file; other TPM, other PCRs |
//! | header, frames, changes | any byte was changed |
//! | the machine's seed opens | it is another one's |
//! | the hardware is compared | it is another machine, and no operator has said otherwise |
//! | the ledger's epoch is compared | the ledger shows a later state, and no operator has said otherwise |
//! | the intent is on record | the ledger does not take it |

use crate::audit::{Intent, done, subject};
use crate::format::Header;
use crate::hex::Hex;
use crate::machine::{Compared, STATEMENT, accepted, compare, words};
use crate::making::check_reason;
use crate::raw::{Contents, Raw};
use crate::slots::{Lock, Slot, SlotError};
use crate::state::{Op, State};
use crate::store::{Store, StoreError};
use crate::vault::{Action, Open, Phase, Vault, blocking, locked, now, task};
use octant_api::error::{ApiError, Code};
use octant_api::text::Base64;
use octant_api::vault::{Attestation, SlotKind, UnsealRequest, Unsealed, With};
use octant_crypto::memory::{Buffer, Key};
use octant_crypto::share_text::{self, LabelledShare};
use octant_crypto::sign::SigningKey;
use octant_ids::Principal;
use octant_sys::clock;
use octant_tpm::{Approval, TpmError};
use serde_json::json;
use std::sync::Arc;

/// How large the file of approvals may be.
const APPROVALS_MAX: u64 = 256 << 10;
/// How large a key file may be.
const KEY_FILE_MAX: u64 = 64 << 10;

/// Why nothing opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    /// There is no slot of the kind.
    #[error("the vault has no slot that opens by {0}")]
    NoSlot(&'static str),
    /// Every slot of the kind was tried.
    #[error("{0}")]
    Wrong(String),
    /// This is another machine.
    #[error("the vault was made on another machine: {0}")]
    OtherMachine(String),
    /// The ledger knows a later state.
    #[error(
        "the vault is at epoch {have}, and entry {seq} of the ledger shows that it was at {known}: it was set back"
    )]
    Rollback {
        /// The file's epoch.
        have: u64,
        /// The ledger's.
        known: u64,
        /// The entry.
        seq: u64,
    },
    /// The file.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl UnsealError {
    fn answer(&self, action: &Action) -> ApiError {
        let (code, next) = match self {
            Self::NoSlot(_) => (Code::InvalidParams, "see `octant vault slots`"),
            Self::Wrong(_) => (Code::Denied, "try another slot, or see `octant vault status`"),
            Self::OtherMachine(_) => (
                Code::Denied,
                "if that is meant, `octant vault unseal --accept-machine REASON` with a passphrase or shares",
            ),
            Self::Rollback { .. } => (
                Code::Unverified,
                "restore the latest backup, or `octant vault unseal --accept-rollback REASON`",
            ),
            Self::Store(error) => return action.failed(error),
        };
        ApiError::new(code, action.what, &action.place, self, next)
    }
}

/// A data key and the slot that gave it.
pub(crate) struct Found {
    pub(crate) key: Key,
    slot: u32,
}

/// A file that was opened, and what it comes to.
#[derive(Debug)]
pub(crate) struct Read {
    key: Key,
    store: Store,
    pub(crate) state: State,
    machine: SigningKey,
    torn: usize,
}

impl Vault {
    /// Unseals as asked by an operator.
    pub(crate) async fn unseal(
        self: &Arc<Self>,
        by: &Principal,
        asked: UnsealRequest,
        bytes: Option<Buffer>,
    ) -> Result<Unsealed, ApiError> {
        let since = self.sealings();
        self.unseal_since(by, asked, bytes, since).await
    }

    async fn unseal_since(
        self: &Arc<Self>,
        by: &Principal,
        asked: UnsealRequest,
        bytes: Option<Buffer>,
        since: u64,
    ) -> Result<Unsealed, ApiError> {
        let action = Action::new("unseal the vault", "unseal", by, "vault");
        for reason in [&asked.accept_machine, &asked.accept_rollback].into_iter().flatten() {
            check_reason(reason).map_err(|refusal| action.refused(&refusal))?;
        }
        let operator = matches!(by, Principal::Operator(_));
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            if vault.is_open() {
                return vault.accept_hardware(&action, &asked).await;
            }
            let found = match asked.with {
                With::Machine => vault.by_machine(&action).await?,
                With::Passphrase => vault.by_bytes(&action, SlotKind::Passphrase, bytes).await?,
                With::StaticFile => vault.by_bytes(&action, SlotKind::StaticFile, bytes).await?,
                With::Share => match vault.by_share(&action, bytes).await? {
                    Some(found) => found,
                    None => return Ok(Unsealed { status: vault.status(), slot: None }),
                },
            };
            let slot = found.slot;
            vault.enter(&action, found, &asked, since).await?;
            if operator {
                vault.place.keep_sealed(false).map_err(|error| action.failed(&error))?;
            }
            Ok(Unsealed { status: vault.status(), slot: Some(slot) })
        })
        .await
    }

    /// Unseals by what needs nobody, at the start of the process. Why it did not is in the status, and whether it is worth
    /// trying again, because what failed was not the slot, is the answer. What an operator has sealed stays so.
    pub(crate) async fn unseal_alone(self: &Arc<Self>, since: u64) -> bool {
        if self.place.is_kept_sealed() {
            if let Phase::Sealed { why, .. } = &mut *self.phase() {
                "an operator sealed it, and has not unsealed it since".clone_into(why);
            }
            return false;
        }
        let (accept_machine, accept_rollback) = (None, None);
        let asked = UnsealRequest { with: With::Machine, accept_machine, accept_rollback };
        let by = "vault".parse().map_or(Principal::Init, Principal::Service);
        match self.unseal_since(&by, asked, None, since).await {
            Ok(unsealed) => {
                tracing::info!("unsealed by slot {}", unsealed.slot.unwrap_or_default());
                false
            }
            Err(error) => {
                tracing::warn!("stays sealed: {error}");
                if let Phase::Sealed { why, .. } = &mut *self.phase() {
                    why.clone_from(&error.data.why);
                }
                matches!(error.code, Code::Unavailable | Code::Busy)
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.phase(), Phase::Open(_))
    }

    /// The file as it is on disk now.
    async fn raw(&self, action: &Action) -> Result<Raw, ApiError> {
        let place = Arc::clone(&self.place);
        let read = blocking(action, move || place.read()).await?.map_err(|error| {
            *self.phase() = Phase::Damaged { why: error.to_string() };
            action.failed(&error)
        })?;
        // Absent is what the phase says then.
        read.ok_or_else(|| {
            self.open(action.what, &action.place).err().unwrap_or_else(|| {
                ApiError::new(
                    Code::NotFound,
                    action.what,
                    &action.place,
                    "the file is gone",
                    "restore a backup",
                )
            })
        })
    }

    async fn by_machine(&self, action: &Action) -> Result<Found, ApiError> {
        let raw = self.raw(action).await?;
        let mut tried = Vec::new();
        for slot in &raw.header.slots {
            let opened = match &slot.lock {
                Lock::Tpm { .. } => self.by_tpm(action, &raw, slot).await?,
                _ => continue,
            };
            match opened {
                Ok(key) => return Ok(Found { key, slot: slot.slot }),
                Err(why) => tried.push(format!("slot {} (tpm): {why}", slot.slot)),
            }
        }
        if raw.header.slots.iter().any(|slot| slot.lock.kind() == SlotKind::StaticFile) {
            match read_small(&self.site.key_file, KEY_FILE_MAX) {
                Ok(Some(bytes)) => match open_any(&raw, &bytes, SlotKind::StaticFile) {
                    Ok(found) => return Ok(found),
                    Err(error) => tried.push(error.to_string()),
                },
                Ok(None) => tried.push(format!("static_file: {} is not there", self.site.key_file.display())),
                Err(error) => tried.push(format!("static_file: {}: {error}", self.site.key_file.display())),
            }
        }
        let error = if tried.is_empty() {
            UnsealError::NoSlot("itself; it waits for a passphrase or recovery shares")
        } else {
            UnsealError::Wrong(tried.join("; "))
        };
        Err(error.answer(action))
    }

    async fn by_tpm(&self, action: &Action, raw: &Raw, slot: &Slot) -> Result<Result<Key, String>, ApiError> {
        let Lock::Tpm { sealed } = &slot.lock else { return Ok(Err("it is no TPM slot".to_owned())) };
        let approvals = match self.approvals() {
            Ok(approvals) => approvals,
            Err(why) => return Ok(Err(why)),
        };
        let (tpm, sealed) = (Arc::clone(&self.tpm), sealed.clone());
        let opened = blocking(action, move || match &mut *locked(&tpm) {
            None => Err("this machine has no TPM that Octant can use".to_owned()),
            Some(tpm) => tpm.unseal(&sealed, &approvals).map_err(|error: TpmError| error.to_string()),
        });
        let own = opened.await?.and_then(|own| Key::from_bytes(&own).map_err(|error| error.to_string()));
        Ok(own.and_then(|own| slot.open(&raw.header, &own).map_err(|error| error.to_string())))
    }

    /// Approvals of PCR values that came with the system.
    fn approvals(&self) -> Result<Vec<Approval>, String> {
        let path = &self.site.approvals;
        let failed = |why: String| format!("{}: {why}", path.display());
        match read_small(path, APPROVALS_MAX).map_err(|error| failed(error.to_string()))? {
            None => Ok(Vec::new()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string())),
        }
    }

    async fn by_bytes(
        &self,
        action: &Action,
        kind: SlotKind,
        bytes: Option<Buffer>,
    ) -> Result<Found, ApiError> {
        let refusal = crate::refusal::Refusal::NoBytes("a passphrase or key file");
        let bytes = bytes.ok_or_else(|| action.refused(&refusal))?;
        let raw = self.raw(action).await?;
        let found = blocking(action, move || open_any(&raw, &bytes, kind)).await?;
        let found = found.map_err(|error| error.answer(action));
        if found.is_err() {
            // A wrong guess is on record, and costs time beyond what the passphrase costs.
            self.audit.later(
                &json!({ "do": "vault unseal", "denied": format!("wrong {}", kind.as_str()) }),
                None,
                None,
            );
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        found
    }

    /// Takes one share; the key, once there are enough.
    async fn by_share(&self, action: &Action, bytes: Option<Buffer>) -> Result<Option<Found>, ApiError> {
        let refusal = crate::refusal::Refusal::NoBytes("a share");
        let bytes = bytes.ok_or_else(|| action.refused(&refusal))?;
        let wrong = |why: String| UnsealError::Wrong(why).answer(action);
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("the share is not text".to_owned()))?;
        let share = LabelledShare::parse(text).map_err(|error| wrong(error.to_string()))?;
        // The file's own: what was read at an earlier time can have slots that are gone.
        let header = self.raw(action).await?.header;
        let slots = || header.slots.iter().filter_map(|slot| Some((slot, slot.shares(&header)?)));
        let found = slots().find(|(_, label)| share.belongs_to(label).is_ok());
        let Some((slot, label)) = found else {
            let why = slots().next().map_or_else(
                || UnsealError::NoSlot("shares").to_string(),
                |(_, label)| {
                    share.belongs_to(&label).err().map_or_else(String::new, |error| error.to_string())
                },
            );
            return Err(wrong(why));
        };
        let mut gathered = locked(&self.gathered);
        let have = gathered.add(label, share, clock::boottime_ns());
        self.audit.later(&json!({ "do": "vault share", "slot": slot.slot, "have": have }), None, None);
        if have < u32::from(label.threshold) {
            return Ok(None);
        }
        let shares = gathered.take();
        let own = share_text::combine(&shares, &label).map_err(|error| wrong(error.to_string()))?;
        let key = slot.open(&header, &own).map_err(|error| {
            wrong(format!("{error}: one of the shares was made up; all have to be given again"))
        })?;
        Ok(Some(Found { key, slot: slot.slot }))
    }

    /// Everything that follows once there is a data key.
    async fn enter(
        &self,
        action: &Action,
        Found { key, slot }: Found,
        asked: &UnsealRequest,
        since: u64,
    ) -> Result<(), ApiError> {
        let (place, boot) = (Arc::clone(&self.place), self.site.boot.clone());
        let read = blocking(action, move || read(&place, key, &boot)).await?;
        let Read { key, store, mut state, machine, torn } = read.map_err(|error| {
            if matches!(error, UnsealError::Store(StoreError::Format { .. })) {
                *self.phase() = Phase::Damaged { why: error.to_string() };
            }
            error.answer(action)
        })?;
        let vault = store.header.vault.0;
        let mut warnings = Vec::new();
        if torn > 0 {
            warnings
                .push(format!("{torn} bytes of a change that nobody was told of were cut off after a crash"));
        }
        let then = state.machine.as_ref().map(|(machine, _)| machine.facts.clone()).unwrap_or_default();
        let compared = compare(&then, &self.site.facts);
        if !compared.other.is_empty() && asked.accept_machine.is_none() {
            let error = UnsealError::OtherMachine(words(&compared.other));
            self.audit.later(&json!({ "do": "vault unseal", "denied": error.to_string() }), None, None);
            return Err(error.answer(action));
        }
        let reached = self.check_epoch(action, &vault, &store, &mut state, asked, &mut warnings).await?;
        let payload = json!({
            "do": "vault unseal", "by": action.payload["by"], "vault": Hex(vault).to_string(), "slot": slot,
            "epoch": store.epoch + 1, "accept_machine": asked.accept_machine,
            "accept_rollback": asked.accept_rollback, "hardware": words(&compared.changed), "torn": torn,
        });
        let intent = Intent { payload, agent: None, subject: Some(subject(&vault)) };
        let recorded = self.audit.intent(intent).await?;
        let (key, store, state) = match reached {
            None => (key, store, state),
            // From here on it is later than anything that the ledger knows of it.
            Some(reached) => {
                let moved =
                    blocking(action, move || move_on(key, store, state, reached.saturating_add(1))).await?;
                moved.map_err(|error| action.failed(&error))?
            }
        };
        let epoch = store.epoch;
        self.warn_of(&store.header, &compared, &mut warnings);
        let open = Arc::new(Open::new((key, machine), slot, state, store, warnings));
        let opened = if self.become_open(&open, since) { Ok(()) } else { Err("it was sealed meanwhile") };
        locked(&self.gathered).clear();
        self.audit.outcome(recorded, &done(&opened, Some(epoch)));
        opened.map_err(|why| UnsealError::Wrong(why.to_owned()).answer(action))?;
        if asked.accept_machine.is_some() {
            self.remember_hardware(action, &open).await?;
        }
        self.certify(&open).await;
        Ok(())
    }

    /// Compares the file's epoch with the ledger's; gives the ledger's where an operator accepts that it is later.
    async fn check_epoch(
        &self,
        action: &Action,
        vault: &[u8; 16],
        store: &Store,
        state: &mut State,
        asked: &UnsealRequest,
        warnings: &mut Vec<String>,
    ) -> Result<Option<u64>, ApiError> {
        // What is on record from the last change on, whose intent the file names.
        let reached = self.audit.epoch(vault, state.ledger).await?;
        if reached.epoch > store.epoch {
            let error = UnsealError::Rollback { have: store.epoch, known: reached.epoch, seq: reached.seq };
            if asked.accept_rollback.is_none() {
                self.audit.later(&json!({ "do": "vault unseal", "denied": error.to_string() }), None, None);
                return Err(error.answer(action));
            }
            return Ok(Some(reached.epoch));
        }
        if reached.entries == 0 {
            // A ledger that begins anew is looked at from its beginning from now on.
            state.ledger = 0;
            warnings.push(
                "the ledger has no entry about this vault's last change: if both were set back together, nothing \
                 here shows it"
                    .to_owned(),
            );
        }
        Ok(None)
    }

    pub(crate) fn warn_of(&self, header: &Header, compared: &Compared, warnings: &mut Vec<String>) {
        if !compared.changed.is_empty() {
            warnings.push(format!("the hardware changed: {}", words(&compared.changed)));
        }
        let kinds: Vec<SlotKind> = header.slots.iter().map(|slot| slot.lock.kind()).collect();
        if !kinds.iter().any(|kind| matches!(kind, SlotKind::Passphrase | SlotKind::Shares)) {
            warnings.push(
                "there is no way back without this machine: add a passphrase or recovery shares \
                 (`octant vault slots add`)"
                    .to_owned(),
            );
        }
        if kinds.contains(&SlotKind::StaticFile) {
            warnings.push("a static file opens it: whoever has the file has the vault".to_owned());
        }
    }

    /// Accepts the hardware of an open vault as it is now.
    async fn accept_hardware(&self, action: &Action, asked: &UnsealRequest) -> Result<Unsealed, ApiError> {
        if asked.accept_machine.is_some() {
            let open = self.open(action.what, &action.place)?;
            self.remember_hardware(action, &open).await?;
            locked(&open.warnings).retain(|warning| !warning.starts_with("the hardware changed"));
        }
        Ok(Unsealed { status: self.status(), slot: None })
    }

    /// Keeps what the hardware is like now as what it is to be like.
    async fn remember_hardware(&self, action: &Action, open: &Arc<Open>) -> Result<(), ApiError> {
        let Some((mut machine, seed)) = locked(&open.state).machine.clone() else { return Ok(()) };
        machine.facts = accepted(&machine.facts, &self.site.facts);
        let action = action.clone().with("do", "vault accept machine");
        let recorded = self.intend(open, &action).await?;
        let (seq, epoch) = (recorded.seq(), open.epoch() + 1);
        let changes = vec![(Op::Machine(machine), seed.into_vec())];
        let committed = self.commit(&action, Arc::clone(open), changes, seq).await?;
        self.audit.outcome(recorded, &done(&committed.as_ref().map(drop), Some(epoch)));
        committed.map(drop).map_err(|error| action.failed(&error))
    }

    /// States whose log this machine's is, once for each unseal: the ledger makes its own key and never calls the vault,
    /// so there is no circle at boot.
    pub(crate) async fn certify(&self, open: &Open) {
        let key = match self.audit.log_key().await {
            Ok(key) => key,
            Err(error) => return tracing::warn!("the log's key is not certified: {error}"),
        };
        let statement = attest(&open.machine, format!("octant log key\n{key}\n"));
        let payload = json!({ "do": "vault certify", "certificate": statement, "done": true });
        self.audit.later(&payload, None, None);
        *locked(&open.certificate) = Some(statement);
    }
}

/// A statement under the machine's key.
pub(crate) fn attest(machine: &SigningKey, statement: String) -> Attestation {
    let signature = machine.sign(&[STATEMENT, statement.as_bytes()].concat());
    Attestation {
        statement,
        public_key: Base64(machine.public().to_vec()),
        signature: Base64(signature.to_vec()),
    }
}

/// Tries every slot of a kind.
pub(crate) fn open_any(raw: &Raw, bytes: &[u8], kind: SlotKind) -> Result<Found, UnsealError> {
    let mut tried = Vec::new();
    for slot in &raw.header.slots {
        match slot.open_with(&raw.header, bytes, kind) {
            None => {}
            Some(Ok(key)) => return Ok(Found { key, slot: slot.slot }),
            Some(Err(
                error @ (SlotError::Wrong(_) | SlotError::Passphrase { .. } | SlotError::Crypto(_)),
            )) => {
                tried.push(error.to_string());
            }
        }
    }
    if tried.is_empty() {
        return Err(UnsealError::NoSlot(kind.as_str()));
    }
    Err(UnsealError::Wrong(tried.join("; ")))
}

/// Opens everything. Blocks.
pub(crate) fn read(place: &crate::store::Place, key: Key, boot: &str) -> Result<Read, UnsealError> {
    let path = place.path();
    let gone = || UnsealError::Wrong("the file is gone".to_owned());
    let raw = place.read()?.ok_or_else(gone)?;
    let contents = raw.contents(&key, boot, Some(now()));
    let Contents { opened, state, machine } = contents.map_err(|source| StoreError::of(&path, source))?;
    let torn = opened.torn;
    let store = Store::open(place, raw, &opened)?;
    Ok(Read { key, store, state, machine, torn })
}

/// Writes the file anew under a later epoch. Blocks.
fn move_on(key: Key, mut store: Store, state: State, epoch: u64) -> Result<(Key, Store, State), StoreError> {
    let contents = crate::store::snapshot(&state, now())?;
    store.rewrite(store.header.clone(), &key, epoch, &contents)?;
    Ok((key, store, state))
}

/// A small file's bytes; none when there is none.
pub(crate) fn read_small(
    path: &std::path::Path,
    most: u64,
) -> std::io::Result<Option<zeroize::Zeroizing<Vec<u8>>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // With room for all of it from the start: memory that a vector leaves when it grows is not wiped.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or(0) + 1));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it has more than {most} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    Ok(Some(bytes))
}
