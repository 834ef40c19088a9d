//! Sessions (Part 1, section 19.6): whoever listens to the wires between processor and TPM sees neither the secret that
//! goes in nor the one that comes out, and whoever alters a reply is noticed.
//!
//! A session's key comes from a salt that only the storage key can decrypt (section 19.6.13). Nobody who sees the messages
//! can compute it, and nobody but the TPM that has the storage key can answer with its HMAC.

use crate::codes::Command;
use crate::kdf::{self, Key};
use crate::object::{Name, coordinates};
use crate::random::{self, Fill};
use crate::wire::{Read, Reader, Writer};
use hmac::Mac;
use p256::PublicKey;
use p256::ecdh::diffie_hellman;
use sha2::{Digest, Sha256};
use std::io;

/// The longest nonce that a TPM answers with: its longest hash has 64 bytes.
const NONCE_MAX: usize = 64;

/// A salt and what carries it to the TPM (Part 1, section C.6.1, and Part 2, TPM2B_ENCRYPTED_SECRET).
pub(crate) struct Salt {
    pub(crate) encrypted: Writer,
    salt: Key,
}

impl Salt {
    /// A salt for whoever has this storage key: half of a key agreement with a key that is used once.
    pub(crate) fn new(storage_key: &PublicKey, fill: Fill) -> io::Result<Self> {
        let ephemeral = random::secret_key(fill)?;
        let (x, y) = coordinates(&ephemeral.public_key());
        let shared = diffie_hellman(ephemeral.to_nonzero_scalar(), storage_key.as_affine());
        let salt = kdf::kdf_e(shared.raw_secret_bytes(), "SECRET", &x, &coordinates(storage_key).0);
        Ok(Self { encrypted: Writer::new().sized(&x).sized(&y), salt })
    }
}

/// A reply that is not this session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAuthentic;

/// A session whose key only this program and the TPM have.
pub(crate) struct Session {
    pub(crate) handle: u32,
    key: Key,
    nonce_caller: [u8; 32],
    nonce_tpm: Vec<u8>,
}

impl Session {
    /// The session that TPM2_StartAuthSession answered with `reply` for this salt and nonce.
    pub(crate) fn started(
        handle: u32,
        salt: &Salt,
        nonce_caller: [u8; 32],
        reply: &mut Reader<'_>,
    ) -> Read<Self> {
        let nonce_tpm = reply.sized(NONCE_MAX)?.to_vec();
        // Section 19.6.8; nothing is bound to the session, so the salt is all of the key's key.
        let key = kdf::kdf_a(&salt.salt, "ATH", &nonce_tpm, &nonce_caller);
        Ok(Self { handle, key, nonce_caller, nonce_tpm })
    }

    /// Draws the nonce of the next command.
    pub(crate) fn next(&mut self, fill: Fill) -> io::Result<()> {
        self.nonce_caller = random::nonce(fill)?;
        Ok(())
    }

    /// Encrypts a command's first parameter.
    pub(crate) fn encrypt(&self, parameter: &mut [u8]) {
        kdf::encrypt(&self.key, &self.nonce_caller, &self.nonce_tpm, parameter);
    }

    /// Decrypts a reply's first parameter; the reply has been verified.
    pub(crate) fn decrypt(&self, parameter: &mut [u8]) {
        kdf::decrypt(&self.key, &self.nonce_tpm, &self.nonce_caller, parameter);
    }

    /// The authorization of a command with these parameters, encrypted as they are sent, for the objects with these
    /// names (TPMS_AUTH_COMMAND; sections 16 and 19.6.5). None of the objects here has a password, so the session's key
    /// is the HMAC's.
    pub(crate) fn authorize(
        &self,
        command: Command,
        names: &[&Name],
        parameters: &[u8],
        attributes: u8,
    ) -> Writer {
        let hash = Sha256::new().chain_update(command.code().to_be_bytes());
        let hash = names.iter().fold(hash, |hash, name| hash.chain_update(name.as_bytes()));
        let hash = hash.chain_update(parameters).finalize();
        let mac = kdf::hmac(&self.key, &[&hash, &self.nonce_caller, &self.nonce_tpm, &[attributes]]);
        let out = Writer::new().u32(self.handle).sized(&self.nonce_caller).u8(attributes);
        out.sized(&mac.finalize().into_bytes())
    }

    /// Checks a reply's authorization (TPMS_AUTH_RESPONSE) over these parameters, encrypted as they came, and takes its
    /// nonce.
    pub(crate) fn verify(
        &mut self,
        command: Command,
        parameters: &[u8],
        mut authorization: Reader<'_>,
        attributes: u8,
    ) -> Read<Result<(), NotAuthentic>> {
        let nonce_tpm = authorization.sized(NONCE_MAX)?;
        let answered = authorization.u8()?;
        let mac = authorization.sized(32)?;
        authorization.end()?;
        // A reply is verified only when the command succeeded, so its code is 0.
        let hash = Sha256::new().chain_update(0_u32.to_be_bytes()).chain_update(command.code().to_be_bytes());
        let hash = hash.chain_update(parameters).finalize();
        let want = kdf::hmac(&self.key, &[&hash, nonce_tpm, &self.nonce_caller, &[answered]]);
        if want.verify_slice(mac).is_err() || answered & attributes != attributes {
            return Ok(Err(NotAuthentic));
        }
        self.nonce_tpm = nonce_tpm.to_vec();
        Ok(Ok(()))
    }
}
