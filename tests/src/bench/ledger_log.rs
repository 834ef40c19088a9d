//! The log itself, in process: durable entries a second with 64 callers, and one durable append after the other; beside
//! SQLite (WAL, synchronous=FULL, one transaction an entry) and fdatasync(2) of a file that was written before.

use crate::table::{Row, Samples, us};
use octant_api::ledger::Kind;
use octant_api::text::Json;
use octant_ids::{Principal, Sha256};
use octant_ledger::{Ledger, Options, WriterLimits};
use octant_sys::clock::monotonic_ns;
use octant_ticket::{Issuer, Keys};
use octant_tlog::entry::{Draft, Place, Stamp, encode};
use rusqlite::Connection;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(crate) const CALLERS: usize = 64;
/// The canonical bytes of an entry, and the bytes of a row of SQLite.
const ENTRY: usize = 400;
/// The text that makes an entry of a service [`ENTRY`] bytes long; [`draft`] checks it.
pub(crate) const PAYLOAD: usize = 298;
/// Both sides take turns, so that neither has the quieter moments.
const ROUNDS: usize = 5;
const APPENDS_EACH: usize = 500;
const TRANSACTIONS_EACH: usize = 16;
const SINGLE: usize = 1_000;

pub(crate) fn rate(count: usize, took_ns: u64) -> u64 {
    (count as u64).saturating_mul(1_000_000_000) / took_ns.max(1)
}

/// Opens the ledger below a directory as its process does, without keys for tickets.
pub(crate) fn open(dir: &Path) -> Result<Ledger, String> {
    let issuer = Issuer::new(Keys::new([]).map_err(|e| e.to_string())?);
    Ledger::open(dir, &"0".repeat(32), Options::default(), WriterLimits::default(), issuer)
        .map_err(|e| e.to_string())
}

/// A note of a service whose entry has [`ENTRY`] canonical bytes.
pub(crate) fn draft() -> Result<Draft, String> {
    let agents = "agents".parse().map_err(|e| format!("agents: {e}"))?;
    let payload = Json::of(&"x".repeat(PAYLOAD)).map_err(|e| e.to_string())?;
    let draft = Draft::new(Principal::Service(agents), Kind::Note, payload);
    let place = Place { seq: 100_000, prev: Sha256::ZERO, boot: [0; 16], partition: None };
    let mut bytes = Vec::new();
    encode(&mut bytes, &draft, &place, Stamp { mono_ns: 1 << 40, wall_ms: 1 << 40 });
    if bytes.len() == ENTRY {
        Ok(draft)
    } else {
        Err(format!("PAYLOAD makes entries of {} bytes instead of {ENTRY}", bytes.len()))
    }
}

/// Entries a second: each caller waits for its entry to be durable before it appends the next.
fn ours(ledger: &Ledger, draft: &Draft) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    let before = monotonic_ns();
    runtime.block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (ledger, draft) = (ledger.clone(), draft.clone());
            callers.spawn(async move {
                for _ in 0..APPENDS_EACH {
                    let answer = ledger.writer().append(draft.clone()).map_err(|e| e.to_string())?;
                    answer.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
                }
                Ok::<(), String>(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
        Ok::<(), String>(())
    })?;
    Ok(rate(CALLERS * APPENDS_EACH, monotonic_ns() - before))
}

/// A database as a careful program would set it up for this.
fn database(path: &Path) -> Result<Connection, rusqlite::Error> {
    let database = Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, bytes BLOB)", [])?;
    Ok(database)
}

const INSERT: &str = "INSERT INTO entry (bytes) VALUES (?1)";

/// The callers take turns with one connection: with one each they would wait for SQLite's lock instead, longer.
fn theirs(database: &Mutex<Connection>) -> Result<u64, rusqlite::Error> {
    let before = monotonic_ns();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| -> Result<(), rusqlite::Error> {
                    for _ in 0..TRANSACTIONS_EACH {
                        let database = database.lock().unwrap_or_else(PoisonError::into_inner);
                        database.prepare_cached(INSERT)?.execute([[7_u8; ENTRY]])?;
                    }
                    Ok(())
                })
            })
            .collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or(Err(rusqlite::Error::InvalidQuery)))
    })?;
    Ok(rate(CALLERS * TRANSACTIONS_EACH, monotonic_ns() - before))
}

fn timed<T, E: std::fmt::Display>(
    samples: &mut Vec<u64>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<(), String> {
    let before = monotonic_ns();
    let done = work();
    samples.push(monotonic_ns() - before);
    done.map(drop).map_err(|e| e.to_string())
}

/// One append, one transaction and one fdatasync, in turn.
fn single(
    ledger: &Ledger,
    draft: &Draft,
    database: &Connection,
    written: &Path,
) -> Result<[Samples; 3], String> {
    let io = |e: std::io::Error| format!("{}: {e}", written.display());
    fs::write(written, vec![0; SINGLE * ENTRY]).map_err(io)?;
    let file = File::options().write(true).open(written).map_err(io)?;
    file.sync_all().map_err(io)?;
    let (mut appends, mut transactions, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..SINGLE {
        timed(&mut appends, || {
            let answer = ledger.writer().append(draft.clone()).map_err(|e| e.to_string())?;
            answer.blocking_recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string())
        })?;
        timed(&mut transactions, || database.prepare_cached(INSERT)?.execute([[7_u8; ENTRY]]))?;
        timed(&mut syncs, || {
            file.write_all_at(&[7; ENTRY], (at * ENTRY) as u64).and_then(|()| file.sync_data())
        })?;
    }
    Ok([appends, transactions, syncs].map(Samples::new))
}

/// The rows of the table, and SQLite's entries a second.
pub(crate) fn rows(dir: &Path) -> Result<(Vec<Row>, u64), String> {
    let state = dir.join("ledger");
    fs::create_dir_all(&state).map_err(|e| format!("{}: {e}", state.display()))?;
    let (ledger, draft) = (open(&state)?, draft()?);
    let sqlite = |e: rusqlite::Error| format!("SQLite: {e}");
    let database = Mutex::new(database(&dir.join("peer.sqlite")).map_err(sqlite)?);
    let (mut our_rates, mut their_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        their_rates.push(theirs(&database).map_err(sqlite)?);
        our_rates.push(ours(&ledger, &draft)?);
    }
    let (our_rate, their_rate) = (Samples::new(our_rates).median(), Samples::new(their_rates).median());
    let database = database.into_inner().unwrap_or_else(PoisonError::into_inner);
    let [append, transaction, sync] = single(&ledger, &draft, &database, &dir.join("written"))?;
    let many = Row {
        what: format!("ledger entries a second, each durable, {ENTRY} bytes, {CALLERS} callers, in process"),
        ours: our_rate.to_string(),
        peers: format!("SQLite WAL, synchronous=FULL, a transaction an entry: {their_rate}"),
        goal: "≥ 20x SQLite".into(),
        met: Some(our_rate >= their_rate.saturating_mul(20)),
    };
    let one = Row {
        what: format!("one durable append, p50, {ENTRY} bytes"),
        ours: us(append.median()),
        peers: format!(
            "fdatasync of a file written before {}; a transaction of SQLite {}",
            us(sync.median()),
            us(transaction.median())
        ),
        goal: "≤ fdatasync + 300 µs".into(),
        met: Some(append.median() <= sync.median() + 300_000),
    };
    Ok((vec![many, one], their_rate))
}
