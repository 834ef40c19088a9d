//! Opening a ledger after whatever happened to it: a crash, a loss of power, damage, a hand in its files.
//!
//! What the log had come to before its last segment is in that segment's snapshot, so only the last segment is read.
//! Where the snapshot is missing or not whole, earlier segments are read instead and the snapshots are made again.

use crate::files::{self, Compared, compare_tile, snapshot_name, write_snapshot, write_tile};
use crate::fold::{Fold, Whole};
use crate::head::HeadFile;
use crate::publish::{Publisher, new_key, read_key, write_key};
use crate::read::{self, Index, MARK_EVERY, Reader};
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Header, Step, Walker, behind, file_name};
use crate::store::{Current, Options, Store};
use nix::errno::Errno;
use octant_api::ledger::Damage;
use octant_ids::Sha256;
use octant_sys::{clock, entropy};
use octant_tlog::entry::BootId;
use octant_tlog::merkle::leaf_hash;
use octant_tlog::note::NoteKey;
use octant_tlog::state::Tip;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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

impl Store {
    /// Opens the ledger below `dir`, or makes an empty one. Damage does not fail it: the store then refuses
    /// appends, and [`Store::reader`] reads what is left.
    ///
    /// # Errors
    /// [`OpenError`]: a directory or file cannot be made, opened or read.
    pub fn open(dir: &Path, boot: BootId, options: Options) -> Result<(Self, Option<TornTail>), OpenError> {
        for name in ["segments", "tile", "payloads", "outside"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(at("make the directory", &path))?;
        }
        let head_path = dir.join("head");
        let (head, acknowledged) =
            HeadFile::open(&head_path).map_err(at("open the head file", &head_path))?;
        let reader = Arc::new(Reader::new(dir, Index::default(), Tip::START));
        let mut store = Self {
            dir: dir.to_owned(),
            options,
            boot,
            reader,
            current: None,
            head,
            fold: Fold::default(),
            publisher: None,
            unwritten: Vec::new(),
            buffer: Vec::new(),
            since_head_sync: 0,
            probes: 0,
        };
        let remembered = store.options.witnesses.remember(dir);
        remembered.map_err(|error| at("keep the keys of witnesses in", dir)(io::Error::other(error)))?;
        let torn = store.take_up(acknowledged, false)?;
        Ok((store, torn))
    }

    /// Reads what is on disk and goes on from there. With `new_key` an operator has acknowledged damage: a key that has
    /// signed nothing yet takes over when all is well.
    pub(crate) fn take_up(
        &mut self,
        acknowledged: Option<Tip>,
        new_key: bool,
    ) -> Result<Option<TornTail>, OpenError> {
        let (dir, segments) = (self.dir.clone(), self.dir.join("segments"));
        let firsts = read::segments(&segments)?;
        let fresh = firsts.is_empty() && acknowledged.is_none_or(|tip| tip.seq == 0);
        let keyless = !crate::publish::key_path(&dir).exists();
        if fresh && acknowledged.is_none() && keyless {
            let path = dir.join("head");
            let written = self.head.write(Tip::START).and_then(|()| self.head.sync());
            written.map_err(at("write the head file", &path))?;
            files::sync_dir(&dir).map_err(at("sync the directory", &dir))?;
        }
        let mut found = if fresh { Found::default() } else { examine(&dir, &firsts, acknowledged)? };
        if fresh && acknowledged.is_none() && !keyless {
            let what = "the log has a key, but neither entries nor a head".to_owned();
            found.damage = Some(damaged(&segments, 0, 1, what));
        }
        self.fold = std::mem::take(&mut found.fold);
        self.unwritten = std::mem::take(&mut found.unwritten);
        self.reader.reset(Index::new(firsts, found.marks), self.fold.state.tip(), &self.fold.edge);
        let signs = if new_key && found.damage.is_none() {
            self.change_key()?;
            None
        } else {
            self.open_publisher(fresh)?
        };
        let known = files::read_damage(&dir).map_err(at("read what verify found in", &dir))?;
        match (found.damage.or(signs), known) {
            (Some(damage), _) => self.reader.refuse(Refusal::Damaged(damage)),
            (None, Some(damage)) => self.reader.refuse_known(damage),
            (None, None) if fresh => {
                let path = segments.join(file_name(1));
                self.current = Some(self.new_segment().map_err(at("make the segment", &path))?);
            }
            (None, None) => {
                self.forget_payloads()?;
                self.current = Some(reopen(&segments, &found.end, found.torn.is_some())?);
                // What was found beyond the head is on disk now, and counts.
                let path = dir.join("head");
                let tip = self.fold.state.tip();
                self.head
                    .write(tip)
                    .and_then(|()| self.head.sync())
                    .map_err(at("write the head file", &path))?;
            }
        }
        // Before anybody is served: a witness may have seen more than the last checkpoint on disk.
        if let Err(why) = self.publish(true) {
            tracing::error!("no checkpoint can be made: {why}");
        }
        Ok(found.torn)
    }

