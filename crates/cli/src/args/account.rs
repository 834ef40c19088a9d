//! `octant account` on the command line.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Answer what a console asks who wants to log in by key; needs no running Octant, and belongs where the key is
    ///
    /// Look at what it says first: the answer lets whoever has it in at that terminal, within five minutes, once.
    #[command(
        after_help = "Example:\n  octant account answer --key alice.key \\\n    login1:4f1c9a0b7d2e:93ab0c5d:ttyS0:alice:1764361200:93ab0c5d1e6f7a8b"
    )]
    Answer {
        /// The challenge: the line that begins with login1:
        challenge: String,
        /// The operator's private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
}
