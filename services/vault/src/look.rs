//! What the vault says of itself: status, checks, the machine.

use crate::machine;
use crate::raw::Raw;
use crate::state::State;
use crate::vault::{Action, Open, Phase, Vault, blocking, locked, now};
use octant_api::error::ApiError;
use octant_api::text::Base64;
use octant_api::vault::{
    Check, DoctorReport, MachineIdentity, Mark, SlotInfo, SlotKind, State as Sealing, Status, VersionState,
};
use octant_crypto::aead;
use octant_ids::Principal;
use octant_service::Health;
use octant_sys::clock;
use octant_sys::confine::CORE_LIMIT;
use octant_tpm::PcrSet;
use std::sync::Arc;

/// Versions that expire within this time are warned about: two weeks, in milliseconds.
const SOON_MS: u64 = 14 * 86_400_000;

impl Vault {
    /// How it is.
    pub(crate) fn status(&self) -> Status {
        let phase = self.phase();
        let mut status = Status {
            state: Sealing::Absent,
            why: String::new(),
            vault: None,
            epoch: 0,
            fingerprint: None,
            slots: Vec::new(),
            shares: locked(&self.gathered).count(clock::boottime_ns()),
            memory: String::new(),
            secrets: None,
            leases: None,
            warnings: Vec::new(),
        };
        let mut show = |header: &crate::format::Header, epoch: u64| {
            status.vault = Some(header.vault.to_string());
            status.epoch = epoch;
            status.fingerprint = Some(machine::fingerprint(&header.machine));
            status.slots = header.slots.iter().map(crate::slots::Slot::info).collect();
        };
        match &*phase {
            Phase::Absent { why } => status.why.clone_from(why),
            Phase::Damaged { why } => (status.state, status.why) = (Sealing::Damaged, why.clone()),
            Phase::Sealed { header, epoch, why } => {
                show(header, *epoch);
                (status.state, status.why) = (Sealing::Sealed, why.clone());
            }
            Phase::Open(open) => {
                show(&open.header(), open.epoch());
                // One lock after the other, never one within the other.
                status.warnings.clone_from(&locked(&open.warnings));
                let state = locked(&open.state);
                status.state = Sealing::Unsealed;
                status.memory = self.memory.kind().to_owned();
                status.secrets = Some(state.secrets.len() as u64);
                status.leases = Some(state.alive() as u64);
                status.warnings.extend(expiring(&state));
            }
        }
        status
    }

    /// One line for PID 1's status.
    pub(crate) fn line(&self) -> String {
        let status = self.status();
        match status.state {
            Sealing::Absent => format!("no vault: {}", status.why),
            Sealing::Damaged => format!("DAMAGED: {}", status.why),
            Sealing::Sealed => format!("SEALED, waits for {}", waits_for(&status.slots, status.shares)),
            Sealing::Unsealed => {
                let open = match &*self.phase() {
                    Phase::Open(open) => open.slot,
                    _ => 0,
                };
                let slot = status.slots.iter().find(|slot| slot.slot == open);
                let by = slot.map_or("a slot", |slot| match slot.kind {
                    SlotKind::StaticFile => "STATIC FILE",
                    kind => kind.as_str(),
                });
                let (secrets, leases) = (status.secrets.unwrap_or(0), status.leases.unwrap_or(0));
                format!("unsealed by {by}, {secrets} secrets, {leases} leases")
            }
        }
    }

