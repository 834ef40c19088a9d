//! `column`: text in columns, or as a table.

use super::{number, with_options};
use crate::input::each;
use lexopt::{Arg, ValueExt};
use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};

const HELP: &str = "\
Usage: column [OPTION]... [FILE]...
Lay out lines in columns, or make a table of them.

  -t         a table: what each line has between separators, in columns
  -s CHARS   what separates (blanks)
  -o TEXT    what stands between the columns of a table (two blanks)
  -N NAMES   names of the columns, with commas
  -R NUMBERS columns that are set to the right, with commas
  -c NUM     the width of the output (the terminal's, or 80)
  -x         fill rows before columns
";

/// The most that is held for layout.
const LARGEST: u64 = 1 << 28;

#[derive(Debug, Default)]
struct Options {
    table: bool,
    separators: Option<String>,
    between: Option<String>,
    names: Option<String>,
    right: Vec<usize>,
    width: Option<usize>,
    rows: bool,
    files: Vec<OsString>,
}

pub(crate) fn column(arguments: Vec<OsString>) -> i32 {
    with_options("column", HELP, 1, arguments, parse, |options| {
        let mut lines = Vec::new();
        let code = each("column", &options.files, |_, reader| {
            let mut reader = reader.take(LARGEST);
            for line in reader.by_ref().split(b'\n') {
                lines.push(String::from_utf8_lossy(&line?).into_owned());
            }
            if reader.limit() == 0 && !reader.into_inner().fill_buf()?.is_empty() {
                return Err(io::Error::other("only its first 256 MiB are shown"));
            }
            Ok(())
        });
        lines.retain(|line| !line.trim().is_empty());
        let text = if options.table { table(&options, &lines) } else { fill(&options, &lines) };
        match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => code,
            Err(error) => {
                crate::output::complain("column", &format_args!("standard output: {error}"));
                1
            }
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('t') | Arg::Long("table") => options.table = true,
            Arg::Short('s') | Arg::Long("separator") => options.separators = Some(parser.value()?.string()?),
            Arg::Short('o') | Arg::Long("output-separator") => {
                options.between = Some(parser.value()?.string()?)
            }
            Arg::Short('N') | Arg::Long("table-columns") => {
                options.names = Some(parser.value()?.string()?);
                options.table = true;
            }
            Arg::Short('R') | Arg::Long("table-right") => {
                for number in parser.value()?.string()?.split(',') {
                    options
                        .right
                        .push(number.parse().map_err(|_| format!("-R {number}: not a column's number"))?);
                }
            }
            Arg::Short('c') | Arg::Long("output-width") => {
                options.width = usize::try_from(number(&parser.value()?.string()?)?).ok();
            }
            Arg::Short('x') | Arg::Long("fillrows") => options.rows = true,
            Arg::Value(file) => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn cells<'l>(options: &Options, line: &'l str) -> Vec<&'l str> {
    match &options.separators {
        Some(separators) => line.split(|c| separators.contains(c)).collect(),
        None => line.split_whitespace().collect(),
    }
}

fn table(options: &Options, lines: &[String]) -> String {
    let named = options.names.iter().map(|names| names.split(',').collect());
    let rows: Vec<Vec<&str>> = named.chain(lines.iter().map(|line| cells(options, line))).collect();
    let mut widths = Vec::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            if at == widths.len() {
                widths.push(0);
            }
            widths[at] = widths[at].max(width(cell));
        }
    }
    let between = options.between.as_deref().unwrap_or("  ");
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            let room = " ".repeat(widths[at] - width(cell));
            let last = at + 1 == widths.len();
            if options.right.contains(&(at + 1)) {
                text.push_str(&room);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                // The last cell of a row that is shorter than others is filled up, that of the longest is not.
                if !last {
                    text.push_str(&room);
                }
            }
            if !last {
                text.push_str(between);
            }
        }
        for (at, column) in widths.iter().enumerate().skip(row.len()) {
            if at + 1 < widths.len() {
                text.push_str(&" ".repeat(*column));
                text.push_str(between);
            }
        }
        let kept = text.trim_end_matches(' ').len();
        text.truncate(kept.max(text.rfind('\n').map_or(0, |end| end + 1)));
        text.push('\n');
    }
    text
}

fn fill(options: &Options, lines: &[String]) -> String {
    let longest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
    let total = options
        .width
        .unwrap_or_else(|| std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(80));
    // Columns begin where tabs do.
    let room = (longest + 8) & !7;
    let columns = (total / room).max(1);
    let rows = lines.len().div_ceil(columns);
    let mut text = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for column in 0..columns {
            let at = if options.rows { row * columns + column } else { column * rows + row };
            let Some(cell) = lines.get(at) else { continue };
            while width_with_tabs(&line) < column * room {
                line.push('\t');
            }
            line.push_str(cell);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn width_with_tabs(text: &str) -> usize {
    text.chars().fold(0, |at, c| if c == '\t' { (at + 8) & !7 } else { at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(words: &[&str], text: &str) -> String {
        let options = parse(lexopt::Parser::from_args(words)).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if options.table { table(&options, &lines) } else { fill(&options, &lines) }
    }

    #[test]
    fn tables_have_columns_as_wide_as_their_cells() {
        assert_eq!(made(&["-t"], "a bbb c\ndddd e f\n"), "a     bbb  c\ndddd  e    f\n");
        assert_eq!(made(&["-t", "-s:", "-o|"], "a:b\n:ccc:d\n"), "a|b  |\n |ccc|d\n");
        assert_eq!(made(&["-R1", "-N", "N,X"], "10 a\n5 b\n"), " N  X\n10  a\n 5  b\n");
    }

    #[test]
    fn lines_fill_columns_or_rows() {
        assert_eq!(made(&["-c", "24"], "a\nb\nc\nd\n"), "a\tc\nb\td\n");
        assert_eq!(made(&["-x", "-c", "16"], "a\nb\nc\n"), "a\tb\nc\n");
    }
}
