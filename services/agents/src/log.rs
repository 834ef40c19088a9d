//! An agent's output: what it wrote last, bounded, in the order in which it was read.
//!
//! Two segment files at most. A segment starts with 8 bytes, the count of bytes lost before it; then frames
//! follow: one byte for the stream, two for the length (little endian), the bytes. When a segment is full the
//! other one goes.

use octant_api::agents::Output;
use octant_ids::Aid;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

const HEADER: u64 = 8;
const FRAME: usize = 3;
/// The longest frame's content, in bytes.
pub(crate) const CHUNK: usize = 16 << 10;

/// The output of one agent.
#[derive(Debug)]
pub(crate) struct Log {
    prefix: PathBuf,
    segment_bytes: u64,
    kept: Mutex<Kept>,
    /// Changes with every write and at the end.
    news: watch::Sender<News>,
}

/// How far the output has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct News {
    written: u64,
    /// Whether nothing will be added any more.
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
struct Kept {
    segments: VecDeque<Segment>,
    lost: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    /// Where its next frame goes.
    end: u64,
    /// Bytes of output in it.
    content: u64,
}

/// A place in the output.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    segment: u64,
    offset: u64,
}

impl Log {
    /// Opens the output of an agent in `dir`; what an earlier run of this service wrote is kept.
    pub(crate) fn open(dir: &Path, aid: Aid, max_bytes: u64) -> io::Result<Self> {
        let prefix = dir.join(format!("{aid}.log"));
        let log = Self {
            prefix,
            segment_bytes: (max_bytes / 2).max(64),
            kept: Mutex::default(),
            news: watch::Sender::new(News::default()),
        };
        let mut numbers = log.numbers(dir)?;
        numbers.sort_unstable();
        let mut kept = log.kept();
        for number in numbers {
            let file = OpenOptions::new().read(true).write(true).open(log.segment(number))?;
            let mut header = [0; 8];
            let (end, content) = match file.read_exact_at(&mut header, 0) {
                Ok(()) => scan(&file)?,
                // Cut off while it was made: there is nothing in it.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => (HEADER, 0),
                Err(e) => return Err(e),
            };
            kept.lost = kept.lost.max(u64::from_le_bytes(header));
            kept.segments.push_back(Segment { number, file, end, content });
        }
        drop(kept);
        Ok(log)
    }

    /// Removes the output of an agent.
    pub(crate) fn remove(dir: &Path, aid: Aid) -> io::Result<()> {
        let prefix = dir.join(format!("{aid}.log"));
        let log = Self { prefix, segment_bytes: 0, kept: Mutex::default(), news: watch::Sender::default() };
        log.numbers(dir)?.into_iter().try_for_each(|number| fs::remove_file(log.segment(number)))
    }

