//! The Model Context Protocol (MCP), as a server of tools speaks it on lines that another already reads, and as a client of
//! servers that nobody here wrote ([`client`]).
//!
//! Owns: what the protocol's methods take and how their answers look, in the two revisions that are served.
//! Promises: a tool is a method of a service's own table, with the schemas of that method's types; what a revision does not
//! have is not in its answers; nothing is remembered from one request to the next, in neither revision.
//! Never: does I/O, decides who may use a tool, or asks anything of the client.
//!
//! Lines, their limits, deadlines and taking requests back are those of the wire (`octant-wire`): both are JSON-RPC 2.0, one
//! object a line, and the names of methods do not meet (`agent.note`, `tools/call`).
//!
//! | | 2025-11-25 | 2026-07-28 |
//! |---|---|---|
//! | told by | no version in `_meta` | `io.modelcontextprotocol/protocolVersion` in the `_meta` of every request |
//! | begins with | `initialize` | anything; `server/discover` says what there is |
//! | `ping` | answered | there is none |
//! | answers | as they are | with `resultType`, who serves, and for lists how long they keep |
#![forbid(unsafe_code)]

mod answer;
mod canonical;
pub mod client;
mod fuzz;
mod request;
mod tool;

pub use answer::{describe_server, discovered, initialized, listed, pong, result_of, result_with};
pub use fuzz::fuzz_request;
pub use request::{Asked, METHODS, Request, Revision, read};
pub use tool::Tool;
