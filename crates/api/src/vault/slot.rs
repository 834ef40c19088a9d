//! Slots: each is one way to the same data key.

use super::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most slots of a vault.
pub const SLOTS_MAX: usize = 16;
/// The shortest and the longest passphrase, in bytes.
pub const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;
/// The fewest bytes of a key file: as many as a key has.
pub const KEY_FILE_MIN: usize = 32;

/// What it costs to turn a passphrase into a key (Argon2id, RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Argon2Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// What kind of thing opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// A passphrase, 8 to 1024 bytes, given as a descriptor.
    Passphrase,
    /// This machine's TPM 2.0, while its PCRs are as they were or as a release key has approved.
    Tpm,
    /// So many of the recovery shares, which are answered once, as a descriptor with a line for each.
    Shares,
    /// A file of 32 bytes or more beside the machine, given as a descriptor. Who has the file has the vault: for
    /// containers, whose platform keeps it. Every status says so.
    StaticFile,
}

impl SlotKind {
    /// The kind's name as the wire and the vault's file write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Tpm => "tpm",
            Self::Shares => "shares",
            Self::StaticFile => "static_file",
        }
    }
}

/// A slot to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSlot {
    /// What opens it.
    pub kind: SlotKind,
    /// An operator's own words about it.
    #[serde(default)]
    pub label: String,
    /// Of a passphrase, what it costs to try one; 64 MiB and 3 passes when absent, and never less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Argon2Cost>,
    /// Of shares, how many of them are needed.
    #[serde(default)]
    pub threshold: u8,
    /// Of shares, how many there are.
    #[serde(default)]
    pub count: u8,
    /// Of a TPM slot, which PCRs have to be as they are now; when empty 4, 7, 11 and 12, with a release key 11 and 12.
    #[serde(default)]
    pub pcrs: Vec<u8>,
    /// Of a TPM slot, the public key (PEM) whose approvals count instead of the PCRs' present values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_key: Option<String>,
}

impl NewSlot {
    /// A slot of this kind with nothing else said.
    #[must_use]
    pub fn of(kind: SlotKind) -> Self {
        Self {
            kind,
            label: String::new(),
            cost: None,
            threshold: 0,
            count: 0,
            pcrs: Vec::new(),
            release_key: None,
        }
    }
}

/// What is known of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotInfo {
    /// Its number. A number is never given to another slot of the vault.
    pub slot: u32,
    /// What opens it.
    pub kind: SlotKind,
    /// An operator's own words about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What it demands, for people: cost, PCRs, how many shares; that a static file is not bound to anything.
    pub about: String,
    /// Of shares, how many of them are needed.
    #[serde(default)]
    pub threshold: u8,
    /// Of shares, how many there are.
    #[serde(default)]
    pub count: u8,
    /// Of a TPM slot, the PCRs that it is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcrs: Vec<u8>,
    /// Of a TPM slot, the public key (PEM) whose approvals count instead of the PCRs' values when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_key: Option<String>,
}

/// Parameters of `vault.slot_add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotAddRequest {
    /// The slot.
    pub slot: NewSlot,
}

/// Answer of `vault.slot_add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotAdded {
    /// The slot.
    pub slot: SlotInfo,
    /// The vault's epoch with it.
    pub epoch: u64,
}

/// Parameters of `vault.slot_remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotRemoveRequest {
    /// The slot; not the last one.
    pub slot: u32,
}

/// Parameters of `vault.rekey`: every slot that is to remain, each with what it needs. What a slot keeps elsewhere (a
/// passphrase, a file) has to be presented, in the order of the descriptors; a TPM seals anew; shares are made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RekeyRequest {
    /// The slots that the vault has from then on; at most 8.
    pub slots: Vec<NewSlot>,
}

/// Answer of `vault.rekey`: everything is sealed under the new key, on stable storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rekeyed {
    /// The vault's epoch.
    pub epoch: u64,
    /// The slots that it has from now on. Shares come as descriptors in their order.
    pub slots: Vec<SlotInfo>,
}

/// By what the vault is to be unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum With {
    /// What needs nobody: TPM, then static file.
    Machine,
    /// A passphrase, as a descriptor.
    Passphrase,
    /// One recovery share, as a descriptor. The last one that is needed unseals.
    Share,
    /// A key file's bytes, as a descriptor.
    StaticFile,
}

/// Parameters of `vault.unseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnsealRequest {
    /// By what.
    pub with: With,
    /// Why this machine is accepted although the vault was made on another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_machine: Option<String>,
    /// Why this state is accepted although the ledger knows a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_rollback: Option<String>,
}

/// Answer of `vault.unseal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unsealed {
    /// How the vault is now.
    pub status: Status,
    /// The slot that opened it; absent while more shares are needed, or when it was unsealed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}
