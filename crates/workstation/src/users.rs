//! Who the processes of a workstation are, outside of it and in it.

use crate::enforce::REAPER_INSIDE;
use octant_ids::uid::{AGENT_INSIDE, AGENT_RANGE};
use std::io;

/// The user and group ids of one workstation, as the spawner sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// The range of a slot, from this id on.
    Range(u32),
    /// The spawner was started by a user who is not root, in a user namespace that has that one user as its root. There
    /// is nobody else that a workstation's processes could be.
    One,
}

impl Users {
    /// The user of the agent's processes.
    pub(crate) fn agent(self) -> u32 {
        match self {
            Self::Range(base) => base + AGENT_INSIDE,
            Self::One => 0,
        }
    }

    /// The effective user of the reaper.
    pub(crate) fn reaper(self) -> u32 {
        match self {
            Self::Range(base) => base + REAPER_INSIDE,
            Self::One => 0,
        }
    }

    /// The same user by its number inside.
    pub(crate) fn reaper_inside(self) -> u32 {
        match self {
            Self::Range(_) => REAPER_INSIDE,
            Self::One => AGENT_INSIDE,
        }
    }

    /// What stands in `uid_map` and `gid_map`. A whole range is mapped, so that the agent's user and root inside are
    /// both users of this slot alone.
    pub(crate) fn map(self) -> String {
        match self {
            Self::Range(base) => format!("0 {base} {AGENT_RANGE}"),
            Self::One => format!("{AGENT_INSIDE} 0 1"),
        }
    }

    /// Whether this can be the list of supplementary groups: none, except that a user who is not root can give up none
    /// of those that it has. They have no numbers here.
    pub(crate) fn may_have(self, groups: &[u32]) -> bool {
        const NAMELESS: u32 = 65_534;
        groups.is_empty() || (self == Self::One && groups.iter().all(|group| [0, NAMELESS].contains(group)))
    }
}

/// Whether the user namespace of this process has one user only.
pub(crate) fn one_user_only() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.lines().count() == 1 && map.split_whitespace().last() == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_is_the_agent_and_the_reaper_and_nobody_else_is_mapped() {
        assert_eq!((Users::One.agent(), Users::One.reaper()), (0, 0));
        assert_eq!(Users::One.map(), "1000 0 1");
        assert_ne!(Users::Range(1 << 20).agent(), Users::Range(1 << 20).reaper());
    }

    #[test]
    fn groups_are_kept_by_one_user_only_and_never_by_number() {
        assert!(Users::Range(1 << 20).may_have(&[]) && Users::One.may_have(&[0, 65_534]));
        assert!(!Users::Range(1 << 20).may_have(&[65_534]));
        assert!(!Users::One.may_have(&[27]));
    }
}
