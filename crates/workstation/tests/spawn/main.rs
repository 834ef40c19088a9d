//! Real workstations, built by a real spawner. Needs root; says so and passes where it is not.
//!
//! This program has a main of its own because it is three things: the test, the spawner that the test starts (which
//! must have one thread), and the program that runs inside, as `/octant`.
#![expect(clippy::print_stdout, reason = "a test harness reports on standard output")]

mod apart;
mod bench;
mod crowd;
mod escape;
mod image;
mod network;
mod pinned;
#[path = "../../../../tests/src/probe.rs"]
mod probe;
mod residue;
mod served;
mod snapshot;

use bench::{Bench, KEY, OVERLOOK, SIDES, STATIC, as_agents, keys, plan, ticket, wait};
use octant_api::boot::BootConfig;
use octant_ids::{Aid, Layout, uid};
use octant_ticket::{Issuer, SECOND_NS};
use octant_workstation::spawner::{Fault, Side};
use octant_workstation::{Bind, Plan, Proc, SpawnerClient, Step};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("spawner") => spawner(&args[2..]),
        Some("inside") => inside(&args[2..]),
        Some("dumped") => crowd::dumped(&args[2]),
        _ if std::process::id() == 1 => machine(),
        _ => tests(args.get(1).map_or("", String::as_str)),
    }
}

/// `spawner SOCKET-FD CONFIG-JSON WHY-NO-KEYS [SIDE CALL-NUMBER | SIDE CALL-TEXT]`
fn spawner(args: &[String]) -> ExitCode {
    let socket = octant_sys::inherit::take(args[0].parse().unwrap()).unwrap();
    let config = BootConfig::from_json(args[1].as_bytes()).unwrap();
    let tickets = if args[2].is_empty() { Ok(keys(&["spawner"], KEY)) } else { Err(args[2].clone()) };
    let fault = args.get(4).map(|what| {
        let side = SIDES[args[3].parse::<usize>().unwrap()];
        match (what.parse(), what.strip_prefix(OVERLOOK)) {
            (Ok(call), _) => Fault::Fail(side, call),
            (Err(_), Some(text)) => Fault::Overlook(side, text.into()),
            (Err(_), None) => Fault::Forget(side, what.clone()),
        }
    });
    let options = octant_workstation::spawner::Options {
        socket: octant_workstation::spawner::Socket::Listening(socket),
        config,
        tickets,
        fault,
    };
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
        Some("hear") => served::inside(),
        Some("ask") => served::ask(),
        Some("escape") => escape::run(&args[1..]),
        Some("escape-outside") => escape::outside(&args[1..]),
        Some("look") => apart::look(),
        Some("probe" | "probe-few") => probe::run(args[1..].iter().cloned()),
        Some("grants") => {
            let old =
                |dir: &str| std::fs::read_to_string(format!("{dir}/old")).unwrap_or_else(|_| "closed".into());
            let new =
                |dir: &str| std::fs::write(format!("{dir}/new"), "new").map_or("read-only", |()| "made");
            print!("written: {}, {}; ", old("/tmp/deep/written"), new("/tmp/deep/written"));
            println!("read: {}; closed: {}, {}", old("/read"), old("/closed"), new("/closed"));
            let socket = std::os::unix::net::UnixStream::connect("/read/socket");
            println!("socket: {}", socket.map_or_else(|error| error.kind().to_string(), |_| "open".into()));
            ExitCode::SUCCESS
        }
        Some("image") => image::inside(),
        Some("cwd") => image::directory(),
        Some("datagrams") => network::inside(),
        Some("pinned") => pinned::inside(),
        Some("snapshot") => snapshot::inside(),
        Some("report") => snapshot::report(),
        Some("sleep") => {
            std::fs::write("/workspace/file", "made inside").unwrap();
            println!("sleeping");
            std::thread::sleep(std::time::Duration::from_secs(600));
            ExitCode::SUCCESS
        }
        Some("bomb") => crowd::bomb(),
        Some("eat") => {
            println!("eating");
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
            }
        }
        Some("crash") => crowd::crash(),
        Some("parent") => {
            // Its child outlives it and falls to the reaper.
            let child = Command::new("/octant").args(["inside", "exit", "0"]).spawn();
            ExitCode::from(u8::from(child.is_err()))
        }
        Some("orphans") => crowd::orphans(),
        other => panic!("{other:?} is no work"),
    }
}

