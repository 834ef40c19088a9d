//! The control groups: one for PID 1, one for each unit, one subtree for agents.
//!
//! On a machine Octant owns the root of the hierarchy. In a namespace or container it uses what it was given: a cgroup
//! v2 mount may stand elsewhere, have no controllers, or be read-only. What is missing is kept and shown; whether an
//! agent may start without it is decided where agents are started.

use crate::resources::Resources;
use octant_api::operator::Used;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The controllers that limits of units and agents are made of.
const WANTED: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// How often, a millisecond apart, a unit's old group is tried to be removed.
const REMOVE_TRIES: u32 = 10;

/// Why a unit does not have a bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoundError {
    /// There is nothing here that could hold it.
    #[error(
        "{field}: there is no cgroup controller {controller} here; take it out of the unit's file, or start Octant with \
         --accept-missing=cgroup"
    )]
    Missing {
        /// The field.
        field: &'static str,
        /// What it needs.
        controller: &'static str,
    },
    /// The kernel does not take it.
    #[error("{file}: {source}")]
    Write {
        /// The group's file.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A unit's group.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its directory.
    pub(crate) directory: OwnedFd,
    /// Where a process enters that could not be born there.
    pub(crate) procs: PathBuf,
    /// Whether a process can be born there.
    pub(crate) fresh: bool,
}

/// The hierarchy as far as it is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cgroups {
    /// Our own top directory; `None` where there is no usable cgroup v2 at all.
    top: Option<PathBuf>,
    /// Where we were when we were started; we go back there when the top directory is removed.
    origin: Option<PathBuf>,
    /// What is missing, for people.
    pub(crate) missing: Vec<String>,
}

