//! What writes the whole file: a new vault, slots, a new data key, a backup put back.

use crate::audit::{Intent, done, made, subject};
use crate::core::check_text;
use crate::format::Header;
use crate::hex::Hex;
use crate::raw::{self, Raw};
use crate::refusal::Refusal;
use crate::service::{FirstBoot, VaultConfig};
use crate::slots::{self, Lock, Slot};
use crate::state::{Machine, Op, State};
use crate::store::{self, StoreError};
use crate::values::{Picked, open_value, seal_machine, seal_value};
use crate::vault::{Action, Open, Phase, Vault, blocking, locked, now, task};
use octant_api::error::{ApiError, Code};
use octant_api::vault::{
    self as api, Copied, InitRequest, Initialised, KEY_FILE_MIN, NewSlot, PASSPHRASE_BYTES, POLICY_REF,
    Rekeyed, SlotAdded, SlotInfo, SlotKind, VALUE_MAX,
};
use octant_crypto::aead::SALT_LEN;
use octant_crypto::memory::{Buffer, Key};
use octant_crypto::passphrase::{Argon2Cost, passphrase_key};
use octant_crypto::share_text::{self, Label};
use octant_crypto::sign::SigningKey;
use octant_ids::{Principal, Sha256};
use octant_tpm::{Binding, PcrSet, PolicyRef, ReleasePublicKey};
use serde_json::json;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a TPM slot is bound to unless somebody says otherwise: what the firmware started, the state of secure boot, the
/// unified kernel image, and what was handed to that image besides, such as another command line, which its own register
/// does not show. Without secure boot any program could extend 11 as the image does; then 4 tells them apart.
const PCRS: [u8; 4] = [4, 7, 11, 12];
/// The same where a release key approves: what whoever makes releases can know. It is worth something with secure boot.
const PCRS_RELEASED: [u8; 2] = [11, 12];
/// What a new slot hands to whoever keeps it: shares, a line each.
type Handed = Option<Zeroizing<Vec<u8>>>;

fn refused(action: &Action, code: Code, why: impl std::fmt::Display, next: &'static str) -> ApiError {
    ApiError::new(code, action.what, &action.place, why, next)
}

