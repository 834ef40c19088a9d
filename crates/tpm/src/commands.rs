//! The commands, one function each: parameters in, what they give out.

use crate::codes::{Command, alg, permanent, rc, session as bits, tag};
use crate::error::TpmError;
use crate::object::{self, Name, PUBLIC_MAX};
use crate::pcr::{PcrSet, PcrValues};
use crate::random;
use crate::release::{Approval, PolicyRef, ReleasePublicKey, approved};
use crate::sealed::PRIVATE_MAX;
use crate::session::{Salt, Session};
use crate::text::Bytes;
use crate::tpm::{Auth, Call, Result, Tpm};
use crate::transport::Transport;
use crate::wire::{Broken, FRAME_MAX, Read, Reader, Writer};
use octant_ids::Sha256;
use p256::PublicKey;
use zeroize::Zeroizing;

/// The longest digest of any TPM: SHA-512's.
const DIGEST_MAX: usize = 64;

/// The storage key, in the TPM.
pub(crate) struct StorageKey {
    pub(crate) handle: u32,
    pub(crate) name: Name,
    pub(crate) key: PublicKey,
}

/// An object in the TPM.
pub(crate) struct Loaded {
    pub(crate) handle: u32,
    pub(crate) name: Name,
}

/// What kind of session (TPM_SE, Part 2, section 6.11).
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Hmac,
    Policy,
}

/// What TPM2_PCR_Read gives in one go: the registers, their values in order, and how many changes there have been.
struct PcrPart {
    changes: u32,
    values: Vec<(u8, Sha256)>,
}

impl<T: Transport> Tpm<T> {
    /// TPM2_CreatePrimary (Part 3, section 24.1) of the storage key: the same key each time.
    pub(crate) fn create_storage_key(&mut self) -> Result<StorageKey> {
        let template = object::storage_key_template();
        // No password and no data; no outside information; no PCRs in the creation data.
        let parameters = Writer::new().sized(&[0; 4]).sized(template.as_slice()).sized(&[]).u32(0);
        let call = Call {
            command: Command::CreatePrimary,
            handles: &[permanent::OWNER],
            names: &[],
            auth: Auth::Empty,
            parameters,
        };
        let reply = self.call(call).map_err(|error| match error {
            TpmError::Refused { code, .. } if matches!(code.base(), rc::AUTH_FAIL | rc::BAD_AUTH) => {
                TpmError::OwnerPassword
            }
            other => other,
        })?;
        let (name, key) = reply.parse(|reader| {
            let public = reader.sized(PUBLIC_MAX)?;
            let (name, key) = (Name::of(public), object::storage_key(public)?);
            creation(reader)?;
            is_name(reader, &name)?;
            Ok((name, key))
        })?;
        Ok(StorageKey { handle: reply.handle, name, key })
    }

    /// TPM2_StartAuthSession (Part 3, section 11.1), salted to the storage key.
    pub(crate) fn start_session(&mut self, kind: Kind, storage_key: &StorageKey) -> Result<Session> {
        let salt = Salt::new(&storage_key.key, self.fill).map_err(TpmError::Randomness)?;
        let nonce = random::nonce(self.fill).map_err(TpmError::Randomness)?;
        let kind = match kind {
            Kind::Hmac => 0,
            Kind::Policy => 1,
        };
        let parameters = Writer::new().sized(&nonce).sized(salt.encrypted.as_slice()).u8(kind);
        let parameters = parameters.u16(alg::AES).u16(128).u16(alg::CFB).u16(alg::SHA256);
        let call = Call {
            command: Command::StartAuthSession,
            handles: &[storage_key.handle, permanent::NULL],
            names: &[],
            auth: Auth::None,
            parameters,
        };
        let reply = self.call(call)?;
        reply.parse(|reader| Session::started(reply.handle, &salt, nonce, reader))
    }

