//! Operators' accounts: a name, a user id, and what opens it: a passphrase, keys, or both.

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
/// The most keys of an account.
const KEYS_MAX: usize = 16;
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
    /// What its passphrase is checked against; none where keys alone open it.
    passphrase: Option<Verifier>,
    /// The keys that open it, as long as they are in the trusted set.
    keys: Vec<Sha256>,
}

/// What a passphrase is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verifier {
    cost: Argon2Cost,
    salt: Sha256,
    hash: Sha256,
}

/// What opens a new account.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OpenedBy<'a> {
    /// A passphrase.
    Passphrase(&'a [u8]),
    /// A key of the trusted set, by its identifier.
    Key(Sha256),
}

impl Account {
    /// Whether this key opens it. That it still counts is for the trusted set to say.
    pub(crate) fn has_key(&self, key: Sha256) -> bool {
        self.keys.contains(&key)
    }

    /// What opens it, for people.
    pub(crate) fn opened_by(&self) -> String {
        let keys = self.keys.iter().map(|key| key.to_string()[..16].to_owned());
        let all: Vec<String> = self.passphrase.iter().map(|_| "passphrase".to_owned()).chain(keys).collect();
        all.join(" ")
    }
}

/// What is in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    accounts: Vec<Account>,
}

const VERSION: u32 = 2;

