//! The command line of `tar`, in its old form (`tar xzf FILE`) and its new one.

use crate::archive::bound::Limit;
use crate::archive::codec::Codec;
use crate::archive::pattern;
use lexopt::{Arg, Parser, ValueExt};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Usage: tar -c|-x|-t|-r [OPTION]... [FILE]...
Keep files in an archive, and get them back.

  -c, --create           make an archive of FILEs
  -x, --extract          unpack it, or FILEs of it
  -t, --list             list it, or FILEs of it
  -r, --append           add FILEs to an archive that is not compressed
  -f, --file=ARCHIVE     the archive; - or without: standard input, standard output
  -C, --directory=DIR    go to DIR first
  -z, -j, -J, --zstd     compress with gzip, bzip2, xz, zstd; unpacking finds out by itself
  -a, --auto-compress    compress as the archive's name says
  -v, --verbose          list what is done; twice, in long form
  -p                     all permissions, without the umask (what root gets anyway)
  -m, --touch            do not set times
  -k, --keep-old-files   do not replace files; --skip-old-files says nothing of them
  -O, --to-stdout        extract to standard output
  -T, --files-from=FILE  more FILEs, one a line (--null: ended by NUL)
  -X, --exclude-from=FILE, --exclude=PATTERN
                         leave out what matches
      --strip-components=N   drop N names at the beginning when extracting
      --wildcards        FILEs to list or extract are patterns
  -h, --dereference      what links lead to, in place of links
      --no-recursion     directories without what is in them
      --one-file-system  nothing of other file systems
      --sort=name        directories in the order of names
      --owner=USER --group=GROUP --mtime=@SECONDS --mode=OCTAL
                         what is said of each file
      --numeric-owner    numbers in place of names of users and groups
  -o, --no-same-owner, --same-owner, --no-same-permissions
  -P, --absolute-names   keep slashes at the beginning when creating; nothing is ever extracted outside of the
                         directory, whatever the archive says
      --limit=BYTES      the most that a compressed archive may come to (K, M, G, T, or none); without it 1 GiB,
                         and beyond that 250 times its own length
";

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    Create,
    Extract,
    #[default]
    List,
    Append,
}

/// Files and changes of directory, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    Directory(PathBuf),
    Name(OsString),
}

#[derive(Debug, Default)]
pub(super) struct Options {
    mode_asked: Option<Mode>,
    pub(super) mode: Mode,
    pub(super) file: Option<PathBuf>,
    pub(super) codec: Option<Codec>,
    pub(super) auto_compress: bool,
    pub(super) verbose: u8,
    pub(super) permissions: Option<bool>,
    pub(super) same_owner: Option<bool>,
    pub(super) touch: bool,
    pub(super) keep_old: bool,
    pub(super) skip_old: bool,
    pub(super) to_stdout: bool,
    pub(super) wildcards: bool,
    pub(super) dereference: bool,
    pub(super) flat: bool,
    pub(super) one_file_system: bool,
    pub(super) sorted: bool,
    pub(super) absolute: bool,
    pub(super) numeric_owner: bool,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) mtime: Option<i64>,
    pub(super) file_mode: Option<u32>,
    pub(super) strip: usize,
    pub(super) limit: Limit,
    pub(super) operands: Vec<Operand>,
    excluded: Vec<Vec<u8>>,
    null: bool,
    lists: Vec<PathBuf>,
}

impl Options {
    /// Whether a name is left out.
    pub(super) fn excludes(&self, name: &[u8]) -> bool {
        let name = name.strip_suffix(b"/").unwrap_or(name);
        self.excluded.iter().any(|excluded| pattern::anywhere(excluded, name))
    }

    /// A name without the first components; `None` where nothing is left.
    pub(super) fn stripped(&self, name: &[u8]) -> Option<Vec<u8>> {
        if self.strip == 0 {
            return Some(name.to_vec());
        }
        let mut rest = name;
        for _ in 0..self.strip {
            let slash = rest.iter().position(|&b| b == b'/')?;
            let behind = rest[slash..].iter().position(|&b| b != b'/')?;
            rest = &rest[slash + behind..];
        }
        Some(rest.to_vec())
    }
}

/// The letters whose value is an argument of its own in the old form.
const WITH_VALUE: &str = "fCTXb";

