//! The workstation: the confined place in which an agent's processes run.
//!
//! Owns: the [`Plan`], its enforcement, the spawner process and its protocol, and the read-back of what is in force.
//! Promises: nothing is built without a ticket of the ledger for exactly this plan; an agent's program executes only after every layer of its plan is in place and read back from the kernel;
//! a layer that cannot be put in place refuses the spawn with the step's name.
//! Never: interprets a manifest's wishes (that is `octant-manifest`), degrades silently, trusts its caller.
#![forbid(unsafe_code)]

mod actions;
mod client;
mod collect;
mod disks;
mod enforce;
mod filter;
mod image;
mod inside;
mod kernel;
mod landlock;
mod listen;
mod lower;
mod network;
mod notify;
mod owners;
mod pinned;
mod plan;
mod profiles;
mod readback;
mod request;
mod residue;
mod roots;
mod snapshot;
mod sources;
pub mod spawner;
mod step;
mod tickets;
mod users;

pub use actions::{Action, DENIALS, Denial, denial};
pub use client::{Spawned, SpawnerClient};
pub use filter::{call_name, grantable, permits};
pub use listen::{DOORS_MAX, Listen};
pub use lower::{Here, LowerError, Site, Trust};
pub use octant_manifest::Io;
pub use plan::{
    Bind, Layer, Limits, Link, Plan, PlanError, Proc, Program, Report, Scratch, Stdio, Syscalls, VERSION,
    cpu_files,
};
pub use profiles::{granted, profiles};
pub use step::{SpawnError, Step};
