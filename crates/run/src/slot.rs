//! A range of users for a workstation of root's.

use crate::error::{RunError, at};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use octant_ids::uid::AGENT_SLOTS;
use octant_workstation::spawner;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A slot that no other run takes for as long as this is there.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    /// Bound to a name that there is once; the kernel lets go of it with the process, whatever ends that.
    _name: Option<OwnedFd>,
}

impl Slot {
    /// From the last one on, since an Octant that runs on this machine takes the first ones; a user who is not root has a
    /// range of their own, or none.
    pub(crate) fn take() -> Result<Self, RunError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Self { number: 0, _name: None });
        }
        let failed = || at("find a free range of users");
        let taken = spawner::taken_slots().map_err(failed())?;
        for number in (0..AGENT_SLOTS).rev().filter(|number| !taken.contains(number)) {
            if let Some(name) = reserve(number).map_err(failed())? {
                return Ok(Self { number, _name: Some(name) });
            }
        }
        Err(RunError::NoSlot)
    }
}

/// None when another run has it.
fn reserve(number: u32) -> io::Result<Option<OwnedFd>> {
    let name = UnixAddr::new_abstract(format!("octant-run/slot/{number}").as_bytes())?;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    match bind(fd.as_raw_fd(), &name) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::EADDRINUSE) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_taken_once() {
        let beyond_the_pool = AGENT_SLOTS + std::process::id();
        let first = reserve(beyond_the_pool).unwrap();
        assert!(first.is_some() && reserve(beyond_the_pool).unwrap().is_none());
        drop(first);
        assert!(reserve(beyond_the_pool).unwrap().is_some());
    }
}
