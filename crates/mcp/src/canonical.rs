//! Arguments of a tool, in the one form in which they are shown, approved, recorded and sent on.
//!
//! A line of JSON can be laid out in ways that readers disagree about. White space between its parts may be a carriage
//! return, at which some readers of lines end one: what follows would be another message to them. So may a text have
//! characters that end lines in Unicode. And an object may have two members of one name, of which some readers take the
//! first and others the last.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// What ends a line in Unicode, and may stand in a text of JSON as it is (RFC 8259).
const LINE_ENDS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// The same value without white space outside of its texts, and with nothing in them that ends a line.
///
/// # Errors
/// It is no JSON, or an object in it has two members of one name.
pub(crate) fn compact(json: &str) -> Result<String, serde_json::Error> {
    let Unique = serde_json::from_str(json)?;
    let (mut text, mut escaped) = (false, false);
    let mut kept = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            _ if !text && c.is_ascii_whitespace() => continue,
            _ if LINE_ENDS.contains(&c) => kept.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => kept.push(c),
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = text,
            '"' => text = !text,
            _ => {}
        }
    }
    Ok(kept)
}

/// A value in which no object has two members of one name.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while let Some(Unique) = items.next_element()? {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, Unique)) = members.next_entry::<String, Unique>()? {
            if let Some(name) = names.replace(name) {
                let name: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("two members are named {name:?}")));
            }
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_ends_a_line() {
        let smuggled = "{\"a\":\r{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\"}\r\n ,\t\"b\" : [1 , -2.5e3, true,null] }";
        let plain = r#"{"a":{"jsonrpc":"2.0","method":"tools/call"},"b":[1,-2.5e3,true,null]}"#;
        assert_eq!(compact(smuggled).unwrap(), plain);
        let texts = r#"{"a b":" \" \\","c\r":" {\"x\" : 1} "}"#;
        assert_eq!(compact(texts).unwrap(), texts, "what is in texts stays");
        assert!(compact("{\"a\":\"\r\"}").is_err(), "and no text has one but by its escape");
        assert_eq!(compact("[\"a\u{2028}{}\u{2029}\u{85}\"]").unwrap(), r#"["a\u2028{}\u2029\u0085"]"#);
    }

    #[test]
    fn no_name_is_there_twice() {
        for twice in [
            r#"{"path":"/etc/shadow","path":"/tmp/ok"}"#,
            r#"{"a":[{"b":1,"c":2,"b":3}]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            let error = compact(twice).unwrap_err().to_string();
            assert!(error.contains("two members are named"), "{error}");
        }
        assert!(compact(r#"{"a":{"a":1},"b":{"a":2}}"#).is_ok());
    }
}
