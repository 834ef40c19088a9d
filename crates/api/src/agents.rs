//! The lifecycle manager's methods: spawning, listing, reading and ending agents.

use crate::egress::HostLease;
use crate::rpc::{Deadline, Need};
use crate::text::Base64;
use octant_ids::{Aid, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod approval;
mod budget;
mod server;

pub use budget::{Amounts, BudgetInfo, BudgetRequest, BudgetRow};

pub use server::{PinRequest, ServerInfo, ServerList, ServerState, ServersRequest, ToolInfo};

pub use approval::{
    AnswerRequest, Approval, ApprovalList, ApprovalRequest, ApprovalState, ApprovalsRequest, PARAMS_MAX,
    PermitRequest, Permitted,
};

/// The longest signed manifest that [`SpawnRequest`] takes, in bytes.
pub const ENVELOPE_MAX: usize = 256 << 10;

/// Parameters of `agents.spawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// The signed manifest: a DSSE envelope as JSON text, at most 256 KiB, byte for byte as it was signed.
    pub envelope: String,
    /// The first that is said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// The longest text that is said to an agent at once, in bytes.
pub const WORD_MAX: usize = 64 << 10;
/// The longest texts that are said to an agent in its life together, in bytes.
pub const WORDS_MAX: usize = 512 << 10;

/// What an agent is to do: it is said to it, and not a part of what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The words, at most 64 KiB; none where they come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether more will be said, for which it waits once it has done that.
    #[serde(default)]
    pub more: bool,
}

/// Parameters of `agents.say`: words, a stop, or a stop and then words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SayRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// The words, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether it is to stop what it is at.
    #[serde(default)]
    pub stop: bool,
}

/// Answer of `agents.say`: it is on record, and the agent has it when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SaidInfo {
    /// How much was said to it so far: the number of the last word.
    pub number: u64,
}

/// Parameters of `agents.fork`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// An agent identifier, or the name of exactly one agent: the one whose workspace the snapshot is of.
    pub agent: String,
    /// The snapshot that the new agent's workspace begins with.
    #[schemars(with = "String")]
    pub workspace: Sha256,
    /// The signed manifest of the new agent; that of the other where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
    /// The first that is said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// Something that was to be kept and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Its place in the workspace.
    pub place: String,
    /// Why it is not kept.
    pub why: String,
}

/// What of an agent's workspace was kept at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artefacts {
    /// The digest of their tree; none where nothing could be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub tree: Option<Sha256>,
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What was to be kept and is not, the first 100. In `agents.show` and `agents.artefacts` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How much more was left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_left_out: u64,
    /// Why nothing could be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Whether they are all that was in the workspace.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
    /// Whether an operator has had them removed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removed: bool,
}
/// What an agent had kept of its workspace while it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The digest of its tree.
    #[schemars(with = "String")]
    pub tree: Sha256,
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// How much of what was to be kept is not in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// How many snapshots of an agent are kept at once.
pub const SNAPSHOTS_MAX: usize = 16;

/// How many agents can be prepared, for all manifests together.
pub const PREPARED_MAX: u64 = 64;

/// Where an agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It has an identifier; nothing is checked yet.
    Provisioned,
    /// Its manifest is authentic and within its ceiling.
    Validated,
    /// Its manifest was refused; nothing was started.
    Rejected,
    /// Its workstation stands and its program waits to be let go.
    Isolated,
    /// Its program runs.
    Running,
    /// Frozen: none of its processes runs, and nothing of them is lost.
    Suspended,
    /// Runs with less of the processors than its manifest gives it.
    Throttled,
    /// Its last process has ended.
    Terminated,
    /// Ended, and everything it held is given back.
    Archived,
}

impl AgentState {
    /// Whether nothing of it runs any more.
    #[must_use]
    pub fn ended(self) -> bool {
        matches!(self, Self::Rejected | Self::Terminated | Self::Archived)
    }

    /// Whether it has a workstation, whatever it may do in it for now.
    #[must_use]
    pub fn live(self) -> bool {
        matches!(self, Self::Isolated | Self::Running | Self::Suspended | Self::Throttled)
    }

    /// The state's name as the wire and the ledger write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioned => "provisioned",
            Self::Validated => "validated",
            Self::Rejected => "rejected",
            Self::Isolated => "isolated",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Throttled => "throttled",
            Self::Terminated => "terminated",
            Self::Archived => "archived",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitInfo {
    /// It ended itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// One layer of isolation as it was read back from the kernel after it was put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// `user`, `mount`, `pid`, `network`, `ipc`, `uts`, `cgroup`, `time`, `capabilities`, `no_new_privs`,
    /// `landlock`, `seccomp`, `limits`, ...
    pub name: String,
    /// What was read back: a level, a namespace number, the count of rules.
    pub detail: String,
}

/// Something that a manifest asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The manifest's field: `resources.memory_max`.
    pub field: String,
    /// What was asked for.
    pub asked: String,
    /// What was given instead; empty for nothing.
    pub got: String,
}

