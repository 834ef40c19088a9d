//! The router: what a request through it costs beyond the ledger's append, beside other gateways.
//!
//! The provider is the tests' double, a process of its own on the same machine. The client is one program (`router_client.rs`),
//! inside a workstation, and outside for what it asks straight and through the others.

use crate::gate::{Program, figures, spawn};
use crate::instance::Instance;
use crate::ledger::as_service;
use crate::router_client::A_SECOND;
use crate::router_peers::{Gateway, busy_ns};
use crate::spawn::{operator, signed};
use crate::table::{Row, Samples, mb, ms, us};
use crate::vault::{text, with_key_file};
use octant_api::agents::WaitRequest;
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_sys::clock::monotonic_ns;
use octant_tests::agents::Agent;
use octant_wire::blocking::Client;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// Where programs find the router.
const INSIDE: &str = "127.0.0.1:7070";
const PATH: &str = "/v1/chat/completions";
/// The key that the double gets, and its name.
const SECRET: [&str; 2] = ["bench/provider", "sk-bench-of-the-router"];
/// The ways take turns in blocks of so many requests, on so many connections.
const BLOCKS: usize = 3;
const REQUESTS: usize = 2000;
const CONNECTIONS: usize = 16;
/// Requests by which processor time is measured: the difference of two runs, so that starting a program is not in it.
const FEW: usize = 512;
const MANY: usize = 4096;
/// The same of the others, which take longer.
const OF_OTHERS: usize = 200;
/// Streams one after another.
const STREAMS: usize = 200;
/// Streams at once: so many agents with so many each, and for how many seconds.
const AGENTS: usize = 5;
const EACH: usize = 200;
const HELD_S: usize = 30;
/// How long one program's work may take.
const DONE_WITHIN_MS: u64 = 120_000;

/// The double; dropping it ends it.
struct Upstream {
    child: Child,
    at: SocketAddr,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Upstream {
    fn start(program: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(text)?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output of the double")?;
        BufReader::new(output).read_line(&mut line).map_err(text)?;
        let at = line.trim().parse().map_err(|_| format!("the double says {line:?}"))?;
        Ok(Self { child, at })
    }
}

/// What one program does.
struct Work<'a> {
    name: &'a str,
    work: &'a str,
    model: &'a str,
    count: usize,
    each: usize,
}

/// An instance whose router has the double as its provider.
struct Router {
    instance: Instance,
    upstream: Upstream,
    scratch: PathBuf,
    program: Program,
    binary: PathBuf,
}

impl Router {
    fn start(binary: &Path, scratch: &Path, upstream: Upstream) -> Result<Self, String> {
        let (scratch, dir) = (scratch.join("router"), scratch.join("router/instance"));
        with_key_file(&dir, &[9; 64])?;
        let config = format!(
            "[[provider]]\nname = \"bench\"\nbase = \"http://{}/v1\"\ndialect = \"chat\"\nauth = \"bearer\"\n\
             stream_usage = true\nlocal = true\n{}",
            upstream.at,
            ["text", "text-pace1000", "count"].map(deployment).concat()
        );
        let etc = octant_ids::Layout::under(&dir).etc;
        fs::create_dir_all(&etc).map_err(text)?;
        fs::write(etc.join("router.toml"), config).map_err(text)?;
        let instance = Instance::start(binary, &dir)?;
        operator(&instance, &scratch)?;
        let secret = scratch.join("secret");
        fs::write(&secret, SECRET[1]).map_err(text)?;
        instance.must(&["vault", "put", SECRET[0], "--from", &secret.display().to_string()])?;
        let host = upstream.at.ip().to_string();
        instance.must(&[
            "vault",
            "grant",
            SECRET[0],
            "--to",
            "service:router",
            "--mode",
            "use",
            "--host",
            &host,
            "--reason",
            "bench",
        ])?;
        instance.must(&["router", "reload"])?;
        Ok(Self { instance, upstream, scratch, program: Program::new()?, binary: binary.to_owned() })
    }

