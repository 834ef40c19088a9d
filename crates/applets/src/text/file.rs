//! `file`: what a file seems to be, by its first bytes.

use super::with_options;
use crate::archive::shown;
use lexopt::Arg;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// As much is looked at.
const LOOKED_AT: u64 = 64 * 1024;

const HELP: &str = "\
Usage: file [OPTION]... FILE...
Say what files seem to be, by their kind and their first bytes; - is standard input.

  -b             without names
  -i, --mime     as a media type with its character set
  --mime-type    as a media type
  -L             what links lead to
";

#[derive(Debug, Default)]
struct Options {
    brief: bool,
    mime: bool,
    charset: bool,
    follow: bool,
    files: Vec<OsString>,
}

/// What a file is, in words and as a media type.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    text: String,
    mime: String,
    charset: &'static str,
}

pub(crate) fn file(arguments: Vec<OsString>) -> i32 {
    with_options("file", HELP, 1, arguments, parse, |options| {
        let width = options.files.iter().map(|file| file.len()).max().unwrap_or(0);
        let mut text = String::new();
        for file in &options.files {
            let verdict = look(&options, file);
            if !options.brief {
                let name = format!("{}:", shown(file.as_bytes()));
                text.push_str(&format!("{name:<room$}", room = width + 2));
            }
            if options.mime {
                text.push_str(&verdict.mime);
                if options.charset {
                    text.push_str("; charset=");
                    text.push_str(verdict.charset);
                }
            } else {
                text.push_str(&verdict.text);
            }
            text.push('\n');
        }
        match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('b') | Arg::Long("brief") => options.brief = true,
            Arg::Short('i') | Arg::Long("mime") => (options.mime, options.charset) = (true, true),
            Arg::Long("mime-type") => options.mime = true,
            Arg::Short('L') | Arg::Long("dereference") => options.follow = true,
            Arg::Short('h') | Arg::Long("no-dereference") => options.follow = false,
            Arg::Value(file) => options.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    if options.files.is_empty() {
        return Err("no file is named".into());
    }
    Ok(options)
}

fn of(text: impl Into<String>, mime: impl Into<String>) -> Verdict {
    Verdict { text: text.into(), mime: mime.into(), charset: "binary" }
}

fn look(options: &Options, file: &OsStr) -> Verdict {
    let failed =
        |error: io::Error| of(format!("cannot open `{}' ({error})", shown(file.as_bytes())), "inode/x-error");
    if file == "-" {
        let mut first = Vec::new();
        return match io::stdin().take(LOOKED_AT).read_to_end(&mut first) {
            Ok(_) => bytes(&first),
            Err(error) => failed(error),
        };
    }
    let metadata = if options.follow { fs::metadata(file) } else { fs::symlink_metadata(file) };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => return failed(error),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        return of("directory", "inode/directory");
    } else if kind.is_symlink() {
        let to = fs::read_link(file).map(|to| shown(to.as_os_str().as_bytes())).unwrap_or_default();
        let broken = if fs::metadata(file).is_err() { "broken symbolic link to" } else { "symbolic link to" };
        return of(format!("{broken} {to}"), "inode/symlink");
    } else if kind.is_fifo() {
        return of("fifo (named pipe)", "inode/fifo");
    } else if kind.is_socket() {
        return of("socket", "inode/socket");
    } else if kind.is_block_device() || kind.is_char_device() {
        let (word, mime) = if kind.is_block_device() {
            ("block", "inode/blockdevice")
        } else {
            ("character", "inode/chardevice")
        };
        let (major, minor) = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
        return of(format!("{word} special ({major}/{minor})"), mime);
    }
    let mut first = Vec::new();
    match File::open(Path::new(file)).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut first)) {
        Ok(_) => bytes(&first),
        Err(error) => failed(error),
    }
}

/// What these first bytes are of.
fn bytes(first: &[u8]) -> Verdict {
    if first.is_empty() {
        return of("empty", "inode/x-empty");
    }
    if let Some(verdict) = elf(first) {
        return verdict;
    }
    if first.starts_with(b"#!") {
        let line = first[2..].split(|&b| b == b'\n').next().unwrap_or_default();
        let program = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        let mut verdict = text(first).unwrap_or_else(|| of("data", "application/octet-stream"));
        let mime = match program.split_whitespace().next().and_then(|path| path.rsplit('/').next()) {
            Some("sh" | "bash" | "dash" | "ash") => "text/x-shellscript",
            _ => "text/plain",
        };
        verdict.text = format!("{} script, {} executable", shown(program.as_bytes()), verdict.text);
        verdict.mime = mime.into();
        return verdict;
    }
    if first.get(257..262) == Some(b"ustar") {
        let format =
            if first.get(262) == Some(&b' ') { "POSIX tar archive (GNU)" } else { "POSIX tar archive" };
        return of(format, "application/x-tar");
    }
    if first.starts_with(b"070701") {
        return of("ASCII cpio archive (SVR4 with no CRC)", "application/x-cpio");
    }
    if let Some(kind) = infer::get(first) {
        let words = match kind.mime_type() {
            "application/gzip" => "gzip compressed data".into(),
            "application/x-bzip2" => "bzip2 compressed data".into(),
            "application/x-xz" => "XZ compressed data".into(),
            "application/zstd" => "Zstandard compressed data".into(),
            "application/zip" => "Zip archive data".into(),
            "image/png" => "PNG image data".into(),
            "image/jpeg" => "JPEG image data".into(),
            "image/gif" => "GIF image data".into(),
            "application/pdf" => "PDF document".into(),
            "application/vnd.sqlite3" => "SQLite 3.x database".into(),
            mime => format!("{} data ({mime})", kind.extension()),
        };
        return of(words, kind.mime_type());
    }
    text(first).unwrap_or_else(|| of("data", "application/octet-stream"))
}

