//! Servers of tools: agents whose programs offer tools to others.

use octant_ids::{Aid, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the conversation with a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It has not listed its tools yet.
    Begins,
    /// It has, and those that are approved can be called.
    Serves,
    /// It is over; a new agent has to be spawned.
    Over,
}

impl ServerState {
    /// The state's name as the wire writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begins => "begins",
            Self::Serves => "serves",
            Self::Over => "over",
        }
    }
}

/// A tool that a server lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolInfo {
    /// The name by which agents call it: the server's, two underscores, the server's own name of it.
    pub name: String,
    /// SHA-256 of everything that the server says of it, in the form that an operator approves.
    #[schemars(with = "String")]
    pub digest: Sha256,
    /// Whether agents whose manifests allow it can call it: an operator has approved it as it is.
    pub offered: bool,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// The name in its manifest (`skills.serves`).
    pub name: String,
    /// The agent.
    #[schemars(with = "String")]
    pub agent: Aid,
    /// Where it is.
    pub state: ServerState,
    /// Why it is over, or why some of its tools are not offered; empty where neither is so.
    pub why: String,
    /// The request for approval that waits, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// What it lists, by name.
    pub tools: Vec<ToolInfo>,
}

/// Parameters of `agents.servers`: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServersRequest {}

/// Answer of `agents.servers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerList {
    /// The servers, by name; of those that are over the last of each name, until this service is started anew.
    pub servers: Vec<ServerInfo>,
}

/// Parameters of `agents.pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The server.
    pub server: String,
}
