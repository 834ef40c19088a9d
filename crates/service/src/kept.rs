//! Files that a service keeps for its next run, and the one with the records that the ledger did not take.

use crate::records::Left;
use octant_api::ledger::AppendRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The longest file of records that is written and read, in bytes.
const KEPT_MAX: u64 = 4 << 20;
/// Room for what is not a record.
const REST: u64 = 4096;

/// A step of keeping a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}; see that its file system can be written to and has room", path.display())]
pub struct KeepError {
    /// What was being done.
    pub step: &'static str,
    /// With which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeepError {
    move |source| KeepError { step, path: path.to_owned(), source }
}

/// Replaces a file whole, or leaves it as it was; `durable`: on stable storage when this returns.
///
/// # Errors
/// [`KeepError`], with the step that failed.
pub fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<(), KeepError> {
    // With the whole name before it: `a.json` and `a.chain` may be replaced at once.
    let new = path.with_added_extension("new");
    let mut file = File::create(&new).map_err(failed("create", &new))?;
    file.write_all(bytes).map_err(failed("write", &new))?;
    if durable {
        file.sync_all().map_err(failed("sync", &new))?;
    }
    fs::rename(&new, path).map_err(failed("replace", path))?;
    if durable {
        sync_parent(path)?;
    }
    Ok(())
}

/// Reads what [`replace`] left as JSON; what there is before anything was kept, where there is no file.
///
/// # Errors
/// What reading it reports, and `InvalidData` where it is longer than `max` bytes or not such a text.
pub fn read_kept<T: DeserializeOwned + Default>(path: &Path, max: u64) -> io::Result<T> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        other => other?,
    };
    let mut text = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {max} bytes")));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// Without this a rename or a removal may be undone by a loss of power.
fn sync_parent(path: &Path) -> Result<(), KeepError> {
    let Some(dir) = path.parent() else { return Ok(()) };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

/// The file of records that wait for the ledger while the service does not run.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
}

/// What is written: as [`Left`], with as many records as there is room for.
#[derive(Serialize)]
struct Fitting<'a> {
    waiting: &'a [AppendRequest],
    lost: u64,
}

