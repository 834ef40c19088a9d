//! Each utility through the real binary, by its name, as the shell would start it.

use octant_applets::APPLETS;
use octant_applets::examples::{EXAMPLES, Example};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_octant");

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("octant-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over in the temporary directory harms no later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A `/bin` with a link for every name.
fn links(directory: &Path) {
    let listed = Command::new(BINARY).arg("--list").output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        symlink(BINARY, directory.join(name)).unwrap();
    }
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that does not read its input may close it first.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn check(example: &Example, output: &Output) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let as_written = match example.output.strip_prefix('~') {
        Some(part) => text.contains(part),
        None => text == example.output,
    };
    if as_written && output.status.code() == Some(example.code) {
        return Ok(());
    }
    Err(format!(
        "{} {:?}: {}, wrote {text:?}, errors {errors:?}; expected code {} and {:?}",
        example.name, example.arguments, output.status, example.code, example.output
    ))
}

/// Utilities whose name is an operator's command too, which comes first where it is the first argument.
const COMMANDS: [&str; 1] = ["top"];

#[test]
fn every_utility_does_its_example_by_link_and_as_a_first_argument() {
    let bin = Scratch::new("examples-bin");
    links(&bin.0);
    let mut failures = Vec::new();
    for (number, example) in EXAMPLES.iter().enumerate() {
        for by_name in [true, false] {
            if !by_name && COMMANDS.contains(&example.name) {
                continue;
            }
            let directory = Scratch::new(&format!("example-{number}-{by_name}"));
            fs::write(directory.0.join("f"), "b\na\nb\n").unwrap();
            let mut command = if by_name {
                Command::new(bin.0.join(example.name))
            } else {
                let mut command = Command::new(BINARY);
                command.arg(example.name);
                command
            };
            command.args(example.arguments).current_dir(&directory.0);
            command.env_clear().env("PATH", &bin.0);
            failures.extend(check(example, &run(command, example.input)).err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// GNU says so too: `test` has no options.
const WITHOUT_HELP: [&str; 1] = ["test"];

#[test]
fn every_utility_has_a_help_text_in_english() {
    let mut failures = Vec::new();
    for applet in APPLETS.iter().filter(|applet| !WITHOUT_HELP.contains(&applet.name)) {
        let mut command = Command::new(BINARY);
        command.arg0(applet.name).arg("--help").env_clear();
        let text = String::from_utf8_lossy(&run(command, "").stdout).into_owned();
        let keys = ["about", "usage", "help", "after-help"].map(|part| format!("{}-{part}", applet.name));
        let raw = text.split_whitespace().any(|word| keys.iter().any(|key| word == key));
        if text.trim().len() < 20 || raw {
            failures.push(format!("{}: {text:?}", applet.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_wrong_option_is_told_in_english() {
    for applet in APPLETS {
        let mut command = Command::new(BINARY);
        command.arg0(applet.name).arg("--no-such-option").env_clear();
        let output = run(command, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let keys = [format!("{}-usage", applet.name), "common-".into(), "clap-error".into()];
        assert!(!keys.iter().any(|key| text.contains(key.as_str())), "{}: {text:?}", applet.name);
    }
}

#[test]
fn a_name_is_exact() {
    for (name, arguments) in [("evil-ls", &[][..]), ("evil-ls", &["ls"]), ("octant", &["evil-ls"])] {
        let mut command = Command::new(BINARY);
        command.arg0(name).args(arguments);
        let output = run(command, "");
        assert_eq!(output.status.code(), Some(127), "{name} {arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("no such command"));
    }
}

#[test]
fn a_closed_pipe_ends_a_utility_without_a_word() {
    let script = "octant yes | octant head -1; octant seq 1 1000000 | octant head -1";
    let output = shell(script);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "y\n1\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Runs a script with nothing in PATH, so that every utility is reached without a file.
fn shell(script: &str) -> Output {
    let directory =
        Scratch::new(&format!("shell-{:x}", script.len() + script.bytes().map(usize::from).sum::<usize>()));
    let mut command = Command::new(BINARY);
    command.args(["sh", "-c", script]).current_dir(&directory.0).env_clear().env("PATH", "/nonexistent");
    run(command, "")
}

fn prints(script: &str, expected: &str) {
    let output = shell(script);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{script}\n{errors}");
}

#[test]
fn the_shell_pipes_and_redirects() {
    prints(
        "printf 'b\\na\\nb\\n' | sort | uniq -c | sed 's/^ *//' >out; cat out; wc -l <out",
        "1 a\n2 b\n2\n",
    );
    prints("{ echo out; ls /nonexistent; } >both 2>&1; wc -l <both", "2\n");
    prints("cat <<E | tr a-z A-Z\none $((1 + 1))\nE\n", "ONE 2\n");
    prints("x=$(seq 3 | paste -sd+ -); echo $x $((x))", "1+2+3 6\n");
    prints("false | true; echo $?; set -o pipefail; false | true; echo $?", "0\n1\n");
}

#[test]
fn the_shell_has_the_usual_constructs() {
    prints("for i in 1 2 3; do case $i in 2) continue;; esac; echo $i; done", "1\n3\n");
    prints("f() { local x=$1; echo in $x; return 4; }; f a; echo $?", "in a\n4\n");
    prints("set -e; echo one; false; echo two", "one\n");
    prints("trap 'echo bye' EXIT; echo hi", "hi\nbye\n");
    prints(
        "if [ -d / ] && ! [ -e /nonexistent ]; then echo yes; fi; [[ abc == a* ]] && echo glob",
        "yes\nglob\n",
    );
    prints("(cd /; pwd); x=1; (x=2); echo $x", "/\n1\n");
    prints("echo a b c | while read -r x y; do echo \"$y/$x\"; done", "b c/a\n");
}

#[test]
fn the_shell_runs_jobs_in_the_background() {
    prints("sleep 0.1 & echo started; wait; echo done", "started\ndone\n");
    prints("(sleep 0.1; echo late >f) & wait; cat f", "late\n");
}

#[test]
fn stages_under_eval_run_beside_each_other() {
    // More than a pipe holds (64 KiB).
    prints("seq 20000 | eval 'while read -r x; do echo $x; done' | tail -1", "20000\n");
    prints("f() { seq 20000; }; eval f | tail -1; eval f | eval '{ cat; }' | wc -l", "20000\n20000\n");
    prints(
        "f() { seq 20000; }; x=$(eval f | eval 'while read -r y; do echo $y; done' | wc -l); echo $x",
        "20000\n",
    );
    prints("seq 20000 | while read -r x; do [ $x = 20000 ] && echo $x; done", "20000\n");
}

#[test]
fn a_closed_pipe_ends_a_loop_of_builtins() {
    prints("eval 'while :; do echo x; done' | head -1; echo on", "x\non\n");
    prints("f() { while :; do printf 'y\\n'; done; }; eval f | head -2; echo on", "y\ny\non\n");
}

#[test]
fn wait_knows_a_jobs_exit_code() {
    prints("f() { sleep 0.05; return 7; }; f & wait %1; echo $?; wait 1 2>/dev/null; echo $?", "7\n127\n");
    prints("sh -c 'exit 5' & sh -c 'exit 6' & wait %1; echo $?; wait %2; echo $?", "5\n6\n");
    prints("no-such-command & wait; echo on", "on\n");
    prints("for i in 1 2 3; do (sleep 0.02; echo $i >>o) & done; wait; sort o", "1\n2\n3\n");
}

#[test]
fn the_shells_kill_sends_what_it_was_told() {
    let child = "rm -f pid; sh -c 'echo $$ >pid; sleep 3 >/dev/null 2>&1; :' & while ! [ -s pid ]; do sleep 0.02; done;";
    for signal in ["", "-9", "-s INT", "-TERM --"] {
        prints(&format!("{child} kill {signal} $(cat pid); wait; echo ended"), "ended\n");
    }
    prints("kill -0 $$ && echo there; kill -0 999999999 2>/dev/null || echo not there", "there\nnot there\n");
}

#[test]
fn a_redirected_input_is_shared_between_the_shell_and_its_programs() {
    prints("seq 4 >f; sh -c 'read a; read b; cat; echo $b$a' <f", "3\n4\n21\n");
}

#[test]
fn the_shells_exit_codes_are_those_of_posix() {
    for (script, code) in
        [("exit 7", 7), ("no-such-command", 127), ("(exit 3)", 3), ("false", 1), ("kill -9 $$", -1)]
    {
        assert_eq!(shell(script).status.code().unwrap_or(-1), code, "{script}");
    }
    let mut missing = Command::new(BINARY);
    missing.args(["sh", "/nonexistent/script"]);
    assert_eq!(run(missing, "").status.code(), Some(127));
}

#[test]
fn a_script_on_standard_input_leaves_the_rest_to_its_commands() {
    let mut command = Command::new(BINARY);
    command.args(["sh", "-s", "arg"]);
    let output =
        run(command, "if true; then\n  echo \"$1\"\nfi\nread -r line\nfor the read\necho got $line\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "arg\ngot for the read\n");
}

#[test]
fn a_log_of_fifty_thousand_lines_is_counted_right() {
    let script = "seq 50000 | sed 's/$/ /; s/\\([0-9]\\) $/\\1 d\\1/' >log; \
                  grep -c 'd7$' log; awk '{ n[$2]++ } END { for (k in n) print k, n[k] }' log | sort | head -2; \
                  cut -d' ' -f2 log | sort | uniq -c | sort -rn | wc -l";
    prints(script, "5000\nd0 5000\nd1 5000\n10\n");
}
