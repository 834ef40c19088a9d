//! A thousand idle agents on one machine: what each costs, and whether all can be killed.
//!
//! The agents go the whole way: signature, plan, ledger, spawn. A workstation's first process is a copy of the spawner and
//! shares its pages with every other, so what one costs is what the sum over all processes grows by. All memory is what
//! the machine has less to give (`MemAvailable`, proc_meminfo(5)), so that what the kernel holds for namespaces, file
//! systems and filters is in it.

use crate::instance::Instance;
use crate::spawn::envelope;
use crate::table::{Row, mb, ms};
use octant_api::agents::{KillRequest, SpawnRequest, WaitRequest};
use octant_ids::uid;
use octant_sys::clock::monotonic_ns;
use octant_wire::blocking::Client;
use std::fs;
use std::path::{Path, PathBuf};

const AGENTS: u64 = 1000;
/// What the machine of the goal has.
const ROOM: u64 = 24 << 30;

fn available() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|e| format!("/proc/meminfo: {e}"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).ok_or("/proc/meminfo: no MemAvailable")?;
    Ok(kib * 1024)
}

/// The workstations' first processes: of this binary, with an agent's user.
fn reapers(binary: &Path) -> Result<Vec<PathBuf>, String> {
    let first = uid::agent_base(0).ok_or("no slot 0")?;
    let all = fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten().map(|entry| entry.path());
    let is_one = |process: &PathBuf| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
        let user: u32 = user.and_then(|user| user.parse().ok()).unwrap_or(0);
        user >= first && fs::read_link(process.join("exe")).is_ok_and(|exe| exe == binary)
    };
    Ok(all.filter(is_one).collect())
}

/// The rows of the table, measured with an instance of their own.
pub(crate) fn rows(binary: &Path, scratch: &Path, tick: &Path) -> Result<Vec<Row>, String> {
    let dir = scratch.join("crowd");
    let config = octant_ids::Layout::under(&dir).etc.join("octant.toml");
    let text = format!("[agents]\nmax_agents = {AGENTS}\n");
    let written = fs::create_dir_all(dir.join("etc")).and_then(|()| fs::write(&config, text));
    written.map_err(|e| format!("{}: {e}", config.display()))?;
    let instance = Instance::start(binary, &dir)?;
    let keys = scratch.join("crowd-keys");
    fs::create_dir_all(&keys).map_err(|e| format!("{}: {e}", keys.display()))?;
    let envelope = envelope(&instance, &keys, tick, r#""/workspace/started""#)?;
    let mut client = Client::connect(&instance.socket("agents")).map_err(|e| e.to_string())?;
    let mut spawn = |number: u64| {
        let request = SpawnRequest { envelope: envelope.clone(), task: None };
        let spawned = client.call(&request).map_err(|e| format!("agents.spawn, number {number}: {e}"))?;
        Ok::<String, String>(spawned.aid.to_string())
    };
    // The first is not counted: with it comes what is made once.
    let mut agents = vec![spawn(1)?];
    let (before, octants, since) = (available()?, instance.pss()?, monotonic_ns());
    for number in 2..=AGENTS {
        agents.push(spawn(number)?);
    }
    let each_ns = (monotonic_ns() - since) / (AGENTS - 1);
    let own = instance.pss()?.saturating_sub(octants) / (AGENTS - 1);
    let used = before.saturating_sub(available()?);
    let standing = reapers(binary)?.len();
    if standing != agents.len() {
        return Err(format!("{} agents were spawned and {standing} workstations stand", agents.len()));
    }
    healthy(&instance, "with a thousand agents")?;
    let since = monotonic_ns();
    for agent in &agents {
        let agent = agent.clone();
        client
            .call(&KillRequest { agent: agent.clone(), grace_ms: 0 })
            .map_err(|e| format!("agents.kill {agent}: {e}"))?;
        client
            .call(&WaitRequest { agent: agent.clone() })
            .map_err(|e| format!("agents.wait {agent}: {e}"))?;
    }
    let killed_ns = (monotonic_ns() - since) / AGENTS;
    match reapers(binary)?.len() {
        0 => healthy(&instance, "after the thousand agents")?,
        left => return Err(format!("{left} workstations are left of {AGENTS} that were killed")),
    }
    Ok(vec![
        Row {
            what: "what an idle agent adds to the memory of Octant's processes, its program left out (PSS)"
                .into(),
            ours: mb(own),
            peers: String::new(),
            goal: "≤ 1.0 MB (1 MiB)".into(),
            met: Some(own > 0 && own <= 1 << 20),
        },
        Row {
            what: format!("{AGENTS} idle agents at once, all memory, the kernel's too"),
            ours: format!(
                "{}, {} each; {} to spawn and {} to kill one",
                mb(used),
                mb(used / (AGENTS - 1)),
                ms(each_ns),
                ms(killed_ns)
            ),
            peers: String::new(),
            goal: "in 24 GiB".into(),
            met: Some(used <= ROOM),
        },
    ])
}

fn healthy(instance: &Instance, when: &str) -> Result<(), String> {
    let health = instance.octant(&["health"])?;
    if health.status.success() {
        return Ok(());
    }
    Err(format!("not healthy {when}: {}", String::from_utf8_lossy(&health.stdout)))
}
