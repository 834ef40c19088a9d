//! Why a program was not run.

use octant_ids::Exit;
use octant_manifest::{EnvelopeError, KeyFileError, ManifestErrors, PrivateKeyError, VerifyError};
use octant_workstation::{LowerError, SpawnError, Step};
use std::io;
use std::path::PathBuf;

/// Each step with what failed, where, why and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("{0}; `octant run --help` shows how it is used")]
    Usage(String),
    #[error("an argument is not text in UTF-8, which a manifest has to be")]
    NotText,
    #[error("there is no place for your key and the record: neither {0} nor HOME is set to an absolute path")]
    NoHome(&'static str),
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{}: cannot {what}: {source}", path.display())]
    Path { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: others can read or change this key, or it is not yours; chmod 600 it, or remove it and a new one is made", .0.display())]
    KeyOpen(PathBuf),
    #[error("{}: {error}", path.display())]
    Key { path: PathBuf, error: PrivateKeyError },
    #[error("the current directory {path:?} cannot be a workspace: {why}; change into a project's directory")]
    Here { path: String, why: String },
    #[error("{}: {why}", path.display())]
    Guard { path: PathBuf, why: String },
    #[error("{0}: command not found")]
    NotFound(String),
    #[error(
        "{name} is {path}, which lies neither in /usr nor in the current directory; a manifest that grants it (`octant manifest new`, then --manifest) lets it run"
    )]
    Elsewhere { name: String, path: String },
    #[error("the manifest cannot be used: {0}")]
    Manifest(#[from] ManifestErrors),
    #[error("the manifest is signed by somebody whose key is not yours: {0}")]
    Verify(#[from] VerifyError),
    #[error("the manifest's envelope cannot be used: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("your key cannot be used: {0}")]
    Trust(#[from] KeyFileError),
    #[error("the manifest asks for more than can be given: {0}")]
    Rights(String),
    #[error("{0}")]
    Lower(LowerError),
    #[error("every range of user ids is taken by a workstation")]
    NoSlot,
    #[error(
        "layer cgroup is missing: {0}; nothing was started. Where systemd runs, `systemd-run --user --scope -p Delegate=yes octant run ...` (root: without --user) gives one; --accept-missing=cgroup goes on without limits, for development"
    )]
    NoCgroup(String),
    #[error("this user cannot build a workstation: {why}{hint}")]
    Namespaces { why: String, hint: String },
    #[error("nothing was started: {error}{hint}")]
    Spawn { error: SpawnError, hint: String },
    #[error("nothing was started: the gate, which is the way to hosts, {0}")]
    Gate(String),
    #[error("nothing was started, the record did not accept it: {0}")]
    Record(String),
    #[error(
        "standard {0} is a directory, through which a program would get to the host's files; redirect it elsewhere"
    )]
    Directory(&'static str),
}

impl RunError {
    /// The code that a shell would give for a program that it cannot execute; the one of the table otherwise.
    pub(crate) fn code(&self) -> u8 {
        const CANNOT_EXECUTE: u8 = 126;
        match self {
            Self::Spawn { error, .. } if error.step == Step::Execute => CANNOT_EXECUTE,
            other => other.exit().code(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NotText | Self::Directory(_) => Exit::Usage,
            Self::NotFound(_) => Exit::NoSuchCommand,
            Self::Elsewhere { .. } | Self::Rights(_) | Self::KeyOpen(_) | Self::Here { .. } => Exit::Denied,
            Self::Verify(_) => Exit::Unverified,
            Self::Manifest(_) | Self::Envelope(_) | Self::Lower(_) | Self::Key { .. } => Exit::Invalid,
            Self::NoCgroup(_) | Self::Namespaces { .. } | Self::Spawn { .. } => Exit::LayerMissing,
            Self::NoHome(_)
            | Self::System { .. }
            | Self::Path { .. }
            | Self::Guard { .. }
            | Self::Trust(_)
            | Self::NoSlot
            | Self::Gate(_)
            | Self::Record(_) => Exit::Failed,
        }
    }
}

pub(crate) fn at(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

pub(crate) fn with(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RunError {
    let path = path.into();
    move |source| RunError::Path { what, path, source }
}
