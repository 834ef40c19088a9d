//! Putting a profile in force: no_new_privs, Landlock, seccomp, in this order, on the only thread.

use crate::error::ServiceError;
use crate::profile::{Access, Profile, ProfileError, Syscall};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use octant_api::boot::BootConfig;
use octant_sys::confine::landlock_abi;
use std::io;
use std::path::{Path, PathBuf};

/// The newest Landlock ABI whose rights this build asks for where the kernel has them.
const NEWEST_ABI: u32 = 6;

/// What is in force, for the status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Confined {
    /// The Landlock ABI level whose rights are handled.
    pub(crate) landlock_abi: u32,
    /// How many system calls are allowed.
    pub(crate) syscalls: usize,
}

/// Confines the process for good. Call it while there is one thread: others would stay free.
pub(crate) fn confine(
    service: &'static str,
    profile: &Profile,
    boot: &BootConfig,
    state_dir: &Path,
) -> Result<Confined, ServiceError> {
    let invalid = |source| ServiceError::Profile { service, source };
    let layer = |layer: &'static str, why: String| ServiceError::Layer { layer, why };
    nix::sys::prctl::set_no_new_privs().map_err(|errno| layer("no_new_privs", errno.to_string()))?;

    let mut paths = vec![(state_dir.to_owned(), Access::Write, false)];
    for grant in &profile.paths {
        if let Some(path) = grant.place(&boot.layout, boot.agents_cgroup.as_ref()).map_err(invalid)? {
            paths.push((path, grant.access, grant.optional));
        }
    }
    let abi = landlock_abi().min(NEWEST_ABI);
    restrict_paths(abi, &paths, profile)?;

    let filter = filter(profile).map_err(|error| match error {
        FilterError::Profile(source) => invalid(source),
        FilterError::Seccomp(error) => layer("seccomp", error.to_string()),
    })?;
    filter.load().map_err(|error| layer("seccomp", error.to_string()))?;
    Ok(Confined { landlock_abi: abi, syscalls: profile.syscalls.len() })
}

/// Confines a helper of a service for good: to the system calls of these profiles and no others, to no path, to no port,
/// to signals for what it has made itself. Call it while there is one thread.
///
/// # Errors
/// Which layer could not be put in force.
pub fn confine_helper(name: &'static str, profiles: &[&str]) -> Result<(), ServiceError> {
    helper(name, profiles, &[])
}

/// The same with one directory below which it may read and write.
///
/// # Errors
/// Which layer could not be put in force.
pub fn confine_helper_in(name: &'static str, profiles: &[&str], dir: &Path) -> Result<(), ServiceError> {
    helper(name, profiles, &[(dir.to_owned(), Access::Write, false)])
}

fn helper(
    name: &'static str,
    profiles: &[&str],
    paths: &[(PathBuf, Access, bool)],
) -> Result<(), ServiceError> {
    let invalid = |source| ServiceError::Profile { service: name, source };
    let layer = |layer: &'static str, why: String| ServiceError::Layer { layer, why };
    let mut whole = Profile::parse("{}").map_err(invalid)?;
    for text in profiles {
        whole.syscalls.extend(Profile::parse(text).map_err(invalid)?.syscalls);
    }
    nix::sys::prctl::set_no_new_privs().map_err(|errno| layer("no_new_privs", errno.to_string()))?;
    restrict_paths(landlock_abi().min(NEWEST_ABI), paths, &whole)?;
    let filter = filter(&whole).map_err(|error| match error {
        FilterError::Profile(source) => invalid(source),
        FilterError::Seccomp(error) => layer("seccomp", error.to_string()),
    })?;
    filter.load().map_err(|error| layer("seccomp", error.to_string()))
}

fn restrict_paths(
    abi: u32,
    paths: &[(PathBuf, Access, bool)],
    profile: &Profile,
) -> Result<(), ServiceError> {
    let failed = |why: String| ServiceError::Layer { layer: "landlock", why };
    if abi == 0 {
        return Err(failed(
            "this kernel has no Landlock, or it is not switched on (lsm=landlock)".to_owned(),
        ));
    }
    let level = ABI::from(i32::try_from(abi).unwrap_or(0));
    let ruleset = || -> Result<_, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(level))?;
        if abi >= 4 {
            // No rule allows any TCP port; what is not handled is not held.
            let held = AccessNet::from_all(level);
            let held = if profile.network.is_some() { held & !AccessNet::ConnectTcp } else { held };
            let held = if profile.listens.is_some() { held & !AccessNet::BindTcp } else { held };
            if !held.is_empty() {
                ruleset = ruleset.handle_access(held)?;
            }
        }
        if abi >= 6 {
            ruleset = ruleset.scope(Scope::AbstractUnixSocket)?;
            if profile.signals.is_none() {
                ruleset = ruleset.scope(Scope::Signal)?;
            }
        }
        ruleset.create()
    };
    let mut ruleset = ruleset().map_err(|error| failed(error.to_string()))?;
    for (path, access, optional) in paths {
        let Some(fd) = open(path, *optional)? else { continue };
        let rights = rights(level, *access, !path.is_dir());
        ruleset = ruleset
            .add_rule(PathBeneath::new(fd, rights))
            .map_err(|error| ServiceError::GrantedPath { path: path.clone(), why: error.to_string() })?;
    }
    let status = ruleset.restrict_self().map_err(|error| failed(error.to_string()))?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(failed(format!("the kernel enforces it only in part: {:?}", status.ruleset)));
    }
    Ok(())
}

