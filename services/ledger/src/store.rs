//! The ledger on disk: opening it after whatever happened, and appending to it. Blocking, for one owner.
//!
//! ```text
//! <state>/segments/<number of its first entry>.log    the entries, append-only
//! <state>/segments/new.tmp                            a segment being made; renamed when it is whole
//! <state>/head                                        the last acknowledged entry
//! <state>/probe                                       what the health check writes
//! ```

use crate::core::{Draft, Stamp, Tip};
use crate::head::HeadFile;
use crate::read::{self, Index, Reader};
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Header, RECORD_MAX, behind, file_name, push_frame};
use octant_api::ledger::{Appended, Damage};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros are written ahead of the entries in steps of at least this, at most [`AHEAD_MAX`] bytes.
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 4 << 20;
/// The least that is tried when there is no room for a whole step.
const PAGE: u64 = 4096;
/// The head file is synced at least once in so many appends.
const HEAD_EVERY: u64 = 4096;
/// One sector, which a disk writes whole.
const PROBE: usize = 512;

/// How a sync is done; a test puts a failing one here.
pub type SyncFn = fn(&File) -> io::Result<()>;

/// What can be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment that reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// How a sync is done.
    pub sync: SyncFn,
}

impl Default for Options {
    fn default() -> Self {
        // Large enough that a change of segment is rare, small enough to scan at a start within a second.
        Self { segment_bytes: 64 << 20, sync: File::sync_data }
    }
}

/// Why the ledger cannot be opened at all. Damage to its entries is no such reason: it is opened for reading.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", path.display())]
pub struct OpenError {
    /// What was being done.
    pub step: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

pub(crate) fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError { step, path, source }
}

/// What was found at the end of the last segment and cut off: bytes of a write that was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file name.
    pub segment: String,
    /// Where the good entries end, in bytes.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What stood there.
    pub why: String,
}

#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    /// Where the next frame goes.
    end: u64,
    /// Up to where zeros are written.
    ahead: u64,
    /// Where the last frame stands; 0 when this segment has none.
    last: u64,
}

/// The ledger's one writer.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    options: Options,
    boot_id: String,
    reader: Arc<Reader>,
    /// None when the ledger is damaged and can only be read.
    current: Option<Current>,
    head: HeadFile,
    tip: Tip,
    buffer: Vec<u8>,
    since_head_sync: u64,
    probes: u64,
}

impl Store {
    /// Opens the ledger below `dir`, or makes an empty one. Damage does not fail it: the store then refuses
    /// appends, and [`Store::reader`] reads what is left.
    ///
    /// # Errors
    /// [`OpenError`]: a directory or file cannot be made, opened or read.
    pub fn open(dir: &Path, boot_id: &str, options: Options) -> Result<(Self, Option<TornTail>), OpenError> {
        let segments = dir.join("segments");
        fs::create_dir_all(&segments).map_err(at("make the directory", &segments))?;
        let head_path = dir.join("head");
        let (mut head, acknowledged) =
            HeadFile::open(&head_path).map_err(at("open the head file", &head_path))?;
        let firsts = read::segments(&segments)?;
        let fresh = firsts.is_empty() && acknowledged.is_none_or(|tip| tip.seq == 0);
        let found = if fresh { Found::empty() } else { examine(&segments, &firsts, acknowledged)? };
        let index = Index::new(firsts, found.marks);
        let reader = Arc::new(Reader::new(segments.clone(), index, found.tip));
        let mut store = Self {
            dir: dir.to_owned(),
            options,
            boot_id: boot_id.to_owned(),
            reader,
            current: None,
            head: {
                if fresh && acknowledged.is_none() {
                    head.write(Tip::START)
                        .and_then(|()| head.sync())
                        .map_err(at("write the head file", &head_path))?;
                    sync_dir(dir).map_err(at("sync the directory", dir))?;
                }
                head
            },
            tip: found.tip,
            buffer: Vec::new(),
            since_head_sync: 0,
            probes: 0,
        };
        match found.damage {
            Some(damage) => store.reader.refuse(Refusal::Damaged(damage)),
            None if fresh => {
                let path = segments.join(file_name(1));
                store.current = Some(store.new_segment().map_err(at("make the segment", &path))?);
            }
            None => store.current = Some(reopen(&segments, &found.end, found.torn.is_some())?),
        }
        Ok((store, found.torn))
    }

