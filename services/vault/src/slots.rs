//! Slots: each wraps the same data key under a key of its own, as LUKS does.
//!
//! A slot's own key comes from a passphrase (Argon2id), from what a TPM gives back, from recovery shares, or from a file.
//! Which one it is, the vault, the slot's number and the number of the data key are bound to the wrapped key, and a
//! value that only the slot's own key gives (a commitment) is compared first: GCM alone would let somebody who makes
//! files have one wrapped key open under two passphrases.

use crate::format::Header;
use crate::hex::Hex;
use octant_api::vault::{SLOTS_MAX, SlotInfo, SlotKind, TEXT_MAX};
use octant_crypto::CryptoError;
use octant_crypto::aead::same;
use octant_crypto::aead::{self, SALT_LEN};
use octant_crypto::memory::Key;
use octant_crypto::passphrase::{Argon2Cost, PassphraseError, passphrase_key};
use octant_crypto::shamir;
use octant_crypto::share_text::Label;
use octant_tpm::Sealed;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// One slot as it stands in the header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    /// Its number.
    pub(crate) slot: u32,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) label: String,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// The salt of everything that is derived for it.
    pub(crate) salt: Hex<SALT_LEN>,
    /// What only the slot's own key gives.
    pub(crate) commit: Hex<32>,
    /// The data key, sealed under the slot's own key.
    pub(crate) wrapped: Hex<48>,
    /// What gives the slot's own key.
    pub(crate) lock: Lock,
}

/// What gives a slot's own key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Lock {
    /// Argon2id of a passphrase with the slot's salt.
    Passphrase {
        /// What it costs.
        cost: Argon2Cost,
    },
    /// What this TPM gives back while its policy holds.
    Tpm {
        /// The sealed object.
        sealed: Box<Sealed>,
    },
    /// The secret that so many shares give.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
        /// Which set of shares it is.
        set: Hex<8>,
    },
    /// SHA-256 of a file.
    StaticFile {},
}

/// Why a slot does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    /// What was given is not what it was made with.
    #[error("slot {0} does not open with that")]
    Wrong(u32),
    /// The passphrase cannot be turned into a key.
    #[error("slot {slot}: {source}")]
    Passphrase {
        /// The slot.
        slot: u32,
        /// Why.
        source: PassphraseError,
    },
    /// There is no memory or randomness for a key.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Lock {
    pub(crate) fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase { .. } => SlotKind::Passphrase,
            Self::Tpm { .. } => SlotKind::Tpm,
            Self::Shares { .. } => SlotKind::Shares,
            Self::StaticFile {} => SlotKind::StaticFile,
        }
    }

    /// For people.
    fn about(&self) -> String {
        match self {
            Self::Passphrase { cost } => {
                format!("Argon2id, {} MiB, {} passes", cost.memory_kib / 1024, cost.passes)
            }
            Self::Tpm { sealed } => {
                let pcrs: Vec<String> = sealed.pcrs().iter().map(|(number, _)| number.to_string()).collect();
                let how = match sealed.binding() {
                    octant_tpm::Binding::Pcrs(_) => "as they were",
                    octant_tpm::Binding::Released { .. } => "as a release key approves",
                };
                format!("this machine's TPM, PCRs {} {how}", pcrs.join(", "))
            }
            Self::Shares { threshold, count, .. } => format!("{threshold} of {count} recovery shares"),
            Self::StaticFile {} => "STATIC: whoever has the file has the vault".to_owned(),
        }
    }
}

impl Slot {
    pub(crate) fn info(&self) -> SlotInfo {
        let mut info = SlotInfo {
            slot: self.slot,
            kind: self.lock.kind(),
            label: self.label.clone(),
            created_ms: self.created_ms,
            about: self.lock.about(),
            threshold: 0,
            count: 0,
            pcrs: Vec::new(),
            release_key: None,
        };
        match &self.lock {
            Lock::Shares { threshold, count, .. } => (info.threshold, info.count) = (*threshold, *count),
            Lock::Tpm { sealed } => {
                info.pcrs = sealed.pcrs().iter().map(|(number, _)| number).collect();
                if let octant_tpm::Binding::Released { key, .. } = sealed.binding() {
                    info.release_key = key.to_pem().ok();
                }
            }
            Lock::Passphrase { .. } | Lock::StaticFile {} => {}
        }
        info
    }

    /// The label on this slot's shares; none when it has none.
    pub(crate) fn shares(&self, header: &Header) -> Option<Label> {
        let Lock::Shares { threshold, count, set } = &self.lock else { return None };
        Some(Label {
            vault: header.vault.0,
            slot: self.slot,
            set: set.0,
            threshold: *threshold,
            count: *count,
        })
    }

    /// The data key, by the slot's own key.
    pub(crate) fn open(&self, header: &Header, own: &Key) -> Result<Key, SlotError> {
        let place = Place::of(header, self.slot, self.lock.kind());
        if !same(&place.commit(own, &self.salt.0)?, &self.commit.0) {
            return Err(SlotError::Wrong(self.slot));
        }
        let mut bytes = Zeroizing::new([0; 32]);
        aead::open(own, &self.salt.0, &place.info(), &place.aad(), &self.wrapped.0, &mut *bytes)
            .map_err(|_| SlotError::Wrong(self.slot))?;
        Ok(Key::from_bytes(&bytes)?)
    }

