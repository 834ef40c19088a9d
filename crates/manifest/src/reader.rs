//! Reads TOML with the place of every value at hand, so that an error can say where.

use crate::error::{ManifestError, ManifestErrors, Problem};
use crate::pattern::{Pattern, PatternError, PatternSet};
use crate::{GrantPath, date, limits, money};
use octant_ids::{ByteSize, Millis, Sha256};
use serde::de::value::{Error as ValueError, StrDeserializer, U64Deserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

pub(crate) type Result<T> = std::result::Result<T, ManifestError>;
/// The same for what has several parts, each of which can be wrong.
pub(crate) type Whole<T> = std::result::Result<T, ManifestErrors>;

/// Collects what is wrong, so that one answer can name all of it.
#[derive(Default)]
pub(crate) struct Gather(Vec<ManifestError>);

impl Gather {
    /// The part, or nothing and a problem more. The same problem counts once.
    pub(crate) fn take<T, E: Into<ManifestErrors>>(&mut self, part: std::result::Result<T, E>) -> Option<T> {
        match part {
            Ok(part) => Some(part),
            Err(problems) => {
                for problem in problems.into().0 {
                    if !self.0.contains(&problem) {
                        self.0.push(problem);
                    }
                }
                None
            }
        }
    }

    /// The whole when every part was there.
    pub(crate) fn done<T>(self, whole: Option<T>) -> Whole<T> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ => Err(ManifestErrors(self.0)),
        }
    }
}

/// A document, and where its lines start.
pub(crate) struct Document<'a> {
    root: DeTable<'a>,
    lines: Vec<usize>,
}

/// A table of which only known fields can be asked.
pub(crate) struct Section<'a> {
    name: &'a str,
    table: Option<&'a DeTable<'a>>,
    lines: &'a [usize],
    line: Option<usize>,
    strays: Vec<ManifestError>,
}

/// A value with its place.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    section: &'a str,
    key: &'a str,
    index: Option<usize>,
    value: &'a DeValue<'a>,
    line: usize,
}

fn refused(field: impl Into<String>, line: Option<usize>, problem: Problem) -> ManifestError {
    ManifestError { field: field.into(), line, problem }
}

fn line_of(lines: &[usize], offset: usize) -> usize {
    lines.partition_point(|start| *start <= offset).max(1)
}

fn depth(value: &DeValue<'_>) -> usize {
    match value {
        DeValue::Array(list) => 1 + list.iter().map(|v| depth(v.get_ref())).max().unwrap_or(0),
        DeValue::Table(table) => 1 + table.values().map(|v| depth(v.get_ref())).max().unwrap_or(0),
        _ => 0,
    }
}

/// The name among `known` that is nearest to `name`, if one is near.
fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let distance = |other: &str| {
        // Levenshtein over one row; names are short and few.
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in name.chars().take(limits::NAME_BYTES).enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in other.iter().enumerate() {
                let cost = diagonal + usize::from(a != *b);
                diagonal = row[j + 1];
                row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
            }
        }
        row[other.len()]
    };
    known
        .iter()
        .map(|k| (distance(k), *k))
        .filter(|(d, k)| *d <= 2.max(k.len() / 3))
        .min()
        .map(|(_, k)| k.to_owned())
}

