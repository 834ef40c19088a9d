//! Rights that can be shared, and their intersection.

use crate::action::Approvals;
use crate::credential::CredentialGrant;
use crate::host::HostGrant;
use crate::models::Models;
use crate::pattern::{NamePattern, PatternSet};
use crate::{GrantPath, Io, PathSet, Pins};
use octant_ids::{ByteSize, Millis, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Names of things of one sort: utilities, system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSet {
    /// Every name. Only a ceiling says this; a manifest has no way to.
    All,
    /// These names.
    Only(BTreeSet<String>),
}

impl NameSet {
    /// No name.
    pub const NONE: Self = Self::Only(BTreeSet::new());

    /// The names that both sets have.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, names) | (names, Self::All) => names.clone(),
            (Self::Only(a), Self::Only(b)) => Self::Only(a & b),
        }
    }

    /// Whether the set has this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// The names, in order; none for [`NameSet::All`], which has no list, so that a caller who forgets it
    /// grants too little and not too much.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::All => None,
            Self::Only(names) => Some(names),
        };
        names.into_iter().flatten().map(String::as_str)
    }
}

impl fmt::Display for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(names) => f.debug_list().entries(names).finish(),
        }
    }
}

/// A named set of system calls and of what the file system view has beyond the granted paths.
///
/// `Minimal` is within every other, `Shell` within all but that; `Compiler` holds `Python` and `Node`, which
/// do not hold each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// One static program that reads and reports.
    Minimal,
    /// Shells and the utilities: pipes, processes of its own, changing files.
    Shell,
    /// What CPython needs beyond it.
    Python,
    /// What Node.js needs beyond it: generated code is executable.
    Node,
    /// Compilers and what they build.
    Compiler,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::Minimal, Self::Shell, Self::Python, Self::Node, Self::Compiler];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Shell => "shell",
            Self::Python => "python",
            Self::Node => "node",
            Self::Compiler => "compiler",
        }
    }

    /// The profile of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The largest profile that is within both.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Compiler, p) | (p, Self::Compiler) => p,
            (a, b) if a == b => a,
            (Self::Minimal, _) | (_, Self::Minimal) => Self::Minimal,
            (Self::Shell | Self::Python | Self::Node, Self::Shell | Self::Python | Self::Node) => Self::Shell,
        }
    }

    /// Whether there are pseudo-terminals.
    #[must_use]
    pub fn terminals(self) -> bool {
        self != Self::Minimal
    }

    /// Whether it is for language runtimes, which share memory by name (`/dev/shm`) and size themselves by what `/proc`
    /// says of the machine.
    #[must_use]
    pub fn runtime(self) -> bool {
        match self {
            Self::Minimal | Self::Shell => false,
            Self::Python | Self::Node | Self::Compiler => true,
        }
    }

    /// Whether a place may be both writable and executable.
    #[must_use]
    pub fn writable_executable(self) -> bool {
        match self {
            Self::Minimal | Self::Shell => false,
            Self::Python | Self::Node | Self::Compiler => true,
        }
    }
}

/// Something that this machine keeps under the digest of its content: an imported image, a snapshot of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Any of its kind: what a ceiling says, and a manifest of the workspace, which then begins with the snapshot that a fork
    /// names, if it is one.
    Any,
    /// This one.
    Only(Sha256),
    /// None.
    None,
}

impl Kept {
    /// What is within both: one is within no other.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, kept) | (kept, Self::Any) => kept,
            (a, b) if a == b => a,
            _ => Self::None,
        }
    }

    /// The digest, where it is one.
    #[must_use]
    pub fn digest(self) -> Option<Sha256> {
        match self {
            Self::Only(digest) => Some(digest),
            Self::Any | Self::None => None,
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(digest) => write!(f, "sha256:{digest}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// What happens to an agent when the one who spawned it ends. In order of how much the child keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnParentDeath {
    /// It ends at once.
    Terminate,
    /// It is told, and ends after its grace.
    WindDown,
    /// It goes on, under its grandparent.
    Adopt,
}

impl OnParentDeath {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Terminate, Self::WindDown, Self::Adopt];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::WindDown => "wind-down",
            Self::Adopt => "adopt",
        }
    }
}

