//! As much of Rust's lexical structure as the rules need: words, comments and brackets, each with its line.
//! Reference: The Rust Reference, "Lexical structure".

/// One token. Literals are left out: no rule looks into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or keyword.
    Word(&'a str),
    /// A comment with its signs.
    Comment(&'a str),
    /// Any other single byte that is not white space.
    Sign(u8),
}

/// A function with its length from the line of `fn` to that of the closing brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

/// The tokens of one file, each with its line, counted from 1.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) tokens: Vec<(usize, Token<'a>)>,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, line: 1, tokens: Vec::new() };
        while reader.at < reader.bytes.len() {
            reader.token();
        }
        Self { tokens: reader.tokens, lines: text.lines().collect() }
    }

    /// Whether a line is an attribute: `#[unsafe(...)]` marks a promise, not a block of code.
    pub(super) fn is_attribute(&self, line: usize) -> bool {
        self.lines.get(line - 1).is_some_and(|text| text.trim_start().starts_with("#[unsafe("))
    }

    /// Every function with a body, nested ones too, in the order of their ends.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        // Functions whose body is open, with the depth of braces outside of it.
        let mut open: Vec<(usize, Function)> = Vec::new();
        // A function whose head is being read, with the depth of round and square brackets in it.
        let mut head: Option<(Function, usize)> = None;
        let mut depth = 0;
        let mut after_fn = None;
        for (line, token) in &self.tokens {
            match token {
                Token::Word("fn") => after_fn = Some(*line),
                Token::Word(name) => {
                    if let Some(line) = after_fn.take() {
                        head = Some((Function { name: (*name).to_owned(), line, lines: 0 }, 0));
                    }
                }
                Token::Sign(sign) => {
                    after_fn = None;
                    if let Some((function, inside)) = head.take() {
                        match sign {
                            b'(' | b'[' => head = Some((function, inside + 1)),
                            b')' | b']' => head = Some((function, inside.saturating_sub(1))),
                            // A declaration without a body ends here.
                            b';' if inside == 0 => {}
                            b'{' if inside == 0 => open.push((depth, function)),
                            _ => head = Some((function, inside)),
                        }
                    }
                    match sign {
                        b'{' => depth += 1,
                        b'}' => {
                            depth = usize::saturating_sub(depth, 1);
                            if let Some((_, mut function)) = open.pop_if(|(outside, _)| *outside == depth) {
                                function.lines = line - function.line + 1;
                                found.push(function);
                            }
                        }
                        _ => {}
                    }
                }
                Token::Comment(_) => {}
            }
        }
        found
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: usize,
    tokens: Vec<(usize, Token<'a>)>,
}

impl<'a> Reader<'a> {
    fn token(&mut self) {
        let rest = &self.bytes[self.at..];
        match rest {
            [b'/', b'/', ..] => self.comment(line_comment(rest)),
            [b'/', b'*', ..] => self.comment(block_comment(rest)),
            [b'"', ..] => self.skip(string(rest, 1)),
            [b'\'', ..] => self.skip(quote(rest)),
            [first, ..] if is_word(*first) => self.word(),
            [first, ..] => {
                if !first.is_ascii_whitespace() {
                    self.tokens.push((self.line, Token::Sign(*first)));
                }
                self.skip(1);
            }
            [] => {}
        }
    }

    /// A word, or a literal that begins with one: `r"`, `r#"`, `b'`, `br#"`, `c"`.
    fn word(&mut self) {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take_while(|byte| is_word(**byte)).count();
        let hashes = rest[length..].iter().take_while(|byte| **byte == b'#').count();
        let word = &rest[..length];
        let quote_at = rest.get(length + hashes).copied();
        match (word, quote_at) {
            (b"r" | b"br" | b"cr", Some(b'"')) => self.skip(raw_string(rest, length + hashes + 1, hashes)),
            (b"b" | b"c", Some(b'"')) if hashes == 0 => self.skip(string(rest, length + 1)),
            (b"b", Some(b'\'')) if hashes == 0 => self.skip(length + quote(&rest[length..])),
            _ => {
                let word = self.text.get(self.at..self.at + length).unwrap_or_default();
                self.tokens.push((self.line, Token::Word(word)));
                self.skip(length);
            }
        }
    }