    /// TPM2_Create (Part 3, section 12.1) of a secret under a policy; gives the private and the public area. The secret
    /// is encrypted on its way.
    pub(crate) fn create_sealed(
        &mut self,
        storage_key: &StorageKey,
        session: &mut Session,
        secret: &[u8; 32],
        policy: &Sha256,
    ) -> Result<(Bytes<PRIVATE_MAX>, Bytes<PUBLIC_MAX>)> {
        let sensitive = Writer::new().sized(&[]).sized(secret);
        let template = object::sealed_template(policy);
        let parameters = Writer::new().sized(sensitive.as_slice()).sized(template.as_slice());
        let call = Call {
            command: Command::Create,
            handles: &[storage_key.handle],
            names: &[&storage_key.name],
            auth: Auth::Session(session, bits::DECRYPT),
            parameters: parameters.sized(&[]).u32(0),
        };
        self.call(call)?.parse(|reader| {
            let (private, public) = (reader.sized(PRIVATE_MAX)?, reader.sized(PUBLIC_MAX)?);
            creation(reader)?;
            if !object::is_sealed_to(public, policy) {
                return Err(Broken("has a sealed object of another kind than was asked for"));
            }
            let bytes = |_| Broken("has a buffer that is too long");
            Ok((Bytes::new(private).map_err(bytes)?, Bytes::new(public).map_err(bytes)?))
        })
    }

    /// TPM2_Load (Part 3, section 12.2).
    pub(crate) fn load(&mut self, storage_key: &StorageKey, private: &[u8], public: &[u8]) -> Result<Loaded> {
        let call = Call {
            command: Command::Load,
            handles: &[storage_key.handle],
            names: &[],
            auth: Auth::Empty,
            parameters: Writer::new().sized(private).sized(public),
        };
        let reply = self.call(call).map_err(|error| match error {
            TpmError::Refused { code, .. } if code.is_about_arguments() => TpmError::Damaged(code),
            other => other,
        })?;
        let name = Name::of(public);
        reply.parse(|reader| is_name(reader, &name))?;
        Ok(Loaded { handle: reply.handle, name })
    }

    /// TPM2_Unseal (Part 3, section 12.7) under a policy that the session has satisfied. The secret is encrypted on its
    /// way.
    pub(crate) fn unseal_loaded(
        &mut self,
        sealed: &Loaded,
        session: &mut Session,
    ) -> Result<Zeroizing<[u8; 32]>> {
        let call = Call {
            command: Command::Unseal,
            handles: &[sealed.handle],
            names: &[&sealed.name],
            auth: Auth::Session(session, bits::ENCRYPT),
            parameters: Writer::new(),
        };
        let reply = self.call(call).map_err(|error| match error {
            TpmError::Refused { code, .. } if code.base() == rc::PCR_CHANGED => TpmError::PcrsMoving,
            TpmError::Refused { code, .. } if code.base() == rc::POLICY_FAIL => TpmError::PolicyRefused(code),
            other => other,
        })?;
        let mut secret = Zeroizing::new([0; 32]);
        let whole = reply.parse(|reader| {
            let data = reader.sized(FRAME_MAX)?;
            let whole = data.len() == secret.len();
            if whole {
                secret.copy_from_slice(data);
            }
            Ok(whole)
        })?;
        if whole { Ok(secret) } else { Err(TpmError::NotASecret) }
    }

    /// TPM2_PolicyPCR (Part 3, section 23.7), for registers that must hold these values.
    pub(crate) fn policy_pcr(&mut self, session: &Session, values: &PcrValues) -> Result<()> {
        let parameters = values.set().put(Writer::new().sized(&values.digest().0));
        let reply = self.call(Call {
            command: Command::PolicyPcr,
            handles: &[session.handle],
            names: &[],
            auth: Auth::None,
            parameters,
        });
        let reply = reply.map_err(|error| match error {
            TpmError::Refused { code, .. } if matches!(code.base(), rc::VALUE | rc::PCR_CHANGED) => {
                TpmError::PcrsMoving
            }
            other => other,
        })?;
        reply.parse(|_| Ok(()))
    }

