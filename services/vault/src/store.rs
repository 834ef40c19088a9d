//! The file on disk. Everything here blocks.
//!
//! A change is one frame behind the last; it counts when it is on stable storage. What changes the header, and what
//! clears away what is no longer needed, writes a whole new file under another name, makes it durable, and puts it in the
//! place of the old one: at any point in time one of the two stands there whole.

use crate::format::{self, End, FILE_MAX, FRAME_MAX, FormatError, Header, Opened};
use crate::raw::Raw;
use crate::state::{Now, Op, State};
use octant_crypto::memory::Key;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name in the vault's directory.
const NAME: &str = "vault";
/// The beginning of the names of files that were put aside.
pub(crate) const ASIDE: &str = "vault.before-";
/// The file that is there while an operator's seal holds.
const KEPT_SEALED: &str = "sealed";
/// After so many changes the file is written anew, if that makes it clearly smaller: opening it costs a key for each.
const FRAMES_MAX: u32 = 1024;
/// What is not written anew for less.
const SLACK: u64 = 1 << 20;

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The operating system's word.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not a vault that can be used.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// An earlier write may or may not be on disk, so nobody knows what the next one would follow.
    #[error("{}: an earlier write failed ({why}); the vault's process has to be restarted", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// It would be larger than what is read.
    #[error("{}: the vault would have more than {FILE_MAX} bytes", .0.display())]
    Full(PathBuf),
    /// A change has no JSON form.
    #[error("a change has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// Another process has it.
    #[error("{}: another process has the vault open", .0.display())]
    Locked(PathBuf),
}

impl StoreError {
    /// What is wrong with a file, or with reading it.
    pub(crate) fn of(path: &Path, source: FormatError) -> Self {
        let path = path.to_owned();
        match source {
            FormatError::Read(kind) => Self::Io { step: "read", path, source: kind.into() },
            source => Self::Format { path, source },
        }
    }
}

/// The vault's directory, which one process at a time has.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    _lock: File,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    file: Arc<File>,
    pub(crate) header: Header,
    end: End,
    pub(crate) epoch: u64,
    /// How many frames there are behind those that the file began with.
    frames: u32,
    /// How long the file was when it was written anew.
    base: u64,
    poisoned: Option<String>,
}

impl Place {
    /// Takes the directory. What a crash left half made there is removed.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let at = |step| io_at(step, &path);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(at("open"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(dir.join(NAME))),
            Err(TryLockError::Error(error)) => return Err(at("lock")(error)),
        }
        let place = Self { dir: dir.to_owned(), _lock: lock };
        // Here and nowhere else: later on it can be what this process is writing.
        let making = making(&place.path());
        match fs::remove_file(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at("remove", &making)(error)),
            _ => Ok(place),
        }
    }

    /// The vault's file.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Reads the file's header; none when there is no file.
    pub(crate) fn read(&self) -> Result<Option<Raw>, StoreError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at("open", &path)(error)),
        };
        Raw::of(file, &path).map(Some)
    }

    /// Whether an operator has sealed the vault: then nothing unseals it by itself, also not after a restart.
    pub(crate) fn is_kept_sealed(&self) -> bool {
        // What cannot be looked at counts as there.
        !matches!(self.dir.join(KEPT_SEALED).try_exists(), Ok(false))
    }

    /// Keeps that an operator has sealed it, or has unsealed it again.
    pub(crate) fn keep_sealed(&self, sealed: bool) -> Result<(), StoreError> {
        let path = self.dir.join(KEPT_SEALED);
        let done = if sealed { File::create(&path).map(drop) } else { fs::remove_file(&path) };
        match done {
            Err(error) if !sealed && error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(io_at("write", &path)).and_then(|()| sync_dir(&path)),
        }
    }

    /// Older files that a restore or a new vault has put aside.
    pub(crate) fn aside(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(ASIDE)).collect();
        names.sort();
        names
    }

    /// Whether there is a file with a header that can be read.
    pub(crate) fn look(&self) -> Result<(), String> {
        match self.read() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(format!("{}: it is gone", self.path().display())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes a new vault with these contents in the place of whatever is there, which is kept under another name when
    /// `aside` says which.
    pub(crate) fn create(
        &self,
        mut header: Header,
        key: &Key,
        contents: &[Vec<u8>],
        aside: Option<&str>,
    ) -> Result<Store, StoreError> {
        let path = self.path();
        let (bytes, end) = format::file(&mut header, key, contents)
            .map_err(|source| StoreError::Format { path: path.clone(), source })?;
        if let Some(aside) = aside {
            set_aside(&path, aside)?;
        }
        let file = replace(&path, &bytes)?;
        let epoch = header.epoch;
        Ok(Store {
            path,
            file: Arc::new(file),
            header,
            end,
            epoch,
            frames: 0,
            base: end.offset,
            poisoned: None,
        })
    }

    /// Puts a backup's bytes in the place of the vault, which is kept under another name.
    pub(crate) fn put_back(&self, raw: &Raw, aside: &str) -> Result<(), StoreError> {
        let path = self.path();
        let bytes = raw.copy().map_err(io_at("read", &path))?;
        set_aside(&path, aside)?;
        replace(&path, &bytes).map(drop)
    }
}

/// Keeps the file under another name too: a second name for it, so that there is one under the first all the time.
fn set_aside(path: &Path, name: &str) -> Result<(), StoreError> {
    let aside = path.with_file_name(name);
    match fs::hard_link(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io_at("keep", &aside)),
    }
}

