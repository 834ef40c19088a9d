//! The keys that a log signed with, one after the other: what its `key` entries say.

use super::report::Fault;
use crate::checkpoint::Signed;
use crate::note::Verifier;
use serde::{Deserialize, Serialize};

/// More keys than any log has had: each is an operator's acknowledgement of a loss.
const KEYS_MAX: usize = 256;

/// The payload of a `key` entry: with which key the checkpoints are signed from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The verifier key.
    pub key: String,
    /// The key that it takes the place of; absent for a log's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
}

/// A key that is not signed with any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The verifier key.
    pub key: String,
    /// The last checkpoint that it signed, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A key of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) key: Verifier,
    /// The entry that ended it.
    pub(super) ended: u64,
    /// How many entries its last checkpoint covers.
    pub(super) covered: u64,
}

/// What the entries so far say about keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The key since the last `key` entry.
    current: Option<Verifier>,
    pub(super) past: Vec<Past>,
}

impl Keys {
    /// Takes the payload of a `key` entry. What it says of the key before is only used to read checkpoints from
    /// outside, whose signatures and roots are checked in any case.
    pub(super) fn accept(&mut self, seq: u64, payload: Option<&str>) -> Result<(), Fault> {
        let change: Option<KeyChange> = payload.and_then(|text| serde_json::from_str(text).ok());
        let change = change.ok_or(Fault::KeyEntry("it does not name a key"))?;
        let key: Verifier = change.key.parse().map_err(|_| Fault::KeyEntry("it does not name a key"))?;
        let before = self.current.replace(key).map(|key| Past { key, ended: seq, covered: 0 });
        let past = match change.replaces {
            None => before,
            Some(Replaced { key, checkpoint }) => {
                let key: Verifier =
                    key.parse().map_err(|_| Fault::KeyEntry("the key that it replaces is none"))?;
                let last = checkpoint.and_then(|text| Signed::open(&text, &key).ok());
                Some(Past { key, ended: seq, covered: last.map_or(0, |signed| signed.checkpoint.size) })
            }
        };
        if self.past.len() == KEYS_MAX {
            return Err(Fault::KeyEntry("no log has had so many keys"));
        }
        self.past.extend(past);
        Ok(())
    }

    /// Whether the log signs with this key at the end, as far as its entries say.
    pub(super) fn ends_with(&self, key: &Verifier) -> bool {
        self.current.as_ref().is_none_or(|current| current == key)
    }
}
