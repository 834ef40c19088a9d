//! The cryptography of what keeps secrets: memory for them, one way to seal, one to derive, one to sign, one to split.
//!
//! Owns: where a key lies while it is used, the construction of every seal, what a passphrase costs, the form of a
//! share on paper, and how signatures are made and checked. The algorithms themselves are the RustCrypto project's
//! and dalek's, but for Shamir's scheme, which is a page.
//! Promises: a key is in memory that goes to no disk and no core dump, and is zeros when its owner is gone; what is
//! derived from it on the way is overwritten before the call returns; a comparison of secrets takes the same time
//! wherever they differ; no error and no `Debug` has a secret byte in it; whatever is given, nothing here panics but
//! where it says so.
//! Never: reads a clock, a file or a socket (randomness is the kernel's); keeps a nonce or a counter, since each seal
//! has a key of its own; chooses for its caller what an identity, a path or a version is.
//!
//! What it cannot promise: registers that the kernel saves when it interrupts a thread, and copies that a compiler
//! spills where no later call writes, are wiped by nobody.
#![forbid(unsafe_code)]

pub mod aead;
pub mod memory;
pub mod passphrase;
mod scrub;
pub mod shamir;
pub mod share_text;
pub mod sign;
#[cfg(test)]
mod tests;

use std::io;

/// Why there is no key or no memory for one. The number is the kernel's (errno(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The kernel's generator gives nothing.
    #[error(
        "the kernel gives no random bytes: {}; its generator is seeded shortly after the machine's start, try again then",
        io::Error::from_raw_os_error(*.0)
    )]
    Random(i32),
    /// There is no memory that is fit for a secret.
    #[error(
        "there is no locked memory for secrets: {}; raise this process' limit of it (RLIMIT_MEMLOCK)",
        io::Error::from_raw_os_error(*.0)
    )]
    Memory(i32),
}

impl CryptoError {
    fn memory(error: &io::Error) -> Self {
        Self::Memory(error.raw_os_error().unwrap_or_default())
    }
}

/// Fills `out` from the kernel's generator, once that is seeded.
fn fill_random(out: &mut [u8]) -> Result<(), CryptoError> {
    let filled = octant_sys::entropy::fill_seeded(out);
    filled.map_err(|error| CryptoError::Random(error.raw_os_error().unwrap_or_default()))
}

/// Random bytes that may be known: a salt, the identifier of a set of shares. A secret is a [`memory::Key`].
///
/// # Errors
/// [`CryptoError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}
