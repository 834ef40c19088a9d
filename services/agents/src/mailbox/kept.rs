//! The file of a mailbox: its lines, in order, one after another. It outlives this service and not the machine, as the
//! agent does; so a line is written, and not synced.

use super::{BYTES_MAX, Line};
use octant_ids::Aid;
use octant_service::{KeepError, replace};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// How long a file grows before it is written anew, in bytes: some times what waits at most, so that this is rare.
const LONG: u64 = 4 * BYTES_MAX as u64;
/// More than any file has: the longest before its last line, and that.
const LONGEST: u64 = LONG + 2 * BYTES_MAX as u64;

/// Why a mailbox cannot be kept, or was not found as it was kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {source}", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{} is longer than a mailbox is kept", .0.display())]
    Long(PathBuf),
    #[error("a line cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Keep(#[from] KeepError),
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeptError {
    move |source| KeptError::Io { step, path: path.to_owned(), source }
}

/// One mailbox's file.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    /// Open where what is in it is what the mailbox is; else it is written anew with the next line.
    file: Option<File>,
    bytes: u64,
}

impl Kept {
    /// The file of a new mailbox, which is made with the first line.
    pub(crate) fn new(dir: &Path, agent: Aid) -> Self {
        Self { path: path(dir, agent), file: None, bytes: 0 }
    }

