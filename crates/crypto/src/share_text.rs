//! A share as text: to be printed, kept in a safe, and typed in again by somebody else years later.
//!
//! ```text
//! octant-share-1-aaaaa-bbbbb-...      RFC 4648 base32, lower case, unpadded, in groups of five characters
//! vault id 16, key slot u32, set 8, threshold u8, count u8, number u8, values 32, checksum 4     67 bytes, big endian
//! ```
//!
//! The checksum is the beginning of SHA-256 over `octant-share-1-` and all bytes before it. It finds typing errors; it
//! is no protection against somebody who changes a share on purpose. The set is a random number for each time that a
//! secret is split: shares of two sets never give a secret, though they look alike.

use crate::aead::same;
use crate::memory::{KEY_LEN, Key};
use crate::scrub::scrubbed;
use crate::shamir::{self, ShamirError, Share, check_shape};
use crate::{CryptoError, random};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// The longest text in bytes that is looked at: a share with generous spaces.
pub const TEXT_MAX: usize = 512;
/// The length of a vault's identifier in bytes.
pub const VAULT_LEN: usize = 16;
/// The length of a set's identifier in bytes.
pub const SET_LEN: usize = 8;

const PREFIX: &str = "octant-share-1-";
/// The prefix as it is compared: without dashes, and without the version.
const BARE_PREFIX: &[u8] = b"octantshare";
const VERSION: u8 = b'1';
const CHECKED_LEN: usize = VAULT_LEN + 4 + SET_LEN + 1 + 1 + 1 + KEY_LEN;
const CHECKSUM_LEN: usize = 4;
const BYTES: usize = CHECKED_LEN + CHECKSUM_LEN;
/// How many characters of five bits hold so many bytes.
const CHARACTERS: usize = (BYTES * 8).div_ceil(5);
const GROUP: usize = 5;

/// What a share belongs to. None of it is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The vault.
    pub vault: [u8; VAULT_LEN],
    /// The vault's key slot whose secret was split.
    pub slot: u32,
    /// Which time it was split.
    pub set: [u8; SET_LEN],
    /// How many shares are needed.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
}

impl Label {
    /// The label of a new set of shares.
    ///
    /// # Errors
    /// [`ShamirError::Shape`], [`ShamirError::Key`] when there is no randomness.
    pub fn new(vault: [u8; VAULT_LEN], slot: u32, threshold: u8, count: u8) -> Result<Self, ShamirError> {
        check_shape(threshold, count)?;
        Ok(Self { vault, slot, set: random()?, threshold, count })
    }

    /// Whether share number `x` with the label `found` belongs to this set.
    fn check(&self, x: u8, found: &Self) -> Result<(), ShareError> {
        let here = *self;
        if found.vault != here.vault {
            let (found, here) = (Hex(found.vault), Hex(here.vault));
            return Err(ShareError::OtherVault { x, found, here });
        }
        if found.slot != here.slot {
            return Err(ShareError::OtherSlot { x, found: found.slot, here: here.slot });
        }
        if found.set != here.set {
            let (found, here) = (Hex(found.set), Hex(here.set));
            return Err(ShareError::OtherSet { x, found, here });
        }
        if (found.threshold, found.count) != (here.threshold, here.count) {
            return Err(ShareError::OtherShape { x, threshold: found.threshold, count: found.count });
        }
        Ok(())
    }
}

/// Bytes that are shown as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no share, or shares do not belong together. Nothing of the text is in any message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Longer than any share.
    #[error(
        "the text has {0} bytes, and a share has at most {TEXT_MAX} with all its spaces; give one share at a time"
    )]
    TooLong(usize),
    /// Something else than a share.
    #[error("the text does not begin with {PREFIX}; it is no share of a vault")]
    NotAShare,
    /// A share of a form that this program does not know.
    #[error("the share is not of version 1; use the version of Octant that made it, or a later one")]
    Version,
    /// Characters are missing, or there are too many.
    #[error(
        "the share has {0} characters after {PREFIX}, without spaces and dashes, and not {CHARACTERS}; look for a group \
         that is missing or there twice"
    )]
    Length(usize),
    /// A character that no share has.
    #[error(
        "character {0} of the share, counted after {PREFIX} without spaces and dashes, is neither a letter from a to z \
         nor a digit from 2 to 7; look at it again"
    )]
    Character(usize),
    /// A typing error somewhere.
    #[error("the share's checksum does not agree with it; compare every group with the paper")]
    Checksum,
    /// A share without typing errors that cannot be one.
    #[error(
        "the share is number {x} of {count}, {threshold} needed, which no set of shares has; it was not made by Octant"
    )]
    Shape {
        /// Its number.
        x: u8,
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// It belongs to another vault.
    #[error(
        "share number {x} is of the vault {found}, and this is the vault {here}; use the shares of this one"
    )]
    OtherVault {
        /// Its number.
        x: u8,
        /// Its vault.
        found: Hex<VAULT_LEN>,
        /// The one asked for.
        here: Hex<VAULT_LEN>,
    },
    /// It belongs to another key slot.
    #[error(
        "share number {x} is of key slot {found}, and this is key slot {here}; use the shares of this one"
    )]
    OtherSlot {
        /// Its number.
        x: u8,
        /// Its key slot.
        found: u32,
        /// The one asked for.
        here: u32,
    },
    /// It belongs to another set.
    #[error(
        "share number {x} is of the set {found}, and this is the set {here}; the secret was split again since, use the \
         newer shares"
    )]
    OtherSet {
        /// Its number.
        x: u8,
        /// Its set.
        found: Hex<SET_LEN>,
        /// The one asked for.
        here: Hex<SET_LEN>,
    },
    /// It is of the same set, and says something else about it.
    #[error(
        "share number {x} says that {threshold} of {count} are needed, and the others do not; it was not made by Octant"
    )]
    OtherShape {
        /// Its number.
        x: u8,
        /// How many are needed, as it says.
        threshold: u8,
        /// How many there are, as it says.
        count: u8,
    },
    /// They do not give the secret.
    #[error(transparent)]
    Shamir(#[from] ShamirError),
}

