//! Extended regular expressions of POSIX, on the crates regex and regex-automata: translated into their form, and matched
//! leftmost and longest.

use crate::regular::{Longest, character};
use regex::bytes::{Regex, RegexBuilder};
use regex_automata::util::syntax;
use std::ops::Range;

/// What the two engines may take for a pattern, which the program's author chose.
const SIZE_MAX: usize = 16 << 20;

/// More times than that nothing is repeated.
const REPEATED_MAX: u32 = 1000;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Where a shorter alternative could be found first: finds the longest one from a place on.
    longest: Option<Longest>,
}

impl Pattern {
    /// # Errors
    /// Says what is wrong with the pattern.
    pub(super) fn new(text: &[u8], utf8: bool) -> Result<Self, String> {
        let wrong = |cause: &dyn std::fmt::Display| format!("/{}/: {cause}", String::from_utf8_lossy(text));
        let mut translation =
            Translation { text, at: 0, out: String::new(), utf8, groups: Vec::new(), atom: None };
        translation.run().map_err(|cause| wrong(&cause))?;
        let form = translation.out;
        let regex = RegexBuilder::new(&form)
            .unicode(utf8)
            .dot_matches_new_line(true)
            .size_limit(SIZE_MAX)
            .build()
            .map_err(|error| wrong(&short(&error)))?;
        // Without alternatives and groups what is greedy is longest, too.
        let longest =
            if text.iter().any(|byte| matches!(byte, b'|' | b'(')) { longest(&form, utf8) } else { None };
        Ok(Self { regex, longest })
    }

    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The leftmost match from `from` on, as long as it can be.
    pub(super) fn find_at(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        let mut found = self.regex.find_at(text, from)?.range();
        if let Some(end) = self.longest.as_ref().and_then(|longest| longest.end(text, found.start)) {
            found.end = found.end.max(end);
        }
        Some(found)
    }
}

fn longest(form: &str, utf8: bool) -> Option<Longest> {
    let syntax = syntax::Config::new().unicode(utf8).utf8(false).dot_matches_new_line(true);
    Longest::new(form, syntax, b'\n', SIZE_MAX)
}