impl<'a> Document<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > limits::MANIFEST_BYTES {
            return Err(refused("", None, Problem::TooLarge(bytes.len())));
        }
        let starts = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let lines: Vec<usize> = std::iter::once(0).chain(starts).collect();
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let at = e.valid_up_to();
            refused("", Some(line_of(&lines, at)), Problem::NotText(at))
        })?;
        let root = DeTable::parse(text).map_err(|e| {
            let line = e.span().map(|span| line_of(&lines, span.start));
            refused("", line, Problem::Syntax(e.message().to_owned()))
        })?;
        let root = root.into_inner();
        if let Some((key, _)) = root.iter().find(|(_, v)| depth(v.get_ref()) >= limits::DEPTH) {
            let line = line_of(&lines, key.span().start);
            return Err(refused(clipped(key.get_ref()), Some(line), Problem::TooDeep));
        }
        Ok(Self { root, lines })
    }

    /// The line of each section and field.
    pub(crate) fn places(&self) -> BTreeMap<String, usize> {
        let mut places = BTreeMap::new();
        for (name, value) in self.root.iter() {
            places.insert(clipped(name.get_ref()), line_of(&self.lines, name.span().start));
            let DeValue::Table(table) = value.get_ref() else { continue };
            for key in table.keys() {
                let field = joined(&clipped(name.get_ref()), &clipped(key.get_ref()));
                places.insert(field, line_of(&self.lines, key.span().start));
            }
        }
        places
    }

    /// The top level, which has these fields and sections and no others.
    pub(crate) fn top(&'a self, known: &[&str]) -> Section<'a> {
        let strays = Vec::new();
        Section { name: "", table: Some(&self.root), lines: &self.lines, line: None, strays }.only(known)
    }

    /// A section, which has these fields and no others. A section that is absent reads as an empty one.
    pub(crate) fn section(&'a self, name: &'a str, known: &[&str]) -> Result<Section<'a>> {
        let Some((key, value)) = self.root.get_key_value(name) else {
            let strays = Vec::new();
            return Ok(Section { name, table: None, lines: &self.lines, line: None, strays });
        };
        let line = line_of(&self.lines, key.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            let got = type_name(value.get_ref());
            return Err(refused(name, Some(line), Problem::Type { want: "a section", got }));
        };
        let strays = Vec::new();
        Ok(Section { name, table: Some(table), lines: &self.lines, line: Some(line), strays }.only(known))
    }
}

impl<'a> Document<'a> {
    /// The line of each key, however deep, by its name with all that is above it.
    pub(crate) fn all_places(&self) -> BTreeMap<String, usize> {
        fn walk(table: &DeTable<'_>, above: &str, lines: &[usize], places: &mut BTreeMap<String, usize>) {
            for (key, value) in table.iter() {
                let name = joined(above, &clipped(key.get_ref()));
                places.insert(name.clone(), line_of(lines, key.span().start));
                if let DeValue::Table(below) = value.get_ref() {
                    walk(below, &name, lines, places);
                }
            }
        }
        let mut places = BTreeMap::new();
        walk(&self.root, "", &self.lines, &mut places);
        places
    }

    /// What the author has named in a section: `web` of `[units.web]`.
    pub(crate) fn names(&'a self, name: &'a str) -> Result<Vec<&'a str>> {
        let Some((key, value)) = self.root.get_key_value(name) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value.get_ref() else {
            let (line, got) = (line_of(&self.lines, key.span().start), type_name(value.get_ref()));
            return Err(refused(name, Some(line), Problem::Type { want: "a section", got }));
        };
        if table.len() > limits::LIST {
            let line = line_of(&self.lines, key.span().start);
            return Err(refused(name, Some(line), Problem::ListTooLong(table.len())));
        }
        Ok(table.keys().map(|key| key.get_ref().as_ref()).collect())
    }

    /// The line of a byte.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        line_of(&self.lines, offset)
    }

    /// A section below another, which has these fields and no others. Its problems are told by its own name alone; `above`
    /// puts the other's before it.
    pub(crate) fn below(&'a self, name: &'a str, below: &'a str, known: &[&str]) -> Result<Section<'a>> {
        let table = match self.root.get(name).map(|value| value.get_ref()) {
            Some(DeValue::Table(table)) => table.get_key_value(below),
            _ => None,
        };
        let strays = Vec::new();
        let Some((key, value)) = table else {
            return Ok(Section { name: below, table: None, lines: &self.lines, line: None, strays });
        };
        let line = line_of(&self.lines, key.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            let got = type_name(value.get_ref());
            return Err(refused(below, Some(line), Problem::Type { want: "a section", got }));
        };
        Ok(Section { name: below, table: Some(table), lines: &self.lines, line: Some(line), strays }
            .only(known))
    }
}

