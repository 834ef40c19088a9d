//! Reading the ledger, at any time and from any thread: only entries that are durable are seen.

use crate::files;
use crate::fold::Edge;
use crate::open::{OpenError, at};
use crate::publish::Published;
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Step, Walker, file_name, first_of};
use octant_api::ledger::{Damage, Entry};
use octant_api::text::Json;
use octant_ids::Sha256;
use octant_tlog::entry::{View, commitment};
use octant_tlog::merkle::{Nodes, leaf_hash, root};
use octant_tlog::state::{Broken, Tip};
use octant_tlog::tile::{NodeError, Tile, TiledNodes};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Every so many entries their place is remembered.
pub(crate) const MARK_EVERY: u64 = 128;
/// How many places are remembered in all: half a MiB, whatever the size of the log.
const MARKS_MAX: usize = 1 << 15;

/// The numbers of the first entries of the segments in a directory, in order.
pub(crate) fn segments(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let listing = "list the segments of";
    let mut firsts = Vec::new();
    for file in fs::read_dir(dir).map_err(at(listing, dir))? {
        let name = file.map_err(at(listing, dir))?.file_name();
        firsts.extend(name.to_str().and_then(first_of));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Where entries stand.
#[derive(Debug, Default)]
pub(crate) struct Index {
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    /// Numbers and offsets of some of its entries, in order.
    marks: Vec<(u64, u64)>,
}

impl Index {
    /// `marks` are those of the last segment. A ledger without segments is about to get its first.
    pub(crate) fn new(firsts: Vec<u64>, marks: Vec<(u64, u64)>) -> Self {
        let firsts = if firsts.is_empty() { vec![1] } else { firsts };
        let mut segments: Vec<Segment> =
            firsts.into_iter().map(|first| Segment { first, marks: Vec::new() }).collect();
        if let Some(last) = segments.last_mut() {
            last.marks = marks;
        }
        Self { segments }
    }

    /// The segment that entry `seq` is in, the number of the first entry of the next one, and the nearest known
    /// place at or before it.
    fn find(&self, seq: u64) -> Option<Place> {
        let after = self.segments.partition_point(|segment| segment.first <= seq);
        let segment = self.segments[..after].last()?;
        let mark = segment.marks.partition_point(|mark| mark.0 <= seq);
        let (at, offset) = segment.marks[..mark].last().copied().unwrap_or((segment.first, HEADER));
        Some(Place { first: segment.first, at, offset, next: self.segments.get(after).map(|s| s.first) })
    }

    fn mark(&mut self, first: u64, seq: u64, offset: u64) {
        let Some(segment) = self.segments.iter_mut().rfind(|segment| segment.first == first) else { return };
        if segment.marks.last().is_none_or(|last| seq >= last.0 + MARK_EVERY) {
            segment.marks.push((seq, offset));
            self.forget();
        }
    }

    /// Forgets places of older segments when too many are remembered.
    fn forget(&mut self) {
        let marks: usize = self.segments.iter().map(|segment| segment.marks.len()).sum();
        if let Some((_, older)) = self.segments.split_last_mut().filter(|_| marks > MARKS_MAX) {
            older.iter_mut().for_each(|segment| segment.marks = Vec::new());
        }
    }
}

struct Place {
    first: u64,
    at: u64,
    offset: u64,
    next: Option<u64>,
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is damaged.
    #[error("{} at offset {}: entry {}: {}", .0.segment, .0.offset, .0.seq, .0.what)]
    Damaged(Damage),
    /// A file cannot be read.
    #[error("read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

/// How much one page may hold and cost.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// Entries in the page.
    pub entries: usize,
    /// Canonical bytes in the page; one entry is always taken.
    pub bytes: usize,
    /// Entries looked at.
    pub looked_at: u64,
}

/// Entries, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The next entry that has not been looked at.
    pub next: u64,
}

/// Reads a ledger.
#[derive(Debug)]
pub struct Reader {
    /// The state directory.
    dir: PathBuf,
    index: Mutex<Index>,
    tip: watch::Sender<Tip>,
    edge: Mutex<Edge>,
    published: watch::Sender<Published>,
    refusal: Mutex<Option<Refusal>>,
    /// Counts what an operator changes below the entries: what `verify` saw before may be no more.
    generation: AtomicU64,
    /// Whether the refusal is for a damage that an earlier `verify` found, and nothing else.
    known: AtomicBool,
}

/// Files are being changed that were written before.
#[derive(Debug)]
pub(crate) struct Changing(Arc<Reader>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, so what a poisoned lock guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(crate) fn new(dir: &Path, index: Index, tip: Tip) -> Self {
        Self {
            dir: dir.to_owned(),
            index: Mutex::new(index),
            tip: watch::Sender::new(tip),
            edge: Mutex::default(),
            published: watch::Sender::default(),
            refusal: Mutex::new(None),
            generation: AtomicU64::new(0),
            known: AtomicBool::new(false),
        }
    }

    /// Which state of the files this is; an odd number while they change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Files change that were written before, for as long as what this gives lives.
    pub(crate) fn changing(self: &Arc<Self>) -> Changing {
        self.generation.fetch_add(1, Ordering::SeqCst);
        Changing(Arc::clone(self))
    }

    /// Refuses for a damage that an earlier `verify` found.
    pub(crate) fn refuse_known(&self, damage: Damage) {
        self.refuse(Refusal::Damaged(damage));
        self.known.store(true, Ordering::SeqCst);
    }

    /// Whether there is no other reason to refuse than what an earlier `verify` found.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::SeqCst)
    }

    /// Forgets what an earlier `verify` found: it is no more.
    pub(crate) fn mended(&self) {
        if self.known.swap(false, Ordering::SeqCst) {
            locked(&self.refusal).take();
        }
    }

    /// Starts over with what is on disk now.
    pub(crate) fn reset(&self, index: Index, tip: Tip, edge: &Edge) {
        *locked(&self.index) = index;
        *locked(&self.refusal) = None;
        self.known.store(false, Ordering::SeqCst);
        self.advance(tip, edge);
    }

    /// The state directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was published last.
    pub(crate) fn publication(&self) -> Published {
        self.published.borrow().clone()
    }

    pub(crate) fn published(&self, published: Published) {
        self.published.send_replace(published);
    }

    /// The tree's nodes up to a size, from tiles.
    pub(crate) fn nodes(&self, size: u64) -> impl Nodes<Error = NodeError<io::Error>> + '_ {
        TiledNodes::new(size, |tile: Tile| {
            // A tile that became whole in between is on disk by then.
            if let Some(bytes) = locked(&self.edge).read(tile) {
                return Ok(bytes);
            }
            let path = files::tile_path(&self.dir, tile);
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let mut bytes = fs::read(&path).map_err(named)?;
            bytes.truncate(usize::from(tile.width) * 32);
            Ok(bytes)
        })
    }

    /// The root of the tree over the first entries, by its tiles.
    pub(crate) fn root(&self, size: u64) -> io::Result<Sha256> {
        root(&self.nodes(size), size).map_err(io::Error::other)
    }

    /// The hash of an entry, by the tree's tiles.
    pub(crate) fn leaf(&self, seq: u64) -> io::Result<Sha256> {
        self.nodes(seq).node(0, seq.saturating_sub(1)).map_err(io::Error::other)
    }

    /// The number of the first entry that can be read; more than 1 when segments were archived.
    pub(crate) fn first(&self) -> u64 {
        locked(&self.index).segments.first().map_or(1, |segment| segment.first)
    }

    /// Segments before this one are not here any more.
    pub(crate) fn forget_before(&self, first: u64) {
        locked(&self.index).segments.retain(|segment| segment.first >= first);
    }

    /// The numbers of the segments' first entries.
    pub(crate) fn firsts(&self) -> Vec<u64> {
        locked(&self.index).segments.iter().map(|segment| segment.first).collect()
    }

    /// The last durable entry.
    #[must_use]
    pub fn tip(&self) -> Tip {
        *self.tip.borrow()
    }

    /// Wakes whenever entries have become durable.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Tip> {
        self.tip.subscribe()
    }

    pub(crate) fn advance(&self, tip: Tip, edge: &Edge) {
        locked(&self.edge).clone_from(edge);
        self.tip.send_replace(tip);
    }

    /// Why appends are refused, when they are.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        locked(&self.refusal).clone()
    }

    /// Notes why appends are refused. What is final is never replaced.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let mut noted = locked(&self.refusal);
        let lasts = refusal.is_final() || matches!(refusal, Refusal::NoSpace { .. });
        let keeps = !lasts || noted.as_ref().is_some_and(Refusal::is_final);
        if !keeps {
            *noted = Some(refusal);
        }
    }

    pub(crate) fn clear_no_space(&self) {
        locked(&self.refusal).take_if(|refusal| !refusal.is_final());
    }

    pub(crate) fn mark(&self, seq: u64, offset: u64) {
        let mut index = locked(&self.index);
        if let Some(first) = index.segments.last().map(|segment| segment.first) {
            index.mark(first, seq, offset);
        }
    }

    pub(crate) fn add_segment(&self, first: u64) {
        locked(&self.index).segments.push(Segment { first, marks: Vec::new() });
    }

    pub(crate) fn open(&self, first: u64) -> Result<(PathBuf, File), ReadError> {
        let path = self.dir.join("segments").join(file_name(first));
        match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ReadError::Damaged(damaged(&path, 0, first, "the segment is missing".to_owned())))
            }
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Entries from number `from` on that `wanted` takes, within limits. The chain is checked from each entry
    /// to the next on the way.
    ///
    /// # Errors
    /// [`ReadError`]. Entries before the damaged place can be read by a page that ends before it.
    pub fn page(
        &self,
        from: u64,
        limits: PageLimits,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Page, ReadError> {
        let tip = self.tip();
        let from = from.max(self.first());
        let mut page = Page { entries: Vec::new(), next: from };
        let (mut bytes_left, last) = (limits.bytes, tip.seq.min(from.saturating_add(limits.looked_at - 1)));
        while page.next <= last && page.entries.len() < limits.entries {
            let Some(place) = locked(&self.index).find(page.next) else { break };
            let (path, file) = self.open(place.first)?;
            let mut walker = Walker::new(&file, place.offset);
            let mut chain: Option<Tip> = None;
            let end = place.next.map_or(last, |next| last.min(next - 1));
            for seq in place.at..=end {
                let (offset, bytes) = frame(&mut walker, &path, seq)?;
                if seq.is_multiple_of(MARK_EVERY) {
                    locked(&self.index).mark(place.first, seq, offset);
                }
                if seq < page.next {
                    continue;
                }
                let entry = accept(&mut chain, seq, bytes)
                    .map_err(|broken| ReadError::Damaged(damaged(&path, offset, seq, broken)))?;
                let entry = self.with_payload(entry)?;
                if wanted(&entry) {
                    // What does not fit any more is the first of the next page.
                    if !page.entries.is_empty() && bytes.len() > bytes_left {
                        return Ok(page);
                    }
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    page.entries.push(entry);
                }
                page.next = seq + 1;
                if page.entries.len() >= limits.entries {
                    break;
                }
            }
        }
        Ok(page)
    }

    /// Puts an erasable payload back into its entry, if it is still there.
    fn with_payload(&self, mut entry: Entry) -> Result<Entry, ReadError> {
        let Some(erasable) = &mut entry.erasable else { return Ok(entry) };
        let dir = self.dir.join("payloads");
        let failed = |source| ReadError::Io { path: dir.clone(), source };
        if let Some(payload) = files::read_payload(&dir, entry.seq).map_err(failed)?
            && commitment(&payload.salt, &payload.text) == erasable.commitment
            && let Ok(json) = Json::from_text(payload.text)
        {
            erasable.salt = Some(Sha256(payload.salt));
            entry.payload = json;
        }
        Ok(entry)
    }

    /// The canonical bytes of entries from number `from` to `to`, each with its number.
    ///
    /// # Errors
    /// [`ReadError`], or what `take` reports.
    pub(crate) fn each<E: From<ReadError>>(
        &self,
        from: u64,
        to: u64,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = from;
        while next <= to.min(self.tip().seq) {
            let Some(place) = locked(&self.index).find(next) else { break };
            let (path, file) = self.open(place.first)?;
            let mut walker = Walker::new(&file, place.offset);
            let end = place.next.map_or(to, |after| to.min(after - 1));
            for seq in place.at..=end {
                let (_, bytes) = frame(&mut walker, &path, seq)?;
                if seq >= next {
                    take(seq, bytes)?;
                }
            }
            next = end + 1;
        }
        Ok(())
    }
}

