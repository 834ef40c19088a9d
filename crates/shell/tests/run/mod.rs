//! Runs scripts in the shell and, where the machine has it, in bash, which must give the same.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The shell under test.
pub(crate) const SHELL: &str = env!("CARGO_BIN_EXE_octant-test-sh");

/// A script that has not ended by then stands still.
const STANDS_STILL: Duration = Duration::from_secs(120);

/// What a script wrote on both outputs, and how it ended (128 and the signal that it died of).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) output: String,
    pub(crate) code: i32,
}

/// Runs `shell arguments`.
pub(crate) fn run(shell: &str, arguments: &[&str]) -> Outcome {
    use std::os::unix::process::{CommandExt, ExitStatusExt};

    let (mut output, input) = std::io::pipe().expect("a pipe");
    // A signal that is ignored from the start, as in the background of a script, cannot be trapped (POSIX, trap).
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(shell).args(arguments);
    command.stdin(Stdio::null()).process_group(0);
    command.stdout(input.try_clone().expect("a second end")).stderr(input);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shell} does not start: {error}"));
    drop(command);
    let group = i32::try_from(child.id()).expect("a process number");
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(STANDS_STILL).is_err() {
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(group),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    });
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).expect("the output");
    let status = child.wait().expect("the end");
    let _ = ended.send(());
    watch.join().expect("the watch");
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Outcome { output: String::from_utf8_lossy(&bytes).into_owned(), code }
}

/// The other shell; without one there is nothing to compare with, which the test says by failing.
pub(crate) fn bash() -> &'static str {
    let found = ["/usr/bin/bash", "/bin/bash"].into_iter().find(|path| std::path::Path::new(path).exists());
    found.expect("bash, to compare with: apt-get install bash")
}

/// Checks what each script gives in this shell, and that bash gives it too.
pub(crate) fn check(cases: &[(&str, &str, i32)]) {
    for (script, output, code) in cases {
        let expected = Outcome { output: (*output).to_owned(), code: *code };
        assert_eq!(run(SHELL, &["-c", script]), expected, "{script}");
        assert_eq!(run(bash(), &["-c", script]), expected, "in bash: {script}");
    }
}
