//! What an agent can ask of Octant through the socket in its workstation.

use crate::agents::{
    AgentState, ApprovalState, Artefacts, BudgetInfo, Denial, ExitInfo, LogChunk, LogsEnd, Output, Permitted,
    TakenBack,
};
use crate::egress::{HostLease, Preview};
use crate::rpc::{Deadline, Need};
use crate::text::{Base64, Json};
use crate::vault::{Lease, Mode, Opened, Released, Signed, Token};
use octant_ids::{Aid, SecretName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest manifest of a child, in bytes.
pub const CHILD_MANIFEST_MAX: usize = 160 << 10;
/// The longest arguments of [`PermitRequest`], in bytes of JSON text: a command of 64 KiB, every byte of which is written
/// with six.
pub const PERMIT_MAX: usize = 416 << 10;
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
    /// The agent under which it is; none under an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub parent: Option<Aid>,
    /// How many generations are above it; 0 for an agent that an operator spawned.
    pub depth: u64,
    /// SHA-256 of the manifest's bytes.
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

/// Parameters of `agent.ssh_keys`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshKeysRequest {}

/// A key pair that logs in over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SshKey {
    /// Its name in the vault.
    #[schemars(with = "String")]
    pub secret: SecretName,
    /// Its public key (Ed25519): 32 bytes.
    pub public_key: Base64,
    /// Where it logs in: `USER@HOST:PORT key SHA256:...`.
    pub to: String,
}

/// Answer of `agent.ssh_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SshKeys {
    /// The key pairs that the manifest grants, and that the vault gives.
    pub keys: Vec<SshKey>,
}

/// Parameters of `agent.ssh_login`: what an SSH client says to its agent (OpenSSH's PROTOCOL.agent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshLoginRequest {
    /// What is to be signed: a request to log in (RFC 4252 section 7), at most 64 KiB.
    pub data: Base64,
    /// The host's public key.
    pub host_key: Base64,
    /// The session's name.
    pub session: Base64,
    /// The host's signature over it.
    pub signature: Base64,
    /// Whether the session is one that is handed on to another host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forwarded: bool,
}

/// Parameters of `agent.spawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// The child's manifest, as TOML text, at most 160 KiB. Nobody signs it: the child gets what it asks within what
    /// this agent has, and the operator whom it names is this agent's.
    pub manifest: String,
}

/// An agent below the one who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Child {
    /// Its identifier.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Its name in its manifest.
    pub name: String,
    /// Its role in its manifest.
    pub role: String,
    /// Where it is in its life.
    pub state: AgentState,
    /// The agent under which it is now; none where everything above it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub parent: Option<Aid>,
    /// How many generations are above it, up to the agent that an operator spawned.
    pub depth: u64,
    /// How its first process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitInfo>,
    /// Why it was rejected or ended, when there is more to say than `exit` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When its program was let go, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When its last process ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// SHA-256 of its manifest's bytes.
    #[schemars(with = "String")]
    pub manifest_digest: Sha256,
    /// What its manifest asked for and did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed: Vec<Denial>,
    /// The limits and grants in force, for people. In the answer of `agent.spawn` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
}

/// Parameters of `agent.children`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildrenRequest {
    /// Whether to list those that have ended too, as far as they are still known.
    #[serde(default)]
    pub all: bool,
}

/// Answer of `agent.children`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Children {
    /// Every agent below this one, of every generation, oldest first.
    pub agents: Vec<Child>,
    /// How many more descendants this agent may have.
    pub descendants_left: u64,
}

/// Parameters of `agent.wait`: answers when the descendant has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// The descendant's identifier, the last 4 or more characters of it, or its name if only one descendant has it.
    pub agent: String,
}

/// Parameters of `agent.kill`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// The descendant, as for `agent.wait`.
    pub agent: String,
    /// How long it has to end after SIGTERM before all its processes are killed, in milliseconds; 0 kills at once.
    #[serde(default)]
    pub grace_ms: u64,
}

/// Parameters of `agent.logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// The descendant, as for `agent.wait`.
    pub agent: String,
    /// Only this output; both when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Whether to go on until the descendant ends.
    #[serde(default)]
    pub follow: bool,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Text.
    Text(String),
    /// Any JSON, which arrives as the exact text that was sent.
    Json(Json),
}

impl Body {
    /// The exact text, over which the ledger has the digest.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Json(json) => json.text(),
        }
    }

    /// Its form, as the wire and the ledger write it.
    #[must_use]
    pub fn form(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Json(_) => "json",
        }
    }
}

/// Parameters of `agent.send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// A room of this agent's manifest.
    pub room: String,
    /// What sort of message it is, for who reads it: 1 to 64 characters of a-z, 0-9 and `. _ -`.
    pub kind: String,
    /// What it says, at most 16 KiB.
    pub body: Body,
}