    fn comment(&mut self, length: usize) {
        let text = self.text.get(self.at..self.at + length).unwrap_or_default();
        self.tokens.push((self.line, Token::Comment(text)));
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let end = (self.at + length).min(self.bytes.len());
        self.line += self.bytes[self.at..end].iter().filter(|byte| **byte == b'\n').count();
        self.at = end;
    }
}

/// Letters, digits, `_` and every byte of a character outside ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string with escapes whose content begins at `from`.
fn string(rest: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8], from: usize, hashes: usize) -> usize {
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let found =
        rest.get(from..).and_then(|content| content.windows(end.len()).position(|window| window == end));
    found.map_or(rest.len(), |at| from + at + end.len())
}

/// The length of a character literal, or 1 for the quote that begins a lifetime.
fn quote(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => 3 + rest.iter().skip(3).position(|byte| *byte == b'\'').map_or(0, |at| at + 1),
        _ => {
            // One character, which may have up to four bytes, and the closing quote.
            let text = std::str::from_utf8(&rest[1..rest.len().min(5)]);
            let valid = text.map_or_else(|error| error.valid_up_to(), str::len);
            let first = std::str::from_utf8(&rest[1..=valid]).ok().and_then(|text| text.chars().next());
            let length = first.map_or(0, char::len_utf8);
            if length > 0 && rest.get(1 + length) == Some(&b'\'') { 2 + length } else { 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Vec<(String, usize)> {
        Source::read(text).functions().into_iter().map(|function| (function.name, function.lines)).collect()
    }

    fn words(text: &str) -> Vec<&str> {
        let tokens = Source::read(text).tokens;
        tokens
            .into_iter()
            .filter_map(|(_, token)| if let Token::Word(word) = token { Some(word) } else { None })
            .collect()
    }

    #[test]
    fn functions_are_measured_from_fn_to_the_closing_brace() {
        let text = "fn a() {\n    b();\n}\n\nimpl X {\n    pub fn c(&self) -> [u8; { 2 }]\n    where\n        Self: Y,\n    {\n        if x { y() }\n    }\n}\n";
        assert_eq!(lengths(text), [("a".into(), 3), ("c".into(), 6)]);
    }

    #[test]
    fn nested_functions_and_closures_are_not_mixed_up() {
        let text = "fn outer() {\n    let f = || {\n        1\n    };\n    fn inner() {\n    }\n}\n";
        assert_eq!(lengths(text), [("inner".into(), 2), ("outer".into(), 7)]);
    }

    #[test]
    fn what_has_no_body_or_no_name_is_no_function() {
        assert_eq!(
            lengths("trait T { fn a(&self); fn b() -> u8 { 1 } }\nstruct S { f: fn(u8) -> u8 }\n"),
            [("b".into(), 1)]
        );
        assert_eq!(lengths("macro_rules! m { ($name:ident) => { fn $name() {} } }\n"), []);
    }

    #[test]
    fn braces_in_texts_characters_and_comments_do_not_count() {
        let text = "fn a() {\n    let x = \"}\\\"}\";\n    let y = '}';\n    let z = '\\'';\n    let w = r#\"}\"}\"#;\n    // }\n    /* } /* } */ } */\n    let v = b'}';\n    let u = b\"}\";\n}\n";
        assert_eq!(lengths(text), [("a".into(), 10)]);
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(
            words("fn a<'x>(b: &'x str, c: 'static) { 'é'; '\\u{1F600}'; '\\\\'; 'loop: }"),
            ["fn", "a", "x", "b", "x", "str", "c", "static", "loop"]
        );
    }

    #[test]
    fn raw_names_and_prefixes_that_are_names_are_words() {
        assert_eq!(words("r#fn b br c \"x\" bytes r \"y\""), ["r", "fn", "b", "br", "c", "bytes", "r"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let text = "\"a\nb\"\n/* c\nd */\nr\"e\nf\"\nlast\n";
        assert_eq!(Source::read(text).tokens.last(), Some(&(7, Token::Word("last"))));
    }

    #[test]
    fn no_input_makes_it_stop_or_fail() {
        for text in ["\"", "'", "'\\", "/*", "r#\"", "b'", "fn", "fn a(", "}}}", "'\u{e9}", "\u{1f600}"] {
            let source = Source::read(text);
            assert!(source.functions().is_empty(), "{text}");
        }
    }
}
