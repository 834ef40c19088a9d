//! The command line of grep.

use super::files::Filter;
use crate::options::{Options, Stop};
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;

/// GNU's code for trouble.
pub(super) const TROUBLE: i32 = 2;

const TABLE: &str = "E|extended-regexp F|fixed-strings G|basic-regexp P|perl-regexp e|regexp= f|file= i|ignore-case y \
    |no-ignore-case w|word-regexp x|line-regexp z|null-data s|no-messages v|invert-match m|max-count= b|byte-offset \
    n|line-number |line-buffered H|with-filename h|no-filename |label= o|only-matching q|quiet |silent |binary-files= \
    a|text I d|directories= D|devices= r|recursive R|dereference-recursive |include= |exclude= |exclude-from= \
    |exclude-dir= L|files-without-match l|files-with-matches c|count T|initial-tab Z|null B|before-context= \
    A|after-context= C|context= |group-separator= |no-group-separator |color? |colour? U|binary u|unix-byte-offsets \
    V|version |help 0 1 2 3 4 5 6 7 8 9";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed,
    Basic,
    Extended,
    Perl,
}

/// What is said of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Lines,
    Count,
    /// Its name, if a line was selected.
    Matching,
    /// Its name, if none was.
    NotMatching,
    Nothing,
}

/// What is done with a file that is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Told,
    Text,
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directories {
    Read,
    Skip,
    Recurse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Devices {
    /// Those that are named, not those that a directory has.
    Named,
    Read,
    Skip,
}

/// The colours of GREP_COLORS, as the numbers of the terminal.
#[derive(Debug, Clone)]
pub(super) struct Colors {
    pub(super) selected_match: String,
    pub(super) context_match: String,
    pub(super) selected_line: String,
    pub(super) context_line: String,
    pub(super) name: String,
    pub(super) number: String,
    pub(super) offset: String,
    pub(super) separator: String,
    pub(super) reversed: bool,
    pub(super) erases: bool,
}

/// What the command line said.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) patterns: Vec<Vec<u8>>,
    pub(super) kind: Kind,
    pub(super) utf8: bool,
    pub(super) ignore_case: bool,
    pub(super) whole_words: bool,
    pub(super) whole_lines: bool,
    pub(super) null_data: bool,
    pub(super) inverted: bool,
    pub(super) most: Option<u64>,
    pub(super) report: Report,
    pub(super) binary: Binary,
    pub(super) only_matching: bool,
    pub(super) offsets: bool,
    pub(super) numbers: bool,
    /// Whether names are printed, where it was said.
    pub(super) names: Option<bool>,
    pub(super) label: OsString,
    pub(super) tab: bool,
    pub(super) null_names: bool,
    pub(super) line_buffered: bool,
    pub(super) before: Option<usize>,
    pub(super) after: Option<usize>,
    pub(super) separator: Option<Vec<u8>>,
    pub(super) colors: Option<Colors>,
    pub(super) directories: Directories,
    pub(super) follow: bool,
    pub(super) devices: Devices,
    pub(super) filter: Filter,
    pub(super) silent: bool,
    pub(super) files: Vec<OsString>,
}

