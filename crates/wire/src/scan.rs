//! The one look at every byte before a parser sees it: where the line ends and how deep it nests.

/// The deepest nesting of objects and arrays in a request, the request's own object counted.
pub const DEPTH_MAX: u32 = 32;

/// Finds the end of a line that comes in pieces, and measures its nesting on the way.
///
/// It is no JSON parser: in a line that is not JSON its depth means nothing, and the parser that follows
/// refuses the line anyway. In a line that is JSON it is exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanner {
    depth: u32,
    deepest: u32,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// Looks at the next bytes of the line; the offset of its newline if that is among them.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        for (offset, &byte) in bytes.iter().enumerate() {
            // A newline ends the line even in a string: JSON has no raw newline there.
            if byte == b'\n' {
                return Some(offset);
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    self.deepest = self.deepest.max(self.depth);
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        None
    }

    /// How deep the line nested at its deepest.
    #[must_use]
    pub fn deepest(&self) -> u32 {
        self.deepest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn depth_of(value: &serde_json::Value) -> u32 {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            serde_json::Value::Object(items) => 1 + items.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "[\"\\\\\\[\\]{}\n a-zé]{0,8}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[\"\\\\{}\\[\\]a-z]{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn depth_is_exact_for_json_however_it_is_cut(value in json(), cut in any::<prop::sample::Index>()) {
            let mut line = serde_json::to_vec(&value).unwrap();
            let end = line.len();
            line.extend_from_slice(b"\n[[[");
            let at = cut.index(end + 1);
            let mut scanner = Scanner::default();
            let found = scanner.feed(&line[..at]).or_else(|| scanner.feed(&line[at..]).map(|o| o + at));
            prop_assert_eq!(found, Some(end));
            prop_assert_eq!(scanner.deepest(), depth_of(&value));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let newline = bytes.iter().position(|b| *b == b'\n');
            prop_assert_eq!(Scanner::default().feed(&bytes), newline);
        }
    }
}
