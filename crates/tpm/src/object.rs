//! The objects in a TPM that are used here: their public areas (TPMT_PUBLIC) and their names.

use crate::codes::{CURVE_P256, alg, attribute};
use crate::wire::{Broken, Read, Reader, Writer};
use octant_ids::Sha256;
use p256::PublicKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::str::FromStr;

/// The longest public area that is taken: twice what those here have.
pub(crate) const PUBLIC_MAX: usize = 256;

/// A name (Part 1, section 16): a hash over an object's public area, so that whoever has another object has another
/// name. The storage key's name stands for a TPM: it is the same as long as its owner seed is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name([u8; Self::LEN]);

impl Name {
    /// The hash's algorithm and a SHA-256 digest.
    pub const LEN: usize = 34;

    /// Its bytes, as the TPM gives them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn of(public: &[u8]) -> Self {
        let mut name = [0; Self::LEN];
        name[..2].copy_from_slice(&alg::SHA256.to_be_bytes());
        name[2..].copy_from_slice(&sha2::Sha256::digest(public));
        Self(name)
    }
}

/// The text is not 68 lower-case hexadecimal digits that begin with `000b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TPM object's name is 000b and 64 lower-case hexadecimal digits")]
pub struct NameError;

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digest: Sha256 = text.strip_prefix("000b").ok_or(NameError)?.parse().map_err(|_| NameError)?;
        let mut name = [0; Self::LEN];
        name[..2].copy_from_slice(&alg::SHA256.to_be_bytes());
        name[2..].copy_from_slice(&digest.0);
        Ok(Self(name))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// The storage key's public area up to its point: the template for ECC P-256 of the TCG TPM v2.0 Provisioning Guidance,
/// section 7.5.1. The same template on the same TPM makes the same key each time, so it needs no place in the TPM.
fn storage_key_head() -> Writer {
    use attribute::{
        DECRYPT, FIXED_PARENT, FIXED_TPM, NO_DA, RESTRICTED, SENSITIVE_DATA_ORIGIN, USER_WITH_AUTH,
    };
    let flags =
        FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT;
    let head = Writer::new().u16(alg::ECC).u16(alg::SHA256).u32(flags).sized(&[]);
    // What protects its children, the scheme, the curve, the key derivation.
    head.u16(alg::AES).u16(128).u16(alg::CFB).u16(alg::NULL).u16(CURVE_P256).u16(alg::NULL)
}

/// The template that TPM2_CreatePrimary takes.
pub(crate) fn storage_key_template() -> Writer {
    storage_key_head().sized(&[0; 32]).sized(&[0; 32])
}

/// The storage key as TPM2_CreatePrimary answered it: of the template in everything but its point, which is on the curve.
pub(crate) fn storage_key(public: &[u8]) -> Read<PublicKey> {
    let point = public.strip_prefix(storage_key_head().as_slice());
    let point = point.ok_or(Broken("has a storage key of another kind"))?;
    let mut reader = Reader::new(point);
    let (x, y) = (reader.sized(32)?, reader.sized(32)?);
    reader.end()?;
    // A TPM may leave zeros away at the beginning of a coordinate.
    let mut sec1 = [0; 65];
    sec1[0] = 4;
    sec1[33 - x.len()..33].copy_from_slice(x);
    sec1[65 - y.len()..].copy_from_slice(y);
    PublicKey::from_sec1_bytes(&sec1).map_err(|_| Broken("has a storage key that is not on the curve"))
}

/// A sealed object's public area up to its unique value: a secret that nothing but this policy opens. It has no password
/// (USER_WITH_AUTH is clear), and it takes no part in the lockout after wrong passwords.
fn sealed_head(policy: &Sha256) -> Writer {
    use attribute::{ADMIN_WITH_POLICY, FIXED_PARENT, FIXED_TPM, NO_DA};
    let flags = FIXED_TPM | FIXED_PARENT | ADMIN_WITH_POLICY | NO_DA;
    Writer::new().u16(alg::KEYEDHASH).u16(alg::SHA256).u32(flags).sized(&policy.0).u16(alg::NULL)
}

/// The template that TPM2_Create takes.
pub(crate) fn sealed_template(policy: &Sha256) -> Writer {
    sealed_head(policy).sized(&[])
}

/// Whether this is the public area of an object that was sealed to this policy.
pub(crate) fn is_sealed_to(public: &[u8], policy: &Sha256) -> bool {
    // The unique value is a hash over the secret and a seed, in a buffer.
    let unique = public.strip_prefix(sealed_head(policy).as_slice());
    unique.is_some_and(|unique| unique.len() == 34 && unique.starts_with(&[0, 32]))
}

/// The public area of a key that signs what may open a sealed object: ECDSA over P-256 with SHA-256 and nothing else.
pub(crate) fn release_key(key: &PublicKey) -> Writer {
    let flags = attribute::SIGN | attribute::USER_WITH_AUTH;
    let head = Writer::new().u16(alg::ECC).u16(alg::SHA256).u32(flags).sized(&[]);
    let head = head.u16(alg::NULL).u16(alg::ECDSA).u16(alg::SHA256).u16(CURVE_P256).u16(alg::NULL);
    let (x, y) = coordinates(key);
    head.sized(&x).sized(&y)
}

/// Both coordinates in full length, as Part 1, section C.8, has them.
pub(crate) fn coordinates(key: &PublicKey) -> ([u8; 32], [u8; 32]) {
    let point = key.to_encoded_point(false);
    // A public key is never the point at infinity, so it has both.
    let of = |coordinate: Option<&p256::FieldBytes>| coordinate.map_or([0; 32], |bytes| (*bytes).into());
    (of(point.x()), of(point.y()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_keys_attributes_are_those_of_the_guidance() {
        let template = storage_key_template().finish().unwrap();
        assert_eq!(template[..8], [0x00, 0x23, 0x00, 0x0b, 0x00, 0x03, 0x04, 0x72]);
        assert_eq!(template.len(), 8 + 2 + 12 + 2 * 34);
        assert!(storage_key(&template).is_err(), "the point 0, 0 is not on the curve");
    }

    #[test]
    fn a_sealed_object_is_known_by_its_policy() {
        let policy = Sha256([5; 32]);
        let public = sealed_head(&policy).sized(&[9; 32]).finish().unwrap();
        assert!(is_sealed_to(&public, &policy) && !is_sealed_to(&public, &Sha256([6; 32])));
        for at in 0..public.len() - 32 {
            let mut other = public.clone();
            other[at] ^= 1;
            assert!(!is_sealed_to(&other, &policy), "byte {at}");
        }
        assert!(!is_sealed_to(&public[..public.len() - 1], &policy) && !is_sealed_to(&[], &policy));
    }

    #[test]
    fn a_name_is_text_and_back() {
        let name = Name::of(b"public");
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", "000b", &"0".repeat(68), &name.to_string().to_uppercase()] {
            assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad}");
        }
    }
}
