//! What goes to standard output and error: tables that fit, JSON, progress.

use crate::error::CliError;
pub(crate) use octant_ids::utc;
use octant_sys::clock;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What an 80-column serial console shows; it has no size that could be asked for.
const CONSOLE_COLUMNS: usize = 80;
/// The width of the names in [`Out::wrapped`].
const NAME_COLUMNS: usize = 10;

/// Where a command's answer goes, and in which form.
pub(crate) struct Out {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// The columns of the terminal; `None` when standard output is a file or pipe, which gets whole texts.
    pub(crate) columns: Option<usize>,
    to: Box<dyn Write>,
    /// The same place without a buffer, where there is one.
    unbuffered: Option<File>,
    errors: Box<dyn Write>,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("json", &self.json)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl Out {
    /// Standard output.
    pub(crate) fn stdout(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = terminal.then(terminal_columns);
        let (to, errors) = (Box::new(io::stdout().lock()), Box::new(io::stderr()));
        let unbuffered = io::stdout().as_fd().try_clone_to_owned().ok().map(File::from);
        Self { json, columns, to, unbuffered, errors }
    }

    /// Some other place.
    pub(crate) fn to(json: bool, columns: Option<usize>, to: Box<dyn Write>, errors: Box<dyn Write>) -> Self {
        Self { json, columns, to, unbuffered: None, errors }
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), CliError> {
        writeln!(self.to, "{text}").map_err(CliError::Stdout)
    }

    /// Bytes as they are, at once: an agent's output.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.to.write_all(bytes).and_then(|()| self.to.flush()).map_err(CliError::Stdout)
    }

    /// Secret bytes as they are: past the buffers, which nobody wipes.
    pub(crate) fn secret(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.flush()?;
        match &mut self.unbuffered {
            Some(file) => file.write_all(bytes).map_err(CliError::Stdout),
            None => self.raw(bytes),
        }
    }

    /// Bytes that an agent wrote: as they are into a file or pipe, without what a terminal would obey onto one.
    pub(crate) fn foreign(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self.columns {
            Some(_) => self.raw(harmless(bytes).as_bytes()),
            None => self.raw(bytes),
        }
    }

    /// The same for what it wrote to its standard error.
    pub(crate) fn foreign_error(&mut self, bytes: &[u8]) {
        let harmless = self.columns.map(|_| harmless(bytes).into_bytes());
        self.error(&harmless.unwrap_or_else(|| bytes.to_vec()));
    }

    /// A remark beside the answer, on standard error.
    pub(crate) fn note(&mut self, text: &str) {
        self.error(format!("octant: {}\n", printable(text)).as_bytes());
    }

    /// Standard error. Nowhere is left to say that it is gone; the exit code still does.
    pub(crate) fn error(&mut self, bytes: &[u8]) {
        let _gone = self.errors.write_all(bytes);
    }

    /// One JSON document on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|e| CliError::Stdout(e.into()))?;
        self.line(text)?;
        self.to.flush().map_err(CliError::Stdout)
    }

    /// A table, cut to the terminal's width in its last column.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), CliError> {
        for line in table.lines(self.columns) {
            self.line(line)?;
        }
        Ok(())
    }

    /// A name and its value, broken between words where the value is longer than the terminal is wide.
    pub(crate) fn wrapped(&mut self, name: &str, value: &str) -> Result<(), CliError> {
        let lines = match self.columns {
            Some(columns) => wrap(&printable(value), columns.saturating_sub(NAME_COLUMNS + 4)),
            None => vec![printable(value)],
        };
        for (i, line) in lines.iter().enumerate() {
            let name = if i == 0 { name } else { "" };
            self.line(format_args!("  {name:NAME_COLUMNS$}  {line}").to_string().trim_end())?;
        }
        Ok(())
    }

    /// A paragraph that says first what it is; its further lines are set in.
    pub(crate) fn paragraph(&mut self, what: &str, text: &str) -> Result<(), CliError> {
        let text = printable(&format!("{what}{text}"));
        let lines = match self.columns {
            Some(columns) => wrap(&text, columns.saturating_sub(2)),
            None => vec![text],
        };
        for (i, line) in lines.iter().enumerate() {
            self.line(format_args!("{}{line}", if i == 0 { "" } else { "  " }))?;
        }
        Ok(())
    }

    /// What is still in the buffer.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.to.flush().map_err(CliError::Stdout)
    }
}

/// How wide the terminal is; 80 where it does not say.
pub(crate) fn terminal_columns() -> usize {
    terminal_size::terminal_size().map_or(CONSOLE_COLUMNS, |(width, _)| usize::from(width.0)).max(40)
}

