//! Signed notes (C2SP signed-note): a text, and under it lines with signatures; and the keys that make and check them.
//!
//! A key is known by its name and a short id over name, algorithm and public key; a signature by any other key is
//! carried along and means nothing. Two algorithms are spoken: Ed25519 over the text (0x01), and the timestamped
//! Ed25519 cosignature of a witness (0x04, C2SP tlog-cosignature). Keys of others, such as ML-DSA-44 (0x06), are read
//! and are of no use for checking.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// The longest text of a note, in bytes.
pub const TEXT_BYTES: usize = 1 << 20;
/// The most signatures of a note.
pub const SIGNATURES: usize = 100;
/// The longest signature line and the longest key, in bytes. The signatures of the largest algorithms have some 5 kB.
pub const LINE_BYTES: usize = 16 << 10;

/// What a signature line begins with: em dash and space.
const DASH: &str = "\u{2014} ";
/// What a private key's text begins with.
const PRIVATE: &str = "PRIVATE+KEY+";
/// The bytes of a key id before a signature.
const ID_BYTES: usize = 4;
/// The bytes of an Ed25519 signature.
const ED25519_BYTES: usize = 64;

/// What a key signs with, and what it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 over the note's text: what logs sign with.
    Ed25519,
    /// Ed25519 over the time and the text of a checkpoint (cosignature/v1): what witnesses sign with.
    CosignatureV1,
    /// One that is not spoken here, by its identifier byte.
    Other(u8),
}

impl Algorithm {
    /// The identifier byte that C2SP signed-note assigns.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
            Self::Other(byte) => byte,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            0x01 => Self::Ed25519,
            0x04 => Self::CosignatureV1,
            byte => Self::Other(byte),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::CosignatureV1 => f.write_str("cosignature/v1"),
            Self::Other(byte) => write!(f, "algorithm 0x{byte:02x}"),
        }
    }
}

/// Why a text is not a key. Says nothing of what stood there, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space, a `+` or a control character in it.
    #[error("a key's name is not empty and has neither spaces nor + nor control characters; choose another")]
    Name,
    /// Not the form of a verifier key.
    #[error(
        "this is not a verifier key; one has the form NAME+ID+KEY, with 8 lower-case hexadecimal digits and base 64"
    )]
    Verifier,
    /// Not the form of a private key.
    #[error(
        "this is not a private key; one has the form PRIVATE+KEY+NAME+ID+KEY, and an algorithm that is spoken here"
    )]
    Private,
    /// The id is not that of the name and the key: one of the three was changed.
    #[error(
        "the key's id does not belong to its name and key: the text is damaged or was put together; get it again"
    )]
    Id,
    /// The key's bytes are not a key of its algorithm.
    #[error(
        "the key is not 32 bytes that name a point of the curve, or anybody can sign for it; get another"
    )]
    Point,
}

/// The id of a key whose algorithm has the recommended one.
fn key_id(name: &str, algorithm: Algorithm, key: &[u8]) -> u32 {
    let hash = sha2::Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', algorithm.byte()])
        .chain_update(key)
        .finalize();
    hash.iter().take(ID_BYTES).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

/// Whether a key may be called so.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c < ' ' || c == '+')
}

/// Splits `ID+KEY` into the id, the algorithm and the key's bytes.
fn id_and_key(text: &str) -> Option<(u32, Algorithm, Vec<u8>)> {
    let (id, key) = text.split_once('+')?;
    let digits = id.len() == 2 * ID_BYTES && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| digits)?;
    let bytes = STANDARD.decode(key).ok()?;
    let (algorithm, key) = bytes.split_first()?;
    Some((id, Algorithm::from_byte(*algorithm), key.to_vec()))
}

/// A private key and its name. Wiped from memory when dropped; never shown.
pub struct NoteKey {
    name: String,
    algorithm: Algorithm,
    key: SigningKey,
}

