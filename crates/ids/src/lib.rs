//! The names and numbers that every part of Octant shares.
//!
//! Owns: typed identifiers ([`Aid`], [`ServiceName`], [`SecretName`], [`Sha256`]), units ([`ByteSize`], [`Millis`]),
//! the table of exit codes ([`Exit`]), user ids ([`uid`]) and paths ([`Layout`]).
//! Promises: every value of these types is valid; parsing is the only way in.
//! Never: does I/O, reads a clock, makes randomness.
#![forbid(unsafe_code)]

mod aid;
mod exit;
mod layout;
mod name;
mod principal;
mod secret_name;
mod sha256;
mod text;
mod time;
pub mod uid;
mod units;

pub use aid::{Aid, AidError};
pub use exit::Exit;
pub use layout::Layout;
pub use name::{NameError, ServiceName};
pub use principal::Principal;
pub use secret_name::{SecretName, SecretNameError};
pub use sha256::{Sha256, Sha256Error};
pub use time::utc;
pub use units::{ByteSize, Millis, UnitError};
