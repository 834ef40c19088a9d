//! The vault as services meet it: a value and a signature by a lease, each behind a durable entry of the ledger, and what
//! it costs to be refused.
//!
//! The ledger's append is measured from the same process in the same run, with a payload as long as the vault's own intent,
//! since nothing of a secret happens before that entry is on stable storage. All three take turns in blocks: within a
//! block each call still meets the outcome of the one before it on its way to the ledger, as it does in use.

use crate::instance::Instance;
use crate::ledger::as_service;
use crate::table::{Row, Samples, us};
use crate::vault_peers;
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::{Base64, Json};
use octant_api::vault::{self as api, LeaseRequest, Mode, OpenRequest, SignRequest, Token};
use octant_ids::{Layout, SecretName, uid};
use octant_sys::clock::monotonic_ns;
use octant_wire::WireError;
use octant_wire::blocking::Client;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The service as which the bench calls.
const CALLER: &str = "egress";
/// What is opened, what signs, and what exists without having been granted.
const VALUE: &str = "bench/a-value";
const PAIR: &str = "bench/its-pair";
const FORBIDDEN: &str = "bench/granted-not";
const UNKNOWN: &str = "bench/unknown-one";
const BLOCKS: usize = 10;
const CALLS: usize = 300;
/// Calls before those that count, of each kind.
const WARM: usize = 100;
/// Refusals of each kind: each is on record, and twice as many are as many as wait for a ledger that is busy.
const REFUSALS: usize = 2_000;
/// How long a block waits for the records of the one before it.
const BETWEEN: Duration = Duration::from_millis(50);
/// The goal beyond the ledger's append.
const BEYOND: u64 = 60_000;

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Puts a static key file where an instance below `dir` looks for one, so that it makes or unseals its vault by itself.
pub(crate) fn with_key_file(dir: &Path, bytes: &[u8]) -> Result<(), String> {
    let path = Layout::under(dir).etc.join("vault/key");
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(at)?;
    fs::write(&path, bytes).map_err(at)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).map_err(at)?;
    chown(&path, uid::of_service("vault"), None).map_err(at)
}

fn name(text: &str) -> Result<SecretName, String> {
    text.parse().map_err(self::text)
}

fn asked(name: SecretName, kind: api::Kind, generate: bool) -> api::PutRequest {
    let (about, username, url, labels) = Default::default();
    api::PutRequest { name, kind, about, username, url, labels, not_after_ms: None, generate }
}

/// Stores what is measured, as an operator.
fn store(instance: &Instance) -> Result<(), String> {
    let mut client = Client::connect(&instance.socket("vault")).map_err(text)?;
    for secret in [VALUE, FORBIDDEN] {
        let (value, mut writer) = std::io::pipe().map_err(text)?;
        writer.write_all(&[7; 64]).map_err(text)?;
        drop(writer);
        let request = asked(name(secret)?, api::Kind::Opaque, false);
        client.call_with(&request, &[value.as_fd()]).map_err(text)?;
    }
    client.call(&asked(name(PAIR)?, api::Kind::KeyPair, true)).map_err(text)?;
    for (secret, mode) in [(VALUE, Mode::Use), (PAIR, Mode::Sign)] {
        let grant = api::GrantRequest {
            name: name(secret)?,
            to: format!("service:{CALLER}").parse().map_err(text)?,
            modes: vec![mode],
            hosts: Vec::new(),
            ttl_max_ms: None,
            unlimited: false,
            until_ms: None,
            reason: "the bench".to_owned(),
        };
        client.call(&grant).map_err(text)?;
    }
    Ok(())
}

fn lease(name: SecretName, mode: Mode) -> LeaseRequest {
    LeaseRequest { agent: None, manifest: None, cgroup: None, name, mode, ttl_ms: None }
}

/// Everything that the caller measures with.
struct Caller {
    vault: Client,
    ledger: Client,
    append: AppendRequest,
    open: OpenRequest,
    sign: SignRequest,
}

impl Caller {
    fn new(vault: &Path, ledger: &Path) -> Result<Self, String> {
        let mut vault = Client::connect(vault).map_err(text)?;
        let mut token = |secret, mode| -> Result<Token, String> {
            Ok(vault.call(&lease(name(secret)?, mode)).map_err(text)?.token)
        };
        let (value, pair) = (token(VALUE, Mode::Use)?, token(PAIR, Mode::Sign)?);
        // What the vault's own intent says.
        let payload = json!({
            "do": "vault open", "by": format!("service:{CALLER}"), "with": VALUE, "host": null, "version": 1,
        });
        let (agent, cgroup) = (None, None);
        Ok(Self {
            vault,
            ledger: Client::connect(ledger).map_err(text)?,
            append: AppendRequest::new(Kind::Note, Json::of(&payload).map_err(text)?),
            open: OpenRequest { agent, cgroup: cgroup.clone(), token: value, host: None, requests: None },
            sign: SignRequest { agent, cgroup, token: pair, message: Base64(vec![7; 64]), host: None },
        })
    }

    fn append(&mut self) -> Result<(), String> {
        self.ledger.call(&self.append).map(drop).map_err(text)
    }

    /// Until the value is here, not only its descriptor.
    fn open(&mut self) -> Result<(), String> {
        let (opened, mut fds) = self.vault.call_with(&self.open, &[]).map_err(text)?;
        let mut value = [0; 64];
        let mut pipe = File::from(fds.pop().ok_or("no descriptor came")?);
        pipe.read_exact(&mut value).map_err(text)?;
        if value == [7; 64] && opened.bytes == 64 { Ok(()) } else { Err("a wrong value".to_owned()) }
    }

    fn sign(&mut self) -> Result<(), String> {
        self.vault.call(&self.sign).map(drop).map_err(text)
    }

