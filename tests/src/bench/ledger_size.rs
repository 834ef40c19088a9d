//! A log of a million entries: how long it takes to open when everything that is derived from it is gone, how fast
//! `verify` recomputes it, how fast a query is, and what memory its process needs for all of that.

use crate::instance::{Instance, Process};
use crate::ledger_log::{draft, open};
use crate::table::{Row, Samples, mb, ms};
use octant_api::ledger::{Kind, QueryRequest, VerifyRequest};
use octant_ids::{Aid, Layout, Principal, Sha256, uid};
use octant_ledger::Ledger;
use octant_sys::clock::monotonic_ns;
use octant_tlog::entry::Draft;
use octant_tlog::merkle::leaf_hash;
use octant_wire::blocking::Client;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const ENTRIES: u64 = 1_000_000;
/// Agents whose partitions the entries are in.
const AGENTS: u64 = 100;
/// Appends under way at a time.
const UNDER_WAY: usize = 2_048;
const QUERIES: u64 = 200;
/// The goal for memory, in bytes: 32 MiB.
const MEMORY: u64 = 32 << 20;

fn at(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

fn agent(number: u64) -> Aid {
    Aid::new(1_700_000_000_000 + number, [7; 10])
}

fn subject(number: u64) -> Sha256 {
    leaf_hash(&number.to_be_bytes())
}

/// Entry `number` of the log: at first every agent's partition is opened; then agents make notes, and every other
/// entry has a subject that no other has.
fn entry(number: u64, note: &Draft) -> Draft {
    let about = agent(number % AGENTS);
    if number < AGENTS {
        return Draft { kind: Kind::Lifecycle, agent: Some(about), ..note.clone() };
    }
    let actor = if number.is_multiple_of(3) { note.actor.clone() } else { Principal::Agent(about) };
    let subject = number.is_multiple_of(2).then(|| subject(number));
    Draft { actor, agent: Some(about), subject, ..note.clone() }
}

fn fill(ledger: &Ledger) -> Result<(), String> {
    let note = draft()?;
    let mut under_way = VecDeque::new();
    for number in 0..ENTRIES {
        let queued = ledger.writer().append(entry(number, &note)).map_err(|e| e.to_string())?;
        under_way.push_back(queued);
        if under_way.len() < UNDER_WAY && number + 1 < ENTRIES {
            continue;
        }
        let done = if number + 1 < ENTRIES { 1 } else { under_way.len() };
        for answer in under_way.drain(..done) {
            answer.blocking_recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Removes what can be made again from the segments.
fn forget(state: &Path) -> Result<(), String> {
    let tiles = state.join("tile");
    fs::remove_dir_all(&tiles).map_err(at(&tiles))?;
    for dir in [state.to_owned(), state.join("segments")] {
        for file in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = file.map_err(at(&dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".state") || name.starts_with("index.") {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
    }
    Ok(())
}

/// The part that opens a log in a process of its own: prints nanoseconds.
pub(crate) fn opener(args: &[String]) -> ExitCode {
    let Some(dir) = args.first() else { return ExitCode::from(2) };
    let before = monotonic_ns();
    match open(Path::new(dir)) {
        Ok(ledger) if ledger.reader().tip().seq >= ENTRIES => {
            println!("{}", monotonic_ns() - before);
            ExitCode::SUCCESS
        }
        Ok(ledger) => {
            eprintln!("bench: {dir}: {} entries", ledger.reader().tip().seq);
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("bench: {dir}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn reopened(state: &Path) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let mut command = Command::new(own);
    command.arg("ledger-open").arg(state).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| format!("ledger-open: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|e| format!("ledger-open: {}: {text:?}: {e}", output.status))
}

fn owned_by(path: &Path, user: u32) -> io::Result<()> {
    chown(path, Some(user), Some(user))?;
    if path.is_dir() {
        fs::read_dir(path)?.try_for_each(|file| owned_by(&file?.path(), user))?;
    }
    Ok(())
}

fn verify(client: &mut Client, process: &Process) -> Result<Row, String> {
    let (before, busy) = (monotonic_ns(), process.busy_ns()?);
    let report = client.call(&VerifyRequest::default()).map_err(|e| e.to_string())?;
    let (took, busy) = (monotonic_ns() - before, process.busy_ns()?.saturating_sub(busy));
    if let Some(damage) = report.damage {
        return Err(format!("verify: entry {}: {}", damage.seq, damage.what));
    }
    let a_second = |ns: u64| report.entries.saturating_mul(1_000_000_000) / ns.max(1);
    Ok(Row {
        what: "verify, entries a second of one processor: chain, partitions, tree, tiles, checkpoints".into(),
        ours: format!("{} ({} by the clock)", a_second(busy), a_second(took)),
        peers: String::new(),
        goal: "≥ 100000".into(),
        met: Some(a_second(busy) >= 100_000),
    })
}

fn query(client: &mut Client) -> Result<Row, String> {
    let mut samples = Vec::new();
    for at in 1..=QUERIES {
        let number = (at * ENTRIES / QUERIES).saturating_sub(2).next_multiple_of(2).max(AGENTS);
        let request = QueryRequest { subject: Some(subject(number)), ..QueryRequest::default() };
        let before = monotonic_ns();
        let page = client.call(&request).map_err(|e| e.to_string())?;
        samples.push(monotonic_ns() - before);
        if page.entries.len() != 1 {
            return Err(format!("query: {} entries with the subject of entry {number}", page.entries.len()));
        }
    }
    let samples = Samples::new(samples);
    Ok(Row {
        what: "query for the one entry with a subject among 1,000,000, over the wire".into(),
        ours: format!("p50 {}, p99 {}", ms(samples.median()), ms(samples.at(990))),
        peers: String::new(),
        goal: "none yet".into(),
        met: None,
    })
}

/// The rows of the table.
pub(crate) fn rows(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    eprintln!("bench: a ledger of {ENTRIES} entries");
    let dir = scratch.join("million");
    let state = Layout::under(&dir).state_of("ledger");
    fs::create_dir_all(&state).map_err(at(&state))?;
    fill(&open(&state)?)?;
    forget(&state)?;
    let took = reopened(&state)?;
    let recovery = Row {
        what: "opening a ledger of 1,000,000 entries of which only the segments are left".into(),
        ours: ms(took),
        peers: String::new(),
        goal: "≤ 15 s".into(),
        met: Some(took <= 15_000_000_000),
    };
    forget(&state)?;
    let user = uid::of_service("ledger").ok_or("no service ledger")?;
    owned_by(&state, user).map_err(at(&state))?;
    let instance = Instance::start(binary, &dir)?;
    let process = Process::with_open(&state.join("head"))?;
    process.rests()?;
    let mut client = Client::connect(&instance.socket("ledger")).map_err(|e| e.to_string())?;
    let verified = verify(&mut client, &process)?;
    let queried = query(&mut client)?;
    let (peak, now) = (process.status("VmHWM:")?, process.status("VmRSS:")?);
    let memory = Row {
        what: "resident memory of the ledger's process at 1,000,000 entries, after all of that".into(),
        ours: format!("at most {}, now {}", mb(peak), mb(now)),
        peers: String::new(),
        goal: "≤ 33.6 MB (32 MiB)".into(),
        met: Some(peak <= MEMORY),
    };
    Ok(vec![recovery, verified, queried, memory])
}
