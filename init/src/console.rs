//! What PID 1 says to a person. It never waits for whoever should read it: what does not fit is dropped.

use octant_api::boot::Mode;
use octant_sys::clock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

/// The most bytes of a line: a write up to this size is never torn on a pipe (PIPE_BUF).
const LINE_MAX: usize = 4096;

/// The console of a machine, or the standard error of `octant up`.
#[derive(Debug)]
pub(crate) struct Console {
    mode: Mode,
    out: Option<File>,
    /// Whether what units print stays away from it.
    shared: bool,
}

impl Console {
    /// Opens it. Without one everything goes on silently: the journal and the log files have the same.
    #[must_use]
    pub(crate) fn open(mode: Mode) -> Self {
        Self { mode, out: open(mode).ok(), shared: false }
    }

    /// Writes a line of PID 1's own, with the seconds since the kernel started.
    pub(crate) fn say(&mut self, text: &str) {
        let ms = clock::boottime_ns() / 1_000_000;
        self.write(&format!("[{:>5}.{:03}] octant: {}\n", ms / 1000, ms % 1000, printable(text)));
    }

    /// Whether somebody works at it: then what units print is in their logs alone, and in nobody's editor.
    pub(crate) fn share(&mut self, shared: bool) {
        self.shared = shared;
    }

    /// Writes a line of a unit's output.
    pub(crate) fn unit_line(&mut self, unit: &str, line: &[u8]) {
        if self.shared {
            return;
        }
        self.write(&format!("{unit}: {}\n", printable(&String::from_utf8_lossy(line))));
    }

    /// Writes a line that must not be missed: also to the kernel's log, where it is not shown a second time.
    pub(crate) fn alarm(&mut self, text: &str) {
        self.say(text);
        if self.mode == Mode::Machine {
            kmsg(NOTICE, text);
        }
    }

    /// Says why Octant cannot go on, in every place that there is.
    pub(crate) fn emergency(&mut self, why: &str) {
        let text = format!("EMERGENCY: {why}");
        self.say(&text);
        if self.mode == Mode::Machine {
            kmsg(CRITICAL, &text);
        }
    }

    fn write(&mut self, line: &str) {
        let line = octant_api::journal::cut(line, LINE_MAX).as_bytes();
        let Some(out) = &mut self.out else { return };
        match out.write(line) {
            // A terminal that was hung up, as a serial line can be, answers EIO until it is opened again.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => {
                self.out = open(self.mode).ok();
                if let Some(out) = &mut self.out {
                    let _best_effort = out.write(line);
                }
            }
            // WouldBlock: nobody reads. The line is in the journal, which counts its own losses.
            _ => {}
        }
    }
}

fn open(mode: Mode) -> io::Result<File> {
    let own = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    // A regular file never makes a writer wait, and opened anew it would have a position of its own.
    if mode != Mode::Machine && own.metadata()?.is_file() {
        return Ok(own);
    }
    let path = if mode == Mode::Machine { "/dev/console" } else { "/proc/self/fd/2" };
    // Opened anew rather than shared: O_NONBLOCK belongs to the open file, which the caller's shell has too.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    OpenOptions::new().append(true).custom_flags(flags).open(path)
}

/// Levels of the kernel's log (syslog(3)). A quiet console shows only the first.
pub(crate) const CRITICAL: u8 = 2;
const NOTICE: u8 = 5;

/// Writes to the kernel's log, where a console that is not ours and a crash dump find it.
pub(crate) fn kmsg(level: u8, text: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg")
    {
        let _best_effort =
            log.write(format!("<{level}>octant: {}\n", octant_api::journal::cut(text, 900)).as_bytes());
    }
}

/// The text without control characters: a unit's output must not command the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(super::printable("a\x1b[2Jb\tc\r"), "a\u{fffd}[2Jb\tc\u{fffd}");
    }
}