    /// Ends erasures that were cut short, and erases payloads whose entries never came to be: nobody could ask for it
    /// later.
    fn forget_payloads(&self) -> Result<(), OpenError> {
        let (dir, last) = (self.dir.join("payloads"), self.fold.state.tip().seq);
        let failed = || at("end an erasure in", &dir);
        // Where a crash came between the record of an erasure and its effect, the record is the last entry.
        if let Some(seq) = self.last_erasure() {
            files::erase_payload(&dir, seq).map_err(failed())?;
        }
        files::finish_erasures(&dir).map_err(failed())?;
        let orphans = files::payloads_after(&dir, last).map_err(at("list the payloads in", &dir))?;
        orphans.into_iter().try_for_each(|seq| files::erase_payload(&dir, seq)).map_err(at("erase in", &dir))
    }

    /// Makes a new key, with which checkpoints are signed from here on.
    fn change_key(&mut self) -> Result<(), OpenError> {
        let path = crate::publish::key_path(&self.dir);
        let key = self.make_key(&path)?;
        self.publisher = Some(Publisher::fresh(&self.dir, key, self.options.witnesses.clone()));
        self.first_checkpoint()
    }

    /// There is a checkpoint of every key from its first moment on, so that one that is gone is missed.
    fn first_checkpoint(&mut self) -> Result<(), OpenError> {
        let path = self.dir.join("checkpoint");
        let Some(publisher) = self.publisher.as_mut() else { return Ok(()) };
        let (now_ns, tip) = (clock::monotonic_ns(), self.fold.state.tip());
        let done = publisher.publish(tip.seq, self.fold.state.tree().root(), now_ns);
        let done = done.and_then(|()| publisher.write(now_ns, true));
        self.reader.published(publisher.published());
        done.map_err(|error| at("write", &path)(io::Error::other(error)))
    }

    fn make_key(&self, path: &Path) -> Result<NoteKey, OpenError> {
        let random = random().map_err(at("get random bytes for", path))?;
        let key = new_key(&random).map_err(|e| at("make", path)(io::Error::other(e)))?;
        write_key(&self.dir, &key).map_err(|e| at("write", path)(io::Error::other(e)))?;
        Ok(key)
    }

    /// Takes up the log's key and its checkpoints; gives what is wrong with them.
    fn open_publisher(&mut self, fresh: bool) -> Result<Option<Damage>, OpenError> {
        let tip = self.fold.state.tip();
        let path = self.dir.join("checkpoint");
        let wrong = |seq: u64, what: String| Some(damaged(&path, 0, seq, what));
        let key = match read_key(&self.dir) {
            Ok(Some(key)) => key,
            Ok(None) if fresh => {
                return self.change_key().map(|()| None);
            }
            Ok(None) => {
                return Ok(wrong(tip.seq + 1, "the log's key is gone, though there are entries".to_owned()));
            }
            Err(error) => return Ok(wrong(tip.seq + 1, error.to_string())),
        };
        let publisher = match Publisher::open(&self.dir, key, self.options.witnesses.clone()) {
            Ok(publisher) => publisher,
            Err(error) => return Ok(wrong(tip.seq.max(1), error.to_string())),
        };
        let published = publisher.published();
        self.reader.published(published.clone());
        self.publisher = Some(publisher);
        // There is one from the first start on.
        if published.latest.is_none() && fresh {
            return self.first_checkpoint().map(|()| None);
        }
        if published.latest.is_none() {
            return Ok(wrong(tip.seq + 1, "the checkpoint is gone".to_owned()));
        }
        for signed in [&published.latest, &published.complete].into_iter().flatten() {
            let checkpoint = &signed.checkpoint;
            if checkpoint.size > tip.seq {
                let what = format!(
                    "the last checkpoint covers {} entries, but the log ends with entry {}",
                    checkpoint.size, tip.seq
                );
                return Ok(wrong(tip.seq + 1, what));
            }
            let root = if checkpoint.size == tip.seq {
                Ok(self.fold.state.tree().root())
            } else {
                self.reader.root(checkpoint.size).map_err(|error| error.to_string())
            };
            if root.as_ref() != Ok(&checkpoint.root) {
                let what = match root {
                    Ok(_) => format!(
                        "the checkpoint of {} entries has another root than they have",
                        checkpoint.size
                    ),
                    Err(why) => {
                        format!("the checkpoint of {} entries cannot be compared: {why}", checkpoint.size)
                    }
                };
                return Ok(wrong(checkpoint.size, what));
            }
        }
        Ok(None)
    }
}

