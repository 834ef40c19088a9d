//! How processes are scheduled, and their limits: getpriority(2), ioprio_set(2), sched_setscheduler(2), prlimit(2).

use std::io;

/// Whose nice value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A process.
    Process(u32),
    /// A process group.
    Group(u32),
    /// All processes of a user.
    User(u32),
}

impl Target {
    fn parts(self) -> (libc::__priority_which_t, libc::id_t) {
        match self {
            Self::Process(id) => (libc::PRIO_PROCESS, id),
            Self::Group(id) => (libc::PRIO_PGRP, id),
            Self::User(id) => (libc::PRIO_USER, id),
        }
    }
}

fn value(result: libc::c_long) -> io::Result<libc::c_long> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The nice value, the most favourable where there are several processes.
///
/// # Errors
/// What getpriority(2) reports.
pub fn nice(target: Target) -> io::Result<i32> {
    let (which, id) = target.parts();
    // SAFETY: no pointers. The system call itself gives 20 - nice, so -1 is an error and nothing else.
    let kernels = value(unsafe { libc::syscall(libc::SYS_getpriority, which, id) })?;
    Ok(20 - i32::try_from(kernels).unwrap_or(20))
}

/// Sets the nice value.
///
/// # Errors
/// What setpriority(2) reports.
pub fn set_nice(target: Target, nice: i32) -> io::Result<()> {
    let (which, id) = target.parts();
    // SAFETY: no pointers.
    value(unsafe { libc::syscall(libc::SYS_setpriority, which, id, nice) }).map(drop)
}

/// A class and level of input and output (linux/ioprio.h): class 0 none, 1 real time, 2 best effort, 3 idle.
pub type IoPriority = (u8, u8);

const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// The class and level of a process's input and output.
///
/// # Errors
/// What ioprio_get(2) reports.
pub fn io_priority(pid: u32) -> io::Result<IoPriority> {
    // SAFETY: no pointers.
    let both = value(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid) })?;
    let class = u8::try_from(both >> IOPRIO_CLASS_SHIFT & 7).unwrap_or(0);
    Ok((class, u8::try_from(both & 7).unwrap_or(0)))
}

/// Sets the class and level of a process's input and output.
///
/// # Errors
/// What ioprio_set(2) reports.
pub fn set_io_priority(pid: u32, (class, level): IoPriority) -> io::Result<()> {
    let both = libc::c_long::from(class) << IOPRIO_CLASS_SHIFT | libc::c_long::from(level);
    // SAFETY: no pointers.
    value(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, both) }).map(drop)
}

fn own_pid(pid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))
}

/// The scheduling policy and real-time priority of a process.
///
/// # Errors
/// What sched_getscheduler(2) or sched_getparam(2) reports.
pub fn policy(pid: u32) -> io::Result<(i32, i32)> {
    let pid = own_pid(pid)?;
    // SAFETY: no pointers.
    let policy = value(libc::c_long::from(unsafe { libc::sched_getscheduler(pid) }))?;
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: `param` is valid for the write.
    value(libc::c_long::from(unsafe { libc::sched_getparam(pid, &raw mut param) }))?;
    Ok((i32::try_from(policy).unwrap_or(0), param.sched_priority))
}

/// Sets the scheduling policy and real-time priority of a process.
///
/// # Errors
/// What sched_setscheduler(2) reports.
pub fn set_policy(pid: u32, policy: i32, priority: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` lives until the call returns.
    value(libc::c_long::from(unsafe { libc::sched_setscheduler(own_pid(pid)?, policy, &raw const param) }))
        .map(drop)
}

/// The least and the greatest real-time priority of a policy.
///
/// # Errors
/// `EINVAL` for a policy that there is not.
pub fn priorities(policy: i32) -> io::Result<(i32, i32)> {
    // SAFETY: no pointers.
    let least = value(libc::c_long::from(unsafe { libc::sched_get_priority_min(policy) }))?;
    // SAFETY: no pointers.
    let most = value(libc::c_long::from(unsafe { libc::sched_get_priority_max(policy) }))?;
    Ok((i32::try_from(least).unwrap_or(0), i32::try_from(most).unwrap_or(0)))
}

/// A soft and a hard limit; `u64::MAX` is none.
pub type Limit = (u64, u64);

/// A process's limit of a resource (`RLIMIT_*`), and sets a new one when there is one.
///
/// # Errors
/// What prlimit(2) reports.
pub fn limit(pid: u32, resource: u32, new: Option<Limit>) -> io::Result<Limit> {
    let new = new.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard });
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `new` is null or lives until the call returns, `old` is valid for the write.
    value(libc::c_long::from(unsafe { libc::prlimit64(own_pid(pid)?, resource, new, &raw mut old) }))?;
    Ok((old.rlim_cur, old.rlim_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read_back() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        set_nice(Target::Process(pid), 7).unwrap();
        assert_eq!(nice(Target::Process(pid)).unwrap(), 7);
        set_io_priority(pid, (2, 5)).unwrap();
        assert_eq!(io_priority(pid).unwrap(), (2, 5));
        set_policy(pid, libc::SCHED_BATCH, 0).unwrap();
        assert_eq!(policy(pid).unwrap(), (libc::SCHED_BATCH, 0));
        let (_, hard) = limit(pid, libc::RLIMIT_NOFILE, None).unwrap();
        limit(pid, libc::RLIMIT_NOFILE, Some((17, hard))).unwrap();
        assert_eq!(limit(pid, libc::RLIMIT_NOFILE, None).unwrap(), (17, hard));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(nice(Target::Process(u32::MAX)).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