impl NoteKey {
    /// The key of a log: it signs notes. The seed must come from the operating system's random source.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, Algorithm::Ed25519, seed)
    }

    /// The key of a witness: it cosigns checkpoints. The seed must come from the operating system's random source.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn cosigner(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        Self::new(name, Algorithm::CosignatureV1, seed)
    }

    fn new(name: &str, algorithm: Algorithm, seed: [u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) || name.len() > LINE_BYTES / 2 {
            return Err(KeyError::Name);
        }
        Ok(Self { name: name.to_owned(), algorithm, key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a private key's text; one newline at its end is allowed.
    ///
    /// # Errors
    /// Not of the form, an algorithm that is not spoken here, or the id is not the key's.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let rest =
            text.strip_prefix(PRIVATE).filter(|_| text.len() <= LINE_BYTES).ok_or(KeyError::Private)?;
        let (name, rest) = rest.split_once('+').ok_or(KeyError::Private)?;
        let (id, algorithm, seed) = id_and_key(rest).ok_or(KeyError::Private)?;
        if matches!(algorithm, Algorithm::Other(_)) {
            return Err(KeyError::Private);
        }
        let key = Self::new(name, algorithm, seed.try_into().map_err(|_| KeyError::Private)?)?;
        if key.id_for(algorithm) == id { Ok(key) } else { Err(KeyError::Id) }
    }

    /// The private key's text, without a newline. Keep it in a file of mode 0600.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = vec![self.algorithm.byte()];
        bytes.extend_from_slice(self.key.as_bytes());
        format!("{PRIVATE}{}+{:08x}+{}", self.name, self.id_for(self.algorithm), STANDARD.encode(bytes))
    }

    /// The public key that checks what this one signs.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let key = self.key.verifying_key();
        Verifier {
            name: self.name.clone(),
            key_id: self.id_for(self.algorithm),
            algorithm: self.algorithm,
            bytes: key.as_bytes().to_vec(),
            key: Some(key),
        }
    }

    /// The key's name; a log's is its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id_for(&self, algorithm: Algorithm) -> u32 {
        key_id(&self.name, algorithm, self.key.verifying_key().as_bytes())
    }

    /// Signs a note's text, as [`Algorithm::Ed25519`] whatever the key is for: the key id says so, and the verifier of
    /// a witness does not take it for a cosignature.
    pub(crate) fn sign(&self, text: &str) -> Signature {
        let bytes = self.key.sign(text.as_bytes()).to_bytes().to_vec();
        Signature { name: self.name.clone(), key_id: self.id_for(Algorithm::Ed25519), bytes }
    }

    /// Cosigns a checkpoint's text, as [`Algorithm::CosignatureV1`] whatever the key is for.
    pub(crate) fn cosign(&self, text: &str, unix_seconds: u64) -> Signature {
        let mut bytes = unix_seconds.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.key.sign(&cosigned(text, unix_seconds)).to_bytes());
        Signature { name: self.name.clone(), key_id: self.id_for(Algorithm::CosignatureV1), bytes }
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteKey({})", self.verifier())
    }
}

/// What a cosignature is over.
fn cosigned(text: &str, unix_seconds: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_seconds}\n{text}").into_bytes()
}

/// A public key and its name, as text `NAME+ID+KEY` (a "vkey").
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key_id: u32,
    algorithm: Algorithm,
    /// The public key as in the text.
    bytes: Vec<u8>,
    /// The same, when its algorithm is spoken here.
    key: Option<VerifyingKey>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No signature of this key.
    #[error("there is no signature of {0}")]
    Absent(String),
    /// The key's algorithm is not spoken here.
    #[error(
        "the key {name} is of {algorithm}, which is not spoken here, so nothing is known about its signature"
    )]
    Algorithm {
        /// The key's name.
        name: String,
        /// Its algorithm.
        algorithm: Algorithm,
    },
    /// The signature is wrong: the text was changed, or somebody else signed.
    #[error("the signature of {0} is wrong: the text was changed, or another key made it")]
    Wrong(String),
}

impl Verifier {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id that stands before its signatures.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key's bytes, without the algorithm.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a signature says that it is of this key. It may lie.
    #[must_use]
    pub fn made(&self, signature: &Signature) -> bool {
        signature.key_id == self.key_id && signature.name == self.name
    }

