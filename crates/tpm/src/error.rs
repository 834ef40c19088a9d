//! What can go wrong, one variant for each thing that somebody would do something else about.

use crate::codes::{Command, ResponseCode};
use crate::object::Name;
use std::fmt;
use std::io;

/// The most approvals that are looked at for one unseal; a system comes with a few.
pub const APPROVALS_MAX: usize = 64;

/// Numbers of registers, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcrs(pub Vec<u8>);

impl fmt::Display for Pcrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.len() {
            0 => "no PCR",
            1 => "PCR",
            _ => "PCRs",
        })?;
        for (at, number) in self.0.iter().enumerate() {
            write!(f, "{} {number}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Why something was not sealed, not unsealed, or not told. No message has anything of a secret in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// The command could not be sent or its reply not be read.
    #[error(
        "{command}: the TPM cannot be talked to: {error}; see whether /dev/tpmrm0 is there and may be opened"
    )]
    Exchange {
        /// Which.
        command: Command,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The deadline passed.
    #[error(
        "{command}: the TPM does not answer: {error}; turn the machine off and on again, a restart is not enough"
    )]
    NotAnswering {
        /// Which.
        command: Command,
        /// What the transport says.
        #[source]
        error: io::Error,
    },
    /// An earlier command got no proper reply, so that the next reply could be that of the earlier one.
    #[error("{0}: not sent, since an earlier command got no reply; open the TPM again")]
    GivenUp(Command),
    /// A reply that is not as the specification says.
    #[error(
        "{command}: the reply {what}; something that is not a TPM 2.0 answers, or something alters what it says"
    )]
    Malformed {
        /// Which.
        command: Command,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A command or a reply whose HMAC is not that of the session.
    #[error(
        "{0}: this machine and the TPM do not have the same session, or a message was altered; something between them \
         alters messages"
    )]
    NotAuthentic(Command),
    /// A command that would be longer than a TPM takes.
    #[error("{0}: longer than a TPM takes; this is a fault in octant-tpm")]
    TooLong(Command),
    /// The TPM refused a command for a reason that has no variant of its own.
    #[error("{command}: the TPM refuses ({code}); turn the machine off and on again if that stays so")]
    Refused {
        /// Which.
        command: Command,
        /// Why.
        code: ResponseCode,
    },
    /// TPM_RC_LOCKOUT.
    #[error(
        "{0}: the TPM is locked out after too many wrong authorizations; wait, or clear the lockout with the \
             lockout authorization (tpm2_dictionarylockout)"
    )]
    Lockout(Command),
    /// TPM_RC_FAILURE.
    #[error(
        "{0}: the TPM failed its own test and does nothing more; turn the machine off and on again, and replace the \
             TPM if that does not help"
    )]
    FailureMode(Command),
    /// TPM_RC_INITIALIZE.
    #[error("{0}: the firmware has not started the TPM; turn it on in the firmware's settings")]
    NotStarted(Command),
    /// TPM_RC_RETRY and its like, for longer than is waited.
    #[error("{command}: the TPM is still busy after {tries} tries ({code}); try again later")]
    Busy {
        /// Which.
        command: Command,
        /// How often it was sent.
        tries: u32,
        /// What the TPM said last.
        code: ResponseCode,
    },
    /// The owner hierarchy has a password.
    #[error(
        "the TPM's owner hierarchy has a password, and the storage key is made with none; clear it with \
             tpm2_changeauth -c owner"
    )]
    OwnerPassword,
    /// The kernel gave no random bytes.
    #[error("the kernel gives no random bytes for a session: {0}; try again once it has collected entropy")]
    Randomness(#[source] io::Error),
    /// No register of the SHA-256 bank could be read.
    #[error(
        "the TPM has no SHA-256 bank of PCRs; turn it on in the firmware's settings (tpm2_pcrallocate sha256:all)"
    )]
    NoSha256Bank,
    /// Some registers are not in the SHA-256 bank.
    #[error("the TPM's SHA-256 bank does not have {0}; bind to others")]
    NoSuchPcr(Pcrs),
    /// Registers changed while they were read or used.
    #[error("PCRs changed meanwhile; something measures still: try again once the system has booted")]
    PcrsMoving,
    /// The storage key is not the expected one.
    #[error(
        "this is not the TPM that the secret was sealed by: its storage key is {found}, not {expected}. It is another \
         machine's, or it was cleared, or something stands between; unlock another way and seal anew"
    )]
    OtherTpm {
        /// The name that the sealed object has.
        expected: Name,
        /// The name of the key that this TPM made.
        found: Name,
    },
    /// The right TPM does not take the sealed object.
    #[error(
        "the TPM does not take the sealed object ({0}): it was altered or damaged; unlock another way and seal anew"
    )]
    Damaged(ResponseCode),
    /// What is sealed is not a secret of 32 bytes.
    #[error(
        "the TPM opened the sealed object, and it does not hold 32 bytes; unlock another way and seal anew"
    )]
    NotASecret,
    /// Registers hold other values than those that the secret was sealed to.
    #[error(
        "{0} changed since the secret was sealed: other firmware, boot loader, kernel or secure boot settings were \
         started; start what was started then, or unlock another way and seal anew"
    )]
    PcrsDiffer(Pcrs),
    /// Nobody approved the present values.
    #[error(
        "none of {given} approvals is for what was started now ({differ} changed since the secret was sealed); \
         install the approval that belongs to this release, or unlock another way"
    )]
    NoApproval {
        /// How many approvals there were.
        given: usize,
        /// The registers that differ from the values at sealing.
        differ: Pcrs,
    },
    /// There is an approval for the present values, and the release key did not sign it.
    #[error(
        "there is an approval for what was started now, and the release key that the secret was sealed to did not \
             sign it; install the approval of whoever makes the releases"
    )]
    ApprovalSignature,
    /// More than [`APPROVALS_MAX`].
    #[error("there are {0} approvals, more than {APPROVALS_MAX}; give those of this release")]
    TooManyApprovals(usize),
    /// The policy is not satisfied although everything that could be checked was right.
    #[error(
        "the TPM says that the policy is not satisfied ({0}), although its PCRs read as they should; something \
             between this machine and its TPM alters messages"
    )]
    PolicyRefused(ResponseCode),
}
