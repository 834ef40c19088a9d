//! The effective state of the new processes, read from `/proc` by the spawner, against what the plan says.

use crate::enforce::{
    MASK_ATTRIBUTES, TERMINAL_ATTRIBUTES, bind_attributes, devices_of, scratch_attributes, scratches,
};
use crate::plan::{Plan, Stdio, within};
use crate::users::Users;
use octant_sys::mount::attr;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

/// Which of the two new processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// PID 1 inside.
    Reaper,
    /// The agent's own process.
    Payload,
}

/// One mount, as `/proc/PID/mountinfo` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) at: String,
    pub(crate) options: Vec<String>,
    pub(crate) propagation: String,
    pub(crate) kind: String,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at, self.kind, self.options.join(","))
    }
}

/// What the kernel says about a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Observed {
    /// Real, effective, saved and file system user id.
    pub(crate) uids: Vec<u32>,
    /// The same of the group.
    pub(crate) gids: Vec<u32>,
    pub(crate) groups: Vec<u32>,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub(crate) capabilities: Vec<u64>,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: u32,
    pub(crate) filters: u32,
    pub(crate) namespaces: Vec<(String, u64)>,
    /// Of the reaper alone, as the next two.
    pub(crate) uid_map: String,
    pub(crate) gid_map: String,
    pub(crate) mounts: Vec<Mount>,
    /// Open descriptors by number, with what they are.
    pub(crate) descriptors: Vec<(u32, String)>,
}

/// The names of the namespaces in `/proc/PID/ns`.
pub(crate) const NAMESPACE_NAMES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

fn invalid(what: &str, line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {line:?}"))
}

/// The namespaces of a process, `self` for the caller.
pub(crate) fn namespaces_of(pid: &str) -> io::Result<Vec<(String, u64)>> {
    namespaces_among(pid, &NAMESPACE_NAMES)
}

/// Those of them that have these names.
pub(crate) fn namespaces_among(pid: &str, names: &[&str]) -> io::Result<Vec<(String, u64)>> {
    names
        .iter()
        .map(|name| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{name}"))?;
            let text = link.to_string_lossy();
            let number =
                text.strip_prefix(name).and_then(|t| t.strip_prefix(":[")).and_then(|t| t.strip_suffix(']'));
            let number = number.and_then(|t| t.parse().ok()).ok_or_else(|| invalid("namespace", &text))?;
            Ok(((*name).to_owned(), number))
        })
        .collect()
}

impl Observed {
    /// Reads the state of a process, and what its namespaces have if it is the reaper. The agent is in the same ones, which is
    /// what their numbers say.
    pub(crate) fn of(role: Role, pid: u32) -> io::Result<Self> {
        let dir = format!("/proc/{pid}");
        let mut seen = Self::default();
        seen.read_status(&fs::read_to_string(format!("{dir}/status"))?)?;
        seen.namespaces = namespaces_of(&pid.to_string())?;
        if role == Role::Reaper {
            seen.uid_map = fs::read_to_string(format!("{dir}/uid_map"))?;
            seen.gid_map = fs::read_to_string(format!("{dir}/gid_map"))?;
            for line in fs::read_to_string(format!("{dir}/mountinfo"))?.lines() {
                seen.mounts.push(mount_of(line).ok_or_else(|| invalid("mountinfo", line))?);
            }
        }
        for entry in fs::read_dir(format!("{dir}/fd"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.parse().map_err(|_| invalid("descriptor", &name))?;
            match fs::read_link(entry.path()) {
                Ok(target) => seen.descriptors.push((number, target.to_string_lossy().into_owned())),
                // It was closed after it was listed: the reaper closes the channel as soon as it has said that it is ready.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        seen.descriptors.sort_unstable();
        Ok(seen)
    }

    fn read_status(&mut self, status: &str) -> io::Result<()> {
        fn numbers(text: &str, line: &str) -> io::Result<Vec<u32>> {
            text.split_whitespace().map(|t| t.parse().map_err(|_| invalid("status", line))).collect()
        }
        let mut found = 0;
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "Uid" => self.uids = numbers(value, line)?,
                "Gid" => self.gids = numbers(value, line)?,
                "Groups" => self.groups = numbers(value, line)?,
                "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                    let set = u64::from_str_radix(value, 16).map_err(|_| invalid("status", line))?;
                    self.capabilities.push(set);
                }
                "NoNewPrivs" => self.no_new_privs = value == "1",
                "Seccomp" => self.seccomp = value.parse().map_err(|_| invalid("status", line))?,
                "Seccomp_filters" => self.filters = value.parse().map_err(|_| invalid("status", line))?,
                _ => continue,
            }
            found += 1;
        }
        if found == 11 { Ok(()) } else { Err(invalid("status", "a field is missing")) }
    }
}

fn mount_of(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let at = left.next()?.to_owned();
    let options = left.next()?.split(',').map(str::to_owned).collect();
    let propagation = left.collect::<Vec<_>>().join(" ");
    Some(Mount { at, options, propagation, kind: right.split(' ').next()?.to_owned() })
}

