//! `awk`, on the interpreter of the crate awk-rs.
//!
//! Differences from POSIX awk that a user can meet: input that is not UTF-8 is read with U+FFFD in place of
//! each bad sequence, and an operand `name=value` counts from the start, also when it stands after a file.

use crate::output::{complain, help_or_version};
use awk_rs::{Interpreter, Lexer, Parser};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

const HELP: &str = "\
Usage: awk [-F SEPARATOR] [-v NAME=VALUE]... 'PROGRAM' [FILE | NAME=VALUE]...
       awk [-F SEPARATOR] [-v NAME=VALUE]... -f PROGRAM-FILE... [FILE | NAME=VALUE]...
Run PROGRAM for each line of the files, or of standard input.

  -F SEPARATOR    the field separator: one character or an extended regular expression
  -f FILE         read the program from FILE; several are joined
  -v NAME=VALUE   set a variable before BEGIN
";

/// POSIX: more than zero for an error; gawk and mawk say 2.
const TROUBLE: i32 = 2;

/// What the command line asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    separator: Option<String>,
    variables: Vec<(String, String)>,
    program: String,
    files: Vec<String>,
}

pub(crate) fn awk(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "awk", HELP) {
        return code;
    }
    let read_program =
        |path: &str| fs::read_to_string(path).map_err(|error| format!("program file {path}: {error}"));
    match parse(arguments, read_program).and_then(|request| execute(&request)) {
        Ok(code) => code,
        Err(message) => {
            complain("awk", &message);
            TROUBLE
        }
    }
}

/// Reads the command line. Options may carry their value in the same argument or in the next one.
fn parse(
    arguments: Vec<OsString>,
    read_program: impl Fn(&str) -> Result<String, String>,
) -> Result<Request, String> {
    let texts: Result<Vec<String>, OsString> =
        arguments.into_iter().skip(1).map(OsString::into_string).collect();
    let mut texts = texts.map_err(|other| format!("argument {other:?} is not UTF-8 text"))?.into_iter();
    let mut request = Request::default();
    let mut program: Option<String> = None;
    let mut operands = Vec::new();
    while let Some(argument) = texts.next() {
        let mut chars = argument.chars();
        let (dash, letter) = (chars.next(), chars.next());
        let (Some('-'), Some(letter)) = (dash, letter) else {
            operands.push(argument);
            break;
        };
        if argument == "--" {
            break;
        }
        let attached = chars.as_str();
        let value = match letter {
            'F' | 'f' | 'v' if attached.is_empty() => {
                texts.next().ok_or_else(|| format!("option -{letter} needs a value"))?
            }
            'F' | 'f' | 'v' => attached.to_owned(),
            _ => return Err(format!("unknown option {argument}; awk --help lists what there is")),
        };
        match letter {
            'F' => request.separator = Some(if value == "t" { "\t".into() } else { unescape(&value) }),
            'v' => request
                .variables
                .push(assignment(&value).ok_or_else(|| format!("-v {value}: not an assignment NAME=VALUE"))?),
            _ => {
                let text = program.get_or_insert_default();
                text.push_str(&read_program(&value)?);
                text.push('\n');
            }
        }
    }
    operands.extend(texts);
    let mut operands = operands.into_iter();
    request.program = match program.or_else(|| operands.next()) {
        Some(program) => program,
        None => return Err("no program; awk --help shows how to give one".into()),
    };
    for operand in operands {
        match assignment(&operand) {
            Some(pair) => request.variables.push(pair),
            None => request.files.push(operand),
        }
    }
    Ok(request)
}

/// `NAME=VALUE` with a valid name; the value's escapes are those of a string in a program.
fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let mut letters = name.chars();
    let starts_well = letters.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
    (starts_well && letters.all(|c| c == '_' || c.is_ascii_alphanumeric()))
        .then(|| (name.to_owned(), unescape(value)))
}

fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => result.push('\n'),
            Some('t') => result.push('\t'),
            Some('r') => result.push('\r'),
            Some('a') => result.push('\x07'),
            Some('b') => result.push('\x08'),
            Some('f') => result.push('\x0c'),
            Some('v') => result.push('\x0b'),
            Some(other @ ('\\' | '"' | '/')) => result.push(other),
            // Kept as it is: it may be the escape of a regular expression, as in -F '\|'.
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
    }
    result
}

