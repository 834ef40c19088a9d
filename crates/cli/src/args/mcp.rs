//! `octant mcp` on the command line.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Mcp {
    /// List the agents that offer tools to others, and what waits for an operator
    #[command(after_help = "Example:\n  octant mcp servers")]
    Servers,
    /// List the tools that they offer, with their digests; what a tool says of itself is in the request for approval
    #[command(after_help = "Example:\n  octant mcp tools weather")]
    Tools {
        /// Only those of this server
        server: Option<String>,
    },
    /// Have a server's list of tools read again, and what is new or changed in it asked for anew
    ///
    /// What a server offers is called by nobody before an operator has approved it: `octant approvals show` shows what it
    /// says now, and what it said when it was approved. A request that was denied, or that nobody answered, is not made
    /// again by itself.
    #[command(after_help = "Example:\n  octant mcp pin weather")]
    Pin {
        /// The server
        server: String,
    },
}
