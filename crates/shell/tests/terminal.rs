//! A person at a terminal: keys in, the screen out.

use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SHELL: &str = env!("CARGO_BIN_EXE_octant-test-sh");

/// A shell that has not answered by then stands still.
const STANDS_STILL: Duration = Duration::from_secs(60);

/// A shell on a terminal of 80 columns and 24 rows.
struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    screen: String,
    home: PathBuf,
}

impl Terminal {
    fn open(name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("octant-terminal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).expect("a home");
        Self::open_at(home)
    }

    fn open_at(home: PathBuf) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a second end"));
        // A session of its own, whose terminal this is: setsid(1) asks for it.
        let child = Command::new("setsid")
            .args(["--ctty", SHELL, "-i"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("a path"))
            .envs([("TERM", "xterm"), ("PS1", "$ ")])
            .env("HOME", &home)
            .current_dir(&home)
            .stdin(end(&pty.slave))
            .stdout(end(&pty.slave))
            .stderr(end(&pty.slave))
            .spawn()
            .expect("the shell");
        drop(pty.slave);
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().expect("a second end");
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = screen.read(&mut bytes) {
                if length == 0 || send.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self { child, keys, shown, screen: String::new(), home };
        terminal.sees("$ ");
        terminal
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until a text is on the screen, and gives what was there before it; what comes later is looked at later.
    fn sees(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.screen.find(text) {
                let before = self.screen[..at].to_owned();
                self.screen.drain(..at + text.len());
                return before;
            }
            match self.shown.recv_timeout(STANDS_STILL) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{error} waiting for {text:?}; the screen has {:?}", self.screen),
            }
        }
    }

    /// Types a command and waits for its output and the next prompt.
    fn runs(&mut self, command: &str, output: &str) {
        self.types(&format!("{command}\r"));
        self.sees(&format!("{output}\r\n$ "));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

#[test]
fn an_interrupt_ends_the_command_line_and_nothing_else() {
    let mut terminal = Terminal::open("interrupt");
    for command in [
        "echo go; while :; do :; done",
        "echo go; while :; do sleep 1; done",
        "f() { echo go; sleep 60; f; }; f",
        "seq 3 | while read -r x; do echo go; sleep 60; done",
        "(echo go; sleep 60; sleep 60)",
        "x=$(echo go >&2; sleep 60; sleep 60)",
    ] {
        terminal.types(&format!("{command}\r"));
        terminal.sees("\r\ngo\r\n");
        terminal.types("\x03");
        terminal.sees("$ ");
        terminal.runs("echo code=$?", "code=130");
    }
    terminal.types("typed for nothing\x03");
    terminal.sees("^C\r\n$ ");
    terminal.runs("trap 'echo trapped' INT; echo set", "set");
    terminal.types("sh -c 'echo go; exec sleep 60'\r");
    terminal.sees("\r\ngo\r\n");
    terminal.types("\x03");
    terminal.sees("trapped\r\n$ ");
    terminal.runs("kill -TERM $$; echo alive", "alive");
}

#[test]
fn jobs_are_stopped_listed_and_ended() {
    let mut terminal = Terminal::open("jobs");
    terminal.types("sleep 60\r");
    terminal.sees("sleep 60\r\n");
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("\x1a");
    terminal.sees("[1]+  Stopped\tsleep 60\r\n$ ");
    terminal.types("bg\r");
    terminal.sees("$ ");
    terminal.types("jobs\r");
    terminal.sees("[1]+  Running\tsleep 60");
    terminal.runs("kill %1; wait %1; echo code=$?", "code=143");
    terminal.types("sleep 60 & echo 'num'ber=$!\r");
    let before = terminal.sees("number=");
    let number = terminal.sees("\r\n$ ");
    assert!(number.parse::<u32>().is_ok(), "{before:?} {number:?}");
}

#[test]
fn keys_edit_complete_and_recall() {
    let mut terminal = Terminal::open("keys");
    std::fs::write(terminal.home.join("a file"), "found\n").expect("a file");
    terminal.runs("cat a\t", "found");
    terminal.types("octant st\t");
    terminal.sees("status ");
    terminal.types("\x15octant agent \t");
    terminal.sees("agent-7k ");
    terminal.types("\x15octant a\t\t");
    terminal.sees("agent   agents\r\n$ octant agent");
    terminal.types("\x15cho recalled\x01e\r");
    terminal.sees("recalled\r\n$ ");
    terminal.types("\x1b[A\x1b[A\x1b[B\r");
    terminal.sees("recalled\r\n$ ");
    // Longer than the terminal is wide, and changed at its beginning.
    let long = "x".repeat(150);
    terminal.types(&format!("cho {long}\x01e\x05y\r"));
    terminal.sees(&format!("\r\n{long}y\r\n$ "));
}

#[test]
fn what_was_typed_is_there_in_the_next_shell() {
    let home = std::env::temp_dir().join(format!("octant-terminal-history-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a home");
    let mut terminal = Terminal::open_at(home.clone());
    terminal.runs("echo first", "first");
    terminal.runs(" echo secret", "secret");
    terminal.types("exit 3\r");
    terminal.sees("exit\r\n");
    assert_eq!(terminal.child.wait().expect("the end").code(), Some(3));
    assert_eq!(std::fs::read_to_string(home.join(".sh_history")).expect("the file"), "echo first\nexit 3\n");
    let mut next = Terminal::open_at(home);
    next.types("\x1b[A\x1b[A\r");
    next.sees("first\r\n$ ");
}