    /// The file that an earlier run left, with its lines. One that was cut off while it was written was answered to
    /// nobody, and is left out.
    pub(crate) fn read(dir: &Path, agent: Aid) -> Result<(Self, Vec<Line>), KeptError> {
        let path = path(dir, agent);
        let opened = OpenOptions::new().read(true).append(true).open(&path);
        let mut file = opened.map_err(failed("open", &path))?;
        let mut text = Vec::new();
        (&mut file).take(LONGEST).read_to_end(&mut text).map_err(failed("read", &path))?;
        if text.len() as u64 == LONGEST {
            return Err(KeptError::Long(path));
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let parse = |(at, line): (usize, &[u8])| {
            let path = path.clone();
            serde_json::from_slice(line).map_err(|source| KeptError::Line { path, line: at + 1, source })
        };
        let ended = text.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
        let lines = ended.enumerate().map(parse).collect::<Result<Vec<Line>, _>>()?;
        let file = (whole == text.len() && !lines.is_empty()).then_some(file);
        Ok((Self { path, file, bytes: whole as u64 }, lines))
    }

    /// Keeps a line; `is` says what the mailbox was before.
    pub(crate) fn add(&mut self, is: impl FnOnce() -> Option<Line>, line: &Line) -> Result<(), KeptError> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if (self.file.is_none() || self.bytes + text.len() as u64 > LONG)
            && let Some(is) = is()
        {
            self.write_anew(&is)?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(&text).map_err(failed("write", &self.path));
        if written.is_err() {
            // A part of it may be there.
            self.file = None;
        }
        self.bytes += text.len() as u64;
        written
    }

    /// Begins the file anew, with what the mailbox is.
    pub(crate) fn write_anew(&mut self, is: &Line) -> Result<(), KeptError> {
        self.file = None;
        let mut text = serde_json::to_vec(is)?;
        text.push(b'\n');
        replace(&self.path, &text, false)?;
        let file = OpenOptions::new().append(true).open(&self.path);
        self.file = Some(file.map_err(failed("open", &self.path))?);
        self.bytes = text.len() as u64;
        Ok(())
    }

    /// Removes the file of a mailbox.
    pub(crate) fn remove(dir: &Path, agent: Aid) -> Result<(), KeptError> {
        let path = path(dir, agent);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

fn path(dir: &Path, agent: Aid) -> PathBuf {
    dir.join(format!("{agent}.mail"))
}

#[cfg(test)]
mod tests {
    use super::super::{Letter, Mailboxes, ROOM_MAX};
    use super::*;
    use crate::tests::Scratch;
    use octant_api::agent::Body;
    use octant_api::text::Json;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn aid() -> Aid {
        Aid::new(1, [0; 10])
    }

    fn letter(seq: u64, text: String) -> Letter {
        let (room, name, kind) = ("a".to_owned(), "n".to_owned(), "k".to_owned());
        Letter { seq, room, from: Aid::new(2, [0; 10]), name, kind, sent_ms: seq, body: Body::Text(text) }
    }

    /// A mailbox, and what is kept of it.
    struct Both(Mailboxes, Kept);

    impl Both {
        fn new(scratch: &Scratch) -> Self {
            let mut boxes = Mailboxes::default();
            boxes.open(aid(), BTreeSet::new(), 7, false);
            Self(boxes, Kept::new(scratch.path(), aid()))
        }

        fn put(&mut self, letter: Letter) {
            self.1.add(|| self.0.is(aid()), &Line::Put(letter.clone())).unwrap();
            self.0.put(aid(), &Arc::new(letter.clone()), letter.weight());
        }

        fn read(&mut self, after: u64) {
            self.1.add(|| self.0.is(aid()), &Line::Read(after)).unwrap();
            self.0.receive(aid(), after);
        }

        /// The same after a restart.
        fn again(scratch: &Scratch) -> Self {
            let (kept, lines) = Kept::read(scratch.path(), aid()).unwrap();
            let mut boxes = Mailboxes::default();
            boxes.open_again(aid(), BTreeSet::new(), lines);
            Self(boxes, kept)
        }
    }

    #[test]
    fn what_was_kept_makes_the_same_mailbox() {
        let scratch = Scratch::new();
        let mut both = Both::new(&scratch);
        both.put(letter(1, "line\nbreak".into()));
        both.put(Letter {
            body: Body::Json(Json::from_text("{ \"n\":1.50 }".into()).unwrap()),
            ..letter(2, String::new())
        });
        both.read(7);
        both.put(letter(3, "three".into()));
        for _ in 0..2 {
            let again = Both::again(&scratch);
            assert_eq!(again.0.is(aid()), both.0.is(aid()));
            both = again;
            both.put(letter(4, "after".into()));
        }
        Kept::remove(scratch.path(), aid()).unwrap();
        Kept::remove(scratch.path(), aid()).unwrap();
        let gone = Kept::read(scratch.path(), aid());
        assert!(matches!(gone, Err(KeptError::Io { step: "open", .. })), "and not an empty one");
    }

    #[test]
    fn a_file_stays_short_and_what_waits_in_it() {
        let scratch = Scratch::new();
        let mut both = Both::new(&scratch);
        for seq in 0..2000 {
            both.put(letter(seq, "x".repeat(2000)));
            let length = fs::metadata(&both.1.path).unwrap().len();
            assert!(length == both.1.bytes && length <= LONG, "{length}");
        }
        let mut again = Both::again(&scratch);
        assert_eq!(again.0.is(aid()), both.0.is(aid()));
        let got = again.0.receive(aid(), 0);
        assert_eq!((got.messages.len(), got.lost), (ROOM_MAX, 2000 - ROOM_MAX as u64));
    }

    #[test]
    fn a_line_that_was_cut_off_is_left_out_and_one_that_is_damaged_is_not_passed_over() {
        let scratch = Scratch::new();
        let mut both = Both::new(&scratch);
        both.put(letter(1, "whole".into()));
        let before = both.0.is(aid());
        both.put(letter(2, "cut off".into()));
        let path = both.1.path.clone();
        let length = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        let mut again = Both::again(&scratch);
        assert_eq!(again.0.is(aid()), before);
        again.put(letter(3, "next".into()));
        assert_eq!(Both::again(&scratch).0.is(aid()), again.0.is(aid()), "and nothing is written behind it");
        let mut text = fs::read(&path).unwrap();
        text[2] = b'?';
        fs::write(&path, text).unwrap();
        assert!(matches!(Kept::read(scratch.path(), aid()), Err(KeptError::Line { line: 1, .. })));
        fs::write(&path, vec![b'\n'; usize::try_from(LONGEST).unwrap()]).unwrap();
        assert!(matches!(Kept::read(scratch.path(), aid()), Err(KeptError::Long(_))));
    }
}
