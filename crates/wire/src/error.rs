//! What can go wrong between a client and a service.

use octant_api::error::ApiError;
use octant_ids::Exit;
use std::io;
use std::path::PathBuf;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nobody listens, or the caller may not connect.
    #[error("cannot connect to {}: {source}; is the service running, and is this user its operator?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{step} {peer}: {source}; the service may have restarted, ask it again")]
    Io {
        /// `send a request to`, `read the answer of`.
        step: &'static str,
        /// The socket or method.
        peer: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The service closed the connection before it answered. Whether the request was carried out is unknown.
    #[error("{method}: the service closed the connection before it answered; look at `octant status`")]
    Closed {
        /// The method.
        method: &'static str,
    },
    /// The deadline passed without an answer. Whether the request was carried out is unknown.
    #[error("{method}: no answer within {ms} ms; look at `octant status`")]
    Deadline {
        /// The method.
        method: &'static str,
        /// The deadline, in milliseconds.
        ms: u64,
    },
    /// The other side does not speak the protocol.
    #[error("{method}: the answer cannot be read: {why}; the service is of another version, or not Octant")]
    Protocol {
        /// The method.
        method: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The request has no JSON form or is longer than the method's limit.
    #[error("{method}: the request cannot be sent: {why}")]
    Request {
        /// The method.
        method: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The service's own answer.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl WireError {
    /// The exit code of a command that fails with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::Denied,
            Self::Connect { .. } | Self::Io { .. } | Self::Closed { .. } => Exit::Unavailable,
            Self::Deadline { .. } => Exit::Deadline,
            Self::Protocol { .. } => Exit::Internal,
            Self::Request { .. } => Exit::Invalid,
            Self::Api(error) => error.exit(),
        }
    }
}
