//! A session at a terminal with the real binary: the first boot's questions, refusals, a login, its shell, its end. PID 1
//! is played by the test, which so sees what would go on record.

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen, recv, send, socket,
};
use octant_api::operator::{AccountChange, Answer, Op, Request};
use octant_sys::console::{open_master, open_terminal};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_octant");
/// Long beyond all that a loaded machine takes; nothing waits for it when all is well.
const LONG: Duration = Duration::from_secs(120);

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scratch(name: &str) -> Scratch {
    let path = std::env::temp_dir().join(format!("octant-login-{}-{name}", std::process::id()));
    for part in ["etc", "state", "run", "log"] {
        fs::create_dir_all(path.join(part)).unwrap();
    }
    Scratch(path)
}

/// PID 1's operator socket: takes everything, and says what it was told.
fn pid_1(scratch: &Scratch) -> Receiver<Request> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(&scratch.0.join("run/init.sock")).unwrap()).unwrap();
    listen(&fd, Backlog::new(8).unwrap()).unwrap();
    let (told, said) = channel();
    std::thread::spawn(move || {
        while let Ok(raw) = accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            let connection = octant_sys::inherit::take(raw).unwrap();
            let mut frame = [0; Request::LEN];
            let length = recv(connection.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
            let Some(request) = Request::decode(&frame[..length]) else { continue };
            let report = request.op.is_report();
            let answer = Answer::Result { ok: report, text: "played".into() };
            // Who asks for the status may be gone already.
            let _ = send(connection.as_raw_fd(), &answer.encode(), MsgFlags::MSG_NOSIGNAL);
            if report && told.send(request).is_err() {
                return;
            }
        }
    });
    said
}

/// `login` at a terminal of its own.
struct Session {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown and not looked for yet, and all of it.
    shown: String,
    all: String,
}