/// A system call that the filters denied to an agent, as the kernel reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeniedCall {
    /// Its name, or its number where this build has no name for it.
    pub call: String,
    /// How often it was denied.
    pub count: u64,
    /// When it was denied first, in milliseconds since 1970.
    pub first_ms: u64,
    /// When it was denied last, in milliseconds since 1970.
    pub last_ms: u64,
    /// The program that made it last, by the name that it gives itself.
    pub program: String,
}

/// An access that Landlock denied to an agent, as the kernel reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeniedAccess {
    /// The rights that it would have taken, as the kernel names them: `fs.read_file`, `fs.make_reg,fs.refer`.
    pub rights: String,
    /// What it was about: a path inside, or a port; empty where the kernel does not say.
    pub object: String,
    /// How often it was denied.
    pub count: u64,
    /// When it was denied first, in milliseconds since 1970.
    pub first_ms: u64,
    /// When it was denied last, in milliseconds since 1970.
    pub last_ms: u64,
}

impl DeniedAccess {
    /// Rights and object in one text.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.rights, self.object).trim_end().to_owned()
    }
}

/// What is known of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentInfo {
    /// Its identifier.
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
    /// The agent under which it is now; none under an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub parent: Option<Aid>,
    /// How many generations are above it; 0 for an agent that an operator spawned.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u64,
    /// Its first process, as the host sees it; none before the start and after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How its first process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitInfo>,
    /// Why it was rejected, suspended or ended, when there is more to say than `state` and `exit` do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How much of one processor it has at most while it is throttled, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u64>,
    /// Whether its program waits for a spawn of its manifest, or its workstation is being built for that: nobody has asked
    /// for this agent yet, and its name means others.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prepared: bool,
    /// When its program was let go, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When its last process ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// SHA-256 of the manifest's signed bytes.
    #[schemars(with = "String")]
    pub manifest_digest: Sha256,
    /// The snapshot that its workspace began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub workspace: Option<Sha256>,
    /// The agent whose workspace that was of, where it is a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub fork_of: Option<Aid>,
    /// What of its workspace was kept at its end, where its manifest says that something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artefacts: Option<Artefacts>,
    /// What it had kept of its workspace while it ran, the first first. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<Snapshot>,
    /// Layers that the kernel lacks and that the operator accepted to do without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_layers: Vec<String>,
    /// Layers in place, as read back. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    /// What the manifest asked for and did not get. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<Denial>,
    /// System calls that the filters denied to it, the first denied first. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_calls: Vec<DeniedCall>,
    /// Why `denied_calls` may be incomplete: nothing reports them here, or reports were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_unreported: Option<String>,
    /// What Landlock denied to it, the first denied first. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied_accesses: Vec<DeniedAccess>,
    /// Why `denied_accesses` may be incomplete: nothing reports them here, or reports were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accesses_unreported: Option<String>,
    /// The limits and grants in force, for people. In `agents.show` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Parameters of `agents.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Whether to list ended agents too.
    #[serde(default)]
    pub all: bool,
}

/// Answer of `agents.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentList {
    /// The agents, oldest first.
    pub agents: Vec<AgentInfo>,
}

/// Parameters of `agents.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
}

/// Which of an agent's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Parameters of `agents.logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// Only this output; both when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Whether to go on until the agent ends.
    #[serde(default)]
    pub follow: bool,
}

/// One item of `agents.logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogChunk {
    /// Where it was written to.
    pub stream: Output,
    /// The bytes, in base 64 (RFC 4648, padded).
    pub data: Base64,
}

/// Answer of `agents.logs`, after the last item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogsEnd {
    /// The agent's state when the stream ended.
    pub state: AgentState,
    /// Bytes that were written but are not kept any more.
    pub lost_bytes: u64,
}

/// Parameters of `agents.wait`: answers when the agent has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
}

/// Parameters of `agents.kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// How long it has to end after SIGTERM before all its processes are killed, in milliseconds; 0 kills at
    /// once.
    #[serde(default)]
    pub grace_ms: u64,
}

/// Parameters of `agents.suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
}

/// Parameters of `agents.resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// How much longer it may live, in milliseconds: needed where its time to live is over, and only there; at most the
    /// time to live that it was spawned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// Parameters of `agents.throttle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// How much of one processor it has at most, in percent: less than its manifest gives it, and no more than it has
    /// already where it is throttled.
    pub cpu_percent: u64,
}

/// Parameters of `agents.unthrottle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnthrottleRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
}

