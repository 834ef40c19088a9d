//! What an agent writes for a child of its own.

use crate::envelope::{Audience, VerifyError, admit};
use crate::schema::{Manifest, digest, read};
use octant_ids::Sha256;

/// A manifest that nobody signed, from an agent that asks for a child. It becomes a right only within that agent's
/// own: [`crate::Effective::narrow`] takes nothing else, and [`crate::Effective::root`] does not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    manifest: Manifest,
    digest: Sha256,
}

impl Delegated {
    /// Reads the manifest that came over an agent's own socket, for this machine and time.
    ///
    /// # Errors
    /// What is wrong with it, with its field and line; or it is for another machine or time.
    pub fn read(bytes: &[u8], audience: &Audience<'_>) -> Result<Self, VerifyError> {
        let manifest = read(bytes)?;
        admit(manifest.validity(), audience)?;
        Ok(Self { digest: digest(bytes), manifest })
    }

    /// What it says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The SHA-256 of the manifest's bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.digest
    }
}
