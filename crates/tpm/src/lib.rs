//! A secret that only this machine's TPM 2.0 gives back, and only to the system that it was meant for.
//!
//! ```no_run
//! use octant_tpm::{Binding, Device, PcrSet, Tpm};
//! use std::fs::OpenOptions;
//!
//! let device = OpenOptions::new().read(true).write(true).open("/dev/tpmrm0")?;
//! let mut tpm = Tpm::new(Device::new(device)?);
//! let sealed = tpm.seal(&[7; 32], &Binding::Pcrs(PcrSet::default()))?;
//! let secret = tpm.unseal(&sealed, &[])?;
//! assert_eq!(*secret, [7; 32]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The secret is an object of the TPM's under its storage key, the one of the TCG's template, which is made anew from the
//! owner seed each time: nothing is kept in the TPM. What opens the object is a policy and nothing else. Either PCRs hold
//! what they held ([`Binding::Pcrs`]), or a release key has approved what they hold ([`Binding::Released`]), so that an
//! update that its makers have signed does not lock the machine.
//!
//! Owns: the commands that this takes, their marshalling, sessions and policies; the form of a sealed secret and of an
//! approval; release keys.
//! Promises: neither the secret nor anything that opens it goes over the wires to the TPM in the clear; what
//! the TPM says where something depends on it is verified, and a TPM that is not the one that sealed is noticed; every key and session made in the TPM is
//! flushed, also after an error; a TPM that does not answer is an error after a deadline; whatever a reply or a sealed
//! secret holds, nothing panics and nothing grows beyond a frame; buffers that held a secret are wiped.
//! Never: opens a device, starts or clears or provisions a TPM, writes its memory, sets a password, knows what a secret is
//! for.
//!
//! What it does not protect from: who can start a system with the same PCR values; who resets a separate TPM chip while
//! the system runs and extends its PCRs again; the approval of an older release, which stays valid as long as its key and
//! reference are used. The first seal on a machine trusts whatever answers; [`Tpm::expecting`] pins it from then on.
//!
//! The few structures are marshalled here (`wire`, `object`), in about 300 lines. The crate tpm2-protocol has them all, in
//! 10,600 lines with zero-copy casts in unsafe code, and wipes nothing; a software stack (libtss2) is a C library that
//! loads its transports at run time.
#![forbid(unsafe_code)]

mod codes;
mod commands;
mod describe;
mod error;
mod kdf;
mod object;
mod pcr;
mod random;
mod release;
mod seal;
mod sealed;
mod session;
#[cfg(any(test, feature = "swtpm"))]
pub mod swtpm;
#[cfg(test)]
mod tests;
mod text;
mod tpm;
mod transport;
mod wire;

pub use codes::{Command, ResponseCode};
pub use describe::Description;
pub use error::{APPROVALS_MAX, Pcrs, TpmError};
pub use object::{Name, NameError};
pub use pcr::{PCR_MAX, PcrError, PcrSet, PcrValues, pcr_policy};
pub use release::{Approval, POLICY_REF_MAX, PolicyRef, ReleaseError, ReleaseKey, ReleasePublicKey};
pub use sealed::{Binding, Sealed, SealedError};
pub use tpm::Tpm;
pub use transport::{DEADLINE, Device, Stream, Transport};
