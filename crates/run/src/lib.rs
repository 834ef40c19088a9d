//! `octant run -- COMMAND`: any program in a workstation, with no service running beforehand.
//!
//! Owns: the ephemeral supervisor, which is this process; the developer's key; the ledger of what was run; what of the
//! current directory is guarded.
//! Promises: the same pipeline as everywhere (a signed manifest becomes rights, rights become a plan, a plan of which
//! the ledger has the intent becomes a workstation, built by a spawner of its own); the host's terminal never goes
//! inside; the exit code is the program's.
//! Never: starts anything before it is on record; leaves a process behind.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `places.rs` | where key and ledger are, and the key |
//! | `wish.rs` | from the command line to a signed manifest, and from that to rights |
//! | `guard.rs` | what in the workspace runs later outside |
//! | `record.rs` | the ledger |
//! | `alive.rs` | which runs are still there |
//! | `cgroup.rs`, `slot.rs` | a cgroup and a range of users for the workstation |
//! | `namespace.rs`, `subids.rs` | an ordinary user's own user namespace, and the ids in it |
//! | `gate.rs`, `gate/ledger.rs` | the gate of a run with hosts, and where it has its records
//! | `start.rs` | the spawner, and what keeps an ordinary user from having one |
//! | `relay.rs`, `terminal.rs` | what goes between the program and the terminal |
//! | `attend.rs`, `watch.rs` | waiting, signals, job control; whether what is guarded still is |
#![forbid(unsafe_code)]

mod alive;
mod args;
mod attend;
mod cgroup;
mod error;
mod gate;
mod guard;
mod namespace;
mod places;
mod record;
mod relay;
mod slot;
mod start;
mod subids;
mod terminal;
mod watch;
mod wish;

use alive::Alive;
use args::{Args, Asked};
use attend::Ended;
use cgroup::Leaf;
use error::RunError;
use gate::Gate;
use guard::Guarded;
use namespace::Namespace;
use octant_ids::{Aid, Exit};
use octant_manifest::GrantPath;
use octant_sys::{clock, entropy};
use octant_ticket::Issuer;
use octant_workstation::{Here, Layer, Plan, Site, Spawned, SpawnerClient};
use places::Places;
use record::Record;
pub use record::verify;
use serde_json::json;
use slot::Slot;
use start::Spawner;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use terminal::Standard;
use wish::Wish;

/// The lowest Landlock ABI version that is accepted: that of kernel 6.1, the oldest that Octant runs on.
const LANDLOCK_FLOOR: u32 = 2;

/// Runs a program in a workstation; its exit code is ours. `args` is what follows `octant run`.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    let done = match Args::parse(args) {
        Ok(Asked::Help) => {
            let shown = io::stdout().write_all(args::HELP.as_bytes());
            return shown.map_or(Exit::Failed, |()| Exit::Ok).into();
        }
        Ok(Asked::Run(args)) => run(&args),
        Err(error) => Err(error),
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            say(&error.to_string());
            error.code().into()
        }
    }
}

/// A line for the person, which is not the program's.
fn say(text: &str) {
    let _nobody_else_to_tell = writeln!(io::stderr(), "octant run: {text}");
}

fn run(args: &Args) -> Result<u8, RunError> {
    let places = Places::find()?;
    let key = places.key()?;
    let here = places::current_dir()?;
    let wish = Wish::make(args, &here, &key)?;
    let mut guarded = Guarded::find(&here, &places.placeholders())?;
    let standard = Standard::take()?;
    let aid = new_aid()?;
    let mut leaf = Leaf::make(&aid);
    let namespace = Namespace::make()?;
    let network = wish.rights.grants().has_network();
    let missing = missing_layers(args, &leaf, namespace.as_ref(), network)?;
    let slot = Slot::take()?;
    let accepted = accepted(args, &missing);
    let site = site(aid, slot.number, &here, &wish, &guarded, &standard, &accepted);
    let plan = Plan::lower(&wish.rights, &site).map_err(RunError::Lower)?;

    let keys = record::keys()?;
    let spawner = Spawner::start(&places, namespace.as_ref(), &accepted, leaf.agents(), &keys)?;
    let mut gate = network.then(|| Gate::start(&places)).transpose()?;
    // While the ledger is opened they come up.
    let alive = Alive::new(&places, aid, gate.as_ref().map(Gate::dir))?;
    let mut record = Record::open(&places)?;
    record.close_dead(&places)?;
    let spawner = spawner.ready()?;
    let issuer = Issuer::new(keys);
    let ticket = record.intend(&plan, &wish, &missing, &issuer)?;
    if !missing.is_empty() {
        let described = missing.iter().map(|layer| described(*layer, namespace.as_ref()));
        say(&format!("without {}", described.collect::<Vec<_>>().join("; without ")));
    }
    let open = gate.as_mut().map(|gate| {
        let admission = gate::admission(&plan, &wish.rights, wish.declared.digest());
        let (record, plan, places) = ((&mut record, &issuer), &plan, &places);
        move |spawner: &mut SpawnerClient| gate.open(places, plan, &admission, spawner, record)
    });
    let spawned = match spawner.spawn(&plan, &ticket, &standard, open) {
        Ok(spawned) => spawned,
        Err(error) => {
            leaf.remove(&aid);
            record.refused(&plan, &error.to_string())?;
            return Err(error);
        }
    };
    // Whatever fails from here on, it ends before what guards it is taken away.
    let tied = attend::Tied::to(&spawned)?;
    record.started(&plan, &spawned)?;
    say_if_read_only(&spawned);
    for layer in spawned.report.missing.iter().filter(|layer| !missing.contains(layer)) {
        say(&format!("without {}", described(*layer, namespace.as_ref())));
    }
    record.close()?;
    let ended = attend(spawned, standard, &wish, &plan);
    drop(tied);
    if let Some(why) = gate.and_then(|gate| gate.end(&plan)) {
        say(&format!("without its gate the program reached nothing any more: it {why}"));
    }
    leaf.remove(&aid);
    guarded.release();
    let mut record = Record::open(&places)?;
    record.ended(&plan, &ended)?;
    record.close()?;
    drop(alive);
    Ok(ended?.code())
}