impl Vault {
    /// Makes a vault with one slot and a new machine's identity, and leaves it unsealed.
    pub(crate) async fn init(
        self: &Arc<Self>,
        by: &Principal,
        asked: InitRequest,
        bytes: Option<Buffer>,
    ) -> Result<(Initialised, Handed), ApiError> {
        let action = Action::new("make the vault", "init", by, asked.slot.kind.as_str());
        let (vault, since) = (Arc::clone(self), self.sealings());
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            let known = vault.audit.last_made().await?;
            let absent = matches!(*vault.phase(), Phase::Absent { .. });
            match (absent, &known, &asked.replace) {
                (true, None, _) | (_, _, Some(_)) => {}
                (true, Some(known), None) => {
                    let why = format!("the ledger knows vault {known} of this machine, and its file is gone");
                    let next = "restore a backup, or `octant vault init --replace REASON`: its secrets are lost then";
                    return Err(refused(&action, Code::Conflict, why, next));
                }
                (false, _, None) => {
                    let next = "use it, or `octant vault init --replace REASON`: its secrets are lost then";
                    return Err(refused(&action, Code::Conflict, "there is a vault", next));
                }
            }
            if let Some(reason) = &asked.replace {
                check_reason(reason).map_err(|refusal| action.refused(&refusal))?;
            }
            vault.make(&action, asked, bytes, since).await
        })
        .await
    }

    async fn make(
        self: &Arc<Self>,
        action: &Action,
        asked: InitRequest,
        bytes: Option<Buffer>,
        since: u64,
    ) -> Result<(Initialised, Handed), ApiError> {
        let crypto = |error: octant_crypto::CryptoError| {
            refused(action, Code::Unavailable, error, "try again in a moment")
        };
        let key = Key::random().map_err(crypto)?;
        let machine = SigningKey::generate().map_err(crypto)?;
        let created_ms = now().wall_ms;
        let mut header = Header {
            vault: Hex(octant_crypto::random().map_err(crypto)?),
            key: 1,
            epoch: 1,
            frames: 0,
            created_ms,
            machine: Sha256(machine.public()),
            next_slot: 1,
            slots: Vec::new(),
        };
        let (key, slot, handed) = self.new_slot(action, header.clone(), 0, asked.slot, bytes, key).await?;
        header.slots.push(slot.clone());
        let mut payload = action.payload.clone();
        payload["vault"] = header.vault.to_string().into();
        payload["fingerprint"] = crate::machine::fingerprint(&header.machine).to_string().into();
        payload["replace"] = asked.replace.into();
        let recorded = self.audit.intent(Intent { payload, agent: None, subject: Some(made()) }).await?;

        let mut state = State::new(&self.site.boot);
        let facts = self.site.facts.clone();
        let record = Machine { public: header.machine, created_ms, facts };
        let seed = seal_machine(&key, &header.vault.0, &machine).map_err(crypto)?;
        let vault = header.vault.0;
        for (op, value) in [
            (Op::Machine(record), seed),
            (Op::Seen { ledger: recorded.seq(), wall_ms: created_ms, grants: 1 }, Vec::new()),
        ] {
            state.apply(op, &value).map_err(|misfit| refused(action, Code::Internal, misfit, "report it"))?;
        }
        let (place, aside) = (Arc::clone(&self.place), aside("before-init"));
        let written = blocking(action, move || {
            let contents = store::snapshot(&state, now())?;
            let store = place.create(header, &key, &contents, Some(&aside))?;
            Ok::<_, StoreError>((store, state, key))
        });
        let written = written.await?.map_err(|error| action.failed(&error));
        self.audit.outcome(recorded, &done(&written.as_ref().map(drop), None));
        let (store, state, key) = written?;
        let fingerprint = crate::machine::fingerprint(&store.header.machine);
        let mut warnings = Vec::new();
        self.warn_of(&store.header, &crate::machine::Compared::default(), &mut warnings);
        let open = Arc::new(Open::new((key, machine), slot.slot, state, store, warnings));
        if self.become_open(&open, since) {
            self.place.keep_sealed(false).map_err(|error| action.failed(&error))?;
        }
        self.audit.later(
            &json!({ "do": "vault unseal", "slot": slot.slot, "epoch": 1, "done": true }),
            None,
            Some(subject(&vault)),
        );
        self.certify(&open).await;
        Ok((Initialised { vault: Hex(vault).to_string(), fingerprint, slot: slot.info() }, handed))
    }

    /// Makes a vault at the first start of a machine that can keep it by itself: with a TPM, else with the file that is
    /// there, as far as the configuration lets it. Where the ledger knows an earlier vault, none is made: a file that
    /// disappeared is not a first start.
    pub(crate) async fn first_boot(self: &Arc<Self>, config: &VaultConfig) {
        match self.first_slot(config) {
            Ok(Some((slot, bytes))) => self.first_made(slot, bytes).await,
            Ok(None) => {}
            Err(why) => self.not_made(why),
        }
    }

    /// What the first slot is to be; none where nothing is there to keep it, and nothing was asked for by name.
    fn first_slot(&self, config: &VaultConfig) -> Result<Option<(NewSlot, Option<Buffer>)>, String> {
        let has_tpm = locked(&self.tpm).is_some();
        let named = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let labelled = |kind| NewSlot { label: "first boot".to_owned(), ..NewSlot::of(kind) };
        if has_tpm && config.first_boot != FirstBoot::KeyFile {
            let path = &self.site.release_key;
            let pem = crate::unseal::read_small(path, 4096).map_err(|error| named(path, error))?;
            let pem = pem.and_then(|pem| String::from_utf8(pem.to_vec()).ok());
            let release_key = config.release_key.clone().or(pem);
            return Ok(Some((
                NewSlot { pcrs: config.pcrs.clone(), release_key, ..labelled(SlotKind::Tpm) },
                None,
            )));
        }
        if config.first_boot == FirstBoot::Tpm {
            return Err("the configuration wants it kept by a TPM, and none works here".to_owned());
        }
        let path = &self.site.key_file;
        let Some(bytes) =
            crate::unseal::read_small(path, VALUE_MAX as u64).map_err(|error| named(path, error))?
        else {
            if config.first_boot == FirstBoot::KeyFile {
                return Err(format!(
                    "the configuration wants it kept by {}, which is not there",
                    path.display()
                ));
            }
            return Ok(None);
        };
        let mut buffer = self.memory.room(bytes.len()).map_err(|error| error.to_string())?;
        buffer.copy_from_slice(&bytes);
        Ok(Some((labelled(SlotKind::StaticFile), Some(buffer))))
    }

    fn not_made(&self, why: String) {
        tracing::warn!("no vault was made: {why}");
        if let Phase::Absent { why: said } = &mut *self.phase() {
            *said = why;
        }
    }

    async fn first_made(self: &Arc<Self>, slot: NewSlot, bytes: Option<Buffer>) {
        let by = "vault".parse().map_or(Principal::Init, Principal::Service);
        match self.init(&by, InitRequest { slot, replace: None }, bytes).await {
            Ok((made, _)) => tracing::info!("made vault {}: machine {}", made.vault, made.fingerprint),
            Err(error) => self.not_made(error.to_string()),
        }
    }

    /// Adds a slot.
    pub(crate) async fn slot_add(
        self: &Arc<Self>,
        by: &Principal,
        new: NewSlot,
        bytes: Option<Buffer>,
    ) -> Result<(SlotAdded, Handed), ApiError> {
        let action = Action::new("add a slot", "slot add", by, new.kind.as_str());
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            let open = vault.open(action.what, &action.place)?;
            let mut header = open.header();
            if header.slots.len() >= api::SLOTS_MAX {
                return Err(action.refused(&Refusal::TooMany { what: "slots", most: api::SLOTS_MAX }));
            }
            let number = header.next_slot;
            // The key is copied for the moment of wrapping it.
            let copy = Key::from_bytes(open.key.bytes())
                .map_err(|error| refused(&action, Code::Unavailable, error, "try again in a moment"))?;
            let (_, slot, handed) = vault.new_slot(&action, header.clone(), number, new, bytes, copy).await?;
            header.next_slot += 1;
            header.slots.push(slot.clone());
            let epoch = vault.write_header(&action, &open, header, &slot.info()).await?;
            Ok((SlotAdded { slot: slot.info(), epoch }, handed))
        })
        .await
    }

    /// Removes a slot.
    pub(crate) async fn slot_remove(self: &Arc<Self>, by: &Principal, number: u32) -> Result<u64, ApiError> {
        let action = Action::new("remove a slot", "slot remove", by, number);
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            let open = vault.open(action.what, &action.place)?;
            let mut header = open.header();
            let at = header.slots.iter().position(|slot| slot.slot == number);
            let next = "see `octant vault slots`";
            let at = at.ok_or_else(|| refused(&action, Code::NotFound, "there is no such slot", next))?;
            if header.slots.len() == 1 {
                let next = "add another one first";
                return Err(refused(&action, Code::Conflict, "it is the only way into the vault", next));
            }
            let gone = header.slots.remove(at);
            vault.write_header(&action, &open, header, &gone.info()).await
        })
        .await
    }

    /// Writes the file with another header, as the next change.
    async fn write_header(
        &self,
        action: &Action,
        open: &Arc<Open>,
        header: Header,
        slot: &SlotInfo,
    ) -> Result<u64, ApiError> {
        let action = action.clone().with("slot", slot.slot).with("about", slot.about.clone());
        let recorded = self.intend(open, &action).await?;
        let (writing, seq) = (Arc::clone(open), recorded.seq());
        let epoch = open.epoch() + 1;
        let written = blocking(&action, move || {
            let mut store = locked(&writing.store);
            let mut state = locked(&writing.state);
            let seen = Op::Seen { ledger: seq, wall_ms: state.wall(now()), grants: state.next_grant };
            let _fits = state.apply(seen, &[]);
            let contents = store::snapshot(&state, now())?;
            // Values are used while it is written.
            drop(state);
            store.rewrite(header, &writing.key, epoch, &contents)?;
            writing.show(&store);
            Ok(())
        });
        let written: Result<(), StoreError> = written.await?;
        self.audit.outcome(recorded, &done(&written.as_ref().map(drop), Some(epoch)));
        let mut warnings = locked(&open.warnings);
        warnings.retain(|warning| warning.starts_with("the hardware"));
        self.warn_of(&open.header(), &crate::machine::Compared::default(), &mut warnings);
        written.map(|()| epoch).map_err(|error| action.failed(&error))
    }

    /// Replaces the data key: every value is sealed anew, and only the slots that are named remain.
    pub(crate) async fn rekey(
        self: &Arc<Self>,
        by: &Principal,
        new: Vec<NewSlot>,
        bytes: Vec<Buffer>,
    ) -> Result<(Rekeyed, Vec<Zeroizing<Vec<u8>>>), ApiError> {
        let action = Action::new("replace the data key", "rekey", by, "vault");
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let since = vault.sealings();
            let _alone = vault.alone(&action).await?;
            let open = vault.open(action.what, &action.place)?;
            if new.is_empty() || new.len() > 8 {
                return Err(refused(&action, Code::InvalidParams, "1 to 8 slots remain", "name them"));
            }
            if new.iter().all(|slot| slot.kind == SlotKind::Shares) {
                let why = "another slot has to remain beside the shares: they are handed over when the old slots are gone";
                let next = "name one; once the shares are in good hands, `octant vault slots rm` takes it away";
                return Err(refused(&action, Code::InvalidParams, why, next));
            }
            let old = open.header();
            let mut header = Header { key: old.key + 1, slots: Vec::new(), ..old };
            let mut key = Key::random()
                .map_err(|error| refused(&action, Code::Unavailable, error, "try again in a moment"))?;
            let (mut given, mut handed) = (bytes.into_iter(), Vec::new());
            for slot in new {
                let takes = matches!(slot.kind, SlotKind::Passphrase | SlotKind::StaticFile);
                let bytes = if takes { given.next() } else { None };
                let number = header.next_slot;
                header.next_slot += 1;
                let made = vault.new_slot(&action, header.clone(), number, slot, bytes, key).await?;
                key = made.0;
                header.slots.push(made.1);
                handed.extend(made.2);
            }
            let slots = header.slots.iter().map(Slot::info).collect();
            let recorded = vault.intend(&open, &action.clone().with("key", header.key)).await?;
            let (writing, seq, memory) = (Arc::clone(&open), recorded.seq(), Arc::clone(&vault));
            let sealed = blocking(&action, move || reseal(&memory, &writing, header, key, seq)).await?;
            let epoch = locked(&open.store).epoch;
            vault.audit.outcome(recorded, &done(&sealed.as_ref().map(drop), Some(epoch)));
            let anew =
                sealed.map_err(|why| refused(&action, Code::Failed, why, "see `octant vault doctor`"))?;
            vault.become_open(&Arc::new(anew), since);
            Ok((Rekeyed { epoch, slots }, handed))
        })
        .await
    }

    /// Makes a slot that wraps the data key; the key comes back with it, since it is nowhere else.
    async fn new_slot(
        self: &Arc<Self>,
        action: &Action,
        header: Header,
        number: u32,
        new: NewSlot,
        bytes: Option<Buffer>,
        data: Key,
    ) -> Result<(Key, Slot, Handed), ApiError> {
        check_text("the label", &new.label).map_err(|refusal| action.refused(&refusal))?;
        let (vault, asked) = (Arc::clone(self), action.clone());
        blocking(action, move || {
            let salt = octant_crypto::random::<SALT_LEN>()
                .map_err(|error| refused(&asked, Code::Unavailable, error, "try again in a moment"))?;
            let (lock, own, handed) = vault.lock(&asked, &header, number, &new, bytes, &salt)?;
            let made = slots::wrap(&header, number, new.label, now().wall_ms, lock, salt, (&own, &data));
            let slot = made.map_err(|error| refused(&asked, Code::Unavailable, error, "try again"))?;
            Ok((data, slot, handed))
        })
        .await?
    }

    /// What a new slot's own key comes from. Blocks.
    fn lock(
        &self,
        action: &Action,
        header: &Header,
        number: u32,
        new: &NewSlot,
        bytes: Option<Buffer>,
        salt: &[u8; SALT_LEN],
    ) -> Result<(Lock, Key, Handed), ApiError> {
        let invalid = |why: String| refused(action, Code::InvalidParams, why, "correct it and try again");
        let unavailable = |why: String| refused(action, Code::Unavailable, why, "see `octant vault doctor`");
        let given = |what, least, most| match &bytes {
            None => Err(action.refused(&Refusal::NoBytes(what))),
            Some(bytes) if bytes.len() < least || bytes.len() > most => {
                Err(action.refused(&Refusal::Length { what, bytes: bytes.len(), least, most }))
            }
            Some(bytes) => Ok(bytes),
        };
        match new.kind {
            SlotKind::Passphrase => {
                let passphrase = given("a passphrase", *PASSPHRASE_BYTES.start(), *PASSPHRASE_BYTES.end())?;
                let cost = new.cost.map_or_else(Argon2Cost::default, |cost| Argon2Cost {
                    memory_kib: cost.memory_kib,
                    passes: cost.passes,
                    lanes: cost.lanes,
                });
                slots::check_work(&header.slots, Some(cost)).map_err(invalid)?;
                let own =
                    passphrase_key(passphrase, salt, cost).map_err(|error| invalid(error.to_string()))?;
                Ok((Lock::Passphrase { cost }, own, None))
            }
            SlotKind::StaticFile => {
                let file = given("a key file", KEY_FILE_MIN, VALUE_MAX)?;
                let own = slots::file_key(file).map_err(|error| unavailable(error.to_string()))?;
                Ok((Lock::StaticFile {}, own, None))
            }
            SlotKind::Shares => {
                let label = Label::new(header.vault.0, number, new.threshold, new.count)
                    .map_err(|error| invalid(error.to_string()))?;
                let own = Key::random().map_err(|error| unavailable(error.to_string()))?;
                let shares = share_text::split(&own, &label).map_err(|error| invalid(error.to_string()))?;
                let mut lines = Zeroizing::new(Vec::with_capacity(512 * shares.len()));
                for share in shares {
                    lines.extend_from_slice(share.to_text().as_bytes());
                    lines.push(b'\n');
                }
                let (threshold, count, set) = (new.threshold, new.count, Hex(label.set));
                Ok((Lock::Shares { threshold, count, set }, own, Some(lines)))
            }
            SlotKind::Tpm => {
                let binding = binding(new).map_err(invalid)?;
                let own = Key::random().map_err(|error| unavailable(error.to_string()))?;
                let mut tpm = locked(&self.tpm);
                let tpm = tpm.as_mut();
                let tpm = tpm.ok_or_else(|| unavailable("there is no TPM that Octant can use".to_owned()))?;
                let sealed =
                    tpm.seal(own.bytes(), &binding).map_err(|error| unavailable(error.to_string()))?;
                Ok((Lock::Tpm { sealed: Box::new(sealed) }, own, None))
            }
        }
    }

    /// Writes the whole file, as it is, into a file of the operator's.
    pub(crate) async fn backup(self: &Arc<Self>, by: &Principal, into: OwnedFd) -> Result<Copied, ApiError> {
        let action = Action::new("write a backup", "backup", by, "vault");
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            let open = vault.open(action.what, &action.place)?;
            let intent = Intent { payload: action.payload.clone(), agent: None, subject: None };
            let recorded = vault.audit.intent(intent).await?;
            let copied = blocking(&action, move || {
                let (bytes, vault, epoch) = {
                    let store = locked(&open.store);
                    let bytes = store.bytes().map_err(|error| error.to_string())?;
                    (bytes, store.header.vault.to_string(), store.epoch)
                };
                // Where the operator's file is, the vault does not depend on: nobody waits for it but who asked.
                drop(open);
                write_copy(into, &bytes).map_err(|error| error.to_string())?;
                Ok(Copied { vault, epoch, bytes: bytes.len() as u64 })
            });
            let copied: Result<Copied, String> = copied.await?;
            vault.audit.outcome(recorded, &done(&copied.as_ref().map(drop), None));
            copied.map_err(|why| refused(&action, Code::Failed, why, "give another file"))
        })
        .await
    }

    /// Puts a backup in the place of the vault, which is sealed then.
    pub(crate) async fn restore(
        self: &Arc<Self>,
        by: &Principal,
        from: OwnedFd,
        reason: String,
    ) -> Result<Copied, ApiError> {
        let action = Action::new("restore a backup", "restore", by, "vault").with("reason", reason.clone());
        check_reason(&reason).map_err(|refusal| action.refused(&refusal))?;
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            let _alone = vault.alone(&action).await?;
            let path = vault.place.path();
            let read = blocking(&action, move || read_copy(from).and_then(|bytes| Raw::parse(bytes, &path)));
            let raw = read.await?.map_err(|error| {
                refused(&action, Code::InvalidParams, error, "give a file that `octant vault backup` wrote")
            })?;
            let (checking, asked) = (Arc::clone(&vault), action.clone());
            let raw = blocking(&action, move || checking.check_copy(&asked, &raw).map(|()| raw)).await??;
            let mut payload = action.payload.clone();
            payload["vault"] = raw.header.vault.to_string().into();
            payload["backup_epoch"] = raw.header.epoch.into();
            let recorded = vault.audit.intent(Intent { payload, agent: None, subject: Some(made()) }).await?;
            if let Some(closed) = vault.close("a backup was put in its place") {
                crate::vault::settled(&closed).await;
            }
            let (place, aside) = (Arc::clone(&vault.place), aside("before-restore"));
            let put = blocking(&action, move || place.put_back(&raw, &aside).map(|()| raw)).await?;
            vault.audit.outcome(recorded, &done(&put.as_ref().map(drop), None));
            let raw = put.map_err(|error| action.failed(&error))?;
            let (vault_id, epoch, bytes) = (raw.header.vault.to_string(), raw.header.epoch, raw.len() as u64);
            let why = "a backup was put in its place".to_owned();
            *vault.phase() = Phase::Sealed { header: Box::new(raw.header), epoch, why };
            Ok(Copied { vault: vault_id, epoch, bytes })
        })
        .await
    }

    /// Where the data key is in memory and the backup was made under it, the backup has to open.
    fn check_copy(&self, action: &Action, raw: &Raw) -> Result<(), ApiError> {
        let open = match &*self.phase() {
            Phase::Open(open) => Arc::clone(open),
            _ => return Ok(()),
        };
        let header = open.header();
        if (header.vault, header.key) != (raw.header.vault, raw.header.key) {
            return Ok(());
        }
        let opened = raw.open(&open.key).map(drop);
        opened.map_err(|error| {
            refused(action, Code::Damaged, error, "give another backup; nothing was changed")
        })
    }
}

