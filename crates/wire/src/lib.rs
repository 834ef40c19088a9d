//! JSON-RPC 2.0, one object a line, over AF_UNIX: how services, operators and agents speak to each other.
//!
//! Owns: the line codec and its limits, the server loop, the clients.
//! Promises: no line, however long, deep, malformed or slow, ends a server or makes it hold more than its
//! limits; a caller's identity comes from its socket; no handler runs before the method's authority allows
//! this caller; a request that nobody waits for any more is dropped.
//! Never: interprets a payload, retries a request, trusts a field that says who is calling.
#![forbid(unsafe_code)]

pub mod blocking;
mod call;
mod client;
mod connection;
mod error;
pub mod frame;
mod fuzz;
mod in_flight;
mod outbox;
mod peer;
pub mod scan;
mod server;
mod socket;
mod stop;
#[cfg(test)]
mod tests;

pub use call::{Call, Sink};
pub use client::{Client, Stream};
pub use error::WireError;
pub use fuzz::fuzz_line;
pub use peer::{Caller, Identity};
pub use server::{Limits, serve};
pub use stop::{Shutdown, Trigger, shutdown};
