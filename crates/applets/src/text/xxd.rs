//! `xxd`: bytes as hexadecimal digits, and back.

use super::{number, with_options};
use crate::input::open;
use crate::output::complain;
use lexopt::{Arg, ValueExt};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::Path;

const HELP: &str = "\
Usage: xxd [OPTION]... [INPUT [OUTPUT]]
Print bytes as hexadecimal digits, or make bytes of such a print.

  -b        bits
  -c NUM    NUM bytes a line (16; -b 6; -p 30; -i 12)
  -g NUM    groups of NUM bytes (2; -b 1)
  -i        as an array of C
  -l NUM    at most NUM bytes
  -o NUM    add NUM to where each line is said to be
  -p        digits only
  -r        the reverse: bytes of a print
  -s NUM    leave out the first NUM bytes
  -u        capital letters
";

#[derive(Debug, Default)]
struct Options {
    bits: bool,
    columns: Option<usize>,
    group: Option<usize>,
    array: bool,
    length: Option<u64>,
    offset: u64,
    plain: bool,
    reverse: bool,
    skip: u64,
    capital: bool,
    files: Vec<OsString>,
}

pub(crate) fn xxd(arguments: Vec<OsString>) -> i32 {
    with_options("xxd", HELP, 1, arguments, parse, |options| match run(&options) {
        Ok(()) => 0,
        Err(error) => {
            let file = options.files.first().map_or(Path::new("standard input"), Path::new);
            complain("xxd", &format_args!("{}: {error}", file.display()));
            2
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let small = |parser: &mut lexopt::Parser| -> Result<usize, lexopt::Error> {
        Ok(usize::try_from(number(&parser.value()?.string()?)?).unwrap_or(usize::MAX))
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('b') | Arg::Long("bits") => options.bits = true,
            Arg::Short('c') | Arg::Long("cols") => options.columns = Some(small(&mut parser)?),
            Arg::Short('g') | Arg::Long("groupsize") => options.group = Some(small(&mut parser)?),
            Arg::Short('i') | Arg::Long("include") => options.array = true,
            Arg::Short('l') | Arg::Long("len") => options.length = Some(number(&parser.value()?.string()?)?),
            Arg::Short('o') => options.offset = number(&parser.value()?.string()?)?,
            // As in -ps, the documented word.
            Arg::Short('p') | Arg::Long("ps" | "postscript" | "plain") => {
                options.plain = true;
                let _ = parser.optional_value();
            }
            Arg::Short('r') | Arg::Long("revert") => options.reverse = true,
            Arg::Short('s') | Arg::Long("seek") => options.skip = number(&parser.value()?.string()?)?,
            Arg::Short('u') => options.capital = true,
            Arg::Value(file) if options.files.len() < 2 => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    if options.columns.is_some_and(|columns| columns == 0 || columns > 256) && !options.plain {
        return Err("-c takes a number from 1 to 256".into());
    }
    Ok(options)
}

fn run(options: &Options) -> io::Result<()> {
    let input = options.files.first().map_or(OsStr::new("-"), OsString::as_os_str);
    let mut reader = open(input)?;
    let sink: Box<dyn Write> = match options.files.get(1) {
        Some(path) if path != "-" => Box::new(File::create(path)?),
        _ => Box::new(io::stdout()),
    };
    let mut out = BufWriter::with_capacity(64 * 1024, sink);
    if options.reverse {
        revert(options, &mut *reader, &mut out)?;
        return out.flush();
    }
    io::copy(&mut (&mut reader).take(options.skip), &mut io::sink())?;
    let mut reader = reader.take(options.length.unwrap_or(u64::MAX));
    if options.array {
        array(options, input, &mut reader, &mut out)?
    } else {
        dump(options, &mut reader, &mut out)?
    }
    out.flush()
}

/// Fills the buffer as far as there is something.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match reader.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn dump(options: &Options, reader: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let plain_columns =
        options.columns.filter(|columns| *columns > 0).unwrap_or(if options.plain { 30 } else { 16 });
    let columns = if options.bits { options.columns.unwrap_or(6) } else { plain_columns.min(1 << 20) };
    let mut bytes = vec![0; columns];
    let mut at = options.skip;
    loop {
        let count = fill(reader, &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        let line = line(options, &bytes[..count], columns, at);
        out.write_all(line.as_bytes())?;
        at += count as u64;
    }
}

fn line(options: &Options, bytes: &[u8], columns: usize, at: u64) -> String {
    let digits = |byte: u8| match (options.bits, options.capital) {
        (true, _) => format!("{byte:08b}"),
        (false, true) => format!("{byte:02X}"),
        (false, false) => format!("{byte:02x}"),
    };
    if options.plain {
        return bytes.iter().map(|&b| digits(b)).collect::<String>() + "\n";
    }
    let group = match options.group {
        Some(0) => columns,
        Some(group) => group,
        None => {
            if options.bits {
                1
            } else {
                2
            }
        }
    };
    let mut text = format!("{:08x}: ", at.wrapping_add(options.offset));
    let width = if options.bits { 8 } else { 2 };
    for column in 0..columns {
        match bytes.get(column) {
            Some(&byte) => text.push_str(&digits(byte)),
            None => text.extend(std::iter::repeat_n(' ', width)),
        }
        if (column + 1) % group == 0 || column + 1 == columns {
            text.push(' ');
        }
    }
    text.push(' ');
    text.extend(bytes.iter().map(|&b| if (0x20..0x7f).contains(&b) { char::from(b) } else { '.' }));
    text.push('\n');
    text
}

fn array(options: &Options, input: &OsStr, reader: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
    let name: String = Path::new(input)
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let named = input != "-";
    if named {
        let prefix = if name.starts_with(|c: char| c.is_ascii_digit()) { "__" } else { "" };
        writeln!(out, "unsigned char {prefix}{name}[] = {{")?;
    }
    let mut bytes = vec![0; options.columns.unwrap_or(12)];
    let mut total = 0;
    loop {
        let count = fill(reader, &mut bytes)?;
        if count == 0 {
            break;
        }
        out.write_all(if total == 0 { b"  " } else { b",\n  " })?;
        let digits = bytes[..count]
            .iter()
            .map(|b| if options.capital { format!("0X{b:02X}") } else { format!("0x{b:02x}") });
        out.write_all(digits.collect::<Vec<_>>().join(", ").as_bytes())?;
        total += count;
    }
    if total > 0 {
        out.write_all(b"\n")?;
    }
    if named {
        let prefix = if name.starts_with(|c: char| c.is_ascii_digit()) { "__" } else { "" };
        writeln!(out, "}};\nunsigned int {prefix}{name}_len = {total};")?;
    }
    Ok(())
}

/// Bytes of a print. Where a line says that it lies farther on, zeros fill the gap, as in a pipe nothing else can.
fn revert(options: &Options, reader: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    let mut at = 0;
    let mut half = None;
    while reader.read_until(b'\n', &mut line)? > 0 {
        if options.plain {
            let mut bytes = Vec::new();
            for digit in line.iter().filter_map(|&b| char::from(b).to_digit(16)) {
                let digit = u8::try_from(digit).unwrap_or(0);
                match half.take() {
                    Some(high) => bytes.push(high << 4 | digit),
                    None => half = Some(digit),
                }
            }
            out.write_all(&bytes)?;
        } else if let Some((place, bytes)) = parsed(&line, options.columns.unwrap_or(16)) {
            if place > at {
                io::copy(&mut io::repeat(0).take(place - at), out)?;
            } else if place < at {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line lies before the one that it follows",
                ));
            }
            out.write_all(&bytes)?;
            at = place + bytes.len() as u64;
        }
        line.clear();
    }
    Ok(())
}

/// Where a line says that it is, and its bytes, which end where two blanks or no digits follow.
fn parsed(line: &[u8], columns: usize) -> Option<(u64, Vec<u8>)> {
    let text = std::str::from_utf8(line.get(..line.iter().position(|&b| b == b':')?)?).ok()?;
    let place = u64::from_str_radix(text.trim(), 16).ok()?;
    let mut bytes = Vec::new();
    let mut rest = line[text.len() + 1..].strip_prefix(b" ").unwrap_or(&line[text.len() + 1..]);
    while bytes.len() < columns && rest.len() >= 2 {
        if rest.starts_with(b"  ") {
            break;
        }
        if rest[0] == b' ' {
            rest = &rest[1..];
            continue;
        }
        let (Some(high), Some(low)) = (char::from(rest[0]).to_digit(16), char::from(rest[1]).to_digit(16))
        else {
            break;
        };
        bytes.push(u8::try_from(high << 4 | low).ok()?);
        rest = &rest[2..];
    }
    Some((place, bytes))
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
    fn lines_have_place_groups_and_text() {
        let short = printed(&[], b"Hello\n");
        assert_eq!(short, "00000000: 4865 6c6c 6f0a                           Hello.\n");
        assert_eq!(printed(&["-p"], &[0xab; 31]), format!("{}\nab\n", "ab".repeat(30)));
        assert_eq!(
            printed(&["-c4", "-g1", "-u"], b"\xffabcd"),
            "00000000: FF 61 62 63  .abc\n00000004: 64           d\n"
        );
        assert_eq!(printed(&["-b", "-c1"], b"a"), "00000000: 01100001  a\n");
    }

    #[test]
    fn what_is_printed_comes_back() {
        let bytes: Vec<u8> = (0..=255).chain(0..99).collect();
        for words in [&[][..], &["-p"], &["-c", "7", "-g", "3"]] {
            let print = printed(words, &bytes);
            let options = parse(lexopt::Parser::from_args(words.iter().chain(&["-r"]))).unwrap();
            let mut back = Vec::new();
            revert(&options, &mut print.as_bytes(), &mut back).unwrap();
            assert_eq!(back, bytes, "{words:?}");
        }
    }
}
