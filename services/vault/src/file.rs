//! Vault files for tests and for programs that are compared with other implementations: made and opened as the service does,
//! with the same code, but without it. Only with the feature `file`: values are in ordinary memory here.

use crate::core::Usable;
use crate::format::{self, Header};
use crate::hex::Hex;
use crate::raw::Raw;
use crate::slots::{self, Lock, Slot};
use crate::state::{Machine, Op};
use crate::store;
use crate::values::{Picked, open_value, seal_machine, seal_value};
use octant_api::vault::{GrantInfo, SecretInfo, SlotKind};
use octant_crypto::aead::SALT_LEN;
use octant_crypto::memory::Key;
use octant_crypto::passphrase::{Argon2Cost, passphrase_key};
use octant_crypto::share_text::{self, Label, LabelledShare};
use octant_crypto::sign::SigningKey;
use octant_ids::Sha256;
use octant_sys::clock;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What a slot opens with.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// A passphrase.
    Passphrase(&'a [u8]),
    /// The bytes of a key file.
    StaticFile(&'a [u8]),
    /// Recovery shares, as text.
    Shares(&'a [String]),
}

/// A slot to be made.
#[derive(Debug, Clone, Copy)]
pub enum NewWay<'a> {
    /// A passphrase.
    Passphrase(&'a [u8]),
    /// The bytes of a key file.
    StaticFile(&'a [u8]),
    /// Recovery shares: how many are needed, how many there are.
    Shares(u8, u8),
}

/// A secret and the values of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What is known of it.
    pub info: SecretInfo,
    /// Its values, by version.
    pub values: BTreeMap<u64, Vec<u8>>,
}

/// What is in a vault, but for leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The secrets, by name.
    pub secrets: Vec<Secret>,
    /// The grants, by number.
    pub grants: Vec<GrantInfo>,
}

/// A vault's file that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The vault's identifier.
    pub vault: String,
    /// The slot that opened it.
    pub slot: u32,
    /// Its epoch.
    pub epoch: u64,
    /// How many bytes at the end were never finished.
    pub torn: usize,
    /// The machine's public key.
    pub machine: [u8; 32],
    /// What is in it.
    pub contents: Contents,
}

/// A vault's file that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The file.
    pub bytes: Vec<u8>,
    /// The vault's identifier.
    pub vault: String,
    /// The machine's public key.
    pub machine: [u8; 32],
    /// The recovery shares, as text.
    pub shares: Vec<String>,
}

/// Which step failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There are no keys, or no randomness for them.
    #[error("a key: {0}")]
    Key(String),
    /// A slot is not made or does not open.
    #[error("a slot: {0}")]
    Slot(String),
    /// The file is no vault, or was changed.
    #[error("the file: {0}")]
    File(String),
    /// A value is not sealed or does not open.
    #[error("a value: {0}")]
    Value(String),
}

fn at<E: fmt::Display>(step: fn(String) -> FileError) -> impl Fn(E) -> FileError {
    move |error| step(error.to_string())
}

