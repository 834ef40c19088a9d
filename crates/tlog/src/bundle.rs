//! An export: entries, proofs, checkpoint and cosignatures as one file that is checked without the ledger.
//!
//! The file is text, one JSON document a line ([`LINE_MAX`]):
//!
//! | line | members |
//! |---|---|
//! | the first ([`Header`]) | `format`, `origin`, `key`, `checkpoint`, `witnesses`, `quorum`, `from`, `to`, `agent` where only entries about one agent are there, `complete` |
//! | each entry ([`line_of_entry`]) | `seq`, `entry` (canonical bytes, base 64); `payload` and `salt` where the payload can be erased and is there; `proof` (hashes in base 64, RFC 6962 section 2.1.1) unless `complete` |
//! | the last ([`end`]) | `end`: how many entries there are |
//!
//! `complete` says that every entry that the checkpoint covers is there; the root is then recomputed, and no entry
//! needs a proof of its own. Nothing in the file is believed: [`Check`] takes it line by line and answers with what is
//! proven by it and what is not.

use octant_ids::{Aid, Sha256};
use serde::{Deserialize, Serialize};

mod check;
mod fuzz;
mod keys;
mod links;
mod report;
#[cfg(test)]
mod tests;
mod verdict;

pub use check::{Check, Given, Kept};
pub use fuzz::fuzz_export;
pub use keys::{KeyChange, Replaced};
pub use report::{Compared, Cosigned, Fault, Report, Wrong};

use crate::checkpoint::hash_to_base64;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the first line names as the format. Another number is another format.
pub const FORMAT: &str = "octant-export-1";
/// The longest line, in bytes and without its newline: an entry of 65,535 bytes in base 64, an erasable payload of
/// 60 KiB of which every byte is escaped, and a proof.
pub const LINE_MAX: usize = 1 << 20;
/// The most witnesses that the first line may name.
pub const WITNESSES_MAX: usize = 64;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The log's name, as in its checkpoints.
    pub origin: String,
    /// The log's verifier key (C2SP signed-note). Whoever checks had better have it from elsewhere.
    pub key: String,
    /// The checkpoint that everything is proven against, with its cosignatures.
    pub checkpoint: String,
    /// The verifier keys of the witnesses that the log was configured with.
    pub witnesses: Vec<String>,
    /// How many of them have to cosign; 0 for none.
    pub quorum: u32,
    /// The first entry of the range, from 1.
    pub from: u64,
    /// The last entry of the range; one less than `from` where the log has no entry.
    pub to: u64,
    /// Of the range, only entries about this agent are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Aid>,
    /// Every entry that the checkpoint covers is there.
    pub complete: bool,
}

impl Header {
    /// The line, without its newline.
    ///
    /// # Errors
    /// None that is known: every member has a JSON form.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The line of an entry as it is written.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    entry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<&'a Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Vec<String>>,
}

/// The line of one entry, without its newline: its canonical bytes; the payload with its salt where the payload can be
/// erased and was not; the proof that it is in the checkpoint's tree, unless the export is complete.
///
/// # Errors
/// None that is known: every member has a JSON form.
pub fn line_of_entry(
    seq: u64,
    entry: &[u8],
    erasable: Option<(&str, &Sha256)>,
    proof: Option<&[Sha256]>,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Line {
        seq,
        entry: STANDARD.encode(entry),
        payload: erasable.map(|(payload, _)| payload),
        salt: erasable.map(|(_, salt)| salt),
        proof: proof.map(|hashes| hashes.iter().map(hash_to_base64).collect()),
    })
}

/// The last line, without its newline.
#[must_use]
pub fn end(count: u64) -> String {
    format!("{{\"end\":{count}}}")
}
