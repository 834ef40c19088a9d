//! Starting a unit's process. PID 1 has one thread, so the child of its clone may allocate.

use crate::cgroup::Group;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid, getpid, setgroups, setpgid, setresgid, setresuid, setsid, tcsetpgrp};
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{CORE_LIMIT, Program, default_signals, exit_now};
use octant_sys::{console, descriptor};
use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::str::FromStr;

/// The soft limit of open descriptors of a unit: two for each of the gate's connections (`OPEN_MAX` there, 16,000) and its
/// listeners inside 1,500 agents. Who uses select(2) would notice only if it opened that many.
const NOFILE: u64 = 1 << 16;

/// A process to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program's path.
    pub(crate) path: CString,
    /// Its arguments, its own name first.
    pub(crate) args: Vec<CString>,
    /// Its environment; `LISTEN_PID` is added when its process id is known.
    pub(crate) env: Vec<CString>,
    /// Standard input, output and error.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// What it inherits from 3 on.
    pub(crate) fds: Vec<BorrowedFd<'a>>,
    /// User and group id.
    pub(crate) uid: u32,
    /// The capabilities that it keeps; `None` for all.
    pub(crate) capabilities: Option<CapsHashSet>,
    /// Its place among sessions and terminals.
    pub(crate) session: Session,
    /// The most open descriptors, where it has a bound of its own.
    pub(crate) nofile: Option<u64>,
    /// The cgroup that it is born in, or enters.
    pub(crate) cgroup: Option<&'a Group>,
}

/// A process's place among sessions and terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// A session of its own, no terminal.
    Own,
    /// A session of its own that controls the terminal on its standard input.
    Terminal,
    /// The session that PID 1 was started in, in the foreground: the job of `octant up`.
    Foreground,
}

/// Which step of a start failed; said in the unit's own output and as the exit code of the child.
const START_FAILED: i32 = 70;

/// The capability of this name, as capabilities(7) writes it without `CAP_`.
#[must_use]
pub(crate) fn capability(name: &str) -> Option<Capability> {
    Capability::from_str(&format!("CAP_{name}")).ok()
}

/// Starts the process and returns its id.
///
/// # Errors
/// What clone3(2) reports. What fails later, in the child, ends it with code 70 and a line in its output.
pub(crate) fn start(launch: &Launch<'_>) -> io::Result<u32> {
    let mut cgroup = launch.cgroup.filter(|group| group.fresh).map(|group| group.directory.as_fd());
    let cloned = match clone3(&CloneArgs { cgroup, ..CloneArgs::new() }) {
        // No clone3 here: a plain fork, whose child enters its group by itself.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) && cgroup.is_some() => {
            cgroup = None;
            clone3(&CloneArgs::new())
        }
        other => other,
    };
    match cloned? {
        Cloned::Parent { pid, pidfd: _closed_here } => Ok(pid),
        Cloned::Child => {
            let (step, error) = match become_unit(launch, cgroup.is_some()) {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            let _nobody_else_to_tell = writeln!(io::stderr(), "cannot be started: {step}: {error}");
            exit_now(START_FAILED)
        }
    }
}