impl From<CryptoError> for ShareError {
    fn from(error: CryptoError) -> Self {
        Self::Shamir(error.into())
    }
}

/// A share and what it belongs to.
#[derive(Debug)]
pub struct LabelledShare {
    label: Label,
    share: Share,
}

impl LabelledShare {
    /// This share, of this set.
    ///
    /// # Errors
    /// [`ShareError::Shape`].
    pub fn new(label: Label, share: Share) -> Result<Self, ShareError> {
        let (Label { threshold, count, .. }, x) = (label, share.x());
        if check_shape(threshold, count).is_err() || x > count {
            return Err(ShareError::Shape { x, threshold, count });
        }
        Ok(Self { label, share })
    }

    /// What it belongs to.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The share.
    #[must_use]
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Whether it belongs to this set: to be asked when a share is given, before there are enough of them.
    ///
    /// # Errors
    /// [`ShareError::OtherVault`], [`ShareError::OtherSlot`], [`ShareError::OtherSet`], [`ShareError::OtherShape`].
    pub fn belongs_to(&self, label: &Label) -> Result<(), ShareError> {
        label.check(self.share.x(), &self.label)
    }

    /// Its text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // With room for all of it from the start: memory that a string leaves when it grows is not wiped.
        let len = PREFIX.len() + CHARACTERS + CHARACTERS.div_ceil(GROUP);
        let mut text = Zeroizing::new(String::with_capacity(len));
        scrubbed(|| {
            text.push_str(PREFIX);
            let bytes = self.to_bytes();
            for number in 0..CHARACTERS {
                if number > 0 && number % GROUP == 0 {
                    text.push('-');
                }
                text.push(char::from(base32_character(five_bits(&bytes, number))));
            }
        });
        text
    }

    fn to_bytes(&self) -> Zeroizing<[u8; BYTES]> {
        let Label { vault, slot, set, threshold, count } = &self.label;
        let mut bytes = Zeroizing::new([0; BYTES]);
        let (checked, checksum) = bytes.split_at_mut(CHECKED_LEN);
        let slot = slot.to_be_bytes();
        let numbers = [*threshold, *count, self.share.x()];
        let mut at = 0;
        for part in [&vault[..], &slot, set, &numbers, self.share.y()] {
            checked[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        checksum.copy_from_slice(&checksum_of(checked));
        bytes
    }

    /// Reads a text: capitals, spaces, line breaks and dashes may be anywhere in it.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        scrubbed(|| {
            let bytes = bytes_of(text)?;
            Self::from_bytes(&bytes)
        })
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Result<Self, ShareError> {
        let (checked, checksum) = bytes.split_at(CHECKED_LEN);
        if !same(&checksum_of(checked), checksum) {
            return Err(ShareError::Checksum);
        }
        let mut rest = checked;
        let label = Label {
            vault: take(&mut rest),
            slot: u32::from_be_bytes(take(&mut rest)),
            set: take(&mut rest),
            threshold: take::<1>(&mut rest)[0],
            count: take::<1>(&mut rest)[0],
        };
        let [x] = take(&mut rest);
        let mut y = Key::zeros()?;
        y.bytes_mut().copy_from_slice(rest);
        Self::new(label, Share::new(x, y)?)
    }
}

/// Splits a secret into the shares of a set.
///
/// # Errors
/// [`ShamirError`].
pub fn split(secret: &Key, label: &Label) -> Result<Vec<LabelledShare>, ShamirError> {
    let shares = shamir::split(secret.bytes(), label.threshold, label.count)?;
    Ok(shares.into_iter().map(|share| LabelledShare { label: *label, share }).collect())
}

