//! The vault over real sockets, with a ledger in memory.

mod leases;
mod life;
mod world;
