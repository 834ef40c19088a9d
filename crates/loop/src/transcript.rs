//! The transcript on disk: one entry a line, each there before anything is done because of it.
//!
//! A line that was half written when everything ended is cut off: what it would have said has not been acted upon.

use crate::entry::Entry;
use crate::error::LoopError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a loop keeps what is its own, below the workspace.
pub const DIRECTORY: &str = ".octant";
/// The transcript's name there.
pub const NAME: &str = "transcript.jsonl";
/// The longest line, in bytes. What is longer is not written.
const LINE_MAX: u64 = 64 << 20;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How long the loop had run by then, in all its runs, in milliseconds.
    pub spent_ms: u64,
    /// When that was, in milliseconds since 1970; for people.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// An open transcript.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    file: File,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LoopError {
    move |source| LoopError::Keep { step, path: path.to_owned(), source }
}

impl Transcript {
    /// Opens the transcript below a workspace, and plays each entry that it has.
    ///
    /// # Errors
    /// It cannot be read or written, or has a whole line that is no entry.
    pub fn open(workspace: &Path, mut each: impl FnMut(Line)) -> Result<Self, LoopError> {
        let directory = workspace.join(DIRECTORY);
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", &directory)(error));
            }
            _ => {}
        }
        let path = directory.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(failed("open", &path))?;
        let whole = read(&file, &path, &mut each)?;
        let length = file.metadata().map_err(failed("look at", &path))?.len();
        if whole < length {
            file.set_len(whole).and_then(|()| file.sync_data()).map_err(failed("cut", &path))?;
        }
        File::open(&directory).and_then(|held| held.sync_all()).map_err(failed("sync", &directory))?;
        Ok(Self { path, file })
    }

    /// Appends an entry. It is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<(), LoopError> {
        let mut text = serde_json::to_vec(line).map_err(|error| failed("write", &self.path)(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > LINE_MAX {
            return Err(failed("write", &self.path)(too_long()));
        }
        // In one write, so that another reader of the file sees whole lines.
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(failed("write", &self.path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn too_long() -> io::Error {
    io::Error::other(format!("a line of more than {LINE_MAX} bytes"))
}

/// Plays the whole lines, and says how many bytes they have.
fn read(file: &File, path: &Path, each: &mut impl FnMut(Line)) -> Result<u64, LoopError> {
    let mut lines = BufReader::new(file);
    let (mut text, mut whole, mut number) = (Vec::new(), 0_u64, 0);
    loop {
        text.clear();
        number += 1;
        let got = lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut text).map_err(failed("read", path))?;
        if !text.ends_with(b"\n") {
            // What is longer than any line was not cut short by an end: nothing behind it may be thrown away.
            if got as u64 == LINE_MAX {
                return Err(failed("read", path)(too_long()));
            }
            return Ok(whole);
        }
        let line = serde_json::from_slice(&text).map_err(|error| LoopError::Transcript {
            path: path.to_owned(),
            line: number,
            why: error.to_string(),
        })?;
        each(line);
        whole += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("octant-transcript-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn told(text: &str) -> Line {
        Line { spent_ms: 7, at_ms: 9, entry: Entry::Told { text: text.into() } }
    }

    #[test]
    fn entries_come_back_and_a_half_line_is_cut_off() {
        let directory = scratch("half");
        let mut transcript = Transcript::open(&directory, |_| panic!("it is new")).unwrap();
        transcript.append(&told("one")).unwrap();
        transcript.append(&told("two\n")).unwrap();
        let path = transcript.path().to_owned();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"spent_ms\":1,\"en").unwrap();
        let mut got = Vec::new();
        let mut transcript = Transcript::open(&directory, |line| got.push(line)).unwrap();
        assert_eq!(got, [told("one"), told("two\n")]);
        transcript.append(&told("three")).unwrap();
        got.clear();
        Transcript::open(&directory, |line| got.push(line)).unwrap();
        assert_eq!(got.last(), Some(&told("three")), "what follows a cut line is a line of its own");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_line_that_is_too_long_is_not_written_and_costs_nothing_behind_it() {
        let directory = scratch("long");
        let mut transcript = Transcript::open(&directory, |_| ()).unwrap();
        let long = "x".repeat(usize::try_from(LINE_MAX).unwrap());
        assert!(transcript.append(&told(&long)).unwrap_err().to_string().contains("a line of more than"));
        transcript.append(&told("one")).unwrap();
        Transcript::open(&directory, |line| assert_eq!(line, told("one"))).unwrap();
        let path = transcript.path().to_owned();
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(format!("{long}\n").as_bytes()).unwrap();
        transcript.append(&told("two")).unwrap();
        let before = fs::metadata(&path).unwrap().len();
        assert!(Transcript::open(&directory, |_| ()).is_err());
        assert_eq!(fs::metadata(&path).unwrap().len(), before, "nothing is cut off");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_damaged_line_is_named_and_nothing_is_overwritten() {
        let directory = scratch("damaged");
        Transcript::open(&directory, |_| ()).unwrap().append(&told("one")).unwrap();
        let path = directory.join(DIRECTORY).join(NAME);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{}\n").unwrap();
        let before = fs::read(&path).unwrap();
        let error = Transcript::open(&directory, |_| ()).unwrap_err();
        assert!(matches!(error, LoopError::Transcript { line: 2, .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::remove_dir_all(directory).unwrap();
    }
}
