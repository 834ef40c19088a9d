//! JSON read one object at a time, with the bytes of what is not looked into kept, and written in the order it is said.
//!
//! A schema or the arguments of a call go through as they came: names in their order, numbers with all their digits.

mod write;

pub(crate) use write::{List, Object};

use crate::{Failure, Kind};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Brackets within brackets.
const DEPTH: usize = 64;
/// Names in an object of a dialect; what is only passed on (schemas, arguments) is not counted.
const NAMES: usize = 128;
/// Elements of a list of a dialect.
const ELEMENTS: usize = 16_384;

/// JSON text as somebody wrote it, known to be JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(Box<str>);

impl Json {
    /// This text, if it is JSON and not too deep.
    ///
    /// # Errors
    /// [`Kind::Invalid`].
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let node = Node::parse(text, Kind::Invalid)?;
        Ok(Self(node.text.into()))
    }

    /// An object without names.
    #[must_use]
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

/// A value of which only the first byte has been looked at, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: String,
    kind: Kind,
}

impl<'a> Node<'a> {
    /// A document. What is wrong in it is a failure of this kind.
    pub(crate) fn parse(text: &'a str, kind: Kind) -> Result<Self, Failure> {
        if depth(text.as_bytes()) > DEPTH {
            return Err(Failure::new(kind, format!("more than {DEPTH} brackets within each other")));
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => Ok(Self { text: raw.get(), at: String::new(), kind }),
            Err(why) => Err(Failure::new(kind, format!("not JSON: {why}"))),
        }
    }

    /// The same of bytes.
    pub(crate) fn read(bytes: &'a [u8], kind: Kind) -> Result<Self, Failure> {
        let text = std::str::from_utf8(bytes)
            .map_err(|why| Failure::new(kind, format!("not UTF-8 after byte {}", why.valid_up_to())))?;
        Self::parse(text, kind)
    }

    pub(crate) fn is_text(&self) -> bool {
        self.text.starts_with('"')
    }

    pub(crate) fn is_list(&self) -> bool {
        self.text.starts_with('[')
    }

    pub(crate) fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }

    /// A failure about this value.
    pub(crate) fn wrong(&self, what: impl fmt::Display) -> Failure {
        wrong(self.kind, &self.at, what)
    }

    pub(crate) fn string(&self) -> Result<String, Failure> {
        serde_json::from_str(self.text).map_err(|_| self.wrong("must be a string"))
    }

    pub(crate) fn number(&self) -> Result<f64, Failure> {
        serde_json::from_str(self.text).map_err(|_| self.wrong("must be a number"))
    }

    /// A whole number from 0; also written as `5.0`.
    pub(crate) fn count(&self) -> Result<u64, Failure> {
        if let Ok(count) = self.text.parse() {
            return Ok(count);
        }
        let whole = self.text.strip_suffix(".0").and_then(|text| text.parse().ok());
        whole.ok_or_else(|| self.wrong("must be a whole number from 0"))
    }

    pub(crate) fn integer(&self) -> Result<i64, Failure> {
        self.text.parse().map_err(|_| self.wrong("must be a whole number"))
    }

    pub(crate) fn flag(&self) -> Result<bool, Failure> {
        match self.text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("must be true or false")),
        }
    }

    pub(crate) fn json(&self) -> Json {
        Json(self.text.into())
    }

    pub(crate) fn object(self) -> Result<Fields<'a>, Failure> {
        if !self.is_object() {
            return Err(self.wrong("must be an object"));
        }
        let mut reader = serde_json::Deserializer::from_str(self.text);
        match Names.deserialize(&mut reader) {
            Ok(list) => Ok(Fields { list, at: self.at, kind: self.kind }),
            Err(why) => Err(self.wrong(why)),
        }
    }

    pub(crate) fn list(self) -> Result<Vec<Self>, Failure> {
        if !self.is_list() {
            return Err(self.wrong("must be a list"));
        }
        let mut reader = serde_json::Deserializer::from_str(self.text);
        let list = Elements.deserialize(&mut reader).map_err(|why| self.wrong(why))?;
        let place = |(number, raw): (usize, &'a RawValue)| Self {
            text: raw.get(),
            at: join(&self.at, number),
            kind: self.kind,
        };
        Ok(list.into_iter().enumerate().map(place).collect())
    }

    /// A list of objects.
    pub(crate) fn objects(self) -> Result<Vec<Fields<'a>>, Failure> {
        self.list()?.into_iter().map(Node::object).collect()
    }
}

