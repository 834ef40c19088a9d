//! The way to hosts outside, for the services that go there: names, addresses, TLS, signatures.
//!
//! Owns: which name servers are asked, which addresses may be connected to, who is trusted in TLS,
//! how a request is signed.
//! Promises: an address of this machine, of a private network or of a cloud's metadata is not given where the machine's
//! configuration does not name it.
//! Never: decides who may go where, sends a byte to a host.
#![forbid(unsafe_code)]

pub mod percent;
mod resolve;
pub mod sigv4;
pub mod tls;
mod vet;

pub use resolve::{RESOLV_CONF, Resolve, Servers};
pub use vet::{Network, NetworkError, Vet};
