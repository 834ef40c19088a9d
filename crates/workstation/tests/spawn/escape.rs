//! What an escape is for: each attempt reaches for something outside, and only whether it gets it counts, not which layer
//! stops it.

use nix::sys::signal::{Signal, kill};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

/// Something outside to reach for, by what it was told: a readable file, an abstract socket, a port of the loopback, a
/// process.
type Attempt = (&'static str, fn(&Told) -> bool);

pub(crate) struct Told {
    canary: PathBuf,
    name: String,
    port: u16,
    pid: i32,
}

pub(crate) const ATTEMPTS: [Attempt; 14] = [
    ("read a file of the host", |told| fs::read(&told.canary).is_ok()),
    // Where an old root that was not let go of would be.
    ("read it above the root", |told| fs::read(format!("/..{}", told.canary.display())).is_ok()),
    ("read it through a process outside", |told| {
        fs::read(format!("/proc/{}/root{}", told.pid, told.canary.display())).is_ok()
    }),
    ("write a file of the host", |told| fs::OpenOptions::new().append(true).open(&told.canary).is_ok()),
    ("signal a process outside", |told| kill(nix::unistd::Pid::from_raw(told.pid), Signal::SIGCONT).is_ok()),
    ("see a process outside", |told| {
        fs::read(format!("/proc/{}/comm", told.pid)).is_ok_and(|c| c == b"sleep\n")
    }),
    ("connect to an abstract socket outside", |told| {
        SocketAddr::from_abstract_name(&told.name).is_ok_and(|a| UnixStream::connect_addr(&a).is_ok())
    }),
    ("connect to the host's loopback", |told| TcpStream::connect(("127.0.0.1", told.port)).is_ok()),
    ("execute a program that was written", |_| executed("/tmp", "#!/proc/self/exe\n")),
    ("mount", |_| {
        use nix::mount::{MsFlags, mount};
        mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).is_ok()
    }),
    ("make a device node", |_| {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let made = mknod("/tmp/escape-node", SFlag::S_IFBLK, Mode::S_IRWXU, makedev(254, 0)).is_ok();
        let _ = fs::remove_file("/tmp/escape-node");
        made
    }),
    ("become root", |_| nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_ok()),
    ("change the host name", |_| nix::unistd::sethostname("escaped").is_ok()),
    ("take a namespace of its own", |_| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_ok()),
];

fn executed(dir: &str, text: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = format!("{dir}/escape-script");
    let made =
        fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
    let ran = made.and_then(|()| Command::new(&path).env("ESCAPE_SCRIPT", "1").output());
    let _ = fs::remove_file(&path);
    ran.is_ok()
}

/// `escape CANARY NAME PORT PID`
pub(crate) fn run(args: &[String]) -> ExitCode {
    let [canary, name, port, pid] = args else { panic!("{args:?}") };
    let told = Told {
        canary: canary.into(),
        name: name.clone(),
        port: port.parse().unwrap(),
        pid: pid.parse().unwrap(),
    };
    for (what, attempt) in ATTEMPTS {
        println!("{what}: {}", if attempt(&told) { "got through" } else { "stopped" });
    }
    ExitCode::SUCCESS
}

/// The same outside, where mounts and the name are made its own first.
pub(crate) fn outside(args: &[String]) -> ExitCode {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    run(args)
}

/// What there is outside.
pub(crate) struct Stage {
    pub(crate) args: Vec<String>,
    canary: PathBuf,
    sleeper: Child,
    _abstract: UnixListener,
    _loopback: TcpListener,
}

impl Stage {
    pub(crate) fn new() -> Self {
        // Not below anything that a workstation has a place of the same name for.
        let canary = PathBuf::from(format!("/var/tmp/octant-canary-{}", std::process::id()));
        fs::write(&canary, "canary").unwrap();
        let name = format!("octant-escape-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let loopback = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        let args = vec![
            canary.to_str().unwrap().to_owned(),
            name,
            loopback.local_addr().unwrap().port().to_string(),
            sleeper.id().to_string(),
        ];
        Self {
            args,
            canary,
            sleeper,
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            _loopback: loopback,
        }
    }

    /// What the script says without a workstation, on mounts and a name of its own: everything gets through.
    pub(crate) fn outside(&self) -> String {
        let exe = std::env::current_exe().unwrap();
        let output = Command::new(exe).args(["inside", "escape-outside"]).args(&self.args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Best effort: what is left of a test that failed harms nothing.
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
        let _ = fs::remove_file(&self.canary);
    }
}
