//! Sets of things that are named by patterns: hosts, credentials, models, skills, tools.

use crate::limits;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Why a text is not a pattern of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot stand here: {why}; write {write}")]
pub struct PatternError {
    /// What stands there.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
    /// What is understood.
    pub write: &'static str,
}

impl PatternError {
    pub(crate) fn new(text: &str, why: &'static str, write: &'static str) -> Self {
        Self { text: text.chars().take(200).collect(), why, write }
    }
}

/// A name for some things of one kind. Of two patterns either none or one pattern names what both name, so that
/// the intersection of sets of them is again such a set.
pub trait Pattern: Clone + Ord + fmt::Display + FromStr<Err = PatternError> {
    /// What both name, if there is anything.
    #[must_use]
    fn meet(&self, other: &Self) -> Option<Self>;

    /// Whether `other` names everything that this does.
    #[must_use]
    fn within(&self, other: &Self) -> bool {
        self.meet(other).as_ref() == Some(self)
    }
}

/// What the patterns name together. Kept minimal (none lies within another), so that equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternSet<P> {
    /// Everything of the kind. Only a ceiling says this; a manifest has no way to.
    All,
    /// What these name.
    Only(BTreeSet<P>),
}

impl<P: Pattern> PatternSet<P> {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(patterns) if patterns.is_empty())
    }

    /// What both sets have.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, set) | (set, Self::All) => set.clone(),
            (Self::Only(a), Self::Only(b)) => {
                a.iter().flat_map(|p| b.iter().filter_map(|q| p.meet(q))).collect()
            }
        }
    }

    /// Whether everything that `pattern` names is in the set.
    #[must_use]
    pub fn covers(&self, pattern: &P) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|p| pattern.within(p)),
        }
    }

    /// The patterns, in order; none for [`PatternSet::All`], which has no list, so that a caller who forgets it
    /// grants too little and not too much.
    pub fn iter(&self) -> impl Iterator<Item = &P> {
        let patterns = match self {
            Self::All => None,
            Self::Only(patterns) => Some(patterns),
        };
        patterns.into_iter().flatten()
    }
}

impl<P: Pattern> FromIterator<P> for PatternSet<P> {
    fn from_iter<I: IntoIterator<Item = P>>(patterns: I) -> Self {
        let all: BTreeSet<P> = patterns.into_iter().collect();
        let lower = |p: &P| all.iter().any(|q| q != p && p.within(q));
        Self::Only(all.iter().filter(|p| !lower(p)).cloned().collect())
    }
}

impl<P: fmt::Display> fmt::Display for PatternSet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(patterns) => f.debug_list().entries(patterns.iter().map(ToString::to_string)).finish(),
        }
    }
}

impl<P: fmt::Display> Serialize for PatternSet<P> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => to.serialize_str("all"),
            Self::Only(patterns) => to.collect_seq(patterns.iter().map(ToString::to_string)),
        }
    }
}

const NAME: &str = "a name, or the beginning of names with a * behind it, such as \"anthropic/*\"";

/// A name, or the beginning of names: `anthropic/claude-x`, `anthropic/*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern {
    /// What the name is, or begins with.
    stem: String,
    /// Whether more may follow.
    open: bool,
}

impl NamePattern {
    /// Whether it names more than one.
    #[must_use]
    pub fn open(&self) -> bool {
        self.open
    }

    /// Whether it names this.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.stem) } else { name == self.stem }
    }
}

impl Pattern for NamePattern {
    fn meet(&self, other: &Self) -> Option<Self> {
        let (long, short) = if self.stem.len() >= other.stem.len() { (self, other) } else { (other, self) };
        if self.stem == other.stem {
            return Some(Self { stem: self.stem.clone(), open: self.open && other.open });
        }
        (short.open && long.stem.starts_with(&short.stem)).then(|| long.clone())
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, NAME);
        let (stem, open) = text.strip_suffix('*').map_or((text, false), |stem| (stem, true));
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
        if text.is_empty() || text.len() > limits::PATTERN_BYTES {
            return Err(refuse("a name has 1 to 128 characters"));
        }
        if !stem.chars().all(legal) {
            return Err(refuse("names have letters, digits and - _ . / : @, and a * only at the end"));
        }
        Ok(Self { stem: stem.to_owned(), open })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, if self.open { "*" } else { "" })
    }
}
