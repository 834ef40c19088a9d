//! The last steps, when no unit has a process any more; and the Emergency.

use crate::config::OnEmergency;
use crate::console::Console;
use crate::mounts;
use crate::spawn::{self, Launch, Session};
use crate::supervisor::{Ending, How};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octant_ids::Exit;
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::exit_now;
use octant_sys::{clock, process};
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long everything else gets between SIGTERM and SIGKILL.
const GRACE_MS: u64 = 500;
/// How long a sync may take. A dead disk must not keep the machine from going down.
const SYNC_WITHIN_MS: u64 = 30_000;
/// How often busy mounts are tried again, and how long is waited between.
const UNMOUNT_TRIES: u32 = 10;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(100);

/// The end of a machine. Does not return unless the kernel refuses to end.
pub(crate) fn end_machine(ending: &Ending, policy: OnEmergency, state: &Path, console: &mut Console) -> Exit {
    end_all_processes(console);
    let how = match (&ending.emergency, policy) {
        (None, _) => ending.how,
        (Some(_), OnEmergency::Poweroff) => How::Poweroff,
        (Some(_), OnEmergency::Reboot) => How::Reboot,
        (Some(_), OnEmergency::Halt) => How::Halt,
        (Some(why), OnEmergency::Shell) => {
            emergency_shell(why, console);
            How::Poweroff
        }
    };
    if let Err(error) = crate::machine::save_seed(state) {
        console.alarm(&format!("random seed: {error}"));
    }
    sync_within(SYNC_WITHIN_MS, console);
    unmount(console);
    console.say(&format!("{how:?}").to_lowercase());
    let mode = match how {
        How::Reboot => RebootMode::RB_AUTOBOOT,
        How::Halt => RebootMode::RB_HALT_SYSTEM,
        How::Poweroff | How::Exit => RebootMode::RB_POWER_OFF,
    };
    let Err(error) = reboot(mode);
    console.alarm(&format!("the kernel refuses to end: {error}"));
    // RB_HALT_SYSTEM does not come back; if the others do, PID 1 must still not end.
    wait_forever()
}

fn wait_forever() -> ! {
    loop {
        while let Ok(Some(_)) = process::reap() {}
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Ends every process that is not PID 1: first politely, then at once.
pub(crate) fn end_all_processes(console: &mut Console) {
    let everybody = Pid::from_raw(-1);
    if kill(everybody, Signal::SIGTERM).is_ok() {
        let deadline = clock::monotonic_ns() + GRACE_MS * 1_000_000;
        while clock::monotonic_ns() < deadline && others_live() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    match kill(everybody, Signal::SIGKILL) {
        Ok(()) => while let Ok(Some(_)) = process::reap() {},
        // ESRCH: nobody is left.
        Err(nix::Error::ESRCH) => {}
        Err(error) => console.alarm(&format!("what is left cannot be killed: {error}")),
    }
}

/// Reaps what has ended; whether anybody is left beside PID 1 and the kernel's own threads, which no signal ends.
fn others_live() -> bool {
    while let Ok(Some(_)) = process::reap() {}
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| *pid > 1).any(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_live_program(&stat))
    })
}

/// proc_pid_stat(5): behind the name in parentheses, which may hold anything, stand state and then five numbers before
/// the flags.
fn is_live_program(stat: &str) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let mut fields = fields.split(' ');
    let dead = matches!(fields.next(), Some("Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    !dead && flags & PF_KTHREAD == 0
}

/// Lets a child do the sync, because a call to a dead disk never returns.
fn sync_within(ms: u64, console: &mut Console) {
    match clone3(&CloneArgs::new()) {
        Ok(Cloned::Child) => {
            nix::unistd::sync();
            exit_now(0)
        }
        Ok(Cloned::Parent { pid, .. }) => {
            let deadline = clock::monotonic_ns() + ms * 1_000_000;
            while clock::monotonic_ns() < deadline {
                match process::reap() {
                    Ok(Some(reaped)) if reaped.pid == pid => return,
                    Ok(_) => std::thread::sleep(Duration::from_millis(1)),
                    Err(error) => return console.alarm(&format!("sync cannot be awaited: {error}")),
                }
            }
            console.alarm(&format!("sync did not finish within {ms} ms; the disk may lack the last changes"));
        }
        Err(error) => {
            console.alarm(&format!("sync runs without a time limit: {error}"));
            nix::unistd::sync();
        }
    }
}

fn unmount(console: &mut Console) {
    let mut busy = Vec::new();
    for attempt in 0..UNMOUNT_TRIES {
        if attempt > 0 {
            std::thread::sleep(UNMOUNT_PAUSE);
        }
        busy = mounts::unmount_all();
        // Our own temporary file systems are in use by ourselves and hold nothing that lasts.
        busy.retain(|line| !["/run:", "/dev/shm:", "/tmp:"].iter().any(|own| line.starts_with(own)));
        if busy.is_empty() {
            break;
        }
    }
    for line in busy {
        console.alarm(&format!("cannot be unmounted: {line}"));
    }
    mounts::detach_all();
}

/// A root shell on the console, as a child: PID 1 stays PID 1, so that the machine can still be ended from it.
fn emergency_shell(why: &str, console: &mut Console) {
    console.alarm(&format!("{why}. A root shell follows; leave it to power off."));
    let terminal = match OpenOptions::new().read(true).write(true).open("/dev/console") {
        Ok(terminal) => terminal,
        Err(error) => return console.alarm(&format!("/dev/console: {error}")),
    };
    let launch = Launch {
        path: c"/proc/self/exe".into(),
        args: vec![c"octant".into(), c"sh".into()],
        env: vec![c"PATH=/bin".into(), c"HOME=/".into(), c"TERM=linux".into()],
        stdio: [terminal.as_fd(); 3],
        fds: Vec::new(),
        uid: 0,
        capabilities: None,
        session: Session::Terminal,
        nofile: None,
        cgroup: None,
    };
    let shell = match spawn::start(&launch) {
        Ok(pid) => pid,
        Err(error) => return console.alarm(&format!("the shell cannot be started: {error}")),
    };
    loop {
        match process::reap() {
            Ok(Some(reaped)) if reaped.pid == shell => return,
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return console.alarm(&format!("the shell cannot be awaited: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_threads_and_zombies_are_not_waited_for() {
        let live = super::is_live_program;
        assert!(live("7 (a) b) S 1 7 7 0 -1 4194560 1 0"));
        assert!(!live("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!live("9 (x) Z 1 7 7 0 -1 4194560 1 0"));
        assert!(live(&std::fs::read_to_string("/proc/self/stat").unwrap()));
    }
}
