//! What grep writes: lines with what stands before them, names, counts, separators, and their colours.

use super::matcher::Matcher;
use super::options::{Binary, Colors, Settings};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

/// A line of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// With what ends it.
    pub(super) text: &'a [u8],
    /// From one on; zero where numbers are not printed.
    pub(super) number: u64,
    pub(super) offset: u64,
    /// Whether it was selected, or stands beside one that was.
    pub(super) selected: bool,
}

/// Standard output.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    settings: &'a Settings,
    out: BufWriter<File>,
    /// What names and counts of this file begin with, where they do.
    pub(super) name: Option<Vec<u8>>,
    /// How wide numbers are with `-T`.
    pub(super) width: usize,
    /// Whether lines were printed before, of this or another file: then groups are separated.
    pub(super) used: bool,
}

impl<'a> Printer<'a> {
    /// # Errors
    /// There is no standard output.
    pub(super) fn new(settings: &'a Settings) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self {
            settings,
            out: BufWriter::with_capacity(64 * 1024, out),
            name: None,
            width: 0,
            used: false,
        })
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Whether lines are written as they are, without anything before or in them.
    pub(super) fn writes_bare_lines(&self) -> bool {
        let settings = self.settings;
        let prefixed = self.name.is_some() || settings.numbers || settings.offsets;
        !(prefixed || settings.only_matching || settings.colors.is_some() || settings.line_buffered)
    }

    /// Whether text may be written: what is no text is told of instead.
    pub(super) fn is_text(&self, text: &[u8]) -> bool {
        !self.settings.utf8 || self.settings.binary == Binary::Text || std::str::from_utf8(text).is_ok()
    }

    pub(super) fn bare(&mut self, text: &[u8]) -> io::Result<()> {
        self.out.write_all(text)
    }

    /// Writes a line, or what of it matches; false when it is no text, and was not written.
    pub(super) fn line(&mut self, line: Line<'_>, matcher: &Matcher) -> io::Result<bool> {
        let settings = self.settings;
        let body = &line.text[..line.text.len() - 1];
        if !settings.only_matching && !self.head(line, 0, body)? {
            return Ok(false);
        }
        let matching = line.selected != settings.inverted;
        let (mut line_color, mut match_color) = (String::new(), String::new());
        if let Some(colors) = &settings.colors {
            let selected = line.selected != (settings.inverted && colors.reversed);
            line_color.clone_from(if selected { &colors.selected_line } else { &colors.context_line });
            match_color.clone_from(if line.selected {
                &colors.selected_match
            } else {
                &colors.context_match
            });
        }
        let mut written = 0;
        if matching && (settings.only_matching || !match_color.is_empty()) {
            match self.matches(line, &line_color, &match_color, matcher)? {
                Some(end) => written = end,
                None => return Ok(false),
            }
        }
        if !settings.only_matching {
            if !line_color.is_empty() && written < body.len() {
                self.colored(&line_color, &body[written..])?;
                written = body.len();
            }
            self.out.write_all(&line.text[written..])?;
        }
        self.flush_line()?;
        Ok(true)
    }

    /// Writes what matches in a line: up to where, or `None` when that is no text.
    fn matches(
        &mut self,
        line: Line<'_>,
        line_color: &str,
        match_color: &str,
        matcher: &Matcher,
    ) -> io::Result<Option<usize>> {
        let body = &line.text[..line.text.len() - 1];
        let (mut at, mut written) = (0, 0);
        while at < body.len() {
            let Some(found) = matcher.find(body, at) else { break };
            if found.is_empty() {
                at = found.start + 1;
                continue;
            }
            at = found.end;
            if self.settings.only_matching {
                let part = Line { selected: !self.settings.inverted, ..line };
                if !self.head(part, found.start, &body[found.clone()])? {
                    return Ok(None);
                }
                self.colored(match_color, &body[found])?;
                self.out.write_all(&[self.settings.line_end()])?;
            } else {
                // The colour of the line goes on until that of the match.
                self.begin(line_color)?;
                self.out.write_all(&body[written..found.start])?;
                self.colored(match_color, &body[found.clone()])?;
                written = found.end;
            }
        }
        Ok(Some(written))
    }

    /// What stands before a line, or before the part of it that begins at a place; false when it is no text.
    fn head(&mut self, line: Line<'_>, at: usize, text: &[u8]) -> io::Result<bool> {
        if !self.is_text(text) {
            return Ok(false);
        }
        let settings = self.settings;
        let separator: &[u8] = if line.selected { b":" } else { b"-" };
        let named = self.name.is_some();
        if named {
            self.file_name()?;
            self.after_name(separator)?;
        }
        if settings.numbers {
            self.number(line.number, |colors| &colors.number, separator)?;
        }
        if settings.offsets {
            self.number(line.offset + at as u64, |colors| &colors.offset, separator)?;
        }
        if settings.tab && (named || settings.numbers || settings.offsets) && !text.is_empty() {
            self.out.write_all(b"\t")?;
        }
        Ok(true)
    }

    fn number(&mut self, number: u64, color: fn(&Colors) -> &String, separator: &[u8]) -> io::Result<()> {
        let text = format!("{number:>width$}", width = self.width);
        self.in_color(color, text.as_bytes())?;
        self.in_color(|colors| &colors.separator, separator)
    }

    /// The name of the file, where names are printed.
    fn file_name(&mut self) -> io::Result<()> {
        let name = self.name.take().unwrap_or_default();
        let written = self.in_color(|colors| &colors.name, &name);
        self.name = Some(name);
        written
    }

    fn after_name(&mut self, separator: &[u8]) -> io::Result<()> {
        if self.settings.null_names {
            self.out.write_all(b"\0")
        } else {
            self.in_color(|colors| &colors.separator, separator)
        }
    }

    /// A name alone: of `-l` and `-L`.
    pub(super) fn name_alone(&mut self, name: &[u8]) -> io::Result<()> {
        self.in_color(|colors| &colors.name, name)?;
        self.out.write_all(if self.settings.null_names { b"\0" } else { b"\n" })?;
        self.flush_line()
    }

    pub(super) fn count(&mut self, count: u64) -> io::Result<()> {
        if self.name.is_some() {
            self.file_name()?;
            self.after_name(b":")?;
        }
        writeln!(self.out, "{count}")?;
        self.flush_line()
    }

    /// What stands between groups of lines.
    pub(super) fn separator(&mut self) -> io::Result<()> {
        let Some(text) = &self.settings.separator else { return Ok(()) };
        self.in_color(|colors| &colors.separator, text)?;
        self.out.write_all(b"\n")
    }

    fn flush_line(&mut self) -> io::Result<()> {
        if self.settings.line_buffered { self.out.flush() } else { Ok(()) }
    }

    fn in_color(&mut self, color: fn(&Colors) -> &String, text: &[u8]) -> io::Result<()> {
        match &self.settings.colors {
            Some(colors) => self.colored(color(colors), text),
            None => self.out.write_all(text),
        }
    }

    fn colored(&mut self, color: &str, text: &[u8]) -> io::Result<()> {
        self.begin(color)?;
        self.out.write_all(text)?;
        match &self.settings.colors {
            Some(colors) if !color.is_empty() => write!(self.out, "\x1b[m{}", erase(colors)),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, color: &str) -> io::Result<()> {
        match &self.settings.colors {
            Some(colors) if !color.is_empty() => write!(self.out, "\x1b[{color}m{}", erase(colors)),
            _ => Ok(()),
        }
    }
}

/// What makes the rest of the terminal's line have the colour's background.
fn erase(colors: &Colors) -> &'static str {
    if colors.erases { "\x1b[K" } else { "" }
}
