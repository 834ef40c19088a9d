//! Why the index did not do something, and when it has to be made anew.

use rusqlite::ErrorCode;
use std::io;
use std::path::PathBuf;

/// Why the index did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The database cannot be opened or made.
    #[error("open the index {}: {source}; see that its directory can be written", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A file of an index that is of no use cannot be removed.
    #[error("remove {} to make the index anew: {source}; remove it by hand", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It cannot be read.
    #[error(
        "read {what} of the index: {source}; the ledger itself is not affected, and the index can be made anew"
    )]
    Read {
        /// Which part.
        what: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// It cannot be written; it is as it was before.
    #[error(
        "write {what} of the index: {source}; the ledger itself is not affected, and it will be tried again"
    )]
    Write {
        /// Which part.
        what: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// It holds something that was never written to it.
    #[error("{what} of the index is not in its form; it has to be made anew")]
    Form {
        /// Which part.
        what: &'static str,
    },
    /// An entry does not follow the last one that is indexed.
    #[error("entry {found} cannot be indexed after entry {last}; index the entries in order")]
    Order {
        /// The last entry in order.
        last: u64,
        /// The one that came then.
        found: u64,
    },
    /// A number that no log reaches.
    #[error("entry {0} cannot be indexed: the number is 0 or above 2^63")]
    Number(u64),
}

impl IndexError {
    /// Whether the index is damaged: [`super::Index::clear`] it and add the entries again.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Form { .. } => true,
            Self::Open { source, .. } | Self::Read { source, .. } | Self::Write { source, .. } => {
                matches!(
                    source,
                    rusqlite::Error::FromSqlConversionFailure(..)
                        | rusqlite::Error::InvalidColumnType(..)
                        | rusqlite::Error::IntegralValueOutOfRange(..)
                        | rusqlite::Error::QueryReturnedNoRows
                ) || matches!(
                    source.sqlite_error_code(),
                    Some(
                        ErrorCode::DatabaseCorrupt
                            | ErrorCode::NotADatabase
                            | ErrorCode::SchemaChanged
                            | ErrorCode::ReadOnly
                            | ErrorCode::ConstraintViolation
                            | ErrorCode::Unknown
                    )
                )
            }
            Self::Remove { .. } | Self::Order { .. } | Self::Number(_) => false,
        }
    }
}

pub(super) fn reading(what: &'static str) -> impl Fn(rusqlite::Error) -> IndexError {
    move |source| IndexError::Read { what, source }
}

pub(super) fn writing(what: &'static str) -> impl Fn(rusqlite::Error) -> IndexError {
    move |source| IndexError::Write { what, source }
}
