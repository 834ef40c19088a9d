//! Which part of a file is printed.

use memchr::{memchr, memchr_iter, memrchr_iter};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// What is read at once.
const BLOCK: usize = 64 * 1024;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    LastLines(u64),
    LastBytes(u64),
    /// From a line on, counted from one.
    FromLine(u64),
    FromByte(u64),
}

impl Part {
    /// `NUM`, `-NUM` or `+NUM`, with a unit. What is more than can be counted is all there is.
    pub(super) fn parse(text: &str, bytes: bool) -> Result<Self, String> {
        let (from_start, number) = match text.strip_prefix('+') {
            Some(number) => (true, number),
            None => (false, text.strip_prefix('-').unwrap_or(text)),
        };
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let size = match number[digits..].len() {
            0 if digits > 0 => number.parse().unwrap_or(u64::MAX),
            _ if digits > 0 && number.ends_with('b') => {
                number[..number.len() - 1].parse::<u64>().unwrap_or(u64::MAX).saturating_mul(512)
            }
            _ => crate::options::size(number).map_err(|_| format!("{text}: no number"))?,
        };
        if digits == 0 {
            return Err(format!("{text}: no number"));
        }
        Ok(match (from_start, bytes) {
            (false, false) => Self::LastLines(size),
            (false, true) => Self::LastBytes(size),
            (true, false) => Self::FromLine(size),
            (true, true) => Self::FromByte(size),
        })
    }
}

/// Why a part was not printed.
#[derive(Debug)]
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

/// Prints a part of what the file has from where it stands.
pub(super) fn print(part: Part, line_end: u8, file: &mut File, out: &mut impl Write) -> Result<(), Failure> {
    // The length of a file of the kernel's is none.
    let length = file.metadata().ok().filter(|data| data.is_file() && data.len() > 0).map(|data| data.len());
    let start = file.stream_position().ok().zip(length).filter(|(start, length)| start <= length);
    match (part, start) {
        (Part::FromLine(line), _) => from_line(line.saturating_sub(1), line_end, file, out),
        (Part::FromByte(byte), Some((start, _))) => {
            let to = start.saturating_add(byte.saturating_sub(1)).min(i64::MAX.unsigned_abs());
            file.seek(SeekFrom::Start(to)).map_err(Failure::Read)?;
            copy(file, out)
        }
        (Part::FromByte(byte), None) => {
            let left_out = &mut (&mut *file).take(byte.saturating_sub(1));
            io::copy(left_out, &mut io::sink()).map_err(Failure::Read)?;
            copy(file, out)
        }
        (Part::LastLines(_) | Part::LastBytes(_), Some((start, end))) => {
            let from = match part {
                Part::LastLines(lines) => {
                    lines_before(file, start, end, lines, line_end).map_err(Failure::Read)?
                }
                Part::LastBytes(bytes) => end.saturating_sub(bytes).max(start),
                Part::FromLine(_) | Part::FromByte(_) => start,
            };
            file.seek(SeekFrom::Start(from)).map_err(Failure::Read)?;
            copy(file, out)
        }
        (Part::LastLines(lines), None) => {
            let found = keep(file, lines, |bytes| memchr_iter(line_end, bytes).count() as u64);
            let kept = found.map_err(Failure::Read)?;
            last_lines(&kept, lines, line_end, out)
        }
        (Part::LastBytes(bytes), None) => {
            let kept = keep(file, bytes, |bytes| bytes.len() as u64).map_err(Failure::Read)?;
            let length: u64 = kept.iter().map(|block| block.len() as u64).sum();
            write_from(&kept, length.saturating_sub(bytes), out)
        }
    }
}

/// Copies the rest.
pub(super) fn copy(file: &mut File, out: &mut impl Write) -> Result<(), Failure> {
    let mut buffer = vec![0; BLOCK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => out.write_all(&buffer[..read]).map_err(Failure::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Read(error)),
        }
    }
}

fn from_line(mut left_out: u64, line_end: u8, file: &mut File, out: &mut impl Write) -> Result<(), Failure> {
    let mut buffer = vec![0; BLOCK];
    while left_out > 0 {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Read(error)),
        };
        let mut rest = &buffer[..read];
        while left_out > 0
            && let Some(end) = memchr(line_end, rest)
        {
            rest = &rest[end + 1..];
            left_out -= 1;
        }
        if left_out == 0 {
            out.write_all(rest).map_err(Failure::Write)?;
        }
    }
    copy(file, out)
}

/// Where so many lines before the end begin.
fn lines_before(file: &File, start: u64, end: u64, lines: u64, line_end: u8) -> io::Result<u64> {
    if lines == 0 {
        return Ok(end);
    }
    let mut buffer = vec![0; BLOCK];
    let mut left = lines;
    let mut at = end;
    while at > start {
        let length = (at - start).min(BLOCK as u64);
        at -= length;
        // What was taken away meanwhile is not read.
        let block = &mut buffer[..usize::try_from(length).unwrap_or(BLOCK)];
        if let Err(error) = file.read_exact_at(block, at) {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                continue;
            }
            return Err(error);
        }
        for found in memrchr_iter(line_end, block) {
            let behind = at + found as u64 + 1;
            // The end of the last line is none before it.
            if behind == end {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(behind);
            }
        }
    }
    Ok(start)
}

