//! Many connections at the gate: how soon each of a hundred is cut, and what ten thousand of two hundred agents hold.

use crate::gate::{Gate, spawn};
use crate::gate_client::NAME;
use crate::gate_outside::{HELD, Outside};
use crate::instance::Instance;
use crate::table::{Row, Samples, mb, ms};
use crate::vault::text;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use octant_api::agents::{KillRequest, LendRequest, TakeBackRequest};
use octant_sys::clock::monotonic_ns;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) const AGENTS: usize = 200;
const EACH: usize = 50;
/// What all of that may add to the gate's processes.
const ROOM: u64 = 150 << 20;
/// Agents whose leases are taken back, with [`EACH`] of them; one has 64 at the most.
const LENT: usize = 2;
/// The goal of a revocation, p99.
const CUT_NS: u64 = 20_000_000;
/// How long all connections may take to be made.
const MADE_WITHIN_NS: u64 = 240_000_000_000;

/// Waits until so many connections are held beyond those from before.
fn held(outside: &Outside, before: usize, wanted: usize) -> Result<(), String> {
    let until = monotonic_ns() + MADE_WITHIN_NS;
    loop {
        let now = outside.held.load(Ordering::Relaxed) - before;
        if now >= wanted {
            return Ok(());
        }
        if monotonic_ns() > until {
            return Err(format!(
                "{now} connections of {wanted} are open after {} s",
                MADE_WITHIN_NS / 1_000_000_000
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn words(host: &str, count: usize) -> Vec<String> {
    let all = ["gate-client", "hold", host, &HELD.to_string(), &count.to_string(), "0"];
    all.map(str::to_owned).to_vec()
}

/// From the call that takes a lease back until its connection ends outside.
pub(crate) fn revocations(gate: &Gate) -> Result<Row, String> {
    eprintln!("bench: leases that are taken back");
    let mut agents = gate.agents()?;
    let mut times = Vec::new();
    for number in 0..LENT {
        let name = format!("lent-{number}");
        let network = format!("hosts = [\"tcp://{NAME}:{HELD}\"]");
        let host = |connection: &str| format!("{name}-{connection}.bench.example.org");
        let envelope = gate.agent(&name, &words(&host("#"), EACH), &network, "grants = []")?;
        let before = gate.outside.held.load(Ordering::Relaxed);
        let agent = spawn(&mut agents, &envelope)?;
        let mut leases = Vec::new();
        for connection in 0..EACH {
            let request = LendRequest {
                agent: agent.clone(),
                host: format!("tcp://{}:{HELD}", host(&connection.to_string())),
                ttl_ms: 600_000,
                bytes: None,
                connections: None,
                reason: "the bench".to_owned(),
            };
            leases.push(agents.call(&request).map_err(|e| format!("agents.lend: {e}"))?.id);
        }
        held(&gate.outside, before, EACH)?;
        for (lease, connection) in leases.into_iter().zip(0_u8..) {
            let since = monotonic_ns();
            let request = TakeBackRequest { agent: agent.clone(), lease };
            let taken = agents.call(&request).map_err(|e| format!("agents.take_back: {e}"))?;
            let ended = gate.outside.ends.recv_timeout(Duration::from_secs(10));
            let (which, at) =
                ended.map_err(|_| format!("connection {connection} does not end: {taken:?}"))?;
            if which != connection {
                return Err(format!("connection {which} ended in place of {connection}"));
            }
            times.push(at.saturating_sub(since));
        }
        agents.call(&KillRequest { agent, grace_ms: 0 }).map_err(text)?;
    }
    let times = Samples::new(times);
    Ok(Row {
        what: format!("a lease taken back, to the end of its connection outside, {} of them", LENT * EACH),
        ours: format!("p50 {}, p99 {}", ms(times.median()), ms(times.at(990))),
        peers: String::new(),
        goal: format!("p99 ≤ {} ms", CUT_NS / 1_000_000),
        met: Some(times.at(990) <= CUT_NS),
    })
}

/// How many connections each agent can have where a process may open so many descriptors: the gate gives an eighth of them to
/// other things (`most_open` in services/egress), and two to each connection.
fn room(files: u64) -> usize {
    let each = (files - files / 8) / 2 / AGENTS as u64;
    usize::try_from(each).unwrap_or(EACH).clamp(1, EACH)
}

/// What ten thousand open connections take, or as many as this machine's limit of descriptors has room for.
pub(crate) fn crowd(gate: &Gate) -> Result<Row, String> {
    // Each has one end here.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(text)?;
    let each = room(files);
    let (all, wanted) = (AGENTS * each, AGENTS * EACH);
    eprintln!("bench: {all} connections at once");
    let mut agents = gate.agents()?;
    let network = format!("hosts = [\"tcp://{NAME}:{HELD}\"]\nconnections = {EACH}");
    let envelope = gate.agent("many", &words(NAME, each), &network, "grants = []")?;
    let (before, count) = (Instance::pss_of_service("egress")?, gate.outside.held.load(Ordering::Relaxed));
    let since = monotonic_ns();
    let mut spawned = Vec::new();
    for number in 1..=AGENTS {
        spawned.push(spawn(&mut agents, &envelope).map_err(|e| format!("number {number}: {e}"))?);
    }
    held(&gate.outside, count, all)?;
    let took = monotonic_ns() - since;
    let added = Instance::pss_of_service("egress")?.saturating_sub(before);
    let health = gate.instance.octant(&["health"])?;
    if !health.status.success() {
        return Err(format!("not healthy with them: {}", String::from_utf8_lossy(&health.stdout)));
    }
    for agent in spawned {
        let kill = KillRequest { agent: agent.clone(), grace_ms: 0 };
        agents.call(&kill).map_err(|e| format!("agents.kill {agent}: {e}"))?;
    }
    let fewer = if all < wanted {
        format!(" (a process here may open {files} descriptors, which is not enough for {wanted})")
    } else {
        String::new()
    };
    Ok(Row {
        what: format!(
            "open connections of {AGENTS} agents, with the agents: what they add to the gate's processes (PSS)"
        ),
        ours: format!(
            "{all} of them{fewer}: {} beyond {}; {} to spawn the agents and open them",
            mb(added),
            mb(before),
            ms(took)
        ),
        peers: String::new(),
        goal: format!("≤ 157.3 MB (150 MiB) for {wanted}, for fewer in proportion"),
        met: Some(added.saturating_mul(wanted as u64) <= ROOM * all as u64),
    })
}
