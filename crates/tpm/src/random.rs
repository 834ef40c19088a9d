//! Nonces and keys of random bytes.

use p256::SecretKey;
use std::io;
use zeroize::Zeroizing;

/// How often a scalar is drawn. One in 2^32 draws is not one; eight in a row are a broken generator.
const DRAWS: usize = 8;

/// What fills a buffer: `octant_sys::entropy::fill_seeded`, or in tests something that does the same twice.
pub(crate) type Fill = fn(&mut [u8]) -> io::Result<()>;

/// A nonce of the hash's length.
pub(crate) fn nonce(fill: Fill) -> io::Result<[u8; 32]> {
    let mut nonce = [0; 32];
    fill(&mut nonce)?;
    Ok(nonce)
}

/// A private key for P-256, every one equally likely (FIPS 186-5, appendix A.2.2).
pub(crate) fn secret_key(fill: Fill) -> io::Result<SecretKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    for _ in 0..DRAWS {
        fill(&mut *bytes)?;
        if let Ok(key) = SecretKey::from_slice(&*bytes) {
            return Ok(key);
        }
    }
    Err(io::Error::other("the kernel's random bytes are not random"))
}
