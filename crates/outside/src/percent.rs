//! Texts in URLs (RFC 3986 section 2.1).

use std::fmt::Write as _;

/// A text of a query or a form as it was meant.
#[must_use]
pub fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.as_bytes());
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let [first, rest @ ..] = bytes {
        match (first, rest) {
            (b'%', [high, low, after @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                out.push(digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0));
                bytes = after;
            }
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    out
}

/// A text as a query has it: everything but what is reserved for nothing (RFC 3986 section 2.3) is written in digits.
#[must_use]
pub fn encoded(text: &[u8], plain: &[u8]) -> String {
    let mut out = String::with_capacity(3 * text.len());
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_what_was_meant() {
        assert_eq!(encoded(b"a/b:c%\xff ~", b"/"), "a/b%3Ac%25%FF%20~");
        assert_eq!(decoded("a%2fb%3Ac%25%FF%20~"), b"a/b:c%\xff ~");
        assert_eq!(decoded("%2x%%41%4"), b"%2x%A%4");
    }
}
