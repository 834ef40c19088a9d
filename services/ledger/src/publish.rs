//! The log's key, its signed checkpoints, and the witnesses' cosignatures on them.
//!
//! ```text
//! <state>/log.key               the key that signs, 0600; nobody but the ledger reads it
//! <state>/log.pub               its verifier key
//! <state>/checkpoint            the newest checkpoint, with the cosignatures that came in
//! <state>/checkpoint.witnessed  the newest one that a whole quorum of witnesses has cosigned
//! ```

use crate::files::{read_at_most, replace};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Witnessed;
use octant_ids::Sha256;
use octant_tlog::checkpoint::{Checkpoint, CheckpointError, Signed, sign};
use octant_tlog::note::{KeyError, NoteKey, Signature, Verifier};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checkpoint is made after so many entries at the latest.
pub(crate) const EVERY_ENTRIES: u64 = 1024;
/// A checkpoint is made so long after an entry at the latest, in nanoseconds.
pub(crate) const EVERY_NS: u64 = 1_000_000_000;
/// How many checkpoints can still be cosigned: a witness answers within seconds.
const RECENT: usize = 64;
/// The longest list of keys that ever were witnesses', in bytes: some thousand of them.
const KNOWN_MAX: u64 = 256 << 10;
/// The longest checkpoint that is read, in bytes.
pub(crate) const CHECKPOINT_MAX: u64 = 64 << 10;

/// Why checkpoints cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The key's file is no key.
    #[error("{path}: {source}; put the right file back, or acknowledge the loss of the key by moving it away", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// A stored checkpoint is not what this log signed.
    #[error("{path}: {source}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// A stored checkpoint has a signature that nobody known made.
    #[error("{path}: the signature of {name} is not one of a witness of this log, or not right", path = path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// Whose it says it is.
        name: String,
    },
}

/// Who has to cosign.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witnesses {
    pub(crate) keys: Vec<Verifier>,
    pub(crate) quorum: u32,
    /// Every key that ever was one of them: what one cosigned before it was replaced stays right.
    pub(crate) known: Vec<Verifier>,
}

impl Witnesses {
    /// The witnesses of this configuration.
    pub(crate) fn new(keys: Vec<Verifier>, quorum: u32) -> Self {
        Self { known: keys.clone(), keys, quorum }
    }

    /// Adds those of earlier configurations, and keeps these for later ones.
    pub(crate) fn remember(&mut self, dir: &Path) -> Result<(), PublishError> {
        let path = dir.join("witnesses.known");
        let bytes = read_at_most(&path, KNOWN_MAX).map_err(file(&path))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let earlier = text.lines().filter_map(|line| line.parse::<Verifier>().ok());
        let before: Vec<Verifier> = earlier.collect();
        let new = self.keys.iter().any(|key| !before.contains(key));
        self.known = before;
        self.known
            .extend(self.keys.iter().filter(|key| !self.known.contains(key)).cloned().collect::<Vec<_>>());
        if new {
            let text: String = self.known.iter().map(|key| format!("{key}\n")).collect();
            replace(&path, text.as_bytes(), true).map_err(file(&path))?;
        }
        Ok(())
    }

    fn have(&self, signed: &Signed) -> Vec<String> {
        signed.cosigners(&self.keys).into_iter().map(|key| key.name().to_owned()).collect()
    }

    fn enough(&self, signed: &Signed) -> bool {
        self.quorum > 0 && self.have(signed).len() >= self.quorum as usize
    }
}

/// What was published last, for readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// The newest checkpoint.
    pub(crate) latest: Option<Signed>,
    /// The newest one with a quorum.
    pub(crate) complete: Option<Signed>,
    /// The log's verifier key.
    pub(crate) key: String,
    pub(crate) witnessed: Witnessed,
    /// The checkpoints that can still be cosigned, oldest first.
    pub(crate) recent: Arc<Vec<Signed>>,
}

const COSIGN: &str = "take a cosignature";

