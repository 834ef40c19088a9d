//! How long from asking for a confined process until its first instruction.
//!
//! Every contestant starts `tick`, a static program whose first act is to read the clock; the figure is that
//! stamp minus the time just before the request. bwrap and crun are started as commands, as their users do;
//! Octant is asked through its spawner's socket, as its lifecycle manager does, and separately through the whole
//! path: command line, signature, plan, two durable ledger entries, spawn.

use crate::boot::installed;
use crate::instance::Instance;
use crate::ledger::as_service;
use crate::table::{Row, Samples, spread};
use octant_api::agents::{SpawnRequest, WaitRequest};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_api::ticket::Ticket;
use octant_ids::Aid;
use octant_sys::clock::monotonic_ns;
use octant_tests::agents::Agent;
use octant_wire::blocking::Client;
use octant_workstation::{Bind, Layer, Limits, Plan, Program, Scratch, Spawned, SpawnerClient, Syscalls};
use std::fs;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// A launcher of `tick`: its name and the whole command.
pub(crate) struct Launcher {
    pub(crate) name: &'static str,
    argv: Vec<String>,
}

impl Launcher {
    pub(crate) fn new(name: &'static str, argv: &[&str]) -> Self {
        Self { name, argv: argv.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    /// One launch: nanoseconds until the program's first instruction.
    pub(crate) fn run(&self) -> Result<u64, String> {
        let before = monotonic_ns();
        let output = Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| format!("{}: {e}", self.name))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let stamp: u64 = text.trim().parse().map_err(|_| {
            format!("{}: no stamp but {text:?} and {:?}", self.name, String::from_utf8_lossy(&output.stderr))
        })?;
        stamp.checked_sub(before).ok_or_else(|| format!("{}: a stamp from before the start", self.name))
    }
}

/// The launchers that this machine has.
pub(crate) fn peers(scratch: &Path, tick: &Path) -> Result<Vec<Launcher>, String> {
    let mut found = Vec::new();
    let tick = tick.display().to_string();
    if installed("bwrap") {
        let tail = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", "/tick"];
        let mut argv = vec!["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", &tick, "/tick"];
        argv.extend(tail);
        found.push(Launcher::new("bwrap", &argv));
    }
    for runtime in ["crun", "runc"] {
        if installed(runtime) {
            let bundle = scratch.join(runtime);
            bundle_for(runtime, &bundle, Path::new(&tick))?;
            let bundle = bundle.display().to_string();
            let id = format!("octant-bench-{}", std::process::id());
            let argv: &[&str] = if runtime == "crun" {
                &["crun", "--cgroup-manager=disabled", "run", "--bundle", &bundle, &id]
            } else {
                &["runc", "run", "--bundle", &bundle, &id]
            };
            found.push(Launcher::new(if runtime == "crun" { "crun" } else { "runc" }, argv));
        }
    }
    Ok(found)
}

/// The runtime's own default bundle, without a terminal and with `tick` as the program.
fn bundle_for(runtime: &str, dir: &Path, tick: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{runtime} bundle: {e}");
    fs::create_dir_all(dir.join("rootfs")).map_err(failed)?;
    fs::copy(tick, dir.join("rootfs/tick")).map_err(failed)?;
    let made = Command::new(runtime).arg("spec").current_dir(dir).status().map_err(failed)?;
    if !made.success() {
        return Err(format!("{runtime} spec: {made}"));
    }
    let text = fs::read_to_string(dir.join("config.json")).map_err(failed)?;
    let mut config: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("{runtime} spec: {e}"))?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/tick"]);
    fs::write(dir.join("config.json"), config.to_string()).map_err(failed)
}