/// `xzf FILE` as `-x -z -f FILE`.
fn modern(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut rest: VecDeque<OsString> = arguments.into_iter().skip(1).collect();
    let old = rest
        .front()
        .and_then(|first| first.to_str())
        .filter(|first| !first.starts_with('-'))
        .map(str::to_owned);
    let Some(letters) = old.filter(|letters| !letters.is_empty()) else { return rest.into() };
    rest.pop_front();
    let mut modern = Vec::new();
    for letter in letters.chars() {
        modern.push(format!("-{letter}").into());
        if WITH_VALUE.contains(letter) {
            modern.extend(rest.pop_front());
        }
    }
    modern.extend(rest);
    modern
}

pub(super) fn parse(arguments: Vec<OsString>) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(modern(arguments));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(name) => options.operands.push(Operand::Name(name)),
            Arg::Short(letter) => short(&mut options, letter, &mut parser)?,
            Arg::Long(word) => {
                let word = word.to_owned();
                long(&mut options, &word, &mut parser)?;
            }
        }
    }
    for list in std::mem::take(&mut options.lists) {
        read_list(&mut options, &list)?;
    }
    options.mode = options.mode_asked.ok_or("one of -c, -x, -t, -r must be given")?;
    if options.mode == Mode::Create && options.operands.iter().all(|o| matches!(o, Operand::Directory(_))) {
        return Err("an archive of nothing is not made: name files".into());
    }
    Ok(options)
}

fn short(options: &mut Options, letter: char, parser: &mut Parser) -> Result<(), lexopt::Error> {
    let word = match letter {
        'c' => "create",
        'x' => "extract",
        't' => "list",
        'r' => "append",
        'f' => "file",
        'C' => "directory",
        'z' => "gzip",
        'j' => "bzip2",
        'J' => "xz",
        'a' => "auto-compress",
        'v' => "verbose",
        'p' => "preserve-permissions",
        'm' => "touch",
        'k' => "keep-old-files",
        'O' => "to-stdout",
        'T' => "files-from",
        'X' => "exclude-from",
        'h' => "dereference",
        'P' => "absolute-names",
        'b' => "blocking-factor",
        // Where it makes an archive, GNU's -o is another format.
        'o' => "no-same-owner",
        _ => return Err(Arg::Short(letter).unexpected()),
    };
    long(options, word, parser)
}

fn set_mode(options: &mut Options, mode: Mode) -> Result<(), lexopt::Error> {
    match options.mode_asked.replace(mode) {
        Some(other) if other != mode => Err("only one of -c, -x, -t, -r can be given".into()),
        _ => Ok(()),
    }
}

fn long(options: &mut Options, word: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
    match word {
        "create" => set_mode(options, Mode::Create)?,
        "extract" | "get" => set_mode(options, Mode::Extract)?,
        "list" => set_mode(options, Mode::List)?,
        "append" => set_mode(options, Mode::Append)?,
        "gzip" | "gunzip" | "ungzip" => options.codec = Some(Codec::Gzip),
        "bzip2" => options.codec = Some(Codec::Bzip2),
        "xz" => options.codec = Some(Codec::Xz),
        "zstd" => options.codec = Some(Codec::Zstd),
        "auto-compress" => options.auto_compress = true,
        "no-auto-compress" => options.auto_compress = false,
        "verbose" => options.verbose = options.verbose.saturating_add(1),
        "preserve-permissions" | "same-permissions" => options.permissions = Some(true),
        "no-same-permissions" => options.permissions = Some(false),
        "same-owner" => options.same_owner = Some(true),
        "no-same-owner" => options.same_owner = Some(false),
        "touch" => options.touch = true,
        "keep-old-files" => options.keep_old = true,
        "skip-old-files" => (options.keep_old, options.skip_old) = (true, true),
        // What is done anyway.
        "overwrite" | "unlink-first" | "recursion" => {}
        "to-stdout" => options.to_stdout = true,
        "wildcards" => options.wildcards = true,
        "no-wildcards" => options.wildcards = false,
        "dereference" => options.dereference = true,
        "no-recursion" => options.flat = true,
        "one-file-system" => options.one_file_system = true,
        "absolute-names" => options.absolute = true,
        "numeric-owner" => options.numeric_owner = true,
        "null" => options.null = true,
        _ => return valued(options, word, parser),
    }
    Ok(())
}

