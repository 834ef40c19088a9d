//! The machine's identity, and what the vault finds when it looks at itself.

use crate::text::Base64;
use octant_ids::Sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `vault.identity`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {}

/// One thing that is known of the hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// What: `product_uuid`, `board_serial`, `tpm`, ...
    pub name: String,
    /// How it was when the identity was made, or last accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// How it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Whether a machine on which it differs is another one.
    pub identifies: bool,
}

/// Answer of `vault.identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineIdentity {
    /// The machine's public key (Ed25519): 32 bytes.
    pub public_key: Base64,
    /// SHA-256 of it.
    #[schemars(with = "String")]
    pub fingerprint: Sha256,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What is known of the hardware, for an operator; empty for others and while the vault is sealed.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// The machine's statement about the ledger's key, when it has made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Attestation>,
}

/// Parameters of `vault.attest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttestRequest {
    /// What is stated: at most 4096 bytes of text.
    pub statement: String,
}

/// A statement under the machine's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attestation {
    /// What is stated.
    pub statement: String,
    /// The machine's public key.
    pub public_key: Base64,
    /// Its signature (Ed25519) over `octant machine statement, v. 1`, a zero byte and the statement.
    pub signature: Base64,
}

/// Parameters of `vault.doctor`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It was tried and works.
    Good,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work.
    Bad,
    /// It could not be tried.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What was tried.
    pub what: String,
    /// How it went.
    pub mark: Mark,
    /// What was found.
    pub found: String,
    /// What to do next; empty when there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// Answer of `vault.doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// The checks, in order.
    pub checks: Vec<Check>,
}
