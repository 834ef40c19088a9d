//! What can go wrong on this side of the vault. Nothing of a value, passphrase, share or file of secrets is in any of
//! it.

use octant_ids::{Exit, SecretName};
use std::io;
use std::path::PathBuf;

/// A step that failed. `what` names the secret thing (`the passphrase`), `from` the place it was to come from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// It cannot be read.
    #[error("cannot read {what} from {from}: {source}")]
    Read { what: &'static str, from: String, source: io::Error },
    /// It is longer than it can be.
    #[error("{what} from {from} is longer than {max} bytes")]
    TooLong { what: &'static str, from: String, max: usize },
    /// There is nothing.
    #[error("nothing came from {from}, and {what} cannot be empty")]
    Empty { what: &'static str, from: String },
    /// There is more than one line.
    #[error("{from} has more than one line, and {what} is one line")]
    Lines { what: &'static str, from: String },
    /// The key file is no key.
    #[error("{path} has {bytes} bytes, and a key file has at least {min}", path = path.display())]
    KeyFileShort { path: PathBuf, bytes: usize, min: usize },
    /// The new passphrase is none that the vault takes.
    #[error("the passphrase has {bytes} bytes, and a passphrase has {min} to {max}; nothing was done")]
    PassphraseLength { bytes: usize, min: usize, max: usize },
    /// What is to be signed is longer than a request.
    #[error("the message from {from} is longer than {max} bytes; nothing was signed")]
    MessageTooLong { from: String, max: usize },
    /// A text that proves no lease.
    #[error("what came from {from} is no token, which is 64 lower-case hexadecimal digits")]
    NotToken { from: String },
    /// More approvals than a vault reads.
    #[error("{path} has {max} approvals already, the most that a vault takes; nothing was approved", path = path.display())]
    TooManyApprovals { path: PathBuf, max: usize },
    /// The two passphrases differ.
    #[error("the passphrase was not the same the second time; nothing was done")]
    Mismatch,
    /// Whoever sits at the terminal wants to stop.
    #[error("the question for {what} was broken off")]
    Interrupted { what: &'static str },
    /// The terminal's settings cannot be read or changed.
    #[error("cannot {step}: {source}")]
    Terminal { step: &'static str, source: io::Error },
    /// The kernel gives no pipe.
    #[error("cannot pass {what} on in a pipe: {source}")]
    Pipe { what: &'static str, source: io::Error },
    /// The pipe is smaller than pipes are.
    #[error("cannot pass {what} on in a pipe: a pipe of this user holds fewer than {bytes} bytes")]
    PipeFull { what: &'static str, bytes: usize },
    /// Somebody has to be asked.
    #[error("{what} has to be confirmed, and there is no terminal to ask on")]
    NoTerminal { what: String },
    /// Nobody says by what.
    #[error("standard input is no terminal, and no option says by what to unseal")]
    NoWay,
    /// Whoever was asked did not say yes.
    #[error("{what} was not confirmed; nothing was done")]
    NotConfirmed { what: String },
    /// A value is not shown.
    #[error("{name} is not revealed: {why}")]
    RevealDenied { name: SecretName, why: &'static str },
    /// Shares would go where they stay.
    #[error("shares are secrets, and standard output is no terminal; nothing was done")]
    SharesUnseen,
    /// They would have to be in a document.
    #[error("{what} is not put into JSON; nothing was done")]
    NotInJson { what: &'static str, next: &'static str },
    /// What is asked for is no key pair.
    #[error("{name} has no public key: it is no key pair, or its value was destroyed")]
    NoPublicKey { name: SecretName },
    /// Something is in the way of what is to be written.
    #[error("{path} is there already, and is not overwritten", path = path.display())]
    Exists { path: PathBuf },
    /// More than one request can have.
    #[error("{count} ways to unseal are too many: a new key is made with at most {max}")]
    TooManySlots { count: usize, max: usize },
    /// There is a slot whose shares nobody has.
    #[error("the shares of the new slot were made and cannot be kept: {why}; nobody has them")]
    SharesLost { why: String },
    /// Nothing is served from it.
    #[error("the vault is damaged: {why}")]
    Damaged { why: String },
    /// There is none to be unsealed.
    #[error("there is no vault yet: {why}")]
    Absent { why: String },
    /// `doctor` has printed what.
    #[error("{bad} of {count} checks are bad, see above")]
    Unwell { bad: usize, count: usize },
    /// An import that is not whole.
    #[error("{left} of {count} entries of {path} were not stored, see above", path = path.display())]
    NotAllStored { path: PathBuf, left: usize, count: usize },
    /// It would not destroy what was read.
    #[error("{path} is not overwritten: {why}", path = path.display())]
    NotShredded { path: PathBuf, why: &'static str },
    /// An argument that is one too many: it can be a secret, and is not shown.
    #[error("there is an argument that this command does not take")]
    SpareArgument,
}

impl VaultError {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::Denied,
                _ => Exit::Failed,
            },
            Self::TooLong { .. }
            | Self::Empty { .. }
            | Self::Lines { .. }
            | Self::KeyFileShort { .. }
            | Self::PassphraseLength { .. }
            | Self::MessageTooLong { .. }
            | Self::NotToken { .. }
            | Self::TooManyApprovals { .. }
            | Self::Mismatch => Exit::Invalid,
            Self::NoTerminal { .. }
            | Self::NoWay
            | Self::SharesUnseen
            | Self::NotInJson { .. }
            | Self::NoPublicKey { .. }
            | Self::TooManySlots { .. }
            | Self::SpareArgument => Exit::Usage,
            Self::RevealDenied { .. } => Exit::Denied,
            Self::Absent { .. } => Exit::NotFound,
            Self::Damaged { .. } | Self::Unwell { .. } => Exit::Unhealthy,
            Self::Interrupted { .. }
            | Self::Terminal { .. }
            | Self::Pipe { .. }
            | Self::PipeFull { .. }
            | Self::NotConfirmed { .. }
            | Self::Exists { .. }
            | Self::SharesLost { .. }
            | Self::NotAllStored { .. }
            | Self::NotShredded { .. } => Exit::Failed,
        }
    }

    /// What to do next, where there is something to say.
    pub(crate) fn next(&self) -> Option<&'static str> {
        let text = match self {
            Self::PipeFull { .. } => {
                "close other programs of this user that hold pipes, raise fs.pipe-user-pages-soft, or run this as \
                 root"
            }
            Self::NoTerminal { .. } => "say --yes to do it without being asked",
            Self::NoWay => {
                "say --passphrase or --share, which read standard input, --key-file or --machine; `octant vault \
                 slots` lists what there is"
            }
            Self::RevealDenied { .. } => {
                "let what needs the value have a lease instead: `octant vault grant NAME --to WHO --mode use`"
            }
            Self::SharesUnseen => {
                "--shares-into DIR writes each to a file of its own; --print-shares prints them all the same"
            }
            Self::NotInJson { next, .. } => next,
            Self::NoPublicKey { .. } => "store one with `octant vault put NAME --kind key-pair --generate`",
            Self::SharesLost { .. } => {
                "the vault is unsealed: `octant vault slots add` adds another way to unseal, and `octant vault slots \
                 rm` takes the one without shares away"
            }
            Self::Damaged { .. } => {
                "`octant vault doctor` says what is wrong; `octant vault restore` replaces the vault by a copy"
            }
            Self::Absent { .. } => "`octant vault init` makes one",
            Self::NotAllStored { .. } => {
                "correct what is said above and import again; the file is kept as it is"
            }
            Self::SpareArgument => {
                "values, passphrases, shares and tokens are never arguments, which everybody can read: they are asked \
                 for, or come on standard input or from a file; --help lists the options"
            }
            Self::Exists { .. } => "choose another name",
            Self::TooManySlots { .. } => "name fewer, and add the others with `octant vault slots add`",
            Self::Lines { .. } => "give the one line alone",
            Self::MessageTooLong { .. } => {
                "sign its digest, which says the same: `sha256sum FILE | octant secret sign NAME`"
            }
            Self::TooManyApprovals { .. } => {
                "take those of systems that are not started any more out of the file, or begin another one with -o"
            }
            Self::Read { .. }
            | Self::TooLong { .. }
            | Self::Empty { .. }
            | Self::KeyFileShort { .. }
            | Self::PassphraseLength { .. }
            | Self::NotToken { .. }
            | Self::Mismatch
            | Self::Interrupted { .. }
            | Self::Terminal { .. }
            | Self::Pipe { .. }
            | Self::NotConfirmed { .. }
            | Self::Unwell { .. }
            | Self::NotShredded { .. } => return None,
        };
        Some(text)
    }
}
