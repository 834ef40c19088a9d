//! The ledger on disk: appending to it, and publishing what it has come to. Blocking, for one owner.
//!
//! ```text
//! <state>/segments/<number of its first entry>.log    the entries, append-only
//! <state>/segments/<same>.state                       what the log had come to before it; can be derived
//! <state>/segments/new.tmp                            a segment being made; renamed when it is whole
//! <state>/tile/                                       the tree's whole hash tiles (C2SP tlog-tiles); can be derived
//! <state>/payloads/<number of its entry>              payloads that can be erased, with their salts
//! <state>/head                                        the last acknowledged entry
//! <state>/probe                                       what the health check writes
//! ```
//!
//! `publish.rs` has the files of checkpoints, `open.rs` how a ledger is opened after whatever happened.

use crate::files::{self, Erasable, sync_dir};
use crate::fold::{Completed, Fold, Whole};
use crate::head::HeadFile;
use crate::publish::{Publisher, Witnesses};
use crate::read::{self, Reader};
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Header, RECORD_MAX, file_name, push_frame};
use nix::sys::statvfs::statvfs;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{Appended, Kind, VerifyReport, Witnessed};
use octant_api::text::Json;
use octant_ids::{Aid, ByteSize, Principal};
use octant_sys::clock;
use octant_tlog::checkpoint::Signed;
use octant_tlog::entry::{BootId, Draft, Stamp};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Zeros are written ahead of the entries in steps of at least this, at most [`AHEAD_MAX`] bytes.
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 4 << 20;
/// The least that is tried when there is no room for a whole step.
const PAGE: u64 = 4096;
/// The head file is synced at least once in so many appends.
const HEAD_EVERY: u64 = 4096;
/// One sector, which a disk writes whole.
const PROBE: usize = 512;
/// What an entry has beside its payload, at most, with its frame.
const BESIDE: usize = 512;

/// What a new segment, its snapshot and some tiles need.
const ROTATION: u64 = 256 << 10;

/// How a sync is done; a test puts a failing one here.
pub type SyncFn = fn(&File) -> io::Result<()>;

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment that reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// How a sync is done.
    pub sync: SyncFn,
    /// How many bytes of the file system are kept for the system's own records: agents' notes and intents are refused
    /// when fewer are free.
    pub reserve_bytes: u64,
    /// How many entries an agent can make in its life.
    pub agent_entries: u64,
    /// How many bytes they can have.
    pub agent_bytes: u64,
    /// Who cosigns.
    pub(crate) witnesses: Witnesses,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Large enough that a change of segment is rare, small enough to scan at a start within a second.
            segment_bytes: 64 << 20,
            sync: File::sync_data,
            // Some ten thousand lifecycle records: enough to end every agent and shut down with all of it on record.
            reserve_bytes: 16 << 20,
            // A note every ten seconds for eleven days, each of 300 bytes.
            agent_entries: 100_000,
            agent_bytes: 32 << 20,
            witnesses: Witnesses::default(),
        }
    }
}

/// A draft, and its payload where that is to be kept apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub(crate) draft: Draft,
    pub(crate) payload: Option<Erasable>,
}

impl Item {
    /// How many bytes of payload it has.
    pub(crate) fn bytes(&self) -> usize {
        self.draft.content.len() + self.payload.as_ref().map_or(0, |payload| payload.text.len())
    }

    /// Whether it may use what is kept for the system: what PID 1, `agents` and the ledger itself have to say about
    /// starts and ends, and operators; not what announces more work.
    fn is_system(&self) -> bool {
        let actor = match &self.draft.actor {
            Principal::Init | Principal::Operator(_) => true,
            Principal::Service(name) => matches!(name.as_str(), "agents" | crate::service::NAME),
            Principal::Agent(_) | Principal::Stranger(_) => false,
        };
        actor && self.draft.kind != Kind::Intent
    }
}

impl From<Draft> for Item {
    fn from(draft: Draft) -> Self {
        Self { draft, payload: None }
    }
}

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// Up to where zeros are written.
    pub(crate) ahead: u64,
    /// Where the last frame stands; 0 when this segment has none.
    pub(crate) last: u64,
}

/// The ledger's one writer.
#[derive(Debug)]
pub struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) boot: BootId,
    pub(crate) reader: Arc<Reader>,
    /// None when the ledger is damaged and can only be read.
    pub(crate) current: Option<Current>,
    pub(crate) head: HeadFile,
    pub(crate) fold: Fold,
    /// None when the log's key or checkpoint cannot be relied on.
    pub(crate) publisher: Option<Publisher>,
    /// Tiles for which there was no room; they can be made again, so entries do not wait for them.
    pub(crate) unwritten: Vec<Whole>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) since_head_sync: u64,
    pub(crate) probes: u64,
}

