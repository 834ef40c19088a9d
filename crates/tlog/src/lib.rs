//! The ledger's formats: what is written, what is signed, what is proven, and how each is checked.
//!
//! Owns: the canonical form of an entry, the chain and the partitions over entries, the Merkle tree (RFC 6962) with its
//! tiles (C2SP tlog-tiles) and proofs, signed notes, checkpoints and cosignatures (C2SP), exports.
//! Promises: whoever has the bytes and the public keys comes to the same answer as the ledger itself, with this code or
//! another; bytes that are not in canonical form are refused; no input makes it panic or allocate without bound.
//! Never: does I/O, reads a clock, makes randomness.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod cbor;
pub mod checkpoint;
pub mod entry;
pub mod fuzz;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod state;
pub mod tile;
pub mod witness;
