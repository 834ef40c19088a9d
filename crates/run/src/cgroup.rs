//! A cgroup for the workstation, below the one that this process is in.
//!
//! Limits need controllers, and a cgroup hands those to its children only while it has no processes of its own: so this
//! process steps aside into a leaf. That works as root, and as a user in a cgroup that was delegated.

use octant_ids::Aid;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How the names of these cgroups begin.
const PREFIX: &str = "octant-run-";
/// What the limits of a workstation are made of.
const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
/// The one for bounds on disks.
const IO: &str = "io";

/// The cgroups of this run, as far as they are there.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Where the spawner makes the workstation's own.
    agents: Option<PathBuf>,
    /// Where this process was, and the leaf that it stepped aside to.
    aside: Option<(PathBuf, PathBuf)>,
    lacking: Option<String>,
}

impl Leaf {
    /// Makes what can be made.
    pub(crate) fn make(aid: &Aid) -> Self {
        let none = |why: String| Self { agents: None, aside: None, lacking: Some(why) };
        let Some(mount) = mounted() else {
            return none("no cgroup v2 hierarchy is mounted to write to".into());
        };
        let Some(own) = own_group() else { return none("this process is in no cgroup v2".into()) };
        let is_root = !mount.join("cgroup.type").exists();
        let base = if is_root { mount } else { mount.join(own.trim_start_matches('/')) };
        remove_abandoned(&base);
        let agents = base.join(format!("{PREFIX}{aid}"));
        if let Err(error) = fs::create_dir(&agents) {
            return none(format!("{}: {error}", agents.display()));
        }
        let mut leaf = Self { agents: Some(agents.clone()), aside: None, lacking: None };
        leaf.lacking = leaf.hand_out(&base, &agents, aid).err();
        leaf
    }

    fn hand_out(&mut self, base: &Path, agents: &Path, aid: &Aid) -> Result<(), String> {
        let there = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
        let absent: Vec<&str> =
            WANTED.into_iter().filter(|name| there.split_whitespace().all(|there| there != *name)).collect();
        if !absent.is_empty() {
            return Err(format!("{} has no controllers {}", base.display(), absent.join(", ")));
        }
        let line = WANTED.map(|name| format!("+{name}")).join(" ");
        let hand = |dir: &Path| fs::write(dir.join("cgroup.subtree_control"), &line);
        let failed = |dir: &Path, error: io::Error| format!("{}: {error}", dir.display());
        match hand(base) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                let aside = base.join(format!("{PREFIX}{aid}-supervisor"));
                fs::create_dir(&aside).map_err(|error| failed(&aside, error))?;
                self.aside = Some((base.to_owned(), aside.clone()));
                fs::write(aside.join("cgroup.procs"), "0").map_err(|error| failed(&aside, error))?;
                hand(base).map_err(|error| failed(base, error))?;
            }
            done => done.map_err(|error| failed(base, error))?,
        }
        hand(agents).map_err(|error| failed(agents, error))?;
        // Only who bounds disks needs it; the spawner says so where it is not there then.
        let io = |dir: &Path| fs::write(dir.join("cgroup.subtree_control"), format!("+{IO}"));
        let _maybe_none = io(base).and_then(|()| io(agents));
        Ok(())
    }

    /// Where the workstation's cgroup is made, if anywhere.
    pub(crate) fn agents(&self) -> Option<&Path> {
        self.agents.as_deref()
    }

    /// What is missing, if something is.
    pub(crate) fn lacking(&self) -> Option<&str> {
        self.lacking.as_deref()
    }

    /// Removes what was made, when the workstation has ended.
    pub(crate) fn remove(&mut self, aid: &Aid) {
        if let Some(agents) = self.agents.take() {
            // The kernel may still be taking the last process out of it.
            for _ in 0..500 {
                let _not_made = fs::remove_dir(agents.join(aid.to_string()));
                match fs::remove_dir(&agents) {
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
        if let Some((base, aside)) = self.aside.take() {
            for name in WANTED.into_iter().chain([IO]) {
                let _in_use_by_others = fs::write(base.join("cgroup.subtree_control"), format!("-{name}"));
            }
            if fs::write(base.join("cgroup.procs"), "0").is_ok() {
                let _best_effort = fs::remove_dir(aside);
            }
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // What a start that failed has left.
        if let Some(agents) = self.agents.take() {
            let _may_be_gone = fs::remove_dir(agents);
        }
    }
}

/// Removes what runs that were killed have left: empty, and old enough not to belong to one that just starts.
fn remove_abandoned(base: &Path) {
    const OLD_MS: u64 = 60_000;
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let dir = entry.path();
        let modified = entry.metadata().and_then(|meta| meta.modified()).ok();
        let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let made_ms = since.and_then(|age| u64::try_from(age.as_millis()).ok());
        let old = made_ms.is_some_and(|made| octant_sys::clock::wall_ms().saturating_sub(made) > OLD_MS);
        if !old || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let below = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        for leaf in below.filter(|path| path.is_dir()) {
            let _in_use = fs::remove_dir(leaf);
        }
        let _in_use = fs::remove_dir(dir);
    }
}

/// Where cgroup v2 is mounted writable.
fn mounted() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (target, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
        (kind == "cgroup2" && options.split(',').any(|option| option == "rw")).then(|| target.into())
    })
}

fn own_group() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}
