//! The functions that every program has.

use super::format::{bytes_of, format, length, width_of};
use super::pattern::Pattern;
use super::record::Splitter;
use super::run::{Machine, Outcome, Slot, Stop, failed};
use super::tree::{Expr, Place, Variable, special};
use super::value::{Text, Value};
use octant_sys::clock;
use std::rc::Rc;

/// Numbers that look like chance (splitmix64), the same for the same seed.
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
    seed: f64,
}

impl Random {
    pub(super) fn new() -> Self {
        Self { state: 0, seed: 0.0 }
    }

    /// From 0 up to but not 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits
    fn next(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The seed that held before.
    fn reseed(&mut self, seed: f64) -> f64 {
        self.state = seed.to_bits();
        std::mem::replace(&mut self.seed, seed)
    }
}

#[allow(clippy::cast_precision_loss)] // no text has 2^53 characters
fn count(number: usize) -> Value {
    Value::Number(number as f64)
}

impl<'a> Machine<'a> {
    pub(super) fn builtin(&mut self, name: &str, values: &'a [Expr]) -> Outcome<Value> {
        match name {
            "length" => return self.length(values),
            "split" => return self.split(values),
            "sub" | "gsub" => return self.substitute(name == "gsub", values),
            "match" => return self.matched(values),
            "sprintf" => return Ok(Value::Text(self.formatted(values)?.into())),
            "fflush" => {
                self.streams.flush().map_err(failed("cannot write"))?;
                return Ok(Value::Number(0.0));
            }
            _ => {}
        }
        let mut given = Vec::with_capacity(values.len());
        for value in values {
            given.push(self.eval(value)?);
        }
        let number = |at: usize| given.get(at).map_or(0.0, Value::number);
        let text = |at: usize| {
            given.get(at).map_or_else(|| Text::from(&b""[..]), |value| value.to_text(&self.convfmt))
        };
        Ok(match name {
            "atan2" => Value::Number(number(0).atan2(number(1))),
            "cos" => Value::Number(number(0).cos()),
            "sin" => Value::Number(number(0).sin()),
            "exp" => Value::Number(number(0).exp()),
            "log" => Value::Number(number(0).ln()),
            "sqrt" => Value::Number(number(0).sqrt()),
            "int" => Value::Number(number(0).trunc()),
            "rand" => Value::Number(self.random.next()),
            "srand" => {
                let seed = if given.is_empty() { seconds() } else { number(0) };
                Value::Number(self.random.reseed(seed))
            }
            "systime" => Value::Number(seconds()),
            "index" => index(&text(0), &text(1), self.utf8),
            "substr" => {
                let most = given.get(2).map_or(f64::INFINITY, Value::number);
                Value::text(part(&text(0), number(1), most, self.utf8))
            }
            "tolower" => {
                Value::Text(cased(&text(0), self.utf8, str::to_lowercase, <[u8]>::to_ascii_lowercase))
            }
            "toupper" => {
                Value::Text(cased(&text(0), self.utf8, str::to_uppercase, <[u8]>::to_ascii_uppercase))
            }
            "close" => {
                let name = text(0);
                let code = self.streams.close(&name).map_err(failed(String::from_utf8_lossy(&name)))?;
                Value::Number(f64::from(code))
            }
            "system" => {
                let line = text(0);
                let code = self.streams.system(&line).map_err(failed(String::from_utf8_lossy(&line)))?;
                Value::Number(f64::from(code))
            }
            _ => return Err(Stop::Error(format!("{name}: no such function"))),
        })
    }

    /// Of a text in characters, of an array in elements.
    fn length(&mut self, values: &'a [Expr]) -> Outcome<Value> {
        let text = match values.first() {
            None => self.field(0).to_text(&self.convfmt),
            Some(Expr::Place(Place::Variable(variable))) => {
                let slot = match *variable {
                    Variable::Global(at) => &self.globals[at],
                    Variable::Local(at) => &self.locals[self.base + at],
                };
                if let Slot::Table(table) = slot {
                    return Ok(count(table.borrow().len()));
                }
                self.get(*variable)?.to_text(&self.convfmt)
            }
            Some(value) => self.text(value)?,
        };
        Ok(count(length(&text, self.utf8)))
    }

