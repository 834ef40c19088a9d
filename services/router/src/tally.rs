//! What was used, by day, caller, model and provider. It outlives the router, but for what a loss of power takes of the last
//! minute; the ledger has all of it.

use crate::agents::lock;
use octant_api::router::{Usage, UsedRow};
use octant_service::{read_kept, replace};
use octant_sys::clock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

/// How many rows are told apart, and for how many days.
const ROWS_MAX: usize = 16_384;
const DAYS: u64 = 32;
const DAY_MS: u64 = 86_400_000;
/// The longest file, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The longest name of a model.
const MODEL_MAX: usize = 128;

/// By what is told apart: the day since 1970, who, the model, the provider.
type Of = (u64, String, String, String);

/// All of it.
#[derive(Debug)]
pub(crate) struct Tally {
    path: PathBuf,
    rows: Mutex<BTreeMap<Of, Usage>>,
    /// Why the file of an earlier run is not read; then it is not written over.
    fault: Option<String>,
}

pub(crate) fn add(to: &mut Usage, more: &Usage) {
    let Usage { calls, failed, denied, cached, input, output, microusd } = more;
    to.calls = to.calls.saturating_add(*calls);
    to.failed = to.failed.saturating_add(*failed);
    to.denied = to.denied.saturating_add(*denied);
    to.cached = to.cached.saturating_add(*cached);
    to.input = to.input.saturating_add(*input);
    to.output = to.output.saturating_add(*output);
    to.microusd = to.microusd.saturating_add(*microusd);
}

impl Tally {
    /// With what was counted before.
    pub(crate) fn open(path: PathBuf) -> Self {
        let (rows, fault) = match read_kept::<Vec<UsedRow>>(&path, FILE_MAX) {
            Ok(rows) => (rows, None),
            Err(why) => {
                let why = format!("{}: {why}", path.display());
                tracing::error!("what was used before is not known, and what is used now is not kept: {why}");
                (Vec::new(), Some(why))
            }
        };
        let row = |row: UsedRow| ((row.day, row.by, row.model, row.provider), row.usage);
        Self { path, rows: Mutex::new(rows.into_iter().map(row).collect()), fault }
    }

    /// Counts.
    pub(crate) fn count(&self, by: &str, model: &str, provider: &str, more: &Usage) {
        let day = clock::wall_ms() / DAY_MS;
        let model: String = model.chars().take(MODEL_MAX).collect();
        let mut of: Of = (day, by.to_owned(), model, provider.to_owned());
        let mut rows = lock(&self.rows);
        if rows.len() >= ROWS_MAX && !rows.contains_key(&of) {
            // What was long ago makes room; where all is of today, it is counted together.
            if rows.first_key_value().is_some_and(|(first, _)| first.0 < day) {
                rows.pop_first();
            } else {
                of = (day, "any other".into(), String::new(), String::new());
            }
        }
        add(rows.entry(of).or_default(), more);
    }

    /// Every row, or those of one caller.
    pub(crate) fn rows(&self, by: Option<&str>) -> Vec<UsedRow> {
        let rows = lock(&self.rows);
        let wanted = rows.iter().filter(|((_, who, ..), _)| by.is_none_or(|by| by == who));
        let row = |((day, by, model, provider), usage): (&Of, &Usage)| UsedRow {
            day: *day,
            by: by.clone(),
            model: model.clone(),
            provider: provider.clone(),
            usage: *usage,
        };
        wanted.map(row).collect()
    }

    /// Writes it down.
    pub(crate) async fn keep(&self) {
        if self.fault.is_some() {
            return;
        }
        let since = (clock::wall_ms() / DAY_MS).saturating_sub(DAYS);
        lock(&self.rows).retain(|(day, ..), _| *day >= since);
        let (rows, path) = (self.rows(None), self.path.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&rows).map_err(|error| error.to_string())?;
            replace(&path, &text, false).map_err(|error| error.to_string())
        });
        if let Err(why) = kept.await.map_err(|error| error.to_string()).flatten() {
            tracing::error!("what was used is not kept: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(calls: u64) -> Usage {
        Usage { calls, input: 2, ..Usage::default() }
    }

    #[tokio::test]
    async fn what_was_counted_is_there_again_and_has_a_bound() {
        let dir = std::env::temp_dir().join(format!("octant-tally-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("usage.json");
        let tally = Tally::open(path.clone());
        tally.count("operator:0", "a", "p", &of(1));
        tally.count("operator:0", "a", "p", &of(1));
        tally.count("key:ci", "a", "q", &of(1));
        tally.keep().await;
        let again = Tally::open(path.clone());
        assert_eq!(again.rows(None), tally.rows(None));
        assert_eq!(again.rows(Some("operator:0"))[0].usage, Usage { calls: 2, input: 4, ..Usage::default() });
        for n in 0..=ROWS_MAX {
            again.count(&n.to_string(), "a", "p", &of(1));
        }
        assert!(again.rows(None).len() <= ROWS_MAX + 1);
        let all: u64 = again.rows(None).iter().map(|row| row.usage.calls).sum();
        assert_eq!(all, 3 + ROWS_MAX as u64 + 1, "nothing is lost of today");
        std::fs::write(&path, "{").unwrap();
        let torn = Tally::open(path.clone());
        torn.keep().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{", "what cannot be read is not written over");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