fn execute(request: &Request) -> Result<i32, String> {
    let tokens = Lexer::new(&request.program).tokenize().map_err(|error| error.to_string())?;
    let program = Parser::new(tokens).parse().map_err(|error| error.to_string())?;
    let mut interpreter = Interpreter::new(&program);
    if let Some(separator) = &request.separator {
        interpreter.set_fs(separator);
    }
    let mut names = vec!["awk".to_owned()];
    names.extend(request.files.iter().cloned());
    interpreter.set_args(names);
    for (name, value) in &request.variables {
        interpreter.set_variable(name, value);
    }
    let mut inputs: Vec<Lossy> = Vec::new();
    for file in &request.files {
        inputs.push(if file == "-" { Lossy::of(io::stdin()) } else { Lossy::of(open(file)?) });
    }
    if inputs.is_empty() {
        inputs.push(Lossy::of(io::stdin()));
    }
    interpreter.set_filenames(if request.files.is_empty() {
        vec![String::new()]
    } else {
        request.files.clone()
    });
    // Line buffering would make one write of every line that goes into a pipe; the interpreter flushes
    // before it runs other programs, so the order of output is kept.
    let mut output = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let outcome = interpreter.run(inputs, &mut output);
    let flushed = output.flush();
    let code = outcome.map_err(|error| error.to_string())?;
    flushed.map_err(|error| format!("cannot write to standard output: {error}"))?;
    Ok(code)
}

fn open(path: &str) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{path}: {error}"))
}

/// A reader whose lines are always UTF-8. The interpreter would stop at the first byte that is not.
struct Lossy {
    inner: Box<dyn BufRead>,
    line: Vec<u8>,
    position: usize,
}

impl Lossy {
    fn of(source: impl Read + 'static) -> Self {
        Self { inner: Box::new(BufReader::with_capacity(64 * 1024, source)), line: Vec::new(), position: 0 }
    }
}

impl Read for Lossy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Lossy {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.line.len() {
            self.line.clear();
            self.position = 0;
            self.inner.read_until(b'\n', &mut self.line)?;
            if std::str::from_utf8(&self.line).is_err() {
                self.line = String::from_utf8_lossy(&self.line).into_owned().into_bytes();
            }
        }
        Ok(&self.line[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position = (self.position + amount).min(self.line.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, String> {
        let all = std::iter::once("awk").chain(arguments.iter().copied()).map(OsString::from).collect();
        parse(all, |path| Ok(format!("# {path}")))
    }

    #[test]
    fn options_take_their_value_attached_or_apart() {
        let apart = parsed(&["-F", ":", "-v", "x=1", "{print}", "f"]).unwrap();
        let attached = parsed(&["-F:", "-vx=1", "{print}", "f"]).unwrap();
        assert_eq!(apart, attached);
        assert_eq!(apart.separator.as_deref(), Some(":"));
        assert_eq!(apart.variables, [("x".to_owned(), "1".to_owned())]);
        assert_eq!((apart.program.as_str(), apart.files.as_slice()), ("{print}", &["f".to_owned()][..]));
    }

    #[test]
    fn a_program_may_start_with_a_dash_after_two_dashes_and_files_may_be_assignments() {
        let request = parsed(&["--", "-1", "a=b\\tc", "-", "1a=b"]).unwrap();
        assert_eq!(request.program, "-1");
        assert_eq!(request.variables, [("a".to_owned(), "b\tc".to_owned())]);
        assert_eq!(request.files, ["-", "1a=b"]);
    }

    #[test]
    fn program_files_are_joined_and_leave_all_operands_to_be_files() {
        let request = parsed(&["-f", "one", "-ftwo", "data"]).unwrap();
        assert_eq!(request.program, "# one\n# two\n");
        assert_eq!(request.files, ["data"]);
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        for wrong in [&[][..], &["-F"], &["-x", "p"], &["-v", "1=2", "p"], &["-v", "x", "p"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?} is accepted");
        }
    }

    #[test]
    fn what_is_not_utf8_is_replaced_and_nothing_is_lost() {
        let mut text = String::new();
        let source: &[u8] = b"one\ntw\xffo\nlast";
        Lossy::of(source).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntw\u{fffd}o\nlast");
    }
}
