//! The incident-report example's scripts, run by this machine's shell over generated logs, with programs in
//! place of `octant` and `sleep` that answer as they do in a workstation. That the real ones do is for the tests
//! that boot a machine.

// The generator belongs to xtask, which has no library: its file is read in here.
#[path = "../../xtask/src/logs.rs"]
mod logs;

use octant_manifest::{
    Audience, Ceiling, Delegated, Effective, Envelope, Machine, Roles, SigningKey, TrustedKeys, sign,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Refuses every attempt, takes every note.
const OCTANT: &str = r#"case "$1 ${3-}" in
"self "*) echo "octant: cannot $3: Operation not permitted (os error 1)" >&2; exit 5 ;;
"note "*) echo "$2" >>"$WORK/notes" ;;
esac"#;
/// What a shell says of the process that is one too many.
const SLEEP: &str = r#"echo "sh: cannot fork: Resource temporarily unavailable" >&2; exit 1"#;

struct Stage {
    dir: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("octant-example-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        let stage = Self { dir };
        stage.program("octant", OCTANT);
        stage.program("sleep", SLEEP);
        stage
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.dir.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, script: &str) -> Output {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/incident-report");
        let path = std::env::join_paths([self.dir.join("bin"), "/usr/bin".into(), "/bin".into()]).unwrap();
        Command::new("sh")
            .arg(example.join(script))
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("LOGS", &self.dir)
            .env("WORK", &self.dir)
            .env("OCTANT", "octant")
            .env("EXAMPLE", &self.dir)
            // Not that of this machine.
            .env("SECRET", self.dir.join("secret"))
            .output()
            .unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_report_finds_what_was_planted() {
    for seed in [1, 2, 3] {
        let stage = Stage::new(&format!("planted-{seed}"));
        let planted = logs::write_logs(&stage.dir, seed).unwrap();
        let output = stage.run("report.sh");
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let report = stage.read("report.md");
        assert!(text.contains(&report) && report.starts_with("# Incident report\n"), "{text}");
        let findings = [
            format!(
                "1. {} failed to log in {} times, most often as {} ({} times).",
                planted.source, planted.source_failures, planted.target, planted.target_failures
            ),
            format!("it got in as {}: treat the account", planted.intruded),
            format!("was {}, with {} of them", planted.burst_minute, planted.burst_errors),
            format!("| {} | {} |", planted.source_failures, planted.source),
            format!("| {} | {} | {} |", planted.target_failures, planted.target, planted.source),
            format!("| {} | {} |", planted.burst_errors, planted.burst_minute),
            "COMMAND=/usr/bin/tar -cf /tmp/.x.tar /etc".to_owned(),
        ];
        for finding in findings {
            assert!(report.contains(&finding), "seed {seed}: no {finding:?} in\n{report}");
        }
        let talkers = report.split("## Top talkers").nth(1).unwrap();
        let first = talkers.lines().find(|line| line.contains("192.0.2.")).unwrap();
        let expected = format!("| {} | ", planted.talker_requests);
        assert!(
            first.starts_with(&expected) && first.ends_with(&format!("| {} |", planted.talker)),
            "{first}"
        );
        let notes = stage.read("notes");
        assert!(notes.contains(&planted.source) && notes.contains("5 of 5 forbidden attempts"), "{notes}");
    }
}

#[test]
fn an_attempt_that_succeeds_or_is_not_made_fails_the_agent() {
    let rows = [
        ("octant", "exit 0", "connect to 192.0.2.1 port 80: SUCCEEDED"),
        ("octant", r#"[ "$1" = note ] || exit 127"#, "mount a tmpfs on /tmp: NOT TRIED"),
        ("octant", r#"[ "$1" = note ] || exit 2"#, "as ptrace would: NOT TRIED"),
        ("sleep", "exit 0", "with a limit of 32: SUCCEEDED"),
    ];
    for (i, (program, text, says)) in rows.into_iter().enumerate() {
        let stage = Stage::new(&format!("escape-{i}"));
        logs::write_logs(&stage.dir, 1).unwrap();
        stage.program(program, text);
        let output = stage.run("report.sh");
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(shown(&output).contains(says), "no {says:?} in\n{}", shown(&output));
    }
}

#[test]
fn without_its_logs_the_agent_says_so() {
    let stage = Stage::new("empty");
    let output = stage.run("report.sh");
    assert_eq!(output.status.code(), Some(1));
    assert!(shown(&output).contains("auth.log cannot be read; does the manifest grant it?"));
}

/// Plays the operator's side; `$FAIL` names the command that fails.
const OPERATOR: &str = r#"echo "did: $*"
case "$*" in "agent spawn"*) echo "agent-1" ;; esac
case "$*" in *"${FAIL:-nothing}"*) exit 1 ;; esac"#;

#[test]
fn the_job_fails_when_any_of_its_steps_does() {
    let steps =
        ["health", "status", "agent spawn", "agent logs", "agent show", "ledger tail", "ledger verify"];
    for fail in [None, Some("health"), Some("agent spawn"), Some("agent logs"), Some("ledger verify")] {
        let stage = Stage::new(&format!("job-{}", fail.unwrap_or("none").replace(' ', "-")));
        let operator = fail.map_or_else(String::new, |fail| format!("FAIL='{fail}'\n")) + OPERATOR;
        stage.program("octant", &operator);
        let output = stage.run("run.sh");
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(i32::from(fail.is_some())), "{fail:?}: {text}");
        for step in steps {
            assert!(text.contains(&format!("did: {step}")), "{fail:?}: no {step}: {text}");
        }
        assert_eq!(text.contains("incident-report: done"), fail.is_none(), "{text}");
    }
}

/// The rights under the key that `cargo x image` makes: operator, role developer.
fn rights(manifest: &[u8], ceiling: &Ceiling) -> Effective {
    let key = SigningKey::from_seed([1; 32]);
    let file = ("operator.pub".to_owned(), key.public_file("operator", "developer"));
    let keys = TrustedKeys::from_files(&[file]).unwrap();
    let envelope = Envelope::parse(&sign(manifest, &[&key])).unwrap();
    let authentic = envelope.verify(&keys, &HERE).unwrap();
    Effective::root(&authentic.declare().unwrap(), ceiling).unwrap()
}

const HERE: Audience<'static> = Audience { machine: "any", now_ms: 1_800_000_000_000 };

fn ceiling() -> Ceiling {
    Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 30, cpus: 1 })
}

