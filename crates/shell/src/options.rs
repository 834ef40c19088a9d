//! The command line of `sh` (POSIX sh, with `-l`).

use std::ffi::OsString;
use std::io::{self, IsTerminal};

/// Where the commands come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The operand of `-c`.
    Command(String),
    /// A file.
    Script(String),
    /// Standard input.
    Input,
}

/// What the command line asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) source: Source,
    /// `$0`.
    pub(crate) name: String,
    /// `$1` and on.
    pub(crate) arguments: Vec<String>,
    pub(crate) interactive: bool,
    pub(crate) login: bool,
    pub(crate) help: bool,
    /// Names of `set -o` to set.
    pub(crate) set: Vec<String>,
    /// Names of `set -o` to unset.
    pub(crate) unset: Vec<String>,
}

/// Why a command line is not one of `sh`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("argument {0:?} is not UTF-8 text")]
    NotText(OsString),
    #[error("unknown option {0}; sh --help lists what there is")]
    Unknown(String),
    #[error("option -o needs a name")]
    NoName,
    #[error("option -c needs a command")]
    NoCommand,
}

/// The letters that `set` knows, with their long names.
const LETTERS: &[(char, &str)] = &[
    ('a', "allexport"),
    ('b', "notify"),
    ('C', "noclobber"),
    ('e', "errexit"),
    ('f', "noglob"),
    ('m', "monitor"),
    ('n', "noexec"),
    ('u', "nounset"),
    ('v', "verbose"),
    ('x', "xtrace"),
];

/// Reads a command line; `arguments[0]` is the shell's own name.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Options, OptionError> {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    parse_on(arguments, terminal)
}

/// As [`parse`], told whether standard input and error are a terminal.
fn parse_on(arguments: Vec<OsString>, terminal: bool) -> Result<Options, OptionError> {
    let texts: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let mut texts = texts.map_err(OptionError::NotText)?.into_iter();
    let own_name = texts.next().unwrap_or_else(|| "sh".into());
    let mut options = Options {
        source: Source::Input,
        login: own_name.starts_with('-'),
        name: own_name,
        arguments: Vec::new(),
        interactive: false,
        help: false,
        set: Vec::new(),
        unset: Vec::new(),
    };
    let (mut command, mut input) = (false, false);
    let mut operands = Vec::new();
    while let Some(text) = texts.next() {
        match text.as_str() {
            "--" | "-" => break,
            "--help" => options.help = true,
            "--login" => options.login = true,
            _ if text.len() > 1 && !text.starts_with("--") && text.starts_with(['-', '+']) => {
                for letter in text.chars().skip(1) {
                    match letter {
                        'c' => command = true,
                        's' => input = true,
                        'i' => options.interactive = true,
                        'l' => options.login = true,
                        _ => options.change(text.starts_with('-'), letter, &mut texts)?,
                    }
                }
            }
            _ if text.starts_with("--") => return Err(OptionError::Unknown(text)),
            _ => {
                operands.push(text);
                break;
            }
        }
    }
    operands.extend(texts);
    options.place(command, input, operands)?;
    options.interactive |= matches!(options.source, Source::Input) && terminal;
    Ok(options)
}

impl Options {
    /// Takes one letter of `set`, or `o` with the name that follows.
    fn change(
        &mut self,
        on: bool,
        letter: char,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), OptionError> {
        let name = match LETTERS.iter().find(|(known, _)| *known == letter) {
            Some((_, name)) => (*name).to_owned(),
            None if letter == 'o' => rest.next().ok_or(OptionError::NoName)?,
            None => return Err(OptionError::Unknown(format!("-{letter}"))),
        };
        if on {
            self.set.push(name);
        } else {
            self.unset.push(name);
        }
        Ok(())
    }

    /// Says what the operands are: a command, a file, or arguments.
    fn place(&mut self, command: bool, input: bool, operands: Vec<String>) -> Result<(), OptionError> {
        let mut operands = operands.into_iter();
        if command {
            self.source = Source::Command(operands.next().ok_or(OptionError::NoCommand)?);
            if let Some(name) = operands.next() {
                self.name = name;
            }
        } else if !input && let Some(path) = operands.next() {
            self.name.clone_from(&path);
            self.source = Source::Script(path);
        }
        self.arguments = operands.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, OptionError> {
        parse_on(arguments.iter().map(OsString::from).collect(), true)
    }

    #[test]
    fn a_command_takes_its_name_and_arguments() {
        let options = parsed(&["sh", "-ec", "echo $0 $1", "name", "one"]).unwrap();
        assert_eq!(options.source, Source::Command("echo $0 $1".into()));
        assert_eq!((options.name.as_str(), options.arguments.as_slice()), ("name", &["one".to_owned()][..]));
        assert_eq!(options.set, ["errexit"]);
        assert!(!options.interactive);
    }

    #[test]
    fn a_script_keeps_its_own_options() {
        let options = parsed(&["sh", "-u", "run.sh", "-c", "--", "x"]).unwrap();
        assert_eq!(options.source, Source::Script("run.sh".into()));
        assert_eq!(options.name, "run.sh");
        assert_eq!(options.arguments, ["-c", "--", "x"]);
    }

    #[test]
    fn standard_input_is_read_on_a_terminal_and_with_s() {
        let options = parsed(&["-sh"]).unwrap();
        assert!(options.login && options.interactive && options.source == Source::Input);
        let options = parsed(&["sh", "-s", "a", "b"]).unwrap();
        assert_eq!((options.source, options.arguments.len()), (Source::Input, 2));
        assert!(!parse_on(vec!["sh".into()], false).unwrap().interactive);
    }

    #[test]
    fn options_by_name_are_set_and_unset() {
        let options = parsed(&["sh", "-o", "pipefail", "+o", "history", "+x", "--", "-f"]).unwrap();
        assert_eq!(options.set, ["pipefail"]);
        assert_eq!(options.unset, ["history", "xtrace"]);
        assert_eq!(options.source, Source::Script("-f".into()));
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        assert_eq!(parsed(&["sh", "-c"]), Err(OptionError::NoCommand));
        assert_eq!(parsed(&["sh", "-o"]), Err(OptionError::NoName));
        assert_eq!(parsed(&["sh", "-Z"]), Err(OptionError::Unknown("-Z".into())));
        assert_eq!(parsed(&["sh", "--posixly"]), Err(OptionError::Unknown("--posixly".into())));
    }
}
