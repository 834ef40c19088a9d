//! The network of a workstation: a namespace with nothing in it and rules for what may leave it.
//!
//! It belongs to a user namespace of its own, in which there is nobody any more once it is made. So not even root inside of
//! the workstation could change a rule in it, and it can be made before anybody asks for it.

use crate::enforce::Made;
use crate::kernel::Kernel;
use crate::readback::{Disagreement, Role};
use crate::step::{SpawnError, Step};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use octant_sys::nftables;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// An empty network that no process is in yet.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) fd: OwnedFd,
    /// Its number, as `/proc` shows it.
    pub(crate) id: u64,
    /// Whether the rules of [`crate::kernel::Call::ConfineNetwork`] are in force in it. Where they are not, the kernel has no nf_tables.
    pub(crate) confined: bool,
}

impl Network {
    /// Makes one and reads its rules back.
    pub(crate) fn make<K: Kernel>(kernel: &mut K) -> Made<Self> {
        let failed =
            |step, what: &'static str| move |error: io::Error| SpawnError::failed(step, what, &error);
        let fd = kernel.new_network().map_err(failed(Step::Network, "make a network with rules"))?;
        let confined = match kernel.network_is_confined(fd.as_fd()) {
            Err(error) if nftables::is_missing(&error) => false,
            found => {
                let found = found.map_err(failed(Step::ReadBack, "read the network's rules"))?;
                kernel
                    .verdict(if found { Ok(()) } else { Err(other_rules()) })
                    .map_err(|error| SpawnError::refused(Step::ReadBack, error.to_string()))?;
                true
            }
        };
        let stat = fstat(&fd).map_err(|error| failed(Step::Network, "fstat")(error.into()))?;
        Ok(Self { fd, id: stat.st_ino, confined })
    }
}

fn other_rules() -> Disagreement {
    Disagreement {
        role: Role::Reaper,
        what: "the rules of the network",
        expected: "nothing out but to its own addresses and the gate's".into(),
        found: "others".into(),
    }
}

/// Being in another network: the way back.
#[derive(Debug)]
pub(crate) struct Away(File);

impl Away {
    /// Goes there. Who calls goes [`Self::back`], also after a failure; a new process that is to stay there drops this.
    pub(crate) fn to(network: impl AsFd) -> io::Result<Self> {
        let own = File::open("/proc/self/ns/net")?;
        setns(network, CloneFlags::CLONE_NEWNET)?;
        Ok(Self(own))
    }

    /// Goes back.
    pub(crate) fn back(self) {
        if let Err(error) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // Whoever is served next would be served in an agent's network. PID 1 starts another; no agent ends with it.
            let _ = writeln!(io::stderr(), "the spawner cannot leave an agent's network, and ends: {error}");
            std::process::abort();
        }
    }
}
