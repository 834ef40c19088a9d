//! The index: which entries a query has to read. It is made from the log, can be thrown away at any time, and only
//! queries use it; `verify` never looks at it, and whoever asks it reads the entries that it names and checks them.
//!
//! It is a SQLite database (`schema.sql`), laid out by runs of [`RUN`] entries: for each run and each thing that
//! entries of it have in common, one row has their places. A query intersects these sets run by run, so what it costs
//! depends on how many runs there are and not on how many entries match half of it; and adding an entry writes to the
//! pages of the last run only. An index with one row for each entry and digest takes ten times as long to build,
//! because the cache is small and digests are random.
//!
//! *Journal*: WAL with synchronous=NORMAL. A commit then costs no sync, and what stands after a loss of power is the
//! index as of some earlier commit, which is caught up from the log. With synchronous=OFF it could be a mixture that
//! nobody notices. The lock is exclusive, which keeps SQLite from sharing memory through a file.
//! *Memory*: at most 2 MiB of pages, no memory map, nothing sorted: no statement needs a temporary table or file.

use octant_api::ledger::{Entry, QueryRequest};
use octant_ids::Sha256;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod error;
mod places;
mod terms;
#[cfg(test)]
mod tests;

pub(crate) use error::IndexError;
use error::{reading, writing};
pub(crate) use places::RUN;
use places::{LAST, Places};
use terms::{Asked, Term, What, stored_ms};

const SCHEMA: &str = include_str!("schema.sql");
/// The version of what `schema.sql` says. An index of another version is made anew.
const VERSION: i64 = 1;
/// Marks the file as this index (SQLite's application_id): "OCTI".
const APPLICATION: i64 = 0x4f43_5449;
/// How many runs one [`Index::find`] looks at, which is 16 million entries: some tens of milliseconds.
const RUNS_MAX: u64 = 4096;

/// `page_size` first, since it only counts before anything is written. 4 KiB pages were the best of 1 to 16 KiB for
/// what is written to disk, and as good as any in time. The journal's 4 MiB are two syncs for about 5,000 entries.
const SETTINGS: &str = "
    PRAGMA page_size = 4096;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 1024;
    PRAGMA journal_size_limit = 4194304;
    PRAGMA cache_size = -2048;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
";

const READ_STATE: &str = "SELECT first, last, hash FROM state WHERE one = 1";
const WRITE_STATE: &str = "INSERT OR REPLACE INTO state (one, first, last, hash) VALUES (1, ?1, ?2, ?3)";
const ADD_ENTRY: &str = "INSERT INTO entry (seq, wall_ms) VALUES (?1, ?2)";
const READ_LAST: &str = "SELECT max(seq) FROM entry";
const WRITE_SPAN: &str = "INSERT INTO span (run, min_ms, max_ms) VALUES (?1, ?2, ?3) ON CONFLICT (run) DO UPDATE \
     SET min_ms = min(min_ms, excluded.min_ms), max_ms = max(max_ms, excluded.max_ms)";
const READ_SPAN: &str = "SELECT min_ms, max_ms FROM span WHERE run = ?1";
const READ_TIMES: &str = "SELECT seq FROM entry WHERE seq BETWEEN ?1 AND ?2 AND wall_ms BETWEEN ?3 AND ?4";
const READ_PLACES: &str = "SELECT places FROM posting WHERE run = ?1 AND what = ?2 AND key = ?3";
const WRITE_PLACES: &str = "INSERT OR REPLACE INTO posting (run, what, key, places) VALUES (?1, ?2, ?3, ?4)";

/// What [`Index::find`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The numbers of entries, ascending.
    pub(crate) seqs: Vec<u64>,
    /// The first entry that was not looked at, when not all were.
    pub(crate) next: Option<u64>,
}

/// What is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    first: u64,
    last: u64,
    hash: Sha256,
}

impl State {
    const EMPTY: Self = Self { first: 0, last: 0, hash: Sha256::ZERO };

