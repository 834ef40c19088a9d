//! The gate's methods: what agents may reach outside, and what they have reached.
//!
//! Only `agents` says what an agent may reach, and it says all of it at once: what is in force for an agent is replaced
//! whole, and what the new word no longer allows is cut. Whoever looks gets what is in force, not what was asked for.

use crate::agents::Amounts;
use crate::rpc::{Deadline, Need};
use octant_ids::{Aid, SecretName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many hosts and how many leases one agent can have.
pub const RULES_MAX: usize = 256;
/// How many secrets are used for one agent.
pub const CREDENTIALS_MAX: usize = 32;
/// How many ports one agent can reach.
pub const PORTS_MAX: usize = 32;
/// The longest reason of a lease, in bytes.
pub const REASON_MAX: usize = 200;

/// Addresses that stand for names inside a workstation, with how many leading bits they share: those of networks that
/// are benchmarked (RFC 2544), which are nobody's.
pub const NAMES_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// The same: a unique local network (RFC 4193).
pub const NAMES_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd4f, 0x6374, 0x616e, 0x7400, 0, 0, 0, 0), 64);
/// Where an agent asks for names.
pub const DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// What a listener in an agent's network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// Questions for names, in datagrams.
    Dns,
    /// Questions for names, over TCP.
    DnsTcp,
    /// HTTP as a proxy speaks it: CONNECT, and requests with a whole URL.
    Proxy,
    /// SOCKS version 5 (RFC 1928).
    Socks,
    /// What goes to a port of a host, as if the host were there.
    Port(u16),
    /// Requests to language models, in HTTP. It is the router's and not the gate's.
    Models,
}

impl Door {
    /// Where it listens: an address, or with none every address of the network; and a port.
    #[must_use]
    pub fn place(self) -> (Option<IpAddr>, u16) {
        let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        match self {
            Self::Dns | Self::DnsTcp => (Some(IpAddr::V4(DNS)), 53),
            Self::Proxy => (loopback, 3128),
            Self::Socks => (loopback, 1080),
            Self::Port(port) => (None, port),
            Self::Models => (loopback, 7070),
        }
    }
}

/// How much an agent may send and receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// How many connections at the same time.
    pub connections: u64,
    /// How many bytes in its whole life, both ways together; absent: as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many bytes a second, both ways together; absent: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Whether bytes and requests are drawn from the agent's budgets before they are used: asked for by `egress.watch`,
    /// given by `egress.fund`.
    #[serde(default)]
    pub drawn: bool,
}

/// A host that may be reached for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostLease {
    /// Its identifier.
    pub id: String,
    /// Which host: as in a manifest, `tls://api.example.org:443`.
    pub host: String,
    /// When it ends, in milliseconds of CLOCK_BOOTTIME.
    pub until_ms: u64,
    /// How many bytes, both ways together; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many connections in all; absent: as many as the agent may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Why it was given.
    pub reason: String,
    /// Who gave it.
    pub by: String,
}

/// Parameters of `egress.admit`: everything that one agent may reach, in place of what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Greater than that of the word before; an older word that comes late is refused.
    pub generation: u64,
    /// The hosts that its manifest names.
    pub hosts: Vec<String>,
    /// What it was lent beyond them.
    #[serde(default)]
    pub leases: Vec<HostLease>,
    /// The secrets that are used for it, without its seeing them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// The databases that it is logged in to, without its seeing the passwords.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<Login>,
    /// The digest of the manifest that it runs under, by which the vault may have granted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
    /// How much.
    pub caps: Caps,
}

/// A secret that the gate puts into an agent's requests to a host, in place of what stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The secret's name in the vault.
    #[schemars(with = "String")]
    pub secret: SecretName,
    /// For which host: `api.example.org`, or `*.example.org` for those below.
    pub host: String,
    /// What the agent has in its place: `octs_` and 22 digits of base32 in lower case.
    pub placeholder: String,
    /// Where in a request it is put, as the manifest has it after `in`; empty for a header that is for keys.
    #[serde(default)]
    pub place: String,
}

/// A PostgreSQL database that the gate logs an agent in to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The password's name in the vault.
    #[schemars(with = "String")]
    pub secret: SecretName,
    /// As whom, where, to which database: as the manifest has it, `app@db.example.org:5432/sales`, or `*` for any database.
    pub to: String,
}

/// Answer of `egress.admit`: it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admitted {
    /// How many connections were cut.
    pub cut: u64,
    /// What has to be listened on for it and is not yet.
    pub missing: Vec<Door>,
    /// The certificate, as PEM, of the authority that its programs have to trust where a secret is used for it; absent
    /// where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// Parameters of `egress.listen`. Takes the socket as a descriptor, bound inside the agent's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// What it is for.
    pub door: Door,
}

