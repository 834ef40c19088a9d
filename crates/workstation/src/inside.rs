//! The steps inside: what the reaper and the agent's process do between the clone and the agent's first instruction.

use crate::enforce::{GO, Granted, Inside, Made, Prepared, Site, get, run};
use crate::kernel::{Call, Filter, Kernel};
use crate::landlock::Rules;
use crate::plan::{Plan, Proc};
use crate::readback::Role;
use crate::step::{SpawnError, Step};
use crate::users::Users;
use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use octant_ids::uid::AGENT_INSIDE;
use octant_sys::clone::Cloned;
use octant_sys::confine::{CORE_LIMIT, Instruction, exit_now};
use octant_sys::mount::attr;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const EPERM: i32 = Errno::EPERM as i32;
/// The exit code when the agent's program could not be executed, as shells have it.
const CANNOT_EXECUTE: i32 = 126;
/// The descriptor of the channel in the new processes, after standard error.
pub(crate) const CHANNEL: i32 = 3;

/// The life of the reaper, PID 1 of the new PID namespace: composes the workstation around itself, forks the agent,
/// confines itself and reaps until the agent has ended.
pub(crate) fn reaper<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    parts: Inside,
    channel: OwnedFd,
) -> ! {
    let Inside { users, prepared, program, granted } = parts;
    let mut prepared = prepared;
    let own = prepared.terminal.take();
    let terminal = own.as_ref().map(|terminal| terminal.inside.as_fd());
    let (agent, stopped) = match compose(kernel, plan, users, prepared, terminal, channel.as_fd()) {
        Ok(Cloned::Parent { pid, pidfd }) => {
            drop(pidfd);
            (pid, granted.stopped)
        }
        Ok(Cloned::Child) => {
            // From here on this is the agent's process.
            let job = own_job(kernel, terminal);
            let channel = match job.and_then(|()| descriptors(kernel, granted, channel.as_fd())) {
                Ok(channel) => channel,
                Err(error) => give_up(channel.as_fd(), &error),
            };
            // The channel stays open until execve closes it: that is how the spawner learns of the success.
            let error = match confine_payload(kernel, plan, site, users, channel.as_fd()) {
                Ok(()) => SpawnError::failed(Step::Execute, plan.program.path.clone(), &program.execute()),
                Err(error) => error,
            };
            give_up(channel.as_fd(), &error)
        }
        Err(error) => give_up(channel.as_fd(), &error),
    };
    let kept = stopped.as_ref().map(AsFd::as_fd);
    if let Err(error) = confine_reaper(kernel, site, users, kept, channel.as_fd()) {
        give_up(channel.as_fd(), &error)
    }
    drop(channel);
    exit_now(reap(Pid::from_raw(i32::try_from(agent).unwrap_or(i32::MAX)), stopped.as_ref()))
}

