//! The spawner of one run: a child of this process that builds the workstation and ends.

use crate::error::{RunError, at};
use crate::namespace::Namespace;
use crate::places::Places;
use crate::terminal::Standard;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};
use octant_api::boot::{BootConfig, Mode};
use octant_api::ticket::Ticket;
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{Program, default_signals, exit_now, signal_pidfd};
use octant_sys::descriptor;
use octant_ticket::Keys;
use octant_workstation::{Layer, Plan, SpawnError, Spawned, SpawnerClient, Step};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The most of its complaint that is shown.
const COMPLAINT_MAX: u64 = 2000;

/// A spawner that was started.
#[derive(Debug)]
pub(crate) struct Spawner {
    socket: OwnedFd,
    pid: Pid,
    /// What it writes to standard error.
    complaint: File,
}

impl Spawner {
    /// Starts it: as root in the machine's own namespaces, as another user as root of that user's own.
    pub(crate) fn start(
        places: &Places,
        namespace: Option<&Namespace>,
        missing: &[Layer],
        cgroup: Option<&Path>,
        keys: &Keys,
    ) -> Result<Self, RunError> {
        let config = BootConfig {
            layout: places.layout(),
            boot_id: "0".repeat(32),
            mode: Mode::Namespace,
            operator: nix::unistd::getuid().as_raw(),
            accept_missing: missing.iter().map(|layer| layer.name().to_owned()).collect(),
            agents_cgroup: cgroup.map(Path::to_owned),
            hardware: BTreeMap::new(),
            sole_caller: None,
            landlock_unreported: None,
            service: serde_json::Value::Object(serde_json::Map::new()),
        };
        let failed = at("start the spawner");
        let started = (|| {
            let config = memory(&serde_json::to_vec(&config)?)?;
            let tickets = memory(&keys.to_text())?;
            let complaint = memory(b"")?;
            let kind = (AddressFamily::Unix, SockType::SeqPacket);
            let (ours, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC)?;
            let (word, say) = pipe2(OFlag::O_CLOEXEC)?;
            let given = [theirs.as_fd(), config.as_fd(), tickets.as_fd()];
            let program = program()?;
            match clone3(&CloneArgs::new())? {
                Cloned::Child => {
                    let error = become_spawner(&program, given, complaint.as_fd(), namespace);
                    let text = format!("{} {}", error.0, error.1);
                    let _told_by_the_exit = nix::unistd::write(&say, text.as_bytes());
                    exit_now(1)
                }
                Cloned::Parent { pid, pidfd: _ } => {
                    drop((theirs, say));
                    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
                    Ok((Self { socket: ours, pid, complaint: complaint.into() }, File::from(word)))
                }
            }
        })();
        let (spawner, mut word) = started.map_err(failed)?;
        // It closes at execve.
        let mut text = String::new();
        word.read_to_string(&mut text).map_err(at("hear from the spawner"))?;
        if text.is_empty() {
            return Ok(spawner);
        }
        let _its_word_is_known = waitpid(spawner.pid, None);
        Err(RunError::Namespaces { why: text, hint: restrictions() })
    }

    /// Waits until it takes tickets, which count from then on.
    pub(crate) fn ready(self) -> Result<Ready, RunError> {
        let Self { socket, pid, complaint } = self;
        let client = SpawnerClient::connected(socket).map_err(|error| complained(&complaint, error))?;
        Ok(Ready { client, pid, complaint })
    }
}

/// How long what is killed may take to end, in milliseconds.
const END_MS: u16 = 5_000;

/// A spawner that takes one request.
#[derive(Debug)]
pub(crate) struct Ready {
    client: SpawnerClient,
    pid: Pid,
    complaint: File,
}

impl Ready {
    /// Builds the workstation, whose first process is a child of this one, and lets the spawner go. Where there is a
    /// network its program starts once that is open, with the ticket that this gives.
    pub(crate) fn spawn(
        mut self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &Standard,
        network: Option<impl FnOnce(&mut SpawnerClient) -> Result<Ticket, RunError>>,
    ) -> Result<Spawned, RunError> {
        let done = match network {
            None => {
                let spawned = self.client.spawn(plan, ticket, &standard.for_spawner());
                spawned.map_err(|error| complained(&self.complaint, error))
            }
            Some(open) => self.spawn_with_network(plan, ticket, standard, open),
        };
        // A program that was not let go ends with it.
        drop(self.client);
        // Whatever its exit was, it has answered.
        let _done = waitpid(self.pid, None);
        done
    }