    /// Starts an agent that does a work.
    fn spawn(&self, agents: &mut Client, work: &Work<'_>) -> Result<String, String> {
        let words = words(work, INSIDE, &format!("bench/{}", work.model), &[]);
        let args: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let agent = Agent {
            name: work.name,
            role: "admin",
            program: &self.program.path(),
            args: &args.join(", "),
            read: "",
            ..Agent::USUAL
        };
        let manifest = agent.manifest("bench").replace("nofile = 256", "nofile = 1024");
        let manifest = manifest.replace(
            "[models]\nallowed = []",
            "[models]\nallowed = [\"bench/*\"]\ntokens = 1000000000\nspend_usd = 10000",
        );
        spawn(agents, &signed(&self.instance, &self.scratch, work.name, &manifest)?)
    }

    /// Does a work inside, to its end.
    fn inside(&self, work: &Work<'_>) -> Result<Vec<u64>, String> {
        let mut agents = Client::connect(&self.instance.socket("agents")).map_err(text)?;
        let agent = self.spawn(&mut agents, work)?;
        let wait = WaitRequest { agent: agent.clone() };
        agents
            .call_within(&wait, DONE_WITHIN_MS)
            .map_err(|e| format!("agents.wait for {}: {e}", work.name))?;
        let said = self.instance.must(&["agent", "logs", &agent])?;
        figures(&said).map_err(|why| format!("{}: {why}", work.name))
    }

    /// The same outside: straight, or through another.
    fn outside(&self, work: &Work<'_>, through: Option<&Gateway>) -> Result<Vec<u64>, String> {
        let straight = ["Authorization: Bearer sk-bench".to_owned()];
        let (at, headers) =
            through.map_or((self.upstream.at, &straight[..]), |gateway| (gateway.at, &gateway.headers));
        let output = Command::new(self.program.path())
            .args(words(work, &at.to_string(), work.model, headers))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("{}: {e}", self.program.path()))?;
        match output.status.success() {
            true => figures(&String::from_utf8_lossy(&output.stdout)),
            false => Err(format!("{}, outside: {}", work.name, output.status)),
        }
    }

    /// Nanoseconds of durable appends at the same rate, as long as what the router puts on record before it asks.
    fn appends(&self) -> Result<Vec<u64>, String> {
        let socket = self.instance.socket("ledger").display().to_string();
        figures(&as_service("router", &["router-append", &socket])?)
    }

    /// The same one after another.
    fn appends_in_turn(&self, count: usize) -> Result<Vec<u64>, String> {
        let socket = self.instance.socket("ledger").display().to_string();
        figures(&as_service(
            "router",
            &["ledger-append", &socket, &payload().to_string(), &count.to_string()],
        )?)
    }

    /// Nanoseconds of processor time of every process of ours.
    fn busy_ns(&self) -> Result<u64, String> {
        busy_ns(|process| fs::read_link(process.join("exe")).is_ok_and(|exe| exe == self.binary))
    }
}

fn deployment(script: &str) -> String {
    format!(
        "[[deployment]]\nname = \"{script}\"\nprovider = \"bench\"\nmodel = \"{script}\"\nkey = \"{}\"\nwindow = 100000\n\
         max_output = 10000\ncan = [\"tools\", \"streaming\"]\nprice = {{ input = 1000000, output = 2000000 }}\n",
        SECRET[0]
    )
}

/// The words of a program that does this work.
fn words(work: &Work<'_>, at: &str, model: &str, headers: &[String]) -> Vec<String> {
    let own = ["router-client", work.work, at, PATH, model].map(str::to_owned);
    let numbers = [work.count.to_string(), work.each.to_string()];
    own.into_iter().chain(numbers).chain(headers.iter().cloned()).collect()
}

/// Something as long as what the router puts on record before it asks.
fn payload() -> serde_json::Value {
    serde_json::json!({"do": "ask a model", "model": "bench/text", "dialect": "Chat", "stream": false,
        "prompt_sha256": "0".repeat(64), "generation": 1, "reserved": {"tokens": 120, "microusd": 240},
        "to": [{"deployment": "text", "model": "bench/text", "host": "127.0.0.1", "key": SECRET[0]}]})
}

