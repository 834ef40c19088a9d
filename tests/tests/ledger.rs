//! What the ledger shows to somebody outside: exports, proofs, kept checkpoints, witnesses; and what a full disk stops.

use crate::exports::{Said, accepted, edited_entry, holds_and_breaks, refused, said};
use crate::namespace::{Instance, ended, example};
use octant_tests::environment::binary;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits until the newest checkpoint covers every entry.
const SETTLED: &str = r#"
number() { octant ledger verify --json | tr ',{' '\n\n' | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }
settled() {
  tries=0
  until [ "$(number entries)" = "$(number checkpointed)" ]; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || return 1
    sleep 0.1
  done
}
"#;

fn job(lines: &str) -> String {
    format!("{SETTLED}{lines}")
}

fn copy(from: &Path, to: &Path) {
    let (code, text) = said(Command::new("cp").arg("-a").arg(from).arg(to));
    assert_eq!(code, Some(0), "{text}");
}

/// Puts an older copy of something in its place.
fn restore(copy_of: &Path, place: &Path) {
    fs::remove_dir_all(place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
    copy(copy_of, place);
}

#[test]
fn an_export_verifies_elsewhere_and_a_tampered_one_nowhere() {
    let instance = Instance::new("export");
    let files = instance.scratch.path("files");
    let example = example(&files);
    let lines = format!(
        r#"cd {files} || exit 90
        octant agent spawn --wait {example}/manifest.signed.json --json >spawned || exit 91
        aid=$(sed -n 's/.*"aid":"\(agent-[0-9a-z]*\)".*/\1/p' spawned | head -n 1)
        settled || exit 92
        octant ledger checkpoint --key >log.pub && octant ledger checkpoint >kept.checkpoint || exit 93
        octant ledger export all.octant && octant ledger export agent.octant --agent $aid || exit 94
        octant ledger query --agent $aid --limit 1000 --json >queried || exit 95
        octant ledger export all.octant; echo "again $?""#,
        files = files.display(),
        example = example.display()
    );
    let outcome = instance.accepting(&job(&lines));
    ended(&outcome, 0, &["again 1", "is there already"]);
    let file = |name: &str| files.join(name);
    let (all, agent, key) = (file("all.octant"), file("agent.octant"), file("log.pub"));
    holds_and_breaks(&all, &key);
    accepted(&all, &key, Some(&file("kept.checkpoint")));
    accepted(&agent, &key, Some(&file("kept.checkpoint")));
    let about = fs::read_to_string(&agent).unwrap_or_else(|e| panic!("{e}"));
    let queried = fs::read_to_string(file("queried")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(about.lines().count(), queried.lines().count() + 2, "first and last line:\n{queried}");
    let (tampered, seq) = edited_entry(&agent);
    refused(&tampered, &key, None, Some(seq));
}

#[test]
fn an_entry_is_proven_by_itself() {
    let instance = Instance::new("prove");
    let proof = instance.scratch.path("2.proof");
    let lines = format!(
        "settled; octant ledger prove 2 -o {0}; octant ledger prove 2 | cmp - {0}; echo same $?; \
         octant ledger prove 1000000; echo none $?",
        proof.display()
    );
    ended(&instance.accepting(&job(&lines)), 0, &["proves entry 2", "same 0", "none 3"]);
    let text = fs::read_to_string(&proof).unwrap_or_else(|e| panic!("{e}"));
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\n"), "{text}");
}

#[test]
fn a_checkpoint_that_was_kept_shows_that_an_older_copy_was_restored() {
    let instance = Instance::new("rollback");
    let (state, older) = (instance.dir().join("state"), instance.scratch.path("older"));
    let kept = instance.scratch.path("kept.checkpoint");
    ended(&instance.accepting("octant ledger verify"), 0, &["not proven: that this is not an older copy"]);
    copy(&state, &older);
    // Twice as many entries, so that what a later start appends to the older copy does not come as far.
    let lines = format!(
        "i=0; while [ $i -lt 5 ]; do octant service restart agents; i=$((i + 1)); done; settled; \
         octant ledger checkpoint >{0} && octant ledger import-checkpoint {0} && octant ledger verify --checkpoint {0}",
        kept.display()
    );
    ended(
        &instance.accepting(&job(&lines)),
        0,
        &["the ledger continues this checkpoint", "proven: it continues"],
    );
    // What was imported is in the state directory: here somebody leaves it in place.
    let outside = instance.scratch.path("outside");
    copy(&state.join("ledger/outside"), &outside);
    restore(&older, &state);
    let verify = format!(
        "octant ledger verify; echo alone $?; octant ledger verify --checkpoint {0}; echo against $?; \
         octant ledger import-checkpoint {0}; echo import $?",
        kept.display()
    );
    let outcome = instance.accepting(&job(&verify));
    ended(
        &outcome,
        0,
        &["alone 0", "against 7", "import 7", "does not verify", "but the log ends with entry"],
    );
    restore(&outside, &state.join("ledger/outside"));
    ended(&instance.accepting("octant ledger verify"), 7, &["does not verify"]);
}

/// A witness beside the instance, which ends with its test.
struct Witness {
    process: Child,
    pub_key: PathBuf,
    socket: PathBuf,
}

impl Witness {
    /// Starts one that knows this log.
    fn start(dir: &Path, log: &Path) -> Self {
        let (key, pub_key, socket) = (dir.join("w1.key"), dir.join("w1.pub"), dir.join("w1.sock"));
        let mut process = Command::new(binary())
            .args(["ledger", "witness", "--key"])
            .arg(&key)
            .arg("--state")
            .arg(dir.join("witness"))
            .arg("--log")
            .arg(log)
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("octant ledger witness: {e}"));
        let said = process.stderr.take().unwrap_or_else(|| unreachable!("it was asked for as a pipe"));
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let listens = lines.find(|line| line.contains("listens at"));
        assert!(listens.is_some(), "the witness ended before it listened");
        std::thread::spawn(move || lines.for_each(|line| println!("witness: {line}")));
        Self { process, pub_key, socket }
    }

    /// A feeder's options for it.
    fn target(&self) -> String {
        format!("--witness {}=unix:{}", self.pub_key.display(), self.socket.display())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Makes a witness's key and has the instance's ledger ask for its cosignature.
fn configure_witness(instance: &Instance) {
    let dir = instance.scratch.path("");
    let (code, key) = said(
        Command::new(binary())
            .args(["ledger", "witness-key", "new", "--name", "w1.example"])
            .arg(dir.join("w1.key")),
    );
    assert_eq!(code, Some(0), "{key}");
    fs::write(dir.join("w1.pub"), &key).unwrap_or_else(|e| panic!("{e}"));
    let config = format!("[ledger]\nwitnesses = [\"{}\"]\nquorum = 1\n", key.trim());
    instance.write("etc/octant.toml", config.as_bytes());
}

#[test]
fn a_log_is_complete_with_its_witness_and_a_rollback_and_a_fork_are_refused() {
    let instance = Instance::new("witness");
    let (state, older) = (instance.dir().join("state"), instance.scratch.path("older"));
    let file = |name: &str| instance.scratch.path(name);
    let log = file("log.pub");
    ended(&instance.accepting(&format!("octant ledger checkpoint --key >{}", log.display())), 0, &[]);
    configure_witness(&instance);
    let witness = Witness::start(&file(""), &log);
    let feed = format!("octant ledger feed --once {}", witness.target());

    let lines = format!(
        "settled; octant ledger verify; echo before $?; octant ledger export {1}; {0}; echo fed $?; \
         octant ledger verify; echo after $?; octant ledger export {2}",
        feed,
        file("alone.octant").display(),
        file("witnessed.octant").display()
    );
    let outcome = instance.accepting(&job(&lines));
    let words = ["before 7", "is not complete", "missing: w1.example", "fed 0", "has cosigned", "after 0"];
    ended(&outcome, 0, &words);
    // Which files say of themselves that they are complete; and that whoever trusts that witness can see it.
    accepted(&file("witnessed.octant"), &log, None);
    refused(&file("alone.octant"), &log, None, None);
    let verify = |export: &Path| -> Said {
        let mut command = Command::new(binary());
        let command = command.args(["ledger", "verify"]).arg(export).arg("--key").arg(&log);
        said(command.arg("--witness").arg(&witness.pub_key))
    };
    ended(&verify(&file("witnessed.octant")), 0, &["witness w1.example has cosigned"]);
    ended(&verify(&file("alone.octant")), 7, &["0 of 1"]);

    copy(&state, &older);
    let restarts = "i=0; while [ $i -lt 8 ]; do octant service restart agents; i=$((i + 1)); done; settled";
    ended(
        &instance.accepting(&job(&format!("{restarts}; {feed}; octant ledger verify"))),
        0,
        &["has cosigned"],
    );
    restore(&older, &state);
    let lines = format!(
        "settled; {feed}; echo rolled back $?; octant ledger verify; echo verify $?; \
         {restarts}; {restarts}; {feed}; echo forked $?; octant ledger verify; echo verify again $?"
    );
    let outcome = instance.accepting(&job(&lines));
    let words = ["ROLLBACK", "rolled back 7", "verify 7", "FORK", "forked 7", "verify again 7"];
    ended(&outcome, 0, &words);
}

#[test]
fn a_full_disk_stops_new_agents_and_nothing_else_and_room_is_enough_to_go_on() {
    let instance = Instance::new("full");
    let example = example(&instance.scratch.path("files"));
    let lines = format!(
        r#"spawn="octant agent spawn --wait {example}/manifest.signed.json"
        ballast={state}/ballast
        $spawn >/dev/null; echo "first $?"
        pid() {{ octant status --json | tr '{{' '\n' | sed -n 's/.*"name":"ledger".*"pid":\([0-9]*\).*/\1/p'; }}
        before=$(pid)
        head -c 55000000 /dev/zero >$ballast
        $spawn; echo "full $?"
        octant ledger tail -n 3 >/dev/null; echo "tail $?"
        octant ledger verify >/dev/null; echo "verify $?"
        octant agent list --all >/dev/null; echo "list $?"
        rm $ballast
        $spawn >/dev/null; echo "room $?"
        octant ledger verify >/dev/null; echo "verify again $?"
        [ "$before" = "$(pid)" ] && echo "the same process""#,
        example = example.display(),
        state = instance.dir().join("state").display()
    );
    let outcome = instance.on_a_small_disk(64, &lines);
    let words = ["first 0", "tail 0", "verify 0", "list 0", "room 0", "verify again 0", "the same process"];
    ended(&outcome, 0, &words);
    let text = &outcome.1;
    assert!(!text.contains("full 0"), "an agent was spawned without a record of it:\n{text}");
    assert!(text.contains("less than 16MiB is free"), "{text}");
}
