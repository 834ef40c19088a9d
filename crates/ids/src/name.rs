//! Names of services and units.

use crate::text::text_form;
use std::fmt;
use std::str::FromStr;

/// The name of a service or unit: 1 to 31 characters of `a-z`, `0-9` and `-`, starting with a letter.
///
/// The bound lets it stand in PID 1's fixed frames, in a file name and in a cgroup name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// Why a text is not a [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a unit name: 1 to 31 characters of a-z, 0-9 and -, starting with a letter")]
pub struct NameError(pub String);

text_form!(ServiceName);

impl ServiceName {
    /// The longest name, in bytes.
    pub const MAX: usize = 31;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let valid = !text.is_empty()
            && text.len() <= Self::MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_names_pass() {
        for good in ["a", "ledger", "web-2"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "2a", "A", "a_b", "../x", &"a".repeat(32)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
