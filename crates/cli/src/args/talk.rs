//! What is said to agents and models.

use super::millis;
use clap::{Args, ValueEnum};
use octant_ids::Millis;
use std::path::PathBuf;

/// What is said to an agent at its beginning.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Words {
    /// What it is to do: the agent loop asks for it, and so can any program (`agent.words`)
    #[arg(long, value_name = "TEXT", conflicts_with = "task_file")]
    pub(crate) task: Option<String>,
    /// A file with what it is to do, at most 64 KiB
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,
    /// It waits for more once it has done that (`octant agent say`)
    #[arg(long)]
    pub(crate) more: bool,
}

/// In which form a loop shows what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shows {
    /// For people
    Text,
    /// JSON, a line a thing
    Lines,
}

/// What the agent loop works with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Loop {
    /// The model, by its name at the router
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,
    /// What the model is told before the task
    #[arg(long, value_name = "TEXT", conflicts_with = "system_file")]
    pub(crate) system: Option<String>,
    /// A file with what it is told
    #[arg(long, value_name = "FILE")]
    pub(crate) system_file: Option<PathBuf>,
    /// How often the model is asked at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_steps: u64,
    /// How long it may take in all (ms, s, min, h); while it is suspended does not count
    #[arg(long, value_name = "TIME", value_parser = millis, default_value = "1h")]
    pub(crate) max_time: Millis,
    /// How many tokens question and answer have together at most [default: as the router knows of the model, or 100000]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(4000..))]
    pub(crate) window: Option<u64>,
    /// How many tokens an answer has at most [default: as the provider has it]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_output: Option<u64>,
    /// How often the same call with the same result ends it
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..24))]
    pub(crate) repeats: u8,
    /// Only these tools, each a name or the beginning of one: file_*,shell_run [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// The task, where nobody said one at the spawn
    #[arg(long, value_name = "TEXT", conflicts_with = "task_file")]
    pub(crate) task: Option<String>,
    /// A file with the task
    #[arg(long, value_name = "FILE")]
    pub(crate) task_file: Option<PathBuf>,
    /// Where the model is asked: http://ADDRESS:PORT/v1 or unix:/PATH [default: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// In which form it shows what it does [default: text; lines where more may be said]
    #[arg(long, value_name = "FORM")]
    pub(crate) form: Option<Shows>,
    /// Where it works
    #[arg(long, value_name = "DIR", default_value = "/workspace")]
    pub(crate) workspace: PathBuf,
}

/// What a conversation begins with.
#[derive(Debug, Clone, Args)]
pub(crate) struct Chat {
    /// A question: it is answered, and that is all
    pub(crate) question: Option<String>,
    /// The model, by its name at the router [default: OCTANT_MODEL]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Go on with a conversation that was saved
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,
    /// Where the model is asked: http://ADDRESS:PORT/v1 or unix:/PATH [default: OPENAI_BASE_URL, or this machine's router]
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
}
