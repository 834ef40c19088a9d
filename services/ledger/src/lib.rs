//! The ledger: the record of every action.
//!
//! Owns: the append-only segments, the Merkle tree over all entries, the log's key and its signed checkpoints.
//! Promises: an append is answered only when the entry is on stable storage; an acknowledged entry that was
//! removed, changed or reordered is noticed and named; after a crash no acknowledged entry is missing; who an
//! entry names as its actor is who the socket said it was; an intent's ticket is given only after the intent is durable.
//! Never: changes or removes an entry; accepts one that it may not be able to keep; calls another service; has a network.
//!
//! | file | what |
//! |---|---|
//! | `core.rs` | who may append what, who gets tickets, what matches a query; pure |
//! | `fold.rs` | what the log comes to, entry by entry, and its tiles; pure |
//! | `segment.rs`, `head.rs`, `files.rs` | how entries, the head and what is derived stand in files |
//! | `store.rs` | appending, publishing, probing; blocking, one owner |
//! | `open.rs`, `admin.rs` | opening after whatever happened; what operators do to the log |
//! | `publish.rs` | the log's key, checkpoints, cosignatures |
//! | `read.rs`, `verify.rs`, `export.rs` | pages, recomputing everything, exports; any thread |
//! | `index.rs`, `follow.rs` | the index of queries, and what keeps it in step |
//! | `writer.rs` | one thread that commits what many callers queue |
//! | `journal.rs` | PID 1's records become entries |
//! | `handlers.rs`, `service.rs` | the methods and the glue |
//!
//! The formats themselves (entry, tree, checkpoint, proof, export) are the crate `tlog`'s.
#![forbid(unsafe_code)]

mod admin;
mod core;
mod crc32c;
mod export;
mod files;
mod fold;
mod follow;
mod handlers;
mod head;
mod index;
mod journal;
mod open;
mod publish;
mod read;
mod refusal;
mod segment;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use open::{OpenError, TornTail};
pub use read::{Page, PageLimits, ReadError, Reader};
pub use refusal::Refusal;
pub use service::{Config, Ledger, LedgerService};
pub use store::{Item, Options, Outcomes, Store, SyncFn};
pub use writer::{Writer, WriterLimits};
