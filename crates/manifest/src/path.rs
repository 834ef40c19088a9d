//! Paths as grants: absolute, normalised, compared by component.

use crate::limits;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// An absolute path without `.`, `..`, empty components or a trailing slash.
///
/// The order is by component, not by byte, so that everything below a path follows it directly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct GrantPath(String);

/// Why a text is not a [`GrantPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with a slash.
    #[error("{0:?} is relative, and a manifest has no directory to be relative to; write an absolute path")]
    Relative(String),
    /// It has a `..`.
    #[error(
        "{0:?} has a \"..\" component, which means something else once a link stands before it; write the path without it"
    )]
    Parent(String),
    /// It has a control character or NUL.
    #[error("{0:?} has a control character; rename the file")]
    Control(String),
    /// It is longer than [`limits::PATH_BYTES`], or a component than [`limits::COMPONENT_BYTES`], or has more
    /// components than [`limits::COMPONENTS`].
    #[error(
        "a path of {bytes} bytes and {components} components is too long; the limits are {} bytes, {} components, {} bytes a component",
        limits::PATH_BYTES,
        limits::COMPONENTS,
        limits::COMPONENT_BYTES
    )]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// How many components it has.
        components: usize,
    },
}

impl GrantPath {
    /// Reads and normalises a path: `//` and `.` are folded, a trailing slash is dropped.
    ///
    /// # Errors
    /// Relative, with `..`, with control characters, or too long.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') {
            return Err(PathError::Relative(text.chars().take(200).collect()));
        }
        let components = || text.split('/').filter(|c| !c.is_empty() && *c != ".");
        let count = components().count();
        let long = components().any(|c| c.len() > limits::COMPONENT_BYTES);
        if text.len() > limits::PATH_BYTES || count > limits::COMPONENTS || long {
            return Err(PathError::TooLong { bytes: text.len(), components: count });
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::Control(text.to_owned()));
        }
        if components().any(|c| c == "..") {
            return Err(PathError::Parent(text.to_owned()));
        }
        let mut path = String::with_capacity(text.len());
        for component in components() {
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, from the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|c| !c.is_empty())
    }

    /// Whether `other` is this path or lies below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut below = other.components();
        self.components().all(|c| below.next() == Some(c))
    }
}

impl Ord for GrantPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for GrantPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl AsRef<Path> for GrantPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for GrantPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of trees: each path stands for itself and everything below it.
///
/// Kept minimal (no member lies below another), so that equal sets of files are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PathSet(BTreeSet<GrantPath>);

impl PathSet {
    /// Whether a member covers `path`.
    #[must_use]
    pub fn covers(&self, path: &GrantPath) -> bool {
        self.0.iter().any(|member| member.covers(path))
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = &GrantPath> {
        self.0.iter()
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it grants nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files that both sets grant.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        // Of two trees that overlap one lies within the other, so the lower root is their intersection.
        let below = |a: &Self, b: &Self| a.0.iter().filter(|p| b.covers(p)).cloned().collect::<Vec<_>>();
        below(self, other).into_iter().chain(below(other, self)).collect()
    }

    /// The files that either set grants.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }
}

impl FromIterator<GrantPath> for PathSet {
    fn from_iter<I: IntoIterator<Item = GrantPath>>(paths: I) -> Self {
        // In component order a tree's root comes right before what lies below it.
        let sorted: BTreeSet<GrantPath> = paths.into_iter().collect();
        let mut kept: Vec<GrantPath> = Vec::with_capacity(sorted.len());
        for path in sorted {
            if !kept.last().is_some_and(|root| root.covers(&path)) {
                kept.push(path);
            }
        }
        Self(kept.into_iter().collect())
    }
}

impl fmt::Display for PathSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(GrantPath::as_str)).finish()
    }
}