    pub(super) fn formatted(&mut self, values: &'a [Expr]) -> Outcome<Vec<u8>> {
        let mut given = Vec::with_capacity(values.len());
        for value in values {
            given.push(self.eval(value)?);
        }
        let Some((form, rest)) = given.split_first() else { return Ok(Vec::new()) };
        Ok(format(&form.to_text(&self.convfmt), rest, &self.convfmt, self.utf8)?)
    }

    fn split(&mut self, values: &'a [Expr]) -> Outcome<Value> {
        let text = self.text(&values[0])?;
        let splitter = match values.get(2) {
            None => self.current_splitter(),
            Some(Expr::Pattern(pattern)) => Rc::new(Splitter::Pattern(Rc::clone(pattern))),
            Some(separator) => {
                let separator = self.text(separator)?;
                Rc::new(self.splitter_of(&separator)?)
            }
        };
        let Expr::Place(Place::Variable(array)) = &values[1] else {
            return Err(Stop::Error("split into what is no array".into()));
        };
        let table = self.table(*array)?;
        let mut table = table.borrow_mut();
        table.clear();
        let mut parts = 0_usize;
        splitter.split(&text, false, self.utf8, |part| {
            parts += 1;
            table.insert(parts.to_string().into_bytes().into(), Value::Input(part.into()));
        });
        Ok(count(parts))
    }

    fn matched(&mut self, values: &'a [Expr]) -> Outcome<Value> {
        let text = self.text(&values[0])?;
        let found = self.as_pattern(&values[1])?.find_at(&text, 0);
        let (start, size) = match found {
            Some(found) => {
                let before = length(&text[..found.start], self.utf8);
                (count(before + 1), count(length(&text[found], self.utf8)))
            }
            None => (Value::Number(0.0), Value::Number(-1.0)),
        };
        self.set(Variable::Global(special::RLENGTH), size)?;
        self.set(Variable::Global(special::RSTART), start.clone())?;
        Ok(start)
    }

    fn substitute(&mut self, all: bool, values: &'a [Expr]) -> Outcome<Value> {
        let pattern = self.as_pattern(&values[0])?;
        let with = self.text(&values[1])?;
        let spot = match values.get(2) {
            Some(Expr::Place(place)) => self.spot(place)?,
            _ => super::eval::Spot::Field(0),
        };
        let text = self.at(&spot)?.to_text(&self.convfmt);
        let (changed, times) = substituted(&pattern, &text, &with, all, self.utf8);
        if times > 0 {
            self.put(&spot, Value::Text(changed.into()))?;
        }
        Ok(count(times))
    }
}

/// The text with what matches replaced, and how often.
fn substituted(pattern: &Pattern, text: &[u8], with: &[u8], all: bool, utf8: bool) -> (Vec<u8>, usize) {
    let (mut out, mut times) = (Vec::with_capacity(text.len()), 0);
    let (mut copied, mut from, mut last) = (0, 0, None);
    while let Some(found) = pattern.find_at(text, from) {
        // Nothing, right behind what was replaced, is not a match of its own.
        if !(found.is_empty() && last == Some(found.start)) {
            out.extend_from_slice(&text[copied..found.start]);
            replacement(&mut out, with, &text[found.clone()]);
            copied = found.end;
            times += 1;
            last = Some(found.end);
        }
        from = found.end + if found.is_empty() { width_of(&text[found.end..], utf8) } else { 0 };
        if !all || from > text.len() {
            break;
        }
    }
    out.extend_from_slice(&text[copied..]);
    (out, times)
}

/// `&` is what matched, `\&` an ampersand; a backslash before either of them is one.
fn replacement(out: &mut Vec<u8>, with: &[u8], matched: &[u8]) {
    let mut rest = with;
    while let Some((first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'\\', [b'&', behind @ ..]) => {
                out.push(b'&');
                behind
            }
            (b'\\', [b'\\', b'&', behind @ ..]) => {
                out.push(b'\\');
                out.extend_from_slice(matched);
                behind
            }
            (b'\\', [b'\\', b'\\', b'&', behind @ ..]) => {
                out.extend_from_slice(b"\\&");
                behind
            }
            (b'&', behind) => {
                out.extend_from_slice(matched);
                behind
            }
            (other, behind) => {
                out.push(*other);
                behind
            }
        };
    }
}

