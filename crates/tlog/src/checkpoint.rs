//! Checkpoints (C2SP tlog-checkpoint): what a log says about itself at one size, signed by it and cosigned by witnesses
//! (C2SP tlog-cosignature).

use crate::merkle::{EMPTY_ROOT, MAX_SIZE};
use crate::note::{Algorithm, Note, NoteError, NoteKey, SIGNATURES, Signature, Verifier, VerifyError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_ids::Sha256;

/// The longest text of a checkpoint, in bytes.
pub const TEXT_BYTES: usize = 16 << 10;

/// How much of a foreign origin an error shows, in characters.
const ORIGIN_SHOWN: usize = 100;

/// What a log says about itself at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: its name, one line. Octant's logs have the name of their key.
    pub origin: String,
    /// How many entries there are; at most [`MAX_SIZE`].
    pub size: u64,
    /// The root over them; [`EMPTY_ROOT`] when there are none.
    pub root: Sha256,
    /// Further lines, none of them empty. Octant's logs write none.
    pub extensions: Vec<String>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error("the checkpoint cannot be read: {0}")]
    Note(#[from] NoteError),
    /// Longer than [`TEXT_BYTES`].
    #[error("the checkpoint's text has {0} bytes; the limit is {limit}", limit = TEXT_BYTES)]
    TooLong(usize),
    /// Not at least three lines, each with something in it.
    #[error("this is not a checkpoint: origin, size, root and further lines, none of them empty")]
    Form,
    /// The size is not a decimal number without leading zeros up to [`MAX_SIZE`].
    #[error("the checkpoint's second line is not a size: a decimal number without leading zeros, below 2^63")]
    Size,
    /// The root is not 32 bytes in base 64, or not the empty root for an empty log.
    #[error("the checkpoint's third line is not a root hash in base 64, or not that of its size")]
    Root,
    /// Another log's checkpoint.
    #[error("this is a checkpoint of {got:?}, not of {wanted:?}")]
    Origin {
        /// Its origin, or the beginning of it.
        got: String,
        /// The name of the key.
        wanted: String,
    },
    /// The key is not one that signs such a thing.
    #[error("the key {name} is of {algorithm}, but {wanted} is needed here")]
    Key {
        /// The key's name.
        name: String,
        /// Its algorithm.
        algorithm: Algorithm,
        /// The one that is needed.
        wanted: Algorithm,
    },
    /// The signature is not there or does not count.
    #[error("the checkpoint is not trusted: {0}")]
    Signature(#[from] VerifyError),
    /// More signatures than a note may have.
    #[error("the checkpoint would have more than {limit} signatures", limit = SIGNATURES)]
    TooMany,
}

/// A hash as checkpoints and proofs write it.
#[must_use]
pub fn hash_to_base64(hash: &Sha256) -> String {
    STANDARD.encode(hash.0)
}

/// The hash that stands there in base 64; `None` when it is not one, or not in its only form.
#[must_use]
pub fn hash_from_base64(text: &str) -> Option<Sha256> {
    // 32 bytes have 44 characters, which the decoder wants to have room for 33.
    let mut bytes = [0; 33];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.first_chunk().filter(|_| length == 32).map(|hash| Sha256(*hash))
}

/// A number as checkpoints and proofs write it: decimal digits without leading zeros, at most [`MAX_SIZE`].
#[must_use]
pub fn number_from_text(text: &str) -> Option<u64> {
    let digits = text == "0" || !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= MAX_SIZE)
}

impl Checkpoint {
    /// Reads a checkpoint's text, without signatures. What is read is printed as the same bytes.
    ///
    /// # Errors
    /// Not a checkpoint, or one beyond the limits.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > TEXT_BYTES {
            return Err(CheckpointError::TooLong(text.len()));
        }
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Form)?.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Form);
        let (origin, size, root) = (line()?, line()?, line()?);
        let size = number_from_text(size).ok_or(CheckpointError::Size)?;
        let root = hash_from_base64(root).filter(|root| size > 0 || *root == EMPTY_ROOT);
        let root = root.ok_or(CheckpointError::Root)?;
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Form);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }

    /// The checkpoint's text: what is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, hash_to_base64(&self.root));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Signs a checkpoint as its log: the whole signed note.
