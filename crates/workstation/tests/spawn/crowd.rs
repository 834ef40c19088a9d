//! What runs inside to be many, and limits, which hold it.

use crate::bench::{Bench, plan, wait};
use crate::read_line;
use octant_workstation::spawner::{Fault, Side};
use std::io::Write;
use std::process::{Command, ExitCode};

/// Starts itself over and over, and every copy does the same.
pub(crate) fn bomb() -> ! {
    println!("started");
    loop {
        // Refused when the limit is reached; then again, so that it is always full.
        let _ = Command::new("/octant").args(["inside", "bomb"]).spawn();
    }
}

/// Leaves a hundred grandchildren behind, then looks whether any of them is a zombie.
pub(crate) fn orphans() -> ExitCode {
    for _ in 0..100 {
        let status = Command::new("/octant").args(["inside", "parent"]).status();
        assert!(status.is_ok_and(|s| s.success()));
    }
    for _ in 0..500 {
        let zombie = std::fs::read_dir("/proc").unwrap().any(|entry| {
            let status = std::fs::read_to_string(entry.unwrap().path().join("status")).unwrap_or_default();
            status.contains("State:\tZ")
        });
        if !zombie {
            println!("no zombies");
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    ExitCode::FAILURE
}

/// Memory beyond the limit kills within the agent, and the limit of processes holds without the per-user one.
pub(crate) fn limits_are_kept() {
    let mut bench = Bench::new(None);
    let controllers =
        bench.cgroup.as_ref().map(|dir| std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap());
    if !controllers.is_some_and(|text| text.contains("memory")) {
        println!("# skipped: this machine has no cgroup v2 controllers");
        return;
    }
    let mut plan = plan(&["eat"]);
    plan.accept_missing.clear();
    (plan.limits.memory_max, plan.limits.memory_high) = (32 << 20, 32 << 20);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    assert_eq!(spawned.report.missing, []);
    let leaf = bench.cgroup.as_ref().unwrap().join(plan.aid.to_string());
    let read = |file: &str| std::fs::read_to_string(leaf.join(file)).unwrap().trim().to_owned();
    assert_eq!(read("memory.max"), (32 << 20).to_string());
    assert_eq!((read("memory.oom.group"), read("pids.max")), ("1".into(), "64".into()));
    assert_eq!((read("cpu.max"), read("cpu.weight")), ("100000 100000".into(), "100".into()));
    read_line(&mut output);
    // The whole group goes, the reaper with it.
    assert_eq!(wait(&spawned), 1000 + 9);
    assert!(
        read("memory.events").lines().any(|line| line == "oom_group_kill 1"),
        "{}",
        read("memory.events")
    );
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

/// The per-user limit usually comes first; without it the cgroup's holds the same bomb.
pub(crate) fn a_fork_bomb_is_held_by_its_cgroup_alone() {
    let forgot = Fault::Overlook(Side::Payload, "Rlimit { resource: RLIMIT_NPROC".into());
    let mut bench = Bench::new(Some(forgot));
    let plan = plan(&["bomb"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    let leaf = bench.cgroup.as_ref().map(|dir| dir.join(plan.aid.to_string()));
    if let Some(leaf) = leaf.filter(|leaf| leaf.join("pids.max").exists()) {
        let refusals = || std::fs::read_to_string(leaf.join("pids.events")).unwrap();
        while refusals().lines().any(|line| line == "max 0") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let number =
            |file: &str| -> u32 { std::fs::read_to_string(leaf.join(file)).unwrap().trim().parse().unwrap() };
        assert!(number("pids.current") <= number("pids.max"));
    } else {
        println!("# skipped: this machine has no pids controller");
    }
    bench.client.retire(plan.slot, plan.aid).unwrap();
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.assert_nothing_is_left(&plan);
}

/// The place where the crash handler of the test says whose crash it was.
const DUMPED: &str = "/tmp/octant-dumped";

/// What the kernel starts for a crash, with the process's number.
pub(crate) fn dumped(pid: &str) -> ExitCode {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(DUMPED).unwrap();
    file.write_all(format!("{pid} ").as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Tries to have a core dump made, and none, and crashes.
pub(crate) fn crash() -> ! {
    use nix::sys::resource::{Resource, setrlimit};
    let _refused_or_ignored = setrlimit(Resource::RLIMIT_CORE, u64::MAX, u64::MAX);
    let _refused_or_ignored = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    std::process::abort()
}

/// A crash handler of the machine is started for a crash outside, and for none inside.
pub(crate) fn a_crash_starts_nothing_outside() {
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    if std::env::var_os(crate::MACHINE).is_none() {
        println!("# the crash handler of this machine is its own; tried in a machine of the test's own");
        return;
    }
    let own = std::env::current_exe().unwrap();
    std::fs::write(PATTERN, format!("|{} dumped %P", own.display())).unwrap();
    let outside = || {
        let mut child = Command::new(&own).args(["inside", "crash"]).spawn().unwrap();
        child.wait().unwrap();
        let said = || std::fs::read_to_string(DUMPED).unwrap_or_default();
        while !said().split(' ').any(|pid| pid == child.id().to_string()) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child.id().to_string()
    };
    let before = outside();
    let mut bench = Bench::new(None);
    assert_eq!(bench.run(&plan(&["crash"])).0, 128 + 6);
    let after = outside();
    let said = std::fs::read_to_string(DUMPED).unwrap();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [before, after]);
    std::fs::write(PATTERN, "core").unwrap();
}
