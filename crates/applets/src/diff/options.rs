//! The command line of `diff`.

use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Usage: diff [OPTION]... FROM TO
Show the differences between two files or two directories; - is standard input.

  -u, -U NUM        unified output, with NUM lines of context (3)
  -c, -C NUM        context output
  -e, -f            an ed script; the same forwards
  -y                side by side (-W NUM: in that width)
  -q, --brief       say only whether they differ
  -s                say when they are identical
  -r                directories with all that is below them
  -N                a file that is not there is empty
  -x PATTERN        leave out files of such names
  -b, -w            blanks do not matter: how many there are; none of them
  -i                capital letters do not matter
  -B                blank lines do not matter
  -a                everything is text
  -L, --label=NAME  NAME in place of a file's name and time
  --strip-trailing-cr
                    CR at the end of lines does not matter

The exit code is 0 for no difference, 1 for some, 2 for trouble.
";

/// How differences are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Normal,
    Unified(usize),
    Context(usize),
    Ed,
    Forward,
    Side,
}

#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) form: Form,
    pub(super) brief: bool,
    pub(super) identical: bool,
    pub(super) recursive: bool,
    pub(super) new_file: bool,
    pub(super) text: bool,
    pub(super) fewer_blanks: bool,
    pub(super) no_blanks: bool,
    pub(super) no_case: bool,
    pub(super) no_blank_lines: bool,
    pub(super) no_cr: bool,
    pub(super) width: Option<usize>,
    pub(super) excluded: Vec<Vec<u8>>,
    pub(super) labels: Vec<String>,
    pub(super) operands: [PathBuf; 2],
    /// The options as they were written, for the line before each file of a directory.
    pub(super) words: String,
}

pub(super) fn parse(arguments: Vec<OsString>) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(arguments.iter().skip(1));
    let mut operands = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('u') => options.form = context(options.form, Form::Unified),
            Arg::Short('c') => options.form = context(options.form, Form::Context),
            Arg::Short('U') => options.form = Form::Unified(parser.value()?.parse()?),
            Arg::Short('C') => options.form = Form::Context(parser.value()?.parse()?),
            Arg::Long("unified") => {
                options.form = Form::Unified(parser.optional_value().map_or(Ok(3), |value| value.parse())?);
            }
            Arg::Long("context") => {
                options.form = Form::Context(parser.optional_value().map_or(Ok(3), |value| value.parse())?);
            }
            Arg::Short('e') | Arg::Long("ed") => options.form = Form::Ed,
            Arg::Short('f') | Arg::Long("forward-ed") => options.form = Form::Forward,
            Arg::Short('y') | Arg::Long("side-by-side") => options.form = Form::Side,
            Arg::Short('W') | Arg::Long("width") => options.width = Some(parser.value()?.parse()?),
            Arg::Short('x') | Arg::Long("exclude") => options.excluded.push(parser.value()?.into_vec()),
            Arg::Short('L') | Arg::Long("label") => options.labels.push(parser.value()?.string()?),
            Arg::Value(operand) => operands.push(PathBuf::from(operand)),
            other => switch(&mut options, other)?,
        }
    }
    let words = arguments.iter().skip(1).take_while(|word| *word != "--");
    let words = words.filter(|word| word.as_encoded_bytes().starts_with(b"-") && *word != "-");
    options.words = words.map(|word| format!(" {}", word.display())).collect();
    options.operands = operands
        .try_into()
        .map_err(|operands: Vec<_>| format!("two names are needed, and there are {}", operands.len()))?;
    Ok(options)
}

fn switch(options: &mut Options, argument: Arg<'_>) -> Result<(), lexopt::Error> {
    match argument {
        Arg::Long("normal") => options.form = Form::Normal,
        Arg::Short('q') | Arg::Long("brief") => options.brief = true,
        Arg::Short('s') | Arg::Long("report-identical-files") => options.identical = true,
        Arg::Short('r') | Arg::Long("recursive") => options.recursive = true,
        Arg::Short('N') | Arg::Long("new-file") => options.new_file = true,
        Arg::Short('a') | Arg::Long("text") => options.text = true,
        Arg::Short('b') | Arg::Long("ignore-space-change") => options.fewer_blanks = true,
        Arg::Short('w') | Arg::Long("ignore-all-space") => options.no_blanks = true,
        Arg::Short('i') | Arg::Long("ignore-case") => options.no_case = true,
        Arg::Short('B') | Arg::Long("ignore-blank-lines") => options.no_blank_lines = true,
        Arg::Long("strip-trailing-cr") => options.no_cr = true,
        // How hard it looks, which is hard enough.
        Arg::Short('d' | 'H') | Arg::Long("minimal" | "speed-large-files" | "no-dereference") => {}
        other => return Err(other.unexpected()),
    }
    Ok(())
}

/// `-u` after `-U NUM` keeps the number.
fn context(form: Form, make: fn(usize) -> Form) -> Form {
    match form {
        Form::Unified(lines) | Form::Context(lines) => make(lines),
        _ => make(3),
    }
}
