//! `cmp` and `diff`.
//!
//! `cmp` and `diff -y` are those of uutils' diffutils; the rest of `diff` is in [`lines`] and [`print`], since that crate's own
//! is in its binary, compares no directories, and takes time and memory by the product of both files' lines.

mod directories;
mod lines;
mod options;
mod print;

use crate::output::{complain, help_or_version};
use diffutilslib::cmp as compare;
use options::{HELP, Options, parse};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// GNU's code for "could not compare".
const TROUBLE: i32 = 2;

const CMP_HELP: &str = "\
Usage: cmp [OPTION]... FILE1 [FILE2 [SKIP1 [SKIP2]]]
Compare two files byte by byte; - is standard input.

  -b                print the bytes that differ
  -i SKIP1[:SKIP2]  leave out the first bytes
  -l                print all differences
  -n LIMIT          compare at most LIMIT bytes
  -s                say nothing

The exit code is 0 for no difference, 1 for some, 2 for trouble.
";

pub(crate) fn cmp(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "cmp", CMP_HELP) {
        return code;
    }
    let params = match compare::parse_params(arguments.into_iter().peekable()) {
        Ok(params) => params,
        Err(message) => {
            complain("cmp", &message);
            return TROUBLE;
        }
    };
    match compare::cmp(&params) {
        Ok(compare::Cmp::Equal) => 0,
        Ok(compare::Cmp::Different) => 1,
        Err(message) => {
            complain("cmp", &message);
            TROUBLE
        }
    }
}

pub(crate) fn diff(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "diff", HELP) {
        return code;
    }
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            complain("diff", &format_args!("{error}; diff --help lists the options"));
            return TROUBLE;
        }
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let compared = operands(&options, &mut out);
    match out.flush() {
        Ok(()) => compared,
        Err(error) => {
            complain("diff", &format_args!("standard output: {error}"));
            TROUBLE
        }
    }
}

/// Compares what the command line names: two files, two directories, or a file with that of its name in a directory.
fn operands(options: &Options, out: &mut dyn Write) -> i32 {
    let [from, to] = &options.operands;
    let is_directory = |path: &Path| path != Path::new("-") && path.is_dir();
    let done = match (is_directory(from), is_directory(to)) {
        (true, true) => directories::compare(options, from, to, out),
        (true, false) => file(options, &inside(from, to), to, out),
        (false, true) => file(options, from, &inside(to, from), out),
        (false, false) => file(options, from, to, out),
    };
    match done {
        Ok(false) => 0,
        Ok(true) => 1,
        Err(message) => {
            complain("diff", &message);
            TROUBLE
        }
    }
}

fn inside(directory: &Path, file: &Path) -> PathBuf {
    directory.join(file.file_name().unwrap_or(OsStr::new("-")))
}

/// What one of both sides is.
struct Side {
    name: PathBuf,
    bytes: Vec<u8>,
    /// Seconds and nanoseconds of its last change.
    changed: (i64, u32),
}

fn read(options: &Options, path: &Path) -> Result<Side, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes).map_err(failed)?;
        let now = i64::try_from(octant_sys::clock::wall_ms() / 1000).unwrap_or(0);
        return Ok(Side { name: path.to_owned(), bytes, changed: (now, 0) });
    }
    let mut opened = match File::open(path) {
        Err(error) if options.new_file && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Side { name: path.to_owned(), bytes, changed: (0, 0) });
        }
        other => other.map_err(failed)?,
    };
    let metadata = opened.metadata().map_err(failed)?;
    opened.read_to_end(&mut bytes).map_err(failed)?;
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Ok(Side { name: path.to_owned(), bytes, changed: (metadata.mtime(), nanoseconds) })
}

/// Compares two files; true when they differ.
fn file(options: &Options, from: &Path, to: &Path, out: &mut dyn Write) -> Result<bool, String> {
    if options.new_file && !from.exists() && !to.exists() && from != Path::new("-") && to != Path::new("-") {
        return Err(format!("{}: No such file or directory", from.display()));
    }
    let from = read(options, from)?;
    // Standard input can be read only once.
    let to = if to == Path::new("-") && from.name == to {
        Side { name: from.name.clone(), bytes: from.bytes.clone(), changed: from.changed }
    } else {
        read(options, to)?
    };
    let failed = |error: io::Error| format!("standard output: {error}");
    print::print(options, &from, &to, out).map_err(failed)
}

/// What lies at a path, if anything: links count as what they lead to.
fn kind(path: &Path) -> Option<fs::FileType> {
    fs::metadata(path).ok().map(|found| found.file_type())
}