/// What happens to an agent whose time to live is over. In order of how much it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    /// It ends at once.
    End,
    /// It is frozen, and an operator resumes it for a time or ends it.
    Freeze,
}

impl OnTimeout {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::End, Self::Freeze];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Freeze => "freeze",
        }
    }
}

/// Limits on what an agent uses, each an upper bound (cgroups(7), getrlimit(2), tmpfs(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Memory of all its processes; beyond it the kernel kills within the agent.
    pub memory_max: ByteSize,
    /// Memory from which its processes are slowed and reclaimed from. At most `memory_max`.
    pub memory_high: ByteSize,
    /// Processes and threads.
    pub pids_max: u64,
    /// Processor time in hundredths of one processor: 150 is one and a half.
    pub cpu_quota_percent: u64,
    /// Share of the processor when it is contended, 1 to 10000; 100 is everybody's default.
    pub cpu_weight: u64,
    /// Bytes in `/workspace`.
    pub workspace_bytes: ByteSize,
    /// Files and directories in `/workspace`.
    pub workspace_inodes: u64,
    /// Bytes in `/tmp`.
    pub tmp_bytes: ByteSize,
    /// Open descriptors of one process.
    pub nofile: u64,
    /// Bytes of one file.
    pub fsize: ByteSize,
    /// What is read from and written to disks in a second.
    pub io: Io,
}

impl Resources {
    /// No limit: for ceilings.
    pub const UNLIMITED: Self = Self {
        memory_max: ByteSize(u64::MAX),
        memory_high: ByteSize(u64::MAX),
        pids_max: u64::MAX,
        cpu_quota_percent: u64::MAX,
        cpu_weight: u64::MAX,
        workspace_bytes: ByteSize(u64::MAX),
        workspace_inodes: u64::MAX,
        tmp_bytes: ByteSize(u64::MAX),
        nofile: u64::MAX,
        fsize: ByteSize(u64::MAX),
        io: Io::UNLIMITED,
    };

    /// The lower of each limit.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let Self {
            memory_max,
            memory_high,
            pids_max,
            cpu_quota_percent,
            cpu_weight,
            workspace_bytes,
            workspace_inodes,
            tmp_bytes,
            nofile,
            fsize,
            io,
        } = *other;
        Self {
            memory_max: self.memory_max.min(memory_max),
            memory_high: self.memory_high.min(memory_high),
            pids_max: self.pids_max.min(pids_max),
            cpu_quota_percent: self.cpu_quota_percent.min(cpu_quota_percent),
            cpu_weight: self.cpu_weight.min(cpu_weight),
            workspace_bytes: self.workspace_bytes.min(workspace_bytes),
            workspace_inodes: self.workspace_inodes.min(workspace_inodes),
            tmp_bytes: self.tmp_bytes.min(tmp_bytes),
            nofile: self.nofile.min(nofile),
            fsize: self.fsize.min(fsize),
            io: self.io.meet(&io),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let Self {
            memory_max,
            memory_high,
            pids_max,
            cpu_quota_percent,
            cpu_weight,
            workspace_bytes,
            workspace_inodes,
            tmp_bytes,
            nofile,
            fsize,
            io,
        } = self;
        let rows = [
            ("resources.memory_max", memory_max.to_string()),
            ("resources.memory_high", memory_high.to_string()),
            ("resources.pids_max", pids_max.to_string()),
            ("resources.cpu_quota_percent", cpu_quota_percent.to_string()),
            ("resources.cpu_weight", cpu_weight.to_string()),
            ("resources.workspace_bytes", workspace_bytes.to_string()),
            ("resources.workspace_inodes", workspace_inodes.to_string()),
            ("resources.tmp_bytes", tmp_bytes.to_string()),
            ("resources.nofile", nofile.to_string()),
            ("resources.fsize", fsize.to_string()),
        ];
        rows.into_iter().chain(io.rows()).collect()
    }
}

