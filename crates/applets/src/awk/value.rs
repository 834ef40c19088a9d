//! Values: numbers, texts, and texts from outside, which are numbers where they look like one.

use super::format;
use std::cmp::Ordering;
use std::rc::Rc;

/// Bytes that are shared rather than copied.
pub(super) type Text = Rc<[u8]>;

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// What nothing was given to: both `""` and 0.
    Nothing,
    Number(f64),
    Text(Text),
    /// From a file, an argument or the environment.
    Input(Text),
}

impl Value {
    pub(super) fn text(bytes: &[u8]) -> Self {
        Self::Text(bytes.into())
    }

    pub(super) fn truth(of: bool) -> Self {
        Self::Number(if of { 1.0 } else { 0.0 })
    }

    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Number(number) => *number,
            Self::Text(text) | Self::Input(text) => leading_number(text).0,
        }
    }

    /// As a text; a number that is not whole is written by `format` (`CONVFMT` or `OFMT`).
    pub(super) fn to_text(&self, format: &[u8]) -> Text {
        match self {
            Self::Nothing => Rc::from(&b""[..]),
            Self::Number(number) => number_text(*number, format).into(),
            Self::Text(text) | Self::Input(text) => Rc::clone(text),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Input(text) => self.as_number().map_or(!text.is_empty(), |number| number != 0.0),
        }
    }

    /// The number that this is to a comparison, if it is one.
    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Nothing => Some(0.0),
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
            Self::Input(text) => {
                let (number, end) = leading_number(text);
                let is_number = end > 0 && text[end..].iter().all(|byte| is_blank(*byte));
                is_number.then_some(number)
            }
        }
    }

    /// By number where both are numbers, as texts otherwise. `None` beside what is not a number (NaN).
    pub(super) fn compare(&self, other: &Self, format: &[u8]) -> Option<Ordering> {
        match (self.as_number(), other.as_number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => Some(self.to_text(format).cmp(&other.to_text(format))),
        }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// The number that a text begins with, blanks before it passed over, and where it ends: at 0 where there is none.
pub(super) fn leading_number(text: &[u8]) -> (f64, usize) {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = text.iter().take_while(|byte| is_blank(**byte)).count();
    let mut end = start + usize::from(matches!(text.get(start), Some(b'+' | b'-')));
    let whole = digits(end);
    end += whole;
    let mut found = whole > 0;
    if text.get(end) == Some(&b'.') {
        let part = digits(end + 1);
        if found || part > 0 {
            end += 1 + part;
            found = true;
        }
    }
    if !found {
        return (0.0, 0);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(text.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    // All of it is ASCII, and a form that Rust reads too.
    let number = std::str::from_utf8(&text[start..end]).ok().and_then(|text| text.parse().ok());
    (number.unwrap_or(0.0), end)
}

/// A number as a text: a whole one with all its digits, another one by the format.
pub(super) fn number_text(number: f64, format: &[u8]) -> Vec<u8> {
    if number.is_finite() && number == number.trunc() {
        // Without the sign of a zero.
        return format!("{:.0}", number + 0.0).into_bytes();
    }
    if !number.is_finite() {
        return format::unusual(number).to_vec();
    }
    format::one_number(format, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_at_the_beginning_counts() {
        for (text, number, end) in [
            (&b"12abc"[..], 12.0, 2),
            (b" -1.5e3x", -1500.0, 7),
            (b".5", 0.5, 2),
            (b"5.", 5.0, 2),
            (b"1e", 1.0, 1),
            (b"1e+", 1.0, 1),
            (b"+7", 7.0, 2),
            (b"abc", 0.0, 0),
            (b"", 0.0, 0),
            (b"0x1f", 0.0, 1),
            (b".", 0.0, 0),
            (b"-", 0.0, 0),
        ] {
            assert_eq!(leading_number(text), (number, end), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_looks_like_a_number_compares_as_one_if_it_comes_from_outside() {
        let (ten, nine) = (Value::Input(Rc::from(&b" 10 "[..])), Value::Input(Rc::from(&b"9"[..])));
        assert_eq!(ten.compare(&nine, b"%.6g"), Some(Ordering::Greater));
        assert_eq!(ten.compare(&Value::text(b"9"), b"%.6g"), Some(Ordering::Less));
        assert_eq!(Value::Nothing.compare(&Value::Number(0.0), b"%.6g"), Some(Ordering::Equal));
        assert_eq!(Value::Nothing.compare(&Value::text(b""), b"%.6g"), Some(Ordering::Equal));
        assert!(!Value::Input(Rc::from(&b"0.0"[..])).is_true() && Value::text(b"0").is_true());
    }

    #[test]
    fn whole_numbers_have_all_their_digits() {
        assert_eq!(number_text(1e20, b"%.6g"), b"100000000000000000000");
        assert_eq!(number_text(-0.0, b"%.6g"), b"0");
        assert_eq!(number_text(0.1 + 0.2, b"%.6g"), b"0.3");
        assert_eq!(number_text(1e6 / 3.0, b"%.6g"), b"333333");
    }
}
