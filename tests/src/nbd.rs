//! A disk that can lose power: an NBD server over a Unix socket which keeps what was written in memory and
//! makes it durable only when the guest flushes (or asks for force-unit-access).
//!
//! Killing QEMU alone would prove nothing, since the host's page cache survives it. Here a power cut drops
//! every sector that was not flushed, or keeps a seeded random half of them, as a real disk's cache may.
//! Protocol: the NBD specification, fixed newstyle negotiation, simple replies.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x3_e889_0455_65a9;
/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES.
const EXPORT_FLAGS: u16 = 1 | 4 | 8 | 64;
/// A guest never asks for more in one request than QEMU's limit.
const LONGEST_REQUEST: u32 = 32 << 20;

#[derive(Debug)]
struct State {
    durable: Vec<u8>,
    view: Vec<u8>,
    dirty: BTreeSet<usize>,
    flushes: u64,
    /// Nothing becomes durable any more, and whoever waits for that waits for ever.
    stalled: bool,
}

impl State {
    fn sectors(offset: usize, length: usize) -> std::ops::RangeInclusive<usize> {
        offset / SECTOR..=(offset + length.max(1) - 1) / SECTOR
    }

    fn persist(&mut self, sector: usize) {
        let at = sector * SECTOR..((sector + 1) * SECTOR).min(self.view.len());
        self.durable[at.clone()].copy_from_slice(&self.view[at]);
        self.dirty.remove(&sector);
    }
}

/// The disk and the server in front of it.
#[derive(Debug, Clone)]
pub struct VolatileDisk {
    state: Arc<Mutex<State>>,
    socket: PathBuf,
}

impl VolatileDisk {
    /// Serves the content of `image` on a socket at `socket`; each boot makes one connection.
    ///
    /// # Errors
    /// The image cannot be read or the socket cannot be bound.
    pub fn serve(image: &Path, socket: &Path) -> io::Result<Self> {
        let durable = std::fs::read(image)?;
        let state =
            State { view: durable.clone(), durable, dirty: BTreeSet::new(), flushes: 0, stalled: false };
        let disk = Self { state: Arc::new(Mutex::new(state)), socket: socket.to_owned() };
        let listener = UnixListener::bind(socket)?;
        let served = disk.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection ends when QEMU is killed; the error is the expected end of one boot.
                let _ended = served.connection(stream);
            }
        });
        Ok(disk)
    }

    /// The value of QEMU's `file=` for this disk.
    #[must_use]
    pub fn qemu_file(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// Cuts the power: what was not flushed is lost, except for each sector for which `keep` says otherwise.
    /// Returns how many sectors were lost.
    pub fn power_cut(&self, mut keep: impl FnMut() -> bool) -> usize {
        let mut state = self.lock();
        for sector in state.dirty.clone() {
            if keep() {
                state.persist(sector);
            }
        }
        let lost = state.dirty.len();
        state.dirty.clear();
        state.view = state.durable.clone();
        state.stalled = false;
        lost
    }

    /// From here on until the power is cut no flush is answered, so that what is written then is not durable.
    pub fn stall(&self) {
        self.lock().stalled = true;
    }

    /// How many sectors were written and not flushed.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.lock().dirty.len()
    }

    /// How often the guest has flushed.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.lock().flushes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, mut stream: UnixStream) -> io::Result<()> {
        self.negotiate(&mut stream)?;
        loop {
            let mut request = [0_u8; 28];
            stream.read_exact(&mut request)?;
            if u32::from_be_bytes(array(&request[..4])) != REQUEST_MAGIC {
                return Err(io::Error::other("request without its magic"));
            }
            let force_unit_access = u16::from_be_bytes(array(&request[4..6])) & 1 != 0;
            let kind = u16::from_be_bytes(array(&request[6..8]));
            let handle: [u8; 8] = array(&request[8..16]);
            let offset = u64::from_be_bytes(array(&request[16..24]));
            let length = u32::from_be_bytes(array(&request[24..28]));
            if length > LONGEST_REQUEST {
                return Err(io::Error::other("request over the limit"));
            }
            let (offset, length) = (usize::try_from(offset).unwrap_or(usize::MAX), length as usize);
            let mut data = vec![0; if kind == 0 || kind == 1 { length } else { 0 }];
            if kind == 1 {
                stream.read_exact(&mut data)?;
            }
            let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
            let error = match kind {
                0 => Some(self.read(offset, &mut data)),
                1 => self.write(offset, &data, force_unit_access),
                2 => return Ok(()),
                3 => self.flush(),
                6 => self.write(offset, &vec![0; length], force_unit_access),
                _ => Some(22),
            };
            let Some(error) = error else { continue };
            reply.extend(error.to_be_bytes());
            reply.extend(handle);
            if kind == 0 && error == 0 {
                reply.extend(data);
            }
            stream.write_all(&reply)?;
        }
    }

    fn read(&self, offset: usize, data: &mut [u8]) -> u32 {
        match offset
            .checked_add(data.len())
            .and_then(|end| self.lock().view.get(offset..end).map(<[u8]>::to_vec))
        {
            Some(bytes) => {
                data.copy_from_slice(&bytes);
                0
            }
            None => 22,
        }
    }

    /// The error to answer with, 0 for none; no answer while the disk is stalled.
    fn write(&self, offset: usize, data: &[u8], force_unit_access: bool) -> Option<u32> {
        let mut state = self.lock();
        let Some(end) = offset.checked_add(data.len()).filter(|end| *end <= state.view.len()) else {
            return Some(28);
        };
        let durable = force_unit_access && !state.stalled;
        state.view[offset..end].copy_from_slice(data);
        for sector in State::sectors(offset, data.len()) {
            state.dirty.insert(sector);
            if durable {
                state.persist(sector);
            }
        }
        (durable || !force_unit_access).then_some(0)
    }

    /// As [`VolatileDisk::write`].
    fn flush(&self) -> Option<u32> {
        let mut state = self.lock();
        if state.stalled {
            return None;
        }
        for sector in std::mem::take(&mut state.dirty) {
            state.persist(sector);
        }
        state.flushes += 1;
        Some(0)
    }

    fn negotiate(&self, stream: &mut UnixStream) -> io::Result<()> {
        stream.write_all(b"NBDMAGIC")?;
        stream.write_all(OPTION_MAGIC)?;
        stream.write_all(&3_u16.to_be_bytes())?;
        let mut client_flags = [0; 4];
        stream.read_exact(&mut client_flags)?;
        loop {
            let mut head = [0_u8; 16];
            stream.read_exact(&mut head)?;
            let option = u32::from_be_bytes(array(&head[8..12]));
            let length = u32::from_be_bytes(array(&head[12..16]));
            if &head[..8] != OPTION_MAGIC || length > 4096 {
                return Err(io::Error::other("not an NBD option"));
            }
            stream.read_exact(&mut vec![0; length as usize])?;
            if option == 7 {
                let mut info = 0_u16.to_be_bytes().to_vec();
                info.extend((self.lock().view.len() as u64).to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                option_reply(stream, option, 3, &info)?;
                return option_reply(stream, option, 1, &[]);
            }
            option_reply(stream, option, 0x8000_0001, &[])?;
        }
    }
}