/// The part that runs as the router's user: appends at a rate, on as many connections as the requests have; prints nanoseconds.
pub(crate) fn appender(args: &[String]) -> ExitCode {
    let Some(socket) = args.first() else { return ExitCode::from(2) };
    let one = |number: usize, begin: u64| -> Result<Vec<u64>, String> {
        let mut client = Client::connect(Path::new(socket)).map_err(text)?;
        let request = AppendRequest::new(Kind::Note, Json::of(&payload()).map_err(text)?);
        let every = CONNECTIONS as u64 * 1_000_000_000 / A_SECOND;
        let mut due = begin + every * number as u64 / CONNECTIONS as u64;
        let mut took = Vec::new();
        for _ in 0..REQUESTS / CONNECTIONS {
            due += every;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(monotonic_ns())));
            let before = monotonic_ns();
            client.call(&request).map_err(text)?;
            took.push(monotonic_ns() - before);
        }
        Ok(took)
    };
    let begin = monotonic_ns() + 50_000_000;
    let all: Result<Vec<Vec<u64>>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|number| scope.spawn(move || one(number, begin))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    match all {
        Ok(all) => {
            all.concat().iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("bench: appends as the router: {why}");
            ExitCode::FAILURE
        }
    }
}

fn figure(samples: &Samples) -> String {
    format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990)))
}

/// What is left of a figure behind the way straight and one append: a call waits for two at the same time, for what the
/// router is about to ask and for what the vault is about to give it. None where that is lost in their noise.
fn beyond(all: &Samples, straight: &Samples, append: &Samples, per_mille: usize) -> Option<u64> {
    all.at(per_mille).checked_sub(straight.at(per_mille) + append.at(per_mille))
}

fn latency(router: &Router) -> Result<Row, String> {
    eprintln!("bench: requests through the router, {A_SECOND} a second");
    let [mut through, mut straight, mut appends] = [const { Vec::new() }; 3];
    for block in 0..BLOCKS {
        let name = format!("rate-{block}");
        let work = Work { name: &name, work: "rate", model: "text", count: REQUESTS, each: CONNECTIONS };
        straight.extend(router.outside(&work, None)?);
        appends.extend(router.appends()?);
        through.extend(router.inside(&work)?);
    }
    let [through, straight, appends] = [through, straight, appends].map(Samples::new);
    let (p50, p99) = (beyond(&through, &straight, &appends, 500), beyond(&through, &straight, &appends, 990));
    let said = |ns: Option<u64>| ns.map_or_else(|| "lost in the noise of the appends".to_owned(), us);
    Ok(Row {
        what: format!("a request through the router, {A_SECOND} a second, {} in all", BLOCKS * REQUESTS),
        ours: format!(
            "{}; straight {}; the ledger's durable append {}; beyond both p50 {}, p99 {}",
            figure(&through),
            figure(&straight),
            figure(&appends),
            said(p50),
            said(p99)
        ),
        peers: String::new(),
        goal: "p50 ≤ 150 µs and p99 ≤ 1 ms beyond both".into(),
        met: p50.zip(p99).map(|(p50, p99)| p50 <= 150_000 && p99 <= 1_000_000),
    })
}

/// Processor time of a request in each, and how long it takes where requests follow each other.
fn cost(router: &Router, others: &[Result<Gateway, String>]) -> Result<Row, String> {
    eprintln!("bench: processor time of requests");
    let mut spent = Vec::new();
    let mut took = Samples::new(Vec::new());
    for (name, count) in [("few", FEW), ("many", MANY)] {
        let before = router.busy_ns()?;
        took = Samples::new(router.inside(&Work {
            name,
            work: "busy",
            model: "text",
            count,
            each: CONNECTIONS,
        })?);
        spent.push(router.busy_ns()?.saturating_sub(before));
    }
    let ours = spent[1].saturating_sub(spent[0]) / (MANY - FEW) as u64;
    let mut peers = Vec::new();
    let mut least = None;
    for other in others {
        let gateway = match other {
            Ok(gateway) => gateway,
            Err(why) => {
                peers.push(why.clone());
                continue;
            }
        };
        let work = Work { name: "busy", work: "busy", model: "text", count: OF_OTHERS, each: 4 };
        let once = || -> Result<(u64, Samples), String> {
            // Once before, so that nothing is done for the first time.
            router.outside(&work, Some(gateway))?;
            let before = gateway.busy_ns()?;
            let took = Samples::new(router.outside(&work, Some(gateway))?);
            // Each of its connections asks once more than is counted.
            Ok(((gateway.busy_ns()? - before) / (OF_OTHERS + 4) as u64, took))
        };
        let Ok((each, took)) = once() else {
            peers.push(format!("{} does not answer these requests", gateway.name));
            continue;
        };
        peers.push(format!("{} {} (p50 {})", gateway.name, us(each), ms(took.median())));
        if gateway.name == "LiteLLM" {
            least = Some(each / 20);
        }
    }
    Ok(Row {
        what: "processor time of a request that is not a stream, all processes of ours; peers: of theirs, without a record"
            .into(),
        ours: format!("{} (p50 {}, {CONNECTIONS} connections, as fast as they go)", us(ours), ms(took.median())),
        peers: peers.join("; "),
        goal: "≤ 150 µs, and 20x less than LiteLLM".into(),
        met: Some(ours <= 150_000 && least.is_none_or(|least| ours <= least)),
    })
}

