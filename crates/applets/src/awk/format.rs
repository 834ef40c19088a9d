//! `printf`: a format with values put into it, as C's function does it.

use super::value::{Text, Value};

/// Far more than a line of any terminal; what a wrong width may cost.
const WIDTH_MAX: usize = 1 << 20;

/// A conversion, `%-08.3f` and the like.
#[derive(Debug, Default, Clone, Copy)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    kind: u8,
}

/// The format with the values in it. `utf8` says whether a character may have more than one byte.
///
/// # Errors
/// There are fewer values than the format asks for, or one that is too wide.
pub(super) fn format(format: &[u8], values: &[Value], convfmt: &[u8], utf8: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(format.len() + 16);
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let mut next =
            || values.next().cloned().ok_or_else(|| "printf: fewer values than its format has".to_owned());
        let (conversion, length) = read(rest, &mut next)?;
        match conversion.kind {
            b'%' => out.push(b'%'),
            b'd' | b'i' | b'o' | b'x' | b'X' | b'u' | b'c' | b's' | b'e' | b'E' | b'f' | b'F' | b'g'
            | b'G' => {
                let value = next()?;
                conversion.write(&mut out, &value, convfmt, utf8);
            }
            // Not a conversion: it stands for itself.
            _ => out.extend_from_slice(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// One number by a format such as `%.6g`, which may hold text beside its conversion.
pub(super) fn one_number(of: &[u8], number: f64) -> Vec<u8> {
    // A format that asks for more has nothing that it could be given: the number stands there as it is.
    format(of, &[Value::Number(number)], b"%.6g", false).unwrap_or_else(|_| number.to_string().into_bytes())
}

pub(super) fn unusual(number: f64) -> &'static [u8] {
    match (number.is_nan(), number.is_sign_negative()) {
        (true, false) => b"nan",
        (true, true) => b"-nan",
        (false, false) => b"inf",
        (false, true) => b"-inf",
    }
}

/// Reads a conversion from its `%` on; how many bytes it has.
fn read(
    text: &[u8],
    next: &mut impl FnMut() -> Result<Value, String>,
) -> Result<(Conversion, usize), String> {
    let mut conversion = Conversion::default();
    let mut at = 1;
    while let Some(flag) = text.get(at) {
        match flag {
            b'-' => conversion.left = true,
            b'+' => conversion.plus = true,
            b' ' => conversion.space = true,
            b'#' => conversion.alternate = true,
            b'0' => conversion.zero = true,
            _ => break,
        }
        at += 1;
    }
    let mut negative = false;
    let width = amount(text, &mut at, next)?;
    if let Some(width) = width {
        negative = width < 0.0;
        conversion.width = bounded(width.abs())?;
    }
    conversion.left |= negative;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let precision = amount(text, &mut at, next)?.unwrap_or(0.0);
        // A negative one, which only a value can be, is as if there were none.
        conversion.precision = if precision < 0.0 { None } else { Some(bounded(precision)?) };
    }
    while matches!(text.get(at), Some(b'h' | b'l' | b'L' | b'q')) {
        at += 1;
    }
    conversion.kind = text.get(at).copied().unwrap_or(0);
    Ok((conversion, (at + 1).min(text.len())))
}

/// Digits, or `*` for a value's number.
fn amount(
    text: &[u8],
    at: &mut usize,
    next: &mut impl FnMut() -> Result<Value, String>,
) -> Result<Option<f64>, String> {
    if text.get(*at) == Some(&b'*') {
        *at += 1;
        return Ok(Some(next()?.number().trunc()));
    }
    let digits = text[*at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let read = std::str::from_utf8(&text[*at..*at + digits]).ok().and_then(|digits| digits.parse().ok());
    *at += digits;
    Ok(read)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked: whole and within bounds
fn bounded(number: f64) -> Result<usize, String> {
    if number <= WIDTH_MAX as f64 {
        Ok(number as usize)
    } else {
        Err(format!("printf: a width of {number} is more than {WIDTH_MAX}"))
    }
}

impl Conversion {
    fn write(&self, out: &mut Vec<u8>, value: &Value, convfmt: &[u8], utf8: bool) {
        match self.kind {
            b'c' => self.pad(out, &[], &character(value, utf8), utf8),
            b's' => {
                let text: Text = value.to_text(convfmt);
                let end = self.precision.map_or(text.len(), |most| bytes_of(&text, most, utf8));
                self.pad(out, &[], &text[..end], utf8);
            }
            _ if !value.number().is_finite() => {
                let plain = Self { zero: false, ..*self };
                plain.pad(out, &[], unusual(value.number()), false);
            }
            b'd' | b'i' | b'u' | b'o' | b'x' | b'X' => self.whole(out, value.number().trunc()),
            _ => self.real(out, value.number()),
        }
    }

    fn sign(&self, negative: bool) -> &'static [u8] {
        match (negative, self.plus, self.space) {
            (true, ..) => b"-",
            (false, true, _) => b"+",
            (false, false, true) => b" ",
            _ => b"",
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as C converts, and what is beyond has digits
    fn whole(&self, out: &mut Vec<u8>, number: f64) {
        let bits = if number < 0.0 { number as i64 as u64 } else { number as u64 };
        let (sign, mut digits) = match self.kind {
            b'o' => (&b""[..], format!("{bits:o}")),
            b'x' => (&b""[..], format!("{bits:x}")),
            b'X' => (&b""[..], format!("{bits:X}")),
            b'u' if number < 0.0 => (&b""[..], bits.to_string()),
            _ => (self.sign(number < 0.0), format!("{:.0}", number.abs())),
        };
        if let Some(least) = self.precision {
            if least == 0 && digits == "0" {
                digits.clear();
            }
            digits.insert_str(0, &"0".repeat(least.saturating_sub(digits.len())));
        }
        let mut prefix = sign.to_vec();
        match self.kind {
            b'o' if self.alternate && !digits.starts_with('0') => prefix.push(b'0'),
            b'x' | b'X' if self.alternate && bits != 0 => prefix.extend([b'0', self.kind]),
            _ => {}
        }
        let padded = Self { zero: self.zero && self.precision.is_none(), ..*self };
        padded.pad(out, &prefix, digits.as_bytes(), false);
    }

    fn real(&self, out: &mut Vec<u8>, number: f64) {
        let precision = self.precision.unwrap_or(6);
        let size = number.abs();
        let mut digits = match self.kind.to_ascii_lowercase() {
            b'f' => fixed(size, precision, self.alternate),
            b'e' => exponential(size, precision, self.alternate),
            _ => self.general(size, precision.max(1)),
        };
        if self.kind.is_ascii_uppercase() {
            digits.make_ascii_uppercase();
        }
        self.pad(out, self.sign(number.is_sign_negative()), digits.as_bytes(), false);
    }

    /// `%g`: whichever of the two is shorter, without zeros at its end.
    fn general(&self, size: f64, precision: usize) -> String {
        let exponent = match format!("{size:.*e}", precision - 1).split_once('e') {
            Some((_, exponent)) if size != 0.0 => exponent.parse::<i64>().unwrap_or(0),
            _ => 0,
        };
        let most = i64::try_from(precision).unwrap_or(i64::MAX);
        let (digits, tail) = if exponent < -4 || exponent >= most {
            let whole = exponential(size, precision - 1, self.alternate);
            let at = whole.find('e').unwrap_or(whole.len());
            (whole[..at].to_owned(), whole[at..].to_owned())
        } else {
            let places = usize::try_from(most - 1 - exponent).unwrap_or(0);
            (fixed(size, places, self.alternate), String::new())
        };
        if self.alternate || !digits.contains('.') {
            return digits + &tail;
        }
        digits.trim_end_matches('0').trim_end_matches('.').to_owned() + &tail
    }

    fn pad(&self, out: &mut Vec<u8>, prefix: &[u8], body: &[u8], utf8: bool) {
        let missing = self.width.saturating_sub(prefix.len() + length(body, utf8));
        let fill = |out: &mut Vec<u8>, with: u8| out.resize(out.len() + missing, with);
        let zeros = self.zero && !self.left && !matches!(self.kind, b's' | b'c');
        if !self.left && !zeros {
            fill(out, b' ');
        }
        out.extend_from_slice(prefix);
        if zeros {
            fill(out, b'0');
        }
        out.extend_from_slice(body);
        if self.left {
            fill(out, b' ');
        }
    }
}

fn fixed(size: f64, places: usize, point: bool) -> String {
    let digits = format!("{size:.places$}");
    if point && places == 0 { digits + "." } else { digits }
}

/// C writes at least two digits of the exponent, and its sign.
fn exponential(size: f64, places: usize, point: bool) -> String {
    let text = format!("{size:.places$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let point = if point && places == 0 { "." } else { "" };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}{point}e{sign}{:02}", exponent.abs())
}

/// `%c`: a number's character, or the first one of a text.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // what is no character is its lowest byte
fn character(value: &Value, utf8: bool) -> Vec<u8> {
    match value {
        Value::Number(number) => {
            let code = number.trunc() as i64;
            let wide = u32::try_from(code).ok().filter(|_| utf8).and_then(char::from_u32);
            wide.map_or_else(|| vec![code as u8], |wide| wide.to_string().into_bytes())
        }
        other => {
            let text = other.to_text(b"%.6g");
            // Of nothing it is a zero, as the others have it.
            if text.is_empty() { vec![0] } else { text[..bytes_of(&text, 1, utf8)].to_vec() }
        }
    }
}

/// How many bytes the character at the beginning has. What is not UTF-8 has one.
pub(crate) fn width_of(text: &[u8], utf8: bool) -> usize {
    let expected = match text.first() {
        Some(0xc2..=0xdf) if utf8 => 2,
        Some(0xe0..=0xef) if utf8 => 3,
        Some(0xf0..=0xf4) if utf8 => 4,
        _ => 1,
    };
    let whole = text.get(..expected).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok());
    if whole { expected } else { 1 }
}

/// How many bytes so many characters at the beginning have.
pub(super) fn bytes_of(text: &[u8], characters: usize, utf8: bool) -> usize {
    if !utf8 {
        return characters.min(text.len());
    }
    let mut end = 0;
    for _ in 0..characters {
        if end >= text.len() {
            break;
        }
        end += width_of(&text[end..], utf8);
    }
    end
}

/// How many characters a text has.
pub(super) fn length(text: &[u8], utf8: bool) -> usize {
    if !utf8 || text.is_ascii() {
        return text.len();
    }
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        at += width_of(&text[at..], utf8);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(form: &str, values: &[Value]) -> String {
        String::from_utf8(format(form.as_bytes(), values, b"%.6g", true).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_written_as_c_does() {
        for (form, number, text) in [
            ("%d", 3.9, "3"),
            ("%d", -3.9, "-3"),
            ("%5d|", 42.0, "   42|"),
            ("%-5d|", 42.0, "42   |"),
            ("%05d", -42.0, "-0042"),
            ("%+d", 42.0, "+42"),
            ("% d", 42.0, " 42"),
            ("%.3d", 7.0, "007"),
            ("%.0d", 0.0, ""),
            ("%x", 255.0, "ff"),
            ("%#X", 255.0, "0XFF"),
            ("%#o", 8.0, "010"),
            ("%u", -1.0, "18446744073709551615"),
            ("%e", 12345.678, "1.234568e+04"),
            ("%.2f", 2.675, "2.67"),
            ("%08.2f", -1.5, "-0001.50"),
            ("%g", 100_000.0, "100000"),
            ("%g", 1_000_000.0, "1e+06"),
            ("%g", 0.0001, "0.0001"),
            ("%g", 0.00001, "1e-05"),
            ("%.3g", 0.0, "0"),
            ("%#.3g", 1.0, "1.00"),
            ("%G", 1e-10, "1E-10"),
            ("%c", 65.0, "A"),
            ("%c", 233.0, "é"),
            ("%5s|", 1.5, "  1.5|"),
            ("%5%|%z", 0.0, "%|%z"),
            ("%d", f64::INFINITY, "inf"),
            ("%ld", 5.0, "5"),
        ] {
            assert_eq!(said(form, &[Value::Number(number)]), text, "{form} of {number}");
        }
    }

    #[test]
    fn texts_are_cut_and_filled_by_characters() {
        let text = [Value::text("héllo".as_bytes())];
        assert_eq!(said("%.2s|%%", &text), "hé|%");
        assert_eq!(said("%7s|", &text), "  héllo|");
        assert_eq!(said("%c", &text), "h");
        assert_eq!(said("%*.*s|", &[Value::Number(-4.0), Value::Number(2.0), text[0].clone()]), "hé  |");
    }

    #[test]
    fn too_few_values_and_too_wide_ones_are_errors() {
        assert!(format(b"%d %d", &[Value::Number(1.0)], b"%.6g", true).is_err());
        assert!(format(b"%99999999d", &[Value::Number(1.0)], b"%.6g", true).is_err());
    }
}