/// What of its workspace is kept after an agent's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// The places, with all that is below them.
    pub places: PathSet,
    /// The most bytes of all files.
    pub bytes: ByteSize,
    /// The most files, directories and links.
    pub files: u64,
}

impl Retention {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { places: PathSet::default(), bytes: ByteSize(0), files: 0 }
    }

    /// What both keep. Each agent has a workspace of its own, so it bounds each one and is not shared out; how many agents
    /// there are is what an allotment bounds.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let Self { places, bytes, files } = other;
        Self {
            places: self.places.meet(places),
            bytes: self.bytes.min(*bytes),
            files: self.files.min(*files),
        }
    }

    fn rows(&self) -> [(&'static str, String); 3] {
        let Self { places, bytes, files } = self;
        [
            ("lifetime.retain", places.to_string()),
            ("lifetime.retain_bytes", bytes.to_string()),
            ("lifetime.retain_files", files.to_string()),
        ]
    }
}

/// How much may go through the gate at once. Each agent has a way out of its own, so it bounds each one and is not shared
/// out; how many agents there are is what an allotment bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// How many connections are open at the same time.
    pub connections: u64,
    /// How many bytes a second, both ways together; `None` is as fast as it goes.
    pub bytes_per_second: Option<ByteSize>,
}

impl Traffic {
    /// Everything.
    pub const ALL: Self = Self { connections: u64::MAX, bytes_per_second: None };

    /// What both let through.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        let Self { connections, bytes_per_second } = other;
        let slower = match (self.bytes_per_second, bytes_per_second) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { connections: self.connections.min(connections), bytes_per_second: slower }
    }

    fn rows(self) -> [(&'static str, String); 2] {
        let Self { connections, bytes_per_second } = self;
        let rate = bytes_per_second.map_or("unlimited".to_owned(), |rate| rate.to_string());
        [("network.connections", connections.to_string()), ("network.bytes_per_second", rate)]
    }
}

/// Every right that can be shared: two holders of it do not take it from each other.
///
/// A meet-semilattice: `meet` is commutative, associative and idempotent, and `a.within(b)` is its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grants {
    pub(crate) root: Kept,
    pub(crate) workspace: Kept,
    pub(crate) read: PathSet,
    pub(crate) write: PathSet,
    pub(crate) execute: PathSet,
    pub(crate) pins: Pins,
    pub(crate) utilities: NameSet,
    pub(crate) profile: Profile,
    pub(crate) syscalls: NameSet,
    pub(crate) resources: Resources,
    /// `None` is unlimited.
    pub(crate) ttl: Option<Millis>,
    pub(crate) on_timeout: OnTimeout,
    pub(crate) on_parent_death: OnParentDeath,
    pub(crate) retain: Retention,
    /// How many generations it may have below it; 0 where it may spawn nobody.
    pub(crate) generations: u64,
    pub(crate) rooms: NameSet,
    pub(crate) hosts: PatternSet<HostGrant>,
    /// What it may ask to be lent.
    pub(crate) leases: PatternSet<HostGrant>,
    pub(crate) traffic: Traffic,
    pub(crate) credentials: PatternSet<CredentialGrant>,
    pub(crate) models: Models,
    pub(crate) skills: PatternSet<NamePattern>,
    pub(crate) tools: PatternSet<NamePattern>,
    /// The name under which it offers tools of its own; a manifest has at most one.
    pub(crate) serves: NameSet,
    /// Joined where the others are met: to have to ask for more is to have less.
    pub(crate) approvals: Approvals,
}

/// A right that was asked for and not given in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Narrowed {
    /// Which one.
    pub field: &'static str,
    /// What the manifest asks.
    pub asked: String,
    /// What the agent gets.
    pub got: String,
}

impl Grants {
    /// The image whose tree lies below everything else; all of it can be read and executed.
    #[must_use]
    pub fn root(&self) -> Kept {
        self.root
    }

