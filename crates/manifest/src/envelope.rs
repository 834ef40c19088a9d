//! The signed envelope: DSSE (github.com/secure-systems-lab/dsse) with Ed25519.

use crate::error::ManifestErrors;
use crate::keys::{KeyId, SigningKey, TrustedKeys};
use crate::limits;
use crate::schema::{Declared, Validity, digest, read_validity};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ed25519_dalek::Signature;
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};

/// The one payload type that is accepted.
pub const PAYLOAD_TYPE: &str = "application/vnd.octant.manifest.v1+toml";

/// DSSE lets a signer use either alphabet and asks a verifier to read both.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

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
    #[error("the envelope is not valid at line {line}, column {column}: {why}; sign the manifest again")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the reader says.
        why: String,
    },
    /// It carries something else than a manifest.
    #[error(
        "the payload type is {0:?} and not {PAYLOAD_TYPE:?}: what was signed is not a manifest of this version"
    )]
    PayloadType(String),
    /// A field is not base 64.
    #[error("{0} is not base 64: the envelope is damaged; sign the manifest again")]
    Base64(String),
    /// More than [`limits::SIGNATURES`].
    #[error("{0} signatures are too many; the limit is {limit}", limit = limits::SIGNATURES)]
    TooManySignatures(usize),
    /// A signature that is not 64 bytes long.
    #[error("signatures[{index}] has {bytes} bytes, an Ed25519 signature has 64; sign the manifest again")]
    SignatureLength {
        /// Which one, from 0.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// The manifest in it is longer than [`limits::MANIFEST_BYTES`].
    #[error("a manifest of {0} bytes is too large; the limit is {limit} bytes", limit = limits::MANIFEST_BYTES)]
    PayloadTooLarge(usize),
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
        "the signature of operator {operator:?} does not fit: the manifest was altered after it was signed; sign it again"
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

#[derive(Serialize, Deserialize)]
struct Dsse {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
struct DsseSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A well-formed envelope. Nothing in it is believed yet.
#[derive(Debug, Clone)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<(String, Signature)>,
}

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

/// What is signed: DSSE's pre-authentication encoding of type and payload.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Signs a manifest's exact bytes; returns the envelope as JSON. Check the manifest first with
/// [`crate::Draft::parse`]: what is signed here is not read.
#[must_use]
pub fn sign(manifest: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    let message = pae(PAYLOAD_TYPE, manifest);
    let signatures = keys
        .iter()
        .map(|key| DsseSignature { keyid: key.id().to_string(), sig: STANDARD.encode(key.sign(&message)) })
        .collect();
    let envelope =
        Dsse { payload: STANDARD.encode(manifest), payload_type: PAYLOAD_TYPE.to_owned(), signatures };
    // Three fields of text: there is nothing in it that JSON cannot say.
    serde_json::to_vec_pretty(&envelope).unwrap_or_default()
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, EnvelopeError> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &PLAIN };
    engine.decode(text).map_err(|_| EnvelopeError::Base64(field.to_owned()))
}

impl Envelope {
    /// Reads an envelope. Fields that DSSE does not have are passed over, as it asks; they are not signed.
    ///
    /// # Errors
    /// Not an envelope, unsigned, of another payload type, or beyond a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > limits::ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(EnvelopeError::Unsigned("this is not an envelope"));
        }
        let dsse: Dsse = serde_json::from_slice(bytes).map_err(|e| EnvelopeError::Json {
            line: e.line(),
            column: e.column(),
            why: e.to_string().chars().take(200).collect(),
        })?;
        if dsse.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(dsse.payload_type.chars().take(100).collect()));
        }
        if dsse.signatures.is_empty() {
            return Err(EnvelopeError::Unsigned("the envelope has no signature"));
        }
        if dsse.signatures.len() > limits::SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(dsse.signatures.len()));
        }
        let payload = decode(&dsse.payload, "payload")?;
        if payload.len() > limits::MANIFEST_BYTES {
            return Err(EnvelopeError::PayloadTooLarge(payload.len()));
        }
        let mut signatures = Vec::with_capacity(dsse.signatures.len());
        for (index, DsseSignature { keyid, sig }) in dsse.signatures.into_iter().enumerate() {
            let bytes = decode(&sig, &format!("signatures[{index}].sig"))?;
            let length = bytes.len();
            let bytes: [u8; 64] =
                bytes.try_into().map_err(|_| EnvelopeError::SignatureLength { index, bytes: length })?;
            signatures.push((keyid, Signature::from_bytes(&bytes)));
        }
        Ok(Self { payload, signatures })
    }

    /// The SHA-256 of the manifest's bytes: what the record of a refused spawn names. Nothing is believed yet.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        digest(&self.payload)
    }

    /// The manifest's bytes. Nothing in them is believed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Checks the signatures over the exact bytes, then the audience.
    ///
    /// One good signature of a trusted, unrevoked key is enough; others are passed over. The key identifiers
    /// in the envelope are hints: every key is tried, and only the message depends on them.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(self, keys: &TrustedKeys, audience: &Audience<'_>) -> Result<Authentic, VerifyError> {
        if keys.is_empty() {
            return Err(VerifyError::NoTrustedKeys);
        }
        let message = pae(PAYLOAD_TYPE, &self.payload);
        let mut signers: Vec<Signer> = Vec::new();
        let (mut revoked, mut expired) = (None, None);
        for (_, signature) in &self.signatures {
            let made = keys.keys.iter().find(|k| k.key.verify_strict(&message, signature).is_ok());
            let Some(key) = made else { continue };
            match keys.revoked.get(&key.id) {
                Some(reason) => revoked = Some((key.id, reason.clone())),
                None if signers.iter().any(|s| s.key == key.id) => {}
                None if key.until_ms.is_some_and(|until_ms| audience.now_ms >= until_ms) => {
                    let (operator, until_ms) = (key.operator.clone(), key.until_ms.unwrap_or_default());
                    expired = Some(VerifyError::ExpiredKey { id: key.id, operator, until_ms });
                }
                None => {
                    let (operator, role) = (key.operator.clone(), key.role.clone());
                    signers.push(Signer { operator, role, key: key.id });
                }
            }
        }
        if signers.is_empty() {
            return Err(expired.unwrap_or_else(|| self.unsigned(keys, revoked)));
        }
        admit(&read_validity(&self.payload)?, audience)?;
        Ok(Authentic { payload: self.payload, signers })
    }

    /// The most helpful reason for which no signature counts.
    fn unsigned(&self, keys: &TrustedKeys, revoked: Option<(KeyId, String)>) -> VerifyError {
        if let Some((id, reason)) = revoked {
            return VerifyError::RevokedKey { id, reason };
        }
        let hints = || self.signatures.iter().filter_map(|(hint, _)| Some(KeyId(hint.parse().ok()?)));
        if let Some((id, reason)) = hints().find_map(|id| Some((id, keys.revoked.get(&id)?.clone()))) {
            return VerifyError::RevokedKey { id, reason };
        }
        let named = hints().find_map(|id| keys.keys.iter().find(|k| k.id == id));
        match named {
            Some(key) => VerifyError::Tampered { operator: key.operator.clone() },
            None => {
                let names: Vec<String> = hints().map(|id| id.to_string()).collect();
                let names = if names.is_empty() { "no key".to_owned() } else { names.join(", ") };
                VerifyError::UnknownKey(names)
            }
        }
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
