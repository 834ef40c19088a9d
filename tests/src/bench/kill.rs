//! How long from the word to kill until nothing of an agent runs, and until nothing of it is left.
//!
//! The agent is a fork bomb that has as many processes as it may have. Its first process, PID 1 of its namespace, ends
//! after every other has (pid_namespaces(7)), so that the end of that one is the end of all. The retirement then removes
//! its cgroup and looks at every process and mount of the machine.

use crate::instance::Instance;
use crate::ledger::as_service;
use crate::spawn::{Spawning, plan};
use crate::table::{Row, Samples, ms};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octant_sys::clock::monotonic_ns;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// So that a hundredth of them is one.
const ROUNDS: usize = 100;
/// Where the program has to be to start itself.
const LOAD: &str = "/opt/octant-load";

/// The part that runs as the lifecycle manager's user: prints two times a round.
pub(crate) fn client(args: &[String]) -> ExitCode {
    let [socket, ledger, load] = args else { return ExitCode::from(2) };
    for round in 0..=ROUNDS {
        match one(Path::new(socket), Path::new(ledger), load, round) {
            // The first is not counted.
            Ok((gone, clean)) if round > 0 => println!("{gone} {clean}"),
            Ok(_) => {}
            Err(why) => {
                eprintln!("bench: kill: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn one(socket: &Path, ledger: &Path, load: &str, round: usize) -> Result<(u64, u64), String> {
    let mut plan = plan(load, LOAD, round);
    plan.program.args.push("forks".into());
    plan.syscalls.profile = "shell".into();
    let mut spawning = Spawning::connect(socket, ledger)?;
    let (spawned, output, intent) = spawning.spawn(&plan)?;
    let mut said = String::new();
    BufReader::new(output).read_line(&mut said).map_err(|e| format!("its output: {e}"))?;
    if said != "at its limit\n" {
        return Err(format!("the agent says {said:?}"));
    }
    let before = monotonic_ns();
    spawning.client.kill(plan.slot, plan.aid).map_err(|e| e.to_string())?;
    let mut ended = [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ended, PollTimeout::from(10_000_u16)) {
        Ok(1) => {}
        other => return Err(format!("it does not end: {other:?}")),
    }
    let gone = monotonic_ns() - before;
    spawning.client.retire(plan.slot, plan.aid).map_err(|e| e.to_string())?;
    let clean = monotonic_ns() - before;
    spawning.done(intent)?;
    Ok((gone, clean))
}

/// The rows of the table.
pub(crate) fn rows(instance: &Instance, load: &Path) -> Result<Vec<Row>, String> {
    let [socket, ledger] = ["spawner", "ledger"].map(|name| instance.socket(name).display().to_string());
    let said = as_service("agents", &["kill-client", &socket, &ledger, &load.display().to_string()])?;
    let column = |at: usize| {
        let number = |line: &str| line.split(' ').nth(at)?.parse().ok();
        Samples::new(said.lines().filter_map(number).collect())
    };
    let row = |what: &str, times: &Samples, limit_ns: u64| Row {
        what: format!("kill of a fork bomb at its limit, to {what}"),
        ours: format!("p50 {}, p99 {}", ms(times.median()), ms(times.at(990))),
        peers: String::new(),
        goal: format!("p99 ≤ {} ms", limit_ns / 1_000_000),
        met: Some(!times.is_empty() && times.at(990) <= limit_ns),
    };
    Ok(vec![
        row("no process left", &column(0), 50_000_000),
        row("nothing of it left", &column(1), 1_000_000_000),
    ])
}
