//! `octant up`: the same graph in a PID namespace of this machine, and what it does with bad input.

use crate::exports::{Said, said};
use octant_tests::agents::{guest_files, sign};
use octant_tests::environment::{Scratch, binary, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example's logs are the same in every run.
const LOGS_SEED: u64 = 1;

/// An instance's directory that trusts the operator of `cargo x`.
pub(crate) struct Instance {
    pub(crate) scratch: Scratch,
}

impl Instance {
    pub(crate) fn new(name: &str) -> Self {
        let instance = Self { scratch: Scratch::new(name) };
        let public = path("OCTANT_OPERATOR_KEY").with_extension("pub");
        instance.write("etc/trusted/operator.pub", &fs::read(&public).unwrap_or_else(|e| panic!("{e}")));
        instance
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.path("instance")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.dir().join(name);
        let parent = path.parent().unwrap_or_else(|| unreachable!("below the instance"));
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes)).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Brings the instance up for one shell command and returns what came of it; two minutes at the most.
    fn up(&self, options: &[&str], job: &str) -> Said {
        self.up_by(Command::new("timeout").args(["--kill-after=5", "120"]), options, job)
    }

    /// The same with a command before it that executes what follows.
    pub(crate) fn up_by(&self, command: &mut Command, options: &[&str], job: &str) -> Said {
        said(
            command
                .arg(binary())
                .args(["up", "--dir"])
                .arg(self.dir())
                .args(options)
                .args(["--", "sh", "-c", job]),
        )
    }

    pub(crate) fn accepting(&self, job: &str) -> Said {
        self.up(&["--accept-missing", "cgroup"], job)
    }

    /// The same for a job that takes longer.
    pub(crate) fn accepting_for(&self, seconds: u32, job: &str) -> Said {
        let mut timeout = Command::new("timeout");
        self.up_by(
            timeout.args(["--kill-after=5", &seconds.to_string()]),
            &["--accept-missing", "cgroup"],
            job,
        )
    }

    /// With its state on a file system of its own, which has so many MiB and is gone afterwards.
    pub(crate) fn on_a_small_disk(&self, mib: u32, job: &str) -> Said {
        let state = self.dir().join("state");
        fs::create_dir_all(&state).unwrap_or_else(|e| panic!("{}: {e}", state.display()));
        let script = format!(
            "mount -t tmpfs -o size={mib}m tmpfs '{}' && exec timeout --kill-after=5 120 \"$@\"",
            state.display()
        );
        let mut command = Command::new("unshare");
        self.up_by(command.args(["--mount", "sh", "-c", &script, "sh"]), &["--accept-missing", "cgroup"], job)
    }

    /// The newest segment of the ledger.
    fn segment(&self) -> PathBuf {
        let dir = self.dir().join("state/ledger/segments");
        let mut found: Vec<PathBuf> = fs::read_dir(&dir)
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
            .flatten()
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found.pop().unwrap_or_else(|| panic!("{}: no segment", dir.display()))
    }
}

