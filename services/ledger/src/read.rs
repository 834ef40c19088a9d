//! Reading the ledger, at any time and from any thread: only entries that are durable are seen.

use crate::core::{self, Broken, Tip};
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Header, Step, Walker, file_name, first_of};
use crate::store::{OpenError, at};
use octant_api::ledger::{Damage, Entry, VerifyReport};
use octant_ids::Sha256;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Every so many entries their place is remembered.
const MARK_EVERY: u64 = 128;

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
#[derive(Debug)]
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
    dir: PathBuf,
    index: Mutex<Index>,
    tip: watch::Sender<Tip>,
    refusal: Mutex<Option<Refusal>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock, so what a poisoned lock guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(crate) fn new(dir: PathBuf, index: Index, tip: Tip) -> Self {
        Self { dir, index: Mutex::new(index), tip: watch::Sender::new(tip), refusal: Mutex::new(None) }
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

    pub(crate) fn advance(&self, tip: Tip) {
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
        let keeps = matches!(refusal, Refusal::Draft(_)) || noted.as_ref().is_some_and(Refusal::is_final);
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

    fn open(&self, first: u64) -> Result<(PathBuf, File), ReadError> {
        let path = self.dir.join(file_name(first));
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
        let mut page = Page { entries: Vec::new(), next: from.max(1) };
        let (mut bytes_left, last) =
            (limits.bytes, tip.seq.min(from.max(1).saturating_add(limits.looked_at - 1)));
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
                    .map_err(|broken| ReadError::Damaged(damaged(&path, offset, seq, broken.to_string())))?;
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

    /// Reads everything from the first entry on and recomputes every hash, up to what is durable at the start.
    /// `stop` ends it early; what was verified by then is reported.
    ///
    /// # Errors
    /// [`ReadError::Io`]. Damage is in the report.
    pub fn verify(&self, stop: &AtomicBool) -> Result<VerifyReport, ReadError> {
        let until = self.tip();
        let refused = self.refusal();
        let firsts: Vec<u64> = locked(&self.index).segments.iter().map(|segment| segment.first).collect();
        let mut report = VerifyReport { entries: 0, segments: 0, bytes: 0, head: Sha256::ZERO, damage: None };
        let mut tip = Tip::START;
        for (i, first) in firsts.iter().copied().enumerate() {
            if tip.seq >= until.seq && i > 0 {
                break;
            }
            let end = firsts.get(i + 1).map_or(until.seq, |next| until.seq.min(next - 1));
            match self.verify_segment(first, end, &mut tip, &mut report, stop) {
                Ok(()) => {}
                Err(ReadError::Damaged(damage)) => {
                    report.damage = Some(damage);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        (report.entries, report.head) = (tip.seq, tip.hash);
        // What was found at the opening lies behind the readable entries, where the walk above does not come.
        if let (None, Some(Refusal::Damaged(damage))) = (&report.damage, refused) {
            report.damage = Some(damage);
        }
        if let Some(damage) = &report.damage {
            self.refuse(Refusal::Damaged(damage.clone()));
        }
        Ok(report)
    }

    fn verify_segment(
        &self,
        first: u64,
        end: u64,
        tip: &mut Tip,
        report: &mut VerifyReport,
        stop: &AtomicBool,
    ) -> Result<(), ReadError> {
        let (path, file) = self.open(first)?;
        let header = Header::read(&file).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        if header != Some(Header { first: tip.seq + 1, prev: tip.hash }) {
            let what = match header {
                None => "the segment's header is not valid".to_owned(),
                Some(_) => format!("the segment does not continue entry {}", tip.seq),
            };
            return Err(ReadError::Damaged(damaged(&path, 0, tip.seq + 1, what)));
        }
        report.segments += 1;
        let mut walker = Walker::new(&file, HEADER);
        while tip.seq < end && !stop.load(Ordering::Relaxed) {
            let seq = tip.seq + 1;
            let (offset, bytes) = frame(&mut walker, &path, seq)?;
            tip.accept(bytes)
                .map_err(|broken| ReadError::Damaged(damaged(&path, offset, seq, broken.to_string())))?;
            report.bytes += bytes.len() as u64;
        }
        Ok(())
    }
}

/// The next frame, which must be there because entry `seq` is durable.
fn frame<'a>(walker: &'a mut Walker<'_>, path: &Path, seq: u64) -> Result<(u64, &'a [u8]), ReadError> {
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
fn accept(chain: &mut Option<Tip>, seq: u64, bytes: &[u8]) -> Result<Entry, Broken> {
    let mut tip = match chain {
        Some(tip) => *tip,
        None => Tip { seq: seq - 1, hash: core::decode(bytes)?.prev },
    };
    let entry = tip.accept(bytes)?;
    *chain = Some(tip);
    Ok(entry)
}

/// The hash of the frame at an offset; none when no whole frame stands there.
pub(crate) fn hash_at(file: &File, offset: u64) -> io::Result<Option<Sha256>> {
    match Walker::new(file, offset).step()? {
        Step::Frame { bytes, .. } => Ok(Some(core::hash(bytes))),
        Step::End { .. } | Step::Bad { .. } => Ok(None),
    }
}

/// What a scan of one segment found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The tip before its first entry, as its header says.
    pub(crate) start: Tip,
    /// The tip after its last good entry.
    pub(crate) tip: Tip,
    /// Where the good entries end.
    pub(crate) offset: u64,
    /// Where the last good entry stands; 0 when there is none.
    pub(crate) last: u64,
    /// Places of some entries.
    pub(crate) marks: Vec<(u64, u64)>,
    /// Why the entries end, when it is not with zeros or the end of the file.
    pub(crate) broken: Option<String>,
}

impl Scan {
    /// The hash of a good entry of this segment.
    pub(crate) fn hash_of(&self, file: &File, seq: u64) -> Option<Sha256> {
        if seq == self.tip.seq {
            return Some(self.tip.hash);
        }
        let after = self.marks.partition_point(|mark| mark.0 <= seq);
        let (at, offset) = self.marks[..after].last().copied()?;
        let mut walker = Walker::new(file, offset);
        for _ in at..seq {
            walker.step().ok()?;
        }
        match walker.step() {
            Ok(Step::Frame { bytes, .. }) if seq <= self.tip.seq => Some(core::hash(bytes)),
            _ => None,
        }
    }
}

/// Walks a segment to the end of its good entries; none when its header is not valid.
pub(crate) fn scan(file: &File, first: u64) -> io::Result<Option<Scan>> {
    let Some(header) = Header::read(file)?.filter(|header| header.first == first) else { return Ok(None) };
    let start = Tip { seq: header.first.saturating_sub(1), hash: header.prev };
    let mut scan = Scan { start, tip: start, offset: HEADER, last: 0, marks: Vec::new(), broken: None };
    let mut walker = Walker::new(file, HEADER);
    loop {
        let broken = match walker.step()? {
            Step::End { .. } => None,
            Step::Bad { why, .. } => Some(why),
            Step::Frame { offset, bytes, .. } => match scan.tip.accept(bytes) {
                Ok(entry) => {
                    scan.last = offset;
                    if scan.marks.last().is_none_or(|mark| entry.seq >= mark.0 + MARK_EVERY) {
                        scan.marks.push((entry.seq, offset));
                    }
                    scan.offset = walker.offset();
                    continue;
                }
                Err(broken) => Some(broken.to_string()),
            },
        };
        scan.broken = broken;
        return Ok(Some(scan));
    }
}
