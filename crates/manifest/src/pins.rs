//! Executables by the digest of their bytes.

use crate::{GrantPath, PathSet};
use octant_ids::Sha256;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Which files must have which bytes: the more there are, the less is granted. A file of which two digests are asked is
/// never the right one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pins(BTreeSet<(GrantPath, Sha256)>);

impl Pins {
    /// Those of what is granted to execute.
    #[must_use]
    pub fn of(pins: impl IntoIterator<Item = (GrantPath, Sha256)>, execute: &PathSet) -> Self {
        Self(pins.into_iter().filter(|(path, _)| execute.covers(path)).collect())
    }

    /// What both demand, of what both grant to execute.
    #[must_use]
    pub fn meet(&self, other: &Self, execute: &PathSet) -> Self {
        Self::of(self.0.union(&other.0).cloned(), execute)
    }

    /// The files with their digests, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&GrantPath, Sha256)> {
        self.0.iter().map(|(path, digest)| (path, *digest))
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(path, digest)| format!("{digest}  {path}"))).finish()
    }
}
