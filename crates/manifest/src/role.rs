//! Roles: the ceilings of operators' keys, as data.

use crate::action::{Action, Approvals};
use crate::grants::{
    Grants, Kept, NameSet, OnParentDeath, OnTimeout, Profile, Resources, Retention, Traffic,
};
use crate::models::Models;
use crate::pattern::{Pattern, PatternError, PatternSet};
use crate::schema::OWN;
use crate::{GrantPath, HostGrant, NamePattern, PathError, PathSet, Pins};
use octant_ids::{ByteSize, Millis};
use serde::Deserialize;
use std::collections::BTreeMap;

const BUILTIN: &str = include_str!("roles.toml");

/// The roles that there are. A role has a ceiling, and the roles that its holder may give to agents.
#[derive(Debug, Clone)]
pub struct Roles(BTreeMap<String, Role>);

#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) assigns: Vec<String>,
    pub(crate) ceiling: Grants,
    /// How many descendants an agent of this role can have.
    pub(crate) descendants: u64,
    /// What its holder may approve, of agents whose role it assigns.
    pub(crate) approves: Approvals,
}

/// Why a file of roles is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RolesError {
    #[error("the roles are not valid: {0}")]
    Toml(String),
    #[error("role {0:?}: {1}")]
    Path(String, PathError),
    #[error("role {0:?}: {1}")]
    Pattern(String, PatternError),
    #[error("role {0:?} assigns {1:?}, which is not a role")]
    Assigns(String, String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    Word(Word),
    List(std::collections::BTreeSet<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    All,
}

impl From<Names> for NameSet {
    fn from(names: Names) -> Self {
        match names {
            Names::Word(Word::All) => Self::All,
            Names::List(names) => Self::Only(names),
        }
    }
}

impl Names {
    fn patterns<P: Pattern>(self, role: &str) -> Result<PatternSet<P>, RolesError> {
        match self {
            Self::Word(Word::All) => Ok(PatternSet::All),
            Self::List(texts) => texts
                .iter()
                .map(|text| text.parse().map_err(|e| RolesError::Pattern(role.to_owned(), e)))
                .collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    assigns: Vec<String>,
    approves: Vec<String>,
    read: Vec<String>,
    write: Vec<String>,
    execute: Vec<String>,
    images: bool,
    snapshots: bool,
    artefacts: bool,
    utilities: Names,
    profile: Profile,
    syscalls: Names,
    ttl: Millis,
    on_parent_death: OnParentDeath,
    spawning: Spawning,
    rooms: Names,
    hosts: Names,
    credentials: Names,
    models: Names,
    tokens_per_minute: Option<u64>,
    microusd_per_minute: Option<u64>,
    skills: Names,
    tools: Names,
    serves: Names,
    #[serde(default)]
    resources: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spawning {
    depth: u64,
    descendants: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory_max: Option<ByteSize>,
    memory_high: Option<ByteSize>,
    pids_max: Option<u64>,
    cpu_quota_percent: Option<u64>,
    cpu_weight: Option<u64>,
    workspace_bytes: Option<ByteSize>,
    workspace_inodes: Option<u64>,
    tmp_bytes: Option<ByteSize>,
    nofile: Option<u64>,
    fsize: Option<ByteSize>,
}

impl From<Limits> for Resources {
    fn from(limits: Limits) -> Self {
        let Limits {
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
        } = limits;
        let none = Self::UNLIMITED;
        Self {
            memory_max: memory_max.unwrap_or(none.memory_max),
            memory_high: memory_high.unwrap_or(none.memory_high),
            pids_max: pids_max.unwrap_or(none.pids_max),
            cpu_quota_percent: cpu_quota_percent.unwrap_or(none.cpu_quota_percent),
            cpu_weight: cpu_weight.unwrap_or(none.cpu_weight),
            workspace_bytes: workspace_bytes.unwrap_or(none.workspace_bytes),
            workspace_inodes: workspace_inodes.unwrap_or(none.workspace_inodes),
            tmp_bytes: tmp_bytes.unwrap_or(none.tmp_bytes),
            nofile: nofile.unwrap_or(none.nofile),
            fsize: fsize.unwrap_or(none.fsize),
            // How fast its disks are is the machine's and not a role's.
            io: none.io,
        }
    }
}

/// The actions that a role approves.
fn actions(role: &str, texts: &[String]) -> Result<Approvals, RolesError> {
    let read = |text: &String| text.parse::<Action>().map_err(|e| RolesError::Pattern(role.to_owned(), e));
    texts.iter().map(read).collect()
}

/// The paths of a role.
fn paths_of(role: &str, paths: Vec<String>) -> Result<PathSet, RolesError> {
    paths.iter().map(|p| GrantPath::parse(p).map_err(|e| RolesError::Path(role.to_owned(), e))).collect()
}

/// Whether a role lets everything of a kind be chosen, or nothing.
fn any(all: bool) -> Kept {
    if all { Kept::Any } else { Kept::None }
}

/// What a role lets be kept that lets anything be.
fn whole_workspace() -> Retention {
    let places = GrantPath::parse(OWN[0]).into_iter().collect();
    Retention { places, bytes: ByteSize(u64::MAX), files: u64::MAX }
}

impl Roles {
    /// The roles that every Octant has: `admin`, `developer`, `analyst`.
    #[must_use]
    pub fn builtin() -> Self {
        // Part of the program, and read by a unit test; were it damaged all the same, no role would exist and
        // every spawn be refused.
        Self::parse(BUILTIN).unwrap_or(Self(BTreeMap::new()))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, RolesError> {
        let files: BTreeMap<String, RoleFile> =
            toml::from_str(text).map_err(|e| RolesError::Toml(e.to_string()))?;
        let mut roles = BTreeMap::new();
        for (name, file) in files {
            let set = |paths| paths_of(&name, paths);
            let RoleFile {
                assigns,
                approves,
                read,
                write,
                execute,
                images,
                snapshots,
                artefacts,
                utilities,
                profile,
                syscalls,
                ttl,
                on_parent_death,
                spawning: Spawning { depth: generations, descendants },
                rooms,
                hosts,
                credentials,
                models,
                tokens_per_minute,
                microusd_per_minute,
                skills,
                tools,
                serves,
                resources,
            } = file;
            let (read, write, execute) = (set(read)?, set(write)?, set(execute)?);
            let hosts: PatternSet<HostGrant> = hosts.patterns(&name)?;
            let ceiling = Grants {
                root: any(images),
                workspace: any(snapshots),
                read: read.join(&write).join(&execute),
                write,
                execute,
                pins: Pins::default(),
                utilities: utilities.into(),
                profile,
                syscalls: syscalls.into(),
                resources: resources.into(),
                ttl: Some(ttl),
                // What is frozen runs nothing, so no role bounds it.
                on_timeout: OnTimeout::Freeze,
                on_parent_death,
                retain: if artefacts { whole_workspace() } else { Retention::none() },
                generations,
                rooms: rooms.into(),
                // What a role lets an agent reach it lets it ask for.
                leases: hosts.clone(),
                hosts,
                // What a role lets an agent reach it lets it reach as fast as it goes.
                traffic: Traffic::ALL,
                credentials: credentials.patterns(&name)?,
                models: models_of(models.patterns(&name)?, tokens_per_minute, microusd_per_minute),
                skills: skills.patterns(&name)?,
                tools: tools.patterns(&name)?,
                serves: serves.into(),
                // A role bounds what is given; what has to be asked for each time is the manifest's.
                approvals: Approvals::default(),
            };
            let approves = actions(&name, &approves)?;
            roles.insert(name, Role { assigns, ceiling, descendants, approves });
        }
        Self::closed(roles)
    }

    /// Every role that is assigned is one of them.
    fn closed(roles: BTreeMap<String, Role>) -> Result<Self, RolesError> {
        for (name, role) in &roles {
            if let Some(stray) = role.assigns.iter().find(|r| !roles.contains_key(*r)) {
                return Err(RolesError::Assigns(name.clone(), stray.clone()));
            }
        }
        Ok(Self(roles))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn models_of(allowed: PatternSet<NamePattern>, tokens: Option<u64>, microusd: Option<u64>) -> Models {
    let (tokens_per_minute, microusd_per_minute) = (tokens.unwrap_or(u64::MAX), microusd.unwrap_or(u64::MAX));
    Models { tokens_per_minute, microusd_per_minute, ..Models::of(allowed) }
}
