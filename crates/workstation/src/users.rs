//! Who the processes of a workstation are, outside of it and in it.

use crate::enforce::REAPER_INSIDE;
use crate::plan::Layer;
use octant_ids::uid::{AGENT_INSIDE, AGENT_RANGE};
use std::io;

/// How many sub-ids a workstation has beside the user's own.
const BESIDE: u32 = AGENT_RANGE - 1;

/// The user and group ids of one workstation, as the spawner sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// The range of a slot, from this id on.
    Range(u32),
    /// The spawner was started by a user who is not root, in a user namespace that has that user as its root and behind it
    /// that user's sub-ids, which begin outside at this id. The user is the agent, since the files that it works on are
    /// that user's; everybody else inside is a sub-id.
    Beside(u32),
    /// The same without sub-ids. There is nobody else that a workstation's processes could be.
    One,
}

impl Users {
    /// The user of the agent's processes.
    pub(crate) fn agent(self) -> u32 {
        match self {
            Self::Range(base) => base + AGENT_INSIDE,
            Self::Beside(_) | Self::One => 0,
        }
    }

    /// The effective user of the reaper.
    pub(crate) fn reaper(self) -> u32 {
        match self {
            Self::Range(base) => base + REAPER_INSIDE,
            Self::Beside(_) => REAPER_INSIDE,
            Self::One => 0,
        }
    }

    /// The same user by its number inside.
    pub(crate) fn reaper_inside(self) -> u32 {
        match self {
            Self::Range(_) | Self::Beside(_) => REAPER_INSIDE,
            Self::One => AGENT_INSIDE,
        }
    }

    /// The first id of the range on the host; 0 where there is none.
    pub(crate) fn base(self) -> u32 {
        match self {
            Self::Range(base) | Self::Beside(base) => base,
            Self::One => 0,
        }
    }

    /// Whether the spawner is root of the machine: only that may map owners, and forbid files in memory.
    pub(crate) fn of_root(self) -> bool {
        matches!(self, Self::Range(_))
    }

    /// The layers that are not there with these users.
    pub(crate) fn missing(self) -> &'static [Layer] {
        match self {
            Self::Range(_) => &[],
            Self::Beside(_) => &[Layer::Memfd],
            Self::One => &[Layer::Users, Layer::Memfd],
        }
    }

    /// What stands in `uid_map` and `gid_map`. A whole range is mapped, so that the agent's user and root inside are
    /// both users of this workstation alone.
    pub(crate) fn map(self) -> String {
        match self {
            Self::Range(base) => format!("0 {base} {AGENT_RANGE}"),
            Self::Beside(_) => {
                let above = AGENT_INSIDE + 1;
                format!("0 1 {AGENT_INSIDE}\n{AGENT_INSIDE} 0 1\n{above} {above} {}", AGENT_RANGE - above)
            }
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

/// Who a workstation's processes are where the spawner is root of a user's own namespace only; none where it has the pool.
pub(crate) fn of_caller() -> io::Result<Option<Users>> {
    let maps = ["uid_map", "gid_map"].map(|map| std::fs::read_to_string(format!("/proc/self/{map}")));
    let [users, groups] = maps;
    Ok(of_maps(&users?, &groups?))
}

fn of_maps(users: &str, groups: &str) -> Option<Users> {
    let rows = |map: &str| -> Vec<[u32; 3]> {
        let row = |line: &str| {
            let numbers: Vec<u32> =
                line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            numbers.try_into().ok()
        };
        map.lines().filter_map(row).collect()
    };
    match (&rows(users)[..], &rows(groups)[..]) {
        ([[_, _, 1]], _) => Some(Users::One),
        ([[0, _, 1], [1, first, BESIDE]], [[0, _, 1], [1, _, BESIDE]]) => Some(Users::Beside(*first)),
        _ => None,
    }
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
    fn the_user_is_the_agent_and_everybody_else_a_sub_id() {
        let beside = Users::Beside(100_000);
        assert_eq!(beside.map(), "0 1 1000\n1000 0 1\n1001 1001 64535");
        assert_eq!((beside.agent(), beside.reaper(), beside.reaper_inside()), (0, 1001, 1001));
        // Each id of the spawner's namespace once, and each inside once.
        let rows: Vec<Vec<u32>> =
            beside.map().lines().map(|line| line.split(' ').map(|n| n.parse().unwrap()).collect()).collect();
        for side in [0, 1] {
            let mut ids: Vec<u32> = rows.iter().flat_map(|row| row[side]..row[side] + row[2]).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..AGENT_RANGE).collect::<Vec<_>>());
        }
        assert!(beside.may_have(&[]) && !beside.may_have(&[65_534]));
        assert_eq!((beside.missing(), Users::Range(7).missing()), (&[Layer::Memfd][..], &[][..]));
    }

    #[test]
    fn the_own_map_tells_which() {
        let two = "         0       1000          1\n         1     100000      65535\n";
        assert_eq!(of_maps(two, two), Some(Users::Beside(100_000)));
        assert_eq!(of_maps("0 1000 1\n", "0 1000 1\n"), Some(Users::One));
        for other in ["0 0 4294967295\n", "0 1000 1\n1 100000 65536\n", "0 100000 65536\n", ""] {
            assert_eq!(of_maps(other, two), None, "{other}");
        }
        assert_eq!(of_maps(two, "0 1000 1\n"), None, "users and groups go together");
    }

    #[test]
    fn groups_are_kept_by_one_user_only_and_never_by_number() {
        assert!(Users::Range(1 << 20).may_have(&[]) && Users::One.may_have(&[0, 65_534]));
        assert!(!Users::Range(1 << 20).may_have(&[65_534]));
        assert!(!Users::One.may_have(&[27]));
    }
}
