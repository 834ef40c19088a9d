//! The agent identifier.

use crate::text::text_form;
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 in lower case: no i, l, o, u, so that an identifier can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The digit that each byte stands for; of one that is no digit, more than there are.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut digit = 0;
    while digit < ALPHABET.len() {
        #[expect(clippy::cast_possible_truncation, reason = "there are 32 of them")]
        let value = digit as u8;
        digits[ALPHABET[digit] as usize] = value;
        digit += 1;
    }
    digits
};

/// An agent's identifier: `agent-` and 26 characters of Crockford base 32.
///
/// 48 bits are the milliseconds since 1970 at which the agent was provisioned and 80 bits are random
/// (the ULID layout), so identifiers sort by age, are never reused, and fit a file name, a cgroup name
/// and a host name (32 characters).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aid(u128);

/// Why a text is not an [`Aid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AidError {
    /// The text does not start with `agent-`.
    #[error("an agent identifier starts with \"agent-\"")]
    Prefix,
    /// The part after the prefix is not 26 characters long.
    #[error("an agent identifier has 26 characters after \"agent-\", this one has {0}")]
    Length(usize),
    /// A character is outside the alphabet, or the first one is above 7 (128 bits would overflow).
    #[error("character {0:?} cannot stand at its place in an agent identifier")]
    Character(char),
}

text_form!(Aid);

impl Aid {
    /// Makes an identifier of a time in milliseconds since 1970 (the lower 48 bits count) and 80 random bits.
    #[must_use]
    pub fn new(wall_ms: u64, random: [u8; 10]) -> Self {
        let mut low = [0_u8; 16];
        low[6..].copy_from_slice(&random);
        Self((u128::from(wall_ms & 0xffff_ffff_ffff) << 80) | u128::from_be_bytes(low))
    }

    /// The identifier as 16 bytes, big endian; they sort as the identifiers do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The identifier of 16 bytes; any bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 26];
        for (i, place) in text.iter_mut().enumerate() {
            let five_bits = (self.0 >> (5 * (25 - i))) & 31;
            *place = ALPHABET[usize::try_from(five_bits).unwrap_or(0)];
        }
        f.write_str("agent-")?;
        text.iter().try_for_each(|c| fmt::Write::write_char(f, char::from(*c)))
    }
}

impl fmt::Debug for Aid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Aid {
    type Err = AidError;

    fn from_str(text: &str) -> Result<Self, AidError> {
        let body = text.strip_prefix("agent-").ok_or(AidError::Prefix)?;
        if body.chars().count() != 26 {
            return Err(AidError::Length(body.chars().count()));
        }
        body.chars()
            .enumerate()
            .try_fold(0_u128, |value, (i, c)| {
                let digit = u8::try_from(c).map_or(u8::MAX, |byte| DIGITS[usize::from(byte)]);
                match digit {
                    0..8 => Ok((value << 5) | u128::from(digit)),
                    8..32 if i > 0 => Ok((value << 5) | u128::from(digit)),
                    _ => Err(AidError::Character(c)),
                }
            })
            .map(Self)
    }
}

impl TryFrom<String> for Aid {
    type Error = AidError;
    fn try_from(text: String) -> Result<Self, AidError> {
        text.parse()
    }
}

impl From<Aid> for String {
    fn from(aid: Aid) -> Self {
        aid.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_sorts_by_time() {
        let old = Aid::new(1, [0xff; 10]);
        let new = Aid::new(2, [0; 10]);
        assert!(old < new && old.to_string() < new.to_string());
        assert_eq!(old.to_string().parse::<Aid>(), Ok(old));
        assert_eq!(old.to_string().len(), 32);
    }

    #[test]
    fn what_is_not_an_identifier_is_refused_with_the_reason() {
        assert_eq!("x".parse::<Aid>(), Err(AidError::Prefix));
        assert_eq!("agent-1".parse::<Aid>(), Err(AidError::Length(1)));
        assert_eq!("agent-8000000000000000000000000z".parse::<Aid>(), Err(AidError::Character('8')));
        assert_eq!("agent-0000000000000000000000000l".parse::<Aid>(), Err(AidError::Character('l')));
    }
}
