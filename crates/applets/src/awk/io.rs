//! Records from files and commands, and what is written to files and commands.

use super::pattern::Pattern;
use crate::process::start::shell;
use memchr::memchr;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::rc::Rc;

const CHUNK_BYTES: usize = 64 * 1024;

/// What a record may have at most.
const RECORD_MAX_BYTES: usize = 1 << 30;

/// What ends a record.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Byte(u8),
    /// `RS` is empty: lines without anything in them.
    Paragraph,
    Pattern(Rc<Pattern>),
}

/// Records of one source.
pub(super) struct Reader {
    source: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    /// Of a command, which is waited for when it is closed.
    child: Option<Child>,
}

impl Reader {
    fn new(source: Box<dyn Read>, child: Option<Child>) -> Self {
        Self { source, buffer: Vec::new(), start: 0, ended: false, child }
    }

    pub(super) fn stdin() -> Self {
        Self::new(Box::new(io::stdin()), None)
    }

    /// A file, or standard input for `-`.
    pub(super) fn file(path: &[u8]) -> io::Result<Self> {
        if path == b"-" || path == b"/dev/stdin" {
            return Ok(Self::stdin());
        }
        let file = File::open(OsStr::from_bytes(path))?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self::new(Box::new(file), None))
    }

    fn command(line: &[u8]) -> io::Result<Self> {
        let mut child = shell().arg("-c").arg(OsStr::from_bytes(line)).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self::new(Box::new(output), Some(child)))
    }

    /// Reads more behind what is there; whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        if self.buffer.len() > RECORD_MAX_BYTES {
            return Err(io::Error::other(format!("a record longer than {RECORD_MAX_BYTES} bytes")));
        }
        let held = self.buffer.len();
        // A long record is read in ever larger pieces, so that none of its bytes is looked at often.
        self.buffer.resize(held + CHUNK_BYTES.max(held), 0);
        let read = loop {
            match self.source.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(!self.ended)
    }

    /// The next record, without what ends it.
    pub(super) fn next(&mut self, ending: &Ending) -> io::Result<Option<&[u8]>> {
        if matches!(ending, Ending::Paragraph) {
            self.skip_newlines()?;
        }
        let mut seen = 0;
        loop {
            let held = &self.buffer[self.start..];
            let found = match ending {
                Ending::Byte(byte) => memchr(*byte, &held[seen..]).map(|at| (seen + at, seen + at + 1)),
                Ending::Paragraph => blank_line(held, seen, self.ended),
                Ending::Pattern(pattern) => {
                    let found = pattern.find_at(held, 0).filter(|found| !found.is_empty());
                    // What reaches the end of what is there may go on.
                    found
                        .filter(|found| self.ended || found.end < held.len())
                        .map(|found| (found.start, found.end))
                }
            };
            if let Some((end, next)) = found {
                let record = self.start..self.start + end;
                self.start += next;
                return Ok(Some(&self.buffer[record]));
            }
            seen = held.len();
            if matches!(ending, Ending::Paragraph) {
                seen = seen.saturating_sub(1);
            }
            if !self.fill()? {
                break;
            }
        }
        // A pattern may have been passed over because it reached the end.
        if let Ending::Pattern(pattern) = ending {
            let held = &self.buffer[self.start..];
            if let Some(found) = pattern.find_at(held, 0).filter(|found| !found.is_empty()) {
                let record = self.start..self.start + found.start;
                self.start += found.end;
                return Ok(Some(&self.buffer[record]));
            }
        }
        let rest = self.start..self.buffer.len();
        self.start = self.buffer.len();
        if rest.is_empty() {
            return Ok(None);
        }
        let mut record = &self.buffer[rest];
        if matches!(ending, Ending::Paragraph) {
            record = record.strip_suffix(b"\n").unwrap_or(record);
        }
        // A pattern that is a newline and more leaves the file's last newline to the record.
        Ok(Some(record))
    }

    fn skip_newlines(&mut self) -> io::Result<()> {
        loop {
            match self.buffer.get(self.start) {
                Some(b'\n') => self.start += 1,
                Some(_) => return Ok(()),
                None => {
                    if !self.fill()? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("held", &(self.buffer.len() - self.start)).finish_non_exhaustive()
    }
}

/// Where a paragraph ends and the next one may begin: two newlines, and all that follow.
fn blank_line(held: &[u8], from: usize, whole: bool) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(found) = memchr(b'\n', held.get(at..)?) {
        let end = at + found;
        if held.get(end + 1) == Some(&b'\n') {
            let newlines = held[end..].iter().take_while(|byte| **byte == b'\n').count();
            // Those that are not read yet are passed over before the next record.
            return Some((end, end + newlines));
        }
        if end + 1 == held.len() && !whole {
            return None;
        }
        at = end + 1;
    }
    None
}

enum Sink {
    Stdout,
    Stderr,
    File(BufWriter<File>),
    Command(BufWriter<std::process::ChildStdin>, Child),
}

/// How something is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Truncate,
    Append,
    Command,
}

/// Everything that is open.
pub(super) struct Streams {
    stdout: BufWriter<io::Stdout>,
    by_line: bool,
    sinks: HashMap<Vec<u8>, Sink>,
    readers: HashMap<Vec<u8>, Reader>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("open", &(self.sinks.len() + self.readers.len()))
            .finish_non_exhaustive()
    }
}