    fn spawn_with_network(
        &mut self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &Standard,
        open: impl FnOnce(&mut SpawnerClient) -> Result<Ticket, RunError>,
    ) -> Result<Spawned, RunError> {
        let failed = |error| complained(&self.complaint, error);
        let spawned = self.client.prepare(plan, ticket, &standard.for_spawner()).map_err(failed)?;
        let opened = open(&mut self.client);
        let released =
            opened.and_then(|ticket| self.client.release(plan.slot, plan.aid, &ticket).map_err(failed));
        if let Err(error) = released {
            // Nothing of it is left when its refusal is put on record.
            let _ended_already = signal_pidfd(spawned.pidfd.as_fd(), Signal::SIGKILL as i32);
            let _killed = poll(&mut [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)], END_MS);
            return Err(error);
        }
        Ok(spawned)
    }
}

/// The spawner's error, with what it wrote where it could say no more, and what may be the reason.
fn complained(mut complaint: &File, mut error: SpawnError) -> RunError {
    let mut text = String::new();
    let read = complaint.rewind().and_then(|()| complaint.take(COMPLAINT_MAX).read_to_string(&mut text));
    if read.is_ok() && error.step == Step::Request && !text.is_empty() {
        error.text = text.trim().to_owned();
    }
    let hint = if error.step == Step::Execute { String::new() } else { restrictions() };
    RunError::Spawn { error, hint }
}

/// The content as a file in memory.
pub(crate) fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"octant-run", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

fn program() -> io::Result<Program> {
    let args = vec![c"octant".to_owned(), c"spawner".to_owned()];
    // Descriptors from 3 on, in this order.
    let env: Vec<CString> = vec![c"LISTEN_FDNAMES=connection:config:tickets".into()];
    Ok(Program::new(c"/proc/self/exe".into(), args, env))
}

/// Puts what a child is given from 3 on, with nothing to read and this to complain to.
pub(crate) fn place(given: &[BorrowedFd<'_>], complaint: BorrowedFd<'_>) -> io::Result<()> {
    let null =
        nix::fcntl::open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    let all = [null.as_fd(), null.as_fd(), complaint].into_iter().chain(given.iter().copied());
    // Above every number that is about to be replaced.
    let high = all.map(|fd| descriptor::copy_above(fd, 64)).collect::<io::Result<Vec<_>>>()?;
    for (number, fd) in (0..).zip(&high) {
        std::mem::forget(descriptor::place(fd.as_fd(), number, false)?);
    }
    default_signals()
}

/// In the child: what failed, and why; on success it does not return.
fn become_spawner(
    program: &Program,
    given: [BorrowedFd<'_>; 3],
    complaint: BorrowedFd<'_>,
    namespace: Option<&Namespace>,
) -> (&'static str, io::Error) {
    let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from);
    if let Err(error) = tied {
        return ("it cannot be tied to this process:", error);
    }
    if let Some(Err(error)) = namespace.map(Namespace::enter) {
        return ("it cannot become root of its user namespace:", error);
    }
    match place(&given, complaint) {
        Ok(()) => ("the spawner cannot be executed:", program.execute()),
        Err(error) => ("its descriptors cannot be put in place:", error),
    }
}

/// A setting by which a distribution keeps ordinary users from namespaces: the file, the value that does, and what to do.
const RESTRICTIONS: [(&str, &str, &str); 3] = [
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
];

/// What this machine keeps from ordinary users, and how that is changed.
pub(crate) fn restrictions() -> String {
    if nix::unistd::geteuid().is_root() {
        return String::new();
    }
    restrictions_of(|path| fs::read_to_string(path).ok())
}

fn restrictions_of(read: impl Fn(&str) -> Option<String>) -> String {
    let is_set = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    let named = |(path, value, instead): (&str, &str, &str)| {
        let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
        is_set(path, value).then(|| {
            format!(
                "; this machine keeps user namespaces from ordinary users by {name}={value}: `sudo sysctl -w {instead}` \
                 lifts that for everybody, or run octant as root"
            )
        })
    };
    RESTRICTIONS.into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_restriction_is_named_with_what_lifts_it() {
        for (path, value, instead) in RESTRICTIONS {
            let text = restrictions_of(|asked| (asked == path).then(|| format!("{value}\n")));
            assert!(text.contains(instead) && text.contains(&format!("={value}")), "{text}");
        }
        assert_eq!(restrictions_of(|_| Some("7\n".into())), "");
        assert_eq!(restrictions_of(|_| None), "");
    }
}
