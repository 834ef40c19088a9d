//! The network service's methods: how the machine is connected.

use crate::rpc::{Deadline, Need};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Parameters of `network.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {}

/// Answer of `network.status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkStatus {
    /// The links that the service manages.
    pub links: Vec<LinkStatus>,
    /// The name servers that the machine asks, the first one first.
    pub name_servers: Vec<IpAddr>,
    /// Below which names names without a dot are.
    pub search: Vec<String>,
    /// Links that the configuration names and the machine does not have.
    pub missing: Vec<String>,
    /// What is known of the time.
    #[serde(default)]
    pub time: TimeStatus,
}

/// How the machine's clock is kept right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeStatus {
    /// Whether it is.
    pub state: TimeState,
    /// How far the clock was behind when that was last known, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_us: Option<i64>,
    /// Why it is not right; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Who was asked, and what came of it.
    pub servers: Vec<TimeServer>,
}

/// Whether the clock is right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeState {
    /// There is no time server.
    #[default]
    Off,
    /// Not known yet.
    Asking,
    /// As right as the servers are.
    Right,
    /// It is wrong, and nobody may set it without an operator's word.
    Refused,
}

/// A time server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeServer {
    /// Its name or address.
    pub name: String,
    /// How far it says that the clock is behind, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_us: Option<i64>,
    /// How long the way there and back took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_us: Option<u64>,
    /// Why it is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Whether there is somebody at the other end.
    pub carrier: bool,
    /// Its addresses, as the kernel has them.
    pub addresses: Vec<String>,
    /// Through whom what is for everybody else goes, as the kernel has it.
    pub gateways: Vec<IpAddr>,
    /// What it is lent; absent where it does not ask for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpStatus>,
    /// Why it is not as it should be; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a link is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DhcpStatus {
    /// `selecting`, `requesting`, `bound`, `renewing` or `rebinding`, as RFC 2131 has it.
    pub state: String,
    /// The address; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Who lent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    /// For how many milliseconds more; absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// Parameters of `network.renew`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The link; absent: every one that is lent an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Answer of `network.renew`: the servers were asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewed {
    /// For which links.
    pub links: Vec<String>,
}

/// Parameters of `network.step`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRequest {}

/// Answer of `network.step`: the clock is what the servers say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stepped {
    /// By how many milliseconds it was set forward.
    pub by_ms: i64,
}

/// Every time server is asked, and the ledger.
const STEP_MS: u64 = 60_000;
/// The kernel is asked, nobody outside is waited for.
const ANSWER_MS: u64 = 5_000;

crate::rpc! {
    /// The machine's network.
    service "network" {
        /// Says how the machine is connected.
        "status" => status, Status(StatusRequest) -> NetworkStatus,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(ANSWER_MS), idempotent: true;
        /// Has what was lent to links asked for again now.
        "renew" => renew, Renew(RenewRequest) -> Renewed,
            needs [Need::Operator], deadline Deadline::Ms(ANSWER_MS), idempotent: true;
        /// Sets the clock to what the time servers say now, also by more than it is set by otherwise, or back.
        "step" => step, Step(StepRequest) -> Stepped,
            needs [Need::Operator], deadline Deadline::Ms(STEP_MS), idempotent: true;
    }
}
