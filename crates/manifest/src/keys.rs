//! Operators' keys: the trusted set, its revocations, and signing.

use crate::schema::digest;
use crate::{date, limits};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};
use octant_ids::Sha256;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The name of the revocation list among the key files.
const REVOKED: &str = "revoked";
/// The role of a key whose file names none: the least of the built-in ones.
const DEFAULT_ROLE: &str = "analyst";
const PRIVATE_PREFIX: &str = "octant-ed25519-private";

/// A key's identifier: the SHA-256 of the 32 bytes of the public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct KeyId(pub Sha256);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A trusted key, and for whom it speaks.
#[derive(Debug, Clone)]
pub(crate) struct Trusted {
    pub(crate) id: KeyId,
    pub(crate) key: VerifyingKey,
    pub(crate) operator: String,
    pub(crate) role: String,
    /// When it stops to count, in milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
}

/// A trusted key, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its identifier.
    pub key: KeyId,
    /// For whom it speaks.
    pub operator: String,
    /// The most that it can sign for.
    pub role: String,
    /// When it stops to count, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Why it does not count any more, where it was revoked.
    pub revoked: Option<String>,
}

/// The operators whose signatures count, and the keys that no longer do.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    pub(crate) keys: Vec<Trusted>,
    pub(crate) revoked: BTreeMap<KeyId, String>,
}

/// Why the trusted set cannot be read. Nothing is trusted then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// More than [`limits::KEY_FILES`] files.
    #[error("{0} key files are too many; the limit is {limit}", limit = limits::KEY_FILES)]
    TooMany(usize),
    /// A file longer than [`limits::KEY_FILE_BYTES`].
    #[error("{file}: {bytes} bytes are too long for a key file; the limit is {limit}", limit = limits::KEY_FILE_BYTES)]
    TooLarge {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
    },
    /// A file that is neither a key nor the revocation list: it might be one that is misspelt, and a
    /// revocation that is not read would let a stolen key live.
    #[error("{0}: neither NAME.pub nor {REVOKED}; rename it, or move it out of the trusted set")]
    Stray(String),
    /// Not a public key line.
    #[error("{file} line {line}: {why}; a key is one line: ed25519 BASE64 OPERATOR [role=ROLE] [until=DATE]")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file without its key.
    #[error("{0}: there is no key in it; write one line: ed25519 BASE64 OPERATOR [role=ROLE] [until=DATE]")]
    Empty(String),
    /// The same key twice.
    #[error(
        "{file}: the key {id} is also in another file; one key speaks for one operator, so remove one of them"
    )]
    Twice {
        /// The second file.
        file: String,
        /// The key.
        id: KeyId,
    },
    /// Not a line of the revocation list.
    #[error(
        "{REVOKED} line {line}: {text:?} is not a key's identifier; write 64 hexadecimal digits, then the reason"
    )]
    Revocation {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

impl TrustedKeys {
    /// Reads the trusted set: each `NAME.pub` is a key, `revoked` is the list of revoked keys (an identifier
    /// and a reason a line). `#` starts a comment line.
    ///
    /// # Errors
    /// Anything that is not understood, so that neither a key nor a revocation is left out unnoticed.
    pub fn from_files(files: &[(String, String)]) -> Result<Self, KeyFileError> {
        if files.len() > limits::KEY_FILES {
            return Err(KeyFileError::TooMany(files.len()));
        }
        let mut set = Self::default();
        for (name, text) in files {
            if text.len() > limits::KEY_FILE_BYTES {
                return Err(KeyFileError::TooLarge { file: name.clone(), bytes: text.len() });
            }
            if name == REVOKED {
                set.revoke(text)?;
            } else if name.ends_with(".pub") {
                set.add(name, text)?;
            } else {
                return Err(KeyFileError::Stray(name.clone()));
            }
        }
        Ok(set)
    }

    fn revoke(&mut self, text: &str) -> Result<(), KeyFileError> {
        for (line, text) in lines(text) {
            let (id, reason) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let id: Sha256 = id
                .parse()
                .map_err(|_| KeyFileError::Revocation { line, text: text.chars().take(80).collect() })?;
            let reason = if reason.trim().is_empty() { "no reason given" } else { reason.trim() };
            self.revoked.insert(KeyId(id), reason.to_owned());
        }
        Ok(())
    }

    fn add(&mut self, file: &str, text: &str) -> Result<(), KeyFileError> {
        let mut rows = lines(text);
        let (line, row) = rows.next().ok_or_else(|| KeyFileError::Empty(file.to_owned()))?;
        let refuse = |line, why| KeyFileError::Line { file: file.to_owned(), line, why };
        if let Some((line, _)) = rows.next() {
            return Err(refuse(line, "a second key; each has a file of its own"));
        }
        let mut words = row.split_whitespace();
        let (Some("ed25519"), Some(key), Some(operator)) = (words.next(), words.next(), words.next()) else {
            return Err(refuse(line, "it does not begin with ed25519, a key and an operator"));
        };
        let (mut role, mut until_ms) = (DEFAULT_ROLE, None);
        for word in words {
            match word.split_once('=') {
                Some(("role", name)) => role = name,
                Some(("until", date)) => {
                    if until_ms.is_some() {
                        return Err(refuse(
                            line,
                            "until= stands there twice; the earlier end would be forgotten",
                        ));
                    }
                    let why = "until= is not a date with offset such as 2030-01-31T00:00:00Z";
                    until_ms = Some(date::parse(date).ok_or_else(|| refuse(line, why))?);
                }
                _ => {
                    return Err(refuse(
                        line,
                        "what follows the operator is neither role=ROLE nor until=DATE",
                    ));
                }
            }
        }
        if !is_name(operator) || !is_name(role) {
            return Err(refuse(line, "an operator or role is 1 to 63 characters of a-z, 0-9 and . _ - @"));
        }
        let bytes = STANDARD.decode(key).map_err(|_| refuse(line, "the key is not base 64"))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| refuse(line, "the key has not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| refuse(line, "the key is not a point of the curve"))?;
        if key.is_weak() {
            return Err(refuse(line, "the key is of low order: anybody can sign for it"));
        }
        let id = id_of(&key);
        if self.keys.iter().any(|k| k.id == id) {
            return Err(KeyFileError::Twice { file: file.to_owned(), id });
        }
        let (operator, role) = (operator.to_owned(), role.to_owned());
        self.keys.push(Trusted { id, key, operator, role, until_ms });
        Ok(())
    }

    /// How many keys there are, revoked ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Every key, in the order of the files, revoked and expired ones included.
    pub fn iter(&self) -> impl Iterator<Item = KeyInfo> {
        self.keys.iter().map(|Trusted { id, key: _, operator, role, until_ms }| KeyInfo {
            key: *id,
            operator: operator.clone(),
            role: role.clone(),
            until_ms: *until_ms,
            revoked: self.revoked.get(id).cloned(),
        })
    }

    /// Whether a key counts now: it is in the set, is not revoked, and its end has not come.
    #[must_use]
    pub fn counts(&self, key: KeyId, now_ms: u64) -> bool {
        let ended = |trusted: &Trusted| trusted.until_ms.is_some_and(|until| now_ms >= until);
        self.reason(key).is_none() && self.keys.iter().any(|trusted| trusted.id == key && !ended(trusted))
    }

    /// Why a key does not count any more, where it was revoked; also one that is in no file.
    #[must_use]
    pub fn reason(&self, key: KeyId) -> Option<&str> {
        self.revoked.get(&key).map(String::as_str)
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let rows = text.lines().enumerate().map(|(i, row)| (i + 1, row.trim()));
    rows.filter(|(_, row)| !row.is_empty() && !row.starts_with('#'))
}

fn is_name(text: &str) -> bool {
    (1..=limits::NAME_BYTES).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-@".contains(c))
}

fn id_of(key: &VerifyingKey) -> KeyId {
    KeyId(digest(key.as_bytes()))
}

/// An operator's private key. Wiped from memory when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Why a text is not a private key. Says nothing of what stood there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not the one line that a private key file has.
    #[error("this is not a private key file; it has one line: {PRIVATE_PREFIX} BASE64")]
    Form,
    /// The seed is not 32 bytes in base 64.
    #[error(
        "the seed in this private key file is not 32 bytes in base 64; the file is damaged, restore it or make a new key"
    )]
    Seed,
}