/// Rows of cells; all columns but the last are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a heading.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    fn lines(&self, columns: Option<usize>) -> Vec<String> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..count)
            .map(|i| {
                self.rows.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).max().unwrap_or(0)
            })
            .collect();
        self.rows.iter().map(|row| line(row, &widths, columns)).collect()
    }
}

fn line(row: &[String], widths: &[usize], columns: Option<usize>) -> String {
    let mut text = String::new();
    for (i, cell) in row.iter().enumerate() {
        text.push_str(cell);
        if i + 1 < row.len() {
            let fill = widths[i].saturating_sub(cell.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', fill));
        }
    }
    let text = text.trim_end();
    match columns {
        Some(columns) => cut(text, columns),
        None => text.to_owned(),
    }
}

/// The text, or its beginning and `..` where it is longer than `columns`. No ellipsis character: a serial
/// console may not have it.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(2)).chain("..".chars()).collect()
}

/// The text without what a terminal would obey: agents and logs must not move the operator's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The text with everything written out that would not be seen: control characters, and those that turn the direction of
/// writing, have no width or join others. What an operator approves is what the operator sees.
pub(crate) fn revealed(text: &str) -> String {
    let shown = |c: char| match c {
        '\\' | '"' | '\'' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(shown).collect()
}

/// Several lines of someone else's text, which may be cut within a character.
fn harmless(bytes: &[u8]) -> String {
    let keep = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    String::from_utf8_lossy(bytes).chars().map(|c| if keep(&c) { c } else { '?' }).collect()
}

/// Breaks a paragraph between words; a word that is longer than `columns` stays whole.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits = |line: &&mut String| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= columns
        };
        match lines.last_mut().filter(fits) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A span in the largest unit that leaves two figures: `9s`, `12m`, `3h05m`, `4d07h`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `999B`, `12.3K`, `4.0M`, `1.2G`.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = ' ';
    let mut tenths = count.saturating_mul(10);
    for next in ['K', 'M', 'G', 'T'] {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    if unit == ' ' { format!("{count}B") } else { format!("{}.{}{unit}", tenths / 10, tenths % 10) }
}

/// One line on the terminal's standard error that says what a long piece of work is at; nothing when standard
/// error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(json: bool) -> Self {
        Self { shown: false, terminal: !json && io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub(crate) fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            // A terminal that went away is found by the next write to standard output.
            let _gone = write!(io::stderr(), "\r{}\x1b[K", cut(&printable(text), terminal_columns() - 1));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _gone = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A [`Progress`] for work that gives no signs of its own: its seconds count up until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticking {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticking {
    pub(crate) fn new(json: bool, text: String) -> Self {
        let mut progress = Progress::new(json);
        if !progress.terminal {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let start = clock::monotonic_ns();
        let thread = thread::spawn(move || {
            loop {
                let seconds = clock::monotonic_ns().saturating_sub(start) / 1_000_000_000;
                progress.show(&format!("{} {text}", span(seconds)));
                if stopped.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread ends by itself and cannot say more than that it is over.
            let _over = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_seen_is_written_out() {
        assert_eq!(revealed("it's \"a\\b\" – süß"), "it's \"a\\b\" – süß");
        assert_eq!(
            revealed("a\u{202e}b\u{200b}c\u{1b}[1m\u{e0041}"),
            "a\\u{202e}b\\u{200b}c\\u{1b}[1m\\u{e0041}"
        );
        assert_eq!(revealed("e\u{301}"), "e\\u{301}", "what joins others is written out too");
    }

    #[test]
    fn tables_align_and_fit_the_console() {
        let mut table = Table::new(&["UNIT", "STATE", "STATUS"]);
        table.row(["ledger".into(), "ready".into(), "head 17".into()]);
        table.row(["a".into(), "failed".into(), "x".repeat(90)]);
        let lines = table.lines(Some(80));
        assert_eq!(lines[0], "UNIT    STATE   STATUS");
        assert_eq!(lines[1], "ledger  ready   head 17");
        assert_eq!(lines[2].len(), 80);
        assert!(lines[2].ends_with("xx.."));
        assert_eq!(table.lines(None)[2].len(), 16 + 90);
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        let mut table = Table::new(&["A"]);
        table.row(["\x1b[2Jx\r\n".into()]);
        assert_eq!(table.lines(None)[1], "?[2Jx??");
    }

    #[test]
    fn paragraphs_break_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a-word-that-is-too-long x", 4), ["a-word-that-is-too-long", "x"]);
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        let texts = [0, 999, 1024, 12_600, 4 << 20, 3 << 30].map(bytes);
        assert_eq!(texts, ["0B", "999B", "1.0K", "12.3K", "4.0M", "3.0G"]);
        assert!(bytes(u64::MAX).ends_with('T'));
    }

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!([span(9), span(125), span(3900), span(90_000)], ["9s", "2m05s", "1h05m", "1d01h"]);
    }
}
