//! Sealing, and what else is derived from a key.
//!
//! There is one construction. Every seal has a key and a nonce of its own, both derived from a long-lived key, a salt of
//! 32 random bytes that is kept beside the ciphertext, and a text that says what is sealed:
//!
//! ```text
//! framed(parts) = for each part: its length as u32 big endian, the part
//! okm           = HKDF-SHA256(ikm = key, salt = salt, info = framed("octant seal 1", info...), length = 44)   RFC 5869
//! sealed        = AES-256-GCM(key = okm[..32], nonce = okm[32..], aad = framed(aad...), plaintext)
//!                 the ciphertext, then its tag of 16 bytes                                    NIST SP 800-38D
//! subkey        = HKDF-SHA256(ikm = key, salt = salt, info = framed("octant subkey 1", info...), length = 32)
//! mac           = HMAC-SHA256(key, framed("octant mac 1", parts...))                                  RFC 2104
//! ```
//!
//! So the limits on how often a key of GCM may be used with random nonces do not matter, as long as no salt is used for
//! two seals: **take a fresh one for each** ([`crate::random`]). The same key, salt and info give the same key and nonce,
//! and two texts sealed under those give away their difference, and the key that authenticates them.
//!
//! GCM does not commit to its key: somebody who knows two keys can make bytes that open under both. Where an attacker
//! may choose among keys (slots that wrap one key), keep a [`mac`] under the same key beside the seal, and compare it
//! with [`same`] first.

use crate::CryptoError;
use crate::memory::{KEY_LEN, Key};
use crate::scrub::scrubbed;
use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::consts::U12;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The length of a salt in bytes.
pub const SALT_LEN: usize = 32;
/// How much longer the sealed form is than the text.
pub const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;

// What tells the three uses of a key from each other, whatever their callers' parts are.
const SEAL: &[u8] = b"octant seal 1";
const SUBKEY: &[u8] = b"octant subkey 1";
const MAC: &[u8] = b"octant mac 1";

/// Bytes that do not open. There is one reason for all of them: a more exact answer would help only who made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "sealed bytes do not open: they were changed, or they were sealed with another key or as something else; restore \
     them from a copy"
)]
pub struct OpenError;

/// The parts as one text from which they can be told again: for each its length (u32, big endian), then the part.
///
/// # Panics
/// When a part has 4 GiB or more: its length does not fit, and a text that stands for two lists is worse than none.
#[must_use]
pub fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    frame(parts, |bytes| text.extend_from_slice(bytes));
    text
}

fn frame(parts: &[&[u8]], mut add: impl FnMut(&[u8])) {
    for part in parts {
        #[expect(clippy::expect_used, reason = "documented: see `framed`")]
        let len = u32::try_from(part.len()).expect("a part of less than 4 GiB");
        add(&len.to_be_bytes());
        add(part);
    }
}

/// HKDF-SHA256 of as many bytes as `okm` has.
fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8], okm: &mut [u8]) {
    let expanded = Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, okm);
    #[expect(
        clippy::expect_used,
        reason = "RFC 5869 section 2.3 ends at 8160 bytes; 44 is the most that is asked"
    )]
    expanded.expect("at most 8160 bytes");
}

fn derive(key: &Key, salt: &[u8], label: &[u8], info: &[&[u8]], okm: &mut [u8]) {
    let mut text = framed(&[label]);
    frame(info, |bytes| text.extend_from_slice(bytes));
    hkdf(key.bytes(), salt, &text, okm);
}

/// The key and nonce of one seal, wiped when dropped.
struct OneUse(Zeroizing<[u8; KEY_LEN + NONCE_LEN]>);

impl OneUse {
    fn derive(key: &Key, salt: &[u8; SALT_LEN], info: &[&[u8]]) -> Self {
        let mut okm = Zeroizing::new([0; KEY_LEN + NONCE_LEN]);
        derive(key, salt, SEAL, info, okm.as_mut_slice());
        Self(okm)
    }

    fn parts(&self) -> (Aes256Gcm, &Nonce<U12>) {
        let (key, nonce) = self.0.split_at(KEY_LEN);
        (Aes256Gcm::new(key.into()), nonce.into())
    }

    /// Encrypts in place and gives the tag; `None` for a text that is longer than GCM allows.
    fn seal(self, aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let (cipher, nonce) = self.parts();
        cipher.encrypt_in_place_detached(nonce, aad, text).ok().map(Into::into)
    }