/// The steps that need the capabilities of root inside.
pub(crate) fn compose<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    users: Users,
    prepared: Prepared,
    terminal: Option<BorrowedFd<'_>>,
    channel: BorrowedFd<'_>,
) -> Made<Cloned> {
    // Until the id maps are written this process is nobody.
    wait_go(kernel, channel)?;
    // 1. What is written to files of the host's root, which this process still is by its user id until it becomes root
    //    inside, although with no capability outside any more: memory files that can be executed are forbidden in the
    //    new PID namespace, and the clocks of a new time namespace, for the children, start at zero.
    let sysctl = |path: &str, text: &str| Call::Write { path: path.into(), text: text.into() };
    //    Where this process was never root outside, that file is closed to it, which the layer `memfd` says.
    if users.of_root() {
        run(kernel, Step::Sysctl, sysctl("/proc/sys/vm/memfd_noexec", "2"))?;
    }
    run(kernel, Step::Time, Call::NewTimeNamespace)?;
    run(
        kernel,
        Step::Time,
        Call::Write { path: "/proc/self/timens_offsets".into(), text: clocks_at_zero() },
    )?;
    //    Then root inside, with a full set of capabilities over what the new user namespace owns, and over nothing else.
    //    One user has those from the clone on, under its own number.
    if users != Users::One {
        run(kernel, Step::Ids, Call::Become { uids: [0; 3], gid: 0 })?;
    }
    // 2. The parent is PID 1 of the machine (CLONE_PARENT), which never ends; elsewhere it may.
    run(kernel, Step::Parent, Call::DieWithParent)?;
    run(kernel, Step::Session, Call::NewSession)?;
    //    A program that has a terminal shares this session, so that a stop by Ctrl-Z has somebody who sees it.
    if let Some(terminal) = terminal {
        run(kernel, Step::Session, Call::TakeTerminal { terminal })?;
    }
    // 3. What is written through the old root's /proc, while it is there: it means this process's own namespaces.
    run(kernel, Step::Sysctl, sysctl("/proc/sys/user/max_user_namespaces", "0"))?;
    // 4. The new root. Nothing propagates in or out from here on.
    run(kernel, Step::Propagation, Call::PrivateMounts)?;
    let root = prepared.root.as_fd();
    run(kernel, Step::Root, Call::AttachRoot { root })?;
    for tree in &prepared.trees {
        run(kernel, Step::Attach, Call::Attach { tree: tree.fd.as_fd(), root, target: &tree.target })?;
    }
    let proc = new_proc(kernel, plan.proc)?;
    run(kernel, Step::Attach, Call::Attach { tree: proc.as_fd(), root, target: "/proc" })?;
    for mask in &prepared.masks {
        run(kernel, Step::Proc, Call::Attach { tree: mask.fd.as_fd(), root, target: &mask.target })?;
    }
    run(kernel, Step::Pivot, Call::Pivot { root })?;
    run(kernel, Step::Detach, Call::DetachOldRoot)?;
    drop((prepared, proc));
    // 5. Names and keys.
    run(kernel, Step::Hostname, Call::Hostname { name: &plan.aid.to_string() })?;
    run(kernel, Step::Keyring, Call::NewSessionKeyring)?;
    // 6. The agent's process, which inherits all of it and is born into the new clocks.
    kernel.fork().map_err(|error| SpawnError::failed(Step::Fork, "clone3", &error))
}

/// A session of the agent's own without a terminal, or the first job of the reaper's session, which has one.
fn own_job<K: Kernel>(kernel: &mut K, terminal: Option<BorrowedFd<'_>>) -> Made<()> {
    let call = terminal.map_or(Call::NewSession, |terminal| Call::Foreground { terminal });
    run(kernel, Step::Session, call)
}

/// Only one's own user's processes, and nothing else (no /proc/sys, kcore, keys, timer lists) unless masks follow.
fn new_proc<K: Kernel>(kernel: &mut K, proc: Proc) -> Made<OwnedFd> {
    let mut options: Vec<(&CStr, CString)> = vec![(c"hidepid", c"invisible".into())];
    if proc == Proc::Processes {
        options.push((c"subset", c"pid".into()));
    }
    let attributes = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let made = get(kernel, Step::Proc, Call::NewFilesystem { kind: c"proc", options, attributes });
    made.map_err(|error| match (proc, error.errno) {
        (Proc::Machine, EPERM) => SpawnError {
            text: "mount a /proc with facts of the machine, which the kernel refuses where the machine's own is masked, as \
                   in most containers; the profiles minimal and shell need none"
                .into(),
            ..error
        },
        _ => error,
    })
}

