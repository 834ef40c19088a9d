//! What an imported file has: keys, and values that nobody sees.

use super::secret::Secret;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The longest file.
pub(super) const FILE_MAX: usize = 1 << 20;
/// The most entries of one file.
pub(super) const COUNT_MAX: usize = 10_000;
/// The longest line: a value of the greatest length, each byte of it escaped.
pub(super) const LINE_MAX: usize = 2 * octant_api::vault::VALUE_MAX + 1024;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Its key, which need not be a name.
    pub(super) key: Cow<'a, [u8]>,
    pub(super) value: Value<'a>,
    /// Whether a shell would put something else in place of a `$` in it.
    pub(super) dollar: bool,
}

/// A value, in the file's own buffer where it stands there as it is.
pub(super) enum Value<'a> {
    Plain(&'a [u8]),
    Decoded(Secret),
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(..)")
    }
}

impl Value<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Decoded(secret) => secret.bytes(),
        }
    }
}

/// What is wrong with a file. Keys are not shown either: in a broken file, a piece of a value can look like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(super) struct Wrong {
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is no = in it; a value over several lines has to be in quotes")]
    NoEquals,
    #[error("there is no key before the =")]
    NoKey,
    #[error("the quotes of this value are not closed")]
    Unclosed,
    #[error(
        "in double quotes a backslash stands before n, r, t, \", \\ or $ only; single quotes take everything as it is"
    )]
    Escape,
    #[error("something follows the closing quote")]
    AfterQuote,
    #[error("it is longer than {LINE_MAX} bytes")]
    LineTooLong,
    #[error("there are more than {COUNT_MAX} entries")]
    TooMany,
    #[error("it has the same key as line {first}")]
    Twice { first: usize },
    #[error("this is not valid UTF-8, which JSON is")]
    NotUtf8,
    #[error("this is not valid JSON")]
    Json,
    #[error("the value is no text; write an object whose members are texts in quotes")]
    NotText,
}

/// Entries so far, each key once.
#[derive(Debug, Default)]
pub(super) struct Entries<'a> {
    entries: Vec<Entry<'a>>,
    lines: BTreeMap<Cow<'a, [u8]>, usize>,
}

impl<'a> Entries<'a> {
    pub(super) fn add(&mut self, entry: Entry<'a>) -> Result<(), Wrong> {
        let line = entry.line;
        if self.entries.len() == COUNT_MAX {
            return Err(Wrong { line, fault: Fault::TooMany });
        }
        if let Some(first) = self.lines.insert(entry.key.clone(), line) {
            return Err(Wrong { line, fault: Fault::Twice { first } });
        }
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn all(self) -> Vec<Entry<'a>> {
        self.entries
    }
}

/// Every line is short enough to be looked at.
pub(super) fn check_lines(text: &[u8]) -> Result<(), Wrong> {
    let long = text.split(|byte| *byte == b'\n').position(|line| line.len() > LINE_MAX);
    long.map_or(Ok(()), |at| Err(Wrong { line: at + 1, fault: Fault::LineTooLong }))
}

/// The entries of a file: a JSON object where it begins with a brace, else an .env file.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Entry<'_>>, Wrong> {
    // Editors of some systems put a byte order mark before everything.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    check_lines(text)?;
    match text.trim_ascii_start().first() {
        Some(b'{') => super::json::parse(text),
        _ => super::dotenv::parse(text),
    }
}
