//! What an agent may read from and write to disks in a second.

use octant_ids::ByteSize;
use serde::{Deserialize, Serialize};

/// Bounds for each disk that something granted lies on; `None` is without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Io {
    /// Bytes read in a second.
    pub read_bytes: Option<u64>,
    /// Bytes written in a second.
    pub write_bytes: Option<u64>,
    /// Reads in a second.
    pub read_ops: Option<u64>,
    /// Writes in a second.
    pub write_ops: Option<u64>,
}

/// What is said of a bound that there is not.
pub(crate) const UNLIMITED: &str = "unlimited";

impl Io {
    /// No bound: for ceilings, and what a manifest has that says nothing.
    pub const UNLIMITED: Self = Self { read_bytes: None, write_bytes: None, read_ops: None, write_ops: None };

    /// The lower of each bound.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let Self { read_bytes, write_bytes, read_ops, write_ops } = *other;
        let lower = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self {
            read_bytes: lower(self.read_bytes, read_bytes),
            write_bytes: lower(self.write_bytes, write_bytes),
            read_ops: lower(self.read_ops, read_ops),
            write_ops: lower(self.write_ops, write_ops),
        }
    }

    /// Each bound with its field, as text.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, String); 4] {
        let Self { read_bytes, write_bytes, read_ops, write_ops } = *self;
        let none = || UNLIMITED.to_owned();
        let bytes = |bound: Option<u64>| bound.map_or_else(none, |bytes| ByteSize(bytes).to_string());
        let ops = |bound: Option<u64>| bound.map_or_else(none, |ops| ops.to_string());
        [
            ("resources.io_read_bytes_per_second", bytes(read_bytes)),
            ("resources.io_write_bytes_per_second", bytes(write_bytes)),
            ("resources.io_read_ops_per_second", ops(read_ops)),
            ("resources.io_write_ops_per_second", ops(write_ops)),
        ]
    }

    /// The bounds that there are, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let words = ["read", "written", "reads", "writes"].into_iter().zip(self.rows());
        let bounds = words.zip([self.read_bytes, self.write_bytes, self.read_ops, self.write_ops]);
        let there = bounds.filter(|(_, bound)| bound.is_some());
        let texts: Vec<String> = there.map(|((word, (_, text)), _)| format!("{text} {word}")).collect();
        if texts.is_empty() { UNLIMITED.into() } else { format!("{} a second", texts.join(", ")) }
    }
}
