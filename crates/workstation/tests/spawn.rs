//! Real workstations, built by a real spawner. Needs root; says so and passes where it is not.
//!
//! This program has a main of its own because it is three things: the test, the spawner that the test starts (which
//! must have one thread), and the program that runs inside, as `/octant`.
#![expect(clippy::print_stdout, reason = "a test harness reports on standard output")]

use octant_api::boot::{BootConfig, Mode};
use octant_ids::{Aid, Layout, uid};
use octant_workstation::{
    Bind, Layer, Limits, Link, Plan, Program, Scratch, SpawnError, Spawned, SpawnerClient, Syscalls,
};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("spawner") => spawner(&args[2..]),
        Some("inside") => inside(&args[2..]),
        _ => tests(args.get(1).map_or("", String::as_str)),
    }
}

/// `spawner SOCKET-FD CONFIG-JSON [FAULT]`
fn spawner(args: &[String]) -> ExitCode {
    let socket = octant_sys::inherit::take(args[0].parse().unwrap()).unwrap();
    let config = BootConfig::from_json(args[1].as_bytes()).unwrap();
    let fault = args.get(2).map(|n| n.parse().unwrap());
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
        Some("cat") => {
            for path in &args[1..] {
                match std::fs::read_to_string(path) {
                    Ok(text) => println!("== {path}\n{text}"),
                    Err(error) => println!("== {path}: {error}"),
                }
            }
            ExitCode::SUCCESS
        }
        other => panic!("{other:?} is no work"),
    }
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
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => None,
        _ => Some(dir),
    }
}

impl Bench {
    fn new(fault: Option<u32>) -> Self {
        use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
        let dir = std::env::temp_dir().join(format!("octant-spawn-{}", std::process::id()));
        let layout = Layout::under(&dir.join("octant"));
        for path in [&layout.etc, &layout.state, &layout.run, &layout.log] {
            std::fs::create_dir_all(path).unwrap();
        }
        let cgroup = agents_cgroup();
        let config = BootConfig {
            layout: layout.clone(),
            boot_id: "0".repeat(32),
            mode: Mode::Namespace,
            operator: 0,
            accept_missing: vec!["cgroup".into()],
            agents_cgroup: cgroup.clone(),
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
        command.args(fault.map(|n| n.to_string()));
        let spawner = command.spawn().unwrap();
        let client = as_agents(|| SpawnerClient::connect(&path).unwrap());
        Self { dir, cgroup, spawner, client }
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

impl Drop for Bench {
    fn drop(&mut self) {
        self.spawner.kill().unwrap();
        self.spawner.wait().unwrap();
        std::fs::remove_dir_all(&self.dir).unwrap();
        if let Some(cgroup) = &self.cgroup {
            std::fs::remove_dir(cgroup).unwrap();
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

/// A plan that executes this very program inside, with the C library's directories where it is not static.
fn plan(args: &[&str]) -> Plan {
    let lib = Bind { source: "/usr/lib".into(), target: "/usr/lib".into(), write: false, exec: true };
    let lib64 = Bind { source: "/usr/lib64".into(), target: "/usr/lib64".into(), write: false, exec: true };
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_le_bytes());
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
        binds: vec![lib, lib64],
        links: vec![
            Link { at: "/lib".into(), to: "usr/lib".into() },
            Link { at: "/lib64".into(), to: "usr/lib64".into() },
        ],
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
    let (code, text) =
        bench.run(&plan(&["cat", "/proc/self/status", "/proc/self/mountinfo", "/proc/1/status"]));
    println!("{code} {text}");
}

/// A test's name and its body.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[("the_exit_code_and_the_output_come_back", the_exit_code_and_the_output_come_back)];

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
