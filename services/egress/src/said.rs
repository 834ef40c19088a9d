//! What the gate and an inspection worker say to each other. A worker says nothing about whose connection it is, nor to
//! which host it goes: that is what the socket stands for.

use crate::inject::Misuse;
use octant_api::egress::{Credential, Login};
use octant_ids::{SecretName, Sha256};
use serde::{Deserialize, Serialize};

/// To a worker, once: its descriptors are the agent's authority and what is trusted outside.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {}

/// To a worker: a connection of its agent, whose descriptors are the program's socket and the one to ask the gate on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inspect {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What the program said already, in base64.
    pub(crate) hello: String,
    /// What stands for secrets at this host.
    pub(crate) credentials: Vec<Credential>,
    /// What the agent may be logged in to there. Where there is anything, PostgreSQL is spoken, and else HTTP.
    pub(crate) logins: Vec<Login>,
}

/// From a worker, about one connection; `id` tells the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) what: What,
}

/// What a worker wants. It never says where to: a connection goes to the host that the program connected to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum What {
    /// A connection to the host, and the first request on it; the one before it is over.
    Open,
    /// Another request on it.
    Request,
    /// The value of a secret, for one request.
    Use { secret: SecretName, method: String, path_sha256: Sha256 },
    /// The value of a secret, to log in to a database once.
    LogIn { secret: SecretName, user: String, database: String },
    /// What became of what this answer's secret was for. There is no answer.
    Became { of: u64, end: End },
    /// A request was refused. There is no answer.
    Refused(Misuse),
}

/// What became of what a secret was for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// The host answered the request with this status.
    Answered(u16),
    /// There is a session, and both sides have shown that they know the secret.
    LoggedIn,
    /// It came to nothing.
    Failed(String),
}

/// To a worker: the answer to what it asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) said: Said,
}

/// What the gate says to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Said {
    /// The descriptor leads to the host.
    Opened,
    /// The request may go on.
    Taken,
    /// So many bytes of a secret can be read from the descriptor.
    Given { bytes: u64 },
    /// It is not allowed, and on record: why, and what to do.
    Denied(String),
    /// The same, because a budget is used up.
    Over(String),
    /// It is allowed and did not come about.
    Failed(String),
}

/// The longest text of a worker that goes on record, in characters.
const TEXT_MAX: usize = 255;

/// As much of a text as goes on record.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