/// The next frame, which must be there because entry `seq` is durable.
pub(crate) fn frame<'a>(
    walker: &'a mut Walker<'_>,
    path: &Path,
    seq: u64,
) -> Result<(u64, &'a [u8]), ReadError> {
    let bad = |offset, why: String| Err(ReadError::Damaged(damaged(path, offset, seq, why)));
    match walker.step().map_err(|source| ReadError::Io { path: path.to_owned(), source })? {
        Step::Frame { offset, bytes, .. } => Ok((offset, bytes)),
        Step::End { offset } => {
            bad(offset, "nothing stands there, but the entry was acknowledged".to_owned())
        }
        Step::Bad { offset, why } => bad(offset, why),
    }
}

/// Takes bytes as entry `seq`; from the second one on they must continue the chain.
fn accept(chain: &mut Option<Tip>, seq: u64, bytes: &[u8]) -> Result<Entry, String> {
    let view = View::of(bytes).map_err(|error| error.to_string())?;
    if view.seq != seq {
        return Err(format!("it has number {}, expected {seq}", view.seq));
    }
    if let Some(tip) = chain.filter(|tip| tip.hash != view.prev) {
        return Err(format!("it follows {}, but the entry before it has the hash {}", view.prev, tip.hash));
    }
    let hash = leaf_hash(bytes);
    *chain = Some(Tip { seq, hash });
    view.entry(hash).map_err(|error| error.to_string())
}

