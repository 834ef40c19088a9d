//! Where secrets are while they are used: buffers of one fixed region, and keys.
//!
//! Locked memory is short (the usual limit is 8 MiB), so that neither is a page for each secret: a pool is one region
//! cut into equal buffers, and the keys of the whole process share pages, 128 on each, which are kept and used again.
//! What is taken moves between tasks by its handle; the bytes stay where they are and are wiped there.

use crate::{CryptoError, fill_random};
use octant_sys::secret_memory::{Piece, Region};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroize;

/// The length of a key in bytes.
pub const KEY_LEN: usize = 32;

/// The pieces that nobody has.
struct Free(Mutex<Vec<Piece>>);

impl Free {
    /// A thread that ended while it held the list has left it whole: each change of it is one push or one pop.
    fn list(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of equal buffers in one region of secret memory.
#[derive(Clone)]
pub struct Pool {
    free: Arc<Free>,
    buffer_len: usize,
}

impl Pool {
    /// A pool of `count` buffers of `len` bytes each.
    ///
    /// # Errors
    /// [`CryptoError::Memory`], also for no buffers at all and for more bytes than there are addresses.
    pub fn new(count: usize, len: usize) -> Result<Self, CryptoError> {
        // More bytes than can be counted are more than there can be; the region refuses both that and none.
        let region = Region::new(count.saturating_mul(len)).map_err(|error| CryptoError::memory(&error))?;
        let mut pieces = region.split(len);
        pieces.truncate(count);
        Ok(Self { free: Arc::new(Free(Mutex::new(pieces))), buffer_len: len })
    }

    /// A buffer of exactly `len` bytes, all zeros. `None` when every one is taken, or `len` is longer than they are.
    #[must_use]
    pub fn take(&self, len: usize) -> Option<Buffer> {
        if len > self.buffer_len {
            return None;
        }
        let piece = self.free.list().pop()?;
        Some(Buffer { piece: Some(piece), len, used: len, home: Arc::clone(&self.free) })
    }

    /// How many buffers could be taken now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.list().len()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (available, len) = (self.available(), self.buffer_len);
        f.debug_struct("Pool")
            .field("available", &available)
            .field("buffer_len", &len)
            .finish_non_exhaustive()
    }
}

/// Bytes of a [`Pool`], wiped and given back when this is dropped.
pub struct Buffer {
    // Taken out only by `drop`.
    piece: Option<Piece>,
    len: usize,
    // How much may hold something: what was asked for, however much of it was cut off since.
    used: usize,
    home: Arc<Free>,
}

impl Buffer {
    /// Keeps the first `len` bytes; no effect when there are not more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.piece.as_deref().map_or(&[], |bytes| &bytes[..self.len])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.piece.as_deref_mut().map_or(&mut [], |bytes| &mut bytes[..self.len])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(mut piece) = self.piece.take() {
            piece[..self.used].zeroize();
            self.home.list().push(piece);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// The process' keys: unlike other pools, this one grows.
static KEYS: LazyLock<Pool> =
    LazyLock::new(|| Pool { free: Arc::new(Free(Mutex::new(Vec::new()))), buffer_len: KEY_LEN });

/// 32 secret bytes in memory that goes to no disk, wiped when this is dropped. It cannot be copied by accident; moving
/// it moves no byte of it.
pub struct Key(Buffer);

impl Key {
    /// A key from the kernel's generator.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn random() -> Result<Self, CryptoError> {
        let mut key = Self::zeros()?;
        fill_random(&mut key.0)?;
        Ok(key)
    }

    /// A key of these bytes; the caller wipes its own.
    ///
    /// # Errors
    /// [`CryptoError::Memory`].
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Result<Self, CryptoError> {
        let mut key = Self::zeros()?;
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// Not a key yet: the caller writes it.
    pub(crate) fn zeros() -> Result<Self, CryptoError> {
        loop {
            if let Some(buffer) = KEYS.take(KEY_LEN) {
                return Ok(Self(buffer));
            }
            let page = Region::new(1).map_err(|error| CryptoError::memory(&error))?;
            KEYS.free.list().extend(page.split(KEY_LEN));
        }
    }

    /// Its bytes, where they are.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        #[expect(clippy::expect_used, reason = "`zeros` makes every key, of this length")]
        self.0.first_chunk().expect("a key of 32 bytes")
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; KEY_LEN] {
        #[expect(clippy::expect_used, reason = "`zeros` makes every key, of this length")]
        self.0.first_chunk_mut().expect("a key of 32 bytes")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests;
