//! `octant router`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Router {
    /// Show the agents that may ask models, and what they have used
    #[command(after_help = "Example:\n  octant router status")]
    Status,
    /// List the deployments of router.toml, and how each stands
    #[command(after_help = "Example:\n  octant router providers")]
    Providers,
    /// Ask every deployment of a model for one word, with its key, now
    #[command(after_help = "Example:\n  octant router test small")]
    Test {
        /// The model: a name as agents ask for it
        #[arg(value_name = "MODEL")]
        model: String,
    },
    /// Show what was used since the router's start, by agent and model
    #[command(after_help = "Example:\n  octant router usage writer")]
    Usage {
        /// One agent only: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: Option<String>,
    },
    /// Show what is on record about an agent's calls
    #[command(after_help = "Example:\n  octant router log writer -n 50")]
    Log {
        /// The agent: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: String,
        /// At most so many entries
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
        limit: u32,
    },
    /// Say whom a call would go to, and why to nobody else, without making one
    #[command(after_help = "Example:\n  octant router explain small --agent writer")]
    Explain {
        /// The model: a name as agents ask for it
        #[arg(value_name = "MODEL")]
        model: String,
        /// As this agent: its identifier, or its name; without it, as one that may ask everything
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// What is said to it
        #[arg(long, value_name = "TEXT", default_value = "")]
        prompt: String,
    },
    /// Print the metrics in the text format of Prometheus
    #[command(after_help = "Example:\n  octant router metrics")]
    Metrics,
    /// Read router.toml anew
    #[command(after_help = "Example:\n  octant router reload")]
    Reload,
}
