//! How much memory and how many tasks a program and what it started had at once.

use octant_ids::ByteSize;
use octant_manifest::Resources;
use octant_sys::clock;
use std::collections::BTreeMap;
use std::fs;

/// The pause between two looks, unless a process is about to end.
const PAUSE_NS: u64 = 20_000_000;
/// How many threads are remembered; beyond, all are asked for their process again.
const THREADS_MAX: usize = 1 << 16;
const MIB: u64 = 1 << 20;

/// The most that was seen at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The resident memory of all processes, each at its own highest; what they share counts for each.
    pub memory_bytes: u64,
    /// Their threads.
    pub tasks: u64,
}

impl Usage {
    /// Limits with head room: twice what was seen and a little, since another run may need more and since files in the
    /// workstation's own places are memory too; never more than `most`.
    #[must_use]
    pub fn limits(&self, most: Resources) -> Resources {
        let memory = self.memory_bytes.saturating_mul(2).saturating_add(32 * MIB);
        let memory = memory.checked_next_multiple_of(16 * MIB).unwrap_or(u64::MAX).min(most.memory_max.0);
        Resources {
            memory_max: ByteSize(memory),
            // As in the profiles: an eighth to be slowed down in before the kernel kills.
            memory_high: ByteSize(memory / 8 * 7),
            pids_max: self.tasks.saturating_mul(2).saturating_add(16).min(most.pids_max),
            ..most
        }
    }
}

/// Looks at the processes whose calls are seen.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The process of each thread that made a call.
    processes: BTreeMap<u32, u32>,
    looked_ns: u64,
    pub(crate) most: Usage,
}

impl Meter {
    /// A thread made a call; `last` is whether its process ends with it.
    pub(crate) fn seen(&mut self, thread: u32, last: bool) {
        if !self.processes.contains_key(&thread) {
            if self.processes.len() >= THREADS_MAX {
                self.processes.clear();
            }
            // Who has ended meanwhile is asked again with its next call, which does not come.
            self.processes.extend(status(thread).map(|found| (thread, found.process)));
        }
        let now = clock::monotonic_ns();
        if last || now.saturating_sub(self.looked_ns) >= PAUSE_NS {
            self.looked_ns = now;
            self.look();
        }
    }

    fn look(&mut self) {
        let mut alive: BTreeMap<u32, Status> = BTreeMap::new();
        self.processes.retain(|_, process| {
            let found = alive.get(process).copied().or_else(|| status(*process));
            alive.extend(found.map(|found| (*process, found)));
            found.is_some()
        });
        let memory_bytes = alive.values().map(|found| found.memory_bytes).sum();
        let tasks = alive.values().map(|found| found.threads).sum();
        self.most.memory_bytes = self.most.memory_bytes.max(memory_bytes);
        self.most.tasks = self.most.tasks.max(tasks);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    process: u32,
    memory_bytes: u64,
    threads: u64,
}

fn status(thread: u32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Status {
        process: u32::try_from(number("Tgid:")?).ok()?,
        // A process that has given up its memory has none.
        memory_bytes: number("VmHWM:").unwrap_or(0).saturating_mul(1024),
        threads: number("Threads:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_manifest::{Host, Machine, Outline, Profile};

    fn most() -> Resources {
        let machine = Machine { memory_bytes: 64 << 30, cpus: 4 };
        let host = Host { machine, present: &|_| true };
        Outline::of_profile(Profile::Python, "a", "developer", "ada", &host).resources
    }

    #[test]
    fn limits_have_head_room_and_are_never_above_the_profiles() {
        let most = most();
        let small = Usage { memory_bytes: 10 * MIB, tasks: 3 }.limits(most);
        assert_eq!((small.memory_max.0, small.pids_max), (64 * MIB, 22));
        assert!(small.memory_high < small.memory_max && small.nofile == most.nofile);
        let large = Usage { memory_bytes: u64::MAX, tasks: u64::MAX }.limits(most);
        assert_eq!((large.memory_max, large.pids_max), (most.memory_max, most.pids_max));
    }

    #[test]
    fn a_process_is_counted_once_however_many_threads_make_calls() {
        let mut meter = Meter::default();
        meter.seen(std::process::id(), true);
        let alone = meter.most;
        assert!(alone.memory_bytes > MIB / 4 && alone.tasks > 0, "{alone:?}");
        let own = || fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_owned();
        let ended = std::thread::spawn(own).join().unwrap();
        meter.seen(ended.to_str().unwrap().parse().unwrap(), true);
        assert!(meter.most.memory_bytes < 2 * alone.memory_bytes, "{:?}", meter.most);
        assert_eq!(meter.processes.len(), 1, "who has ended is forgotten");
    }
}
