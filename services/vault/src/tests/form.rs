//! The file's form against whoever changes a file: every byte, every length, every order of its parts.

mod hostile;
mod splice;

use super::world::BOOT;
use crate::format::{self, FormatError, Header};
use crate::hex::Hex;
use crate::raw::{Contents, Raw};
use crate::slots::{self, Lock, SlotError};
use crate::state::{LeaseRecord, Machine, Now, Op, State};
use crate::store;
use crate::values::{seal_machine, seal_value};
use octant_api::text::Base64;
use octant_api::vault::{GrantInfo, Kind, Mode, SecretInfo, Subject, VersionInfo, VersionState};
use octant_crypto::memory::Key;
use octant_crypto::passphrase::{Argon2Cost, passphrase_key};
use octant_crypto::sign::SigningKey;
use octant_ids::{Aid, Principal, Sha256};
use octant_tpm::{PcrValues, pcr_policy};
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

/// What no error may show.
const CANARY: &[u8] = b"canary-8f02-do-not-leak";
const SALT: [u8; 32] = [0x5a; 32];
pub(super) const VAULT: [u8; 16] = [0xa1; 16];
pub(super) const DATA: [u8; 32] = [0xd7; 32];
const NOW: Now = Now { wall_ms: 1_700_000_000_000, boot_ns: 1 };

/// The passphrase's key, which is dear: once for all tests.
static OWN: LazyLock<Key> =
    LazyLock::new(|| passphrase_key(super::world::PASSPHRASE, &SALT, Argon2Cost::FLOOR).unwrap());

pub(super) fn key(bytes: [u8; 32]) -> Key {
    Key::from_bytes(&bytes).unwrap()
}

/// A vault's file, and how it came to be.
pub(super) struct Made {
    data: Key,
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
    /// Where the header's text is.
    pub(super) text: Range<usize>,
    /// Where each frame is.
    pub(super) frames: Vec<Range<usize>>,
    /// What there is at the end of the frames that the file began with, and of each that was appended: the offset, the
    /// epoch, everything.
    states: Vec<(usize, u64, State)>,
    next: format::End,
}

impl Made {
    /// A file that was written anew as epoch 7, in two frames, and then changed five times.
    pub(super) fn new() -> Self {
        Self::of(VAULT, 1, key(DATA), 0)
    }

    /// The same with another identifier, number of the data key, data key, and a difference in what was appended.
    pub(super) fn of(vault: [u8; 16], number: u64, data: Key, difference: u8) -> Self {
        let machine = SigningKey::from_seed(&[3; 32]).unwrap();
        let mut header = Header {
            vault: Hex(vault),
            key: number,
            epoch: 7,
            frames: 0,
            created_ms: 1,
            machine: Sha256(machine.public()),
            next_slot: 6,
            slots: Vec::new(),
        };
        for (lock, number) in locks().into_iter().zip(2..) {
            let label = "a safe".to_owned();
            header.slots.push(slots::wrap(&header, number, label, 5, lock, SALT, (&OWN, &data)).unwrap());
        }
        let first = [begin(&header, &data, &machine), secrets(&vault, &data)];
        let mut state = State::new(BOOT);
        for (op, value) in first.iter().flatten() {
            state.apply(op.clone(), value).unwrap();
        }
        let contents: Vec<Vec<u8>> = first.into_iter().flat_map(content).collect();
        let (bytes, next) = format::file(&mut header, &data, &contents).unwrap();
        let text = 12..12 + serde_json::to_vec(&header).unwrap().len();
        let states = vec![(bytes.len(), 7, state)];
        let mut made = Self { data, header, bytes, text, frames: Vec::new(), states, next };
        made.frames = frames_of(&made.bytes, made.text.end + 32);
        changes(&made.header.vault.0, &made.data, difference).into_iter().for_each(|ops| made.append(ops));
        made
    }

