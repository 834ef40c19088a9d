//! The router's methods: which models agents may ask, and what they have asked.
//!
//! As at the gate ([`crate::egress`]), only `agents` says what an agent may, and it says all of it at once; what is drawn
//! from budgets is asked for by `router.watch` and given by `router.fund`.

use crate::agents::Amounts;
use crate::egress::{Settled, Told};
use crate::rpc::{Deadline, Need};
use octant_ids::{Aid, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many models, or beginnings of names, one agent can have.
pub const MODELS_MAX: usize = 256;
/// The longest name of a model, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;

/// Where what is said to a model may go. In order of how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataClass {
    /// No further than this machine.
    #[default]
    Local,
    /// To providers that say they keep nothing of it.
    NoRetention,
    /// To every provider.
    Any,
}

/// Parameters of `router.admit`: everything that one agent may ask, in place of what was said before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// Greater than that of the word before; an older word that comes late is refused.
    pub generation: u64,
    /// The models, by name or by the beginning of names with `*` behind it.
    pub models: Vec<String>,
    /// The most tokens in one minute.
    pub tokens_per_minute: u64,
    /// The most that is spent in one minute, in millionths of a US dollar.
    pub microusd_per_minute: u64,
    /// The most tokens in one day, of UTC; absent: as many as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// The most that is spent in one day, of UTC, in millionths of a US dollar; absent: as much as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub microusd_per_day: Option<u64>,
    /// Those above it, whose windows its calls count in too.
    #[serde(default)]
    pub above: Vec<Above>,
    /// The most that a million tokens may cost, in millionths of a US dollar; absent: as much as they like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price_microusd: Option<u64>,
    /// Where what is said may go.
    pub data: DataClass,
    /// Whether prompts and answers are kept.
    #[serde(default)]
    pub keep_prompts: bool,
    /// Whether an answer may be one that the agent had to the same request before.
    #[serde(default)]
    pub cache: bool,
    /// Whether it may ask providers for more than answers to what stands in its requests.
    #[serde(default)]
    pub extras: bool,
    /// The digest of the manifest that it runs under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
}

/// How much an agent above another, and all below it together, may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// That agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// In each window.
    pub limits: WindowLimits,
}

/// Answer of `router.admit`: it is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Admitted {
    /// How many calls were cut.
    pub cut: u64,
    /// Whether it has a listener already.
    pub listens: bool,
}

/// Parameters of `router.listen`. Takes the sockets as descriptors: one bound inside the agent's network, and the Unix socket
/// in its workstation, which `agents` has for as long as the agent lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
}

/// Answer of `router.listen`: it is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listening {}

/// Parameters of `router.dismiss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DismissRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
}

/// Answer of `router.dismiss`: no call and no listener of the agent is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dismissed {
    /// What was drawn from its budgets; absent where this run of the router does not know the agent any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
}

/// Parameters of `router.watch`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {}

/// The last answer of `router.watch`: the router stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {}

/// Parameters of `router.fund`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FundRequest {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// The run of the router that this is for.
    pub run: String,
    /// Up to how much that run may use for it, from its start on. Less than it wanted is all that there is.
    pub limit: Amounts,
}

/// Answer of `router.fund`: it is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Funded {}

/// Parameters of `router.status`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {}

/// How the router stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Where the operator's configuration is.
    pub file: String,
    /// Why that is not in force; empty where it is, or where there is none.
    pub fault: String,
    /// How many providers can be called.
    pub providers: u64,
    /// How many models are known.
    pub models: u64,
    /// Every agent that was admitted.
    pub agents: Vec<AtRouter>,
}

/// One agent at the router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AtRouter {
    /// The agent.
    #[schemars(with = "String")]
    pub aid: Aid,
    /// The models that it may ask.
    pub models: Vec<String>,
    /// Where what it says may go.
    pub data: DataClass,
    /// Whether it has a listener.
    pub listens: bool,
    /// How many of its calls are under way.
    pub open: u64,
    /// What it has used.
    pub usage: Usage,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// How many calls came to an answer.
    pub calls: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were denied.
    pub denied: u64,
    /// How many of the answers came from the cache.
    pub cached: u64,
    /// Tokens of prompts.
    pub input: u64,
    /// Tokens of answers.
    pub output: u64,
    /// What it cost, in millionths of a US dollar.
    pub microusd: u64,
}

/// Parameters of `router.providers`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvidersRequest {}

/// Answer of `router.providers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Providers {
    /// Every deployment that the operator configured.
    pub deployments: Vec<DeploymentRow>,
}

/// A model at a provider, by one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentRow {
    /// Its name.
    pub name: String,
    /// The provider.
    pub provider: String,
    /// The model, as agents name it.
    pub model: String,
    /// Where it is.
    pub url: String,
    /// The key's name in the vault; empty where none is needed.
    pub key: String,
    /// How it stands: `closed` (it is called), `open` (it is left alone), `half-open` (one call tries it).
    pub state: String,
    /// For how long it is left alone yet, in milliseconds.
    pub left_ms: u64,
}

/// Parameters of `router.explain`: what would be done with a call, without doing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// As which agent; absent: as one that may ask everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub aid: Option<Aid>,
    /// Which model.
    pub model: String,
    /// What is said to it.
    #[serde(default)]
    pub prompt: String,
}

/// Answer of `router.explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Why it would be denied; empty where it would not.
    pub denied: String,
    /// What to do about that.
    pub next: String,
    /// What would be tried, in order, and what would not, each with its reason.
    pub lines: Vec<String>,
}

