//! Agents apart from the machine, from each other, and from how the spawner was started; and each layer worth its place.

use crate::bench::{Bench, STATIC, plan, wait};
use crate::{denied, read_line};
use octant_workstation::Bind;
use octant_workstation::spawner::{Fault, Side};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// Waits for a word in a granted tree, then says what it sees of a mount that was made on it meanwhile, and whether it
/// can change anything below it.
pub(crate) fn look() -> ExitCode {
    println!("looking");
    while !std::fs::exists("/srv/go").unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    println!("later: {:?}", std::fs::read_dir("/srv/later").unwrap().count());
    println!("before: {:?}", std::fs::read_dir("/srv/before").unwrap().count());
    for path in ["/srv/file", "/srv/before/file"] {
        let open = std::fs::OpenOptions::new().write(true).open(path);
        let Ok(file) = std::fs::File::open(path) else {
            println!("{path}: absent");
            continue;
        };
        let changes = [
            open.is_ok(),
            std::fs::write(format!("{path}.new"), "").is_ok(),
            std::fs::remove_file(path).is_ok(),
            std::fs::rename(path, format!("{path}.moved")).is_ok(),
            std::fs::hard_link(path, format!("{path}.link")).is_ok(),
            std::fs::hard_link(path, "/workspace/link").is_ok(),
            std::fs::set_permissions(path, file.metadata().unwrap().permissions()).is_ok(),
            file.set_modified(std::time::UNIX_EPOCH).is_ok(),
            nix::unistd::truncate(path, 0).is_ok(),
        ];
        println!("{path}: {}", changes.iter().filter(|changed| **changed).count());
    }
    ExitCode::SUCCESS
}

/// A tree that is read stays so, and nothing that the host has mounted in it, before or later, is part of it.
pub(crate) fn a_tree_that_is_read_stays_as_it_was_granted() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let dir = PathBuf::from(format!("/var/tmp/octant-spawn-{}", std::process::id()));
    let sub = |name: &str| dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let tmpfs = |at: &std::path::Path| {
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    };
    // Shared, so that everything would spread if anything did; before the spawner takes its own namespace.
    tmpfs(&dir);
    mount(None::<&str>, &dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    for name in ["before", "later"] {
        std::fs::create_dir(sub(name)).unwrap();
    }
    tmpfs(&sub("before"));
    for name in ["file", "before/file"] {
        std::fs::write(sub(name), "x").unwrap();
    }
    let mut bench = Bench::new(None);
    let mut plan = plan(&["look"]);
    plan.binds.push(Bind {
        source: dir.to_str().unwrap().into(),
        target: "/srv".into(),
        write: false,
        exec: false,
    });
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    tmpfs(&sub("later"));
    std::fs::write(sub("later/new"), "x").unwrap();
    std::fs::write(sub("go"), "").unwrap();
    let mut text = String::new();
    std::fs::File::from(output).read_to_string(&mut text).unwrap();
    let code = wait(&spawned);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    drop(bench);
    umount2(&dir, MntFlags::MNT_DETACH).unwrap();
    std::fs::remove_dir(&dir).unwrap();
    let expected = "later: 0\nbefore: 0\n/srv/file: 0\n/srv/before/file: absent\n";
    assert_eq!((code, text.as_str()), (0, expected));
}

/// What the spawner was started with is not the agent's: descriptors, ignored and blocked signals, umask, environment.
pub(crate) fn a_spawner_that_was_started_untidily_makes_tidy_workstations() {
    let _open: Vec<OwnedFd> = (0..50)
        .map(|_| {
            // Without close-on-exec, so each of them is the spawner's too.
            nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())
                .unwrap()
        })
        .collect();
    let mut bench = Bench::started_by(&[
        "env",
        "--ignore-signal=HUP,CHLD,USR1,TERM",
        "--block-signal=INT,USR2,TERM",
        "LD_PRELOAD=",
        "OCTANT_LEFT=over",
        "sh",
        "-c",
        "umask 0; exec \"$@\"",
        "sh",
    ]);
    let before = std::fs::read_dir(format!("/proc/{}/fd", bench.spawner.id())).unwrap().count();
    assert!(before > 50, "the spawner has {before} descriptors");
    let mut plan = plan(&["probe", "pids=64"]);
    if !STATIC {
        plan.program.args.extend(["usr", "lib", "lib64"].map(|name| format!("also={name}")));
    }
    (plan.workspace.bytes, plan.tmp.bytes, plan.limits.fsize) = (128 << 20, 128 << 20, 1 << 30);
    denied(&mut bench, &plan);
}

/// With SIGCHLD ignored the kernel tells nobody of a child's end. Without a shell between, which could set it right.
pub(crate) fn a_spawner_that_ignores_its_children_sees_them_end() {
    let mut bench = Bench::started_by(&["env", "--ignore-signal=CHLD"]);
    assert_eq!(bench.run(&plan(&["exit", "3"])).0, 3);
}

