//! Hosts' keys, their fingerprints and signatures.

use crate::encoding::{Reader, SshError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "SHA256:";

/// The SHA-256 of a public key, as ssh-keygen(1) prints it: `SHA256:` and 43 characters of base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// The text is no [`Fingerprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's fingerprint is SHA256: and 43 characters, as `ssh-keygen -l -f FILE` prints it")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.strip_prefix(PREFIX).ok_or(FingerprintError)?;
        let bytes = STANDARD_NO_PAD.decode(digits).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

enum Kind<'a> {
    Ed25519(&'a [u8]),
    /// A point, not compressed.
    P256(&'a [u8]),
    Rsa {
        e: &'a [u8],
        n: &'a [u8],
    },
}

/// A host's public key as it is sent (RFC 4253 section 6.6, RFC 5656, RFC 8709).
pub struct HostKey<'a> {
    blob: &'a [u8],
    kind: Kind<'a>,
}

impl fmt::Debug for HostKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

/// A number without its leading zeros (RFC 4251, mpint); empty where it is negative.
fn positive(bytes: &[u8]) -> &[u8] {
    match bytes {
        [high, ..] if high & 0x80 != 0 => &[],
        _ => &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..],
    }
}

impl<'a> HostKey<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// It is cut, too long, or of a kind that is not known here.
    pub fn parse(blob: &'a [u8]) -> Result<Self, SshError> {
        let mut reader = Reader::new(blob, "the host's key");
        let kind = match reader.string()? {
            b"ssh-ed25519" => Kind::Ed25519(reader.string()?),
            b"ecdsa-sha2-nistp256" => match (reader.string()?, reader.string()?) {
                (b"nistp256", point) => Kind::P256(point),
                _ => return Err(SshError::Kind),
            },
            b"ssh-rsa" => {
                let (e, n) = (reader.string()?, reader.string()?);
                Kind::Rsa { e: positive(e), n: positive(n) }
            }
            _ => return Err(SshError::Kind),
        };
        reader.end()?;
        Ok(Self { blob, kind })
    }

    /// Its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.blob).into())
    }

    /// The bytes that it was read from.
    #[must_use]
    pub fn blob(&self) -> &'a [u8] {
        self.blob
    }

    /// Whether it has signed this. RSA with SHA-1 is not taken (RFC 8332).
    ///
    /// # Errors
    /// The signature is malformed, by another algorithm, or not by this key over these bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SshError> {
        let mut reader = Reader::new(signature, "the host's signature");
        let (algorithm, signature) = (reader.string()?, reader.string()?);
        reader.end()?;
        let held = match (&self.kind, algorithm) {
            (Kind::Ed25519(key), b"ssh-ed25519") => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Kind::P256(point), b"ecdsa-sha2-nistp256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, &fixed_width(signature)?)
            }
            (Kind::Rsa { e, n }, b"rsa-sha2-512") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA512, message, signature)
            }
            (Kind::Rsa { e, n }, b"rsa-sha2-256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            _ => return Err(SshError::Algorithm),
        };
        held.map_err(|_| SshError::Signature)
    }
}

/// The two numbers of an ECDSA signature (RFC 5656 section 3.1.2), each of 32 bytes.
fn fixed_width(signature: &[u8]) -> Result<[u8; 64], SshError> {
    let mut reader = Reader::new(signature, "the host's signature");
    let mut both = [0; 64];
    for half in both.chunks_exact_mut(32) {
        let number = positive(reader.string()?);
        let start = half.len().checked_sub(number.len()).ok_or(SshError::Signature)?;
        half[start..].copy_from_slice(number);
    }
    reader.end()?;
    Ok(both)
}
