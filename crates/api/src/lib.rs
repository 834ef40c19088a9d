//! What Octant's parts say to each other: types only, no I/O.
#![forbid(unsafe_code)]

pub mod unit;
