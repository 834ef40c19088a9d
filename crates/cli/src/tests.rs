//! Golden help texts, completions, and whole commands against sockets that play PID 1 and the services.

mod config;
mod image;
mod ledger;
pub(crate) mod services;
mod vault;
mod workspace;

use super::*;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use octant_api::operator::{Answer, End, Health, Phase, Request, UnitState, UnitStatus, Used};
use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// A directory of its own for one test; below /tmp because a socket's path has at most 107 bytes.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("octant-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("run")).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command did: exit, standard output, standard error.
pub(crate) type Done = (Exit, String, String);

/// Runs a command line as on an 80-column console.
pub(crate) fn octant(dir: &Path, args: &[&str]) -> Done {
    octant_with(Links::default(), dir, args)
}

pub(crate) fn octant_with(links: Links, dir: &Path, args: &[&str]) -> Done {
    let nothing = fs::File::open("/dev/null").unwrap();
    octant_on(links, dir, args, &nothing, Some(80))
}

/// The same with something to read on standard input, and a terminal of so many columns, if any, for the answer.
fn octant_on(links: Links, dir: &Path, args: &[&str], input: &impl AsFd, columns: Option<usize>) -> Done {
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let args = std::iter::once("octant").chain(args.iter().copied()).map(OsString::from).collect();
    let (to, errors) = (Box::new(stdout.clone()), Box::new(stderr.clone()));
    let out = |json| Out::to(json, columns, to, errors);
    let exit = run(args, Some(dir.to_path_buf()), links, Input::new(input), out);
    let text = |shared: Shared| String::from_utf8(shared.0.take()).unwrap();
    (exit, text(stdout), text(stderr))
}

/// A socket that plays PID 1: for each connection in turn it reads one request and sends the frames that
/// `script` makes of it.
pub(crate) fn play_init(
    dir: &Dir,
    turns: usize,
    script: impl Fn(Request) -> Vec<Vec<u8>> + Send + 'static,
) -> JoinHandle<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&Layout::under(&dir.0).operator_socket()).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    // The standard library's type for streams does: read and write keep the frames of SOCK_SEQPACKET.
    let listener = UnixListener::from(listener);
    thread::spawn(move || {
        for _ in 0..turns {
            let (mut peer, _) = listener.accept().unwrap();
            let mut frame = [0; 64];
            let length = peer.read(&mut frame).unwrap();
            for answer in script(Request::decode(&frame[..length]).unwrap()) {
                peer.write_all(&answer).unwrap();
            }
        }
    })
}

pub(crate) fn unit(name: &str, state: UnitState, health: Health, text: &str) -> UnitStatus {
    UnitStatus {
        name: name.into(),
        state,
        health,
        pid: 7,
        restarts: 0,
        since_ns: 0,
        uid: 960,
        heard_ms: Some(1500),
        used: Used::default(),
        out_of_memory: 0,
        text: text.into(),
    }
}

pub(crate) fn answers(units: Vec<UnitStatus>, phase: Phase, reason: &str) -> Vec<Vec<u8>> {
    let end = End { count: u32::try_from(units.len()).unwrap(), phase, reason: reason.into() };
    units.into_iter().map(Answer::Unit).chain([Answer::End(end)]).map(|a| a.encode()).collect()
}

pub(crate) fn golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(kept, text, "{} differs; UPDATE=1 cargo test -p octant-cli rewrites it", path.display());
}

/// Every command with its help text on an 80-column console.
fn helps() -> Vec<(String, String)> {
    fn walk(command: &mut clap::Command, name: &str, found: &mut Vec<(String, String)>) {
        found.push((name.to_owned(), command.render_long_help().to_string()));
        for sub in command.get_subcommands_mut() {
            let name = format!("{name}-{}", sub.get_name());
            walk(sub, &name, found);
        }
    }
    let mut command = command().term_width(80);
    command.build();
    let mut found = Vec::new();
    walk(&mut command, "octant", &mut found);
    found
}