impl Cgroups {
    /// Makes the tree below `top`, which is the root of the hierarchy or a directory of our own in it.
    fn make(top: PathBuf, origin: Option<PathBuf>) -> Result<Self, (PathBuf, io::Error)> {
        let in_top = |name: &str| top.join(name);
        for dir in [in_top("init"), in_top("services"), in_top("agents")] {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err((dir, error)),
                _ => {}
            }
        }
        // PID 1 first: a group that has processes of its own may not hand controllers to its children. The kernel waits
        // for every CPU before it moves a process, some ten milliseconds: `octant up` has it born in its place.
        if origin.as_ref() != Some(&in_top("init")) {
            let procs = in_top("init").join("cgroup.procs");
            fs::write(&procs, "0").map_err(|error| (procs, error))?;
        }
        let available = fs::read_to_string(in_top("cgroup.controllers")).unwrap_or_default();
        let (mut absent, mut missing) = (Vec::new(), Vec::new());
        for controller in WANTED {
            if !available.split_ascii_whitespace().any(|name| name == controller) {
                absent.push(controller);
                continue;
            }
            let on = |dir: &Path| fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            let tried = on(&top).and_then(|()| on(&in_top("services"))).and_then(|()| on(&in_top("agents")));
            if let Err(error) = tried {
                missing.push(format!("cgroup controller {controller}: {error}"));
            }
        }
        if !absent.is_empty() {
            missing.push(format!(
                "cgroup v2 controllers {} (the hierarchy here has none of them)",
                absent.join(" ")
            ));
        }
        Ok(Self { top: Some(top), origin, missing })
    }

    /// The hierarchy of a machine, mounted at `/sys/fs/cgroup`.
    ///
    /// # Errors
    /// The path that could not be made or written, and why.
    pub(crate) fn of_machine() -> Result<Self, (PathBuf, io::Error)> {
        Self::make("/sys/fs/cgroup".into(), None)
    }

    /// A subtree `octant-<id>` of whatever cgroup v2 hierarchy is there.
    #[must_use]
    pub(crate) fn of_guest(id: &str) -> Self {
        let none = |why: String| Self { missing: vec![why], ..Self::default() };
        let Some(mount) = mounted() else { return none("no cgroup v2 hierarchy is mounted".into()) };
        let own = own_group().unwrap_or_default();
        let origin = mount.join(own.trim_start_matches('/'));
        if let Some(top) = prepared_top(&origin) {
            let made = Self::make(top, Some(origin));
            return made.unwrap_or_else(|(path, error)| none(format!("{}: {error}", path.display())));
        }
        let top = match make_top(&mount, &origin, id) {
            Ok(top) => top,
            Err((path, error)) => return none(format!("{}: {error}", path.display())),
        };
        Self::make(top, Some(origin))
            .unwrap_or_else(|(path, error)| none(format!("{}: {error}", path.display())))
    }

    /// The tree that a replaced PID 1 had made.
    #[must_use]
    pub(crate) fn resume(top: Option<PathBuf>, origin: Option<PathBuf>, missing: Vec<String>) -> Self {
        Self { top, origin, missing }
    }

    /// Our top directory and where we came from, for [`Cgroups::resume`].
    #[must_use]
    pub(crate) fn saved(&self) -> (Option<PathBuf>, Option<PathBuf>) {
        (self.top.clone(), self.origin.clone())
    }

    /// The subtree in which agents get their groups.
    #[must_use]
    pub(crate) fn agents(&self) -> Option<PathBuf> {
        self.top.as_ref().map(|top| top.join("agents"))
    }

    /// A unit's group, made anew for each start; `None` where there are no groups.
    ///
    /// Anew, because kernels since early 2025 (6.12.14, 6.6.78, 6.1.129) kill at birth what is cloned into a group that
    /// was ever killed by `cgroup.kill`: the fork compares the number of kills of the parent's group with the child's.
    ///
    /// # Errors
    /// What rmdir(2), mkdir(2) or open(2) reports.
    pub(crate) fn open_unit(&self, name: &str) -> io::Result<Option<Group>> {
        let Some(dir) = self.unit_dir(name) else { return Ok(None) };
        let mut fresh = false;
        for _ in 0..REMOVE_TRIES {
            match fs::remove_dir(&dir) {
                // What was killed a moment ago is still on its way out.
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {
                    fresh = true;
                    fs::create_dir(&dir)?;
                    break;
                }
            }
        }
        Ok(Some(Group { directory: File::open(&dir)?.into(), procs: dir.join("cgroup.procs"), fresh }))
    }

    /// Bounds a unit's group, a running one's too.
    ///
    /// # Errors
    /// The first bound that it does not have.
    pub(crate) fn bound(&self, name: &str, resources: &Resources) -> Result<(), BoundError> {
        let dir = self.unit_dir(name);
        let mut first = Ok(());
        for bound in resources.bounds() {
            let file = dir.as_ref().map(|dir| dir.join(bound.file)).filter(|file| file.exists());
            let missing =
                bound.field.map(|field| BoundError::Missing { field, controller: bound.controller });
            let error = match file.map(|file| fs::write(file, &bound.value)) {
                Some(Ok(())) => continue,
                Some(Err(source)) => Some(BoundError::Write { file: bound.file, source }),
                // What is not said needs nothing, and a kernel without swap accounting has no swap to bound.
                None => missing,
            };
            if let (Ok(()), Some(error)) = (&first, error) {
                first = Err(error);
            }
        }
        first
    }

    /// What a unit uses, and its bounds, as far as the kernel counts here.
    #[must_use]
    pub(crate) fn used(&self, name: &str) -> Used {
        let Some(dir) = self.unit_dir(name) else { return Used::default() };
        let number =
            |file: &str| fs::read_to_string(dir.join(file)).ok().and_then(|text| text.trim().parse().ok());
        let count = |file: &str| number(file).and_then(|count: u64| u32::try_from(count).ok());
        Used {
            memory: number("memory.current"),
            memory_max: number("memory.max"),
            pids: count("pids.current"),
            pids_max: count("pids.max"),
        }
    }

    /// Whether the kernel has killed in a unit's group for want of memory since its start, and whether it was at the
    /// group's own bound.
    #[must_use]
    pub(crate) fn out_of_memory(&self, name: &str) -> Option<bool> {
        let events = fs::read_to_string(self.unit_dir(name)?.join("memory.events")).ok()?;
        killed_for_memory(&events)
    }

    /// Kills every process of a unit's group. Without groups nothing is done and `false` is returned.
    ///
    /// # Errors
    /// What the write to `cgroup.kill` reports.
    pub(crate) fn kill_unit(&self, name: &str) -> io::Result<bool> {
        let Some(dir) = self.unit_dir(name) else { return Ok(false) };
        // A kill marks the group for good (see open_unit), so an empty one is left alone.
        let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
        if events.lines().any(|line| line == "populated 0") {
            return Ok(true);
        }
        kill(&dir)
    }

    /// Kills every process of every agent.
    ///
    /// # Errors
    /// What the write to `cgroup.kill` reports.
    pub(crate) fn kill_agents(&self) -> io::Result<bool> {
        self.agents().map_or(Ok(false), |dir| kill(&dir))
    }

    /// Whether a process is in a unit's group.
    #[must_use]
    pub(crate) fn holds(&self, unit: &str, pid: u32) -> bool {
        let Some(dir) = self.unit_dir(unit) else { return false };
        let line = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let Some(group) = v2_path(&line) else { return false };
        // The path is relative to the root of the mount or of the namespace: compare from the end, whole components.
        let mut ours = dir.components().rev();
        Path::new(group)
            .components()
            .rev()
            .take_while(|c| c.as_os_str() != "/")
            .all(|c| ours.next() == Some(c))
            && group.ends_with(&format!("/services/{unit}"))
    }

    /// Removes the tree of a container. Best effort: the kernel removes nothing that still has processes.
    pub(crate) fn remove(&self) {
        let (Some(top), Some(origin)) = (&self.top, &self.origin) else { return };
        for parent in ["services", "agents"] {
            for entry in fs::read_dir(top.join(parent)).into_iter().flatten().flatten() {
                let _may_be_busy = fs::remove_dir(entry.path());
            }
            let _may_be_busy = fs::remove_dir(top.join(parent));
        }
        if origin.parent() == Some(top) {
            return; // We live in it; `octant up`, which made it, removes it.
        }
        for controller in WANTED {
            let _may_be_off = fs::write(top.join("cgroup.subtree_control"), format!("-{controller}"));
        }
        if fs::write(origin.join("cgroup.procs"), "0").is_ok() {
            let _may_be_busy = fs::remove_dir(top.join("init"));
            let _may_be_busy = fs::remove_dir(top);
        }
    }

    fn unit_dir(&self, name: &str) -> Option<PathBuf> {
        self.top.as_ref().map(|top| top.join("services").join(name))
    }
}

