//! Quantities with their unit in the type.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A number of bytes; in configuration an integer or a text such as `"64MiB"` (KiB, MiB, GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Quantity", into = "u64")]
pub struct ByteSize(pub u64);

/// A number of milliseconds; in configuration an integer or a text such as `"1500ms"`, `"30s"`, `"5min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Quantity", into = "u64")]
pub struct Millis(pub u64);

/// Why a quantity cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Neither a number nor a number with a known unit.
    #[error("{text:?} is not a quantity; write an integer or one with a unit: {units}")]
    Unit {
        /// What was given.
        text: String,
        /// What would have been understood.
        units: &'static str,
    },
    /// More than 2^63-1.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Number(u64),
    Text(String),
}

fn parse(text: &str, units: &[(&str, u64)], names: &'static str) -> Result<u64, UnitError> {
    let unknown = || UnitError::Unit { text: text.to_owned(), units: names };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|row| row.0 == unit.trim()).ok_or_else(unknown)?.1;
    if number.is_empty() {
        return Err(unknown());
    }
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
    number
        .checked_mul(factor)
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

impl TryFrom<Quantity> for ByteSize {
    type Error = UnitError;
    fn try_from(quantity: Quantity) -> Result<Self, UnitError> {
        const UNITS: [(&str, u64); 5] =
            [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        match quantity {
            Quantity::Number(n) => Ok(Self(n)),
            Quantity::Text(text) => parse(&text, &UNITS, "B, KiB, MiB, GiB").map(Self),
        }
    }
}

impl TryFrom<Quantity> for Millis {
    type Error = UnitError;
    fn try_from(quantity: Quantity) -> Result<Self, UnitError> {
        const UNITS: [(&str, u64); 5] = [("", 1), ("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];
        match quantity {
            Quantity::Number(n) => Ok(Self(n)),
            Quantity::Text(text) => parse(&text, &UNITS, "ms, s, min, h").map(Self),
        }
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl From<Millis> for u64 {
    fn from(time: Millis) -> Self {
        time.0
    }
}

impl Millis {
    /// The same span as the standard library's type.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        let bytes = |text: &str| ByteSize::try_from(Quantity::Text(text.into()));
        assert_eq!(bytes("64MiB"), Ok(ByteSize(64 << 20)));
        assert_eq!(bytes("7"), Ok(ByteSize(7)));
        assert_eq!(bytes("64MiB").unwrap().to_string(), "64MiB");
        for bad in ["", "MiB", "64MB", "-1", "1.5GiB", "99999999999GiB", "99999999999999999999"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(Millis::try_from(Quantity::Text("5min".into())), Ok(Millis(300_000)));
    }
}
