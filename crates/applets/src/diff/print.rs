//! How differences are written.

use super::Side;
use super::lines::{Change, changes, groups, lines};
use super::options::{Form, Options};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::{self, Write};
use std::ops::Range;

/// A NUL in this many first bytes makes a file a binary one.
const LOOKED_AT: usize = 32 * 1024;

/// Writes how two texts differ; true when they do.
pub(super) fn print(options: &Options, from: &Side, to: &Side, out: &mut dyn Write) -> io::Result<bool> {
    let names = (from.name.display(), to.name.display());
    let same = |out: &mut dyn Write| -> io::Result<bool> {
        if options.identical {
            writeln!(out, "Files {} and {} are identical", names.0, names.1)?;
        }
        Ok(false)
    };
    if from.bytes == to.bytes {
        return same(out);
    }
    let binary = |side: &Side| side.bytes.iter().take(LOOKED_AT).any(|&b| b == 0);
    if !options.text && (binary(from) || binary(to)) {
        let word = if options.brief { "Files" } else { "Binary files" };
        writeln!(out, "{word} {} and {} differ", names.0, names.1)?;
        return Ok(true);
    }
    let (old, new) = (lines(&from.bytes), lines(&to.bytes));
    let changes = changes(options, &old, &new);
    if changes.is_empty() {
        return same(out);
    }
    if options.brief {
        writeln!(out, "Files {} and {} differ", names.0, names.1)?;
        return Ok(true);
    }
    let mut printer = Printer { options, from, to, old: &old, new: &new, out };
    match options.form {
        Form::Normal => printer.normal(&changes)?,
        Form::Unified(context) => printer.unified(&changes, context)?,
        Form::Context(context) => printer.context(&changes, context)?,
        Form::Ed => printer.ed(&changes)?,
        Form::Forward => printer.forward(&changes)?,
        Form::Side => {
            let params = diffutilslib::params::Params {
                width: options.width.unwrap_or(130),
                ..diffutilslib::params::Params::default()
            };
            diffutilslib::side_by_side_diff(&from.bytes, &to.bytes, &mut printer.out, &params);
        }
    }
    Ok(true)
}

struct Printer<'p> {
    options: &'p Options,
    from: &'p Side,
    to: &'p Side,
    old: &'p [&'p [u8]],
    new: &'p [&'p [u8]],
    out: &'p mut dyn Write,
}

/// Lines as the formats number them: `5`, or `5,7`; before the first line of none is the one above.
fn numbers(range: &Range<usize>) -> String {
    match range.len() {
        0 => range.start.to_string(),
        1 => (range.start + 1).to_string(),
        _ => format!("{},{}", range.start + 1, range.end),
    }
}

