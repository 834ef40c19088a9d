//! Basic and extended regular expressions, as GNU's grep reads them, in the form of the crate regex. What GNU's manual leaves
//! open is what its automaton does: a repetition with nothing before it, an anchor in the middle, a brace that opens nothing.

use crate::awk::format::width_of;
use crate::regular::{character, class};

/// A form of that length is not made longer by what its back references may stand for.
const REFERRING_MAX: usize = 4096;

/// GNU's bound for a repetition.
const REPEATED_MAX: u32 = 0x7fff;

/// A pattern in the crate's form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) text: String,
    /// It has `\1` or its like, which the crate has not: the form matches wherever the pattern does, and elsewhere too.
    pub(super) refers_back: bool,
    /// What is said on standard error.
    pub(super) warnings: Vec<String>,
}

/// How patterns are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub(super) extended: bool,
    pub(super) utf8: bool,
    /// What ends a line, and is in no match.
    pub(super) line_end: u8,
}

impl Dialect {
    /// Characters that stand for themselves.
    pub(super) fn fixed(self, pattern: &[u8]) -> String {
        let mut out = String::with_capacity(pattern.len());
        let mut at = 0;
        while at < pattern.len() {
            let width = width_of(&pattern[at..], self.utf8);
            out.push_str(&character(&pattern[at..at + width], self.utf8));
            at += width;
        }
        out
    }

    /// # Errors
    /// Says what is wrong with the pattern, in GNU's words.
    pub(super) fn form(self, pattern: &[u8]) -> Result<Form, &'static str> {
        let mut reader = Reader {
            dialect: self,
            text: pattern,
            at: 0,
            out: String::new(),
            atom: None,
            before: Before::Start,
            nothing: true,
            open: Vec::new(),
            closed: Vec::new(),
            groups: 0,
            anchors: 0,
            refers_back: false,
            warnings: Vec::new(),
        };
        while reader.at < pattern.len() {
            reader.step()?;
        }
        if !reader.open.is_empty() {
            return Err(r"Unmatched ( or \(");
        }
        Ok(Form { text: reader.out, refers_back: reader.refers_back, warnings: reader.warnings })
    }
}

/// What the last sign was, for `^` of a basic expression.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Before {
    /// None, or one after which an expression begins.
    Start,
    Other,
}

/// A group that is open.
struct Group {
    number: usize,
    /// Where it begins in `out`.
    start: usize,
    /// How many anchors there are before it.
    anchors: usize,
}