/// Our own directory in a hierarchy that is not ours.
fn make_top(mount: &Path, origin: &Path, id: &str) -> Result<PathBuf, (PathBuf, io::Error)> {
    // The true root may have processes and children with controllers at once; any other group may not.
    let base = if mount.join("cgroup.type").exists() { origin } else { mount };
    let top = base.join(format!("{PREFIX}{id}"));
    fs::create_dir(&top).map_err(|error| (top.clone(), error))?;
    for controller in WANTED {
        // Already on, or not ours to switch on: what then fails below is reported there.
        let _may_fail = fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(top)
}

const PREFIX: &str = "octant-";

/// The top directory when we were born in its `init`.
fn prepared_top(origin: &Path) -> Option<PathBuf> {
    let top = origin.parent()?;
    let ours = top.file_name()?.to_string_lossy().starts_with(PREFIX) && origin.ends_with("init");
    ours.then(|| top.to_owned())
}

/// The place in which `octant up` has PID 1 born, and removes when PID 1 is gone.
#[derive(Debug)]
pub(crate) struct Cradle {
    top: PathBuf,
    /// The group that PID 1 is cloned into.
    pub(crate) init: OwnedFd,
}

impl Cradle {
    /// Makes it, where there is a hierarchy that can be written; PID 1 itself says what is missing otherwise.
    pub(crate) fn make(id: &str) -> Option<Self> {
        let mount = mounted()?;
        let origin = mount.join(own_group()?.trim_start_matches('/'));
        let top = make_top(&mount, &origin, id).ok()?;
        top.parent().map(remove_abandoned);
        fs::create_dir(top.join("init")).ok()?;
        let init = File::open(top.join("init")).ok()?.into();
        Some(Self { top, init })
    }

    /// Removes it, once nobody lives in it.
    pub(crate) fn remove(self) {
        remove_tree(&self.top);
    }
}

fn remove_tree(top: &Path) {
    for parent in ["services", "agents", "init"] {
        let dir = top.join(parent);
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _may_be_busy = fs::remove_dir(entry.path());
            }
        }
        let _may_be_missing = fs::remove_dir(dir);
    }
    let _may_be_busy = fs::remove_dir(top);
}

