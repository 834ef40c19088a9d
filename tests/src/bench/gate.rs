//! The gate: what a connection through it costs, how much goes through it, how soon it cuts.
//!
//! Everything is in one network namespace: the outside (`gate_outside.rs`), the instance with its agents, the same program
//! straight to the servers, a plain proxy, and the peers. Programs measure with their own clock, from before they connect.

use crate::gate_client::{NAME, ROOTS};
use crate::gate_many;
use crate::gate_outside::{ECHO, HOST, NAME_SERVER, Outside, SOURCE, SPLICED, VALUE, WEB};
use crate::gate_peers::Proxy;
use crate::instance::Instance;
use crate::ledger::as_service;
use crate::spawn::{operator, signed};
use crate::table::{Row, Samples, us};
use crate::vault::{text, with_key_file};
use octant_api::agents::{SpawnRequest, WaitRequest};
use octant_tests::agents::Agent;
use octant_wire::blocking::Client;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The ways take turns in blocks of so many connections.
const BLOCKS: usize = 5;
const CONNECTIONS: usize = 100;
/// What a connection may take beyond a direct one and the ledger's append.
const BEYOND: u64 = 300_000;
const MIB: u64 = 1 << 20;
/// One download, and each of those at once.
const ALONE: u64 = 512 * MIB;
const EACH: u64 = 128 * MIB;
const AT_ONCE: usize = 8;
/// Rounds of downloads, of which the median counts.
const ROUNDS: usize = 3;
/// How long the work of one program may take.
const DONE_WITHIN_MS: u64 = 120_000;
/// The name of the secret that is used for requests.
const SECRET: &str = "bench/key";

/// What the work of one program is.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

/// This program where agents may execute it: not below /tmp, which is their own. Dropping it removes it.
pub(crate) struct Program(PathBuf);

impl Program {
    pub(crate) fn new() -> Result<Self, String> {
        let program = Self(PathBuf::from(format!("/srv/octant-bench-{}/octant-bench", std::process::id())));
        let dir = program.0.parent().unwrap_or(&program.0);
        let failed = |e: std::io::Error| format!("{}: {e}", program.0.display());
        fs::create_dir_all(dir).map_err(failed)?;
        fs::copy(std::env::current_exe().map_err(text)?, &program.0).map_err(failed)?;
        Ok(program)
    }

    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Best effort: what is left over harms nothing.
        let _ignored = self.0.parent().map(fs::remove_dir_all);
    }
}

/// An instance with the outside beside it.
pub(crate) struct Gate {
    pub(crate) outside: Outside,
    pub(crate) instance: Instance,
    scratch: PathBuf,
    program: Program,
}

impl Gate {
    fn start(binary: &Path, scratch: &Path) -> Result<Self, String> {
        let outside = Outside::new()?;
        let (scratch, dir) = (scratch.join("gate"), scratch.join("gate/instance"));
        with_key_file(&dir, &[9; 64])?;
        let config = format!(
            "[agents]\nmax_agents = {}\n[egress]\nname_servers = [\"{NAME_SERVER}\"]\nallow_addresses = [\"11.0.0.0/8\"]\n\
             extra_roots = \"\"\"\n{}\"\"\"\n",
            gate_many::AGENTS + 8,
            outside.authority
        );
        let write = |path: PathBuf, text: &str| {
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
        };
        write(octant_ids::Layout::under(&dir).etc.join("octant.toml"), &config)?;
        write(scratch.join("ca.pem"), &outside.authority)?;
        let instance = Instance::start(binary, &dir)?;
        operator(&instance, &scratch)?;
        Ok(Self { outside, instance, scratch, program: Program::new()? })
    }

    /// The signed manifest of an agent that does this work, with these lines in its manifest's sections.
    pub(crate) fn agent(
        &self,
        name: &str,
        words: &[String],
        network: &str,
        grants: &str,
    ) -> Result<PathBuf, String> {
        let args: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let agent = Agent {
            name,
            role: "admin",
            program: &self.program.path(),
            args: &args.join(", "),
            read: "",
            ..Agent::USUAL
        };
        let manifest = agent.manifest("bench").replace("hosts = []", network).replace("grants = []", grants);
        signed(&self.instance, &self.scratch, name, &manifest)
    }

    /// Who makes and ends agents.
    pub(crate) fn agents(&self) -> Result<Client, String> {
        Client::connect(&self.instance.socket("agents")).map_err(text)
    }