#[track_caller]
pub(crate) fn ended((code, text): &Said, expected: i32, words: &[&str]) {
    assert_eq!(*code, Some(expected), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

/// The checkout's copy of the example, with the paths that it has in an image moved below `dir`.
pub(crate) fn example(dir: &Path) -> PathBuf {
    placed("incident-report", &["manifest.toml", "report.sh", "run.sh"], dir)
}

/// The same of any example.
fn placed(example: &str, files: &[&str], dir: &Path) -> PathBuf {
    let source = guest_files().join("../../examples").join(example);
    let target = dir.join(example);
    let moved = |text: &str| {
        text.replace("/srv/logs", &dir.join("logs").display().to_string())
            .replace(&format!("/usr/share/octant/examples/{example}"), &target.display().to_string())
    };
    fs::create_dir_all(&target).unwrap_or_else(|e| panic!("{e}"));
    for name in files {
        let text = fs::read_to_string(source.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        fs::write(target.join(name), moved(&text)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    write_logs(&dir.join("logs"));
    sign(&target.join("manifest.toml"), &target.join("manifest.signed.json"));
    target
}

/// The example's two logs.
pub(crate) fn write_logs(dir: &Path) {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    logs::write_logs(dir, LOGS_SEED).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
}

#[path = "../../crates/xtask/src/logs.rs"]
#[allow(dead_code, reason = "the generator of the example's logs has parts that only its other users need")]
mod logs;

#[test]
fn the_example_runs_and_every_forbidden_thing_is_denied() {
    let instance = Instance::new("example");
    let example = example(&instance.scratch.path("files"));
    let job = format!("EXAMPLE={0} SECRET={0}/secret sh {0}/run.sh", example.display());
    let outcome = instance.accepting(&job);
    ended(&outcome, 0, &["# Incident report", "incident-report: done"]);
}

#[test]
fn a_tree_of_agents_divides_a_job_and_every_seal_verifies() {
    let instance = Instance::new("tree");
    let files = ["manifest.toml", "child.toml", "divide.sh", "run.sh"];
    let example = placed("divided-work", &files, &instance.scratch.path("files"));
    let outcome = instance.accepting(&format!("sh {}/run.sh", example.display()));
    ended(&outcome, 0, &["15 seals verify", "divided-work: done"]);
}

#[test]
fn a_missing_layer_refuses_the_spawn_with_its_name() {
    if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("memory")) {
        println!("skipped: this machine has cgroup v2 controllers, so no layer is missing");
        return;
    }
    let instance = Instance::new("layer");
    let example = example(&instance.scratch.path("files"));
    let spawn = format!("octant agent spawn --wait {}/manifest.signed.json", example.display());
    ended(&instance.up(&[], &spawn), 8, &["cgroup"]);
}

#[test]
fn an_accepted_missing_layer_is_loud() {
    let instance = Instance::new("loud");
    let example = example(&instance.scratch.path("files"));
    let job = format!(
        "octant agent spawn --wait {}/manifest.signed.json && octant agent list --all && octant ledger query --kind lifecycle --json",
        example.display()
    );
    ended(&instance.accepting(&job), 0, &["missing", "cgroup"]);
}

#[test]
fn a_denied_system_call_is_reported_with_what_would_grant_it() {
    let instance = Instance::new("why");
    let manifest = instance.scratch.path("why.toml");
    let made = said(Command::new(binary()).args(["manifest", "new", "why", "--operator", "operator"]));
    let (args, utilities) = ("args = [\"-c\", ", "utilities = [\"sh\", ");
    let text = made.1.replace(args, "args = [\"-c\", \"echo >f; chmod 4755 f; chmod 4711 f; exit 0\", ");
    let text = text.replace(utilities, "utilities = [\"sh\", \"chmod\", ");
    fs::write(&manifest, text).unwrap_or_else(|e| panic!("{e}"));
    let envelope = instance.scratch.path("why.signed.json");
    sign(&manifest, &envelope);
    let job = format!(
        "octant agent spawn --wait {} && octant agent why why && octant ledger query --kind decision --json && \
         octant ledger query --kind lifecycle --json | grep archived",
        envelope.display()
    );
    let outcome = instance.accepting(&job);
    let words = ["(2 times, by chmod)", "set-id", "\"denied_calls\":[\"", "\":2}"];
    ended(&outcome, 0, &words);
    assert!(!outcome.1.contains("clone3"), "a fallback is no denial:\n{}", outcome.1);
}

#[test]
fn the_job_exit_code_is_passed_on() {
    ended(&Instance::new("code").accepting("exit 42"), 42, &[]);
}

#[test]
fn a_corrupt_configuration_is_refused_with_file_and_line() {
    let instance = Instance::new("config");
    instance.write("etc/octant.toml", b"[init]\nemergency = \"halt\"\nno_such_key = 1\n");
    ended(&instance.accepting("true"), 6, &["octant.toml", "no_such_key"]);
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let instance = Instance::new("check");
    instance.write("etc/octant.toml", b"[init]\nhostname = \"desk\"\n");
    let check = || said(Command::new(binary()).arg("--dir").arg(instance.dir()).args(["config", "check"]));
    ended(&check(), 0, &["ledger"]);
    instance
        .write("etc/units/alpha.toml", b"exec = [\"/bin/true\"]\nuser = 65534\nneeds = [\"nobody-here\"]\n");
    ended(&check(), 6, &["alpha.toml", "nobody-here"]);
}

#[test]
fn a_cycle_of_units_is_named_and_the_rest_comes_up() {
    let instance = Instance::new("cycle");
    let unit = |needs: &str| format!("exec = [\"/bin/true\"]\nuser = 65534\nneeds = [\"{needs}\"]\n");
    instance.write("etc/units/alpha.toml", unit("beta").as_bytes());
    instance.write("etc/units/beta.toml", unit("alpha").as_bytes());
    let outcome = instance.accepting("octant status; octant ledger verify");
    ended(&outcome, 0, &["alpha", "beta", "circle"]);
}

#[test]
fn a_flipped_byte_in_the_ledger_is_found_and_stops_new_agents() {
    let instance = Instance::new("flip");
    ended(&instance.accepting("octant ledger verify"), 0, &[]);
    let segment = instance.segment();
    let mut bytes = fs::read(&segment).unwrap_or_else(|e| panic!("{e}"));
    let place = bytes.windows(4).position(|w| w == b"boot").unwrap_or_else(|| panic!("no entry of the boot"));
    bytes[place] ^= 1;
    fs::write(&segment, bytes).unwrap_or_else(|e| panic!("{e}"));
    let name = segment.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let example = example(&instance.scratch.path("files"));
    let job = format!(
        "octant ledger verify; echo verify $?; octant agent spawn {}/manifest.signed.json; echo spawn $?; octant health; echo health $?",
        example.display()
    );
    let (_, text) = instance.accepting(&job);
    assert!(text.contains("verify 7") && text.contains(&name), "{text}");
    assert!(!text.contains("spawn 0"), "an agent was spawned with a broken ledger:\n{text}");
    assert!(text.contains("health 10"), "{text}");
}

#[test]
fn a_tail_cut_below_the_acknowledged_head_is_found() {
    let instance = Instance::new("tail");
    ended(&instance.accepting("octant ledger verify"), 0, &[]);
    let segment = instance.segment();
    let bytes = fs::read(&segment).unwrap_or_else(|e| panic!("{e}"));
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    fs::write(&segment, &bytes[..used / 2]).unwrap_or_else(|e| panic!("{e}"));
    let (_, text) = instance.accepting("octant ledger verify; echo verify $?; octant health; echo health $?");
    assert!(text.contains("verify 7") && text.contains("health 10"), "{text}");
}

#[test]
fn a_manifest_by_an_unknown_key_is_refused() {
    let instance = Instance::new("key");
    fs::remove_file(instance.dir().join("etc/trusted/operator.pub")).unwrap_or_else(|e| panic!("{e}"));
    let example = example(&instance.scratch.path("files"));
    let spawn = format!("octant agent spawn {}/manifest.signed.json", example.display());
    ended(&instance.accepting(&spawn), 7, &["trusted"]);
}

#[test]
fn an_operator_who_is_trusted_later_needs_no_restart() {
    let instance = Instance::new("later");
    fs::remove_dir_all(instance.dir()).unwrap_or_else(|e| panic!("{e}"));
    let example = example(&instance.scratch.path("files"));
    let job = format!(
        "octant agent spawn {0}/manifest.signed.json; echo before $?; cp {1} {2}/etc/trusted/ && \
         octant agent spawn --wait {0}/manifest.signed.json; echo after $?",
        example.display(),
        path("OCTANT_OPERATOR_KEY").with_extension("pub").display(),
        instance.dir().display()
    );
    ended(&instance.accepting(&job), 0, &["before 7", "after 0"]);
}

/// The processes on this machine whose command lines have this word.
fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap_or_else(|e| panic!("/proc: {e}"));
    let lines = entries.flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

/// Waits for this many of them, half a minute at the most.
fn await_processes(word: &str, wanted: usize) -> bool {
    (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        processes_with(word) == wanted
    })
}

#[test]
fn what_is_prepared_is_spawned_from_and_does_not_outlive_who_made_it() {
    let instance = Instance::new("prepared");
    let example = example(&instance.scratch.path("files"));
    // Two wait; a spawn takes the older one, and runs as any; another is made. When the spawner is killed they end, when
    // `agents` is, they are ended; each time there are new ones.
    let job = format!(
        "cd {}; ids() {{ octant agent prepared --json | tr -c 'a-z0-9-' '\\n' | grep ^agent-; }}; \
         two() {{ for _ in $(seq 300); do ids >now; test $(wc -l <now) = 2 && \
                  ! grep -qxF -f \"$1\" now && return; sleep 0.1; done; echo not replaced; }}; \
         killed() {{ kill -9 $(octant status --json | tr '{{' '\\n' | \
                     sed -n 's/.*\"name\":\"'$1'\".*\"pid\":\\([0-9]*\\).*/\\1/p'); }}; \
         octant agent prepare --count 2 manifest.signed.json >first && wc -l <first; \
         octant agent list | grep -c prepared; octant agent spawn --wait manifest.signed.json >spawned; echo ran $?; \
         grep -qxF \"$(cat spawned)\" first && echo was prepared; \
         cat spawned >gone; two gone; cat now >gone; killed spawner; two gone; cat now >>gone; killed agents; \
         two gone; octant agent prepared --drop | wc -l; ids | wc -l; \
         octant ledger verify >verified && echo verifies",
        example.display()
    );
    let said = instance.accepting(&job);
    ended(&said, 0, &["ran 0", "was prepared", "verifies"]);
    assert!(!said.1.contains("not replaced"), "{}", said.1);
}

#[test]
fn agents_end_with_who_supervises_them() {
    let instance = Instance::new("supervisor");
    let dir = instance.scratch.path("files");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    octant_tests::agents::agent_below(&instance.scratch, &dir, "sleep 600\n");
    let job = format!("octant agent spawn {}/vault.signed.json; sleep 600", dir.display());
    let mut up = Command::new(binary())
        .args(["up", "--accept-missing", "cgroup", "--dir"])
        .arg(instance.dir())
        .args(["--", "sh", "-c", &job])
        .spawn()
        .unwrap_or_else(|e| panic!("octant up: {e}"));
    let script = dir.join("uses.sh").display().to_string();
    let started = await_processes(&script, 1);
    up.kill().and_then(|()| up.wait()).unwrap_or_else(|e| panic!("octant up: {e}"));
    assert!(started, "the agent never ran");
    assert!(await_processes(&script, 0), "the agent outlived its supervisor");
}

#[test]
fn a_service_that_is_killed_comes_back_and_a_queued_request_is_answered() {
    let instance = Instance::new("crash");
    let job = "pid=$(octant status --json | tr '{' '\\n' | sed -n 's/.*\"name\":\"ledger\".*\"pid\":\\([0-9]*\\).*/\\1/p'); \
               kill -9 $pid && octant ledger tail -n 1 && octant ledger verify";
    ended(&instance.accepting(job), 0, &[]);
}
