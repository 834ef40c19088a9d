//! A JSON object (RFC 8259) whose members are all texts.
//!
//! The general reader of JSON leaves copies of what it reads in buffers that nobody wipes, and shows values in its
//! errors; an object of texts is little enough to read.

use super::entry::{Entries, Entry, Fault, Value, Wrong};
use super::secret::Secret;
use std::borrow::Cow;

/// The members of the object, in its order.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Entry<'_>>, Wrong> {
    if let Err(error) = std::str::from_utf8(text) {
        let before = &text[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        return Err(Wrong { line, fault: Fault::NotUtf8 });
    }
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut entries = Entries::default();
    reader.expect(b'{')?;
    if reader.peek() != Some(b'}') {
        loop {
            let line = reader.line;
            let key = match reader.text_value(Fault::Json)? {
                Value::Plain(key) => Cow::Borrowed(key),
                Value::Decoded(key) => Cow::Owned(key.bytes().to_vec()),
            };
            reader.expect(b':')?;
            let value = reader.text_value(Fault::NotText)?;
            entries.add(Entry { line, key, value, dollar: false })?;
            if reader.peek() != Some(b',') {
                break;
            }
            reader.expect(b',')?;
        }
    }
    reader.expect(b'}')?;
    if reader.peek().is_some() { Err(reader.wrong(Fault::Json)) } else { Ok(entries.all()) }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, fault: Fault) -> Wrong {
        Wrong { line: self.line, fault }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at).copied() {
                Some(b'\n') => self.line += 1,
                Some(b' ' | b'\t' | b'\r') => {}
                byte => return byte,
            }
            self.at += 1;
        }
    }

    fn expect(&mut self, sign: u8) -> Result<(), Wrong> {
        let found = self.peek();
        if found != Some(sign) {
            return Err(self.wrong(Fault::Json));
        }
        self.at += 1;
        self.peek();
        Ok(())
    }

    /// A text in quotes; `otherwise` where there is something else.
    fn text_value(&mut self, otherwise: Fault) -> Result<Value<'a>, Wrong> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong(otherwise));
        }
        self.at += 1;
        let (start, mut escaped) = (self.at, false);
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                // What is escaped is looked at below; a quote there does not end the text.
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0x20..) => self.at += 1,
                Some(_) | None => return Err(self.wrong(Fault::Json)),
            }
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        if escaped {
            decode(raw).ok_or_else(|| self.wrong(Fault::Json)).map(Value::Decoded)
        } else {
            Ok(Value::Plain(raw))
        }
    }
}

/// The text between quotes; none where an escape is not one of JSON's.
fn decode(raw: &[u8]) -> Option<Secret> {
    // An escape is never shorter than what it stands for.
    let mut value = Secret::with_room(raw.len());
    let mut left = raw;
    while let [byte, rest @ ..] = left {
        left = rest;
        if *byte != b'\\' {
            value.push(*byte);
            continue;
        }
        let [kind, rest @ ..] = left else { return None };
        left = rest;
        let plain = match kind {
            b'"' | b'\\' | b'/' => *kind,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (character, rest) = code_point(left)?;
                left = rest;
                value.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        };
        value.push(plain);
    }
    Some(value)
}

