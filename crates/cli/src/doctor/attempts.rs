//! What the throw-away agent tries: each attempt must be denied, by the layer that is named beside it.
//!
//! The same table is read inside, where the attempts are made, and outside, where the answers are judged. No attempt
//! does harm where it gets through: system calls have arguments that the kernel itself refuses, and files are made in
//! places that end with the agent.

use super::agent::Answer;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use octant_sys::probe;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An address that leads nowhere (RFC 5737), so that a hole in the confinement reaches nobody.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
const PATIENCE: Duration = Duration::from_secs(2);
/// Where `octant` is in every workstation.
pub(super) const OWN: &str = "/octant";
/// More processes than the throw-away agent may have.
pub(super) const PIDS: usize = 16;
/// More memory than it may have.
const MEMORY: usize = 320 << 20;
/// More than its `/tmp` takes, in pieces that no limit of a single file refuses.
const TMP_PIECES: usize = 32;

/// One attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Its name.
    pub(super) name: &'static str,
    /// The layer that has to stop it.
    pub(super) layer: &'static str,
    /// The kernel's answers by which that layer is known.
    pub(super) denials: &'static [Errno],
    /// How it is made, with the process outside that asks for it.
    act: fn(Pid) -> io::Result<()>,
}

const fn attempt(
    name: &'static str,
    layer: &'static str,
    denials: &'static [Errno],
    act: fn(Pid) -> io::Result<()>,
) -> Attempt {
    Attempt { name, layer, denials, act }
}

const SECCOMP: &[Errno] = &[Errno::EPERM];
const FAMILY: &[Errno] = &[Errno::EAFNOSUPPORT, Errno::EPERM];

/// All of them. The last one may take the agent with it.
pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt("write to /etc", "mounts", &[Errno::EROFS, Errno::EACCES], |_| write("/etc/octant-doctor")),
    attempt("read /etc/shadow", "own root", &[Errno::ENOENT], |_| fs::File::open("/etc/shadow").map(drop)),
    attempt("read PID 1's socket", "own root", &[Errno::ENOENT], |_| {
        fs::symlink_metadata("/run/octant/init.sock").map(drop)
    }),
    attempt("run what it wrote", "mounts", &[Errno::EACCES], |_| run_written()),
    attempt("signal a process outside", "PID namespace", &[Errno::ESRCH], |outside| Ok(kill(outside, None)?)),
    attempt("become root", "capabilities", &[Errno::EPERM, Errno::EINVAL], |_| {
        Ok(nix::unistd::setuid(nix::unistd::Uid::from_raw(0))?)
    }),
    attempt(
        "connect outside",
        "network namespace",
        &[Errno::ENETUNREACH, Errno::EACCES, Errno::EPERM, Errno::EAFNOSUPPORT],
        |_| TcpStream::connect_timeout(&NOWHERE, PATIENCE).map(drop),
    ),
    attempt("raw socket", "seccomp", FAMILY, |_| of(probe::socket(2, 3, 1))),
    attempt("packet socket", "seccomp", FAMILY, |_| of(probe::socket(17, 3, 0))),
    attempt("ask a device for its terminal", "Landlock", &[Errno::EACCES], |_| {
        let null = fs::File::open("/dev/null")?;
        of(probe::ioctl(null.as_raw_fd(), 0x5401))
    }),
    attempt("ptrace", "seccomp", SECCOMP, |_| call("ptrace")),
    attempt("mount", "seccomp", SECCOMP, |_| call("mount")),
    attempt("unshare", "seccomp", SECCOMP, |_| call("unshare")),
    attempt("setns", "seccomp", SECCOMP, |_| call("setns")),
    attempt("new user namespace", "seccomp", SECCOMP, |_| of(probe::clone(0x1000_0000)?)),
    attempt("keyctl", "seccomp", SECCOMP, |_| call("keyctl")),
    attempt("bpf", "seccomp", SECCOMP, |_| call("bpf")),
    attempt("io_uring", "seccomp", SECCOMP, |_| call("io_uring_setup")),
    attempt("perf_event_open", "seccomp", SECCOMP, |_| call("perf_event_open")),
    attempt("userfaultfd", "seccomp", SECCOMP, |_| call("userfaultfd")),
    attempt("kexec", "seccomp", SECCOMP, |_| call("kexec_load")),
    attempt("load a module", "seccomp", SECCOMP, |_| call("init_module")),
    attempt("open by handle", "seccomp", SECCOMP, |_| call("open_by_handle_at")),
    attempt("set the clock", "seccomp", SECCOMP, |_| call("clock_settime")),
    attempt("fill /tmp", "quota of /tmp", &[Errno::ENOSPC], |_| fill()),
    attempt("more processes than granted", "process limits", &[Errno::EAGAIN], |_| fork()),
    attempt("more memory than granted", "cgroup limits", &[Errno::ENOMEM], |_| allocate()),
];

