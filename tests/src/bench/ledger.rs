//! Durable appends over the wire, 64 callers, and the ledger's other rows that need no large log.
//!
//! The callers are blocking clients of the running ledger, so the figure includes the wire, the authority check and
//! the reply. SQLite is called in the bench's own process without any of these: the baseline is as fast as it can be.

use crate::instance::Instance;
use crate::ledger_log::{self, CALLERS, PAYLOAD};
use crate::table::Row;
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_ids::uid;
use octant_sys::clock::monotonic_ns;
use octant_wire::blocking::Client;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const APPENDS_EACH: usize = 200;

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

/// The part that runs as a service's user: appends one after another, with a payload as the caller says; prints
/// nanoseconds, a line each.
pub(crate) fn appender(args: &[String]) -> ExitCode {
    let [socket, payload, count] = args else { return ExitCode::from(2) };
    let one_after_another = || {
        let mut client = Client::connect(Path::new(socket)).map_err(|e| e.to_string())?;
        let payload: serde_json::Value = serde_json::from_str(payload).map_err(|e| e.to_string())?;
        let request = AppendRequest::new(Kind::Note, Json::of(&payload).map_err(|e| e.to_string())?);
        let one = |_| {
            let before = monotonic_ns();
            client.call(&request).map_err(|e| e.to_string())?;
            Ok(monotonic_ns() - before)
        };
        (0..count.parse().unwrap_or(1)).map(one).collect::<Result<Vec<u64>, String>>()
    };
    match one_after_another() {
        Ok(figures) => {
            figures.iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("bench: ledger.append: {why}");
            ExitCode::FAILURE
        }
    }
}

fn appends_a_second(socket: &Path) -> Result<u64, String> {
    let payload = Json::of(&"x".repeat(PAYLOAD)).map_err(|e| e.to_string())?;
    let request = AppendRequest::new(Kind::Note, payload);
    let before = monotonic_ns();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(socket).map_err(|e| e.to_string())?;
                    for _ in 0..APPENDS_EACH {
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
    Ok(ledger_log::rate(CALLERS * APPENDS_EACH, monotonic_ns() - before))
}

/// The rows of the table.
pub(crate) fn rows(instance: &Instance, scratch: &Path) -> Result<Vec<Row>, String> {
    let (mut rows, theirs) = ledger_log::rows(&scratch.join("log"))?;
    let socket = instance.socket("ledger").display().to_string();
    let ours: u64 = as_service("agents", &["ledger-client", &socket])?
        .trim()
        .parse()
        .map_err(|e| format!("ledger-client: {e}"))?;
    rows.push(Row {
        what: format!("the same over the wire, {CALLERS} clients"),
        ours: ours.to_string(),
        peers: format!("SQLite WAL, in process, {theirs}"),
        goal: "none: most of it is the wire".into(),
        met: None,
    });
    Ok(rows)
}
