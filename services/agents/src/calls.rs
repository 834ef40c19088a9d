//! System calls that the filters denied to agents, as the kernel reports them: one audit record each (type 1326), which
//! names the user, and a user of an agent's slot is nobody else. What Landlock denied comes the same way (`accesses`).
//!
//! The records come through a socket that PID 1 opened; reading changes nothing about what is denied. What cannot be read
//! in time is lost to this count alone, and the loss is said.

use crate::accesses::{Access, Domain};
use crate::record::Record;
use octant_api::agents::DeniedCall;
use octant_ids::uid;
use octant_sys::audit;
use octant_sys::confine::{Instruction, install_filter};
use octant_workstation::call_name;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many different calls are kept of one agent.
const CALLS_MAX: usize = 128;
/// How many records are read before a pause, and the pause: one program can make some ten thousand in a second, and
/// the other agents are to be served meanwhile.
pub(crate) const AT_ONCE: usize = 1024;
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// The system call table of this machine, as audit records name it.
const NATIVE: &str = "c000003e";
/// The call by which it is tried whether reports come: harmless, and one that this service has no use for.
const TRIAL: u32 = 110; // getppid

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Who made the call.
    pub(crate) user: u32,
    /// Which.
    number: u32,
    native: bool,
    /// The name of the thread that made it.
    program: String,
    /// When, in milliseconds since 1970.
    ms: u64,
}

impl Report {
    /// Reads a record's text; none when it is not as this build knows it.
    ///
    /// `audit(…): auid=… uid=… … comm="sh" exe="…" sig=0 arch=c000003e syscall=41 …`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let record = Record::parse(text)?;
        Some(Self {
            user: record.field("uid")?.parse().ok()?,
            number: record.field("syscall")?.parse().ok()?,
            native: record.field("arch")? == NATIVE,
            program: record.text("comm")?,
            ms: record.ms,
        })
    }

    /// The slot of the agent that made the call.
    pub(crate) fn slot(&self) -> Option<u32> {
        uid::is_agents(self.user).then(|| (self.user - uid::AGENT_BASE) / uid::AGENT_RANGE)
    }

    fn call(&self) -> String {
        match self.native {
            true => call_name(self.number).unwrap_or_else(|| self.number.to_string()),
            false => format!("{} of a foreign table", self.number),
        }
    }
}

/// Counts a report among those of its agent; the call's name where it is the first of it.
pub(crate) fn count(calls: &mut Vec<DeniedCall>, report: &Report) -> Option<String> {
    let call = report.call();
    if let Some(row) = calls.iter_mut().find(|row| row.call == call) {
        row.count = row.count.saturating_add(1);
        row.last_ms = report.ms;
        row.program.clone_from(&report.program);
        return None;
    }
    if calls.len() >= CALLS_MAX {
        return None;
    }
    let (first_ms, last_ms, program) = (report.ms, report.ms, report.program.clone());
    calls.push(DeniedCall { call: call.clone(), count: 1, first_ms, last_ms, program });
    Some(call)
}

/// Whether reports come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Come {
    /// They do: the trial's did.
    Yes,
    /// Why they do not.
    No(String),
}

/// What Landlock's records say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Access(Access),
    Domain(Domain),
}

/// What was read at once.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) reports: Vec<Report>,
    /// What Landlock denied, and whose domains these are: in the order in which they were made.
    pub(crate) accesses: Vec<Denied>,
    /// Whether some were lost before.
    pub(crate) lost: bool,
    /// Whether there was nothing more to read.
    pub(crate) all: bool,
}

/// Where reports come from.
#[derive(Debug)]
pub(crate) struct Reports {
    socket: Option<Arc<OwnedFd>>,
    come: Mutex<Come>,
    /// Why the kernel reports nothing of what Landlock denied, where it does not.
    landlock_missing: Option<String>,
    /// Whether one came all the same.
    landlock_came: AtomicBool,
}

impl Reports {
    /// From the socket that PID 1 opened, if it could, and what it knows of Landlock's records.
    pub(crate) fn new(socket: Option<OwnedFd>, landlock_missing: Option<String>) -> Self {
        let why = match socket {
            Some(_) => "it is not known yet whether they come",
            None => {
                "PID 1 may not read the kernel's audit records here, or the kernel makes none (CONFIG_AUDIT)"
            }
        };
        let landlock_missing = landlock_missing.or_else(|| socket.is_none().then(|| why.to_owned()));
        Self {
            socket: socket.map(Arc::new),
            come: Mutex::new(Come::No(why.to_owned())),
            landlock_missing,
            landlock_came: AtomicBool::new(false),
        }
    }

