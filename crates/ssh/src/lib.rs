//! What Octant reads of SSH: to log in with a key that only the vault has, at one host and nowhere else.
//!
//! Owns: the encoding (RFC 4251), hosts' keys and their signatures, the request that a client signs to log in (RFC 4252
//! and OpenSSH's PROTOCOL), the messages between a client and its agent (OpenSSH's PROTOCOL.agent).
//! Promises: [`Login::bound`] gives a login only if a host's key has signed the very session that the login is for, so
//! that its signature is of use towards the holder of that key alone; nothing that comes in makes it panic, wait or hold
//! more than [`FRAME_MAX`].
//! Never: opens a socket, holds a private key, signs.
#![forbid(unsafe_code)]

mod agent;
mod encoding;
mod host;
mod login;
#[cfg(test)]
mod tests;

pub use agent::{Answer, FRAME_MAX, Question};
pub use encoding::{Reader, SshError, Writer};
pub use host::{Fingerprint, FingerprintError, HostKey};
pub use login::{Binding, Login, ed25519_key, ed25519_signature};

/// What a fuzzer gives: the first byte says how much of it is a host's key.
pub fn fuzz(bytes: &[u8]) {
    let _message = Question::parse(bytes);
    let [first, rest @ ..] = bytes else { return };
    let (host_key, data) = rest.split_at(usize::from(*first).min(rest.len()));
    let session = &data[..data.len().min(32)];
    let binding = Binding { host_key, session, signature: data, forwarded: false };
    assert!(Login::bound(data, &binding).is_err(), "nobody has signed this");
}