    /// What reads this ledger, at any time and from any thread.
    #[must_use]
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// Appends all drafts and returns when they are on stable storage, or appends none.
    ///
    /// # Errors
    /// [`Refusal`]. After [`Refusal::Storage`] and [`Refusal::Damaged`] every later append is refused too;
    /// after [`Refusal::NoSpace`] the next one is tried anew.
    pub fn commit(&mut self, drafts: &[Draft], stamp: Stamp) -> Result<Vec<Appended>, Refusal> {
        if let Some(refusal) = self.reader.refusal().filter(Refusal::is_final) {
            return Err(refusal);
        }
        let before = self.tip;
        let done = self.try_commit(drafts, stamp);
        match &done {
            Ok(_) => self.reader.clear_no_space(),
            Err(refusal) => {
                self.tip = before;
                self.reader.refuse(refusal.clone());
            }
        }
        done
    }

    fn try_commit(&mut self, drafts: &[Draft], stamp: Stamp) -> Result<Vec<Appended>, Refusal> {
        let durable = self.tip.seq;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut appended = Vec::with_capacity(drafts.len());
        let mut offsets = Vec::with_capacity(drafts.len());
        if self.current.as_ref().is_some_and(|current| current.end >= self.options.segment_bytes) {
            self.rotate()?;
        }
        for draft in drafts {
            offsets.push(buffer.len() as u64);
            let (tip, boot_id) = (&mut self.tip, &self.boot_id);
            let sealed = push_frame(&mut buffer, durable, |out| tip.seal(boot_id, draft, stamp, out));
            appended.push(sealed.map_err(|error| Refusal::Draft(error.to_string()))?);
        }
        let sync = self.options.sync;
        let Some(current) = self.current.as_mut() else {
            return Err(Refusal::Storage {
                path: self.dir.clone(),
                why: "there is no open segment".to_owned(),
            });
        };
        let start = current.end;
        current.write(&buffer, sync)?;
        current.last = start + offsets.last().copied().unwrap_or(0);
        for (appended, offset) in appended.iter().zip(&offsets) {
            self.reader.mark(appended.seq, start + offset);
        }
        self.buffer = buffer;
        self.acknowledge()?;
        Ok(appended)
    }

    /// Everything up to the tip is durable: says so to readers and in the head file.
    fn acknowledge(&mut self) -> Result<(), Refusal> {
        self.reader.advance(self.tip);
        self.since_head_sync += 1;
        let written = self.head.write(self.tip);
        let written =
            if self.since_head_sync >= HEAD_EVERY { written.and_then(|()| self.rest()) } else { written };
        if let Err(error) = written {
            // These entries are durable and acknowledged; without its head file the ledger takes no more.
            self.reader.refuse(self.head_refusal(&error));
        }
        Ok(())
    }

    fn head_refusal(&self, error: &io::Error) -> Refusal {
        Refusal::Storage { path: self.dir.join("head"), why: error.to_string() }
    }

    /// Syncs the head file, if it was written since. For moments in which nothing else is to be done.
    ///
    /// # Errors
    /// What fdatasync(2) reports.
    pub fn rest(&mut self) -> io::Result<()> {
        self.since_head_sync = 0;
        self.head.sync()
    }

    fn rotate(&mut self) -> Result<(), Refusal> {
        let refused = |path: &Path, error: io::Error| Refusal::of_io(path, &error);
        let next = self.new_segment().map_err(|error| refused(&self.dir.join("segments"), error))?;
        // The head is synced with each change of segment, so that it is never more than one segment behind.
        self.rest().map_err(|error| self.head_refusal(&error))?;
        if let Some(old) = self.current.replace(next) {
            // Gives back the zeros beyond its end. Readers stop at the end either way, so a failure costs room only.
            let _ = old.file.set_len(old.end);
        }
        self.reader.add_segment(self.tip.seq + 1);
        Ok(())
    }

