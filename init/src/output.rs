//! What units print: always drained, so that no unit can block on a full pipe, into a bounded tail for the status, a
//! bounded log file and the console.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file is renamed to `<unit>.log.1` when it has grown to this many bytes: a unit has at most twice that.
const FILE_MAX: u64 = 1 << 20;
/// A longer line is cut into several.
const LINE_MAX: usize = 1024;
/// How much is read from one unit before others get their turn.
const TURN_MAX: usize = 64 << 10;

/// One unit's output.
#[derive(Debug)]
pub(crate) struct Output {
    read_end: OwnedFd,
    write_end: OwnedFd,
    path: PathBuf,
    file: Option<(File, u64)>,
    partial: Vec<u8>,
    last_line: String,
}

impl Output {
    /// A pipe whose write end every start of the unit gets, and a log file in `dir`.
    ///
    /// # Errors
    /// What pipe(2) reports.
    pub(crate) fn new(dir: &Path, unit: &str) -> io::Result<Self> {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
        Self::resume(read_end, write_end, dir, unit)
    }

    /// The output of a replaced PID 1, from the two ends of its pipe.
    ///
    /// # Errors
    /// What fcntl(2) reports.
    pub(crate) fn resume(read_end: OwnedFd, write_end: OwnedFd, dir: &Path, unit: &str) -> io::Result<Self> {
        // Only the read end: the unit's own end must block, as programs expect of a pipe.
        fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let path = dir.join(format!("{unit}.log"));
        Ok(Self { read_end, write_end, path, file: None, partial: Vec::new(), last_line: String::new() })
    }

    /// The end for the unit.
    #[must_use]
    pub(crate) fn write_end(&self) -> BorrowedFd<'_> {
        self.write_end.as_fd()
    }

    /// The end that PID 1 reads.
    #[must_use]
    pub(crate) fn read_end(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }

    /// The last line that the unit printed.
    #[must_use]
    pub(crate) fn last_line(&self) -> &str {
        &self.last_line
    }

    /// A new start begins: what an earlier one said explains nothing any more.
    pub(crate) fn forget(&mut self) {
        self.last_line.clear();
        self.partial.clear();
    }

    /// Reads what is there, at most a turn's worth; `line` is called for each whole line.
    pub(crate) fn drain(&mut self, mut line: impl FnMut(&[u8])) {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < TURN_MAX {
            let Ok(length @ 1..) = read(&self.read_end, &mut buffer) else { return };
            taken += length;
            for byte in &buffer[..length] {
                if *byte != b'\n' {
                    self.partial.push(*byte);
                }
                if *byte == b'\n' || self.partial.len() == LINE_MAX {
                    let whole = std::mem::take(&mut self.partial);
                    self.keep(&whole);
                    line(&whole);
                    self.partial = whole;
                    self.partial.clear();
                }
            }
        }
    }

    fn keep(&mut self, line: &[u8]) {
        if !line.is_empty() {
            self.last_line = String::from_utf8_lossy(line).into_owned();
        }
        // A full or read-only disk must not stop supervision: the console and the status still have the line, and the
        // next line tries again.
        if self.append(line).is_err() {
            self.file = None;
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, size)| *size >= FILE_MAX) {
            self.file = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
            let size = file.metadata()?.len();
            self.file = Some((file, size));
        }
        if let Some((file, size)) = &mut self.file {
            let mut whole = Vec::with_capacity(line.len() + 1);
            whole.extend_from_slice(line);
            whole.push(b'\n');
            file.write_all(&whole)?;
            *size += whole.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str) -> (Output, PathBuf) {
        let dir = std::env::temp_dir().join(format!("octant-output-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        (Output::new(&dir, "unit").unwrap(), dir)
    }

    #[test]
    fn lines_are_put_together_and_long_ones_cut() {
        let (mut output, dir) = output("lines");
        let mut lines = Vec::new();
        nix::unistd::write(&output.write_end, b"one\ntw").unwrap();
        output.drain(|line| lines.push(line.to_vec()));
        nix::unistd::write(&output.write_end, b"o\n").unwrap();
        nix::unistd::write(&output.write_end, &[b'x'; LINE_MAX + 1]).unwrap();
        output.drain(|line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"one".to_vec(), b"two".to_vec(), vec![b'x'; LINE_MAX]]);
        assert!(std::fs::read_to_string(dir.join("unit.log")).unwrap().starts_with("one\ntwo\nxxx"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_log_file_is_bounded() {
        let (mut output, dir) = output("bound");
        let line = vec![b'y'; 1000];
        for _ in 0..3000 {
            output.keep(&line);
        }
        let size = |name: &str| std::fs::metadata(dir.join(name)).unwrap().len();
        let bound = FILE_MAX + 2 * LINE_MAX as u64;
        assert!(size("unit.log") <= bound && size("unit.log.1") <= bound);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