impl Session {
    fn start(scratch: &Scratch) -> Self {
        let devpts = File::open("/dev/pts").unwrap();
        let master = open_master(devpts.as_fd()).unwrap();
        let terminal = open_terminal(master.as_fd()).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        // setsid -c makes the terminal the controlling one, as PID 1 does.
        let mut command = Command::new(BINARY);
        command.args(["setsid", "-c", "-w", BINARY, "login"]).env_clear();
        command.env("PATH", "/nonexistent").env("OCTANT_DIR", &scratch.0);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut output = File::from(master.try_clone().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // EIO is how a terminal ends whose other side nobody has open.
            while let Ok(length @ 1..) = output.read(&mut part) {
                if sender.send(part[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys: master.into(), screen, shown: String::new(), all: String::new() }
    }

    /// Waits until the terminal shows a text behind what was seen before.
    fn sees(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown.find(text) {
                self.shown.drain(..at + text.len());
                return;
            }
            match self.screen.recv_timeout(LONG) {
                Ok(part) => {
                    let text = String::from_utf8_lossy(&part);
                    self.shown.push_str(&text);
                    self.all.push_str(&text);
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?} in {:?}", self.shown),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {text:?}: {:?}", self.shown),
            }
        }
    }

    fn types(&mut self, line: &str) {
        self.keys.write_all(line.as_bytes()).unwrap();
        self.keys.write_all(b"\r").unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_new_machine_asks_who_owns_it_and_lets_that_one_in() {
    let scratch = scratch("session");
    let record = pid_1(&scratch);
    let told = || {
        let request = record.recv_timeout(LONG).unwrap();
        (request.op, request.unit.split('@').next().unwrap_or_default().to_owned(), request.arg)
    };
    let mut first = Session::start(&scratch);
    first.sees("no operator yet");
    first.sees("your name");
    first.types("Not A Name");
    first.sees("is no name");
    for (name, passphrase, again) in [
        ("alice", "short", "short"),
        ("alice", "correct horse", "correct house"),
        ("alice", "correct horse", "correct horse"),
    ] {
        first.sees("your name");
        first.types(name);
        first.sees("new passphrase: ");
        first.types(passphrase);
        first.sees("the same again: ");
        first.types(again);
    }
    first.sees("make the vault now?");
    first.types("y");
    first.sees("public key:");
    first.sees("passphrase should be another one");
    for _ in 0..2 {
        first.sees("passphrase");
        first.sees(": ");
        first.types("another passphrase");
    }
    first.sees("no vault was made");
    first.sees("Log in with the name");
    assert!(!first.all.contains("correct"), "{}", first.all);
    first.ends();
    assert_eq!(told(), (Op::Account, "alice".to_owned(), 0));
    assert!(record.try_recv().is_err(), "what was refused is no account that was made");
    let mode = |path: &str| fs::metadata(scratch.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode("state/console"), mode("state/console/accounts.json"), mode("state/console/alice.key")],
        [0o700, 0o600, 0o600]
    );
    assert!(scratch.0.join("etc/trusted/alice.pub").exists());
    logs_in_and_out(&scratch, &told);
}

fn logs_in_and_out(scratch: &Scratch, told: &dyn Fn() -> (Op, String, i32)) {
    let mut session = Session::start(scratch);
    for (name, on_record) in [("nobody", ""), ("alice", "alice")] {
        session.sees("octant login: ");
        session.types(name);
        session.sees("passphrase (Enter for a key): ");
        session.types("a wrong passphrase");
        session.sees("that is not right");
        assert_eq!(told(), (Op::Refused, on_record.to_owned(), 0));
    }
    session.sees("octant login: ");
    session.types("alice");
    session.sees("passphrase (Enter for a key): ");
    session.types("correct horse");
    assert_eq!(told(), (Op::Login, "alice".to_owned(), 0));
    session.sees("health: PID 1 did not answer in time");
    session.sees("ledger: did not answer in time");
    // The shell's own word, which the echo of the line has in two parts.
    session.types("echo $USER-$(octant id -u)-$HOME; octant tty");
    session.sees("alice-0-/root");
    session.sees("/dev/pts/");
    session.types("exit 3");
    session.sees("logged out: exit code 3");
    assert_eq!(told(), (Op::Logout, "alice".to_owned(), 0));
    assert_eq!(session.ends(), Some(0));
}

#[test]
fn guessing_slows_down_and_restarting_does_not_help() {
    let scratch = scratch("guesses");
    let record = pid_1(&scratch);
    let mut add = Session::start(&scratch);
    add.sees("your name");
    add.types("alice");
    for question in ["new passphrase: ", "the same again: "] {
        add.sees(question);
        add.types("correct horse");
    }
    add.sees("make the vault now?");
    add.types("n");
    add.sees("Log in with the name");
    add.ends();
    let guess = |session: &mut Session, name: &str, passphrase: &str, answer: &str| {
        session.sees("octant login: ");
        session.types(name);
        session.sees("passphrase (Enter for a key): ");
        session.types(passphrase);
        session.sees(answer);
    };
    let mut session = Session::start(&scratch);
    for _ in 0..3 {
        guess(&mut session, "alice", "a wrong passphrase", "that is not right");
    }
    assert_eq!(session.ends(), Some(i32::from(octant_ids::Exit::Denied.code())));
    // As if there had been many more, just now; nothing else of the machine is as it was.
    let path = scratch.0.join("state/console/attempts.json");
    let many = fs::read_to_string(&path).unwrap().replace("\"count\":3", "\"count\":30");
    fs::write(&path, many).unwrap();
    let mut session = Session::start(&scratch);
    guess(&mut session, "alice", "correct horse", "too many wrong answers: wait ");
    drop(record);
    session.child.kill().unwrap();
    session.ends();
}

#[test]
fn a_login_that_cannot_be_put_on_record_is_none() {
    let scratch = scratch("unrecorded");
    let mut session = Session::start(&scratch);
    session.sees("your name");
    session.types("alice");
    for question in ["new passphrase: ", "the same again: "] {
        session.sees(question);
        session.types("correct horse");
    }
    session.sees("PID 1 does not answer");
    assert_ne!(session.ends(), Some(0));
    assert!(!scratch.0.join("state/console/accounts.json").exists());
}

/// This program as the operator's command line, for an instance; what it prints.
fn octant(scratch: &Scratch, words: &[&str]) -> String {
    let done = Command::new(BINARY).args(words).env("OCTANT_DIR", &scratch.0).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// A key that the instance trusts; its identifier.
fn trusted_key(scratch: &Scratch, name: &str) -> String {
    let dir = scratch.0.display().to_string();
    let made = octant(scratch, &["--json", "manifest", "keygen", name, "--into", &dir]);
    octant(scratch, &["trust", "add", &format!("{dir}/{name}.pub")]);
    made.split('"').find(|word| word.len() == 64).unwrap().to_owned()
}

impl Session {
    /// Asks for a challenge; what is shown.
    fn challenge(&mut self, name: &str) -> String {
        self.sees("octant login: ");
        self.types(name);
        self.sees("passphrase (Enter for a key): ");
        self.types("");
        self.sees("octant account answer --key FILE \\");
        self.sees("answer: ");
        let from = self.all.rfind("login1:").unwrap();
        self.all[from..].lines().next().unwrap().trim_end().to_owned()
    }
}

fn answer(scratch: &Scratch, challenge: &str, key: &str) -> String {
    let key = scratch.0.join(format!("{key}.key")).display().to_string();
    octant(scratch, &["account", "answer", challenge, "--key", &key]).trim_end().to_owned()
}

#[test]
fn a_key_opens_its_account_until_it_is_revoked_and_an_answer_counts_once() {
    let scratch = scratch("key");
    let record = pid_1(&scratch);
    let told = || {
        let request = record.recv_timeout(LONG).unwrap();
        (request.op, request.unit.split('@').next().unwrap_or_default().to_owned(), request.arg)
    };
    let (alice, bob) = (trusted_key(&scratch, "alice"), trusted_key(&scratch, "bob"));
    octant(&scratch, &["login", "--add", "alice", "--key", &alice[..16]]);
    octant(&scratch, &["login", "--add", "bob", "--key", &bob]);
    for (name, change) in [("alice", AccountChange::Made), ("bob", AccountChange::Made)] {
        assert_eq!(told(), (Op::Account, name.to_owned(), change as i32));
    }
    let listed = octant(&scratch, &["login", "--list"]);
    assert!(listed.contains(&alice[..16]) && !listed.contains("passphrase"), "{listed}");
    let mut session = Session::start(&scratch);
    let challenge = session.challenge("alice");
    let used = answer(&scratch, &challenge, "alice");
    session.types(&used);
    assert_eq!(told(), (Op::Answered, alice[..16].to_owned(), 0));
    assert_eq!(told(), (Op::Login, "alice".to_owned(), 0));
    session.types("echo $USER-$((1+1)); exit");
    session.sees("alice-2");
    assert_eq!(told(), (Op::Logout, "alice".to_owned(), 0));
    session.ends();
    refused_answers(&scratch, &used, &told);
    // The counts of the refusals are another test's.
    fs::remove_file(scratch.0.join("state/console/attempts.json")).unwrap();
    let mut session = Session::start(&scratch);
    let challenge = session.challenge("alice");
    session.types(&answer(&scratch, &challenge, "alice"));
    session.sees("ledger: ");
    assert_eq!((told().0, told().0), (Op::Answered, Op::Login));
    octant(&scratch, &["trust", "revoke", &alice, "--reason", "lost"]);
    session.sees("logged out: the key that opened it does not count any more");
    assert_eq!(told(), (Op::Logout, "alice".to_owned(), 0));
    session.ends();
    let mut session = Session::start(&scratch);
    let challenge = session.challenge("alice");
    session.types(&answer(&scratch, &challenge, "alice"));
    session.sees("that is not right");
    assert_eq!(told(), (Op::Refused, "alice".to_owned(), 0));
    session.child.kill().unwrap();
    session.ends();
}

/// What was used, what is another's, what is cut short: the same answer for all, and for an account that is not there.
fn refused_answers(scratch: &Scratch, used: &str, told: &dyn Fn() -> (Op, String, i32)) {
    let mut session = Session::start(scratch);
    session.challenge("alice");
    session.types(used);
    session.sees("that is not right");
    let challenge = session.challenge("alice");
    session.types(&answer(scratch, &challenge, "bob"));
    session.sees("that is not right");
    let challenge = session.challenge("carol");
    session.types(&answer(scratch, &challenge, "alice")[..85]);
    session.sees("that is not right");
    for on_record in ["alice", "alice", ""] {
        assert_eq!(told(), (Op::Refused, on_record.to_owned(), 0));
    }
    session.ends();
}