/// `octant self --probe PID`, inside: one JSON line for each attempt, the name before it is made, so that one that ends
/// the agent is known.
pub(crate) fn run(step: &str) -> io::Result<()> {
    match step {
        "wait" => {
            std::thread::sleep(Duration::from_secs(30));
            return Ok(());
        }
        "memory" => return take_memory(),
        _ => {}
    }
    // Outside of a workstation these would be no attempts but deeds.
    if !fs::metadata("/etc/octant/applets").is_ok_and(|list| list.permissions().readonly()) {
        return Err(io::Error::other("this is no workstation"));
    }
    let outside = Pid::from_raw(step.parse().map_err(io::Error::other)?);
    let mut out = io::stdout().lock();
    for attempt in ATTEMPTS {
        writeln!(out, "{}", serde_json::to_string(&Answer { attempt: attempt.name.into(), errno: None })?)?;
        let errno = match (attempt.act)(outside) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(-1),
        };
        let answer = Answer { attempt: attempt.name.into(), errno: Some(errno) };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

fn of(errno: i32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// A system call that no workstation allows, with arguments that the kernel refuses too, though not with that answer.
fn call(name: &str) -> io::Result<()> {
    let number = probe::DENIED.iter().find(|row| row.0 == name).map(|row| row.1);
    of(probe::attempt(number.ok_or(io::ErrorKind::NotFound)?))
}

fn write(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)
}

fn run_written() -> io::Result<()> {
    let path = "/tmp/octant-doctor";
    fs::write(path, format!("#!{OWN}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let ran = Command::new(path).stdin(Stdio::null()).spawn();
    fs::remove_file(path)?;
    ran?.wait().map(drop)
}

fn fill() -> io::Result<()> {
    let piece = vec![0_u8; 1 << 20];
    let path = |number: usize| format!("/tmp/octant-doctor-{number}");
    let filled = (0..TMP_PIECES).try_for_each(|number| fs::write(path(number), &piece));
    for number in 0..TMP_PIECES {
        let _not_made = fs::remove_file(path(number));
    }
    filled
}

fn again(step: &str) -> Command {
    let mut command = Command::new(OWN);
    command.args(["self", "--probe", step]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn fork() -> io::Result<()> {
    let mut children: Vec<Child> = Vec::new();
    let forked = (0..PIDS + 4).try_for_each(|_| again("wait").spawn().map(|child| children.push(child)));
    for child in &mut children {
        // It may have been refused a thread and ended by itself.
        let _ended = child.kill();
        child.wait()?;
    }
    forked
}

/// In a child, which the kernel kills for it, with or without this process.
fn allocate() -> io::Result<()> {
    let status = again("memory").status()?;
    if status.success() { Ok(()) } else { Err(Errno::ENOMEM.into()) }
}

fn take_memory() -> io::Result<()> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(MEMORY).map_err(|_| io::Error::from(Errno::ENOMEM))?;
    // Each page is really there only when something is written to it.
    memory.resize(MEMORY, 1_u8);
    if memory.iter().step_by(4096).all(|byte| *byte == 1) { Ok(()) } else { Err(Errno::EFAULT.into()) }
}
