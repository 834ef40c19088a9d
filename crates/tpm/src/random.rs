//! Random bytes and keys, from the kernel's seeded generator.

use octant_sys::entropy;
use p256::SecretKey;
use std::io;
use zeroize::Zeroizing;

/// How often a scalar is drawn. One in 2^32 draws is not one; eight in a row are a broken generator.
const DRAWS: usize = 8;

/// A nonce of the hash's length.
pub(crate) fn nonce() -> io::Result<[u8; 32]> {
    let mut nonce = [0; 32];
    entropy::fill_seeded(&mut nonce)?;
    Ok(nonce)
}

/// A private key for P-256, every one equally likely (FIPS 186-5, appendix A.2.2).
pub(crate) fn secret_key() -> io::Result<SecretKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    for _ in 0..DRAWS {
        entropy::fill_seeded(&mut *bytes)?;
        if let Ok(key) = SecretKey::from_slice(&*bytes) {
            return Ok(key);
        }
    }
    Err(io::Error::other("the kernel's random bytes are not random"))
}