/// Reads all and keeps blocks at the end that have more than so many of what `count` counts, but no more blocks than that.
fn keep(file: &mut File, wanted: u64, count: impl Fn(&[u8]) -> u64) -> io::Result<VecDeque<Vec<u8>>> {
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    let mut total = 0;
    loop {
        let mut block = Vec::new();
        (&mut *file).take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(kept);
        }
        total += count(&block);
        kept.push_back(block);
        while let Some(first) = kept.front() {
            let without = total - count(first);
            if without <= wanted {
                break;
            }
            total = without;
            kept.pop_front();
        }
    }
}

fn last_lines(
    kept: &VecDeque<Vec<u8>>,
    lines: u64,
    line_end: u8,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let length: u64 = kept.iter().map(|block| block.len() as u64).sum();
    let mut left = lines;
    let mut behind = length;
    let mut from = if lines == 0 { length } else { 0 };
    'found: for block in kept.iter().rev() {
        let start = behind - block.len() as u64;
        for found in memrchr_iter(line_end, block) {
            let end = start + found as u64 + 1;
            if end == length {
                continue;
            }
            left = left.saturating_sub(1);
            if left == 0 {
                from = from.max(end);
                break 'found;
            }
        }
        behind = start;
    }
    write_from(kept, from, out)
}

fn write_from(kept: &VecDeque<Vec<u8>>, mut left_out: u64, out: &mut impl Write) -> Result<(), Failure> {
    for block in kept {
        let skipped = usize::try_from(left_out).unwrap_or(usize::MAX).min(block.len());
        out.write_all(&block[skipped..]).map_err(Failure::Write)?;
        left_out -= skipped as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(part: Part, text: &[u8]) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!(
            "octant-tail-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        print(part, b'\n', &mut File::open(&path).unwrap(), &mut out).unwrap();
        std::fs::remove_file(&path).unwrap();
        // A pipe has no end to begin at.
        let (reader, mut writer) = io::pipe().unwrap();
        let mut piped = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || writer.write_all(text).unwrap());
            let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
            print(part, b'\n', &mut reader, &mut piped).unwrap();
        });
        assert!(piped == out, "{part:?} of {} bytes", text.len());
        out
    }

    #[test]
    fn numbers_say_from_which_end() {
        assert_eq!(Part::parse("5", false), Ok(Part::LastLines(5)));
        assert_eq!(Part::parse("-5", true), Ok(Part::LastBytes(5)));
        assert_eq!(Part::parse("+5", false), Ok(Part::FromLine(5)));
        assert_eq!(Part::parse("+2K", true), Ok(Part::FromByte(2048)));
        assert_eq!(Part::parse("2b", true), Ok(Part::LastBytes(1024)));
        assert_eq!(Part::parse("99999999999999999999", false), Ok(Part::LastLines(u64::MAX)));
        for wrong in ["", "x", "+", "5x", "--5", "b"] {
            assert!(Part::parse(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_of_small_files() {
        for (part, text, expected) in [
            (Part::LastLines(2), &b"a\nb\nc\n"[..], &b"b\nc\n"[..]),
            (Part::LastLines(2), b"a\nb\nc", b"b\nc"),
            (Part::LastLines(9), b"a\nb", b"a\nb"),
            (Part::LastLines(0), b"a\nb\n", b""),
            (Part::LastLines(1), b"\n\n", b"\n"),
            (Part::LastBytes(2), b"abc", b"bc"),
            (Part::LastBytes(9), b"abc", b"abc"),
            (Part::LastBytes(0), b"abc", b""),
            (Part::FromLine(2), b"a\nb\nc", b"b\nc"),
            (Part::FromLine(0), b"a\n", b"a\n"),
            (Part::FromLine(9), b"a\nb", b""),
            (Part::FromByte(2), b"abc", b"bc"),
            (Part::FromByte(9), b"abc", b""),
            (Part::FromByte(0), b"abc", b"abc"),
        ] {
            assert_eq!(tail(part, text), expected, "{part:?}");
        }
    }

    #[test]
    fn nothing_is_lost_where_the_length_is_of_whole_blocks() {
        for blocks in 1..4 {
            let text = vec![b'a'; blocks * BLOCK];
            assert!(tail(Part::LastLines(1), &text) == text);
            let mut lines = b"0123456789abcde\n".repeat(blocks * BLOCK / 16);
            assert!(tail(Part::LastLines(u64::MAX), &lines) == lines);
            let all = lines.len() as u64 / 16;
            assert_eq!(tail(Part::LastLines(all - 1), &lines).len(), lines.len() - 16);
            assert_eq!(tail(Part::LastLines(5000), &lines).len(), lines.len().min(80_000));
            lines[BLOCK - 1] = b'x';
            assert_eq!(tail(Part::LastBytes(70_000), &lines).len(), lines.len().min(70_000));
        }
    }
}
