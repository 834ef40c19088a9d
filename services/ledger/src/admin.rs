//! What operators do to the log: erase a payload, go on after damage, move old segments out of the way. Each is an
//! entry, before its effect wherever the log can take one.

use crate::files::{self, erase_payload, sync_dir};
use crate::fold::Fold;
use crate::publish::Published;
use crate::read::PageLimits;
use crate::refusal::Refusal;
use crate::segment::{HEADER, Step, Walker, file_name};
use crate::store::{Item, Store, own};
use crate::verify::digest;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{
    AcknowledgeRequest, Appended, ArchiveRequest, Archived, Damage, EraseRequest, Kind,
};
use octant_ids::Principal;
use octant_sys::clock;
use octant_tlog::bundle::{KeyChange, Replaced};
use octant_tlog::checkpoint::Signed;
use octant_tlog::entry::{Draft, Stamp};
use octant_tlog::state::Tip;
use octant_tlog::tile::Tile;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4096;

/// What an acknowledgement puts on record, while it is on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    caller: Principal,
    lost: Value,
    replaces: Option<Replaced>,
}

/// More than a reason, a damage and a checkpoint have.
const CHANGE_MAX: u64 = 256 << 10;

fn change_path(dir: &Path) -> PathBuf {
    dir.join("acknowledging")
}

fn refused(what: &'static str, place: &str, code: Code, why: String, next: &str) -> ApiError {
    ApiError::new(code, what, place, why, next)
}

fn reason(what: &'static str, text: &str) -> Result<(), ApiError> {
    let why = match text.trim().len() {
        0 => "there is none".to_owned(),
        len if len > REASON_MAX => format!("it has {len} bytes, more than {REASON_MAX}"),
        _ => return Ok(()),
    };
    Err(refused(
        what,
        "reason",
        Code::InvalidParams,
        why,
        "say in a sentence why; it stays on record for good",
    ))
}

fn stamp() -> Stamp {
    Stamp { mono_ns: clock::monotonic_ns(), wall_ms: clock::wall_ms() }
}

impl Store {
    /// Appends entries of an operator; all or none.
    fn command(&mut self, what: &'static str, drafts: Vec<Draft>) -> Result<Vec<Appended>, ApiError> {
        let items: Vec<Item> = drafts.into_iter().map(Item::from).collect();
        let done = self.commit(&items, stamp()).map_err(|refusal| refusal.answer())?;
        done.into_iter().collect::<Result<_, Refusal>>().map_err(|refusal| {
            refused(what, "ledger", Code::Failed, refusal.to_string(), "see `octant ledger verify`")
        })
    }

    fn draft(&self, caller: &Principal, kind: Kind, payload: &Value) -> Result<Draft, ApiError> {
        own(kind, payload).map(|draft| Draft { actor: caller.clone(), ..draft }).map_err(|r| r.answer())
    }

    /// Erases the payload of an entry, after putting that on record.
    pub(crate) fn erase(&mut self, caller: &Principal, request: &EraseRequest) -> Result<Appended, ApiError> {
        const WHAT: &str = "erase a payload";
        reason(WHAT, &request.reason)?;
        let seq = request.seq;
        let place = format!("entry {seq}");
        let limits = PageLimits { entries: 1, bytes: usize::MAX, looked_at: 1 };
        let page = self.reader.page(seq, limits, |_| true);
        let page = page
            .map_err(|e| refused(WHAT, &place, Code::Damaged, e.to_string(), "see `octant ledger verify`"))?;
        let Some(entry) = page.entries.into_iter().next().filter(|entry| entry.seq == seq) else {
            let why = "there is no such entry, or it is archived".to_owned();
            return Err(refused(WHAT, &place, Code::NotFound, why, "see `octant ledger query`"));
        };
        if entry.erasable.is_none() {
            let why = "its payload is part of the entry, which nothing can change".to_owned();
            let next = "append as erasable what may have to be erased";
            return Err(refused(WHAT, &place, Code::Conflict, why, next));
        }
        let payload = json!({ "entry": seq, "reason": request.reason });
        let draft = self.draft(caller, Kind::Erasure, &payload)?;
        let done = self.command(WHAT, vec![draft])?;
        let _changing = self.reader.changing();
        let dir = self.dir.join("payloads");
        erase_payload(&dir, seq).map_err(|error| {
            let next = "the erasure is on record; give the same command again";
            refused(WHAT, &dir.display().to_string(), Code::Unavailable, error.to_string(), next)
        })?;
        done.into_iter().next().ok_or_else(crate::writer::gone)
    }

