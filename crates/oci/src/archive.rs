//! A layer's archive: tar, perhaps compressed, read once from front to back.
//!
//! The tar crate reads plain headers and finds the next one. Extended headers (long names) are read here, since that
//! crate takes as much memory for one as its header says, and lets one change a size that the plain header has said
//! otherwise: what two readers understand differently, a third can be made to believe.

use crate::error::EntryError;
use crate::model::Compression;
use flate2::read::MultiGzDecoder;
use octant_ids::Sha256;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::Digest;
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

/// The most bytes of an extended header: a name and a link, with room for what is not used.
const EXTENDED_BYTES: u64 = 64 * 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    Hardlink,
    /// A device node or a pipe, which no tree has.
    Node,
}

/// One entry of an archive.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its number among all headers.
    pub(crate) index: u64,
    pub(crate) kind: Kind,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) exec: bool,
    pub(crate) mtime: i64,
}

/// Why a walk ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The archive cannot be read.
    Io(io::Error),
    /// An entry cannot be.
    Entry(u64, EntryError),
    /// The visitor's own reason.
    Visit(crate::ImageError),
}

/// Goes through every entry. `visit` gets each with its bytes.
pub(crate) fn walk(
    reader: impl Read,
    visit: &mut dyn FnMut(Item, &mut dyn Read) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut archive = tar::Archive::new(reader);
    let mut extended = Extended::default();
    for (index, entry) in (0..).zip(archive.entries().map_err(Stop::Io)?.raw(true)) {
        let mut entry = entry.map_err(Stop::Io)?;
        let wrong = |why| Stop::Entry(index, why);
        let header = entry.header();
        let (size, mode) = (header.entry_size().map_err(Stop::Io)?, header.mode().map_err(Stop::Io)?);
        let mtime = header.mtime().map_err(Stop::Io)?;
        let (name, link) = (header.path_bytes().into_owned(), header.link_name_bytes());
        let (link, byte) = (link.unwrap_or_default().into_owned(), header.entry_type().as_byte());
        let kind = match byte {
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Node,
            b'5' => Kind::Directory,
            b'L' | b'K' | b'x' | b'g' => {
                extended.read(byte, size, &mut entry).map_err(|e| e.at(index))?;
                continue;
            }
            other => return Err(wrong(EntryError::Kind(other.into()))),
        };
        // Some readers take what follows such an entry for its bytes, others for the next header.
        if kind != Kind::File && size != 0 {
            return Err(wrong(EntryError::Bytes(size)));
        }
        let Extended { name: long, link: long_link, size: said } = std::mem::take(&mut extended);
        if said.is_some_and(|said| said != size) {
            return Err(wrong(EntryError::Extended("says another size than the plain one")));
        }
        let (name, link) = (long.unwrap_or(name), long_link.unwrap_or(link));
        let mtime = i64::try_from(mtime).unwrap_or(0);
        let item = Item { index, kind, name, link, size, exec: mode & 0o111 != 0, mtime };
        visit(item, &mut entry)?;
    }
    if extended == Extended::default() { Ok(()) } else { Err(Stop::Io(io::ErrorKind::UnexpectedEof.into())) }
}

/// What extended headers say of the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Why an extended header cannot be read.
enum ExtendedError {
    Io(io::Error),
    Entry(EntryError),
}

impl ExtendedError {
    fn at(self, index: u64) -> Stop {
        match self {
            Self::Io(error) => Stop::Io(error),
            Self::Entry(error) => Stop::Entry(index, error),
        }
    }
}

impl Extended {
    fn read(&mut self, kind: u8, size: u64, body: &mut impl Read) -> Result<(), ExtendedError> {
        let wrong = |why| ExtendedError::Entry(EntryError::Extended(why));
        if size > EXTENDED_BYTES {
            return Err(wrong("is longer than 64 KiB"));
        }
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(ExtendedError::Io)?;
        // GNU's ends with NUL.
        let text = |bytes: &[u8]| bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec();
        match kind {
            b'L' => self.name = Some(text(&bytes)),
            b'K' => self.link = Some(text(&bytes)),
            b'x' => self.pax(&bytes).map_err(wrong)?,
            // For all entries that follow: git's has a comment, and nothing that makes images needs more.
            _ => {}
        }
        Ok(())
    }

