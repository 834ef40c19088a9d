//! The gate of one run: the service `egress` as a child of this process, for one agent.
//!
//! It is the program that PID 1 runs elsewhere, confined the same way, and it decides the same. What differs is around it:
//! this process is its only caller, and appends for it to the ledger, which is opened for each record; there is no vault,
//! so no secret is used; it ends with the run.

mod ledger;

use crate::error::{RunError, at, with};
use crate::places::Places;
use crate::record::{GATE, Record};
use crate::start::{memory, place};
use ledger::Ledger;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, chown, mkdtemp, setgroups, setresgid, setresuid};
use octant_api::boot::{BootConfig, Mode};
use octant_api::egress::{AdmitRequest, Caps, DismissRequest, ListenRequest};
use octant_api::ticket::Ticket;
use octant_api::unit::COPIES;
use octant_ids::{Layout, uid};
use octant_manifest::{Effective, NO_END, Traffic};
use octant_sys::clock;
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{Program, exit_now, signal_pidfd};
use octant_ticket::Issuer;
use octant_wire::blocking::Client;
use octant_workstation::{DOORS_MAX, Listen, Plan, SpawnerClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Whom this process stands for, towards a gate.
const CALLER: &str = "agents";
/// How the name of the directory with its sockets begins. One that a killed run has left goes with the next run.
pub(crate) const DIR: &str = "/tmp/octant-run.";
/// How long it may take to end, in milliseconds: a little more than it gives its own last records.
const END_MS: u16 = 6_000;
/// The most of its own words that is shown.
const WORDS_MAX: u64 = 4_000;
/// How many descriptors it may have open, where the person may: as many as a machine's own.
const DESCRIPTORS: u64 = 1 << 16;
/// The most that a person's settings have.
const SETTINGS_MAX: u64 = 1 << 20;

/// A directory for sockets, whose paths the kernel keeps short.
#[derive(Debug)]
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _nobody_needs_it = fs::remove_dir_all(&self.0);
    }
}

/// The gate, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    client: Client,
    pid: Pid,
    pidfd: OwnedFd,
    /// What it writes to standard error.
    words: File,
    /// Where it comes to have something put on record, until somebody listens there.
    records: Option<UnixListener>,
    ledger: Option<Ledger>,
    dir: Dir,
}

impl Gate {
    /// Starts it. Call it while this process has one thread.
    pub(crate) fn start(places: &Places) -> Result<Self, RunError> {
        let service = settings(&places.layout().etc)?;
        let dir = mkdtemp(&*format!("{DIR}XXXXXX")).map_err(|errno| at("make a directory")(errno.into()))?;
        let dir = Dir(dir);
        let failed = || with("make the sockets of the gate in", &dir.0);
        let layout =
            Layout { state: dir.0.clone(), run: dir.0.clone(), log: dir.0.clone(), ..places.layout() };
        let config = BootConfig {
            boot_id: "0".repeat(32),
            mode: Mode::Namespace,
            operator: nix::unistd::getuid().as_raw(),
            accept_missing: Vec::new(),
            agents_cgroup: None,
            hardware: BTreeMap::new(),
            sole_caller: CALLER.parse().ok(),
            landlock_unreported: None,
            service,
            layout,
        };
        // Root's gate is a user of its own, as everywhere; another user's can be no other.
        let user = uid::of_service(GATE).filter(|_| nix::unistd::geteuid().is_root());
        let (socket, records) = sockets(&config.layout, user).map_err(failed())?;
        let make = || {
            let config = memory(&config.to_json().map_err(io::Error::other)?)?;
            let words = memory(b"")?;
            let parent = std::process::id();
            match clone3(&CloneArgs::new())? {
                Cloned::Child => {
                    become_gate([socket.as_fd(), config.as_fd()], words.as_fd(), user, parent);
                    exit_now(1)
                }
                Cloned::Parent { pid, pidfd } => {
                    let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
                    Ok((pid, pidfd, File::from(words)))
                }
            }
        };
        let (pid, pidfd, words) = make().map_err(at("start the gate"))?;
        let path = config.layout.socket(GATE);
        let client = Client::connect(&path).map_err(|error| RunError::Gate(error.to_string()))?;
        // From here on nobody else can.
        fs::remove_file(&path).map_err(with("close the socket", &path))?;
        Ok(Self { client, pid, pidfd, words, records: Some(records), ledger: None, dir })
    }

