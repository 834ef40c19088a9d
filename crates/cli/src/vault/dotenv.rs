//! .env files: `KEY=VALUE` lines as shells read them, without anything that a shell would do.
//!
//! `export ` before the key; comments on lines of their own, and after a blank; single quotes, within which everything
//! is as it stands; double quotes with `\n \r \t \" \\ \$`; both over several lines. Nothing is substituted.

use super::entry::{Entries, Entry, Fault, Value, Wrong};
use super::secret::Secret;
use std::borrow::Cow;

/// The entries of a file, in its order.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Entry<'_>>, Wrong> {
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut entries = Entries::default();
    while let Some(byte) = reader.peek() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => reader.step(),
            b'#' => reader.skip_line(),
            _ => entries.add(reader.entry()?)?,
        }
    }
    Ok(entries.all())
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// One byte on.
    fn step(&mut self) {
        self.line += usize::from(self.peek() == Some(b'\n'));
        self.at += 1;
    }

    fn wrong(&self, fault: Fault) -> Wrong {
        Wrong { line: self.line, fault }
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    /// Whether there was at least one.
    fn skip_blanks(&mut self) -> bool {
        let before = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        self.at > before
    }

    /// The rest of this line, its end not included.
    fn rest_of_line(&mut self) -> &'a [u8] {
        let start = self.at;
        self.skip_line();
        &self.text[start..self.at]
    }

    fn entry(&mut self) -> Result<Entry<'a>, Wrong> {
        let line = self.line;
        let key = self.key()?;
        let blank = self.skip_blanks();
        let (value, dollar) = match self.peek() {
            Some(b'\'') => self.single()?,
            Some(b'"') => self.double()?,
            _ => self.bare(blank),
        };
        Ok(Entry { line, key: Cow::Borrowed(key), value, dollar })
    }

    fn key(&mut self) -> Result<&'a [u8], Wrong> {
        let rest = &self.text[self.at..];
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let end = line.iter().position(|byte| *byte == b'=').ok_or_else(|| self.wrong(Fault::NoEquals))?;
        self.at += end + 1;
        let key = line[..end].trim_ascii();
        let key = match key.strip_prefix(b"export") {
            Some(rest) if rest.first().is_some_and(u8::is_ascii_whitespace) => rest.trim_ascii_start(),
            _ => key,
        };
        if key.is_empty() { Err(self.wrong(Fault::NoKey)) } else { Ok(key) }
    }

    /// A value without quotes: to the end of the line, or to a comment. `blank`: whether there was one before it.
    fn bare(&mut self, mut blank: bool) -> (Value<'a>, bool) {
        let mut value = self.rest_of_line();
        for (i, byte) in value.iter().enumerate() {
            if *byte == b'#' && blank {
                value = &value[..i];
                break;
            }
            blank = matches!(byte, b' ' | b'\t');
        }
        let value = value.trim_ascii_end();
        (Value::Plain(value), value.contains(&b'$'))
    }

    fn single(&mut self) -> Result<(Value<'a>, bool), Wrong> {
        let opened = self.wrong(Fault::Unclosed);
        self.step();
        let start = self.at;
        while self.peek().ok_or(opened)? != b'\'' {
            self.step();
        }
        let value = &self.text[start..self.at];
        self.after_quote()?;
        Ok((Value::Plain(value), false))
    }

    fn double(&mut self) -> Result<(Value<'a>, bool), Wrong> {
        let opened = self.wrong(Fault::Unclosed);
        self.step();
        let (start, mut dollar, mut escaped) = (self.at, false, false);
        loop {
            match self.peek().ok_or(opened)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.step();
                    if unescape(self.peek().ok_or(opened)?).is_none() {
                        return Err(self.wrong(Fault::Escape));
                    }
                }
                byte => dollar |= byte == b'$',
            }
            self.step();
        }
        let raw = &self.text[start..self.at];
        self.after_quote()?;
        Ok((if escaped { Value::Decoded(decode(raw)) } else { Value::Plain(raw) }, dollar))
    }

    /// Over the closing quote to the end of the line, where nothing but a comment may stand.
    fn after_quote(&mut self) -> Result<(), Wrong> {
        self.step();
        let blank = self.skip_blanks();
        let wrong = self.wrong(Fault::AfterQuote);
        match self.rest_of_line() {
            b"" | b"\r" => Ok(()),
            [b'#', ..] if blank => Ok(()),
            _ => Err(wrong),
        }
    }
}