    /// The data key, by a passphrase or a file's bytes; none when the slot is of another kind.
    pub(crate) fn open_with(
        &self,
        header: &Header,
        given: &[u8],
        kind: SlotKind,
    ) -> Option<Result<Key, SlotError>> {
        let own = match (&self.lock, kind) {
            (Lock::Passphrase { cost }, SlotKind::Passphrase) => {
                let failed = |source| SlotError::Passphrase { slot: self.slot, source };
                passphrase_key(given, &self.salt.0, *cost).map_err(failed)
            }
            (Lock::StaticFile {}, SlotKind::StaticFile) => file_key(given).map_err(SlotError::from),
            _ => return None,
        };
        Some(own.and_then(|own| self.open(header, &own)))
    }
}

/// The own key of a slot that is opened by a file.
pub(crate) fn file_key(bytes: &[u8]) -> Result<Key, CryptoError> {
    let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(bytes)));
    Key::from_bytes(&digest)
}

/// What a wrapped key is bound to.
struct Place {
    vault: [u8; 16],
    slot: [u8; 4],
    kind: &'static str,
    key: [u8; 8],
}

impl Place {
    fn of(header: &Header, slot: u32, kind: SlotKind) -> Self {
        let (slot, key) = (slot.to_be_bytes(), header.key.to_be_bytes());
        Self { vault: header.vault.0, slot, kind: kind.as_str(), key }
    }

    fn info(&self) -> [&[u8]; 4] {
        [b"octant vault 1 slot", &self.vault, &self.slot, self.kind.as_bytes()]
    }

    fn aad(&self) -> [&[u8]; 1] {
        [&self.key]
    }

    fn commit(&self, own: &Key, salt: &[u8; SALT_LEN]) -> Result<[u8; 32], CryptoError> {
        let info: [&[u8]; 4] = [b"octant vault 1 commitment", &self.vault, &self.slot, self.kind.as_bytes()];
        Ok(*aead::subkey(own, salt, &info)?.bytes())
    }
}

/// A slot of this number that wraps the data key under `own`, which `salt` belongs to.
pub(crate) fn wrap(
    header: &Header,
    slot: u32,
    label: String,
    created_ms: u64,
    lock: Lock,
    salt: [u8; SALT_LEN],
    (own, data): (&Key, &Key),
) -> Result<Slot, CryptoError> {
    let place = Place::of(header, slot, lock.kind());
    let commit = Hex(place.commit(own, &salt)?);
    let sealed = aead::seal(own, &salt, &place.info(), &place.aad(), data.bytes());
    let mut wrapped = [0; 48];
    wrapped.copy_from_slice(&sealed);
    Ok(Slot { slot, label, created_ms, salt: Hex(salt), commit, wrapped: Hex(wrapped), lock })
}

/// What it costs to try one passphrase on every slot of its kind, and on one more of this cost. [`Argon2Cost::work`] says
/// in what.
///
/// # Errors
/// It is more than one slot alone may cost.
pub(crate) fn check_work(slots: &[Slot], more: Option<Argon2Cost>) -> Result<(), String> {
    let cost = |slot: &Slot| match slot.lock {
        Lock::Passphrase { cost } => Some(cost),
        _ => None,
    };
    let work: u64 = slots.iter().filter_map(cost).chain(more).map(|cost| cost.work()).sum();
    if work <= Argon2Cost::WORK_MAX {
        return Ok(());
    }
    Err(format!(
        "the passphrases cost {work} KiB of memory passed over in all, more than {}; choose less for one of them",
        Argon2Cost::WORK_MAX
    ))
}

/// Whether a header's slots are within their limits: what a reader spends on a passphrase is bounded, and never so little
/// that a passphrase is worth trying.
pub(crate) fn check(header: &Header) -> Result<(), String> {
    if header.slots.is_empty() || header.slots.len() > SLOTS_MAX {
        return Err(format!("it has {} slots; there are 1 to {SLOTS_MAX}", header.slots.len()));
    }
    for (at, slot) in header.slots.iter().enumerate() {
        let number = slot.slot;
        if number >= header.next_slot || header.slots[..at].iter().any(|other| other.slot == number) {
            return Err(format!("slot {number} is there twice, or was never given"));
        }
        if slot.label.len() > TEXT_MAX {
            return Err(format!("the label of slot {number} has more than {TEXT_MAX} bytes"));
        }
        match &slot.lock {
            Lock::Passphrase { cost } => cost.check().map_err(|error| format!("slot {number}: {error}"))?,
            Lock::Shares { threshold, count, .. } => {
                shamir::check_shape(*threshold, *count).map_err(|error| format!("slot {number}: {error}"))?;
            }
            Lock::Tpm { .. } | Lock::StaticFile {} => {}
        }
    }
    check_work(&header.slots, None)
}
