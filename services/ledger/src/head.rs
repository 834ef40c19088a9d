//! The head file: which entry was acknowledged last, kept apart from the segments so that a cut is noticed.
//!
//! Two slots of one disk sector each, written in turn: `"OCTHED01" seq u64, hash [32], crc u32`. A torn write
//! spoils one of them, never both. It is written after each sync of the segment and synced itself when the
//! ledger rests, so that after a loss of power it is at most a little behind, never ahead.

use crate::crc32c::crc32c;
use octant_ids::Sha256;
use octant_tlog::state::Tip;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"OCTHED01";
const SLOT: usize = 52;
const SECTOR: u64 = 512;

#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
    /// Written since the last sync.
    dirty: bool,
    writes: u64,
}

fn encode(tip: Tip) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&tip.seq.to_le_bytes());
    slot[16..48].copy_from_slice(&tip.hash.0);
    let crc = crc32c(&[&slot[..48]]);
    slot[48..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn decode(slot: &[u8; SLOT]) -> Option<Tip> {
    let seq = u64::from_le_bytes(*slot[8..].first_chunk()?);
    let tip = Tip { seq, hash: Sha256(*slot[16..].first_chunk()?) };
    (encode(tip) == *slot).then_some(tip)
}

impl Drop for HeadFile {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a process that was forked meanwhile and has not executed yet. When
        // this fails the close does it.
        let _closed_next = self.file.unlock();
    }
}

impl HeadFile {
    /// Opens the file at `path`; what it says is none when it did not exist or neither slot is whole.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Tip>)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // Two writers would each overwrite what the other has acknowledged. The lock goes with the process.
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process writes this ledger; end it first"),
            TryLockError::Error(error) => error,
        })?;
        let head = Self { file, dirty: false, writes: 0 };
        let tip = head.read()?;
        if tip.is_none() {
            // Room for both slots now, so that a full disk cannot come in between later.
            head.file.write_all_at(&[0; 1024], 0)?;
        }
        Ok((head, tip))
    }

    /// What the file says.
    pub(crate) fn read(&self) -> io::Result<Option<Tip>> {
        let slot = |offset| {
            let mut bytes = [0; SLOT];
            match self.file.read_exact_at(&mut bytes, offset) {
                Ok(()) => Ok(decode(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(error) => Err(error),
            }
        };
        let slots = [slot(0)?, slot(SECTOR)?];
        Ok(slots.into_iter().flatten().max_by_key(|tip| tip.seq))
    }

    /// Writes the newest tip. It is on disk after the next [`HeadFile::sync`].
    pub(crate) fn write(&mut self, tip: Tip) -> io::Result<()> {
        self.file.write_all_at(&encode(tip), self.writes % 2 * SECTOR)?;
        self.writes += 1;
        self.dirty = true;
        Ok(())
    }

    /// Makes it say this tip, whatever it said before: after an operator has accepted a loss.
    pub(crate) fn reset(&mut self, tip: Tip) -> io::Result<()> {
        self.write(tip)?;
        self.write(tip)?;
        self.sync()
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}