/// Launches everybody in turn, `rounds` times, after one round that is not counted.
pub(crate) fn race(launchers: &[Launcher], rounds: usize) -> Result<Vec<(&'static str, Samples)>, String> {
    let mut samples = vec![Vec::new(); launchers.len()];
    for round in 0..=rounds {
        for (launcher, samples) in launchers.iter().zip(&mut samples) {
            let took = launcher.run()?;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    Ok(launchers.iter().map(|l| l.name).zip(samples.into_iter().map(Samples::new)).collect())
}

/// The highest slots, which the lifecycle manager of an otherwise idle instance does not reach.
const SLOT: u32 = octant_ids::uid::AGENT_SLOTS - 1;

/// The part that runs as the lifecycle manager's user: asks the spawner `ROUNDS` times each way, prints each figure.
pub(crate) fn client(args: &[String]) -> ExitCode {
    let [socket, ledger, tick, rounds] = args else { return ExitCode::from(2) };
    let rounds = rounds.parse().unwrap_or(1);
    // The ways take turns; the first round is not counted.
    for round in 0..=2 * rounds + 1 {
        let way = if round % 2 == 0 { Way::Cold } else { Way::Warm };
        match by_spawner(Path::new(socket), Path::new(ledger), tick, round, way) {
            Ok(figure) if round > 1 => println!("{} {figure}", way.name()),
            Ok(_) => {}
            Err(why) => {
                eprintln!("bench: spawner: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// From nothing, or with a workstation that was prepared.
#[derive(Clone, Copy)]
enum Way {
    Cold,
    Warm,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// What it takes to have something spawned, as the lifecycle manager does it.
pub(crate) struct Spawning {
    pub(crate) client: SpawnerClient,
    ledger: Client,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Spawning {
    pub(crate) fn connect(spawner: &Path, ledger: &Path) -> Result<Self, String> {
        let client = SpawnerClient::connect(spawner).map_err(text)?;
        Ok(Self { client, ledger: Client::connect(ledger).map_err(text)? })
    }

    /// The ledger's ticket for a plan, without which nothing is spawned, and the intent's number.
    fn ticket(&mut self, plan: &Plan) -> Result<(Ticket, u64), String> {
        let payload = Json::of("spawn for the bench").map_err(text)?;
        let request = AppendRequest {
            subject: Some(plan.digest().map_err(text)?),
            ticket_for: Some("spawner".parse().map_err(|e| format!("spawner: {e}"))?),
            ..AppendRequest::new(Kind::Intent, payload)
        };
        let appended = self.ledger.call(&request).map_err(|e| format!("ledger.append: {e}"))?;
        Ok((appended.ticket.ok_or("ledger.append: no ticket")?, appended.seq))
    }

    /// Spawns it; its output, and the intent's number for [`Spawning::done`].
    pub(crate) fn spawn(&mut self, plan: &Plan) -> Result<(Spawned, PipeReader, u64), String> {
        let (ticket, intent) = self.ticket(plan)?;
        let (output, write) = std::io::pipe().map_err(text)?;
        let (stdout, stderr) = (OwnedFd::from(write.try_clone().map_err(text)?), OwnedFd::from(write));
        let spawned = self.client.spawn(plan, &ticket, &[stdout.as_fd(), stderr.as_fd()]).map_err(text)?;
        Ok((spawned, output, intent))
    }

    /// The outcome of that intent.
    pub(crate) fn done(&mut self, intent: u64) -> Result<(), String> {
        let payload = Json::of("spawned and retired").map_err(text)?;
        let outcome = AppendRequest { intent: Some(intent), ..AppendRequest::new(Kind::Outcome, payload) };
        self.ledger.call(&outcome).map(drop).map_err(|e| format!("ledger.append: {e}"))
    }
}

fn by_spawner(socket: &Path, ledger: &Path, tick: &str, round: usize, way: Way) -> Result<u64, String> {
    let mut spawning = Spawning::connect(socket, ledger)?;
    let plan = plan(tick, "/tick", round);
    let (first, mut intent) = spawning.ticket(&plan)?;
    let (mut output, stdout) = std::io::pipe().map_err(text)?;
    let standard = [OwnedFd::from(stdout.try_clone().map_err(text)?), OwnedFd::from(stdout)];
    let before = match way {
        Way::Cold => {
            let before = monotonic_ns();
            spawning.client.spawn(&plan, &first, &standard.each_ref().map(AsFd::as_fd)).map_err(text)?;
            before
        }
        Way::Warm => {
            spawning.client.prepare(&plan, &first, &standard.each_ref().map(AsFd::as_fd)).map_err(text)?;
            spawning.done(intent)?;
            let second;
            (second, intent) = spawning.ticket(&plan)?;
            let before = monotonic_ns();
            spawning.client.release(plan.slot, plan.aid, &second).map_err(text)?;
            before
        }
    };
    drop(standard);
    let mut stamp = String::new();
    output.read_to_string(&mut stamp).map_err(text)?;
    spawning.client.retire(plan.slot, plan.aid).map_err(text)?;
    spawning.done(intent)?;
    since(before, &stamp)
}

/// The clock of a workstation's time namespace is behind the host's by whole seconds, so the figure, which is far
/// below one, is the difference of the parts below a second.
fn since(before: u64, text: &str) -> Result<u64, String> {
    const SECOND: u64 = 1_000_000_000;
    let stamp: u64 = text.trim().parse().map_err(|_| format!("no stamp but {text:?}"))?;
    Ok((stamp % SECOND + SECOND - before % SECOND) % SECOND)
}

/// The plan of an agent with this program of the host, at `target` inside.
pub(crate) fn plan(program: &str, target: &str, round: usize) -> Plan {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(round as u64).to_le_bytes());
    let scratch = Scratch { bytes: 8 << 20, inodes: 256, exec: false };
    Plan {
        version: octant_workstation::VERSION,
        aid: Aid::new(octant_sys::clock::wall_ms(), random),
        slot: SLOT,
        program: Program { path: target.into(), args: vec![], cwd: "/workspace".into(), env: vec![] },
        octant: true,
        models: false,
        trust: None,
        utilities: vec!["sh".into()],
        root: None,
        image_environment: false,
        image_cwd: false,
        binds: vec![Bind { source: program.to_owned(), target: target.into(), write: false, exec: true }],
        pins: std::collections::BTreeMap::new(),
        links: vec![],
        snapshot: None,
        retain: false,
        workspace: scratch.clone(),
        tmp: scratch,
        shm: None,
        terminals: false,
        proc: octant_workstation::Proc::Processes,
        syscalls: Syscalls { profile: "minimal".into(), add: vec![], network: false },
        limits: Limits {
            memory_max: 64 << 20,
            memory_high: 64 << 20,
            pids_max: 16,
            cpu_quota_percent: 100,
            cpu_weight: 100,
            nofile: 64,
            fsize: 1 << 20,
            io: octant_workstation::Io::UNLIMITED,
        },
        landlock_floor: 1,
        accept_missing: vec![Layer::Cgroup],
        stdio: octant_workstation::Stdio::Pipes,
    }
}

/// The whole path: one durable intent, the signature, the plan, the spawn, as the operator's command does it.
fn by_operator(instance: &Instance, envelope: &str) -> Result<u64, String> {
    let mut client = Client::connect(&instance.socket("agents")).map_err(|e| e.to_string())?;
    let before = monotonic_ns();
    let request = SpawnRequest { envelope: envelope.to_owned(), task: None };
    let agent = client.call(&request).map_err(|e| format!("agents.spawn: {e}"))?.aid.to_string();
    client.call(&WaitRequest { agent: agent.clone() }).map_err(|e| format!("agents.wait: {e}"))?;
    let log = instance.octant(&["agent", "logs", &agent])?;
    let text = String::from_utf8_lossy(&log.stdout).into_owned();
    since(before, &text).map_err(|e| format!("{agent}: {e}"))
}

/// Makes an operator whom the instance trusts; its key is in `scratch`.
pub(crate) fn operator(instance: &Instance, scratch: &Path) -> Result<(), String> {
    let into = scratch.display().to_string();
    instance.must(&["manifest", "keygen", "bench", "--role", "admin", "--into", &into])?;
    let trusted = instance.dir.join("etc/trusted");
    fs::create_dir_all(&trusted).map_err(|e| format!("{}: {e}", trusted.display()))?;
    fs::copy(scratch.join("bench.pub"), trusted.join("bench.pub"))
        .map(drop)
        .map_err(|e| format!("bench.pub: {e}"))
}

/// A manifest signed by that operator: where its envelope is.
pub(crate) fn signed(
    instance: &Instance,
    scratch: &Path,
    name: &str,
    manifest: &str,
) -> Result<PathBuf, String> {
    let text = |path: &Path| path.display().to_string();
    let (plain, signed) = (scratch.join(format!("{name}.toml")), scratch.join(format!("{name}.signed.json")));
    fs::write(&plain, manifest).map_err(|e| format!("{}: {e}", plain.display()))?;
    let key = text(&scratch.join("bench.key"));
    instance.must(&["manifest", "sign", "--key", &key, "--output", &text(&signed), &text(&plain)])?;
    Ok(signed)
}

/// A manifest for `tick` with these arguments, signed by an operator whom the instance trusts.
pub(crate) fn envelope(
    instance: &Instance,
    scratch: &Path,
    tick: &Path,
    args: &str,
) -> Result<String, String> {
    operator(instance, scratch)?;
    let tick = tick.display().to_string();
    let usual = Agent { name: "tick", role: "admin", memory: ["32MiB"; 2], ..Agent::USUAL };
    let agent = Agent { program: &tick, args, read: "", ..usual };
    let signed = signed(instance, scratch, "tick", &agent.manifest("bench"))?;
    fs::read_to_string(&signed).map_err(|e| format!("{}: {e}", signed.display()))
}

/// The rows of the table.
pub(crate) fn rows(
    instance: &Instance,
    scratch: &Path,
    tick: &Path,
    rounds: usize,
) -> Result<Vec<Row>, String> {
    let tick_text = tick.display().to_string();
    let socket = instance.socket("spawner").display().to_string();
    let ledger = instance.socket("ledger").display().to_string();
    let args = ["spawner-client", &socket, &ledger, &tick_text, &rounds.to_string()];
    let lines = as_service("agents", &args)?;
    let of = |way: Way| {
        let figure = |line: &str| line.strip_prefix(way.name())?.trim().parse().ok();
        Samples::new(lines.lines().filter_map(figure).collect())
    };
    let (cold, warm) = (of(Way::Cold), of(Way::Warm));
    let peers = race(&peers(scratch, tick)?, rounds)?;
    let times = |name: &str, times: u64, of: u64| {
        peers.iter().find(|p| p.0 == name).map(|p| times * cold.median() <= of * p.1.median())
    };
    let judged = [times("crun", 2, 1), times("runc", 8, 1), times("bwrap", 2, 3)];
    let envelope = envelope(instance, scratch, tick, "")?;
    by_operator(instance, &envelope)?;
    let whole = (0..rounds).map(|_| by_operator(instance, &envelope)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![
        Row {
            what: "spawn to first instruction, every layer".into(),
            ours: spread(&cold),
            peers: peers
                .iter()
                .map(|(name, s)| format!("{name} {}", spread(s)))
                .collect::<Vec<_>>()
                .join("; "),
            goal: "≤ crun / 2, ≤ runc / 8, ≤ 1.5x bwrap".into(),
            met: judged.into_iter().collect::<Option<Vec<bool>>>().map(|all| all.into_iter().all(|met| met)),
        },
        Row {
            what: "the same with a workstation that was prepared".into(),
            ours: spread(&warm),
            peers: String::new(),
            goal: "≤ a third of it".into(),
            met: Some(3 * warm.median() <= cold.median()),
        },
        Row {
            what: "the same with signature, plan and durable ledger entries before it".into(),
            ours: spread(&Samples::new(whole)),
            peers: String::new(),
            goal: "none yet".into(),
            met: None,
        },
    ])
}
