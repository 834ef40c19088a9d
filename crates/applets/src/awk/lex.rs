//! A program's text as a sequence of words.

use super::pattern::escaped;
use super::value::leading_number;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Newline,
    /// One of [`MARKS`].
    Mark(&'static str),
    /// One of [`KEYWORDS`].
    Keyword(&'static str),
    /// The name of a function that every awk has: one of [`BUILTINS`].
    Builtin(&'static str),
    Name(String),
    /// A name with a parenthesis right behind it, which is a call.
    Called(String),
    Number(f64),
    Text(Vec<u8>),
    Pattern(Vec<u8>),
    End,
}

/// Longer ones before those that they begin with.
const MARKS: [&str; 41] = [
    "**=", "&&", "||", "**", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "==", "<=", ">=", "!=", "!~",
    ">>", "{", "}", "(", ")", "[", "]", ";", ",", "+", "-", "*", "/", "%", "^", "!", ">", "<", "|", "?", ":",
    "~", "$", "=",
];

const KEYWORDS: [&str; 20] = [
    "BEGIN", "END", "function", "func", "if", "else", "while", "for", "do", "break", "continue", "next",
    "nextfile", "exit", "return", "delete", "in", "getline", "print", "printf",
];

pub(super) const BUILTINS: [&str; 23] = [
    "atan2", "close", "cos", "exp", "fflush", "gsub", "index", "int", "length", "log", "match", "rand",
    "sin", "split", "sprintf", "sqrt", "srand", "sub", "substr", "system", "systime", "tolower", "toupper",
];

/// A word and the line on which it stands.
pub(super) type Placed = (Token, usize);

/// # Errors
/// Says what is no word, and on which line.
pub(super) fn words(text: &[u8]) -> Result<Vec<Placed>, String> {
    let mut lexer = Lexer { text, at: 0, line: 1 };
    let mut words: Vec<Placed> = Vec::new();
    loop {
        lexer.skip_blanks();
        let line = lexer.line;
        let after = words.last().map(|(token, _)| token);
        let token = lexer.word(after).map_err(|cause| format!("line {line} of the program: {cause}"))?;
        let end = token == Token::End;
        words.push((token, line));
        if end {
            return Ok(words);
        }
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\\' if self.peek(1) == b'\n' => {
                    self.at += 2;
                    self.line += 1;
                }
                b'\\' if self.peek(1) == b'\r' && self.peek(2) == b'\n' => {
                    self.at += 3;
                    self.line += 1;
                }
                b'#' => {
                    while self.at < self.text.len() && self.peek(0) != b'\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn word(&mut self, after: Option<&Token>) -> Result<Token, String> {
        let rest = &self.text[self.at..];
        let Some(&first) = rest.first() else { return Ok(Token::End) };
        match first {
            b'\n' => {
                self.at += 1;
                self.line += 1;
                Ok(Token::Newline)
            }
            b'"' => self.string(),
            b'/' if !ends_a_value(after) => self.pattern(),
            b'0'..=b'9' => Ok(self.number()),
            b'.' if self.peek(1).is_ascii_digit() => Ok(self.number()),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => Ok(self.name()),
            _ => {
                let mark = MARKS.iter().find(|mark| rest.starts_with(mark.as_bytes()));
                let mark = mark.ok_or_else(|| format!("{:?} means nothing here", char::from(first)))?;
                self.at += mark.len();
                Ok(Token::Mark(match *mark {
                    "**" => "^",
                    "**=" => "^=",
                    mark => mark,
                }))
            }
        }
    }

    fn number(&mut self) -> Token {
        let (number, length) = leading_number(&self.text[self.at..]);
        self.at += length;
        Token::Number(number)
    }

    fn name(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|byte| **byte == b'_' || byte.is_ascii_alphanumeric()).count();
        // Letters, digits and underscores are ASCII.
        let name = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == name) {
            return Token::Keyword(if *keyword == "func" { "function" } else { keyword });
        }
        if let Some(builtin) = BUILTINS.iter().find(|builtin| **builtin == name) {
            return Token::Builtin(builtin);
        }
        if self.peek(0) == b'(' { Token::Called(name) } else { Token::Name(name) }
    }

    fn string(&mut self) -> Result<Token, String> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.text.get(end) {
                None | Some(b'\n') => return Err("a text without its closing quote".into()),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.line += usize::from(self.text.get(end + 1) == Some(&b'\n'));
                    end += 2;
                }
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        Ok(Token::Text(unescape(&self.text[start..end])))
    }

    /// Between slashes; a slash within brackets is one of them.
    fn pattern(&mut self) -> Result<Token, String> {
        const OPEN: &str = "a pattern without its closing slash";
        let mut text = Vec::new();
        let mut bracket: Option<usize> = None;
        self.at += 1;
        loop {
            let byte = *self.text.get(self.at).ok_or(OPEN)?;
            match byte {
                b'\n' => return Err(OPEN.into()),
                b'\\' if self.peek(1) == b'/' => {
                    text.push(b'/');
                    self.at += 2;
                    continue;
                }
                b'\\' if self.at + 1 < self.text.len() => {
                    text.extend([b'\\', self.peek(1)]);
                    self.at += 2;
                    continue;
                }
                b'/' if bracket.is_none() || !self.closes_later() => break,
                b'[' if bracket.is_none() => bracket = Some(text.len()),
                b']' if bracket.is_some_and(|open| text.len() > open + 1 && text[open + 1..] != [b'^']) => {
                    bracket = None
                }
                b'[' if self.peek(1) == b':' => {
                    // A class's own bracket does not end the one that it is in.
                    let end = self.text[self.at..].windows(2).position(|two| two == b":]");
                    let length = end.map_or(1, |end| end + 2);
                    text.extend_from_slice(&self.text[self.at..self.at + length]);
                    self.at += length;
                    continue;
                }
                _ => {}
            }
            text.push(byte);
            self.at += 1;
        }
        self.at += 1;
        Ok(Token::Pattern(text))
    }

    /// Whether the bracket that is open is closed, and the pattern after it, on this line.
    fn closes_later(&self) -> bool {
        let line = self.text[self.at + 1..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.iter().position(|byte| *byte == b']').is_some_and(|at| line[at..].contains(&b'/'))
    }
}

