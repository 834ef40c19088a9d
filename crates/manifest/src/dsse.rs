//! DSSE (github.com/secure-systems-lab/dsse) with Ed25519: bytes of a named type, and signatures over both.

use crate::envelope::{EnvelopeError, Signer, VerifyError};
use crate::keys::{KeyId, SigningKey, TrustedKeys};
use crate::limits;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};

/// DSSE lets a signer use either alphabet and asks a verifier to read both.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

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

/// What is signed: DSSE's pre-authentication encoding of type and payload.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Signs bytes of a type; returns the envelope as JSON.
pub(crate) fn sign(payload_type: &str, payload: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    let message = pae(payload_type, payload);
    let signatures = keys
        .iter()
        .map(|key| DsseSignature { keyid: key.id().to_string(), sig: STANDARD.encode(key.sign(&message)) })
        .collect();
    let (payload, payload_type) = (STANDARD.encode(payload), payload_type.to_owned());
    // Three fields of text: there is nothing in it that JSON cannot say.
    serde_json::to_vec_pretty(&Dsse { payload, payload_type, signatures }).unwrap_or_default()
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, EnvelopeError> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &PLAIN };
    engine.decode(text).map_err(|_| EnvelopeError::Base64(field.to_owned()))
}

/// A well-formed envelope of a type. Nothing in it is believed yet.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    payload_type: &'static str,
    payload: Vec<u8>,
    signatures: Vec<(String, Signature)>,
}

impl Sealed {
    /// Reads an envelope of this type and with no more than so many bytes in it.
    pub(crate) fn parse(
        bytes: &[u8],
        payload_type: &'static str,
        limit: usize,
    ) -> Result<Self, EnvelopeError> {
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
        if dsse.payload_type != payload_type {
            let found = dsse.payload_type.chars().take(100).collect();
            return Err(EnvelopeError::PayloadType { found, wanted: payload_type });
        }
        if dsse.signatures.is_empty() {
            return Err(EnvelopeError::Unsigned("the envelope has no signature"));
        }
        if dsse.signatures.len() > limits::SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(dsse.signatures.len()));
        }
        let payload = decode(&dsse.payload, "payload")?;
        if payload.len() > limit {
            return Err(EnvelopeError::PayloadTooLarge { bytes: payload.len(), limit });
        }
        let mut signatures = Vec::with_capacity(dsse.signatures.len());
        for (index, DsseSignature { keyid, sig }) in dsse.signatures.into_iter().enumerate() {
            let bytes = decode(&sig, &format!("signatures[{index}].sig"))?;
            let length = bytes.len();
            let bytes: [u8; 64] =
                bytes.try_into().map_err(|_| EnvelopeError::SignatureLength { index, bytes: length })?;
            signatures.push((keyid, Signature::from_bytes(&bytes)));
        }
        Ok(Self { payload_type, payload, signatures })
    }

    /// The bytes. Nothing in them is believed.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// The operators whose signatures over the exact bytes are good; there is at least one.
    ///
    /// One good signature of a trusted, unrevoked key is enough; others are passed over. The key identifiers
    /// in the envelope are hints: every key is tried, and only the message depends on them.
    pub(crate) fn signers(&self, keys: &TrustedKeys, now_ms: u64) -> Result<Vec<Signer>, VerifyError> {
        if keys.is_empty() {
            return Err(VerifyError::NoTrustedKeys);
        }
        let message = pae(self.payload_type, &self.payload);
        let mut signers: Vec<Signer> = Vec::new();
        let (mut revoked, mut expired) = (None, None);
        for (_, signature) in &self.signatures {
            let made = keys.keys.iter().find(|k| k.key.verify_strict(&message, signature).is_ok());
            let Some(key) = made else { continue };
            match keys.revoked.get(&key.id) {
                Some(reason) => revoked = Some((key.id, reason.clone())),
                None if signers.iter().any(|s| s.key == key.id) => {}
                None if key.until_ms.is_some_and(|until_ms| now_ms >= until_ms) => {
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
        Ok(signers)
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
