//! A witness of logs, and what brings a log's checkpoints to its witnesses.
//!
//! Owns: the HTTP form of C2SP tlog-witness on both sides, what a witness remembers of each log, when a checkpoint is
//! brought to which witness.
//! Promises: what a witness remembers is on stable storage before a cosignature leaves it, whatever is cut off when; it
//! never cosigns a smaller tree or another one than before, also when two requests race; a state that cannot be read
//! ends the witnessing of that log and of no other; every request and answer has a limit in bytes and in time; a
//! witness that holds another tree than the ledger is reported as that, and not as an error to try again.
//! Never: resolves a name, speaks TLS, follows a redirect, or gives the ledger a cosignature that does not verify.
#![forbid(unsafe_code)]

mod address;
mod client;
mod feed;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod witness;

pub use address::{Address, AddressError, Url, UrlError};
pub use client::ClientError;
pub use feed::{Cosigned, Feeder, Overview, Plan, Target, TargetError, Trouble};
pub use server::{Limits, Listener, serve};
pub use state::StateError;
pub use witness::{Answer, Config, Witness, WitnessError};

use std::sync::Arc;

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Info,
    /// It is tried again.
    Warning,
    /// Somebody has to look at it.
    Error,
}

/// Takes the lines of the log: one when something changes, not one a request.
pub type Say = Arc<dyn Fn(Level, &str) + Send + Sync>;