/// Options with a value.
fn valued(options: &mut Options, word: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
    match word {
        "file" => options.file = Some(parser.value()?.into()),
        "directory" => options.operands.push(Operand::Directory(parser.value()?.into())),
        "files-from" => options.lists.push(parser.value()?.into()),
        "exclude" => options.excluded.push(pattern_of(&parser.value()?)),
        "exclude-from" => {
            for line in lines(&PathBuf::from(parser.value()?), b'\n')? {
                options.excluded.push(pattern_of(OsStr::from_bytes(&line)));
            }
        }
        "strip-components" => options.strip = parser.value()?.parse()?,
        "owner" => options.owner = Some(parser.value()?.string()?),
        "group" => options.group = Some(parser.value()?.string()?),
        "mode" => {
            let text = parser.value()?.string()?;
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
            options.file_mode = Some(mode.ok_or_else(|| format!("--mode={text}: not octal"))?);
        }
        "mtime" => {
            let text = parser.value()?.string()?;
            let seconds = text.strip_prefix('@').and_then(|seconds| seconds.parse().ok());
            options.mtime = Some(seconds.ok_or_else(|| format!("--mtime={text}: not @SECONDS"))?);
        }
        "sort" => match parser.value()?.string()?.as_str() {
            "name" => options.sorted = true,
            "none" => options.sorted = false,
            other => return Err(format!("--sort={other}: name or none").into()),
        },
        "format" => match parser.value()?.string()?.as_str() {
            "gnu" => {}
            other => {
                return Err(format!("--format={other}: archives are written in GNU's format only").into());
            }
        },
        // Of tapes.
        "blocking-factor" => drop(parser.value()?),
        "limit" => {
            let text = parser.value()?.string()?;
            options.limit =
                Limit::parse(&text).ok_or_else(|| format!("--limit={text}: no number of bytes"))?;
        }
        other => return Err(Arg::Long(other).unexpected()),
    }
    Ok(())
}

fn pattern_of(text: &OsStr) -> Vec<u8> {
    super::without_slash(text).as_bytes().to_vec()
}

fn lines(path: &PathBuf, end: u8) -> Result<Vec<Vec<u8>>, lexopt::Error> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let bytes = bytes.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.split(|&b| b == end).filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

fn read_list(options: &mut Options, path: &PathBuf) -> Result<(), lexopt::Error> {
    let end = if options.null { 0 } else { b'\n' };
    for line in lines(path, end)? {
        match line.strip_prefix(b"-C") {
            Some(directory) if !options.null => {
                let directory = OsString::from_vec(directory.trim_ascii_start().to_vec());
                options.operands.push(Operand::Directory(directory.into()));
            }
            _ => options.operands.push(Operand::Name(OsString::from_vec(line))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options, lexopt::Error> {
        parse(["tar"].iter().chain(words).map(OsString::from).collect())
    }

    fn name(name: &str) -> Operand {
        Operand::Name(name.into())
    }

    #[test]
    fn the_old_form_is_the_new_one() {
        let read = parsed(&["xzvfC", "a.tgz", "dir", "one"]).unwrap();
        assert_eq!((read.mode, read.codec, read.verbose), (Mode::Extract, Some(Codec::Gzip), 1));
        assert_eq!(read.file, Some("a.tgz".into()));
        assert_eq!(read.operands, [Operand::Directory("dir".into()), name("one")]);
        let read = parsed(&["-xvzfa.tgz", "--", "-one"]).unwrap();
        assert_eq!((read.file, read.operands), (Some("a.tgz".into()), vec![name("-one")]));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for wrong in [
            &["-f", "a"][..],
            &["-c", "-x", "f"],
            &["-c", "-f", "a"],
            &["-x", "--strip-components=x"],
            &["-c", "--format=v7", "f"],
            &["-t", "--limit=x"],
            &["-tQ"],
            &["-c", "f", "--mtime=tomorrow"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn components_are_stripped_and_names_left_out() {
        let read = parsed(&["-x", "--strip-components", "2", "--exclude=*.o", "--exclude", "tmp/"]).unwrap();
        assert_eq!(read.stripped(b"a/b/c/d"), Some(b"c/d".to_vec()));
        assert_eq!(read.stripped(b"a//b//c/"), Some(b"c/".to_vec()));
        assert_eq!(read.stripped(b"a/b/"), None);
        assert_eq!(read.stripped(b"a"), None);
        assert!(read.excludes(b"x/y.o") && read.excludes(b"x/tmp/y") && !read.excludes(b"x/tmpfile"));
    }
}
