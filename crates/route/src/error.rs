//! What is wrong with a data file or with the operator's.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Of the file, from 1.
    pub line: usize,
    /// The field, as `deployment.provider`.
    pub field: String,
    /// What is wrong, and what to write.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.field, self.why)
    }
}

/// Everything that is wrong with a file: nothing of it is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// Which file, as its reader names it.
    pub file: &'static str,
    /// In the order of the file.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for fault in &self.faults {
            write!(f, "{between}{} {fault}", self.file)?;
            between = "\n";
        }
        Ok(())
    }
}

/// A file's text, and what was found wrong with it.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    file: &'static str,
    text: &'a str,
    faults: Vec<Fault>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(file: &'static str, text: &'a str) -> Self {
        Self { file, text, faults: Vec::new() }
    }

    /// Reads its shape.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Faults> {
        toml::from_str(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let fault = Fault { line: self.line(at), field: self.field(at), why: error.message().to_owned() };
            Faults { file: self.file, faults: vec![fault] }
        })
    }

    /// Says what is wrong at a byte of it.
    pub(crate) fn wrong(&mut self, at: usize, field: &str, why: String) {
        self.faults.push(Fault { line: self.line(at), field: field.to_owned(), why });
    }

    /// That nothing was found.
    pub(crate) fn done<T>(mut self, value: T) -> Result<T, Faults> {
        if self.faults.is_empty() {
            return Ok(value);
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(Faults { file: self.file, faults: self.faults })
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    /// The table and the key of the line at a byte.
    fn field(&self, at: usize) -> String {
        let line = self.line(at);
        let header = |line: &&str| line.trim_start().starts_with('[');
        let table = self.text.lines().take(line).filter(header).last().unwrap_or_default();
        let table = table.trim().trim_matches(['[', ']']);
        let own = self.text.lines().nth(line - 1).unwrap_or_default();
        match (table, own.split_once('=')) {
            ("", None) => "the file".to_owned(),
            ("", Some((key, _))) => key.trim().to_owned(),
            (table, None) => table.to_owned(),
            (table, Some((key, _))) => format!("{table}.{}", key.trim()),
        }
    }
}
