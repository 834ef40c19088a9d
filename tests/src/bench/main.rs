//! `cargo x bench`: Octant and its peers side by side in one run; writes the table of docs/specification.md.
//!
//! Environment, set by `cargo x bench`: `OCTANT_BIN` (the dist binary), `OCTANT_HELPERS` (where the tests' programs are). Needs root, since every
//! contestant makes namespaces. A peer that is not installed is left out and named.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command that reports")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod boot;
mod crowd;
mod crypto;
mod gate;
mod gate_client;
mod gate_many;
mod gate_outside;
mod gate_peers;
mod instance;
mod kill;
mod ledger;
mod ledger_log;
mod ledger_proof;
mod ledger_size;
mod machine;
mod neighbour;
mod router;
mod router_client;
mod router_peers;
mod shell;
mod spawn;
mod status;
mod table;
mod utilities;
mod vault;
mod vault_peers;
mod vault_size;
mod wire;

use crate::instance::Instance;
use crate::table::{Row, Samples, mb, spread};
use octant_api::unit::COPIES;
use octant_tests::environment::{Scratch, path};
use std::path::Path;
use std::process::ExitCode;

/// Rounds of a race between processes; enough for a stable median on a machine that others use too.
const ROUNDS: usize = 25;
/// The argument of the run proper.
const PURE: &str = "in-pure-cgroups";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == "spawner-client" => return spawn::client(rest),
        Some((first, rest)) if first == "kill-client" => return kill::client(rest),
        Some((first, rest)) if first == "ledger-client" => return ledger::client(rest),
        Some((first, rest)) if first == "ledger-append" => return ledger::appender(rest),
        Some((first, rest)) if first == "gate-client" => return gate_client::main(rest),
        Some((first, rest)) if first == "router-client" => return router_client::main(rest),
        Some((first, rest)) if first == "router-append" => return router::appender(rest),
        Some((first, rest)) if first == "ledger-open" => return ledger_size::opener(rest),
        Some((first, rest)) if first == "vault-client" => return vault::client(rest),
        Some((first, rest)) if first == "vault-start" => return vault_size::starter(rest),
        Some((first, _)) if first == PURE => {}
        _ => return with_pure_cgroups(&args),
    }
    let part = |rows: &[Row], old: &str| table::with_rows(old, rows);
    let whole = |rows: &[Row], _: &str| table::render(rows);
    let done = match args.get(1).map(String::as_str) {
        None => run().and_then(|rows| report(&rows, whole)),
        Some("ledger") => ledger_alone().and_then(|rows| report(&rows, part)),
        Some("crypto") => crypto::rows().and_then(|rows| report(&rows, part)),
        Some("vault") => vault_alone().and_then(|rows| report(&rows, part)),
        Some("egress") => egress_alone().and_then(|rows| report(&rows, part)),
        Some("router") => router_alone().and_then(|rows| report(&rows, part)),
        Some("shell") => shell_alone().and_then(|rows| report(&rows, part)),
        Some("workstations") => workstations_alone().and_then(|rows| report(&rows, part)),
        Some("status") => status_alone().and_then(|rows| report(&rows, part)),
        Some("utilities") => utilities_alone().and_then(|rows| report(&rows, part)),
        Some(other) => Err(format!(
            "there is no part {other:?}; the parts are: ledger, crypto, vault, egress, router, shell, workstations, \
             status, utilities"
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the bench in a mount namespace whose /sys/fs/cgroup is cgroup v2 and nothing else: crun refuses to start
/// where the hierarchies are mixed, and every contestant shall have the same view.
fn with_pure_cgroups(args: &[String]) -> ExitCode {
    let script =
        "umount -l /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let ended = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(own)
        .arg(PURE)
        .args(args)
        .envs(COPIES.split_once('='))
        .status();
    match ended {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench: unshare: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the rows, and puts them into the specification as `change` says.
fn report(rows: &[Row], change: impl FnOnce(&[Row], &str) -> String) -> Result<(), String> {
    println!("{}", table::render(rows));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/specification.md");
    table::into_specification(&page, |old| change(rows, old))
        .map_err(|why| format!("the table is not in the specification: {why}"))
}

fn resolved(path: std::path::PathBuf) -> Result<std::path::PathBuf, String> {
    path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))
}

/// `cargo x bench ledger`: the ledger's rows alone.
fn ledger_alone() -> Result<Vec<Row>, String> {
    let binary = resolved(path("OCTANT_BIN"))?;
    let scratch = Scratch::new("bench");
    let instance = Instance::start(&binary, &scratch.path("instance"))?;
    let mut rows = ledger::rows(&instance, &scratch.path(""))?;
    drop(instance);
    rows.extend(ledger_size::rows(&binary, &scratch.path(""))?);
    rows.push(ledger_proof::row(&scratch.path("tiles"))?);
    Ok(rows)
}

/// `cargo x bench vault`: the vault's rows alone.
fn vault_alone() -> Result<Vec<Row>, String> {
    let binary = resolved(path("OCTANT_BIN"))?;
    let scratch = Scratch::new("bench");
    let mut rows = vec![size(&binary)?];
    rows.extend(vaults(&binary, &scratch)?);
    Ok(rows)
}

/// `cargo x bench egress`: the gate's rows alone.
fn egress_alone() -> Result<Vec<Row>, String> {
    let scratch = Scratch::new("bench");
    gate::rows(&resolved(path("OCTANT_BIN"))?, &scratch.path(""))
}

/// `cargo x bench router`: the router's rows alone.
fn router_alone() -> Result<Vec<Row>, String> {
    let scratch = Scratch::new("bench");
    router::rows(&resolved(path("OCTANT_BIN"))?, &scratch.path(""), &helper("octant-upstream")?)
}

/// `cargo x bench shell`: the shell's rows alone.
fn shell_alone() -> Result<Vec<Row>, String> {
    shell::rows(&resolved(path("OCTANT_BIN"))?)
}

/// `cargo x bench status`: its row alone.
fn status_alone() -> Result<Vec<Row>, String> {
    let scratch = Scratch::new("bench");
    let instance = Instance::start(&resolved(path("OCTANT_BIN"))?, &scratch.path("instance"))?;
    Ok(vec![status::row(&instance, ROUNDS)?])
}

/// `cargo x bench utilities`: theirs alone.
fn utilities_alone() -> Result<Vec<Row>, String> {
    let scratch = Scratch::new("bench");
    utilities::rows(&resolved(path("OCTANT_BIN"))?, &scratch.path(""))
}

/// `cargo x bench workstations`: theirs alone.
fn workstations_alone() -> Result<Vec<Row>, String> {
    let binary = resolved(path("OCTANT_BIN"))?;
    let scratch = Scratch::new("bench");
    let instance = Instance::start(&binary, &scratch.path("instance"))?;
    let rows = workstations(&scratch, &instance)?;
    drop(instance);
    Ok(rows.into_iter().chain(crowd(&binary, &scratch)?).collect())
}

fn helper(name: &str) -> Result<std::path::PathBuf, String> {
    resolved(path("OCTANT_HELPERS").join(name))
}

fn workstations(scratch: &Scratch, instance: &Instance) -> Result<Vec<Row>, String> {
    eprintln!("bench: spawn to first instruction");
    let mut rows = spawn::rows(instance, &scratch.path(""), &helper("octant-tick")?, ROUNDS)?;
    eprintln!("bench: kill");
    rows.extend(kill::rows(instance, &helper("octant-load")?)?);
    Ok(rows)
}

fn crowd(binary: &Path, scratch: &Scratch) -> Result<Vec<Row>, String> {
    eprintln!("bench: a thousand agents");
    crowd::rows(binary, &scratch.path(""), &helper("octant-tick")?)
}

fn vaults(binary: &Path, scratch: &Scratch) -> Result<Vec<Row>, String> {
    let mut rows = vault::rows(binary, &scratch.path(""))?;
    rows.extend(vault_size::rows(binary, &scratch.path(""))?);
    Ok(rows)
}

fn run() -> Result<Vec<Row>, String> {
    let (binary, tick) = (resolved(path("OCTANT_BIN"))?, helper("octant-tick")?);
    let scratch = Scratch::new("bench");
    let mut rows = vec![size(&binary)?];
    eprintln!("bench: PID 1 against other inits");
    rows.push(inits(&boot::race(&scratch.path(""), &tick, &binary, ROUNDS)?));
    eprintln!("bench: PID 1 to ready");
    rows.push(ready(&scratch.path(""), &tick, &binary)?);
    let instance = Instance::start(&binary, &scratch.path("instance"))?;
    rows.push(memory(&instance)?);
    rows.push(status::row(&instance, ROUNDS)?);
    eprintln!("bench: wire round trip");
    rows.extend(wire::rows(&instance, &scratch.path(""))?);
    rows.extend(workstations(&scratch, &instance)?);
    eprintln!("bench: ledger");
    rows.extend(ledger::rows(&instance, &scratch.path(""))?);
    drop(instance);
    rows.extend(crowd(&binary, &scratch)?);
    rows.extend(ledger_size::rows(&binary, &scratch.path(""))?);
    rows.push(ledger_proof::row(&scratch.path("tiles"))?);
    rows.extend(crypto::rows()?);
    rows.extend(vaults(&binary, &scratch)?);
    rows.extend(gate::rows(&binary, &scratch.path(""))?);
    rows.extend(router::rows(&binary, &scratch.path(""), &helper("octant-upstream")?)?);
    rows.extend(shell::rows(&binary)?);
    rows.extend(utilities::rows(&binary, &scratch.path(""))?);
    eprintln!("bench: virtual machine");
    rows.extend(machine::row(&scratch.path(""), boot::found("busybox"))?);
    rows.push(neighbour::row(&scratch)?);
    Ok(rows)
}

fn size(binary: &Path) -> Result<Row, String> {
    let bytes = std::fs::metadata(binary).map_err(|e| format!("{}: {e}", binary.display()))?.len();
    Ok(Row {
        what: "binary".into(),
        ours: mb(bytes),
        peers: String::new(),
        goal: "≤ 40 MB without an inference engine".into(),
        met: Some(bytes <= 40_000_000),
    })
}

fn inits(results: &[(&'static str, Samples)]) -> Row {
    let median = |name: &str| results.iter().find(|r| r.0 == name).map(|r| r.1.median());
    let ours = results.first().map(|r| &r.1).filter(|s| !s.is_empty());
    let peers = results.iter().skip(1).map(|(name, s)| format!("{name} {}", spread(s)));
    let mut peers: Vec<String> = peers.collect();
    if median("dinit").is_none() {
        peers.push("dinit not installed".into());
    }
    Row {
        what: "PID 1 with its own services and eight trivial ones, to the last one's first instruction"
            .into(),
        ours: ours.map_or_else(String::new, spread),
        peers: peers.join("; "),
        goal: "faster than dinit".into(),
        met: ours.zip(median("dinit")).map(|(ours, dinit)| ours.median() < dinit),
    }
}

fn ready(scratch: &Path, tick: &Path, binary: &Path) -> Result<Row, String> {
    let octant =
        boot::Contestant::octant_ready(scratch, tick, binary).map_err(|e| format!("laying out: {e}"))?;
    octant.run_to_ready(tick)?;
    let samples = (0..ROUNDS).map(|_| octant.run_to_ready(tick)).collect::<Result<Vec<_>, _>>()?;
    let samples = Samples::new(samples);
    Ok(Row {
        what: "PID 1's start to every service ready, PID namespace".into(),
        ours: spread(&samples),
        peers: String::new(),
        goal: "≤ 25 ms".into(),
        met: Some(samples.median() <= 25_000_000),
    })
}

fn memory(instance: &Instance) -> Result<Row, String> {
    let bytes = instance.pss()?;
    Ok(Row {
        what: "idle memory of every process (PSS)".into(),
        ours: mb(bytes),
        peers: String::new(),
        goal: "≤ 60 MB".into(),
        met: Some(bytes <= 60_000_000),
    })
}
