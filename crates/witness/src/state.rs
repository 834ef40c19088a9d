//! What a witness remembers of one log: the checkpoint that it cosigned last, with its own cosignature, in one file.
//!
//! The file proves itself: it counts only with the log's signature and this witness's cosignature. A file that does
//! not is never replaced, because a witness that began anew would cosign whatever it is shown first.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use octant_ids::Sha256;
use octant_tlog::checkpoint::Signed;
use octant_tlog::merkle::leaf_hash;
use octant_tlog::note::{Note, Signature, Verifier};
use octant_tlog::witness::Seen;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most bytes of a state file: a checkpoint's text has at most 16 KiB, each of the two
/// signatures a few hundred bytes.
const FILE_MAX: u64 = 64 << 10;
/// How many files of proven forks are kept of one log.
const FORKS_MAX: usize = 32;

/// What went wrong with what a witness remembers.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be had.
    #[error("cannot {step} {}: {source}; the directory has to belong to the user of the witness", path.display())]
    Directory {
        /// `create`, `open`, `lock`.
        step: &'static str,
        /// The directory or the lock in it.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another witness has the directory.
    #[error("another witness runs with {}; each has a directory of its own", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// What was cosigned last cannot be read, so nothing more is cosigned of this log.
    #[error(
        "{origin}: what was cosigned last cannot be relied on: {why} ({}); nothing is cosigned of this log until the \
         file is restored. Do not delete it: a witness without it cosigns whatever it is shown first",
        path.display()
    )]
    Damaged {
        /// The log.
        origin: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The new state could not be written; the old one stands.
    #[error("{origin}: cannot {step} {}: {source}; nothing was cosigned, try again", path.display())]
    Write {
        /// The log.
        origin: String,
        /// What failed.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// After a failed sync it is not known what is on stable storage.
    #[error(
        "{origin}: it is not known whether {} is on stable storage, because {why}; nothing more is cosigned of this log \
         until the witness is started again",
        path.display()
    )]
    Unsure {
        /// The log.
        origin: String,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        why: String,
    },
}

/// A witness's directory, held by one process.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    file: File,
    _lock: Flock<File>,
}