/// Random bytes for a key and its name. The generator is waited for: a key from an unseeded one could be guessed.
pub(crate) fn random() -> io::Result<[u8; 40]> {
    let mut bytes = [0; 40];
    // PID 1 has seeded it from the last boot's seed; on a first boot it takes a moment.
    for _ in 0..1000 {
        match entropy::fill_seeded(&mut bytes) {
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done.map(|()| bytes),
        }
    }
    Err(io::Error::other("the kernel's generator is not seeded after ten seconds"))
}

/// Where the good entries of the last segment end.
#[derive(Debug, Default)]
struct End {
    first: u64,
    offset: u64,
    last: u64,
    /// Where the last acknowledged one ends; what stands between has to be written again.
    sure: u64,
}

/// What the files of an existing ledger say.
#[derive(Default)]
struct Found {
    fold: Fold,
    end: End,
    marks: Vec<(u64, u64)>,
    unwritten: Vec<Whole>,
    torn: Option<TornTail>,
    damage: Option<Damage>,
}

impl Found {
    fn damaged(fold: Fold, damage: Damage) -> Self {
        Self { fold, damage: Some(damage), ..Self::default() }
    }
}

/// What a scan of one segment found.
struct Scan {
    fold: Fold,
    /// Where the good entries end.
    offset: u64,
    /// Where the last good entry stands; 0 when there is none.
    last: u64,
    /// Places of some entries.
    marks: Vec<(u64, u64)>,
    /// Why the entries end, when it is not with zeros or the end of the file.
    broken: Option<String>,
    /// The entry that was changed, when a later one tells: it is not among the good ones any more.
    changed: Option<u64>,
    /// The hash of the entry that was asked for, when it is among them.
    asked: Option<Sha256>,
    /// Where the entry ends that was asked for.
    asked_end: u64,
    /// The first tile that was changed, and the first entry that it is about.
    tile: Option<Damage>,
    /// Tiles for which there is no room.
    unwritten: Vec<Whole>,
}

/// Why a segment cannot be scanned.
enum NoScan {
    /// Its header is not valid.
    Header,
    /// It does not begin where the log before it ends.
    Gap(Tip),
}

/// Walks a segment from where the log stood before it, and looks at the tiles that its entries complete: those that
/// are torn are made again.
///
/// `ask` is the last acknowledged entry; the scan ends before entry `until` at the latest.
fn scan(dir: &Path, first: u64, fold: Fold, ask: Tip, until: u64) -> Result<Result<Scan, NoScan>, OpenError> {
    let path = dir.join("segments").join(file_name(first));
    let failed = || at("read the segment", &path);
    let file = File::open(&path).map_err(at("open the segment", &path))?;
    let Some(header) = Header::read(&file).map_err(failed())?.filter(|header| header.first == first) else {
        return Ok(Err(NoScan::Header));
    };
    let start = fold.state.tip();
    if (header.first, header.prev) != (start.seq + 1, start.hash) {
        return Ok(Err(NoScan::Gap(start)));
    }
    let asked = (ask.seq == start.seq).then_some(start.hash);
    let mut scan = Scan {
        fold,
        offset: HEADER,
        last: 0,
        marks: Vec::new(),
        broken: None,
        changed: None,
        asked,
        asked_end: HEADER,
        tile: None,
        unwritten: Vec::new(),
    };
    let mut walker = Walker::new(&file, HEADER);
    let mut wholes: Vec<Whole> = Vec::new();
    loop {
        if scan.fold.state.tip().seq + 1 >= until {
            return Ok(Ok(scan));
        }
        let broken = match walker.step().map_err(failed())? {
            Step::End { .. } => None,
            Step::Bad { why, .. } => Some(why),
            Step::Frame { offset, bytes, .. } => match scan.fold.accept(bytes, |whole| wholes.push(whole)) {
                Ok(_) => {
                    let tip = scan.fold.state.tip();
                    scan.last = offset;
                    if tip.seq == ask.seq {
                        scan.asked = Some(tip.hash);
                        scan.asked_end = walker.offset();
                    }
                    if scan.marks.last().is_none_or(|mark| tip.seq >= mark.0 + MARK_EVERY) {
                        scan.marks.push((tip.seq, offset));
                    }
                    scan.offset = walker.offset();
                    for whole in wholes.drain(..) {
                        let damage = mend(dir, whole, &mut scan.unwritten)?;
                        scan.tile = scan.tile.take().or(damage);
                    }
                    continue;
                }
                Err(broken) => {
                    let (tip, hash) = (scan.fold.state.tip(), leaf_hash(bytes));
                    let blamed = read::blame(&mut walker, &broken, hash, tip, ask).map_err(failed())?;
                    scan.changed = (blamed <= tip.seq).then_some(blamed);
                    Some(broken.to_string())
                }
            },
        };
        scan.broken = broken;
        return Ok(Ok(scan));
    }
}