#[test]
fn every_help_text_is_the_golden_one() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/help");
    let helps = helps();
    for (name, text) in &helps {
        assert!(text.contains("Example:\n  octant"), "{name} has no example");
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert!(long.is_none(), "{name}: longer than 80 columns: {long:?}");
        golden(&dir.join(format!("{name}.txt")), text);
    }
    for file in fs::read_dir(&dir).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let known = helps.iter().any(|(name, _)| file == format!("{name}.txt"));
        assert!(known, "{file} is the help of no command");
    }
}

/// The example in each help text is a command line that this program takes.
#[test]
fn every_example_is_a_valid_command_line() {
    for (name, text) in helps() {
        let text = text.replace(" \\\n    ", " ");
        let example = text.split("Example:\n  ").nth(1).unwrap().lines().next().unwrap();
        let plain = example.split(['|', '>', '<']).next().unwrap();
        let words = plain.split('"').enumerate().flat_map(|(i, part)| {
            if i % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        });
        let parsed = command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{name}: {example}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_tree_of_commands_is_sound() {
    command().debug_assert();
}

#[test]
fn every_command_is_known_by_its_name() {
    for name in ["status", "agent", "self", "secret", "note", "poweroff"] {
        assert!(is_command(name), "{name}");
    }
    for name in ["", "ls", "stat", "help", "init"] {
        assert!(!is_command(name), "{name}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let dir = Dir::new();
        let (exit, script, _) = octant(&dir.0, &["completion", shell]);
        assert_eq!(exit, Exit::Ok);
        for word in ["spawn", "keygen", "tail", "import-checkpoint", "poweroff", "doctor"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_on_standard_error() {
    let dir = Dir::new();
    let (exit, stdout, stderr) = octant(&dir.0, &["agent", "sapwn", "x"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""));
    assert!(stderr.contains("'sapwn'") && stderr.contains("spawn"), "{stderr}");
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "--help"]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert!(stdout.contains("octant ledger tail"), "{stdout}");
}

#[test]
fn where_nothing_runs_the_error_says_so_and_what_to_do() {
    let dir = Dir::new();
    let (exit, stdout, stderr) = octant(&dir.0, &["status"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Unavailable, ""));
    let path = dir.0.join("run/init.sock");
    let expected = format!(
        "octant: cannot reach init at {}: No such file or directory (os error 2)\n  next: Octant does not run \
         here, or runs below a directory: give --dir DIR or set OCTANT_DIR\n",
        path.display()
    )
    .replace("ENOENT: ", "");
    assert_eq!(stderr, expected);
    let (_, _, stderr) = octant(&dir.0, &["--json", "status"]);
    let document: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(document["exit"], 4);
}

#[test]
fn status_fits_the_console_and_has_everything_in_json() {
    let dir = Dir::new();
    let script = |_| {
        let long = "x".repeat(120);
        let units = vec![
            unit("ledger", UnitState::Ready, Health::Ok, "head 17"),
            unit("agents", UnitState::BackOff, Health::Unknown, &long),
        ];
        answers(units, Phase::Degraded, "agents is not ready")
    };
    let init = play_init(&dir, 2, script);
    let (exit, stdout, _) = octant(&dir.0, &["status"]);
    assert_eq!(exit, Exit::Ok);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert!(lines[0].starts_with("UNIT    STATE     HEALTH   HEARD  PID  RESTARTS  SINCE"), "{stdout}");
    assert!(lines[1].starts_with("ledger  ready     ok       1s     7    0 "), "{stdout}");
    assert!(lines.iter().all(|line| line.len() <= 80), "{stdout}");
    assert_eq!(lines[3], "octant is degraded: agents is not ready");
    let (_, stdout, _) = octant(&dir.0, &["status", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["units"][1]["state"], "back-off");
    assert_eq!(document["units"][1]["text"].as_str().unwrap().len(), 120);
    init.join().unwrap();
}

/// Each row is one picture of the machine; only the first is healthy.
#[test]
fn health_is_green_only_when_everything_was_looked_at() {
    type Row = (UnitState, Health, Phase, Exit, &'static str);
    let rows: [Row; 7] = [
        (UnitState::Ready, Health::Ok, Phase::Running, Exit::Ok, "healthy: 1 units"),
        (UnitState::Ready, Health::Unknown, Phase::Running, Exit::Unhealthy, "has not probed"),
        (UnitState::Ready, Health::Unhealthy, Phase::Running, Exit::Unhealthy, "is unhealthy: disk full"),
        (UnitState::Failed, Health::Ok, Phase::Degraded, Exit::Unhealthy, "ledger failed: disk full"),
        (UnitState::BackOff, Health::Ok, Phase::Degraded, Exit::Unhealthy, "started again after a pause"),
        (UnitState::Waiting, Health::None, Phase::Booting, Exit::Unhealthy, "waits for"),
        (UnitState::Ready, Health::Ok, Phase::Emergency, Exit::Unhealthy, "octant is emergency: why"),
    ];
    for (state, health, phase, expected, says) in rows {
        let dir = Dir::new();
        let text = if state == UnitState::Ready && health == Health::Ok { "" } else { "disk full" };
        let init =
            play_init(&dir, 1, move |_| answers(vec![unit("ledger", state, health, text)], phase, "why"));
        let (exit, stdout, stderr) = octant(&dir.0, &["health"]);
        assert_eq!(exit, expected, "{state:?} {health:?}: {stdout}");
        assert!(stdout.contains(says), "{state:?} {health:?}: {stdout}");
        assert_eq!(stderr.is_empty(), expected == Exit::Ok, "{stderr}");
        init.join().unwrap();
    }
}

#[test]
fn health_waits_for_the_first_probe_when_asked_to() {
    let dir = Dir::new();
    let turn = AtomicU32::new(0);
    let init = play_init(&dir, 3, move |_| {
        let health = if turn.fetch_add(1, Ordering::Relaxed) < 2 { Health::Unknown } else { Health::Ok };
        answers(vec![unit("ledger", UnitState::Ready, health, "")], Phase::Running, "")
    });
    assert_eq!(octant(&dir.0, &["health", "--wait", "60s"]).0, Exit::Ok);
    init.join().unwrap();
}

#[test]
fn a_restart_is_over_when_the_unit_is_ready_anew() {
    let dir = Dir::new();
    let looks = AtomicU32::new(0);
    let init = play_init(&dir, 5, move |request| match request.op {
        Op::Status => {
            let look = looks.fetch_add(1, Ordering::Relaxed);
            // Before; still the old state; starting; ready.
            let (state, since_ns) = [
                (UnitState::Ready, 1),
                (UnitState::Ready, 1),
                (UnitState::Starting, 2),
                (UnitState::Ready, 3),
            ][look as usize];
            let unit = UnitStatus { since_ns, ..unit("ledger", state, Health::Ok, "head 17") };
            answers(vec![unit], Phase::Running, "")
        }
        op => {
            assert_eq!((op, request.unit.as_str()), (Op::Restart, "ledger"));
            vec![Answer::Result { ok: true, text: String::new() }.encode()]
        }
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["service", "restart", "ledger"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "ledger is ready: head 17\n"), "{stderr}");
    init.join().unwrap();
}

#[test]
fn a_unit_near_its_bounds_or_beyond_them_says_so() {
    let dir = Dir::new();
    let used = |memory, pids| Used {
        memory: Some(memory),
        memory_max: Some(64 << 20),
        pids: Some(pids),
        pids_max: Some(32),
    };
    let web = |used, out_of_memory| UnitStatus {
        used,
        out_of_memory,
        ..unit("web", UnitState::Ready, Health::None, "")
    };
    let rows = [
        (web(used(12 << 20, 3), 0), ""),
        (web(used(60 << 20, 30), 0), "memory 60.0M of 64.0M; 30 of 32 processes"),
        (web(used(1 << 20, 3), 2), "killed for memory 2x"),
    ];
    let units = rows.each_ref().map(|row| row.0.clone()).to_vec();
    let init = play_init(&dir, 2, move |_| answers(units.clone(), Phase::Running, ""));
    let (_, stdout, _) = octant(&dir.0, &["status", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let web = &document["units"][1];
    assert_eq!((&web["memory"], &web["memory_max"]), (&(60 << 20).into(), &(64 << 20).into()));
    assert_eq!((&web["pids"], &web["pids_max"]), (&30.into(), &32.into()));
    assert_eq!(document["units"][2]["out_of_memory"], 2);
    let (_, stdout, _) = octant(&dir.0, &["status"]);
    for (line, (_, said)) in stdout.lines().skip(1).zip(&rows) {
        let cut: String = said.chars().take(18).collect();
        assert!(line.contains(&cut) && (!said.is_empty() || !line.contains('6')), "{stdout}");
    }
    init.join().unwrap();
}

#[test]
fn refusals_have_their_exit_code_and_a_next_step() {
    for (text, exit) in [
        ("user 7 may not do this; run it as root", Exit::Denied),
        ("already going down", Exit::Failed),
        ("no unit is named \"x\"", Exit::NotFound),
    ] {
        let dir = Dir::new();
        let init =
            play_init(&dir, 1, move |_| vec![Answer::Result { ok: false, text: text.into() }.encode()]);
        let (found, _, stderr) = octant(&dir.0, &["poweroff"]);
        assert_eq!(found, exit, "{stderr}");
        assert!(stderr.starts_with(&format!("octant: cannot power off: {text}\n")), "{stderr}");
        init.join().unwrap();
    }
    let dir = Dir::new();
    let init = play_init(&dir, 1, |_| answers(vec![], Phase::Running, ""));
    let (exit, _, stderr) = octant(&dir.0, &["service", "stop", "nobody"]);
    assert_eq!((exit, stderr.as_str()), (Exit::NotFound, "octant: there is no unit nobody\n"));
    init.join().unwrap();
}

#[test]
fn a_strange_answer_is_refused_and_cannot_move_the_cursor() {
    for frames in [vec![], vec![b"OCT1garbage".to_vec()], vec![vec![0; 400]]] {
        let dir = Dir::new();
        let init = play_init(&dir, 1, move |_| frames.clone());
        let (exit, stdout, stderr) = octant(&dir.0, &["status"]);
        assert_eq!((exit, stdout.as_str()), (Exit::Unavailable, ""), "{stderr}");
        assert!(stderr.contains("did not answer as it should"), "{stderr}");
        init.join().unwrap();
    }
    let dir = Dir::new();
    let init = play_init(&dir, 1, |_| {
        answers(vec![unit("a", UnitState::Ready, Health::Ok, "\x1b[2J")], Phase::Running, "")
    });
    assert!(!octant(&dir.0, &["status"]).1.contains('\x1b'));
    init.join().unwrap();
}

#[test]
fn the_configuration_is_checked_by_what_the_binary_puts_in() {
    let dir = Dir::new();
    let check = |links| octant_with(links, &dir.0, &["config", "check"]);
    let (exit, _, stderr) = check(Links::default());
    assert_eq!((exit, stderr.contains("no PID 1 in it")), (Exit::Unavailable, true), "{stderr}");
    let good = Links {
        check_config: Some(|layout| Ok(vec![format!("{} is fine", layout.etc.display())])),
        ..Links::default()
    };
    let expected = format!("{} is fine\n", dir.0.join("etc").display());
    assert_eq!(check(good), (Exit::Ok, expected, String::new()));
    let bad =
        Links { check_config: Some(|_| Err(vec!["octant.toml:3: no such key".into()])), ..Links::default() };
    let (exit, stdout, stderr) = check(bad);
    assert_eq!((exit, stdout.as_str()), (Exit::Invalid, "octant.toml:3: no such key\n"), "{stderr}");
}
