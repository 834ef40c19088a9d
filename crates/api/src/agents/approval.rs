//! Approvals: what waits for an operator, the signed answers, and how other services ask in the same queue.

use crate::text::Json;
use octant_ids::{Aid, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest `params` of [`PermitRequest`], in bytes of JSON text.
pub const PARAMS_MAX: usize = 64 << 10;

/// Where a request for an approval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It waits for an operator.
    Waiting,
    /// An operator allowed it; it was not used yet.
    Allowed,
    /// It was allowed and used, and cannot be used again.
    Used,
    /// An operator denied it.
    Denied,
    /// Nobody answered in its time, or nobody used the answer in its, so it is denied.
    Expired,
}

impl ApprovalState {
    /// The state's name as the wire and the ledger write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Allowed => "allowed",
            Self::Used => "used",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing follows it.
    #[must_use]
    pub fn closed(self) -> bool {
        match self {
            Self::Waiting | Self::Allowed => false,
            Self::Used | Self::Denied | Self::Expired => true,
        }
    }
}

/// A request that an operator has to answer before what it asks for is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Its identifier: 16 hexadecimal digits.
    pub id: String,
    /// What has to be approved, as manifests name it: `spawn`, `message:ops`, `lifetime.unlimited`.
    pub action: String,
    /// For whom, in people's words: the name in the manifest.
    pub subject: String,
    /// That agent's role, which bounds who may answer.
    pub role: String,
    /// The agent; none where it is still to be spawned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// Who asked.
    pub asked_by: String,
    /// SHA-256 of the text of `what`: exactly what will be done. An answer names it.
    #[schemars(with = "String")]
    pub digest: Sha256,
    /// When it was asked, in milliseconds since 1970.
    pub asked_ms: u64,
    /// From when on it is denied, in milliseconds since 1970: while it waits the end of that, once it is allowed the end
    /// of the answer.
    pub expires_ms: u64,
    /// Where it is.
    pub state: ApprovalState,
    /// Who answered, or why it is denied; empty while it waits.
    pub why: String,
    /// Exactly what will be done: machine, agent, manifest, action, method and parameters. In `agents.approval` only, and
    /// only while it can still be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<Json>,
}

/// Parameters of `agents.approvals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsRequest {
    /// Whether to list those with which nothing will be done any more too.
    #[serde(default)]
    pub all: bool,
}

/// Answer of `agents.approvals`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalList {
    /// The requests, oldest first.
    pub approvals: Vec<Approval>,
}

/// Parameters of `agents.approval`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// Its identifier.
    pub id: String,
}

/// Parameters of `agents.answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The answer: a DSSE envelope as JSON text, signed with an operator's key. It says to which request it is.
    pub envelope: String,
}

/// Parameters of `agents.permit`: may this be done for an agent, now and once?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitRequest {
    /// The agent for which the service would do it.
    #[schemars(with = "String")]
    pub agent: Aid,
    /// What it is, as manifests name it, without a pattern: `tool:git/push`, `spend:0.5`. Each service has its own sorts.
    pub action: String,
    /// Which method would do it.
    pub method: String,
    /// Everything that the effect depends on, at most 64 KiB: what is approved is exactly this.
    pub params: Json,
}

/// Answer of `agents.permit`: it may be done. Where it may not be yet, the error has the code `approval_needed`, and the
/// same call is made again after the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Permitted {
    /// The approval that was used up for it; none where the agent's manifest demands none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}
