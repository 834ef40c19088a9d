//! `octant workspace`, as data.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Workspace {
    /// Keep what is in a directory, or in the workspace of an agent, and print the snapshot
    #[command(after_help = "\
Files, directories and links are kept, each file once, by the digest of its bytes. Pipes, sockets and what is\n\
mounted there are left out.

Example:
  octant workspace snapshot incident-report
In a workstation, of what the manifest says is kept of its own:
  octant workspace snapshot")]
    Snapshot {
        /// A directory (a path with a slash in it), or an agent; absent: this agent, in its workstation
        #[arg(value_name = "DIR|AGENT")]
        of: Option<String>,
        /// The most MiB that it may have
        #[arg(long, value_name = "MIB", default_value_t = 4096)]
        limit: u64,
    },
    /// List snapshots
    #[command(after_help = "Example:\n  octant workspace list")]
    List,
    /// Write a snapshot into a new directory
    #[command(after_help = "Example:\n  octant workspace restore 5f1c09ae /srv/report")]
    Restore {
        /// The snapshot: its digest, or the digest's first 8 or more digits
        snapshot: String,
        /// The directory, which is made
        into: PathBuf,
    },
    /// Show what differs between two snapshots or agents' workspaces; exits 1 when something does
    #[command(after_help = "Example:\n  octant workspace diff 5f1c09ae incident-report")]
    Diff {
        /// The earlier: a snapshot, or an agent whose workspace is kept for that
        before: String,
        /// The later
        after: String,
    },
    /// Make one snapshot of two that have a common base; refuses with a list where both changed the same
    #[command(
        after_help = "Example:\n  octant workspace merge --base 5f1c09ae 88d0a1b2 07e3c4d5\n  octant workspace merge incident-report 7qk2"
    )]
    Merge {
        /// What both were before; a fork and the agent that it was forked from need none
        #[arg(long, value_name = "SNAPSHOT")]
        base: Option<String>,
        /// One side: a snapshot, or an agent whose workspace is kept for that
        ours: String,
        /// The other side
        theirs: String,
    },
    /// Remove a snapshot, and the files that no other snapshot has
    #[command(name = "rm", after_help = "Example:\n  octant workspace rm 5f1c09ae")]
    Remove {
        /// The snapshot: its digest, or the digest's first 8 or more digits
        snapshot: String,
    },
}