    fn read(database: &Connection) -> Result<Self, IndexError> {
        let what = "the state";
        let row = database
            .prepare_cached(READ_STATE)
            .and_then(|mut statement| {
                statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
            })
            .map_err(reading(what))?;
        let Some((first, last, hash)) = row else { return Ok(Self::EMPTY) };
        if first == 0 || first > last {
            return Err(IndexError::Form { what });
        }
        Ok(Self { first, last, hash: Sha256(hash) })
    }

    fn write(&self, database: &Connection) -> Result<(), IndexError> {
        database
            .prepare_cached(WRITE_STATE)
            .and_then(|mut statement| statement.execute((self.first, self.last, self.hash.0)))
            .map(|_one| ())
            .map_err(writing("the state"))
    }
}

/// The index in its file. It has one owner: SQLite's lock keeps every other connection out.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    database: Connection,
    /// Why what stood there was thrown away, if it was.
    pub(crate) rebuilt: Option<String>,
}

impl Index {
    /// Opens the index at `path`, or makes an empty one. One that is damaged, of another version or not an index at
    /// all is removed and made anew; [`Index::rebuilt`] then says why.
    ///
    /// # Errors
    /// [`IndexError::Open`], [`IndexError::Remove`]: the directory or the disk does not let it.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        let opened = |database, rebuilt| Self { path: path.to_owned(), database, rebuilt };
        match connect(path) {
            Ok(database) => Ok(opened(database, None)),
            Err(error) if error.is_damage() => {
                remove(path)?;
                Ok(opened(connect(path)?, Some(error.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    /// The number of the last entry that is indexed, and its hash; 0 and zeros when none is.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(crate) fn upto(&self) -> Result<(u64, Sha256), IndexError> {
        State::read(&self.database).map(|state| (state.last, state.hash))
    }

    /// Makes it empty, whatever is in it.
    ///
    /// # Errors
    /// [`IndexError::Open`], [`IndexError::Remove`]; the index cannot be used then until this succeeds.
    pub(crate) fn clear(&mut self) -> Result<(), IndexError> {
        let opening = |source| IndexError::Open { path: self.path.clone(), source };
        let nothing = Connection::open_in_memory().map_err(opening)?;
        drop(std::mem::replace(&mut self.database, nothing));
        remove(&self.path)?;
        self.database = connect(&self.path)?;
        Ok(())
    }

    /// Adds entries that follow the last one, all or none. It is quickest with whole runs ([`RUN`]). Into an empty
    /// index any entry can come first: those before it may be archived.
    ///
    /// # Errors
    /// [`IndexError`]; the index is as it was.
    pub(crate) fn add(&mut self, entries: &[Entry]) -> Result<(), IndexError> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let write = self.database.transaction().map_err(writing("the beginning"))?;
        let before = State::read(&write)?;
        if let Some(entry) = entries.iter().find(|entry| entry.seq == 0 || i64::try_from(entry.seq).is_err())
        {
            return Err(IndexError::Number(entry.seq));
        }
        let mut at = if before.last == 0 { first.seq - 1 } else { before.last };
        for entry in entries {
            if entry.seq != at + 1 {
                return Err(IndexError::Order { last: at, found: entry.seq });
            }
            at = entry.seq;
        }
        for part in entries.chunk_by(|one, next| run_of(one.seq) == run_of(next.seq)) {
            add_run(&write, part, before.last)?;
        }
        let first = if before.last == 0 { first.seq } else { before.first };
        State { first, last: last.seq, hash: last.hash }.write(&write)?;
        write.commit().map_err(writing("the end"))
    }

    /// The entries from number `from` on that match, at most `limit` (0 is 1), in the next 16 million entries. They are
    /// candidates: the caller checks each against the entry itself.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(crate) fn find(&self, query: &QueryRequest, from: u64, limit: usize) -> Result<Found, IndexError> {
        self.find_within(RUNS_MAX, query, from, limit)
    }

    fn find_within(
        &self,
        runs: u64,
        query: &QueryRequest,
        from: u64,
        limit: usize,
    ) -> Result<Found, IndexError> {
        let state = State::read(&self.database)?;
        let start = from.max(query.from).max(state.first).max(1);
        let mut found = Found { seqs: Vec::new(), next: None };
        if start > state.last {
            return Ok(found);
        }
        let asked = Asked::of(query);
        for run in run_of(start)..=run_of(state.last) {
            if run - run_of(start) >= runs {
                found.next = Some(seq_at(run, 0));
                break;
            }
            for place in self.matching(run, &asked, start, state.last)?.iter() {
                if found.seqs.len() >= limit.max(1) {
                    found.next = Some(seq_at(run, place));
                    return Ok(found);
                }
                found.seqs.push(seq_at(run, place));
            }
        }
        Ok(found)
    }

    /// The places of a run that match, between two entries, both included.
    fn matching(&self, run: u64, asked: &Asked, start: u64, last: u64) -> Result<Places, IndexError> {
        let mut places = Places::range(place_in(run, start), place_in(run, last));
        if let Some(times) = &asked.times {
            places.intersect(&self.within(run, times.clone().into_inner())?);
        }
        for condition in &asked.conditions {
            if places.is_empty() {
                break;
            }
            let mut any = Places::none();
            for term in &condition.any {
                any.unite(&read_places(&self.database, run, term)?.unwrap_or_else(Places::none));
            }
            if let Some(seq) = condition.or_seq.filter(|seq| *seq > 0 && run_of(*seq) == run) {
                any.insert(place_in(run, seq));
            }
            places.intersect(&any);
        }
        Ok(places)
    }

    /// The places of a run whose time lies between two, both included.
    fn within(&self, run: u64, (earliest, latest): (i64, i64)) -> Result<Places, IndexError> {
        let (min, max): (i64, i64) = self
            .database
            .prepare_cached(READ_SPAN)
            .and_then(|mut statement| statement.query_row([run], |row| Ok((row.get(0)?, row.get(1)?))))
            .map_err(reading("the times"))?;
        if max < earliest || min > latest {
            return Ok(Places::none());
        }
        let (low, high) = (seq_at(run, 0), seq_at(run, LAST));
        if min >= earliest && max <= latest {
            return Ok(Places::range(0, LAST));
        }
        let mut places = Places::none();
        let mut statement = self.database.prepare_cached(READ_TIMES).map_err(reading("the times"))?;
        let mut rows = statement.query((low, high, earliest, latest)).map_err(reading("the times"))?;
        while let Some(row) = rows.next().map_err(reading("the times"))? {
            places.insert(place_in(run, row.get(0).map_err(reading("the times"))?));
        }
        Ok(places)
    }
}

/// The run that an entry is in. Numbers begin at 1.
fn run_of(seq: u64) -> u64 {
    seq.saturating_sub(1) / RUN
}

/// The number of the entry at a place of a run.
fn seq_at(run: u64, place: u16) -> u64 {
    run * RUN + 1 + u64::from(place)
}

/// Where a number stands in a run; the run's first or last place when the number is before or behind it.
fn place_in(run: u64, seq: u64) -> u16 {
    u16::try_from(seq.saturating_sub(seq_at(run, 0))).map_or(LAST, |place| place.min(LAST))
}

/// Adds entries of one run. `before` is the last entry that was indexed before them.
fn add_run(write: &Transaction<'_>, entries: &[Entry], before: u64) -> Result<(), IndexError> {
    let Some(first) = entries.first() else { return Ok(()) };
    let run = run_of(first.seq);
    let mut terms = Vec::with_capacity(entries.len() * 5);
    let mut add = write.prepare_cached(ADD_ENTRY).map_err(writing("an entry"))?;
    for entry in entries {
        add.execute((entry.seq, stored_ms(entry.wall_ms))).map_err(writing("an entry"))?;
        let place = place_in(run, entry.seq);
        terms.extend(Term::of(entry).map(|term| (term, place)));
    }
    let times = || entries.iter().map(|entry| stored_ms(entry.wall_ms));
    write
        .prepare_cached(WRITE_SPAN)
        .and_then(|mut span| span.execute((run, times().min(), times().max())))
        .map_err(writing("the times"))?;
    // In the order of the rows, so that each page is touched once.
    terms.sort_unstable();
    let fresh = before < seq_at(run, 0);
    let mut place = write.prepare_cached(WRITE_PLACES).map_err(writing("places"))?;
    for same in terms.chunk_by(|(one, _), (next, _)| one == next) {
        let Some((term, _)) = same.first() else { continue };
        let known = if fresh { None } else { read_places(write, run, term)? };
        let mut places = known.unwrap_or_else(Places::none);
        same.iter().for_each(|(_, at)| places.insert(*at));
        place.execute((run, term.what as u8, &term.key, places.encode())).map_err(writing("places"))?;
    }
    Ok(())
}

fn read_places(database: &Connection, run: u64, term: &Term) -> Result<Option<Places>, IndexError> {
    let what = match term.what {
        What::Subject => "the subjects",
        What::Intent => "the intents",
        What::Agent => "the agents",
        What::Actor => "the actors",
        What::Kind => "the kinds",
    };
    let mut statement = database.prepare_cached(READ_PLACES).map_err(reading(what))?;
    let mut rows = statement.query((run, term.what as u8, &term.key)).map_err(reading(what))?;
    let Some(row) = rows.next().map_err(reading(what))? else { return Ok(None) };
    let bytes = row.get_ref(0).map_err(reading(what))?.as_blob();
    bytes.ok().and_then(Places::decode).map(Some).ok_or(IndexError::Form { what })
}

/// Opens the database at `path`, making it when there is none. What stands there must be exactly what this version
/// would have made.
fn connect(path: &Path) -> Result<Connection, IndexError> {
    let opening = |source| IndexError::Open { path: path.to_owned(), source };
    let mut database = Connection::open(path).map_err(opening)?;
    // Whoever else has it open does not let go of it soon; the ledger's own lock comes before this one.
    database.busy_timeout(Duration::ZERO).map_err(opening)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(opening)?;
    database.execute_batch(SETTINGS).map_err(opening)?;
    if tables(&database)?.is_empty() {
        let make = database.transaction().map_err(opening)?;
        make.execute_batch(SCHEMA).map_err(opening)?;
        make.pragma_update(None, "application_id", APPLICATION).map_err(opening)?;
        make.pragma_update(None, "user_version", VERSION).map_err(opening)?;
        make.commit().map_err(opening)?;
    }
    let number = |name| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(opening);
    if number("application_id")? != APPLICATION {
        return Err(IndexError::Form { what: "the mark" });
    }
    if number("user_version")? != VERSION {
        return Err(IndexError::Form { what: "the version" });
    }
    let model = Connection::open_in_memory().map_err(opening)?;
    model.execute_batch(SCHEMA).map_err(opening)?;
    if tables(&database)? != tables(&model)? {
        return Err(IndexError::Form { what: "the schema" });
    }
    let state = State::read(&database)?;
    let last = database
        .prepare_cached(READ_LAST)
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, Option<u64>>(0)))
        .map_err(reading("the entries"))?;
    if last.unwrap_or(0) != state.last {
        return Err(IndexError::Form { what: "the state" });
    }
    Ok(database)
}

/// Every table, index, view and trigger with its text.
fn tables(database: &Connection) -> Result<Vec<(String, Option<String>)>, IndexError> {
    let read = || {
        let mut statement = database.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()
    };
    read().map_err(reading("the schema"))
}

/// Removes the database and what SQLite keeps beside it. The database goes first: SQLite ignores a journal without
/// its database, but a database without its journal can pass for whole.
fn remove(path: &Path) -> Result<(), IndexError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = OsString::from(path);
        name.push(suffix);
        let path = PathBuf::from(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(IndexError::Remove { path, source }),
        }
    }
    Ok(())
}
