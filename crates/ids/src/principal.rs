//! Who is calling.

use crate::{Aid, ServiceName, uid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A caller, as established from the socket that the call came through, never from the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// PID 1.
    Init,
    /// A person at the machine, by numeric user id.
    Operator(u32),
    /// One of Octant's own services.
    Service(ServiceName),
    /// An agent, through the socket in its workstation.
    Agent(Aid),
    /// Some other local user: may connect, may do nothing.
    Stranger(u32),
}

impl Principal {
    /// The principal behind a peer's user id (SO_PEERCRED, unix(7)) on a socket that agents cannot reach.
    ///
    /// `operator` is the user who started this Octant: 0 on a machine of its own.
    #[must_use]
    pub fn of_uid(peer: u32, operator: u32) -> Self {
        match uid::service_of(peer) {
            Some(name) => Self::Service(name),
            None if peer == operator || peer == 0 => Self::Operator(peer),
            None => Self::Stranger(peer),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("init"),
            Self::Operator(uid) => write!(f, "operator:{uid}"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Agent(aid) => aid.fmt(f),
            Self::Stranger(uid) => write!(f, "uid:{uid}"),
        }
    }
}
