//! What can be wrong with a manifest.

use crate::PathError;
use crate::pattern::PatternError;
use std::fmt;

/// A manifest was refused: what, where, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The field, with its section: `resources.pids_max`. Empty for the manifest as a whole.
    pub field: String,
    /// The line in the manifest, from 1; `None` where there is none, such as for a missing section.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Everything that is wrong with a manifest, in the order in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestErrors(pub(crate) Vec<ManifestError>);

impl ManifestErrors {
    /// The problems; there is at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ManifestError> {
        self.0.iter()
    }
}

impl From<ManifestError> for ManifestErrors {
    fn from(error: ManifestError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut shown, mut bytes) = (0, 0);
        for error in &self.0 {
            let text = error.to_string();
            bytes += text.len();
            // The first is shown however long it is; each has a limit of its own.
            if shown > 0 && bytes > crate::limits::PROBLEMS_BYTES {
                break;
            }
            write!(f, "{}{text}", if shown > 0 { "\n" } else { "" })?;
            shown += 1;
        }
        match self.0.len() - shown {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ManifestErrors {}

/// What is wrong with a field. The text says why and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The manifest is longer than [`crate::limits::MANIFEST_BYTES`].
    #[error("a manifest of {0} bytes is too large; the limit is {limit} bytes", limit = crate::limits::MANIFEST_BYTES)]
    TooLarge(usize),
    /// The bytes are not UTF-8 at this offset.
    #[error("byte {0} is not UTF-8; a manifest is TOML, which is UTF-8 text")]
    NotText(usize),
    /// Not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// Nested deeper than [`crate::limits::DEPTH`].
    #[error("nested deeper than {limit} levels; no field of a manifest is", limit = crate::limits::DEPTH)]
    TooDeep,
    /// A field that the schema does not have.
    #[error("there is no such field; {}", suggestion(.known, .nearest))]
    UnknownField {
        /// The field in the schema whose name is nearest.
        nearest: Option<String>,
        /// The names that would be understood here.
        known: Vec<String>,
    },
    /// A field that has no default.
    #[error("missing; add {0}")]
    Missing(String),
    /// A value of another type.
    #[error("has the wrong type: {got}; write {want}")]
    Type {
        /// What is understood.
        want: &'static str,
        /// What stands there.
        got: &'static str,
    },
    /// A schema version that this build does not read.
    #[error(
        "version {0} of the manifest is not known to this build, which reads version 1; write manifest = 1"
    )]
    Version(u64),
    /// A text outside its alphabet or length.
    #[error("{text:?} cannot stand here; write {want}")]
    Name {
        /// What stands there.
        text: String,
        /// What is understood.
        want: &'static str,
    },
    /// A list longer than [`crate::limits::LIST`].
    #[error("a list of {0} is too long; the limit is {limit}", limit = crate::limits::LIST)]
    ListTooLong(usize),
    /// A text longer than it may be.
    #[error("a text of {0} bytes is too long; the limit is {1} bytes")]
    TextTooLong(usize, usize),
    /// An argument with a NUL byte, which the kernel's argument vector cannot carry.
    #[error("has a NUL byte, which a program's arguments cannot carry; remove it")]
    Nul,
    /// Not a path that can be granted.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A path that Octant itself needs, or that contains one.
    #[error(
        "{path} cannot be granted: it is, holds, or lies in {reserved}, {why}; grant a directory beside it"
    )]
    ReservedPath {
        /// What was asked.
        path: String,
        /// The reserved path that it meets.
        reserved: &'static str,
        /// Why that one is reserved.
        why: &'static str,
    },
    /// Not a pattern of the field's kind.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A secret for a host that cannot be reached.
    #[error(
        "{0:?} is for a host that network.hosts does not have with tls; add tls://HOST:PORT there, or remove this"
    )]
    CredentialHost(String),
    /// A login at a host that the network does not reach.
    #[error("{0:?} is for a host that network.hosts does not have; add {1} there, or remove this")]
    LoginHost(String, String),
    /// A place both written and executed, in a profile that does not allow that.
    #[error(
        "{0} would be writable and executable; only the profiles compiler, python and node allow that: choose one of them, or take it out of one of the lists"
    )]
    WritableExecutable(String),
    /// A quantity that cannot be read.
    #[error("{0}")]
    Quantity(String),
    /// A tree below one of the agent's own places, which it would not be seen in.
    #[error(
        "{path} of the machine would not be there inside: {own} is the agent's own there, and executables.paths has it; grant a place outside of {own}, or take {own} out of executables.paths"
    )]
    Swallowed {
        /// The tree.
        path: String,
        /// The agent's own place.
        own: &'static str,
    },
    /// A quantity that no program can run with.
    #[error("{asked} is not possible: {why}; {next}")]
    Impossible {
        /// What was asked.
        asked: String,
        /// Why it cannot be.
        why: &'static str,
        /// What can be.
        next: String,
    },
    /// A profile that does not exist.
    #[error("there is no profile {0:?}; the profiles are minimal, shell, python, node, compiler")]
    Profile(String),
    /// A policy for a parent's death that does not exist.
    #[error("there is no policy {0:?}; write \"terminate\", \"wind-down\" or \"adopt\"")]
    OnParentDeath(String),
    /// A policy for the end of the time to live that does not exist.
    #[error("there is no policy {0:?}; write \"end\" or \"freeze\"")]
    OnTimeout(String),
    /// A system call of the permanent deny list.
    #[error("{name} can never be granted: {why}; remove it")]
    DeniedSyscall {
        /// The system call.
        name: &'static str,
        /// What it would break.
        why: &'static str,
    },
    /// The program is not something the manifest lets the agent execute.
    #[error(
        "{0} is not granted by this manifest; add it to executables.utilities (for /bin/NAME) or to executables.paths"
    )]
    ProgramNotGranted(String),
    /// The working directory is not in the workstation.
    #[error("{0} does not exist in the workstation; use /workspace, /tmp or a granted path")]
    CwdNotGranted(String),
    /// The manifest names another operator than the one who signed it.
    #[error(
        "the manifest names {named:?} and is signed by {signed:?}; let {named:?} sign it, or name who signs"
    )]
    Operator {
        /// Whom the manifest names.
        named: String,
        /// Who signed, comma separated.
        signed: String,
    },
    /// A date without an offset, or not a date.
    #[error("{0:?} is not a point in time; write a date with offset such as 2030-01-31T00:00:00Z")]
    Date(String),
    /// The manifest's validity ends before it starts.
    #[error("the manifest ends to be valid before it starts to; put not_after behind not_before")]
    NeverValid,
}

fn suggestion(known: &[String], nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, line, problem } = self;
        f.write_str("manifest")?;
        if let Some(line) = line {
            write!(f, " line {line}")?;
        }
        if !field.is_empty() {
            write!(f, ", {field}")?;
        }
        write!(f, ": {problem}")
    }
}

impl std::error::Error for ManifestError {}
