//! The lifecycle manager: every agent from its signed manifest to its end.
//!
//! Owns: agents' lifecycle, their slots, their output, the count of spawns of each manifest.
//! Promises: nothing is started before the ledger has accepted the intent, and only with its ticket for that; an end
//! never waits for the ledger; everything about an agent is in its partition, which is sealed when nothing of it is left;
//! what an agent's workstation really has is what the spawner read back; a restart of this service ends no
//! agent that runs, and loses no message that was acknowledged.
//! Never: builds a workstation itself (that is the spawner), or believes what an agent says about itself.
//!
//! `core` decides, `manager` performs, `admit` is the way from bytes to rights, `adopt` what follows a restart,
//! `approvals` keeps what waits for an operator, `trust` what is on record of the operators' keys, `family` is what an
//! agent asks about those below it, `secrets` what it asks of the vault, `outside` what it asks about its network, `tools` how
//! its socket speaks MCP, `mailbox` what agents say to each other,
//! `archive` what is kept of their workspaces, `calls` and `accesses` what the kernel reports as denied to them (`record`).
#![forbid(unsafe_code)]

mod accesses;
mod admit;
mod adopt;
mod approvals;
mod archive;
mod calls;
mod core;
mod describe;
mod drain;
mod exits;
mod family;
mod guest;
mod handlers;
mod log;
mod mailbox;
mod manager;
mod outside;
mod record;
mod secrets;
mod served;
mod service;
mod spawner;
mod ssh;
mod store;
#[cfg(test)]
mod tests;
mod tools;
mod trust;
mod words;

pub use mailbox::fuzz_mailbox;
pub use service::{AgentsConfig, AgentsService};
