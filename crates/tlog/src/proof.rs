//! A proof that an entry is in a log, as text (C2SP tlog-proof): it is checked with nothing but the public keys.

use crate::checkpoint::{CheckpointError, Signed, hash_from_base64, hash_to_base64, number_from_text};
use crate::merkle::{MAX_PROOF, ProofError, verify_inclusion};
use crate::note::{LINE_BYTES, Verifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_ids::Sha256;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// An entry's index, the hashes from its leaf to the root, and the signed checkpoint with that root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The leaf: one less than the entry's sequence number.
    pub index: u64,
    /// The hashes beside the way, the leaf's sibling first; at most [`MAX_PROOF`].
    pub hashes: Vec<Sha256>,
    /// The signed checkpoint, as its log and its witnesses wrote it.
    pub checkpoint: String,
}

/// Why a proof cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// Not the form of a proof.
    #[error(
        "this is not a proof: it begins with the line {HEADER}, and has an empty line before the checkpoint"
    )]
    Form,
    /// A line that is too long, not base 64, or not in its place.
    #[error("line {0} of the proof is not what stands there: the index, or a hash in base 64")]
    Line(usize),
    /// More hashes than the largest log needs.
    #[error("the proof has more than {limit} hashes", limit = MAX_PROOF)]
    TooMany,
    /// The checkpoint in it cannot be used.
    #[error("the checkpoint in the proof: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It does not prove anything.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl InclusionProof {
    /// Reads a proof. Nothing of it is checked: see [`Self::verify`]. Extra data, which nothing authenticates, is left
    /// out.
    ///
    /// # Errors
    /// Not a proof, or one beyond the limits.
    pub fn parse(text: &str) -> Result<Self, InclusionError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(InclusionError::Form)?;
        let mut lines = head.split('\n').enumerate().map(|(number, line)| (number + 1, line)).peekable();
        if lines.next().is_none_or(|(_, line)| line != HEADER) {
            return Err(InclusionError::Form);
        }
        if let Some((number, line)) = lines.next_if(|(_, line)| line.starts_with("extra "))
            && !is_extra(line)
        {
            return Err(InclusionError::Line(number));
        }
        let (number, line) = lines.next().ok_or(InclusionError::Form)?;
        let index =
            line.strip_prefix("index ").and_then(number_from_text).ok_or(InclusionError::Line(number))?;
        let mut hashes = Vec::new();
        for (number, line) in lines {
            if hashes.len() == MAX_PROOF {
                return Err(InclusionError::TooMany);
            }
            hashes.push(hash_from_base64(line).ok_or(InclusionError::Line(number))?);
        }
        Signed::parse_unverified(checkpoint)?;
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// The proof's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&hash_to_base64(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Checks that the log has signed the checkpoint and that the leaf with this hash is in its tree, at the proof's
    /// index. Answers the checkpoint, so that its witnesses can be checked too.
    ///
    /// # Errors
    /// It is not shown.
    pub fn verify(&self, leaf: &Sha256, log: &Verifier) -> Result<Signed, InclusionError> {
        let signed = Signed::open(&self.checkpoint, log)?;
        verify_inclusion(leaf, self.index, signed.checkpoint.size, &self.hashes, &signed.checkpoint.root)?;
        Ok(signed)
    }
}

/// Whether this is a line with extra data of bearable length.
fn is_extra(line: &str) -> bool {
    let data = line.strip_prefix("extra ").filter(|_| line.len() <= LINE_BYTES);
    data.is_some_and(|data| STANDARD.decode(data).is_ok())
}
