//! The plan of a workstation: plain data, complete, and nothing in it is a wish any more.

use crate::step::{SpawnError, Step};
use octant_ids::{Aid, Sha256, uid};
use octant_manifest::Io;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The version of [`Plan`]'s shape. A spawner refuses every other.
pub const VERSION: u32 = 4;

/// Everything that the spawner needs to know to build one workstation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// The agent; also the name of its cgroup leaf and its host name.
    pub aid: Aid,
    /// The agent's slot, which decides the host user ids ([`uid::agent_base`]).
    pub slot: u32,
    /// What is executed.
    pub program: Program,
    /// Whether the Octant binary is at `/octant`, with `/bin/<utility>` linking to it; with an image, whose `/bin` is its
    /// own, `/run/octant/bin/<utility>`.
    pub octant: bool,
    /// The certificate, as PEM, of the authority that vouches for the gate where that uses secrets for the agent; in
    /// `/etc/octant`, alone and with those that everybody trusts.
    pub trust: Option<String>,
    /// The utilities granted, by name; content of `/etc/octant/applets`.
    pub utilities: Vec<String>,
    /// The imported image whose tree lies below everything else, where there is one. The spawner itself knows where it is.
    pub root: Option<Sha256>,
    /// Whether the program has the variables of the image's maker too, those that Octant sets excepted.
    pub image_environment: bool,
    /// Whether the program starts in the directory of the image's maker, where that named one.
    pub image_cwd: bool,
    /// Granted paths.
    pub binds: Vec<Bind>,
    /// Sources of binds whose bytes have this digest: a copy is bound, which nobody can change.
    pub pins: BTreeMap<String, Sha256>,
    /// Symbolic links in the new root.
    pub links: Vec<Link>,
    /// The snapshot whose files are in `/workspace` from the beginning, where there is one.
    pub snapshot: Option<Sha256>,
    /// `/workspace`.
    pub workspace: Scratch,
    /// Whether models are asked: then the router's socket is there too, beside the agent's own.
    pub models: bool,
    /// Whether a handle of `/workspace` is given out, through which the spawner reads what is to be kept after the end.
    pub retain: bool,
    /// `/tmp`.
    pub tmp: Scratch,
    /// `/dev/shm`, where there is one: memory that processes share by name.
    pub shm: Option<Scratch>,
    /// Whether there are pseudo-terminals: a `/dev/pts` of its own, `/dev/ptmx`, and `/dev/tty`.
    pub terminals: bool,
    /// What `/proc` shows.
    pub proc: Proc,
    /// System calls.
    pub syscalls: Syscalls,
    /// Resource limits.
    pub limits: Limits,
    /// The lowest Landlock ABI version that is acceptable.
    pub landlock_floor: u32,
    /// Layers whose absence does not refuse the spawn; effective only where the machine's operator accepts the same.
    pub accept_missing: Vec<Layer>,
    /// Where standard input, output and error come from.
    pub stdio: Stdio,
}

/// Where the program's standard input, output and error come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdio {
    /// There is nothing to read, and output goes into pipes of the service that asked.
    #[default]
    Pipes,
    /// All three are pipes of the service that asked, which speaks with the program: a server of tools.
    Served,
    /// What the person who runs it gives: `octant run`.
    Caller,
    /// The same, on a terminal of its own that the program's jobs share.
    Terminal,
}

/// What is executed, as the agent's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The path inside the workstation.
    pub path: String,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// The working directory inside the workstation.
    pub cwd: String,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<String>,
}

/// A path of the host that is visible inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The path on the host; no component may be a symbolic link.
    pub source: String,
    /// The path inside.
    pub target: String,
    /// Whether it can be written.
    pub write: bool,
    /// Whether programs in it can be executed.
    pub exec: bool,
}

/// A symbolic link in the new root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where the link is, inside.
    pub at: String,
    /// What it points to.
    pub to: String,
}

