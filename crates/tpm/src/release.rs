//! Release keys: who makes a system's updates signs the PCR values that each will boot with, and what is sealed to the
//! key opens on them without having been sealed anew (TPM2_PolicyAuthorize).

use crate::codes::Command;
use crate::object::{self, Name};
use crate::pcr::{PcrSet, PcrValues, pcr_policy};
use crate::random;
use crate::text::Bytes;
use crate::wire::Writer;
use octant_ids::Sha256;
use octant_sys::entropy;
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::io;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The longest `policy_ref`: a nonce (TPM2B_NONCE) may be as long as the longest hash that a TPM has, and SHA-256 they
/// all have.
pub const POLICY_REF_MAX: usize = 32;
/// The longest PEM text that is read; one of these keys has about 250 bytes.
const PEM_MAX: usize = 4096;

/// What is wrong with a release key or with what it is asked to sign. No message has anything of a key in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The kernel gave no random bytes.
    #[error(
        "the kernel gives no random bytes for a release key: {0}; try again once it has collected entropy"
    )]
    Randomness(#[source] io::Error),
    /// The text is not a private key.
    #[error(
        "this is not an ECDSA P-256 private key in PEM (BEGIN PRIVATE KEY, PKCS #8); `openssl genpkey -algorithm EC \
         -pkeyopt ec_paramgen_curve:P-256` makes one"
    )]
    PrivateKey,
    /// The text is not a public key.
    #[error(
        "this is not an ECDSA P-256 public key; it is PEM (BEGIN PUBLIC KEY) or 130 lower-case hexadecimal digits \
         that begin with 04"
    )]
    PublicKey,
    /// The key cannot be written as text.
    #[error("the key cannot be written as PEM; this is a fault in octant-tpm")]
    Encode,
    /// A policy reference above the limit.
    #[error("the policy reference has {0} bytes, more than {POLICY_REF_MAX}; take a shorter one")]
    PolicyRef(usize),
    /// The signature failed.
    #[error("the release key cannot sign; this is a fault in octant-tpm")]
    Sign,
}

/// What approvals are for, at most [`POLICY_REF_MAX`] bytes, for instance `vault`: two things that are sealed to one key
/// are kept apart by it. As data it is base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyRef(Bytes<POLICY_REF_MAX>);

impl PolicyRef {
    /// These bytes.
    ///
    /// # Errors
    /// [`ReleaseError::PolicyRef`].
    pub fn new(bytes: &[u8]) -> Result<Self, ReleaseError> {
        Bytes::new(bytes).map(Self).map_err(|_| ReleaseError::PolicyRef(bytes.len()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The private key of who makes releases. It belongs where releases are made and never on a machine that boots them.
pub struct ReleaseKey(SigningKey);

impl ReleaseKey {
    /// A new key.
    ///
    /// # Errors
    /// [`ReleaseError::Randomness`].
    pub fn generate() -> Result<Self, ReleaseError> {
        Ok(Self(random::secret_key(entropy::fill_seeded).map_err(ReleaseError::Randomness)?.into()))
    }

    /// Reads PKCS #8 in PEM (RFC 5958, RFC 7468).
    ///
    /// # Errors
    /// [`ReleaseError::PrivateKey`].
    pub fn from_pem(text: &str) -> Result<Self, ReleaseError> {
        if text.len() > PEM_MAX {
            return Err(ReleaseError::PrivateKey);
        }
        SigningKey::from_pkcs8_pem(text).map(Self).map_err(|_| ReleaseError::PrivateKey)
    }

    /// PKCS #8 in PEM. Whoever has this text can open what is sealed to the key, on every machine.
    ///
    /// # Errors
    /// [`ReleaseError::Encode`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, ReleaseError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| ReleaseError::Encode)
    }

    /// What things are sealed to.
    #[must_use]
    pub fn public(&self) -> ReleasePublicKey {
        ReleasePublicKey(self.0.verifying_key().into())
    }

    /// Lets a system that boots with these values open what is sealed to this key and this `policy_ref`.
    ///
    /// # Errors
    /// [`ReleaseError::Sign`].
    pub fn approve(&self, values: &PcrValues, policy_ref: &PolicyRef) -> Result<Approval, ReleaseError> {
        let policy = pcr_policy(values);
        let signature: Signature =
            self.0.sign_prehash(&approved(&policy, policy_ref).0).map_err(|_| ReleaseError::Sign)?;
        let signature = Bytes::new(&signature.to_bytes()).map_err(|_| ReleaseError::Sign)?;
        Ok(Approval { pcrs: values.set(), policy, signature })
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({}, private part not shown)", self.public())
    }
}

/// The public key of who makes releases. As data it is the point in 130 lower-case hexadecimal digits (SEC 1, section
/// 2.3.3, uncompressed).
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleasePublicKey(p256::PublicKey);

impl ReleasePublicKey {
    /// Reads SubjectPublicKeyInfo in PEM (RFC 5480, RFC 7468).
    ///
    /// # Errors
    /// [`ReleaseError::PublicKey`].
    pub fn from_pem(text: &str) -> Result<Self, ReleaseError> {
        if text.len() > PEM_MAX {
            return Err(ReleaseError::PublicKey);
        }
        p256::PublicKey::from_public_key_pem(text).map(Self).map_err(|_| ReleaseError::PublicKey)
    }

    /// SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`ReleaseError::Encode`].
    pub fn to_pem(&self) -> Result<String, ReleaseError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| ReleaseError::Encode)
    }

    /// The key as TPM2_LoadExternal takes it.
    pub(crate) fn public_area(&self) -> Writer {
        object::release_key(&self.0)
    }

    pub(crate) fn name(&self) -> Name {
        Name::of(self.public_area().as_slice())
    }

    /// The digest of the policy that leaves the choice to this key: TPM2_PolicyAuthorize (Part 3, section 23.16; the
    /// two steps are PolicyUpdate of section 23.2.3).
    pub(crate) fn policy(&self, policy_ref: &PolicyRef) -> Sha256 {
        let name = self.name();
        let code = Command::PolicyAuthorize.code().to_be_bytes();
        let first =
            sha2::Sha256::new().chain_update([0; 32]).chain_update(code).chain_update(name.as_bytes());
        let second = sha2::Sha256::new().chain_update(first.finalize()).chain_update(policy_ref.as_slice());
        Sha256(second.finalize().into())
    }
}

impl FromStr for ReleasePublicKey {
    type Err = ReleaseError;
    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut point = [0; 65];
        if pairs.len() != point.len() || !rest.is_empty() {
            return Err(ReleaseError::PublicKey);
        }
        for (place, [high, low]) in point.iter_mut().zip(pairs) {
            *place = digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l).ok_or(ReleaseError::PublicKey)?;
        }
        p256::PublicKey::from_sec1_bytes(&point).map(Self).map_err(|_| ReleaseError::PublicKey)
    }
}