impl SigningKey {
    /// The key of a seed, which must come from the operating system's random source.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads a private key file.
    ///
    /// # Errors
    /// Not of the form, or damaged.
    pub fn from_private_file(text: &str) -> Result<Self, PrivateKeyError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [PRIVATE_PREFIX, seed] = words[..] else { return Err(PrivateKeyError::Form) };
        let mut bytes = [0_u8; 33];
        let length = STANDARD.decode_slice(seed, &mut bytes).map_err(|_| PrivateKeyError::Seed)?;
        let seed = bytes.first_chunk::<32>().filter(|_| length == 32).ok_or(PrivateKeyError::Seed)?;
        Ok(Self::from_seed(*seed))
    }

    /// The private key file's text. Write it with mode 0600.
    #[must_use]
    pub fn private_file(&self) -> String {
        format!("{PRIVATE_PREFIX} {}\n", STANDARD.encode(self.0.as_bytes()))
    }

    /// The public key file's text, for the trusted set of the machines that shall trust it.
    #[must_use]
    pub fn public_file(&self, operator: &str, role: &str) -> String {
        format!("ed25519 {} {operator} role={role}\n", STANDARD.encode(self.0.verifying_key().as_bytes()))
    }

    /// The key's identifier.
    #[must_use]
    pub fn id(&self) -> KeyId {
        id_of(&self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}
