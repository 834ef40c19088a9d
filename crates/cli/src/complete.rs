//! What may stand at the end of a command line of `octant`, for the shell's completion.

use crate::service::Service;
use crate::{Layout, command};
use octant_api::agents::ListRequest;
use std::path::PathBuf;

/// The name that arguments have which mean an agent.
const AGENT: &str = "AGENT";

/// The candidates for `word` behind `words`, which begin behind `octant`: subcommands, options, agents.
///
/// Agents are asked for only where one may stand, and a service that does not answer has none.
#[must_use]
pub fn complete(words: &[String], word: &str) -> Vec<String> {
    let environment = std::env::var_os("OCTANT_DIR").filter(|dir| !dir.is_empty());
    let layout = environment.map_or_else(Layout::system, |dir| Layout::under(&PathBuf::from(dir)));
    candidates(words, word, || {
        let list = Service::of(&layout, "agents").call(&ListRequest { all: false });
        let agents = list.map(|list| list.agents).unwrap_or_default();
        agents.into_iter().flat_map(|agent| [agent.aid.to_string(), agent.name]).collect()
    })
}

fn candidates(words: &[String], word: &str, agents: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let root = command();
    let mut at = &root;
    for name in words {
        // What is no subcommand is an option or an argument of the one before.
        if let Some(below) = at.find_subcommand(name) {
            at = below;
        }
    }
    let mut found: Vec<String> = if word.starts_with('-') {
        let longs = at.get_arguments().chain(root.get_arguments().filter(|arg| arg.is_global_set()));
        let longs = longs.filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long);
        longs.map(|long| format!("--{long}")).collect()
    } else {
        let below = at.get_subcommands().filter(|below| !below.is_hide_set());
        let mut found: Vec<String> = below.map(|below| below.get_name().to_owned()).collect();
        let mut positionals = at.get_positionals();
        if positionals
            .any(|arg| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == AGENT)))
        {
            found.extend(agents());
        }
        found
    };
    found.retain(|text| text.starts_with(word));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str, word: &str) -> Vec<String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        candidates(&words, word, || vec!["agent-one".into(), "report".into()])
    }

    #[test]
    fn subcommands_options_and_agents_are_found_where_they_may_stand() {
        assert_eq!(found("", "pow"), ["poweroff"]);
        assert!(found("agent", "s").contains(&"show".to_owned()));
        assert_eq!(found("agent show", ""), ["agent-one", "report"]);
        assert_eq!(found("agent show", "re"), ["report"]);
        assert!(found("agent kill", "--").contains(&"--grace".to_owned()));
        assert!(found("agent kill", "--js").contains(&"--json".to_owned()), "global options stand anywhere");
        assert!(found("status", "").is_empty());
    }
}