/// Whether a reason is one.
pub(crate) fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::NoReason);
    }
    check_text("the reason", reason)
}

fn aside(why: &str) -> String {
    format!("vault.{why}.{}", now().wall_ms)
}

fn binding(new: &NewSlot) -> Result<Binding, String> {
    let pcrs = match (new.pcrs.as_slice(), &new.release_key) {
        ([], None) => &PCRS[..],
        ([], Some(_)) => &PCRS_RELEASED[..],
        (pcrs, _) => pcrs,
    };
    let pcrs = PcrSet::new(pcrs.iter().copied()).map_err(|error| error.to_string())?;
    let Some(pem) = &new.release_key else { return Ok(Binding::Pcrs(pcrs)) };
    let key = ReleasePublicKey::from_pem(pem).map_err(|error| error.to_string())?;
    let policy_ref = PolicyRef::new(POLICY_REF).map_err(|error| error.to_string())?;
    Ok(Binding::Released { key, pcrs, policy_ref })
}

/// Seals everything under a new data key. Blocks.
fn reseal(vault: &Vault, old: &Open, header: Header, key: Key, seq: u64) -> Result<Open, String> {
    let mut state = locked(&old.state).clone();
    let id = header.vault.0;
    let mut changes =
        vec![(Op::Seen { ledger: seq, wall_ms: state.wall(now()), grants: state.next_grant }, Vec::new())];
    if let Some((machine, _)) = &state.machine {
        let seed = seal_machine(&key, &id, &old.machine).map_err(|error| error.to_string())?;
        changes.push((Op::Machine(machine.clone()), seed));
    }
    for secret in state.secrets.values() {
        for version in &secret.info.versions {
            let Some(sealed) = secret.values.get(version.version) else { continue };
            let picked = Picked::from(crate::core::Usable { info: &secret.info, version, sealed });
            let mut value = vault.memory.room(picked.bytes()).map_err(|error| error.to_string())?;
            open_value(&old.key, &id, &picked, &mut value)
                .map_err(|error| format!("{} version {}: {error}", picked.name, picked.version))?;
            let anew = seal_value(&key, &id, &secret.info, version, &mut value);
            let anew = anew.map_err(|error| error.to_string())?;
            let name = &secret.info.name;
            changes.push((Op::Value { name: name.clone(), version: version.version }, anew));
        }
    }
    for (op, value) in changes {
        state.apply(op, &value).map_err(|misfit| misfit.to_string())?;
    }
    let machine = SigningKey::from_seed(old.machine.seed().bytes()).map_err(|error| error.to_string())?;
    let slot = header.slots.first().map_or(0, |slot| slot.slot);
    let mut store = locked(&old.store);
    let epoch = store.epoch + 1;
    let contents = store::snapshot(&state, now()).map_err(|error| error.to_string())?;
    store.rewrite(header, &key, epoch, &contents).map_err(|error| error.to_string())?;
    let store = store.handed_over();
    let open = Open::new((key, machine), slot, state, store, locked(&old.warnings).clone());
    locked(&open.certificate).clone_from(&locked(&old.certificate));
    Ok(open)
}

/// The descriptor must be a file: a pipe that nobody reads would hold the vault up.
fn regular(file: &File) -> std::io::Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() && !kind.is_fifo() {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"))
}

fn write_copy(into: OwnedFd, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::from(into);
    regular(&file)?;
    // What was in it before must not stay behind the copy.
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_copy(from: OwnedFd) -> Result<Vec<u8>, StoreError> {
    let mut file = File::from(from);
    let failed = |source| StoreError::Io { step: "read", path: "the backup".into(), source };
    regular(&file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    raw::read_all(&file).map_err(failed)
}