/// Answer of `agent.send`: the message is on record, and in the mailbox of everybody else who was in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// The number of the ledger entry.
    pub seq: u64,
    /// How many agents got it.
    pub receivers: u64,
}

/// Parameters of `agent.receive`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveRequest {
    /// The cursor of the answer before: what came up to there has been read and is taken out of the mailbox. 0 takes
    /// nothing out.
    #[serde(default)]
    pub after: u64,
    /// How long to wait for a message when there is none, in milliseconds; at most 30 s.
    #[serde(default)]
    pub wait_ms: u64,
}

/// A message as it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Its place in this mailbox: greater than that of everything that came before.
    pub cursor: u64,
    /// The number of its ledger entry.
    pub seq: u64,
    /// The room.
    pub room: String,
    /// Who sent it; not a claim, but by whose socket it came.
    #[schemars(with = "String")]
    pub from: Aid,
    /// What the sender is called in its manifest.
    pub name: String,
    /// What sort of message it is.
    pub kind: String,
    /// When it was sent, in milliseconds since 1970.
    pub sent_ms: u64,
    /// What it says.
    pub body: Body,
}

/// Answer of `agent.receive`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// The oldest messages that wait, in order.
    pub messages: Vec<Message>,
    /// What to give as `after` next, once these have been read.
    pub cursor: u64,
    /// How many messages were pushed out by newer ones since the answer before: each is in the ledger, by its digest.
    pub lost: u64,
    /// Whether the mailbox could not be read after a restart since the last message that was read: what came before and
    /// was not read is in the ledger only, by its digest.
    pub restarted: bool,
}

/// Parameters of `agent.approval`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The request, as the error with the code `approval_needed` named it.
    pub id: String,
    /// How long to wait for an answer while there is none, in milliseconds; at most 10 min.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Answer of `agent.approval`: where a request of this agent's is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalInfo {
    /// Its identifier.
    pub id: String,
    /// What has to be approved.
    pub action: String,
    /// SHA-256 of exactly what will be done.
    #[schemars(with = "String")]
    pub digest: Sha256,
    /// Where it is. Once it is allowed, the same call that was refused passes, once.
    pub state: ApprovalState,
    /// From when on it is denied, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Who answered, or why it is denied; empty while it waits.
    pub why: String,
}

/// Parameters of `agent.permit`: may this agent's own program do this, now and once?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitRequest {
    /// The program's tool, as `tool:NAME` in `approvals.required` names it: `shell_run`. No server's: those are asked for
    /// where they are called.
    pub tool: String,
    /// With what, at most 416 KiB: what an operator is shown, and approves, is exactly this.
    pub arguments: Json,
}

/// Parameters of `agent.words`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WordsRequest {
    /// The number of the last word that is known already; 0 for none.
    #[serde(default)]
    pub after: u64,
    /// How many stops are known already; another number of them is an answer too. Left out, stops are not waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<u64>,
    /// How long to wait where there is nothing new, in milliseconds; at most 30 s.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Something that an operator said to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Word {
    /// Its number, from 1: the task, where there is one, is the first.
    pub number: u64,
    /// The words.
    pub text: String,
}

/// Answer of `agent.words`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Words {
    /// What was said after the number that was given, in order.
    pub words: Vec<Word>,
    /// Whether more is to be waited for once all of it is done.
    pub more: bool,
    /// How often an operator has stopped what the agent was at.
    pub stops: u64,
    /// The number of the last word that had been said when that was last: what was said since is to be done.
    pub stopped_at: u64,
}

/// Parameters of `agent.credentials`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialsRequest {}

/// A secret that the gate uses for the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// The secret's name.
    #[schemars(with = "String")]
    pub secret: SecretName,
    /// The variable of the agent's environment that holds what stands for it, to be sent in its place.
    pub variable: String,
    /// The hosts at which it is used: `api.example.org`, or `*.example.org` for those below.
    pub hosts: Vec<String>,
}

/// Answer of `agent.credentials`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credentials {
    /// The secrets, by name.
    pub credentials: Vec<Credential>,
}

/// Parameters of `agent.budget`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRequest {}

/// Parameters of `agent.snapshot`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {}

/// Parameters of `agent.preview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// Where to: `https://api.example.org/`, `http://example.org:8080/`, or a host and a port.
    pub url: String,
}

/// Parameters of `agent.borrow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BorrowRequest {
    /// The host, one by its name, with protocol and port: `tls://api.example.org:443`.
    pub host: String,
    /// For how long, in milliseconds; at most a day.
    pub ttl_ms: u64,
    /// How many bytes, both ways together; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many connections in all; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Why, for the record and for who is asked; at most 200 bytes.
    pub reason: String,
}

/// Parameters of `agent.return`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnRequest {
    /// The lease.
    pub lease: String,
}