/// Makes a file of these contents: the machine in the frame that it begins with, and a frame more for each secret and each
/// grant, as if they had been stored one after the other.
///
/// # Errors
/// [`FileError`].
pub fn make(contents: &Contents, ways: &[NewWay<'_>]) -> Result<Made, FileError> {
    make_under(&Key::random().map_err(at(FileError::Key))?, contents, ways)
}

/// The same under this data key.
pub(crate) fn make_under(data: &Key, contents: &Contents, ways: &[NewWay<'_>]) -> Result<Made, FileError> {
    let machine = SigningKey::generate().map_err(at(FileError::Key))?;
    let created_ms = clock::wall_ms();
    let mut header = Header {
        vault: Hex(octant_crypto::random().map_err(at(FileError::Key))?),
        key: 1,
        epoch: 1,
        frames: 0,
        created_ms,
        machine: Sha256(machine.public()),
        next_slot: 0,
        slots: Vec::new(),
    };
    let mut shares = Vec::new();
    for way in ways {
        let slot = new_slot(&header, *way, data, &mut shares)?;
        header.next_slot += 1;
        header.slots.push(slot);
    }
    let seed = seal_machine(data, &header.vault.0, &machine).map_err(at(FileError::Key))?;
    let record = Machine { public: header.machine, created_ms, facts: BTreeMap::new() };
    let first = content(vec![(Op::Machine(record), seed)])?;
    let (mut bytes, mut end) = format::file(&mut header, data, &[first]).map_err(at(FileError::File))?;
    let secrets = contents.secrets.iter().map(|secret| stored(&header, data, secret));
    let grants =
        contents.grants.iter().map(|grant| Ok(vec![(Op::Grant { grant: grant.clone() }, Vec::new())]));
    for (change, epoch) in secrets.chain(grants).zip(header.epoch + 1..) {
        let (frame, next) =
            format::frame(&header, data, end, epoch, &content(change?)?).map_err(at(FileError::File))?;
        bytes.extend_from_slice(&frame);
        end = next;
    }
    Ok(Made { bytes, vault: header.vault.to_string(), machine: machine.public(), shares })
}

fn content(changes: Vec<(Op, Vec<u8>)>) -> Result<Vec<u8>, FileError> {
    let changes = changes.iter().map(|(op, value)| (op.clone(), &value[..]));
    let mut contents = store::contents(changes).map_err(at(FileError::File))?;
    match (contents.pop(), contents.pop()) {
        (Some(content), None) => Ok(content),
        _ => Err(FileError::File("a change has more than a frame holds".to_owned())),
    }
}

fn stored(header: &Header, data: &Key, secret: &Secret) -> Result<Vec<(Op, Vec<u8>)>, FileError> {
    let Secret { info, values } = secret;
    let mut changes = vec![(Op::Secret { secret: info.clone() }, Vec::new())];
    for version in &info.versions {
        let Some(value) = values.get(&version.version) else { continue };
        let sealed = seal_value(data, &header.vault.0, info, version, &mut value.clone())
            .map_err(at(FileError::Value))?;
        changes.push((Op::Value { name: info.name.clone(), version: version.version }, sealed));
    }
    Ok(changes)
}

fn new_slot(
    header: &Header,
    way: NewWay<'_>,
    data: &Key,
    shares: &mut Vec<String>,
) -> Result<Slot, FileError> {
    let number = header.next_slot;
    let salt = octant_crypto::random::<SALT_LEN>().map_err(at(FileError::Key))?;
    let (lock, own) = match way {
        NewWay::Passphrase(text) => {
            let cost = Argon2Cost::DEFAULT;
            let own = passphrase_key(text, &salt, cost).map_err(at(FileError::Slot))?;
            (Lock::Passphrase { cost }, own)
        }
        NewWay::StaticFile(bytes) => {
            (Lock::StaticFile {}, slots::file_key(bytes).map_err(at(FileError::Key))?)
        }
        NewWay::Shares(threshold, count) => {
            let label = Label::new(header.vault.0, number, threshold, count).map_err(at(FileError::Slot))?;
            let own = Key::random().map_err(at(FileError::Key))?;
            let split = share_text::split(&own, &label).map_err(at(FileError::Slot))?;
            shares.extend(split.iter().map(|share| share.to_text().to_string()));
            (Lock::Shares { threshold, count, set: Hex(label.set) }, own)
        }
    };
    slots::wrap(header, number, String::new(), clock::wall_ms(), lock, salt, (&own, data))
        .map_err(at(FileError::Key))
}

/// Opens a file.
///
/// # Errors
/// [`FileError`].
pub fn open(bytes: &[u8], way: Way<'_>) -> Result<Opened, FileError> {
    let raw = Raw::parse(bytes.to_vec(), Path::new("the vault")).map_err(at(FileError::File))?;
    let (data, slot) = data_key(&raw.header, way)?;
    let read = raw.contents(&data, "", None).map_err(at(FileError::File))?;
    let mut contents = Contents::default();
    for secret in read.state.secrets.values() {
        let mut values = BTreeMap::new();
        for version in &secret.info.versions {
            let Some(sealed) = secret.values.get(version.version) else { continue };
            let picked = Picked::from(Usable { info: &secret.info, version, sealed });
            let mut value = vec![0; picked.bytes()];
            open_value(&data, &raw.header.vault.0, &picked, &mut value).map_err(at(FileError::Value))?;
            values.insert(version.version, value);
        }
        contents.secrets.push(Secret { info: secret.info.clone(), values });
    }
    contents.grants = read.state.grants.values().cloned().collect();
    let vault = raw.header.vault.to_string();
    let (epoch, torn, machine) = (read.opened.epoch, read.opened.torn, read.machine.public());
    Ok(Opened { vault, slot, epoch, torn, machine, contents })
}

/// The data key, and the slot that gave it.
fn data_key(header: &Header, way: Way<'_>) -> Result<(Key, u32), FileError> {
    let mut why = "there is none of this kind".to_owned();
    for slot in &header.slots {
        let opened = match way {
            Way::Passphrase(text) => slot.open_with(header, text, SlotKind::Passphrase),
            Way::StaticFile(bytes) => slot.open_with(header, bytes, SlotKind::StaticFile),
            Way::Shares(texts) => match slot.shares(header) {
                Some(label) => Some(slot.open(header, &combined(texts, &label)?)),
                None => None,
            },
        };
        match opened {
            None => {}
            Some(Ok(key)) => return Ok((key, slot.slot)),
            Some(Err(error)) => why = error.to_string(),
        }
    }
    Err(FileError::Slot(why))
}

fn combined(texts: &[String], label: &Label) -> Result<Key, FileError> {
    let shares: Result<Vec<_>, _> = texts.iter().map(|text| LabelledShare::parse(text)).collect();
    share_text::combine(&shares.map_err(at(FileError::Slot))?, label).map_err(at(FileError::Slot))
}
