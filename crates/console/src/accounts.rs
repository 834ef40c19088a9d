//! Operators' accounts: a name, a user id, and what a passphrase is checked against.

use crate::files::{self, FileError};
use octant_crypto::CryptoError;
use octant_crypto::passphrase::{Argon2Cost, PassphraseError, SALT_LEN, passphrase_key};
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// The most accounts.
const MAX: usize = 64;
/// The longest name: with `@` and a terminal it is a field of a frame to PID 1.
pub(crate) const NAME_MAX: usize = 16;
/// The shortest passphrase that is taken for a new account. Who guesses at a console is slowed down; who has the disk
/// is only kept off by its length.
pub(crate) const PASSPHRASE_MIN: usize = 10;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: String,
    /// The user (and group) id of its shell.
    pub(crate) uid: u32,
    cost: Argon2Cost,
    salt: Sha256,
    verifier: Sha256,
}

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    accounts: Vec<Account>,
}

const VERSION: u32 = 1;

/// Why an account cannot be made, read or checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that cannot be one.
    #[error("{0:?} is no name for an account; take 1 to 16 of a-z, 0-9 and -, beginning with a letter")]
    Name(String),
    /// It is there already.
    #[error("there is an account {0} already; `login --passphrase {0}` changes its passphrase")]
    Exists(String),
    /// It is not there.
    #[error("there is no account {0}; `login --list` shows them")]
    Unknown(String),
    /// A user id that belongs to a service or an agent.
    #[error("user id {0} belongs to Octant's own services or agents; take another, such as 1000")]
    Uid(u32),
    /// Too many.
    #[error("there are {MAX} accounts already; remove one with `login --remove NAME`")]
    Full,
    /// A passphrase that is too short.
    #[error(
        "the passphrase has less than {PASSPHRASE_MIN} characters; several words that nobody connects are good"
    )]
    Short,
    /// No key comes of the passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// No salt.
    #[error(transparent)]
    Random(#[from] CryptoError),
}

/// All accounts of a machine.
#[derive(Debug)]
pub(crate) struct Accounts {
    path: PathBuf,
    list: Vec<Account>,
}

impl Accounts {
    /// Reads the file in this directory; without one there are none.
    pub(crate) fn load(directory: &Path) -> Result<Self, AccountError> {
        let path = directory.join("accounts.json");
        let Some(text) = files::read(&path)? else { return Ok(Self { path, list: Vec::new() }) };
        let bad = |why: String| FileError::Content { path: path.clone(), why };
        let stored: Stored = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if stored.version != VERSION || stored.accounts.len() > MAX {
            return Err(
                bad(format!("version {} with {} accounts", stored.version, stored.accounts.len())).into()
            );
        }
        Ok(Self { path, list: stored.accounts })
    }

    /// The accounts.
    pub(crate) fn list(&self) -> &[Account] {
        &self.list
    }

    /// Whether such an account can be made: asked before it goes on record that it is.
    pub(crate) fn can_add(&self, name: &str, uid: u32, passphrase: &[u8]) -> Result<(), AccountError> {
        if !is_name(name) {
            return Err(AccountError::Name(name.to_owned()));
        }
        if self.find(name).is_some() {
            return Err(AccountError::Exists(name.to_owned()));
        }
        if is_octants(uid) {
            return Err(AccountError::Uid(uid));
        }
        if self.list.len() >= MAX {
            return Err(AccountError::Full);
        }
        long_enough(passphrase)
    }

    /// Makes an account, durably.
    pub(crate) fn add(&mut self, name: &str, uid: u32, passphrase: &[u8]) -> Result<(), AccountError> {
        self.can_add(name, uid, passphrase)?;
        let account = make(name, uid, passphrase)?;
        self.list.push(account);
        self.save().inspect_err(|_| drop(self.list.pop()))
    }

    /// Whether there is such an account.
    pub(crate) fn is_there(&self, name: &str) -> Result<(), AccountError> {
        self.at(name).map(drop)
    }

    /// Whether an account can have this passphrase.
    pub(crate) fn can_change(&self, name: &str, passphrase: &[u8]) -> Result<(), AccountError> {
        self.at(name)?;
        long_enough(passphrase)
    }

    /// Gives an account another passphrase, durably.
    pub(crate) fn change(&mut self, name: &str, passphrase: &[u8]) -> Result<(), AccountError> {
        let at = self.at(name)?;
        let new = make(name, self.list[at].uid, passphrase)?;
        let old = std::mem::replace(&mut self.list[at], new);
        self.save().inspect_err(|_| self.list[at] = old)
    }