/// Why an account cannot be made, read or checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name that cannot be one.
    #[error("{0:?} is no name: take 1 to 16 of a-z, 0-9 and -, a letter first")]
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
    #[error("less than {PASSPHRASE_MIN} characters; several words that nobody connects are good")]
    Short,
    /// Too many keys.
    #[error("{0} has {KEYS_MAX} keys already; take one away with `login --no-key {0} KEY`")]
    ManyKeys(String),
    /// A key that does not open it.
    #[error("{name} is not opened by a key that begins with {key:?}; `login --list` shows those that do")]
    NoSuchKey {
        /// The account.
        name: String,
        /// What was given.
        key: String,
    },
    /// Nothing would open it any more.
    #[error(
        "nothing else opens {0}; give it a key (`login --key {0} KEY`) or a passphrase (`login --passphrase {0}`) first"
    )]
    Nothing(String),
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
    pub(crate) fn can_add(&self, name: &str, uid: u32, by: OpenedBy<'_>) -> Result<(), AccountError> {
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
        match by {
            OpenedBy::Passphrase(passphrase) => long_enough(passphrase),
            OpenedBy::Key(_) => Ok(()),
        }
    }

    /// Makes an account, durably.
    pub(crate) fn add(&mut self, name: &str, uid: u32, by: OpenedBy<'_>) -> Result<(), AccountError> {
        self.can_add(name, uid, by)?;
        let (passphrase, keys) = match by {
            OpenedBy::Passphrase(passphrase) => (Some(Verifier::of(passphrase)?), Vec::new()),
            OpenedBy::Key(key) => (None, vec![key]),
        };
        self.list.push(Account { name: name.to_owned(), uid, passphrase, keys });
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
        self.can_change(name, passphrase)?;
        let new = Verifier::of(passphrase)?;
        self.edit(name, |account| account.passphrase = Some(new))
    }

    /// Takes an account's passphrase away, durably: its keys alone open it.
    pub(crate) fn key_only(&mut self, name: &str) -> Result<(), AccountError> {
        if self.list[self.at(name)?].keys.is_empty() {
            return Err(AccountError::Nothing(name.to_owned()));
        }
        self.edit(name, |account| account.passphrase = None)
    }

    /// Whether an account can have one more key.
    pub(crate) fn can_add_key(&self, name: &str) -> Result<(), AccountError> {
        match self.list[self.at(name)?].keys.len() {
            KEYS_MAX.. => Err(AccountError::ManyKeys(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// Has a key open an account, durably.
    pub(crate) fn add_key(&mut self, name: &str, key: Sha256) -> Result<(), AccountError> {
        self.can_add_key(name)?;
        self.edit(name, |account| {
            account.keys.retain(|other| *other != key);
            account.keys.push(key);
        })
    }

    /// Has the key that begins so open an account no more, durably.
    pub(crate) fn remove_key(&mut self, name: &str, key: &str) -> Result<(), AccountError> {
        let account = &self.list[self.at(name)?];
        let mut found = account.keys.iter().copied().filter(|own| own.to_string().starts_with(key));
        let (Some(own), None) = (found.next(), found.next()) else {
            return Err(AccountError::NoSuchKey { name: name.to_owned(), key: key.to_owned() });
        };
        if account.keys.len() == 1 && account.passphrase.is_none() {
            return Err(AccountError::Nothing(name.to_owned()));
        }
        self.edit(name, |account| account.keys.retain(|other| *other != own))
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&mut Account)) -> Result<(), AccountError> {
        let at = self.at(name)?;
        let old = self.list[at].clone();
        change(&mut self.list[at]);
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

    /// The account of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Account> {
        self.list.iter().find(|account| account.name == name)
    }

    fn save(&self) -> Result<(), AccountError> {
        let stored = Stored { version: VERSION, accounts: self.list.clone() };
        let text = serde_json::to_string_pretty(&stored)
            .map_err(|error| FileError::Content { path: self.path.clone(), why: error.to_string() })?;
        Ok(files::write(&self.path, &(text + "\n"))?)
    }

    /// The account whose name and passphrase these are. A name that is not there, and one that keys alone open, are checked
    /// against a verifier that nothing has, at the same cost.
    pub(crate) fn check(&self, name: &str, passphrase: &[u8]) -> Result<Option<&Account>, AccountError> {
        let nobody = nobody();
        let account = self.find(name);
        let own = account.and_then(|account| account.passphrase.as_ref());
        let against = own.unwrap_or(&nobody);
        // An empty or too long passphrase is a wrong one, and takes as long as any.
        let fits = (1..=octant_crypto::passphrase::PASSPHRASE_MAX).contains(&passphrase.len());
        let typed = if fits { passphrase } else { b"-" };
        let hash = hash(typed, &against.salt, against.cost)?;
        let same = bool::from(hash.0.ct_eq(&against.hash.0));
        Ok(account.filter(|_| same && fits && own.is_some()))
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

impl Verifier {
    fn of(passphrase: &[u8]) -> Result<Self, AccountError> {
        let (salt, cost) = (Sha256(octant_crypto::random::<SALT_LEN>()?), Argon2Cost::DEFAULT);
        let hash = hash(passphrase, &salt, cost)?;
        Ok(Self { cost, salt, hash })
    }
}

/// What is kept of a passphrase: a hash of its key, so that the file gives nobody the key itself.
fn hash(passphrase: &[u8], salt: &Sha256, cost: Argon2Cost) -> Result<Sha256, PassphraseError> {
    let key = passphrase_key(passphrase, &salt.0, cost)?;
    let hash = sha2::Sha256::new().chain_update(b"octant console account\0").chain_update(key.bytes());
    Ok(Sha256(hash.finalize().into()))
}

/// What a passphrase is checked against where there is none.
fn nobody() -> Verifier {
    Verifier { cost: Argon2Cost::DEFAULT, salt: Sha256([0x5a; 32]), hash: Sha256([0; 32]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    const GOOD: &[u8] = b"correct horse";
    const BY_GOOD: OpenedBy<'_> = OpenedBy::Passphrase(GOOD);

    #[test]
    fn an_account_is_opened_by_its_passphrase_alone() {
        let scratch = Scratch::new("accounts");
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        assert!(accounts.check("alice", GOOD).unwrap().is_none());
        accounts.add("alice", 0, BY_GOOD).unwrap();
        accounts.add("bob", 1000, OpenedBy::Passphrase(b"another passphrase")).unwrap();
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
            assert!(matches!(accounts.add(name, 0, BY_GOOD), Err(AccountError::Name(_))), "{name}");
        }
        for uid in [959, 960, 969, octant_ids::uid::AGENT_BASE, u32::MAX] {
            assert!(matches!(accounts.add("a", uid, BY_GOOD), Err(AccountError::Uid(_))), "{uid}");
        }
        assert!(matches!(accounts.add("a", 0, OpenedBy::Passphrase(b"short")), Err(AccountError::Short)));
        assert!(matches!(accounts.remove("a"), Err(AccountError::Unknown(_))));
        accounts.add("a", 0, BY_GOOD).unwrap();
        assert!(matches!(accounts.add("a", 0, BY_GOOD), Err(AccountError::Exists(_))));
        std::fs::write(scratch.0.join("accounts.json"), "{}").unwrap();
        assert!(matches!(Accounts::load(&scratch.0), Err(AccountError::File(FileError::Content { .. }))));
    }

    #[test]
    fn keys_open_beside_a_passphrase_or_alone_and_something_always_does() {
        let scratch = Scratch::new("keys");
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        let (first, second) = (Sha256([0x1a; 32]), Sha256([0x2b; 32]));
        accounts.add("alice", 0, BY_GOOD).unwrap();
        assert!(matches!(accounts.key_only("alice"), Err(AccountError::Nothing(_))));
        accounts.add_key("alice", first).unwrap();
        accounts.add_key("alice", first).unwrap();
        assert_eq!(accounts.find("alice").unwrap().opened_by(), "passphrase 1a1a1a1a1a1a1a1a");
        accounts.key_only("alice").unwrap();
        let mut accounts = Accounts::load(&scratch.0).unwrap();
        assert!(accounts.check("alice", GOOD).unwrap().is_none(), "what it was opened by before");
        let alice = accounts.find("alice").unwrap();
        assert_eq!((alice.has_key(first), alice.has_key(second)), (true, false));
        assert!(matches!(accounts.remove_key("alice", "1a"), Err(AccountError::Nothing(_))));
        accounts.add_key("alice", second).unwrap();
        for wrong in ["", "3", "1a1b"] {
            let refused = accounts.remove_key("alice", wrong);
            assert!(matches!(refused, Err(AccountError::NoSuchKey { .. })), "{wrong}");
        }
        accounts.remove_key("alice", "1a").unwrap();
        accounts.change("alice", GOOD).unwrap();
        assert!(accounts.check("alice", GOOD).unwrap().is_some());
        accounts.add("bob", 1000, OpenedBy::Key(first)).unwrap();
        assert!(accounts.check("bob", GOOD).unwrap().is_none());
        assert!(accounts.check("bob", b"-").unwrap().is_none());
        for n in 1..KEYS_MAX {
            accounts.add_key("bob", Sha256([u8::try_from(n).unwrap(); 32])).unwrap();
        }
        assert!(matches!(accounts.add_key("bob", second), Err(AccountError::ManyKeys(_))));
    }
}