/// A writable file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// The most bytes in it.
    pub bytes: u64,
    /// The most files and directories in it.
    pub inodes: u64,
    /// Whether programs in it can be executed.
    pub exec: bool,
}

/// What `/proc` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proc {
    /// The agent's own processes.
    Processes,
    /// And the facts of the machine that programs size themselves by (processors, memory, load); everything else is
    /// masked.
    Machine,
}

/// The system calls that the agent's processes can make.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syscalls {
    /// The named profile.
    pub profile: String,
    /// System calls beyond the profile; what the floor denies stays denied.
    pub add: Vec<String>,
    /// Whether sockets of TCP and UDP can be made. What they reach is behind the gate.
    pub network: bool,
}

/// Resource limits of the agent as a whole (cgroup v2) and of each process in it (setrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// memory.max, in bytes.
    pub memory_max: u64,
    /// memory.high, in bytes.
    pub memory_high: u64,
    /// pids.max.
    pub pids_max: u32,
    /// cpu.max, in hundredths of one processor.
    pub cpu_quota_percent: u32,
    /// cpu.weight, 1 to 10000.
    pub cpu_weight: u32,
    /// The most open descriptors of one process.
    pub nofile: u64,
    /// The largest file that a process can write, in bytes.
    pub fsize: u64,
    /// io.max, on each disk that a granted path lies on.
    pub io: Io,
}

/// A cgroup's files for the processor and what is written to them: at most so many hundredths of one processor, and this
/// share of it when others want it too.
#[must_use]
pub fn cpu_files(percent: u64, weight: u64) -> [(&'static str, String); 2] {
    const PERIOD_US: u64 = 100_000;
    let quota = PERIOD_US.saturating_mul(percent) / 100;
    [("cpu.max", format!("{quota} {PERIOD_US}")), ("cpu.weight", weight.to_string())]
}

/// A layer of isolation that a kernel may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Limits by cgroup v2 controllers (memory, pids, cpu, and io where disks have a bound).
    Cgroup,
    /// A range of user ids of its own. Without it the workstation has one user, who is the one that started it outside
    /// and keeps that user's groups.
    Users,
    /// No executable files in memory (memfd_create(2)), which the kernel lets root alone forbid.
    Memfd,
    /// Rules of the workstation's network by nf_tables, behind the empty routing table and the filter.
    Nftables,
    /// Programs of BPF in the cgroup that are asked where an agent with hosts connects to.
    Hooks,
}

impl Layer {
    /// Those that an operator may accept as missing; what else is missing follows from who starts a program.
    pub const ACCEPTABLE: [Self; 3] = [Self::Cgroup, Self::Nftables, Self::Hooks];

    /// One of these, by its name.
    #[must_use]
    pub fn acceptable(name: &str) -> Option<Self> {
        Self::ACCEPTABLE.into_iter().find(|layer| layer.name() == name)
    }

    /// The name in configuration and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Users => "users",
            Self::Memfd => "memfd",
            Self::Nftables => "nftables",
            Self::Hooks => "hooks",
        }
    }

    /// The layer of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Cgroup, Self::Users, Self::Memfd, Self::Nftables, Self::Hooks]
            .into_iter()
            .find(|layer| layer.name() == name)
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was achieved, as read back from the kernel; the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Layers that are missing because that was accepted.
    pub missing: Vec<Layer>,
    /// The Landlock ABI version that was enforced in full.
    pub landlock_abi: u32,
    /// The first host user id of the agent's range.
    pub uid_base: u32,
    /// The agent's own process, in the host's PID namespace.
    pub payload_pid: u32,
    /// SHA-256 of the system call filters in force, as hexadecimal digits.
    pub filters: String,
    /// How many filters are in force.
    pub filter_count: u32,
    /// Each namespace of the agent and its number.
    pub namespaces: Vec<(String, u64)>,
    /// Each mount of the agent with its options, as the kernel shows them.
    pub mounts: Vec<String>,
}