impl Settings {
    /// # Errors
    /// [`Stop`] when the command line is wrong, or asked for help.
    pub(super) fn read(arguments: &[OsString], help: &str) -> Result<Self, Stop> {
        let options = Options::parse(TABLE, arguments)
            .map_err(|why| wrong(format!("{why}; grep --help lists what there is")))?;
        if options.has("help") {
            return Err(Stop::silent(crate::output::print("grep", help)));
        }
        if options.has("V") {
            let text = format!("grep (octant) {}\n", env!("CARGO_PKG_VERSION"));
            return Err(Stop::silent(crate::output::print("grep", &text)));
        }
        let mut files = options.rest.clone();
        let given = options.has("e") || options.has("f");
        if !given && files.is_empty() {
            return Err(wrong("no pattern; grep --help lists what there is"));
        }
        let mut patterns = given_patterns(&options)?;
        if !given {
            push_lines(&mut patterns, files.remove(0).as_bytes());
        }
        let kind = kind(&options)?;
        if kind == Kind::Perl && patterns.len() > 1 {
            return Err(wrong("the -P option only supports a single pattern"));
        }
        let context = contexts(&options)?;
        let mut settings = Self {
            patterns,
            kind,
            utf8: crate::regular::locale_is_utf8(|name| std::env::var_os(name)),
            ignore_case: last_of(&options, &["i", "y", "no-ignore-case"])
                .is_some_and(|key| key != "no-ignore-case"),
            whole_words: options.has("w"),
            whole_lines: options.has("x"),
            null_data: options.has("z"),
            inverted: options.has("v"),
            most: most(&options)?,
            report: report(&options),
            binary: binary(&options)?,
            only_matching: options.has("o"),
            offsets: options.has("b"),
            numbers: options.has("n"),
            names: last_of(&options, &["H", "h"]).map(|key| key == "H"),
            label: options.value("label").unwrap_or(OsStr::new("(standard input)")).to_owned(),
            tab: options.has("T"),
            null_names: options.has("Z"),
            line_buffered: options.has("line-buffered"),
            before: context.0,
            after: context.1,
            separator: separator(&options),
            colors: colors(&options)?,
            directories: Directories::Read,
            follow: false,
            devices: Devices::Named,
            filter: Filter::read(&options)?,
            silent: options.has("s"),
            files,
        };
        settings.read_kinds_of_files(&options)?;
        Ok(settings)
    }