/// What follows `\u`: four hexadecimal digits, or two times four where they are a pair of surrogates.
fn code_point(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = unit(text)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let (second, rest) = unit(rest.strip_prefix(b"\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?, rest))
}

fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let value = digits.iter().try_fold(0, |value, byte| Some(value * 16 + digit(byte)?))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_map;
    use proptest::prelude::*;
    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::Value as Any;
    use std::collections::BTreeMap;

    /// The members of an object as another reader gives them, those with the same key too.
    struct Members(Vec<(String, Any)>);

    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct All;
            impl<'de> Visitor<'de> for All {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(All)
        }
    }

    fn read(text: &[u8]) -> Result<BTreeMap<String, String>, Wrong> {
        let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok(parse(text)?.iter().map(|entry| (of(&entry.key), of(entry.value.bytes()))).collect())
    }

    #[test]
    fn an_object_of_texts_is_read_with_its_lines() {
        let text = br#"{ "A": "1", "B\u00e4" :"2\n\"\\\/\u20ac\ud83d\ude00",
            "C":""
        } "#;
        let entries = parse(text).unwrap();
        let values: Vec<&str> =
            entries.iter().map(|e| std::str::from_utf8(e.value.bytes()).unwrap()).collect();
        assert_eq!(values, ["1", "2\n\"\\/\u{20ac}\u{1f600}", ""]);
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(&*entries[1].key, "Bä".as_bytes());
        assert!(parse(b"{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_by_its_line_alone() {
        let rows: [(&[u8], usize, Fault); 15] = [
            (b"{\"A\":\n7777}", 2, Fault::NotText),
            (b"{\"A\":{\"hunter\":\"2\"}}", 1, Fault::NotText),
            (b"{\"A\":[\"hunter2\"]}", 1, Fault::NotText),
            (b"{\"A\":null}", 1, Fault::NotText),
            (b"{\"A\":\"hunter2\"", 1, Fault::Json),
            (b"{\"A\":\"hunter2", 1, Fault::Json),
            (b"{\"A\":\"hunter2\\", 1, Fault::Json),
            (b"{\"A\":\"hunter2\",}", 1, Fault::Json),
            (b"{\"A\":\"hunter2\"} x", 1, Fault::Json),
            (b"{\"A\":\"hunter\\x2\"}", 1, Fault::Json),
            (b"{\"A\":\"hunter\\ud800\"}", 1, Fault::Json),
            (b"{\"A\":\"hunter\n2\"}", 1, Fault::Json),
            (b"{hunter2}", 1, Fault::Json),
            (b"{\n\"A\":\"\xff\"}", 2, Fault::NotUtf8),
            (b"{\"A\":\"1\",\n\"A\":\"hunter2\"}", 2, Fault::Twice { first: 1 }),
        ];
        for (text, line, fault) in rows {
            let wrong = parse(text).unwrap_err();
            assert_eq!(wrong, Wrong { line, fault }, "{}", String::from_utf8_lossy(text));
            assert!(!wrong.to_string().contains("hunter"), "{wrong}");
        }
    }

    /// What is an object of texts, or nearly.
    const OBJECT: &str = concat!(
        r#"\{("[a-c]{1,2}":("(x|\\n|\\u00[0-9a-g]{2}|\\ud8[0-9]{2}\\udc[0-9]{2}|\\|ä)*"|1|null)"#,
        r"[, ]{0,2}){0,3}\}[ x]?"
    );

    proptest! {
        #[test]
        fn what_another_writer_wrote_is_read(object in btree_map(any::<String>(), any::<String>(), 0..20)) {
            prop_assert_eq!(&read(&serde_json::to_vec(&object).unwrap()).unwrap(), &object);
            prop_assert_eq!(&read(&serde_json::to_vec_pretty(&object).unwrap()).unwrap(), &object);
        }

        /// Everything that passes here is an object of texts to another reader too, and the other way round.
        #[test]
        fn another_reader_agrees(text in OBJECT) {
            let other: Option<Members> = serde_json::from_str(&text).ok();
            let other = other.filter(|members| members.0.iter().all(|(_, value)| value.is_string()));
            match read(text.as_bytes()) {
                Ok(found) => {
                    let other: BTreeMap<_, _> = other.unwrap().0.into_iter().collect();
                    prop_assert_eq!(found.len(), other.len());
                    prop_assert!(found.iter().all(|(key, value)| other[key] == *value));
                }
                // What comes after it was not read.
                Err(Wrong { fault: Fault::Twice { .. }, .. }) => {}
                Err(_) => prop_assert!(other.is_none(), "{}", text),
            }
        }
    }
}
