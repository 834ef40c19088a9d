//! Recomputing everything: chain, partitions, tree, tiles, snapshots, payloads, checkpoints. Nothing that was derived
//! is relied on, and the index is not looked at.

use crate::files::{self, Compared as Tile, compare_tile, encode_snapshot, read_at_most, snapshot_name};
use crate::fold::{Edge, Fold, Whole};
use crate::open::tile_damage;
use crate::publish::{CHECKPOINT_MAX, Published, Witnesses, read_checkpoint};
use crate::read::{ReadError, Reader, blame, frame};
use crate::refusal::{Refusal, damaged};
use crate::segment::{HEADER, Header, Step, Walker, behind};
use octant_api::ledger::{Compared, Damage, Kind, VerifyReport, Witnessed};
use octant_ids::Sha256;
use octant_tlog::bundle::KeyChange;
use octant_tlog::checkpoint::Signed;
use octant_tlog::entry::{View, commitment};
use octant_tlog::merkle::{Frontier, Nodes, leaf_hash};
use octant_tlog::note::Verifier;
use octant_tlog::state::{Broken, Tip};
use serde::Deserialize;
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many imported checkpoints are kept and compared.
pub(crate) const OUTSIDE_MAX: usize = 256;
/// The place of what is wrong with payloads that are kept apart.
const PAYLOADS: &str = "payloads";
/// How often, and after which pause, it starts over when an operator changed files meanwhile.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);
/// How many payloads' faults are remembered.
const FAULTS_MAX: usize = 65_536;

/// What an `erasure` entry says.
#[derive(Debug, Deserialize)]
struct Erasure {
    entry: u64,
}

/// What an `archive` entry says.
#[derive(Debug, Deserialize)]
struct Archive {
    first: u64,
}

/// A checkpoint from outside that is to be compared.
struct Outside {
    from: String,
    text: String,
    parsed: Result<Signed, String>,
}

/// What is gathered on the way through the entries.
struct Walk<'a> {
    reader: &'a Reader,
    fold: Fold,
    /// Roots at the sizes that some checkpoint has.
    roots: BTreeMap<u64, Option<Sha256>>,
    /// Keys that signed before the newest.
    keys: Vec<Verifier>,
    /// What is wrong with payloads that are kept apart, until an erasure explains it.
    faults: BTreeMap<u64, &'static str>,
    wholes: Vec<Whole>,
    /// The first entry that is not archived, as the log says.
    archived_to: u64,
    /// The digest of the snapshot after them.
    archived: Option<Sha256>,
    bytes: u64,
    segments: u64,
}