/// The number of the entry that was changed or put in, when the one of this hash does not follow the log up to `tip`: the
/// entry before it, if what comes next stands on it as it is; else itself. `last` is what the last entry has to be.
pub(crate) fn blame(
    walker: &mut Walker<'_>,
    broken: &Broken,
    hash: Sha256,
    tip: Tip,
    last: Tip,
) -> io::Result<u64> {
    let seq = tip.seq + 1;
    let own = match broken {
        Broken::Link { .. } => seq,
        // A second one of the number before it, other than the first.
        Broken::Number { found, .. } if *found == tip.seq && hash != tip.hash => tip.seq,
        _ => return Ok(seq),
    };
    let stands = match walker.step()? {
        Step::Frame { bytes, .. } => View::of(bytes).is_ok_and(|next| next.prev == hash),
        Step::End { .. } | Step::Bad { .. } => last == Tip { seq: own, hash },
    };
    Ok(if stands && seq > 1 { seq - 1 } else { seq })
}

/// The hash of the frame at an offset; none when no whole frame stands there.
pub(crate) fn hash_at(file: &File, offset: u64) -> io::Result<Option<Sha256>> {
    match Walker::new(file, offset).step()? {
        Step::Frame { bytes, .. } => Ok(Some(leaf_hash(bytes))),
        Step::End { .. } | Step::Bad { .. } => Ok(None),
    }
}