fn making(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn io_at<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io { step, path: path.to_owned(), source }
}

/// Makes a file whole under another name, durable, and puts it in its place.
fn replace(path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    let made = make(path, bytes)?;
    put_in_place(path).map(|()| made)
}

/// Makes a file whole under another name, durable. What fails leaves nothing, so that a full disk gets its room back.
fn make(path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(StoreError::Full(path.to_owned()));
    }
    let made = write_new(path, bytes);
    if made.is_err() {
        // It is removed at the next start as well.
        let _best_effort = fs::remove_file(making(path));
    }
    made
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    let making = making(path);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = options.open(&making).map_err(io_at("make", &making))?;
    file.write_all(bytes).map_err(io_at("write", &making))?;
    file.sync_all().map_err(io_at("sync", &making))?;
    Ok(file)
}

fn put_in_place(path: &Path) -> Result<(), StoreError> {
    fs::rename(making(path), path).map_err(io_at("put in its place", path))?;
    sync_dir(path)
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let Some(dir) = path.parent() else { return Ok(()) };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at("sync", dir))
}

impl Store {
    /// Opens the file for changes. The beginning of a frame that was never finished is cut off.
    pub(crate) fn open(place: &Place, raw: Raw, opened: &Opened) -> Result<Self, StoreError> {
        let path = place.path();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_at("open", &path))?;
        if opened.torn > 0 {
            file.set_len(opened.end.offset).map_err(io_at("cut", &path))?;
            file.sync_all().map_err(io_at("sync", &path))?;
        }
        let frames = opened.frames.saturating_sub(raw.header.frames);
        Ok(Self {
            path,
            file: Arc::new(file),
            header: raw.header,
            end: opened.end,
            epoch: opened.epoch,
            frames,
            base: opened.base,
            poisoned: None,
        })
    }

    /// Appends one change; it is on stable storage when this returns.
    pub(crate) fn append(&mut self, key: &Key, content: &[u8]) -> Result<u64, StoreError> {
        if let Some(why) = &self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone(), why: why.clone() });
        }
        let epoch = self.epoch + 1;
        let (bytes, end) = format::frame(&self.header, key, self.end, epoch, content)
            .map_err(|source| StoreError::Format { path: self.path.clone(), source })?;
        if end.offset > FILE_MAX {
            return Err(StoreError::Full(self.path.clone()));
        }
        if let Err(error) = self.file.write_all_at(&bytes, self.end.offset) {
            // Half a frame must not stay: the next one would stand behind it.
            if let Err(worse) = self.file.set_len(self.end.offset) {
                self.poisoned = Some(worse.to_string());
            }
            return Err(io_at("write", &self.path)(error));
        }
        if let Err(error) = self.file.sync_data() {
            self.poisoned = Some(error.to_string());
            return Err(io_at("sync", &self.path)(error));
        }
        (self.end, self.epoch) = (end, epoch);
        self.frames = self.frames.saturating_add(1);
        Ok(epoch)
    }

    /// Whether the file should be written anew.
    pub(crate) fn is_worn(&self) -> bool {
        self.frames >= FRAMES_MAX && self.end.offset - self.base.min(self.end.offset) > SLACK.min(self.base)
    }

    /// Writes the file anew: this header under the epoch `epoch`, and everything in `state`.
    pub(crate) fn rewrite(
        &mut self,
        mut header: Header,
        key: &Key,
        epoch: u64,
        contents: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        if let Some(why) = &self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone(), why: why.clone() });
        }
        header.epoch = epoch;
        let (bytes, end) = format::file(&mut header, key, contents)
            .map_err(|source| StoreError::Format { path: self.path.clone(), source })?;
        let made = make(&self.path, &bytes)?;
        match put_in_place(&self.path) {
            Ok(()) => self.file = Arc::new(made),
            Err(error) => {
                // Which of the two files stands there is not known.
                self.poisoned = Some(error.to_string());
                return Err(error);
            }
        }
        (self.header, self.end, self.epoch) = (header, end, epoch);
        (self.frames, self.base) = (0, end.offset);
        Ok(())
    }

    /// Whether the file under the vault's name is this one still, and as long as it has to be.
    pub(crate) fn still_there(&self) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt;
        if let Some(why) = &self.poisoned {
            return Err(format!("{}: an earlier write failed: {why}", self.path.display()));
        }
        let wrong = |error: io::Error| format!("{}: {error}", self.path.display());
        let (named, held) = (fs::metadata(&self.path).map_err(wrong)?, self.file.metadata().map_err(wrong)?);
        if (named.dev(), named.ino(), named.len()) == (held.dev(), held.ino(), self.end.offset) {
            return Ok(());
        }
        Err(format!("{}: somebody else has replaced or changed the file", self.path.display()))
    }

    /// The same file for another owner, after which this one writes no more: it would do so under another data key. So
    /// this cannot fail.
    pub(crate) fn handed_over(&mut self) -> Self {
        let file = Arc::clone(&self.file);
        let (path, header, end, epoch, base) =
            (self.path.clone(), self.header.clone(), self.end, self.epoch, self.base);
        self.poisoned = Some("it was sealed anew meanwhile".to_owned());
        Self { path, file, header, end, epoch, frames: self.frames, base, poisoned: None }
    }

    /// Everything that is in the file, for a copy.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; usize::try_from(self.end.offset).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0).map_err(io_at("read", &self.path))?;
        Ok(bytes)
    }
}

/// Changes as the contents of frames, none longer than a frame can be.
pub(crate) fn contents<'a>(
    changes: impl Iterator<Item = (Op, &'a [u8])>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut all = Vec::new();
    let mut content = format::Content::default();
    for (op, value) in changes {
        let text = serde_json::to_vec(&op)?;
        if content.len() + text.len() + value.len() + 8 > FRAME_MAX {
            all.push(std::mem::take(&mut content).into_bytes());
        }
        content.push(&text, value);
    }
    all.push(content.into_bytes());
    Ok(all)
}

/// Everything in a state as the contents of a new file.
pub(crate) fn snapshot(state: &State, now: Now) -> Result<Vec<Vec<u8>>, StoreError> {
    contents(state.changes(now))
}