/// Where a text first has another, counted in characters from 1; 0 where it has not.
fn index(text: &[u8], what: &[u8], utf8: bool) -> Value {
    let at = memchr::memmem::find(text, what);
    at.map_or(Value::Number(0.0), |at| count(length(&text[..at], utf8) + 1))
}

/// The characters from one on, as many as there may be. As gawk has it: what is not whole is cut off, and a start before the
/// first character is the first.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the bounds that it is cut to
fn part(text: &[u8], from: f64, most: f64, utf8: bool) -> &[u8] {
    if from.is_nan() || most.is_nan() || most < 1.0 {
        return b"";
    }
    let whole = |number: f64| number.clamp(1.0, 1e15) as usize;
    let rest = &text[bytes_of(text, whole(from) - 1, utf8)..];
    &rest[..bytes_of(rest, whole(most), utf8)]
}

fn cased(text: &[u8], utf8: bool, wide: fn(&str) -> String, ascii: fn(&[u8]) -> Vec<u8>) -> Text {
    match std::str::from_utf8(text) {
        Ok(text) if utf8 && !text.is_ascii() => wide(text).into_bytes().into(),
        _ => ascii(text).into(),
    }
}

#[allow(clippy::cast_precision_loss)] // seconds
fn seconds() -> f64 {
    (clock::wall_ms() / 1000) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(pattern: &str, text: &str, with: &str, all: bool) -> String {
        let pattern = Pattern::new(pattern.as_bytes(), true).unwrap();
        String::from_utf8(substituted(&pattern, text.as_bytes(), with.as_bytes(), all, true).0).unwrap()
    }

    #[test]
    fn what_matches_is_replaced_once_or_everywhere() {
        assert_eq!(changed("a", "banana", "<&>", false), "b<a>nana");
        assert_eq!(changed("a", "banana", "\\&&\\\\&", true), "b&a\\an&a\\an&a\\a");
        assert_eq!(changed("x*", "abc", "-", true), "-a-b-c-");
        assert_eq!(changed("b*", "abbc", "-", true), "-a-c-");
        assert_eq!(changed("x*", "é", "-", true), "-é-");
        assert_eq!(changed("^a", "aaa", "b", true), "baa");
        assert_eq!(changed("$", "ab", "!", true), "ab!");
        assert_eq!(changed("b|bc", "abcd", "X", true), "aXd");
    }

    #[test]
    fn parts_of_texts_are_rounded_and_cut() {
        for (from, most, expected) in [
            (2.0, 3.0, "éll"),
            (0.0, 2.0, "hé"),
            (-1.0, f64::INFINITY, "héllo"),
            (4.0, 100.0, "lo"),
            (2.5, 1.5, "é"),
            (9.0, 1.0, ""),
            (2.0, -1.0, ""),
            (f64::NAN, 1.0, ""),
        ] {
            assert_eq!(part("héllo".as_bytes(), from, most, true), expected.as_bytes(), "{from} {most}");
        }
        assert_eq!(part("héllo".as_bytes(), 2.0, 1.0, false), b"\xc3");
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let (mut one, mut other) = (Random::new(), Random::new());
        assert_eq!(one.reseed(5.0).to_bits(), 0.0_f64.to_bits());
        other.reseed(5.0);
        for _ in 0..100 {
            let number = one.next();
            assert!((0.0..1.0).contains(&number));
            assert_eq!(number.to_bits(), other.next().to_bits());
        }
    }
}
