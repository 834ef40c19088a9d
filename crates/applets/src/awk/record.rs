//! A record and its fields, split when one of them is asked for.

use super::format::width_of;
use super::pattern::Pattern;
use super::value::{Text, Value, is_blank};
use std::rc::Rc;

/// More fields than that no program means.
const FIELDS_MAX: usize = 10_000_000;

/// How a text is split.
#[derive(Debug)]
pub(super) enum Splitter {
    Blanks,
    /// `FS` is empty: each character is a field.
    Characters,
    Byte(u8),
    Pattern(Rc<Pattern>),
}

impl Splitter {
    /// What a value of `FS` means; `compile` makes a pattern of what is longer than a character.
    pub(super) fn of(
        separator: &[u8],
        compile: impl FnOnce(&[u8]) -> Result<Rc<Pattern>, String>,
    ) -> Result<Self, String> {
        match separator {
            b" " => Ok(Self::Blanks),
            [] => Ok(Self::Characters),
            [byte] if byte.is_ascii() => Ok(Self::Byte(*byte)),
            longer => Ok(Self::Pattern(compile(longer)?)),
        }
    }

    /// Calls `each` with every part. With `lines` a newline separates, too, as between the lines of a paragraph.
    pub(super) fn split(&self, text: &[u8], lines: bool, utf8: bool, mut each: impl FnMut(&[u8])) {
        match self {
            Self::Blanks => text.split(|byte| is_blank(*byte)).filter(|part| !part.is_empty()).for_each(each),
            _ if text.is_empty() => {}
            Self::Characters => {
                let mut rest = text;
                while !rest.is_empty() {
                    let (character, behind) = rest.split_at(width_of(rest, utf8));
                    each(character);
                    rest = behind;
                }
            }
            Self::Byte(separator) => {
                text.split(|byte| byte == separator || (lines && *byte == b'\n')).for_each(each);
            }
            Self::Pattern(_) if lines => {
                for line in text.split(|byte| *byte == b'\n') {
                    if line.is_empty() {
                        each(line);
                    } else {
                        self.split(line, false, utf8, &mut each as &mut dyn FnMut(&[u8]));
                    }
                }
            }
            Self::Pattern(pattern) => {
                let (mut start, mut from) = (0, 0);
                while let Some(found) = pattern.find_at(text, from) {
                    if found.is_empty() {
                        from = found.end + 1;
                        if from > text.len() {
                            break;
                        }
                        continue;
                    }
                    each(&text[start..found.start]);
                    (start, from) = (found.end, found.end);
                }
                each(&text[start..]);
            }
        }
    }
}

/// A field: its place in `whole` until somebody wants its value, which most never do.
#[derive(Debug)]
enum Field {
    Place(usize, usize),
    Value(Value),
}

/// `$0` and its fields.
#[derive(Debug)]
pub(super) struct Record {
    whole: Value,
    fields: Vec<Field>,
    /// The fields are those of `whole`.
    split: bool,
    /// A field was changed, so that `whole` is no longer made of them.
    stale: bool,
    /// What held when the record was read, however `FS` changes before it is split.
    splitter: Rc<Splitter>,
    lines: bool,
    pub(super) utf8: bool,
}

impl Record {
    pub(super) fn new(utf8: bool) -> Self {
        let splitter = Rc::new(Splitter::Blanks);
        Self {
            whole: Value::Nothing,
            fields: Vec::new(),
            split: true,
            stale: false,
            splitter,
            lines: false,
            utf8,
        }
    }

    pub(super) fn read(&mut self, text: &[u8], splitter: &Rc<Splitter>, lines: bool) {
        self.whole = Value::Input(text.into());
        self.split = false;
        self.stale = false;
        self.splitter = Rc::clone(splitter);
        self.lines = lines;
    }

    fn split(&mut self) {
        if self.split {
            return;
        }
        self.split = true;
        let whole: Text = self.whole.to_text(b"%.6g");
        let fields = &mut self.fields;
        fields.clear();
        let begin = whole.as_ptr().addr();
        self.splitter.split(&whole, self.lines, self.utf8, |part| {
            let start = part.as_ptr().addr() - begin;
            fields.push(Field::Place(start, start + part.len()));
        });
    }