/// Why a plan is not acceptable, before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Made by another version of Octant.
    #[error("the plan has version {0}, this spawner knows {VERSION}")]
    Version(u32),
    /// There is no such slot.
    #[error("slot {0} is outside the pool of {slots}", slots = uid::AGENT_SLOTS)]
    Slot(u32),
    /// Too many of something, or too long.
    #[error("{what} has {found}, the limit is {limit}")]
    TooMuch {
        /// Which part of the plan.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A path that is not absolute and in normal form.
    #[error("{what} {path:?} is not an absolute path in normal form")]
    Path {
        /// Which part of the plan.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// A place in the new root that the spawner keeps for itself.
    #[error("{0:?} is a place that Octant itself lays out in every workstation")]
    Reserved(String),
    /// The environment of an image, and no image.
    #[error("the program is to have the environment of its image, and it has no image")]
    NoImage,
    /// The same place twice.
    #[error("{0:?} is laid out twice")]
    Twice(String),
    /// A text with a character that cannot stand there.
    #[error("{what} {text:?} has a character that cannot stand there")]
    Text {
        /// Which part of the plan.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A limit of zero, or a weight outside its range.
    #[error("the limit {0} is outside its range")]
    Limit(&'static str),
}

const MAX_BINDS: usize = 128;
const MAX_LINKS: usize = 32;
const MAX_PINS: usize = 32;
const MAX_UTILITIES: usize = 512;
const MAX_TEXTS: usize = 512;
const MAX_TEXT_BYTES: usize = 128 * 1024;
const MAX_PATH: usize = 1024;
/// The certificate of an authority with a name constraint for each host that secrets are used at.
const MAX_PEM: usize = 32 * 1024;

/// Places in the new root that are the spawner's own; nothing can be put on, over or under them.
const RESERVED: [&str; 8] = ["/octant", "/bin", "/dev", "/proc", "/sys", "/run", "/tmp", "/workspace"];
/// Files in the new root's `/etc` that are the spawner's own.
const RESERVED_ETC: [&str; 6] =
    ["/etc/octant", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"];

/// Whether `path` is `root` or lies below it, by component.
pub(crate) fn within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || root == "/")
}

fn normal(what: &'static str, path: &str) -> Result<(), PlanError> {
    let good = path.len() <= MAX_PATH
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.is_empty() || rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
    if good { Ok(()) } else { Err(PlanError::Path { what, path: path.to_owned() }) }
}

/// The agent's own place that outlives it where a directory of the host is bound there.
pub(crate) const WORKSPACE: &str = "/workspace";

/// The agent's own places. Something granted can be bound below them, not on them.
pub(crate) const OWN: [&str; 2] = ["/tmp", WORKSPACE];

/// The own place that `path` lies below, if any.
pub(crate) fn below_own(path: &str) -> Option<&'static str> {
    OWN.into_iter().find(|own| within(path, own) && path != *own)
}

/// Whether nothing of the spawner's own is at, over or under `path`. `/bin` and `/etc` of an image are its own.
fn free(path: &str, image: bool) -> Result<(), PlanError> {
    if image && ["/bin", "/etc"].contains(&path) {
        return Ok(());
    }
    let taken = path == "/"
        || path == "/etc"
        || RESERVED.iter().chain(&RESERVED_ETC).any(|own| within(path, own) || within(own, path));
    if taken { Err(PlanError::Reserved(path.to_owned())) } else { Ok(()) }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), PlanError> {
    if found <= limit { Ok(()) } else { Err(PlanError::TooMuch { what, found, limit }) }
}

impl Plan {
    /// The plan as it is sent to the spawner: the only bytes that it ever has.
    ///
    /// # Errors
    /// [`SpawnError`] of step `request`: it has no JSON form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SpawnError> {
        serde_json::to_vec(self)
            .map_err(|error| SpawnError::refused(Step::Request, format!("write the plan: {error}")))
    }

    /// The SHA-256 of those bytes: what the intent to spawn it names, and what the spawner computes of what it gets.
    ///
    /// # Errors
    /// As [`Plan::to_bytes`].
    pub fn digest(&self) -> Result<Sha256, SpawnError> {
        self.to_bytes().map(|bytes| crate::tickets::digest(&bytes))
    }

    /// Checks everything that can be checked without looking at the machine. The spawner does so for every plan,
    /// whoever made it.
    ///
    /// # Errors
    /// [`PlanError`], naming the part of the plan.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.version != VERSION {
            return Err(PlanError::Version(self.version));
        }
        uid::agent_base(self.slot).ok_or(PlanError::Slot(self.slot))?;
        self.check_program()?;
        self.check_places()?;
        self.check_retained()?;
        at_most("utilities", self.utilities.len(), MAX_UTILITIES)?;
        for name in &self.utilities {
            // What utilities are called: `[`, `b2sum`, `base64`.
            let good = (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_[".contains(&b));
            if !good {
                return Err(PlanError::Text { what: "the utility", text: name.clone() });
            }
        }
        let certificate =
            |pem: &String| pem.len() <= MAX_PEM && pem.starts_with("-----BEGIN CERTIFICATE-----\n");
        if self.trust.as_ref().is_some_and(|pem| !certificate(pem)) {
            return Err(PlanError::Text { what: "the authority", text: "no certificate".into() });
        }
        at_most("syscalls.add", self.syscalls.add.len(), MAX_TEXTS)?;
        self.check_limits()
    }

    fn check_program(&self) -> Result<(), PlanError> {
        if (self.image_environment || self.image_cwd) && self.root.is_none() {
            return Err(PlanError::NoImage);
        }
        let program = &self.program;
        normal("the program", &program.path)?;
        normal("the working directory", &program.cwd)?;
        let texts = || program.args.iter().chain(&program.env);
        at_most("program (arguments and environment)", texts().count(), MAX_TEXTS)?;
        at_most("program (bytes)", texts().map(String::len).sum(), MAX_TEXT_BYTES)?;
        if let Some(text) = texts().find(|text| text.contains('\0')) {
            return Err(PlanError::Text { what: "the argument or variable", text: text.clone() });
        }
        let unnamed = |text: &&String| text.split_once('=').is_none_or(|(name, _)| name.is_empty());
        match program.env.iter().find(unnamed) {
            Some(text) => Err(PlanError::Text { what: "the variable", text: text.clone() }),
            None => Ok(()),
        }
    }

    fn check_places(&self) -> Result<(), PlanError> {
        at_most("binds", self.binds.len(), MAX_BINDS)?;
        at_most("links", self.links.len(), MAX_LINKS)?;
        at_most("pins", self.pins.len(), MAX_PINS)?;
        for path in self.pins.keys() {
            // Copies are shared.
            if !self.binds.iter().any(|bind| bind.source == *path && !bind.write) {
                return Err(PlanError::Text { what: "the file with a digest", text: path.clone() });
            }
        }
        for bind in &self.binds {
            normal("the source", &bind.source)?;
            normal("the target", &bind.target)?;
            if self.snapshot.is_some() && within(&bind.target, WORKSPACE) {
                // The snapshot may have something else there.
                return Err(PlanError::Twice(bind.target.clone()));
            }
            if below_own(&bind.target).is_none() && bind.target != WORKSPACE {
                free(&bind.target, self.root.is_some())?;
            }
        }
        for link in &self.links {
            normal("the link", &link.at)?;
            // The host's `/bin`, where none of Octant's own utilities is to be there.
            if link.at != "/bin" || !self.utilities.is_empty() {
                free(&link.at, self.root.is_some())?;
            }
            if link.to.is_empty() || link.to.len() > MAX_PATH || link.to.contains('\0') {
                return Err(PlanError::Text { what: "the link's target", text: link.to.clone() });
            }
            // A link in a granted directory would have to be written into it.
            if let Some(bind) =
                self.binds.iter().find(|b| within(&link.at, &b.target) || within(&b.target, &link.at))
            {
                return Err(PlanError::Twice(bind.target.clone()));
            }
        }
        let mut places: Vec<&str> = self
            .binds
            .iter()
            .map(|b| b.target.as_str())
            .chain(self.links.iter().map(|l| l.at.as_str()))
            .collect();
        places.sort_unstable();
        match places.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(PlanError::Twice(pair[0].to_owned())),
            None => Ok(()),
        }
    }

    /// What is bound outlives the agent by itself.
    fn check_retained(&self) -> Result<(), PlanError> {
        match self.retain && self.workspace_is_bound() {
            true => Err(PlanError::Twice(WORKSPACE.into())),
            false => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), PlanError> {
        let Limits { memory_max, memory_high, pids_max, cpu_quota_percent, cpu_weight, nofile, fsize, io } =
            self.limits;
        let ranges = [
            ("memory_max", memory_max >= 1 << 20),
            ("memory_high", memory_high >= 1 << 20 && memory_high <= memory_max),
            // The reaper and the program itself are two.
            ("pids_max", (2..=1 << 20).contains(&pids_max)),
            ("cpu_quota_percent", (1..=100_000).contains(&cpu_quota_percent)),
            ("cpu_weight", (1..=10_000).contains(&cpu_weight)),
            ("nofile", (8..=1 << 20).contains(&nofile)),
            ("fsize", fsize > 0),
            // The kernel takes no bound of nothing.
            ("io", ![io.read_bytes, io.write_bytes, io.read_ops, io.write_ops].contains(&Some(0))),
            ("workspace", self.workspace.bytes >= 4096 && self.workspace.inodes >= 2),
            ("tmp", self.tmp.bytes >= 4096 && self.tmp.inodes >= 2),
            ("shm", self.shm.as_ref().is_none_or(|shm| shm.bytes >= 4096 && shm.inodes >= 2)),
        ];
        ranges.iter().find(|row| !row.1).map_or(Ok(()), |row| Err(PlanError::Limit(row.0)))
    }

    /// Whether a directory of the host is the workspace.
    pub(crate) fn workspace_is_bound(&self) -> bool {
        self.binds.iter().any(|bind| bind.target == WORKSPACE)
    }

    /// The first host user id of the agent's range.
    ///
    /// # Errors
    /// [`PlanError::Slot`].
    pub fn uid_base(&self) -> Result<u32, PlanError> {
        uid::agent_base(self.slot).ok_or(PlanError::Slot(self.slot))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan with one of everything.
    pub(crate) fn sample() -> Plan {
        Plan {
            version: VERSION,
            aid: Aid::new(1_700_000_000_000, [7; 10]),
            slot: 3,
            program: Program {
                path: "/bin/sh".into(),
                args: vec!["-c".into(), "ls /srv".into()],
                cwd: "/workspace".into(),
                env: vec!["PATH=/bin".into()],
            },
            octant: true,
            trust: None,
            utilities: vec!["ls".into(), "sh".into()],
            root: None,
            image_environment: false,
            image_cwd: false,
            binds: vec![
                Bind { source: "/srv/logs".into(), target: "/srv/logs".into(), write: false, exec: false },
                Bind { source: "/srv/out".into(), target: "/srv/out".into(), write: true, exec: false },
            ],
            pins: BTreeMap::new(),
            links: vec![Link { at: "/lib64".into(), to: "usr/lib64".into() }],
            snapshot: None,
            workspace: Scratch { bytes: 64 << 20, inodes: 4096, exec: false },
            models: true,
            retain: true,
            tmp: Scratch { bytes: 16 << 20, inodes: 1024, exec: false },
            shm: Some(Scratch { bytes: 16 << 20, inodes: 1024, exec: false }),
            terminals: true,
            proc: Proc::Machine,
            syscalls: Syscalls { profile: "shell".into(), add: vec![], network: false },
            limits: Limits {
                memory_max: 256 << 20,
                memory_high: 224 << 20,
                pids_max: 64,
                cpu_quota_percent: 100,
                cpu_weight: 100,
                nofile: 256,
                fsize: 64 << 20,
                io: Io { write_bytes: Some(8 << 20), ..Io::UNLIMITED },
            },
            landlock_floor: 2,
            accept_missing: vec![],
            stdio: Stdio::Pipes,
        }
    }

    #[test]
    fn the_shape_is_the_golden_one() {
        let text = serde_json::to_string_pretty(&sample()).unwrap() + "\n";
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/plan.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(golden, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(golden).unwrap(), text, "UPDATE=1 rewrites {golden}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), sample());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["capabilities"] = serde_json::json!(["SYS_ADMIN"]);
        assert!(serde_json::from_value::<Plan>(value).is_err());
    }

    #[test]
    fn a_complete_plan_passes() {
        assert_eq!(sample().check(), Ok(()));
        let mut below = sample();
        below.binds[0].target = "/tmp/logs".into();
        assert_eq!(below.check(), Ok(()));
        let mut hosts = sample();
        hosts.utilities.clear();
        hosts.links.push(Link { at: "/bin".into(), to: "usr/bin".into() });
        assert_eq!(hosts.check(), Ok(()));
    }

    #[test]
    fn each_wrong_part_is_named() {
        type Change = fn(&mut Plan);
        let cases: [(Change, &str); 25] = [
            (|p| p.version = 1, "version"),
            (|p| p.slot = uid::AGENT_SLOTS, "slot"),
            (|p| p.program.path = "bin/sh".into(), "the program"),
            (|p| p.program.cwd = "/workspace/..".into(), "working directory"),
            (|p| p.program.args.push("a\0b".into()), "argument"),
            (|p| p.program.env.push("=x".into()), "variable"),
            (|p| p.binds[0].target = "/proc".into(), "lays out"),
            (|p| p.binds[0].target = "/tmp".into(), "lays out"),
            (|p| p.links[0].at = "/tmp/x".into(), "lays out"),
            (|p| p.binds[0].target = "/".into(), "lays out"),
            (|p| p.binds[0].target = "/run/octant/agent.sock".into(), "lays out"),
            (|p| p.binds[0].target = "/etc/octant".into(), "lays out"),
            (|p| p.binds[0].source = "/srv//logs".into(), "source"),
            (|p| p.binds[1].target = "/srv/logs".into(), "twice"),
            (|p| p.links[0].at = "/srv/logs/x".into(), "twice"),
            (|p| p.links[0].at = "/bin".into(), "lays out"),
            (|p| p.pins.extend([("/srv/out".into(), Sha256::ZERO)]), "digest"),
            (|p| p.pins.extend([("/srv".into(), Sha256::ZERO)]), "digest"),
            (|p| p.shm.as_mut().unwrap().inodes = 1, "shm"),
            (|p| p.utilities.push("../x".into()), "utility"),
            (|p| p.limits.memory_high = 1 << 40, "memory_high"),
            (|p| p.limits.pids_max = 1, "pids_max"),
            (|p| p.image_environment = true, "no image"),
            (|p| p.image_cwd = true, "no image"),
            (|p| p.limits.io.read_ops = Some(0), "io"),
        ];
        for (change, word) in cases {
            let mut plan = sample();
            change(&mut plan);
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
    }

    #[test]
    fn a_path_lies_within_another_by_component_not_by_prefix() {
        assert!(within("/srv/logs", "/srv") && within("/srv", "/srv") && within("/srv", "/"));
        assert!(!within("/srv2", "/srv") && !within("/", "/srv"));
    }
}
