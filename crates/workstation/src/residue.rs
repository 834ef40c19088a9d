//! What an agent can leave behind, and the proof that it has not. This is the one list of it:
//!
//! | what         | looked for                                                                                      |
//! |--------------|-------------------------------------------------------------------------------------------------|
//! | processes    | none outside of every workstation has a user or group id of the slot, whatever its cgroup          |
//! | namespaces   | no process of anybody is in the agent's mount or network namespace                                |
//! | mounts       | none keeps one of these two; with the mount namespace go its mounts, /tmp and /workspace          |
//! | cgroup       | its leaf is removed, which the kernel refuses while anything is in it                             |
//! | socket       | `agents` has closed it, and PID 1 keeps no handle of the agent; its file went with the mounts     |
//! | leases       | `agents` tells the vault; nobody can present a token since the socket is closed                   |
//!
//! A process with such an id in a user namespace that is neither the agent's nor ours is an agent of another Octant on
//! this machine.
//!
//! The spawner looks for the first four when it retires an agent, and keeps the slot while it finds one. An agent that
//! ended before this spawner started, or before it could be looked at, has no namespaces that it could know; the answer
//! says so.

use crate::readback::namespaces_among;
use octant_ids::uid;
use std::fs::{self, File};
use std::io;
use std::ops::Range;

/// The two namespaces that hold something when no process is in them any more.
const HOLDING: [&str; 2] = ["mnt", "net"];
/// What is asked of each process: these, and whose its ids are.
const LOOKED_AT: [&str; 3] = ["mnt", "net", "user"];

/// An agent's namespaces, held: the kernel gives the number of one that is gone to the next.
#[derive(Debug, Default)]
pub(crate) struct Held {
    namespaces: Vec<(String, u64)>,
    _held: Vec<File>,
}

impl Held {
    /// Of a workstation's first process; nothing where that has ended already.
    pub(crate) fn of(pid: u32) -> Self {
        let held = HOLDING.map(|name| File::open(format!("/proc/{pid}/ns/{name}")));
        match (held.into_iter().collect(), namespaces_among(&pid.to_string(), &HOLDING)) {
            (Ok(held), Ok(namespaces)) => Self { namespaces, _held: held },
            _ => Self::default(),
        }
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX)
    }
}

/// Something of an agent that is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Residue {
    #[error("process {0} has a user or group id of the agent")]
    Process(u32),
    #[error("process {pid} is in the agent's {name} namespace")]
    Namespace { pid: u32, name: String },
    #[error("the mount at {at} keeps the agent's {name} namespace")]
    Mount { at: String, name: String },
}

/// Looks for processes, namespaces and mounts of the agent that had this slot and these namespaces; `own` are the
/// caller's.
pub(crate) fn find(slot: u32, held: &Held, own: &[(String, u64)]) -> io::Result<Option<Residue>> {
    let namespaces = &held.namespaces;
    // The spawner has mounts of its own, which may or may not follow the machine's: PID 1 has those.
    for of in ["self", "1"] {
        let mounts = fs::read_to_string(format!("/proc/{of}/mountinfo"))?;
        if let Some(found) = kept_by_mount(&mounts, namespaces) {
            return Ok(Some(found));
        }
    }
    // A slot that is none has no ids.
    let ids = uid::agent_base(slot).map_or(0..0, |base| base..base + uid::AGENT_RANGE);
    let host = own.iter().find(|(name, _)| name == "user");
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ends while it is looked at is none that is left, and neither is one that PID 1 has not reaped.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        // Of every process of the machine, so no more than is compared.
        let Ok(theirs) = namespaces_among(&pid.to_string(), &LOOKED_AT) else { continue };
        if has_ids(&status, &ids) && host.is_none_or(|host| theirs.contains(host)) {
            return Ok(Some(Residue::Process(pid)));
        }
        if let Some((name, _)) = theirs.into_iter().find(|namespace| namespaces.contains(namespace)) {
            return Ok(Some(Residue::Namespace { pid, name }));
        }
    }
    Ok(None)
}

/// Whether a process that lives has a user or group id among these.
fn has_ids(status: &str, ids: &Range<u32>) -> bool {
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    let dead = field("State:").starts_with(['Z', 'X']);
    let mut held = field("Uid:").split_whitespace().chain(field("Gid:").split_whitespace());
    !dead && held.any(|id| id.parse().is_ok_and(|id| ids.contains(&id)))
}

/// A namespace that is mounted is kept without any process: its root in mountinfo(5) is `mnt:[4026531841]`.
fn kept_by_mount(mountinfo: &str, namespaces: &[(String, u64)]) -> Option<Residue> {
    mountinfo.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').take(5).collect();
        let [_, _, _, root, at] = fields[..] else { return None };
        let (name, _) = namespaces.iter().find(|(name, number)| root == format!("{name}:[{number}]"))?;
        Some(Residue::Mount { at: at.to_owned(), name: name.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_of_a_living_process_counts() {
        let status = |state, uid, gid| format!("Name:\tx\nState:\t{state}\nUid:\t{uid}\nGid:\t{gid}\n");
        let ids = 100..200;
        assert!(has_ids(&status("S (sleeping)", "0\t0\t0\t100", "0\t0\t0\t0"), &ids));
        assert!(has_ids(&status("D", "0\t0\t0\t0", "199\t0\t0\t0"), &ids));
        assert!(!has_ids(&status("S", "99\t200\t0\t0", "0\t0\t0\t0"), &ids));
        assert!(!has_ids(&status("Z (zombie)", "100\t100\t100\t100", "0\t0\t0\t0"), &ids));
    }

    #[test]
    fn a_namespace_that_is_mounted_is_found() {
        let mountinfo =
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:4 net:[77] /run/kept rw - nsfs nsfs rw\n";
        let net = |number| [("mnt".to_owned(), 5), ("net".to_owned(), number)];
        let found = kept_by_mount(mountinfo, &net(77));
        assert_eq!(found, Some(Residue::Mount { at: "/run/kept".into(), name: "net".into() }));
        assert_eq!(kept_by_mount(mountinfo, &net(78)), None);
    }
}