fn open(path: &Path, optional: bool) -> Result<Option<PathFd>, ServiceError> {
    match PathFd::new(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(PathFdError::OpenCall { source, .. }) if optional && source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(ServiceError::GrantedPath { path: path.to_owned(), why: error.to_string() }),
    }
}

/// Never `Execute`, and no new device nodes, sockets or pipes: a service starts no program.
fn rights(level: ABI, access: Access, file: bool) -> BitFlags<AccessFs> {
    let mut rights = AccessFs::ReadFile | AccessFs::ReadDir;
    if access == Access::Write {
        rights |= AccessFs::WriteFile
            | AccessFs::RemoveDir
            | AccessFs::RemoveFile
            | AccessFs::MakeDir
            | AccessFs::MakeReg
            | AccessFs::Refer
            | AccessFs::Truncate;
    }
    if file {
        rights &= AccessFs::from_file(level);
    }
    rights & AccessFs::from_all(level)
}

pub(crate) enum FilterError {
    Profile(ProfileError),
    Seccomp(SeccompError),
}

impl From<SeccompError> for FilterError {
    fn from(error: SeccompError) -> Self {
        Self::Seccomp(error)
    }
}

/// The filter of a profile: what is not in it is answered with `EPERM`, foreign architectures with death.
pub(crate) fn filter(profile: &Profile) -> Result<ScmpFilterContext, FilterError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(Errno::EPERM as i32))?;
    filter.set_act_badarch(ScmpAction::KillProcess)?;
    filter.set_ctl_nnp(false)?;
    // A binary tree of the calls keeps the cost of each one low.
    filter.set_ctl_optimize(2)?;
    // The C library falls back to clone(2), whose flags a filter can see.
    filter.add_rule(ScmpAction::Errno(Errno::ENOSYS as i32), syscall("clone3")?)?;
    for line in &profile.syscalls {
        let number = syscall(&line.name)?;
        if line.args.is_empty() {
            filter.add_rule(ScmpAction::Allow, number)?;
        } else {
            filter.add_rule_conditional(ScmpAction::Allow, number, &conditions(line)?)?;
        }
    }
    Ok(filter)
}

fn syscall(name: &str) -> Result<ScmpSyscall, FilterError> {
    ScmpSyscall::from_name(name)
        .map_err(|_| FilterError::Profile(ProfileError::UnknownSyscall(name.to_owned())))
}

fn conditions(line: &Syscall) -> Result<Vec<ScmpArgCompare>, FilterError> {
    line.args
        .iter()
        .map(|argument| {
            if argument.index > 5 {
                let error = ProfileError::Argument(line.name.clone(), argument.index);
                return Err(FilterError::Profile(error));
            }
            let op = ScmpCompareOp::MaskedEqual(argument.mask);
            Ok(ScmpArgCompare::new(argument.index, op, argument.value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What a thread under this profile gets that listens.
    fn listens(own: &'static str) -> Result<(), io::ErrorKind> {
        let listen = || {
            let profile = Profile::with_base(own).unwrap();
            nix::sys::prctl::set_no_new_privs().unwrap();
            restrict_paths(landlock_abi().min(NEWEST_ABI), &[], &profile).unwrap();
            filter(&profile).ok().unwrap().load().unwrap();
            TcpListener::bind("127.0.0.1:0").map(drop).map_err(|error| error.kind())
        };
        std::thread::scope(|scope| scope.spawn(listen).join().unwrap())
    }

    #[test]
    fn the_router_listens_and_the_gate_which_binds_too_does_not() {
        assert_eq!(listens(include_str!("../../../services/router/profile.json")), Ok(()));
        let gate = include_str!("../../../services/egress/profile.json");
        assert_eq!(listens(gate), Err(io::ErrorKind::PermissionDenied));
    }
}
