//! `octant router`.

use super::when::span_of;
use clap::{Args, Subcommand, ValueEnum};
use octant_ids::Millis;

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
    /// Show what was used in the last days, by day, caller, model and provider
    #[command(after_help = "Example:\n  octant router usage writer\n  octant router usage key:ci")]
    Usage {
        /// One caller only: an agent's identifier or name, operator:UID, or key:NAME
        #[arg(value_name = "WHO")]
        who: Option<String>,
    },
    /// Keys for programs outside of workstations
    #[command(subcommand, after_help = "Example:\n  octant router key list")]
    Key(Key),
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

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, and print it: it is shown this once
    #[command(after_help = "Example:\n  octant router key new ci --model small --usd-per-day 2 --ttl 30d")]
    New(NewKey),
    /// List the keys, without themselves, and where programs ask with them
    #[command(after_help = "Example:\n  octant router key list")]
    List,
    /// Take a key back: what is under way with it is cut
    #[command(after_help = "Example:\n  octant router key revoke ci")]
    Revoke {
        /// The key's name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// Whom it is for, as records name it: a-z, 0-9, '-', '_' and '.'
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A model that may be asked: a name, or the beginning of names with * behind it; more than once for more
    #[arg(long = "model", value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    /// Where what is said may go
    #[arg(long, value_enum, default_value_t = Data::Local)]
    pub(crate) data: Data,
    /// The most that a million tokens may cost, in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) max_price: Option<u64>,
    /// How many tokens there are in all
    #[arg(long, value_name = "COUNT")]
    pub(crate) tokens: Option<u64>,
    /// How many in a minute
    #[arg(long, value_name = "COUNT")]
    pub(crate) tokens_per_minute: Option<u64>,
    /// How many in a day, of UTC
    #[arg(long, value_name = "COUNT")]
    pub(crate) tokens_per_day: Option<u64>,
    /// How many US dollars there are in all
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) usd: Option<u64>,
    /// How many in a minute
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) usd_per_minute: Option<u64>,
    /// How many in a day, of UTC
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) usd_per_day: Option<u64>,
    /// For how long it is good: 12h, 30d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = span_of)]
    pub(crate) ttl: Option<Millis>,
}

/// Where what is said may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// No further than this machine
    Local,
    /// To providers that keep nothing of it
    NoRetention,
    /// To every provider
    Any,
}

/// Dollars, in millionths.
fn dollars(text: &str) -> Result<u64, String> {
    octant_manifest::micro_usd(text)
        .ok_or_else(|| format!("{text:?} is no amount of dollars: write 2 or 0.5"))
}
