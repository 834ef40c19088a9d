//! What a client signs to log in, and the proof of the host that it is for.
//!
//! A session's name is the hash over the whole key exchange, the host's key included, and the host signs it (RFC 4253
//! section 7.2, 8). A login that is signed is good for the session whose name it begins with. So where a host's key has
//! signed a session, a login for that session reaches whoever holds that key, and nobody else: a client that carries bytes
//! between two hosts has two sessions.

use crate::encoding::{Reader, SshError, Writer};
use crate::host::HostKey;

const ED25519: &[u8] = b"ssh-ed25519";
/// SSH_MSG_USERAUTH_REQUEST.
const USERAUTH_REQUEST: u8 = 50;
/// The lengths of SHA-1 to SHA-512.
const SESSION: std::ops::RangeInclusive<usize> = 20..=64;

/// A host's word for a session: `session-bind@openssh.com`.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// The host's public key.
    pub host_key: &'a [u8],
    /// The session's name.
    pub session: &'a [u8],
    /// The host's signature over it.
    pub signature: &'a [u8],
    /// Whether the client says that it hands the agent on to that host.
    pub forwarded: bool,
}

/// A request to log in by a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// The user's name at the host.
    pub user: &'a str,
    /// The client's public key, which is an Ed25519 one.
    pub key: &'a [u8],
}

impl<'a> Login<'a> {
    /// Reads what is to be signed, and holds it to what the host signed. Gives the login and the host's key.
    ///
    /// # Errors
    /// Something is malformed; it is no login; it is for another session or host; the host did not sign the session; the
    /// session is handed on to another host.
    pub fn bound(data: &'a [u8], binding: &Binding<'a>) -> Result<(Self, HostKey<'a>), SshError> {
        if binding.forwarded {
            return Err(SshError::Forwarded);
        }
        if !SESSION.contains(&binding.session.len()) {
            return Err(SshError::Session(binding.session.len()));
        }
        let host = HostKey::parse(binding.host_key)?;
        host.verify(binding.session, binding.signature)?;
        let mut reader = Reader::new(data, "what is to be signed");
        // Other things that keys sign, such as SSHSIG of ssh-keygen(1), do not begin with a session's name.
        if reader.string().map_err(|_| SshError::NoLogin)? != binding.session {
            return Err(SshError::OtherSession);
        }
        if reader.byte()? != USERAUTH_REQUEST {
            return Err(SshError::NoLogin);
        }
        let user = reader.text()?;
        if reader.string()? != b"ssh-connection" {
            return Err(SshError::NoLogin);
        }
        let method = reader.string()?;
        let (signed, algorithm, key) = (reader.byte()?, reader.string()?, reader.string()?);
        if signed != 1 || algorithm != ED25519 {
            return Err(SshError::NoLogin);
        }
        match method {
            b"publickey" => {}
            b"publickey-hostbound-v00@openssh.com" if reader.string()? != host.blob() => {
                return Err(SshError::OtherHost);
            }
            b"publickey-hostbound-v00@openssh.com" => {}
            _ => return Err(SshError::NoLogin),
        }
        reader.end()?;
        Ok((Self { user, key }, host))
    }
}

/// An Ed25519 public key as SSH sends it (RFC 8709).
#[must_use]
pub fn ed25519_key(public: &[u8; 32]) -> Vec<u8> {
    Writer::default().string(ED25519).string(public).done()
}

/// An Ed25519 signature as SSH sends it.
#[must_use]
pub fn ed25519_signature(signature: &[u8; 64]) -> Vec<u8> {
    Writer::default().string(ED25519).string(signature).done()
}