/// Makes a torn tile again; gives the damage when it was changed.
fn mend(dir: &Path, whole: Whole, unwritten: &mut Vec<Whole>) -> Result<Option<Damage>, OpenError> {
    let path = files::tile_path(dir, whole.tile);
    match compare_tile(dir, &whole).map_err(at("read the tile", &path))? {
        Compared::Same => {}
        // Where that cannot be, for want of room or otherwise, the log is read all the same.
        Compared::Torn => unwritten.extend(write_tile(dir, &whole).is_err().then_some(whole)),
        Compared::Changed(index) => return Ok(Some(tile_damage(dir, &whole, index))),
    }
    Ok(None)
}

/// What is wrong with a tile from its hash of this index on.
pub(crate) fn tile_damage(dir: &Path, whole: &Whole, index: u64) -> Damage {
    let seq = ((whole.tile.index * 256 + index) << (8 * u32::from(whole.tile.level))) + 1;
    let what = format!("the tile {} has another hash than the entries from {seq} on give", whole.tile.path());
    damaged(&files::tile_path(dir, whole.tile), index * 32, seq, what)
}

/// What the log had come to before its last segment: from that segment's snapshot, else by reading what comes before.
fn before_last(
    dir: &Path,
    firsts: &[u64],
    unwritten: &mut Vec<Whole>,
) -> Result<Result<Fold, Found>, OpenError> {
    let segments = dir.join("segments");
    let snapshot = |first: u64| {
        let path = segments.join(snapshot_name(first));
        files::read_snapshot(&segments, first).map_err(at("read the snapshot", &path))
    };
    let archived = files::archived(dir).unwrap_or(1);
    if firsts[0] > archived {
        let what = format!("the first segment left starts with entry {}, and none was archived", firsts[0]);
        return Ok(Err(Found::damaged(Fold::default(), damaged(&segments, 0, archived, what))));
    }
    let mut start = firsts.len() - 1;
    let mut fold = loop {
        if firsts[start] == 1 {
            break Fold::default();
        }
        if let Some(fold) = snapshot(firsts[start])? {
            break fold;
        }
        if start == 0 {
            let what =
                format!("the snapshot after the archived segments, before entry {}, is missing", firsts[0]);
            return Ok(Err(Found::damaged(Fold::default(), damaged(&segments, 0, 1, what))));
        }
        start -= 1;
    };
    for (i, first) in firsts.iter().copied().enumerate().take(firsts.len() - 1).skip(start) {
        let path = segments.join(file_name(first));
        let before = fold.clone();
        let read = match scan(dir, first, fold, Tip::START, u64::MAX)? {
            Ok(read) => read,
            Err(why) => return Ok(Err(Found::damaged(before.clone(), no_scan(&path, first, &why)))),
        };
        let tip = read.fold.state.tip();
        if read.broken.is_some() || tip.seq + 1 != firsts[i + 1] {
            let what = read.broken.unwrap_or_else(|| "entries are missing at its end".to_owned());
            return Ok(Err(Found::damaged(read.fold, damaged(&path, read.offset, tip.seq + 1, what))));
        }
        if let Some(damage) = read.tile {
            return Ok(Err(Found::damaged(read.fold, damage)));
        }
        fold = read.fold;
        unwritten.extend(read.unwritten);
        if let Err(error) = write_snapshot(&segments, firsts[i + 1], &fold) {
            // The next opening reads as much again.
            tracing::warn!("{}: {error}", segments.join(snapshot_name(firsts[i + 1])).display());
        }
    }
    Ok(Ok(fold))
}