/// How long a spawn may take when the caller does not say, in milliseconds.
const SPAWN_MS: u64 = 30_000;
/// A kill waits for its grace and then for the last process.
const KILL_MS: u64 = 60_000;
/// How long a snapshot may take: most of it is the waiting behind those of other agents.
const SNAPSHOT_MS: u64 = 180_000;
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
        /// Lists the key pairs that log in over SSH for this agent.
        "ssh_keys" => ssh_keys, ListSshKeys(SshKeysRequest) -> SshKeys,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS);
        /// Signs a login over SSH at a host that is granted, once that host's key is seen to have signed the session.
        "ssh_login" => ssh_login, SshLogin(SshLoginRequest) -> Signed,
            needs [Need::Agent], deadline Deadline::Ms(SECRET_MS);
        /// Starts a child within this agent's own rights. Answers when its program runs, or says every reason why it
        /// does not.
        "spawn" => spawn, Spawn(SpawnRequest) -> Child,
            needs [Need::Agent], deadline Deadline::Ms(SPAWN_MS);
        /// Lists this agent's descendants.
        "children" => children, Children(ChildrenRequest) -> Children,
            needs [Need::Agent], deadline Deadline::Ms(5_000), idempotent: true;
        /// Waits until a descendant has ended. Who is unknown and who is not below this agent are refused alike.
        "wait" => wait, Wait(WaitRequest) -> Child,
            needs [Need::Agent], deadline Deadline::Open, idempotent: true;
        /// Ends a descendant with all its processes. Answers when the last one is gone.
        "kill" => kill, Kill(KillRequest) -> Child,
            needs [Need::Agent], deadline Deadline::Ms(KILL_MS), idempotent: true;
        /// Sends a message to everybody else in a room. Answers when it is on record and in their mailboxes.
        "send" => send, Send(SendRequest) -> Sent,
            needs [Need::Agent], deadline Deadline::Ms(10_000);
        /// Gives what is in this agent's mailbox, or waits for it.
        "receive" => receive, Receive(ReceiveRequest) -> Received,
            needs [Need::Agent], deadline Deadline::Ms(35_000);
        /// Gives what an operator said to this agent, its task first, or waits for it.
        "words" => words, Words(WordsRequest) -> Words,
            needs [Need::Agent], deadline Deadline::Ms(35_000), idempotent: true;
        /// Says what this agent was given to be used up, what it and those below it have used, and what is left.
        "budget" => budget, ShowBudget(BudgetRequest) -> BudgetInfo,
            needs [Need::Agent], deadline Deadline::Ms(5_000), idempotent: true;
        /// Keeps what the manifest says is kept of the workspace (lifetime.retain) as it is now. The agent stands still
        /// meanwhile. Answers when it is kept and on record.
        "snapshot" => snapshot, TakeSnapshot(SnapshotRequest) -> Artefacts,
            needs [Need::Agent], deadline Deadline::Ms(SNAPSHOT_MS);
        /// Says which secrets the gate uses for this agent, at which hosts, and where it finds what stands for each.
        "credentials" => credentials, ShowCredentials(CredentialsRequest) -> Credentials,
            needs [Need::Agent], deadline Deadline::Ms(5_000), idempotent: true;
        /// Says whether the gate would let a connection through, and why not. Nothing is sent.
        "preview" => preview, ShowPreview(PreviewRequest) -> Preview,
            needs [Need::Agent], deadline Deadline::Ms(6_000), idempotent: true;
        /// Asks to be lent a host beyond the manifest, for a while. What may be asked for stands in the manifest
        /// (network.leases), and so does whether an operator is asked each time (approvals.required).
        "borrow" => borrow, Borrow(BorrowRequest) -> HostLease,
            needs [Need::Agent], deadline Deadline::Ms(15_000);
        /// Gives a host back that was lent, and cuts its connections.
        "return" => give_back, GiveBack(ReturnRequest) -> TakenBack,
            needs [Need::Agent], deadline Deadline::Ms(15_000), idempotent: true;
        /// Says where a request for approval of this agent's is, or waits for its answer.
        "approval" => approval, ShowApproval(ApprovalRequest) -> ApprovalInfo,
            needs [Need::Agent], deadline Deadline::Open, idempotent: true;
        /// Asks whether this agent's own program may use a tool of its own once (approvals.required), before it does. A
        /// program that does not ask is not held back by this.
        "permit" => permit, Permit(PermitRequest) -> Permitted,
            needs [Need::Agent], deadline Deadline::Ms(15_000);
        /// Sends a descendant's output, from the oldest that is kept.
        "logs" => logs, Logs(LogsRequest) -> LogsEnd, stream LogChunk,
            needs [Need::Agent], deadline Deadline::Open, idempotent: true;
    }
}