/// The plan and the machine's facts that it is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) plan: &'a Plan,
    /// The entries of `/proc` that are masked.
    pub(crate) masked: &'a [&'a str],
    pub(crate) users: Users,
    pub(crate) leaf: Option<BorrowedFd<'a>>,
    pub(crate) own_namespaces: &'a [(String, u64)],
    /// The network that was made for it, by its number.
    pub(crate) network: u64,
    /// What the agent's standard descriptors are.
    pub(crate) stdio: &'a [String],
}

/// The state that is not what the plan says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the {role} is {found}, the plan says {expected}", role = match .role { Role::Reaper => "reaper", Role::Payload => "agent" })]
pub(crate) struct Disagreement {
    pub(crate) role: Role,
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Expected<'_> {
    /// Whether what was observed is what the plan says.
    pub(crate) fn agrees(&self, role: Role, seen: &Observed) -> Result<(), Disagreement> {
        let differ =
            |what, expected: String, found: String| Err(Disagreement { role, what, expected, found });
        let (agent, keeper) = (self.users.agent(), self.users.reaper());
        let uids = match role {
            Role::Payload => [agent; 4],
            Role::Reaper => [agent, keeper, keeper, keeper],
        };
        if seen.uids != uids {
            return differ("the user", format!("{uids:?}"), format!("{:?}", seen.uids));
        }
        if seen.gids != [agent; 4] || !self.users.may_have(&seen.groups) {
            return differ(
                "the group",
                format!("[{agent}; 4] []"),
                format!("{:?} {:?}", seen.gids, seen.groups),
            );
        }
        if seen.capabilities != [0; 5] {
            return differ("the capabilities", "[0; 5]".into(), format!("{:x?}", seen.capabilities));
        }
        if !seen.no_new_privs {
            return differ("no_new_privs", "true".into(), "false".into());
        }
        // The reaper has no use for calls to fall back from.
        let filters = if role == Role::Payload { 3 } else { 2 };
        if (seen.seccomp, seen.filters) != (2, filters) {
            return differ(
                "seccomp",
                format!("mode 2 with {filters} filters"),
                format!("{} with {}", seen.seccomp, seen.filters),
            );
        }
        self.namespaces_agree(role, seen)?;
        self.descriptors_agree(role, seen)?;
        if role == Role::Payload {
            return Ok(());
        }
        for (what, map) in [("the uid map", &seen.uid_map), ("the gid map", &seen.gid_map)] {
            let expected = self.users.map();
            if !map.split_whitespace().eq(expected.split_whitespace()) {
                return differ(what, expected, map.clone());
            }
        }
        self.mounts_agree(role, seen)
    }

    /// Whether both are in the same namespaces, except that of clocks, which the reaper has made for its children only.
    pub(crate) fn are_together(reaper: &Observed, agent: &Observed) -> Result<(), Disagreement> {
        for (of_reaper, of_agent) in reaper.namespaces.iter().zip(&agent.namespaces) {
            if of_reaper != of_agent && of_agent.0 != "time" {
                let [expected, found] =
                    [of_reaper, of_agent].map(|(name, number)| format!("{name} {number}"));
                return Err(Disagreement { role: Role::Payload, what: "a namespace", expected, found });
            }
        }
        Ok(())
    }

    fn namespaces_agree(&self, role: Role, seen: &Observed) -> Result<(), Disagreement> {
        let names: Vec<&str> = seen.namespaces.iter().map(|n| n.0.as_str()).collect();
        if names != NAMESPACE_NAMES {
            let expected = NAMESPACE_NAMES.join(" ");
            return Err(Disagreement {
                role,
                what: "the list of namespaces",
                expected,
                found: names.join(" "),
            });
        }
        let shared = seen.namespaces.iter().find(|n| {
            // The reaper made the time namespace for its children and is not in it itself.
            self.own_namespaces.contains(n) && !(role == Role::Reaper && n.0 == "time")
        });
        if let Some((name, number)) = shared {
            return Err(Disagreement {
                role,
                what: "a namespace",
                expected: format!("a {name} namespace of its own"),
                found: format!("the spawner's own, {number}"),
            });
        }
        let network = seen.namespaces.iter().find(|n| n.0 == "net").map_or(0, |n| n.1);
        if network == self.network {
            return Ok(());
        }
        let (expected, found) = (self.network.to_string(), network.to_string());
        Err(Disagreement { role, what: "the network", expected, found })
    }