/// The last line of the crate's message, which is what is wrong; the others show the translated form.
fn short(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

struct Translation<'a> {
    text: &'a [u8],
    at: usize,
    out: String,
    utf8: bool,
    /// Where the groups that are open begin in `out`.
    groups: Vec<usize>,
    /// Where in `out` what may be repeated begins, and whether it is repeated already.
    atom: Option<(usize, bool)>,
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.bracket()?,
                b'(' => {
                    self.groups.push(self.out.len());
                    self.out.push_str("(?:");
                    self.atom = None;
                }
                b')' => {
                    let start = self.groups.pop().ok_or("a ) without its (")?;
                    self.out.push(')');
                    self.atom = Some((start, false));
                }
                b'|' => {
                    self.out.push('|');
                    self.atom = None;
                }
                b'^' | b'$' => {
                    self.out.push(char::from(byte));
                    self.atom = None;
                }
                b'*' | b'+' | b'?' if self.atom.is_some() => self.repeat(&char::from(byte).to_string()),
                b'{' => self.interval()?,
                b'.' => self.put("."),
                _ => {
                    self.at -= 1;
                    self.literal();
                }
            }
        }
        if self.groups.is_empty() { Ok(()) } else { Err("a ( without its )".into()) }
    }

    fn put(&mut self, form: &str) {
        self.atom = Some((self.out.len(), false));
        self.out.push_str(form);
    }

    /// The character here, whatever it is.
    fn literal(&mut self) {
        let width = super::format::width_of(&self.text[self.at..], self.utf8);
        let bytes = &self.text[self.at..self.at + width];
        self.at += width;
        let form = character(bytes, self.utf8);
        self.put(&form);
    }

    /// Repeats what was last put. A second repetition is one of the first: to the crate's form it would mean lazily.
    fn repeat(&mut self, how: &str) {
        let Some((start, repeated)) = self.atom else { return };
        if repeated {
            self.out.insert_str(start, "(?:");
            self.out.push(')');
        }
        self.out.push_str(how);
        self.atom = Some((start, true));
    }

    /// `{N}`, `{N,}` or `{N,M}` after something; any other brace is one.
    fn interval(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at..];
        let inner = rest.iter().position(|byte| *byte == b'}').map(|end| &rest[..end]);
        let bounds = inner.and_then(|inner| std::str::from_utf8(inner).ok()).and_then(|inner| {
            let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
            let least: u32 = least.parse().ok()?;
            let most: u32 = if most.is_empty() { least } else { most.parse().ok()? };
            Some((inner, least, most))
        });
        match bounds {
            Some((inner, least, most)) if self.atom.is_some() => {
                if least > most || most > REPEATED_MAX {
                    return Err(format!(
                        "{{{inner}}}: at most {REPEATED_MAX} times, and no fewer than at least"
                    ));
                }
                self.at += inner.len() + 1;
                self.repeat(&format!("{{{inner}}}"));
            }
            _ => self.put("\\{"),
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let byte = *self.text.get(self.at).ok_or("a \\ at its end")?;
        match byte {
            b'y' => self.assertion(r"(?-u:\b)"),
            b'B' => self.assertion(r"(?-u:\B)"),
            b'<' => self.assertion(r"(?-u:\b{start})"),
            b'>' => self.assertion(r"(?-u:\b{end})"),
            b'`' => self.assertion(r"\A"),
            b'\'' => self.assertion(r"\z"),
            b'w' | b'W' | b's' | b'S' => {
                self.at += 1;
                self.put(&format!("\\{}", char::from(byte)));
            }
            _ => match escaped(&self.text[self.at..]) {
                Some((value, length)) => {
                    self.at += length;
                    let form = character(&[value], self.utf8);
                    self.put(&form);
                }
                None => self.literal(),
            },
        }
        Ok(())
    }

    fn assertion(&mut self, form: &str) {
        self.at += 1;
        self.out.push_str(form);
        self.atom = None;
    }

    fn bracket(&mut self) -> Result<(), String> {
        const OPEN: &str = "a [ without its ]";
        let mut form = String::from("[");
        if self.text.get(self.at) == Some(&b'^') {
            form.push('^');
            self.at += 1;
        }
        let first = self.at;
        loop {
            let byte = *self.text.get(self.at).ok_or(OPEN)?;
            match byte {
                b']' if self.at > first => break,
                b'[' if self.text.get(self.at + 1) == Some(&b':') => form.push_str(&self.class()?),
                _ => {
                    let low = self.member()?;
                    let range = self.text.get(self.at) == Some(&b'-')
                        && self.text.get(self.at + 1).is_some_and(|next| *next != b']');
                    form.push_str(&character(&low, self.utf8));
                    if range {
                        self.at += 1;
                        let high = self.member()?;
                        form.push('-');
                        form.push_str(&character(&high, self.utf8));
                    }
                }
            }
        }
        self.at += 1;
        form.push(']');
        self.put(&form);
        Ok(())
    }

    /// `[:alpha:]` and its like.
    fn class(&mut self) -> Result<String, String> {
        let rest = &self.text[self.at + 2..];
        let end = rest.windows(2).position(|two| two == b":]").ok_or("a [: without its :]")?;
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 4;
        crate::regular::class(&name, self.utf8).ok_or_else(|| format!("[:{name}:] is no class of characters"))
    }

    /// One character of a bracket: itself, an escape, `[.x.]` or `[=x=]`.
    fn member(&mut self) -> Result<Vec<u8>, String> {
        let rest = &self.text[self.at..];
        if let [b'[', kind @ (b'.' | b'='), inner @ ..] = rest {
            let end =
                inner.windows(2).position(|two| two == [*kind, b']']).ok_or("a [. or [= without its end")?;
            let bytes = inner[..end].to_vec();
            self.at += end + 4;
            return match super::format::length(&bytes, self.utf8) {
                1 => Ok(bytes),
                _ => Err(format!("{}: no character", String::from_utf8_lossy(&bytes))),
            };
        }
        if rest.first() == Some(&b'\\') && rest.len() > 1 {
            if let Some((value, length)) = escaped(&rest[1..]) {
                self.at += 1 + length;
                return Ok(vec![value]);
            }
            self.at += 1;
        }
        let width = super::format::width_of(self.text.get(self.at..).unwrap_or_default(), self.utf8);
        let bytes = self.text.get(self.at..self.at + width).ok_or("a [ without its ]")?.to_vec();
        self.at += width;
        Ok(bytes)
    }
}