type Step = (&'static str, io::Error);

/// Runs in the child, in this order: what needs privileges comes before they are given up.
fn become_unit(launch: &Launch<'_>, born_in_its_group: bool) -> Result<Infallible, Step> {
    let at = |step: &'static str| move |error: nix::Error| (step, io::Error::from(error));
    // First of all: the handlers that replace PID 1 after a fault must not run here.
    default_signals().map_err(|error| ("signals", error))?;
    if let Some(group) = launch.cgroup.filter(|_| !born_in_its_group) {
        std::fs::write(&group.procs, "0").map_err(|error| ("its cgroup", error))?;
    }
    if launch.session == Session::Foreground {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(at("process group"))?;
    } else {
        setsid().map_err(at("new session"))?;
    }
    place_descriptors(launch).map_err(|error| ("descriptors", error))?;
    // Where standard input is no terminal these two fail, and the program runs without job control.
    let _may_be_no_terminal = match launch.session {
        Session::Own => Ok(()),
        Session::Terminal => console::take_control(&io::stdin().as_fd()),
        Session::Foreground => come_to_the_foreground().map_err(io::Error::from),
    };
    limits(launch.nofile).map_err(at("resource limits"))?;
    // PID 1 is spared by the out-of-memory killer; its children must not be. Raising is always allowed.
    let _best_effort = std::fs::write("/proc/self/oom_score_adj", "0");
    if let Some(keep) = &launch.capabilities {
        give_up(launch.uid, keep)?;
    }
    if launch.uid != 0 {
        nix::sys::prctl::set_no_new_privs().map_err(at("no_new_privs"))?;
    }
    let mut env = launch.env.clone();
    env.extend(CString::new(format!("LISTEN_PID={}", getpid())).ok());
    let program = Program::new(launch.path.clone(), launch.args.clone(), env);
    Err(("execute", program.execute()))
}

fn come_to_the_foreground() -> nix::Result<()> {
    // Asking from the background earns SIGTTOU, unless it is blocked.
    let ttou = SigSet::from_iter([Signal::SIGTTOU]);
    ttou.thread_block()?;
    let taken = tcsetpgrp(io::stdin(), getpid());
    ttou.thread_unblock()?;
    taken
}

fn place_descriptors(launch: &Launch<'_>) -> io::Result<()> {
    let sources: Vec<BorrowedFd<'_>> = launch.stdio.iter().chain(&launch.fds).copied().collect();
    // First out of the way, above everything open, then to their places: a source may stand where another must go.
    let count = i32::try_from(sources.len()).unwrap_or(i32::MAX);
    let above = sources.iter().map(|fd| fd.as_raw_fd()).max().unwrap_or(0).max(count) + 1;
    let mut moved: Vec<OwnedFd> = Vec::with_capacity(sources.len());
    for fd in &sources {
        moved.push(descriptor::copy_above(*fd, above)?);
    }
    for (fd, number) in moved.iter().zip(0..) {
        // The number belongs to the program that is executed next.
        let _handed_on = descriptor::place(fd.as_fd(), number, false)?.into_raw_fd();
    }
    drop(moved);
    descriptor::close_from(count.cast_unsigned())
}

fn limits(nofile: Option<u64>) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, CORE_LIMIT, CORE_LIMIT)?;
    if let Some(most) = nofile {
        return setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, NOFILE.min(hard), hard)
}

fn give_up(uid: u32, keep: &CapsHashSet) -> Result<(), Step> {
    let caps_error =
        |step: &'static str| move |error: caps::errors::CapsError| (step, io::Error::other(error));
    for capability in caps::all() {
        // A capability that this kernel does not know, or that we lack already, is not in the set.
        let held = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if held && !keep.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(caps_error("bounding set"))?;
        }
    }
    if uid != 0 {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        let at = |step: &'static str| move |error: nix::Error| (step, io::Error::from(error));
        nix::sys::prctl::set_keepcaps(!keep.is_empty()).map_err(at("keep capabilities"))?;
        setgroups(&[Gid::from_raw(octant_ids::uid::NOTIFY_GROUP)]).map_err(at("groups"))?;
        setresgid(group, group, group).map_err(at("group id"))?;
        setresuid(user, user, user).map_err(at("user id"))?;
    }
    // What we lack ourselves cannot be given: a container's root has fewer. The unit finds out and says so.
    let held = caps::read(None, CapSet::Permitted).map_err(caps_error("read capabilities"))?;
    let given: CapsHashSet = keep.intersection(&held).copied().collect();
    caps::set(None, CapSet::Effective, &given).map_err(caps_error("effective set"))?;
    caps::set(None, CapSet::Permitted, &given).map_err(caps_error("permitted set"))?;
    let inherited = if uid == 0 { CapsHashSet::new() } else { given };
    caps::set(None, CapSet::Inheritable, &inherited).map_err(caps_error("inheritable set"))?;
    for capability in inherited {
        caps::raise(None, CapSet::Ambient, capability).map_err(caps_error("ambient set"))?;
    }
    Ok(())
}
