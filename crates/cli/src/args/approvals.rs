//! `octant approvals` on the command line.

use super::millis;
use clap::{Args, Subcommand, ValueEnum};
use octant_ids::{Millis, Sha256};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List the requests that wait for an answer, or for the use of one
    #[command(after_help = "Example:\n  octant approvals list --all")]
    List {
        /// Those with which nothing will be done any more too
        #[arg(long)]
        all: bool,
    },
    /// Show one request: exactly what will be done
    #[command(after_help = "Example:\n  octant approvals show 3f2a9c0012ab45ef")]
    Show(Asked),
    /// Allow a request with an operator's key: what asked for it can then be done once
    #[command(after_help = "Example:\n  octant approvals allow 3f2a9c0012ab45ef --key alice.key")]
    Allow(Answer),
    /// Deny a request with an operator's key
    #[command(after_help = "Example:\n  octant approvals deny 3f2a9c0012ab45ef --key alice.key")]
    Deny(Answer),
    /// Sign an answer elsewhere, where the key is: needs no running Octant
    #[command(after_help = "\
Example:
  octant --json approvals show 3f2a9c0012ab45ef > request.json
  octant approvals sign allow request.json --key alice.key -o answer.json
  octant approvals answer answer.json")]
    Sign {
        /// The answer
        decision: Decide,
        /// The request, as `octant --json approvals show` prints it
        file: PathBuf,
        #[command(flatten)]
        by: By,
        /// Where to write the answer [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Give the machine an answer that was signed elsewhere
    #[command(after_help = "Example:\n  octant approvals answer answer.json")]
    Answer {
        /// The answer, as `octant approvals sign` wrote it
        file: PathBuf,
    },
    /// Inside a workstation: wait for the answer to a request of this agent; exit 0 only when it is allowed
    #[command(after_help = "Example:\n  octant approvals wait 3f2a9c0012ab45ef --for 5min")]
    Wait {
        #[command(flatten)]
        asked: Asked,
        /// How long (ms, s, min), at most 10min
        #[arg(long = "for", value_name = "TIME", value_parser = millis, default_value = "10min")]
        time: Millis,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// The request, as `octant approvals list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Answer {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) by: By,
    /// Only if this is the digest of what will be done [default: what the request has now]
    #[arg(long, value_name = "SHA256")]
    pub(crate) digest: Option<Sha256>,
}

#[derive(Debug, Args)]
pub(crate) struct By {
    /// The operator's private key, whose role may answer for it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// For how long the answer counts (ms, s, min, h), at most 24h
    #[arg(long = "for", value_name = "TIME", value_parser = millis, default_value = "15min")]
    pub(crate) time: Millis,
}

/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decide {
    /// It may be done, once
    Allow,
    /// It may not be done
    Deny,
}
