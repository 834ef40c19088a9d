//! `rev`: each line from its end to its beginning.

use super::with_options;
use crate::input::each;
use lexopt::Arg;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};

const HELP: &str = "\
Usage: rev [FILE]...
Print the characters of each line in reverse; without FILE, or where it is -, of standard input.
";

pub(crate) fn rev(arguments: Vec<OsString>) -> i32 {
    let parse = |mut parser: lexopt::Parser| {
        let mut files = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(file) => files.push(file),
                other => return Err(other.unexpected()),
            }
        }
        Ok(files)
    };
    with_options("rev", HELP, 1, arguments, parse, |files| {
        let mut out = BufWriter::new(io::stdout().lock());
        each("rev", &files, |_, reader| {
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                let ended = line.pop_if(|last| *last == b'\n').is_some();
                out.write_all(&reversed(&line))?;
                if ended {
                    out.write_all(b"\n")?;
                }
                line.clear();
            }
            out.flush()
        })
    })
}

/// The characters in reverse; bytes that are none count as one each.
fn reversed(line: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(line.len());
    let chunks: Vec<_> = line.utf8_chunks().collect();
    for chunk in chunks.iter().rev() {
        result.extend(chunk.invalid().iter().rev());
        let mut bytes = [0; 4];
        for c in chunk.valid().chars().rev() {
            result.extend(c.encode_utf8(&mut bytes).bytes());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::reversed;

    #[test]
    fn characters_stay_whole_and_other_bytes_are_kept() {
        assert_eq!(reversed("abä€".as_bytes()), "€äba".as_bytes());
        assert_eq!(reversed(b"a\xffb\xfe"), b"\xfeb\xffa");
        assert_eq!(reversed(b""), b"");
    }
}
