//! Who is at the other end of a connection.

use nix::sys::socket::{getsockopt, sockopt};
use octant_ids::Principal;
use std::io;
use std::os::fd::AsFd;

/// A caller, as the kernel and the listener know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it counts as.
    pub principal: Principal,
    /// The process that connected, in this process's PID namespace; 0 when it has no number there.
    pub pid: u32,
    /// The user that connected.
    pub uid: u32,
}

/// How a listener knows who connects to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By the peer's user id (SO_PEERCRED, unix(7)). For sockets that no agent can reach.
    PeerCredentials {
        /// The user id of this Octant's operator.
        operator: u32,
    },
    /// By the listener itself: it can be reached from one workstation only.
    Listener(Principal),
}

impl Identity {
    /// The caller behind a connection.
    ///
    /// # Errors
    /// What getsockopt(2) reports.
    pub(crate) fn caller(&self, stream: &impl AsFd) -> io::Result<Caller> {
        let peer = getsockopt(stream, sockopt::PeerCredentials)?;
        let principal = match self {
            Self::PeerCredentials { operator } => Principal::of_uid(peer.uid(), *operator),
            Self::Listener(principal) => principal.clone(),
        };
        Ok(Caller { principal, pid: u32::try_from(peer.pid()).unwrap_or(0), uid: peer.uid() })
    }
}
