//! `hexdump`: bytes in hexadecimal and other forms.

use super::{number, with_options};
use crate::input::open;
use crate::output::complain;
use lexopt::{Arg, ValueExt};
use std::ffi::OsString;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const HELP: &str = "\
Usage: hexdump [OPTION]... [FILE]...
Print the bytes of files, one after the other, or of standard input.

  -C        hexadecimal and text
  -x, -d, -o
            two bytes each, in hexadecimal, decimal, octal
  -b, -c    one byte each, in octal, as a character
  -n NUM    at most NUM bytes
  -s NUM    leave out the first NUM bytes
  -v        lines that repeat as well, in place of a star
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Canonical,
    Words,
    Hex,
    Decimal,
    Octal,
    Bytes,
    Characters,
}

#[derive(Debug)]
struct Options {
    form: Form,
    length: u64,
    skip: u64,
    all: bool,
    files: Vec<OsString>,
}

pub(crate) fn hexdump(arguments: Vec<OsString>) -> i32 {
    with_options("hexdump", HELP, 1, arguments, parse, |options| {
        let stdin = [OsString::from("-")];
        let files = if options.files.is_empty() { &stdin[..] } else { &options.files };
        let mut code = 0;
        let mut source: Box<dyn Read> = Box::new(io::empty());
        for file in files {
            match open(file) {
                Ok(reader) => source = Box::new(source.chain(reader)),
                Err(error) => {
                    complain("hexdump", &format_args!("{}: {error}", Path::new(file).display()));
                    code = 1;
                }
            }
        }
        let mut out = BufWriter::with_capacity(64 * 1024, io::stdout());
        match dump(&options, &mut *source, &mut out).and_then(|()| out.flush()) {
            Ok(()) => code,
            Err(error) => {
                complain("hexdump", &error);
                1
            }
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options { form: Form::Words, length: u64::MAX, skip: 0, all: false, files: Vec::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('C') | Arg::Long("canonical") => options.form = Form::Canonical,
            Arg::Short('x') | Arg::Long("two-bytes-hex") => options.form = Form::Hex,
            Arg::Short('d') | Arg::Long("two-bytes-decimal") => options.form = Form::Decimal,
            Arg::Short('o') | Arg::Long("two-bytes-octal") => options.form = Form::Octal,
            Arg::Short('b') | Arg::Long("one-byte-octal") => options.form = Form::Bytes,
            Arg::Short('c') | Arg::Long("one-byte-char") => options.form = Form::Characters,
            Arg::Short('n') | Arg::Long("length") => options.length = number(&parser.value()?.string()?)?,
            Arg::Short('s') | Arg::Long("skip") => options.skip = number(&parser.value()?.string()?)?,
            Arg::Short('v') | Arg::Long("no-squeezing") => options.all = true,
            Arg::Value(file) => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn dump(options: &Options, source: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    io::copy(&mut (&mut *source).take(options.skip), &mut io::sink())?;
    let mut source = source.take(options.length);
    let mut at = options.skip;
    let mut last: Option<Vec<u8>> = None;
    let mut starred = false;
    loop {
        let mut bytes = Vec::with_capacity(16);
        (&mut source).take(16).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        if !options.all && bytes.len() == 16 && last.as_ref() == Some(&bytes) {
            if !starred {
                out.write_all(b"*\n")?;
            }
            starred = true;
        } else {
            starred = false;
            out.write_all(line(options.form, at, &bytes).as_bytes())?;
        }
        at += bytes.len() as u64;
        last = Some(bytes);
    }
    if last.is_none() {
        return Ok(());
    }
    if options.form == Form::Canonical { writeln!(out, "{at:08x}") } else { writeln!(out, "{at:07x}") }
}

fn line(form: Form, at: u64, bytes: &[u8]) -> String {
    let words = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut text = if form == Form::Canonical { format!("{at:08x}") } else { format!("{at:07x}") };
    let (width, total) = match form {
        Form::Canonical => return text + &canonical(bytes),
        Form::Words => {
            text.extend(words.map(|word| format!(" {word:04x}")));
            (5, 8)
        }
        Form::Hex => {
            text.extend(words.map(|word| format!("    {word:04x}")));
            (8, 8)
        }
        Form::Decimal => {
            text.extend(words.map(|word| format!("   {word:05}")));
            (8, 8)
        }
        Form::Octal => {
            text.extend(words.map(|word| format!("  {word:06o}")));
            (8, 8)
        }
        Form::Bytes => {
            text.extend(bytes.iter().map(|byte| format!(" {byte:03o}")));
            (4, 16)
        }
        Form::Characters => {
            text.extend(bytes.iter().map(|&byte| format!(" {:>3}", character(byte))));
            (4, 16)
        }
    };
    // The original fills the last line with blanks.
    let used = text.len() - 7;
    text.extend(std::iter::repeat_n(' ', width * total - used));
    text.push('\n');
    text
}

fn canonical(bytes: &[u8]) -> String {
    let mut text = String::from("  ");
    for column in 0..16 {
        match bytes.get(column) {
            Some(byte) => text.push_str(&format!("{byte:02x} ")),
            None => text.push_str("   "),
        }
        if column == 7 {
            text.push(' ');
        }
    }
    text.push_str(" |");
    text.extend(bytes.iter().map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' }));
    text.push_str("|\n");
    text
}

fn character(byte: u8) -> String {
    match byte {
        0 => "\\0".into(),
        7 => "\\a".into(),
        8 => "\\b".into(),
        9 => "\\t".into(),
        10 => "\\n".into(),
        11 => "\\v".into(),
        12 => "\\f".into(),
        13 => "\\r".into(),
        0x20..0x7f => char::from(byte).into(),
        _ => format!("{byte:03o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(words: &[&str], bytes: &[u8]) -> String {
        let options = parse(lexopt::Parser::from_args(words)).unwrap();
        let mut out = Vec::new();
        dump(&options, &mut &bytes[..], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_canonical_form_is_the_usual_one() {
        let wanted = "00000000  48 65 6c 6c 6f 0a                                 |Hello.|\n00000006\n";
        assert_eq!(printed(&["-C"], b"Hello\n"), wanted);
        assert_eq!(printed(&["-C"], b""), "");
    }

    #[test]
    fn lines_that_repeat_are_a_star() {
        let zeros = [0; 64];
        assert_eq!(printed(&["-C"], &zeros).lines().count(), 3);
        assert_eq!(printed(&["-Cv"], &zeros).lines().count(), 5);
        assert_eq!(printed(&["-s1", "-n2"], b"abcd"), format!("0000001 6362{}\n0000003\n", " ".repeat(35)));
    }
}