/// Parameters of `agents.artefacts`: answers when the agent has ended and what is to be kept of it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtefactsRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
}

/// Parameters of `agents.fetch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The digest of the artefacts' tree.
    #[schemars(with = "String")]
    pub tree: Sha256,
}

/// Answer of `agents.fetch`: the artefacts come out of the pipe beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fetched {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What an operator does with what this machine keeps for agents to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Imports an image.
    ImportImage,
    /// Removes one.
    RemoveImage,
    /// Keeps a snapshot of a workspace or a directory.
    KeepSnapshot,
    /// Makes one snapshot of two.
    MergeSnapshots,
    /// Removes one.
    RemoveSnapshot,
}

/// Parameters of `agents.record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRequest {
    /// What is done.
    pub deed: Deed,
    /// To which image or snapshot.
    #[schemars(with = "String")]
    pub digest: Sha256,
    /// What it is of: an agent, a directory, a file, others; at most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub of: String,
}

/// Answer of `agents.record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// The entry, which is durable.
    pub seq: u64,
}

/// Parameters of `agents.remove_artefacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveArtefactsRequest {
    /// The digest of the artefacts' tree.
    #[schemars(with = "String")]
    pub tree: Sha256,
}

/// Answer of `agents.remove_artefacts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedArtefacts {
    /// The agents whose artefacts they were, as far as they are still known.
    #[schemars(with = "Vec<String>")]
    pub agents: Vec<Aid>,
}

/// Parameters of `agents.prepare`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareRequest {
    /// The signed manifest, as for `agents.spawn`.
    pub envelope: String,
    /// How many agents are to wait for a spawn of it, from now on: at least 1, at most 64 for all manifests together.
    pub count: u64,
}

/// What is prepared for one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prepared {
    /// SHA-256 of the manifest's signed bytes.
    #[schemars(with = "String")]
    pub manifest_digest: Sha256,
    /// The name in the manifest.
    pub name: String,
    /// The operator who signed the manifest.
    pub operator: String,
    /// Who wished for them.
    pub asked_by: String,
    /// How many are to wait.
    pub count: u64,
    /// Those that wait now.
    #[schemars(with = "Vec<String>")]
    pub agents: Vec<Aid>,
}

/// Parameters of `agents.prepared`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreparedRequest {}

/// Answer of `agents.prepared` and `agents.discard`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreparedList {
    /// One row for each manifest.
    pub prepared: Vec<Prepared>,
}

/// Parameters of `agents.discard`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardRequest {
    /// The digest of the manifest; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
}

/// Parameters of `agents.trust`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {}

/// A key of the trusted set, as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustedKey {
    /// Its identifier: the SHA-256 of the public key.
    #[schemars(with = "String")]
    pub key: Sha256,
    /// For whom it speaks.
    pub operator: String,
    /// The most that it can sign for.
    pub role: String,
    /// When it stops to count, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why it does not count any more, where it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// Since when it is as it is, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Answer of `agents.trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrustList {
    /// Every key.
    pub keys: Vec<TrustedKey>,
}

/// Parameters of `agents.lend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LendRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// The host: as in a manifest, `tls://api.example.org:443`.
    pub host: String,
    /// For how long, in milliseconds; at most a day.
    pub ttl_ms: u64,
    /// How many bytes, both ways together; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many connections in all; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// Parameters of `agents.take_back`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeBackRequest {
    /// An agent identifier, or the name of exactly one agent.
    pub agent: String,
    /// The lease.
    pub lease: String,
}

/// Answer of `agents.take_back`: nothing goes on under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenBack {
    /// How many connections were cut.
    pub cut: u64,
}

/// How long a spawn may take when the caller does not say, in milliseconds: many times what it takes on a
/// loaded machine.
const SPAWN_MS: u64 = 30_000;
/// The same for methods that only look, or send a signal.
const SHORT_MS: u64 = 5_000;
/// A freeze waits for processes that are in the kernel, and what gives back waits for the ledger.
const HOLD_MS: u64 = 15_000;
/// A kill waits for its grace and then for the last process.
const KILL_MS: u64 = 60_000;