    /// Removes an account, durably. A session of it goes on until it ends.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), AccountError> {
        let at = self.at(name)?;
        let old = self.list.remove(at);
        self.save().inspect_err(|_| self.list.insert(at, old))
    }

    fn at(&self, name: &str) -> Result<usize, AccountError> {
        let at = self.list.iter().position(|account| account.name == name);
        at.ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }

    fn find(&self, name: &str) -> Option<&Account> {
        self.list.iter().find(|account| account.name == name)
    }

    fn save(&self) -> Result<(), AccountError> {
        let stored = Stored { version: VERSION, accounts: self.list.clone() };
        let text = serde_json::to_string_pretty(&stored)
            .map_err(|error| FileError::Content { path: self.path.clone(), why: error.to_string() })?;
        Ok(files::write(&self.path, &(text + "\n"))?)
    }

    /// The account whose name and passphrase these are. A name that is not there is checked against a verifier that
    /// nothing has, at the same cost.
    pub(crate) fn check(&self, name: &str, passphrase: &[u8]) -> Result<Option<&Account>, AccountError> {
        let nobody = nobody();
        let account = self.find(name);
        let against = account.unwrap_or(&nobody);
        // An empty or too long passphrase is a wrong one, and takes as long as any.
        let fits = (1..=octant_crypto::passphrase::PASSPHRASE_MAX).contains(&passphrase.len());
        let typed = if fits { passphrase } else { b"-" };
        let verifier = verifier(typed, &against.salt, against.cost)?;
        let same = bool::from(verifier.0.ct_eq(&against.verifier.0));
        Ok(account.filter(|_| same && fits))
    }
}

/// Whether a user id is a service's or an agent's.
fn is_octants(uid: u32) -> bool {
    octant_ids::uid::service_of(uid).is_some()
        || uid == octant_ids::uid::NOTIFY_GROUP
        || uid >= octant_ids::uid::AGENT_BASE
}

/// Whether a text can be an account's name.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && name.as_bytes()[0].is_ascii_lowercase()
}

fn long_enough(passphrase: &[u8]) -> Result<(), AccountError> {
    let characters = String::from_utf8_lossy(passphrase).chars().count();
    if characters < PASSPHRASE_MIN { Err(AccountError::Short) } else { Ok(()) }
}

fn make(name: &str, uid: u32, passphrase: &[u8]) -> Result<Account, AccountError> {
    long_enough(passphrase)?;
    let (salt, cost) = (Sha256(octant_crypto::random::<SALT_LEN>()?), Argon2Cost::DEFAULT);
    let verifier = verifier(passphrase, &salt, cost)?;
    Ok(Account { name: name.to_owned(), uid, cost, salt, verifier })
}

/// What is kept of a passphrase: a hash of its key, so that the file gives nobody the key itself.
fn verifier(passphrase: &[u8], salt: &Sha256, cost: Argon2Cost) -> Result<Sha256, PassphraseError> {
    let key = passphrase_key(passphrase, &salt.0, cost)?;
    let hash = sha2::Sha256::new().chain_update(b"octant console account\0").chain_update(key.bytes());
    Ok(Sha256(hash.finalize().into()))
}

/// The account of a name that is not there.
fn nobody() -> Account {
    Account {
        name: String::new(),
        uid: u32::MAX,
        cost: Argon2Cost::DEFAULT,
        salt: Sha256([0x5a; 32]),
        verifier: Sha256([0; 32]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    const GOOD: &[u8] = b"correct horse";

    #[test]
    fn an_account_is_opened_by_its_passphrase_alone() {
        let scratch = Scratch::new("accounts");
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        assert!(accounts.check("alice", GOOD).unwrap().is_none());
        accounts.add("alice", 0, GOOD).unwrap();
        accounts.add("bob", 1000, b"another passphrase").unwrap();
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        assert_eq!(accounts.check("alice", GOOD).unwrap().map(|account| account.uid), Some(0));
        let long = vec![b'x'; 2000];
        for (name, wrong) in [
            ("alice", &b"correct horsf"[..]),
            ("bob", GOOD),
            ("carol", GOOD),
            ("alice", b""),
            ("alice", &long),
            ("", GOOD),
        ] {
            assert!(accounts.check(name, wrong).unwrap().is_none(), "{name}");
        }
        accounts.change("alice", b"something else").unwrap();
        assert!(accounts.check("alice", GOOD).unwrap().is_none());
        assert!(accounts.check("alice", b"something else").unwrap().is_some());
        accounts.remove("bob").unwrap();
        assert_eq!(Accounts::load(&scratch.0).unwrap().list().len(), 1);
        let text = std::fs::read_to_string(scratch.0.join("accounts.json")).unwrap();
        assert!(!text.contains("something") && !text.contains("correct"));
    }

    #[test]
    fn what_cannot_be_an_account_is_refused() {
        let scratch = Scratch::new("refused");
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        for name in ["", "Alice", "1a", "a b", "-a", "a@b", "abcdefghijklmnopq", "ä"] {
            assert!(matches!(accounts.add(name, 0, GOOD), Err(AccountError::Name(_))), "{name}");
        }
        for uid in [959, 960, 969, octant_ids::uid::AGENT_BASE, u32::MAX] {
            assert!(matches!(accounts.add("a", uid, GOOD), Err(AccountError::Uid(_))), "{uid}");
        }
        assert!(matches!(accounts.add("a", 0, b"short"), Err(AccountError::Short)));
        assert!(matches!(accounts.remove("a"), Err(AccountError::Unknown(_))));
        accounts.add("a", 0, GOOD).unwrap();
        assert!(matches!(accounts.add("a", 0, GOOD), Err(AccountError::Exists(_))));
        std::fs::write(scratch.0.join("accounts.json"), "{}").unwrap();
        assert!(matches!(Accounts::load(&scratch.0), Err(AccountError::File(FileError::Content { .. }))));
    }
}
