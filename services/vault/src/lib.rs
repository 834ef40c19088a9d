//! The vault: secrets that are used without being seen, and the machine's identity.
//!
//! Owns: the sealed file, the data key while the vault is unsealed, grants and leases, the machine's key pair.
//! Promises: nothing that bears a secret succeeds before its intent is durable in the ledger, and a ledger that is blocked
//! makes the vault deny within two seconds; a value is in the clear only in locked memory, and leaves only through a pipe
//! to whom a grant names; who was granted nothing learns nothing, not even what exists; every byte of the file is
//! authenticated, and a file that was set back is noticed by the ledger; at any moment, whatever kills the process, one
//! whole file stands there.
//! Never: takes a secret in a message, shows one in an error, a log or `Debug`, keeps a plain value beyond the call that
//! needs it, has a network.
//!
//! | file | what |
//! |---|---|
//! | `core.rs`, `state.rs`, `refusal.rs` | who may have what, what is known, why not; pure |
//! | `format.rs`, `slots.rs`, `values.rs` | the file's form, the ways to its key, what it seals; pure (docs/vault.md) |
//! | `raw.rs`, `reading.rs` | a file as it was read, from its changes to what they come to |
//! | `store.rs` | the file on disk: append, write anew |
//! | `vault.rs` | sealed or not, one change after the other, log first |
//! | `unseal.rs`, `gathered.rs` | from sealed to unsealed |
//! | `making.rs` | what writes the whole file: a new vault, slots, rekey, backup |
//! | `machine.rs` | the machine's identity and its hardware |
//! | `audit.rs` | intents and outcomes |
//! | `file.rs`, `fuzz.rs` | files without a service, for tests |
//! | `bytes.rs` | secret bytes in and out |
//! | `look.rs`, `handlers.rs`, `service.rs` | status and checks, the methods, the glue |
//! | `measure.rs` | the library alone, for the benches; not in what is shipped |
#![forbid(unsafe_code)]

mod audit;
mod bytes;
mod core;
#[cfg(any(test, feature = "file"))]
pub mod file;
mod format;
mod fuzz;
mod gathered;
mod handlers;
mod hex;
mod look;
mod machine;
mod making;
#[cfg(feature = "bench")]
pub mod measure;
mod raw;
mod reading;
mod refusal;
mod service;
mod slots;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod unseal;
mod values;
mod vault;

pub use fuzz::fuzz_vault;
pub use service::{VaultConfig, VaultService};
