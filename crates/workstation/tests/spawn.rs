//! Real workstations, built by a real spawner. Needs root; says so and passes where it is not.
//!
//! This program has a main of its own because it is three things: the test, the spawner that the test starts (which
//! must have one thread), and the program that runs inside, as `/octant`.
#![expect(clippy::print_stdout, reason = "a test harness reports on standard output")]

#[path = "../../../tests/src/probe.rs"]
mod probe;

use octant_api::boot::{BootConfig, Mode};
use octant_ids::{Aid, Layout, uid};
use octant_workstation::spawner::{Fault, Side};
use octant_workstation::{
    Bind, Layer, Limits, Link, Plan, Program, Scratch, SpawnError, Spawned, SpawnerClient, Step, Syscalls,
};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("spawner") => spawner(&args[2..]),
        Some("inside") => inside(&args[2..]),
        _ if std::process::id() == 1 => machine(),
        _ => tests(args.get(1).map_or("", String::as_str)),
    }
}

/// `spawner SOCKET-FD CONFIG-JSON [SIDE CALL-NUMBER | SIDE CALL-TEXT]`
fn spawner(args: &[String]) -> ExitCode {
    let socket = octant_sys::inherit::take(args[0].parse().unwrap()).unwrap();
    let config = BootConfig::from_json(args[1].as_bytes()).unwrap();
    let fault = args.get(3).map(|what| {
        let side = SIDES[args[2].parse::<usize>().unwrap()];
        what.parse().map_or_else(|_| Fault::Forget(side, what.clone()), |call| Fault::Fail(side, call))
    });
    let options = octant_workstation::spawner::Options { socket, config, fault };
    match octant_workstation::spawner::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("# {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the tests execute in a workstation.
fn inside(args: &[String]) -> ExitCode {
    match args.first().map(String::as_str) {
        Some("exit") => ExitCode::from(args[1].parse::<u8>().unwrap()),
        Some("say") => {
            println!("{}", args[1..].join(" "));
            ExitCode::SUCCESS
        }
        Some("probe" | "probe-few") => probe::run(args[1..].iter().cloned()),
        Some("grants") => {
            let old =
                |dir: &str| std::fs::read_to_string(format!("{dir}/old")).unwrap_or_else(|_| "closed".into());
            let new =
                |dir: &str| std::fs::write(format!("{dir}/new"), "new").map_or("read-only", |()| "made");
            print!("written: {}, {}; ", old("/tmp/deep/written"), new("/tmp/deep/written"));
            println!("read: {}; closed: {}, {}", old("/read"), old("/closed"), new("/closed"));
            ExitCode::SUCCESS
        }
        Some("sleep") => {
            println!("sleeping");
            std::thread::sleep(std::time::Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        Some("bomb") => bomb(),
        Some("eat") => {
            println!("eating");
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
            }
        }
        Some("parent") => {
            // Its child outlives it and falls to the reaper.
            let child = Command::new("/octant").args(["inside", "exit", "0"]).spawn();
            ExitCode::from(u8::from(child.is_err()))
        }
        Some("orphans") => orphans(),
        other => panic!("{other:?} is no work"),
    }
}

/// Starts itself over and over, and every copy does the same.
fn bomb() -> ! {
    println!("started");
    loop {
        // Refused when the limit is reached; then again, so that it is always full.
        let _ = Command::new("/octant").args(["inside", "bomb"]).spawn();
    }
}

/// Leaves a hundred grandchildren behind, then looks whether any of them is a zombie.
fn orphans() -> ExitCode {
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

const SIDES: [Side; 3] = [Side::Spawner, Side::Reaper, Side::Payload];

/// As the first process of a virtual machine: mounts what a machine has, with every cgroup controller, runs the tests
/// in a child and powers off. This is where limits are real and where `/` is the kernel's initial root.
fn machine() -> ExitCode {
    use nix::mount::{MsFlags, mount};
    for (kind, at) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"), ("tmpfs", "/run")]
    {
        let _ = std::fs::create_dir(at);
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
    }
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>).unwrap();
    std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +cpu").unwrap();
    let status = Command::new("/init").env("RUST_BACKTRACE", "0").arg("").status();
    println!("# the tests ended with {status:?}");
    nix::unistd::sync();
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

struct Bench {
    dir: PathBuf,
    cgroup: Option<PathBuf>,
    spawner: Child,
    client: SpawnerClient,
}

const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A cgroup v2 directory for the agents of this test, where the machine has one.
fn agents_cgroup() -> Option<PathBuf> {
    let root =
        CGROUPS.iter().find(|root| std::fs::exists(format!("{root}/cgroup.procs")).unwrap_or(false))?;
    let dir = PathBuf::from(root).join(format!("octant-test-{}", std::process::id()));
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return None,
        _ => {}
    }
    // Without controllers here there are none below either; the tests then say what is missing.
    let _ = std::fs::write(dir.join("cgroup.subtree_control"), "+memory +pids +cpu");
    Some(dir)
}

impl Bench {
    fn new(fault: Option<Fault>) -> Self {
        let dir = std::env::temp_dir().join(format!("octant-spawn-{}", std::process::id()));
        let layout = Layout::under(&dir.join("octant"));
        for path in [&layout.etc, &layout.state, &layout.run, &layout.log] {
            std::fs::create_dir_all(path).unwrap();
        }
        let cgroup = agents_cgroup();
        let (spawner, client) = start(&layout, cgroup.clone(), fault);
        Self { dir, cgroup, spawner, client }
    }

    fn restart(&mut self) {
        self.spawner.kill().unwrap();
        self.spawner.wait().unwrap();
        let layout = Layout::under(&self.dir.join("octant"));
        (self.spawner, self.client) = start(&layout, self.cgroup.clone(), None);
    }

    /// No process of the slot, no cgroup leaf, and the slot can be used again.
    fn assert_nothing_is_left(&self, plan: &Plan) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        // What ended during a failed spawn is this process's child (CLONE_PARENT). Not the spawner, which runs.
        while matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
        ) {}
        let base = uid::agent_base(plan.slot).unwrap();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let Ok(status) = std::fs::read_to_string(entry.unwrap().path().join("status")) else { continue };
            let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
            let user: u32 = user.split_whitespace().next().unwrap().parse().unwrap();
            assert!(!(base..base + uid::AGENT_RANGE).contains(&user), "still there:\n{status}");
        }
        if let Some(cgroup) = &self.cgroup {
            assert!(!cgroup.join(plan.aid.to_string()).exists(), "the cgroup leaf is left");
        }
    }

    fn spawn(&mut self, plan: &Plan) -> Result<(Spawned, OwnedFd), SpawnError> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let stderr = write.try_clone().unwrap();
        Ok((self.client.spawn(plan, write, stderr)?, read))
    }

    /// Spawns, waits, retires: exit code, output.
    fn run(&mut self, plan: &Plan) -> (i32, String) {
        let (spawned, output) = self.spawn(plan).unwrap();
        let mut text = String::new();
        std::fs::File::from(output).read_to_string(&mut text).unwrap();
        let code = wait(&spawned);
        self.client.retire(plan.slot, plan.aid).unwrap();
        (code, text)
    }
}

