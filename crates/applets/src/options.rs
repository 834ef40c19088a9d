//! Options as getopt_long(3) reads them, by a table; and how a utility ends early.

use crate::output::{complain, help_or_version};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

/// Why a utility ends before it has done everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Its exit code.
    pub(crate) code: i32,
    /// What is said on standard error; empty when it has been said.
    pub(crate) text: String,
}

impl Stop {
    /// With this exit code, after saying this.
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// With this exit code; everything has been said.
    pub(crate) const fn silent(code: i32) -> Self {
        Self { code, text: String::new() }
    }
}

/// A failure of the system with what it was about, and what to do about missing rights.
pub(crate) fn because(what: impl std::fmt::Display, error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    };
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let next = if denied { "; it takes rights of the machine's root, which no agent has" } else { "" };
    format!("{what}: {text}{next}")
}

/// A step of a utility that failed with exit code 1.
pub(crate) fn failed<E: Into<io::Error>>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::new(1, because(what, &error.into()))
}

/// Runs a utility's body and says why it stopped.
pub(crate) fn run(name: &str, body: impl FnOnce() -> Result<i32, Stop>) -> i32 {
    match body() {
        Ok(code) => code,
        Err(stop) => {
            if !stop.text.is_empty() {
                complain(name, &stop.text);
            }
            stop.code
        }
    }
}

/// What a command line said.
#[derive(Debug, Default)]
pub(crate) struct Options {
    given: Vec<(&'static str, OsString)>,
    /// Everything that is no option.
    pub(crate) rest: Vec<OsString>,
}

/// The exit code for a wrong command line, of util-linux and procps.
const USAGE: i32 = 1;

impl Options {
    /// Reads a command line by a table of options, one word each: `a`, `a|all`, `|all`; `=` at the end for one with a
    /// value, `?` for one whose value may be left out (then it must be joined to it). Its name is the letter, or the long name where there is none.
    /// A first word `+` ends the options at the first operand, for utilities that run a command.
    ///
    /// # Errors
    /// [`Stop`] when there is nothing more to do: a wrong option, or `--help` and `--version` were answered.
    pub(crate) fn read(
        name: &str,
        help: &str,
        table: &'static str,
        arguments: &[OsString],
    ) -> Result<Self, Stop> {
        if let Some(code) = help_or_version(arguments, name, help) {
            return Err(Stop::silent(code));
        }
        Self::parse(table, arguments)
            .map_err(|why| Stop::new(USAGE, format!("{why}; {name} --help lists what there is")))
    }

    /// Reads a command line by a table alone: what to say of a wrong one is the caller's.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn parse(table: &'static str, arguments: &[OsString]) -> Result<Self, String> {
        let mut out = Self::default();
        let until_operand = table.starts_with('+');
        let rows: Vec<Row> = table.split_ascii_whitespace().filter(|word| *word != "+").map(row).collect();
        let mut arguments = arguments.iter().skip(1);
        while let Some(argument) = arguments.next() {
            let bytes = argument.as_bytes();
            match bytes {
                b"--" => {
                    out.rest.extend(arguments.cloned());
                    break;
                }
                [b'-', b'-', long @ ..] => out.long(&rows, long, &mut arguments)?,
                [b'-', letters @ ..] if !letters.is_empty() => out.letters(&rows, letters, &mut arguments)?,
                _ => {
                    out.rest.push(argument.clone());
                    if until_operand {
                        out.rest.extend(arguments.cloned());
                        break;
                    }
                }
            }
        }
        Ok(out)
    }

    fn long<'a>(
        &mut self,
        rows: &[Row],
        text: &[u8],
        arguments: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), String> {
        let at = text.iter().position(|byte| *byte == b'=');
        let (name, value) = (&text[..at.unwrap_or(text.len())], at.map(|at| &text[at + 1..]));
        let shown = || format!("--{}", String::from_utf8_lossy(name));
        let row = long_row(rows, name).ok_or_else(|| format!("unknown option {}", shown()))?;
        let value = match (row.value, value) {
            (Value::None, Some(_)) => return Err(format!("{} takes no value", shown())),
            (Value::None | Value::Maybe, None) => OsString::new(),
            (Value::Must, None) => {
                arguments.next().cloned().ok_or_else(|| format!("{} needs a value", shown()))?
            }
            (_, Some(value)) => OsString::from_vec(value.to_vec()),
        };
        self.given.push((row.key, value));
        Ok(())
    }

    fn letters<'a>(
        &mut self,
        rows: &[Row],
        letters: &[u8],
        arguments: &mut impl Iterator<Item = &'a OsString>,
    ) -> Result<(), String> {
        for (at, letter) in letters.iter().enumerate() {
            let row = rows.iter().find(|row| row.letter == Some(*letter));
            let row =
                row.ok_or_else(|| format!("unknown option -{}", char::from(*letter).escape_default()))?;
            let joined = OsStr::from_bytes(&letters[at + 1..]).to_owned();
            match row.value {
                Value::None => self.given.push((row.key, OsString::new())),
                Value::Must if joined.is_empty() => {
                    let next = arguments.next().cloned();
                    let next = next.ok_or_else(|| format!("-{} needs a value", char::from(*letter)))?;
                    self.given.push((row.key, next));
                }
                Value::Must | Value::Maybe => self.given.push((row.key, joined)),
            }
            if row.value != Value::None {
                break;
            }
        }
        Ok(())
    }

    /// What was given, in its order: for options of which the last one counts.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        self.given.iter().map(|(key, value)| (*key, value.as_os_str()))
    }

    /// Whether an option was given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == key)
    }

    /// An option's value, the last one of several.
    pub(crate) fn value(&self, key: &str) -> Option<&OsStr> {
        self.given.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value.as_os_str())
    }

    /// An option's value as text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.value(key).map(|value| value.to_string_lossy().into_owned())
    }

    /// An option's values, one for each time it was given.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = String> + 'a {
        self.given.iter().filter(move |(name, _)| *name == key).map(|(_, v)| v.to_string_lossy().into_owned())
    }

    /// An option's value as a number or another thing that is written in one word.
    pub(crate) fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, Stop> {
        self.text(key).map(|text| parse(&text)).transpose()
    }

    /// The operands as text.
    pub(crate) fn words(&self) -> Vec<String> {
        self.rest.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }
}

