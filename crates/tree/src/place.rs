//! A place in a tree: a relative path in normal form.

use crate::limits::{DEPTH, NAME_BYTES, PATH_BYTES};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A relative path in normal form: names and single slashes, no `.`, no `..`, at least one name. Bytes, because that is
/// what names are on disk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Vec<u8>);

/// Why a path is no place in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// `..`
    #[error("{0} has `..`, which could lead out of the tree")]
    Parent(String),
    /// Not in normal form.
    #[error("{0} is not a relative path in normal form")]
    Form(String),
    /// A NUL byte.
    #[error("{0} has a NUL byte")]
    Nul(String),
    /// Too long.
    #[error("{start}... has {found} bytes, the limit is {limit}")]
    Long {
        /// How it starts.
        start: String,
        /// How many bytes it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Too deep.
    #[error("{start}... has {found} names, the limit is {DEPTH}")]
    Deep {
        /// How it starts.
        start: String,
        /// How many names it has.
        found: usize,
    },
}

/// The first bytes of a text, printable.
fn shown(bytes: &[u8]) -> String {
    bytes.get(..80).unwrap_or(bytes).escape_ascii().to_string()
}

impl Place {
    /// The place that these bytes are the normal form of.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PlaceError> {
        match Self::of_archive(bytes)? {
            Some(place) if place.0 == bytes => Ok(place),
            _ => Err(PlaceError::Form(shown(bytes))),
        }
    }

    /// The place that an archive's name means, `None` for the tree itself. As tar(1) has it, a slash at the beginning
    /// is not the root of anything but the tree; `.` and empty names say nothing.
    ///
    /// # Errors
    /// [`PlaceError`]: `..`, NUL, too long or too deep.
    pub fn of_archive(bytes: &[u8]) -> Result<Option<Self>, PlaceError> {
        let long = |found, limit| PlaceError::Long { start: shown(bytes), found, limit };
        if bytes.len() > PATH_BYTES {
            return Err(long(bytes.len(), PATH_BYTES));
        }
        if bytes.contains(&0) {
            return Err(PlaceError::Nul(shown(bytes)));
        }
        let names: Vec<&[u8]> =
            bytes.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        if names.contains(&b"..".as_slice()) {
            return Err(PlaceError::Parent(shown(bytes)));
        }
        if let Some(name) = names.iter().find(|name| name.len() > NAME_BYTES) {
            return Err(long(name.len(), NAME_BYTES));
        }
        if names.len() > DEPTH {
            return Err(PlaceError::Deep { start: shown(bytes), found: names.len() });
        }
        Ok(if names.is_empty() { None } else { Some(Self(names.join(&b'/'))) })
    }

    /// The directory that it lies in; `None` for the tree itself.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.iter().rposition(|&b| b == b'/').map(|end| Self(self.0[..end].to_vec()))
    }

    /// Its last name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The place of this name in the same directory.
    ///
    /// # Errors
    /// [`PlaceError`]: `name` is none.
    pub fn sibling(&self, name: &[u8]) -> Result<Self, PlaceError> {
        let name = Self::parse(name)?;
        if name.0.contains(&b'/') {
            return Err(PlaceError::Form(shown(&name.0)));
        }
        match self.parent() {
            Some(parent) => parent.join(&name),
            None => Ok(name),
        }
    }

    /// The place `below` in this one.
    ///
    /// # Errors
    /// [`PlaceError`]: too long or too deep.
    pub fn join(&self, below: &Self) -> Result<Self, PlaceError> {
        Self::parse(&[self.0.as_slice(), &below.0].join(&b'/'))
    }

    /// Whether it lies below `other`.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It as a path, relative.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The places below this one are those from `self/` to before `self0`, in the order of bytes.
    pub(crate) fn range_below(&self) -> (Self, Self) {
        let with = |last: u8| Self([self.0.as_slice(), &[last]].concat());
        (with(b'/'), with(b'/' + 1))
    }
}

impl fmt::Display for Place {
    /// Bytes that are not printable ASCII are escaped, so that no name can control a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => fmt::Display::fmt(&self.0.escape_ascii(), f),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archives_names_become_places_in_the_tree() {
        let place = |name: &str| Place::of_archive(name.as_bytes()).map(|p| p.map(|p| p.to_string()));
        for name in ["a/b", "./a/b", "/a/b", "a//b/", "//a/./b/."] {
            assert_eq!(place(name), Ok(Some("a/b".into())), "{name}");
        }
        for name in ["", "/", ".", "./", "//"] {
            assert_eq!(place(name), Ok(None), "{name}");
        }
        assert!(matches!(place("a/../b"), Err(PlaceError::Parent(_))));
        assert!(matches!(place(".."), Err(PlaceError::Parent(_))));
        assert!(matches!(place("a\0b"), Err(PlaceError::Nul(_))));
        assert!(matches!(place(&"x".repeat(256)), Err(PlaceError::Long { found: 256, limit: 255, .. })));
        assert!(matches!(place(&"x/".repeat(600)), Err(PlaceError::Long { limit: 1024, .. })));
        assert!(matches!(place(&"x/".repeat(65)), Err(PlaceError::Deep { found: 65, .. })));
    }

    #[test]
    fn only_the_normal_form_is_parsed() {
        assert!(Place::parse(b"a/b").is_ok());
        for name in ["", "/a", "a/", "./a", "a//b", "a/./b", "a/.."] {
            assert!(Place::parse(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_sibling_is_a_name_and_no_path() {
        let place = Place::parse(b"a/b").unwrap();
        assert_eq!(place.sibling(b"c").unwrap().as_bytes(), b"a/c");
        for name in ["..", ".", "", "c/d", "/c"] {
            assert!(place.sibling(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn below_is_by_names() {
        let place = |name: &str| Place::parse(name.as_bytes()).unwrap();
        assert!(place("a/b").is_below(&place("a")));
        assert!(!place("ab").is_below(&place("a")));
        assert!(!place("a").is_below(&place("a")));
    }
}
