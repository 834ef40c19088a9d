//! What is asked of the ledger as a transparency log: checkpoints, proofs, witnesses, exports, and what operators do to
//! it.

use super::Damage;
use octant_ids::{Aid, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `ledger.checkpoint`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRequest {}

/// Answer of `ledger.checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointInfo {
    /// The signed note (C2SP tlog-checkpoint) with the cosignatures that came in.
    pub checkpoint: String,
    /// The log's verifier key (C2SP signed-note).
    pub key: String,
    /// How many entries it covers.
    pub size: u64,
    /// Their root hash.
    #[schemars(with = "String")]
    pub root: Sha256,
    /// Which witnesses have cosigned it, and whether they are enough.
    pub witnessed: Witnessed,
}

/// Which of the configured witnesses have cosigned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Witnessed {
    /// How many have to; 0 when the configuration names no quorum.
    pub quorum: u32,
    /// The names of the configured witnesses.
    pub witnesses: Vec<String>,
    /// The names of those whose cosignature on the newest checkpoint is there.
    pub have: Vec<String>,
    /// How many entries the newest checkpoint covers that a whole quorum has cosigned. The log calls itself complete up
    /// to here and no further.
    pub complete_to: u64,
}

/// Parameters of `ledger.prove`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProveRequest {
    /// The entry.
    pub seq: u64,
}

/// Answer of `ledger.prove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// The entry.
    pub seq: u64,
    /// Its leaf hash.
    #[schemars(with = "String")]
    pub hash: Sha256,
    /// The entry's canonical bytes in base 64; absent when it is in an archived segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The proof as text (C2SP tlog-proof): index, hashes, checkpoint.
    pub proof: String,
    /// The log's verifier key.
    pub key: String,
}

/// Parameters of `ledger.consistency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyRequest {
    /// The size of the smaller tree.
    pub old: u64,
    /// The size of the larger one, at most that of the newest checkpoint.
    pub new: u64,
}

/// Answer of `ledger.consistency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consistency {
    /// The proof's hashes (RFC 6962 section 2.1.2).
    #[schemars(with = "Vec<String>")]
    pub proof: Vec<Sha256>,
}

/// Parameters of `ledger.cosign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosignRequest {
    /// How many entries the checkpoint covers that was cosigned.
    pub size: u64,
    /// Signature lines (C2SP tlog-cosignature), each with its newline; at most 16 KiB.
    pub cosignatures: String,
}

/// Parameters of `ledger.import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// A signed checkpoint of this log; at most 64 KiB.
    pub checkpoint: String,
}

/// What comparing the log with a checkpoint gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Where the checkpoint comes from: a file's name, or `given`.
    pub from: String,
    /// How many entries it covers.
    pub size: u64,
    /// Its root.
    #[schemars(with = "String")]
    pub root: Sha256,
    /// The names of the configured witnesses that have cosigned it.
    pub cosigned: Vec<String>,
    /// What is wrong; absent when the log continues this checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// Parameters of `ledger.verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Checkpoints from outside, each of at most 64 KiB, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<String>,
}

/// Answer of `ledger.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// How many entries were recomputed and are right, counted from the first.
    pub entries: u64,
    /// How many of them are in archived segments: covered by the tree, but not read.
    #[serde(default)]
    pub archived: u64,
    /// In how many segments.
    pub segments: u64,
    /// How many bytes of entries were read.
    pub bytes: u64,
    /// The hash of the last entry that is right.
    #[schemars(with = "String")]
    pub head: Sha256,
    /// The root hash of all entries that are right.
    #[schemars(with = "String")]
    pub root: Sha256,
    /// How many entries the log's own newest checkpoint covers.
    #[serde(default)]
    pub checkpointed: u64,
    /// What comparing with checkpoints from outside gave.
    #[serde(default)]
    pub outside: Vec<Compared>,
    /// What could not be proven, because no checkpoint from outside was given or imported.
    #[serde(default)]
    pub not_proven: Vec<String>,
    /// Which witnesses have cosigned, and whether they are enough.
    #[serde(default)]
    pub witnessed: Witnessed,
    /// The first thing that is wrong; absent when the whole ledger verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

/// Parameters of `ledger.export`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// The first entry; 0 and 1 are the beginning.
    #[serde(default)]
    pub from: u64,
    /// The last entry; 0 is the last that the newest checkpoint covers.
    #[serde(default)]
    pub to: u64,
    /// Only entries about this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
}

/// One line of an export, without its newline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportLine {
    /// The line: one JSON document.
    pub line: String,
}

/// Answer of `ledger.export`, after the last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportEnd {
    /// How many entries were sent.
    pub entries: u64,
    /// How many entries the checkpoint covers.
    pub size: u64,
}

/// Parameters of `ledger.erase`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseRequest {
    /// The entry whose payload goes.
    pub seq: u64,
    /// Why; at most 4 KiB, and on record for good.
    pub reason: String,
}

/// Parameters of `ledger.acknowledge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// The first entry that cannot be relied on, as the damage says.
    pub seq: u64,
    /// Why it is accepted; at most 4 KiB, and on record for good.
    pub reason: String,
}

/// Parameters of `ledger.archive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRequest {
    /// Segments all of whose entries come before this one.
    pub before: u64,
}

/// Answer of `ledger.archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Archived {
    /// The directory in which they are now.
    pub directory: String,
    /// The segments' files.
    pub segments: Vec<String>,
    /// The first entry that can still be read.
    pub first: u64,
}
