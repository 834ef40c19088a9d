//! tests/corpus/vault: what fuzzing starts from and what it found, and what tests/python/vault_file.py is tried with.

use super::form::{DATA, Made, VAULT, begin, content, grant, key, secrets};
use super::world::PASSPHRASE;
use crate::file::{self, Contents, NewWay, Secret, Way};
use crate::format::MAGIC;
use crate::fuzz_vault;
use crate::state::Op;
use octant_api::vault::{GrantInfo, Kind, SecretInfo, VersionInfo, VersionState};
use octant_crypto::sign::SigningKey;
use proptest::prelude::{any, proptest};
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const KEY_FILE: &[u8] = &[5; 48];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/vault")
}

/// A secret of each kind, one of them with versions of every state.
pub(super) fn contents() -> Contents {
    let version = |version, state| VersionInfo {
        version,
        state,
        created_ms: 1_700_000_000_000 + version,
        not_after_ms: (version == 3).then_some(4_000_000_000_000),
        public_key: None,
    };
    let secret = |name: &str, kind, versions: Vec<VersionInfo>, values: &[&[u8]]| {
        let there = versions.iter().filter(|version| version.state != VersionState::Destroyed);
        let values: BTreeMap<u64, Vec<u8>> =
            there.map(|version| version.version).zip(values.iter().map(|value| value.to_vec())).collect();
        let active = versions.iter().find(|version| version.state == VersionState::Active);
        let info = SecretInfo {
            name: name.parse().unwrap(),
            kind,
            current: active.unwrap().version,
            versions,
            about: String::new(),
            username: String::new(),
            url: String::new(),
            labels: BTreeMap::new(),
        };
        Secret { info, values }
    };
    let one = || vec![version(1, VersionState::Active)];
    let seed = [0x1d; 32];
    let public = octant_ids::Sha256(SigningKey::from_seed(&seed).unwrap().public()).to_string();
    let mut secrets = vec![
        secret("a/binary", Kind::Opaque, one(), &[&[0, 255, 10, 13]]),
        secret("a/long", Kind::Opaque, one(), &[&[7; 5000]]),
        secret("a/pair", Kind::KeyPair, one(), &[&seed]),
        secret(
            "db/password",
            Kind::Password,
            vec![
                version(1, VersionState::Destroyed),
                version(2, VersionState::Active),
                version(3, VersionState::Deprecated),
            ],
            &[b"second", "dritte \u{fc}".as_bytes()],
        ),
        secret("oauth", Kind::OauthRefresh, one(), &[b"refresh"]),
    ];
    secrets[2].info.versions[0].public_key = Some(public);
    secrets[3].info.username = "m\u{fc}ller \"x\"".to_owned();
    secrets[4].info.url = "https://auth.example.org/token".to_owned();
    secrets[4].info.labels = [("team".to_owned(), "billing".to_owned())].into();
    secrets[4].info.about = "\u{2028}what it is for".to_owned();
    Contents {
        secrets,
        grants: vec![grant(3, "oauth"), GrantInfo { ttl_max_ms: None, ..grant(7, "db/password") }],
    }
}

/// What somebody with the data key writes: a header's text and frames' contents.
fn sealed(header: &serde_json::Value, contents: &[Vec<u8>]) -> Vec<u8> {
    let text = serde_json::to_vec(header).unwrap();
    let parts = std::iter::once(&text).chain(contents);
    parts.flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()).collect()
}

/// The header of a file of one first frame, as JSON.
fn header(made: &Made) -> serde_json::Value {
    let mut header = serde_json::to_value(&made.header).unwrap();
    header["frames"] = 1.into();
    header
}