impl Reader {
    /// Reads everything from the first entry on and recomputes it, up to what is durable at the start; compares with
    /// the log's own checkpoints, with imported ones and with those given. `stop` ends it early; what was verified by
    /// then is reported.
    ///
    /// # Errors
    /// [`ReadError::Io`]. Damage is in the report.
    pub(crate) fn verify(
        &self,
        stop: &AtomicBool,
        given: &[String],
        witnesses: &Witnesses,
    ) -> Result<VerifyReport, ReadError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // What an operator changes meanwhile is seen half before and half after: that says nothing.
            let generation = self.generation();
            let (report, refused) = self.verify_once(stop, given, witnesses)?;
            let settled = generation.is_multiple_of(2) && self.generation() == generation;
            let whole = !stop.load(Ordering::Relaxed);
            if settled && (whole || report.damage.is_some()) {
                self.conclude(refused.as_ref());
            }
            if settled || !whole || report.damage.is_none() || tries >= TRIES {
                return Ok(report);
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// The report, and the damage that is to end the appending.
    fn verify_once(
        &self,
        stop: &AtomicBool,
        given: &[String],
        witnesses: &Witnesses,
    ) -> Result<(VerifyReport, Option<Damage>), ReadError> {
        // Before the tip is looked at: a checkpoint that is made meanwhile would cover more than is read.
        let published = self.publication();
        let log = published.key.parse::<Verifier>().ok();
        let own = self.own_checkpoints(log.as_ref(), witnesses);
        let outside = self.outside(given)?;
        let until = self.tip();
        let refused = self.refusal();
        let sizes = own.iter().flatten().map(|(_, signed)| signed.checkpoint.size).chain(
            outside.iter().filter_map(|o| o.parsed.as_ref().ok().map(|signed| signed.checkpoint.size)),
        );
        let roots = sizes.map(|size| (size, None)).collect();
        let mut walk = Walk {
            reader: self,
            fold: Fold::default(),
            roots,
            keys: Vec::new(),
            faults: BTreeMap::new(),
            wholes: Vec::new(),
            archived_to: 1,
            archived: None,
            bytes: 0,
            segments: 0,
        };
        let mut damage = match walk.all(until, until.seq, stop) {
            Ok(()) => None,
            Err(ReadError::Damaged(damage)) => Some(damage),
            Err(error) => return Err(error),
        };
        let right = damage.as_ref().map_or(u64::MAX, |damage| damage.seq - 1);
        if walk.fold.state.tip().seq > right && damage.as_ref().is_some_and(|d| d.segment.ends_with(".log")) {
            // An entry was counted as right before a later one told that it is not: once more, up to it.
            walk = Walk { fold: Fold::default(), segments: 0, bytes: 0, faults: BTreeMap::new(), ..walk };
            match walk.all(until, right, stop) {
                Ok(()) | Err(ReadError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        // What was found at the opening can lie where the walk does not come.
        if let (None, Some(Refusal::Damaged(found))) = (&damage, refused)
            && !self.is_known()
        {
            damage = Some(found);
        }
        if damage.is_none() && !stop.load(Ordering::Relaxed) {
            damage = match &own {
                Err(wrong) => Some(wrong.clone()),
                Ok(own) => walk.compare_own(own),
            };
        }
        let report = self.report(&walk, damage.clone(), &outside, log.as_ref(), witnesses, published);
        Ok((report, damage))
    }

    /// Damage to the log ends the appending, over a restart too; none that was found earlier stays when all is right.
    fn conclude(&self, damage: Option<&Damage>) {
        let kept = match damage {
            // A payload can be erased, which is all that is left to do about it; the log itself is whole.
            Some(damage) if damage.segment == PAYLOADS => Ok(()),
            Some(damage) => {
                self.refuse(Refusal::Damaged(damage.clone()));
                files::write_damage(self.dir(), damage)
            }
            None => match files::read_damage(self.dir()) {
                Ok(Some(_)) => files::remove_damage(self.dir()).map(|()| self.mended()),
                other => other.map(drop),
            },
        };
        if let Err(error) = kept {
            tracing::error!("what verifying found cannot be kept for the next start: {error}");
        }
    }

    fn own_checkpoints(
        &self,
        log: Option<&Verifier>,
        witnesses: &Witnesses,
    ) -> Result<Vec<(PathBuf, Signed)>, Damage> {
        let mut own = Vec::new();
        let Some(log) = log else { return Ok(own) };
        for name in ["checkpoint", "checkpoint.witnessed"] {
            let path = self.dir().join(name);
            match read_checkpoint(&path, log, witnesses) {
                Ok(found) => own.extend(found.map(|signed| (path, signed))),
                Err(error) => return Err(damaged(&path, 0, self.tip().seq.max(1), error.to_string())),
            }
        }
        Ok(own)
    }

    /// Imported checkpoints and those given.
    fn outside(&self, given: &[String]) -> Result<Vec<Outside>, ReadError> {
        let mut outside = Vec::new();
        let mut add = |from: String, text: String| {
            let parsed = Signed::parse_unverified(&text).map_err(|error| error.to_string());
            outside.push(Outside { from, text, parsed });
        };
        let dir = self.dir().join("outside");
        let failed = |source| ReadError::Io { path: dir.clone(), source };
        let mut names: Vec<_> = match fs::read_dir(&dir) {
            Ok(names) => names.collect::<Result<_, _>>().map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        names.sort_by_key(fs::DirEntry::file_name);
        // What a crash left half written has another ending.
        names.retain(|file| file.path().extension().is_none());
        for file in names.into_iter().take(OUTSIDE_MAX) {
            let bytes = match read_at_most(&file.path(), CHECKPOINT_MAX) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string().into_bytes(),
                read => read.map_err(failed)?.unwrap_or_default(),
            };
            add(
                file.file_name().to_string_lossy().into_owned(),
                String::from_utf8_lossy(&bytes).into_owned(),
            );
        }
        given.iter().for_each(|text| add("given".to_owned(), text.clone()));
        Ok(outside)
    }

    fn report(
        &self,
        walk: &Walk<'_>,
        mut damage: Option<Damage>,
        outside: &[Outside],
        log: Option<&Verifier>,
        witnesses: &Witnesses,
        published: Published,
    ) -> VerifyReport {
        let tip = walk.fold.state.tip();
        let compared: Vec<Compared> =
            outside.iter().map(|outside| walk.compare(outside, log, witnesses)).collect();
        let right = compared.iter().filter(|compared| compared.wrong.is_none());
        let proven_to = right.clone().map(|compared| compared.size).max().unwrap_or(0);
        if let (None, Some(wrong)) = (&damage, compared.iter().find(|compared| compared.wrong.is_some())) {
            let seq =
                right.map(|c| c.size).filter(|size| *size < wrong.size).max().unwrap_or(0).min(tip.seq) + 1;
            let what = wrong.wrong.clone().unwrap_or_default();
            let seq = if wrong.size > tip.seq { tip.seq + 1 } else { seq };
            let path = self.dir().join("outside").join(&wrong.from);
            damage = Some(Damage {
                next: "ask whoever keeps the checkpoint, and compare with an export or a copy made before it"
                    .to_owned(),
                ..damaged(&path, 0, seq, what)
            });
        }
        let witnessed = published.witnessed;
        VerifyReport {
            entries: tip.seq,
            archived: self.first() - 1,
            segments: walk.segments,
            bytes: walk.bytes,
            head: tip.hash,
            root: walk.fold.state.tree().root(),
            checkpointed: published.latest.map_or(0, |signed| signed.checkpoint.size),
            not_proven: not_proven(tip.seq, proven_to, &witnessed),
            outside: compared,
            witnessed,
            damage,
        }
    }
}

/// What only a checkpoint from outside can show, as far as none does.
fn not_proven(entries: u64, proven_to: u64, witnessed: &Witnessed) -> Vec<String> {
    let mut lines = Vec::new();
    if proven_to < entries {
        let after = proven_to + 1;
        lines.push(format!("that no entries from {after} on were cut off the end"));
        lines.push(format!("that this is not an older copy, restored since entry {after}"));
    }
    let signed_to = proven_to.max(if witnessed.quorum > 0 { witnessed.complete_to } else { 0 });
    if signed_to < entries {
        let after = signed_to + 1;
        lines.push(format!("that entries from {after} on were not rewritten with the log's own key"));
        lines.push(format!("that everybody is shown the same entries from {after} on"));
    }
    lines
}

impl Walk<'_> {
    fn all(&mut self, last: Tip, until: u64, stop: &AtomicBool) -> Result<(), ReadError> {
        let firsts = self.reader.firsts();
        self.start(firsts.first().copied().unwrap_or(1))?;
        self.passed();
        for (i, first) in firsts.iter().copied().enumerate() {
            let tip = self.fold.state.tip();
            if tip.seq >= until && i > 0 {
                break;
            }
            let next = firsts.get(i + 1).copied();
            self.snapshot(first)?;
            self.segment(first, next.map_or(until, |next| until.min(next - 1)), next.is_some(), last, stop)?;
        }
        let first = firsts.first().copied().unwrap_or(1);
        self.archived_snapshot(first, stop)?;
        if first > self.archived_to && !stop.load(Ordering::Relaxed) {
            let path = self.reader.dir().join("segments");
            let what = format!(
                "entries before {first} are gone, and nobody has put on record that they were archived"
            );
            return Err(ReadError::Damaged(damaged(&path, 0, self.archived_to, what)));
        }
        match self.faults.first_key_value() {
            Some((seq, what)) if !stop.load(Ordering::Relaxed) => {
                let path = self.reader.dir().join(PAYLOADS);
                let next = format!(
                    "put the payload back from a copy, or accept that it is lost: `octant ledger erase {seq} \
                     --reason TEXT`; the log itself goes on"
                );
                Err(ReadError::Damaged(Damage { next, ..damaged(&path, 0, *seq, (*what).to_owned()) }))
            }
            _ => Ok(()),
        }
    }

    /// Where the first segment is archived, the walk starts with what the log had come to after it. That is not
    /// recomputed, but the tree's tiles have to give the same root.
    fn start(&mut self, first: u64) -> Result<(), ReadError> {
        if first == 1 {
            return Ok(());
        }
        let segments = self.reader.dir().join("segments");
        let path = segments.join(snapshot_name(first));
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let wrong = |what: &str| ReadError::Damaged(damaged(&path, 0, first, what.to_owned()));
        let fold = files::read_snapshot(&segments, first).map_err(failed)?;
        let fold =
            fold.ok_or_else(|| wrong("the snapshot after the archived segments is missing or not whole"))?;
        self.archived_tiles(first, &fold)?;
        for (size, place) in self.roots.iter_mut().filter(|(size, _)| **size < first) {
            *place = Some(self.reader.root(*size).map_err(failed)?);
        }
        self.fold = fold;
        Ok(())
    }

    /// The snapshot from which the walk started has to be the one that was put on record when the entries before it were
    /// archived.
    fn archived_snapshot(&self, first: u64, stop: &AtomicBool) -> Result<(), ReadError> {
        if first == 1 || first != self.archived_to || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path = self.reader.dir().join("segments").join(snapshot_name(first));
        let bytes = fs::read(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        if Some(digest(&bytes)) == self.archived {
            return Ok(());
        }
        let what = "it is not the snapshot that was put on record when the entries before it were archived"
            .to_owned();
        Err(ReadError::Damaged(damaged(&path, 0, first, what)))
    }

    /// Of archived entries only their hashes are left: every tile has to follow from the lowest ones, and these have to
    /// give the snapshot's tree.
    fn archived_tiles(&self, first: u64, right: &Fold) -> Result<(), ReadError> {
        let dir = self.reader.dir();
        let (mut tree, mut edge) = (Frontier::default(), Edge::default());
        let nodes = self.reader.nodes(first - 1);
        for index in 0..first - 1 {
            let leaf = nodes
                .node(0, index)
                .map_err(|error| ReadError::Io { path: dir.join("tile"), source: io::Error::other(error) })?;
            let mut wholes = Vec::new();
            tree.push(leaf, |height, _, hash| wholes.extend(edge.push(height, hash)));
            for whole in wholes {
                let path = files::tile_path(dir, whole.tile);
                match compare_tile(dir, &whole) {
                    Ok(Tile::Same) => {}
                    Ok(Tile::Changed(at)) => return Err(ReadError::Damaged(tile_damage(dir, &whole, at))),
                    Ok(Tile::Torn) => return Err(ReadError::Damaged(tile_damage(dir, &whole, 0))),
                    Err(source) => return Err(ReadError::Io { path, source }),
                }
            }
        }
        if tree == *right.state.tree() && edge == right.edge {
            return Ok(());
        }
        let what =
            "the tiles of the archived entries give another tree than the snapshot after them".to_owned();
        Err(ReadError::Damaged(damaged(&dir.join("tile"), 0, 1, what)))
    }

    /// A snapshot has to be what the entries before it give. One that is missing is made again when it is needed.
    fn snapshot(&self, first: u64) -> Result<(), ReadError> {
        let path = self.reader.dir().join("segments").join(snapshot_name(first));
        let right = encode_snapshot(&self.fold);
        let found = read_at_most(&path, right.len() as u64);
        match found {
            Ok(None) => Ok(()),
            Ok(Some(found)) if found == right => Ok(()),
            Err(source) if source.kind() != io::ErrorKind::InvalidData => Err(ReadError::Io { path, source }),
            Ok(Some(_)) | Err(_) => {
                let what = "the snapshot is not what the entries before it give".to_owned();
                Err(ReadError::Damaged(damaged(&path, 0, first, what)))
            }
        }
    }

    fn segment(
        &mut self,
        first: u64,
        end: u64,
        whole: bool,
        last: Tip,
        stop: &AtomicBool,
    ) -> Result<(), ReadError> {
        let (path, file) = self.reader.open(first)?;
        let failed = |source| ReadError::Io { path: path.clone(), source };
        let header = Header::read(&file).map_err(failed)?;
        let tip = self.fold.state.tip();
        if header != Some(Header { first: tip.seq + 1, prev: tip.hash }) {
            let what = match header {
                None => Header::fault(&file),
                Some(_) => format!("the segment does not continue entry {}", tip.seq),
            };
            return Err(ReadError::Damaged(damaged(&path, 0, tip.seq + 1, what)));
        }
        self.segments += 1;
        let mut walker = Walker::new(&file, HEADER);
        while self.fold.state.tip().seq < end {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let seq = self.fold.state.tip().seq + 1;
            let (offset, bytes) = frame(&mut walker, &path, seq)?;
            let hash = leaf_hash(bytes);
            if let Err(wrong) = self.entry(bytes)? {
                let tip = self.fold.state.tip();
                let blamed = blame(&mut walker, &wrong, hash, tip, last).map_err(failed)?;
                let what = match blamed {
                    blamed if blamed < seq => "it is not the one on which later entries stand".to_owned(),
                    _ => wrong.to_string(),
                };
                return Err(ReadError::Damaged(damaged(&path, offset, blamed, what)));
            }
        }
        if whole {
            let offset = walker.offset();
            let trailing = match walker.step().map_err(failed)? {
                Step::End { .. } => behind(&file, offset).map_err(failed)?.end > 0,
                Step::Frame { .. } | Step::Bad { .. } => true,
            };
            if trailing {
                let what = "something stands behind the segment's last entry".to_owned();
                return Err(ReadError::Damaged(damaged(&path, offset, end + 1, what)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, bytes: &[u8]) -> Result<Result<(), Broken>, ReadError> {
        let wholes = &mut self.wholes;
        let view = match self.fold.accept(bytes, |whole| wholes.push(whole)) {
            Ok(view) => view,
            Err(broken) => return Ok(Err(broken)),
        };
        self.bytes += bytes.len() as u64;
        self.passed();
        self.remember(&view)?;
        for whole in std::mem::take(&mut self.wholes) {
            let path = files::tile_path(self.reader.dir(), whole.tile);
            match compare_tile(self.reader.dir(), &whole) {
                Ok(Tile::Same) => {}
                Ok(Tile::Changed(index)) => {
                    return Err(ReadError::Damaged(tile_damage(self.reader.dir(), &whole, index)));
                }
                // It follows from the entries, as every tile, so it is made again.
                Ok(Tile::Torn) => {
                    files::write_tile(self.reader.dir(), &whole)
                        .map_err(|source| ReadError::Io { path, source })?;
                }
                Err(source) => return Err(ReadError::Io { path, source }),
            }
        }
        Ok(Ok(()))
    }

    /// Keeps the root if some checkpoint has this size.
    fn passed(&mut self) {
        let size = self.fold.state.tip().seq;
        if let Some(place) = self.roots.get_mut(&size) {
            *place = Some(self.fold.state.tree().root());
        }
    }

    /// Keys, erasures, and payloads that stand beside their entries.
    fn remember(&mut self, view: &View<'_>) -> Result<(), ReadError> {
        let said = view.payload.unwrap_or("null");
        match view.kind {
            Kind::Key => {
                let replaced =
                    serde_json::from_str::<KeyChange>(said).ok().and_then(|change| change.replaces);
                self.keys.extend(replaced.and_then(|replaced| replaced.key.parse().ok()));
            }
            Kind::Archive => {
                if let Ok(Archive { first }) = serde_json::from_str(said) {
                    (self.archived_to, self.archived) = (first.max(self.archived_to), view.subject);
                }
            }
            Kind::Erasure => {
                if let Ok(Erasure { entry }) = serde_json::from_str(said) {
                    self.faults.remove(&entry);
                    if files::payload_path(&self.reader.dir().join(PAYLOADS), entry).exists() {
                        self.fault(entry, "its payload is still there, though its erasure is on record");
                    }
                }
            }
            _ => {}
        }
        let Some(committed) = view.commitment else { return Ok(()) };
        let dir = self.reader.dir().join(PAYLOADS);
        match files::read_payload(&dir, view.seq) {
            Ok(Some(payload)) if commitment(&payload.salt, &payload.text) == committed => {}
            Ok(Some(_)) => self.fault(view.seq, "its payload is not the one that it commits to"),
            Ok(None) => self.fault(view.seq, "its payload is gone, and no erasure of it is on record"),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.fault(view.seq, "its payload cannot be read");
            }
            Err(source) => return Err(ReadError::Io { path: dir, source }),
        }
        Ok(())
    }

    /// Remembers what is wrong with a payload, until an erasure explains it; of too many the latest are left out.
    fn fault(&mut self, seq: u64, what: &'static str) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.insert(seq, what);
        }
    }

    fn compare_own(&self, own: &[(PathBuf, Signed)]) -> Option<Damage> {
        let tip = self.fold.state.tip();
        own.iter().find_map(|(path, signed)| {
            let checkpoint = &signed.checkpoint;
            let (seq, what) = match self.roots.get(&checkpoint.size).copied().flatten() {
                Some(root) if root == checkpoint.root => return None,
                Some(_) => {
                    let what = format!(
                        "the checkpoint of {} entries has another root than they have",
                        checkpoint.size
                    );
                    (checkpoint.size, what)
                }
                None => {
                    let what = format!(
                        "the checkpoint covers {} entries, but the log ends with entry {}",
                        checkpoint.size, tip.seq
                    );
                    (tip.seq + 1, what)
                }
            };
            Some(damaged(path, 0, seq, what))
        })
    }

    fn compare(&self, outside: &Outside, log: Option<&Verifier>, witnesses: &Witnesses) -> Compared {
        let from = outside.from.clone();
        let signed = match &outside.parsed {
            Ok(signed) => signed,
            Err(why) => {
                let wrong = Some(format!("it is not a checkpoint: {why}"));
                return Compared { from, size: 0, root: Sha256::ZERO, cosigned: Vec::new(), wrong };
            }
        };
        let checkpoint = &signed.checkpoint;
        let keys = log.into_iter().chain(&self.keys);
        let signer = keys.into_iter().find(|key| key.name() == checkpoint.origin);
        let tip = self.fold.state.tip();
        let wrong = match signer.map(|key| Signed::open(&outside.text, key)) {
            None => Some(format!("it is of another log: {}", checkpoint.origin)),
            Some(Err(error)) => Some(error.to_string()),
            Some(Ok(_)) if checkpoint.size > tip.seq => Some(format!(
                "it covers {} entries, but the log ends with entry {}: the end was cut off, or an older copy was \
                 restored",
                checkpoint.size, tip.seq
            )),
            Some(Ok(_)) => match self.roots.get(&checkpoint.size).copied().flatten() {
                Some(root) if root == checkpoint.root => None,
                _ => Some(format!(
                    "the first {} entries have another root: they were rewritten, or somebody was shown another log",
                    checkpoint.size
                )),
            },
        };
        let cosigned =
            signed.cosigners(&witnesses.keys).into_iter().map(|key| key.name().to_owned()).collect();
        Compared { from, size: checkpoint.size, root: checkpoint.root, cosigned, wrong }
    }
}

/// The file of an imported checkpoint.
pub(crate) fn outside_path(dir: &Path, signed: &Signed) -> PathBuf {
    let root = signed.checkpoint.root.to_string();
    dir.join("outside").join(format!("{:020}-{}", signed.checkpoint.size, &root[..16]))
}

/// SHA-256 of a file's content.
pub(crate) fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}
