//! A service's profile: what it may ask of the kernel, each line with its reason.

use octant_ids::Layout;
use serde::Deserialize;
use std::path::PathBuf;

/// What every service needs before it does anything: the Rust runtime, the allocator, tokio, the wire.
pub(crate) const BASE: &str = include_str!("../base.json");

/// A profile as it stands in a service's `profile.json`. The base profile of this crate comes on top.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// System calls beyond the base. Everything else is answered with `EPERM`.
    #[serde(default)]
    pub(crate) syscalls: Vec<Syscall>,
    /// Paths beyond the service's own state directory. Everything else cannot be opened.
    #[serde(default)]
    pub(crate) paths: Vec<PathGrant>,
    /// Why it may connect to ports of hosts; absent when it may not.
    #[serde(default)]
    pub(crate) network: Option<String>,
    /// Why it may listen on ports of the machine; absent when it may not, but on those that it was given.
    #[serde(default)]
    pub(crate) listens: Option<String>,
    /// Why it may signal processes outside its own confinement; absent when it may not.
    #[serde(default)]
    pub(crate) signals: Option<String>,
}

/// One allowed system call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// Conditions on arguments; all must hold.
    #[serde(default)]
    pub(crate) args: Vec<Argument>,
    pub(crate) why: String,
}

/// A condition on one argument: `argument & mask == value`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Argument {
    pub(crate) index: u32,
    #[serde(default = "whole")]
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

fn whole() -> u64 {
    u64::MAX
}

/// What a service may do beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    /// Read files and list directories.
    Read,
    /// Read, and change what is there.
    Write,
}

/// One granted path.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathGrant {
    /// The path; starts with `{etc}`, `{state}`, `{run}`, `{log}`, `{agents_cgroup}` or `/`.
    pub(crate) path: String,
    pub(crate) access: Access,
    /// Whether the service can do without it when it does not exist.
    #[serde(default)]
    pub(crate) optional: bool,
    pub(crate) why: String,
}

/// Why a profile is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not the JSON of a profile.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A line has no reason.
    #[error("{0} has no \"why\"")]
    NoReason(String),
    /// No such system call on this machine's architecture.
    #[error("there is no system call {0:?}")]
    UnknownSyscall(String),
    /// A call has six arguments.
    #[error("{0} has no argument {1}")]
    Argument(String, u32),
    /// A path starts neither with a known place nor with `/`.
    #[error("the path {0:?} starts with no known place")]
    Place(String),
}

impl Profile {
    /// Reads a profile and checks that every line has its reason.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_str(text)?;
        let reasons = profile.syscalls.iter().map(|line| (&line.name, &line.why));
        let reasons = reasons.chain(profile.paths.iter().map(|line| (&line.path, &line.why)));
        for (name, why) in reasons {
            if why.trim().is_empty() {
                return Err(ProfileError::NoReason(name.clone()));
            }
        }
        for (name, why) in
            [("network", &profile.network), ("listens", &profile.listens), ("signals", &profile.signals)]
        {
            if why.as_ref().is_some_and(|why| why.trim().is_empty()) {
                return Err(ProfileError::NoReason(name.to_owned()));
            }
        }
        Ok(profile)
    }

    /// The base and a service's own lines.
    pub(crate) fn with_base(own: &str) -> Result<Self, ProfileError> {
        let mut profile = Self::parse(BASE)?;
        let own = Self::parse(own)?;
        profile.syscalls.extend(own.syscalls);
        profile.paths.extend(own.paths);
        profile.network = own.network;
        profile.listens = own.listens;
        profile.signals = own.signals;
        Ok(profile)
    }
}

impl PathGrant {
    /// The path on this machine; none when it is below a cgroup tree that this machine does not have.
    pub(crate) fn place(
        &self,
        layout: &Layout,
        agents_cgroup: Option<&PathBuf>,
    ) -> Result<Option<PathBuf>, ProfileError> {
        let (root, rest) = match self.path.strip_prefix('{').and_then(|text| text.split_once('}')) {
            Some((root, rest)) => (root, rest.trim_start_matches('/')),
            None if self.path.starts_with('/') => return Ok(Some(PathBuf::from(&self.path))),
            None => return Err(ProfileError::Place(self.path.clone())),
        };
        let root = match root {
            "etc" => &layout.etc,
            "state" => &layout.state,
            "run" => &layout.run,
            "log" => &layout.log,
            "agents_cgroup" => match agents_cgroup {
                Some(path) => path,
                None => return Ok(None),
            },
            _ => return Err(ProfileError::Place(self.path.clone())),
        };
        // Joining an empty rest would add a trailing slash.
        Ok(Some(if rest.is_empty() { root.clone() } else { root.join(rest) }))
    }
}