impl<'a> Section<'a> {
    fn only(mut self, known: &[&str]) -> Self {
        let keys = self.table.into_iter().flat_map(|t| t.keys());
        let mut strays: Vec<_> = keys.filter(|k| !known.contains(&k.get_ref().as_ref())).collect();
        strays.sort_by_key(|k| k.span().start);
        for key in strays {
            let name = clipped(key.get_ref());
            let problem = Problem::UnknownField {
                nearest: nearest(&name, known),
                known: known.iter().map(|k| (*k).to_owned()).collect(),
            };
            let line = line_of(self.lines, key.span().start);
            self.strays.push(refused(joined(self.name, &name), Some(line), problem));
        }
        self
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// Where it begins.
    pub(crate) fn line(&self) -> Option<usize> {
        self.line
    }

    /// Refuses every field that the schema does not have.
    pub(crate) fn no_strays(&self) -> Whole<()> {
        if self.strays.is_empty() { Ok(()) } else { Err(ManifestErrors(self.strays.clone())) }
    }

    pub(crate) fn get(&self, key: &'a str) -> Option<Field<'a>> {
        let (place, value) = self.table?.get_key_value(key)?;
        let line = line_of(self.lines, place.span().start);
        Some(Field { section: self.name, key, index: None, value: value.get_ref(), line })
    }

    pub(crate) fn need(&self, key: &'a str, example: &str) -> Result<Field<'a>> {
        self.get(key).ok_or_else(|| {
            // A field that is misspelt is there: one reason is enough.
            let misspelt = |stray: &&ManifestError| matches!(&stray.problem, Problem::UnknownField { nearest: Some(n), .. } if n == key);
            if let Some(stray) = self.strays.iter().find(misspelt) {
                return stray.clone();
            }
            refused(joined(self.name, key), self.line, Problem::Missing(format!("{key} = {example}")))
        })
    }

    /// The members of a list; an absent list is empty.
    pub(crate) fn list(&self, key: &'a str) -> Result<Vec<Field<'a>>> {
        self.get(key).map_or(Ok(Vec::new()), |field| field.list(self.lines))
    }

    /// Every member of a list, each read by `read`.
    pub(crate) fn each<T, C: FromIterator<T>>(
        &self,
        key: &'a str,
        read: impl Fn(&Field<'a>) -> Result<T>,
    ) -> Whole<C> {
        let mut all = Gather::default();
        let read: Vec<T> = self.list(key)?.iter().filter_map(|field| all.take(read(field))).collect();
        all.done(Some(read.into_iter().collect()))
    }

    /// A set of patterns.
    pub(crate) fn patterns<P: Pattern>(&self, key: &'a str) -> Whole<PatternSet<P>> {
        self.each(key, Field::pattern)
    }
}

impl<'a> Field<'a> {
    pub(crate) fn refuse(&self, problem: Problem) -> ManifestError {
        let name = joined(self.section, self.key);
        let name = self.index.map_or(name.clone(), |i| format!("{name}[{i}]"));
        refused(name, Some(self.line), problem)
    }

    fn mistyped<T>(&self, want: &'static str) -> Result<T> {
        Err(self.refuse(Problem::Type { want, got: type_name(self.value) }))
    }

    pub(crate) fn text(&self) -> Result<&'a str> {
        match self.value {
            DeValue::String(text) if text.len() > limits::TEXT_BYTES => {
                Err(self.refuse(Problem::TextTooLong(text.len(), limits::TEXT_BYTES)))
            }
            DeValue::String(text) => Ok(text.as_ref()),
            _ => self.mistyped("a text in quotes"),
        }
    }

    /// A text as long as the document can be.
    pub(crate) fn long_text(&self) -> Result<&'a str> {
        match self.value {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => self.mistyped("a text in quotes"),
        }
    }

    /// A short text of the given alphabet that starts with a letter or digit.
    pub(crate) fn name(&self, more: &str, want: &'static str) -> Result<String> {
        let text = self.text()?;
        let fits = (1..=limits::NAME_BYTES).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c));
        if fits { Ok(text.to_owned()) } else { Err(self.refuse(Problem::Name { text: clipped(text), want })) }
    }

    /// A pattern of its kind.
    pub(crate) fn pattern<P: Pattern>(&self) -> Result<P> {
        self.text()?.parse().map_err(|e: PatternError| self.refuse(e.into()))
    }

    pub(crate) fn path(&self) -> Result<GrantPath> {
        GrantPath::parse(self.text()?).map_err(|e| self.refuse(e.into()))
    }

    /// Something kept, by its digest: what a name stands for can change after the signature.
    pub(crate) fn kept(&self, kind: &str) -> Result<Sha256> {
        let text = self.text()?;
        let digest = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix(":sha256:"));
        digest.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
            let want = match kind {
                "image" => "\"image:sha256:\" and the 64 digits that `octant image list --json` shows",
                _ => "\"snapshot:sha256:\" and the 64 digits that `octant workspace list` shows, or \"any\"",
            };
            self.refuse(Problem::Name { text: clipped(text), want })
        })
    }

    /// A digest and a file.
    pub(crate) fn pin(&self) -> Result<(GrantPath, Sha256)> {
        let text = self.text()?;
        let parts =
            text.split_once(char::is_whitespace).map(|(digits, path)| (path.trim_start(), digits.parse()));
        let Some((path, Ok(digest))) = parts else {
            let want = "the 64 digits of a SHA-256, a space and a path, as sha256sum prints them";
            return Err(self.refuse(Problem::Name { text: clipped(text), want }));
        };
        Ok((GrantPath::parse(path).map_err(|e| self.refuse(e.into()))?, digest))
    }

    pub(crate) fn number(&self) -> Result<u64> {
        let DeValue::Integer(number) = self.value else { return self.mistyped("a whole number") };
        u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| {
            self.refuse(Problem::Quantity(format!("{} is not a whole number from 0", number.as_str())))
        })
    }

    /// An amount of US dollars, in millionths.
    pub(crate) fn microusd(&self) -> Result<u64> {
        let text = match self.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => return self.mistyped("an amount of US dollars such as 2.50"),
        };
        money::micro(text).ok_or_else(|| {
            let why = "is not an amount from 0 to a billion with at most six digits behind the point";
            self.refuse(Problem::Quantity(format!("{text} {why}")))
        })
    }

    pub(crate) fn flag(&self) -> Result<bool> {
        match self.value {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => self.mistyped("true or false"),
        }
    }

    pub(crate) fn bytes(&self) -> Result<ByteSize> {
        self.quantity("a number of bytes such as \"64MiB\"")
    }

    pub(crate) fn millis(&self) -> Result<Millis> {
        self.quantity("a time such as \"5min\"")
    }

    fn quantity<T: DeserializeOwned>(&self, want: &'static str) -> Result<T> {
        let read = match self.value {
            DeValue::Integer(_) => {
                let number: U64Deserializer<ValueError> = self.number()?.into_deserializer();
                T::deserialize(number)
            }
            DeValue::String(_) => {
                let text: StrDeserializer<'_, ValueError> = self.text()?.into_deserializer();
                T::deserialize(text)
            }
            _ => return self.mistyped(want),
        };
        read.map_err(|e| self.refuse(Problem::Quantity(e.to_string())))
    }

    /// A point in time, in milliseconds since 1970; years 1970 to 9999.
    pub(crate) fn date(&self) -> Result<u64> {
        let DeValue::Datetime(date) = self.value else {
            return self.mistyped("a date with offset, without quotes, such as 2030-01-31T00:00:00Z");
        };
        date::milliseconds(date).ok_or_else(|| self.refuse(Problem::Date(date.to_string())))
    }

    fn list(self, lines: &[usize]) -> Result<Vec<Field<'a>>> {
        let DeValue::Array(list) = self.value else { return self.mistyped("a list in brackets") };
        if list.len() > limits::LIST {
            return Err(self.refuse(Problem::ListTooLong(list.len())));
        }
        let place = |(i, v): (usize, &'a toml::Spanned<DeValue<'a>>)| Field {
            index: Some(i),
            value: v.get_ref(),
            line: line_of(lines, v.span().start),
            ..self
        };
        Ok(list.iter().enumerate().map(place).collect())
    }
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Names come from outside and go into messages: keep them short.
fn clipped(text: &str) -> String {
    text.chars().take(limits::NAME_BYTES).collect()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