    /// Where its sockets are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// Has it let the agent reach its hosts, from a workstation that stands; gives the ticket with which its program starts.
    pub(crate) fn open(
        &mut self,
        places: &Places,
        plan: &Plan,
        request: &AdmitRequest,
        spawner: &mut SpawnerClient,
        (record, issuer): (&mut Record, &Issuer),
    ) -> Result<Ticket, RunError> {
        if let Some(listener) = self.records.take() {
            self.ledger = Some(Ledger::serve(listener, places.clone(), plan.aid)?);
        }
        let admitted = self.client.call(request).map_err(|error| self.failed(&error))?;
        for doors in admitted.missing.chunks(DOORS_MAX) {
            let listen = Listen { aid: plan.aid, doors: doors.to_vec() };
            let refused = |error: &dyn std::error::Error| RunError::Gate(format!("has no sockets: {error}"));
            let digest = listen.digest().map_err(|error| refused(&error))?;
            let what = json!({ "do": "listen", "agent": plan.aid, "doors": doors });
            let ticket = record.intend_more(plan.aid, digest, &what, issuer)?;
            let sockets = spawner.listen(plan.slot, &listen, &ticket).map_err(|error| refused(&error))?;
            for (door, socket) in doors.iter().zip(sockets) {
                let request = ListenRequest { aid: plan.aid, door: *door };
                let done = self.client.call_with(&request, &[socket.as_fd()]);
                done.map_err(|error| self.failed(&error))?;
            }
        }
        let digest = plan.digest().map_err(|error| RunError::Record(error.to_string()))?;
        record.intend_more(
            plan.aid,
            digest,
            &json!({ "do": "let its program go", "agent": plan.aid }),
            issuer,
        )
    }

    /// Has it cut everything, say what became of it, and end; what went wrong with it, if something did.
    pub(crate) fn end(mut self, plan: &Plan) -> Option<String> {
        let dismissed = self.client.call(&DismissRequest { aid: plan.aid });
        let _ended_by_itself = signal_pidfd(self.pidfd.as_fd(), Signal::SIGTERM as i32);
        let _killed_where_it_does_not =
            poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], END_MS);
        dismissed.err().map(|error| self.why(&error))
    }

    fn failed(&self, error: &dyn std::error::Error) -> RunError {
        RunError::Gate(self.why(error))
    }

    /// An error with its own last words.
    fn why(&self, error: &dyn std::error::Error) -> String {
        let mut words = String::new();
        let mut file = &self.words;
        let read = file.rewind().and_then(|()| file.take(WORDS_MAX).read_to_string(&mut words));
        let last = words.lines().last().filter(|_| read.is_ok()).unwrap_or_default();
        format!("does not answer: {error}; its last words: {last:?}")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ended_already = signal_pidfd(self.pidfd.as_fd(), Signal::SIGKILL as i32);
        let _its_code_says_nothing = waitpid(self.pid, None);
    }
}

/// What the gate is told of a program.
pub(crate) fn admission(plan: &Plan, rights: &Effective, manifest: octant_ids::Sha256) -> AdmitRequest {
    let Traffic { connections, bytes_per_second } = rights.grants().traffic();
    let [_, _, _, bytes, _] = rights.allotment().parts();
    let caps = Caps {
        connections,
        bytes: Some(bytes).filter(|bytes| *bytes != NO_END),
        bytes_per_second: bytes_per_second.map(|rate| rate.0),
        drawn: false,
    };
    AdmitRequest {
        aid: plan.aid,
        generation: clock::boottime_ns(),
        hosts: rights.grants().hosts().iter().map(ToString::to_string).collect(),
        leases: Vec::new(),
        credentials: Vec::new(),
        logins: Vec::new(),
        manifest: Some(manifest),
        caps,
    }
}