/// Set where the machine is the test's own.
pub(crate) const MACHINE: &str = "OCTANT_TEST_MACHINE";

/// As the first process of a virtual machine (`rdinit=` with Octant's image): mounts what a machine has, with every cgroup
/// controller, runs the tests in a child and powers off. This is where limits are real and where `/` is the kernel's
/// initial root.
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
    octant_sys::netlink::loopback_up().unwrap();
    network::load_modules();
    // What follows `--` on the kernel's command line is for this program: which tests.
    let filter = std::env::args().nth(1).unwrap_or_default();
    let own = std::env::current_exe().unwrap();
    let status = Command::new(own)
        .env("RUST_BACKTRACE", "0")
        .env("PATH", "/bin")
        .env(MACHINE, "1")
        .arg(filter)
        .status();
    println!("# the tests ended with {status:?}");
    nix::unistd::sync();
    let _ = nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
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
    assert_eq!((report.filter_count, report.filters.len()), (3, 64));
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
    // Where a probe that shared the IPC namespace would find it.
    let key = i32::try_from(std::process::id()).unwrap();
    let segment = octant_sys::probe::make_segment(key).unwrap();
    let mut plan = plan(&["probe", &outside, "pids=64", &format!("key={key}"), &calls("shell")]);
    // Room for a copy of this program, which is not small.
    (plan.workspace.bytes, plan.tmp.bytes, plan.limits.fsize) = (128 << 20, 128 << 20, 1 << 30);
    if !STATIC {
        plan.program.args.extend(["usr", "lib", "lib64"].map(|name| format!("also={name}")));
    }
    plan.program.args.push(format!("abstract={name}"));
    plan.program.args.push(format!("hidden={}", bench.dir.display()));
    denied(&mut bench, &plan);
    // With everything that a profile can have more.
    plan.aid = bench::plan(&[]).aid;
    plan.terminals = true;
    plan.shm = Some(plan.tmp.clone());
    plan.proc = Proc::Machine;
    plan.syscalls.profile = "compiler".into();
    plan.program.args.retain(|arg| !arg.starts_with("calls="));
    plan.program.args.extend(["terminals", "shm", "machine"].map(str::to_owned));
    plan.program.args.push(calls("compiler"));
    denied(&mut bench, &plan);
    octant_sys::probe::remove_segment(segment).unwrap();
}