struct Reader<'a> {
    dialect: Dialect,
    text: &'a [u8],
    at: usize,
    out: String,
    /// Where in `out` what may be repeated begins, and whether it is repeated already.
    atom: Option<(usize, bool)>,
    before: Before,
    /// Whether the expression, or this alternative of it, has nothing yet but anchors.
    nothing: bool,
    open: Vec<Group>,
    /// The numbers of the others, and what they are in `out`; without it where that depends on its place.
    closed: Vec<(usize, Option<String>)>,
    groups: usize,
    anchors: usize,
    refers_back: bool,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// Reads one sign.
    fn step(&mut self) -> Result<(), &'static str> {
        let byte = self.text[self.at];
        self.at += 1;
        let extended = self.dialect.extended;
        let (byte, escaped) = if byte == b'\\' {
            let next = *self.text.get(self.at).ok_or("Trailing backslash")?;
            self.at += 1;
            (next, true)
        } else {
            (byte, false)
        };
        match byte {
            b'^' if !escaped && (extended || self.before == Before::Start) => self.anchor("^"),
            b'$' if !escaped && (extended || self.ends_here()) => self.anchor("$"),
            b'*' if !escaped => self.repeated("*"),
            b'+' if escaped != extended => self.repeated("+"),
            b'?' if escaped != extended => self.repeated("?"),
            b'{' if escaped != extended => return self.interval(),
            b'|' if escaped != extended => self.alternative(),
            b'(' if escaped != extended => self.open(),
            b')' if escaped != extended && !(extended && self.open.is_empty()) => return self.close(),
            b'.' if !escaped => self.put("."),
            b'[' if !escaped => return self.bracket(),
            b'1'..=b'9' if escaped => return self.back(usize::from(byte - b'0')),
            _ if escaped && self.special(byte) => {}
            _ => {
                self.at -= 1;
                self.literal();
            }
        }
        Ok(())
    }

    /// What GNU adds behind a backslash.
    fn special(&mut self, byte: u8) -> bool {
        match byte {
            b'`' => self.anchor("^"),
            b'\'' => self.anchor("$"),
            b'<' => self.anchor(r"\b{start}"),
            b'>' => self.anchor(r"\b{end}"),
            b'b' => self.anchor(r"\b"),
            b'B' => self.anchor(r"\B"),
            b'w' => self.set("alnum", "_", false),
            b'W' => self.set("alnum", "_", true),
            b's' => self.set("space", "", false),
            b'S' => self.set("space", "", true),
            _ => return false,
        }
        true
    }

    /// Whether a basic expression, or this part of it, ends here.
    fn ends_here(&self) -> bool {
        matches!(&self.text[self.at..], [] | [b'\\', b')' | b'|', ..])
    }

    fn anchor(&mut self, form: &str) {
        self.anchors += 1;
        self.atom = Some((self.out.len(), false));
        self.out.push_str(form);
        self.before = Before::Other;
    }

    fn put(&mut self, form: &str) {
        self.atom = Some((self.out.len(), false));
        self.out.push_str(form);
        self.before = Before::Other;
        self.nothing = false;
    }

    /// The character here, whatever it is.
    fn literal(&mut self) {
        let width = width_of(&self.text[self.at..], self.dialect.utf8);
        let form = character(&self.text[self.at..self.at + width], self.dialect.utf8);
        self.at += width;
        self.put(&form);
    }

    /// Characters of a class and some more, or all others: never the end of a line.
    fn set(&mut self, name: &str, more: &str, negated: bool) {
        let members = class(name, self.dialect.utf8).unwrap_or_default();
        self.put_set(&format!("{members}{more}"), negated);
    }

    fn put_set(&mut self, members: &str, negated: bool) {
        let not = if negated { "^" } else { "" };
        let end = self.dialect.line_end;
        self.put(&format!("[[{not}{members}]&&[^\\x{end:02x}]]"));
    }

    /// A repetition by one sign, which is a character where a basic expression has nothing before it.
    fn repeated(&mut self, how: &str) {
        if !self.nothing {
            return self.repeat(how);
        }
        if !self.dialect.extended {
            return self.put(&format!("\\{how}"));
        }
        self.warnings.push(format!("{how} at start of expression"));
        self.repeat(how);
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

    /// `{N}`, `{N,}`, `{,M}` or `{N,M}`; in an extended expression any other brace is one.
    fn interval(&mut self) -> Result<(), &'static str> {
        let extended = self.dialect.extended;
        if self.nothing && !extended {
            self.put("\\{");
            return Ok(());
        }
        let rest = &self.text[self.at..];
        let closing: &[u8] = if extended { b"}" } else { b"\\}" };
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
        let (inner, behind) = rest.split_at(length);
        let bounds = behind.starts_with(closing).then(|| bounds(inner)).flatten();
        let Some((least, most)) = bounds else {
            if extended {
                self.put("\\{");
                return Ok(());
            }
            return Err(if behind.is_empty() { r"Unmatched \{" } else { r"Invalid content of \{\}" });
        };
        if most.is_some_and(|most| least > most) {
            return Err(r"Invalid content of \{\}");
        }
        if least.max(most.unwrap_or(0)) > REPEATED_MAX {
            return Err("Regular expression too big");
        }
        self.at += length + closing.len();
        if self.nothing {
            self.warnings.push("{...} at start of expression".into());
        }
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        self.repeat(&format!("{{{least},{most}}}"));
        Ok(())
    }

    fn begin(&mut self) {
        self.atom = None;
        self.before = Before::Start;
        self.nothing = true;
    }

    fn alternative(&mut self) {
        self.out.push('|');
        self.begin();
    }

    fn open(&mut self) {
        self.groups += 1;
        self.open.push(Group { number: self.groups, start: self.out.len(), anchors: self.anchors });
        self.out.push_str("(?:");
        self.begin();
    }

    fn close(&mut self) -> Result<(), &'static str> {
        let group = self.open.pop().ok_or(r"Unmatched ) or \)")?;
        self.out.push(')');
        let free = group.anchors == self.anchors;
        self.closed.push((group.number, free.then(|| self.out[group.start..].to_owned())));
        self.atom = Some((group.start, false));
        self.before = Before::Other;
        self.nothing = false;
        Ok(())
    }

    /// `\1` and its like: something that the group matches, or where that would be too long, anything.
    fn back(&mut self, number: usize) -> Result<(), &'static str> {
        let group =
            self.closed.iter().find(|(closed, _)| *closed == number).ok_or("Invalid back reference")?;
        self.refers_back = true;
        let anything = format!("(?:(?-u:[^\\x{:02x}])*)", self.dialect.line_end);
        let form = group.1.clone().filter(|_| self.out.len() < REFERRING_MAX).unwrap_or(anything);
        self.put(&form);
        Ok(())
    }

    fn bracket(&mut self) -> Result<(), &'static str> {
        const OPEN: &str = "Unmatched [, [^, [:, [., or [=";
        let negated = self.text.get(self.at) == Some(&b'^');
        self.at += usize::from(negated);
        let first = self.at;
        let mut members = String::new();
        let mut plain = true;
        loop {
            let rest = &self.text[self.at..];
            match rest {
                [] => return Err(OPEN),
                [b']', ..] if self.at > first => break,
                [b'[', b':', inner @ ..] => {
                    plain = false;
                    let end = inner.windows(2).position(|two| two == b":]").ok_or(OPEN)?;
                    let name = String::from_utf8_lossy(&inner[..end]);
                    members.push_str(&class(&name, self.dialect.utf8).ok_or("Invalid character class name")?);
                    self.at += end + 4;
                }
                _ => plain &= self.member(&mut members)?,
            }
        }
        let body = &self.text[first..self.at];
        self.at += 1;
        if plain && body.starts_with(b":") && body.ends_with(b":") && body.iter().any(|byte| *byte != b':') {
            return Err("character class syntax is [[:space:]], not [:space:]");
        }
        self.put_set(&members, negated);
        Ok(())
    }

    /// A character or a range of them; whether it was a mere character.
    fn member(&mut self, members: &mut String) -> Result<bool, &'static str> {
        let start = self.at;
        let low = self.element()?;
        let mut plain = self.at - start == low.len();
        let utf8 = self.dialect.utf8;
        let range = self.text.get(self.at) == Some(&b'-')
            && self.text.get(self.at + 1).is_some_and(|next| *next != b']');
        let mut high = None;
        if range {
            plain = false;
            self.at += 1;
            high = Some(self.element()?);
        }
        let invalid = |bytes: &[u8]| utf8 && std::str::from_utf8(bytes).is_err();
        if invalid(&low) || high.as_deref().is_some_and(invalid) {
            // What is no character is in no set of them.
            return Ok(plain);
        }
        match high {
            // The order of UTF-8's bytes is that of the characters.
            Some(high) if low > high => return Err("Invalid range end"),
            Some(high) => {
                members.push_str(&character(&low, utf8));
                members.push('-');
                members.push_str(&character(&high, utf8));
            }
            None => members.push_str(&character(&low, utf8)),
        }
        Ok(plain)
    }

    /// One character of a bracket: itself, `[.x.]` or `[=x=]`.
    fn element(&mut self) -> Result<Vec<u8>, &'static str> {
        let rest = &self.text[self.at..];
        if let [b'[', kind @ (b'.' | b'='), inner @ ..] = rest {
            let end = inner.windows(2).position(|two| two == [*kind, b']']);
            let bytes = &inner[..end.ok_or("Unmatched [, [^, [:, [., or [=")?];
            if bytes.is_empty() || width_of(bytes, self.dialect.utf8) != bytes.len() {
                return Err("Invalid collation character");
            }
            self.at += bytes.len() + 4;
            return Ok(bytes.to_vec());
        }
        let width = width_of(rest, self.dialect.utf8);
        let bytes = rest.get(..width).ok_or("Unmatched [, [^, [:, [., or [=")?;
        self.at += width;
        Ok(bytes.to_vec())
    }
}

/// The bounds of `N`, `N,`, `,M` or `N,M`; those that no number holds are too big, too.
fn bounds(inner: &[u8]) -> Option<(u32, Option<u32>)> {
    let number = |text: &str| text.parse().unwrap_or(u32::MAX);
    let inner = std::str::from_utf8(inner).ok()?;
    match inner.split_once(',') {
        None if inner.is_empty() => None,
        None => Some((number(inner), Some(number(inner)))),
        Some((_, most)) if most.contains(',') => None,
        Some((least, most)) => {
            Some((if least.is_empty() { 0 } else { number(least) }, (!most.is_empty()).then(|| number(most))))
        }
    }
}
