//! What the tests of the whole system share: agents for a guest, a guest in QEMU, a board with firmware and TPM
//! for it, a disk that can lose power, a scratch directory, a test double of the providers of language models.
//!
//! The tests themselves are in `tests/tests/`, one executable with a module for each intent; the program that
//! attacks a workstation from inside is `src/probe.rs`.
#![forbid(unsafe_code)]

pub mod agents;
pub mod cpio;
pub mod disk;
pub mod environment;
pub mod guest;
pub mod nbd;
mod tpm;
pub mod uefi;
pub mod upstream;
