//! What a witness does with a checkpoint (C2SP tlog-witness): reads the request, decides, answers.
//!
//! The decision is pure: from the request's bytes, the keys of the logs that are witnessed, and what was last cosigned
//! of that log. [`open`] finds the log and checks its signature; [`Submission::decide`] compares with what was last
//! cosigned. Whoever calls must hold that state to itself from the decision until the new one is on stable storage,
//! and lets the cosignature out only then.

use crate::checkpoint::{CheckpointError, Signed, hash_from_base64, hash_to_base64, number_from_text};
use crate::merkle::{EMPTY_ROOT, MAX_PROOF, ProofError, verify_consistency};
use crate::note::{NoteKey, Verifier};
use octant_ids::Sha256;
use std::fmt::Write as _;

/// The longest body of a request, in bytes.
pub const REQUEST_MAX: usize = 1 << 20;
/// How much of an unknown origin is said back, in characters.
const ORIGIN_SHOWN: usize = 100;
/// The content type of an answer that says which size was last cosigned.
pub const SIZE_TYPE: &str = "text/x.tlog.size";
/// The content type of every other answer.
pub const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// The body of an `add-checkpoint` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The size that the witness is believed to have cosigned last; 0 for none.
    pub old: u64,
    /// The proof that the checkpoint's tree continues the tree of that size.
    pub proof: Vec<Sha256>,
    /// The checkpoint: a signed note, not looked at yet.
    pub checkpoint: &'a str,
}

/// Why a request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is longer than [`REQUEST_MAX`].
    #[error("the request has {0} bytes, more than {REQUEST_MAX}")]
    TooLong(usize),
    /// It is no text.
    #[error("the request is not UTF-8 from byte {0} on")]
    NotText(usize),
    /// The first line is not what it has to be.
    #[error("line 1 is not \"old \" and a size in decimal without leading zeros")]
    OldSize,
    /// A line of the proof is not what it has to be.
    #[error("line {0} is neither a hash of 32 bytes in base 64 nor the empty line after the proof")]
    Hash(usize),
    /// The proof is longer than that of any tree.
    #[error("the proof has more than {MAX_PROOF} hashes")]
    TooManyHashes,
    /// No empty line follows the proof.
    #[error("the request ends before the empty line after the proof")]
    Cut,
    /// What follows the proof is no checkpoint.
    #[error("after the proof: {0}")]
    Checkpoint(CheckpointError),
}

impl<'a> Request<'a> {
    /// Reads a request's body. What follows the empty line is kept as it is.
    ///
    /// # Errors
    /// Which line is wrong.
    pub fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        if body.len() > REQUEST_MAX {
            return Err(RequestError::TooLong(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|error| RequestError::NotText(error.valid_up_to()))?;
        let (first, mut rest) = text.split_once('\n').ok_or(RequestError::OldSize)?;
        let old = first.strip_prefix("old ").and_then(number_from_text).ok_or(RequestError::OldSize)?;
        let mut proof = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or(RequestError::Cut)?;
            rest = after;
            if line.is_empty() {
                return Ok(Self { old, proof, checkpoint: rest });
            }
            if proof.len() == MAX_PROOF {
                return Err(RequestError::TooManyHashes);
            }
            proof.push(hash_from_base64(line).ok_or(RequestError::Hash(proof.len() + 2))?);
        }
    }

    /// The body as it is sent.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", hash_to_base64(hash));
        }
        text.push('\n');
        text.push_str(self.checkpoint);
        text
    }
}

/// Reads the body of an answer 409: the size that the witness cosigned last.
#[must_use]
pub fn conflict_size(body: &[u8]) -> Option<u64> {
    number_from_text(std::str::from_utf8(body).ok()?.strip_suffix('\n')?)
}

/// What a witness has cosigned last of one log. By default nothing, which is the empty tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many entries.
    pub size: u64,
    /// Their root.
    pub root: Sha256,
}

