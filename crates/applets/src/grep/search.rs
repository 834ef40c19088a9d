//! The search of one file: in buffers of whole lines, of which only those that are selected are looked at one by one.

use super::matcher::Matcher;
use super::options::{Binary, Report, Settings};
use super::print::{Line, Printer};
use memchr::{memchr, memchr_iter, memrchr};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// What is read at once: GNU's size, by which a file's beginning is told to be text or not.
const READ_BYTES: usize = 96 * 1024;

/// A place where lines are searched, used for one file after the other.
#[derive(Debug)]
pub(super) struct Searcher<'a> {
    settings: &'a Settings,
    matcher: &'a Matcher,
    pub(super) printer: Printer<'a>,
    buffer: Vec<u8>,
}

/// How far the search of a file is. Places are those in the buffer.
#[derive(Debug, Default)]
struct Progress {
    /// Lines before it were searched; those that may still be printed as context are kept.
    start: usize,
    /// Where the last whole line ends.
    limit: usize,
    /// Where what was read ends.
    end: usize,
    /// Where in the file the buffer begins.
    origin: u64,
    /// How many lines there are in the file before the place `counted`.
    lines: u64,
    counted: usize,
    /// Where what was last printed ends, if that is still here.
    printed: Option<usize>,
    /// How many lines are still to be printed after the last selected one.
    pending: usize,
    selected: u64,
    /// How many more lines may be selected.
    left: u64,
    /// Where in the file the last selected line ends.
    selected_end: u64,
    /// Nothing of the lines is printed.
    quiet: bool,
    /// One selected line is enough.
    first_only: bool,
    /// How many lines had been selected when a zero byte was found. From there on zero bytes end lines.
    binary_after: Option<u64>,
    /// A line was not printed, for it is no text.
    withheld: bool,
}

/// What came of a file.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) selected: u64,
    /// Whether it is to be told that a file which is no text matches.
    pub(super) binary: bool,
    /// Where a reader of the rest would go on, when the search ended for its number of lines.
    pub(super) rest: Option<u64>,
}

impl<'a> Searcher<'a> {
    pub(super) fn new(settings: &'a Settings, matcher: &'a Matcher, printer: Printer<'a>) -> Self {
        Self { settings, matcher, printer, buffer: Vec::new() }
    }

    /// Searches a file.
    ///
    /// # Errors
    /// The file cannot be read, or standard output not be written.
    pub(super) fn file(&mut self, reader: &mut File, first_only: bool) -> Result<Outcome, Failure> {
        let listing = self.settings.report != Report::Lines;
        let mut progress = Progress {
            left: self.settings.most.unwrap_or(u64::MAX),
            quiet: listing || first_only,
            first_only: first_only || (listing && self.settings.report != Report::Count),
            ..Progress::default()
        };
        loop {
            let last = self.more(&mut progress, reader).map_err(Failure::Read)?;
            if progress.binary_after.is_some() {
                if self.settings.binary == Binary::Skipped {
                    return Ok(Outcome { selected: 0, binary: false, rest: None });
                }
                progress.quiet = true;
                progress.first_only |= self.settings.report != Report::Count;
            }
            if progress.start < progress.limit {
                self.lines(&mut progress).map_err(Failure::Write)?;
            }
            let done = progress.left == 0 && progress.pending == 0;
            if last || done || (progress.first_only && progress.selected > 0) {
                break;
            }
            self.keep(&mut progress);
        }
        let after_binary = progress.binary_after.is_some_and(|before| before < progress.selected);
        Ok(Outcome {
            selected: progress.selected,
            binary: !listing && self.settings.binary == Binary::Told && (progress.withheld || after_binary),
            rest: (progress.left == 0).then_some(progress.selected_end),
        })
    }

    /// Reads until there is a whole line more, or all; true at the end of the file.
    fn more(&mut self, progress: &mut Progress, reader: &mut File) -> io::Result<bool> {
        let line_end = self.settings.line_end();
        loop {
            if self.buffer.len() - progress.end < READ_BYTES {
                // A fourth more each time: what a long line takes beyond its length stays bounded.
                self.buffer.resize(self.buffer.len() + self.buffer.len() / 4 + READ_BYTES, 0);
            }
            let read = match reader.read(&mut self.buffer[progress.end..][..READ_BYTES]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let before = progress.end;
            if read == 0 {
                if progress.start < before {
                    self.buffer[before] = line_end;
                    progress.end += 1;
                }
                progress.limit = progress.end;
                return Ok(true);
            }
            progress.end += read;
            self.look_for_zeros(progress, before);
            if let Some(last) = memrchr(line_end, &self.buffer[before..progress.end]) {
                progress.limit = before + last + 1;
                return Ok(false);
            }
        }
    }

    /// A file with a zero byte is no text; each ends a line then, as with GNU.
    fn look_for_zeros(&mut self, progress: &mut Progress, from: usize) {
        if self.settings.null_data || self.settings.binary == Binary::Text {
            return;
        }
        let new = &mut self.buffer[from..progress.end];
        if progress.binary_after.is_none() && memchr(0, new).is_some() {
            progress.binary_after = Some(progress.selected);
        }
        if progress.binary_after.is_some() {
            new.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'\n');
        }
    }

