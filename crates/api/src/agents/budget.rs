//! What is used up for agents: by which services, and how much is left.

use octant_ids::Aid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Amounts of what services use up for an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    /// Bytes through the gate, both ways together.
    pub bytes: u64,
    /// Requests through it: connections, and the further requests on each where requests are read.
    pub requests: u64,
    /// Tokens of models.
    pub tokens: u64,
    /// Money, in millionths of a US dollar.
    pub microusd: u64,
}

impl Amounts {
    /// Both, amount by amount.
    #[must_use]
    pub fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let Self { bytes, requests, tokens, microusd } = other;
        Self {
            bytes: with(self.bytes, bytes),
            requests: with(self.requests, requests),
            tokens: with(self.tokens, tokens),
            microusd: with(self.microusd, microusd),
        }
    }
}

/// Parameters of `agents.budget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRequest {
    /// An agent identifier, the last 4 or more characters of one, or the name of exactly one agent.
    pub agent: String,
}

/// One budget of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRow {
    /// Its field in a manifest: `network.bytes`.
    pub budget: String,
    /// How much it was given; absent where that has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<u64>,
    /// How much it has used, as far as services have said.
    pub used: u64,
    /// How much is reserved for what services are using for it.
    pub reserved: u64,
    /// How much its descendants have used, those that have ended too.
    pub below: u64,
    /// How much is left to it; absent where that has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
}

/// Answer of `agents.budget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetInfo {
    /// The agent.
    #[schemars(with = "String")]
    pub agent: Aid,
    /// Each budget.
    pub budgets: Vec<BudgetRow>,
}