    /// The snapshot that the workspace begins with.
    #[must_use]
    pub fn workspace(&self) -> Kept {
        self.workspace
    }

    /// What of the workspace is kept after the end.
    #[must_use]
    pub fn retain(&self) -> &Retention {
        &self.retain
    }

    /// The trees that may be read. What may be written or executed may be read.
    #[must_use]
    pub fn read(&self) -> &PathSet {
        &self.read
    }

    /// The trees that may be read and not written.
    pub fn read_only(&self) -> impl Iterator<Item = &GrantPath> {
        self.read.iter().filter(|p| !self.write.covers(p))
    }

    /// The trees that may be written.
    #[must_use]
    pub fn write(&self) -> &PathSet {
        &self.write
    }

    /// The trees whose files may be executed.
    #[must_use]
    pub fn execute(&self) -> &PathSet {
        &self.execute
    }

    /// Which of those files must have which bytes.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The utilities of Octant's own that may be run.
    #[must_use]
    pub fn utilities(&self) -> &NameSet {
        &self.utilities
    }

    /// The profile of system calls.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The system calls beyond the profile.
    #[must_use]
    pub fn syscalls(&self) -> &NameSet {
        &self.syscalls
    }

    /// The limits.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// How long the agent may live; `None` is without limit.
    #[must_use]
    pub fn ttl(&self) -> Option<Millis> {
        self.ttl
    }

    /// What the end of its time to live means for it.
    #[must_use]
    pub fn on_timeout(&self) -> OnTimeout {
        self.on_timeout
    }

    /// What its spawner's end means for it.
    #[must_use]
    pub fn on_parent_death(&self) -> OnParentDeath {
        self.on_parent_death
    }

    /// How many generations it may have below it; 0 where it may spawn nobody.
    #[must_use]
    pub fn generations(&self) -> u64 {
        self.generations
    }

    /// The rooms in which it may exchange messages.
    #[must_use]
    pub fn rooms(&self) -> &NameSet {
        &self.rooms
    }

    /// How much may go to them at once.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The hosts that may be reached.
    #[must_use]
    pub fn hosts(&self) -> &PatternSet<HostGrant> {
        &self.hosts
    }

    /// The hosts that it may ask to be lent, for a while.
    #[must_use]
    pub fn leases(&self) -> &PatternSet<HostGrant> {
        &self.leases
    }

    /// Whether it has a network at all: something to reach, or to ask for.
    #[must_use]
    pub fn has_network(&self) -> bool {
        !self.hosts.is_empty() || !self.leases.is_empty()
    }

    /// Whether there is anything that it connects to: hosts through the gate, or the router, which answers for models.
    #[must_use]
    pub fn connects(&self) -> bool {
        self.has_network() || self.has_models()
    }

    /// Whether it may ask any model.
    #[must_use]
    pub fn has_models(&self) -> bool {
        !self.models.allowed.is_empty()
    }

    /// The secrets that may be used, and how.
    #[must_use]
    pub fn credentials(&self) -> &PatternSet<CredentialGrant> {
        &self.credentials
    }

    /// The models that may be asked, and how fast.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// The skills that may be used.
    #[must_use]
    pub fn skills(&self) -> &PatternSet<NamePattern> {
        &self.skills
    }

    /// The tools that may be called.
    #[must_use]
    pub fn tools(&self) -> &PatternSet<NamePattern> {
        &self.tools
    }

    /// The name under which it offers tools of its own, over its standard input and output.
    #[must_use]
    pub fn serves(&self) -> Option<&str> {
        self.serves.iter().next()
    }