/// The secret of enough shares that all belong to this set.
///
/// # Errors
/// [`ShareError`].
pub fn combine(shares: &[LabelledShare], label: &Label) -> Result<Key, ShareError> {
    shares.iter().try_for_each(|share| share.belongs_to(label))?;
    Ok(shamir::combine(shares.iter().map(LabelledShare::share), label.threshold)?)
}

/// Entry for fuzzers and for the replay of their corpus: what is read has one text, which is read as the same.
///
/// # Panics
/// When that is not so.
pub fn fuzz(bytes: &[u8]) {
    let Some(share) = std::str::from_utf8(bytes).ok().and_then(|text| LabelledShare::parse(text).ok()) else {
        return;
    };
    let text = share.to_text();
    let again =
        LabelledShare::parse(&text).map(|again| (again.label, again.share.x(), *again.to_text() == *text));
    assert_eq!(again, Ok((share.label, share.share.x(), true)));
}

fn checksum_of(checked: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Sha256::new().chain_update(PREFIX).chain_update(checked).finalize();
    let mut checksum = [0; CHECKSUM_LEN];
    checksum.copy_from_slice(&digest[..CHECKSUM_LEN]);
    checksum
}

/// The first `N` bytes, which are there: every field has its place in [`CHECKED_LEN`].
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut field = [0; N];
    let (first, others) = rest.split_at(N);
    field.copy_from_slice(first);
    *rest = others;
    field
}

/// The bytes of a text that has the prefix and the length of a share and only characters that a share has.
fn bytes_of(text: &str) -> Result<Zeroizing<[u8; BYTES]>, ShareError> {
    if text.len() > TEXT_MAX {
        return Err(ShareError::TooLong(text.len()));
    }
    let mut characters = text.chars().filter(|character| !character.is_whitespace() && *character != '-');
    // What is not ASCII is as wrong as 0, which no share has.
    let mut next = || characters.next().map(|c| u8::try_from(c).unwrap_or_default().to_ascii_lowercase());
    if BARE_PREFIX.iter().any(|wanted| next() != Some(*wanted)) {
        return Err(ShareError::NotAShare);
    }
    if next() != Some(VERSION) {
        return Err(ShareError::Version);
    }
    let mut values = Zeroizing::new([0; CHARACTERS]);
    let mut count = 0;
    let mut wrong = None;
    while let Some(character) = next() {
        let (value, is_value) = base32_value(character);
        if let Some(place) = values.get_mut(count) {
            *place = value;
        }
        count += 1;
        if !is_value && wrong.is_none() {
            wrong = Some(count);
        }
    }
    // A character that is not one is the better hint than that there is one too many.
    if let Some(number) = wrong {
        return Err(ShareError::Character(number));
    }
    if count != CHARACTERS {
        return Err(ShareError::Length(count));
    }
    joined(&values).ok_or(ShareError::Checksum)
}

/// The bytes of so many times five bits; `None` when a bit beyond the last byte is set, so that a share has one text.
fn joined(values: &[u8; CHARACTERS]) -> Option<Zeroizing<[u8; BYTES]>> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    let (mut bits, mut have, mut at) = (0_u16, 0, 0);
    for value in values {
        bits = bits << 5 | u16::from(*value);
        have += 5;
        if have >= 8 {
            have -= 8;
            bytes[at] = (bits >> have & 0xff) as u8;
            at += 1;
        }
    }
    (bits & ((1 << have) - 1) == 0).then_some(bytes)
}

/// Five bits of the bytes and of the zeros behind them.
fn five_bits(bytes: &[u8; BYTES], number: usize) -> u8 {
    let (at, shift) = (number * 5 / 8, number * 5 % 8);
    let next = bytes.get(at + 1).copied().unwrap_or_default();
    let both = u16::from(bytes[at]) << 8 | u16::from(next);
    (both >> (11 - shift) & 31) as u8
}

// Both directions compute instead of looking up, for the reason that `shamir` gives.

/// `a` to `z` for 0 to 25, `2` to `7` for 26 to 31.
fn base32_character(value: u8) -> u8 {
    let is_digit = 25_u8.wrapping_sub(value) >> 7;
    b'a' + value - is_digit * (b'a' + 26 - b'2')
}

/// The value of a lower-case character, and whether it has one.
fn base32_value(character: u8) -> (u8, bool) {
    let within = |first: u8, last: u8| {
        let (c, first, last) = (u16::from(character), u16::from(first), u16::from(last));
        // The highest bit of a difference is that of a number below zero.
        let outside = (c.wrapping_sub(first) | last.wrapping_sub(c)) >> 15;
        1 - (outside & 1) as u8
    };
    let (letter, digit) = (within(b'a', b'z'), within(b'2', b'7'));
    let value = letter * character.wrapping_sub(b'a') + digit * character.wrapping_sub(b'2' - 26);
    (value, letter | digit == 1)
}

#[cfg(test)]
mod tests;