    /// Appends a frame.
    fn append(&mut self, ops: Vec<(Op, Vec<u8>)>) {
        let (_, epoch, state) = self.states.last().unwrap();
        let (epoch, mut state) = (epoch + 1, state.clone());
        for (op, value) in &ops {
            state.apply(op.clone(), value).unwrap();
        }
        let [content] = <[Vec<u8>; 1]>::try_from(content(ops)).unwrap();
        let start = self.bytes.len();
        let (frame, next) = format::frame(&self.header, &self.data, self.next, epoch, &content).unwrap();
        self.bytes.extend_from_slice(&frame);
        self.frames.push(start..self.bytes.len());
        self.states.push((self.bytes.len(), epoch, state));
        self.next = next;
    }

    /// Everything that unsealing looks at, with the data key at hand.
    fn open(&self, bytes: &[u8]) -> Result<Contents, FormatError> {
        open(bytes, &self.data)
    }

    /// These frames behind the header.
    pub(super) fn with_frames(&self, frames: &[Range<usize>]) -> Vec<u8> {
        let mut bytes = self.bytes[..self.frames[0].start].to_vec();
        frames.iter().for_each(|frame| bytes.extend_from_slice(&self.bytes[frame.clone()]));
        bytes
    }
}

fn raw(bytes: &[u8]) -> Result<Raw, FormatError> {
    Raw::parse(bytes.to_vec(), Path::new("vault")).map_err(|error| match error {
        store::StoreError::Format { source, .. } => source,
        other => panic!("{other}"),
    })
}

fn open(bytes: &[u8], data: &Key) -> Result<Contents, FormatError> {
    raw(bytes)?.contents(data, BOOT, None)
}

/// A lock of each kind.
fn locks() -> [Lock; 4] {
    [
        Lock::Passphrase { cost: Argon2Cost::FLOOR },
        Lock::Tpm { sealed: Box::new(sealed_by_a_tpm()) },
        Lock::Shares { threshold: 2, count: 3, set: Hex([7; 8]) },
        Lock::StaticFile {},
    ]
}

/// What a TPM has sealed to PCRs, as it stands in a file (TPM 2.0 Library, Part 2, section 12.2.4).
fn sealed_by_a_tpm() -> octant_tpm::Sealed {
    let pcrs = PcrValues::new([(4, Sha256([4; 32])), (11, Sha256([11; 32]))]).unwrap();
    let policy = pcr_policy(&pcrs);
    // A keyed hash, SHA-256; fixedTPM, fixedParent, adminWithPolicy, noDA; the policy; no scheme; the unique value.
    let public = [&[0, 8, 0, 11, 0, 0, 4, 0x92, 0, 32], &policy.0[..], &[0, 16, 0, 32], &[0x0c; 32]].concat();
    let sealed = serde_json::json!({
        "version": 1,
        "storage_key": format!("000b{}", Sha256([9; 32])),
        "public": Base64(public),
        "private": Base64(vec![8; 200]),
        "pcrs": pcrs,
    });
    serde_json::from_value(sealed).unwrap()
}

/// Where each frame is, by the lengths in their heads.
fn frames_of(bytes: &[u8], mut at: usize) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    while let Some(len) = bytes.get(at..at + 4) {
        let end = at + 16 + 32 + u32::from_be_bytes(len.try_into().unwrap()) as usize;
        frames.push(at..end);
        at = end;
    }
    frames
}

pub(super) fn content(ops: Vec<(Op, Vec<u8>)>) -> Vec<Vec<u8>> {
    store::contents(ops.iter().map(|(op, value)| (op.clone(), &value[..]))).unwrap()
}

pub(super) fn begin(header: &Header, data: &Key, machine: &SigningKey) -> Vec<(Op, Vec<u8>)> {
    let facts = [("product_uuid".to_owned(), "1234".to_owned())].into();
    let record = Machine { public: header.machine, created_ms: 1, facts };
    let seed = seal_machine(data, &header.vault.0, machine).unwrap();
    let seen = Op::Seen { ledger: 41, wall_ms: 1_699_999_999_000, grants: 4 };
    vec![(seen, Vec::new()), (Op::Machine(record), seed)]
}

fn version(version: u64, state: VersionState) -> VersionInfo {
    VersionInfo { version, state, created_ms: 2, not_after_ms: None, public_key: None }
}

