//! `less` and `more`: text by the screen, forwards and backwards.

use super::with_options;
use crate::input::open;
use crate::output::complain;
use crate::terminal::{Key, Terminal};
use lexopt::Arg;
use regex::bytes::{Regex, RegexBuilder};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

const HELP: &str = "\
Usage: less|more [OPTION]... [FILE]...
Show files, or standard input, by the screen. Where the output is no terminal, they are passed on as they are.

  -e, -F    end at the end, or where everything fits on one screen
  -i        capital letters do not matter in a search
  -N        number lines
  -R        let colours through
  -S        cut long lines in place of wrapping them
  +NUM, +G, +/PATTERN
            begin at a line, at the end, at a match

Keys: space f PgDn, b PgUp, j Enter Down, k y Up, d u half a screen, g G beginning and end, NUM before a key counts,
/PATTERN ?PATTERN n N search, = where this is, q ends.
";

/// What is held in memory.
const LARGEST: u64 = 1 << 30;

#[derive(Debug, Default, Clone)]
struct Options {
    end: bool,
    fit: bool,
    ignore_case: bool,
    numbers: bool,
    raw: bool,
    chop: bool,
    start: Option<String>,
    files: Vec<OsString>,
}

pub(crate) fn less(arguments: Vec<OsString>) -> i32 {
    with_options("less", HELP, 1, arguments, parse, |options| run("less", options))
}