/// Answer of `egress.listen`: it is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listening {}

/// Parameters of `egress.dismiss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DismissRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
}

/// Answer of `egress.dismiss`: no connection and no listener of the agent is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dismissed {
    /// What it had used.
    pub usage: Usage,
    /// What of that was drawn from its budgets; absent where this run of the gate does not know the agent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
}

/// The gate's last word about what it drew for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// The run of the gate that says so.
    pub run: String,
    /// What that run has used.
    pub used: Amounts,
}

/// What went through the gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// How many connections were made.
    pub connections: u64,
    /// How many were denied.
    pub denied: u64,
    /// How many bytes went out.
    pub bytes_out: u64,
    /// How many came in.
    pub bytes_in: u64,
}

/// Parameters of `egress.preview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Where to: `https://api.example.org/`, `http://example.org:8080/`, or a host and a port.
    pub url: String,
}

/// Answer of `egress.preview`: what the gate would decide right now. Nothing is sent and nothing is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// Whether it would let the connection through.
    pub allowed: bool,
    /// The host in normal form.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The grant or lease that allows it; empty when none does.
    pub rule: String,
    /// Why it would not; empty when it would.
    pub why: String,
    /// What to do about it; empty when it would.
    pub next: String,
}

/// Parameters of `egress.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// One agent only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub aid: Option<Aid>,
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseState {
    /// The lease.
    pub lease: HostLease,
    /// How many milliseconds it lasts yet; 0 when it is over.
    pub left_ms: u64,
    /// How many bytes went through under it.
    pub bytes: u64,
    /// How many connections.
    pub connections: u64,
}

/// A connection that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Open {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The grant or lease that allows it.
    pub rule: String,
    /// The ledger entry that announced it.
    pub intent: u64,
    /// How many bytes went out.
    pub bytes_out: u64,
    /// How many came in.
    pub bytes_in: u64,
}

/// One agent at the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AtGate {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Of which word.
    pub generation: u64,
    /// The hosts that its manifest names.
    pub hosts: Vec<String>,
    /// What it was lent.
    pub leases: Vec<LeaseState>,
    /// How much it may.
    pub caps: Caps,
    /// What is listened on for it.
    pub doors: Vec<Door>,
    /// What is open, oldest first; 100 at the most.
    pub open: Vec<Open>,
    /// How many are open.
    pub open_count: u64,
    /// What went through.
    pub usage: Usage,
}

/// Answer of `egress.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AtGates {
    /// Every agent that was admitted.
    pub agents: Vec<AtGate>,
}

/// Parameters of `egress.watch`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {}

/// The run of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Another for each start of the gate.
    pub instance: String,
    /// Every agent that it knows: those that were admitted, and those whose listeners are there from an earlier run.
    #[schemars(with = "Vec<String>")]
    pub agents: Vec<Aid>,
}

/// What the gate may need of an agent's budgets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Draw {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// What this run of the gate has used for it so far.
    pub used: Amounts,
    /// Up to how much it may have to use, from its start on.
    pub want: Amounts,
}

/// What `egress.watch` sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Which run this is; once, at its begin.
    Began(Instance),
    /// Something is to be drawn from an agent's budgets, and is answered with `egress.fund`.
    Draw(Draw),
}

/// Parameters of `egress.fund`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FundRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// The run of the gate that this is for.
    pub run: String,
    /// Up to how much that run may use for it, from its start on. Less than it wanted is all that there is.
    pub limit: Amounts,
}

/// Answer of `egress.fund`: it is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Funded {}

/// The last answer of `egress.watch`: the gate stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {}

/// A durable record and a name from outside come into each.
const ADMIT_MS: u64 = 5_000;

crate::rpc! {
    /// The one way out of a workstation.
    service "egress" {
        /// Says what an agent may reach. What that no longer allows is cut before the answer.
        "admit" => admit, Admit(AdmitRequest) -> Admitted,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Hands a listening socket over for an agent that was admitted.
        "listen" => listen, Listen(ListenRequest) -> Listening,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true, fds_in: 1;
        /// Cuts everything of an agent and forgets it.
        "dismiss" => dismiss, Dismiss(DismissRequest) -> Dismissed,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says that the gate has started, and what is to be drawn from budgets for as long as it runs.
        "watch" => watch, Watch(WatchRequest) -> Watched, stream Told,
            needs [Need::Service("agents")], deadline Deadline::Open, idempotent: true;
        /// Says up to how much the gate may use for an agent that has budgets.
        "fund" => fund, Fund(FundRequest) -> Funded,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says what would be decided, without doing anything.
        "preview" => preview, PreviewCall(PreviewRequest) -> Preview,
            needs [Need::Operator, Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Lists what agents may reach, have open and have used.
        "list" => list, List(ListRequest) -> AtGates,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
    }
}