/// What stands after a backslash and means another byte: its value, and how many bytes say so.
pub(super) fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let value = match text.first()? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'v' => 0x0b,
        b'0'..=b'7' => {
            let digits = text.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7'));
            let (value, length) = digits
                .fold((0_u32, 0), |(value, length), digit| (value * 8 + u32::from(digit - b'0'), length + 1));
            return Some((value.to_le_bytes()[0], length));
        }
        b'x' => {
            let digits = text[1..].iter().take(2).map_while(|byte| char::from(*byte).to_digit(16));
            let (value, length) =
                digits.fold((0_u32, 1), |(value, length), digit| (value * 16 + digit, length + 1));
            return (length > 1).then_some((value.to_le_bytes()[0], length));
        }
        _ => return None,
    };
    Some((value, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Option<Range<usize>> {
        Pattern::new(pattern.as_bytes(), true).unwrap().find_at(text.as_bytes(), 0)
    }

    #[test]
    fn the_longest_of_the_leftmost_is_found() {
        assert_eq!(found("ab|abcd", "xabcd"), Some(1..5));
        assert_eq!(found("a?(ab)?", "ab"), Some(0..2));
        assert_eq!(found("(a|ab)(c|bcd)", "abcd"), Some(0..4));
        assert_eq!(found("x*", "aaa"), Some(0..0));
        assert_eq!(found("^b", "ab"), None);
        assert_eq!(found("(b|^c)$", "ab"), Some(1..2));
    }

    #[test]
    fn the_forms_of_posix_mean_what_they_mean_there() {
        for (pattern, text, expected) in [
            ("[]a]+", "x]a", Some(1..3)),
            ("[^]a]", "]ab", Some(2..3)),
            ("[a-]+", "b-a", Some(1..3)),
            ("[[:digit:][:upper:]]+", "ab1Zc", Some(2..4)),
            ("[\\]x]", "a]", Some(1..2)),
            ("[a\\/b]+", "x/a", Some(1..3)),
            ("a{2,3}", "caaaa", Some(1..4)),
            ("a{,3}", "a{,3}", Some(0..5)),
            ("{x}", "a{x}", Some(1..4)),
            ("a**", "aaa", Some(0..3)),
            ("a+?", "aaa", Some(0..3)),
            ("*a", "b*a", Some(1..3)),
            ("(*a)", "b*a", Some(1..3)),
            ("a.c", "a\nc", Some(0..3)),
            ("\\.\\$\\/", "x.$/", Some(1..4)),
            ("\\101\\x42", "AB", Some(0..2)),
            ("\\<b\\>", "ab b", Some(3..4)),
            ("[&~-]+", "a&&~~--", Some(1..7)),
            ("é.", "aéb", Some(1..4)),
            ("()b", "ab", Some(1..2)),
        ] {
            assert_eq!(found(pattern, text), expected, "{pattern} in {text}");
        }
    }

    #[test]
    fn bytes_are_characters_in_the_c_locale() {
        let pattern = Pattern::new(b"^.\xa9$", false).unwrap();
        assert!(pattern.is_match("é".as_bytes()) && !pattern.is_match(b"\xa9"));
        assert!(Pattern::new(b"[\xc3]", false).unwrap().is_match(b"a\xc3"));
        assert!(Pattern::new(b"\xff", true).unwrap().is_match(b"a\xff"));
    }

    #[test]
    fn a_wrong_pattern_is_refused() {
        for wrong in ["[a", "(a", "a)", "a\\", "[[:nonsense:]]", "a{3,2}", "a{5000}", "[z-a]"] {
            assert!(Pattern::new(wrong.as_bytes(), true).is_err(), "{wrong}");
        }
    }
}
