//! What is left of an agent, and agents that are frozen.

use crate::bench::{Bench, agents_cgroup, as_agents, plan, wait};
use crate::read_line;
use octant_ids::uid;
use octant_workstation::{Plan, Step};
use std::path::PathBuf;
use std::process::Command;

/// A spawner that comes while an agent is frozen finds it, and a kill does not wait for it to run.
pub(super) fn a_frozen_agent_is_found_killed_and_retired() {
    let mut bench = Bench::new(None);
    let Some(cgroup) = bench.cgroup.clone() else {
        println!("# skipped: this machine has no cgroup v2");
        return;
    };
    for restart in [false, true] {
        for op in ["kill", "retire"] {
            let plan = plan(&["sleep"]);
            let (spawned, mut output) = bench.spawn(&plan).unwrap();
            read_line(&mut output);
            let leaf = cgroup.join(plan.aid.to_string());
            as_agents(|| std::fs::write(leaf.join("cgroup.freeze"), "1")).unwrap();
            if restart {
                bench.restart();
                assert!(bench.spawn(&self::plan(&["sleep"])).unwrap_err().text.contains("is taken by"));
            }
            if op == "kill" {
                bench.client.kill(plan.slot, plan.aid).unwrap();
            }
            bench.client.retire(plan.slot, plan.aid).unwrap();
            assert_eq!(wait(&spawned), 1000 + 9, "{op}");
            bench.assert_nothing_is_left(&plan);
        }
    }
}

/// Runs a program of the host until it is dropped.
struct Planted(std::process::Child);

impl Planted {
    fn new(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is planted, which goes when this is dropped.
type Plant<'a> = &'a dyn Fn(&Bench, &Plan, u32) -> Box<dyn std::any::Any>;

/// Plants something beside an agent: its retirement is refused with this reason until it is gone.
fn refuse(bench: &mut Bench, plant: Plant<'_>, why: &str) {
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    let planted = plant(bench, &plan, spawned.pid);
    for _ in 0..2 {
        let error = bench.client.retire(plan.slot, plan.aid).expect_err(why);
        assert!(error.step == Step::Remove && error.text.contains(why), "{why}: {error}");
    }
    assert!(bench.spawn(&crate::bench::plan(&["sleep"])).unwrap_err().text.contains("is taken by"), "{why}");
    drop(planted);
    assert_eq!(bench.client.retire(plan.slot, plan.aid).unwrap(), 2, "{why}");
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.assert_nothing_is_left(&plan);
}

/// In a guest.
fn let_utilities_run() {
    if nix::unistd::getppid().as_raw() == 1 {
        // A test without some layer has put a workstation's list into the guest's own root, where no utility runs then.
        let _there_or_not = std::fs::remove_file("/etc/octant/applets");
    }
}

/// Each kind of residue in turn: the retirement names it, keeps the slot, and works when it is gone.
pub(super) fn what_is_left_of_an_agent_is_found() {
    use std::os::unix::process::CommandExt;
    let mut bench = Bench::new(None);
    let_utilities_run();
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    };
    if Command::new("sleep").arg("0").status().is_err() {
        println!("# skipped: there is no sleep(1)");
        return;
    }
    refuse(
        &mut bench,
        &|_, plan, _| {
            let user = uid::agent_base(plan.slot).unwrap() + 777;
            Box::new(Planted::new(sleep().uid(user)))
        },
        "has a user or group id of the agent",
    );
    refuse(
        &mut bench,
        &|_, _, pid| {
            let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            // A thread's own namespace, so that the child has it and this program has not.
            let planted = std::thread::spawn(move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                Planted::new(&mut sleep())
            });
            Box::new(planted.join().unwrap())
        },
        "is in the agent's net namespace",
    );
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    }
    refuse(
        &mut bench,
        &|bench, _, pid| {
            let at = bench.dir.join("kept");
            std::fs::write(&at, "").unwrap();
            let from = format!("/proc/{pid}/ns/net");
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some(from.as_str()), &at, None::<&str>, flags, None::<&str>).unwrap();
            Box::new(Mounted(at))
        },
        "keeps the agent's net namespace",
    );
    struct Made(PathBuf);
    impl Drop for Made {
        fn drop(&mut self) {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }
    let Some(cgroup) = agents_cgroup() else { return };
    refuse(
        &mut bench,
        &|_, plan, _| {
            let inner = cgroup.join(plan.aid.to_string()).join("inner");
            std::fs::create_dir(&inner).unwrap();
            Box::new(Made(inner))
        },
        "remove the cgroup leaf",
    );
}