/// The probe's argument with the calls of a profile.
fn calls(profile: &str) -> String {
    let calls = octant_workstation::granted(profile).unwrap();
    format!("calls={}", calls.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

pub(crate) fn denied(bench: &mut Bench, plan: &Plan) {
    let (code, text) = bench.run(plan);
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
    let socket = dirs[1].join("socket");
    let _host = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
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
    let expected = "written: old, made; read: closed; closed: old, read-only\nsocket: permission denied\n";
    assert_eq!((code, text.as_str()), (0, expected));
    let made = std::fs::metadata(dirs[0].join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (owner, owner), "the host sees the directory's owner");
}

fn a_signal_reaches_the_agent_and_its_exit_code_says_so() {
    let mut bench = Bench::new(None);
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    bench.client.terminate(plan.slot, plan.aid).unwrap();
    assert_eq!(wait(&spawned), 128 + 15);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
    assert!(bench.client.terminate(plan.slot, plan.aid).is_err(), "it is retired");
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
    let error = bench.client.spawn(&plan, &ticket(&plan), &[a.as_fd(), b.as_fd()]).unwrap_err();
    assert_eq!(error.step, Step::Request, "{error}");
    // Anybody else, root included, is not answered at all.
    let mut root =
        SpawnerClient::connect(&Layout::under(&bench.dir.join("octant")).socket("spawner")).unwrap();
    assert!(root.retire(plan.slot, plan.aid).is_err());
    // The spawner still works.
    assert_eq!(bench.run(&plan).0, 0);
}

fn nothing_is_built_without_a_ticket_for_it() {
    let mut bench = Bench::new(None);
    let (one, other) = (plan(&["exit", "0"]), plan(&["exit", "0"]));
    let now = octant_sys::clock::boottime_ns;
    let issue = |names: &[&str], key, to: &str, ttl_ns| {
        let issuer = Issuer::new(keys(names, key));
        issuer.issue(1, one.digest().unwrap(), to, now(), ttl_ns).unwrap()
    };
    let mut forged = ticket(&one);
    forged.expires_ns += 1;
    let cases = [
        (ticket(&other), "is for an intent with digest"),
        (issue(&["vault"], KEY, "vault", SECOND_NS), "is for vault, and this is spawner"),
        (issue(&["spawner"], KEY + 1, "spawner", SECOND_NS), "does not verify"),
        (forged, "does not verify"),
        (issue(&["spawner"], KEY, "spawner", 1), "expired"),
        (issue(&["spawner"], KEY, "spawner", 0), "is not valid for between"),
    ];
    for (ticket, why) in cases {
        let error = bench.redeem(&one, &ticket).unwrap_err();
        assert_eq!((error.step, error.errno), (Step::Ticket, 0), "{error}");
        assert!(error.text.contains(why), "{why}: {error}");
        bench.assert_nothing_is_left(&one);
    }
    // A byte of the plan more, and it is another plan.
    let good = ticket(&one);
    let mut longer = one.clone();
    longer.program.args.push(String::new());
    assert_eq!(bench.redeem(&longer, &good).unwrap_err().step, Step::Ticket);
    // Once.
    let (spawned, _output) = bench.redeem(&one, &good).unwrap();
    assert_eq!(wait(&spawned), 0);
    bench.client.retire(one.slot, one.aid).unwrap();
    assert!(bench.redeem(&one, &good).unwrap_err().text.contains("was used before"));
    // Also when nothing came of it: the attempt is what the intent announced.
    let mut absent = plan(&[]);
    absent.program.path = "/bin/nothing".into();
    let spent = ticket(&absent);
    assert_eq!(bench.redeem(&absent, &spent).unwrap_err().step, Step::Execute);
    assert!(bench.redeem(&absent, &spent).unwrap_err().text.contains("was used before"));
    // Not by the next spawner either, which cannot know what this one did.
    let (kept, running) = (ticket(&other), plan(&["sleep"]));
    let (sleeping, mut output) = bench.spawn(&running).unwrap();
    read_line(&mut output);
    bench.restart();
    let error = bench.redeem(&other, &kept).unwrap_err();
    assert!(error.text.contains("before this actuator started"), "{error}");
    // What takes away needs none.
    if bench.cgroup.is_some() {
        bench.client.retire(running.slot, running.aid).unwrap();
    } else {
        octant_sys::confine::signal_pidfd(sleeping.pidfd.as_fd(), 9).unwrap();
    }
    assert_eq!(wait(&sleeping), 1000 + 9);
    assert_eq!(bench.run(&other).0, 0);
    bench.assert_nothing_is_left(&other);
}

/// The request of a caller that sends none.
fn a_request_without_a_ticket_is_refused() {
    use octant_sys::packet;
    let bench = Bench::new(None);
    let socket = as_agents(|| {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
        let path = Layout::under(&bench.dir.join("octant")).socket("spawner");
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        fd
    });
    let plan = plan(&["say", "ran"]);
    let bytes = plan.to_bytes().unwrap();
    let sealed = nix::sys::memfd::memfd_create("plan", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let mut file = std::fs::File::from(sealed);
    file.write_all(&bytes).unwrap();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::from_bits_retain(15)))
        .unwrap();
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut request = b"OWQ1\x01\0\0\0".to_vec();
    request.extend(plan.slot.to_le_bytes());
    request.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    request.extend(plan.aid.to_string().bytes());
    packet::send(socket.as_fd(), &request, &[file.as_fd(), write.as_fd(), write.as_fd()]).unwrap();
    let mut answer = vec![0; 4096];
    let received = packet::receive(socket.as_fd(), &mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..received.len]).into_owned();
    assert!(answer[4] == 0 && text.contains("a spawn comes with a ticket"), "{text:?}");
    drop(write);
    let mut output = String::new();
    std::fs::File::from(read).read_to_string(&mut output).unwrap();
    assert_eq!(output, "");
    bench.assert_nothing_is_left(&plan);
}