    /// The value of a field that there is.
    fn value(&mut self, at: usize) -> Value {
        match &self.fields[at] {
            Field::Value(value) => value.clone(),
            Field::Place(start, end) => {
                let value = Value::Input(self.whole.to_text(b"%.6g")[*start..*end].into());
                self.fields[at] = Field::Value(value.clone());
                value
            }
        }
    }

    /// Before `whole` changes: fields have no place in it any longer.
    fn detach(&mut self) {
        if !self.stale {
            (0..self.fields.len()).for_each(|at| drop(self.value(at)));
            self.stale = true;
        }
    }

    pub(super) fn count(&mut self) -> usize {
        self.split();
        self.fields.len()
    }

    /// Fields beyond the last one are empty.
    pub(super) fn set_count(&mut self, count: usize) -> Result<(), String> {
        if count > FIELDS_MAX {
            return Err(format!("a record with {count} fields is more than {FIELDS_MAX}"));
        }
        self.split();
        self.detach();
        self.fields.resize_with(count, || Field::Value(Value::Nothing));
        Ok(())
    }

    pub(super) fn get(&mut self, at: usize, joint: &[u8], convfmt: &[u8]) -> Value {
        if at == 0 {
            self.join(joint, convfmt);
            return self.whole.clone();
        }
        self.split();
        if at > self.fields.len() { Value::Nothing } else { self.value(at - 1) }
    }

    pub(super) fn set(&mut self, at: usize, value: Value) -> Result<(), String> {
        self.split();
        if at > self.fields.len() {
            self.set_count(at)?;
        }
        self.detach();
        self.fields[at - 1] = Field::Value(value);
        Ok(())
    }

    fn join(&mut self, joint: &[u8], convfmt: &[u8]) {
        if !self.stale {
            return;
        }
        self.stale = false;
        let mut whole = Vec::new();
        for at in 0..self.fields.len() {
            if at > 0 {
                whole.extend_from_slice(joint);
            }
            whole.extend_from_slice(&self.value(at).to_text(convfmt));
        }
        self.whole = Value::Input(whole.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(separator: &str, lines: bool, text: &str) -> Vec<String> {
        let splitter =
            Splitter::of(separator.as_bytes(), |text| Ok(Rc::new(Pattern::new(text, true)?))).unwrap();
        let mut parts = Vec::new();
        splitter.split(text.as_bytes(), lines, true, |part| {
            parts.push(String::from_utf8_lossy(part).into_owned())
        });
        parts
    }

    #[test]
    fn each_kind_of_separator_splits_in_its_way() {
        assert_eq!(parts(" ", false, " a  b\tc\n"), ["a", "b", "c"]);
        assert_eq!(parts(":", false, ":a::b"), ["", "a", "", "b"]);
        assert_eq!(parts("|", false, "a|b"), ["a", "b"]);
        assert_eq!(parts("", false, "aé"), ["a", "é"]);
        assert_eq!(parts("[0-9]+", false, "1a22b"), ["", "a", "b"]);
        assert_eq!(parts("x*", false, "axxb"), ["a", "b"]);
        assert_eq!(parts(":", true, "a:b\nc"), ["a", "b", "c"]);
        assert_eq!(parts(", *", true, "a, b\nc"), ["a", "b", "c"]);
        assert_eq!(parts(":", false, ""), [""; 0]);
    }

    #[test]
    fn a_record_follows_its_fields_and_they_it() {
        let mut record = Record::new(true);
        record.read(b"a b c", &Rc::new(Splitter::Blanks), false);
        assert_eq!(record.count(), 3);
        record.set(5, Value::text(b"e")).unwrap();
        assert_eq!(&*record.get(0, b"-", b"%.6g").to_text(b""), b"a-b-c--e");
        record.set_count(2).unwrap();
        assert_eq!(&*record.get(0, b"-", b"%.6g").to_text(b""), b"a-b");
        assert!(record.set_count(FIELDS_MAX + 1).is_err());
    }
}