fn option_reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    reply.extend(data);
    stream.write_all(&reply)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: usize) -> VolatileDisk {
        let state = State {
            durable: vec![0; bytes],
            view: vec![0; bytes],
            dirty: BTreeSet::new(),
            flushes: 0,
            stalled: false,
        };
        VolatileDisk { state: Arc::new(Mutex::new(state)), socket: PathBuf::new() }
    }

    #[test]
    fn only_flushed_and_forced_writes_survive_a_power_cut() {
        let disk = disk(4096);
        assert_eq!(disk.write(0, b"flushed", false), Some(0));
        assert_eq!(disk.flush(), Some(0));
        assert_eq!(disk.write(512, b"lost", false), Some(0));
        assert_eq!(disk.write(1024, b"forced", true), Some(0));
        let mut seen = [0; 4];
        assert_eq!((disk.read(512, &mut seen), &seen), (0, b"lost"));
        assert_eq!(disk.power_cut(|| false), 1);
        let mut after = [0; 1030];
        assert_eq!(disk.read(0, &mut after), 0);
        assert_eq!(
            (&after[..7], &after[512..516], &after[1024..]),
            (&b"flushed"[..], &[0; 4][..], &b"forced"[..])
        );
    }

    #[test]
    fn a_stalled_disk_promises_nothing_and_works_again_after_the_cut() {
        let disk = disk(4096);
        disk.stall();
        assert_eq!(disk.write(0, b"written", false), Some(0));
        assert_eq!(disk.write(512, b"forced", true), None);
        assert_eq!(disk.flush(), None);
        assert_eq!((disk.unflushed(), disk.flushes()), (2, 0));
        assert_eq!(disk.power_cut(|| false), 2);
        assert_eq!(disk.write(512, b"forced", true), Some(0));
        assert_eq!(disk.flush(), Some(0));
    }

    #[test]
    fn requests_past_the_end_are_refused() {
        let disk = disk(1024);
        assert_eq!(disk.write(1020, b"12345", false), Some(28));
        assert_eq!(disk.read(usize::MAX, &mut [0; 2]), 22);
    }
}
