//! Keeps the index in step with the log. It lags a little; queries read what it does not have yet from the segments.

use crate::index::{Index, RUN};
use crate::read::{PageLimits, Reader, locked};
use octant_ids::Sha256;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many entries one transaction takes, and how many bytes: what the index may cost of memory at a time.
const BATCH: u64 = RUN;
const BATCH_BYTES: usize = 4 << 20;
/// The pause between two transactions when there is little to add: one for each note would cost more than the note.
const GATHER: Duration = Duration::from_millis(100);
/// The pause after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// The index of a running ledger; none when it cannot be used, and queries then read the segments alone.
#[derive(Debug, Default)]
pub(crate) struct Following(pub(crate) Mutex<Option<Index>>);

impl Following {
    /// Opens the index; without one the ledger works as well, more slowly.
    pub(crate) fn open(path: &Path) -> Self {
        match Index::open(path) {
            Ok(index) => {
                if let Some(why) = &index.rebuilt {
                    tracing::warn!("the index is made anew: {why}");
                }
                Self(Mutex::new(Some(index)))
            }
            Err(error) => {
                tracing::error!("queries read the segments instead of the index: {error}");
                Self::default()
            }
        }
    }

    /// Adds entries for ever. Each step is work for a thread of its own.
    pub(crate) async fn run(self: Arc<Self>, reader: Arc<Reader>) {
        let mut tips = reader.watch();
        loop {
            let (following, reader) = (Arc::clone(&self), Arc::clone(&reader));
            let step = tokio::task::spawn_blocking(move || following.step(&reader)).await;
            match step {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    if tips.changed().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(GATHER).await;
                }
                Ok(Err(why)) => {
                    tracing::warn!("the index does not go on: {why}; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    tracing::error!("the index is not kept any more: {error}");
                    return;
                }
            }
        }
    }

    /// Adds one batch; whether there may be more.
    fn step(&self, reader: &Reader) -> Result<bool, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let upto = {
            let mut guard = locked(&self.0);
            let Some(index) = guard.as_mut() else { return Ok(false) };
            // A step that finds damage makes the index anew and starts over.
            match index.upto() {
                Ok(upto) if same(reader, upto) => upto,
                Ok(_) => return index.clear().map(|()| true).map_err(|error| text(&error)),
                Err(error) if error.is_damage() => {
                    return index.clear().map(|()| true).map_err(|error| text(&error));
                }
                Err(error) => return Err(text(&error)),
            }
        };
        // Whole runs are quickest, so a batch ends with one where it can.
        let from = (upto.0 + 1).max(reader.first());
        let entries = usize::try_from(BATCH - (from - 1) % RUN).unwrap_or(1);
        let limits = PageLimits { entries, bytes: BATCH_BYTES, looked_at: BATCH };
        let page = reader.page(from, limits, |_| true).map_err(|error| text(&error))?;
        if page.entries.is_empty() {
            return Ok(false);
        }
        let mut guard = locked(&self.0);
        let Some(index) = guard.as_mut() else { return Ok(false) };
        match index.add(&page.entries) {
            Ok(()) => Ok(page.next <= reader.tip().seq),
            Err(error) if error.is_damage() => index.clear().map(|()| true).map_err(|error| text(&error)),
            Err(error) => Err(text(&error)),
        }
    }
}

/// Whether the last entry that is indexed is the log's entry of that number. The tree tells, also of archived entries.
fn same(reader: &Reader, (seq, hash): (u64, Sha256)) -> bool {
    seq == 0 || (seq <= reader.tip().seq && reader.leaf(seq).is_ok_and(|leaf| leaf == hash))
}