fn wrong(kind: Kind, at: &str, what: impl fmt::Display) -> Failure {
    match at {
        "" => Failure::new(kind, what.to_string()),
        at => Failure::new(kind, format!("{at}: {what}")).at(at),
    }
}

fn join(at: &str, next: impl fmt::Display) -> String {
    if at.is_empty() { next.to_string() } else { format!("{at}.{next}") }
}

/// How many brackets stand within each other at most, in what may be JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// An object's names that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    list: Vec<(String, &'a RawValue)>,
    pub(crate) at: String,
    kind: Kind,
}

impl<'a> Fields<'a> {
    /// A document that is an object.
    pub(crate) fn read(bytes: &'a [u8], kind: Kind) -> Result<Self, Failure> {
        Node::read(bytes, kind)?.object()
    }

    /// A value, once. `null` is as good as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node<'a>> {
        let place = self.list.iter().position(|(own, _)| own == name)?;
        let (_, raw) = self.list.swap_remove(place);
        let node = Node { text: raw.get(), at: join(&self.at, name), kind: self.kind };
        (node.text != "null").then_some(node)
    }

    pub(crate) fn need(&mut self, name: &str) -> Result<Node<'a>, Failure> {
        self.take(name).ok_or_else(|| self.wrong(format_args!("{name} is missing")))
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, Failure> {
        self.take(name).map(|node| node.string()).transpose()
    }

    pub(crate) fn needed_string(&mut self, name: &str) -> Result<String, Failure> {
        self.need(name)?.string()
    }

    /// A string that may as well be absent as empty.
    pub(crate) fn words(&mut self, name: &str) -> Result<String, Failure> {
        Ok(self.string(name)?.unwrap_or_default())
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>, Failure> {
        self.take(name).map(|node| node.number()).transpose()
    }

    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        self.take(name).map(|node| node.count()).transpose()
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        self.take(name).map(|node| node.flag()).transpose()
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Failure> {
        self.take(name).map(Node::object).transpose()
    }

    pub(crate) fn objects(&mut self, name: &str) -> Result<Vec<Self>, Failure> {
        self.take(name).map_or(Ok(Vec::new()), Node::objects)
    }

    /// Strings in a list; one alone may stand for a list of one.
    pub(crate) fn strings(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(node) if node.is_text() => Ok(vec![node.string()?]),
            Some(node) => node.list()?.iter().map(Node::string).collect(),
        }
    }

    /// A failure about this object.
    pub(crate) fn wrong(&self, what: impl fmt::Display) -> Failure {
        wrong(self.kind, &self.at, what)
    }

    /// Refuses what is left, but for what the table says may be left out.
    ///
    /// # Errors
    /// [`Kind::Untranslatable`] with the first name that is not in the table, or not with this value.
    pub(crate) fn rest(&self, droppable: &[Droppable]) -> Result<(), Failure> {
        for (name, raw) in &self.list {
            let value = raw.get();
            let may =
                |entry: &&Droppable| entry.name == name && entry.values.is_none_or(|of| of.contains(&value));
            if value != "null" && !droppable.iter().any(|entry| may(&entry)) {
                let at = join(&self.at, name);
                let what = format!("{at}: cannot be said in the dialect of the model that was chosen");
                return Err(Failure::new(Kind::Untranslatable, what).at(at));
            }
        }
        Ok(())
    }
}

/// A name that may be left out in translation, because the answer is no other without it.
#[derive(Debug)]
pub(crate) struct Droppable {
    name: &'static str,
    /// Only with these values, as JSON text: those that say what is so anyway.
    values: Option<&'static [&'static str]>,
}

/// A hint, whatever it says.
pub(crate) const fn hint(name: &'static str) -> Droppable {
    Droppable { name, values: None }
}

/// A wish, when it asks for what happens anyway.
pub(crate) const fn neutral(name: &'static str, values: &'static [&'static str]) -> Droppable {
    Droppable { name, values: Some(values) }
}

struct Names;

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Vec<(String, &'de RawValue)>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Vec<(String, &'de RawValue)>;
    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut list: Self::Value = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if list.len() == NAMES {
                return Err(A::Error::custom(format_args!("more than {NAMES} names")));
            }
            if list.iter().any(|(other, _)| *other == name) {
                return Err(A::Error::custom(format_args!("the name {name:?} stands there twice")));
            }
            list.push((name, value));
        }
        Ok(list)
    }
}

struct Elements;

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Vec<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;
    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == ELEMENTS {
                return Err(A::Error::custom(format_args!("more than {ELEMENTS} elements")));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