/// What a backslash and this byte stand for in double quotes.
fn unescape(byte: u8) -> Option<u8> {
    match byte {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'"' | b'\\' | b'$' => Some(byte),
        _ => None,
    }
}

/// The inside of double quotes, every escape in which is known.
fn decode(raw: &[u8]) -> Secret {
    let mut value = Secret::with_room(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'\\' { bytes.next().and_then(unescape) } else { Some(byte) };
        // It becomes no longer than it was: there is room.
        value.extend(byte.as_slice());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::entry::{COUNT_MAX, LINE_MAX, parse};
    use super::*;
    use proptest::prelude::*;
    use proptest::sample;

    /// Key, value, line, dollar.
    fn read(text: &str) -> Vec<(String, String, usize, bool)> {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let entries = parse(text.as_bytes()).unwrap();
        let row = |e: Entry<'_>| (text_of(&e.key), text_of(e.value.bytes()), e.line, e.dollar);
        entries.into_iter().map(row).collect()
    }

    #[test]
    fn lines_are_read_as_shells_read_them() {
        let rows: [(&str, &str); 22] = [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("export A=b", "b"),
            ("export\tA=b", "b"),
            ("A=b # not c", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", "#c"),
            ("A= #c", ""),
            ("A=", ""),
            ("A=''", ""),
            ("A=b=c==", "b=c=="),
            ("A=it's", "it's"),
            (r"A=C:\new", r"C:\new"),
            ("A='b \"c\" \\n $d # e'", "b \"c\" \\n $d # e"),
            ("A=\"b 'c' # d\"", "b 'c' # d"),
            (r#"A="1\n2\r3\t4\"5\\6\$7""#, "1\n2\r3\t4\"5\\6$7"),
            ("A=\"b\nc\"", "b\nc"),
            ("A='b\nc\n'", "b\nc\n"),
            ("A=\"b\" # c", "b"),
            ("A='b'\r\n", "b"),
            ("A=b\r\n", "b"),
            ("\u{feff}A=b", "b"),
        ];
        for (text, expected) in rows {
            let found = read(text);
            assert_eq!((found.len(), found[0].1.as_str()), (1, expected), "{text:?}");
            assert_eq!(found[0].0, "A", "{text:?}");
        }
        let several = "# first\n\n  A=1\nexport B='2\n3'\n\t# c\nC=4\nexport=5";
        let found: Vec<_> = read(several).into_iter().map(|row| (row.0, row.1, row.2)).collect();
        let expected = [("A", "1", 3), ("B", "2\n3", 4), ("C", "4", 7), ("export", "5", 8)];
        assert_eq!(found, expected.map(|(key, value, line)| (key.to_owned(), value.to_owned(), line)));
    }

    #[test]
    fn a_dollar_is_taken_as_it_is_and_seen() {
        for (text, value, dollar) in [
            ("A=$B", "$B", true),
            ("A=\"${B}\"", "${B}", true),
            ("A='$B'", "$B", false),
            ("A=\"\\$B\"", "$B", false),
            ("A=b # $c", "b", false),
        ] {
            let found = read(text);
            assert_eq!((found[0].1.as_str(), found[0].3), (value, dollar), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_its_line_alone() {
        let long = format!("A={}", "x".repeat(LINE_MAX));
        let many = (0..=COUNT_MAX).map(|n| format!("A{n}=b\n")).collect::<String>();
        let rows: [(&str, usize, Fault); 14] = [
            ("A=1\nhunter2", 2, Fault::NoEquals),
            ("export hunter2", 1, Fault::NoEquals),
            ("=hunter2", 1, Fault::NoKey),
            (" \t=hunter2", 1, Fault::NoKey),
            ("A=1\nB=\"hunter2\n\n", 2, Fault::Unclosed),
            ("A='hunter2", 1, Fault::Unclosed),
            ("A=\"hunter2\\", 1, Fault::Unclosed),
            ("A=\"hunter2\\x\"", 1, Fault::Escape),
            ("A=\"1\n\\hunter2\"", 2, Fault::Escape),
            ("A=\"1\"hunter2", 1, Fault::AfterQuote),
            ("A='1'#hunter2", 1, Fault::AfterQuote),
            ("A=1\nB=2\nA=hunter2", 3, Fault::Twice { first: 1 }),
            (&long, 1, Fault::LineTooLong),
            (&many, COUNT_MAX + 1, Fault::TooMany),
        ];
        for (text, line, fault) in rows {
            let wrong = parse(text.as_bytes()).unwrap_err();
            assert_eq!((wrong.line, wrong.fault), (line, fault), "{:?}", text.get(..40));
            assert!(!wrong.to_string().contains("hunter"), "{wrong}");
        }
    }

    /// A private key that somebody pasted without quotes is not taken for entries.
    #[test]
    fn a_pasted_key_stores_nothing() {
        let text =
            "A=-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHVt\nAbCd==\n-----END PRIVATE KEY-----\n";
        assert_eq!(parse(text.as_bytes()).unwrap_err(), Wrong { line: 2, fault: Fault::NoEquals });
    }

    /// One entry as a file writes it, and its value.
    fn written() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let quoted = proptest::collection::vec(any::<u8>(), 0..40).prop_map(|value| {
            let mut text = vec![b'"'];
            for byte in &value {
                match byte {
                    b'\n' => text.extend(b"\\n"),
                    b'"' | b'\\' | b'$' => text.extend([b'\\', *byte]),
                    byte => text.push(*byte),
                }
            }
            text.push(b'"');
            (text, value)
        });
        let single = proptest::collection::vec(any::<u8>().prop_filter("quote", |b| *b != b'\''), 0..40)
            .prop_map(|value| ([b"'", value.as_slice(), b"'"].concat(), value));
        let bare =
            "[a-zA-Z0-9_./:@=#$-]{0,40}".prop_map(|text| (text.clone().into_bytes(), text.into_bytes()));
        prop_oneof![quoted, single, bare]
    }

    /// What the reader looks for.
    const SIGNS: &[u8] = b"A='\"\\\n#$ \t\r";

    proptest! {
        #[test]
        fn what_was_written_is_read(
            entries in proptest::collection::vec((written(), any::<bool>(), "( # c|\t)?", "(#x\n|\n)?"), 0..20)
        ) {
            let (mut text, mut expected) = (Vec::new(), Vec::new());
            for (i, ((value, plain), export, after, before)) in entries.into_iter().enumerate() {
                let key = format!("{}K{i}=", if export { "export " } else { "" });
                text.extend([before.as_bytes(), key.as_bytes(), &value, after.as_bytes(), b"\n"].concat());
                expected.push((format!("K{i}").into_bytes(), plain));
            }
            let found = parse(&text).unwrap();
            let found: Vec<_> = found.iter().map(|e| (e.key.to_vec(), e.value.bytes().to_vec())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn nothing_panics_and_every_line_is_one_of_the_file(
            text in proptest::collection::vec(prop_oneof![any::<u8>(), sample::select(SIGNS)], 0..200)
        ) {
            let lines = text.split(|byte| *byte == b'\n').count();
            match super::parse(&text) {
                Ok(entries) => prop_assert!(entries.iter().all(|entry| (1..=lines).contains(&entry.line))),
                Err(wrong) => prop_assert!((1..=lines).contains(&wrong.line)),
            }
        }
    }
}
