//! Why the ledger takes no entry.

use nix::errno::Errno;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Damage;
use octant_ids::Aid;
use octant_tlog::state::Rule;
use std::io;
use std::path::{Path, PathBuf};

/// Why an append is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Entries are damaged. Lasts until an operator has acted.
    #[error("{} at offset {}: entry {}: {}", .0.segment, .0.offset, .0.seq, .0.what)]
    Damaged(Damage),
    /// A write or sync failed, so nobody knows what is on disk. Lasts until the ledger is opened again.
    #[error("{}: {why}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        why: String,
    },
    /// There is no room. Ends by itself when there is.
    #[error("{}: {why}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        why: String,
    },
    /// The rules of partitions do not allow it.
    #[error("{0}")]
    Rule(Rule),
    /// The agent has made as many entries, or as many bytes of them, as it may.
    #[error("{agent} has used up its {limit} {what}")]
    Quota {
        /// The agent.
        agent: Aid,
        /// What is used up.
        what: &'static str,
        /// How much there was.
        limit: u64,
    },
    /// The draft itself cannot be written.
    #[error("the entry has no JSON form: {0}")]
    Draft(String),
}

impl Refusal {
    /// The refusal that an operating system's error means.
    pub(crate) fn of_io(path: &Path, error: &io::Error) -> Self {
        let (path, why) = (path.to_owned(), error.to_string());
        let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG];
        if full.iter().any(|errno| error.raw_os_error() == Some(*errno as i32)) {
            Self::NoSpace { path, why }
        } else {
            Self::Storage { path, why }
        }
    }

    /// Whether it also refuses every later append.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Storage { .. } => true,
            Self::NoSpace { .. } | Self::Rule(_) | Self::Quota { .. } | Self::Draft(_) => false,
        }
    }

    /// What the caller is told.
    pub(crate) fn answer(&self) -> ApiError {
        let (code, next) = match self {
            Self::Damaged(damage) => (Code::Damaged, damage.next.as_str()),
            Self::Storage { .. } => {
                (Code::Unavailable, "see `octant ledger verify`, then `octant service restart ledger`")
            }
            Self::NoSpace { .. } => {
                (Code::Full, "free space on the state file system; nothing else is needed")
            }
            Self::Rule(Rule::Sealed(_)) => {
                (Code::Conflict, "nothing is recorded about an agent after its seal")
            }
            Self::Rule(Rule::Outcome { .. }) => (Code::Denied, "leave the outcome to whoever had intended"),
            Self::Rule(Rule::Full) => (Code::Busy, "try again when agents have ended"),
            Self::Rule(Rule::Long(_)) => {
                (Code::TooLong, "say less, or keep it elsewhere and give its digest")
            }
            Self::Rule(Rule::NotOpen(_) | Rule::Nobody) => {
                (Code::InvalidParams, "open the agent's partition with a lifecycle entry first")
            }
            Self::Quota { .. } => {
                (Code::Full, "note less; an operator can raise the limit in [ledger] of octant.toml")
            }
            Self::Draft(_) => (Code::InvalidParams, "send another payload"),
        };
        ApiError::new(code, "append to the ledger", "ledger", self, next)
    }
}

/// Damage at a place, with the step that follows from it.
pub(crate) fn damaged(path: &Path, offset: u64, seq: u64, what: String) -> Damage {
    Damage {
        segment: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        offset,
        seq,
        what,
        next: format!(
            "keep a copy of {} for examination; entries before {seq} can be read and verified; restore the \
             state directory from a copy that verifies, or go on without what is lost: `octant ledger acknowledge {seq} \
             --reason TEXT`",
            path.display()
        ),
    }
}
