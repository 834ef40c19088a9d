//! The tests of the whole system: one executable, a module for each intent.
//!
//! They run through `cargo x test`, which builds the static binary and the image and says in the environment
//! where they are.
#![expect(clippy::print_stdout, reason = "what a test measured on its way is part of its output")]

mod agent_loop;
mod boot;
mod configuration;
mod container;
mod egress;
mod everyday;
mod exports;
mod ledger;
mod many;
mod namespace;
mod operations;
mod power;
mod router;
mod router_dialects;
mod router_matrix;
mod run;
mod servers;
mod session;
mod tpm;
mod vault;
mod vault_file;
mod workspace;
