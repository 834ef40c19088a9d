//! Splitting a secret among several people so that some of them together have it, and fewer have nothing (Shamir 1979).
//!
//! Each byte of the secret is the value at 0 of a polynomial over GF(2^8), the field of AES (FIPS 197 section 4), whose
//! other coefficients are random: as many of them as make the degree one less than the threshold. A share is the values
//! at one other place, for all 32 bytes. So many values determine the polynomial; one fewer fits every secret.
//!
//! Nothing says whether the secret that comes out is the right one: a share that was swapped for another of the same
//! form gives 32 other bytes. Shares of different sets are told apart by [`crate::share_text`], and the key by what it
//! opens.

use crate::CryptoError;
use crate::aead::same;
use crate::memory::{KEY_LEN, Key};
use crate::scrub::scrubbed;
use std::fmt;
use std::hint::black_box;

/// The fewest shares that a secret may need: with one, each would be the secret.
pub const THRESHOLD_MIN: u8 = 2;
/// The most shares of a secret.
pub const COUNT_MAX: u8 = 16;

/// One share: a place and the 32 values there.
pub struct Share {
    x: u8,
    y: Key,
}

impl Share {
    /// The share of this number with these values.
    ///
    /// # Errors
    /// [`ShamirError::Number`]; number 0 would be the secret itself.
    pub fn new(x: u8, y: Key) -> Result<Self, ShamirError> {
        if (1..=COUNT_MAX).contains(&x) { Ok(Self { x, y }) } else { Err(ShamirError::Number(x)) }
    }

    /// Its number, from 1.
    #[must_use]
    pub fn x(&self) -> u8 {
        self.x
    }

    /// Its values. They are as secret as what was split.
    #[must_use]
    pub fn y(&self) -> &[u8; KEY_LEN] {
        self.y.bytes()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("x", &self.x).finish_non_exhaustive()
    }
}

/// Why a secret is not split, or shares are not put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShamirError {
    /// Not `2 <= threshold <= count <= 16`.
    #[error(
        "a secret cannot be split into {count} shares of which {threshold} are needed; choose at least {THRESHOLD_MIN} \
         needed, no more than there are, and at most {COUNT_MAX}"
    )]
    Shape {
        /// How many would be needed.
        threshold: u8,
        /// How many there would be.
        count: u8,
    },
    /// A share whose number is none.
    #[error("there is no share number {0}; they have the numbers 1 to {COUNT_MAX}")]
    Number(u8),
    /// Not enough shares.
    #[error("{have} shares are there and {threshold} are needed; add the missing ones")]
    TooFew {
        /// How many there are.
        have: u8,
        /// How many are needed.
        threshold: u8,
    },
    /// The same share twice.
    #[error("share number {0} is there twice; give another one")]
    Duplicate(u8),
    /// More shares than needed, which do not lie on one polynomial.
    #[error("share number {0} does not fit the others; one of them is wrong, so try with other ones")]
    Inconsistent(u8),
    /// There is no memory or no randomness for a key.
    #[error(transparent)]
    Key(#[from] CryptoError),
}

/// Whether a secret can be split so.
///
/// # Errors
/// [`ShamirError::Shape`].
pub fn check_shape(threshold: u8, count: u8) -> Result<(), ShamirError> {
    let fine = THRESHOLD_MIN <= threshold && threshold <= count && count <= COUNT_MAX;
    if fine { Ok(()) } else { Err(ShamirError::Shape { threshold, count }) }
}

/// Splits a secret into `count` shares, numbered from 1, of which any `threshold` give it back.
///
/// # Errors
/// [`ShamirError::Shape`], [`ShamirError::Key`].
pub fn split(secret: &[u8; KEY_LEN], threshold: u8, count: u8) -> Result<Vec<Share>, ShamirError> {
    check_shape(threshold, count)?;
    let coefficients = (1..threshold).map(|_| Key::random()).collect::<Result<Vec<_>, _>>()?;
    (1..=count)
        .map(|x| {
            let mut y = Key::zeros()?;
            scrubbed(|| evaluate(secret, &coefficients, x, y.bytes_mut()));
            Share::new(x, y)
        })
        .collect()
}

/// The polynomials of the secret's bytes at `x`, by Horner's rule.
fn evaluate(secret: &[u8; KEY_LEN], coefficients: &[Key], x: u8, values: &mut [u8; KEY_LEN]) {
    for coefficient in coefficients.iter().rev().map(Key::bytes).chain([secret]) {
        for (value, coefficient) in values.iter_mut().zip(coefficient) {
            *value = multiply(*value, x) ^ coefficient;
        }
    }
}

/// The secret of at least `threshold` shares of it. When there are more, all of them must fit each other.
///
/// # Errors
/// [`ShamirError`]. Shares that are wrong but just enough give another secret, and no error.
pub fn combine<'a>(shares: impl IntoIterator<Item = &'a Share>, threshold: u8) -> Result<Key, ShamirError> {
    check_shape(threshold, COUNT_MAX)?;
    let mut points: Vec<&Share> = Vec::new();
    for share in shares {
        // There are no more numbers than shares, so that this also bounds how many are read.
        if points.iter().any(|point| point.x == share.x) {
            return Err(ShamirError::Duplicate(share.x));
        }
        points.push(share);
    }
    let Some((needed, further)) = points.split_at_checked(usize::from(threshold)) else {
        let have = u8::try_from(points.len()).unwrap_or(u8::MAX);
        return Err(ShamirError::TooFew { have, threshold });
    };
    for share in further {
        let expected = interpolate(needed, share.x)?;
        if !same(expected.bytes(), share.y.bytes()) {
            return Err(ShamirError::Inconsistent(share.x));
        }
    }
    Ok(interpolate(needed, 0)?)
}

/// The values at `at` of the polynomials through these points, by Lagrange's formula. No two points have the same
/// number.
fn interpolate(points: &[&Share], at: u8) -> Result<Key, CryptoError> {
    let mut values = Key::zeros()?;
    scrubbed(|| {
        for point in points {
            let others = points.iter().map(|other| other.x).filter(|x| *x != point.x);
            let (above, below) = others
                .fold((1, 1), |(above, below), x| (multiply(above, at ^ x), multiply(below, point.x ^ x)));
            let weight = multiply(above, invert(below));
            for (value, y) in values.bytes_mut().iter_mut().zip(point.y.bytes()) {
                *value ^= multiply(*y, weight);
            }
        }
    });
    Ok(values)
}

/// The product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1. No table, and no branch on a factor: neither the cache nor
/// the time says what was multiplied.
pub(crate) fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    for _ in 0..8 {
        product ^= all_or_nothing(b & 1) & a;
        a = (a << 1) ^ (all_or_nothing(a >> 7) & 0x1b);
        b >>= 1;
    }
    product
}

/// 0xff for 1 and 0 for 0, so that a compiler does not see that there are only two cases and branch.
fn all_or_nothing(bit: u8) -> u8 {
    black_box(bit.wrapping_neg())
}

/// The inverse: in a field of 256 elements `a` to the power of 254. It is 0 for 0, which nobody asks for here.
pub(crate) fn invert(a: u8) -> u8 {
    // 254 is 0b1111_1110: the product of the squares of every order but the lowest.
    let mut power = a;
    let mut product = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

#[cfg(test)]
mod tests;
