//! What Octant's parts say to each other: types only, no I/O.
#![forbid(unsafe_code)]

pub mod boot;
pub mod exits;
pub mod journal;
pub mod operator;
pub mod unit;