fn files_that_are_vaults() -> Vec<(&'static str, Vec<u8>)> {
    let made = Made::new();
    let machine = SigningKey::from_seed(&[3; 32]).unwrap();
    let first = || begin(&made.header, &key(DATA), &machine);
    let of = |ops: Vec<(Op, Vec<u8>)>| content(ops).remove(0);
    let with = |ops: Vec<(Op, Vec<u8>)>| of(first().into_iter().chain(ops).collect());
    let plain = |op: Op| (op, Vec::new());
    let mut numbers = header(&made);
    numbers["epoch"] = (1_u64 << 62).into();
    let largest = vec![
        plain(Op::Grant { grant: GrantInfo { until_ms: Some(u64::MAX), ..grant(u64::MAX, "db") } }),
        plain(Op::Seen { ledger: u64::MAX, wall_ms: u64::MAX, grants: u64::MAX }),
    ];
    let mut other = grant(3, "api/token");
    other.hosts.clear();
    let shared = vec![
        plain(Op::Grant { grant: grant(3, "db") }),
        plain(Op::Grant { grant: other }),
        plain(Op::Grant { grant: grant(4, "db") }),
    ];
    let nothing_there = vec![
        plain(Op::Ungrant { id: 9 }),
        plain(Op::Remove { name: "nothing".parse().unwrap() }),
        plain(Op::Release { token: octant_ids::Sha256([1; 32]) }),
        plain(Op::Extend { token: octant_ids::Sha256([1; 32]), until_ns: None }),
        plain(Op::Retire { holder: octant_ids::Principal::Init }),
    ];
    vec![
        ("ok-changed", made.bytes.clone()),
        ("ok-first-frames", made.bytes[..made.frames[2].start].to_vec()),
        ("ok-torn", made.bytes[..made.bytes.len() - 5].to_vec()),
        ("ok-zeros-behind", [&made.bytes[..], &[0; 64]].concat()),
        ("ok-sealed", sealed(&header(&made), &[with(secrets(&VAULT, &key(DATA))), of(shared.clone())])),
        ("ok-sealed-largest-numbers", sealed(&numbers, &[with(largest)])),
        ("ok-sealed-shared-numbers", sealed(&header(&made), &[with(shared)])),
        ("ok-sealed-nothing-there", sealed(&header(&made), &[with(nothing_there)])),
        ("ok-sealed-empty-frame", sealed(&header(&made), &[with(Vec::new()), Vec::new()])),
    ]
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

fn files_that_are_none() -> Vec<(&'static str, Vec<u8>)> {
    let made = Made::new();
    let machine = SigningKey::from_seed(&[3; 32]).unwrap();
    let first = || begin(&made.header, &key(DATA), &machine);
    let of = |ops: Vec<(Op, Vec<u8>)>| content(ops).remove(0);
    let (bytes, frames) = (&made.bytes, &made.frames);
    let mut swapped = frames.clone();
    swapped.swap(3, 4);
    let twice = [frames[..4].to_vec(), frames[3..].to_vec()].concat();
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = header(&made);
        change(&mut header);
        sealed(&header, &[of(first())])
    };
    let text = |text: &[u8]| {
        let parts = [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text, &[0; 4]].concat();
        sealed(&header(&made), &[of(first()), parts])
    };
    let cost = |memory_kib: u32, passes: u32| {
        change(&|header| {
            let cost = serde_json::json!({ "memory_kib": memory_kib, "passes": passes, "lanes": 1 });
            header["slots"][0]["lock"]["cost"] = cost;
        })
    };
    vec![
        ("empty", Vec::new()),
        ("magic", MAGIC.to_vec()),
        ("form-2", [b"OCTVLT2\n", &bytes[8..]].concat()),
        ("form-of-a-control-character", [b"OCTVLT\x7f\n", &bytes[8..]].concat()),
        ("cut-in-the-header", bytes[..200].to_vec()),
        ("cut-in-the-first-frames", bytes[..frames[1].start + 9].to_vec()),
        ("long-header", [&bytes[..8], &[0xff; 4], &bytes[12..]].concat()),
        ("flipped-identifier", flipped(bytes, made.text.start + 12)),
        ("flipped-mac", flipped(bytes, made.text.end)),
        ("flipped-length", flipped(bytes, frames[2].start + 3)),
        ("flipped-salt", flipped(bytes, frames[2].start + 20)),
        ("flipped-frame", flipped(bytes, frames[3].start + 60)),
        ("flipped-last-byte", flipped(bytes, bytes.len() - 1)),
        ("swapped-frames", made.with_frames(&swapped)),
        ("frame-twice", made.with_frames(&twice)),
        ("another-data-key", Made::of(VAULT, 1, key([1; 32]), 0).bytes),
        ("garbage-behind", [&bytes[..], &[0x51; 70]].concat()),
        ("sealed-no-header", vec![0; 4]),
        ("sealed-no-frame", sealed(&header(&made), &[])),
        ("sealed-no-machine", sealed(&header(&made), &[of(vec![first().remove(0)])])),
        ("sealed-other-machine", change(&|header| header["machine"] = "00".repeat(32).into())),
        ("sealed-epoch-used-up", change(&|header| header["epoch"] = u64::MAX.into())),
        ("sealed-no-slot", change(&|header| header["slots"] = serde_json::json!([]))),
        ("sealed-unknown-member", change(&|header| header["\u{1b}[31m"] = "x".repeat(5000).into())),
        ("sealed-long-unknown-member", change(&|header| header["x".repeat(5000)] = 1.into())),
        ("sealed-cheap-passphrase", cost(8, 1)),
        ("sealed-dear-passphrase", cost(2 * 1024 * 1024, 64)),
        ("sealed-value-of-nothing", {
            let value = Op::Value { name: "nothing".parse().unwrap(), version: 1 };
            sealed(&header(&made), &[of(vec![(value, vec![0; 64])])])
        }),
        ("sealed-unknown-change", text(b"{\"op\":\"nothing\"}")),
        ("sealed-change-with-more", text(b"{\"op\":\"ungrant\",\"id\":1,\"more\":1}")),
        ("sealed-deep-change", text("[".repeat(3000).as_bytes())),
        ("sealed-negative-number", text(b"{\"op\":\"ungrant\",\"id\":-1}")),
        ("sealed-cut-change", sealed(&header(&made), &[of(first()), vec![0, 0, 0, 9, 1]])),
    ]
}