    fn descriptors_agree(&self, role: Role, seen: &Observed) -> Result<(), Disagreement> {
        let is_channel = |fd: &str| fd.starts_with("socket:[");
        let good = match (role, &seen.descriptors[..]) {
            // The channel alone, and soon not even that; and where somebody waits for it, the pipe for what was stopped.
            (Role::Reaper, []) => true,
            (Role::Reaper, [(_, fd)]) => is_channel(fd) || self.is_stop_pipe(fd),
            (Role::Reaper, [(_, a), (_, b)]) => {
                (is_channel(a) && self.is_stop_pipe(b)) || (is_channel(b) && self.is_stop_pipe(a))
            }
            (Role::Payload, [(0, input), (1, out), (2, err), (3, channel)]) => {
                let standard = match self.plan.stdio {
                    Stdio::Pipes => {
                        input == "/dev/null" && out.starts_with("pipe:[") && err.starts_with("pipe:[")
                    }
                    Stdio::Served | Stdio::Caller | Stdio::Terminal => {
                        [input, out, err].into_iter().eq(self.stdio)
                    }
                };
                standard && is_channel(channel)
            }
            _ => false,
        };
        if good {
            return Ok(());
        }
        let expected = match role {
            Role::Reaper => "at most the channel and the pipe for what was stopped".into(),
            Role::Payload => format!("{:?} and the channel", self.stdio),
        };
        Err(Disagreement {
            role,
            what: "the list of descriptors",
            expected,
            found: format!("{:?}", seen.descriptors),
        })
    }

    fn is_stop_pipe(&self, fd: &str) -> bool {
        matches!(self.plan.stdio, Stdio::Caller | Stdio::Terminal) && fd.starts_with("pipe:[")
    }

    /// The mounts that there must be, with the options that each must have and must not have.
    fn mounts(&self) -> Vec<(String, u64)> {
        let plan = self.plan;
        let base = attr::NOSUID | attr::NODEV;
        let mut mounts =
            vec![("/".to_owned(), base | attr::NOEXEC | attr::RDONLY), ("/proc".into(), base | attr::NOEXEC)];
        mounts.extend(scratches(plan).map(|(at, scratch)| (at.to_owned(), scratch_attributes(scratch))));
        mounts.extend(self.masked.iter().map(|at| ((*at).to_owned(), MASK_ATTRIBUTES)));
        let devices = devices_of(plan).iter().map(|name| format!("/dev/{name}"));
        mounts.extend(devices.map(|at| (at, attr::NOSUID | attr::NOEXEC)));
        if plan.terminals {
            mounts.push(("/dev/pts".into(), TERMINAL_ATTRIBUTES));
        }
        if plan.octant {
            mounts.push(("/octant".into(), base | attr::RDONLY));
        }
        mounts.extend(plan.binds.iter().map(|bind| (bind.target.clone(), bind_attributes(bind))));
        mounts.sort();
        mounts
    }

    fn mounts_agree(&self, role: Role, seen: &Observed) -> Result<(), Disagreement> {
        let differ =
            |what, expected: String, found: String| Err(Disagreement { role, what, expected, found });
        let expected = self.mounts();
        let mut places: Vec<&str> = seen.mounts.iter().map(|m| m.at.as_str()).collect();
        places.sort_unstable();
        if places != expected.iter().map(|m| m.0.as_str()).collect::<Vec<_>>() {
            let expected: Vec<&str> = expected.iter().map(|m| m.0.as_str()).collect();
            return differ("the list of mounts", expected.join(" "), places.join(" "));
        }
        for mount in &seen.mounts {
            let wanted = expected.iter().find(|m| m.0 == mount.at).map_or(0, |m| m.1);
            let has = |option: &str| mount.options.iter().any(|o| o == option);
            let found = [
                ("ro", attr::RDONLY),
                ("nosuid", attr::NOSUID),
                ("nodev", attr::NODEV),
                ("noexec", attr::NOEXEC),
            ]
            .iter()
            .filter(|row| has(row.0))
            .fold(0, |bits, row| bits | row.1);
            // A source that is mounted with less on the host stays so; more than planned is what must not be.
            let bound = mount.at == "/octant"
                || within(&mount.at, "/dev")
                || self.plan.binds.iter().any(|bind| mount.at == bind.target);
            let good = if bound { found & wanted == wanted } else { found == wanted };
            if !good || !mount.propagation.is_empty() {
                let options = format!("{} {}", mount.options.join(","), mount.propagation);
                return differ(
                    "a mount",
                    format!("{} with attributes {wanted:#x}, private", mount.at),
                    options,
                );
            }
        }
        Ok(())
    }

    /// Whether exactly these processes are in the cgroup leaf.
    pub(crate) fn only_in_leaf(&self, pids: &[u32]) -> Result<(), Disagreement> {
        let Some(leaf) = self.leaf else { return Ok(()) };
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
        let mut text = String::new();
        let read = nix::fcntl::openat(leaf, "cgroup.procs", flags, nix::sys::stat::Mode::empty())
            .map_err(io::Error::from)
            .and_then(|fd| fs::File::from(fd).read_to_string(&mut text));
        let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let mut wanted = pids.to_vec();
        found.sort_unstable();
        wanted.sort_unstable();
        if read.is_ok() && found == wanted {
            return Ok(());
        }
        let found = read.map_or_else(|error| error.to_string(), |_| format!("{found:?}"));
        Err(Disagreement { role: Role::Payload, what: "the cgroup", expected: format!("{wanted:?}"), found })
    }
}

#[cfg(test)]
pub(crate) mod tests;
