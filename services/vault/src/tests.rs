//! The vault over real sockets with a ledger in memory, and its file against whoever changes it.

mod edges;
mod form;
mod kill;
mod leases;
mod life;
mod random;
mod world;