fn first(router: &Router, others: &[Result<Gateway, String>]) -> Result<Row, String> {
    eprintln!("bench: the first piece of streams");
    let work = Work { name: "first", work: "first", model: "count", count: STREAMS, each: 1 };
    let straight = Samples::new(router.outside(&work, None)?);
    let appends = Samples::new(router.appends_in_turn(STREAMS)?);
    let through = Samples::new(router.inside(&work)?);
    let mut peers = Vec::new();
    for other in others.iter().flatten().filter(|gateway| gateway.name != "LiteLLM") {
        peers.push(match router.outside(&work, Some(other)) {
            Ok(took) => format!("{} {}", other.name, figure(&Samples::new(took))),
            Err(_) => format!("{} does not answer these streams", other.name),
        });
    }
    let added = beyond(&through, &straight, &appends, 500);
    let said = added.map_or_else(|| "lost in the noise of the appends".to_owned(), us);
    Ok(Row {
        what: format!("a stream's first piece, {STREAMS} one after another"),
        ours: format!(
            "{}; straight {}; the ledger's durable append {}; beyond both p50 {said}",
            figure(&through),
            figure(&straight),
            figure(&appends)
        ),
        peers: peers.join("; "),
        goal: "p50 ≤ 200 µs beyond both".into(),
        met: added.map(|ns| ns <= 200_000),
    })
}

fn resident(router: &Router) -> Result<Row, String> {
    eprintln!("bench: {} streams at once", AGENTS * EACH);
    let idle = Instance::pss_of_service("router")?;
    let mut agents = Client::connect(&router.instance.socket("agents")).map_err(text)?;
    let mut spawned = Vec::new();
    for number in 0..AGENTS {
        let name = format!("open-{number}");
        let work = Work { name: &name, work: "open", model: "text-pace1000", count: EACH, each: HELD_S };
        let agent = router.spawn(&mut agents, &work)?;
        let until = monotonic_ns() + 60_000_000_000;
        while !router.instance.must(&["agent", "logs", &agent])?.lines().any(|line| line == EACH.to_string())
        {
            if monotonic_ns() > until {
                return Err(format!("agent {agent} has not opened its streams"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        spawned.push(agent);
    }
    let bytes = Instance::pss_of_service("router")?;
    for agent in spawned {
        router.instance.must(&["agent", "kill", &agent])?;
    }
    Ok(Row {
        what: format!("memory of the router with {} streams open (PSS)", AGENTS * EACH),
        ours: format!("{}; {} before", mb(bytes), mb(idle)),
        peers: String::new(),
        goal: "≤ 40 MiB".into(),
        met: Some(bytes <= 40 << 20),
    })
}

/// The rows of the table.
pub(crate) fn rows(binary: &Path, scratch: &Path, double: &Path) -> Result<Vec<Row>, String> {
    let router = Router::start(binary, scratch, Upstream::start(double)?)?;
    let mut rows = vec![latency(&router)?];
    let at = router.upstream.at;
    let others = [Gateway::litellm(&router.scratch, at), Gateway::portkey(at)];
    rows.extend([cost(&router, &others)?, first(&router, &others)?]);
    drop(others);
    rows.push(resident(&router)?);
    Ok(rows)
}
