//! The trusted set as this service has acted upon it: every change of it is on record before anything follows from it.
//!
//! What adds authority (a key, a role, a later end, a revocation taken back) is recorded first and counts then; what
//! takes it away counts at once and is recorded after.

use crate::approvals::Now;
use octant_api::agents::TrustedKey;
use octant_ids::Sha256;
use octant_manifest::{KeyId, KeyInfo, TrustedKeys};
use octant_service::{KeepError, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "trust.json";

/// Why what was on record of the trusted set is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotedError {
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// What is on record of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    operator: String,
    role: String,
    until_ms: Option<u64>,
    revoked: Option<String>,
    /// Whether its end has come.
    over: bool,
    /// Since when it is as it is, in milliseconds since 1970.
    since_ms: u64,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// It is trusted now.
    Added,
    /// Its operator, role or end is another.
    Changed,
    /// It is not in the set any more.
    Removed,
    /// It is on the list of revoked ones.
    Revoked,
    /// It is not on that list any more, or its end is to come again since the clock was set back.
    Restored,
    /// Its end has come.
    Expired,
}

impl Change {
    /// Whether somebody can sign for more than before.
    pub(crate) fn adds(self) -> bool {
        match self {
            Self::Added | Self::Changed | Self::Restored => true,
            Self::Removed | Self::Revoked | Self::Expired => false,
        }
    }
}

/// A change of one key, as it goes on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Changed {
    pub(crate) change: Change,
    /// The SHA-256 of the public key.
    pub(crate) key: Sha256,
    pub(crate) operator: String,
    pub(crate) role: String,
    pub(crate) until_ms: Option<u64>,
    pub(crate) reason: Option<String>,
}

/// What is on record of the trusted set.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    path: PathBuf,
    keys: BTreeMap<Sha256, Key>,
}

impl Noted {
    /// Reads it, in the state directory. Damaged it stops the start: it says which revocations were followed.
    pub(crate) fn open(state: &Path) -> Result<Self, NotedError> {
        let path = state.join(FILE);
        let keys = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| NotedError::Damaged { path: path.clone(), why: e.to_string() })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(NotedError::Read { path, source }),
        };
        Ok(Self { path, keys })
    }

    /// What is different in the set as it is now, and what will be on record of it then.
    pub(crate) fn compare(&self, set: &TrustedKeys, now: Now) -> (Vec<Changed>, Self) {
        let (mut next, mut changes) = (BTreeMap::new(), Vec::new());
        for info in set.iter() {
            let KeyInfo { key: KeyId(id), operator, role, until_ms, revoked } = info;
            let over = until_ms.is_some_and(|end| now.wall_ms >= end);
            let mut is = Key { operator, role, until_ms, revoked, over, since_ms: now.wall_ms };
            let was = self.keys.get(&id);
            let found = changes_of(was, &is);
            if let (true, Some(was)) = (found.is_empty(), was) {
                is.since_ms = was.since_ms;
            }
            changes.extend(found.into_iter().map(|change| changed(change, id, &is)));
            next.insert(id, is);
        }
        for (id, was) in &self.keys {
            if next.contains_key(id) {
                continue;
            }
            // Revoked with its file gone: what was signed with it is void all the same.
            let reason = set.reason(KeyId(*id)).map(str::to_owned);
            if reason.is_some() {
                let is = Key { revoked: reason, since_ms: was.since_ms, ..was.clone() };
                changes.extend(was.revoked.is_none().then(|| changed(Change::Revoked, *id, &is)));
                next.insert(*id, is);
            } else {
                changes.push(changed(Change::Removed, *id, was));
            }
        }
        // Whatever the order in which the files were read.
        changes.sort_by_key(|changed| changed.key);
        (changes, Self { path: self.path.clone(), keys: next })
    }

    /// Keeps it, durably.
    pub(crate) fn keep(&self) -> Result<(), NotedError> {
        let damaged =
            |e: serde_json::Error| NotedError::Damaged { path: self.path.clone(), why: e.to_string() };
        Ok(replace(&self.path, &serde_json::to_vec(&self.keys).map_err(damaged)?, true)?)
    }

    /// The digest of all of it: what the record of a change names as the set that it leads to.
    pub(crate) fn digest(&self) -> Sha256 {
        let rows: Vec<_> = self
            .keys
            .iter()
            .map(|(id, key)| (id, &key.operator, &key.role, key.until_ms, key.revoked.is_some(), key.over))
            .collect();
        // Texts and numbers: there is nothing in it that JSON cannot say.
        octant_manifest::digest(&serde_json::to_vec(&rows).unwrap_or_default())
    }

    /// Every key, for people.
    pub(crate) fn list(&self) -> Vec<TrustedKey> {
        let row = |(id, key): (&Sha256, &Key)| TrustedKey {
            key: *id,
            operator: key.operator.clone(),
            role: key.role.clone(),
            until_ms: key.until_ms,
            revoked: key.revoked.clone(),
            since_ms: key.since_ms,
        };
        self.keys.iter().map(row).collect()
    }
}

