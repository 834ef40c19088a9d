//! What every utility needs before its first line and after its last.

use crate::Applet;
use std::ffi::OsString;
use std::io::{self, Write};

/// How a utility's name reached the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invocation {
    /// By `argv[0]`, as through the symbolic link `/bin/ls`.
    ByName,
    /// By the first argument, as `octant ls`.
    ByArgument,
}

/// The code with which uutils' own programs end when their texts cannot be set up.
const LANGUAGE_FAILED: i32 = 99;

/// Runs a utility in this process, once. `arguments[0]` is the utility's name as it was called.
///
/// Returns the exit code. Some utilities end the process themselves.
#[must_use]
pub fn run(applet: &Applet, arguments: Vec<OsString>, invocation: Invocation) -> i32 {
    let spoken = speaks_by_uucore(applet, arguments.len());
    if let Err(message) = prepare(applet, invocation, spoken) {
        output::complain(applet.name, &message);
        return LANGUAGE_FAILED;
    }
    let code = (applet.run)(crate::attached::apart(applet.texts, arguments));
    // What is still buffered would be lost without a word: the process ends without running destructors.
    match io::stdout().flush() {
        Err(error) if code == 0 && error.kind() != io::ErrorKind::BrokenPipe => {
            output::complain(applet.name, &format_args!("cannot write to standard output: {error}"));
            1
        }
        _ => code,
    }
}

use crate::output;

/// Sets up, as uutils' `bin!` macro does, what `uumain` takes for granted.
///
/// `uucore::locale` must know the utility before its first message, or messages are the names of messages.
/// Rust ignores SIGPIPE; a utility must die of it (`yes | head -1`), unless its parent chose to ignore it.
fn prepare(applet: &Applet, invocation: Invocation, spoken: bool) -> Result<(), String> {
    if invocation == Invocation::ByArgument {
        uucore::set_utility_is_second_arg();
    }
    uucore::panic::preserve_inherited_sigpipe();
    uucore::panic::mute_sigpipe_panic();
    if !uucore::signals::sigpipe_was_ignored() {
        uucore::signals::enable_pipe_errors().map_err(|error| format!("cannot reset SIGPIPE: {error}"))?;
    }
    if !spoken {
        return Ok(());
    }
    let texts = applet.texts;
    let failed = |error: &dyn std::fmt::Display| format!("cannot set up the texts of {texts:?}: {error}");
    uucore::locale::setup_localization(texts).map_err(|error| failed(&error))
}

/// Whether the utility may have something to say by uucore's texts, whose reading is a tenth of a start. This crate's own
/// utilities have their own, but for those that hand over to a crate of uutils'; and `true` is silent until it is asked.
fn speaks_by_uucore(applet: &Applet, words: usize) -> bool {
    match applet.texts {
        "true" | "false" => words > 1,
        "find" | "xargs" | "reset" | "timeout" => true,
        _ => !applet.entry.starts_with("crate::"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_for_who_speaks_by_them() {
        let spoken = |name: &str, words| speaks_by_uucore(crate::find(name.as_ref()).unwrap(), words);
        assert!(!spoken("true", 1) && spoken("true", 2));
        assert!(spoken("ls", 1) && spoken("[", 1) && spoken("sed", 1));
        assert!(!spoken("egrep", 1) && spoken("xargs", 1));
        assert!(!spoken("mount", 1) && !spoken("tar", 3));
    }
}