/// An executable, a library or an object of Linux.
fn elf(first: &[u8]) -> Option<Verdict> {
    if !first.starts_with(b"\x7fELF") || first.len() < 20 {
        return None;
    }
    let bits = if first[4] == 2 { "64-bit" } else { "32-bit" };
    let big = first[5] == 2;
    let half = |at: usize| {
        if big {
            u16::from_be_bytes([first[at], first[at + 1]])
        } else {
            u16::from_le_bytes([first[at], first[at + 1]])
        }
    };
    let (kind, mime) = match half(16) {
        1 => ("relocatable", "application/x-object"),
        2 => ("executable", "application/x-executable"),
        3 => ("shared object", "application/x-sharedlib"),
        4 => ("core file", "application/x-coredump"),
        _ => ("unknown kind", "application/octet-stream"),
    };
    let machine = match half(18) {
        3 => "Intel 80386",
        40 => "ARM",
        62 => "x86-64",
        183 => "ARM aarch64",
        243 => "RISC-V",
        _ => "unknown machine",
    };
    let order = if big { "MSB" } else { "LSB" };
    Some(of(format!("ELF {bits} {order} {kind}, {machine}"), mime))
}

/// Text: UTF-8 without bytes that control a terminal, but for those that texts have.
fn text(first: &[u8]) -> Option<Verdict> {
    let whole = match std::str::from_utf8(first) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() && first.len() as u64 == LOOKED_AT => {
            std::str::from_utf8(&first[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let plain = |c: char| {
        !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x07' | '\x08' | '\x0b' | '\x0c' | '\x1b')
    };
    if !whole.chars().all(plain) {
        return None;
    }
    let (words, charset) =
        if whole.is_ascii() { ("ASCII text", "us-ascii") } else { ("Unicode text, UTF-8 text", "utf-8") };
    let returns = whole.matches("\r\n").count();
    let ends = whole.matches('\n').count();
    let more = match (returns, ends) {
        (_, 0) => ", with no line terminators",
        (0, _) => "",
        (returns, ends) if returns == ends => ", with CRLF line terminators",
        _ => ", with CRLF, LF line terminators",
    };
    let trimmed = whole.trim_start();
    let (kind, mime) =
        if (trimmed.starts_with('{') || trimmed.starts_with('[')) && first.len() < 60_000 && json(trimmed) {
            ("JSON data", "application/json")
        } else {
            (words, "text/plain")
        };
    let text = if kind == words { format!("{words}{more}") } else { kind.to_owned() };
    Some(Verdict { text, mime: mime.into(), charset })
}

/// Whether braces and brackets outside of strings are balanced, and there is a colon or a comma: enough to tell it from prose.
fn json(text: &str) -> bool {
    let (mut open, mut quoted, mut escaped, mut has_more) = (Vec::new(), false, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '[' => open.push(c),
            '}' if open.pop() != Some('{') => return false,
            ']' if open.pop() != Some('[') => return false,
            ':' | ',' => has_more = true,
            '}' | ']' | '-' | '+' | '.' => {}
            c if c.is_alphanumeric() || c.is_whitespace() => {}
            _ => return false,
        }
    }
    open.is_empty() && !quoted && has_more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_bytes() {
        let cases: &[(&[u8], &str, &str)] = &[
            (b"hello\n", "ASCII text", "text/plain"),
            ("h\u{e4}\n".as_bytes(), "Unicode text, UTF-8 text", "text/plain"),
            (b"a\r\nb\r\n", "ASCII text, with CRLF line terminators", "text/plain"),
            (b"abc", "ASCII text, with no line terminators", "text/plain"),
            (b"#!/bin/sh\necho\n", "/bin/sh script, ASCII text executable", "text/x-shellscript"),
            (b"\x1f\x8b\x08\0", "gzip compressed data", "application/gzip"),
            (b"\0\x01\x02\xff", "data", "application/octet-stream"),
            (b"{\"a\": [1, 2]}\n", "JSON data", "application/json"),
            (b"", "empty", "inode/x-empty"),
        ];
        for (first, text, mime) in cases {
            let verdict = bytes(first);
            assert_eq!((verdict.text.as_str(), verdict.mime.as_str()), (*text, *mime));
        }
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(16, 0);
        program.extend([3, 0, 62, 0]);
        assert_eq!(bytes(&program).text, "ELF 64-bit LSB shared object, x86-64");
        assert_eq!(bytes(b"\x7fELF").mime, "application/octet-stream");
    }
}