/// The agent's process gives up everything, in the order that the kernel demands, and waits for the release.
pub(crate) fn confine_payload<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    users: Users,
    channel: BorrowedFd<'_>,
) -> Made<()> {
    // 1. Limits of each process; pids_max a second time, since every process of the agent has one user.
    let limits = &plan.limits;
    let rlimits = [
        (Resource::RLIMIT_CORE, CORE_LIMIT),
        (Resource::RLIMIT_FSIZE, limits.fsize),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_RTPRIO, 0),
        (Resource::RLIMIT_SIGPENDING, 256),
        (Resource::RLIMIT_NPROC, u64::from(limits.pids_max)),
    ];
    for (resource, limit) in rlimits {
        run(kernel, Step::Rlimits, Call::Rlimit { resource, limit })?;
    }
    // What is made in a person's own directory is for whom it usually is.
    let mask = if plan.workspace_is_bound() { 0o022 } else { 0o077 };
    run(kernel, Step::Environment, Call::Umask { mask })?;
    run(kernel, Step::Signals, Call::DefaultSignals)?;
    // 2. Privileges. The bounding set while CAP_SETPCAP is there, the securebits before the change of user so that
    //    the kernel changes no capability by itself, the rest of the sets last.
    drop_privileges(kernel, users, [AGENT_INSIDE; 3])?;
    // The working directory as the agent's user, so that what it cannot enter is an error here.
    run(kernel, Step::Environment, Call::ChangeDir { path: &plan.program.cwd })?;
    // 3. Landlock before the filters (its calls are in none), descriptors before the filters, filters last.
    run(kernel, Step::Landlock, Call::Landlock(&Rules::of_agent(plan, site.landlock_abi)))?;
    run(kernel, Step::CloseRange, Call::CloseFrom { first: CHANNEL.unsigned_abs() + 1 })?;
    // Until now the numbers below it can all be taken by what came from the spawner, which holds some of each agent.
    let (resource, limit) = (Resource::RLIMIT_NOFILE, limits.nofile);
    run(kernel, Step::Rlimits, Call::Rlimit { resource, limit })?;
    //    Between verdicts that are equally strict the kernel takes, and reports, the one that was installed last.
    run(kernel, Step::Seccomp, filter("profile", &site.filters.profile, true))?;
    run(kernel, Step::Seccomp, filter("fallbacks", &site.filters.fallbacks, false))?;
    run(kernel, Step::Seccomp, filter("floor", &site.filters.floor, true))?;
    // 4. The spawner reads back what all this came to, and only then says go.
    say_ready(kernel, channel, Role::Payload)?;
    wait_go(kernel, channel)
}

/// Standard input, by default from nowhere, the agent's output, and the channel, at their numbers: 0 to 2, and 3 until
/// execve.
fn descriptors<K: Kernel>(kernel: &mut K, granted: Granted, channel: BorrowedFd<'_>) -> Made<OwnedFd> {
    let copy = |fd: BorrowedFd<'_>| {
        // Above every number that is about to be replaced.
        octant_sys::descriptor::copy_above(fd, 64)
            .map_err(|error| SpawnError::failed(Step::Descriptors, "fcntl(F_DUPFD_CLOEXEC)", &error))
    };
    let stdin = match &granted.stdin {
        Some(given) => copy(given.as_fd())?,
        None => copy(get(kernel, Step::Descriptors, Call::OpenNull)?.as_fd())?,
    };
    let high = [stdin, copy(granted.stdout.as_fd())?, copy(granted.stderr.as_fd())?];
    let channel = copy(channel)?;
    // What these owned is closed with everything else by close_range: a number may be taken by then.
    std::mem::forget(granted);
    for (number, fd) in (0..).zip(&high) {
        std::mem::forget(get(
            kernel,
            Step::Descriptors,
            Call::Place { fd: fd.as_fd(), number, close_on_exec: false },
        )?);
    }
    get(kernel, Step::Descriptors, Call::Place { fd: channel.as_fd(), number: CHANNEL, close_on_exec: true })
}

/// What the reaper keeps: nothing but waiting, and signals to its own children.
pub(crate) fn confine_reaper<K: Kernel>(
    kernel: &mut K,
    site: &Site<'_>,
    users: Users,
    stopped: Option<BorrowedFd<'_>>,
    channel: BorrowedFd<'_>,
) -> Made<()> {
    // Every signal waits until `reap` asks for it; none can end PID 1 of the namespace from inside.
    SigSet::all()
        .thread_block()
        .map_err(|error| SpawnError::failed(Step::Signals, "sigprocmask", &error.into()))?;
    run(kernel, Step::Rlimits, Call::Rlimit { resource: Resource::RLIMIT_CORE, limit: CORE_LIMIT })?;
    let effective = users.reaper_inside();
    drop_privileges(kernel, users, [AGENT_INSIDE, effective, effective])?;
    // A change of user clears it (prctl(2)).
    run(kernel, Step::Parent, Call::DieWithParent)?;
    run(kernel, Step::Landlock, Call::Landlock(&Rules::of_reaper(site.landlock_abi)))?;
    let kept: Vec<_> = stopped.into_iter().chain([channel]).collect();
    octant_sys::descriptor::close_all_but(&kept)
        .map_err(|error| SpawnError::failed(Step::CloseRange, "close_range", &error))?;
    run(kernel, Step::Seccomp, filter("reaper", &site.filters.reaper, false))?;
    run(kernel, Step::Seccomp, filter("floor", &site.filters.floor, false))?;
    say_ready(kernel, channel, Role::Reaper)
}

