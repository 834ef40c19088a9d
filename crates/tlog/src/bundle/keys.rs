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
    /// Takes the payload of a `key` entry.
    pub(super) fn accept(&mut self, seq: u64, payload: Option<&str>) -> Result<(), Fault> {
        let change: KeyChange = payload
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(Fault::KeyEntry("it does not name a key"))?;
        let key: Verifier = change.key.parse().map_err(|_| Fault::KeyEntry("it does not name a key"))?;
        if let Some(replaced) = change.replaces {
            let old: Verifier =
                replaced.key.parse().map_err(|_| Fault::KeyEntry("the key that it replaces is none"))?;
            if self.current.as_ref().is_some_and(|current| *current != old) {
                return Err(Fault::KeyEntry("it replaces another key than the one before it named"));
            }
            let covered = match &replaced.checkpoint {
                None => 0,
                Some(text) => {
                    let signed = Signed::open(text, &old)
                        .map_err(|_| Fault::KeyEntry("the old key's last checkpoint is not signed by it"))?;
                    signed.checkpoint.size
                }
            };
            if self.past.len() == KEYS_MAX {
                return Err(Fault::KeyEntry("no log has had so many keys"));
            }
            self.past.push(Past { key: old, ended: seq, covered });
        } else if self.current.is_some() {
            return Err(Fault::KeyEntry("it does not say which key it replaces"));
        }
        self.current = Some(key);
        Ok(())
    }

    /// Whether the log signs with this key at the end, as far as its entries say.
    pub(super) fn ends_with(&self, key: &Verifier) -> bool {
        self.current.as_ref().is_none_or(|current| current == key)
    }
}