fn no_scan(path: &Path, first: u64, why: &NoScan) -> Damage {
    let what = match why {
        NoScan::Header => {
            File::open(path).map_or_else(|error| error.to_string(), |file| Header::fault(&file))
        }
        NoScan::Gap(tip) => format!("the segment does not continue entry {}", tip.seq),
    };
    damaged(path, 0, first, what)
}

/// Reads the last segment and compares it with the head file.
fn examine(dir: &Path, firsts: &[u64], acknowledged: Option<Tip>) -> Result<Found, OpenError> {
    let segments = dir.join("segments");
    let head_tip = acknowledged.unwrap_or(Tip::START);
    let Some(&last_first) = firsts.last() else {
        let what = format!("no segment is left, but entry {} was acknowledged", head_tip.seq);
        return Ok(Found::damaged(Fold::default(), damaged(&segments, 0, 1, what)));
    };
    let path = segments.join(file_name(last_first));
    let mut unwritten = Vec::new();
    let fold = match before_last(dir, firsts, &mut unwritten)? {
        Ok(fold) => fold,
        Err(found) => return Ok(found),
    };
    let before = fold.clone();
    let read = match scan(dir, last_first, fold, head_tip, u64::MAX)? {
        // Once more, up to the entry that was changed.
        Ok(Scan { changed: Some(seq), .. }) if seq >= last_first => {
            let what = "it is not the one on which later entries stand".to_owned();
            let again = scan(dir, last_first, before.clone(), head_tip, seq)?;
            again.map(|again| Scan { broken: Some(what), ..again })
        }
        Ok(read) if head_tip.seq >= last_first && read.asked.is_some_and(|hash| hash != head_tip.hash) => {
            let what = "it is not the one that was acknowledged".to_owned();
            let again = scan(dir, last_first, before.clone(), head_tip, head_tip.seq)?;
            again.map(|again| Scan { broken: Some(what), ..again })
        }
        read => read,
    };
    let scan = match read {
        Ok(scan) => scan,
        // What the segments before it hold can still be read.
        Err(why) => return Ok(Found::damaged(before, no_scan(&path, last_first, &why))),
    };
    let next = scan.fold.state.tip().seq + 1;
    let broken = |what: String| Some(damaged(&path, scan.offset, next, what));
    let file = File::open(&path).map_err(at("open the segment", &path))?;
    let behind = behind(&file, scan.offset).map_err(at("read the segment", &path))?;
    let why = scan.broken.clone().unwrap_or_else(|| "nothing stands there".to_owned());
    let (mut torn, mut damage) = (None, None);
    match acknowledged {
        None => {
            damage = broken("the head file is missing or unreadable, though there are entries".to_owned());
        }
        Some(head) if head.seq >= next => {
            damage = broken(format!("{why}, but entry {} was acknowledged", head.seq));
        }
        Some(head) if head.seq + 1 >= last_first && scan.asked != Some(head.hash) => {
            damage = broken(format!("entry {} is not the one that was acknowledged", head.seq));
        }
        Some(_) if behind.durable >= next => {
            damage = broken(format!("{why}, but entries after it stand on it"));
        }
        Some(_) if behind.end > 0 => {
            let segment = file_name(last_first);
            let bytes = behind.end - scan.offset;
            torn = Some(TornTail { segment, offset: scan.offset, bytes, why });
        }
        Some(_) => {}
    }
    let damage = damage.or(scan.tile);
    let end = End { first: last_first, offset: scan.offset, last: scan.last, sure: scan.asked_end };
    unwritten.extend(scan.unwritten);
    Ok(Found { fold: scan.fold, end, marks: scan.marks, unwritten, torn, damage })
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
    // After a sync that failed, or never returned, what is read here can be in memory alone, and no later sync would
    // write it: so it is written again.
    let mut at_offset = end.sure;
    let mut part = vec![0; 1 << 20];
    while at_offset < end.offset {
        let want = usize::try_from(end.offset - at_offset).unwrap_or(usize::MAX).min(part.len());
        let again = file
            .read_exact_at(&mut part[..want], at_offset)
            .and_then(|()| file.write_all_at(&part[..want], at_offset));
        again.map_err(at("write the segment again", &path))?;
        at_offset += want as u64;
    }
    file.sync_all().map_err(at("sync the segment", &path))?;
    let len = file.metadata().map_err(at("look at the segment", &path))?.len();
    Ok(Current { file, path, end: end.offset, ahead: len, last: end.last })
}