fn drop_privileges<K: Kernel>(kernel: &mut K, users: Users, uids: [u32; 3]) -> Made<()> {
    run(kernel, Step::Bounding, Call::DropBounding)?;
    run(kernel, Step::Securebits, Call::LockSecurebits)?;
    // One user is that user already, and may not change its groups.
    if users != Users::One {
        run(kernel, Step::Ids, Call::Become { uids, gid: AGENT_INSIDE })?;
    }
    run(kernel, Step::Capabilities, Call::DropCapabilities)?;
    run(kernel, Step::Dumpable, Call::NotDumpable)?;
    run(kernel, Step::NoNewPrivs, Call::NoNewPrivs)
}

fn filter<'a>(name: &'static str, program: &'a [Instruction], logged: bool) -> Call<'a> {
    Call::InstallFilter(Filter { name, program, logged })
}

/// The offsets that let the clocks of the new time namespace start at zero: the host's uptime is nobody's business.
fn clocks_at_zero() -> String {
    let second = 1_000_000_000;
    let (monotonic, boottime) =
        (octant_sys::clock::monotonic_ns() / second, octant_sys::clock::boottime_ns() / second);
    format!("monotonic -{monotonic} 0\nboottime -{boottime} 0\n")
}

fn wait_go<K: Kernel>(kernel: &mut K, channel: BorrowedFd<'_>) -> Made<()> {
    let mut buffer = [0; 8];
    let failed = |error: io::Error| SpawnError::failed(Step::Handshake, "wait for the spawner", &error);
    match kernel.receive(channel, &mut buffer, -1).map_err(failed)? {
        (len, _) if buffer.get(..len) == Some(GO) => Ok(()),
        _ => Err(SpawnError::refused(Step::Handshake, "the spawner is gone")),
    }
}

fn say_ready<K: Kernel>(kernel: &mut K, channel: BorrowedFd<'_>, role: Role) -> Made<()> {
    let word = [b'R', u8::from(role == Role::Payload)];
    kernel.send(channel, &word).map_err(|error| SpawnError::failed(Step::Handshake, "say ready", &error))
}

/// Says what failed and ends the process; the spawner kills what is left.
fn give_up(channel: BorrowedFd<'_>, error: &SpawnError) -> ! {
    let mut word = vec![b'F'];
    word.extend(error.step.number().to_le_bytes());
    word.extend(error.errno.to_le_bytes());
    word.extend(error.text.bytes().take(900));
    // If even this fails, the closed channel says it.
    let _ = nix::unistd::write(channel, &word);
    exit_now(CANNOT_EXECUTE)
}

/// Reaps whatever ends, passes signals on to the agent, says on `stopped` when the agent was, and returns the agent's exit
/// code (128 and the signal's number when a signal ended it, as shells have it). The end of this process ends everything
/// inside.
fn reap(agent: Pid, stopped: Option<&OwnedFd>) -> i32 {
    let forwarded = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
    // For the agent's whole job, as a terminal would have it. Its own group has no parent in its session where there is no
    // terminal, so that SIGTSTP would have no effect on it.
    let jobs = [
        (Signal::SIGINT, Signal::SIGINT),
        (Signal::SIGQUIT, Signal::SIGQUIT),
        (Signal::SIGTSTP, Signal::SIGSTOP),
        (Signal::SIGCONT, Signal::SIGCONT),
    ];
    let mut set = SigSet::from(Signal::SIGCHLD);
    set.extend(forwarded);
    set.extend(jobs.map(|(asked, _)| asked));
    loop {
        // Before the first wait too: the agent may have ended before SIGCHLD could be asked for.
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == agent => return code,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == agent => return 128 + signal as i32,
                Ok(WaitStatus::Stopped(pid, _)) if pid == agent => {
                    // Who waits for it may be gone, and the workstation ends with it.
                    let _ = stopped.map(|pipe| nix::unistd::write(pipe, b"s"));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                _ => {}
            }
        }
        match set.wait() {
            Ok(signal) if forwarded.contains(&signal) => {
                // An agent that has just ended cannot be signalled; the next round reaps it.
                let _ = kill(agent, signal);
            }
            Ok(signal) => {
                if let Some((_, job)) = jobs.iter().find(|(asked, _)| *asked == signal) {
                    let _ = kill(Pid::from_raw(-agent.as_raw()), *job);
                }
            }
            Err(_) => {}
        }
    }
}