#[test]
fn the_manifest_is_valid_and_within_what_its_operator_may_give() {
    let manifest = include_bytes!("../../../examples/incident-report/manifest.toml");
    assert_eq!(rights(manifest, &ceiling()).narrowed(), [], "it gets all that it asks for");
}

/// What divide.sh fills in is tried here as it would come; that it does so is for the test that runs it.
#[test]
fn divided_work_is_divided_without_a_rest() {
    let mut first = rights(include_bytes!("../../../examples/divided-work/manifest.toml"), &ceiling());
    assert_eq!(first.narrowed(), []);
    let child = |level: &str, spawns: &str, below: &str| {
        let text = include_str!("../../../examples/divided-work/child.toml");
        let text = text
            .replace("@LEVEL@", level)
            .replace("@SPAWNS@", spawns)
            .replace("@BELOW@", below)
            .replace("@MINUTES@", "4");
        Delegated::read(text.replace("@FROM@", "1").replace("@TO@", "2").as_bytes(), &HERE).unwrap()
    };
    let wishes = [child("2", "true", "6"), child("1", "true", "2"), child("0", "false", "0")];
    fn spawn(above: &mut Effective, wishes: &[Delegated]) -> usize {
        let [wish, rest @ ..] = wishes else { return 0 };
        let two = [0, 1].map(|_| above.narrow(wish, &ceiling(), None).unwrap());
        let below = two.into_iter().map(|mut child| {
            assert_eq!(child.narrowed(), [], "each gets all that it asks for");
            1 + spawn(&mut child, rest)
        });
        let count = below.sum();
        assert_eq!(above.allotment().parts(), [0, 0, 0, 0, 0]);
        count
    }
    assert_eq!(spawn(&mut first, &wishes), 14);
}