    pub(crate) fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.socket.clone()
    }

    fn set(&self, come: Come) {
        *self.come.lock().unwrap_or_else(PoisonError::into_inner) = come;
    }

    /// Why nothing is reported; none when it is.
    pub(crate) fn missing(&self) -> Option<String> {
        match &*self.come.lock().unwrap_or_else(PoisonError::into_inner) {
            Come::Yes => None,
            Come::No(why) => Some(why.clone()),
        }
    }

    /// Why nothing is reported of what Landlock denied; none when it is.
    pub(crate) fn landlock_missing(&self) -> Option<String> {
        self.landlock_missing.clone().filter(|_| !self.landlock_came.load(Ordering::Relaxed))
    }

    /// Makes a call that a filter denies, in a thread that has nothing else to do. Its report shows that reports come;
    /// until then they are taken to be missing.
    pub(crate) fn try_out(&self) {
        let why = "the kernel's audit records do not come: audit=0, no \"errno\" in kernel.seccomp.actions_logged, or a \
                   network namespace that is not the machine's first";
        self.set(Come::No(why.to_owned()));
        let tried = std::thread::Builder::new().spawn(denied_call);
        match tried.map(std::thread::JoinHandle::join) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) | Err(error) => {
                self.set(Come::No(format!("the trial of them failed: {error}")))
            }
            Ok(Err(_panic)) => self.set(Come::No("the trial of them failed".to_owned())),
        }
    }

    /// Reads what is there, at most [`AT_ONCE`] records.
    pub(crate) fn read(&self) -> Read {
        let mut read = Read::default();
        let mut buffer = [0; audit::RECORD_MAX];
        let Some(socket) = &self.socket else { return read };
        for _ in 0..AT_ONCE {
            match audit::receive(socket.as_fd(), &mut buffer) {
                Ok(Some((audit::SECCOMP, text))) => read.reports.extend(Report::parse(text)),
                Ok(Some((audit::LANDLOCK_ACCESS, text))) => {
                    read.accesses.extend(Access::parse(text).map(Denied::Access));
                }
                Ok(Some((audit::LANDLOCK_DOMAIN, text))) => {
                    read.accesses.extend(Domain::parse(text).map(Denied::Domain));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => read.lost = true,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.set(Come::No(format!("they cannot be read any more: {error}")));
                    }
                    read.all = true;
                    break;
                }
            }
        }
        if !read.accesses.is_empty() {
            self.landlock_came.store(true, Ordering::Relaxed);
        }
        // Not getuid(2), which this service has no use for otherwise.
        let own = uid::of_service("agents");
        if read.reports.iter().any(|report| Some(report.user) == own && report.number == TRIAL) {
            self.set(Come::Yes);
        }
        read
    }
}

/// `if (nr == TRIAL) return ERRNO(EPERM); return ALLOW;`, and that call.
fn denied_call() -> io::Result<()> {
    let row = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let errno = 0x0005_0000 | nix::libc::EPERM.cast_unsigned();
    let program =
        [row(0x20, 0, 0, 0), row(0x15, 0, 1, TRIAL), row(0x06, 0, 0, errno), row(0x06, 0, 0, 0x7fff_0000)];
    install_filter(&program, true)?;
    // The answer is the filter's; what counts is the report.
    let _denied = nix::unistd::getppid();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "audit(1795860647.603:550): auid=4294967295 uid=268501992 gid=268501992 ses=4294967295 \
        pid=10130 comm=\"python3\" exe=\"/usr/bin/python3.11\" sig=0 arch=c000003e syscall=41 compat=0 \
        ip=0x7fcfdaf1f829 code=0x50000";

    fn report(text: &str) -> Option<Report> {
        Report::parse(text.as_bytes())
    }

    #[test]
    fn a_record_names_its_agent_and_its_call() {
        let found = report(RECORD).unwrap();
        assert_eq!(found.slot(), Some(1));
        assert_eq!(
            (found.call().as_str(), found.program.as_str(), found.ms),
            ("socket", "python3", 1_795_860_647_603)
        );
        let foreign = report(&RECORD.replace("c000003e", "40000003")).unwrap();
        assert_eq!(foreign.call(), "41 of a foreign table");
        // The reaper's user, a service's, and a range's root are nobody's agent.
        for user in ["268501993", "968", "268500992"] {
            assert_eq!(report(&RECORD.replace("268501992", user)).unwrap().slot(), None, "{user}");
        }
    }

    #[test]
    fn a_name_cannot_pass_for_a_field() {
        let hex: String = "a uid=0".bytes().map(|byte| format!("{byte:02X}")).collect();
        let found = report(&RECORD.replace("\"python3\"", &hex)).unwrap();
        assert_eq!((found.program.as_str(), found.user), ("a uid=0", 268_501_992));
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bad in ["", "audit(", "audit(1.2:3): uid=1", "audit(x.2:3): uid=1 comm=\"a\" arch=0 syscall=1"] {
            assert_eq!(report(bad), None, "{bad}");
        }
        for cut in
            0..RECORD.len() - " code=0x50000".len() - " ip=0x7fcfdaf1f829".len() - " compat=0".len() - 2
        {
            assert_eq!(report(&RECORD[..cut]), None, "{cut}");
        }
        assert_eq!(Report::parse(&[0xff; 300]), None);
    }

    #[test]
    fn calls_are_counted_and_bounded() {
        let mut calls = Vec::new();
        let mut one = report(RECORD).unwrap();
        assert_eq!(count(&mut calls, &one).as_deref(), Some("socket"));
        one.ms += 5;
        assert_eq!(count(&mut calls, &one), None);
        assert_eq!((calls[0].count, calls[0].last_ms - calls[0].first_ms), (2, 5));
        for number in 1000..2000 {
            one.number = number;
            count(&mut calls, &one);
        }
        assert_eq!(calls.len(), CALLS_MAX);
        assert_eq!(calls[1].call, "1000");
    }
}