fn secret(name: &str, versions: Vec<VersionInfo>) -> SecretInfo {
    SecretInfo {
        name: name.parse().unwrap(),
        kind: Kind::Opaque,
        current: versions.last().unwrap().version,
        versions,
        about: "a test".to_owned(),
        username: String::new(),
        url: String::new(),
        labels: Default::default(),
    }
}

/// A secret with the values of its versions.
fn stored(vault: &[u8; 16], data: &Key, info: SecretInfo) -> Vec<(Op, Vec<u8>)> {
    let mut ops = vec![(Op::Secret { secret: info.clone() }, Vec::new())];
    for version in &info.versions {
        let sealed = seal_value(data, vault, &info, version, &mut CANARY.to_vec()).unwrap();
        ops.push((Op::Value { name: info.name.clone(), version: version.version }, sealed));
    }
    ops
}

pub(super) fn secrets(vault: &[u8; 16], data: &Key) -> Vec<(Op, Vec<u8>)> {
    let two = vec![version(1, VersionState::Deprecated), version(2, VersionState::Active)];
    let mut ops = stored(vault, data, secret("db", two.clone()));
    ops.extend(stored(vault, data, secret("api/token", two)));
    ops.push((Op::Grant { grant: grant(3, "db") }, Vec::new()));
    ops
}

fn agent() -> Aid {
    Aid::new(1_700_000_000_000, [6; 10])
}

pub(super) fn grant(id: u64, name: &str) -> GrantInfo {
    GrantInfo {
        id,
        name: name.parse().unwrap(),
        to: Subject::Agent(agent()),
        modes: vec![Mode::Use],
        hosts: vec!["api.example.org".to_owned()],
        ttl_max_ms: Some(60_000),
        until_ms: None,
        created_ms: 3,
        by: 0,
        reason: "a test".to_owned(),
    }
}

/// What is appended, a frame each: a secret, a rollback, a grant, a lease, a grant that is taken away.
fn changes(vault: &[u8; 16], data: &Key, difference: u8) -> Vec<Vec<(Op, Vec<u8>)>> {
    let lease = LeaseRecord {
        token: Sha256([difference; 32]),
        holder: Principal::Agent(agent()),
        cgroup: Some("/agents/6".to_owned()),
        name: "db".parse().unwrap(),
        mode: Mode::Use,
        grant: 3,
        boot: BOOT.to_owned(),
        until_ns: Some(3_600_000_000_000),
        last_ns: Some(7_200_000_000_000),
    };
    let back = SecretInfo {
        current: 1,
        ..secret("db", vec![version(1, VersionState::Active), version(2, VersionState::Deprecated)])
    };
    let plain = |op: Op| vec![(op, Vec::new())];
    let mut changes = vec![
        stored(vault, data, secret("late", vec![version(1, VersionState::Active)])),
        plain(Op::Secret { secret: back }),
        plain(Op::Grant { grant: grant(5, "api/token") }),
        plain(Op::Lease { lease }),
        plain(Op::Ungrant { id: 5 }),
    ];
    for (ops, ledger) in changes.iter_mut().zip(u64::from(difference) + 42..) {
        let seen = Op::Seen { ledger, wall_ms: 1_700_000_000_000 + ledger, grants: 4 };
        ops.insert(0, (seen, Vec::new()));
    }
    changes
}

#[test]
fn what_was_written_is_what_is_read() {
    let made = Made::new();
    let contents = made.open(&made.bytes).unwrap();
    let (_, epoch, state) = made.states.last().unwrap();
    assert_eq!((contents.opened.epoch, contents.opened.torn, *epoch), (12, 0, 12));
    assert_eq!(contents.state, *state);
    assert_eq!(contents.state.live_leases(NOW).count(), 1);
    assert_eq!((made.header.frames, made.frames.len()), (2, 7));
    let raw = raw(&made.bytes).unwrap();
    assert_eq!(raw.header, made.header);
    for slot in &raw.header.slots {
        assert_eq!(slot.open(&raw.header, &OWN).unwrap().bytes(), &DATA);
    }
}

