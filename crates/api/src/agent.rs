//! What an agent can ask of Octant through the socket in its workstation.

use crate::agents::AgentState;
use crate::rpc::{Deadline, Need};
use octant_ids::{Aid, Sha256};
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

crate::rpc! {
    /// What an agent can ask through its own socket.
    service "agent" {
        /// Puts a note on record in the ledger, under the agent's own name. Answers when it is durable.
        "note" => note, Note(NoteRequest) -> Noted,
            needs [Need::Agent], deadline Deadline::Ms(10_000);
        /// Says who the agent is and what it was granted.
        "self" => describe, Describe(SelfRequest) -> SelfInfo,
            needs [Need::Agent], deadline Deadline::Ms(5_000), idempotent: true;
    }
}