impl Printer<'_> {
    fn line(&mut self, mark: &str, line: &[u8]) -> io::Result<()> {
        self.out.write_all(mark.as_bytes())?;
        self.out.write_all(line)?;
        if line.ends_with(b"\n") { Ok(()) } else { self.out.write_all(b"\n\\ No newline at end of file\n") }
    }

    fn old_lines(&mut self, mark: &str, range: Range<usize>) -> io::Result<()> {
        self.old[range].iter().try_for_each(|line| self.line(mark, line))
    }

    fn new_lines(&mut self, mark: &str, range: Range<usize>) -> io::Result<()> {
        self.new[range].iter().try_for_each(|line| self.line(mark, line))
    }

    fn normal(&mut self, changes: &[Change]) -> io::Result<()> {
        for Change { from, to } in changes {
            let letter = letter(from, to);
            writeln!(self.out, "{}{letter}{}", numbers(from), numbers(to))?;
            self.old_lines("< ", from.clone())?;
            if letter == 'c' {
                self.out.write_all(b"---\n")?;
            }
            self.new_lines("> ", to.clone())?;
        }
        Ok(())
    }

    /// A side's name and time, or its label.
    fn head(&mut self, mark: &str, side: usize) -> io::Result<()> {
        if let Some(label) = self.options.labels.get(side) {
            return writeln!(self.out, "{mark} {label}");
        }
        let side = if side == 0 { self.from } else { self.to };
        let (seconds, nanoseconds) = side.changed;
        let time = Timestamp::from_second(seconds).map_or_else(
            |_| seconds.to_string(),
            |time| {
                let zoned = time.to_zoned(TimeZone::system());
                format!("{}.{nanoseconds:09} {}", zoned.strftime("%Y-%m-%d %H:%M:%S"), zoned.strftime("%z"))
            },
        );
        writeln!(self.out, "{mark} {}\t{time}", side.name.display())
    }

    fn unified(&mut self, changes: &[Change], context: usize) -> io::Result<()> {
        self.head("---", 0)?;
        self.head("+++", 1)?;
        // One line has no count; before the first line of none is the one above.
        let part = |range: &Range<usize>| match range.len() {
            0 => format!("{},0", range.start),
            1 => (range.start + 1).to_string(),
            length => format!("{},{length}", range.start + 1),
        };
        for group in groups(changes, context) {
            let (old, new) = self.around(group, context);
            writeln!(self.out, "@@ -{} +{} @@", part(&old), part(&new))?;
            let mut at = old.start;
            for Change { from, to } in group {
                self.old_lines(" ", at..from.start)?;
                self.old_lines("-", from.clone())?;
                self.new_lines("+", to.clone())?;
                at = from.end;
            }
            self.old_lines(" ", at..old.end)?;
        }
        Ok(())
    }

    /// The lines of both sides that a group shows.
    fn around(&self, group: &[Change], context: usize) -> (Range<usize>, Range<usize>) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return (0..0, 0..0) };
        let before = first.from.start.min(first.to.start).min(context);
        let after = (self.old.len() - last.from.end).min(self.new.len() - last.to.end).min(context);
        (first.from.start - before..last.from.end + after, first.to.start - before..last.to.end + after)
    }

    fn context(&mut self, changes: &[Change], context: usize) -> io::Result<()> {
        self.head("***", 0)?;
        self.head("---", 1)?;
        for group in groups(changes, context) {
            let (old, new) = self.around(group, context);
            writeln!(self.out, "***************\n*** {} ****", numbers(&old))?;
            if group.iter().any(|change| !change.from.is_empty()) {
                let mut at = old.start;
                for Change { from, to } in group {
                    self.old_lines("  ", at..from.start)?;
                    self.old_lines(if to.is_empty() { "- " } else { "! " }, from.clone())?;
                    at = from.end;
                }
                self.old_lines("  ", at..old.end)?;
            }
            writeln!(self.out, "--- {} ----", numbers(&new))?;
            if group.iter().any(|change| !change.to.is_empty()) {
                let mut at = new.start;
                for Change { from, to } in group {
                    self.new_lines("  ", at..to.start)?;
                    self.new_lines(if from.is_empty() { "+ " } else { "! " }, to.clone())?;
                    at = to.end;
                }
                self.new_lines("  ", at..new.end)?;
            }
        }
        Ok(())
    }

    /// From the end to the beginning, so that the numbers stay right while the script is carried out.
    fn ed(&mut self, changes: &[Change]) -> io::Result<()> {
        for Change { from, to } in changes.iter().rev() {
            let letter = letter(from, to);
            writeln!(self.out, "{}{letter}", numbers(from))?;
            if letter != 'd' {
                self.ed_text(to.clone())?;
            }
        }
        Ok(())
    }

    /// A text ends with a dot by itself; one in it is written twice and corrected.
    fn ed_text(&mut self, range: Range<usize>) -> io::Result<()> {
        let mut open = true;
        for line in &self.new[range] {
            if !open {
                self.out.write_all(b"a\n")?;
                open = true;
            }
            if *line == b".\n" {
                self.out.write_all(b"..\n.\ns/.//\n")?;
                open = false;
                continue;
            }
            self.out.write_all(line)?;
            if !line.ends_with(b"\n") {
                self.out.write_all(b"\n")?;
            }
        }
        if open { self.out.write_all(b".\n") } else { Ok(()) }
    }

    fn forward(&mut self, changes: &[Change]) -> io::Result<()> {
        for Change { from, to } in changes {
            let letter = letter(from, to);
            writeln!(self.out, "{letter}{}", numbers(from).replace(',', " "))?;
            if letter != 'd' {
                self.new_lines("", to.clone())?;
                self.out.write_all(b".\n")?;
            }
        }
        Ok(())
    }
}

/// Added, changed or deleted.
fn letter(from: &Range<usize>, to: &Range<usize>) -> char {
    match (from.is_empty(), to.is_empty()) {
        (true, _) => 'a',
        (_, true) => 'd',
        _ => 'c',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn printed(form: Form, from: &str, to: &str) -> String {
        let options = Options { form, labels: vec!["x".into(), "y".into()], ..Options::default() };
        let side = |text: &str| Side { name: PathBuf::from("n"), bytes: text.into(), changed: (0, 0) };
        let mut out = Vec::new();
        let differ = print(&options, &side(from), &side(to), &mut out).unwrap();
        assert_eq!(differ, from != to);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_is_as_it_is_specified() {
        let (from, to) = ("a\nb\nc\nd\n", "a\nx\nc\ne\nf");
        assert_eq!(
            printed(Form::Normal, from, to),
            "2c2\n< b\n---\n> x\n4c4,5\n< d\n---\n> e\n> f\n\\ No newline at end of file\n"
        );
        assert_eq!(
            printed(Form::Unified(0), from, to),
            "--- x\n+++ y\n@@ -2 +2 @@\n-b\n+x\n@@ -4 +4,2 @@\n-d\n+e\n+f\n\\ No newline at end of file\n"
        );
        assert_eq!(printed(Form::Unified(3), "", "a\n"), "--- x\n+++ y\n@@ -0,0 +1 @@\n+a\n");
        assert_eq!(printed(Form::Ed, from, "a\nb\n.\nc\n"), "4d\n2a\n..\n.\ns/.//\n");
        assert_eq!(printed(Form::Normal, "a\nb\n", "b\n"), "1d0\n< a\n");
        assert_eq!(
            printed(Form::Context(1), "a\nb\nc\n", "a\nb\nx\nc\n"),
            "*** x\n--- y\n***************\n*** 2,3 ****\n--- 2,4 ----\n  b\n+ x\n  c\n"
        );
        assert_eq!(printed(Form::Unified(3), "a\0", "b\0"), "Binary files n and n differ\n");
        assert_eq!(printed(Form::Normal, "a", "a"), "");
    }
}