    /// TPM2_LoadExternal (Part 3, section 12.3) of a release key. Tickets are made only for keys of a hierarchy, so it is
    /// loaded into the owner's.
    fn load_release_key(&mut self, key: &ReleasePublicKey) -> Result<Loaded> {
        let parameters = Writer::new().sized(&[]).sized(key.public_area().as_slice()).u32(permanent::OWNER);
        let reply = self.call(Call {
            command: Command::LoadExternal,
            handles: &[],
            names: &[],
            auth: Auth::None,
            parameters,
        })?;
        let name = key.name();
        reply.parse(|reader| is_name(reader, &name))?;
        Ok(Loaded { handle: reply.handle, name })
    }

    /// TPM2_VerifySignature (Part 3, section 20.1); gives the ticket (TPMT_TK_VERIFIED).
    fn verify_signature(
        &mut self,
        key: &Loaded,
        digest: &Sha256,
        signature: (&[u8], &[u8]),
    ) -> Result<Vec<u8>> {
        let parameters = Writer::new().sized(&digest.0).u16(alg::ECDSA).u16(alg::SHA256);
        let reply = self.call(Call {
            command: Command::VerifySignature,
            handles: &[key.handle],
            names: &[],
            auth: Auth::None,
            parameters: parameters.sized(signature.0).sized(signature.1),
        })?;
        reply.parse(|reader| {
            let bytes = reader.rest();
            let mut inside = Reader::new(bytes);
            ticket(&mut inside, tag::VERIFIED)?;
            inside.end()?;
            Ok(bytes.to_vec())
        })
    }

    /// TPM2_PolicyAuthorize (Part 3, section 23.16): the session's policy, which `approval` is for, becomes the one that
    /// the key has authorized.
    pub(crate) fn policy_authorize(
        &mut self,
        session: &Session,
        approval: &Approval,
        key: &ReleasePublicKey,
        policy_ref: &PolicyRef,
    ) -> Result<()> {
        let signature = approval.signature().ok_or(TpmError::ApprovalSignature)?;
        let loaded = self.load_release_key(key)?;
        let ticket = self.verify_signature(&loaded, &approved(&approval.policy, policy_ref), signature)?;
        let parameters = Writer::new().sized(&approval.policy.0).sized(policy_ref.as_slice());
        let reply = self.call(Call {
            command: Command::PolicyAuthorize,
            handles: &[session.handle],
            names: &[],
            auth: Auth::None,
            parameters: parameters.sized(loaded.name.as_bytes()).raw(&ticket),
        })?;
        reply.parse(|_| Ok(()))
    }

    /// TPM2_PCR_Extend (Part 3, section 22.2) of one register's SHA-256 bank.
    pub(crate) fn extend_pcr(&mut self, pcr: u8, digest: &Sha256) -> Result<()> {
        let call = Call {
            command: Command::PcrExtend,
            handles: &[u32::from(pcr)],
            names: &[],
            auth: Auth::Empty,
            parameters: Writer::new().u32(1).u16(alg::SHA256).raw(&digest.0),
        };
        self.call(call)?.parse(|_| Ok(()))
    }

    /// Registers by TPM2_PCR_Read (Part 3, section 22.4), which gives up to eight at a time; `None` if some changed in
    /// between. With a session what is read is what the TPM said.
    pub(crate) fn read_pcrs_once(
        &mut self,
        set: &PcrSet,
        mut session: Option<&mut Session>,
    ) -> Result<Option<PcrValues>> {
        let (mut left, mut all, mut changes) = (Some(*set), Vec::new(), None);
        while let Some(wanted) = left {
            let auth =
                session.as_deref_mut().map_or(Auth::None, |session| Auth::Session(session, bits::AUDIT));
            let call = Call {
                command: Command::PcrRead,
                handles: &[],
                names: &[],
                auth,
                parameters: wanted.put(Writer::new()),
            };
            let part = self.call(call)?.parse(|reader| pcr_part(reader, &wanted))?;
            let Some((part, read)) = part else {
                return Err(if all.is_empty() {
                    TpmError::NoSha256Bank
                } else {
                    TpmError::NoSuchPcr(crate::error::Pcrs(wanted.numbers().collect()))
                });
            };
            if *changes.get_or_insert(part.changes) != part.changes {
                return Ok(None);
            }
            all.extend(part.values);
            left = wanted.without(&read);
        }
        Ok(PcrValues::new(all).ok())
    }