/// Starts a spawner and connects to it as `agents`.
fn start(layout: &Layout, cgroup: Option<PathBuf>, fault: Option<Fault>) -> (Child, SpawnerClient) {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let config = BootConfig {
        layout: layout.clone(),
        boot_id: "0".repeat(32),
        mode: Mode::Namespace,
        operator: 0,
        accept_missing: vec!["cgroup".into()],
        agents_cgroup: cgroup,
        service: serde_json::json!({}),
    };
    // Inherited on purpose, so without close-on-exec.
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    let path = layout.socket("spawner");
    let _ = std::fs::remove_file(&path);
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    std::os::unix::fs::chown(&path, uid::of_service("agents"), None).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("spawner").arg(listener.as_raw_fd().to_string());
    command.arg(String::from_utf8(config.to_json().unwrap()).unwrap());
    if let Some(fault) = fault {
        let (side, what) = match fault {
            Fault::Fail(side, call) => (side, call.to_string()),
            Fault::Forget(side, text) => (side, text),
        };
        command.arg(SIDES.iter().position(|s| *s == side).unwrap().to_string()).arg(what);
    }
    let spawner = command.spawn().unwrap();
    let client = as_agents(|| SpawnerClient::connect(&path).unwrap());
    (spawner, client)
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.spawner.kill().unwrap();
        self.spawner.wait().unwrap();
        let removed = std::fs::remove_dir_all(&self.dir);
        let released = self.cgroup.as_ref().map_or(Ok(()), std::fs::remove_dir);
        if !std::thread::panicking() {
            removed.unwrap();
            released.unwrap();
        }
    }
}