/// Removes the trees of instances that were killed before they could do it themselves: empty, and old enough not to be
/// one that is just being made.
fn remove_abandoned(base: &Path) {
    const OLD: Duration = Duration::from_secs(60);
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let top = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX) && top.join("services").exists();
        let empty =
            fs::read_to_string(top.join("cgroup.events")).is_ok_and(|text| text.contains("populated 0"));
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let made_ms =
            modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|age| age.as_millis());
        let now_ms = u128::from(octant_sys::clock::wall_ms());
        if ours && empty && made_ms.is_some_and(|made| now_ms.saturating_sub(made) > OLD.as_millis()) {
            remove_tree(&top);
        }
    }
}

/// Whether the events of a group tell of a kill for want of memory, and whether its own bound was reached.
fn killed_for_memory(events: &str) -> Option<bool> {
    let count = |name: &str| {
        let mut rows = events.lines().filter_map(|line| line.split_once(' '));
        rows.find(|row| row.0 == name).and_then(|row| row.1.parse::<u64>().ok()).unwrap_or(0)
    };
    (count("oom_kill") > 0).then(|| count("oom") > 0)
}

fn kill(dir: &Path) -> io::Result<bool> {
    match fs::write(dir.join("cgroup.kill"), "1") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where cgroup v2 is mounted writable.
fn mounted() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    find_mount(&mounts).map(PathBuf::from)
}

fn find_mount(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (target, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
        (kind == "cgroup2" && options.split(',').any(|option| option == "rw")).then_some(target)
    })
}

fn own_group() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    v2_path(&text).map(str::to_owned)
}

fn v2_path(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_for_want_of_memory_is_told_from_others() {
        let events =
            |oom, kills| format!("low 0\nhigh 7\nmax 9\noom {oom}\noom_kill {kills}\noom_group_kill 1\n");
        assert_eq!(killed_for_memory(&events(0, 0)), None);
        assert_eq!(killed_for_memory(&events(1, 0)), None, "the allocation failed, and nobody was killed");
        assert_eq!(killed_for_memory(&events(2, 3)), Some(true));
        assert_eq!(killed_for_memory(&events(0, 1)), Some(false), "the machine's memory was full");
        assert_eq!(killed_for_memory(""), None);
    }

    /// A group that is a directory: without controllers, with them, and without a hierarchy at all.
    #[test]
    fn a_bound_that_nothing_here_can_hold_is_named() {
        let top = std::env::temp_dir().join(format!("octant-bounds-{}", std::process::id()));
        let group = top.join("services/web");
        fs::create_dir_all(&group).unwrap();
        let cgroups = Cgroups { top: Some(top.clone()), ..Cgroups::default() };
        let bounds: Resources = toml::from_str("memory_max = \"2MiB\"\npids_max = 9\n").unwrap();
        let why = |cgroups: &Cgroups| cgroups.bound("web", &bounds).unwrap_err().to_string();
        assert!(why(&cgroups).starts_with("memory_max: there is no cgroup controller memory here;"));
        assert!(why(&Cgroups::default()).contains("--accept-missing=cgroup"));
        assert!(cgroups.bound("web", &Resources::default()).is_ok(), "what is not bounded needs nothing");
        for file in ["memory.max", "memory.high", "memory.oom.group", "memory.current", "cpu.weight"] {
            fs::write(group.join(file), "5\n").unwrap();
        }
        assert!(
            why(&cgroups).starts_with("pids_max: there is no cgroup controller pids"),
            "the first one missing"
        );
        fs::write(group.join("pids.max"), "max\n").unwrap();
        assert!(cgroups.bound("web", &bounds).is_ok(), "a kernel without swap is none without the bound");
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        assert_eq!(
            (read("memory.max"), read("memory.oom.group"), read("pids.max")),
            ("2097152".into(), "1".into(), "9".into())
        );
        let used = Used { memory: Some(5), memory_max: Some(2 << 20), pids: None, pids_max: Some(9) };
        assert_eq!(cgroups.used("web"), used);
        cgroups.bound("web", &Resources::default()).unwrap();
        assert_eq!((read("memory.max"), read("memory.oom.group")), ("max".into(), "0".into()), "taken back");
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn only_a_writable_version_2_mount_is_used() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /ro cgroup2 ro,nosuid 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(find_mount(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(find_mount("x /y tmpfs rw 0 0\n\n"), None);
        assert_eq!(v2_path("3:cpu:/\n0::/a/b\n"), Some("/a/b"));
    }
}