/// A number or another thing that is written in one word.
pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, Stop> {
    text.trim().parse().map_err(|_| Stop::new(USAGE, format!("{text:?} is not a valid value here")))
}

/// A size: a number, with K, M, G or T (and iB) for powers of 1024, KB, MB, GB, TB for powers of 1000.
pub(crate) fn size(text: &str) -> Result<u64, Stop> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let power = |of: u64, n: u32| of.checked_pow(n);
    let factor = match unit {
        "" | "B" => Some(1),
        "K" | "k" | "KiB" => power(1024, 1),
        "M" | "m" | "MiB" => power(1024, 2),
        "G" | "g" | "GiB" => power(1024, 3),
        "T" | "t" | "TiB" => power(1024, 4),
        "KB" | "kB" => power(1000, 1),
        "MB" => power(1000, 2),
        "GB" => power(1000, 3),
        "TB" => power(1000, 4),
        _ => None,
    };
    let bytes =
        factor.zip(number.parse::<u64>().ok()).and_then(|(factor, number)| number.checked_mul(factor));
    bytes.ok_or_else(|| Stop::new(USAGE, format!("{text:?} is no size; write a number, and K, M, G or T")))
}

/// A row of the table.
struct Row {
    key: &'static str,
    letter: Option<u8>,
    long: &'static str,
    value: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Must,
    Maybe,
}

/// The row of a long name, or of the beginning of one that is no other's.
fn long_row<'a>(rows: &'a [Row], name: &[u8]) -> Option<&'a Row> {
    let exact = rows.iter().find(|row| !row.long.is_empty() && row.long.as_bytes() == name);
    let mut longer = rows.iter().filter(|row| !name.is_empty() && row.long.as_bytes().starts_with(name));
    exact.or_else(|| longer.next().filter(|_| longer.next().is_none()))
}

fn row(word: &'static str) -> Row {
    let (names, value) = match (word.strip_suffix('='), word.strip_suffix('?')) {
        (Some(names), _) => (names, Value::Must),
        (_, Some(names)) => (names, Value::Maybe),
        _ => (word, Value::None),
    };
    let (short, long) = names.split_once('|').unwrap_or((names, ""));
    let key = if short.is_empty() { long } else { short };
    Row { key, letter: short.bytes().next(), long, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = (Vec<(&'static str, String)>, Vec<String>);

    fn parsed(table: &'static str, line: &[&str]) -> Result<Parsed, String> {
        let line: Vec<OsString> = ["x"].iter().chain(line).map(OsString::from).collect();
        let options = Options::parse(table, &line)?;
        let given = options.given.iter().map(|(k, v)| (*k, v.to_string_lossy().into_owned())).collect();
        Ok((given, options.words()))
    }

    #[test]
    fn letters_long_names_and_operands_mix_as_getopt_reads_them() {
        let (given, rest) = parsed(
            "a|all b= |long= c?",
            &["-ab1", "x", "--long", "v", "--all", "--long=w", "-c", "-cz", "--", "-a"],
        )
        .unwrap();
        let expected =
            [("a", ""), ("b", "1"), ("long", "v"), ("a", ""), ("long", "w"), ("c", ""), ("c", "z")];
        assert_eq!(given, expected.map(|(k, v)| (k, v.to_owned())));
        assert_eq!(rest, ["x", "-a"]);
        assert_eq!(parsed("+ a", &["-a", "cmd", "-z"]).unwrap().1, ["cmd", "-z"]);
        assert_eq!(parsed("a", &["-"]).unwrap().1, ["-"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parsed("a", &["-z"]).unwrap_err(), "unknown option -z");
        assert_eq!(parsed("b=", &["-b"]).unwrap_err(), "-b needs a value");
        assert_eq!(parsed("|long=", &["--long"]).unwrap_err(), "--long needs a value");
        assert_eq!(parsed("a|all", &["--all=1"]).unwrap_err(), "--all takes no value");
        assert_eq!(parsed("a", &["--"]).unwrap().1, Vec::<String>::new());
        assert_eq!(parsed("a", &["--="]).unwrap_err(), "unknown option --");
    }

    #[test]
    fn sizes_have_units_and_never_overflow() {
        let sizes = ["0", "512", "4K", "1MiB", "2MB", "16777215T"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [0, 512, 4096, 1 << 20, 2_000_000, 16_777_215 << 40]);
        assert!(["", "K", "1X", "99999999T", "-1", "1.5G"].iter().all(|text| size(text).is_err()));
    }
}