/// After a value a slash divides; elsewhere it begins a pattern.
fn ends_a_value(token: Option<&Token>) -> bool {
    match token {
        Some(Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Pattern(_) | Token::Builtin(_)) => {
            true
        }
        Some(Token::Mark(mark)) => matches!(*mark, ")" | "]" | "$" | "++" | "--"),
        _ => false,
    }
}

/// A text's escapes. What is none stays, backslash and all: it may be one of a pattern.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match text.get(at) {
            Some(b'\n') => at += 1,
            Some(&known @ (b'"' | b'\\' | b'/')) => {
                out.push(known);
                at += 1;
            }
            _ => match escaped(&text[at..]) {
                Some((value, length)) => {
                    out.push(value);
                    at += length;
                }
                None => out.push(b'\\'),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Token> {
        words(text.as_bytes()).unwrap().into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn a_slash_divides_after_a_value_and_begins_a_pattern_elsewhere() {
        assert_eq!(kinds("a/b/c")[1], Token::Mark("/"));
        assert_eq!(kinds("~/b\\/c/")[1], Token::Pattern(b"b/c".to_vec()));
        assert_eq!(kinds("(/[/]x/)")[1], Token::Pattern(b"[/]x".to_vec()));
        assert_eq!(kinds("!/[[:alpha:]/]/")[1], Token::Pattern(b"[[:alpha:]/]".to_vec()));
        assert_eq!(kinds("/[]/]/")[0], Token::Pattern(b"[]/]".to_vec()));
        assert_eq!(kinds("/=x/")[0], Token::Pattern(b"=x".to_vec()));
        assert_eq!(kinds("x/=2")[1], Token::Mark("/="));
    }

    #[test]
    fn texts_have_their_escapes_and_lines_go_on_behind_a_backslash() {
        assert_eq!(kinds(r#""a\t\"\/\101\.\\&""#)[0], Token::Text(b"a\t\"/A\\.\\&".to_vec()));
        assert_eq!(kinds("a \\\n b # c\nd").len(), 5);
        assert_eq!(kinds("f(x) f (x)")[..1], [Token::Called("f".into())]);
        assert_eq!(kinds("1.5e3x .5")[0], Token::Number(1500.0));
        assert_eq!(kinds("a **= b ** 2")[1], Token::Mark("^="));
    }

    #[test]
    fn what_is_no_word_is_refused_with_its_line() {
        for wrong in ["\n\"a", "\n/a", "\n@", "\n\"a\nb\""] {
            assert!(words(wrong.as_bytes()).unwrap_err().contains("line 2"), "{wrong}");
        }
    }
}
