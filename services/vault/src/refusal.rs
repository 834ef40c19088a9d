//! Why the vault does not do what it was asked.

use octant_api::error::{ApiError, Code};
use octant_api::vault::{Kind, Mode};
use octant_ids::SecretName;

/// Why a request is refused. Nothing of a value is in any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Unknown or not granted: one answer for both, which does not even repeat the name.
    #[error("there is no such secret for you")]
    NotGranted,
    /// Unknown, ended, somebody else's: one answer.
    #[error("there is no such lease of yours")]
    NoLease,
    /// The lease is for something else.
    #[error("the lease is for {}", .0.as_str())]
    WrongMode(Mode),
    /// The value may not be used for this host.
    #[error("the grant names hosts, and this is none of them")]
    HostNotGranted,
    /// There is a secret of this name.
    #[error("there is a secret {0}")]
    Exists(SecretName),
    /// There is none.
    #[error("there is no secret {0}")]
    NoSecret(SecretName),
    /// It has no such version.
    #[error("{name} has no version {version}")]
    NoVersion {
        /// The secret.
        name: SecretName,
        /// The version.
        version: u64,
    },
    /// The version's value is gone.
    #[error("the value of version {version} of {name} was destroyed")]
    Destroyed {
        /// The secret.
        name: SecretName,
        /// The version.
        version: u64,
    },
    /// The version is the one in use.
    #[error("version {version} of {name} is the current one")]
    Current {
        /// The secret.
        name: SecretName,
        /// The version.
        version: u64,
    },
    /// The version's time is over.
    #[error("version {version} of {name} has expired")]
    Expired {
        /// The secret.
        name: SecretName,
        /// The version.
        version: u64,
    },
    /// An expiry that has passed already.
    #[error("the end of its time has passed already")]
    PastExpiry,
    /// A length outside its limits.
    #[error("{what} has {bytes} bytes; {least} to {most} are allowed")]
    Length {
        /// Of what.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// The shortest.
        least: usize,
        /// The longest.
        most: usize,
    },
    /// A character that would control a terminal.
    #[error("{0} has a control character in it")]
    Control(&'static str),
    /// A limit of number.
    #[error("there are {most} {what}, which is the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        most: usize,
    },
    /// A grant for nothing.
    #[error("the grant is for nothing")]
    NoMode,
    /// A mode that the kind of secret has not.
    #[error("{name} is of kind {}, which cannot be granted for {}", kind.as_str(), mode.as_str())]
    Mode {
        /// The secret.
        name: SecretName,
        /// Its kind.
        kind: Kind,
        /// The mode.
        mode: Mode,
    },
    /// Not a host's name.
    #[error("{0:?} is not a host's name in lower case, with or without a leading *.")]
    Host(String),
    /// Hosts say where a value is used and for what a key pair signs; a value that is seen can go anywhere.
    #[error("hosts are named, and the grant is for reveal")]
    HostsOfReveal,
    /// A time that no lease may last.
    #[error("a lease of {ms} ms is not between 1 ms and 24 h")]
    Ttl {
        /// How long.
        ms: u64,
    },
    /// Two contradicting limits.
    #[error("a longest time is given, and that there is none")]
    TtlAndUnlimited,
    /// A reason is demanded.
    #[error("no reason is given")]
    NoReason,
    /// A descriptor with bytes is demanded.
    #[error("{0} has to come as a descriptor beside the request, and did not")]
    NoBytes(&'static str),
    /// Bytes came, and are to be made here.
    #[error("a value came, and one is to be made")]
    BytesAndGenerate,
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::NotGranted | Self::NoLease | Self::WrongMode(_) | Self::HostNotGranted => Code::Denied,
            Self::NoSecret(_) | Self::NoVersion { .. } => Code::NotFound,
            Self::Exists(_) | Self::Destroyed { .. } | Self::Current { .. } | Self::Expired { .. } => {
                Code::Conflict
            }
            Self::Length { bytes, most, .. } if bytes > most => Code::TooLong,
            Self::TooMany { .. } => Code::Busy,
            _ => Code::InvalidParams,
        }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::NotGranted => "ask an operator for a grant (octant vault grant)",
            Self::NoLease => "ask for a lease",
            Self::WrongMode(_) => "ask for a lease of the other mode, if it was granted",
            Self::HostNotGranted => "use it for a host of the grant",
            Self::Exists(_) => "give it a new version with `octant vault rotate`, or remove it first",
            Self::NoSecret(_) => "see `octant vault list`",
            Self::NoVersion { .. } | Self::Destroyed { .. } => "see `octant vault show`",
            Self::Current { .. } => "make another version the current one first",
            Self::Expired { .. } => "store a new version with `octant vault rotate`",
            Self::PastExpiry => "give a time that is to come",
            Self::TooMany { .. } => "remove or release some first",
            Self::Mode { .. } => "key pairs sign; everything else is used or revealed",
            Self::TtlAndUnlimited => "give one of the two",
            Self::NoReason => "say why; it goes on record",
            Self::NoBytes(_) => "use `octant vault`, which reads it from a file, a pipe or a prompt",
            Self::BytesAndGenerate => "leave one of the two out",
            _ => "correct it and ask again",
        }
    }

    /// The answer to a request that was to do `what` with `place`.
    pub(crate) fn answer(&self, what: &'static str, place: &str) -> ApiError {
        // Whoever learns nothing of what exists is told nothing that depends on it, down to the name asked for.
        let place = if matches!(self, Self::NotGranted | Self::NoLease) { "vault" } else { place };
        ApiError::new(self.code(), what, place, self, self.next())
    }
}
