//! The utilities: one table, each entry a name and a function.
//!
//! Owns: the list of utilities ([`APPLETS`]), what must be set up before one runs ([`run`]), and the small
//! ones that no crate offers.
//! Promises: a name is looked up exactly (`evil-ls` is not `ls`); every name has help text and an example that
//! a test runs by that name ([`examples::EXAMPLES`]).
//! Never: runs two utilities in one process. The crates keep the utility's name, exit code and language in
//! process-wide state, so the shell starts each through exec like any other program.
#![forbid(unsafe_code)]

mod archive;
mod attached;
mod awk;
mod calendar;
mod diff;
pub mod examples;
mod grep;
mod input;
mod network;
pub mod notes;
mod options;
mod output;
mod process;
mod regular;
mod search;
mod setup;
mod storage;
mod system;
mod table;
mod table_text;
mod terminal;
mod text;

pub use setup::{Invocation, run};
pub use table::{APPLETS, Applet, find};

/// Keeps the names that `stty` needs in every static program with this crate in it, the tests included.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", target_feature = "crt-static"))]
#[used]
static TERMINAL_SPEEDS: fn() = octant_sys::termios_shim::keep;
