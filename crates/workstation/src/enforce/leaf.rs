//! The cgroup leaf of a workstation, with its limits.

use super::{Made, Site, get, run};
use crate::disks::{Disk, DiskError};
use crate::kernel::{Call, IO_MAX, Kernel, accepted};
use crate::plan::{Layer, Plan, cpu_files};
use crate::readback::{Disagreement, Role};
use crate::step::{SpawnError, Step};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The agent's cgroup, with its limits in place before anything runs in it.
pub(super) fn make_leaf<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    sources: &[OwnedFd],
    missing: &mut Vec<Layer>,
) -> Made<Option<OwnedFd>> {
    let tolerated = accepted(Layer::Cgroup, &plan.accept_missing, site.accept_missing);
    let Some(parent) = site.agents_cgroup else {
        if !tolerated {
            return Err(SpawnError::refused(
                Step::Cgroup,
                "layer cgroup: there is no cgroup v2 directory for agents",
            ));
        }
        missing.push(Layer::Cgroup);
        return Ok(None);
    };
    // Nothing is made yet for who is refused here.
    let (disks, boundless) = match kernel.disks(plan, sources) {
        Ok(disks) => (disks, false),
        Err(DiskError::Boundless { .. }) if tolerated => (Vec::new(), true),
        Err(error) => return Err(SpawnError::refused(Step::Cgroup, format!("layer cgroup: {error}"))),
    };
    let name = plan.aid.to_string();
    let leaf = get(kernel, Step::Cgroup, Call::MakeLeaf { parent, name: &name })?;
    match limit_leaf(kernel, plan, site, leaf.as_fd(), &disks) {
        Ok(lacking) if (boundless || !lacking.is_empty()) && tolerated => missing.push(Layer::Cgroup),
        Ok(lacking) if lacking.is_empty() => {}
        Ok(lacking) => {
            remove_leaf(kernel, plan, site, Some(leaf));
            let text = format!("layer cgroup: there is no {} here; ", lacking.join(", "))
                + "its controller is not available (`octant doctor` says how to get it)";
            return Err(SpawnError::refused(Step::Cgroup, text));
        }
        Err(error) => {
            remove_leaf(kernel, plan, site, Some(leaf));
            return Err(error);
        }
    }
    Ok(Some(leaf))
}

/// Where the agent's processes connect to is asked of programs in its cgroup. Who has no sockets of the network connects
/// nowhere.
pub(super) fn attach_hooks<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    leaf: Option<BorrowedFd<'_>>,
    missing: &mut Vec<Layer>,
) -> Made<()> {
    if !plan.syscalls.network {
        return Ok(());
    }
    let (leaf, hooks) = match (leaf, site.hooks) {
        (Some(leaf), Ok(hooks)) => (leaf, hooks),
        (Some(_), Err(why)) if !accepted(Layer::Hooks, &plan.accept_missing, site.accept_missing) => {
            return Err(SpawnError::refused(Step::Hooks, format!("layer hooks: {why}")));
        }
        // Without a cgroup, which was accepted, there is nothing to attach them to.
        _ => {
            missing.push(Layer::Hooks);
            return Ok(());
        }
    };
    run(kernel, Step::Hooks, Call::AttachHooks { hooks, leaf })?;
    let attached = kernel.are_attached(hooks, leaf);
    if attached.map_err(|error| SpawnError::failed(Step::ReadBack, "ask for the hooks", &error))? {
        return Ok(());
    }
    let differ = Disagreement {
        role: Role::Payload,
        what: "who is asked where it connects to",
        expected: "the spawner's programs".into(),
        found: "others".into(),
    };
    kernel.verdict(Err(differ)).map_err(|error| SpawnError::refused(Step::ReadBack, error.to_string()))
}

/// Writes the limits; the files that are not there, for want of their controller.
///
/// Written here rather than by cgroups-rs: these are ten one-line files reached through the directory's descriptor,
/// where that crate composes paths from a fixed mount point and knows neither memory.oom.group nor cgroup.kill.
fn limit_leaf<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    leaf: BorrowedFd<'_>,
    disks: &[Disk],
) -> Made<Vec<&'static str>> {
    let limits = &plan.limits;
    let cpu = cpu_files(limits.cpu_quota_percent.into(), limits.cpu_weight.into());
    let files: [(&'static str, String); 5] = [
        ("memory.max", limits.memory_max.to_string()),
        ("memory.high", limits.memory_high.to_string()),
        ("memory.swap.max", "0".into()),
        ("memory.oom.group", "1".into()),
        ("pids.max", limits.pids_max.to_string()),
    ];
    let mut lacking = Vec::new();
    for (file, value) in files.into_iter().chain(cpu) {
        match kernel.call(&Call::Limit { leaf, file, value }) {
            Ok(_) => {}
            // A kernel without swap accounting has no swap to limit either.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && file == "memory.swap.max"
                    && lacking.is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => lacking.push(file),
            Err(error) => return Err(SpawnError::failed(Step::Cgroup, file, &error)),
        }
    }
    for disk in disks {
        let line = disk.line(&limits.io);
        let text = || format!("{IO_MAX} {line}");
        match kernel.call(&Call::LimitDisk { leaf, line: line.clone() }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                lacking.push(IO_MAX);
                break;
            }
            Err(error) => return Err(SpawnError::failed(Step::Cgroup, text(), &error)),
        }
    }
    // `agents` freezes, slows down and kills without asking us: effects that reduce authority never wait.
    for file in ["cgroup.kill", "cgroup.freeze", "cpu.max", "cpu.weight"] {
        match kernel.call(&Call::Give { leaf, file, owner: site.agents_uid }) {
            // The controller is lacking, and that was accepted or is refused by our caller.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.starts_with("cpu.") => {}
            other => drop(other.map_err(|error| SpawnError::failed(Step::Cgroup, file, &error))?),
        }
    }
    Ok(lacking)
}

/// Removes the leaf of a spawn that failed; what keeps it from going is left for `retire` to report.
pub(super) fn remove_leaf<K: Kernel>(kernel: &mut K, plan: &Plan, site: &Site<'_>, leaf: Option<OwnedFd>) {
    if let (Some(parent), Some(leaf)) = (site.agents_cgroup, leaf) {
        drop(leaf);
        let _ = crate::spawner::remove_leaf(kernel, parent, &plan.aid.to_string());
    }
}
