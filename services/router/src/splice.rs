//! Changes a field of a JSON object and leaves every other byte as it is: what the same dialect says to an upstream is what
//! the program said, but for the name of the model.

/// Where a field's value stands.
type Span = std::ops::Range<usize>;

/// Reads no more than is needed to find where values begin and end. What is not JSON was refused before.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// A text; its bytes between the quotes.
    fn text(&mut self) -> Option<Span> {
        self.take(b'"')?;
        let from = self.at;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(from..self.at - 1)
    }

    /// Any value; where it stands.
    fn value(&mut self) -> Option<Span> {
        self.space();
        let from = self.at;
        let mut depth = 0_usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.text()?;
                }
                b'{' | b'[' => (depth, self.at) = (depth + 1, self.at + 1),
                b'}' | b']' => (depth, self.at) = (depth.checked_sub(1)?, self.at + 1),
                _ if depth > 0 => self.at += 1,
                _ => {
                    while self.bytes.get(self.at).is_some_and(|byte| !b",}] \t\r\n".contains(byte)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return (self.at > from).then_some(from..self.at);
            }
        }
    }
}

/// Every field of an object: its name, where that can be read, and where its value stands.
fn each(bytes: &[u8], mut field: impl FnMut(Option<String>, Span)) -> Option<()> {
    let mut walk = Walk { bytes, at: 0 };
    walk.take(b'{')?;
    if walk.take(b'}').is_some() {
        return Some(());
    }
    loop {
        let key = walk.text()?;
        walk.take(b':')?;
        let value = walk.value()?;
        // A name may be written with escapes; whoever does that has another byte for it.
        let quoted = &bytes[key.start - 1..key.end + 1];
        field(serde_json::from_slice::<String>(quoted).ok(), value);
        if walk.take(b',').is_none() {
            return walk.take(b'}');
        }
    }
}

/// The values of the fields of this name in an object.
fn fields(bytes: &[u8], name: &str) -> Option<Vec<Span>> {
    let mut found = Vec::new();
    each(bytes, |key, value| found.extend((key.as_deref() == Some(name)).then_some(value)))?;
    Some(found)
}

/// The name of a field that some readers take for another one: they do not look at its case (Go's `encoding/json`, for which
/// U+017F is an s and U+212A a k, and of fields that are the same to it the last counts).
pub(crate) fn ambiguous(bytes: &[u8]) -> Option<String> {
    let mut found = None;
    let cased = |letter: char| letter.is_ascii_uppercase() || matches!(letter, '\u{17f}' | '\u{212a}');
    each(bytes, |key, _| {
        if let Some(key) = key.filter(|key| key.contains(cased)) {
            found.get_or_insert(key);
        }
    });
    found
}

/// The object with another value of a field; where it has none, with one more field at its beginning. None where the field
/// stands there twice, or it is no object.
pub(crate) fn with(bytes: &[u8], name: &str, value: &serde_json::Value) -> Option<Vec<u8>> {
    let found = fields(bytes, name)?;
    let value = value.to_string();
    let (span, put) = match found.as_slice() {
        [span] => (span.clone(), value),
        [] => {
            let open = bytes.iter().position(|byte| *byte == b'{')? + 1;
            let empty = bytes[open..].trim_ascii_start().starts_with(b"}");
            (open..open, format!("{}:{value}{}", serde_json::Value::from(name), if empty { "" } else { "," }))
        }
        _ => return None,
    };
    Some([&bytes[..span.start], put.as_bytes(), &bytes[span.end..]].concat())
}

/// The value of a field, where there is one and one only.
pub(crate) fn field<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    match fields(bytes, name)?.as_slice() {
        [span] => Some(&bytes[span.clone()]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn one_field_is_changed_and_every_other_byte_stays() {
        let text = r#" { "x" : [1, {"model":"no"}, "}"], "model":"a\"b" , "y": -1.50e3}"#;
        let changed = with(text.as_bytes(), "model", &json!("up/stream")).unwrap();
        let expected = r#" { "x" : [1, {"model":"no"}, "}"], "model":"up/stream" , "y": -1.50e3}"#;
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
        assert_eq!(with(b"{}", "n", &json!(5)).unwrap(), br#"{"n":5}"#);
        assert_eq!(with(br#"{"a":1}"#, "n", &json!(5)).unwrap(), br#"{"n":5,"a":1}"#);
        assert_eq!(
            with(br#"{"model":"a","\u006dodel":"b"}"#, "model", &json!("c")),
            None,
            "twice, however written"
        );
        assert_eq!(field(br#"{"a":{"b":2}}"#, "a").unwrap(), br#"{"b":2}"#);
        for bad in ["", "[]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1"#, "7"] {
            assert_eq!(with(bad.as_bytes(), "a", &json!(1)), None, "{bad}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_means_the_same_as_changing_it_the_long_way(map in prop::collection::btree_map("[a-e\"\\\\]{1,2}", value(), 0..5), new in value(), pretty in any::<bool>()) {
            let mut long = Value::Object(map.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&long) } else { serde_json::to_string(&long) }.unwrap();
            let short = with(text.as_bytes(), "a", &new).unwrap();
            long["a"] = new;
            prop_assert_eq!(serde_json::from_slice::<Value>(&short).unwrap(), long);
        }

        #[test]
        fn hostile_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = with(&bytes, "a", &json!(1));
        }
    }
}