    /// The entry whose payload the last entry says is erased.
    pub(crate) fn last_erasure(&self) -> Option<u64> {
        let limits = PageLimits { entries: 1, bytes: usize::MAX, looked_at: 1 };
        let last = self.fold.state.tip().seq;
        let page = self.reader.page(last, limits, |entry| entry.kind == Kind::Erasure);
        let said: Value = page.ok()?.entries.first()?.payload.read().ok()?;
        said["entry"].as_u64()
    }

    /// Moves segments whose entries all come before `before` out of the way, after putting that on record.
    pub(crate) fn archive(
        &mut self,
        caller: &Principal,
        request: ArchiveRequest,
    ) -> Result<Archived, ApiError> {
        const WHAT: &str = "archive segments";
        let firsts = self.reader.firsts();
        // The last segment is written and stays.
        let moved: Vec<u64> = firsts
            .iter()
            .zip(firsts.iter().skip(1))
            .filter(|(_, next)| **next <= request.before)
            .map(|(first, _)| *first)
            .collect();
        let Some(first) = firsts.get(moved.len()).copied().filter(|_| !moved.is_empty()) else {
            let why = format!("no whole segment comes before entry {}", request.before);
            return Err(refused(WHAT, "segments", Code::NotFound, why, "name a later entry"));
        };
        let segments = self.dir.join("segments");
        let failed = |path: &Path| {
            let place = path.display().to_string();
            move |error: io::Error| {
                refused(
                    WHAT,
                    &place,
                    Code::Unavailable,
                    error.to_string(),
                    "see the disk's state, then try again",
                )
            }
        };
        // Without the snapshot the ledger could not be opened without the archived entries. Its digest goes on record:
        // later nothing else vouches for what it says.
        let snapshot = segments.join(files::snapshot_name(first));
        if files::read_snapshot(&segments, first).map_err(failed(&segments))?.is_none() {
            let why = format!("the snapshot before entry {first} is missing");
            return Err(refused(WHAT, "segments", Code::Conflict, why, "restart the ledger, then try again"));
        }
        let subject = Some(digest(&fs::read(&snapshot).map_err(failed(&snapshot))?));
        let names: Vec<String> = moved.iter().map(|first| file_name(*first)).collect();
        let payload = json!({ "segments": names.len(), "from": moved.first(), "first": first });
        let draft = self.draft(caller, Kind::Archive, &payload)?;
        self.command(WHAT, vec![Draft { subject, ..draft }])?;
        let _changing = self.reader.changing();
        let said = files::archived_path(&self.dir);
        files::replace(&said, format!("{first}\n").as_bytes(), true).map_err(failed(&said))?;
        let archive = self.dir.join("archive");
        fs::create_dir_all(&archive).map_err(failed(&archive))?;
        for name in &names {
            fs::rename(segments.join(name), archive.join(name)).map_err(failed(&archive))?;
        }
        sync_dir(&archive).and_then(|()| sync_dir(&segments)).map_err(failed(&archive))?;
        self.reader.forget_before(first);
        Ok(Archived { directory: archive.display().to_string(), segments: names, first })
    }

    /// Goes on after damage. What cannot be relied on is set aside, not deleted; the loss is on record; a new key signs
    /// from here on, so that checkpoints over what is lost are never contradicted by the same key.
    pub(crate) fn acknowledge(
        &mut self,
        caller: &Principal,
        request: &AcknowledgeRequest,
    ) -> Result<Appended, ApiError> {
        const WHAT: &str = "acknowledge a loss";
        reason(WHAT, &request.reason)?;
        let Some(Refusal::Damaged(damage)) = self.reader.refusal() else {
            let why = "the ledger is not damaged".to_owned();
            return Err(refused(WHAT, "ledger", Code::Conflict, why, "see `octant ledger verify`"));
        };
        if damage.seq != request.seq {
            let why = format!("the damage begins with entry {}", damage.seq);
            return Err(refused(WHAT, "seq", Code::InvalidParams, why, "name that entry"));
        }
        let published = self.reader.publication();
        let acknowledged = self.head.read().ok().flatten().unwrap_or(Tip::START);
        let aside = self.dir.join("damaged").join(clock::wall_ms().to_string());
        let replaces = self.replaced(&published);
        let lost = json!({
            "text": "an operator accepted a loss",
            "reason": request.reason,
            "from": damage.seq,
            "what": damage.what,
            "acknowledged": { "seq": acknowledged.seq, "hash": acknowledged.hash },
            "aside": aside.file_name().map(|name| name.to_string_lossy().into_owned()),
        });
        // First of all what is to be put on record: a crash on the way does not swallow it.
        let change = Change { caller: caller.clone(), lost, replaces };
        let failed = |error: io::Error| {
            let next = "see the disk's state, then restart the ledger and try again";
            refused(WHAT, &self.dir.display().to_string(), Code::Unavailable, error.to_string(), next)
        };
        let text = serde_json::to_vec(&change).map_err(|error| failed(error.into()))?;
        files::replace(&change_path(&self.dir), &text, true).map_err(failed)?;
        let _changing = self.reader.changing();
        let good = self.set_aside(&damage, &aside).map_err(|error| {
            let next = "see the disk's state, then restart the ledger and try again";
            refused(WHAT, &aside.display().to_string(), Code::Unavailable, error.to_string(), next)
        })?;
        let opened = self.take_up(Some(good), true);
        let still = match opened {
            Err(error) => Some(error.to_string()),
            Ok(_) => self.reader.refusal().filter(Refusal::is_final).map(|refusal| refusal.to_string()),
        };
        if let Some(why) = still {
            let next =
                "see `octant ledger verify`; what was set aside is below `damaged` of the state directory";
            return Err(refused(WHAT, "ledger", Code::Damaged, why, next));
        }
        self.record_change(change)
    }