pub(crate) fn the_spawner_keeps_only_what_it_needs() {
    let mut bench = Bench::new(None);
    let of = |bench: &Bench, file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", bench.spawner.id())).unwrap()
    };
    // Nothing that is meant for an agent falls on who makes it: neither limits nor filters, ids, groups or name spaces.
    let state = |bench: &Bench| {
        let kept =
            ["Umask", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn", "NSpid"];
        let status = of(bench, "status");
        let lines = status.lines().filter(|line| kept.iter().any(|key| line.starts_with(key)));
        let spaces = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"]
            .map(|name| std::fs::read_link(format!("/proc/{}/ns/{name}", bench.spawner.id())).unwrap());
        let root = std::fs::read_link(format!("/proc/{}/root", bench.spawner.id())).unwrap();
        let files = ["limits", "cgroup", "mountinfo", "uid_map", "oom_score_adj"].map(|file| of(bench, file));
        (lines.map(str::to_owned).collect::<Vec<_>>(), spaces, root, files)
    };
    let before = state(&bench);
    bench.run(&plan(&["exit", "0"]));
    assert_eq!(state(&bench), before, "the spawner is another after a spawn");
    let mut absent = plan(&[]);
    absent.program.path = "/bin/nothing".into();
    bench.spawn(&absent).unwrap_err();
    assert_eq!(state(&bench), before, "the spawner is another after a spawn that failed");
    let status = of(&bench, "status");
    let field = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, SYS_PTRACE, SYS_ADMIN (linux/capability.h).
    let needed: u64 = [0, 1, 5, 6, 7, 19, 21].iter().map(|bit| 1 << bit).sum();
    assert_eq!(field("CapEff:"), needed);
    assert_eq!(field("CapPrm:"), needed);
    assert_eq!((field("CapBnd:"), field("CapInh:"), field("CapAmb:")), (0, 0, 0));
    assert!(status.contains("NoNewPrivs:\t1"));
}

/// Two hundred at once: no two share a user or a namespace, and all are gone at a word each.
pub(crate) fn two_hundred_agents_are_apart() {
    use std::collections::BTreeSet;
    let mut bench = Bench::new(None);
    let (mut running, mut ranges, mut namespaces) = (Vec::new(), Vec::new(), BTreeSet::new());
    for slot in 0..200 {
        let mut plan = plan(&["sleep"]);
        plan.slot = slot;
        let (spawned, output) = bench.spawn(&plan).unwrap();
        let map = std::fs::read_to_string(format!("/proc/{}/uid_map", spawned.pid)).unwrap();
        let numbers: Vec<u64> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
        ranges.push((numbers[1], numbers[1] + numbers[2]));
        for name in &spawned.report.namespaces {
            assert!(namespaces.insert(name.clone()), "{name:?} is shared");
        }
        running.push((plan, spawned, output));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ranges:?}");
    assert_eq!(namespaces.len(), 200 * 8);
    for (plan, spawned, _output) in &running {
        bench.client.kill(plan.slot, plan.aid).unwrap();
        assert_eq!(wait(spawned), 1000 + 9);
        bench.client.retire(plan.slot, plan.aid).unwrap();
    }
    running.iter().for_each(|row| bench.assert_nothing_is_left(&row.0));
}

/// With one layer left out and nobody noticing, the others still stop every escape.
pub(crate) fn without_any_one_layer_the_others_stop_every_escape() {
    let stage = crate::escape::Stage::new();
    let control = stage.outside();
    assert_eq!(control.matches("got through").count(), crate::escape::ATTEMPTS.len(), "{control}");
    let rows = [
        (Side::Payload, "nothing at all"),
        (Side::Payload, "InstallFilter(profile"),
        (Side::Payload, "InstallFilter(fallbacks"),
        (Side::Payload, "InstallFilter(floor"),
        (Side::Payload, "InstallFilter"),
        (Side::Payload, "Landlock"),
        (Side::Payload, "DropCapabilities"),
        (Side::Payload, "DropBounding"),
        (Side::Payload, "LockSecurebits"),
        (Side::Payload, "NoNewPrivs"),
        (Side::Payload, "CloseFrom"),
        (Side::Payload, "Rlimit"),
        (Side::Reaper, "Write { path: \"/proc/sys/vm"),
        (Side::Reaper, "Write { path: \"/proc/sys/user"),
        (Side::Reaper, "PrivateMounts"),
        (Side::Reaper, "Pivot"),
        (Side::Reaper, "DetachOldRoot"),
        (Side::Network, "ConfineNetwork"),
        (Side::Reaper, "NewSessionKeyring"),
        (Side::Reaper, "Landlock"),
        (Side::Reaper, "InstallFilter"),
        (Side::Reaper, "DropCapabilities"),
    ];
    for (side, text) in rows {
        let mut bench = Bench::new(Some(Fault::Overlook(side, text.into())));
        let mut plan = plan(&["escape"]);
        plan.program.args.extend(stage.args.iter().cloned());
        (plan.workspace.bytes, plan.tmp.bytes) = (64 << 20, 64 << 20);
        match bench.spawn(&plan) {
            // What is left out can keep the program from being found at all.
            Err(error) => {
                println!("# without {side:?} {text}: {error}");
                bench.assert_nothing_is_left(&plan);
            }
            Ok((spawned, output)) => {
                let mut said = String::new();
                std::fs::File::from(output).read_to_string(&mut said).unwrap();
                wait(&spawned);
                bench.client.retire(plan.slot, plan.aid).unwrap();
                let stopped = said.matches("stopped").count();
                assert_eq!(stopped, crate::escape::ATTEMPTS.len(), "without {side:?} {text}:\n{said}");
            }
        }
    }
}