    /// Where the authority's certificate is.
    pub(crate) fn authority(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    /// Does a work inside, to its end.
    fn inside(&self, work: Work) -> Result<Vec<u64>, String> {
        let inspected = work.port == WEB;
        let (protocol, grants) = match inspected {
            true => ("tls", format!("grants = [\"use {SECRET} at {NAME}\"]")),
            false => ("tcp", "grants = []".to_owned()),
        };
        let network = format!("hosts = [\"{protocol}://{NAME}:{}\"]\nconnections = 64", work.port);
        let envelope = self.agent(work.name, &words(work, NAME), &network, &grants)?.display().to_string();
        if inspected {
            let to = format!("manifest-file:{envelope}");
            let words =
                ["vault", "grant", SECRET, "--to", &to, "--mode", "use", "--host", NAME, "--reason", "bench"];
            self.instance.must(&words)?;
        }
        let mut agents = self.agents()?;
        let agent = spawn(&mut agents, Path::new(&envelope))?;
        let wait = WaitRequest { agent: agent.clone() };
        agents
            .call_within(&wait, DONE_WITHIN_MS)
            .map_err(|e| format!("agents.wait for {}: {e}", work.name))?;
        let said = self.instance.must(&["agent", "logs", &agent])?;
        figures(&said).map_err(|why| format!("{}: {why}", work.name))
    }

    /// The same outside, straight or by a proxy.
    fn outside(&self, work: Work, proxy: Option<&Proxy>) -> Result<Vec<u64>, String> {
        let mut command = Command::new(&self.program.0);
        command.args(words(work, &HOST.to_string())).args(proxy.map(|proxy| proxy.at.to_string()));
        let roots = proxy.map_or_else(|| self.authority(), |proxy| proxy.trusts.clone());
        let output = command.env(ROOTS, roots).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| format!("{}: {e}", self.program.path()))?;
        match output.status.success() {
            true => figures(&String::from_utf8_lossy(&output.stdout)),
            false => Err(format!("{}, outside: {}", work.name, output.status)),
        }
    }

    /// Nanoseconds of durable appends, one after another, as long as what the gate puts on record before it connects.
    fn appends(&self, count: usize) -> Result<Vec<u64>, String> {
        let payload = format!(
            "{{\"do\":\"connect\",\"host\":\"{NAME}\",\"port\":{ECHO},\"protocol\":\"tcp\",\"rule\":\"tcp://{NAME}:{ECHO}\",\
             \"generation\":1}}"
        );
        let socket = self.instance.socket("ledger").display().to_string();
        figures(&as_service("egress", &["ledger-append", &socket, &payload, &count.to_string()])?)
    }
}

/// An agent of this envelope: its identifier.
pub(crate) fn spawn(agents: &mut Client, envelope: &Path) -> Result<String, String> {
    let envelope = fs::read_to_string(envelope).map_err(|e| format!("{}: {e}", envelope.display()))?;
    let spawned =
        agents.call(&SpawnRequest { envelope, task: None }).map_err(|e| format!("agents.spawn: {e}"))?;
    Ok(spawned.aid.to_string())
}

/// The words of a program that does this work at a host.
fn words(work: Work, host: &str) -> Vec<String> {
    let numbers = [work.port.to_string(), work.count.to_string(), work.bytes.to_string()];
    ["gate-client", work.name, host].map(str::to_owned).into_iter().chain(numbers).collect()
}

pub(crate) fn figures(said: &str) -> Result<Vec<u64>, String> {
    let all: Result<Vec<u64>, _> = said.lines().map(|line| line.trim().parse()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| format!("no figures but {said:?}"))
}

fn figure(samples: &Samples) -> String {
    format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990)))
}

/// A peer's part of a row: its figure, or why there is none.
fn peer(
    proxy: &Result<Proxy, String>,
    of: impl FnOnce(&Proxy) -> Result<String, String>,
) -> Result<String, String> {
    match proxy {
        Ok(proxy) => of(proxy).map(|figure| format!("{} {figure}", proxy.name)),
        Err(why) => Ok(why.clone()),
    }
}

fn connections(gate: &Gate, runtime: &Result<Proxy, String>) -> Result<Row, String> {
    eprintln!("bench: connections through the gate");
    let work = Work { name: "latency", port: ECHO, count: CONNECTIONS, bytes: 0 };
    let [mut through, mut direct, mut appends, mut theirs] = [const { Vec::new() }; 4];
    for _ in 0..BLOCKS {
        direct.extend(gate.outside(work, None)?);
        appends.extend(gate.appends(CONNECTIONS)?);
        through.extend(gate.inside(work)?);
        if let Ok(proxy) = runtime {
            theirs.extend(gate.outside(work, Some(proxy))?);
        }
    }
    let [through, direct, appends, theirs] = [through, direct, appends, theirs].map(Samples::new);
    // None where appends were so slow or uneven that the difference of the medians says nothing.
    let beyond = through.median().checked_sub(direct.median() + appends.median());
    let said =
        beyond.map_or_else(|| "lost in the noise of the appends".to_owned(), |ns| format!("p50 {}", us(ns)));
    let theirs = peer(runtime, |_| Ok(format!("{}, without a record", figure(&theirs))))?;
    Ok(Row {
        what: format!(
            "a connection through the gate and a byte there and back, {} one after another",
            BLOCKS * CONNECTIONS
        ),
        ours: format!(
            "{}; straight {}; the ledger's durable append {}; beyond both {said}",
            figure(&through),
            figure(&direct),
            figure(&appends)
        ),
        peers: theirs,
        goal: format!("p50 ≤ {} beyond both", us(BEYOND)),
        met: beyond.map(|ns| ns <= BEYOND),
    })
}

