//! The vault's methods: secrets that are used without being seen, the keys that seal them, the machine's identity.
//!
//! **No secret byte is ever in a message.** Values, passphrases, key files and recovery shares ride beside a request or
//! an answer in a descriptor: the reading end of a pipe that holds all of it ([`VALUE_MAX`] is what a pipe holds). Who
//! passes one on never has the bytes, and no buffer of the wire has to be wiped.

use crate::rpc::{Deadline, Need};
use octant_ids::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod lease;
mod machine;
mod secret;
mod slot;

pub use lease::{
    GrantInfo, GrantRequest, LEASES_PER_AGENT, LEASES_PER_VAULT, Lease, LeaseInfo, LeaseList, LeaseRequest,
    LeasesRequest, Mode, OpenRequest, Opened, ReleaseRequest, Released, RenewRequest, RetireRequest, Revoke,
    RevokeRequest, Revoked, SignRequest, Signed, Subject, SubjectError, TTL_DEFAULT_MS, TTL_MAX_MS, Token,
    TokenError,
};
pub use machine::{
    AttestRequest, Attestation, Check, DoctorReport, DoctorRequest, Fact, IdentityRequest, MachineIdentity,
    Mark,
};
pub use secret::{
    Changed, DestroyRequest, Details, Kind, LABELS_MAX, ListRequest, Page, PutRequest, RemoveRequest,
    RevealRequest, Revealed, RollbackRequest, RotateRequest, SecretInfo, ShowRequest, TEXT_MAX, VERSIONS_MAX,
    VersionInfo, VersionState,
};
pub use slot::{
    Argon2Cost, KEY_FILE_MIN, NewSlot, PASSPHRASE_BYTES, RekeyRequest, Rekeyed, SLOTS_MAX, SlotAddRequest,
    SlotAdded, SlotInfo, SlotKind, SlotRemoveRequest, UnsealRequest, Unsealed, With,
};

/// The longest value, passphrase or key file, in bytes: what a pipe holds without anybody reading (pipe(7)).
pub const VALUE_MAX: usize = 64 << 10;

/// What a release key's approvals are for (the policy reference of TPM2_PolicyAuthorize): an approval of the same values
/// for something else does not open a vault. A TPM slot is bound to these bytes, so they never change.
pub const POLICY_REF: &[u8] = b"octant vault";

/// Whether secrets can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is no vault yet.
    Absent,
    /// The data key is not in memory; everything that bears a secret is denied.
    Sealed,
    /// Secrets can be used.
    Unsealed,
    /// The file cannot be relied on; nothing is served from it.
    Damaged,
}

impl State {
    /// The state's name as the wire and the ledger write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Sealed => "sealed",
            Self::Unsealed => "unsealed",
            Self::Damaged => "damaged",
        }
    }
}

/// Parameters of `vault.status`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {}

/// Answer of `vault.status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Whether secrets can be used.
    pub state: State,
    /// Why it is not unsealed, and what it waits for; empty when it is.
    #[serde(default)]
    pub why: String,
    /// The vault's identifier: 32 hexadecimal digits. Absent without a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// How many changes it has seen. It never goes back; the ledger has each.
    #[serde(default)]
    pub epoch: u64,
    /// SHA-256 of the machine's public key. Absent without a vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub fingerprint: Option<Sha256>,
    /// What can unseal it.
    #[serde(default)]
    pub slots: Vec<SlotInfo>,
    /// How many recovery shares have been given since the last unseal, when some have.
    #[serde(default)]
    pub shares: u32,
    /// Where keys are while the vault is unsealed: `memfd_secret` or `locked`.
    #[serde(default)]
    pub memory: String,
    /// How many secrets there are; absent while sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<u64>,
    /// How many leases are alive; absent while sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
    /// What an operator should look at, a line a thing.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Parameters of `vault.init`. Takes the bytes that the slot needs as a descriptor and answers with one where the slot
/// makes something to be kept elsewhere, both as [`SlotKind`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// The first way to unseal it.
    pub slot: NewSlot,
    /// Why a vault that the ledger knows and that is not there is replaced by a new one. Its secrets are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<String>,
}

/// Answer of `vault.init`: the vault is on stable storage and unsealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Initialised {
    /// The vault's identifier.
    pub vault: String,
    /// SHA-256 of the machine's new public key.
    #[schemars(with = "String")]
    pub fingerprint: Sha256,
    /// The first slot.
    pub slot: SlotInfo,
}

/// Parameters of `vault.seal`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealRequest {}

/// Answer of `vault.seal`: no key is in memory any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Whether it was unsealed before.
    pub was_unsealed: bool,
}

/// Parameters of `vault.backup`. The descriptor is a regular file, open for writing: the whole vault is written to it,
/// sealed as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {}

/// Answer of `vault.backup` and `vault.restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copied {
    /// The vault's identifier.
    pub vault: String,
    /// Its epoch.
    pub epoch: u64,
    /// How many bytes were written.
    pub bytes: u64,
}

/// Parameters of `vault.restore`. The descriptor is a regular file with a backup. The vault is sealed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Why: what is there now is kept beside it under another name, and the ledger says so.
    pub reason: String,
}

/// How long a request may take that the ledger has to accept first, in milliseconds; beside this it may wait 2 s for the
/// ledger, and then it is denied.
const MS: u64 = 10_000;
/// The same where a passphrase is turned into a key, or the whole file is written anew.
const SLOW_MS: u64 = 60_000;