/// A batch on its way to the disk.
struct Batch {
    buffer: Vec<u8>,
    completed: Completed,
    /// Numbers of its entries and where they stand in the buffer.
    places: Vec<(u64, u64)>,
    payloads: Vec<u64>,
}

/// What became of each draft of a batch.
pub type Outcomes = Vec<Result<Appended, Refusal>>;

impl Store {
    /// What reads this ledger, at any time and from any thread.
    #[must_use]
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    /// Appends the drafts that the rules allow and returns when they are on stable storage; or appends none.
    ///
    /// # Errors
    /// [`Refusal`] of them all. After [`Refusal::Storage`] and [`Refusal::Damaged`] every later append is refused too;
    /// after [`Refusal::NoSpace`] the next one is tried anew.
    pub fn commit(&mut self, items: &[Item], stamp: Stamp) -> Result<Outcomes, Refusal> {
        if let Some(refusal) = self.reader.refusal().filter(Refusal::is_final) {
            return Err(refusal);
        }
        let mark =
            self.fold.state.mark(items.iter().filter_map(|item| item.draft.agent).collect::<BTreeSet<_>>());
        let mut batch = Batch {
            buffer: std::mem::take(&mut self.buffer),
            completed: Vec::new(),
            places: Vec::new(),
            payloads: Vec::new(),
        };
        batch.buffer.clear();
        let done = self.try_commit(items, stamp, &mut batch);
        if let Err(refusal) = &done {
            self.fold.back(mark);
            for seq in &batch.payloads {
                // One that stays lies under a number that its next owner overwrites.
                let _ = files::erase_payload(&self.dir.join("payloads"), *seq);
            }
            self.reader.refuse(refusal.clone());
        }
        self.buffer = batch.buffer;
        done
    }