    /// The key that a new one takes the place of, with the last checkpoint that it signed. An acknowledgement that was cut
    /// short knows it better than the files.
    fn replaced(&self, published: &Published) -> Option<Replaced> {
        let before = files::read_at_most(&change_path(&self.dir), CHANGE_MAX).ok().flatten();
        let before = before.and_then(|text| serde_json::from_slice::<Change>(&text).ok());
        if let Some(replaces) = before.and_then(|change| change.replaces) {
            return Some(replaces);
        }
        if !published.key.is_empty() {
            let checkpoint = published.latest.as_ref().map(Signed::to_text);
            return Some(Replaced { key: published.key.clone(), checkpoint });
        }
        let text = files::read_at_most(&self.dir.join("log.pub"), 4096).ok().flatten()?;
        let key = String::from_utf8_lossy(&text).trim_end().to_owned();
        Some(Replaced { key, checkpoint: None })
    }

    /// Puts an acknowledged loss on record that a crash kept from it.
    pub(crate) fn finish_change(&mut self) -> Result<(), ApiError> {
        const WHAT: &str = "put an acknowledged loss on record";
        let path = change_path(&self.dir);
        let place = path.display().to_string();
        let failed = |why: String| refused(WHAT, &place, Code::Damaged, why, "see the file, and remove it");
        let Some(text) = files::read_at_most(&path, CHANGE_MAX).map_err(|error| failed(error.to_string()))?
        else {
            return Ok(());
        };
        if self.reader.refusal().is_some() {
            // It was not finished: the operator has to give the command again.
            return Ok(());
        }
        let change: Change = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        self.record_change(change).map(drop)
    }

    fn record_change(&mut self, change: Change) -> Result<Appended, ApiError> {
        const WHAT: &str = "put an acknowledged loss on record";
        let Change { caller, lost, replaces } = change;
        let key = KeyChange { key: self.reader.publication().key, replaces };
        let key = serde_json::to_value(key).map_err(|error| {
            refused(WHAT, "key", Code::Internal, error.to_string(), "report it as a fault")
        })?;
        let key = own(Kind::Key, &key).map_err(|refusal| refusal.answer())?;
        let drafts = vec![self.draft(&caller, Kind::Lost, &lost)?, key];
        let done = self.command(WHAT, drafts)?;
        let path = change_path(&self.dir);
        fs::remove_file(&path).and_then(|()| sync_dir(&self.dir)).map_err(|error| {
            let place = path.display().to_string();
            refused(
                WHAT,
                &place,
                Code::Unavailable,
                error.to_string(),
                "remove it, or the loss is recorded twice",
            )
        })?;
        done.into_iter().next().ok_or_else(crate::writer::gone)
    }

