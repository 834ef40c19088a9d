//! The network of the machine, as its service and its utilities share it.
//!
//! Owns: what the kernel is told and asked about links, addresses, routes, neighbours
//! and sockets; DHCP's messages and its client; names.
//! Promises: what comes from outside is read within limits and never believed about its own length; the client is pure.
//! Never: decides which networks the machine joins (its service does), uses the C library's names.
#![forbid(unsafe_code)]

pub mod dhcp;
pub mod kernel;
pub mod names;
pub mod sntp;
pub mod sockets;
