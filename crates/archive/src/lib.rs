//! What archives and compressed streams are made of, wherever they are read: Zstandard's frames, tar's extended headers.
//!
//! Owns: [`Zstd`], a reader of frames one after the other; [`Extended`], what a long name, a long link or a record of pax
//! says of the next entry.
//! Promises: takes no more memory than a bound, whatever the bytes say; anything else is an error.
//! Never: opens a file.
#![forbid(unsafe_code)]

mod extended;
mod zstd;

pub use extended::{EXTENDED_BYTES, Extended, ExtendedError};
pub use zstd::Zstd;
