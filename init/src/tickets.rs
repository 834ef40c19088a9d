//! The keys of tickets: made once a boot, one for each actuator, for the ledger and that actuator alone.
//!
//! PID 1 keeps them as sealed memory that it does not read again: the ledger's with every key, an actuator's with its
//! own. They stay through every restart of a unit and every replacement of PID 1, so that what the ledger issued before
//! is redeemed after. An actuator that only a newer binary has gets its key at the next boot.

use crate::sealed::sealed;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Whence, lseek};
use octant_ids::ServiceName;
use octant_sys::{clock, entropy};
use octant_ticket::{Key, Keys};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;
use zeroize::Zeroizing;

/// The unit that issues tickets.
const ISSUER: &str = "ledger";
/// The units that redeem them.
const ACTUATORS: [&str; 1] = ["spawner"];
/// The name of the descriptor.
pub(crate) const DESCRIPTOR: &str = "tickets";

/// Each unit's keys.
#[derive(Debug, Default)]
pub(crate) struct Tickets(BTreeMap<String, OwnedFd>);

impl Tickets {
    /// New keys, if the kernel can make them yet; it is asked again for up to `within`.
    ///
    /// # Errors
    /// The kernel's generator was not seeded in that time (`EAGAIN`), or there is no memory. Keys are never made of
    /// less.
    pub(crate) fn make(within: Duration) -> io::Result<Self> {
        let deadline =
            clock::monotonic_ns().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
        let keys = loop {
            match random_keys() {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && clock::monotonic_ns() < deadline => {}
                other => break other?,
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut by_unit = BTreeMap::from([(ISSUER.to_owned(), closed(&keys)?)]);
        for name in ACTUATORS {
            by_unit.insert(name.to_owned(), closed(&keys.only(name))?);
        }
        Ok(Self(by_unit))
    }

    /// The keys of a replaced PID 1.
    #[must_use]
    pub(crate) fn resume(by_unit: BTreeMap<String, OwnedFd>) -> Self {
        Self(by_unit)
    }

    /// The descriptors by unit, for the next PID 1.
    #[must_use]
    pub(crate) fn saved(&self) -> BTreeMap<String, RawFd> {
        self.0.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect()
    }

    /// Whether there are keys.
    #[must_use]
    pub(crate) fn are_made(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a unit of this name has keys.
    #[must_use]
    pub(crate) fn concern(unit: &str) -> bool {
        unit == ISSUER || ACTUATORS.contains(&unit)
    }

    /// What this unit gets, at its start: every process of the unit shares one position in it.
    ///
    /// # Errors
    /// What lseek(2) reports.
    pub(crate) fn of(&self, unit: &str) -> io::Result<Option<BorrowedFd<'_>>> {
        let Some(fd) = self.0.get(unit) else { return Ok(None) };
        lseek(fd, 0, Whence::SeekSet)?;
        Ok(Some(fd.as_fd()))
    }
}

fn random_keys() -> io::Result<Keys> {
    let mut keys = Vec::new();
    for name in ACTUATORS {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy::fill_seeded(&mut *bytes)?;
        let name: ServiceName = name.parse().map_err(io::Error::other)?;
        keys.push((name, Key::new(&bytes)));
    }
    Keys::new(keys).map_err(io::Error::other)
}

/// The keys in sealed memory that can be opened by nobody: who has the descriptor reads it, and a process of the same
/// user that finds it below /proc does not.
fn closed(keys: &Keys) -> io::Result<OwnedFd> {
    let fd = sealed(DESCRIPTOR, &keys.to_text())?;
    fchmod(&fd, Mode::empty())?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    fn read(tickets: &Tickets, unit: &str) -> Vec<u8> {
        let fd = tickets.of(unit).unwrap().unwrap().try_clone_to_owned().unwrap();
        let mut text = Vec::new();
        File::from(fd).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn the_ledger_has_every_key_and_an_actuator_its_own() {
        let tickets = Tickets::make(Duration::ZERO).unwrap();
        assert!(tickets.are_made());
        let all = Keys::parse(&read(&tickets, ISSUER)).unwrap();
        assert_eq!(all.names().map(ServiceName::as_str).collect::<Vec<_>>(), ACTUATORS);
        for name in ACTUATORS {
            let own = read(&tickets, name);
            assert_eq!(own, all.only(name).to_text().to_vec());
            assert_eq!(own, read(&tickets, name), "also for the next process of the unit");
        }
        for unit in ["agents", "job", "console", "web"] {
            assert!(tickets.of(unit).unwrap().is_none() && !Tickets::concern(unit), "{unit}");
        }
    }

    #[test]
    fn every_boot_has_keys_of_its_own() {
        let (one, other) = (Tickets::make(Duration::ZERO).unwrap(), Tickets::make(Duration::ZERO).unwrap());
        assert_ne!(read(&one, "spawner"), read(&other, "spawner"));
    }

    #[test]
    fn the_memory_is_sealed_and_closed() {
        let tickets = Tickets::make(Duration::ZERO).unwrap();
        for unit in [ISSUER, "spawner"] {
            let file = File::from(tickets.of(unit).unwrap().unwrap().try_clone_to_owned().unwrap());
            assert!(std::os::unix::fs::FileExt::write_at(&file, b"x", 0).is_err());
            assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0);
        }
    }

    #[test]
    fn a_replacement_keeps_them() {
        let tickets = Tickets::make(Duration::ZERO).unwrap();
        let before = read(&tickets, "spawner");
        assert_eq!(tickets.saved().len(), 1 + ACTUATORS.len());
        let kept = Tickets::resume(tickets.0);
        assert_eq!(read(&kept, "spawner"), before);
        assert!(!format!("{kept:?}").contains("spawner 0"), "nothing of a key is shown");
    }
}
