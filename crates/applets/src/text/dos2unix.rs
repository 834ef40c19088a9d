//! `dos2unix` and `unix2dos`: the ends of lines of one system become those of the other.

use super::with_options;
use crate::output::complain;
use lexopt::Arg;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of the largest file that is changed in place.
const LARGEST: u64 = 1 << 30;

const HELP: &str = "\
Usage: dos2unix|unix2dos [FILE]...
Change the ends of lines in files to those of Unix (LF) or of DOS (CR LF); without FILE, of standard input to standard
output. Files with bytes that no text has are left alone, unless -f.

  -f    binary files too
  -q    say nothing of what is left alone
";

#[derive(Debug, Default)]
struct Options {
    force: bool,
    quiet: bool,
    files: Vec<OsString>,
}

pub(crate) fn dos2unix(arguments: Vec<OsString>) -> i32 {
    run("dos2unix", arguments, to_unix)
}

pub(crate) fn unix2dos(arguments: Vec<OsString>) -> i32 {
    run("unix2dos", arguments, to_dos)
}

fn run(name: &str, arguments: Vec<OsString>, convert: fn(&[u8]) -> Vec<u8>) -> i32 {
    with_options(name, HELP, 1, arguments, parse, |options| {
        if options.files.is_empty() {
            let mut bytes = Vec::new();
            let done = io::stdin()
                .take(LARGEST)
                .read_to_end(&mut bytes)
                .and_then(|_| io::stdout().write_all(&convert(&bytes)));
            return done.map_or_else(|error| failed(name, Path::new("-"), &error), |()| 0);
        }
        let mut code = 0;
        for file in &options.files {
            let path = Path::new(file);
            if let Err(error) = change(name, &options, path, convert) {
                code = failed(name, path, &error);
            }
        }
        code
    })
}

fn failed(name: &str, path: &Path, error: &io::Error) -> i32 {
    complain(name, &format_args!("{}: {error}", path.display()));
    1
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('f') | Arg::Long("force") => options.force = true,
            Arg::Short('q') | Arg::Long("quiet") => options.quiet = true,
            Arg::Value(file) => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn change(name: &str, options: &Options, path: &Path, convert: fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "more than 1 GiB, which is not changed in place",
        ));
    }
    let bytes = fs::read(path)?;
    if !options.force && bytes.iter().any(|&b| b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c)) {
        if !options.quiet {
            complain(name, &format_args!("{}: a binary file, left alone", path.display()));
        }
        return Ok(());
    }
    let converted = convert(&bytes);
    if converted == bytes {
        return Ok(());
    }
    // In place, so that owner, permissions and links stay.
    fs::write(path, converted)
}

fn to_unix(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            result.push(byte);
        }
    }
    result
}

fn to_dos(bytes: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    for &byte in bytes {
        if byte == b'\n' && result.last() != Some(&b'\r') {
            result.push(b'\r');
        }
        result.push(byte);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_change_and_nothing_else() {
        assert_eq!(to_unix(b"a\r\nb\rc\n\r\n"), b"a\nb\rc\n\n");
        assert_eq!(to_dos(b"a\nb\r\n\nc"), b"a\r\nb\r\n\r\nc");
        assert_eq!(to_unix(&to_dos(b"x\n\ny")), b"x\n\ny");
    }
}