    fn try_commit(&mut self, items: &[Item], stamp: Stamp, batch: &mut Batch) -> Result<Outcomes, Refusal> {
        if self.current.as_ref().is_some_and(|current| current.end >= self.options.segment_bytes) {
            self.rotate()?;
        }
        self.write_tiles()?;
        let room = self.room_for_others(items)?;
        let bytes: usize = items.iter().map(|item| item.bytes() + BESIDE).sum();
        let current = self.current.as_mut().ok_or_else(|| Refusal::Storage {
            path: self.dir.clone(),
            why: "there is no open segment".to_owned(),
        })?;
        let end = current.end + bytes as u64;
        current.reserve(end).map_err(|error| Refusal::of_io(&current.path, &error))?;
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            outcomes.push(self.seal(item, stamp, &room, batch)?);
        }
        if !batch.payloads.is_empty() {
            let dir = self.dir.join("payloads");
            sync_dir(&dir).map_err(|error| Refusal::of_io(&dir, &error))?;
        }
        if !batch.places.is_empty() {
            self.write(batch)?;
        }
        match room {
            Ok(()) => self.reader.clear_no_space(),
            Err(refusal) => self.reader.refuse(refusal),
        }
        Ok(outcomes)
    }

    /// Seals one draft into the batch, if the rules allow it.
    fn seal(
        &mut self,
        item: &Item,
        stamp: Stamp,
        room: &Result<(), Refusal>,
        batch: &mut Batch,
    ) -> Result<Result<Appended, Refusal>, Refusal> {
        if let Err(refusal) = room
            && !item.is_system()
        {
            return Ok(Err(refusal.clone()));
        }
        if let Err(refusal) = self.within_quota(item) {
            return Ok(Err(refusal));
        }
        if item.draft.kind == Kind::Intent
            && let Some(seq) = self.fold.state.too_many_intents(&item.draft.actor)
        {
            // Its own oldest would be forgotten: instead it is put on record that nobody said what became of it.
            let forgotten = unknown(seq, "too many of its actor's intents wait for their outcomes")?;
            self.push(&forgotten, stamp, batch).map_err(Refusal::Rule)?;
        }
        let seq = self.fold.state.tip().seq + 1;
        if let Err(rule) =
            self.fold.state.check(&item.draft.actor, item.draft.kind, item.draft.intent, item.draft.agent)
        {
            return Ok(Err(Refusal::Rule(rule)));
        }
        if let Some(payload) = &item.payload {
            let dir = self.dir.join("payloads");
            batch.payloads.push(seq);
            files::write_payload(&dir, seq, payload).map_err(|error| Refusal::of_io(&dir, &error))?;
        }
        Ok(self.push(&item.draft, stamp, batch).map_err(Refusal::Rule))
    }

    fn push(
        &mut self,
        draft: &Draft,
        stamp: Stamp,
        batch: &mut Batch,
    ) -> Result<Appended, octant_tlog::state::Rule> {
        let durable = self.reader.tip().seq;
        let offset = batch.buffer.len() as u64;
        let (fold, boot, completed) = (&mut self.fold, self.boot, &mut batch.completed);
        let tip =
            push_frame(&mut batch.buffer, durable, |out| fold.seal(boot, draft, stamp, out, completed))?;
        batch.places.push((tip.seq, offset));
        Ok(Appended { seq: tip.seq, hash: tip.hash, ticket: None })
    }

    /// Whether what is not the system's own may still be written.
    fn room_for_others(&self, items: &[Item]) -> Result<Result<(), Refusal>, Refusal> {
        if self.options.reserve_bytes == 0 || items.iter().all(Item::is_system) {
            return Ok(Ok(()));
        }
        let free = self.free().map_err(|error| Refusal::of_io(&self.dir, &error))?;
        let reserve = self.options.reserve_bytes;
        Ok(if free >= reserve { Ok(()) } else { Err(self.too_little(reserve)) })
    }

    /// Without what is free at the moment: another number would be another state, and each change of state is an entry.
    fn too_little(&self, least: u64) -> Refusal {
        let why =
            format!("less than {} is free, which is kept for the system's own records", ByteSize(least));
        Refusal::NoSpace { path: self.dir.clone(), why }
    }

    /// The bytes that can still be written below the state directory.
    fn free(&self) -> io::Result<u64> {
        let all = statvfs(&self.dir)?;
        Ok(all.blocks_available().saturating_mul(all.fragment_size()))
    }

    fn within_quota(&self, item: &Item) -> Result<(), Refusal> {
        let Principal::Agent(agent) = item.draft.actor else { return Ok(()) };
        let Some(open) = self.fold.state.partition(agent) else { return Ok(()) };
        let Options { agent_entries, agent_bytes, .. } = self.options;
        if open.own_entries >= agent_entries {
            return Err(Refusal::Quota { agent, what: "entries", limit: agent_entries });
        }
        if open.own_bytes + (item.bytes() as u64) > agent_bytes {
            return Err(Refusal::Quota { agent, what: "bytes", limit: agent_bytes });
        }
        Ok(())
    }

    /// Writes and syncs a batch, then everything that follows from its entries.
    fn write(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        let sync = self.options.sync;
        let no_segment =
            || Refusal::Storage { path: self.dir.clone(), why: "there is no open segment".to_owned() };
        let current = self.current.as_mut().ok_or_else(no_segment)?;
        let start = current.end;
        current.write(&batch.buffer, sync)?;
        current.last = start + batch.places.last().map_or(0, |place| place.1);
        for (seq, offset) in &batch.places {
            self.reader.mark(*seq, start + offset);
        }
        self.settle(batch);
        Ok(())
    }

    /// Everything in the batch is durable: says so to readers and in the head file, writes the tiles that are whole. What
    /// fails here does not undo it, but ends the writing.
    fn settle(&mut self, batch: &mut Batch) {
        self.unwritten.extend(self.fold.settle(&mut batch.completed));
        if let Err(refusal) = self.write_tiles() {
            // A full disk refuses the next entries, until there is room for the tile.
            self.reader.refuse(refusal);
        }
        let tip = self.fold.state.tip();
        self.reader.advance(tip, &self.fold.edge);
        self.since_head_sync += 1;
        let written = self.head.write(tip);
        let written = if self.since_head_sync >= HEAD_EVERY {
            written.and_then(|()| self.sync_head())
        } else {
            written
        };
        if let Err(error) = written {
            self.reader.refuse(self.head_refusal(&error));
        }
    }

    /// Writes the tiles that are not written yet.
    fn write_tiles(&mut self) -> Result<(), Refusal> {
        while let Some(whole) = self.unwritten.first() {
            files::write_tile(&self.dir, whole)
                .map_err(|error| Refusal::of_io(&files::tile_path(&self.dir, whole.tile), &error))?;
            self.unwritten.remove(0);
        }
        Ok(())
    }

    pub(crate) fn head_refusal(&self, error: &io::Error) -> Refusal {
        Refusal::Storage { path: self.dir.join("head"), why: error.to_string() }
    }

    fn sync_head(&mut self) -> io::Result<()> {
        self.since_head_sync = 0;
        self.head.sync()
    }

    /// Signs a checkpoint if it is time for one; with `rest` if any entry waits for one. That also syncs the head file
    /// and the checkpoint: it is for moments in which nothing else is to be done.
    ///
    /// # Errors
    /// A file cannot be written. Nothing acknowledged is lost by it; the next call tries again.
    pub fn publish(&mut self, rest: bool) -> Result<(), String> {
        if self.reader.refusal().is_some_and(|refusal| refusal.is_final()) {
            // What is in doubt is not signed.
            return Ok(());
        }
        let now_ns = clock::monotonic_ns();
        let tip = self.fold.state.tip();
        if let Some(publisher) = self.publisher.as_mut() {
            if publisher.is_due(tip.seq, now_ns) || (rest && publisher.behind(tip.seq)) {
                let root = self.fold.state.tree().root();
                publisher.publish(tip.seq, root, now_ns).map_err(|error| error.to_string())?;
                self.reader.published(publisher.published());
            }
            publisher.write(now_ns, rest).map_err(|error| error.to_string())?;
        }
        if rest {
            self.sync_head().map_err(|error| format!("sync the head file: {error}"))?;
        }
        Ok(())
    }

    /// Recomputes everything and compares with these checkpoints besides, for an owner that runs no service.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError). Damage is in the report.
    pub fn verify(&self, checkpoints: &[String]) -> Result<VerifyReport, read::ReadError> {
        self.reader.verify(&AtomicBool::new(false), checkpoints, &self.options.witnesses)
    }

    /// The agents whose partitions are open, for an owner that runs no service.
    #[must_use]
    pub fn open_partitions(&self) -> Vec<Aid> {
        self.fold.state.partitions().map(|(agent, _)| agent).collect()
    }

    /// The intents without outcome, for the same.
    #[must_use]
    pub fn open_intents(&self) -> Vec<u64> {
        self.fold.state.intents().map(|(seq, _)| seq).collect()
    }

    /// Intents without outcome that earlier boots left.
    pub(crate) fn intents_of_earlier_boots(&self) -> Vec<u64> {
        self.fold.state.intents().filter(|(_, boot)| *boot != self.boot).map(|(seq, _)| seq).collect()
    }

    /// Seals every partition whose last entry is of an earlier boot; how many there were.
    pub(crate) fn seal_stale(&mut self) -> Result<usize, String> {
        let stale = self.fold.state.partitions().filter(|(_, open)| open.boot != self.boot);
        let agents: Vec<_> = stale.map(|(agent, _)| agent).collect();
        let payload = serde_json::json!({ "reason": "it ended with a boot before this one" });
        let draft = own(Kind::Seal, &payload).map_err(|refusal| refusal.to_string())?;
        let item = |agent: &Aid| Item::from(Draft { agent: Some(*agent), ..draft.clone() });
        for part in agents.chunks(64) {
            let items: Vec<Item> = part.iter().map(item).collect();
            let stamp = Stamp { mono_ns: clock::monotonic_ns(), wall_ms: clock::wall_ms() };
            self.commit(&items, stamp).map_err(|refusal| refusal.to_string())?;
        }
        Ok(agents.len())
    }

    /// Keeps cosignatures that were checked.
    pub(crate) fn cosign(&mut self, checked: Signed) -> Result<Witnessed, ApiError> {
        let Some(publisher) = self.publisher.as_mut() else {
            let why = "the log's key is not usable";
            let next = "see `octant ledger verify`";
            return Err(ApiError::new(Code::Damaged, "take a cosignature", "log.key", why, next));
        };
        publisher.keep(checked)?;
        let published = publisher.published();
        let witnessed = published.witnessed.clone();
        self.reader.published(published);
        Ok(witnessed)
    }

    /// Whether entries wait for a checkpoint or a sync of the head file.
    #[must_use]
    pub fn has_more(&self) -> bool {
        if self.reader.refusal().is_some_and(|refusal| refusal.is_final()) {
            return false;
        }
        let behind =
            |publisher: &Publisher| publisher.behind(self.fold.state.tip().seq) || publisher.is_unwritten();
        self.since_head_sync > 0 || self.publisher.as_ref().is_some_and(behind)
    }

    pub(crate) fn rotate(&mut self) -> Result<(), Refusal> {
        let segments = self.dir.join("segments");
        let refused = |error: io::Error| Refusal::of_io(&segments, &error);
        let first = self.fold.state.tip().seq + 1;
        // Before the segment itself: one without its snapshot can be opened, but not as quickly.
        files::write_snapshot(&segments, first, &self.fold).map_err(refused)?;
        // Tiles of earlier segments are not looked at when the ledger is opened, so they must have come to the disk
        // before there is a later segment.
        let root = File::open(&self.dir).map_err(refused)?;
        nix::unistd::syncfs(&root).map_err(|errno| refused(errno.into()))?;
        let next = self.new_segment().map_err(refused)?;
        // The head is synced with each change of segment, so that it is never more than one segment behind.
        self.sync_head().map_err(|error| self.head_refusal(&error))?;
        if let Some(old) = self.current.replace(next) {
            // Gives back the zeros beyond its end. Readers stop at the end either way, so a failure costs room only.
            let _ = old.file.set_len(old.end);
        }
        self.reader.add_segment(first);
        Ok(())
    }

    /// Makes the segment that starts after the tip: whole under another name first, so that a segment with half
    /// a header never stands in its place.
    pub(crate) fn new_segment(&self) -> io::Result<Current> {
        let tip = self.fold.state.tip();
        let segments = self.dir.join("segments");
        let (making, path) = (segments.join("new.tmp"), segments.join(file_name(tip.seq + 1)));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&making)?;
        let header = Header { first: tip.seq + 1, prev: tip.hash };
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
        // A change of segment needs more than the segment that is there has.
        let least = self.options.reserve_bytes.max(ROTATION);
        let free = self.free().map_err(|error| Refusal::of_io(&self.dir, &error))?;
        if free < least {
            let refusal = self.too_little(least);
            self.reader.refuse(refusal.clone());
            return Err(refusal);
        }
        self.write_tiles()?;
        self.reader.clear_no_space();
        Ok(())
    }

    fn check_last(&mut self) -> Result<(), Refusal> {
        let refuse = |store: &Self, refusal: Refusal| {
            store.reader.refuse(refusal.clone());
            Err(refusal)
        };
        let last = self.fold.state.tip();
        match self.head.read() {
            Ok(Some(tip)) if tip == last => {}
            Ok(_) => {
                let why = "it does not name the last entry".to_owned();
                return refuse(self, Refusal::Storage { path: self.dir.join("head"), why });
            }
            Err(error) => return refuse(self, self.head_refusal(&error)),
        }
        let Some(current) = self.current.as_ref().filter(|current| current.last > 0) else { return Ok(()) };
        match read::hash_at(&current.file, current.last) {
            Ok(Some(hash)) if hash == last.hash => Ok(()),
            Ok(_) => {
                let what = "the last entry is not what was written".to_owned();
                let damage = damaged(&current.path, current.last, last.seq, what);
                refuse(self, Refusal::Damaged(damage))
            }
            Err(error) => {
                let why = error.to_string();
                refuse(self, Refusal::Storage { path: current.path.clone(), why })
            }
        }
    }
}