/// `[egress]` of the octant.toml beside the person's key; none is as good.
fn settings(etc: &Path) -> Result<Value, RunError> {
    let path = etc.join("octant.toml");
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(SETTINGS_MAX).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => drop(done.map_err(with("read your settings", &path))?),
    }
    let unreadable = |error: &dyn std::error::Error| {
        with("read your settings", &path)(io::Error::other(error.to_string()))
    };
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| unreadable(&error))?;
    let own = table.remove("egress").unwrap_or_else(|| toml::Table::new().into());
    serde_json::to_value(own).map_err(|error| unreadable(&error))
}

/// What it listens on, and where it comes to have something put on record. Nobody but the two can reach either.
fn sockets(layout: &Layout, user: Option<u32>) -> io::Result<(UnixListener, UnixListener)> {
    let (state, records) = (layout.state_of(GATE), layout.socket("ledger"));
    fs::create_dir(&state)?;
    let listeners = (UnixListener::bind(layout.socket(GATE))?, UnixListener::bind(&records)?);
    // Before others can look into the directory: whoever connects to either is taken for this process.
    for socket in [&layout.socket(GATE), &records] {
        fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    }
    if let Some(user) = user {
        fs::set_permissions(&layout.run, Permissions::from_mode(0o711))?;
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
        [&state, &records].into_iter().try_for_each(|path| chown(path, user, group))?;
    }
    Ok(listeners)
}

/// In the child: what fails is in its words, and it does not return if nothing does.
fn become_gate(given: [BorrowedFd<'_>; 2], words: BorrowedFd<'_>, user: Option<u32>, parent: u32) {
    let become_it = || -> io::Result<io::Error> {
        // A signal that a terminal or a job runner sends to the whole group is the program's to heed.
        nix::unistd::setsid()?;
        // Two for each connection.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(DESCRIPTORS)), hard)?;
        if let Some(user) = user {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            setgroups(&[])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user)?;
        }
        // Another user's process is not tied any more.
        octant_sys::process::end_with_parent(parent)?;
        place(&given, words)?;
        let env = [
            format!("LISTEN_PID={}", std::process::id()),
            format!("LISTEN_FDS={}", given.len()),
            "LISTEN_FDNAMES=socket:config".to_owned(),
            COPIES.to_owned(),
        ];
        let env = env.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let args = [c"octant", c"svc", c"egress"].map(ToOwned::to_owned).to_vec();
        Ok(Program::new(c"/proc/self/exe".into(), args, env).execute())
    };
    let (Ok(error) | Err(error)) = become_it();
    let _the_last_word = nix::unistd::write(words, format!("it cannot be started: {error}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_gate_and_none_is_as_good() {
        let dir = Dir(mkdtemp("/tmp/octant-run-settings.XXXXXX").unwrap());
        assert_eq!(settings(&dir.0).unwrap(), json!({}));
        let path = dir.0.join("octant.toml");
        fs::write(&path, "[egress]\nallow_addresses = [\"10.20.0.0/16\"]\n[other]\nx = 1\n").unwrap();
        assert_eq!(settings(&dir.0).unwrap(), json!({ "allow_addresses": ["10.20.0.0/16"] }));
        fs::write(&path, "[egress").unwrap();
        let error = settings(&dir.0).unwrap_err().to_string();
        assert!(error.contains("octant.toml") && error.contains("settings"), "{error}");
    }

    #[test]
    fn nobody_else_reaches_its_sockets() {
        let dir = Dir(mkdtemp("/tmp/octant-run-sockets.XXXXXX").unwrap());
        let layout = Layout { state: dir.0.clone(), run: dir.0.clone(), ..Layout::system() };
        let _listening = sockets(&layout, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir.0), mode(&layout.socket("ledger"))), (0o700, 0o600));
        assert_eq!(mode(&layout.socket(GATE)), 0o600);
    }
}
