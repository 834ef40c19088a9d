//! Names of secrets.

use crate::text::text_form;
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The name of a secret: 1 to 128 characters of `a-z`, `A-Z`, `0-9`, `_`, `-`, `.` in parts separated by `/`; no part is
/// empty or begins with a dot.
///
/// The name stands beside the sealed value in what authenticates it, so a value cannot be passed off under another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// Why a text is not a [`SecretName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a secret's name: 1 to 128 characters of a-z, A-Z, 0-9, _, -, . in parts separated by /, no part \
     empty or beginning with a dot"
)]
pub struct SecretNameError(pub String);

text_form!(SecretName);

impl SecretName {
    /// The longest name, in bytes.
    pub const MAX: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        // What a part may begin with depends on nothing but the slash before it, as does what may end one.
        let (mut before, mut plain) = (b'/', text.len() <= Self::MAX);
        for byte in text.bytes() {
            plain &= match byte {
                b'/' | b'.' => before != b'/',
                b'_' | b'-' => true,
                other => other.is_ascii_alphanumeric(),
            };
            before = byte;
        }
        if plain && before != b'/' {
            return Ok(Self(text.to_owned()));
        }
        // What is shown is bounded: it can come from anybody.
        Err(SecretNameError(text.chars().take(Self::MAX).collect()))
    }
}

impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;
    fn try_from(text: String) -> Result<Self, SecretNameError> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_pass() {
        for good in ["a", "DATABASE_URL", "prod/db/password", "api.key-2", &"a".repeat(128)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/.b", ".", "a b", "ä", "a\n", &"a".repeat(129)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }
}
