//! `tree`: a directory and everything below it, drawn.

use super::with_options;
use crate::archive::{matches, shown};
use crate::output::complain;
use lexopt::{Arg, ValueExt};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const HELP: &str = "\
Usage: tree [OPTION]... [DIRECTORY]...
Draw directories and what is in them. Links are not followed.

  -a            names that begin with a dot too
  -d            directories only
  -f            whole paths
  -i            no lines
  -F            a mark behind each name, as ls -F
  -L NUM        at most NUM levels
  -I PATTERN    not what matches (several with |)
  -P PATTERN    only files that match
  -s, -h        with the bytes of each, -h for people
  --dirsfirst   directories before files
  --noreport    no count at the end
";

#[derive(Debug, Default)]
struct Options {
    all: bool,
    directories: bool,
    full: bool,
    bare: bool,
    mark: bool,
    levels: Option<usize>,
    without: Vec<Vec<u8>>,
    only: Vec<Vec<u8>>,
    size: Option<bool>,
    directories_first: bool,
    no_report: bool,
    roots: Vec<OsString>,
}

pub(crate) fn tree(arguments: Vec<OsString>) -> i32 {
    with_options("tree", HELP, 1, arguments, parse, |options| {
        let out = BufWriter::with_capacity(64 * 1024, io::stdout());
        let mut drawing = Drawing { options: &options, out, directories: 0, files: 0, code: 0 };
        let here = [OsString::from(".")];
        let roots = if options.roots.is_empty() { &here[..] } else { &options.roots };
        let done = roots.iter().try_for_each(|root| drawing.root(root)).and_then(|()| drawing.report());
        match done {
            Ok(()) => drawing.code,
            Err(error) => {
                complain("tree", &format_args!("standard output: {error}"));
                1
            }
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let patterns =
        |text: OsString| text.into_vec().split(|&b| b == b'|').map(<[u8]>::to_vec).collect::<Vec<_>>();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('a') => options.all = true,
            Arg::Short('d') => options.directories = true,
            Arg::Short('f') => options.full = true,
            Arg::Short('i') => options.bare = true,
            Arg::Short('F') => options.mark = true,
            Arg::Short('n') => {}
            Arg::Short('L') => {
                let levels: usize = parser.value()?.parse()?;
                if levels == 0 {
                    return Err("-L 0: at least one level".into());
                }
                options.levels = Some(levels);
            }
            Arg::Short('I') => options.without.extend(patterns(parser.value()?)),
            Arg::Short('P') => options.only.extend(patterns(parser.value()?)),
            Arg::Short('s') => options.size = options.size.or(Some(false)),
            Arg::Short('h') => options.size = Some(true),
            Arg::Long("dirsfirst") => options.directories_first = true,
            Arg::Long("noreport") => options.no_report = true,
            Arg::Long("charset") => drop(parser.value()?.string()?),
            Arg::Value(root) => options.roots.push(root),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

struct Node {
    name: OsString,
    path: PathBuf,
    metadata: fs::Metadata,
}

struct Drawing<'o, W> {
    options: &'o Options,
    out: W,
    directories: u64,
    files: u64,
    code: i32,
}

impl<W: Write> Drawing<'_, W> {
    fn root(&mut self, root: &OsStr) -> io::Result<()> {
        let shown = shown(root.as_bytes());
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => {
                writeln!(self.out, "{shown}")?;
                self.directories += 1;
                self.below(Path::new(root))
            }
            _ => {
                self.code = 2;
                writeln!(self.out, "{shown}  [error opening dir]")
            }
        }
    }

    /// Everything below a directory, without recursion: a tree can be deeper than a stack.
    fn below(&mut self, root: &Path) -> io::Result<()> {
        let mut levels = vec![self.listed(root).into_iter().peekable()];
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.next() else {
                levels.pop();
                continue;
            };
            let mut line = String::new();
            if !self.options.bare {
                let depth = levels.len();
                for (at, level) in levels.iter_mut().enumerate() {
                    let more = level.peek().is_some();
                    line.push_str(match (at + 1 == depth, more) {
                        (true, true) => "├── ",
                        (true, false) => "└── ",
                        (false, true) => "│\u{a0}\u{a0} ",
                        (false, false) => "    ",
                    });
                }
            }
            line.push_str(&self.describe(&node));
            writeln!(self.out, "{line}")?;
            if !node.metadata.is_dir() {
                self.files += 1;
                continue;
            }
            self.directories += 1;
            if self.options.levels.is_none_or(|most| levels.len() < most) {
                levels.push(self.listed(&node.path).into_iter().peekable());
            }
        }
        Ok(())
    }

    fn listed(&mut self, path: &Path) -> Vec<Node> {
        let listed = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match listed {
            Ok(entries) => entries,
            Err(error) => {
                complain("tree", &format_args!("{}: {error}", path.display()));
                self.code = 2;
                return Vec::new();
            }
        };
        let mut nodes: Vec<Node> = entries
            .into_iter()
            .filter_map(|entry| {
                // What was removed meanwhile is not there.
                let metadata = entry.metadata().ok()?;
                Some(Node { name: entry.file_name(), path: entry.path(), metadata })
            })
            .filter(|node| self.wanted(node))
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        if self.options.directories_first {
            nodes.sort_by_key(|node| !node.metadata.is_dir());
        }
        nodes
    }

    fn wanted(&self, node: &Node) -> bool {
        let (options, name) = (self.options, node.name.as_bytes());
        let any = |patterns: &[Vec<u8>]| patterns.iter().any(|pattern| matches(pattern, name));
        (options.all || !name.starts_with(b"."))
            && (!options.directories || node.metadata.is_dir())
            && !any(&options.without)
            && (options.only.is_empty() || node.metadata.is_dir() || any(&options.only))
    }

    fn describe(&self, node: &Node) -> String {
        let mut text = match self.options.size {
            None => String::new(),
            Some(false) => format!("[{:>11}]  ", node.metadata.len()),
            Some(true) => format!("[{:>4}]  ", human(node.metadata.len())),
        };
        let name = if self.options.full { node.path.as_os_str() } else { &node.name };
        text.push_str(&shown(name.as_bytes()));
        let kind = node.metadata.file_type();
        if kind.is_symlink()
            && let Ok(to) = fs::read_link(&node.path)
        {
            text.push_str(" -> ");
            text.push_str(&shown(to.as_os_str().as_bytes()));
        } else if self.options.mark && kind.is_dir() {
            text.push('/');
        } else if self.options.mark && kind.is_file() && node.metadata.permissions().mode() & 0o111 != 0 {
            text.push('*');
        }
        text
    }

    fn report(&mut self) -> io::Result<()> {
        if !self.options.no_report {
            let directories = if self.directories == 1 { "directory" } else { "directories" };
            let files = if self.files == 1 { "file" } else { "files" };
            write!(self.out, "\n{} {directories}", self.directories)?;
            if !self.options.directories {
                write!(self.out, ", {} {files}", self.files)?;
            }
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if size < 1024.0 {
            return if unit.is_empty() || size >= 10.0 {
                format!("{size:.0}{unit}")
            } else {
                format!("{size:.1}{unit}")
            };
        }
        size /= 1024.0;
    }
    format!("{size:.0}E")
}
