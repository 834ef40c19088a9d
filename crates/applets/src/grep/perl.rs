//! Perl's patterns, as far as the crate regex reads them in the same way: most of those that scripts have.

/// The pattern in the crate's form; `None` for one that it reads otherwise, or not at all.
pub(super) fn form(pattern: &[u8], line_end: u8) -> Option<String> {
    let text = std::str::from_utf8(pattern).ok()?;
    let mut reader = Reader { rest: text, out: String::with_capacity(text.len()), line_end, depth: 0 };
    while !reader.rest.is_empty() {
        reader.step()?;
    }
    (reader.depth == 0).then_some(reader.out)
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    line_end: u8,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next()?;
        self.rest = characters.as_str();
        Some(next)
    }

    fn step(&mut self) -> Option<()> {
        match self.take()? {
            '\\' => {
                let set = self.escape()?;
                self.out.push_str(&set);
            }
            '[' => self.bracket()?,
            '(' => self.open()?,
            ')' => {
                self.depth = self.depth.checked_sub(1)?;
                self.out.push(')');
            }
            '*' => self.quantifier("*")?,
            '+' => self.quantifier("+")?,
            '?' => self.quantifier("?")?,
            '{' => self.interval()?,
            '}' | ']' => return None,
            plain @ ('.' | '^' | '$' | '|') => self.out.push(plain),
            literal => self.out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
        Some(())
    }

    /// Only a group that is none of Perl's special ones.
    fn open(&mut self) -> Option<()> {
        let rest = self.rest.strip_prefix("?:");
        if rest.is_none() && self.rest.starts_with(['?', '*']) {
            return None;
        }
        self.rest = rest.unwrap_or(self.rest);
        self.depth += 1;
        self.out.push_str("(?:");
        Some(())
    }

    /// What is repeated lazily is so to the crate, too; possessively it cannot be.
    fn quantifier(&mut self, how: &str) -> Option<()> {
        let nothing = self.out.is_empty() || self.out.ends_with("(?:") || self.out.ends_with(['|', '^']);
        if nothing || self.rest.starts_with(['+', '*', '{']) || self.rest.starts_with("??") {
            return None;
        }
        self.out.push_str(how);
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.out.push('?');
            self.rest = rest;
            if self.rest.starts_with(['+', '*', '?', '{']) {
                return None;
            }
        }
        Some(())
    }

    fn interval(&mut self) -> Option<()> {
        let (inner, rest) = self.rest.split_once('}')?;
        let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 6;
        if least.is_empty() || !number(least) || !number(most) {
            return None;
        }
        self.rest = rest;
        self.quantifier(&format!("{{{inner}}}"))
    }

    /// What stands behind a backslash, and means the same there, or a set without the end of a line.
    fn escape(&mut self) -> Option<String> {
        let end = self.line_end;
        Some(match self.take()? {
            'd' => "[0-9]".into(),
            'D' => format!("[[^0-9]&&[^\\x{end:02x}]]"),
            letter @ ('s' | 'S' | 'W') => format!("[\\{letter}&&[^\\x{end:02x}]]"),
            letter @ ('w' | 'b' | 'B' | 't') => format!("\\{letter}"),
            sign if sign.is_ascii_punctuation() => regex::escape(sign.encode_utf8(&mut [0; 4])),
            _ => return None,
        })
    }

    fn bracket(&mut self) -> Option<()> {
        let mut form = String::from("[");
        if let Some(rest) = self.rest.strip_prefix('^') {
            form.push('^');
            self.rest = rest;
        }
        if self.rest.starts_with(']') {
            return None;
        }
        loop {
            match self.take()? {
                ']' => break,
                '\\' => match self.take()? {
                    'd' => form.push_str("0-9"),
                    letter @ ('w' | 's' | 't') => {
                        form.push('\\');
                        form.push(letter);
                    }
                    sign if sign.is_ascii_punctuation() => {
                        form.push_str(&regex::escape(sign.encode_utf8(&mut [0; 4])));
                    }
                    _ => return None,
                },
                '[' => return None,
                // A range, or itself at the end.
                '-' if self.rest.starts_with(']') || form.ends_with(['[', '^']) => form.push_str("\\-"),
                '-' => form.push('-'),
                sign => form.push_str(&regex::escape(sign.encode_utf8(&mut [0; 4]))),
            }
        }
        self.out.push_str(&format!("[{form}]&&[^\\x{:02x}]]", self.line_end));
        Some(())
    }
}