    /// Moves away what cannot be relied on; gives where the log ends now.
    fn set_aside(&mut self, damage: &Damage, aside: &Path) -> io::Result<Tip> {
        self.current = None;
        self.publisher = None;
        fs::create_dir_all(aside)?;
        let segments = self.dir.join("segments");
        let mut good = self.fold.state.tip();
        let firsts = self.reader.firsts();
        if damage.segment.ends_with(".log") || damage.segment == "segments" {
            good = self.cut(&segments, damage.seq, aside)?;
        } else if damage.segment.ends_with(".state") {
            if firsts
                .first()
                .is_some_and(|first| *first > 1 && files::snapshot_name(*first) == damage.segment)
            {
                return Err(io::Error::other(
                    "nothing else says what the archived entries came to; restore it from a copy",
                ));
            }
            move_if_there(&segments.join(&damage.segment), aside)?;
        } else if !damage.segment.starts_with("checkpoint") {
            self.set_tiles_aside(&segments, &firsts, aside)?;
        }
        for name in ["checkpoint", "checkpoint.witnessed"] {
            move_if_there(&self.dir.join(name), aside)?;
        }
        fs::create_dir_all(self.dir.join("tile"))?;
        files::remove_damage(&self.dir)?;
        self.head.reset(good)?;
        sync_dir(aside)?;
        sync_dir(&self.dir)?;
        Ok(good)
    }

    /// A tile is wrong: all of them are made again from the entries that are here, and the snapshots with them. Those of
    /// archived entries cannot be.
    fn set_tiles_aside(&self, segments: &Path, firsts: &[u64], aside: &Path) -> io::Result<()> {
        let first = firsts.first().copied().unwrap_or(1);
        let fold = if first == 1 { Some(Fold::default()) } else { files::read_snapshot(segments, first)? };
        let fold = fold.ok_or_else(|| {
            io::Error::other("the snapshot after the archived segments is gone; restore it from a copy")
        })?;
        let mut starts = fold.edge.next_tiles();
        // Levels that the archived entries did not reach.
        for level in starts.len()..8 {
            starts.extend(u8::try_from(level).ok().map(|level| Tile { level, index: 0, width: 256 }));
        }
        for mut tile in starts {
            let path = |tile: Tile| files::tile_path(&self.dir, tile);
            while path(tile).exists() {
                let target = aside.join(tile.path());
                target.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(path(tile), target)?;
                tile.index += 1;
            }
        }
        firsts
            .iter()
            .skip(1)
            .try_for_each(|first| move_if_there(&segments.join(files::snapshot_name(*first)), aside))
    }

    /// Cuts the log before an entry: the segment that holds it is kept in full aside, later ones are moved there.
    fn cut(&self, segments: &Path, seq: u64, aside: &Path) -> io::Result<Tip> {
        let firsts = crate::read::segments(segments).map_err(|error| error.source)?;
        if firsts.is_empty() {
            return Ok(Tip::START);
        }
        let Some(first) = firsts.iter().copied().rfind(|first| *first <= seq) else {
            return Err(io::Error::other("the entries before it are gone; restore the segments from a copy"));
        };
        for later in firsts.iter().copied().filter(|later| *later > first) {
            move_if_there(&segments.join(file_name(later)), aside)?;
            move_if_there(&segments.join(files::snapshot_name(later)), aside)?;
        }
        let path = segments.join(file_name(first));
        fs::copy(&path, aside.join(file_name(first)))?;
        let mut fold = if first == 1 {
            Fold::default()
        } else {
            let snapshot = files::read_snapshot(segments, first)?;
            snapshot.ok_or_else(|| {
                io::Error::other("the snapshot before the damage is gone; restore it from a copy")
            })?
        };
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut walker = Walker::new(&file, HEADER);
        let mut end = HEADER;
        while fold.state.tip().seq + 1 < seq {
            let Step::Frame { bytes, .. } = walker.step()? else { break };
            if fold.accept(bytes, |_| {}).is_err() {
                break;
            }
            end = walker.offset();
        }
        file.set_len(end)?;
        // A header that is not valid is written anew: it says what the snapshot says.
        let before =
            if first == 1 { Tip::START } else { Tip { seq: first - 1, ..self.before(segments, first)? } };
        let header = crate::segment::Header { first, prev: before.hash };
        std::os::unix::fs::FileExt::write_all_at(&file, &header.encode(), 0)?;
        file.sync_all()?;
        let payloads = self.dir.join("payloads");
        for lost in files::payloads_after(&payloads, fold.state.tip().seq)? {
            move_if_there(&files::payload_path(&payloads, lost), aside)?;
        }
        // Tiles that held lost entries would be in the way of those that come.
        for whole in fold.edge.next_tiles() {
            let mut tile = whole;
            while remove_if_there(&files::tile_path(&self.dir, tile))? {
                tile.index += 1;
            }
        }
        Ok(fold.state.tip())
    }

    fn before(&self, segments: &Path, first: u64) -> io::Result<Tip> {
        let snapshot = files::read_snapshot(segments, first)?;
        Ok(snapshot.map_or(Tip::START, |fold| fold.state.tip()))
    }
}

fn move_if_there(path: &Path, to: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let target: PathBuf = to.join(name);
    match fs::rename(path, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
