//! The builtin `trap`. brush's own only notes traps for signals, which then do not run.

use brush_core::builtins::{ContentOptions, ContentType, SimpleCommand};
use brush_core::traps::{TrapHandler, TrapSignal, format_signals};
use brush_core::{Error, ExecutionContext, ExecutionExitCode, ExecutionResult, ShellExtensions};
use std::io::Write;

const USAGE: &str = "trap [COMMAND | -] SIGNAL..., trap -p [SIGNAL]..., or trap -l";

#[derive(Debug)]
pub(crate) struct Trap;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// All signals with their numbers.
    Names,
    /// The traps of these, or all traps.
    Show(Vec<String>),
    /// A command (none: what the signal does by itself) for these.
    Set(Option<String>, Vec<String>),
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let arguments = match arguments.split_first() {
        None => return Ok(Request::Show(Vec::new())),
        Some((first, rest)) => match first.as_str() {
            "-l" => return Ok(Request::Names),
            "-p" => return Ok(Request::Show(rest.to_vec())),
            "--" => rest,
            "-" => arguments,
            option if option.starts_with('-') && option.len() > 1 => return Err(format!("usage: {USAGE}")),
            _ => arguments,
        },
    };
    match arguments {
        [] => Ok(Request::Show(Vec::new())),
        // POSIX: a number in place of the command, and bash: a signal alone, mean the default.
        [signal] => Ok(Request::Set(None, vec![signal.clone()])),
        [first, ..] if first.parse::<u8>().is_ok() => Ok(Request::Set(None, arguments.to_vec())),
        [first, signals @ ..] => Ok(Request::Set((first != "-").then(|| first.clone()), signals.to_vec())),
    }
}

/// A command so that it can be read again by the shell.
fn quoted(command: &str) -> String {
    format!("'{}'", command.replace('\'', r"'\''"))
}

impl SimpleCommand for Trap {
    fn get_content(_name: &str, _kind: ContentType, _options: &ContentOptions) -> Result<String, Error> {
        Ok(format!("{USAGE}\n"))
    }

    fn execute<SE: ShellExtensions, I: Iterator<Item = S>, S: AsRef<str>>(
        context: ExecutionContext<'_, SE>,
        arguments: I,
    ) -> Result<ExecutionResult, Error> {
        // The first is the command's own name.
        let arguments: Vec<String> = arguments.skip(1).map(|text| text.as_ref().to_owned()).collect();
        match parse(&arguments) {
            Err(message) => {
                writeln!(context.stderr(), "trap: {message}")?;
                Ok(ExecutionExitCode::InvalidUsage.into())
            }
            Ok(Request::Names) => {
                format_signals(context.stdout(), TrapSignal::iterator())?;
                writeln!(context.stdout())?;
                Ok(ExecutionResult::success())
            }
            Ok(Request::Show(signals)) if signals.is_empty() => {
                for (signal, handler) in context.shell.traps().shown() {
                    show(&context, signal, handler)?;
                }
                Ok(ExecutionResult::success())
            }
            Ok(Request::Show(signals)) => each(context, &signals, |context, signal| {
                match context.shell.traps().shown().into_iter().find(|(found, _)| *found == signal) {
                    Some((signal, handler)) => show(context, signal, handler),
                    None => Ok(()),
                }
            }),
            Ok(Request::Set(command, signals)) => {
                each(context, &signals, |context, signal| context.shell.set_trap(signal, command.as_deref()))
            }
        }
    }
}

fn show(
    context: &ExecutionContext<'_, impl ShellExtensions>,
    signal: TrapSignal,
    handler: &TrapHandler,
) -> Result<(), Error> {
    writeln!(context.stdout(), "trap -- {} {}", quoted(&handler.command), signal.as_str())?;
    Ok(())
}

/// Does something for every signal that is one; the others are told.
fn each<SE: ShellExtensions>(
    mut context: ExecutionContext<'_, SE>,
    signals: &[String],
    act: impl Fn(&mut ExecutionContext<'_, SE>, TrapSignal) -> Result<(), Error>,
) -> Result<ExecutionResult, Error> {
    let mut result = ExecutionResult::success();
    for name in signals {
        match name.parse::<TrapSignal>() {
            Ok(signal) => act(&mut context, signal)?,
            Err(_) => {
                writeln!(context.stderr(), "trap: {name}: no such signal")?;
                result = ExecutionResult::general_error();
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, String> {
        parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn set(command: Option<&str>, signals: &[&str]) -> Result<Request, String> {
        Ok(Request::Set(command.map(str::to_owned), signals.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_command_is_set_taken_back_or_shown() {
        assert_eq!(parsed(&["echo a", "INT", "2"]), set(Some("echo a"), &["INT", "2"]));
        assert_eq!(parsed(&["", "HUP"]), set(Some(""), &["HUP"]));
        assert_eq!(parsed(&["--", "-x", "HUP"]), set(Some("-x"), &["HUP"]));
        for line in [&["-", "INT"][..], &["INT"]] {
            assert_eq!(parsed(line), set(None, &["INT"]), "{line:?}");
        }
        assert_eq!(parsed(&["2", "15"]), set(None, &["2", "15"]));
        assert_eq!(parsed(&[]), Ok(Request::Show(Vec::new())));
        assert_eq!(parsed(&["-p", "INT"]), Ok(Request::Show(vec!["INT".into()])));
        assert_eq!(parsed(&["-l"]), Ok(Request::Names));
        assert!(parsed(&["-x"]).is_err());
    }

    #[test]
    fn a_shown_command_reads_as_one_word() {
        assert_eq!(quoted("echo 'a b'"), r"'echo '\''a b'\'''");
    }
}
