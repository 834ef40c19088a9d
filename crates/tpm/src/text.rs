//! Bytes as text in data: base64 with its padding (RFC 4648, section 4), and never more than a limit.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;

/// At most `MAX` bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Bytes<const MAX: usize>(Vec<u8>);

/// Why a text is not such bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BytesError {
    #[error("these are more than {0} bytes")]
    TooLong(usize),
    #[error("this is not base64 with its padding (RFC 4648, section 4)")]
    NotBase64,
}

impl<const MAX: usize> Bytes<MAX> {
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, BytesError> {
        if bytes.len() > MAX { Err(BytesError::TooLong(MAX)) } else { Ok(Self(bytes.to_vec())) }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for Bytes<MAX> {
    type Error = BytesError;
    fn try_from(text: String) -> Result<Self, BytesError> {
        // Before anything is decoded: four characters stand for three bytes.
        if text.len() > MAX.div_ceil(3) * 4 {
            return Err(BytesError::TooLong(MAX));
        }
        Self::new(&BASE64_STANDARD.decode(text).map_err(|_| BytesError::NotBase64)?)
    }
}

impl<const MAX: usize> From<Bytes<MAX>> for String {
    fn from(bytes: Bytes<MAX>) -> Self {
        BASE64_STANDARD.encode(bytes.0)
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_and_have_a_limit() {
        let bytes = Bytes::<4>::new(b"four").unwrap();
        assert_eq!(serde_json::to_string(&bytes).unwrap(), "\"Zm91cg==\"");
        assert_eq!(serde_json::from_str::<Bytes<4>>("\"Zm91cg==\"").unwrap(), bytes);
        for bad in ["\"Zm91cg\"", "\"Zml2ZTU=\"", "\"Zm91cmZvdXI=\"", "\"%\"", "4", "[1]"] {
            assert!(serde_json::from_str::<Bytes<4>>(bad).is_err(), "{bad}");
        }
        assert!(Bytes::<4>::new(b"fives").is_err());
        assert_eq!(format!("{bytes:?}"), "4 bytes");
    }
}
