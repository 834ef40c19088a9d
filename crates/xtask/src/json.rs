//! A small reader of JSON, for what `cargo metadata` writes. RFC 8259, without surrogate pairs joined.

use crate::sh::Res;
use std::collections::BTreeMap;

/// Deeper than anything that is read here; a limit, so that a broken input cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// A JSON value. Numbers stay text: none is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// # Errors
    /// The text is not one JSON value; the message says at which byte.
    pub(crate) fn parse(text: &str) -> Res<Self> {
        let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == reader.bytes.len() { Ok(value) } else { Err(reader.wrong("the end")) }
    }

    /// A field of an object; null for anything that has none.
    pub(crate) fn get(&self, key: &str) -> &Self {
        match self {
            Self::Object(fields) => fields.get(key).unwrap_or(&Self::Null),
            _ => &Self::Null,
        }
    }

    /// The elements of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Res<Json> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("less depth"));
        }
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => Ok(self.number()),
            _ if self.take("null") => Ok(Json::Null),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            _ => Err(self.wrong("a value")),
        }
    }

    fn object(&mut self, depth: usize) -> Res<Json> {
        let mut fields = BTreeMap::new();
        self.at += 1;
        while !self.sign("}") {
            if !fields.is_empty() && !self.sign(",") {
                return Err(self.wrong("a comma or }"));
            }
            self.space();
            let key = self.string()?;
            if !self.sign(":") {
                return Err(self.wrong("a colon"));
            }
            fields.insert(key, self.value(depth + 1)?);
        }
        Ok(Json::Object(fields))
    }

    fn list(&mut self, depth: usize) -> Res<Json> {
        let mut items = Vec::new();
        self.at += 1;
        while !self.sign("]") {
            if !items.is_empty() && !self.sign(",") {
                return Err(self.wrong("a comma or ]"));
            }
            items.push(self.value(depth + 1)?);
        }
        Ok(Json::List(items))
    }

    fn string(&mut self) -> Res<String> {
        if !self.take("\"") {
            return Err(self.wrong("a string"));
        }
        let mut out = Vec::new();
        loop {
            let Some(byte) = self.bytes.get(self.at).copied() else {
                return Err(self.wrong("the end of a string"));
            };
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut out)?,
                other => out.push(other),
            }
        }
        String::from_utf8(out).map_err(|_| self.wrong("UTF-8"))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Res {
        let Some(byte) = self.bytes.get(self.at).copied() else { return Err(self.wrong("an escape")) };
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let digits =
                    self.bytes.get(self.at..self.at + 4).and_then(|four| std::str::from_utf8(four).ok());
                let code = digits.and_then(|four| u32::from_str_radix(four, 16).ok());
                let Some(code) = code else { return Err(self.wrong("four hexadecimal digits")) };
                self.at += 4;
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend(character.to_string().into_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong("an escape")),
        };
        out.push(plain);
        Ok(())
    }

    fn number(&mut self) -> Json {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        self.at += length;
        Json::Number(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        self.take(sign)
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.bytes[self.at..].starts_with(word.as_bytes());
        if there {
            self.at += word.len();
        }
        there
    }

    fn wrong(&self, wanted: &str) -> String {
        format!("not the JSON that was expected: {wanted} at byte {}", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let json = Json::parse(r#" {"a": [1, -2.5e3, true, null], "b": {"c": "x\"\u00e9\n"}} "#).unwrap();
        assert_eq!(json.get("a").items().len(), 4);
        assert_eq!(json.get("a").items()[1], Json::Number("-2.5e3".into()));
        assert_eq!(json.get("b").get("c").text(), Some("x\"é\n"));
        assert_eq!(json.get("b").get("none"), &Json::Null);
        assert_eq!(Json::parse("[]").unwrap(), Json::List(vec![]));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "[1 2]", "{\"a\" 1}", "[1]x", "\"\\u12\"", "\"a", "{1:2}", &"[".repeat(10_000)]
        {
            assert!(Json::parse(text).is_err(), "{text:.20}");
        }
    }
}
