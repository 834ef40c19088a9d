//! Sealing and unsealing: the order of the commands, and what is checked between them.

use crate::commands::{Kind, StorageKey};
use crate::error::{APPROVALS_MAX, Pcrs, TpmError};
use crate::object::Name;
use crate::pcr::{PCR_MAX, PcrSet, PcrValues, pcr_policy};
use crate::release::{Approval, PolicyRef, ReleasePublicKey};
use crate::sealed::{Binding, Sealed};
use crate::session::Session;
use crate::tpm::{Result, Tpm};
use crate::transport::Transport;
use octant_ids::Sha256;
use zeroize::Zeroizing;

/// How often registers are read again when something measures meanwhile.
const READS: usize = 3;

impl<T: Transport> Tpm<T> {
    /// What these registers of the SHA-256 bank hold.
    ///
    /// # Errors
    /// [`TpmError::NoSha256Bank`], [`TpmError::NoSuchPcr`], [`TpmError::PcrsMoving`], and what any command can fail with.
    pub fn read_pcrs(&mut self, set: &PcrSet) -> Result<PcrValues> {
        self.read_settled(set, None)
    }

    /// Extends a register: it then holds the hash of what it held and `digest` (Part 1, section 17.3). For tests and for
    /// what measures; there is no way back but to start the machine again.
    ///
    /// # Errors
    /// [`TpmError::NoSuchPcr`] and what any command can fail with.
    pub fn extend(&mut self, pcr: u8, digest: &Sha256) -> Result<()> {
        if pcr > PCR_MAX {
            return Err(TpmError::NoSuchPcr(Pcrs(vec![pcr])));
        }
        self.extend_pcr(pcr, digest)
    }

    /// The name of the storage key: what tells this TPM from every other, until it is cleared.
    ///
    /// # Errors
    /// [`TpmError::OwnerPassword`] and what any command can fail with.
    pub fn storage_key_name(&mut self) -> Result<Name> {
        self.scope(|tpm| Ok(tpm.create_storage_key()?.name))
    }

    /// Seals a secret, so that only this TPM gives it back, and only when the binding is satisfied.
    ///
    /// # Errors
    /// [`TpmError::OtherTpm`] if another one is [expected](Tpm::expecting), what [`Tpm::read_pcrs`] fails with, and what
    /// any command can fail with.
    pub fn seal(&mut self, secret: &[u8; 32], binding: &Binding) -> Result<Sealed> {
        self.scope(|tpm| {
            let storage_key = tpm.create_storage_key()?;
            if let Some(expected) = tpm.expected {
                is_expected(&storage_key, expected)?;
            }
            let mut session = tpm.start_session(Kind::Hmac, &storage_key)?;
            // Under the session: who could lie about these values would choose which system opens the secret.
            let pcrs = tpm.read_settled(binding.pcrs(), Some(&mut session))?;
            let policy = binding.policy(&pcrs);
            let (private, public) = tpm.create_sealed(&storage_key, &mut session, secret, &policy)?;
            Ok(Sealed { storage_key: storage_key.name, public, private, pcrs, binding: binding.clone() })
        })
    }

    /// Gives a sealed secret back. `approvals` are looked at only if it is bound to a release key.
    ///
    /// # Errors
    /// [`TpmError::OtherTpm`] and [`TpmError::Damaged`] when it is not, or no longer, what this TPM sealed;
    /// [`TpmError::PcrsDiffer`], [`TpmError::NoApproval`] and [`TpmError::ApprovalSignature`] when this TPM would open it
    /// on another system; and what any command can fail with.
    pub fn unseal(&mut self, sealed: &Sealed, approvals: &[Approval]) -> Result<Zeroizing<[u8; 32]>> {
        if approvals.len() > APPROVALS_MAX {
            return Err(TpmError::TooManyApprovals(approvals.len()));
        }
        self.scope(|tpm| {
            let storage_key = tpm.create_storage_key()?;
            is_expected(&storage_key, sealed.storage_key)?;
            let object = tpm.load(&storage_key, sealed.private.as_slice(), sealed.public.as_slice())?;
            let mut session = tpm.start_session(Kind::Policy, &storage_key)?;
            match &sealed.binding {
                Binding::Pcrs(set) => tpm.satisfy_pcrs(&session, set, &sealed.pcrs)?,
                Binding::Released { key, pcrs, policy_ref } => {
                    let approvals = Approvals::of(approvals, key, pcrs, policy_ref);
                    let approval = tpm.satisfy_approval(&session, &approvals, &sealed.pcrs)?;
                    tpm.policy_authorize(&session, approval, key, policy_ref)?;
                }
            }
            tpm.unseal_loaded(&object, &mut session)
        })
    }

    /// Reads registers until none has changed meanwhile.
    fn read_settled(&mut self, set: &PcrSet, mut session: Option<&mut Session>) -> Result<PcrValues> {
        for _ in 0..READS {
            if let Some(values) = self.read_pcrs_once(set, session.as_deref_mut())? {
                return Ok(values);
            }
        }
        Err(TpmError::PcrsMoving)
    }

    fn satisfy_pcrs(&mut self, session: &Session, set: &PcrSet, sealed: &PcrValues) -> Result<()> {
        let now = self.read_settled(set, None)?;
        let differ = sealed.differing(&now);
        if !differ.is_empty() {
            return Err(TpmError::PcrsDiffer(Pcrs(differ)));
        }
        self.policy_pcr(session, &now)
    }

    /// Satisfies the policy of an approval that is for the present values, and gives that approval.
    fn satisfy_approval<'a>(
        &mut self,
        session: &Session,
        approvals: &Approvals<'a>,
        sealed: &PcrValues,
    ) -> Result<&'a Approval> {
        // Only what is signed has a say in which registers are read: another could name one that there is not.
        let signed = approvals.signed.iter().fold(sealed.set(), |all, approval| all.union(&approval.pcrs));
        let now = self.read_settled(&signed, None)?;
        let is_for_now = |approval: &Approval| {
            now.only(&approval.pcrs).filter(|values| pcr_policy(values) == approval.policy)
        };
        for approval in &approvals.signed {
            if let Some(values) = is_for_now(approval) {
                self.policy_pcr(session, &values)?;
                return Ok(approval);
            }
        }
        if approvals.unsigned.iter().any(|approval| is_for_now(approval).is_some()) {
            return Err(TpmError::ApprovalSignature);
        }
        Err(TpmError::NoApproval { given: approvals.given, differ: Pcrs(sealed.differing(&now)) })
    }
}

/// Approvals for something that is sealed to a release key.
struct Approvals<'a> {
    given: usize,
    /// Signed by that key, and about all the registers that they must be about.
    signed: Vec<&'a Approval>,
    /// Not signed by that key.
    unsigned: Vec<&'a Approval>,
}

impl<'a> Approvals<'a> {
    fn of(all: &'a [Approval], key: &ReleasePublicKey, pcrs: &PcrSet, policy_ref: &PolicyRef) -> Self {
        // The TPM checks the signature too; here it costs no command, and the error can say what is wrong.
        let (signed, unsigned): (Vec<_>, Vec<_>) =
            all.iter().partition(|approval| approval.is_signed_by(key, policy_ref));
        let signed = signed.into_iter().filter(|approval| approval.pcrs.covers(pcrs)).collect();
        Self { given: all.len(), signed, unsigned }
    }
}

fn is_expected(storage_key: &StorageKey, expected: Name) -> Result<()> {
    let found = storage_key.name;
    if found == expected { Ok(()) } else { Err(TpmError::OtherTpm { expected, found }) }
}
