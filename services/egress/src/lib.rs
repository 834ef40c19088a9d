//! The gate: the one way out of a workstation.
//!
//! Owns: the sockets that listen inside agents' networks, the addresses there that stand for names, what each agent may
//! reach, every connection between the two.
//! Promises: an agent reaches exactly the hosts that its manifest or a lease names, by name, on the ports and with the
//! protocols that are named; a connection is on record before its first byte leaves, and its end with what went through;
//! what is revoked is cut; an address is looked at, and what was looked at is what is connected to; a name that is not
//! granted is not asked for. When it does not run nothing goes out.
//! Never: lets something through because it does not understand it, connects inwards, listens on a socket of the machine's
//! own network, keeps a right over a restart.
//!
//! | file | what |
//! |---|---|
//! | `core.rs` | what an agent may reach, whether a connection may go on: the one decision; pure |
//! | `names.rs`, `dns.rs` | addresses that stand for names, and the answers to questions for them; pure |
//! | `hello.rs`, `socks.rs` | what a connection begins with; pure |
//! | `gate.rs` | agents, and the way from a decision to a connection |
//! | `doors.rs`, `http.rs` | the sockets inside, and what is spoken there |
//! | `message.rs` | what every message of HTTP is held to |
//! | `workers.rs`, `said.rs`, `packets.rs` | inspection workers as the gate has them, and what the two say to each other |
//! | `starter.rs` | the process that workers are made from |
//! | `worker/` | a worker: TLS that ends there, requests that get secrets, answers that are looked through, logins to databases |
//! | `inject.rs`, `sigv4.rs` | what stands for secrets, where they are put, signatures that programs made with it; pure |
//! | `postgres.rs`, `scram.rs` | the begin of a session with a database, and a login that does not show the password; pure |
//! | `scrub.rs` | how they are taken out of answers; pure |
//! | `authority.rs` | certificates for programs whose requests get a secret, and what is trusted outside |
//! | `secrets.rs` | the way to the vault |
//! | `flow.rs`, `carrier.rs` | bytes: counted, capped, cut; in what they are on their way |
//! | `book.rs` | what goes on record |
//! | `handlers.rs`, `service.rs` | the methods, the glue |
#![forbid(unsafe_code)]

mod authority;
mod book;
mod carrier;
mod core;
mod dns;
mod doors;
mod flow;
mod fuzz;
mod gate;
mod handlers;
mod hello;
mod http;
mod inject;
mod message;
mod names;
mod packets;
mod postgres;
mod purse;
mod said;
mod scram;
mod scrub;
mod secrets;
mod service;
mod sigv4;
mod socks;
mod starter;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use fuzz::{fuzz_dns, fuzz_hello, fuzz_http, fuzz_postgres, fuzz_socks};
pub use service::{EgressConfig, EgressService};
