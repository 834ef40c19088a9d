//! `strings`: what of a file is text.

use super::{number, with_options};
use crate::input::each;
use lexopt::{Arg, ValueExt};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufWriter, Write};
use std::path::Path;

const HELP: &str = "\
Usage: strings [OPTION]... [FILE]...
Print the sequences of printable ASCII characters in files, or in standard input.

  -n NUM, -NUM   of at least NUM characters (4)
  -t d|o|x       with where each begins, in decimal, octal or hexadecimal
  -f             with the file's name
  -a             the whole file, which is always read
";

#[derive(Debug)]
struct Options {
    least: usize,
    radix: Option<char>,
    named: bool,
    files: Vec<OsString>,
}

pub(crate) fn strings(arguments: Vec<OsString>) -> i32 {
    with_options("strings", HELP, 1, arguments, parse, |options| {
        let mut out = BufWriter::new(io::stdout().lock());
        each("strings", &options.files, |file, reader| {
            find(&options, file, reader, &mut out)?;
            out.flush()
        })
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options { least: 4, radix: None, named: false, files: Vec::new() };
    let mut digits = String::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('n') | Arg::Long("bytes") => {
                options.least = usize::try_from(number(&parser.value()?.string()?)?).unwrap_or(usize::MAX);
            }
            Arg::Short('t') | Arg::Long("radix") => {
                let radix = parser.value()?.string()?;
                options.radix = match radix.as_str() {
                    "d" | "o" | "x" => radix.chars().next(),
                    other => return Err(format!("-t {other}: d, o or x").into()),
                };
            }
            Arg::Short('o') => options.radix = Some('o'),
            Arg::Short('f') | Arg::Long("print-file-name") => options.named = true,
            Arg::Short('a') | Arg::Long("all") => {}
            Arg::Short(digit) if digit.is_ascii_digit() => digits.push(digit),
            Arg::Value(file) => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    if let Ok(least) = digits.parse() {
        options.least = least;
    }
    if options.least == 0 {
        return Err("-n 0: at least one character".into());
    }
    Ok(options)
}

fn find(options: &Options, file: &OsStr, reader: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    // Only as much is kept as decides whether it is printed.
    let (mut at, mut length, mut begin) = (0_u64, 0_usize, Vec::new());
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        for &byte in bytes {
            if byte == b'\t' || (0x20..0x7f).contains(&byte) {
                length += 1;
                if length < options.least {
                    begin.push(byte);
                } else {
                    if length == options.least {
                        head(options, file, at + 1 - length as u64, out)?;
                        out.write_all(&begin)?;
                    }
                    out.write_all(&[byte])?;
                }
            } else {
                if length >= options.least {
                    out.write_all(b"\n")?;
                }
                length = 0;
                begin.clear();
            }
            at += 1;
        }
        let count = bytes.len();
        reader.consume(count);
    }
    if length >= options.least { out.write_all(b"\n") } else { Ok(()) }
}

fn head(options: &Options, file: &OsStr, at: u64, out: &mut dyn Write) -> io::Result<()> {
    if options.named {
        write!(out, "{}: ", Path::new(file).display())?;
    }
    match options.radix {
        Some('d') => write!(out, "{at:>7} "),
        Some('o') => write!(out, "{at:>7o} "),
        Some(_) => write!(out, "{at:>7x} "),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str], bytes: &[u8]) -> String {
        let options = parse(lexopt::Parser::from_args(words)).unwrap();
        let mut out = Vec::new();
        // One byte at a time: nothing depends on where a read ends.
        let mut reader = io::BufReader::with_capacity(1, bytes);
        find(&options, OsStr::new("x"), &mut reader, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_what_is_long_enough_is_printed() {
        let bytes = b"abc\0abcd\0\x01hello world\xff\tx y";
        assert_eq!(found(&[], bytes), "abcd\nhello world\n\tx y\n");
        assert_eq!(found(&["-n", "5"], bytes), "hello world\n");
        assert_eq!(found(&["-11", "-f"], bytes), "x: hello world\n");
        assert_eq!(found(&["-tx", "-n9"], bytes), "      a hello world\n");
        assert_eq!(found(&[], b""), "");
    }
}
