//! Why a loop cannot begin, or go on.

use octant_ids::Exit;
use octant_wire::WireError;
use std::io;
use std::path::PathBuf;

/// Something without which there is no loop. What happens within one is told to the model, or ends it with an
/// [`crate::entry::End`].
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The address of the model cannot be used.
    #[error("{url:?} is no address of a model: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is nothing to be done.
    #[error("there is no task: nobody said one")]
    NoTask,
    /// The transcript, or a result, cannot be kept.
    #[error("cannot {step} {path}: {source}", path = path.display())]
    Keep {
        /// What was done.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The transcript is none of this build's.
    #[error("line {line} of {path} is no entry of a transcript: {why}", path = path.display())]
    Transcript {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The agent's socket does not answer.
    #[error("cannot {step} on the agent's socket: {source}")]
    Socket {
        /// What was asked.
        step: &'static str,
        /// What came of it.
        source: WireError,
    },
    /// The tools of the agent's socket cannot be listed.
    #[error("cannot list the tools of the agent's socket: {0}")]
    Tools(String),
    /// What would serve connections cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// Standard output went away.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl LoopError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Url { .. } | Self::NoTask => Exit::Usage,
            Self::Keep { .. } | Self::Output(_) => Exit::Failed,
            Self::Transcript { .. } => Exit::Invalid,
            Self::Socket { source, .. } => source.exit(),
            Self::Tools(_) => Exit::Unavailable,
            Self::Runtime(_) => Exit::Internal,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Url { .. } => {
                "set OPENAI_BASE_URL, or give --base-url, as http://127.0.0.1:PORT/v1 or unix:/PATH"
            }
            Self::NoTask => "give --task TEXT, or spawn the agent with `octant agent spawn --task TEXT`",
            Self::Keep { .. } => {
                "the transcript is below /workspace/.octant, which needs room and the right to write"
            }
            Self::Transcript { .. } => "move the file away to begin anew",
            Self::Socket { .. } | Self::Tools(_) => {
                "see `octant status` outside; the loop goes on from its transcript"
            }
            Self::Runtime(_) => "see resources.pids_max and resources.nofile in the manifest",
            Self::Output(_) => "the transcript has everything",
        }
    }
}
