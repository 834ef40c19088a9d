//! The ledger's methods: appending to the record of every action, and reading it.

use crate::rpc::{Deadline, Need};
use crate::text::{Json, PrincipalShape};
use octant_ids::{Aid, Principal, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest payload of an entry, in bytes of JSON text.
pub const PAYLOAD_MAX: usize = 64 << 10;
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
    /// Records that were lost before they could be appended, with their count.
    Lost,
}

impl Kind {
    /// Every kind, in the order of their numbers on disk.
    pub const ALL: [Self; 7] =
        [Self::Boot, Self::Unit, Self::Intent, Self::Outcome, Self::Note, Self::Lifecycle, Self::Lost];

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
        }
    }
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number: 1, 2, 3, ... without a gap.
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
    /// What happened; any JSON of at most 64 KiB.
    pub payload: Json,
    /// The hash of the entry before it; zeros for the first.
    #[schemars(with = "String")]
    pub prev: Sha256,
    /// SHA-256 of the entry's canonical bytes, which contain `prev`.
    #[schemars(with = "String")]
    pub hash: Sha256,
}

/// Parameters of `ledger.append`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppendRequest {
    /// What it is about. `boot` and `unit` are PID 1's alone.
    pub kind: Kind,
    /// The entry that announced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// The agent on whose behalf the caller appends. Only the service `agents` may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub actor: Option<Aid>,
    /// Any JSON of at most 64 KiB.
    pub payload: Json,
}

/// Answer of `ledger.append`: the entry is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Appended {
    /// The entry's number.
    pub seq: u64,
    /// The entry's hash.
    #[schemars(with = "String")]
    pub hash: Sha256,
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

/// Parameters of `ledger.verify`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {}

/// Answer of `ledger.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// How many entries were recomputed and are right, counted from the first.
    pub entries: u64,
    /// In how many segments.
    pub segments: u64,
    /// How many bytes of entries were read.
    pub bytes: u64,
    /// The hash of the last entry that is right.
    #[schemars(with = "String")]
    pub head: Sha256,
    /// The first thing that is wrong; absent when the whole ledger verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
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
        /// Recomputes every hash from the first entry on.
        "verify" => verify, Verify(VerifyRequest) -> VerifyReport,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Open, idempotent: true;
    }
}