/// The spawner clones with CLONE_PARENT, so this process reaps, as PID 1 does.
fn wait(spawned: &Spawned) -> i32 {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let pid = nix::unistd::Pid::from_raw(spawned.pid.cast_signed());
    match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 1000 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// Does something as the user of `agents`.
fn as_agents<T>(work: impl FnOnce() -> T) -> T {
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(uid::of_service("agents").unwrap())).unwrap();
    let made = work();
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
    made
}

/// Whether this program needs no library.
const STATIC: bool = cfg!(target_feature = "crt-static");

fn link(at: &str, to: &str) -> Link {
    Link { at: at.into(), to: to.into() }
}

/// A plan that executes this very program inside, with the C library's directories where it is not static.
fn plan(args: &[&str]) -> Plan {
    let lib = Bind { source: "/usr/lib".into(), target: "/usr/lib".into(), write: false, exec: true };
    let lib64 = Bind { source: "/usr/lib64".into(), target: "/usr/lib64".into(), write: false, exec: true };
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    random[4..8].copy_from_slice(&COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
    Plan {
        version: octant_workstation::VERSION,
        aid: Aid::new(octant_sys::clock::wall_ms(), random),
        slot: 7,
        program: Program {
            path: "/octant".into(),
            args: std::iter::once("inside").chain(args.iter().copied()).map(str::to_owned).collect(),
            cwd: "/workspace".into(),
            env: vec!["PATH=/bin".into(), "HOME=/workspace".into()],
        },
        octant: true,
        utilities: vec!["ls".into(), "sh".into()],
        binds: if STATIC { vec![] } else { vec![lib, lib64] },
        links: if STATIC { vec![] } else { vec![link("/lib", "usr/lib"), link("/lib64", "usr/lib64")] },
        workspace: Scratch { bytes: 8 << 20, inodes: 256, exec: false },
        tmp: Scratch { bytes: 8 << 20, inodes: 256, exec: false },
        syscalls: Syscalls { profile: "shell".into(), add: vec![] },
        limits: Limits {
            memory_max: 256 << 20,
            memory_high: 224 << 20,
            pids_max: 64,
            cpu_quota_percent: 100,
            cpu_weight: 100,
            nofile: 256,
            fsize: 64 << 20,
        },
        landlock_floor: 1,
        accept_missing: vec![Layer::Cgroup],
    }
}

fn the_exit_code_and_the_output_come_back() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.run(&plan(&["say", "hello"])), (0, "hello\n".into()));
    assert_eq!(bench.run(&plan(&["exit", "42"])).0, 42);
    let mut absent = plan(&[]);
    absent.program.path = "/bin/nothing".into();
    let error = bench.spawn(&absent).unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Execute, 2), "{error}");
    bench.assert_nothing_is_left(&absent);
}