crate::rpc! {
    /// Secrets, the keys that seal them, and the machine's identity.
    service "vault" {
        /// Says whether the vault is sealed, and what it waits for.
        "status" => status, Status(StatusRequest) -> Status,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(MS), idempotent: true;
        /// Makes the vault, with a first slot, and the machine's identity in it.
        "init" => init, Init(InitRequest) -> Initialised,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 1, fds_out: 1;
        /// Brings the data key into memory by one of the slots.
        "unseal" => unseal, Unseal(UnsealRequest) -> Unsealed,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 1;
        /// Wipes every key from memory, at once.
        "seal" => seal, Seal(SealRequest) -> Sealed,
            needs [Need::Operator], deadline Deadline::Ms(MS), idempotent: true;
        /// Adds a way to unseal.
        "slot_add" => slot_add, SlotAdd(SlotAddRequest) -> SlotAdded,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 1, fds_out: 1;
        /// Takes a way to unseal away.
        "slot_remove" => slot_remove, SlotRemove(SlotRemoveRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS);
        /// Replaces the data key: seals everything anew.
        "rekey" => rekey, Rekey(RekeyRequest) -> Rekeyed,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 8, fds_out: 8;
        /// Stores a new secret.
        "put" => put, Put(PutRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(MS), fds_in: 1;
        /// Gives a secret a new version, which is the current one from then on.
        "rotate" => rotate, Rotate(RotateRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(MS), fds_in: 1;
        /// Makes an earlier version the current one again.
        "rollback" => rollback, Rollback(RollbackRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(MS);
        /// Destroys the value of one version; its metadata stay.
        "destroy" => destroy, Destroy(DestroyRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(MS);
        /// Removes a secret with all versions, grants and leases.
        "remove" => remove, Remove(RemoveRequest) -> Changed,
            needs [Need::Operator], deadline Deadline::Ms(MS);
        /// Lists secrets by name, without values.
        "list" => list, List(ListRequest) -> Page,
            needs [Need::Operator], deadline Deadline::Ms(MS), idempotent: true;
        /// Shows one secret's metadata, versions and grants.
        "show" => show, Show(ShowRequest) -> Details,
            needs [Need::Operator], deadline Deadline::Ms(MS), idempotent: true;
        /// Hands a value to an operator.
        "reveal" => reveal, Reveal(RevealRequest) -> Revealed,
            needs [Need::Operator], deadline Deadline::Ms(MS), fds_out: 1;
        /// Lets somebody have leases of a secret.
        "grant" => grant, Grant(GrantRequest) -> GrantInfo,
            needs [Need::Operator], deadline Deadline::Ms(MS);
        /// Takes grants or leases away, at once.
        "revoke" => revoke, Revoke(RevokeRequest) -> Revoked,
            needs [Need::Operator], deadline Deadline::Ms(MS), idempotent: true;
        /// Lists leases that are alive.
        "leases" => leases, Leases(LeasesRequest) -> LeaseList,
            needs [Need::Operator], deadline Deadline::Ms(MS), idempotent: true;
        /// Writes a copy of the vault.
        "backup" => backup, Backup(BackupRequest) -> Copied,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 1;
        /// Replaces the vault by a copy.
        "restore" => restore, Restore(RestoreRequest) -> Copied,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), fds_in: 1;
        /// Tries everything that the vault relies on.
        "doctor" => doctor, Doctor(DoctorRequest) -> DoctorReport,
            needs [Need::Operator], deadline Deadline::Ms(SLOW_MS), idempotent: true;
        /// The machine's public key and what is known of its hardware.
        "identity" => identity, Identity(IdentityRequest) -> MachineIdentity,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(MS), idempotent: true;
        /// Signs a statement under the machine's key.
        "attest" => attest, Attest(AttestRequest) -> Attestation,
            needs [Need::Operator, Need::Service("ledger")], deadline Deadline::Ms(MS);
        /// Gives the caller, or the agent on whose behalf it asks, a lease of a secret that was granted. What is
        /// unknown and what was not granted are refused with the same bytes.
        "lease" => lease, Lease(LeaseRequest) -> Lease,
            needs [Need::Service("agents"), Need::Service("egress"), Need::Service("router")],
            deadline Deadline::Ms(MS);
        /// Makes a lease last longer, within its grant.
        "renew" => renew, Renew(RenewRequest) -> Lease,
            needs [Need::Service("agents"), Need::Service("egress"), Need::Service("router")],
            deadline Deadline::Ms(MS);
        /// Gives a lease back.
        "release" => release, Release(ReleaseRequest) -> Released,
            needs [Need::Service("agents"), Need::Service("egress"), Need::Service("router")],
            deadline Deadline::Ms(MS), idempotent: true;
        /// Hands the value of a lease to the service that uses it, or through `agents` to an agent that may see it.
        "open" => open, Open(OpenRequest) -> Opened,
            needs [Need::Service("agents"), Need::Service("egress"), Need::Service("router")],
            deadline Deadline::Ms(MS), fds_out: 1;
        /// Signs with a key pair that stays in the vault.
        "sign" => sign, Sign(SignRequest) -> Signed,
            needs [Need::Service("agents"), Need::Service("egress"), Need::Service("router")],
            deadline Deadline::Ms(MS);
        /// Ends every lease of an agent that has ended, in one step.
        "retire" => retire, Retire(RetireRequest) -> Released,
            needs [Need::Service("agents")], deadline Deadline::Ms(MS), idempotent: true;
    }
}