/// Seals have random salts, so what is there is kept: only `UPDATE=1` writes it anew.
#[test]
fn the_corpus_is_written_when_somebody_asks() {
    let files = [files_that_are_vaults(), files_that_are_none()].concat();
    for (name, bytes) in &files {
        assert_eq!(fuzz_vault(bytes), name.starts_with("ok-"), "{name}");
    }
    let ways = [NewWay::Passphrase(PASSPHRASE), NewWay::StaticFile(KEY_FILE), NewWay::Shares(2, 3)];
    let made = file::make_under(&key(DATA), &contents(), &ways).unwrap();
    if std::env::var_os("UPDATE").is_none() {
        return;
    }
    fs::create_dir_all(folder()).unwrap();
    for (name, bytes) in files {
        fs::write(folder().join(name), bytes).unwrap();
    }
    fs::write(folder().join("ok-three-ways"), &made.bytes).unwrap();
    fs::write(folder().join("three-ways.passphrase"), PASSPHRASE).unwrap();
    fs::write(folder().join("three-ways.key"), KEY_FILE).unwrap();
    fs::write(folder().join("three-ways.shares"), made.shares.join("\n") + "\n").unwrap();
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut seeds: Vec<_> = files.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    seeds.sort();
    assert!(seeds.len() >= 45, "the corpus is not where it was");
    seeds
}

/// Seeds named `ok-*` are vaults; all others are refused.
#[test]
fn the_corpus_is_survived_and_told_apart() {
    for (name, bytes) in seeds() {
        assert_eq!(fuzz_vault(&bytes), name.starts_with("ok-"), "{name}");
    }
}

#[test]
fn the_corpus_opens_in_three_ways() {
    let read = |name: &str| fs::read(folder().join(name)).unwrap();
    let bytes = read("ok-three-ways");
    let shares: Vec<String> =
        String::from_utf8(read("three-ways.shares")).unwrap().lines().map(str::to_owned).collect();
    for (slot, way) in [
        (0, Way::Passphrase(&read("three-ways.passphrase"))),
        (1, Way::StaticFile(&read("three-ways.key"))),
        (2, Way::Shares(&shares[1..])),
        (2, Way::Shares(&shares)),
    ] {
        let opened = file::open(&bytes, way).unwrap();
        assert_eq!((opened.slot, opened.epoch, opened.torn), (slot, 8, 0));
        assert!(opened.contents == contents(), "slot {slot}");
    }
    assert!(file::open(&bytes, Way::Passphrase(b"wrong horse battery")).is_err());
    assert!(file::open(&bytes, Way::StaticFile(&[6; 48])).is_err());
    assert!(file::open(&bytes, Way::Shares(&shares[..1])).is_err());
}

proptest! {
    #[test]
    fn a_seed_that_was_altered_a_little_is_survived(
        seed in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let seeds = seeds();
        let (_, mut bytes) = seeds[seed.index(seeds.len())].clone();
        if bytes.is_empty() {
            return Ok(());
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _is_vault = fuzz_vault(&bytes);
    }
}