    /// Searches the whole lines that were read.
    fn lines(&mut self, progress: &mut Progress) -> io::Result<()> {
        let limit = progress.limit;
        let mut at = progress.start;
        let enough =
            |progress: &Progress| progress.left == 0 || (progress.first_only && progress.selected > 0);
        while at < limit && !enough(progress) {
            let found = self.matcher.next_line(&self.buffer[..limit], at);
            if self.settings.inverted {
                let stop = found.as_ref().map_or(limit, |found| found.start);
                if at < stop {
                    self.select(progress, at..stop)?;
                }
                at = found.map_or(limit, |found| found.end);
            } else if let Some(found) = found {
                at = found.end;
                self.select(progress, found)?;
            } else {
                break;
            }
        }
        self.after(progress, limit)
    }

    /// Selects lines: one, or with `-v` all up to one that matches.
    fn select(&mut self, progress: &mut Progress, lines: Range<usize>) -> io::Result<()> {
        let line_end = self.settings.line_end();
        self.after(progress, lines.start)?;
        if !progress.quiet {
            self.before(progress, lines.start)?;
        }
        let mut at = lines.start;
        if progress.left == u64::MAX && self.is_run(progress, &lines) {
            progress.selected += count(line_end, &self.buffer[lines.clone()]);
            if !progress.quiet {
                self.printer.bare(&self.buffer[lines.clone()])?;
                progress.printed = Some(lines.end);
            }
            at = lines.end;
        }
        while at < lines.end && progress.left > 0 {
            let end = self.line_after(at, lines.end);
            if !progress.quiet {
                self.print(progress, at..end, true)?;
            }
            if self.settings.most.is_some() {
                progress.left -= 1;
            }
            progress.selected += 1;
            at = end;
            if progress.first_only {
                break;
            }
        }
        progress.selected_end = progress.origin + at as u64;
        progress.pending = if progress.quiet { 0 } else { self.settings.after.unwrap_or(0) };
        self.printer.used = true;
        Ok(())
    }

    /// Whether lines can be taken at once.
    fn is_run(&self, progress: &Progress, lines: &Range<usize>) -> bool {
        let text = || self.printer.writes_bare_lines() && self.printer.is_text(&self.buffer[lines.clone()]);
        self.settings.inverted && !progress.first_only && (progress.quiet || text())
    }

    /// Prints what is still to be printed after the last selected line, up to a place.
    fn after(&mut self, progress: &mut Progress, limit: usize) -> io::Result<()> {
        if progress.pending == 0 || progress.quiet {
            return Ok(());
        }
        let mut at = progress.printed.unwrap_or(0);
        while progress.pending > 0 && at < limit {
            let end = self.line_after(at, limit);
            self.print(progress, at..end, false)?;
            progress.pending -= 1;
            at = end;
        }
        Ok(())
    }

    /// Prints the lines before a selected one, and what separates them from others.
    fn before(&mut self, progress: &mut Progress, start: usize) -> io::Result<()> {
        let first = progress.printed.unwrap_or(0);
        let mut at = self.back(start, first, self.settings.before.unwrap_or(0));
        let contexts = self.settings.before.is_some() || self.settings.after.is_some();
        if contexts && self.printer.used && progress.printed != Some(at) {
            self.printer.separator()?;
        }
        while at < start {
            let end = self.line_after(at, start);
            self.print(progress, at..end, false)?;
            at = end;
        }
        Ok(())
    }

    fn print(&mut self, progress: &mut Progress, line: Range<usize>, selected: bool) -> io::Result<()> {
        let mut number = 0;
        if self.settings.numbers {
            let line_end = self.settings.line_end();
            if progress.counted <= line.start {
                progress.lines += count(line_end, &self.buffer[progress.counted..line.start]);
            } else {
                progress.lines -= count(line_end, &self.buffer[line.start..progress.counted]);
            }
            progress.counted = line.start;
            number = progress.lines + 1;
        }
        let offset = progress.origin + line.start as u64;
        let text = &self.buffer[line.clone()];
        if self.printer.line(Line { text, number, offset, selected }, self.matcher)? {
            progress.printed = Some(line.end);
        } else {
            progress.withheld = true;
        }
        Ok(())
    }

    /// Where the line that begins here ends.
    fn line_after(&self, at: usize, limit: usize) -> usize {
        memchr(self.settings.line_end(), &self.buffer[at..limit]).map_or(limit, |end| at + end + 1)
    }

    /// Where so many lines before a place begin, but not before the first.
    fn back(&self, mut at: usize, first: usize, lines: usize) -> usize {
        for _ in 0..lines {
            if at <= first {
                break;
            }
            let before = memrchr(self.settings.line_end(), &self.buffer[first..at - 1]);
            at = before.map_or(first, |before| first + before + 1);
        }
        at
    }

    /// Moves what is still needed to the buffer's beginning: lines that may become context, and the beginning of a line.
    fn keep(&mut self, progress: &mut Progress) {
        let context = if progress.quiet { 0 } else { self.settings.before.unwrap_or(0) };
        let keep = self.back(progress.limit, progress.printed.unwrap_or(0), context);
        if self.settings.numbers {
            let line_end = self.settings.line_end();
            if progress.counted <= keep {
                progress.lines += count(line_end, &self.buffer[progress.counted..keep]);
            } else {
                progress.lines -= count(line_end, &self.buffer[keep..progress.counted]);
            }
        }
        progress.counted = 0;
        progress.printed = progress.printed.filter(|printed| *printed == keep).map(|_| 0);
        self.buffer.copy_within(keep..progress.end, 0);
        progress.start = progress.limit - keep;
        progress.limit = progress.start;
        progress.end -= keep;
        progress.origin += keep as u64;
    }
}

/// Why a search ended early.
#[derive(Debug)]
pub(super) enum Failure {
    Read(io::Error),
    Write(io::Error),
}

fn count(line_end: u8, text: &[u8]) -> u64 {
    memchr_iter(line_end, text).count() as u64
}
