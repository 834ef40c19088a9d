//! A vault's file as it was read: what anybody can see of it, and, with the data key, what it comes to. Everything here
//! blocks.

use crate::format::{self, Bytes, FILE_MAX, FormatError, Header, HeaderEnd, Opened};
use crate::reading::{Reading, ReadingError};
use crate::state::{Now, State};
use crate::store::StoreError;
use crate::values::open_machine;
use octant_crypto::memory::Key;
use octant_crypto::sign::SigningKey;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

/// How many bytes of contents are handed from who opens frames to who takes their changes. A file that has no more is done
/// with sooner than a thread is started.
const AT_ONCE: usize = 1 << 20;
/// The room that a header needs at most, with what stands around it.
const START: usize = format::HEADER_MAX + 64;

/// A file as it was read, not opened yet.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) header: Header,
    end: HeaderEnd,
    bytes: Source,
}

/// Where the bytes are.
#[derive(Debug)]
enum Source {
    /// In a file of the vault's own, which nobody else writes, and as long as it was when it was opened.
    File(File, usize),
    /// In memory: a backup as it came.
    Memory(Vec<u8>),
}

impl Bytes for Source {
    fn len(&self) -> usize {
        match self {
            Self::File(_, len) => *len,
            Self::Memory(bytes) => bytes.len(),
        }
    }

    fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.read_exact_at(out, at as u64),
            Self::Memory(bytes) => Bytes::read(bytes, at, out),
        }
    }
}

/// How long a file is, which may not be longer than a vault can be.
fn length(file: &File) -> io::Result<usize> {
    let len = file.metadata()?.len();
    if len > FILE_MAX {
        let why = format!("it has {len} bytes, and a vault has at most {FILE_MAX}");
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    usize::try_from(len).map_err(io::Error::other)
}

/// Reads a whole file.
pub(crate) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length(file)?);
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file comes to.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) opened: Opened,
    pub(crate) state: State,
    /// The machine's key.
    pub(crate) machine: SigningKey,
}

/// The contents of several frames, one behind the other, and where each ends.
#[derive(Debug, Default)]
struct Several {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Raw {
    /// Reads the header of the vault's own file; nothing is opened yet.
    pub(crate) fn of(file: File, path: &Path) -> Result<Self, StoreError> {
        let mut start = Vec::new();
        let read = length(&file).and_then(|len| {
            (&file).take(START as u64).read_to_end(&mut start)?;
            Ok(len)
        });
        let len = read.map_err(|source| StoreError::Io { step: "read", path: path.to_owned(), source })?;
        Self::new(&start, Source::File(file, len), path)
    }

    /// The same of bytes in memory.
    pub(crate) fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, StoreError> {
        let start = bytes.get(..START).unwrap_or(&bytes).to_vec();
        Self::new(&start, Source::Memory(bytes), path)
    }

    fn new(start: &[u8], bytes: Source, path: &Path) -> Result<Self, StoreError> {
        let (header, end) = format::read_header(start).map_err(|source| StoreError::of(path, source))?;
        Ok(Self { header, end, bytes })
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Everything as it stands there.
    pub(crate) fn copy(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len()];
        self.bytes.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Opens every frame.
    pub(crate) fn open(&self, key: &Key) -> Result<Opened, FormatError> {
        self.frames(key, &mut |_| Ok(()))
    }

    fn frames(
        &self,
        key: &Key,
        each: &mut dyn FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<Opened, FormatError> {
        format::read_frames(&self.header, &self.bytes, &self.end, key, each)
    }

    /// What all frames come to in this boot; without leases that have ended, where the time is given.
    pub(crate) fn state(
        &self,
        key: &Key,
        boot: &str,
        by: Option<Now>,
    ) -> Result<(Opened, State), FormatError> {
        let (mut reading, mut again) = (Reading::new(boot, by), false);
        let mut take = |content: &[u8]| {
            for thing in format::things(content) {
                let wrong = |what| FormatError::Frame { offset: self.len(), what };
                let (text, value) = thing.map_err(wrong)?;
                reading.take(text, value).map_err(|error| {
                    again |= matches!(error, ReadingError::Again);
                    FormatError::Header(error.to_string())
                })?;
            }
            Ok(())
        };
        let opened = match self.len() {
            ..AT_ONCE => self.frames(key, &mut take),
            _ => self.frames_apart(key, &mut take),
        };
        match opened {
            Err(_) if again => {
                let (opened, mut state) = self.state(key, boot, None)?;
                by.inspect(|by| state.expire(*by, usize::MAX));
                Ok((opened, state))
            }
            opened => Ok((opened?, reading.end())),
        }
    }

    /// As [`Raw::frames`], with the frames opened by a thread of their own: that takes about as long as `each` does.
    fn frames_apart(
        &self,
        key: &Key,
        each: &mut dyn FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<Opened, FormatError> {
        let ((full, filled), (empty, emptied)) = (sync_channel::<Several>(1), channel::<Several>());
        std::thread::scope(|scope| {
            let opening = std::thread::Builder::new().name("vault-frames".to_owned());
            let opening = opening.spawn_scoped(scope, move || {
                let mut several = Several::default();
                let gone = |_| FormatError::Read(ErrorKind::BrokenPipe);
                let opened = self.frames(key, &mut |content| {
                    several.bytes.extend_from_slice(content);
                    several.ends.push(several.bytes.len());
                    if several.bytes.len() < AT_ONCE {
                        return Ok(());
                    }
                    let next = emptied.try_recv().unwrap_or_default();
                    full.send(std::mem::replace(&mut several, next)).map_err(gone)
                });
                // What comes before a frame that does not open is looked at all the same, as it would be by one thread.
                full.send(several).map_err(gone).and(opened)
            });
            let opening = opening.map_err(|error| FormatError::Read(error.kind()))?;
            // An error here ends the thread there: it finds nobody who takes more.
            let taken = take_all(filled, &empty, each);
            let opened = opening.join().unwrap_or(Err(FormatError::Read(ErrorKind::Other)));
            taken.and(opened)
        })
    }

    /// Everything that a file has to be for a vault to be unsealed from it: header, frames, changes, and the machine's seed.
    pub(crate) fn contents(&self, key: &Key, boot: &str, by: Option<Now>) -> Result<Contents, FormatError> {
        let (opened, state) = self.state(key, boot, by)?;
        let wrong = |what: &str| FormatError::Header(what.to_owned());
        let (machine, seed) = state.machine.as_ref().ok_or_else(|| wrong("it has no machine's identity"))?;
        if machine.public != self.header.machine {
            return Err(wrong("it names another machine than its header does"));
        }
        let opens = open_machine(key, &self.header.vault.0, &machine.public.0, seed);
        let machine = opens.map_err(FormatError::Header)?;
        Ok(Contents { opened, state, machine })
    }
}

/// Gives every content away in its order, and what held it back to be used again.
fn take_all(
    filled: Receiver<Several>,
    empty: &Sender<Several>,
    each: &mut dyn FnMut(&[u8]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    for mut several in filled {
        let mut start = 0;
        for end in several.ends.drain(..) {
            each(&several.bytes[start..end])?;
            start = end;
        }
        several.bytes.clear();
        // At the end there is nobody who needs it.
        let _ = empty.send(several);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
