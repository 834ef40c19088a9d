//! The ledger's methods: appending to the record of every action, and reading it.

use crate::rpc::{Deadline, Need};
use crate::text::{Json, PrincipalShape};
use crate::ticket::Ticket;
use octant_ids::{Aid, Principal, ServiceName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod log;

pub use log::{
    AcknowledgeRequest, ArchiveRequest, Archived, CheckpointInfo, CheckpointRequest, Compared, Consistency,
    ConsistencyRequest, CosignRequest, EraseRequest, ExportEnd, ExportLine, ExportRequest, ImportRequest,
    Proof, ProveRequest, VerifyReport, VerifyRequest, Witnessed,
};

/// The longest payload of an entry, in bytes of JSON text. With everything else an entry stays below the 65,535 bytes
/// that an entry bundle of C2SP tlog-tiles can hold. What is longer is recorded by its digest ([`Outside`]).
pub const PAYLOAD_MAX: usize = 60 << 10;
/// The most entries that one `ledger.query` answers with.
pub const QUERY_MAX: u32 = 1000;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A phase of the boot, as PID 1 reported it.
    Boot,
    /// A unit's change of state, as PID 1 reported it.
    Unit,
    /// Something is about to be done. The effect follows only after this entry is durable.
    Intent,
    /// What became of an intent.
    Outcome,
    /// Text that an agent put on record.
    Note,
    /// An agent's change of state.
    Lifecycle,
    /// Records that were lost before they could be appended, with their count; or entries, as an operator
    /// acknowledged.
    Lost,
    /// What was decided about a request, and by which rule.
    Decision,
    /// A right that was given, narrowed or taken away.
    Grant,
    /// A message, by its digest.
    Message,
    /// The end of an agent's partition: how many entries it has, the hash of the last one and their root.
    Seal,
    /// The payload of an earlier entry was erased.
    Erasure,
    /// An operator's command.
    Command,
    /// What the configuration is, or a change of it.
    Config,
    /// The key with which checkpoints are signed from here on.
    Key,
    /// Whole segments were moved out of the way.
    Archive,
}

impl Kind {
    /// Every kind, in the order of their numbers on disk. A number is never given to another kind.
    pub const ALL: [Self; 16] = [
        Self::Boot,
        Self::Unit,
        Self::Intent,
        Self::Outcome,
        Self::Note,
        Self::Lifecycle,
        Self::Lost,
        Self::Decision,
        Self::Grant,
        Self::Message,
        Self::Seal,
        Self::Erasure,
        Self::Command,
        Self::Config,
        Self::Key,
        Self::Archive,
    ];

    /// The kind's name as the wire writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Unit => "unit",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Note => "note",
            Self::Lifecycle => "lifecycle",
            Self::Lost => "lost",
            Self::Decision => "decision",
            Self::Grant => "grant",
            Self::Message => "message",
            Self::Seal => "seal",
            Self::Erasure => "erasure",
            Self::Command => "command",
            Self::Config => "config",
            Self::Key => "key",
            Self::Archive => "archive",
        }
    }
}

/// One entry of the ledger. docs/ledger.md has its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number: 1, 2, 3, ... without a gap. In the Merkle tree it is the leaf of index `seq - 1`.
    pub seq: u64,
    /// The boot during which it was appended: 32 hexadecimal digits.
    pub boot_id: String,
    /// Nanoseconds of CLOCK_MONOTONIC of that boot: when it was appended, or, if `backfilled`, when PID 1
    /// observed it.
    pub mono_ns: u64,
    /// When it was appended, in milliseconds since 1970 by the machine's clock, which can be wrong.
    pub wall_ms: u64,
    /// Who did it, as established from the socket.
    #[schemars(with = "PrincipalShape")]
    pub actor: Principal,
    /// What it is about.
    pub kind: Kind,
    /// Whether PID 1 observed it before the ledger could be reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backfilled: bool,
    /// The entry that announced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// The place in the partition of the agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The digest of the manifest under which it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
    /// The digest of the policy by which it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub policy: Option<Sha256>,
    /// The digest of what it is about: of an intent, what an actuator has to be about to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subject: Option<Sha256>,
    /// What happened: any JSON of at most 60 KiB; `null` when it was erased or is kept outside.
    pub payload: Json,
    /// Where the payload can be erased, what commits to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasable: Option<Erasable>,
    /// Where the payload is kept elsewhere, its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// The hash of the entry before it; zeros for the first.
    #[schemars(with = "String")]
    pub prev: Sha256,
    /// The entry's leaf hash (RFC 6962): SHA-256 of a zero byte and its canonical bytes, which contain `prev`.
    #[schemars(with = "String")]
    pub hash: Sha256,
}

