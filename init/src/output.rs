//! What units print: always drained, so that no unit can block on a full pipe, and at most so many lines a second, so
//! that none can fill the log with its own.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};
use octant_api::logs::{LogConfig, Stream, TEXT_MAX};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How much is read from one unit before others get their turn.
const TURN_MAX: usize = 64 << 10;

/// The two pipes of a unit, by the place of each in [`Output::pipes`].
pub(crate) const STREAMS: [Stream; 2] = [Stream::Out, Stream::Err];

/// Both ends of a pipe: PID 1 keeps both, so that what was printed survives a restart of the unit and of PID 1.
#[derive(Debug)]
pub(crate) struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
    partial: Vec<u8>,
}

impl Pipe {
    /// A new one.
    ///
    /// # Errors
    /// What pipe(2) reports.
    pub(crate) fn new() -> io::Result<Self> {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
        Self::resume(read_end, write_end)
    }

    /// That of a replaced PID 1.
    ///
    /// # Errors
    /// What fcntl(2) reports.
    pub(crate) fn resume(read_end: OwnedFd, write_end: OwnedFd) -> io::Result<Self> {
        // Only the read end: the unit's own end must block, as programs expect of a pipe.
        fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { read_end, write_end, partial: Vec::new() })
    }

    /// The end that PID 1 reads, and the one for the unit.
    #[must_use]
    pub(crate) fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.read_end.as_fd(), self.write_end.as_fd())
    }

    /// Reads what is there, at most a turn's worth; `line` is called for each whole line.
    fn drain(&mut self, mut line: impl FnMut(&[u8])) {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < TURN_MAX {
            let Ok(length @ 1..) = read(&self.read_end, &mut buffer) else { return };
            taken += length;
            for byte in &buffer[..length] {
                if *byte != b'\n' {
                    self.partial.push(*byte);
                }
                if *byte == b'\n' || self.partial.len() == TEXT_MAX {
                    line(&self.partial);
                    self.partial.clear();
                }
            }
        }
    }
}

/// How many lines are allowed at the moment.
#[derive(Debug)]
struct Allowance {
    lines: u64,
    at_ns: u64,
    burst: u64,
    per_second: u64,
}

impl Allowance {
    fn fill(&mut self, now_ns: u64) {
        let ns = 1_000_000_000 / self.per_second.max(1);
        let more = now_ns.saturating_sub(self.at_ns) / ns.max(1);
        self.lines = self.lines.saturating_add(more).min(self.burst);
        self.at_ns = self.at_ns.saturating_add(more.saturating_mul(ns));
    }

    fn take(&mut self) -> bool {
        let allowed = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        allowed
    }
}

/// Lines that are not in the log and of which it does not say so yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// They came too fast.
    too_fast: u64,
    /// The writer took none.
    not_taken: u64,
}

/// One unit's output.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pipes: [Pipe; 2],
    last_line: String,
    allowance: Allowance,
    dropped: Dropped,
}

impl Output {
    /// From its pipes, in the order of [`STREAMS`].
    #[must_use]
    pub(crate) fn new(pipes: [Pipe; 2], config: LogConfig) -> Self {
        let LogConfig { burst, per_second, file_bytes: _, older: _ } = config;
        let allowance = Allowance { lines: burst, at_ns: 0, burst, per_second };
        Self { pipes, last_line: String::new(), allowance, dropped: Dropped::default() }
    }

    /// The last line that the unit printed.
    #[must_use]
    pub(crate) fn last_line(&self) -> &str {
        &self.last_line
    }

    /// A new start begins: what an earlier one said explains nothing any more.
    pub(crate) fn forget(&mut self) {
        self.last_line.clear();
        self.pipes.iter_mut().for_each(|pipe| pipe.partial.clear());
    }