/// Parameters of `router.usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageRequest {
    /// One caller only: an agent, `operator:UID` or `key:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `router.usage`: of the last days.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Used {
    /// By day, caller, model and provider.
    pub rows: Vec<UsedRow>,
}

/// What one caller used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsedRow {
    /// The number of the day since 1970, of UTC.
    pub day: u64,
    /// The agent, `operator:UID` or `key:NAME`.
    pub by: String,
    /// The model, as it was asked for.
    pub model: String,
    /// The provider; empty where nobody was asked.
    pub provider: String,
    /// What.
    pub usage: Usage,
}

/// How much may be used in each window. What is absent has no end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowLimits {
    /// Tokens in one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Millionths of a US dollar in one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microusd_per_minute: Option<u64>,
    /// Tokens in one day, of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Millionths of a US dollar in one day, of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microusd_per_day: Option<u64>,
    /// Tokens in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microusd: Option<u64>,
}

/// Parameters of `router.issue`: a key for a program outside of workstations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    /// The name of whom it is for, which records say.
    pub name: String,
    /// The models, by name or by the beginning of names with `*` behind it.
    pub models: Vec<String>,
    /// Where what is said may go.
    pub data: DataClass,
    /// The most that a million tokens may cost, in millionths of a US dollar; absent: as much as they like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price_microusd: Option<u64>,
    /// How much may be used.
    #[serde(default)]
    pub limits: WindowLimits,
    /// For how long it is good, in milliseconds; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Answer of `router.issue`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// The key. It is said here and nowhere else.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

/// Parameters of `router.keys`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {}

/// Answer of `router.keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeysFound {
    /// Where programs ask with them; empty where nobody listens.
    pub at: String,
    /// Why nobody listens, though router.toml says where.
    pub fault: String,
    /// Every key that is good.
    pub keys: Vec<KeyRow>,
}

/// A key, without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRow {
    /// What it was issued with.
    pub issued: IssueRequest,
    /// When, in milliseconds since 1970.
    pub issued_ms: u64,
    /// Until when it is good, in milliseconds since 1970; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// How many of its calls are under way.
    pub open: u64,
}

/// Parameters of `router.revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The key's name.
    pub name: String,
}

/// Answer of `router.revoke`: it is good for nothing any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// How many of its calls were cut.
    pub cut: u64,
}

/// Parameters of `router.metrics`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsRequest {}

/// Answer of `router.metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// In the text format of Prometheus, with OpenTelemetry's names for generative models.
    pub text: String,
}

/// Parameters of `router.test`: asks a model for one word, at the operator's cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// Which model.
    pub model: String,
}

/// Answer of `router.test`: every deployment of the model, each asked once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tested {
    /// One for each.
    pub rows: Vec<TestedRow>,
}

/// What came of asking one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestedRow {
    /// The deployment.
    pub deployment: String,
    /// Whether it answered.
    pub answered: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What went wrong, or the beginning of what it said.
    pub said: String,
}

/// Parameters of `router.reload`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {}

/// Answer of `router.reload`: what the file says is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// How many deployments there are now.
    pub deployments: u64,
    /// What is strange, and not wrong.
    pub warnings: Vec<String>,
}

const ADMIT_MS: u64 = 5_000;
/// As long as a slow provider takes for a word.
const TEST_MS: u64 = 60_000;

crate::rpc! {
    /// Every call of a language model.
    service "router" {
        /// Says which models an agent may ask. Calls that are no longer allowed are cut before the answer.
        "admit" => admit, Admit(AdmitRequest) -> Admitted,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Hands the listening sockets over for an agent that was admitted.
        "listen" => listen, Listen(ListenRequest) -> Listening,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true, fds_in: 2;
        /// Cuts everything of an agent and forgets it.
        "dismiss" => dismiss, Dismiss(DismissRequest) -> Dismissed,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says that the router has started, and what is to be drawn from budgets for as long as it runs.
        "watch" => watch, Watch(WatchRequest) -> Watched, stream Told,
            needs [Need::Service("agents")], deadline Deadline::Open, idempotent: true;
        /// Says up to how much the router may use for an agent.
        "fund" => fund, Fund(FundRequest) -> Funded,
            needs [Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says how it stands.
        "status" => status, StatusOf(StatusRequest) -> Status,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Lists the deployments, and how each stands.
        "providers" => providers, ProvidersOf(ProvidersRequest) -> Providers,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says what would be done with a call, without doing it.
        "explain" => explain, Explain(ExplainRequest) -> Explained,
            needs [Need::Operator, Need::Service("agents")], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Says what was used, by day, caller, model and provider.
        "usage" => usage, UsageOf(UsageRequest) -> Used,
            needs [Need::Operator, Need::AnyService], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Gives the metrics.
        "metrics" => metrics, MetricsOf(MetricsRequest) -> Metrics,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Asks every deployment of a model for one word.
        "test" => test, Test(TestRequest) -> Tested,
            needs [Need::Operator], deadline Deadline::Ms(TEST_MS), idempotent: true;
        /// Makes a key for a program outside of workstations.
        "issue" => issue, Issue(IssueRequest) -> Issued,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS);
        /// Lists the keys, without themselves.
        "keys" => keys, KeysOf(KeysRequest) -> KeysFound,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
        /// Takes a key back. Calls with it are cut before the answer.
        "revoke" => revoke, Revoke(RevokeRequest) -> Revoked,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS);
        /// Reads the operator's configuration anew.
        "reload" => reload, Reload(ReloadRequest) -> Reloaded,
            needs [Need::Operator], deadline Deadline::Ms(ADMIT_MS), idempotent: true;
    }
}
