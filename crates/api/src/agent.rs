//! What an agent can ask of Octant through the socket in its workstation.

use crate::agents::AgentState;
use crate::rpc::{Deadline, Need};
use crate::text::Base64;
use crate::vault::{Lease, Mode, Opened, Released, Signed, Token};
use octant_ids::{Aid, SecretName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest text of a note, in bytes.
pub const NOTE_MAX: usize = 4096;

/// Parameters of `agent.note`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    /// What the agent wants on record; at most 4096 bytes.
    pub text: String,
}

/// Answer of `agent.note`: the note is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Noted {
    /// The number of the ledger entry.
    pub seq: u64,
    /// The entry's hash.
    #[schemars(with = "String")]
    pub hash: Sha256,
}

/// Parameters of `agent.self`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfRequest {}

/// Answer of `agent.self`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfInfo {
    /// The agent's identifier.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Its name in the manifest.
    pub name: String,
    /// Its role in the manifest.
    pub role: String,
    /// The operator who signed the manifest.
    pub operator: String,
    /// Where it is in its life.
    pub state: AgentState,
    /// SHA-256 of the manifest's signed bytes.
    #[schemars(with = "String")]
    pub manifest_digest: Sha256,
    /// The limits and grants in force, for people.
    #[serde(default)]
    pub grants: Vec<String>,
}

/// Parameters of `agent.lease`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// For what.
    pub mode: Mode,
    /// For how long, in milliseconds; the shorter of one hour and what the grant allows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Parameters of `agent.renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The lease.
    pub token: Token,
    /// For how long from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Parameters of `agent.release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The lease.
    pub token: Token,
}

/// Parameters of `agent.reveal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealRequest {
    /// A lease for `reveal`.
    pub token: Token,
}

/// Parameters of `agent.sign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// A lease for `sign`.
    pub token: Token,
    /// What is signed, at most 64 KiB; a longer one by its digest.
    pub message: Base64,
}

/// How long a request about a secret may take: as long as the vault's own, and a little for the way.
const SECRET_MS: u64 = 11_000;

crate::rpc! {
    /// What an agent can ask through its own socket.
    service "agent" {
        /// Puts a note on record in the ledger, under the agent's own name. Answers when it is durable.
        "note" => note, Note(NoteRequest) -> Noted,
            needs [Need::Agent], deadline Deadline::Ms(10_000);
        /// Says who the agent is and what it was granted.
        "self" => describe, Describe(SelfRequest) -> SelfInfo,
            needs [Need::Agent], deadline Deadline::Ms(5_000), idempotent: true;
        /// Gives a lease of a secret that was granted. What is unknown and what was not granted are refused alike.
        "lease" => lease, Lease(LeaseRequest) -> Lease,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS);
        /// Makes a lease last longer, within its grant.
        "renew" => renew, Renew(RenewRequest) -> Lease,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS);
        /// Gives a lease back.
        "release" => release, Release(ReleaseRequest) -> Released,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS), idempotent: true;
        /// Hands the value of a lease for `reveal` to the agent, in a pipe beside the answer.
        "reveal" => reveal, Reveal(RevealRequest) -> Opened,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS), fds_out: 1;
        /// Signs with a key pair that stays in the vault.
        "sign" => sign, Sign(SignRequest) -> Signed,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS);
    }
}