    /// Checks one signature over a note's text. Answers the time of a cosignature, in seconds since 1970; `None` for
    /// other algorithms.
    ///
    /// # Errors
    /// The signature does not count.
    pub fn verify(&self, text: &str, signature: &Signature) -> Result<Option<u64>, VerifyError> {
        if !self.made(signature) {
            return Err(VerifyError::Absent(self.name.clone()));
        }
        let wrong = || VerifyError::Wrong(self.name.clone());
        let unspoken = || VerifyError::Algorithm { name: self.name.clone(), algorithm: self.algorithm };
        let key = self.key.as_ref().ok_or_else(unspoken)?;
        let check = |message: &[u8], bytes: &[u8; ED25519_BYTES]| {
            let signature = ed25519_dalek::Signature::from_bytes(bytes);
            key.verify_strict(message, &signature).map_err(|_| wrong())
        };
        match self.algorithm {
            Algorithm::Ed25519 => {
                check(text.as_bytes(), signature.bytes.as_slice().try_into().map_err(|_| wrong())?)?;
                Ok(None)
            }
            Algorithm::CosignatureV1 => {
                let (time, bytes) = signature.bytes.split_first_chunk().ok_or_else(wrong)?;
                let time = u64::from_be_bytes(*time);
                check(&cosigned(text, time), bytes.try_into().map_err(|_| wrong())?)?;
                Ok(Some(time))
            }
            Algorithm::Other(_) => Err(unspoken()),
        }
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > LINE_BYTES {
            return Err(KeyError::Verifier);
        }
        let (name, rest) = text.split_once('+').ok_or(KeyError::Verifier)?;
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let (id, algorithm, bytes) = id_and_key(rest).ok_or(KeyError::Verifier)?;
        let key = match algorithm {
            // How such a key's id is made is its own matter.
            Algorithm::Other(_) => None,
            Algorithm::Ed25519 | Algorithm::CosignatureV1 => {
                let point = bytes.as_slice().try_into().map_err(|_| KeyError::Point)?;
                let key = VerifyingKey::from_bytes(point).ok().filter(|key| !key.is_weak());
                let key = key.ok_or(KeyError::Point)?;
                if key_id(name, algorithm, &bytes) != id {
                    return Err(KeyError::Id);
                }
                Some(key)
            }
        };
        Ok(Self { name: name.to_owned(), key_id: id, algorithm, bytes, key })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.algorithm.byte()];
        bytes.extend_from_slice(&self.bytes);
        write!(f, "{}+{:08x}+{}", self.name, self.key_id, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One signature line. Nothing is known about it until a [`Verifier`] has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key that is said to have made it.
    pub name: String,
    /// That key's id.
    pub key_id: u32,
    /// What it made; the form is the algorithm's matter. Not empty.
    pub bytes: Vec<u8>,
}

/// Why a text is not a signed note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`TEXT_BYTES`], or the whole longer than its parts may be.
    #[error("the note has {0} bytes, which is too long; its text may have {limit}", limit = TEXT_BYTES)]
    TooLong(usize),
    /// More signatures than [`SIGNATURES`].
    #[error("the note has more than {limit} signatures", limit = SIGNATURES)]
    TooMany,
    /// A control character other than the newline.
    #[error("the note has a control character at byte {0}; only newlines are allowed")]
    Control(usize),
    /// No empty line, or no newline at the end.
    #[error(
        "this is not a signed note: a text, an empty line and signature lines, each line ended by a newline"
    )]
    Form,
    /// A line that is not a signature line.
    #[error(
        "line {0} under the note's text is not a signature line: em dash, space, key name, space, base 64 of at least 5 bytes"
    )]
    Line(usize),
}

impl Signature {
    /// Reads a line, without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, text) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = STANDARD.decode(text).ok().filter(|_| is_name(name))?;
        let (id, bytes) = bytes.split_first_chunk::<ID_BYTES>().filter(|(_, bytes)| !bytes.is_empty())?;
        Some(Self { name: name.to_owned(), key_id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }

    /// Reads signature lines, each ended by a newline, such as a witness answers them.
    ///
    /// # Errors
    /// Too many, or one that is not a signature line.
    pub fn parse_lines(lines: &str) -> Result<Vec<Self>, NoteError> {
        let mut signatures = Vec::new();
        for (number, line) in lines.split_inclusive('\n').enumerate() {
            if number == SIGNATURES {
                return Err(NoteError::TooMany);
            }
            let line = line.strip_suffix('\n').filter(|line| line.len() <= LINE_BYTES);
            signatures.push(line.and_then(Self::parse).ok_or(NoteError::Line(number + 1))?);
        }
        Ok(signatures)
    }
}

impl fmt::Display for Signature {
    /// The line, without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text and its signatures, none of them checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text with its final newline: what is signed.
    pub text: String,
    /// The signatures, in the order in which they stand; at least one after [`Note::parse`].
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Reads a signed note. What is read is printed as the same bytes.
    ///
    /// # Errors
    /// Not a signed note, or one beyond the limits.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > TEXT_BYTES + SIGNATURES * LINE_BYTES {
            return Err(NoteError::TooLong(note.len()));
        }
        if let Some(at) = note.bytes().position(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::Control(at));
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        if text.len() >= TEXT_BYTES {
            return Err(NoteError::TooLong(text.len() + 1));
        }
        if !lines.ends_with('\n') {
            return Err(NoteError::Form);
        }
        Ok(Self { text: format!("{text}\n"), signatures: Signature::parse_lines(lines)? })
    }

    /// Checks that the key has signed: one right signature is enough, so that nobody makes a note useless by adding a
    /// wrong line. Answers the newest time of the key's cosignatures, in seconds since 1970; `None` for other
    /// algorithms.
    ///
    /// # Errors
    /// No signature of the key is right.
    pub fn signed_by(&self, verifier: &Verifier) -> Result<Option<u64>, VerifyError> {
        let verdicts =
            self.signatures.iter().filter(|s| verifier.made(s)).map(|s| verifier.verify(&self.text, s));
        let mut best: Result<Option<u64>, _> = Err(VerifyError::Absent(verifier.name.clone()));
        for verdict in verdicts {
            best = match (best, verdict) {
                (Ok(old), Ok(new)) => Ok(old.max(new)),
                (Ok(old), Err(_)) => Ok(old),
                (Err(_), verdict) => verdict,
            };
        }
        best
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}
