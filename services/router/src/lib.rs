//! The router: every call of a language model.
//!
//! Owns: the sockets in agents' networks, and that of operators, at which models are asked, what each agent may ask, every
//! call between the two, what it uses up.
//! Promises: an agent asks exactly the models that its manifest names; a call is on record before an upstream gets a byte of
//! it, and its end with what it used; what it can use is set apart before, in tokens and money, and settled after; a
//! provider's key is in the vault, in one header of one request, and nowhere else; what is revoked is cut.
//! Never: tries again what somebody has begun to read, keeps a right over a restart, speaks without TLS to another machine
//! that the operator has not named for that.
//!
//! | file | what |
//! |---|---|
//! | `core.rs` | what an agent may ask: the one decision; pure |
//! | `surface.rs` | what programs ask, by method and path; pure |
//! | `extras.rs` | what a request asks a provider for beyond an answer; pure |
//! | `splice.rs`, `tail.rs`, `scrub.rs` | what is changed in bytes that pass: a field, a key, and which chunk does not; pure |
//! | `agents.rs`, `purse.rs`, `windows.rs` | agents, and what each may use up: of budgets that are drawn from, in windows |
//! | `issued.rs`, `door.rs` | keys for programs outside of workstations, and where they ask |
//! | `tally.rs`, `judged.rs` | what was used, and what callers thought of their answers |
//! | `router.rs` | what the operator's file says, and what every call needs |
//! | `http.rs`, `listing.rs` | HTTP with programs, and answers that need no upstream |
//! | `call.rs`, `ask.rs`, `relay.rs` | a call: whom it goes to; one who is asked; the way of the answer |
//! | `open.rs` | a call under way, which settles and records itself |
//! | `trial.rs` | an operator's question to every deployment of a model |
//! | `upstream.rs` | connections to upstreams |
//! | `aws.rs` | keys of AWS, and requests signed with them; pure |
//! | `secrets.rs`, `book.rs`, `metrics.rs`, `kept.rs` | the vault, the ledger, what is counted, what is kept of what was said |
//! | `push.rs` | the way to a collector of what is counted |
//! | `handlers.rs`, `service.rs` | the methods, the glue |
#![forbid(unsafe_code)]

mod agents;
mod ask;
mod aws;
mod book;
mod call;
mod core;
mod door;
mod extras;
mod handlers;
mod http;
mod issued;
mod judged;
mod kept;
mod listing;
mod metrics;
mod open;
mod purse;
mod push;
mod relay;
mod router;
mod scrub;
mod secrets;
mod service;
mod splice;
mod streams;
mod surface;
mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod together;
mod trial;
mod upstream;
mod windows;

pub use service::{RouterConfig, RouterService};