/// The reaper lives as long as the agent, as a copy of the spawner.
fn the_copy_of_the_spawner_inside_has_not_its_key() {
    use std::os::unix::fs::FileExt;
    let mut bench = Bench::new(None);
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    read_line(&mut output);
    let found = |pid: u32, what: [u8; 32]| {
        let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.lines().filter(|line| line.contains(" rw")).any(|line| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            memory.read_exact_at(&mut bytes, from).is_ok() && bytes.windows(32).any(|window| window == what)
        })
    };
    // As it is, and as the two halves of an HMAC begin with it (RFC 2104).
    let forms = [KEY, KEY ^ 0x36, KEY ^ 0x5c].map(|byte| [byte; 32]);
    assert!(found(bench.spawner.id(), forms[0]), "it is found where it is");
    for form in forms {
        assert!(!found(spawned.pid, form), "{form:?}");
    }
    bench.client.retire(plan.slot, plan.aid).unwrap();
    wait(&spawned);
}

fn a_prepared_program_waits_until_it_is_let_go_and_then_runs_once() {
    let mut bench = Bench::new(None);
    let plan = plan(&["say", "hello"]);
    let (first, second) = (ticket(&plan), ticket(&plan));
    let (prepared, output) = bench.prepare(&plan, &first).unwrap();
    let release = |bench: &mut Bench, ticket| bench.client.release(plan.slot, plan.aid, ticket);
    let status = std::fs::read_to_string(format!("/proc/{}/status", prepared.report.payload_pid)).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "it is confined: {status}");
    let children = std::fs::read_to_string(format!("/proc/{}/cmdline", prepared.report.payload_pid)).unwrap();
    assert!(!children.contains("hello"), "nothing of the agent's is executed: {children}");
    // The ticket that it was prepared with, and one for another plan, let nothing go.
    assert_eq!(release(&mut bench, &first).unwrap_err().step, Step::Ticket);
    let other = ticket(&Plan { landlock_floor: 2, ..plan.clone() });
    assert_eq!(release(&mut bench, &other).unwrap_err().step, Step::Ticket);
    assert_eq!(
        bench.client.release(plan.slot, Aid::new(1, [9; 10]), &second).unwrap_err().step,
        Step::Remove
    );
    release(&mut bench, &second).unwrap();
    let mut text = String::new();
    std::fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), wait(&prepared)), ("hello\n", 0));
    assert_eq!(release(&mut bench, &ticket(&plan)).unwrap_err().step, Step::Execute, "it went already");
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
    // One that is never let go is as gone.
    let (prepared, _output) = bench.prepare(&plan, &ticket(&plan)).unwrap();
    bench.client.retire(plan.slot, plan.aid).unwrap();
    assert_eq!(wait(&prepared), 1009);
    bench.assert_nothing_is_left(&plan);
    // It does not outlive the spawner, who alone could let it go.
    let (prepared, output) = bench.prepare(&plan, &ticket(&plan)).unwrap();
    bench.restart();
    assert_ne!(wait(&prepared), 0);
    text.clear();
    std::fs::File::from(output).read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "it never ran");
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

/// Whoever has taken over `agents` gets nothing of its own into a workstation through the standard descriptors.
fn a_service_gives_pipes_and_nothing_else() {
    let mut bench = Bench::new(None);
    for stdio in [octant_workstation::Stdio::Caller, octant_workstation::Stdio::Terminal] {
        let plan = Plan { stdio, ..plan(&["exit", "0"]) };
        let error = bench.spawn(&plan).unwrap_err();
        assert!(error.step == Step::Request && error.text.contains("only `octant run`"), "{error}");
        bench.assert_nothing_is_left(&plan);
    }
}

