//! Many agents, at once and in turn, through the whole way: signature, ledger, spawner, retirement.

use crate::namespace::{Instance, ended};
use octant_tests::agents::{agent_below, guest_files};
use std::fs;

/// More than that are kept after their end, with their output, only where the configuration says so.
const CONFIG: &[u8] = b"[agents]\nmax_agents = 200\nkeep_ended = 5\n";

#[test]
fn two_hundred_agents_at_once_and_as_many_in_turn_leave_nothing() {
    let instance = Instance::new("many");
    instance.write("etc/octant.toml", CONFIG);
    let signed = [("sleeper", "sleep 600\n"), ("quick", ":\n")].map(|(name, script)| {
        let dir = instance.scratch.path(name);
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        agent_below(&instance.scratch, &dir, script);
        dir.join("vault.signed.json").display().to_string()
    });
    let script = guest_files().join("many.sh");
    let list = instance.scratch.path("list");
    let job = format!("sh {} {} {} {}", script.display(), signed[0], signed[1], list.display());
    ended(&instance.accepting_for(600, &job), 0, &["four hundred agents came and went"]);
}
