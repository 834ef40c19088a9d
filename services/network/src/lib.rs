//! The machine's network.
//!
//! Owns: the links that its configuration names (or, where it names none, every Ethernet device): their addresses and routes,
//! what DHCP servers lend them, the machine's resolv.conf, and its clock where there are time servers.
//! Promises: what the configuration says and servers have lent is what the kernel has, and nothing else on those links;
//! the clock is set by no more than the configuration says, never before what is on record, and after its intent is;
//! an address that was lent is gone when its time is, even if this service is not there; every change of a lease is on
//! record; its health is what the machine's network really is.
//! Never: listens to anybody but the servers that it asked, runs in a network that is not the machine's own.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | `[network]` of octant.toml |
//! | `core.rs` | what a link should have, and what has to change for it; resolv.conf; pure |
//! | `manager.rs` | links, their clients, the kernel |
//! | `time.rs` | the clock: who is asked, what is done for it |
//! | `socket.rs` | DHCP's datagrams |
//! | `service.rs` | the methods, the glue |
#![forbid(unsafe_code)]

mod config;
mod core;
mod manager;
mod service;
mod socket;
#[cfg(test)]
mod tests;
mod time;

pub use config::{NetworkConfig, Wrong};
pub use service::NetworkService;
