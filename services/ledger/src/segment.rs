//! Segment files: how records stand in them.
//!
//! ```text
//! header, 64 bytes:  "OCTLDG02" first u64, prev [32], zeros [12], crc u32
//! frame:             len u32, crc u32, durable u64, canonical bytes [len], zeros to a multiple of 8
//! ...
//! zeros up to the end of the file: written beforehand, so that a sync moves no metadata
//! ```
//!
//! Numbers are little endian; `crc` is CRC-32C of everything else in the header or frame. `durable` is the
//! number of the last entry that was durable when the frame was written: a whole frame after a broken one
//! thereby tells whether the broken one had been acknowledged.

use crate::crc32c::crc32c;
use octant_ids::Sha256;
use octant_tlog::entry::ENTRY_MAX;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The length of a segment's header, which is where its first frame stands.
pub(crate) const HEADER: u64 = 64;
/// The length of a frame's own fields.
pub(crate) const FRAME: usize = 16;
/// The most canonical bytes of an entry.
pub(crate) const RECORD_MAX: usize = ENTRY_MAX;
const MAGIC: [u8; 8] = *b"OCTLDG02";
/// How much of a file is read at a time.
const READ: usize = 256 << 10;

/// The name of the segment whose first entry has this number.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The number of the first entry of the segment with this name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let first = digits.parse().ok()?;
    (file_name(first) == name).then_some(first)
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The number of its first entry.
    pub(crate) first: u64,
    /// The hash of the entry before that.
    pub(crate) prev: Sha256,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.first.to_le_bytes());
        out[16..48].copy_from_slice(&self.prev.0);
        let crc = crc32c(&[&out[..60]]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; 64]) -> Option<Self> {
        let first = u64::from_le_bytes(*bytes[8..].first_chunk()?);
        let header = Self { first, prev: Sha256(*bytes[16..].first_chunk()?) };
        (header.encode() == *bytes).then_some(header)
    }

    /// What is wrong with a header that is not valid.
    pub(crate) fn fault(file: &File) -> String {
        let mut magic = [0; 8];
        let known =
            file.read_exact_at(&mut magic, 0).is_ok() && magic.starts_with(&MAGIC[..6]) && magic != MAGIC;
        if known && magic.is_ascii() {
            let (found, own) = (String::from_utf8_lossy(&magic), String::from_utf8_lossy(&MAGIC));
            return format!("the segment is of another version of Octant ({found}), this one reads {own}");
        }
        "the segment's header is not valid".to_owned()
    }

    /// The header of a file; none when it has no valid one.
    pub(crate) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; 64];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Self::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

/// Appends a frame whose canonical bytes `write` appends. On an error nothing is appended.
pub(crate) fn push_frame<T, E>(
    out: &mut Vec<u8>,
    durable: u64,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    let value = write(out).inspect_err(|_| out.truncate(start))?;
    // Records have at most RECORD_MAX bytes; one that had more than 2^32 would be read as broken.
    let len = u32::try_from(out.len() - start - FRAME).unwrap_or(0).to_le_bytes();
    let durable = durable.to_le_bytes();
    let crc = crc32c(&[&len, &durable, &out[start + FRAME..]]);
    out[start..start + 4].copy_from_slice(&len);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out[start + 8..start + 16].copy_from_slice(&durable);
    out.resize(start + padded(out.len() - start), 0);
    Ok(value)
}

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A whole frame.
    Frame { offset: u64, durable: u64, bytes: &'a [u8] },
    /// Nothing any more: zeros or the end of the file.
    End { offset: u64 },
    /// Something that is no frame.
    Bad { offset: u64, why: String },
}

enum Look {
    Frame { durable: u64, len: usize },
    End,
    Bad(String),
}

/// Goes through a segment frame by frame.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Where `buffer` starts in the file.
    base: u64,
    /// Where the next frame starts in `buffer`.
    at: usize,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(file: &'a File, offset: u64) -> Self {
        Self { file, buffer: Vec::new(), base: offset, at: 0 }
    }

    /// The offset of the next frame.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Makes `need` bytes available at `at`, or as many as the file still has; how many there are.
    fn fill(&mut self, need: usize) -> io::Result<usize> {
        if self.buffer.len() - self.at < need {
            self.buffer.drain(..self.at);
            self.base += self.at as u64;
            self.at = 0;
            while self.buffer.len() < need {
                let old = self.buffer.len();
                self.buffer.resize(old + READ, 0);
                let got = self.file.read_at(&mut self.buffer[old..], self.base + old as u64);
                self.buffer.truncate(old + *got.as_ref().unwrap_or(&0));
                match got {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.buffer.len() - self.at)
    }

    fn look(&mut self) -> io::Result<Look> {
        let there = self.fill(FRAME)?;
        let here = &self.buffer[self.at..];
        if here.iter().take(FRAME).all(|byte| *byte == 0) {
            return Ok(Look::End);
        }
        let Some(fields) = here.first_chunk::<FRAME>().copied() else {
            return Ok(Look::Bad(format!("the file ends {there} bytes into a frame")));
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3, d @ ..] = fields;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len == 0 || len > RECORD_MAX {
            return Ok(Look::Bad(format!("a frame of {len} bytes, which no entry has")));
        }
        let there = self.fill(FRAME + padded(len))?;
        if there < FRAME + padded(len) {
            return Ok(Look::Bad(format!("a frame of {len} bytes, of which the file has {}", there - FRAME)));
        }
        let (bytes, padding) = self.buffer[self.at + FRAME..].split_at(len);
        if padding[..padded(len) - len].iter().any(|byte| *byte != 0) {
            return Ok(Look::Bad("the bytes that fill it up are not zero".to_owned()));
        }
        if crc32c(&[&fields[..4], &d, bytes]) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(Look::Bad("its checksum is wrong".to_owned()));
        }
        Ok(Look::Frame { durable: u64::from_le_bytes(d), len })
    }

    /// What stands next; a frame is passed, anything else is not.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        let offset = self.offset();
        Ok(match self.look()? {
            Look::End => Step::End { offset },
            Look::Bad(why) => Step::Bad { offset, why },
            Look::Frame { durable, len } => {
                let start = self.at + FRAME;
                self.at = start + padded(len);
                Step::Frame { offset, durable, bytes: &self.buffer[start..start + len] }
            }
        })
    }
}

