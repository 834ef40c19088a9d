//! Options as getopt(3) reads them, `-c3` and `-c 3`, with long ones that stand for short ones.

use std::ffi::OsString;

/// What a command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    given: Vec<(char, String)>,
    /// What is no option, in its order.
    pub(super) operands: Vec<String>,
}

impl Options {
    /// `short` is getopt's: a letter each, with a colon behind those that take a value. `long` are other names of letters.
    /// Operands may stand before options.
    pub(super) fn read(arguments: Vec<OsString>, short: &str, long: &[(&str, char)]) -> Result<Self, String> {
        let mut out = Self::default();
        let texts = arguments
            .into_iter()
            .skip(1)
            .map(|text| text.into_string().map_err(|text| format!("argument {text:?} is not UTF-8 text")));
        let mut texts = texts.collect::<Result<Vec<_>, _>>()?.into_iter();
        while let Some(text) = texts.next() {
            if text == "--" {
                out.operands.extend(texts);
                break;
            }
            if let Some(name) = text.strip_prefix("--") {
                let (name, value) =
                    name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
                let known = long.iter().find(|(long, _)| *long == name);
                let letter = known.ok_or_else(|| format!("there is no option --{name}; see --help"))?.1;
                let value = match (takes_value(short, letter), value) {
                    (Some(true), Some(value)) => value.to_owned(),
                    (Some(true), None) => texts.next().ok_or_else(|| format!("--{name} needs a value"))?,
                    (_, Some(_)) => return Err(format!("--{name} takes no value")),
                    (_, None) => String::new(),
                };
                out.given.push((letter, value));
            } else if let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                let mut rest = letters.chars();
                while let Some(letter) = rest.next() {
                    let value = match takes_value(short, letter) {
                        None => return Err(format!("there is no option -{letter}; see --help")),
                        Some(false) => String::new(),
                        Some(true) => {
                            let joined = std::mem::replace(&mut rest, "".chars()).as_str().to_owned();
                            if joined.is_empty() {
                                texts.next().ok_or_else(|| format!("-{letter} needs a value"))?
                            } else {
                                joined
                            }
                        }
                    };
                    out.given.push((letter, value));
                }
            } else {
                out.operands.push(text);
            }
        }
        Ok(out)
    }

    /// Whether an option was given.
    pub(super) fn has(&self, letter: char) -> bool {
        self.given.iter().any(|(given, _)| *given == letter)
    }

    /// Its value; the last one counts.
    pub(super) fn value(&self, letter: char) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == letter).map(|(_, value)| value.as_str())
    }

    /// All its values.
    pub(super) fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(given, _)| *given == letter).map(|(_, value)| value.as_str())
    }

    /// Its value as a number, or `other`.
    pub(super) fn number<T: std::str::FromStr>(&self, letter: char, other: T) -> Result<T, String> {
        match self.value(letter) {
            None => Ok(other),
            Some(text) => {
                text.parse().map_err(|_| format!("-{letter} {text}: that is no number it can have"))
            }
        }
    }
}

fn takes_value(short: &str, letter: char) -> Option<bool> {
    if letter == ':' {
        return None;
    }
    let at = short.find(letter)?;
    Some(short[at + letter.len_utf8()..].starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Options, String> {
        let line = ["x"].iter().chain(line).map(OsString::from).collect();
        Options::read(line, "ac:4", &[("all", 'a'), ("count", 'c')])
    }

    #[test]
    fn options_are_read_as_getopt_reads_them() {
        let options = read(&["-4ac3", "host", "--count=5", "--all", "--", "-x"]).unwrap();
        assert!(options.has('4') && options.has('a') && options.value('c') == Some("5"));
        assert_eq!(options.operands, ["host", "-x"]);
        assert_eq!(options.values('c').collect::<Vec<_>>(), ["3", "5"]);
        assert_eq!(read(&["-c", "7", "-"]).unwrap().number('c', 0), Ok(7));
        assert_eq!(read(&["-"]).unwrap().operands, ["-"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            (&["-z"][..], "no option -z"),
            (&["-c"], "needs a value"),
            (&["--count"], "needs a value"),
            (&["--all=1"], "takes no value"),
            (&["--al"], "no option --al"),
            (&["-:"], "no option -:"),
        ] {
            assert!(read(line).unwrap_err().contains(part), "{line:?}");
        }
        assert!(read(&["-cx"]).unwrap().number('c', 0).unwrap_err().contains("no number"));
    }
}
