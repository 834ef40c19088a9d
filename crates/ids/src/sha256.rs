//! A SHA-256 digest as a value; computing one is for the crates that hold the bytes.

use crate::text::text_form;
use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest (FIPS 180-4); 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 lower-case hexadecimal digits")]
pub struct Sha256Error;

text_form!(Sha256);

impl Sha256 {
    /// All zeros: what the first entry of a chain names as its predecessor.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for ([high, low], byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
        }
        // They are ASCII.
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = Sha256Error;

    fn from_str(text: &str) -> Result<Self, Sha256Error> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut out = [0; 32];
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(Sha256Error);
        }
        for (place, [high, low]) in out.iter_mut().zip(pairs) {
            *place = digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l).ok_or(Sha256Error)?;
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = Sha256Error;
    fn try_from(text: String) -> Result<Self, Sha256Error> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = Sha256([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "A5", &"a5".repeat(31), &"a5".repeat(33), &"A5".repeat(32), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Sha256>(), Err(Sha256Error), "{bad}");
        }
    }
}
