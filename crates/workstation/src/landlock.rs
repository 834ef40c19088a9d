//! The Landlock layer: what the mounts cannot say, and the same again where they can.

use crate::plan::{Bind, Plan};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use octant_sys::audit::LANDLOCK_ABI;
use std::io;

/// What is allowed beneath a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// List directories.
    List,
    /// Read files and list directories.
    Read,
    /// Read, and execute.
    Execute,
    /// Read, and change what is there; no new device nodes.
    Write,
    /// Read, change and execute.
    WriteExecute,
    /// Open a device node for reading and writing.
    Device,
    /// The same of a terminal, with the requests that the filter leaves.
    Terminal,
    /// Connect to sockets, which the kernel asks about from ABI 9 on.
    Connect,
}

/// The rules of one process: everything that the kernel's ABI version handles is denied except these.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The ABI version of the running kernel.
    pub(crate) abi: u32,
    /// Whether signals to processes outside the domain are denied, where the kernel can.
    pub(crate) scope_signals: bool,
    /// Whether ports can be connected to and listened on: those of the agent's own network, and what is behind the gate.
    /// Which those are changes with leases, and a rule cannot be taken back.
    pub(crate) network: bool,
    /// What is allowed, by path inside the new root.
    pub(crate) paths: Vec<(String, Right)>,
}

impl Rules {
    /// The rules of the agent's own processes.
    pub(crate) fn of_agent(plan: &Plan, abi: u32) -> Self {
        let mut paths: Vec<(String, Right)> = vec![
            ("/".into(), Right::List),
            ("/etc".into(), Right::Read),
            ("/proc".into(), Right::Read),
            ("/tmp".into(), if plan.tmp.exec { Right::WriteExecute } else { Right::Write }),
        ];
        if !plan.workspace_is_bound() {
            let right = if plan.workspace.exec { Right::WriteExecute } else { Right::Write };
            paths.push((crate::plan::WORKSPACE.into(), right));
        }
        paths.extend(crate::enforce::devices_of(plan).iter().map(|name| {
            (format!("/dev/{name}"), if *name == "tty" { Right::Terminal } else { Right::Device })
        }));
        if plan.terminals {
            paths.push(("/dev/pts".into(), Right::Terminal));
        }
        if plan.shm.is_some() {
            paths.push(("/dev/shm".into(), Right::Write));
        }
        if plan.octant {
            paths.push(("/octant".into(), Right::Execute));
        }
        if plan.root.is_some() {
            paths.push((crate::image::ETC.into(), Right::Read));
        }
        if abi >= 9 {
            paths.push(("/run/octant".into(), Right::Connect));
        }
        paths.extend(plan.binds.iter().map(|bind| (bind.target.clone(), right_of(bind))));
        Self { abi, scope_signals: true, network: plan.syscalls.network, paths }
    }

    /// The rules of the reaper: no file at all. It must be able to signal the agent, whose domain is not its own.
    pub(crate) fn of_reaper(abi: u32) -> Self {
        Self { abi, scope_signals: false, network: false, paths: Vec::new() }
    }

    /// Confines the calling thread. Every right that the kernel's ABI version knows is handled, and handled in full.
    pub(crate) fn enforce(&self) -> io::Result<()> {
        let abi = ABI::from(i32::try_from(self.abi).unwrap_or(0));
        let other = |error: landlock::RulesetError| io::Error::other(error.to_string());
        let handled = AccessFs::from_all(abi);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(handled)
            .map_err(other)?;
        if self.abi >= 4 && !self.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(other)?;
        }
        if self.abi >= 6 {
            ruleset = ruleset.scope(Scope::AbstractUnixSocket).map_err(other)?;
        }
        if self.abi >= 6 && self.scope_signals {
            ruleset = ruleset.scope(Scope::Signal).map_err(other)?;
        }
        let mut created = ruleset.create().map_err(other)?;
        for (path, right) in &self.paths {
            let fd = PathFd::new(path).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
            let is_file = !nix::sys::stat::stat(path.as_str()).map(|s| {
                nix::sys::stat::SFlag::from_bits_truncate(s.st_mode).contains(nix::sys::stat::SFlag::S_IFDIR)
            })?;
            let mut access = right.access(abi) & handled;
            if is_file {
                access &= AccessFs::from_file(abi);
            }
            created = created.add_rule(PathBeneath::new(fd, access)).map_err(other)?;
        }
        if self.abi >= LANDLOCK_ABI {
            // The kernel reports what is denied to the program, not only to what is still this one; of
            // domains that programs make within this one they know themselves.
            created = created
                .log_new_exec(true)
                .and_then(|created| created.log_subdomains(false))
                .map_err(other)?;
        }
        let status = created.restrict_self().map_err(other)?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(io::Error::other(format!("the ruleset is {:?}", status.ruleset)));
        }
        Ok(())
    }
}

fn right_of(bind: &Bind) -> Right {
    match (bind.write, bind.exec) {
        (false, false) => Right::Read,
        (false, true) => Right::Execute,
        (true, false) => Right::Write,
        (true, true) => Right::WriteExecute,
    }
}

impl Right {
    fn access(self, abi: ABI) -> BitFlags<AccessFs> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        // from_write has every kind of change; device nodes stay out, and ioctl on devices with them.
        let nodes = AccessFs::MakeChar | AccessFs::MakeBlock;
        let write = read | (AccessFs::from_write(abi) & !nodes);
        match self {
            Self::List => AccessFs::ReadDir.into(),
            Self::Read => read,
            Self::Execute => read | AccessFs::Execute,
            Self::Write => write,
            Self::WriteExecute => write | AccessFs::Execute,
            Self::Connect => AccessFs::from_all(abi) & AccessFs::ResolveUnix,
            // No ioctl: none of the five nodes has one that a program needs.
            Self::Device => AccessFs::ReadFile | AccessFs::WriteFile,
            Self::Terminal => read | AccessFs::WriteFile | (AccessFs::from_all(abi) & AccessFs::IoctlDev),
        }
    }
}