    /// Makes the segment that starts after the tip: whole under another name first, so that a segment with half
    /// a header never stands in its place.
    fn new_segment(&self) -> io::Result<Current> {
        let segments = self.dir.join("segments");
        let (making, path) = (segments.join("new.tmp"), segments.join(file_name(self.tip.seq + 1)));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&making)?;
        let header = Header { first: self.tip.seq + 1, prev: self.tip.hash };
        file.write_all_at(&header.encode(), 0)?;
        let mut current = Current { file, path: path.clone(), end: HEADER, ahead: HEADER, last: 0 };
        current.reserve(HEADER + PAGE)?;
        current.file.sync_all()?;
        fs::rename(&making, &path)?;
        sync_dir(&segments)?;
        Ok(current)
    }

    /// Does what an append does, without an entry: a durable write beside the segments, and a look whether the
    /// last entry still stands where it was written and the head file names it.
    ///
    /// # Errors
    /// What would refuse an append now.
    pub fn probe(&mut self) -> Result<(), Refusal> {
        if let Some(refusal) = self.reader.refusal().filter(Refusal::is_final) {
            return Err(refusal);
        }
        let path = self.dir.join("probe");
        self.probes += 1;
        let written = (|| {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            let mut sector = [0; PROBE];
            sector[..8].copy_from_slice(&self.probes.to_le_bytes());
            file.write_all_at(&sector, 0)?;
            (self.options.sync)(&file)
        })();
        written.map_err(|error| Refusal::of_io(&path, &error))?;
        self.check_last()?;
        let Some(current) = self.current.as_mut() else { return Ok(()) };
        let reserved = current.reserve(current.end + RECORD_MAX as u64);
        reserved.map_err(|error| Refusal::of_io(&current.path, &error))?;
        self.reader.clear_no_space();
        Ok(())
    }

    fn check_last(&mut self) -> Result<(), Refusal> {
        let refuse = |store: &Self, refusal: Refusal| {
            store.reader.refuse(refusal.clone());
            Err(refusal)
        };
        match self.head.read() {
            Ok(Some(tip)) if tip == self.tip => {}
            Ok(_) => {
                let why = "it does not name the last entry".to_owned();
                return refuse(self, Refusal::Storage { path: self.dir.join("head"), why });
            }
            Err(error) => return refuse(self, self.head_refusal(&error)),
        }
        let Some(current) = self.current.as_ref().filter(|current| current.last > 0) else { return Ok(()) };
        match read::hash_at(&current.file, current.last) {
            Ok(Some(hash)) if hash == self.tip.hash => Ok(()),
            Ok(_) => {
                let what = "the last entry is not what was written".to_owned();
                let damage = damaged(&current.path, current.last, self.tip.seq, what);
                refuse(self, Refusal::Damaged(damage))
            }
            Err(error) => {
                let why = error.to_string();
                refuse(self, Refusal::Storage { path: current.path.clone(), why })
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is not synced here is only the head's newest position, which the segments tell too.
        let _ = self.head.sync();
    }
}

impl Current {
    /// Writes at the end and syncs. The end moves only when both have succeeded.
    fn write(&mut self, bytes: &[u8], sync: SyncFn) -> Result<(), Refusal> {
        let end = self.end + bytes.len() as u64;
        self.reserve(end).map_err(|error| Refusal::of_io(&self.path, &error))?;
        self.file.write_all_at(bytes, self.end).map_err(|error| Refusal::of_io(&self.path, &error))?;
        // After a failed sync nobody knows what is on disk, and a second sync may say yes although the pages
        // are gone. So this ends the writing until the file has been read again from the start.
        sync(&self.file)
            .map_err(|error| Refusal::Storage { path: self.path.clone(), why: format!("sync: {error}") })?;
        self.end = end;
        Ok(())
    }

    /// Writes zeros up to at least `end`. The next sync makes them durable along with the entries.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        if self.ahead >= end {
            return Ok(());
        }
        let step = (self.end / 4).clamp(AHEAD_MIN, AHEAD_MAX);
        let enough = end.next_multiple_of(PAGE);
        let wished = (end + step).next_multiple_of(PAGE);
        let written = self.write_zeros(wished).or_else(|_| self.write_zeros(enough));
        if written.is_err() {
            // Gives back what a full disk let through in part; when that fails too, it is only room.
            let _ = self.file.set_len(self.ahead);
        }
        written
    }

    fn write_zeros(&mut self, to: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut at = self.ahead;
        while at < to {
            let len = (to - at).min(ZEROS.len() as u64);
            // At most 64 KiB, so it fits.
            self.file.write_all_at(&ZEROS[..usize::try_from(len).unwrap_or(0)], at)?;
            at += len;
        }
        self.ahead = to;
        Ok(())
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Where the good entries of the last segment end.
#[derive(Debug, Default)]
struct End {
    first: u64,
    offset: u64,
    last: u64,
}

/// What the files of an existing ledger say.
struct Found {
    tip: Tip,
    end: End,
    marks: Vec<(u64, u64)>,
    torn: Option<TornTail>,
    damage: Option<Damage>,
}

impl Found {
    fn empty() -> Self {
        Self { tip: Tip::START, end: End::default(), marks: Vec::new(), torn: None, damage: None }
    }

    fn damaged(tip: Tip, damage: Damage) -> Self {
        Self { tip, damage: Some(damage), ..Self::empty() }
    }
}

/// Scans the last segment and compares it with the head file.
fn examine(segments: &Path, firsts: &[u64], acknowledged: Option<Tip>) -> Result<Found, OpenError> {
    let head_tip = acknowledged.unwrap_or(Tip::START);
    let Some(&last_first) = firsts.last() else {
        let what = format!("no segment is left, but entry {} was acknowledged", head_tip.seq);
        return Ok(Found::damaged(Tip::START, damaged(segments, 0, 1, what)));
    };
    if firsts[0] != 1 {
        let what = format!("the first segment left starts with entry {}", firsts[0]);
        return Ok(Found::damaged(Tip::START, damaged(segments, 0, 1, what)));
    }
    let path = segments.join(file_name(last_first));
    let file = File::open(&path).map_err(at("open the segment", &path))?;
    let scan = read::scan(&file, last_first).map_err(at("read the segment", &path))?;
    let Some(scan) = scan else {
        // What the segments before it hold can still be read.
        let before = examine(segments, &firsts[..firsts.len() - 1], acknowledged)?;
        let what = "the segment's header is not valid".to_owned();
        return Ok(Found::damaged(before.tip, damaged(&path, 0, last_first, what)));
    };
    let end = End { first: last_first, offset: scan.offset, last: scan.last };
    let mut found = Found { tip: scan.tip, end, marks: scan.marks.clone(), torn: None, damage: None };
    let next = scan.tip.seq + 1;
    let broken = |what: String| Some(damaged(&path, scan.offset, next, what));

    let Some(head) = acknowledged else {
        found.damage = broken("the head file is missing or unreadable, though there are entries".to_owned());
        return Ok(found);
    };
    // The hash that the segments give the acknowledged entry, as far as this segment reaches back.
    let known =
        if head.seq + 1 == last_first { Some(scan.start.hash) } else { scan.hash_of(&file, head.seq) };
    let behind = behind(&file, scan.offset).map_err(at("read the segment", &path))?;
    let why = scan.broken.clone().unwrap_or_else(|| "nothing stands there".to_owned());
    if head.seq >= next {
        found.damage = broken(format!("{why}, but entry {} was acknowledged", head.seq));
    } else if head.seq + 1 >= last_first && known != Some(head.hash) {
        found.damage = broken(format!("entry {} is not the one that was acknowledged", head.seq));
    } else if behind.durable >= next {
        found.damage = broken(format!("{why}, but entries after it stand on it"));
    } else if behind.end > 0 {
        let segment = file_name(last_first);
        let bytes = behind.end - scan.offset;
        found.torn = Some(TornTail { segment, offset: scan.offset, bytes, why });
    }
    Ok(found)
}

/// Opens the last segment for writing and clears what stands behind its good entries, if anything does.
fn reopen(segments: &Path, end: &End, torn: bool) -> Result<Current, OpenError> {
    let path = segments.join(file_name(end.first));
    let file =
        OpenOptions::new().read(true).write(true).open(&path).map_err(at("open the segment", &path))?;
    if torn {
        // Cutting the file drops whatever stood there; zeros are written ahead anew with the next append.
        file.set_len(end.offset).and_then(|()| file.sync_all()).map_err(at("cut the segment", &path))?;
    }
    let len = file.metadata().map_err(at("look at the segment", &path))?.len();
    Ok(Current { file, path, end: end.offset, ahead: len, last: end.last })
}
