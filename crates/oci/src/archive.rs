//! A layer's archive: tar, perhaps compressed, read once from front to back.
//!
//! The tar crate reads plain headers and finds the next one. Extended headers (long names) are read by `octant-archive`, since that
//! crate takes as much memory for one as its header says, and lets one change a size that the plain header has said
//! otherwise: what two readers understand differently, a third can be made to believe.

use crate::error::EntryError;
use crate::model::Compression;
use flate2::read::MultiGzDecoder;
use octant_archive::{Extended, ExtendedError, Zstd};
use octant_ids::Sha256;
use sha2::Digest;
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

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
                extended.read(byte, size, &mut entry).map_err(|error| Stop::from((index, error)))?;
                continue;
            }
            other => return Err(wrong(EntryError::Kind(other.into()))),
        };
        // Some readers take what follows such an entry for its bytes, others for the next header.
        if kind != Kind::File && size != 0 {
            return Err(wrong(EntryError::Bytes(size)));
        }
        let Extended { name: long, link: long_link, size: said, .. } = std::mem::take(&mut extended);
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

impl From<(u64, ExtendedError)> for Stop {
    fn from((index, error): (u64, ExtendedError)) -> Self {
        match error {
            ExtendedError::Io(error) => Self::Io(error),
            ExtendedError::Wrong(why) => Self::Entry(index, EntryError::Extended(why)),
        }
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
        Compression::Zstd => Box::new(Zstd::new(reader)),
    }
}