    /// Does what the vault is for, with a value of its own: seals and opens it, and sees that it is in order with the
    /// ledger. Sealed is in order too, and is shown as what it is.
    pub(crate) async fn probe(self: &Arc<Self>) -> Health {
        if let Err(why) = self.audit.records.healthy().await {
            return Health::Bad(why);
        }
        let open = match &*self.phase() {
            Phase::Damaged { why } => return Health::Bad(why.clone()),
            Phase::Absent { .. } => return Health::Ok,
            Phase::Sealed { .. } => None,
            Phase::Open(open) => Some(Arc::clone(open)),
        };
        let done = match open {
            // What anybody can see of the file is whether it can be read.
            None => self.place.look(),
            Some(open) => {
                let vault = Arc::clone(self);
                let tried = tokio::task::spawn_blocking(move || vault.round_trip(&open)).await;
                tried.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        done.map_or_else(Health::Bad, |()| Health::Ok)
    }

    fn round_trip(&self, open: &Open) -> Result<(), String> {
        let salt = octant_crypto::random().map_err(|error| error.to_string())?;
        let text = octant_crypto::random::<32>().map_err(|error| error.to_string())?;
        let info: [&[u8]; 2] = [b"octant vault 1 probe", &open.vault];
        let sealed = aead::seal(&open.key, &salt, &info, &[], &text);
        let mut out = [0; 32];
        aead::open(&open.key, &salt, &info, &[], &sealed, &mut out).map_err(|error| error.to_string())?;
        if out != text {
            return Err("a sealed value opens to something else".to_owned());
        }
        locked(&open.store).still_there()
    }

    /// The machine.
    pub(crate) fn identity(&self, caller: &Principal) -> Result<MachineIdentity, ApiError> {
        let what = "show the machine's identity";
        let (public, created_ms, facts, certificate) = match &*self.phase() {
            Phase::Sealed { header, .. } => (header.machine, header.created_ms, Vec::new(), None),
            Phase::Open(open) => {
                let state = locked(&open.state);
                let machine = state.machine.as_ref().map(|(machine, _)| machine);
                let facts = machine.filter(|_| matches!(caller, Principal::Operator(_)));
                let facts = facts.map(|machine| machine::facts(machine, &self.site.facts));
                let created_ms = machine.map_or(0, |machine| machine.created_ms);
                let public = octant_ids::Sha256(open.machine.public());
                (public, created_ms, facts.unwrap_or_default(), locked(&open.certificate).clone())
            }
            // Says which of the two it is.
            Phase::Absent { why } | Phase::Damaged { why } => {
                let (code, next) = (octant_api::error::Code::Unavailable, "see `octant vault status`");
                return Err(ApiError::new(code, what, "vault", why, next));
            }
        };
        Ok(MachineIdentity {
            public_key: Base64(public.0.to_vec()),
            fingerprint: machine::fingerprint(&public),
            created_ms,
            facts,
            certificate,
        })
    }

    /// Tries everything that the vault relies on.
    pub(crate) async fn doctor(self: &Arc<Self>, by: &Principal) -> Result<DoctorReport, ApiError> {
        let action = Action::new("look at the vault", "doctor", by, "vault");
        let mut checks = vec![self.check_ledger().await];
        let vault = Arc::clone(self);
        checks.extend(blocking(&action, move || vault.check_file()).await?);
        let vault = Arc::clone(self);
        checks.extend(blocking(&action, move || vault.check_tpm()).await?);
        checks.extend(check_aside(&self.place.aside()));
        checks.push(check_memory(self));
        checks.push(check_dumps());
        Ok(DoctorReport { checks })
    }

    async fn check_ledger(&self) -> Check {
        let what = "the ledger takes records";
        match self.audit.records.healthy().await {
            Ok(()) => {
                let (waiting, lost) = self.audit.records.backlog();
                match (waiting, lost) {
                    (0, 0) => check(what, Mark::Good, "it does", ""),
                    _ => {
                        let found = format!("{waiting} records wait, {lost} were lost");
                        check(what, Mark::Warning, found, "see `octant status ledger`")
                    }
                }
            }
            Err(why) => check(what, Mark::Bad, why, "see `octant status`; until then every secret is denied"),
        }
    }

    fn check_file(&self) -> Vec<Check> {
        let what = "the file opens";
        let mut checks = Vec::new();
        let open = match &*self.phase() {
            Phase::Open(open) => Ok(Arc::clone(open)),
            Phase::Absent { why } => {
                Err((Mark::Skipped, why.clone(), "make a vault with `octant vault init`"))
            }
            Phase::Damaged { why } => {
                Err((Mark::Bad, why.clone(), "put a backup back with `octant vault restore`"))
            }
            Phase::Sealed { why, .. } => {
                Err((Mark::Skipped, format!("sealed: {why}"), "unseal it, then ask again"))
            }
        };
        match open {
            Err((mark, found, next)) => checks.push(check(what, mark, found, next)),
            Ok(open) => {
                // No change comes between what is read and what is compared.
                let store = locked(&open.store);
                let read = self.place.read().map_err(|error| error.to_string());
                let raw = read.and_then(|raw| raw.ok_or_else(|| "the file is gone".to_owned()));
                checks.push(match raw.and_then(|raw| same_as_memory(&raw, &open)) {
                    Ok(found) => check(what, Mark::Good, found, ""),
                    Err(why) => check(
                        what,
                        Mark::Bad,
                        why,
                        "restore a backup, or restart the vault if a write failed",
                    ),
                });
                drop(store);
                checks.push(match self.round_trip(&open) {
                    Ok(()) => check("a value is sealed and opened", Mark::Good, "it is", ""),
                    Err(why) => check("a value is sealed and opened", Mark::Bad, why, "restart the vault"),
                });
                let mut warnings = locked(&open.warnings).clone();
                warnings.extend(expiring(&locked(&open.state)));
                for warning in warnings {
                    checks.push(check("what an operator should look at", Mark::Warning, warning, ""));
                }
            }
        }
        checks
    }

    fn check_tpm(&self) -> Vec<Check> {
        let what = "the TPM answers";
        let mut tpm = locked(&self.tpm);
        let Some(tpm) = tpm.as_mut() else {
            return vec![check(what, Mark::Skipped, "this machine has none that Octant can use", "")];
        };
        let mut checks = Vec::new();
        match tpm.describe() {
            Ok(it) => {
                let found = format!("{} {}, firmware {}", it.manufacturer, it.vendor, it.firmware);
                checks.push(check(what, Mark::Good, found, ""));
            }
            Err(error) => checks.push(check(what, Mark::Bad, error, "see the firmware's settings")),
        }
        let what = "the kernel was measured";
        checks.push(match tpm.read_pcrs(&PcrSet::default()) {
            Ok(values) if values.get(11).is_some_and(|value| value == octant_ids::Sha256::ZERO) => {
                let next = "boot a unified kernel image: what is sealed to PCR 11 is bound to nothing now";
                check(what, Mark::Warning, "PCR 11 is zero", next)
            }
            Ok(_) => check(what, Mark::Good, "PCR 11 is not zero", ""),
            Err(error) => check(what, Mark::Bad, error, "see the firmware's settings"),
        });
        checks
    }
}

/// What the file comes to has to be what is in memory.
fn same_as_memory(raw: &Raw, open: &Open) -> Result<String, String> {
    let boot = locked(&open.state).boot().to_owned();
    let (opened, state) = raw.state(&open.key, &boot, Some(now())).map_err(|error| error.to_string())?;
    let live = locked(&open.state);
    if state.secrets != live.secrets || state.grants != live.grants {
        return Err("the file and the memory differ".to_owned());
    }
    Ok(format!("{} bytes, epoch {}, {} secrets", raw.len(), opened.epoch, state.secrets.len()))
}

fn check(what: &str, mark: Mark, found: impl ToString, next: &str) -> Check {
    Check { what: what.to_owned(), mark, found: found.to_string(), next: next.to_owned() }
}

/// Files that a restore or a new vault has put aside still open with the slots that they had.
fn check_aside(names: &[String]) -> Option<Check> {
    let found = format!("{} beside the vault: {}", names.len(), names.join(", "));
    let next = "remove them when nobody needs them: they open with the slots that they had";
    (!names.is_empty()).then(|| check("no older copy lies about", Mark::Warning, found, next))
}

fn check_memory(vault: &Vault) -> Check {
    let what = "keys are in memory that goes to no disk";
    match vault.memory.kind() {
        "memfd_secret" => check(what, Mark::Good, "memfd_secret: not even the kernel maps it", ""),
        kind => {
            let next =
                "a kernel from 6.5 on, or secretmem.enable=1, keeps it from the kernel's own mappings too";
            check(what, Mark::Warning, format!("{kind}, and left out of core dumps"), next)
        }
    }
}

/// Whether this process can leave a core dump.
fn check_dumps() -> Check {
    let what = "the process leaves no core dump";
    let dumpable = nix::sys::prctl::get_dumpable();
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE);
    match (dumpable, limit) {
        (Ok(false), Ok((_, ..=CORE_LIMIT))) => {
            check(what, Mark::Good, "not dumpable, and none fits its limit", "")
        }
        found => check(what, Mark::Bad, format!("{found:?}"), "restart the vault"),
    }
}

/// What a sealed vault waits for.
pub(crate) fn waits_for(slots: &[SlotInfo], shares: u32) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for slot in slots {
        let text = match slot.kind {
            SlotKind::Shares if shares > 0 => format!("{} ({shares} given)", slot.about),
            SlotKind::Shares => slot.about.clone(),
            kind => kind.as_str().replace('_', " "),
        };
        if !kinds.contains(&text) {
            kinds.push(text);
        }
    }
    kinds.join(" or ")
}

/// Secrets whose current version ends soon.
fn expiring(state: &State) -> Vec<String> {
    let wall = state.wall(now());
    let soon = state.secrets.values().filter_map(|secret| {
        let info = &secret.info;
        let active = info.versions.iter().find(|version| version.state == VersionState::Active)?;
        let end = active.not_after_ms.filter(|end| *end < wall.saturating_add(SOON_MS))?;
        let when = if end <= wall { "has expired" } else { "expires within two weeks" };
        Some(format!("the current version of {} {when}", info.name))
    });
    soon.take(10).collect()
}