impl Published {
    /// The checkpoint of this size with these cosignatures on it, each of them of a witness of this log and right; none
    /// when nothing is new. Anybody may send them, so this is not the work of the one writer.
    pub(crate) fn cosigned(
        &self,
        size: u64,
        lines: &str,
        witnesses: &Witnesses,
    ) -> Result<Option<Signed>, ApiError> {
        let refuse =
            |code, place: &str, why: String, next| Err(ApiError::new(code, COSIGN, place, why, next));
        if lines.lines().count() > witnesses.keys.len() {
            let why = format!("there are more lines than the {} witnesses of this log", witnesses.keys.len());
            let next = "send one line of each; [ledger] witnesses of octant.toml names them";
            return refuse(Code::Denied, "cosignatures", why, next);
        }
        let Some(signed) = self.recent.iter().rfind(|signed| signed.checkpoint.size == size) else {
            let newest = self.latest.as_ref().map_or(0, |signed| signed.checkpoint.size);
            let why = format!("there is no recent checkpoint of {size} entries; the newest has {newest}");
            return refuse(Code::NotFound, "size", why, "fetch the newest checkpoint and have it cosigned");
        };
        // One of each: witnesses sign again with each request, and the places are counted.
        let there = |line: &Signature| {
            signed.note.signatures.iter().any(|known| known.key_id == line.key_id && known.name == line.name)
        };
        let new: String = match Signature::parse_lines(lines) {
            Ok(lines) => lines.iter().filter(|line| !there(line)).map(|line| format!("{line}\n")).collect(),
            Err(error) => {
                return refuse(
                    Code::InvalidParams,
                    "cosignatures",
                    error.to_string(),
                    "send signature lines",
                );
            }
        };
        let mut more = signed.clone();
        let added = match more.add(&new) {
            Ok(added) => added,
            Err(error) => {
                return refuse(
                    Code::InvalidParams,
                    "cosignatures",
                    error.to_string(),
                    "send signature lines",
                );
            }
        };
        for signature in more.note.signatures.iter().rev().take(added) {
            let known = witnesses.keys.iter().find(|key| key.made(signature));
            if !known.is_some_and(|key| matches!(key.verify(&more.note.text, signature), Ok(Some(_)))) {
                let why =
                    format!("{} is no witness of this log, or its signature is not right", signature.name);
                let next = "put the witness's key into [ledger] witnesses of octant.toml";
                return refuse(Code::Denied, "cosignatures", why, next);
            }
        }
        Ok((added > 0).then_some(more))
    }
}

/// What signs checkpoints.
#[derive(Debug)]
pub(crate) struct Publisher {
    dir: PathBuf,
    key: NoteKey,
    verifier: Verifier,
    witnesses: Witnesses,
    recent: VecDeque<Signed>,
    complete: Option<Signed>,
    /// When the newest was made, CLOCK_MONOTONIC.
    last_ns: u64,
    /// When the file was written, and how many entries the checkpoint in it covers.
    written_ns: u64,
    written: Option<u64>,
}

pub(crate) fn key_path(dir: &Path) -> PathBuf {
    dir.join("log.key")
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::File { path, source }
}

/// A key with an origin of its own. `random` are 40 bytes from the kernel's generator.
pub(crate) fn new_key(random: &[u8; 40]) -> Result<NoteKey, KeyError> {
    let (seed, name) = random.split_at(32);
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut fixed = [0; 32];
    fixed.copy_from_slice(seed);
    NoteKey::from_seed(&format!("octant/{name}"), fixed)
}

/// Writes a new key and its public half.
pub(crate) fn write_key(dir: &Path, key: &NoteKey) -> Result<(), PublishError> {
    let path = dir.join("log.pub");
    replace(&path, format!("{}\n", key.verifier()).as_bytes(), true).map_err(file(&path))?;
    let path = key_path(dir);
    replace(&path, format!("{}\n", key.to_text()).as_bytes(), true).map_err(file(&path))
}

/// The log's key; none before the first start.
pub(crate) fn read_key(dir: &Path) -> Result<Option<NoteKey>, PublishError> {
    let path = key_path(dir);
    let Some(bytes) = read_at_most(&path, 4096).map_err(file(&path))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let key = NoteKey::from_text(text.trim_end());
    key.map(Some).map_err(|source| PublishError::Key { path, source })
}

/// A stored checkpoint: signed by this log's key, and every other signature by a witness of it. None when there is none,
/// or when its write never came to the disk (only zeros).
pub(crate) fn read_checkpoint(
    path: &Path,
    log: &Verifier,
    witnesses: &Witnesses,
) -> Result<Option<Signed>, PublishError> {
    let bytes = read_at_most(path, CHECKPOINT_MAX).map_err(file(path))?.unwrap_or_default();
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    let signed = Signed::open(&text, log)
        .map_err(|source| PublishError::Checkpoint { path: path.to_owned(), source })?;
    let strange = signed.note.signatures.iter().find(|signature| {
        !log.made(signature)
            && !witnesses.known.iter().any(|key| {
                key.made(signature) && matches!(key.verify(&signed.note.text, signature), Ok(Some(_)))
            })
    });
    match strange {
        None => Ok(Some(signed)),
        Some(signature) => {
            let name = signature.name.clone();
            Err(PublishError::Signature { path: path.to_owned(), name })
        }
    }
}

impl Publisher {
    /// Starts publishing with a key that has signed nothing yet.
    pub(crate) fn fresh(dir: &Path, key: NoteKey, witnesses: Witnesses) -> Self {
        let (dir, verifier, recent) = (dir.to_owned(), key.verifier(), VecDeque::new());
        Self {
            dir,
            key,
            verifier,
            witnesses,
            recent,
            complete: None,
            last_ns: 0,
            written_ns: 0,
            written: None,
        }
    }

