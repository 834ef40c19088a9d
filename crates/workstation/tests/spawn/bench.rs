//! A running spawner with a directory and a cgroup of its own, and the plans for it.

use octant_api::boot::{BootConfig, Mode};
use octant_api::ticket::Ticket;
use octant_ids::{Aid, Layout, uid};
use octant_sys::clock;
use octant_ticket::{Issuer, Keys, SECOND_NS};
use octant_workstation::spawner::{Fault, Side};
use octant_workstation::{
    Bind, Layer, Limits, Link, Plan, Program, Scratch, SpawnError, Spawned, SpawnerClient, Syscalls,
};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};

pub(crate) const SIDES: [Side; 4] = [Side::Spawner, Side::Network, Side::Reaper, Side::Payload];

pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) spawner: Child,
    pub(crate) client: SpawnerClient,
}

pub(crate) const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A cgroup v2 directory for the agents of this test, where the machine has one.
pub(crate) fn agents_cgroup() -> Option<PathBuf> {
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

/// The keys of these actuators, as PID 1 would have made them at this boot.
pub(crate) fn keys(names: &[&str], key: u8) -> Keys {
    let line = |name: &&str| format!("{name} {}\n", format!("{key:02x}").repeat(32));
    Keys::parse(names.iter().map(line).collect::<String>().as_bytes()).unwrap()
}

/// What a fault's text begins with when the read-back is to say nothing.
pub(crate) const OVERLOOK: &str = "overlook ";

/// The spawner's key in these tests.
pub(crate) const KEY: u8 = 7;

/// The ledger's ticket for an intent to spawn this plan.
pub(crate) fn ticket(plan: &Plan) -> Ticket {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let seq = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let issuer = Issuer::new(keys(&["spawner"], KEY));
    issuer.issue(seq, plan.digest().unwrap(), "spawner", clock::boottime_ns(), 30 * SECOND_NS).unwrap()
}

impl Bench {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self::with_tickets("", fault)
    }

    /// With this command before the spawner's own.
    pub(crate) fn started_by(before: &[&str]) -> Self {
        Self::with(before, "", None)
    }

    /// With a reason for having no keys, unless it is empty.
    pub(crate) fn with_tickets(none: &str, fault: Option<Fault>) -> Self {
        Self::with(&[], none, fault)
    }

    /// On a machine without cgroups, as far as the spawner knows.
    pub(crate) fn without_cgroup(fault: Option<Fault>) -> Self {
        Self::within(None, &[], "", fault)
    }

    fn with(before: &[&str], none: &str, fault: Option<Fault>) -> Self {
        Self::within(agents_cgroup(), before, none, fault)
    }

    fn within(cgroup: Option<PathBuf>, before: &[&str], none: &str, fault: Option<Fault>) -> Self {
        let dir = std::env::temp_dir().join(format!("octant-spawn-{}", std::process::id()));
        let layout = Layout::under(&dir.join("octant"));
        for path in [&layout.etc, &layout.state, &layout.run, &layout.log] {
            std::fs::create_dir_all(path).unwrap();
        }
        let (spawner, client) = start(before, &layout, cgroup.clone(), none, fault);
        Self { dir, cgroup, spawner, client }
    }

    pub(crate) fn restart(&mut self) {
        self.spawner.kill().unwrap();
        self.spawner.wait().unwrap();
        let layout = Layout::under(&self.dir.join("octant"));
        (self.spawner, self.client) = start(&[], &layout, self.cgroup.clone(), "", None);
    }

    /// No process of the slot, no cgroup leaf, and the slot can be used again.
    pub(crate) fn assert_nothing_is_left(&self, plan: &Plan) {
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

    pub(crate) fn spawn(&mut self, plan: &Plan) -> Result<(Spawned, OwnedFd), SpawnError> {
        self.redeem(plan, &ticket(plan))
    }

    /// The same with this ticket.
    pub(crate) fn redeem(&mut self, plan: &Plan, ticket: &Ticket) -> Result<(Spawned, OwnedFd), SpawnError> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let stderr = write.try_clone().unwrap();
        Ok((self.client.spawn(plan, ticket, &[write.as_fd(), stderr.as_fd()])?, read))
    }

    /// A workstation whose program waits.
    pub(crate) fn prepare(&mut self, plan: &Plan, ticket: &Ticket) -> Result<(Spawned, OwnedFd), SpawnError> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let stderr = write.try_clone().unwrap();
        Ok((self.client.prepare(plan, ticket, &[write.as_fd(), stderr.as_fd()])?, read))
    }

    /// Spawns, waits, retires: exit code, output.
    pub(crate) fn run(&mut self, plan: &Plan) -> (i32, String) {
        let (spawned, output) = self.spawn(plan).unwrap();
        let mut text = String::new();
        std::fs::File::from(output).read_to_string(&mut text).unwrap();
        let code = wait(&spawned);
        self.client.retire(plan.slot, plan.aid).unwrap();
        (code, text)
    }
}

