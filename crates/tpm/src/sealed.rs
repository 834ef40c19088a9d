//! What sealing gives: data that any disk may keep, since only the TPM that made it opens it.

use crate::object::{self, Name, PUBLIC_MAX};
use crate::pcr::{PcrSet, PcrValues, pcr_policy};
use crate::release::{PolicyRef, ReleasePublicKey};
use crate::text::Bytes;
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};

/// The longest private area: several times what TPMs make of a secret of 32 bytes.
pub(crate) const PRIVATE_MAX: usize = 1024;
/// The version of the form of [`Sealed`].
const VERSION: u8 = 1;

/// What must be so for a secret to be unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// These registers hold what they held when it was sealed.
    Pcrs(PcrSet),
    /// The release key has approved what they hold, for this reference.
    Released {
        /// Who approves.
        key: ReleasePublicKey,
        /// The registers that an approval must be about, at least.
        pcrs: PcrSet,
        /// What the approvals are for.
        policy_ref: PolicyRef,
    },
}

impl Binding {
    /// The registers that it is about.
    #[must_use]
    pub fn pcrs(&self) -> &PcrSet {
        match self {
            Self::Pcrs(pcrs) | Self::Released { pcrs, .. } => pcrs,
        }
    }

    /// The digest of the policy, given what the registers hold.
    pub(crate) fn policy(&self, values: &PcrValues) -> Sha256 {
        match self {
            Self::Pcrs(_) => pcr_policy(values),
            Self::Released { key, policy_ref, .. } => key.policy(policy_ref),
        }
    }
}

/// A sealed secret. It may be read, copied and lost by anybody; whoever alters it makes it useless. That it is the one
/// that was stored, and not one that somebody else had this TPM seal, is for whoever uses the secret to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Sealed {
    pub(crate) storage_key: Name,
    pub(crate) public: Bytes<PUBLIC_MAX>,
    pub(crate) private: Bytes<PRIVATE_MAX>,
    pub(crate) pcrs: PcrValues,
    pub(crate) binding: Binding,
}

impl Sealed {
    /// The name of the storage key of the TPM that sealed it.
    #[must_use]
    pub fn storage_key_name(&self) -> &Name {
        &self.storage_key
    }

    /// What the registers that it is about held when it was sealed.
    #[must_use]
    pub fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }

    /// What must be so for it to be unsealed.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }
}

/// Why data is not a sealed secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// Another version.
    #[error("the sealed secret is of version {0}, not {VERSION}; another version of Octant made it")]
    Version(u8),
    /// Its public area is not that of a secret under its binding's policy.
    #[error("the sealed secret's public area does not belong to its binding; it was altered or damaged")]
    Public,
}

/// [`Sealed`] as data.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u8,
    storage_key: Name,
    public: Bytes<PUBLIC_MAX>,
    private: Bytes<PRIVATE_MAX>,
    pcrs: PcrValues,
    /// Who approves; without one it is bound to `pcrs` themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    release: Option<Release>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    key: ReleasePublicKey,
    policy_ref: PolicyRef,
}

impl TryFrom<Form> for Sealed {
    type Error = SealedError;
    fn try_from(form: Form) -> Result<Self, SealedError> {
        if form.version != VERSION {
            return Err(SealedError::Version(form.version));
        }
        let pcrs = form.pcrs.set();
        let binding = match form.release {
            None => Binding::Pcrs(pcrs),
            Some(Release { key, policy_ref }) => Binding::Released { key, pcrs, policy_ref },
        };
        let policy = binding.policy(&form.pcrs);
        if !object::is_sealed_to(form.public.as_slice(), &policy) {
            return Err(SealedError::Public);
        }
        let Form { storage_key, public, private, pcrs, .. } = form;
        Ok(Self { storage_key, public, private, pcrs, binding })
    }
}

impl From<Sealed> for Form {
    fn from(sealed: Sealed) -> Self {
        let release = match sealed.binding {
            Binding::Pcrs(_) => None,
            Binding::Released { key, policy_ref, .. } => Some(Release { key, policy_ref }),
        };
        let Sealed { storage_key, public, private, pcrs, .. } = sealed;
        Self { version: VERSION, storage_key, public, private, pcrs, release }
    }
}
