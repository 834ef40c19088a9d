//! The service as a process of its own, started as PID 1 starts it: inherited descriptors, confinement,
//! readiness, work, orderly end.

use super::{BOOT, Dir};
use crate::LedgerService;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::unistd::{Pid, dup};
use octant_api::boot::{BootConfig, Mode};
use octant_api::journal::{self, Record};
use octant_api::ledger::{HeadRequest, Kind, TailRequest, VerifyRequest};
use octant_ids::{Layout, Principal};
use octant_wire::blocking::Client;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

const CHILD: &str = "OCTANT_LEDGER_SERVICE_CHILD";

/// Not a test of its own: the process that the tests below start.
#[test]
fn child_that_is_the_service() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // A thread of the test harness exists beside this one; only this one, and those it starts, are confined.
    assert_eq!(octant_service::run::<LedgerService>(), ExitCode::SUCCESS);
}

/// A service's process; it does not outlive its test, also when that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended in most tests.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl std::ops::Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

/// What PID 1 holds for the service.
struct Parent {
    dir: Dir,
    listener: UnixListener,
    notify: UnixDatagram,
    journal: (OwnedFd, OwnedFd),
    config: serde_json::Value,
}

impl Parent {
    fn new() -> Self {
        let dir = Dir::new();
        let layout = Layout::under(&dir.0);
        fs::create_dir_all(layout.state_of("ledger")).unwrap();
        fs::create_dir_all(&layout.run).unwrap();
        let listener = UnixListener::bind(layout.socket("ledger")).unwrap();
        let notify = UnixDatagram::bind(dir.0.join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let journal =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        Self { dir, listener, notify, journal, config: serde_json::json!({}) }
    }

    fn layout(&self) -> Layout {
        Layout::under(&self.dir.0)
    }

    fn start(&self) -> Running {
        let boot = BootConfig {
            layout: self.layout(),
            boot_id: BOOT.to_owned(),
            mode: Mode::Namespace,
            operator: nix::unistd::getuid().as_raw(),
            accept_missing: Vec::new(),
            agents_cgroup: None,
            hardware: Default::default(),
            sole_caller: None,
            landlock_unreported: None,
            service: self.config.clone(),
        };
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let mut config = fs::File::from(nix::sys::memfd::memfd_create(c"config", flags).unwrap());
        config.write_all(&boot.to_json().unwrap()).unwrap();
        // Copies that the start of the shell keeps, which moves them to where the service looks for them.
        let kept = [self.listener.as_fd(), config.as_fd(), self.journal.1.as_fd()].map(|fd| dup(fd).unwrap());
        let [socket, config, journal] = kept.each_ref().map(AsRawFd::as_raw_fd);
        let script = format!(
            "export LISTEN_PID=$$; exec \"$0\" --exact tests::process::child_that_is_the_service --nocapture \
             3<&{socket} 4<&{config} 5<&{journal}"
        );
        let child = Command::new("bash")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(CHILD, "1")
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", "socket:config:journal")
            .env("NOTIFY_SOCKET", self.dir.0.join("notify"))
            .env("WATCHDOG_USEC", "600000")
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.0.join("log")).unwrap())
            .spawn()
            .unwrap();
        Running(child)
    }
}

impl Parent {
    /// Notifications up to the one that has this line.
    fn until(&self, line: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let mut buffer = [0; 1024];
            let len = self.notify.recv(&mut buffer).unwrap_or_else(|error| {
                let log = fs::read_to_string(self.dir.0.join("log")).unwrap_or_default();
                panic!("{line} did not come ({error}) after {seen:?}; log: {log}")
            });
            let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
            seen.extend(text.lines().map(str::to_owned));
            if text.lines().any(|got| got == line) {
                return seen;
            }
        }
    }

    fn client(&self) -> Client {
        Client::connect(&self.layout().socket("ledger")).unwrap()
    }

    fn report(&self, text: &str, mono_ns: u64) {
        let record = Record {
            kind: journal::Kind::Boot,
            backfilled: true,
            mono_ns,
            unit: String::new(),
            text: text.into(),
        };
        send(self.journal.0.as_raw_fd(), &record.encode(), MsgFlags::empty()).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.0.join("log")).unwrap()
    }
}

fn terminate(child: &mut Child) -> std::process::ExitStatus {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    child.wait().unwrap()
}

/// The status fields of every thread that the service confined: all but the harness's own.
fn confined_threads(child: &Child) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    statuses.filter(|status| status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2")).count()
}

