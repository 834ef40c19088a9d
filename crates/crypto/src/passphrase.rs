//! From a passphrase to a key, at a price that whoever guesses pays for each guess.

use crate::CryptoError;
use crate::memory::Key;
use crate::scrub::scrubbed;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// The longest passphrase in bytes.
pub const PASSPHRASE_MAX: usize = 1024;
/// The length of a salt in bytes.
pub const SALT_LEN: usize = 32;

/// What one guess costs: the parameters of Argon2id, version 1.3 (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// How often all of it is passed over.
    pub passes: u32,
    /// How many parts of it can be computed beside each other. Here they are computed one after the other.
    pub lanes: u32,
}

impl Argon2Cost {
    /// RFC 9106 section 4's second choice (64 MiB, three passes), in one lane: more would help only a guesser who has
    /// more processors.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// Nothing cheaper protects a passphrase that somebody can remember.
    pub const FLOOR: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// The most of each that a file which somebody else wrote can make its reader spend.
    pub const CEILING: Self = Self { memory_kib: 2 * 1024 * 1024, passes: 64, lanes: 16 };
    /// The most of both together, since their product is the time that it takes: 16 GiB passed over once, in KiB. That is
    /// 10 to 30 seconds of one processor, where the two ceilings alone would allow eight times as much.
    pub const WORK_MAX: u64 = 16 << 20;

    /// How much memory is passed over in all, in KiB.
    #[must_use]
    pub fn work(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Whether it is between [`Argon2Cost::FLOOR`] and [`Argon2Cost::CEILING`] in everything, and costs no more than
    /// [`Argon2Cost::WORK_MAX`].
    ///
    /// # Errors
    /// [`CostError`], for the first that is not.
    pub fn check(&self) -> Result<(), CostError> {
        let (low, high) = (Self::FLOOR, Self::CEILING);
        if !(low.memory_kib..=high.memory_kib).contains(&self.memory_kib) {
            return Err(CostError::Memory(self.memory_kib));
        }
        if !(low.passes..=high.passes).contains(&self.passes) {
            return Err(CostError::Passes(self.passes));
        }
        if !(low.lanes..=high.lanes).contains(&self.lanes) {
            return Err(CostError::Lanes(self.lanes));
        }
        if self.work() > Self::WORK_MAX {
            return Err(CostError::Work { memory_kib: self.memory_kib, passes: self.passes });
        }
        Ok(())
    }
}

impl Default for Argon2Cost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a cost is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// Too little memory, or too much.
    #[error(
        "{0} KiB of memory for a passphrase is not between {low} and {high}; choose a number in that range, or restore the \
         file that says so",
        low = Argon2Cost::FLOOR.memory_kib,
        high = Argon2Cost::CEILING.memory_kib
    )]
    Memory(u32),
    /// Too few passes, or too many.
    #[error(
        "{0} passes for a passphrase are not between {low} and {high}; choose a number in that range, or restore the file \
         that says so",
        low = Argon2Cost::FLOOR.passes,
        high = Argon2Cost::CEILING.passes
    )]
    Passes(u32),
    /// No lane, or too many.
    #[error(
        "{0} lanes for a passphrase are not between {low} and {high}; choose a number in that range, or restore the file \
         that says so",
        low = Argon2Cost::FLOOR.lanes,
        high = Argon2Cost::CEILING.lanes
    )]
    Lanes(u32),
    /// Each is within its limits, and together they take too long.
    #[error(
        "{memory_kib} KiB of memory passed over {passes} times for a passphrase are more than {most} KiB in all; choose \
         less of one of the two, or restore the file that says so",
        most = Argon2Cost::WORK_MAX
    )]
    Work {
        /// Memory, in KiB.
        memory_kib: u32,
        /// How often it is passed over.
        passes: u32,
    },
}

/// Why a passphrase gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Its cost is not accepted.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// No passphrase, or a longer one than any.
    #[error("the passphrase has {0} bytes; it must have between 1 and {PASSPHRASE_MAX}")]
    Length(usize),
    /// There is not so much memory.
    #[error("there are no {0} KiB of memory to check the passphrase with; stop something, or add memory")]
    Memory(u32),
    /// There is no memory for the key.
    #[error(transparent)]
    Key(#[from] CryptoError),
    /// The library refuses what is within its own limits.
    #[error("Argon2 refuses these parameters: {0}; this is a fault of the program, report it")]
    Algorithm(argon2::Error),
}

/// The key of a passphrase. At [`Argon2Cost::DEFAULT`] it takes 0.1 to 0.3 seconds of one processor, and as
/// much memory as the cost says, which is wiped; that memory is not locked, since few processes may lock so much.
///
/// # Errors
/// [`PassphraseError`]. The cost is checked before anything is spent.
pub fn passphrase_key(
    passphrase: &[u8],
    salt: &[u8; SALT_LEN],
    cost: Argon2Cost,
) -> Result<Key, PassphraseError> {
    cost.check()?;
    if !(1..=PASSPHRASE_MAX).contains(&passphrase.len()) {
        return Err(PassphraseError::Length(passphrase.len()));
    }
    let mut key = Key::zeros()?;
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.bytes().len()));
    let params = params.map_err(PassphraseError::Algorithm)?;
    let mut memory = Memory::new(params.block_count()).ok_or(PassphraseError::Memory(cost.memory_kib))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let filled = scrubbed(|| {
        argon2.hash_password_into_with_memory(passphrase, salt, key.bytes_mut(), &mut memory.0[..])
    });
    filled.map_err(PassphraseError::Algorithm)?;
    Ok(key)
}

/// The working memory, wiped when dropped.
struct Memory(Vec<Block>);

impl Memory {
    /// `None` where there is not so much: a reader of somebody else's file must not end for what it asks.
    fn new(blocks: usize) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).ok()?;
        memory.resize(blocks, Block::new());
        Some(Self(memory))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