impl Streams {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let by_line = stdout.is_terminal();
        let stdout = BufWriter::with_capacity(CHUNK_BYTES, stdout);
        Self { stdout, by_line, sinks: HashMap::new(), readers: HashMap::new() }
    }

    pub(super) fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.stdout.write_all(text)?;
        if self.by_line { self.flush_stdout() } else { Ok(()) }
    }

    fn flush_stdout(&mut self) -> io::Result<()> {
        self.stdout.flush()?;
        self.stdout.get_mut().flush()
    }

    /// Writes to a file or command, which is opened the first time.
    pub(super) fn write(&mut self, name: &[u8], mode: Mode, text: &[u8]) -> io::Result<()> {
        if !self.sinks.contains_key(name) {
            let sink = self.open(name, mode)?;
            self.sinks.insert(name.to_vec(), sink);
        }
        match self.sinks.get_mut(name) {
            Some(Sink::Stdout) | None => self.print(text),
            Some(Sink::Stderr) => {
                // What was printed before stands before it on a terminal.
                self.flush_stdout()?;
                io::stderr().write_all(text)
            }
            Some(Sink::File(file)) => file.write_all(text),
            Some(Sink::Command(input, _)) => input.write_all(text),
        }
    }

    fn open(&mut self, name: &[u8], mode: Mode) -> io::Result<Sink> {
        if mode == Mode::Command {
            self.flush()?;
            let mut child = shell().arg("-c").arg(OsStr::from_bytes(name)).stdin(Stdio::piped()).spawn()?;
            let input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            return Ok(Sink::Command(BufWriter::with_capacity(CHUNK_BYTES, input), child));
        }
        match name {
            b"/dev/stdout" | b"-" => return Ok(Sink::Stdout),
            b"/dev/stderr" => return Ok(Sink::Stderr),
            _ => {}
        }
        let mut options = OpenOptions::new();
        match mode {
            Mode::Append => options.append(true),
            _ => options.write(true).truncate(true),
        };
        let file = options.create(true).open(OsStr::from_bytes(name))?;
        Ok(Sink::File(BufWriter::with_capacity(CHUNK_BYTES, file)))
    }

    /// The reader of a file or command, which is opened the first time.
    pub(super) fn reader(&mut self, name: &[u8], command: bool) -> io::Result<&mut Reader> {
        if !self.readers.contains_key(name) {
            self.flush()?;
            let reader = if command { Reader::command(name)? } else { Reader::file(name)? };
            self.readers.insert(name.to_vec(), reader);
        }
        self.readers.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Everything that was written goes where it belongs.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.flush_stdout()?;
        self.sinks.values_mut().try_for_each(|sink| match sink {
            Sink::File(file) => file.flush(),
            Sink::Command(input, _) => input.flush(),
            Sink::Stdout | Sink::Stderr => Ok(()),
        })
    }

    /// Closes all of that name: the code of its command, 0 for a file, -1 where nothing of that name is open.
    pub(super) fn close(&mut self, name: &[u8]) -> io::Result<i32> {
        let mut code = -1;
        if let Some(sink) = self.sinks.remove(name) {
            self.flush_stdout()?;
            code = close(sink)?;
        }
        if let Some(reader) = self.readers.remove(name) {
            let Reader { source, child, .. } = reader;
            // The command may wait until its pipe is closed.
            drop(source);
            code = child.map_or(Ok(0), |mut child| child.wait().map(code_of))?;
        }
        Ok(code)
    }

    /// Closes all, and says what went wrong first.
    pub(super) fn close_all(&mut self) -> io::Result<()> {
        let mut first = self.flush_stdout();
        for (_, sink) in std::mem::take(&mut self.sinks) {
            first = first.and(close(sink).map(|_| ()));
        }
        for name in self.readers.keys().cloned().collect::<Vec<_>>() {
            first = first.and(self.close(&name).map(|_| ()));
        }
        first
    }

    /// Runs a command after all that was written before; its code.
    pub(super) fn system(&mut self, line: &[u8]) -> io::Result<i32> {
        self.flush()?;
        shell().arg("-c").arg(OsStr::from_bytes(line)).status().map(code_of)
    }
}

fn close(sink: Sink) -> io::Result<i32> {
    match sink {
        Sink::Stdout | Sink::Stderr => Ok(0),
        Sink::File(mut file) => file.flush().map(|()| 0),
        Sink::Command(input, mut child) => {
            // Its input ends, and only then it is waited for.
            let flushed = input.into_inner().map(drop).map_err(io::IntoInnerError::into_error);
            let code = child.wait().map(code_of)?;
            flushed.map(|()| code)
        }
    }
}

/// As the others say it: a signal is 256 and its number.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 256 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ending: &Ending, text: &'static [u8]) -> Vec<String> {
        /// Gives one byte at a time, so that every boundary is met.
        struct Slow(&'static [u8]);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
                (buffer[0], self.0) = (*first, rest);
                Ok(1)
            }
        }
        let mut reader = Reader::new(Box::new(Slow(text)), None);
        let mut all = Vec::new();
        while let Some(record) = reader.next(ending).unwrap() {
            all.push(String::from_utf8_lossy(record).into_owned());
        }
        all
    }

    #[test]
    fn records_end_where_they_should() {
        assert_eq!(records(&Ending::Byte(b'\n'), b"a\n\nb"), ["a", "", "b"]);
        assert_eq!(records(&Ending::Byte(b';'), b"a;b\n"), ["a", "b\n"]);
        assert_eq!(records(&Ending::Paragraph, b"\n\na\nb\n\n\n\nc\n"), ["a\nb", "c"]);
        let digits = Ending::Pattern(Rc::new(Pattern::new(b"[0-9]+", true).unwrap()));
        assert_eq!(records(&digits, b"a12b3"), ["a", "b"]);
        assert_eq!(records(&digits, b"a12b3c\n"), ["a", "b", "c\n"]);
    }
}