#[test]
fn it_confines_itself_becomes_ready_works_and_ends() {
    let parent = Parent::new();
    parent.report("mounts", 5);
    let mut child = parent.start();
    let seen = parent.until("READY=1");
    assert!(
        !seen.iter().any(|line| line.starts_with("X_OCTANT_HEALTH") && !line.ends_with("=ok")),
        "{seen:?}"
    );
    // Health is reported again and again.
    parent.until("X_OCTANT_HEALTH=ok");
    parent.until("WATCHDOG=1");
    assert!(confined_threads(&child) >= 2, "the runtime's thread and the writer's are confined");
    parent.report("services", 6);
    let request = TailRequest { from: Some(1), follow: true, ..TailRequest::default() };
    let mut tail = parent.client().stream(&request).unwrap();
    for (seq, text) in [(1, "mounts"), (2, "services")] {
        let entry = tail.next().unwrap().unwrap();
        assert_eq!((entry.seq, entry.kind, entry.actor), (seq, Kind::Boot, Principal::Init));
        assert_eq!((entry.backfilled, entry.boot_id.as_str()), (true, BOOT));
        assert_eq!(entry.payload.text(), format!(r#"{{"text":"{text}"}}"#));
    }
    let report = parent.client().call(&VerifyRequest::default()).unwrap();
    assert_eq!((report.entries, report.damage), (2, None));
    let status = terminate(&mut child);
    parent.until("STOPPING=1");
    assert!(status.success(), "{status}: {}", parent.log());
}

#[test]
fn a_restart_keeps_the_socket_the_entries_and_what_waits_in_the_journal() {
    let parent = Parent::new();
    let mut child = parent.start();
    parent.until("READY=1");
    parent.report("one", 1);
    while parent.client().call(&HeadRequest {}).unwrap().seq < 1 {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    parent.report("two", 2);
    // Connected while nobody serves: the listening socket is the parent's.
    let mut waiting = parent.client();
    let mut child = parent.start();
    parent.until("READY=1");
    assert!(waiting.call(&HeadRequest {}).unwrap().seq >= 1);
    while parent.client().call(&HeadRequest {}).unwrap().seq < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let report = parent.client().call(&VerifyRequest::default()).unwrap();
    assert_eq!((report.entries, report.damage), (2, None));
    assert!(terminate(&mut child).success());
}

#[test]
fn a_damaged_ledger_is_served_for_reading_and_never_healthy() {
    let parent = Parent::new();
    let mut child = parent.start();
    parent.until("READY=1");
    parent.report("one", 1);
    while parent.client().call(&HeadRequest {}).unwrap().seq < 1 {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(terminate(&mut child).success());
    parent.until("STOPPING=1");
    let path = super::segment(&parent.layout().state_of("ledger"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut child = parent.start();
    let mut buffer = [0; 1024];
    let health = loop {
        let len = parent.notify.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..len].to_vec()).unwrap();
        assert!(!text.contains("X_OCTANT_HEALTH=ok"));
        if text.contains("X_OCTANT_HEALTH=") {
            break text;
        }
    };
    assert!(health.contains("00000000000000000001.log at offset 64: entry 1"), "{health}");
    let head = parent.client().call(&HeadRequest {}).unwrap();
    assert_eq!(head.seq, 0);
    assert!(head.refused.unwrap().contains("entry 1"));
    let damage = parent.client().call(&VerifyRequest::default()).unwrap().damage.unwrap();
    assert_eq!((damage.offset, damage.seq), (64, 1));
    assert!(terminate(&mut child).success());
}

#[test]
fn what_is_missing_or_wrong_at_the_start_is_named() {
    let mut parent = Parent::new();
    parent.config = serde_json::json!({ "segment_byte": 1 });
    assert!(!parent.start().wait().unwrap().success());
    assert!(
        parent.log().contains("[ledger] of octant.toml: unknown field `segment_byte`"),
        "{}",
        parent.log()
    );
    parent.config = serde_json::json!({ "segment_bytes": "1KiB" });
    assert!(!parent.start().wait().unwrap().success());
    assert!(parent.log().contains("is not from 1MiB to 1GiB"), "{}", parent.log());
    parent.config = serde_json::json!({});
    fs::remove_dir(parent.layout().state_of("ledger")).unwrap();
    assert!(!parent.start().wait().unwrap().success());
    assert!(parent.log().contains("layer landlock: the granted path"), "{}", parent.log());
}