impl Directory {
    /// Opens the directory, makes it when it is not there, and takes it for this process.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |step, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Directory { step, path, source }
        };
        fs::create_dir_all(path).map_err(fail("create", path))?;
        let file = File::open(path).map_err(fail("open", path))?;
        let lock = path.join("lock");
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let lock = match Flock::lock(opened.map_err(fail("open", &lock))?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StateError::Taken { path: path.to_owned() }),
            Err((_, errno)) => return Err(fail("lock", &lock)(errno.into())),
        };
        Ok(Self { path: path.to_owned(), file, _lock: lock })
    }

    /// A log's file. Origins can have any form, so the name is their hash; the file's first line is the origin.
    pub(crate) fn file_of(&self, origin: &str) -> PathBuf {
        self.path.join(format!("{}.checkpoint", short(&leaf_hash(origin.as_bytes()))))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The first 16 hexadecimal digits: enough to tell files apart by.
fn short(hash: &Sha256) -> String {
    hash.to_string().chars().take(16).collect()
}

/// One log as the witness knows it.
#[derive(Debug)]
pub(crate) struct Log {
    origin: String,
    path: PathBuf,
    seen: Seen,
    /// The stored note; empty when nothing was cosigned yet.
    note: String,
    /// Why nothing can be cosigned.
    closed: Option<StateError>,
}

impl Log {
    /// Reads what is remembered of a log. `keys` are the log's own.
    pub(crate) fn load(directory: &Directory, origin: &str, keys: &[&Verifier], own: &Verifier) -> Self {
        let path = directory.file_of(origin);
        let mut log = Self {
            origin: origin.to_owned(),
            path,
            seen: Seen::default(),
            note: String::new(),
            closed: None,
        };
        match read(&log.path, origin, keys, own) {
            Ok(None) => {}
            Ok(Some((seen, note))) => (log.seen, log.note) = (seen, note),
            Err(why) => {
                log.closed =
                    Some(StateError::Damaged { origin: origin.to_owned(), path: log.path.clone(), why });
            }
        }
        log
    }

    /// What was cosigned last.
    ///
    /// # Errors
    /// Nothing may be cosigned of this log.
    pub(crate) fn seen(&self) -> Result<Seen, &StateError> {
        self.closed.as_ref().map_or(Ok(self.seen), Err)
    }

    /// Makes `note` what was cosigned last, on stable storage.
    ///
    /// # Errors
    /// The old state stands, and nothing may leave that was made from the new one.
    pub(crate) fn store(
        &mut self,
        directory: &Directory,
        seen: Seen,
        note: String,
    ) -> Result<(), StateError> {
        let new = self.path.with_extension("new");
        let fail =
            |step, source| StateError::Write { origin: self.origin.clone(), step, path: new.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&new)
            .map_err(|error| fail("create", error))?;
        file.write_all(note.as_bytes()).map_err(|error| fail("write", error))?;
        file.sync_all().map_err(|error| fail("sync", error))?;
        let renamed = fs::rename(&new, &self.path).and_then(|()| directory.sync());
        if let Err(error) = renamed {
            // The file may be the old one or the new one, and a later sync would not tell.
            let unsure = || StateError::Unsure {
                origin: self.origin.clone(),
                path: self.path.clone(),
                why: error.to_string(),
            };
            let answer = unsure();
            self.closed = Some(unsure());
            return Err(answer);
        }
        (self.seen, self.note) = (seen, note);
        Ok(())
    }

    /// Keeps the two checkpoints that prove a fork; says whether the second one is new.
    ///
    /// # Errors
    /// What open(2), write(2) or fsync(2) report.
    pub(crate) fn keep_fork(&self, directory: &Directory, other: &str, root: &Sha256) -> io::Result<bool> {
        let dir = directory.path.join("forks");
        fs::create_dir_all(&dir)?;
        let log = short(&leaf_hash(self.origin.as_bytes()));
        let name = |root: &Sha256| format!("{log}-{}-{}.note", self.seen.size, short(root));
        let kept = fs::read_dir(&dir)?.filter_map(Result::ok);
        let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with(&log)).count();
        let path = dir.join(name(root));
        if kept >= FORKS_MAX || path.exists() {
            return Ok(false);
        }
        // Nothing was cosigned of the empty tree, so there may be no first checkpoint.
        let first =
            Some(dir.join(name(&self.seen.root))).filter(|path| !self.note.is_empty() && !path.exists());
        for (path, note) in first.iter().map(|path| (path, self.note.as_str())).chain([(&path, other)]) {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(note.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
        }
        File::open(&dir)?.sync_all()?;
        directory.sync()?;
        Ok(true)
    }
}

/// What is in a state file; `None` without one.
fn read(
    path: &Path,
    origin: &str,
    keys: &[&Verifier],
    own: &Verifier,
) -> Result<Option<(Seen, String)>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it has more than {FILE_MAX} bytes"));
    }
    let signed = Signed::parse_unverified(&text).map_err(|error| error.to_string())?;
    if signed.checkpoint.origin != origin {
        return Err(format!("it is about {:?}", signed.checkpoint.origin));
    }
    let mut why = "no key of this log is known".to_owned();
    let by_log = keys.iter().any(|key| match Signed::open(&text, key) {
        Ok(_) => true,
        Err(error) => {
            why = error.to_string();
            false
        }
    });
    if !by_log {
        return Err(format!("the log's signature: {why}"));
    }
    signed.cosigned_by(own).map_err(|error| format!("this witness's own cosignature: {error}"))?;
    let seen = Seen { size: signed.checkpoint.size, root: signed.checkpoint.root };
    Ok(Some((seen, text)))
}

/// A checkpoint with the one signature that a key of its log has made: the others are whatever the sender put there.
pub(crate) fn only_of(signed: &Signed, keys: &[Verifier]) -> Note {
    let text = &signed.note.text;
    let own = |signature: &&Signature| keys.iter().any(|key| key.verify(text, signature).is_ok());
    Note {
        text: text.clone(),
        signatures: signed.note.signatures.iter().find(own).cloned().into_iter().collect(),
    }
}