    /// Reads what is there from one of the pipes, at most a turn's worth. `line` is called for each whole line that is
    /// allowed, and says whether it was taken.
    pub(crate) fn drain(&mut self, pipe: usize, now_ns: u64, mut line: impl FnMut(&[u8]) -> bool) {
        self.allowance.fill(now_ns);
        let (allowance, dropped, last) = (&mut self.allowance, &mut self.dropped, &mut self.last_line);
        let Some(pipe) = self.pipes.get_mut(pipe) else { return };
        pipe.drain(|text| {
            if !text.is_empty() {
                *last = String::from_utf8_lossy(text).into_owned();
            }
            if !allowance.take() {
                dropped.too_fast += 1;
            } else if !line(text) {
                dropped.not_taken += 1;
            }
        });
    }

    /// Whether the log owes a word on lines that are not in it.
    #[must_use]
    pub(crate) fn owes(&self) -> bool {
        self.dropped != Dropped::default()
    }

    /// That word, when a line is allowed again.
    pub(crate) fn owed(&mut self, now_ns: u64) -> Option<String> {
        self.allowance.fill(now_ns);
        if !self.owes() || !self.allowance.take() {
            return None;
        }
        let Dropped { too_fast, not_taken } = std::mem::take(&mut self.dropped);
        let mut why = Vec::new();
        if too_fast > 0 {
            why.push(format!("{too_fast} came faster than {} a second", self.allowance.per_second));
        }
        if not_taken > 0 {
            why.push(format!("{not_taken} while the log's writer took none"));
        }
        Some(format!("{} lines dropped: {}", too_fast + not_taken, why.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::ByteSize;

    const CONFIG: LogConfig =
        LogConfig { file_bytes: ByteSize(1 << 20), older: 1, burst: 400, per_second: 100 };

    fn output() -> Output {
        Output::new([Pipe::new().unwrap(), Pipe::new().unwrap()], CONFIG)
    }

    fn print(output: &Output, pipe: usize, bytes: &[u8]) {
        nix::unistd::write(output.pipes[pipe].ends().1, bytes).unwrap();
    }

    #[test]
    fn lines_are_put_together_and_long_ones_cut() {
        let mut output = output();
        let mut lines = Vec::new();
        print(&output, 0, b"one\ntw");
        print(&output, 1, b"other\n");
        let mut take = |output: &mut Output, pipe| {
            output.drain(pipe, 1, |line| {
                lines.push(line.to_vec());
                true
            });
        };
        take(&mut output, 0);
        take(&mut output, 1);
        print(&output, 0, b"o\n");
        print(&output, 0, &[b'x'; TEXT_MAX + 1]);
        take(&mut output, 0);
        take(&mut output, 2);
        assert_eq!(lines, [b"one".to_vec(), b"other".to_vec(), b"two".to_vec(), vec![b'x'; TEXT_MAX]]);
        assert!(!output.owes());
    }

    #[test]
    fn what_comes_too_fast_is_dropped_counted_and_told_once() {
        let mut output = output();
        let mut taken = 0;
        let start = 1_000_000_000;
        for _ in 0..CONFIG.burst / 100 + 3 {
            print(&output, 1, &b"x\n".repeat(100));
            output.drain(1, start, |_| {
                taken += 1;
                true
            });
        }
        assert_eq!(taken, CONFIG.burst);
        assert_eq!(output.owed(start), None, "the word is a line too");
        let told = output.owed(start + 1_000_000_000 / CONFIG.per_second).unwrap();
        assert_eq!(told, "300 lines dropped: 300 came faster than 100 a second");
        assert_eq!(output.owed(start + 2_000_000_000), None);
        assert_eq!(output.last_line(), "x", "the status has the newest line all the same");
    }

    #[test]
    fn what_the_writer_does_not_take_is_counted_apart() {
        let mut output = output();
        print(&output, 0, b"a\nb\n");
        output.drain(0, 1, |_| false);
        let told = output.owed(1).unwrap();
        assert_eq!(told, "2 lines dropped: 2 while the log's writer took none");
    }

    #[test]
    fn a_pause_gives_back_what_was_used_up_and_no_more() {
        let (burst, per_second) = (CONFIG.burst, CONFIG.per_second);
        let mut allowance = Allowance { lines: 0, at_ns: 0, burst, per_second };
        allowance.fill(500_000_000);
        assert_eq!(allowance.lines, CONFIG.per_second / 2);
        allowance.fill(u64::MAX);
        assert_eq!(allowance.lines, CONFIG.burst);
    }
}
