//! The shell: one command at a time, with an end.

use super::Place;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use octant_sys::clock;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How long a command may take where it is not said, in seconds.
const TIMEOUT_S: u64 = 120;
/// How much of its output is kept from its beginning, and from its end, in bytes.
const HEAD: usize = 20 << 10;
const TAIL: usize = 40 << 10;
/// How often it is looked whether it has ended.
const LOOK_MS: u16 = 20;
/// How much is read after its end, in pieces: what is still written then is somebody's who has left its group.
const AFTER: usize = 256;

/// Output with its middle left out.
#[derive(Debug, Default)]
struct Kept {
    first: Vec<u8>,
    last: VecDeque<u8>,
    left: u64,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD - self.first.len()));
        self.first.extend_from_slice(first);
        self.last.extend(rest);
        let over = self.last.len().saturating_sub(TAIL);
        self.last.drain(..over);
        self.left += over as u64;
    }

    fn text(mut self) -> String {
        if self.left > 0 {
            self.first.extend_from_slice(format!("\n[... {} bytes left out ...]\n", self.left).as_bytes());
        }
        self.first.extend(self.last);
        String::from_utf8_lossy(&self.first).into_owned()
    }
}

/// How it ended.
enum Ended {
    Itself(ExitStatus),
    Late(u64),
    Stopped,
}

/// `shell_run`
pub(super) fn run(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let command = arguments["command"].as_str().unwrap_or_default();
    let seconds = arguments["timeout_s"].as_u64().unwrap_or(TIMEOUT_S);
    let end = clock::monotonic_ns().saturating_add(seconds * 1_000_000_000).min(place.end_ns);
    let mut kept = Kept::default();
    let ended = start(place, command)
        .and_then(|(child, output)| watch(child, output, &mut kept, end, seconds, place.stop))
        .map_err(|error| format!("cannot run sh: {error}"))?;
    let mut text = kept.text();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match ended {
        Ended::Itself(status) if status.success() => Ok(text + "[exit code 0]\n"),
        Ended::Itself(status) => Err(match (status.code(), status.signal()) {
            (Some(code), _) => format!("{text}[exit code {code}]\n"),
            (None, signal) => format!("{text}[ended by signal {}]\n", signal.unwrap_or_default()),
        }),
        Ended::Late(seconds) => {
            Err(format!("{text}[ended after {seconds} s, with everything that it started]\n"))
        }
        Ended::Stopped => Err(format!("{text}[an operator stopped it]\n")),
    }
}

fn start(place: &Place<'_>, command: &str) -> io::Result<(Child, PipeReader)> {
    let (output, input) = io::pipe()?;
    let mut sh = Command::new("/bin/sh");
    sh.arg("-c").arg(command).current_dir(place.root).process_group(0);
    sh.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    // The pipe's other end is closed here with `sh`.
    Ok((sh.spawn()?, output))
}

fn watch(
    mut child: Child,
    mut output: PipeReader,
    kept: &mut Kept,
    end_ns: u64,
    seconds: u64,
    stop: &dyn Fn() -> bool,
) -> io::Result<Ended> {
    let ended = loop {
        if ready(&output)? {
            let more = read(&mut output, kept)?;
            if !more {
                // It has closed its output, and may go on without.
                std::thread::sleep(std::time::Duration::from_millis(LOOK_MS.into()));
            }
        }
        if let Some(status) = child.try_wait()? {
            break Ended::Itself(status);
        }
        if stop() {
            break Ended::Stopped;
        }
        if clock::monotonic_ns() >= end_ns {
            break Ended::Late(seconds);
        }
    };
    // What it left behind ends with it. There is nobody where all have ended.
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    child.wait()?;
    for _ in 0..AFTER {
        if !ready(&output)? || !read(&mut output, kept)? {
            break;
        }
    }
    Ok(ended)
}

/// Whether there is something to be read, or nobody is left who writes; waits a little for it.
fn ready(output: &PipeReader) -> io::Result<bool> {
    let mut asked = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::from(LOOK_MS)) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn read(output: &mut PipeReader, kept: &mut Kept) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    let got = output.read(&mut piece)?;
    kept.add(&piece[..got]);
    Ok(got > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn ran(command: &str) -> Result<String, String> {
        let place = Place { root: Path::new("/tmp"), end_ns: u64::MAX, stop: &|| false };
        run(&place, &json!({ "command": command, "timeout_s": 30 }))
    }

    #[test]
    fn output_and_exit_code_come_back() {
        assert_eq!(ran("echo a; echo b >&2").unwrap(), "a\nb\n[exit code 0]\n");
        assert_eq!(ran("printf x; exit 3").unwrap_err(), "x\n[exit code 3]\n");
        assert_eq!(ran("kill -9 $$").unwrap_err(), "[ended by signal 9]\n");
        assert_eq!(ran("cat").unwrap(), "[exit code 0]\n", "there is no input");
        assert_eq!(ran("exec >&- 2>&-; sleep 0.1").unwrap(), "[exit code 0]\n");
    }

    #[test]
    fn what_a_command_started_ends_with_it() {
        let text = ran("sleep 300 & echo $!").unwrap();
        let pid: i32 = text.lines().next().unwrap().parse().unwrap();
        // The signal is on its way; it is a zombie at most, until whoever it belongs to now has waited for it.
        let runs = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !(state.is_empty() || state.contains(") Z") || state.contains(") X"))
        };
        while runs() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_end_comes_by_time_and_by_a_stop() {
        let place = Place { root: Path::new("/tmp"), end_ns: u64::MAX, stop: &|| false };
        let late = run(&place, &json!({ "command": "echo a; sleep 300", "timeout_s": 1 })).unwrap_err();
        assert_eq!(late, "a\n[ended after 1 s, with everything that it started]\n");
        let place = Place { root: Path::new("/tmp"), end_ns: u64::MAX, stop: &|| true };
        assert!(run(&place, &json!({ "command": "sleep 300" })).unwrap_err().contains("stopped"));
        let place = Place { root: Path::new("/tmp"), end_ns: 0, stop: &|| false };
        assert!(run(&place, &json!({ "command": "sleep 300" })).unwrap_err().contains("ended after"));
    }

    #[test]
    fn long_output_has_its_middle_left_out() {
        let text = ran("echo begin; yes 0123456789abcdef | head -c 1000000; echo end").unwrap();
        assert!(text.starts_with("begin\n") && text.ends_with("end\n[exit code 0]\n"));
        assert!(text.contains("bytes left out") && text.len() < HEAD + TAIL + 100, "{}", text.len());
    }
}