fn the_report_says_what_is_in_force() {
    let mut bench = Bench::new(None);
    let plan = plan(&["exit", "0"]);
    let (spawned, _output) = bench.spawn(&plan).unwrap();
    let report = &spawned.report;
    assert_eq!(report.uid_base, uid::agent_base(plan.slot).unwrap());
    assert_eq!((report.filter_count, report.filters.len()), (2, 64));
    assert_eq!(report.landlock_abi, octant_sys::confine::landlock_abi());
    assert_eq!(report.namespaces.len(), 8);
    assert!(
        report.mounts.iter().any(|m| m.starts_with("/octant ") && m.contains("ro,nosuid,nodev")),
        "{report:?}"
    );
    // Without controllers the layer is missing, and that is said; with them it is not.
    let limited =
        bench.cgroup.as_ref().is_some_and(|dir| dir.join(plan.aid.to_string()).join("memory.max").exists());
    assert_eq!(report.missing.is_empty(), limited);
    wait(&spawned);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

fn a_missing_layer_refuses_the_spawn_unless_both_accept_it() {
    let mut bench = Bench::new(None);
    let mut strict = plan(&["exit", "0"]);
    strict.accept_missing.clear();
    let limited = bench.cgroup.as_ref().is_some_and(|dir| {
        std::fs::read_to_string(dir.join("cgroup.controllers")).is_ok_and(|text| text.contains("memory"))
    });
    if limited {
        println!("# this machine has the controllers: nothing is missing");
    } else {
        let error = bench.spawn(&strict).unwrap_err();
        assert_eq!(error.step, Step::Cgroup, "{error}");
        assert!(error.text.contains("layer cgroup"), "{error}");
        bench.assert_nothing_is_left(&strict);
    }
    let mut floor = plan(&["exit", "0"]);
    floor.landlock_floor = 99;
    assert_eq!(bench.spawn(&floor).unwrap_err().step, Step::Landlock);
}

fn nothing_that_is_not_granted_gets_through() {
    use std::os::linux::net::SocketAddrExt;
    let mut bench = Bench::new(None);
    let name = format!("octant-spawn-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _outside = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let outside = format!("pid={}", std::process::id());
    let mut plan = plan(&["probe", &outside, "pids=64"]);
    if !STATIC {
        plan.program.args.extend(["usr", "lib", "lib64"].map(|name| format!("also={name}")));
    }
    plan.program.args.push(format!("abstract={name}"));
    plan.program.args.push(format!("hidden={}", bench.dir.display()));
    let (code, text) = bench.run(&plan);
    assert_eq!(code, 0, "{}", text.lines().filter(|l| !l.starts_with("ok")).collect::<Vec<_>>().join("\n"));
}

/// The probe itself can fail: with namespaces alone, which is what `unshare -Urpf` gives, most of it gets through.
fn the_probe_fails_where_there_are_only_namespaces() {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["-U", "-r", "-p", "-f", "-m", "--mount-proc", "--"])
        .arg(exe)
        .args(["inside", "probe-few"])
        .output();
    let Ok(output) = output else {
        println!("# skipped: there is no unshare(1)");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = text.lines().filter(|line| line.starts_with("not ok")).count();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(failed > 20, "only {failed} attempts got through:\n{text}");
}

fn a_granted_directory_is_the_agents_as_far_as_its_owner_goes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mut bench = Bench::new(None);
    let owner = 12345;
    let dirs = ["written", "read", "closed"].map(|name| bench.dir.join(name));
    for dir in &dirs {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("old"), "old").unwrap();
        std::fs::set_permissions(dir.join("old"), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(dir.join("old"), Some(owner), Some(owner)).unwrap();
        std::os::unix::fs::chown(dir, Some(owner), Some(owner)).unwrap();
    }
    std::fs::set_permissions(&dirs[2], std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut plan = plan(&["grants"]);
    for (dir, target) in dirs.iter().zip(["/tmp/deep/written", "/read", "/closed"]) {
        let source = dir.to_str().unwrap().to_owned();
        plan.binds.push(Bind {
            source,
            target: target.into(),
            write: target.starts_with("/tmp"),
            exec: false,
        });
    }
    let (code, text) = bench.run(&plan);
    assert_eq!((code, text.as_str()), (0, "written: old, made; read: closed; closed: old, read-only\n"));
    let made = std::fs::metadata(dirs[0].join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (owner, owner), "the host sees the directory's owner");
}

/// Programs as they are on the machine, each under the profile that is named for it.
fn everyday_programs_run_where_there_are_any() {
    let mut bench = Bench::new(None);
    let sh = "/usr/bin/dash";
    let rows: [(&str, &str, &[&str], &str); 5] = [
        (
            "shell",
            sh,
            &["-c", "echo a b | (read x y; echo $y $x) & wait; exec 2>/dev/null; ls /nothing || echo none"],
            "b a\nnone\n",
        ),
        (
            "python",
            "/usr/bin/python3",
            &[
                "-c",
                "import subprocess, json; print(json.dumps(subprocess.run(['/usr/bin/dash', '-c', 'echo x'], capture_output=True).stdout.decode()))",
            ],
            "\"x\\n\"\n",
        ),
        ("node", "/usr/bin/node", &["-e", "setTimeout(() => console.log(6 * 7), 1)"], "42\n"),
        ("compiler", "/usr/bin/git", &["-c", "init.defaultBranch=main", "init", "-q", "x"], ""),
        (
            "compiler",
            sh,
            &["-c", "echo 'int main(void){return 0;}' > a.c && gcc a.c -o a && ./a && echo built"],
            "built\n",
        ),
    ];
    for (profile, program, args, wanted) in rows {
        if STATIC || !std::fs::exists(program).unwrap() {
            println!("# skipped: there is no {program}");
            continue;
        }
        let mut plan = plan(&[]);
        plan.binds = vec![Bind { source: "/usr".into(), target: "/usr".into(), write: false, exec: true }];
        plan.syscalls.profile = profile.into();
        plan.program.path = program.into();
        plan.program.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        plan.program.env = vec!["PATH=/usr/bin".into(), "HOME=/workspace".into(), "TMPDIR=/tmp".into()];
        // Programs that are made here are run here.
        plan.workspace.exec = profile == "compiler";
        assert_eq!(bench.run(&plan), (0, wanted.to_owned()), "{profile} {program}");
    }
}

fn a_signal_reaches_the_agent_and_its_exit_code_says_so() {
    let mut bench = Bench::new(None);
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    octant_sys::confine::signal_pidfd(spawned.pidfd.as_fd(), 15).unwrap();
    assert_eq!(wait(&spawned), 128 + 15);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

fn a_fork_bomb_dies_at_once_and_leaves_nothing() {
    let mut bench = Bench::new(None);
    let plan = plan(&["bomb"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    bench.client.kill(plan.slot, plan.aid).unwrap();
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
    assert!(bench.client.kill(plan.slot, plan.aid).is_err(), "it is retired");
}

/// Memory beyond the limit kills within the agent, and the limit of processes holds without the per-user one.
fn limits_are_kept() {
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

fn orphans_are_reaped_inside() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.run(&plan(&["orphans"])), (0, "no zombies\n".into()));
}

fn agents_are_apart_and_a_slot_is_one_agents() {
    let mut bench = Bench::new(None);
    let (one, mut two) = (plan(&["sleep"]), plan(&["sleep"]));
    let (first, mut output) = bench.spawn(&one).unwrap();
    read_line(&mut output);
    let error = bench.spawn(&two).unwrap_err();
    assert!(error.text.contains("is taken by"), "{error}");
    two.slot = 8;
    (two.aid, two.slot) = (one.aid, 8);
    assert!(bench.spawn(&two).unwrap_err().text.contains("exists"));
    two.aid = plan(&[]).aid;
    let (second, mut output) = bench.spawn(&two).unwrap();
    read_line(&mut output);
    let shared: Vec<_> =
        first.report.namespaces.iter().filter(|ns| second.report.namespaces.contains(ns)).collect();
    assert!(shared.is_empty(), "{shared:?}");
    assert_ne!(first.report.uid_base, second.report.uid_base);
    for (spawned, plan) in [(first, one), (second, two)] {
        assert!(bench.client.kill(plan.slot, Aid::new(1, [1; 10])).is_err(), "another agent's name");
        bench.client.retire(plan.slot, plan.aid).unwrap();
        assert_eq!(wait(&spawned), 1000 + 9);
        bench.assert_nothing_is_left(&plan);
    }
}

fn what_a_hostile_caller_asks_is_refused() {
    let mut bench = Bench::new(None);
    let data = bench.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(bench.dir.join("octant/state"), data.join("link")).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let sources = [
        "/".to_owned(),
        "/proc".into(),
        "/sys/kernel".into(),
        "/dev".into(),
        "/dev/null".into(),
        text(bench.dir.join("octant/state")),
        text(bench.dir.join("octant")),
        text(bench.dir.clone()),
        text(data.join("link")),
        text(data.join("missing")),
    ];
    for source in sources {
        let mut plan = plan(&["exit", "0"]);
        plan.binds.push(Bind { source: source.clone(), target: "/srv".into(), write: true, exec: false });
        let error = bench.spawn(&plan).unwrap_err();
        assert_eq!(error.step, Step::Sources, "{source}: {error}");
        bench.assert_nothing_is_left(&plan);
    }
    for name in ["mount", "bpf", "io_uring_setup", "clone3", "socket", "ptrace", "no_such_call"] {
        let mut plan = plan(&["exit", "0"]);
        plan.syscalls.add.push(name.into());
        assert_eq!(bench.spawn(&plan).unwrap_err().step, Step::Filter, "{name}");
    }
    // Output that is no pipe: a socket could carry descriptors in.
    let plan = plan(&["exit", "0"]);
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = bench.client.spawn(&plan, a.into(), b.into()).unwrap_err();
    assert_eq!(error.step, Step::Request, "{error}");
    // Anybody else, root included, is not answered at all.
    let mut root =
        SpawnerClient::connect(&Layout::under(&bench.dir.join("octant")).socket("spawner")).unwrap();
    assert!(root.retire(plan.slot, plan.aid).is_err());
    // The spawner still works.
    assert_eq!(bench.run(&plan).0, 0);
}

fn a_new_spawner_knows_the_agents_of_the_old_one() {
    let mut bench = Bench::new(None);
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    bench.restart();
    let mut other = self::plan(&["exit", "0"]);
    assert!(bench.spawn(&other).unwrap_err().text.contains("is taken by"), "the slot is free");
    other.slot = 9;
    assert_eq!(bench.run(&other).0, 0);
    if bench.cgroup.is_some() {
        bench.client.retire(plan.slot, plan.aid).unwrap();
    } else {
        octant_sys::confine::signal_pidfd(spawned.pidfd.as_fd(), 9).unwrap();
    }
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.assert_nothing_is_left(&plan);
    // One that ended while there was no spawner leaves its leaf, and the next spawner removes it.
    let plan = self::plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    octant_sys::confine::signal_pidfd(spawned.pidfd.as_fd(), 9).unwrap();
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.restart();
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

fn agents_can_freeze_and_kill_without_the_spawner() {
    let mut bench = Bench::new(None);
    let Some(cgroup) = bench.cgroup.clone() else {
        println!("# skipped: this machine has no cgroup v2");
        return;
    };
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    let leaf = cgroup.join(plan.aid.to_string());
    let frozen = |wanted: &str| {
        let line = format!("frozen {wanted}");
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            std::fs::read_to_string(leaf.join("cgroup.events")).unwrap().lines().any(|l| l == line)
        })
    };
    as_agents(|| std::fs::write(leaf.join("cgroup.freeze"), "1")).unwrap();
    assert!(frozen("1"));
    as_agents(|| std::fs::write(leaf.join("cgroup.freeze"), "0")).unwrap();
    assert!(frozen("0"));
    assert!(
        as_agents(|| std::fs::write(leaf.join("cgroup.procs"), "0")).is_err(),
        "agents can enter the leaf"
    );
    as_agents(|| std::fs::write(leaf.join("cgroup.kill"), "1")).unwrap();
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

fn the_spawner_keeps_only_what_it_needs() {
    let mut bench = Bench::new(None);
    bench.run(&plan(&["exit", "0"]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.spawner.id())).unwrap();
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

fn many_spawns_leave_nothing() {
    let mut bench = Bench::new(None);
    let open = |bench: &Bench| std::fs::read_dir(format!("/proc/{}/fd", bench.spawner.id())).unwrap().count();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    bench.run(&plan(&["exit", "0"]));
    let before = (open(&bench), mounts());
    for i in 0..50 {
        let plan = plan(&["exit", "3"]);
        assert_eq!(bench.run(&plan).0, 3, "round {i}");
        bench.assert_nothing_is_left(&plan);
    }
    assert_eq!((open(&bench), mounts()), before);
}

/// Fails each call to the kernel in turn, in the spawner and in the new processes alike: the error names the step,
/// the agent's program never runs, nothing is left.
fn every_step_can_fail_and_then_nothing_runs() {
    let mut steps = Vec::new();
    for side in SIDES {
        for call in 1..400 {
            let mut bench = Bench::new(Some(Fault::Fail(side, call)));
            let plan = plan(&["say", "ran"]);
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let stderr = write.try_clone().unwrap();
            let error = match bench.client.spawn(&plan, write, stderr) {
                Ok(spawned) => {
                    // There are no more calls than that.
                    bench.client.retire(plan.slot, plan.aid).unwrap();
                    wait(&spawned);
                    break;
                }
                Err(error) => error,
            };
            let mut text = String::new();
            std::fs::File::from(read).read_to_string(&mut text).unwrap();
            // The last call of all is the spawner's wait for execve; what runs by then is killed.
            let last = (side, error.step) == (Side::Spawner, Step::Handshake);
            assert!(text.is_empty() || last, "{side:?} call {call} failed ({error}) and the program ran");
            bench.assert_nothing_is_left(&plan);
            if !steps.contains(&error.step) {
                steps.push(error.step);
            }
        }
    }
    let names: Vec<&str> = steps.iter().map(|step| step.name()).collect();
    println!("# failed in turn: {}", names.join(" "));
    // Not among them: what is no call to the kernel, and what only the kernel can fail.
    let other =
        [Step::Request, Step::Check, Step::Sources, Step::Filter, Step::Channel, Step::Execute, Step::Remove];
    let missed: Vec<&Step> =
        Step::ALL.iter().filter(|step| !steps.contains(step) && !other.contains(step)).collect();
    assert!(missed.is_empty(), "never failed: {missed:?}");
}

/// Leaves out one call at a time: the read-back refuses the spawn, or the probe finds it out. So neither of them is
/// there for show, and each layer is one that something would miss.
fn what_is_left_out_is_noticed() {
    const REFUSED: &str = "";
    let (reaper, payload) = (Side::Reaper, Side::Payload);
    // Not here, because another layer hides it: no_new_privs (Landlock's crate sets it too), the session keyring and
    // max_user_namespaces (the floor denies their calls), dumpable (execve sets it again).
    let rows = [
        (reaper, "Write { path: \"/proc/sys/vm", "memory files cannot be made executable"),
        (reaper, "Write { path: \"/proc/self/timens", "the clocks do not tell"),
        (reaper, "NewTimeNamespace", REFUSED),
        (reaper, "AttachRoot", REFUSED),
        (reaper, "Attach {", REFUSED),
        (reaper, "Pivot", REFUSED),
        (reaper, "DetachOldRoot", REFUSED),
        (reaper, "Hostname", "the host name is the agent's"),
        (reaper, "DropBounding", REFUSED),
        (reaper, "Become { uids: [1000", REFUSED),
        (reaper, "DropCapabilities", REFUSED),
        (reaper, "InstallFilter(reaper", REFUSED),
        (reaper, "InstallFilter(floor", REFUSED),
        (payload, "NewSession", "the agent leads its session"),
        (payload, "Place {", REFUSED),
        (payload, "Rlimit { resource: RLIMIT_MEMLOCK", "no core dump, no locked memory"),
        (payload, "Umask", "umask, signal mask and dispositions"),
        (payload, "DropBounding", REFUSED),
        (payload, "LockSecurebits", "securebits are locked"),
        (payload, "Become", REFUSED),
        (payload, "DropCapabilities", REFUSED),
        (payload, "ChangeDir", "the environment is the one laid out"),
        (payload, "Landlock", "Landlock is in force"),
        (payload, "CloseFrom", REFUSED),
        (payload, "InstallFilter(profile", REFUSED),
        (payload, "InstallFilter(floor", REFUSED),
    ];
    for (side, text, noticed) in rows {
        let mut bench = Bench::new(Some(Fault::Forget(side, text.into())));
        let mut plan = plan(&["probe", "pids=64"]);
        // The largest profile, so that no system call's absence hides the layer in question.
        plan.syscalls.profile = "compiler".into();
        let (spawned, output) = match bench.spawn(&plan) {
            Err(error) => {
                assert_eq!(noticed, REFUSED, "{side:?} without {text}: {error}");
                bench.assert_nothing_is_left(&plan);
                continue;
            }
            Ok(made) => made,
        };
        let mut tap = String::new();
        std::fs::File::from(output).read_to_string(&mut tap).unwrap();
        wait(&spawned);
        bench.client.retire(plan.slot, plan.aid).unwrap();
        assert_ne!(noticed, REFUSED, "{side:?} without {text} runs");
        let found = tap.lines().any(|line| line.starts_with("not ok") && line.contains(noticed));
        assert!(found, "{side:?} without {text} is not noticed:\n{tap}");
    }
}

fn a_spawn_is_not_slower_than_twice_bwrap() {
    let mut bench = Bench::new(None);
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..40 {
        let plan = plan(&["exit", "0"]);
        let start = octant_sys::clock::monotonic_ns();
        let (spawned, _output) = bench.spawn(&plan).unwrap();
        ours.push(octant_sys::clock::monotonic_ns() - start);
        wait(&spawned);
        bench.client.retire(plan.slot, plan.aid).unwrap();
        let start = octant_sys::clock::monotonic_ns();
        let exe = std::env::current_exe().unwrap();
        let bwrap = Command::new("bwrap")
            .args([
                "--unshare-all",
                "--die-with-parent",
                "--ro-bind",
                "/usr",
                "/usr",
                "--symlink",
                "usr/lib",
                "/lib",
            ])
            .args(["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
            .arg("--ro-bind")
            .arg(&exe)
            .args(["/octant", "/octant", "inside", "exit", "0"])
            .status();
        if bwrap.is_ok() {
            theirs.push(octant_sys::clock::monotonic_ns() - start);
        }
    }
    let median = |times: &mut Vec<u64>| {
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0, |ns| ns / 1000)
    };
    // Printed and not asserted: how long anything takes on a busy machine proves nothing.
    println!(
        "# spawn to exec {} us; bwrap, start to end of the same program {} us",
        median(&mut ours),
        median(&mut theirs)
    );
}

/// A test's name and its body.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("the_exit_code_and_the_output_come_back", the_exit_code_and_the_output_come_back),
    ("the_report_says_what_is_in_force", the_report_says_what_is_in_force),
    (
        "a_missing_layer_refuses_the_spawn_unless_both_accept_it",
        a_missing_layer_refuses_the_spawn_unless_both_accept_it,
    ),
    ("nothing_that_is_not_granted_gets_through", nothing_that_is_not_granted_gets_through),
    ("the_probe_fails_where_there_are_only_namespaces", the_probe_fails_where_there_are_only_namespaces),
    (
        "a_granted_directory_is_the_agents_as_far_as_its_owner_goes",
        a_granted_directory_is_the_agents_as_far_as_its_owner_goes,
    ),
    ("everyday_programs_run_where_there_are_any", everyday_programs_run_where_there_are_any),
    (
        "a_signal_reaches_the_agent_and_its_exit_code_says_so",
        a_signal_reaches_the_agent_and_its_exit_code_says_so,
    ),
    ("a_fork_bomb_dies_at_once_and_leaves_nothing", a_fork_bomb_dies_at_once_and_leaves_nothing),
    ("limits_are_kept", limits_are_kept),
    ("orphans_are_reaped_inside", orphans_are_reaped_inside),
    ("agents_are_apart_and_a_slot_is_one_agents", agents_are_apart_and_a_slot_is_one_agents),
    ("what_a_hostile_caller_asks_is_refused", what_a_hostile_caller_asks_is_refused),
    ("a_new_spawner_knows_the_agents_of_the_old_one", a_new_spawner_knows_the_agents_of_the_old_one),
    ("agents_can_freeze_and_kill_without_the_spawner", agents_can_freeze_and_kill_without_the_spawner),
    ("the_spawner_keeps_only_what_it_needs", the_spawner_keeps_only_what_it_needs),
    ("many_spawns_leave_nothing", many_spawns_leave_nothing),
    ("every_step_can_fail_and_then_nothing_runs", every_step_can_fail_and_then_nothing_runs),
    ("what_is_left_out_is_noticed", what_is_left_out_is_noticed),
    ("a_spawn_is_not_slower_than_twice_bwrap", a_spawn_is_not_slower_than_twice_bwrap),
];

/// Reads up to the first line's end: the program inside says so when it is under way.
fn read_line(output: &mut OwnedFd) {
    let mut byte = [0];
    while nix::unistd::read(&mut *output, &mut byte).unwrap() == 1 && byte[0] != b'\n' {}
}

fn tests(filter: &str) -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        println!("1..0 # SKIP building workstations needs root");
        return ExitCode::SUCCESS;
    }
    println!("1..{}", TESTS.len());
    for (i, (name, test)) in TESTS.iter().enumerate() {
        if name.contains(filter) {
            // A failed assertion panics and ends the program, with the test's name on the line before.
            println!("# {name}");
            test();
            println!("ok {} {name}", i + 1);
        }
    }
    ExitCode::SUCCESS
}