/// The outcome of an intent of which nobody said what became of it.
pub(crate) fn unknown(seq: u64, why: &str) -> Result<Draft, Refusal> {
    let payload = serde_json::json!({ "unknown": true, "text": why });
    own(Kind::Outcome, &payload).map(|draft| Draft { intent: Some(seq), ..draft })
}

/// A draft of the ledger itself.
pub(crate) fn own(kind: Kind, payload: &serde_json::Value) -> Result<Draft, Refusal> {
    let payload = Json::of(payload).map_err(|error| Refusal::Draft(error.to_string()))?;
    let name = crate::service::NAME.parse().map_err(|error| Refusal::Draft(format!("{error}")))?;
    Ok(Draft::new(Principal::Service(name), kind, payload))
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is not synced here is only the newest position of head and checkpoint, which the segments tell too.
        let _ = self.publish(true);
    }
}

impl Current {
    /// Writes at the end and syncs. The end moves only when both have succeeded.
    fn write(&mut self, bytes: &[u8], sync: SyncFn) -> Result<(), Refusal> {
        let end = self.end + bytes.len() as u64;
        self.reserve(end).map_err(|error| Refusal::of_io(&self.path, &error))?;
        if let Err(error) = self.file.write_all_at(bytes, self.end) {
            // Whole frames of it may stand there, and would be taken for entries by the next opening.
            self.file.set_len(self.end).map_err(|error| Refusal::Storage {
                path: self.path.clone(),
                why: format!("cut: {error}"),
            })?;
            self.ahead = self.end;
            return Err(Refusal::of_io(&self.path, &error));
        }
        // After a failed sync nobody knows what is on disk, and a second sync may say yes although the pages
        // are gone. So this ends the writing until the file has been read again from the start.
        sync(&self.file)
            .map_err(|error| Refusal::Storage { path: self.path.clone(), why: format!("sync: {error}") })?;
        self.end = end;
        Ok(())
    }

    /// Writes zeros up to at least `end`. The next sync makes them durable along with the entries.
    pub(crate) fn reserve(&mut self, end: u64) -> io::Result<()> {
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
