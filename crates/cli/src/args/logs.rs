//! `octant logs`.

use super::when::{When, when};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// One unit only, as `octant status` shows it; or an agent, as `octant agent list` does
    #[arg(value_name = "UNIT|AGENT")]
    pub(crate) name: Option<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// At most so many of the last lines [default: 50; with --since, all]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) lines: Option<usize>,
    /// Only what was written since then: a time, or "10min ago"; not for agents
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub(crate) since: Option<When>,
}