/// An entry's place among those of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// The agent.
    #[schemars(with = "String")]
    pub agent: Aid,
    /// Its number among the agent's entries: 1, 2, 3, ...
    pub seq: u64,
    /// The hash of the agent's entry before it; zeros for the first.
    #[schemars(with = "String")]
    pub prev: Sha256,
}

/// What an entry holds instead of a payload that can be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Erasable {
    /// SHA-256 of the 32 bytes of the salt and the payload's text.
    #[schemars(with = "String")]
    pub commitment: Sha256,
    /// The salt; gone with the payload when that was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub salt: Option<Sha256>,
}

/// What an entry holds instead of a payload that somebody else keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// SHA-256 of the payload.
    #[schemars(with = "String")]
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// Parameters of `ledger.append`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppendRequest {
    /// What it is about. `boot` and `unit` are PID 1's, `config` is PID 1's and the network's, `erasure`, `key` and `archive` the ledger's
    /// own.
    pub kind: Kind,
    /// The entry that announced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// The agent who did it, on whose behalf the caller appends. Only the service `agents` may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub actor: Option<Aid>,
    /// The agent whom it is about, if that is not `actor`. Its partition must be open; a `lifecycle` entry of the
    /// service `agents` opens it, a `seal` closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The operator who asked for it, by user id, as the caller established. Only for `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<u32>,
    /// The digest of the manifest under which it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
    /// The digest of the policy by which it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub policy: Option<Sha256>,
    /// The digest of what it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subject: Option<Sha256>,
    /// Who is to act on this intent: the answer then has a ticket for it. Needs `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ticket_for: Option<ServiceName>,
    /// Whether the payload is to be kept apart from the entry, so that it can be erased later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub erasable: bool,
    /// The digest of a payload that the caller keeps; `payload` is then `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// Any JSON of at most 60 KiB. Of a `seal` it is replaced by what the ledger counted.
    pub payload: Json,
}

impl AppendRequest {
    /// An entry of a kind with a payload and nothing else.
    #[must_use]
    pub fn new(kind: Kind, payload: Json) -> Self {
        Self {
            kind,
            intent: None,
            actor: None,
            agent: None,
            operator: None,
            manifest: None,
            policy: None,
            subject: None,
            ticket_for: None,
            erasable: false,
            outside: None,
            payload,
        }
    }
}

/// Answer of `ledger.append`: the entry is on stable storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Appended {
    /// The entry's number.
    pub seq: u64,
    /// The entry's hash.
    #[schemars(with = "String")]
    pub hash: Sha256,
    /// What the actuator asks for, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
}

/// Parameters of `ledger.head`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadRequest {}

/// Answer of `ledger.head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// The number of the last durable entry; 0 when there is none.
    pub seq: u64,
    /// Its hash; zeros when there is none.
    #[schemars(with = "String")]
    pub hash: Sha256,
    /// Why nothing can be appended, when nothing can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How many entries the last signed checkpoint covers.
    #[serde(default)]
    pub checkpointed: u64,
    /// Which witnesses have cosigned, and whether they are enough.
    #[serde(default)]
    pub witnessed: Witnessed,
}

/// Parameters of `ledger.tail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TailRequest {
    /// The first entry to send. Without it, the last `last` entries are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// How many entries to send from before now, when `from` is absent.
    #[serde(default)]
    pub last: u64,
    /// Whether to go on with entries as they become durable.
    #[serde(default)]
    pub follow: bool,
}

/// Answer of `ledger.tail`, after the last item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TailEnd {
    /// The entry to go on with.
    pub next: u64,
}