fn attend(spawned: Spawned, standard: Standard, wish: &Wish, plan: &Plan) -> Result<Ended, RunError> {
    let guarded = plan.binds.iter().filter(|bind| bind.target.starts_with("/workspace/"));
    let guarded = guarded.map(|bind| bind.target.clone()).collect();
    let ended = attend::Attendant::new(spawned, standard, wish.rights.ttl(), guarded)?.attend()?;
    if !matches!(ended, Ended::Code(_)) {
        say(&format!("it was ended: {}", ended.reason()));
    }
    Ok(ended)
}

/// Root's files are the workstation's only where the file system maps owners.
fn say_if_read_only(spawned: &Spawned) {
    let mounts = &spawned.report.mounts;
    let mapped = mounts.iter().any(|mount| mount.starts_with("/workspace ") && mount.contains("idmapped"));
    if nix::unistd::geteuid().is_root() && !mapped {
        say(
            "the file system of this directory cannot map owners: what others may not write here, neither can the program",
        );
    }
}

fn new_aid() -> Result<Aid, RunError> {
    let mut random = [0; 10];
    entropy::fill_seeded(&mut random).map_err(error::at("make an identifier"))?;
    Ok(Aid::new(clock::wall_ms(), random))
}

/// What the workstation goes without, each as accepted or as it has to be for this user.
fn missing_layers(
    args: &Args,
    leaf: &Leaf,
    namespace: Option<&Namespace>,
    network: bool,
) -> Result<Vec<Layer>, RunError> {
    let mut missing = Vec::new();
    if let Some(why) = leaf.lacking() {
        if !args.accept_missing.contains(&Layer::Cgroup) {
            return Err(RunError::NoCgroup(why.to_owned()));
        }
        missing.push(Layer::Cgroup);
    }
    missing.extend(namespace.map_or(&[][..], Namespace::missing));
    if namespace.is_some() && network {
        missing.push(Layer::Hooks);
    }
    Ok(missing)
}

/// What the spawner may go on without: that, and what only it can find missing.
fn accepted(args: &Args, missing: &[Layer]) -> Vec<Layer> {
    let more = args.accept_missing.iter().filter(|layer| [Layer::Nftables, Layer::Hooks].contains(layer));
    missing.iter().chain(more).copied().collect()
}

fn described(layer: Layer, namespace: Option<&Namespace>) -> String {
    let text = match layer {
        Layer::Cgroup => "the memory, processor and process limits are not in force".to_owned(),
        Layer::Users => {
            let why = namespace.and_then(|namespace| namespace.alone.as_deref()).unwrap_or_default();
            format!("one user id, yours, instead of a range of its own: {why}")
        }
        Layer::Nftables => "its network has no rules, only an empty routing table and a filter".to_owned(),
        Layer::Hooks => {
            "the kernel asks nobody where it connects to, which only root can have it do".to_owned()
        }
        Layer::Memfd => "files in memory can be executed, which only root can forbid".to_owned(),
    };
    format!("layer {layer} ({text})")
}

fn site(
    aid: Aid,
    slot: u32,
    here: &GrantPath,
    wish: &Wish,
    guarded: &Guarded,
    standard: &Standard,
    accepted: &[Layer],
) -> Site {
    let here = Here {
        workspace: here.clone(),
        guarded: guarded.paths(),
        links: wish::links(&wish.rights),
        env: wish::environment(),
        stdio: standard.stdio(),
    };
    Site {
        aid,
        slot,
        accept_missing: accepted.to_vec(),
        landlock_floor: LANDLOCK_FLOOR,
        base: None,
        here: Some(here),
        trust: None,
    }
}

/// What the records say about a program that was run.
fn about(plan: &Plan) -> serde_json::Value {
    json!({ "program": plan.program.path, "args": plan.program.args })
}
