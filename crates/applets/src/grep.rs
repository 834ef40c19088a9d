//! `grep`: GNU's and POSIX's, exactly as far as scripts can tell.
//!
//! [`options`] reads the command line, [`syntax`] gives the crate regex POSIX's patterns, [`perl`] some of Perl's, [`matcher`]
//! says which lines match, [`search`] goes through a file in buffers of whole lines, [`print`] writes what was selected,
//! [`files`] finds the files.

mod files;
mod matcher;
mod options;
mod perl;
mod print;
mod search;
mod syntax;
#[cfg(test)]
mod tests;

use crate::options::Stop;
use crate::output::complain;
use options::{Settings, TROUBLE};
use std::ffi::OsString;

const HELP: &str = "\
Usage: grep [OPTION]... PATTERNS [FILE]...
Print the lines of the files, or of standard input, that match one of PATTERNS, which stand on lines of their own.

  -E, -F, -G, -P         PATTERNS are extended or basic (-G) regular expressions, texts (-F), or Perl's expression
  -e PATTERNS, -f FILE   patterns, where the first operand is none
  -i, --no-ignore-case   leave case out of account, or not
  -w, -x                 match whole words, or whole lines
  -z                     lines end in a zero byte
  -v                     select the lines that do not match
  -m NUM                 stop after NUM selected lines
  -c, -l, -L, -q         print the number of selected lines, names of files with or without some, or nothing
  -o                     print only what matches
  -n, -b, -H, -h, -T     print the number, the offset, the name (not), and a tab before the line
  -Z                     end names in a zero byte
  -A NUM, -B NUM, -C NUM, -NUM   print lines after, before, around selected ones
  --group-separator=TEXT, --no-group-separator   what stands between groups of lines
  --color[=WHEN]         mark what matches: always, never or auto
  --label=NAME           the name of standard input
  --line-buffered        write each line at once
  -s                     say nothing of files that cannot be read
  -a, -I, --binary-files=binary|text|without-match   what is done with files that are no text
  -r, -R                 search directories, and follow links (-R)
  -d read|skip|recurse, -D read|skip   what is done with directories and devices
  --include=GLOB, --exclude=GLOB, --exclude-from=FILE, --exclude-dir=GLOB   files and directories to search or to leave out
  -V, --version          print the version

The exit code is 0 when a line was selected, 1 when none was, 2 for an error (but with -q where a line was selected).
";

pub(crate) fn grep(arguments: Vec<OsString>) -> i32 {
    crate::options::run("grep", || {
        let settings = Settings::read(&arguments, HELP)?;
        let matcher =
            matcher::Matcher::new(&settings, |text| complain("grep", &format_args!("warning: {text}")))
                .map_err(|why| Stop::new(TROUBLE, why))?;
        if settings.selects_nothing() && settings.report != options::Report::NotMatching {
            return Ok(1);
        }
        files::search(&settings, &matcher)
    })
}

/// `grep -E` under its old name.
pub(crate) fn egrep(arguments: Vec<OsString>) -> i32 {
    grep_with("-E", arguments)
}

/// `grep -F` under its old name.
pub(crate) fn fgrep(arguments: Vec<OsString>) -> i32 {
    grep_with("-F", arguments)
}

fn grep_with(option: &str, mut arguments: Vec<OsString>) -> i32 {
    arguments.insert(1.min(arguments.len()), option.into());
    grep(arguments)
}