impl Kept {
    /// At this path, in a directory that exists.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What the run before left. It stays until [`Self::write`] replaces it: it is the only copy until the ledger has it.
    ///
    /// What cannot be read is set aside, for whoever examines it, and counts as one lost record: how many they were is not
    /// known, and that there were some belongs on record.
    #[must_use]
    pub fn read(&self) -> Left {
        match self.load() {
            Ok(left) => left,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(
                    "records that the last run left for the ledger are lost: read {path}: {error}"
                );
                if let Err(error) = fs::rename(&self.path, self.path.with_extension("damaged")) {
                    tracing::error!("{path} cannot be set aside, and is overwritten later: {error}");
                }
                Left { waiting: Vec::new(), lost: 1 }
            }
        }
    }

    fn load(&self) -> io::Result<Left> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::default()),
            file => file?,
        };
        let mut bytes = Vec::new();
        // Longer than is written it is damaged, and cut off it does not parse.
        file.take(KEPT_MAX).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Leaves records for the next run, on stable storage when this returns; nothing left is no file. Those that there is
    /// no room for are counted as lost.
    ///
    /// # Errors
    /// [`KeepError`]. What was there before is there still, or everything is.
    pub fn write(&self, left: &Left) -> Result<(), KeepError> {
        if *left == Left::default() {
            return match fs::remove_file(&self.path) {
                Ok(()) => sync_parent(&self.path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(failed("remove", &self.path)(error)),
            };
        }
        // The newest go: the first thing that went wrong explains the others.
        let mut room = KEPT_MAX - REST;
        let fits = |record: &&AppendRequest| {
            let size = serde_json::to_vec(record).map_or(u64::MAX, |bytes| bytes.len() as u64);
            let rest = room.checked_sub(size.saturating_add(1));
            room = rest.unwrap_or(room);
            rest.is_some()
        };
        let count = left.waiting.iter().take_while(fits).count();
        let (waiting, over) = left.waiting.split_at(count);
        let lost = left.lost.saturating_add(over.len() as u64);
        let bytes = serde_json::to_vec(&Fitting { waiting, lost })
            .map_err(|error| failed("write", &self.path)(error.into()))?;
        replace(&self.path, &bytes, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use octant_api::ledger::Kind;
    use serde_json::json;

    fn of(n: usize) -> AppendRequest {
        record(Kind::Lifecycle, &json!({"n": n, "text": "x".repeat(50_000)}))
    }

    /// A file of its own, in a directory that is removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Self, Kept) {
            let dir = std::env::temp_dir().join(format!("octant-kept-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let kept = Kept::new(dir.join("records.json"));
            (Self(dir), kept)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_kept_is_read_whole_or_not_at_all() {
        let (scratch, _) = Scratch::new("read");
        let path = scratch.0.join("list.json");
        let read = |max| read_kept::<Vec<u8>>(&path, max);
        assert_eq!(read(8).unwrap(), [0; 0], "nothing was kept yet");
        replace(&path, b"[1,2,34]", true).unwrap();
        assert_eq!(read(8).unwrap(), [1, 2, 34]);
        assert!(read(7).unwrap_err().to_string().contains("longer than 7 bytes"));
        replace(&path, b"[1,2", true).unwrap();
        assert!(read(8).is_err());
    }

    #[test]
    fn records_stay_until_they_are_replaced_and_none_is_no_file() {
        let (scratch, kept) = Scratch::new("stay");
        assert_eq!(kept.read(), Left::default());
        let few = Left { waiting: (0..3).map(of).collect(), lost: 2 };
        kept.write(&few).unwrap();
        for _ in 0..2 {
            assert_eq!(kept.read(), few);
        }
        for _ in 0..2 {
            kept.write(&Left::default()).unwrap();
            assert_eq!(kept.read(), Left::default());
            assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (_scratch, kept) = Scratch::new("fit");
        kept.write(&Left { waiting: (0..200).map(of).collect(), lost: 1 }).unwrap();
        let most = kept.read();
        assert_eq!(most.waiting.len() as u64 + most.lost, 201);
        assert!(most.lost > 1 && most.waiting == (0..most.waiting.len()).map(of).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_damaged_is_one_lost_record_and_set_aside() {
        let (scratch, kept) = Scratch::new("damaged");
        fs::write(scratch.0.join("records.json"), b"{").unwrap();
        assert_eq!(kept.read(), Left { waiting: Vec::new(), lost: 1 });
        assert_eq!(fs::read(scratch.0.join("records.damaged")).unwrap(), b"{");
        assert_eq!(kept.read(), Left::default());
    }

    #[test]
    fn what_cannot_be_replaced_stays_as_it_was() {
        let (scratch, kept) = Scratch::new("replace");
        let one = Left { waiting: vec![of(1)], lost: 0 };
        kept.write(&one).unwrap();
        // What is written first cannot be.
        fs::create_dir(scratch.0.join("records.json.new")).unwrap();
        let error = kept.write(&Left { waiting: vec![of(2)], lost: 0 }).unwrap_err();
        assert_eq!((error.step, error.path), ("create", scratch.0.join("records.json.new")));
        assert_eq!(kept.read(), one);
    }

    #[test]
    fn files_that_differ_in_their_endings_do_not_meet_on_their_way() {
        let (scratch, _) = Scratch::new("endings");
        let path = |name: &str| scratch.0.join(name);
        let write = |name: &'static str| {
            let path = path(name);
            move || (0..200).try_for_each(|_| replace(&path, name.repeat(1000).as_bytes(), false))
        };
        let other = std::thread::spawn(write("a.chain"));
        write("a.json")().unwrap();
        other.join().unwrap().unwrap();
        for name in ["a.json", "a.chain"] {
            assert_eq!(fs::read_to_string(path(name)).unwrap(), name.repeat(1000));
        }
    }
}
