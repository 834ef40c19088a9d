//! The one table of exit codes.

use std::process::ExitCode;

/// What an `octant` command's exit code says. Utilities keep the codes of their own standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The work was tried and failed; the message says where.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Octant, or the service asked, is not running or not answering.
    Unavailable = 4,
    /// The caller has no authority for it.
    Denied = 5,
    /// An input (manifest, configuration, envelope, line) is not valid.
    Invalid = 6,
    /// A signature, hash or chain does not verify.
    Unverified = 7,
    /// A layer of isolation cannot be put in place, so nothing was started.
    LayerMissing = 8,
    /// The deadline passed.
    Deadline = 9,
    /// Something is unhealthy.
    Unhealthy = 10,
    /// A fault in Octant itself.
    Internal = 70,
    /// No such utility or subcommand (the shell's own code for a command that is not found).
    NoSuchCommand = 127,
}

impl Exit {
    /// Every row, for the documentation and its test.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Unavailable,
        Self::Denied,
        Self::Invalid,
        Self::Unverified,
        Self::LayerMissing,
        Self::Deadline,
        Self::Unhealthy,
        Self::Internal,
        Self::NoSuchCommand,
    ];

    /// The code as the operating system sees it.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
