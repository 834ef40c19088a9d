//! The network of the machine, as its service and its utilities share it.
//!
//! Owns: what the kernel is told and asked about links, addresses, routes and neighbours; DHCP's messages and its client.
//! Promises: what comes from outside is read within limits and never believed about its own length; the client is pure.
//! Never: decides which networks the machine joins (its service does), uses the C library's names.
#![forbid(unsafe_code)]

pub mod dhcp;
pub mod kernel;
