//! Durable appends a second with 64 callers, against SQLite (WAL, synchronous=FULL) with one transaction each.
//!
//! The callers are blocking clients of the running ledger, so the figure includes the wire, the authority check and
//! the reply. SQLite is called in the same process without any of these: the baseline is as fast as it can be.

use crate::instance::Instance;
use crate::table::Row;
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_ids::uid;
use octant_sys::clock::monotonic_ns;
use octant_wire::blocking::Client;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

const CALLERS: usize = 64;
const APPENDS_EACH: usize = 200;
const SQLITE_TRANSACTIONS: usize = 1_000;

/// Runs this program again as a service's user, since only services may append.
pub(crate) fn as_service(service: &str, args: &[&str]) -> Result<String, String> {
    let user = uid::of_service(service).ok_or_else(|| format!("no service {service}"))?.to_string();
    let own = std::env::current_exe().map_err(|e| format!("own path: {e}"))?;
    let output = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .arg(own)
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("setpriv: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{}: {}", args.join(" "), output.status))
    }
}

/// The part that runs as a service's user: prints appends a second.
pub(crate) fn client(args: &[String]) -> ExitCode {
    let Some(socket) = args.first() else { return ExitCode::from(2) };
    match appends_a_second(Path::new(socket)) {
        Ok(rate) => {
            println!("{rate}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("bench: ledger.append: {why}");
            ExitCode::FAILURE
        }
    }
}

fn appends_a_second(socket: &Path) -> Result<u64, String> {
    let before = monotonic_ns();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                scope.spawn(move || {
                    let mut client = Client::connect(socket).map_err(|e| e.to_string())?;
                    for i in 0..APPENDS_EACH {
                        let payload = Json::from_text(format!("{{\"caller\":{caller},\"append\":{i}}}"))
                            .map_err(|e| e.to_string())?;
                        let request = AppendRequest { kind: Kind::Note, intent: None, actor: None, payload };
                        client.call(&request).map_err(|e| e.to_string())?;
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().map_err(|_| "a caller panicked".to_owned())?)
    })?;
    Ok(rate(CALLERS * APPENDS_EACH, monotonic_ns() - before))
}

fn rate(count: usize, took_ns: u64) -> u64 {
    (count as u64).saturating_mul(1_000_000_000) / took_ns.max(1)
}

fn sqlite(path: &Path) -> Result<u64, rusqlite::Error> {
    let database = rusqlite::Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, payload TEXT)", [])?;
    let database = Mutex::new(database);
    let before = monotonic_ns();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let database = &database;
                scope.spawn(move || -> Result<(), rusqlite::Error> {
                    for i in 0..SQLITE_TRANSACTIONS.div_ceil(CALLERS) {
                        let payload = format!("{{\"caller\":{caller},\"append\":{i}}}");
                        let database = database.lock().unwrap_or_else(PoisonError::into_inner);
                        database.execute("INSERT INTO entry (payload) VALUES (?1)", [payload])?;
                    }
                    Ok(())
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or(Err(rusqlite::Error::InvalidQuery)))
    })?;
    Ok(rate(SQLITE_TRANSACTIONS.div_ceil(CALLERS) * CALLERS, monotonic_ns() - before))
}

/// The row of the table.
pub(crate) fn row(instance: &Instance, scratch: &Path) -> Result<Row, String> {
    let socket = instance.socket("ledger").display().to_string();
    let ours: u64 = as_service("agents", &["ledger-client", &socket])?
        .trim()
        .parse()
        .map_err(|e| format!("ledger-client: {e}"))?;
    let theirs = sqlite(&scratch.join("peer.sqlite")).map_err(|e| format!("SQLite: {e}"))?;
    Ok(Row {
        what: format!("ledger appends a second, each durable, {CALLERS} callers over the wire"),
        ours: ours.to_string(),
        peers: format!("SQLite WAL, in process, {theirs}"),
        goal: "≥ 20x SQLite".into(),
        met: Some(ours >= theirs.saturating_mul(20)),
    })
}