/// What a search behind a broken place found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The highest `durable` of a whole frame there.
    pub(crate) durable: u64,
    /// Where the last byte that is not zero ends; 0 when all are zero.
    pub(crate) end: u64,
}

/// Looks for whole frames from `offset` on, at every place where one could start: frames begin at multiples of 8.
pub(crate) fn behind(file: &File, offset: u64) -> io::Result<Behind> {
    let mut walker = Walker::new(file, offset);
    let mut found = Behind::default();
    while walker.fill(FRAME)? > 0 {
        let there = &walker.buffer[walker.at..];
        // Most of what stands there are zeros written ahead; they are passed in one go.
        let zeros = there.iter().position(|byte| *byte != 0).unwrap_or(there.len());
        if zeros >= 8 {
            walker.at += if zeros == there.len() { zeros } else { zeros / 8 * 8 };
            continue;
        }
        let word = &there[..there.len().min(8)];
        let last = word.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        found.end = walker.offset() + last as u64 + 1;
        let passed = word.len();
        if let Look::Frame { durable, .. } = walker.look()? {
            found.durable = found.durable.max(durable);
        }
        walker.at += passed;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use std::io::Write;

    fn file(frames: &[(u64, Vec<u8>)], zeros: usize) -> (File, Vec<u8>) {
        let mut bytes = Header { first: 1, prev: Sha256::ZERO }.encode().to_vec();
        for (durable, record) in frames {
            push_frame::<_, Infallible>(&mut bytes, *durable, |out| {
                out.extend_from_slice(record);
                Ok(())
            })
            .unwrap();
        }
        bytes.resize(bytes.len() + zeros, 0);
        (of_bytes(&bytes), bytes)
    }

    fn of_bytes(bytes: &[u8]) -> File {
        let name = nix::sys::memfd::memfd_create(c"segment", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let mut file = File::from(name);
        file.write_all(bytes).unwrap();
        file
    }

    fn walk(file: &File) -> (Vec<(u64, Vec<u8>)>, String) {
        let mut walker = Walker::new(file, HEADER);
        let mut frames = Vec::new();
        loop {
            match walker.step().unwrap() {
                Step::Frame { durable, bytes, .. } => frames.push((durable, bytes.to_vec())),
                Step::End { .. } => return (frames, "end".to_owned()),
                Step::Bad { why, .. } => return (frames, why),
            }
        }
    }

    fn frames() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
        let record = prop::collection::vec(any::<u8>(), 1..200);
        prop::collection::vec((0_u64..1000, record), 1..12)
    }

    proptest! {
        #[test]
        fn what_is_written_is_walked(frames in frames(), zeros in 0_usize..300) {
            let (file, _) = file(&frames, zeros);
            prop_assert_eq!(walk(&file), (frames, "end".to_owned()));
        }

        #[test]
        fn a_changed_byte_ends_the_walk_at_its_frame(
            frames in frames(),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let (_, mut bytes) = file(&frames, 64);
            let (header, rest) = bytes.split_at_mut(64);
            let content = rest.len() - 64;
            rest[at.index(content)] ^= flip;
            let damaged = of_bytes(&[header, rest].concat());
            let (walked, _) = walk(&damaged);
            prop_assert!(frames.starts_with(&walked));
            prop_assert!(walked.len() < frames.len());
            let highest = frames[walked.len() + 1..].iter().map(|frame| frame.0).max().unwrap_or(0);
            let mut walker = Walker::new(&damaged, HEADER);
            for _ in 0..walked.len() {
                walker.step().unwrap();
            }
            prop_assert!(behind(&damaged, walker.offset()).unwrap().durable >= highest);
        }

        #[test]
        fn any_file_can_be_walked(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let file = of_bytes(&bytes);
            walk(&file);
            behind(&file, 0).unwrap();
        }
    }

    #[test]
    fn headers_and_names_are_read_back() {
        let header = Header { first: 77, prev: Sha256([9; 32]) };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        for at in 0..64 {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), None, "{at}");
        }
        assert_eq!(first_of(&file_name(u64::MAX)), Some(u64::MAX));
        for bad in ["1.log", "x.log", "00000000000000000001.tmp", "+0000000000000000001.log"] {
            assert_eq!(first_of(bad), None, "{bad}");
        }
    }
}