impl Default for Seen {
    fn default() -> Self {
        Self { size: 0, root: EMPTY_ROOT }
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be read.
    #[error("{0}")]
    Malformed(#[from] RequestError),
    /// This log is not witnessed here.
    #[error("no log of origin {origin:?} is witnessed here; give the witness this log's verifier key")]
    UnknownOrigin {
        /// The beginning of the checkpoint's first line.
        origin: String,
    },
    /// No signature is of a key that is known for this log.
    #[error("the checkpoint is not signed by a known key of {origin:?}: {why}")]
    Unsigned {
        /// The checkpoint's first line.
        origin: String,
        /// What is wrong with the last signature tried.
        why: CheckpointError,
    },
    /// The older tree is the larger one.
    #[error("the old size {old} is larger than that of the checkpoint, {size}")]
    Order {
        /// The size that the request says was cosigned last.
        old: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The request starts from another size than was cosigned last.
    #[error("{}", seen.size)]
    Stale {
        /// What was cosigned last.
        seen: Seen,
    },
    /// The log has signed two different trees of one size. Both checkpoints together prove it to everybody.
    #[error("{}", seen.size)]
    Fork {
        /// What was cosigned last.
        seen: Seen,
        /// The other tree's root.
        other: Sha256,
    },
    /// The checkpoint's tree is not shown to continue the one cosigned last.
    #[error("the tree of {size} is not shown to continue that of {}: {why}", seen.size)]
    Inconsistent {
        /// What was cosigned last.
        seen: Seen,
        /// The checkpoint's size.
        size: u64,
        /// What is wrong with the proof.
        why: ProofError,
    },
}

impl Refusal {
    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(RequestError::TooLong(_)) => 413,
            Self::Malformed(_) | Self::Order { .. } => 400,
            Self::Unsigned { .. } => 403,
            Self::UnknownOrigin { .. } => 404,
            Self::Stale { .. } | Self::Fork { .. } => 409,
            Self::Inconsistent { .. } => 422,
        }
    }

    /// The content type of the answer, whose body is the refusal's text and a newline.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Stale { .. } | Self::Fork { .. } => SIZE_TYPE,
            _ => TEXT_TYPE,
        }
    }
}

/// A checkpoint whose log is known and whose signature is right, with what came with it.
#[derive(Debug, Clone)]
pub struct Submission {
    old: u64,
    proof: Vec<Sha256>,
    signed: Signed,
}

/// Reads a request and finds its log among `logs`; a log can have several keys.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::UnknownOrigin`] or [`Refusal::Unsigned`].
pub fn open(body: &[u8], logs: &[Verifier]) -> Result<Submission, Refusal> {
    let Request { old, proof, checkpoint } = Request::parse(body)?;
    let origin = Signed::parse_unverified(checkpoint).map_err(RequestError::Checkpoint)?.checkpoint.origin;
    let mut refused = None;
    for key in logs.iter().filter(|key| key.name() == origin) {
        match Signed::open(checkpoint, key) {
            Ok(signed) => return Ok(Submission { old, proof, signed }),
            Err(why) => refused = Some(why),
        }
    }
    Err(match refused {
        Some(why) => Refusal::Unsigned { origin, why },
        None => Refusal::UnknownOrigin { origin: origin.chars().take(ORIGIN_SHOWN).collect() },
    })
}

impl Submission {
    /// The log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.signed.checkpoint.origin
    }

    /// The checkpoint with its signatures.
    #[must_use]
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// Whether the checkpoint may be cosigned after what was cosigned last; if so, what is to be stored before that.
    ///
    /// A size never shrinks and a tree is never replaced: the answer is `Ok` only for the tree of `seen` itself and for
    /// trees that are proven to continue it.
    ///
    /// # Errors
    /// Every [`Refusal`] that [`open`] has not made.
    pub fn decide(&self, seen: &Seen) -> Result<Seen, Refusal> {
        let new = Seen { size: self.signed.checkpoint.size, root: self.signed.checkpoint.root };
        if self.old > new.size {
            return Err(Refusal::Order { old: self.old, size: new.size });
        }
        // Two trees of one size are a fork whatever old size the request names, and are told with the same answer.
        if new.size == seen.size && new.root != seen.root {
            return Err(Refusal::Fork { seen: *seen, other: new.root });
        }
        if self.old != seen.size {
            return Err(Refusal::Stale { seen: *seen });
        }
        match verify_consistency(seen.size, &seen.root, new.size, &new.root, &self.proof) {
            Ok(()) => Ok(new),
            Err(why) => Err(Refusal::Inconsistent { seen: *seen, size: new.size, why }),
        }
    }
}

/// Does with arbitrary bytes what a witness does with a request.
///
/// # Panics
/// When what is read is not written as it was, or a log has signed it that did not.
pub fn fuzz_request(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else { return };
    assert_eq!(request.to_text().as_bytes(), bytes, "a request is written as it was read");
    let Ok(signed) = Signed::parse_unverified(request.checkpoint) else { return };
    let unknown = open(bytes, &[]).map_or_else(|refusal| refusal.to_string().len(), |_| 0);
    assert!((1..1 << 10).contains(&unknown), "an unknown log is refused, in few words");
    let stranger = NoteKey::from_seed(&signed.checkpoint.origin, [0x5a; 32]).map(|key| key.verifier()).ok();
    assert!(open(bytes, stranger.as_slice()).is_err(), "nobody signed this");
    // Only that they return matters here.
    let submission = Submission { old: request.old, proof: request.proof, signed };
    let root = submission.signed.checkpoint.root;
    let _ = [0, 3, 9].map(|size| submission.decide(&Seen { size, root }));
}

#[cfg(test)]
mod tests;