pub(crate) fn more(arguments: Vec<OsString>) -> i32 {
    with_options("more", HELP, 1, arguments, parse, |mut options| {
        options.end = true;
        run("more", options)
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('e' | 'E') => options.end = true,
            Arg::Short('F') => options.fit = true,
            Arg::Short('i' | 'I') => options.ignore_case = true,
            Arg::Short('N') => options.numbers = true,
            Arg::Short('R' | 'r') => options.raw = true,
            Arg::Short('S') => options.chop = true,
            // What makes no difference here, and POSIX's for more.
            Arg::Short('X' | 'c' | 'd' | 's' | 'u' | 'K' | 'M' | 'Q') => {}
            Arg::Short('n' | 'p' | 't') => drop(parser.value()?),
            Arg::Value(value) => match value.to_str().and_then(|text| text.strip_prefix('+')) {
                Some(start) => options.start = Some(start.to_owned()),
                None => options.files.push(value),
            },
            Arg::Long(word) => return Err(Arg::Long(word).unexpected()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn run(name: &str, options: Options) -> i32 {
    let stdin = [OsString::from("-")];
    if options.files.is_empty() && io::stdin().is_terminal() {
        complain(name, &"no file is named, and standard input is the terminal");
        return 1;
    }
    let files = if options.files.is_empty() { &stdin[..] } else { &options.files };
    let to_terminal = io::stdout().is_terminal();
    let (mut code, mut bytes) = (0, Vec::new());
    for file in files {
        let done = open(file).and_then(|mut reader| {
            if to_terminal {
                let room = LARGEST.saturating_sub(bytes.len() as u64);
                return reader.take(room).read_to_end(&mut bytes).map(drop);
            }
            io::copy(&mut reader, &mut io::stdout()).map(drop)
        });
        if let Err(error) = done {
            complain(name, &format_args!("{}: {error}", Path::new(file).display()));
            code = 1;
        }
    }
    if !to_terminal || (code != 0 && bytes.is_empty()) {
        return code;
    }
    match show(options, &bytes) {
        Ok(()) => code,
        Err(error) => {
            complain(name, &format_args!("the terminal: {error}"));
            1
        }
    }
}

/// How long the colour is that a text begins with: `ESC [`, numbers, `m`. Nothing else of a terminal's commands is one.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    (end <= 32 && numbers[end..].starts_with('m')).then_some(end + 3)
}

fn show(options: Options, bytes: &[u8]) -> io::Result<()> {
    let mut terminal = Terminal::open()?;
    let (rows, columns) = terminal.size();
    let mut pager = Pager::new(options, bytes, rows, columns);
    if pager.options.fit && pager.fits() {
        drop(terminal);
        // As it would be on the screen: what is in a file must not command the terminal.
        let rows = (0..pager.lines.len()).flat_map(|line| pager.parts(line));
        return rows.map(|row| row + "\n").try_for_each(|row| io::stdout().write_all(row.as_bytes()));
    }
    terminal.draw(&pager.screen())?;
    while let Some(key) = terminal.key()? {
        (pager.rows, pager.columns) = terminal.size();
        if pager.key(key) {
            break;
        }
        terminal.draw(&pager.screen())?;
    }
    terminal.draw(&format!("\x1b[{};1H\x1b[K\x1b[0m", pager.rows))
}

/// What is shown, and where in it the screen is: the row of a line that is at its top.
struct Pager<'t> {
    options: Options,
    lines: Vec<&'t [u8]>,
    rows: usize,
    columns: usize,
    line: usize,
    part: usize,
    pattern: Option<Regex>,
    backwards: bool,
    /// A number, or a search, that is being typed.
    typed: String,
    prompt: Option<char>,
    message: String,
}

impl<'t> Pager<'t> {
    fn new(options: Options, text: &'t [u8], rows: usize, columns: usize) -> Self {
        let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
        lines.pop_if(|last| last.is_empty());
        let start = options.start.clone();
        let mut pager = Self {
            options,
            lines,
            rows,
            columns,
            line: 0,
            part: 0,
            pattern: None,
            backwards: false,
            typed: String::new(),
            prompt: None,
            message: String::new(),
        };
        match start.as_deref() {
            Some("G") => pager.go_to_end(),
            Some(start) => match start.strip_prefix('/') {
                Some(pattern) => pager.search(pattern, false, 0),
                None => pager.go_to_line(start.parse().unwrap_or(1)),
            },
            None => {}
        }
        pager
    }

    /// How a line looks: its rows, each at most as wide as the screen.
    fn parts(&self, line: usize) -> Vec<String> {
        let number = if self.options.numbers { format!("{:>7} ", line + 1) } else { String::new() };
        let mut parts = vec![number];
        let mut at = parts[0].len();
        let mut put = |text: &str, width: usize, parts: &mut Vec<String>| {
            if at + width > self.columns {
                parts.push(String::new());
                at = 0;
            }
            if let Some(last) = parts.last_mut() {
                last.push_str(text);
            }
            at += width;
        };
        for chunk in self.lines[line].utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some(c) = rest.chars().next() {
                if let Some(length) = colour(rest).filter(|_| self.options.raw) {
                    put(&rest[..length], 0, &mut parts);
                    rest = &rest[length..];
                    continue;
                }
                rest = &rest[c.len_utf8()..];
                match c {
                    '\t' => put(" ", 1, &mut parts),
                    '\r' => {}
                    c if c.is_ascii_control() => {
                        put(&format!("^{}", char::from(c as u8 ^ 0x40)), 2, &mut parts)
                    }
                    c if c.is_control() => put("?", 1, &mut parts),
                    c => put(c.encode_utf8(&mut [0; 4]), 1, &mut parts),
                }
            }
            for byte in chunk.invalid() {
                put(&format!("<{byte:02X}>"), 4, &mut parts);
            }
        }
        if self.options.chop {
            parts.truncate(1);
        }
        parts
    }

    fn page(&self) -> usize {
        self.rows.saturating_sub(1).max(1)
    }

    fn fits(&self) -> bool {
        let mut rows = 0;
        (0..self.lines.len()).all(|line| {
            rows += self.parts(line).len();
            rows <= self.page()
        })
    }

    /// Whether the last line is on the screen.
    fn at_end(&self) -> bool {
        let mut left = self.page();
        for line in self.line..self.lines.len() {
            let rows = self.parts(line).len() - if line == self.line { self.part } else { 0 };
            if rows > left {
                return false;
            }
            left -= rows;
        }
        true
    }

    fn down(&mut self, rows: usize) {
        for _ in 0..rows {
            if self.at_end() {
                break;
            }
            if self.part + 1 < self.parts(self.line).len() {
                self.part += 1;
            } else {
                (self.line, self.part) = (self.line + 1, 0);
            }
        }
    }

    fn up(&mut self, rows: usize) {
        for _ in 0..rows {
            if self.part > 0 {
                self.part -= 1;
            } else if self.line > 0 {
                self.line -= 1;
                self.part = self.parts(self.line).len() - 1;
            }
        }
    }

    fn go_to_line(&mut self, number: usize) {
        (self.line, self.part) = (number.saturating_sub(1).min(self.lines.len().saturating_sub(1)), 0);
    }

    fn go_to_end(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.line = self.lines.len() - 1;
        self.part = self.parts(self.line).len() - 1;
        self.up(self.page() - 1);
    }

    /// Goes to the next line that matches, from `from` on.
    fn search(&mut self, pattern: &str, backwards: bool, from: usize) {
        if !pattern.is_empty() {
            match RegexBuilder::new(pattern).case_insensitive(self.options.ignore_case).build() {
                Ok(pattern) => self.pattern = Some(pattern),
                Err(_) => {
                    self.message = format!("{pattern}: not a regular expression");
                    return;
                }
            }
        }
        let Some(pattern) = &self.pattern else {
            self.message = "no search before this one".into();
            return;
        };
        let found = if backwards {
            (0..from.min(self.lines.len())).rev().find(|&line| pattern.is_match(self.lines[line]))
        } else {
            (from..self.lines.len()).find(|&line| pattern.is_match(self.lines[line]))
        };
        match found {
            Some(line) => (self.line, self.part) = (line, 0),
            None => self.message = "pattern not found".into(),
        }
    }

    /// Takes a key; true when it ends.
    fn key(&mut self, key: Key) -> bool {
        self.message.clear();
        if let Some(prompt) = self.prompt {
            self.typing(prompt, key);
            return false;
        }
        let count: Option<usize> = self.typed.parse().ok();
        if let Key::Char(digit @ '0'..='9') = key {
            // More digits than lines can have mean nothing.
            if self.typed.len() < 9 {
                self.typed.push(digit);
            }
            return false;
        }
        self.typed.clear();
        let (page, times) = (self.page(), count.unwrap_or(1));
        match key {
            Key::Char('q' | 'Q') | Key::Control('c') => return true,
            Key::Char(' ' | 'f') | Key::PageDown | Key::Control('f' | 'v') => {
                if self.options.end && self.at_end() {
                    return true;
                }
                self.down(count.unwrap_or(page));
            }
            Key::Char('b') | Key::PageUp | Key::Control('b') => self.up(count.unwrap_or(page)),
            Key::Char('j' | 'e') | Key::Enter | Key::Down | Key::Control('n' | 'e') => {
                if self.options.end && self.at_end() {
                    return true;
                }
                self.down(times);
            }
            Key::Char('k' | 'y') | Key::Up | Key::Control('p' | 'y') => self.up(times),
            Key::Char('d') | Key::Control('d') => self.down(count.unwrap_or(page / 2)),
            Key::Char('u') | Key::Control('u') => self.up(count.unwrap_or(page / 2)),
            Key::Char('g' | '<') | Key::Home => self.go_to_line(times),
            Key::Char('G' | '>') | Key::End => match count {
                Some(line) => self.go_to_line(line),
                None => self.go_to_end(),
            },
            Key::Char(prompt @ ('/' | '?')) => self.prompt = Some(prompt),
            Key::Char('n') => self.again(self.backwards),
            Key::Char('N') => self.again(!self.backwards),
            Key::Char('=') | Key::Control('g') => {
                self.message = format!("line {} of {}", self.line + 1, self.lines.len());
            }
            Key::Char('h') => {
                self.message = "space b j k d u g G /PATTERN n N q; less --help says more".into()
            }
            _ => {}
        }
        false
    }

    fn again(&mut self, backwards: bool) {
        let from = if backwards { self.line } else { self.line + 1 };
        self.search("", backwards, from);
    }

    fn typing(&mut self, prompt: char, key: Key) {
        match key {
            Key::Enter => {
                let pattern = std::mem::take(&mut self.typed);
                self.prompt = None;
                self.backwards = prompt == '?';
                let from = if self.backwards { self.line } else { self.line + 1 };
                self.search(&pattern, self.backwards, from);
            }
            Key::Backspace if self.typed.pop().is_some() => {}
            Key::Escape | Key::Backspace | Key::Control('c') => {
                self.typed.clear();
                self.prompt = None;
            }
            Key::Char(c) if self.typed.len() < 1024 => self.typed.push(c),
            _ => {}
        }
    }

    fn status(&self) -> String {
        if let Some(prompt) = self.prompt {
            return format!("{prompt}{}", self.typed);
        }
        if !self.message.is_empty() {
            return format!("\x1b[7m{}\x1b[0m", self.message);
        }
        if !self.typed.is_empty() {
            return format!(":{}", self.typed);
        }
        if self.at_end() { "\x1b[7m(END)\x1b[0m".into() } else { ":".into() }
    }

    /// The whole screen.
    fn screen(&self) -> String {
        let mut screen = String::from("\x1b[H");
        let (mut line, mut part) = (self.line, self.part);
        for _ in 0..self.page() {
            if line < self.lines.len() {
                let parts = self.parts(line);
                screen.push_str(parts.get(part).map_or("", String::as_str));
                part += 1;
                if part >= parts.len() {
                    (line, part) = (line + 1, 0);
                }
            } else {
                screen.push('~');
            }
            screen.push_str("\x1b[0m\x1b[K\r\n");
        }
        screen.push_str(&self.status());
        screen.push_str("\x1b[K");
        screen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        (1..=100).map(|n| format!("line {n}\n")).collect()
    }

    fn keys(pager: &mut Pager<'_>, keys: &str) -> bool {
        keys.chars().any(|c| pager.key(if c == '\n' { Key::Enter } else { Key::Char(c) }))
    }

    fn top(words: &[&str], typed: &str) -> usize {
        let text = text();
        let options = parse(lexopt::Parser::from_args(words)).unwrap();
        let mut pager = Pager::new(options, text.as_bytes(), 11, 80);
        assert!(!keys(&mut pager, typed), "{typed} ends");
        pager.line + 1
    }

    #[test]
    fn keys_move() {
        for (typed, line) in [
            (" ", 11),
            ("  b", 11),
            ("jj", 3),
            ("jjk", 2),
            ("G", 91),
            ("Gg", 1),
            ("50g", 50),
            ("5j", 6),
            ("d", 6),
            ("k", 1),
            ("GG ", 91),
            ("/line 40\n", 40),
            ("/9\nn", 19),
            ("/9\nnN", 9),
            ("50g?line 4$\n", 4),
            ("/[\n", 1),
            ("/nothing\n", 1),
        ] {
            assert_eq!(top(&[], typed), line, "{typed}");
        }
        assert_eq!(top(&["+30"], ""), 30);
        assert_eq!(top(&["+G"], ""), 91);
        assert_eq!(top(&["+/line 33"], ""), 33);
    }

    #[test]
    fn it_ends_when_told_and_more_at_the_end() {
        let text = text();
        let mut pager = Pager::new(Options::default(), text.as_bytes(), 11, 80);
        assert!(keys(&mut pager, "q"));
        let mut pager = Pager::new(Options { end: true, ..Options::default() }, text.as_bytes(), 11, 80);
        assert!(!keys(&mut pager, "G") && keys(&mut pager, " "));
    }

    #[test]
    fn long_lines_wrap_and_bytes_are_shown() {
        let long = format!("{}\n\x1b]0;x\x07\n\u{ff}\n", "x".repeat(200));
        let mut pager = Pager::new(Options::default(), long.as_bytes(), 5, 80);
        assert_eq!(pager.parts(0).len(), 3);
        assert_eq!(pager.parts(1), ["^[]0;x^G"]);
        pager.key(Key::Char('j'));
        assert_eq!((pager.line, pager.part), (0, 1));
        let screen = pager.screen();
        assert!(!screen.contains("\x1b]"), "an escape of the text reaches the terminal");
        assert_eq!(screen.matches("\r\n").count(), 4);
        let chopped = Pager::new(Options { chop: true, ..Options::default() }, long.as_bytes(), 5, 80);
        assert_eq!(chopped.parts(0).len(), 1);
        let empty = Pager::new(Options::default(), b"", 5, 80);
        assert!(empty.at_end() && empty.fits());
    }

    #[test]
    fn a_colour_is_let_through_and_no_other_command_of_a_terminal() {
        let lengths = [
            "\x1b[31m",
            "\x1b[m",
            "\x1b[1;38:5:9mx",
            "\x1b[2J",
            "\x1b]0;x\x07",
            "\x1bc",
            "\x1b[6n",
            "x",
            "\x1b[",
        ];
        assert_eq!(lengths.map(colour), [Some(5), Some(3), Some(11), None, None, None, None, None, None]);
    }
}