fn a_spawner_without_keys_refuses_every_spawn_and_says_why() {
    let mut bench = Bench::with_tickets("PID 1 gave none", None);
    let plan = plan(&["exit", "0"]);
    for _ in 0..2 {
        let error = bench.spawn(&plan).unwrap_err();
        assert_eq!(error.step, Step::Ticket);
        assert!(
            error.text.contains("every spawn is refused") && error.text.contains("PID 1 gave none"),
            "{error}"
        );
        bench.assert_nothing_is_left(&plan);
    }
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
    let plan = bench::plan(&["sleep"]);
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
    if leaf.join("cpu.max").exists() {
        as_agents(|| std::fs::write(leaf.join("cpu.max"), "5000 100000")).unwrap();
        as_agents(|| std::fs::write(leaf.join("cpu.weight"), "1")).unwrap();
        assert_eq!(std::fs::read_to_string(leaf.join("cpu.max")).unwrap(), "5000 100000\n");
    } else {
        println!("# this machine has no cpu controller: nothing is slowed down");
    }
    assert!(
        as_agents(|| std::fs::write(leaf.join("cgroup.procs"), "0")).is_err(),
        "agents can enter the leaf"
    );
    as_agents(|| std::fs::write(leaf.join("cgroup.kill"), "1")).unwrap();
    assert_eq!(wait(&spawned), 1000 + 9);
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
}