    fn refused(&mut self, request: &LeaseRequest) -> Result<(), String> {
        match self.vault.call(request) {
            Err(WireError::Api(error)) if error.code == octant_api::error::Code::Denied => Ok(()),
            Err(error) => Err(format!("{}: {error}", request.name)),
            Ok(_) => Err(format!("{}: a lease was given", request.name)),
        }
    }
}

/// One kind of call: its name in the client's output, and the call.
type Work = (&'static str, fn(&mut Caller) -> Result<(), String>);

/// What was measured, and nanoseconds: printed when all is done, so that nothing is written between calls.
type Figures = Vec<(&'static str, u64)>;

fn timed(
    figures: &mut Figures,
    name: &'static str,
    work: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let before = monotonic_ns();
    work().map_err(|why| format!("{name}: {why}"))?;
    figures.push((name, monotonic_ns() - before));
    Ok(())
}

fn measure(vault: &Path, ledger: &Path) -> Result<Figures, String> {
    let mut caller = Caller::new(vault, ledger)?;
    let works: [Work; 3] = [("append", Caller::append), ("open", Caller::open), ("sign", Caller::sign)];
    for (_, work) in works {
        (0..WARM).try_for_each(|_| work(&mut caller))?;
    }
    let mut figures = Figures::new();
    for block in 0..BLOCKS * works.len() {
        std::thread::sleep(BETWEEN);
        let (name, work) = works[block % works.len()];
        (0..CALLS).try_for_each(|_| timed(&mut figures, name, || work(&mut caller)))?;
    }
    std::thread::sleep(10 * BETWEEN);
    let mut requests =
        [("unknown", lease(name(UNKNOWN)?, Mode::Use)), ("forbidden", lease(name(FORBIDDEN)?, Mode::Use))];
    for _ in 0..REFUSALS {
        for (name, request) in &requests {
            timed(&mut figures, name, || caller.refused(request))?;
        }
        // Neither always comes after the other.
        requests.reverse();
    }
    Ok(figures)
}

/// The part that runs as a service's user: prints what was measured, a line a call.
pub(crate) fn client(args: &[String]) -> ExitCode {
    let [vault, ledger] = args else { return ExitCode::from(2) };
    match measure(Path::new(vault), Path::new(ledger)) {
        Ok(figures) => {
            figures.iter().for_each(|(name, ns)| println!("{name} {ns}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("bench: vault: {why}");
            ExitCode::FAILURE
        }
    }
}

fn figure(samples: &Samples) -> String {
    format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990)))
}

/// Nanoseconds that a byte takes to another thread and back over a pair of sockets: what the machine takes for every peer
/// more on the way.
fn there_and_back() -> Result<Samples, String> {
    let (mut here, mut there) = UnixStream::pair().map_err(text)?;
    let other = std::thread::spawn(move || -> std::io::Result<()> {
        let mut byte = [0];
        while there.read(&mut byte)? == 1 {
            there.write_all(&byte)?;
        }
        Ok(())
    });
    let mut once = || -> std::io::Result<u64> {
        let before = monotonic_ns();
        here.write_all(&[1])?;
        here.read_exact(&mut [0])?;
        Ok(monotonic_ns() - before)
    };
    let times: Result<Vec<u64>, _> = (0..BLOCKS * CALLS).map(|_| once()).collect();
    drop(here);
    other.join().map_err(|_| "the other thread panicked")?.map_err(text)?;
    Ok(Samples::new(times.map_err(text)?))
}

fn beyond(what: &str, whole: &Samples, append: &Samples, hop: &Samples) -> Row {
    let (rest, share) = (
        whole.median().saturating_sub(append.median()),
        append.median().saturating_mul(100) / whole.median().max(1),
    );
    Row {
        what: what.into(),
        ours: format!(
            "{}; the ledger's durable append of the same size {}, {share} % of it; beyond that p50 {}",
            figure(whole),
            figure(append),
            us(rest)
        ),
        peers: format!("a byte to another thread and back over sockets p50 {}", us(hop.median())),
        goal: format!("p50 ≤ {} beyond the append", us(BEYOND)),
        met: Some(rest <= BEYOND),
    }
}

/// The rows of the table that are measured over the socket.
pub(crate) fn rows(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    eprintln!("bench: vault, over its socket");
    let dir = scratch.join("vault");
    with_key_file(&dir, &[9; 64])?;
    let instance = Instance::start(binary, &dir)?;
    store(&instance)?;
    let sockets = ["vault", "ledger"].map(|name| instance.socket(name).display().to_string());
    let lines = as_service(CALLER, &["vault-client", &sockets[0], &sockets[1]])?;
    let mut samples: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (name, ns) in lines.lines().filter_map(|line| line.split_once(' ')) {
        samples.entry(name).or_default().push(ns.parse().map_err(text)?);
    }
    let mut of = |name: &str| samples.remove(name).map(Samples::new).ok_or_else(|| format!("no {name}"));
    let (append, open, sign) = (of("append")?, of("open")?, of("sign")?);
    let hop = there_and_back()?;
    let (unknown, forbidden) = (of("unknown")?, of("forbidden")?);
    let mut rows = vec![
        beyond("vault.open of 64 bytes by a lease, over the socket, the value read", &open, &append, &hop),
        beyond("vault.sign of 64 bytes by a lease, over the socket", &sign, &append, &hop),
        Row {
            what: format!("vault.lease refused, {REFUSALS} calls of each kind in turns"),
            ours: format!("unknown name {}; name not granted {}", figure(&unknown), figure(&forbidden)),
            peers: String::new(),
            goal: "none: nobody shall tell one from the other".into(),
            met: None,
        },
    ];
    rows.extend(vault_peers::rows(&instance, scratch)?);
    Ok(rows)
}