    /// `LENGTH KEY=VALUE\n`, the length that of the whole record (POSIX.1-2017, pax).
    fn pax(&mut self, mut rest: &[u8]) -> Result<(), &'static str> {
        const CUT: &str = "is cut";
        while !rest.is_empty() {
            let space = rest.iter().position(|&b| b == b' ').ok_or(CUT)?;
            let length = std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok());
            let (record, after) = length.and_then(|length| rest.split_at_checked(length)).ok_or(CUT)?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(CUT)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(CUT)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or("has a size that is no number")?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err("is of a sparse file"),
                // Owners, times, extended attributes: no part of a tree.
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

/// What is left of a limit that several readers share.
pub(crate) type Budget = Rc<RefCell<u64>>;

/// A reader that counts, hashes, and ends with an error at its limit.
pub(crate) struct Measured<R> {
    inner: R,
    left: Option<Budget>,
    pub(crate) seen: Rc<RefCell<(sha2::Sha256, u64)>>,
}

impl<R> Measured<R> {
    pub(crate) fn new(inner: R, left: Option<Budget>) -> Self {
        Self { inner, left, seen: Rc::default() }
    }
}

/// The digest and length of what a [`Measured`] has passed on.
pub(crate) fn result(seen: &RefCell<(sha2::Sha256, u64)>) -> (Sha256, u64) {
    let seen = seen.borrow();
    (Sha256(seen.0.clone().finalize().into()), seen.1)
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(left) = &self.left {
            let mut left = left.borrow_mut();
            *left = left.checked_sub(count as u64).ok_or_else(|| {
                io::Error::new(io::ErrorKind::FileTooLarge, "the layers unpack to more bytes than the limit")
            })?;
        }
        let mut seen = self.seen.borrow_mut();
        seen.0.update(&buffer[..count]);
        seen.1 += count as u64;
        Ok(count)
    }
}

/// What a layer decompresses to.
pub(crate) fn decompressed<'a>(reader: impl Read + 'a, compression: Compression) -> Box<dyn Read + 'a> {
    match compression {
        Compression::None => Box::new(reader),
        // Several members one after the other are one stream (RFC 1952).
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(Zstd::Between(Some(reader))),
    }
}

/// Several zstd frames one after the other are one stream; skippable ones say nothing (RFC 8878, 3.1).
enum Zstd<R> {
    Between(Option<R>),
    Within(Box<FrameDecoder>, R),
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            *self = match std::mem::replace(self, Self::Between(None)) {
                Self::Between(None) => return Ok(0),
                Self::Between(Some(mut reader)) => {
                    let mut first = [0; 1];
                    if reader.read(&mut first)? == 0 {
                        return Ok(0);
                    }
                    next_frame(first, reader)?
                }
                Self::Within(decoder, reader) if decoder.is_finished() && decoder.can_collect() == 0 => {
                    Self::Between(Some(reader))
                }
                Self::Within(mut decoder, mut reader) => {
                    if decoder.can_collect() == 0 {
                        let blocks = BlockDecodingStrategy::UptoBlocks(1);
                        decoder.decode_blocks(&mut reader, blocks).map_err(io::Error::other)?;
                    }
                    let count = decoder.read(buffer)?;
                    *self = Self::Within(decoder, reader);
                    if count > 0 {
                        return Ok(count);
                    }
                    continue;
                }
            }
        }
    }
}

/// What begins with the byte `first`: a frame, or nothing after a skippable one.
fn next_frame<R: Read>(first: [u8; 1], mut reader: R) -> io::Result<Zstd<R>> {
    let mut decoder = Box::new(FrameDecoder::new());
    match decoder.init((&first[..]).chain(&mut reader)) {
        Ok(()) => Ok(Zstd::Within(decoder, reader)),
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
            let length = u64::from(length);
            let skipped = io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
            if skipped < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Zstd::Between(Some(reader)))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}
