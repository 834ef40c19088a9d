//! `awk`: POSIX's, with what gawk and mawk have in common beyond it. Bytes in and out; characters are those of UTF-8 where the
//! locale says so.
//!
//! [`parse`] makes a tree of a program, [`run`] walks it: rules and statements there, expressions in [`eval`], functions in
//! [`builtin`]. [`pattern`] gives the crate regex POSIX's forms and its longest match.

mod builtin;
mod eval;
pub(crate) mod format;
mod io;
mod lex;
mod parse;
mod pattern;
mod record;
mod run;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use crate::output::{complain, help_or_version};
use crate::regular::locale_is_utf8;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

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

/// Calls and parentheses within each other, up to the bounds that the code has for them. Only what is used takes memory.
const STACK_BYTES: usize = 512 << 20;

/// A program of more than that is none.
const PROGRAM_MAX_BYTES: usize = 16 << 20;

/// What the command line asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Assignments before BEGIN, `-F` among them as it stands.
    variables: Vec<Vec<u8>>,
    program: Vec<u8>,
    operands: Vec<Vec<u8>>,
}

pub(crate) fn awk(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "awk", HELP) {
        return code;
    }
    let outcome = parse(arguments, |path| fs::read(path)).and_then(|request| {
        let utf8 = locale_is_utf8(|name| std::env::var_os(name));
        let thread =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || execute(&request, utf8));
        let thread = thread.map_err(|error| format!("no memory for a stack: {error}"))?;
        thread.join().map_err(|_| "ended without a result".to_owned())?
    });
    outcome.unwrap_or_else(|message| {
        complain("awk", &message);
        TROUBLE
    })
}

/// Reads the command line. Options may carry their value in the same argument or in the next one.
fn parse(
    arguments: Vec<OsString>,
    read_file: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<Request, String> {
    let mut words = arguments.into_iter().skip(1).map(OsString::into_vec).peekable();
    let mut request = Request::default();
    let mut program: Option<Vec<u8>> = None;
    while let Some(word) = words.next_if(|word| word.len() > 1 && word.starts_with(b"-")) {
        if word == b"--" {
            break;
        }
        let letter = word[1];
        if !matches!(letter, b'F' | b'f' | b'v') {
            return Err(format!(
                "unknown option {}; awk --help lists what there is",
                String::from_utf8_lossy(&word)
            ));
        }
        let attached = Some(word[2..].to_vec()).filter(|rest| !rest.is_empty());
        let value = attached.or_else(|| words.next());
        let value = value.ok_or_else(|| format!("option -{} needs a value", char::from(letter)))?;
        match letter {
            b'F' => request
                .variables
                .push([&b"FS="[..], if value == b"t" { &b"\\t"[..] } else { &value }].concat()),
            b'v' if run::assignment(&value).is_none() => {
                return Err(format!("-v {}: not an assignment NAME=VALUE", String::from_utf8_lossy(&value)));
            }
            b'v' => request.variables.push(value),
            _ => {
                let path = if value == b"-" {
                    Path::new("/dev/stdin")
                } else {
                    Path::new(std::ffi::OsStr::from_bytes(&value))
                };
                let read =
                    read_file(path).map_err(|error| format!("program file {}: {error}", path.display()))?;
                let text = program.get_or_insert_default();
                text.extend_from_slice(&read);
                text.push(b'\n');
            }
        }
    }
    request.program = match program.or_else(|| words.next()) {
        Some(program) if program.len() > PROGRAM_MAX_BYTES => {
            return Err(format!("a program of more than {PROGRAM_MAX_BYTES} bytes"));
        }
        Some(program) => program,
        None => return Err("no program; awk --help shows how to give one".into()),
    };
    request.operands = words.collect();
    Ok(request)
}

fn execute(request: &Request, utf8: bool) -> Result<i32, String> {
    let program = parse::program(&request.program, utf8)?;
    let mut machine = run::Machine::new(&program, utf8);
    let arguments: Vec<Vec<u8>> =
        std::iter::once(b"awk".to_vec()).chain(request.operands.iter().cloned()).collect();
    let environment: Vec<_> =
        std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    machine.give(&arguments, &environment);
    for variable in &request.variables {
        machine.assign(variable).map_err(|stop| match stop {
            run::Stop::Error(cause) => cause,
            _ => "an assignment ends nothing".into(),
        })?;
    }
    machine.run()
}
