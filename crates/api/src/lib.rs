//! What Octant's parts say to each other: types only, no I/O.
#![forbid(unsafe_code)]

pub mod agent;
pub mod agents;
pub mod boot;
pub mod egress;
pub mod error;
pub mod exits;
#[cfg(test)]
mod golden;
pub mod journal;
pub mod ledger;
pub mod logs;
pub mod network;
pub mod operator;
pub mod router;
pub mod rpc;
pub mod text;
pub mod ticket;
pub mod unit;
pub mod vault;