    fn numbers(&self, dir: &Path) -> io::Result<Vec<u64>> {
        let name = self.prefix.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?.file_name();
            let rest = entry.to_str().and_then(|n| n.strip_prefix(name)).and_then(|n| n.strip_prefix('.'));
            numbers.extend(rest.and_then(|n| n.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    fn segment(&self, number: u64) -> PathBuf {
        let mut name = self.prefix.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds output. What cannot be written is counted as lost: an agent is not held up by a full disk.
    pub(crate) fn write(&self, stream: Output, bytes: &[u8]) {
        let mut kept = self.kept();
        for chunk in bytes.chunks(CHUNK) {
            if let Err(error) = self.write_chunk(&mut kept, stream, chunk) {
                kept.lost += chunk.len() as u64;
                tracing::warn!(
                    "{}: {error}; {} bytes of output are lost",
                    self.prefix.display(),
                    chunk.len()
                );
            }
        }
        drop(kept);
        self.news.send_modify(|news| news.written += bytes.len() as u64);
    }

    fn write_chunk(&self, kept: &mut Kept, stream: Output, chunk: &[u8]) -> io::Result<()> {
        if kept.segments.back().is_none_or(|last| last.end >= self.segment_bytes) {
            self.next_segment(kept)?;
        }
        let Some(last) = kept.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        // `chunks` gives at most CHUNK bytes, which two bytes can count.
        let length = u16::try_from(chunk.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut frame = Vec::with_capacity(FRAME + chunk.len());
        frame.push(stream as u8);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(chunk);
        last.file.write_all_at(&frame, last.end)?;
        last.end += frame.len() as u64;
        last.content += chunk.len() as u64;
        Ok(())
    }

    fn next_segment(&self, kept: &mut Kept) -> io::Result<()> {
        if kept.segments.len() > 1
            && let Some(oldest) = kept.segments.pop_front()
        {
            kept.lost += oldest.content;
            fs::remove_file(self.segment(oldest.number))?;
        }
        let number = kept.segments.back().map_or(1, |last| last.number + 1);
        let path = self.segment(number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&kept.lost.to_le_bytes(), 0)?;
        kept.segments.push_back(Segment { number, file, end: HEADER, content: 0 });
        Ok(())
    }

    /// Says that nothing will be added any more.
    pub(crate) fn close(&self) {
        self.news.send_modify(|news| news.closed = true);
    }

    /// Tells of changes.
    pub(crate) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// How many bytes were written and are not kept.
    pub(crate) fn lost(&self) -> u64 {
        self.kept().lost
    }

    /// What stands at a place, and moves the place behind it; none at the end. A place that is not kept any
    /// more continues at the oldest that is.
    pub(crate) fn read(&self, at: &mut Cursor) -> io::Result<Option<(Output, Vec<u8>)>> {
        let kept = self.kept();
        loop {
            let Some(segment) = kept.segments.iter().find(|s| s.number >= at.segment) else {
                return Ok(None);
            };
            if segment.number != at.segment || at.offset < HEADER {
                *at = Cursor { segment: segment.number, offset: HEADER };
            }
            if at.offset < segment.end {
                let (stream, length) = frame_at(&segment.file, at.offset)?;
                let mut bytes = vec![0; length];
                segment.file.read_exact_at(&mut bytes, at.offset + FRAME as u64)?;
                at.offset += (FRAME + length) as u64;
                return Ok(Some((stream, bytes)));
            }
            if kept.segments.back().is_none_or(|last| last.number == segment.number) {
                return Ok(None);
            }
            *at = Cursor { segment: segment.number + 1, offset: HEADER };
        }
    }
}

fn frame_at(file: &File, offset: u64) -> io::Result<(Output, usize)> {
    let mut head = [0; FRAME];
    file.read_exact_at(&mut head, offset)?;
    let [stream, low, high] = head;
    let stream = match stream {
        0 => Output::Stdout,
        1 => Output::Stderr,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of no stream")),
    };
    Ok((stream, usize::from(u16::from_le_bytes([low, high]))))
}

/// The end of the last whole frame and the bytes of output before it: a crash may have cut the last one.
fn scan(file: &File) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let (mut end, mut content) = (HEADER, 0);
    while let Ok((_, bytes)) = frame_at(file, end) {
        let next = end + (FRAME + bytes) as u64;
        if next > length {
            break;
        }
        (end, content) = (next, content + bytes as u64);
    }
    Ok((end, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Scratch;

    const AID: fn() -> Aid = || Aid::new(1, [0; 10]);

    fn all(log: &Log, at: &mut Cursor) -> Vec<(Output, String)> {
        let mut out = Vec::new();
        while let Some((stream, bytes)) = log.read(at).unwrap() {
            out.push((stream, String::from_utf8(bytes).unwrap()));
        }
        out
    }

    #[test]
    fn the_order_of_the_two_streams_is_kept_over_a_restart() {
        let scratch = Scratch::new();
        let log = Log::open(scratch.path(), AID(), 1 << 20).unwrap();
        log.write(Output::Stdout, b"a");
        log.write(Output::Stderr, b"b");
        drop(log);
        let log = Log::open(scratch.path(), AID(), 1 << 20).unwrap();
        log.write(Output::Stdout, b"c");
        let mut at = Cursor::default();
        let wanted = [(Output::Stdout, "a"), (Output::Stderr, "b"), (Output::Stdout, "c")];
        assert_eq!(all(&log, &mut at), wanted.map(|(s, t)| (s, t.to_owned())));
        log.write(Output::Stdout, b"d");
        assert_eq!(all(&log, &mut at), [(Output::Stdout, "d".to_owned())], "a place can be gone on from");
        Log::remove(scratch.path(), AID()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let scratch = Scratch::new();
        let log = Log::open(scratch.path(), AID(), 200).unwrap();
        let mut slow = Cursor::default();
        for i in 0..100 {
            log.write(Output::Stdout, format!("{i:02}").as_bytes());
            if i == 0 {
                assert!(log.read(&mut slow).unwrap().is_some());
            }
        }
        let kept = all(&log, &mut Cursor::default());
        assert_eq!(log.lost() + 2 * kept.len() as u64, 200);
        assert_eq!(kept.last().unwrap().1, "99");
        assert_eq!(all(&log, &mut slow), kept, "who was too slow goes on with the oldest kept");
        let files: u64 =
            fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(files < 300, "{files}");
        let lost = log.lost();
        drop(log);
        assert_eq!(Log::open(scratch.path(), AID(), 200).unwrap().lost(), lost);
    }

    #[test]
    fn a_frame_that_was_cut_off_is_left_out() {
        let scratch = Scratch::new();
        let log = Log::open(scratch.path(), AID(), 1 << 20).unwrap();
        log.write(Output::Stdout, b"whole");
        log.write(Output::Stdout, b"cut off");
        let path = log.segment(1);
        drop(log);
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        let log = Log::open(scratch.path(), AID(), 1 << 20).unwrap();
        log.write(Output::Stderr, b"next");
        let wanted = [(Output::Stdout, "whole".to_owned()), (Output::Stderr, "next".to_owned())];
        assert_eq!(all(&log, &mut Cursor::default()), wanted);
    }
}