/// Bytes a second, as megabytes.
struct Rate(f64);

impl Rate {
    fn of(work: Work, mut one: impl FnMut(Work) -> Result<Vec<u64>, String>) -> Result<Self, String> {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.extend(one(work)?);
        }
        let bytes = work.bytes * work.count as u64;
        Ok(Self(bytes as f64 * 1e3 / Samples::new(times).median().max(1) as f64))
    }

    fn share(&self, of: &Self) -> f64 {
        self.0 * 100.0 / of.0
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} MB/s", self.0)
    }
}

/// A download: opaque and inspected, beside the same through a plain proxy.
fn downloads(
    gate: &Gate,
    runtime: &Result<Proxy, String>,
    inspects: &Result<Proxy, String>,
    count: usize,
) -> Result<[Row; 2], String> {
    let bytes = if count == 1 { ALONE } else { EACH };
    let opaque = Work { name: "download", port: SOURCE, count, bytes };
    let inspected = Work { name: "inspected", port: WEB, ..opaque };
    eprintln!("bench: {count} downloads at once");
    let splice = Rate::of(Work { port: SPLICED, ..opaque }, |work| gate.outside(work, None))?;
    let (straight, ours) =
        (Rate::of(opaque, |work| gate.outside(work, None))?, Rate::of(opaque, |work| gate.inside(work))?);
    let theirs = peer(runtime, |proxy| {
        Rate::of(opaque, |work| gate.outside(work, Some(proxy))).map(|rate| rate.to_string())
    })?;
    let plain = format!("plain proxy by splice(2) {splice}; straight {straight}");
    let what = if count == 1 {
        "a download of 512 MiB".to_owned()
    } else {
        format!("{count} downloads at once, 128 MiB each")
    };
    let row = |kind: &str, ours: &Rate, peers: String, least: f64| Row {
        what: format!("{what}, {kind}"),
        ours: format!("{ours}, {:.0} % of the plain proxy", ours.share(&splice)),
        peers,
        goal: format!("≥ {least:.0} % of the plain proxy"),
        met: Some(ours.share(&splice) >= least),
    };
    let opaque = row("granted as tcp", &ours, format!("{plain}; {theirs}"), 60.0);
    let (straight, ours) = (
        Rate::of(inspected, |work| gate.outside(work, None))?,
        Rate::of(inspected, |work| gate.inside(work))?,
    );
    // An eighth of it is enough of a peer that takes seconds for that.
    let theirs = peer(inspects, |proxy| {
        let work = Work { bytes: inspected.bytes / 8, ..inspected };
        Rate::of(work, |work| gate.outside(work, Some(proxy))).map(|rate| rate.to_string())
    })?;
    let peers = format!("plain proxy by splice(2), without TLS, {splice}; TLS straight {straight}; {theirs}");
    Ok([opaque, row("inspected, with a secret put into the request", &ours, peers, 25.0)])
}

fn requests(gate: &Gate, inspects: &Result<Proxy, String>) -> Result<Row, String> {
    eprintln!("bench: requests that are inspected");
    let work = Work { name: "requests", port: WEB, count: CONNECTIONS, bytes: 1 };
    let (ours, straight) = (Samples::new(gate.inside(work)?), Samples::new(gate.outside(work, None)?));
    let theirs = peer(inspects, |proxy| {
        let times = Samples::new(gate.outside(work, Some(proxy))?);
        Ok(format!("{}, without a secret and a record", figure(&times)))
    })?;
    Ok(Row {
        what: format!(
            "a connection, TLS and one inspected request with a secret, {CONNECTIONS} one after another"
        ),
        ours: format!("{}; straight {}", figure(&ours), figure(&straight)),
        peers: theirs,
        goal: "none yet".into(),
        met: None,
    })
}

fn all(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    let gate = Gate::start(binary, scratch)?;
    let secret = gate.scratch.join("secret");
    fs::write(&secret, VALUE).map_err(|e| format!("{}: {e}", secret.display()))?;
    gate.instance.must(&["vault", "put", SECRET, "--from", &secret.display().to_string()])?;
    let runtime = Proxy::sandbox_runtime(&gate.authority());
    let inspects = Proxy::mitmproxy(&gate.scratch, &gate.authority());
    let mut rows = vec![connections(&gate, &runtime)?];
    let ([opaque, inspected], [opaques, inspecteds]) =
        (downloads(&gate, &runtime, &inspects, 1)?, downloads(&gate, &runtime, &inspects, AT_ONCE)?);
    rows.extend([opaque, opaques, inspected, inspecteds]);
    rows.push(requests(&gate, &inspects)?);
    drop((runtime, inspects));
    rows.push(gate_many::revocations(&gate)?);
    rows.push(gate_many::crowd(&gate)?);
    Ok(rows)
}

/// The rows of the table.
pub(crate) fn rows(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    // A thread of its own enters the network, and all that it starts: the rest of the bench stays where it is.
    std::thread::scope(|scope| {
        scope.spawn(|| all(binary, scratch)).join().map_err(|_| "the gate's bench panicked".to_owned())?
    })
}