#[must_use]
pub fn sign(key: &NoteKey, checkpoint: &Checkpoint) -> String {
    let text = checkpoint.to_text();
    let signatures = vec![key.sign(&text)];
    Note { text, signatures }.to_string()
}

/// Cosigns a checkpoint's text (without signatures, with its final newline) as a witness: one signature line with its
/// newline. The time is in seconds since 1970.
#[must_use]
pub fn cosign(key: &NoteKey, note_text: &str, unix_seconds: u64) -> String {
    format!("{}\n", key.cosign(note_text, unix_seconds))
}

/// A checkpoint with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the log says.
    pub checkpoint: Checkpoint,
    /// The same as text, and who signed it.
    pub note: Note,
}

impl Signed {
    /// Reads a signed checkpoint of this log and checks the log's signature.
    ///
    /// # Errors
    /// Not a checkpoint, not of this log, or not signed by it.
    pub fn open(text: &str, log: &Verifier) -> Result<Self, CheckpointError> {
        wants(log, Algorithm::Ed25519)?;
        let signed = Self::parse_unverified(text)?;
        if signed.checkpoint.origin != log.name() {
            let got = signed.checkpoint.origin.chars().take(ORIGIN_SHOWN).collect();
            let wanted = log.name().to_owned();
            return Err(CheckpointError::Origin { got, wanted });
        }
        signed.note.signed_by(log)?;
        Ok(signed)
    }

    /// Reads a signed checkpoint and checks no signature: to learn whose key is needed. Trust nothing in it.
    ///
    /// # Errors
    /// Not a checkpoint.
    pub fn parse_unverified(text: &str) -> Result<Self, CheckpointError> {
        let note = Note::parse(text)?;
        Ok(Self { checkpoint: Checkpoint::parse(&note.text)?, note })
    }

    /// Checks that the witness has cosigned. Answers when, in seconds since 1970; the newest when it did more than once.
    ///
    /// # Errors
    /// The key is not a witness's, or no cosignature of it is right.
    pub fn cosigned_by(&self, witness: &Verifier) -> Result<u64, CheckpointError> {
        wants(witness, Algorithm::CosignatureV1)?;
        let time = self.note.signed_by(witness)?;
        time.ok_or_else(|| VerifyError::Absent(witness.name().to_owned()).into())
    }

    /// Which of these witnesses have cosigned. A public key counts once, under whatever names it is listed: one holder
    /// is one witness.
    #[must_use]
    pub fn cosigners<'a>(&self, witnesses: &'a [Verifier]) -> Vec<&'a Verifier> {
        let mut have: Vec<&Verifier> = Vec::new();
        for witness in witnesses {
            let counted = have.iter().any(|other| other.public_key() == witness.public_key());
            if !counted && self.cosigned_by(witness).is_ok() {
                have.push(witness);
            }
        }
        have
    }

    /// Adds signature lines, each ended by a newline, such as a witness answers them; those that are there already are
    /// left out. Answers how many were added. They are not checked: see [`Self::cosigned_by`].
    ///
    /// # Errors
    /// Not signature lines, or too many; nothing is added then.
    pub fn add(&mut self, lines: &str) -> Result<usize, CheckpointError> {
        let mut new: Vec<Signature> = Vec::new();
        for signature in Signature::parse_lines(lines)? {
            if !self.note.signatures.contains(&signature) && !new.contains(&signature) {
                new.push(signature);
            }
        }
        if self.note.signatures.len() + new.len() > SIGNATURES {
            return Err(CheckpointError::TooMany);
        }
        let added = new.len();
        self.note.signatures.append(&mut new);
        Ok(added)
    }

    /// The signed note as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.note.to_string()
    }
}

fn wants(key: &Verifier, wanted: Algorithm) -> Result<(), CheckpointError> {
    let algorithm = key.algorithm();
    if algorithm == wanted {
        return Ok(());
    }
    Err(CheckpointError::Key { name: key.name().to_owned(), algorithm, wanted })
}
