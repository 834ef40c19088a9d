//! The envelope of a signed manifest.

use crate::dsse::{self, Sealed};
use crate::error::ManifestErrors;
use crate::keys::{KeyId, SigningKey, TrustedKeys};
use crate::limits;
use crate::schema::{Declared, Validity, digest, read_validity};
use octant_ids::Sha256;
use serde::Serialize;

/// The one payload type that is accepted.
pub const PAYLOAD_TYPE: &str = "application/vnd.octant.manifest.v1+toml";

/// Why bytes are not an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than [`limits::ENVELOPE_BYTES`].
    #[error("an envelope of {0} bytes is too large; the limit is {limit} bytes", limit = limits::ENVELOPE_BYTES)]
    TooLarge(usize),
    /// No signature, or no envelope at all.
    #[error("this manifest is not signed: {0}; sign it with: octant manifest sign")]
    Unsigned(&'static str),
    /// Not the JSON that an envelope is.
    #[error("the envelope is not valid at line {line}, column {column}: {why}; sign it again")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the reader says.
        why: String,
    },
    /// It carries something else than what is asked for.
    #[error(
        "the payload type is {found:?} and not {wanted:?}: something else was signed, or another version of it"
    )]
    PayloadType {
        /// What it carries.
        found: String,
        /// What is asked for.
        wanted: &'static str,
    },
    /// A field is not base 64.
    #[error("{0} is not base 64: the envelope is damaged; sign it again")]
    Base64(String),
    /// More than [`limits::SIGNATURES`].
    #[error("{0} signatures are too many; the limit is {limit}", limit = limits::SIGNATURES)]
    TooManySignatures(usize),
    /// A signature that is not 64 bytes long.
    #[error("signatures[{index}] has {bytes} bytes, an Ed25519 signature has 64; sign it again")]
    SignatureLength {
        /// Which one, from 0.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// What is signed is longer than anything of its kind can be.
    #[error("what is signed has {bytes} bytes, which is too large; the limit is {limit} bytes")]
    PayloadTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest of its kind.
        limit: usize,
    },
}

/// Why a well-formed envelope is not honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Nobody is trusted here.
    #[error("this machine trusts no operator's key; put an operator's public key into its trusted set")]
    NoTrustedKeys,
    /// No trusted key made any of the signatures.
    #[error(
        "no trusted key signed this (its signatures name {0}); add the operator's public key to the trusted set, or let a trusted operator sign it"
    )]
    UnknownKey(String),
    /// The signature names a trusted key and does not fit the bytes.
    #[error(
        "the signature of operator {operator:?} does not fit: what it signs was altered after it was signed; sign it again"
    )]
    Tampered {
        /// Whose key the signature names.
        operator: String,
    },
    /// The key was trusted once.
    #[error("the key {id} that signed this was revoked: {reason}; let another operator sign it")]
    RevokedKey {
        /// The key.
        id: KeyId,
        /// Why, as the revocation list says.
        reason: String,
    },
    /// The key's time is over.
    #[error(
        "the key {id} of operator {operator:?} that signed this counted until {until_ms} ms since 1970; sign it with the operator's new key"
    )]
    ExpiredKey {
        /// The key.
        id: KeyId,
        /// Whose it is.
        operator: String,
        /// Until when it counted.
        until_ms: u64,
    },
    /// The bytes are signed and are not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestErrors),
    /// Made for other machines.
    #[error("this manifest is for {} and this machine is {machine:?}; sign it for this machine", .machines.join(", "))]
    WrongAudience {
        /// This machine.
        machine: String,
        /// The machines that it is for.
        machines: Vec<String>,
    },
    /// Its time has not come.
    #[error(
        "this manifest is valid from {not_before_ms} ms since 1970 and it is {now_ms}; wait, or check the clock"
    )]
    NotYetValid {
        /// From when.
        not_before_ms: u64,
        /// Now.
        now_ms: u64,
    },
    /// Its time has passed.
    #[error(
        "this manifest was valid until {not_after_ms} ms since 1970 and it is {now_ms}; sign it again with a later not_after"
    )]
    Expired {
        /// Until when.
        not_after_ms: u64,
        /// Now.
        now_ms: u64,
    },
}

/// A well-formed envelope. Nothing in it is believed yet.
#[derive(Debug, Clone)]
pub struct Envelope(Sealed);

/// Where and when an envelope is to be used.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    /// This machine's identifier.
    pub machine: &'a str,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

/// An operator whose signature was found good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// The operator's name, as the trusted set has it.
    pub operator: String,
    /// The operator's role, as the trusted set has it.
    pub role: String,
    /// The key.
    pub key: KeyId,
}

/// Bytes that a trusted operator signed for this machine and time. Only [`Envelope::verify`] makes one.
#[derive(Debug, Clone)]
pub struct Authentic {
    payload: Vec<u8>,
    signers: Vec<Signer>,
}

/// Signs a manifest's exact bytes; returns the envelope as JSON. Check the manifest first with
/// [`crate::Draft::parse`]: what is signed here is not read.
#[must_use]
pub fn sign(manifest: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    dsse::sign(PAYLOAD_TYPE, manifest, keys)
}

impl Envelope {
    /// Reads an envelope. Fields that DSSE does not have are passed over, as it asks; they are not signed.
    ///
    /// # Errors
    /// Not an envelope, unsigned, of another payload type, or beyond a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Sealed::parse(bytes, PAYLOAD_TYPE, limits::MANIFEST_BYTES).map(Self)
    }

    /// The SHA-256 of the manifest's bytes: what the record of a refused spawn names. Nothing is believed yet.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        digest(self.payload())
    }

    /// The manifest's bytes. Nothing in them is believed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.0.payload()
    }

    /// Checks the signatures over the exact bytes, then the audience.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(self, keys: &TrustedKeys, audience: &Audience<'_>) -> Result<Authentic, VerifyError> {
        let signers = self.0.signers(keys, audience.now_ms)?;
        admit(&read_validity(self.payload())?, audience)?;
        Ok(Authentic { payload: self.0.into_payload(), signers })
    }
}

/// Whether a manifest of this validity can be used here and now.
pub(crate) fn admit(validity: &Validity, audience: &Audience<'_>) -> Result<(), VerifyError> {
    if !validity.machines.iter().any(|m| m == "*" || m == audience.machine) {
        let machine = audience.machine.to_owned();
        return Err(VerifyError::WrongAudience { machine, machines: validity.machines.clone() });
    }
    let now_ms = audience.now_ms;
    if let Some(not_before_ms) = validity.not_before_ms.filter(|start| now_ms < *start) {
        return Err(VerifyError::NotYetValid { not_before_ms, now_ms });
    }
    if now_ms >= validity.not_after_ms {
        return Err(VerifyError::Expired { not_after_ms: validity.not_after_ms, now_ms });
    }
    Ok(())
}

impl Authentic {
    /// Reads the manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its field and line; or it names another operator than those who signed.
    pub fn declare(&self) -> Result<Declared, ManifestErrors> {
        Declared::read(&self.payload, &self.signers)
    }

    /// The operators whose signatures were found good.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }
}
