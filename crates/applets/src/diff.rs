//! `diff` and `cmp`, on the library half of uutils' diffutils.
//!
//! That crate's own `diff` is in its binary; this is the same sequence with errors instead of panics.
//! Directories are not compared (`-r`): the library does not offer it. In its normal format it writes a range of one
//! line as `2,2`, where GNU writes `2`; patch(1) reads both.

use crate::output::{complain, help_or_version};
use diffutilslib::params::{Format, Params, parse_params};
use diffutilslib::{cmp as compare, context_diff, ed_diff, normal_diff, side_by_side_diff, unified_diff};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};

/// GNU's code for "could not compare".
const TROUBLE: i32 = 2;

const DIFF_HELP: &str = "\
Usage: diff [OPTION]... FROM TO
Show the differences between two files; - is standard input.

  -u, -U NUM        unified output, with NUM lines of context (3)
  -c, -C NUM        context output
  -e                an ed script
  -y                side by side (--width=NUM)
  -q, --brief       say only whether they differ
  -s                say when they are identical
  -t                expand tabs (--tabsize=NUM)

The exit code is 0 for no difference, 1 for some, 2 for trouble.
";

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
    if let Some(code) = help_or_version(&arguments, "diff", DIFF_HELP) {
        return code;
    }
    let outcome = parse_params(arguments.into_iter().peekable()).and_then(|params| compare_files(&params));
    match outcome {
        Ok(false) => 0,
        Ok(true) => 1,
        Err(message) => {
            complain("diff", &message);
            TROUBLE
        }
    }
}

/// Prints the differences; true when there are some.
fn compare_files(params: &Params) -> Result<bool, String> {
    let from = read(&params.from)?;
    // Standard input can be read only once.
    let to = if params.to == params.from { from.clone() } else { read(&params.to)? };
    let mut out = io::stdout().lock();
    let failed = |error: io::Error| format!("cannot write to standard output: {error}");
    if from == to {
        if params.report_identical_files {
            let names = (params.from.display(), params.to.display());
            writeln!(out, "Files {} and {} are identical", names.0, names.1).map_err(failed)?;
        }
        return Ok(false);
    }
    if params.brief {
        writeln!(out, "Files {} and {} differ", params.from.display(), params.to.display())
            .map_err(failed)?;
        return Ok(true);
    }
    let text = match params.format {
        Format::Normal => normal_diff(&from, &to, params),
        Format::Unified => unified_diff(&from, &to, params),
        Format::Context => context_diff(&from, &to, params),
        Format::Ed => ed_diff(&from, &to, params).map_err(|error| error.to_string())?,
        Format::SideBySide => side_by_side_diff(&from, &to, &mut out, params),
    };
    out.write_all(&text).map_err(failed)?;
    Ok(true)
}

fn read(name: &OsStr) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let done = if name == "-" {
        io::stdin().read_to_end(&mut bytes)
    } else {
        File::open(name).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    done.map(|_| bytes).map_err(|error| format!("{}: {error}", name.display()))
}