/// Nothing of a file that was changed is shown: an error, without a value in it.
#[track_caller]
fn refused(made: &Made, bytes: &[u8], what: &dyn std::fmt::Display) -> FormatError {
    let error = made.open(bytes).map(|contents| contents.opened.epoch).expect_err(&what.to_string());
    let text = format!("{error} {error:?}");
    assert!(!text.contains("canary"), "{what}: {text}");
    assert!(text.len() < 4096, "{what}: {} bytes", text.len());
    error
}

/// With the key of the slot's passphrase at hand, as whoever knows it has: the data key does not come out, or the file does
/// not open with it.
fn refused_by_slot(bytes: &[u8], at: usize) {
    let Ok(raw) = raw(bytes) else { return };
    for slot in &raw.header.slots {
        match slot.open(&raw.header, &OWN) {
            Err(SlotError::Wrong(_)) => {}
            Err(other) => panic!("byte {at}: {other}"),
            Ok(data) => {
                assert_eq!(data.bytes(), &DATA, "byte {at}");
                raw.contents(&data, BOOT, None).map(drop).expect_err("the header's MAC covers every byte");
            }
        }
    }
}

fn every_byte_flipped(mask: u8) {
    let made = Made::new();
    let mut bytes = made.bytes.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= mask;
        refused(&made, &bytes, &format_args!("byte {at} ^ {mask:#x}"));
        if at < made.frames[0].start {
            refused_by_slot(&bytes, at);
        }
        bytes[at] ^= mask;
    }
    assert_eq!(bytes, made.bytes);
}

#[test]
fn the_lowest_bit_of_every_byte_is_missed() {
    every_byte_flipped(0x01);
}

#[test]
fn the_highest_bit_of_every_byte_is_missed() {
    every_byte_flipped(0x80);
}

#[test]
fn the_case_of_every_letter_is_missed() {
    every_byte_flipped(0x20);
}

#[test]
fn every_byte_is_missed_as_a_whole() {
    every_byte_flipped(0xff);
}

/// A file that ends early is an error, or exactly what the vault was at an earlier epoch, with the number of bytes that no
/// whole frame has; which the ledger's epoch shows then.
#[test]
fn every_length_is_an_error_or_an_earlier_state() {
    let made = Made::new();
    for len in 0..made.bytes.len() {
        let bytes = &made.bytes[..len];
        let earlier = made.states.iter().rev().find(|state| state.0 <= len);
        let Some((end, epoch, state)) = earlier else {
            refused(&made, bytes, &format_args!("{len} bytes"));
            continue;
        };
        let contents = made.open(bytes).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        assert_eq!(contents.opened.epoch, *epoch, "{len} bytes");
        assert_eq!(contents.opened.torn, len - end, "{len} bytes");
        assert_eq!(contents.opened.end.offset, *end as u64, "{len} bytes");
        assert_eq!(contents.state, *state, "{len} bytes");
    }
}

/// A write that was never finished leaves room without content on some file systems.
#[test]
fn zeros_behind_the_end_are_a_torn_tail_and_nothing_else_is() {
    let made = Made::new();
    for (end, epoch, state) in &made.states {
        for zeros in (1..70).chain([511, 512, 4096]) {
            let mut bytes = made.bytes[..*end].to_vec();
            bytes.resize(end + zeros, 0);
            let contents = made.open(&bytes).unwrap();
            assert_eq!((contents.opened.epoch, contents.opened.torn), (*epoch, zeros));
            assert_eq!(contents.state, *state);
            if zeros >= 16 {
                *bytes.last_mut().unwrap() = 1;
                refused(&made, &bytes, &format_args!("{zeros} zeros behind epoch {epoch}, and a 1"));
            }
        }
    }
    // Behind part of the frames that the file began with, zeros are what was there before.
    for end in [made.frames[0].start, made.frames[1].start] {
        let mut bytes = made.bytes[..end].to_vec();
        bytes.resize(end + 64, 0);
        let error = refused(&made, &bytes, &format_args!("zeros from {end} on"));
        assert!(matches!(error, FormatError::Cut { want: 2, .. }), "{error}");
    }
}