    /// What an operator has to approve each time.
    #[must_use]
    pub fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// What both grant. Each field stands here by name: a new one does not compile until its intersection is
    /// decided.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let Self {
            root,
            workspace,
            read,
            write,
            execute,
            pins,
            utilities,
            profile,
            syscalls,
            resources,
            ttl,
            on_timeout,
            on_parent_death,
            retain,
            generations,
            rooms,
            hosts,
            leases,
            traffic,
            credentials,
            models,
            skills,
            tools,
            serves,
            approvals,
        } = other;
        let shorter = match (self.ttl, *ttl) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let execute = self.execute.meet(execute);
        Self {
            root: self.root.meet(*root),
            workspace: self.workspace.meet(*workspace),
            read: self.read.meet(read),
            write: self.write.meet(write),
            pins: self.pins.meet(pins, &execute),
            execute,
            utilities: self.utilities.meet(utilities),
            profile: self.profile.meet(*profile),
            syscalls: self.syscalls.meet(syscalls),
            resources: self.resources.meet(resources),
            ttl: shorter,
            on_timeout: self.on_timeout.min(*on_timeout),
            on_parent_death: self.on_parent_death.min(*on_parent_death),
            retain: self.retain.meet(retain),
            generations: self.generations.min(*generations),
            rooms: self.rooms.meet(rooms),
            hosts: self.hosts.meet(hosts),
            leases: self.leases.meet(leases),
            traffic: self.traffic.meet(*traffic),
            credentials: self.credentials.meet(credentials),
            models: self.models.meet(models),
            skills: self.skills.meet(skills),
            tools: self.tools.meet(tools),
            serves: self.serves.meet(serves),
            approvals: self.approvals.join(approvals),
        }
    }

    /// The most that a child can get of this: everything, with one generation less below it. What is left open for an
    /// operator to name is not an agent's to choose, and neither is what others take for a server's tools.
    pub(crate) fn for_child(&self) -> Self {
        let workspace = if self.workspace == Kept::Any { Kept::None } else { self.workspace };
        let generations = self.generations.saturating_sub(1);
        Self { workspace, generations, serves: NameSet::NONE, ..self.clone() }
    }

    /// Whether `other` grants everything that this does, and demands no approval that this does not.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.meet(other) == *self
    }

    /// What is smaller in `got` than in `self`.
    #[must_use]
    pub fn narrowed_to(&self, got: &Self) -> Vec<Narrowed> {
        let pairs = self.rows().into_iter().zip(got.rows());
        pairs
            .filter(|(asked, got)| asked.1 != got.1)
            .map(|((field, asked), (_, got))| Narrowed { field, asked, got })
            .collect()
    }

    /// Every right with its field in a manifest, as text.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Self {
            root,
            workspace,
            read,
            write,
            execute,
            pins,
            utilities,
            profile,
            syscalls,
            resources,
            ttl,
            on_timeout,
            on_parent_death,
            retain,
            generations,
            rooms,
            hosts,
            leases,
            traffic,
            credentials,
            models,
            skills,
            tools,
            serves,
            approvals,
        } = self;
        let ttl = ttl.map_or("unlimited".to_owned(), |t| format!("{}ms", t.0));
        let mut rows = vec![
            ("filesystem.root", root.to_string()),
            ("filesystem.workspace", workspace.to_string()),
            ("filesystem.read", read.to_string()),
            ("filesystem.write", write.to_string()),
            ("executables.paths", execute.to_string()),
            ("executables.sha256", pins.to_string()),
            ("executables.utilities", utilities.to_string()),
            ("syscalls.profile", profile.name().to_owned()),
            ("syscalls.add", syscalls.to_string()),
            ("lifetime.ttl", ttl),
            ("lifetime.on_timeout", on_timeout.name().to_owned()),
            ("lifetime.on_parent_death", on_parent_death.name().to_owned()),
            ("spawning.depth", generations.to_string()),
            ("rooms.join", rooms.to_string()),
            ("network.hosts", hosts.to_string()),
            ("network.leases", leases.to_string()),
            ("credentials.grants", credentials.to_string()),
            ("skills.allowed", skills.to_string()),
            ("skills.tools", tools.to_string()),
            ("skills.serves", serves.to_string()),
            ("approvals.required", approvals.to_string()),
        ];
        rows.extend(retain.rows());
        rows.extend(traffic.rows());
        rows.extend(models.rows());
        rows.extend(resources.rows());
        rows
    }
}