fn many_spawns_leave_nothing() {
    let mut bench = Bench::new(None);
    let open = |bench: &Bench| std::fs::read_dir(format!("/proc/{}/fd", bench.spawner.id())).unwrap().count();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    bench.run(&plan(&["exit", "0"]));
    let before = (open(&bench), mounts());
    // An emulated machine takes some twenty times as long.
    let rounds = if std::env::var_os(MACHINE).is_some() { 100 } else { 1000 };
    for i in 0..rounds {
        let plan = plan(&["exit", "3"]);
        assert_eq!(bench.run(&plan).0, 3, "round {i}");
        // A look at every process takes longer than a round.
        if i % 50 == 49 {
            bench.assert_nothing_is_left(&plan);
            assert_eq!((open(&bench), mounts()), before, "round {i}");
        }
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
            let mut plan = plan(&["say", "ran"]);
            plan.syscalls.network = true;
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let stderr = write.try_clone().unwrap();
            let spawned = bench.client.spawn(&plan, &ticket(&plan), &[write.as_fd(), stderr.as_fd()]);
            drop((write, stderr));
            let error = match spawned {
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
    // Not among them: what is no call to the kernel, what only the kernel can fail, and what comes after the end.
    let other = [
        Step::Request,
        Step::Ticket,
        Step::Check,
        Step::Sources,
        Step::Filter,
        Step::Channel,
        Step::Listen,
        Step::Execute,
        Step::Collect,
        Step::Remove,
    ];
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
        (Side::Network, "ConfineNetwork", REFUSED),
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
        if text.contains("timens") && octant_sys::clock::monotonic_ns() < 120_000_000_000 {
            println!("# skipped: this machine has just started, so its clocks tell nothing");
            continue;
        }
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
    ("rules_and_hooks_stop_what_is_let_through", network::rules_and_hooks_stop_what_is_let_through),
    ("a_program_of_an_image_runs_in_its_own_root", image::a_program_of_an_image_runs_in_its_own_root),
    ("what_an_image_has_in_our_places_is_not_seen", image::what_an_image_has_in_our_places_is_not_seen),
    ("grants_lie_over_an_image", image::grants_lie_over_an_image),
    ("an_image_that_is_not_there_refuses_the_spawn", image::an_image_that_is_not_there_refuses_the_spawn),
    (
        "a_running_agents_workspace_is_read_from_outside",
        snapshot::a_running_agents_workspace_is_read_from_outside,
    ),
    ("a_file_with_a_digest_stays_what_was_signed", pinned::a_file_with_a_digest_stays_what_was_signed),
    ("what_is_to_be_kept_is_read_after_the_end", snapshot::what_is_to_be_kept_is_read_after_the_end),
    ("only_an_ended_agents_workspace_is_read", snapshot::only_an_ended_agents_workspace_is_read),
    ("a_workspace_begins_with_a_snapshot", snapshot::a_workspace_begins_with_a_snapshot),
    (
        "a_snapshot_that_does_not_fit_refuses_the_spawn",
        snapshot::a_snapshot_that_does_not_fit_refuses_the_spawn,
    ),
    ("the_probe_fails_where_there_are_only_namespaces", the_probe_fails_where_there_are_only_namespaces),
    (
        "a_granted_directory_is_the_agents_as_far_as_its_owner_goes",
        a_granted_directory_is_the_agents_as_far_as_its_owner_goes,
    ),
    (
        "a_signal_reaches_the_agent_and_its_exit_code_says_so",
        a_signal_reaches_the_agent_and_its_exit_code_says_so,
    ),
    ("a_fork_bomb_dies_at_once_and_leaves_nothing", a_fork_bomb_dies_at_once_and_leaves_nothing),
    ("a_crash_starts_nothing_outside", crowd::a_crash_starts_nothing_outside),
    ("limits_are_kept", crowd::limits_are_kept),
    ("a_fork_bomb_is_held_by_its_cgroup_alone", crowd::a_fork_bomb_is_held_by_its_cgroup_alone),
    ("orphans_are_reaped_inside", orphans_are_reaped_inside),
    ("agents_are_apart_and_a_slot_is_one_agents", agents_are_apart_and_a_slot_is_one_agents),
    ("what_a_hostile_caller_asks_is_refused", what_a_hostile_caller_asks_is_refused),
    ("nothing_is_built_without_a_ticket_for_it", nothing_is_built_without_a_ticket_for_it),
    ("a_request_without_a_ticket_is_refused", a_request_without_a_ticket_is_refused),
    ("the_copy_of_the_spawner_inside_has_not_its_key", the_copy_of_the_spawner_inside_has_not_its_key),
    (
        "a_prepared_program_waits_until_it_is_let_go_and_then_runs_once",
        a_prepared_program_waits_until_it_is_let_go_and_then_runs_once,
    ),
    ("a_service_gives_pipes_and_nothing_else", a_service_gives_pipes_and_nothing_else),
    (
        "a_server_reads_and_writes_pipes_of_the_service",
        served::a_server_reads_and_writes_pipes_of_the_service,
    ),
    ("who_asks_models_has_the_routers_socket", served::who_asks_models_has_the_routers_socket),
    (
        "a_spawner_without_keys_refuses_every_spawn_and_says_why",
        a_spawner_without_keys_refuses_every_spawn_and_says_why,
    ),
    ("a_new_spawner_knows_the_agents_of_the_old_one", a_new_spawner_knows_the_agents_of_the_old_one),
    ("agents_can_freeze_and_kill_without_the_spawner", agents_can_freeze_and_kill_without_the_spawner),
    ("a_frozen_agent_is_found_killed_and_retired", residue::a_frozen_agent_is_found_killed_and_retired),
    ("what_is_left_of_an_agent_is_found", residue::what_is_left_of_an_agent_is_found),
    ("the_spawner_keeps_only_what_it_needs", apart::the_spawner_keeps_only_what_it_needs),
    ("a_tree_that_is_read_stays_as_it_was_granted", apart::a_tree_that_is_read_stays_as_it_was_granted),
    (
        "a_spawner_that_was_started_untidily_makes_tidy_workstations",
        apart::a_spawner_that_was_started_untidily_makes_tidy_workstations,
    ),
    (
        "a_spawner_that_ignores_its_children_sees_them_end",
        apart::a_spawner_that_ignores_its_children_sees_them_end,
    ),
    ("two_hundred_agents_are_apart", apart::two_hundred_agents_are_apart),
    (
        "without_any_one_layer_the_others_stop_every_escape",
        apart::without_any_one_layer_the_others_stop_every_escape,
    ),
    ("many_spawns_leave_nothing", many_spawns_leave_nothing),
    ("every_step_can_fail_and_then_nothing_runs", every_step_can_fail_and_then_nothing_runs),
    ("what_is_left_out_is_noticed", what_is_left_out_is_noticed),
];

/// Reads up to the first line's end: the program inside says so when it is under way.
pub(crate) fn read_line(output: &mut OwnedFd) {
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
