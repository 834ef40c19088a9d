//! Values and the machine's seed as they stand in the file: sealed under the data key, each with a key of its own, and bound
//! to whose they are. Pure.

use crate::core::Usable;
use octant_api::vault::{Kind, SecretInfo, VersionInfo};
use octant_crypto::CryptoError;
use octant_crypto::aead::{self, SALT_LEN};
use octant_crypto::memory::Key;
use octant_crypto::sign::SigningKey;
use octant_ids::SecretName;

const VALUE: &[u8] = b"octant vault 1 value";
const MACHINE: &[u8] = b"octant vault 1 machine";

/// A value that was decided about, still sealed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picked {
    pub(crate) name: SecretName,
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) username: String,
    pub(crate) public_key: Option<String>,
    not_after_ms: Option<u64>,
    sealed: Vec<u8>,
}

impl From<Usable<'_>> for Picked {
    fn from(usable: Usable<'_>) -> Self {
        let Usable { info, version, sealed } = usable;
        Self {
            name: info.name.clone(),
            version: version.version,
            kind: info.kind,
            username: info.username.clone(),
            public_key: version.public_key.clone(),
            not_after_ms: version.not_after_ms,
            sealed: sealed.to_vec(),
        }
    }
}

impl Picked {
    /// How long the value is.
    pub(crate) fn bytes(&self) -> usize {
        self.sealed.len().saturating_sub(SALT_LEN + aead::TAG_LEN)
    }
}

/// What a value is bound to.
struct Bound {
    version: [u8; 8],
    not_after: [u8; 8],
}

impl Bound {
    fn new(version: u64, not_after_ms: Option<u64>) -> Self {
        Self { version: version.to_be_bytes(), not_after: not_after_ms.unwrap_or(0).to_be_bytes() }
    }

    fn aad<'a>(&'a self, vault: &'a [u8; 16], name: &'a SecretName, kind: Kind) -> [&'a [u8]; 5] {
        [vault, name.as_str().as_bytes(), &self.version, &self.not_after, kind.as_str().as_bytes()]
    }
}

/// Seals a value of this version where it lies, so that it is in the clear nowhere else: the salt, the ciphertext, the tag.
/// What `value` holds afterwards is the ciphertext.
pub(crate) fn seal_value(
    key: &Key,
    vault: &[u8; 16],
    info: &SecretInfo,
    version: &VersionInfo,
    value: &mut [u8],
) -> Result<Vec<u8>, CryptoError> {
    let salt = octant_crypto::random::<SALT_LEN>()?;
    let bound = Bound::new(version.version, version.not_after_ms);
    let aad = bound.aad(vault, &info.name, info.kind);
    let tag = aead::seal_in_place(key, &salt, &[VALUE, vault], &aad, value);
    Ok([&salt[..], value, &tag].concat())
}

/// Opens a sealed value into `out`, which has [`Picked::bytes`] bytes.
pub(crate) fn open_value(
    key: &Key,
    vault: &[u8; 16],
    picked: &Picked,
    out: &mut [u8],
) -> Result<(), aead::OpenError> {
    let (salt, sealed) = picked.sealed.split_first_chunk::<SALT_LEN>().ok_or(aead::OpenError)?;
    let bound = Bound::new(picked.version, picked.not_after_ms);
    let aad = bound.aad(vault, &picked.name, picked.kind);
    aead::open(key, salt, &[VALUE, vault], &aad, sealed, out)
}

/// Seals the machine's seed.
pub(crate) fn seal_machine(
    key: &Key,
    vault: &[u8; 16],
    machine: &SigningKey,
) -> Result<Vec<u8>, CryptoError> {
    let salt = octant_crypto::random::<SALT_LEN>()?;
    let info: [&[u8]; 2] = [MACHINE, vault];
    let mut seed = zeroize::Zeroizing::new(*machine.seed().bytes());
    let tag = aead::seal_in_place(key, &salt, &info, &[&machine.public()], &mut *seed);
    Ok([&salt[..], &seed[..], &tag].concat())
}

/// Opens the machine's seed.
pub(crate) fn open_machine(
    key: &Key,
    vault: &[u8; 16],
    public: &[u8; 32],
    sealed: &[u8],
) -> Result<SigningKey, String> {
    let (salt, sealed) = sealed.split_first_chunk::<SALT_LEN>().ok_or("the machine's seed is cut short")?;
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    let info: [&[u8]; 2] = [MACHINE, vault];
    aead::open(key, salt, &info, &[public], sealed, &mut *seed).map_err(|error| error.to_string())?;
    let machine = SigningKey::from_seed(&seed).map_err(|error| error.to_string())?;
    if machine.public() == *public {
        Ok(machine)
    } else {
        Err("the machine's seed is another one's".to_owned())
    }
}
