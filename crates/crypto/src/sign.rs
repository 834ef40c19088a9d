//! Signatures: Ed25519 (RFC 8032), checked strictly.

use crate::CryptoError;
use crate::memory::{KEY_LEN, Key};
use crate::scrub::scrubbed;
use ed25519_dalek::Signer;
use std::fmt;

/// The length of a public key in bytes.
pub const PUBLIC_LEN: usize = 32;
/// The length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// A key to sign with. Its seed is kept; what signs is made from it for each signature, and wiped.
pub struct SigningKey {
    seed: Key,
    public: [u8; PUBLIC_LEN],
}

impl SigningKey {
    /// A new one, from the kernel's generator.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn generate() -> Result<Self, CryptoError> {
        Key::random().map(Self::new)
    }

    /// The one of this seed; the caller wipes its own copy.
    ///
    /// # Errors
    /// [`CryptoError::Memory`].
    pub fn from_seed(seed: &[u8; KEY_LEN]) -> Result<Self, CryptoError> {
        Key::from_bytes(seed).map(Self::new)
    }

    /// The one whose seed is this key.
    #[must_use]
    pub fn new(seed: Key) -> Self {
        let public = scrubbed(|| expand(&seed).verifying_key().to_bytes());
        Self { seed, public }
    }

    /// Its seed, to be sealed.
    #[must_use]
    pub fn seed(&self) -> &Key {
        &self.seed
    }

    /// What others check its signatures with.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC_LEN] {
        self.public
    }

    /// The signature of these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        scrubbed(|| expand(&self.seed).sign(message).to_bytes())
    }
}

/// The public key of a seed, and its signature of these bytes: what [`SigningKey::from_seed`] and [`SigningKey::sign`] give,
/// for a seed that signs once, with one expansion instead of two. The caller wipes its own copy.
#[must_use]
pub fn sign_once(seed: &[u8; KEY_LEN], message: &[u8]) -> ([u8; PUBLIC_LEN], [u8; SIGNATURE_LEN]) {
    scrubbed(|| {
        let pair = ed25519_dalek::SigningKey::from_bytes(seed);
        (pair.verifying_key().to_bytes(), pair.sign(message).to_bytes())
    })
}

/// Wiped by dalek when it is dropped.
fn expand(seed: &Key) -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(seed.bytes())
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The public key is not a point of the curve.
    #[error("this is not an Ed25519 public key; compare it with the one that its owner shows")]
    PublicKey,
    /// The signature is not that key's of that message, or one that other programs would not accept either.
    #[error("the signature does not verify; the message was changed, or somebody else signed it")]
    Signature,
}

/// Checks a signature strictly: exactly one form of each is accepted, and no key of small order, with which a signature
/// would verify for any message.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(
    public: &[u8; PUBLIC_LEN],
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), VerifyError> {
    let public = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| VerifyError::PublicKey)?;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    public.verify_strict(message, &signature).map_err(|_| VerifyError::Signature)
}

#[cfg(test)]
mod tests;