    /// Takes up the log's key and what was published with it.
    pub(crate) fn open(dir: &Path, key: NoteKey, witnesses: Witnesses) -> Result<Self, PublishError> {
        let verifier = key.verifier();
        let latest = read_checkpoint(&dir.join("checkpoint"), &verifier, &witnesses)?;
        let complete = read_checkpoint(&dir.join("checkpoint.witnessed"), &verifier, &witnesses)?;
        let complete = complete.filter(|signed| witnesses.enough(signed));
        let written = latest.as_ref().map(|signed| signed.checkpoint.size);
        let recent = latest.into_iter().collect();
        let dir = dir.to_owned();
        Ok(Self { dir, key, verifier, witnesses, recent, complete, last_ns: 0, written_ns: 0, written })
    }

    /// The newest checkpoint.
    pub(crate) fn latest(&self) -> Option<&Signed> {
        self.recent.back()
    }

    fn size(&self) -> u64 {
        self.latest().map_or(0, |signed| signed.checkpoint.size)
    }

    /// Whether entries wait for a checkpoint.
    pub(crate) fn behind(&self, size: u64) -> bool {
        size > self.size()
    }

    /// Whether it is time for one.
    pub(crate) fn is_due(&self, size: u64, now_ns: u64) -> bool {
        let new = size.saturating_sub(self.size());
        new >= EVERY_ENTRIES || (new > 0 && now_ns.saturating_sub(self.last_ns) >= EVERY_NS)
    }

    /// Whether the newest checkpoint is not in its file yet.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.written != self.latest().map(|signed| signed.checkpoint.size)
    }

    /// Signs a tree.
    pub(crate) fn publish(&mut self, size: u64, root: Sha256, now_ns: u64) -> Result<(), PublishError> {
        self.last_ns = now_ns;
        if self.behind(size) || self.latest().is_none() {
            let origin = self.key.name().to_owned();
            let text = sign(&self.key, &Checkpoint { origin, size, root, extensions: Vec::new() });
            let path = self.dir.join("checkpoint");
            // It was signed a moment ago; whoever reads the file checks it.
            let signed = Signed::parse_unverified(&text)
                .map_err(|source| PublishError::Checkpoint { path: path.clone(), source })?;
            self.recent.push_back(signed);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        Ok(())
    }

    /// Writes the newest checkpoint to its file, so that it is on disk when this returns: once a second, and with `now`
    /// at once. What was signed in between was only shown.
    pub(crate) fn write(&mut self, now_ns: u64, now: bool) -> Result<(), PublishError> {
        let due = now || now_ns.saturating_sub(self.written_ns) >= EVERY_NS;
        let Some(signed) = self.recent.back().filter(|_| due && self.is_unwritten()) else { return Ok(()) };
        let path = self.dir.join("checkpoint");
        replace(&path, signed.to_text().as_bytes(), true).map_err(file(&path))?;
        (self.written, self.written_ns) = (Some(signed.checkpoint.size), now_ns);
        Ok(())
    }

    /// Keeps a recent checkpoint with the cosignatures that [`Published::cosigned`] has checked.
    pub(crate) fn keep(&mut self, checked: Signed) -> Result<(), ApiError> {
        let size = checked.checkpoint.size;
        let newest = self.size();
        let Some(signed) = self.recent.iter_mut().rfind(|signed| signed.note.text == checked.note.text)
        else {
            // Many others were made in between.
            return Ok(());
        };
        // Others may have come in since it was checked.
        let lines: String = checked.note.signatures.iter().map(|line| format!("{line}\n")).collect();
        match signed.add(&lines) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                let next = "send signature lines";
                return Err(ApiError::new(Code::InvalidParams, COSIGN, "cosignatures", error, next));
            }
        }
        let more = signed.clone();
        let stored = |name: &str| {
            let path = self.dir.join(name);
            replace(&path, more.to_text().as_bytes(), true).map_err(|error| {
                let place = path.display().to_string();
                ApiError::new(Code::Unavailable, COSIGN, place, error, "see the disk's state")
            })
        };
        if size == newest {
            stored("checkpoint")?;
            self.written = Some(size);
        }
        let before = self.complete.as_ref().map_or(0, |signed| signed.checkpoint.size);
        if size >= before && self.witnesses.enough(&more) {
            stored("checkpoint.witnessed")?;
            self.complete = Some(more);
        }
        Ok(())
    }

    /// What readers see.
    pub(crate) fn published(&self) -> Published {
        let latest = self.latest().cloned();
        let witnessed = Witnessed {
            quorum: self.witnesses.quorum,
            witnesses: self.witnesses.keys.iter().map(|key| key.name().to_owned()).collect(),
            have: latest.as_ref().map(|signed| self.witnesses.have(signed)).unwrap_or_default(),
            complete_to: self.complete.as_ref().map_or(0, |signed| signed.checkpoint.size),
        };
        let (complete, key) = (self.complete.clone(), self.verifier.to_string());
        let recent = Arc::new(self.recent.iter().cloned().collect());
        Published { latest, complete, key, witnessed, recent }
    }
}
