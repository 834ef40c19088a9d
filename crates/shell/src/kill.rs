//! The builtin `kill`. brush's own sends SIGKILL where POSIX says SIGTERM, and takes one process only.

use brush_core::builtins::{ContentOptions, ContentType, SimpleCommand};
use brush_core::jobs::Job;
use brush_core::signals::{Inbox, LAST_PROCESS_ID};
use brush_core::traps::TrapSignal;
use brush_core::{Error, ExecutionContext, ExecutionExitCode, ExecutionResult, ShellExtensions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;

const USAGE: &str = "kill [-SIGNAL | -s NAME | -n NUMBER] PROCESS | %JOB ..., or kill -l [NUMBER]...";

#[derive(Debug)]
pub(crate) struct Kill;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// Names of signals: of these numbers, or all.
    List(Vec<String>),
    /// A signal (none: only look whether the process is there) to these.
    Send(Option<Signal>, Vec<String>),
}

/// `TERM`, `SIGTERM`, `term` or `15`; 0 is no signal.
fn signal(text: &str) -> Result<Option<Signal>, String> {
    if text == "0" {
        return Ok(None);
    }
    let upper = text.to_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let found = match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) => name.parse::<Signal>().ok(),
    };
    // As exit codes of killed processes are written: 128 and the number.
    let found = found.or_else(|| Signal::try_from(text.parse::<i32>().ok()?.checked_sub(128)?).ok());
    found.map(Some).ok_or_else(|| format!("{text}: no such signal"))
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let usage = || format!("usage: {USAGE}");
    let (first, rest) = arguments.split_first().ok_or_else(usage)?;
    let (chosen, targets) = match first.as_str() {
        "-l" | "-L" => return Ok(Request::List(rest.to_vec())),
        "-s" | "-n" => {
            let (name, targets) = rest.split_first().ok_or_else(usage)?;
            (signal(name)?, targets)
        }
        "--" => (Some(Signal::SIGTERM), rest),
        text => match text.strip_prefix('-') {
            Some(name) => (signal(name)?, rest),
            None => (Some(Signal::SIGTERM), arguments),
        },
    };
    let targets = if targets.first().is_some_and(|text| text == "--") { &targets[1..] } else { targets };
    if targets.is_empty() { Err(usage()) } else { Ok(Request::Send(chosen, targets.to_vec())) }
}

impl SimpleCommand for Kill {
    fn get_content(_name: &str, _kind: ContentType, _options: &ContentOptions) -> Result<String, Error> {
        Ok(format!("{USAGE}\n"))
    }

    fn execute<SE: ShellExtensions, I: Iterator<Item = S>, S: AsRef<str>>(
        mut context: ExecutionContext<'_, SE>,
        arguments: I,
    ) -> Result<ExecutionResult, Error> {
        // The first is the command's own name.
        let arguments: Vec<String> = arguments.skip(1).map(|text| text.as_ref().to_owned()).collect();
        match parse(&arguments) {
            Err(message) => {
                writeln!(context.stderr(), "kill: {message}")?;
                Ok(ExecutionExitCode::InvalidUsage.into())
            }
            Ok(Request::List(numbers)) => list(&context, &numbers),
            Ok(Request::Send(signal, targets)) => {
                let mut result = ExecutionResult::success();
                for target in targets {
                    if let Err(message) = send(&mut context, signal, &target) {
                        writeln!(context.stderr(), "kill: {target}: {message}")?;
                        result = ExecutionResult::general_error();
                    }
                }
                Ok(result)
            }
        }
    }
}

fn list(
    context: &ExecutionContext<'_, impl ShellExtensions>,
    numbers: &[String],
) -> Result<ExecutionResult, Error> {
    let short = |signal: Signal| signal.as_str().trim_start_matches("SIG");
    if numbers.is_empty() {
        let names: Vec<&str> = Signal::iterator().map(short).collect();
        writeln!(context.stdout(), "{}", names.join(" "))?;
    }
    for number in numbers {
        match signal(number) {
            Ok(Some(found)) if number.parse::<i32>().is_ok() => {
                writeln!(context.stdout(), "{}", short(found))?
            }
            Ok(Some(found)) => writeln!(context.stdout(), "{}", found as i32)?,
            _ => {
                writeln!(context.stderr(), "kill: {number}: no such signal")?;
                return Ok(ExecutionResult::general_error());
            }
        }
    }
    Ok(ExecutionResult::success())
}

fn send(
    context: &mut ExecutionContext<'_, impl ShellExtensions>,
    signal: Option<Signal>,
    target: &str,
) -> Result<(), String> {
    if target.starts_with('%') {
        let job = context.shell.jobs_mut().resolve_job_spec(target).ok_or("no such job")?;
        return to_job(job, signal);
    }
    let pid: i32 = target.parse().map_err(|_| "not a process number")?;
    if let Some(job) = context.shell.jobs_mut().by_number(pid) {
        return to_job(job, signal);
    }
    if pid > LAST_PROCESS_ID {
        let inbox = Inbox::of_job(pid).ok_or("no such job")?;
        if let Some(signal) = signal {
            inbox.post(signal);
        }
        return Ok(());
    }
    kill(Pid::from_raw(pid), signal).map_err(|error| error.desc().to_owned())
}

fn to_job(job: &mut Job, signal: Option<Signal>) -> Result<(), String> {
    // How it ended is kept in the job.
    let _ = job.poll_done();
    match signal {
        _ if job.exit().is_some() => Err("has ended".into()),
        None => Ok(()),
        Some(signal) => job.kill(TrapSignal::Signal(signal)).map_err(|_| "the signal cannot be sent".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(&line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    }

    fn sends(signal: Option<Signal>, targets: &[&str]) -> Result<Request, String> {
        Ok(Request::Send(signal, targets.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_signal_is_term_unless_another_is_named() {
        assert_eq!(parsed("1 2"), sends(Some(Signal::SIGTERM), &["1", "2"]));
        for line in ["-9 7", "-KILL 7", "-SIGKILL 7", "-s kill 7", "-n 9 7", "-9 -- 7"] {
            assert_eq!(parsed(line), sends(Some(Signal::SIGKILL), &["7"]), "{line}");
        }
        assert_eq!(parsed("-0 7"), sends(None, &["7"]));
        assert_eq!(parsed("-- -7"), sends(Some(Signal::SIGTERM), &["-7"]));
        assert_eq!(parsed("-INT %1"), sends(Some(Signal::SIGINT), &["%1"]));
    }

    #[test]
    fn signals_are_listed_and_what_is_none_is_refused() {
        assert_eq!(parsed("-l 15"), Ok(Request::List(vec!["15".into()])));
        assert_eq!(signal("137"), Ok(Some(Signal::SIGKILL)));
        for line in ["", "-9", "-s", "-s NOPE 1", "-99 1", "-s KILL"] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }
}
