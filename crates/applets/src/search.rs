//! `find`, `xargs` (findutils) and `which`.

use crate::output::{complain, help_or_version, print};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(crate) fn find(arguments: Vec<OsString>) -> i32 {
    with_text("find", arguments, |arguments| {
        findutils::find::find_main(arguments, &findutils::find::StandardDependencies::new())
    })
}

pub(crate) fn xargs(arguments: Vec<OsString>) -> i32 {
    with_text("xargs", arguments, findutils::xargs::xargs_main)
}

/// findutils takes its arguments as text only; what is not UTF-8 is refused rather than changed.
fn with_text(name: &str, arguments: Vec<OsString>, run: impl Fn(&[&str]) -> i32) -> i32 {
    let texts: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    match texts {
        Ok(texts) => run(&texts.iter().map(String::as_str).collect::<Vec<_>>()),
        Err(other) => {
            complain(name, &format_args!("argument {other:?} is not UTF-8 text"));
            1
        }
    }
}

const WHICH_HELP: &str = "\
Usage: which [-a] NAME...
Print the path that the shell would run for each NAME.

  -a    print all of them, not only the first

The exit code is 1 when a name is not found.
";

pub(crate) fn which(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "which", WHICH_HELP) {
        return code;
    }
    let all = arguments.get(1).is_some_and(|first| first == "-a");
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin".into());
    let mut text = String::new();
    let mut missing = 0;
    for name in arguments.iter().skip(if all { 2 } else { 1 }) {
        let mut found = std::env::split_paths(&path)
            .map(|directory| directory.join(name))
            .filter(|candidate| executable(candidate))
            .peekable();
        if found.peek().is_none() {
            missing = 1;
        }
        for candidate in found.take(if all { usize::MAX } else { 1 }) {
            text.push_str(&candidate.display().to_string());
            text.push('\n');
        }
    }
    print("which", &text).max(missing)
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