    fn read_kinds_of_files(&mut self, options: &Options) -> Result<(), Stop> {
        for (key, value) in options.given() {
            match (key, value.as_bytes()) {
                ("r" | "R", _) => {
                    self.directories = Directories::Recurse;
                    self.follow = key == "R";
                }
                ("d", b"read") => self.directories = Directories::Read,
                ("d", b"skip") => self.directories = Directories::Skip,
                ("d", b"recurse") => self.directories = Directories::Recurse,
                ("d", _) => return Err(wrong("-d: read, skip or recurse")),
                ("D", b"read") => self.devices = Devices::Read,
                ("D", b"skip") => self.devices = Devices::Skip,
                ("D", _) => return Err(wrong("unknown devices method")),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn line_end(&self) -> u8 {
        if self.null_data { 0 } else { b'\n' }
    }

    /// Whether no line can be selected, so that GNU's grep reads none.
    pub(super) fn selects_nothing(&self) -> bool {
        let all_match = self.patterns == [b""] && !self.whole_lines && !self.whole_words;
        self.most == Some(0) || (self.inverted && all_match)
    }

    /// Whether it matters where in a line a match is.
    pub(super) fn needs_places(&self) -> bool {
        self.report == Report::Lines && (self.only_matching || self.colors.is_some())
    }

    /// The patterns, for messages.
    pub(super) fn shown_patterns(&self) -> String {
        String::from_utf8_lossy(&self.patterns.join(&b'\n')).into_owned()
    }
}

fn wrong(text: impl Into<String>) -> Stop {
    Stop::new(TROUBLE, text)
}

/// The last given one of some options.
fn last_of(options: &Options, keys: &[&str]) -> Option<&'static str> {
    options.given().map(|(key, _)| key).filter(|key| keys.contains(key)).last()
}

fn push_lines(patterns: &mut Vec<Vec<u8>>, text: &[u8]) {
    patterns.extend(text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
}

fn given_patterns(options: &Options) -> Result<Vec<Vec<u8>>, Stop> {
    let mut patterns = Vec::new();
    for (key, value) in options.given() {
        match key {
            "e" => push_lines(&mut patterns, value.as_bytes()),
            "f" => {
                let mut text = Vec::new();
                let read = if value == "-" {
                    std::io::stdin().lock().read_to_end(&mut text).map(drop)
                } else {
                    std::fs::read(value).map(|read| text = read)
                };
                read.map_err(|error| wrong(crate::options::because(value.display(), &error)))?;
                if !text.is_empty() {
                    push_lines(&mut patterns, text.strip_suffix(b"\n").unwrap_or(&text));
                }
            }
            _ => {}
        }
    }
    Ok(patterns)
}

fn kind(options: &Options) -> Result<Kind, Stop> {
    let kinds = [("F", Kind::Fixed), ("G", Kind::Basic), ("E", Kind::Extended), ("P", Kind::Perl)];
    let mut said = kinds.iter().filter(|(key, _)| options.has(key));
    match (said.next(), said.next()) {
        (Some(_), Some(_)) => Err(wrong("conflicting matchers specified")),
        (said, _) => Ok(said.map_or(Kind::Basic, |(_, kind)| *kind)),
    }
}

fn report(options: &Options) -> Report {
    if options.has("q") || options.has("quiet") || options.has("silent") {
        return Report::Nothing;
    }
    match last_of(options, &["l", "L"]) {
        Some("l") => Report::Matching,
        Some(_) => Report::NotMatching,
        None if options.has("c") => Report::Count,
        None => Report::Lines,
    }
}

fn most(options: &Options) -> Result<Option<u64>, Stop> {
    let Some(text) = options.text("m") else { return Ok(None) };
    let number: i128 = text.parse().map_err(|_| wrong(format!("{text}: invalid max count")))?;
    // Less than none is as many as there are.
    Ok(u64::try_from(number).ok())
}

fn binary(options: &Options) -> Result<Binary, Stop> {
    let last = options.given().filter(|(key, _)| ["a", "I", "binary-files"].contains(key)).last();
    Ok(match last {
        None => Binary::Told,
        Some(("a", _)) => Binary::Text,
        Some(("I", _)) => Binary::Skipped,
        Some((_, value)) => match value.as_bytes() {
            b"binary" => Binary::Told,
            b"text" => Binary::Text,
            b"without-match" => Binary::Skipped,
            _ => return Err(wrong(format!("{}: unknown binary-files type", value.display()))),
        },
    })
}

/// Lines before and after: `-NUM` is an old form of `-C NUM`.
fn contexts(options: &Options) -> Result<(Option<usize>, Option<usize>), Stop> {
    let number = |text: &str| match text.parse::<u128>() {
        Ok(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
        Err(_) => Err(wrong(format!("{text}: invalid context length argument"))),
    };
    let (mut before, mut after, mut both) = (None, None, None);
    let mut digits = String::new();
    for (key, value) in options.given() {
        let value = value.to_string_lossy();
        match key {
            "B" => before = number(&value)?,
            "A" => after = number(&value)?,
            "C" => both = number(&value)?,
            digit if digit.as_bytes()[0].is_ascii_digit() => {
                digits.push_str(digit);
                both = number(&digits)?;
                continue;
            }
            _ => {}
        }
        digits.clear();
    }
    Ok((before.or(both), after.or(both)))
}

fn separator(options: &Options) -> Option<Vec<u8>> {
    match options.given().filter(|(key, _)| key.ends_with("group-separator")).last() {
        Some(("no-group-separator", _)) => None,
        Some((_, value)) => Some(value.as_bytes().to_vec()),
        None => Some(b"--".to_vec()),
    }
}

fn colors(options: &Options) -> Result<Option<Colors>, Stop> {
    let Some((_, when)) = options.given().filter(|(key, _)| ["color", "colour"].contains(key)).last() else {
        return Ok(None);
    };
    let wanted = match when.as_bytes() {
        b"always" | b"yes" | b"force" => true,
        b"never" | b"no" | b"none" => false,
        b"" | b"auto" | b"tty" | b"if-tty" => {
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
        }
        _ => return Err(wrong("--color: always, never or auto")),
    };
    let said = std::env::var("GREP_COLORS").unwrap_or_default();
    Ok(wanted.then(|| Colors::new(&said)))
}

impl Colors {
    fn new(said: &str) -> Self {
        let mut colors = Self {
            selected_match: "01;31".into(),
            context_match: "01;31".into(),
            selected_line: String::new(),
            context_line: String::new(),
            name: "35".into(),
            number: "32".into(),
            offset: "32".into(),
            separator: "36".into(),
            reversed: false,
            erases: true,
        };
        for item in said.split(':') {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            // What is no list of numbers would be an order of another kind to the terminal.
            if !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b';') {
                break;
            }
            let value = value.to_owned();
            match key {
                "mt" => (colors.selected_match, colors.context_match) = (value.clone(), value),
                "ms" => colors.selected_match = value,
                "mc" => colors.context_match = value,
                "sl" => colors.selected_line = value,
                "cx" => colors.context_line = value,
                "fn" => colors.name = value,
                "ln" => colors.number = value,
                "bn" => colors.offset = value,
                "se" => colors.separator = value,
                "rv" => colors.reversed = true,
                "ne" => colors.erases = false,
                _ => {}
            }
        }
        colors
    }
}