fn changed(change: Change, key: Sha256, is: &Key) -> Changed {
    let (operator, role, reason) = (is.operator.clone(), is.role.clone(), is.revoked.clone());
    Changed { change, key, operator, role, until_ms: is.until_ms, reason }
}

/// In the order in which they are to be read.
fn changes_of(was: Option<&Key>, is: &Key) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(was) = was else {
        changes.push(Change::Added);
        changes.extend(is.revoked.is_some().then_some(Change::Revoked));
        changes.extend(is.over.then_some(Change::Expired));
        return changes;
    };
    let same = (&was.operator, &was.role, was.until_ms) == (&is.operator, &is.role, is.until_ms);
    changes.extend((!same).then_some(Change::Changed));
    match (&was.revoked, &is.revoked) {
        (None, Some(_)) => changes.push(Change::Revoked),
        (Some(_), None) => changes.push(Change::Restored),
        _ => {}
    }
    changes.extend((is.over && !was.over).then_some(Change::Expired));
    // The clock was set back: it counts again, and that is on record.
    changes.extend((was.over && !is.over && same).then_some(Change::Restored));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Scratch;
    use octant_manifest::SigningKey;

    const AT: u64 = 1_800_000_000_000;

    fn at(wall_ms: u64) -> Now {
        Now { wall_ms, boot_ns: 0 }
    }

    fn set(files: &[(&str, String)]) -> TrustedKeys {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        TrustedKeys::from_files(&files).unwrap()
    }

    #[test]
    fn each_change_of_a_key_is_seen_once_and_over_restarts() {
        let scratch = Scratch::new();
        let key = SigningKey::from_seed([1; 32]);
        let line = |role: &str, until: &str| format!("{}{until}", key.public_file("ada", role).trim_end());
        let revoked = ("revoked", format!("{} lost", key.id()));
        let until = " until=2027-01-15T08:00:01Z";
        use Change::{Added, Changed, Expired, Removed, Restored, Revoked};
        type Step = (Vec<(&'static str, String)>, u64, Vec<Change>);
        let steps: [Step; 11] = [
            (vec![("a.pub", line("analyst", ""))], AT, vec![Added]),
            (vec![("b.pub", line("analyst", ""))], AT + 1, vec![]),
            (vec![("a.pub", line("admin", ""))], AT + 2, vec![Changed]),
            (vec![("a.pub", line("admin", "")), revoked.clone()], AT + 3, vec![Revoked]),
            (vec![revoked.clone()], AT + 4, vec![]),
            (vec![("a.pub", line("admin", ""))], AT + 5, vec![Restored]),
            (vec![("a.pub", line("admin", until))], AT + 6, vec![Changed]),
            (vec![("a.pub", line("admin", until))], AT + 2000, vec![Expired]),
            (vec![("a.pub", line("admin", until))], AT + 7, vec![Restored]),
            (vec![], AT + 2001, vec![Removed]),
            (vec![("a.pub", line("admin", until)), revoked], AT + 2002, vec![Added, Revoked, Expired]),
        ];
        let mut since = 0;
        for (number, (files, now, expected)) in steps.into_iter().enumerate() {
            let noted = Noted::open(scratch.path()).unwrap();
            let (changes, next) = noted.compare(&set(&files), at(now));
            let found: Vec<Change> = changes.iter().map(|changed| changed.change).collect();
            assert_eq!(found, expected, "step {number}");
            assert!(changes.iter().all(|changed| KeyId(changed.key) == key.id()));
            assert_eq!(next.digest() == noted.digest(), expected.is_empty(), "step {number}");
            since = if expected.is_empty() { since } else { now };
            assert!(next.list().iter().all(|key| key.since_ms == since), "step {number}: {:?}", next.list());
            next.keep().unwrap();
        }
        fs::write(scratch.path().join(FILE), "{").unwrap();
        assert!(Noted::open(scratch.path()).is_err());
    }
}