crate::rpc! {
    /// Agents: spawning them from signed manifests, looking at them, ending them.
    service "agents" {
        /// Starts an agent from a signed manifest. Answers when its program runs, or says which step refused.
        "spawn" => spawn, Spawn(SpawnRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(SPAWN_MS);
        /// Starts an agent whose workspace begins with what another's has: from the same signed manifest, or another.
        "fork" => fork, Fork(ForkRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(SPAWN_MS);
        /// Says something to an agent, or has it stop what it is at. Whether it listens is for its program: the agent loop does.
        "say" => say, Say(SayRequest) -> SaidInfo,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Waits until what is to be kept of an agent's workspace is, and says what that is.
        "artefacts" => artefacts, KeptArtefacts(ArtefactsRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Open, idempotent: true;
        /// Gives artefacts out, as a stream in a pipe.
        "fetch" => fetch, Fetch(FetchRequest) -> Fetched,
            needs [Need::Operator], deadline Deadline::Ms(SPAWN_MS), fds_out: 1;
        /// Puts on record what an operator is about to do, or has done, with images and snapshots, which are the operator's
        /// own. Answers when it is durable.
        "record" => record, Record(RecordRequest) -> Recorded,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Removes artefacts, for their room.
        "remove_artefacts" => remove_artefacts, RemoveArtefacts(RemoveArtefactsRequest) -> RemovedArtefacts,
            needs [Need::Operator], deadline Deadline::Ms(SPAWN_MS);
        /// Lists agents.
        "list" => list, List(ListRequest) -> AgentList,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Shows everything known of one agent.
        "show" => show, Show(ShowRequest) -> AgentInfo,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Sends an agent's output, from the oldest that is kept.
        "logs" => logs, Logs(LogsRequest) -> LogsEnd, stream LogChunk,
            needs [Need::Operator], deadline Deadline::Open, idempotent: true;
        /// Waits until an agent has ended.
        "wait" => wait, Wait(WaitRequest) -> AgentInfo,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Open, idempotent: true;
        /// Ends an agent with all its processes. Answers when the last one is gone.
        "kill" => kill, Kill(KillRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(KILL_MS), idempotent: true;
        /// Freezes an agent with all its processes. Answers when none of them runs; it is recorded after.
        "suspend" => suspend, Suspend(SuspendRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS), idempotent: true;
        /// Lets a suspended agent run again. It is recorded before.
        "resume" => resume, Resume(ResumeRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Lets an agent have less of the processors than its manifest gives it, and puts it behind all others. It is
        /// recorded after.
        "throttle" => throttle, Throttle(ThrottleRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS), idempotent: true;
        /// Gives a throttled agent its share of the processors back. It is recorded before.
        "unthrottle" => unthrottle, Unthrottle(UnthrottleRequest) -> AgentInfo,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Builds workstations whose programs wait for a spawn of this manifest, and goes on to have so many. Answers when
        /// they stand, or says which step refused. Nothing runs in them before each spawn is checked and recorded as any.
        "prepare" => prepare, Prepare(PrepareRequest) -> Prepared,
            needs [Need::Operator], deadline Deadline::Ms(KILL_MS);
        /// Lists what is prepared.
        "prepared" => prepared, ListPrepared(PreparedRequest) -> PreparedList,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Frees what is prepared and not used, and prepares no more of it. Answers when nothing of it runs.
        "discard" => discard, Discard(DiscardRequest) -> PreparedList,
            needs [Need::Operator], deadline Deadline::Ms(KILL_MS);
        /// Lends an agent a host beyond its manifest, for a while. It is recorded before.
        "lend" => lend, Lend(LendRequest) -> HostLease,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Takes back a host that was lent. Answers when its connections are cut; it is recorded after.
        "take_back" => take_back, TakeBack(TakeBackRequest) -> TakenBack,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS), idempotent: true;
        /// Shows what an agent was given to be used up, what it and those below it have used, and what is left.
        "budget" => budget, ShowBudget(BudgetRequest) -> BudgetInfo,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Looks at the trusted set now, follows and records what has changed in it, and lists its keys.
        "trust" => trust, Trust(TrustRequest) -> TrustList,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS), idempotent: true;
        /// Lists the agents that offer tools to others, and their tools.
        "servers" => servers, Servers(ServersRequest) -> ServerList,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Has a server's list of tools read again, and an operator asked again where what is new or changed in it was denied
        /// or nobody answered.
        "pin" => pin, Pin(PinRequest) -> ServerInfo,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Lists the requests that wait for an operator's answer, or for their use.
        "approvals" => approvals, Approvals(ApprovalsRequest) -> ApprovalList,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Shows one request, with exactly what will be done.
        "approval" => approval, ShowApproval(ApprovalRequest) -> Approval,
            needs [Need::Operator], deadline Deadline::Ms(SHORT_MS), idempotent: true;
        /// Takes an operator's signed answer to a request. It counts by its signature, whoever brings it.
        "answer" => answer, Answer(AnswerRequest) -> Approval,
            needs [Need::Operator], deadline Deadline::Ms(HOLD_MS);
        /// Lets a service do something for an agent once, if its manifest demands no approval for it or an operator has
        /// given one, which is used up; asks for it otherwise.
        "permit" => permit, Permit(PermitRequest) -> Permitted,
            needs [Need::Service("egress"), Need::Service("router"), Need::Service("comms"), Need::Service("vault")],
            deadline Deadline::Ms(HOLD_MS);
    }
}