    /// TPM2_GetCapability (Part 3, section 30.2) of properties, from `first` on.
    pub(crate) fn properties(&mut self, first: u32, count: u32) -> Result<Vec<(u32, u32)>> {
        const TPM_PROPERTIES: u32 = 6;
        let call = Call {
            command: Command::GetCapability,
            handles: &[],
            names: &[],
            auth: Auth::None,
            parameters: Writer::new().u32(TPM_PROPERTIES).u32(first).u32(count),
        };
        self.call(call)?.parse(|reader| {
            reader.u8()?;
            if reader.u32()? != TPM_PROPERTIES {
                return Err(Broken("is about another capability"));
            }
            let given = reader.u32()?;
            if given > count {
                return Err(Broken("has more properties than were asked for"));
            }
            (0..given).map(|_| Ok((reader.u32()?, reader.u32()?))).collect()
        })
    }
}

/// What a TPM says about how it made an object: TPMT_CREATION_DATA, its hash, and a ticket (Part 2, section 15). Nobody
/// here asks for proof of that.
fn creation(reader: &mut Reader<'_>) -> Read<()> {
    reader.sized(FRAME_MAX)?;
    reader.sized(DIGEST_MAX)?;
    ticket(reader, tag::CREATION)
}

/// A ticket (Part 2, section 10.7) of a kind.
fn ticket(reader: &mut Reader<'_>, kind: u16) -> Read<()> {
    if reader.u16()? != kind {
        return Err(Broken("has a ticket of another kind"));
    }
    reader.u32()?;
    reader.sized(DIGEST_MAX).map(drop)
}

/// The name that a TPM says an object has must be the one that it has.
fn is_name(reader: &mut Reader<'_>, name: &Name) -> Read<()> {
    let is = reader.sized(2 + DIGEST_MAX)? == name.as_bytes();
    if is { Ok(()) } else { Err(Broken("has the name of another object")) }
}

/// The reply of TPM2_PCR_Read, with the registers that are in it; `None` when none of the wanted ones is.
fn pcr_part(reader: &mut Reader<'_>, wanted: &PcrSet) -> Read<Option<(PcrPart, PcrSet)>> {
    let changes = reader.u32()?;
    let mut read = None;
    // A TPM without the bank answers with no selection or with an empty one.
    match reader.u32()? {
        0 => {}
        1 => {
            if (reader.u16()?, reader.u8()?) != (alg::SHA256, 3) {
                return Err(Broken("is about another bank of PCRs"));
            }
            read = PcrSet::of_bytes([reader.u8()?, reader.u8()?, reader.u8()?]);
        }
        _ => return Err(Broken("is about more than one bank of PCRs")),
    }
    let count = reader.u32()?;
    if count != read.map_or(0, |read| read.count()) {
        return Err(Broken("does not have one value for each PCR"));
    }
    let Some(read) = read else { return Ok(None) };
    if !wanted.covers(&read) {
        return Err(Broken("is about other PCRs"));
    }
    let value = |number| {
        let value = reader.sized(32)?.try_into().map_err(|_| Broken("has a PCR of another length"))?;
        Ok((number, Sha256(value)))
    };
    let values = read.numbers().map(value).collect::<Read<_>>()?;
    Ok(Some((PcrPart { changes, values }, read)))
}