impl TryFrom<String> for ReleasePublicKey {
    type Error = ReleaseError;
    fn try_from(text: String) -> Result<Self, ReleaseError> {
        text.parse()
    }
}

impl From<ReleasePublicKey> for String {
    fn from(key: ReleasePublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for ReleasePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_encoded_point(false).as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReleasePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A release key's word that a system with certain PCR values may open what is sealed to that key. It is no secret: it
/// comes with the system that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The registers whose values are approved.
    pub pcrs: PcrSet,
    /// The digest of the policy that demands those values ([`pcr_policy`]).
    pub policy: Sha256,
    /// ECDSA over SHA-256 of the policy and the policy reference: r and s, 32 bytes each.
    signature: Bytes<64>,
}

impl Approval {
    /// Whether this key signed it for this `policy_ref`.
    #[must_use]
    pub fn is_signed_by(&self, key: &ReleasePublicKey, policy_ref: &PolicyRef) -> bool {
        Signature::from_slice(self.signature.as_slice()).is_ok_and(|signature| {
            let digest = approved(&self.policy, policy_ref);
            VerifyingKey::from(key.0).verify_prehash(&digest.0, &signature).is_ok()
        })
    }

    /// r and s, if it has them.
    pub(crate) fn signature(&self) -> Option<(&[u8], &[u8])> {
        let signature = self.signature.as_slice();
        (signature.len() == 64).then(|| signature.split_at(32))
    }
}

/// What a release key signs (aHash in Part 3, section 23.16.1).
pub(crate) fn approved(policy: &Sha256, policy_ref: &PolicyRef) -> Sha256 {
    Sha256(sha2::Sha256::new().chain_update(policy.0).chain_update(policy_ref.as_slice()).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> PcrValues {
        PcrValues::new([(7, Sha256([7; 32])), (11, Sha256([11; 32]))]).unwrap()
    }

    #[test]
    fn keys_are_text_and_back() {
        let key = ReleaseKey::generate().unwrap();
        let again = ReleaseKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        let public = key.public();
        assert_eq!(ReleasePublicKey::from_pem(&public.to_pem().unwrap()).unwrap(), public);
        let text = serde_json::to_string(&public).unwrap();
        assert_eq!(text.len(), 132);
        assert_eq!(serde_json::from_str::<ReleasePublicKey>(&text).unwrap(), public);
        assert!(!format!("{key:?}").contains(&key.to_pem().unwrap()[40..60]));
        for bad in [
            "",
            "04",
            &"00".repeat(65),
            &format!("04{}", "11".repeat(64)),
            &public.to_string().to_uppercase(),
        ] {
            assert!(bad.parse::<ReleasePublicKey>().is_err(), "{bad}");
        }
        for bad in ["", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", &"x".repeat(5000)] {
            assert!(ReleaseKey::from_pem(bad).is_err() && ReleasePublicKey::from_pem(bad).is_err());
        }
    }

    #[test]
    fn an_approval_is_for_one_key_one_reference_and_these_values() {
        let (key, other) = (ReleaseKey::generate().unwrap(), ReleaseKey::generate().unwrap());
        let [vault, elsewhere] = [b"vault", b"other"].map(|bytes| PolicyRef::new(bytes).unwrap());
        let approval = key.approve(&values(), &vault).unwrap();
        assert!(approval.is_signed_by(&key.public(), &vault));
        assert!(!approval.is_signed_by(&key.public(), &elsewhere));
        assert!(!approval.is_signed_by(&other.public(), &vault));
        let text = serde_json::to_string(&approval).unwrap();
        assert_eq!(serde_json::from_str::<Approval>(&text).unwrap(), approval);
        let mut of_others = approval;
        of_others.policy = Sha256([1; 32]);
        assert!(!of_others.is_signed_by(&key.public(), &vault));
        assert!(matches!(PolicyRef::new(&[0; 33]), Err(ReleaseError::PolicyRef(33))));
        let more = text.replacen('{', "{\"more\":1,", 1);
        assert!(serde_json::from_str::<Approval>(&more).is_err());
    }
}