/// Starts a spawner and connects to it as `agents`, once it serves: a ticket from before its start is refused.
pub(crate) fn start(
    before: &[&str],
    layout: &Layout,
    cgroup: Option<PathBuf>,
    no_tickets: &str,
    fault: Option<Fault>,
) -> (Child, SpawnerClient) {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let config = BootConfig {
        layout: layout.clone(),
        boot_id: "0".repeat(32),
        mode: Mode::Namespace,
        operator: 0,
        accept_missing: vec!["cgroup".into()],
        agents_cgroup: cgroup,
        hardware: Default::default(),
        sole_caller: None,
        landlock_unreported: None,
        service: serde_json::json!({}),
    };
    // Inherited on purpose, so without close-on-exec.
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    let path = layout.socket("spawner");
    let _ = std::fs::remove_file(&path);
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    std::os::unix::fs::chown(&path, uid::of_service("agents"), None).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let own = std::env::current_exe().unwrap();
    let mut words = before.iter().map(std::ffi::OsStr::new).chain([own.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg("spawner").arg(listener.as_raw_fd().to_string());
    command.arg(String::from_utf8(config.to_json().unwrap()).unwrap()).arg(no_tickets);
    if let Some(fault) = fault {
        let (side, what) = match fault {
            Fault::Fail(side, call) => (side, call.to_string()),
            Fault::Forget(side, text) => (side, text),
            Fault::Overlook(side, text) => (side, format!("{OVERLOOK}{text}")),
        };
        command.arg(SIDES.iter().position(|s| *s == side).unwrap().to_string()).arg(what);
    }
    let spawner = command.spawn().unwrap();
    let mut client = as_agents(|| SpawnerClient::connect(&path).unwrap());
    assert!(client.terminate(0, Aid::new(0, [0; 10])).is_err(), "it answers, and there is no such agent");
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
pub(crate) fn wait(spawned: &Spawned) -> i32 {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let pid = nix::unistd::Pid::from_raw(spawned.pid.cast_signed());
    match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 1000 + signal as i32,
        other => panic!("{other:?}"),
    }
}

/// Does something as the user of `agents`.
pub(crate) fn as_agents<T>(work: impl FnOnce() -> T) -> T {
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(uid::of_service("agents").unwrap())).unwrap();
    let made = work();
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
    made
}

/// Whether this program needs no library.
pub(crate) const STATIC: bool = cfg!(target_feature = "crt-static");

pub(crate) fn link(at: &str, to: &str) -> Link {
    Link { at: at.into(), to: to.into() }
}

/// A plan that executes this very program inside, with the C library's directories where it is not static.
pub(crate) fn plan(args: &[&str]) -> Plan {
    let lib = Bind { source: "/usr/lib".into(), target: "/usr/lib".into(), write: false, exec: true };
    let lib64 = Bind { source: "/usr/lib64".into(), target: "/usr/lib64".into(), write: false, exec: true };
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let mut random = [0; 10];
    random[..4].copy_from_slice(&std::process::id().to_le_bytes());
    random[4..8].copy_from_slice(&COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
    Plan {
        version: octant_workstation::VERSION,
        aid: Aid::new(clock::wall_ms(), random),
        slot: 7,
        program: Program {
            path: "/octant".into(),
            args: std::iter::once("inside").chain(args.iter().copied()).map(str::to_owned).collect(),
            cwd: "/workspace".into(),
            env: vec!["PATH=/bin".into(), "HOME=/workspace".into()],
        },
        octant: true,
        trust: None,
        utilities: vec!["ls".into(), "sh".into()],
        root: None,
        image_environment: false,
        image_cwd: false,
        binds: if STATIC { vec![] } else { vec![lib, lib64] },
        pins: std::collections::BTreeMap::new(),
        links: if STATIC { vec![] } else { vec![link("/lib", "usr/lib"), link("/lib64", "usr/lib64")] },
        snapshot: None,
        workspace: Scratch { bytes: 8 << 20, inodes: 256, exec: false },
        models: false,
        retain: false,
        tmp: Scratch { bytes: 8 << 20, inodes: 256, exec: false },
        shm: None,
        terminals: false,
        proc: octant_workstation::Proc::Processes,
        syscalls: Syscalls { profile: "shell".into(), add: vec![], network: false },
        limits: Limits {
            memory_max: 256 << 20,
            memory_high: 224 << 20,
            pids_max: 64,
            cpu_quota_percent: 100,
            cpu_weight: 100,
            nofile: 256,
            fsize: 64 << 20,
            io: octant_workstation::Io::UNLIMITED,
        },
        landlock_floor: 1,
        accept_missing: vec![Layer::Cgroup],
        stdio: octant_workstation::Stdio::Pipes,
    }
}
