//! What can go wrong, in words for the person at the console, and the exit code of each.

use crate::vault::VaultError;
use octant_api::error::ApiError;
use octant_ids::Exit;
use octant_loop::LoopError;
use octant_oci::ImageError;
use octant_tree::StoreError;
use octant_wire::WireError;
use std::io;
use std::path::PathBuf;

/// A command that failed: what, where and why in the message, what next in [`CliError::next`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A socket of Octant is not there or refuses.
    #[error("cannot reach {service} at {path}: {source}", path = path.display())]
    Connect { service: String, path: PathBuf, source: io::Error },
    /// The connection broke, or the other side does not speak as it should.
    #[error("{service} at {path} did not answer as it should: {why}", path = path.display())]
    Answer { service: String, path: PathBuf, why: String },
    /// The other side understood and said no.
    #[error("{what}: {why}")]
    Refused { what: String, why: String, exit: Exit, next: Option<String> },
    /// A service's answer is an error.
    #[error("{text}", text = .0.message)]
    Api(ApiError),
    /// The call to a service broke off.
    #[error(transparent)]
    Wire(WireError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file is larger than anything of its kind can be.
    #[error("{path} is larger than {limit} bytes, which is more than a {kind} may have", path = path.display())]
    TooLarge { path: PathBuf, kind: &'static str, limit: u64 },
    /// A file's content is not what it should be.
    #[error("{path} is not a valid {kind}: {why}", path = path.display())]
    Invalid { path: PathBuf, kind: &'static str, why: String },
    /// A signature, hash or chain does not verify.
    #[error("{what} does not verify: {why}")]
    Unverified { what: String, why: String, next: String },
    /// Everything that is there verifies, but not as many have cosigned as have to.
    #[error("{what} is not complete: {why}")]
    Incomplete { what: String, why: String, next: String },
    /// A file is in the way.
    #[error("{path} is there already, and is not overwritten", path = path.display())]
    Exists { path: PathBuf },
    /// No such thing.
    #[error("there is no {0}")]
    NotFound(String),
    /// The text names more than one agent.
    #[error("{given:?} can be any of {count} agents")]
    Ambiguous { given: String, count: usize },
    /// Something is unhealthy: `health` has printed what.
    #[error("{0}")]
    Unhealthy(String),
    /// A layer of isolation is missing: `doctor` has printed which.
    #[error("{0}")]
    LayerMissing(String),
    /// Something that agents or this machine rest on does not work: `doctor` has printed what.
    #[error("{0}")]
    Unwell(String),
    /// Everything works, and something is less than it can be: `doctor` has printed what.
    #[error("{0}")]
    Weaker(String),
    /// The agent ended, but not well.
    #[error("agent {aid} {how}")]
    AgentFailed { aid: String, how: String },
    /// Standard output went away or cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
    /// A step on this side of the vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// An image, or where images are kept.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Snapshots, or where they are kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent loop, or a conversation with a model, cannot begin or go on.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// The machine underneath refuses something a command needs.
    #[error("cannot {step}: {source}")]
    System { step: &'static str, source: io::Error },
}

impl CliError {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::Denied,
            Self::Connect { .. } | Self::Answer { .. } => Exit::Unavailable,
            Self::Refused { exit, .. } => *exit,
            Self::Api(error) => error.exit(),
            Self::Wire(error) => error.exit(),
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::Denied,
                _ => Exit::Failed,
            },
            Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::Denied,
            Self::TooLarge { .. } | Self::Invalid { .. } => Exit::Invalid,
            Self::Unverified { .. } | Self::Incomplete { .. } => Exit::Unverified,
            Self::NotFound(_) => Exit::NotFound,
            Self::Ambiguous { .. } => Exit::Usage,
            Self::Unhealthy(_) | Self::Unwell(_) => Exit::Unhealthy,
            Self::LayerMissing(_) => Exit::LayerMissing,
            Self::Exists { .. }
            | Self::Write { .. }
            | Self::AgentFailed { .. }
            | Self::Weaker(_)
            | Self::Stdout(_) => Exit::Failed,
            Self::Vault(error) => error.exit(),
            Self::Loop(error) => error.exit(),
            Self::Image(error) => crate::image::exit(error),
            Self::Store(error) => crate::workspace::exit(error),
            Self::System { .. } => Exit::Internal,
        }
    }

    /// What to do next, where there is something to say.
    pub(crate) fn next(&self) -> Option<String> {
        let text = match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run this as the operator who started Octant, or as root".to_owned()
            }
            Self::Connect { service, .. } if service == "agent socket" => {
                "this command works inside a workstation only; on the machine itself use `octant agent` and \
                 `octant ledger`"
                    .to_owned()
            }
            Self::Connect { service, .. } if service == "init" => {
                "Octant does not run here, or runs below a directory: give --dir DIR or set OCTANT_DIR"
                    .to_owned()
            }
            Self::Connect { service, .. } => {
                format!(
                    "`octant status` says whether {service} runs and why not; --dir DIR chooses an instance"
                )
            }
            Self::Answer { service, .. } => {
                format!(
                    "`octant status` shows {service}'s state; `octant service restart {service}` starts it anew"
                )
            }
            Self::Refused { next, .. } => return next.clone(),
            Self::Api(error) if error.data.next.is_empty() => return None,
            Self::Api(error) => error.data.next.clone(),
            // Its own text ends with the next step.
            Self::Wire(_) => return None,
            Self::Loop(error) => error.next().to_owned(),
            Self::Image(error) => return crate::image::next(error),
            Self::Store(error) => return crate::workspace::next(error),
            Self::Vault(error) => return error.next().map(str::to_owned),
            Self::Unverified { next, .. } | Self::Incomplete { next, .. } => next.clone(),
            Self::Exists { .. } => "choose another name, or say --force to replace it".to_owned(),
            Self::Ambiguous { .. } => {
                "give the whole identifier; `octant agent list --all` shows it".to_owned()
            }
            Self::NotFound(what) if what.starts_with("agent") => {
                "`octant agent list --all` shows every agent".to_owned()
            }
            Self::Unhealthy(_) => {
                "`octant status` shows every unit; `octant ledger tail` what led to it".to_owned()
            }
            Self::AgentFailed { aid, .. } => {
                format!(
                    "`octant agent logs {aid}` prints what it wrote; `octant agent show {aid}` why it ended"
                )
            }
            Self::Read { .. }
            | Self::Write { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. }
            | Self::NotFound(_)
            | Self::LayerMissing(_)
            | Self::Unwell(_)
            | Self::Weaker(_)
            | Self::Stdout(_)
            | Self::System { .. } => return None,
        };
        Some(text)
    }
}