    /// Decrypts in place if the tag is right.
    fn open(self, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError> {
        let (cipher, nonce) = self.parts();
        cipher.decrypt_in_place_detached(nonce, aad, text, tag.into()).map_err(|_| OpenError)
    }
}

/// Seals a text: the ciphertext, then the tag. `salt` is fresh for every seal (see above); `info` says what the text is,
/// and becomes part of its key; `aad` is what else must be the same when it is opened.
///
/// The text is copied into ordinary memory first, where the ciphertext overwrites it at once. Where even that is too
/// much, as for a value that stands in locked memory alone, there is [`seal_in_place`].
///
/// # Panics
/// When a part of `info` or `aad` has 4 GiB or more, or the text has 64 GiB or more, which is where GCM ends and after
/// which the copy is wiped.
#[must_use]
pub fn seal(key: &Key, salt: &[u8; SALT_LEN], info: &[&[u8]], aad: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
    // With room for the tag from the start: memory that a vector leaves when it grows is not wiped.
    let mut sealed = Vec::with_capacity(plaintext.len() + TAG_LEN);
    sealed.extend_from_slice(plaintext);
    let tag = encrypt(key, salt, info, aad, &mut sealed);
    if tag.is_none() {
        // Nothing was encrypted. By hand, because a build that aborts on a panic drops nothing.
        sealed.zeroize();
    }
    #[expect(clippy::expect_used, reason = "documented: longer than GCM can encrypt")]
    sealed.extend_from_slice(&tag.expect("a text of less than 64 GiB"));
    sealed
}

/// Seals a text where it lies: afterwards the ciphertext is there, and nowhere was there a copy of the text. Gives the
/// tag; the two after each other are what [`seal`] gives for the same.
///
/// # Panics
/// As [`seal`]. The text is left as it was then.
#[must_use]
pub fn seal_in_place(
    key: &Key,
    salt: &[u8; SALT_LEN],
    info: &[&[u8]],
    aad: &[&[u8]],
    buffer: &mut [u8],
) -> [u8; TAG_LEN] {
    #[expect(clippy::expect_used, reason = "documented: longer than GCM can encrypt")]
    encrypt(key, salt, info, aad, buffer).expect("a text of less than 64 GiB")
}

fn encrypt(
    key: &Key,
    salt: &[u8; SALT_LEN],
    info: &[&[u8]],
    aad: &[&[u8]],
    text: &mut [u8],
) -> Option<[u8; TAG_LEN]> {
    let aad = framed(aad);
    scrubbed(|| OneUse::derive(key, salt, info).seal(&aad, text))
}

/// Opens what [`seal`] made with the same key, salt, info and aad, into `out`, which has exactly [`TAG_LEN`] bytes fewer
/// than `sealed`. After a failure there are zeros in it.
///
/// # Errors
/// [`OpenError`], for any difference and for a wrong length.
///
/// # Panics
/// When a part of `info` or `aad` has 4 GiB or more.
pub fn open(
    key: &Key,
    salt: &[u8; SALT_LEN],
    info: &[&[u8]],
    aad: &[&[u8]],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<(), OpenError> {
    let opened = open_unwiped(key, salt, info, aad, sealed, out);
    if opened.is_err() {
        out.zeroize();
    }
    opened
}

fn open_unwiped(
    key: &Key,
    salt: &[u8; SALT_LEN],
    info: &[&[u8]],
    aad: &[&[u8]],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<(), OpenError> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError)?;
    if ciphertext.len() != out.len() {
        return Err(OpenError);
    }
    let aad = framed(aad);
    out.copy_from_slice(ciphertext);
    scrubbed(|| OneUse::derive(key, salt, info).open(&aad, out, tag))
}

/// A key derived from a key, for another purpose that `info` names. The salt may be known and may be empty.
///
/// # Errors
/// [`CryptoError::Memory`].
///
/// # Panics
/// When a part of `info` has 4 GiB or more.
pub fn subkey(key: &Key, salt: &[u8], info: &[&[u8]]) -> Result<Key, CryptoError> {
    let mut derived = Key::zeros()?;
    scrubbed(|| derive(key, salt, SUBKEY, info, derived.bytes_mut()));
    Ok(derived)
}

/// What only who has the key can compute of these parts. Compare it with [`same`].
///
/// # Panics
/// When a part has 4 GiB or more.
#[must_use]
pub fn mac(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    scrubbed(|| {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 section 2)")]
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key.bytes()).expect("a key of 32 bytes");
        frame(&[MAC], |bytes| mac.update(bytes));
        frame(parts, |bytes| mac.update(bytes));
        mac.finalize().into_bytes().into()
    })
}

/// Whether these bytes are the same, in a time that depends on nothing but their lengths.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests;
