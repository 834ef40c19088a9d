//! The ledger: the record of every action.
//!
//! Owns: the append-only segments, the hash chain over all entries, the head file.
//! Promises: an append is answered only when the entry is on stable storage; an acknowledged entry that was
//! removed, changed or reordered is noticed and named; after a crash no acknowledged entry is missing; who an
//! entry names as its actor is who the socket said it was.
//! Never: changes or removes an entry; accepts one that it may not be able to keep; calls another service.
//!
//! | file | what |
//! |---|---|
//! | `core.rs` | the chain: canonical bytes, hash, link; pure |
//! | `segment.rs`, `head.rs` | how entries and the head stand in files |
//! | `store.rs` | opening after a crash, appending, probing; blocking, one owner |
//! | `read.rs` | pages, verification; any thread |
//! | `writer.rs` | one thread that commits what many callers queue |
//! | `journal.rs` | PID 1's records become entries |
//! | `handlers.rs`, `service.rs` | the methods and the glue |
#![forbid(unsafe_code)]

pub mod core;
mod crc32c;
mod handlers;
mod head;
mod journal;
mod read;
mod refusal;
mod segment;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use read::{Page, PageLimits, ReadError, Reader};
pub use refusal::Refusal;
pub use service::{Config, Ledger, LedgerService};
pub use store::{OpenError, Options, Store, SyncFn, TornTail};
pub use writer::{Writer, WriterLimits};