/// Parameters of `ledger.query`: every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// Entries of this actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PrincipalShape>")]
    pub actor: Option<Principal>,
    /// Entries about this agent, whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// Entries with this subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subject: Option<Sha256>,
    /// Entries of one of these kinds; of any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// The outcome of this intent, and the intent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// Entries appended at or after this time, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Entries appended before this time, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Entries from this number on; 0 and 1 are the beginning.
    #[serde(default)]
    pub from: u64,
    /// At most so many; 0 and everything above 1000 is 1000.
    #[serde(default)]
    pub limit: u32,
}

/// Answer of `ledger.query`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryPage {
    /// The entries that match, in the order of their numbers.
    pub entries: Vec<Entry>,
    /// Where the next page starts (`from`); absent when there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Where and how the ledger is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Damage {
    /// The segment's file.
    pub segment: String,
    /// The offset of the bad record in it, in bytes.
    pub offset: u64,
    /// The number of the first entry that cannot be relied on.
    pub seq: u64,
    /// What is wrong there.
    pub what: String,
    /// What to do next.
    pub next: String,
}

/// How long an append may take when the caller does not say, in milliseconds: a disk that needs longer for
/// one sync is failing.
const APPEND_MS: u64 = 10_000;
/// The same for reading one page.
const READ_MS: u64 = 10_000;

crate::rpc! {
    /// The record of every action.
    service "ledger" {
        /// Appends one entry. Answers when it is on stable storage. An error means that it was not accepted,
        /// except that after a missed deadline or a lost connection it may have been.
        "append" => append, Append(AppendRequest) -> Appended,
            needs [Need::AnyService], deadline Deadline::Ms(APPEND_MS);
        /// Says which entry is the last durable one.
        "head" => head, Head(HeadRequest) -> Head,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Sends entries, and goes on as they become durable if asked to.
        "tail" => tail, Tail(TailRequest) -> TailEnd, stream Entry,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Open, idempotent: true;
        /// Answers with one page of the entries that match.
        "query" => query, Query(QueryRequest) -> QueryPage,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Recomputes everything from the first entry on: chain, partitions, tree, tiles, checkpoints.
        "verify" => verify, Verify(VerifyRequest) -> VerifyReport,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Open, idempotent: true;
        /// Answers with the newest signed checkpoint and the cosignatures on it.
        "checkpoint" => checkpoint, Checkpoint(CheckpointRequest) -> CheckpointInfo,
            needs [Need::Anyone], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Proves that one entry is in the tree of a checkpoint.
        "prove" => prove, Prove(ProveRequest) -> Proof,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Proves that a tree continues a smaller one.
        "consistency" => consistency, Consistency(ConsistencyRequest) -> Consistency,
            needs [Need::Anyone], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Takes a witness's cosignature on the newest checkpoint; it proves itself.
        "cosign" => cosign, Cosign(CosignRequest) -> Witnessed,
            needs [Need::Anyone], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Keeps a checkpoint that comes from outside, after comparing the log with it: every later `verify` compares
        /// again.
        "import" => import, Import(ImportRequest) -> Compared,
            needs [Need::Operator], deadline Deadline::Ms(READ_MS), idempotent: true;
        /// Sends an export line by line: entries, proofs, checkpoint and cosignatures (docs/ledger.md).
        "export" => export, Export(ExportRequest) -> ExportEnd, stream ExportLine,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Open, idempotent: true;
        /// Erases a payload that was appended as erasable. The entry and its hash stay.
        "erase" => erase, Erase(EraseRequest) -> Appended,
            needs [Need::Operator], deadline Deadline::Ms(APPEND_MS);
        /// Goes on after damage: keeps what is readable, sets the rest aside, puts the loss on record and signs with
        /// a new key from there on.
        "acknowledge" => acknowledge, Acknowledge(AcknowledgeRequest) -> Appended,
            needs [Need::Operator], deadline Deadline::Open;
        /// Moves whole segments out of the way. Proofs about their entries go on working.
        "archive" => archive, Archive(ArchiveRequest) -> Archived,
            needs [Need::Operator], deadline Deadline::Open;
    }
}
