//! `timeout`: uutils', with GNU's exit code where the command was killed at once.

use octant_sys::clock::monotonic_ns;
use std::ffi::OsString;
use std::time::Duration;

/// The code for a command whose time was up.
const TIMED_OUT: i32 = 124;

/// The code for one that SIGKILL ended.
const KILLED: i32 = 128 + 9;

pub(crate) fn timeout(arguments: Vec<OsString>) -> i32 {
    let limit = killed_after(&arguments);
    let start = monotonic_ns();
    let code = uu_timeout::uumain(arguments.into_iter());
    // A command may have that code of its own, before its time is up.
    match limit {
        Some(limit) if code == TIMED_OUT && Duration::from_nanos(monotonic_ns() - start) >= limit => KILLED,
        _ => code,
    }
}

/// The time after which the command is sent SIGKILL, where that is the signal.
fn killed_after(arguments: &[OsString]) -> Option<Duration> {
    let options = uu_timeout::uu_app().try_get_matches_from(arguments).ok()?;
    let signal = options.get_one::<String>(uu_timeout::options::SIGNAL)?;
    let kills = uucore::signals::signal_by_name_or_value(signal)? == 9;
    let limit = options.get_one::<String>(uu_timeout::options::DURATION)?;
    let limit = uucore::parser::parse_time::from_str(limit, true).ok()?;
    (kills && !options.get_flag(uu_timeout::options::PRESERVE_STATUS) && !limit.is_zero()).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_sigkill_has_its_own_code() {
        let limit = |words: &[&str]| {
            let line: Vec<OsString> = words.iter().map(OsString::from).collect();
            killed_after(&line)
        };
        for signal in ["KILL", "9", "SIGKILL"] {
            assert_eq!(limit(&["timeout", "-s", signal, "2m", "x", "-s"]), Some(Duration::from_secs(120)));
        }
        assert_eq!(limit(&["timeout", "2", "x", "-s", "KILL"]), None);
        assert_eq!(limit(&["timeout", "-s", "TERM", "2", "x"]), None);
        assert_eq!(limit(&["timeout", "-s9", "--preserve-status", "2", "x"]), None);
        assert_eq!(limit(&["timeout", "-s", "KILL", "0", "x"]), None);
    }
}
