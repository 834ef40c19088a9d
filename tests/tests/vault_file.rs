//! The vault's file against a program that shares no code with it: each opens what the other has made, and finds the same.

use crate::exports::{Said, said};
use octant_api::text::Base64;
use octant_api::vault::{GrantInfo, Kind, Mode, SecretInfo, Subject, VersionInfo, VersionState};
use octant_ids::Sha256;
use octant_tests::agents::guest_files;
use octant_tests::environment::{Scratch, path};
use octant_vault::file::{self, Contents, NewWay, Secret, Way};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const PASSPHRASE: &[u8] = "correct h\u{f6}rse battery".as_bytes();
const KEY_FILE: &[u8] = &[0x5c; 64];

/// Python's answer to these words.
fn python(words: &[&Path]) -> (Option<i32>, Value) {
    let mut command = Command::new(path("OCTANT_PYTHON"));
    // Compiled files would lie in the checkout.
    command.arg("-B").arg(guest_files().join("../python/vault_file.py")).args(words);
    let (code, text): Said = said(&mut command);
    (code, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

#[track_caller]
fn agrees(words: &[&Path]) -> Value {
    let (code, value) = python(words);
    assert_eq!(code, Some(0), "{value}");
    value
}

fn version(number: u64, state: VersionState) -> VersionInfo {
    VersionInfo {
        version: number,
        state,
        created_ms: 1_700_000_000_000,
        not_after_ms: None,
        public_key: None,
    }
}

fn secret(name: &str, kind: Kind, versions: Vec<VersionInfo>, values: &[(u64, &[u8])]) -> Secret {
    let current = versions.iter().find(|version| version.state == VersionState::Active);
    let info = SecretInfo {
        name: name.parse().unwrap_or_else(|e| panic!("{e}")),
        kind,
        current: current.map_or(0, |version| version.version),
        versions,
        about: String::new(),
        username: String::new(),
        url: String::new(),
        labels: BTreeMap::new(),
    };
    Secret { info, values: values.iter().map(|(number, value)| (*number, value.to_vec())).collect() }
}

/// One of everything that stands in a file.
fn contents() -> Contents {
    let one = || vec![version(1, VersionState::Active)];
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut secrets = vec![
        secret("a-seed", Kind::KeyPair, one(), &[(1, &[7; 32])]),
        secret("every/byte", Kind::Opaque, one(), &[(1, &every_byte)]),
        secret("longest", Kind::Opaque, one(), &[(1, &vec![0xee; 65_536])]),
        secret(
            "rotated",
            Kind::Password,
            vec![
                version(1, VersionState::Destroyed),
                version(2, VersionState::Active),
                version(4, VersionState::Deprecated),
            ],
            &[(2, b"second"), (4, b"fourth\n")],
        ),
        secret("token", Kind::OauthRefresh, one(), &[(1, b"refresh")]),
    ];
    secrets[3].info.versions[2].not_after_ms = Some(1_900_000_000_000);
    secrets[3].info.username = "\u{1f511} \"quoted\" \\ \u{7f}".to_owned();
    secrets[4].info.url = "https://auth.example.org/token?a=b&c=%20".to_owned();
    secrets[4].info.about = "\u{2028} what it is for".to_owned();
    secrets[4].info.labels = [("team".to_owned(), String::new())].into();
    let grant = |id: u64, name: &str, to: Subject| GrantInfo {
        id,
        name: name.parse().unwrap_or_else(|e| panic!("{e}")),
        to,
        modes: vec![Mode::Use, Mode::Reveal],
        hosts: Vec::new(),
        ttl_max_ms: Some(60_000),
        until_ms: None,
        created_ms: 1_700_000_000_001,
        by: 1000,
        reason: "because".to_owned(),
    };
    let mut grants = vec![
        grant(3, "rotated", Subject::Manifest(Sha256([0xab; 32]))),
        grant(9, "token", Subject::Service("router".parse().unwrap_or_else(|e| panic!("{e}")))),
    ];
    grants[0].modes = vec![Mode::Use];
    grants[0].hosts = vec!["*.example.org".to_owned()];
    grants[1].ttl_max_ms = None;
    Contents { secrets, grants }
}

fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_else(|e| panic!("{e}"))
}

/// Contents as Python prints and takes them.
fn shown(contents: &Contents) -> Value {
    let secret = |secret: &Secret| {
        let mut shown = json(&secret.info);
        let values =
            secret.values.iter().map(|(number, value)| (number.to_string(), json(&Base64(value.clone()))));
        shown["values"] = Value::Object(values.collect());
        shown
    };
    json!({ "secrets": contents.secrets.iter().map(secret).collect::<Vec<_>>(), "grants": json(&contents.grants) })
}

/// Files with what opens a vault.
struct Keys {
    scratch: Scratch,
}

impl Keys {
    fn new() -> Self {
        let scratch = Scratch::new("vault-file");
        for (name, bytes) in [("passphrase", PASSPHRASE), ("key", KEY_FILE)] {
            fs::write(scratch.path(name), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        Self { scratch }
    }

    fn shares(&self, shares: &[String]) {
        fs::write(self.scratch.path("shares"), shares.join("\n")).unwrap_or_else(|e| panic!("{e}"));
    }

    /// What Python finds in a file, by each of the three ways.
    fn opened(&self, file: &Path) -> Vec<(Option<i32>, Value)> {
        let ways = [("--passphrase", "passphrase"), ("--key-file", "key"), ("--share-file", "shares")];
        let open = |(option, name): (&str, &str)| {
            python(&["open".as_ref(), file, option.as_ref(), &self.scratch.path(name)])
        };
        ways.into_iter().map(open).collect()
    }
}

#[test]
fn what_octant_has_made_is_read_elsewhere_value_by_value() {
    let (keys, contents) = (Keys::new(), contents());
    let ways = [NewWay::Passphrase(PASSPHRASE), NewWay::StaticFile(KEY_FILE), NewWay::Shares(3, 5)];
    let made = file::make(&contents, &ways).unwrap_or_else(|e| panic!("{e}"));
    keys.shares(&[&made.shares[4..], &made.shares[..2]].concat());
    let file = keys.scratch.path("vault");
    fs::write(&file, &made.bytes).unwrap_or_else(|e| panic!("{e}"));
    let wanted = shown(&contents);
    for (slot, (code, found)) in keys.opened(&file).into_iter().enumerate() {
        assert_eq!(code, Some(0), "{found}");
        assert_eq!((&found["vault"], &found["slot"]), (&json(&made.vault), &json(&slot)));
        assert_eq!(found["machine"]["public"], json(&Sha256(made.machine)));
        assert_eq!(
            (&found["epoch"], &found["torn"], &found["next_grant"]),
            (&json(&8), &json(&0), &json(&10))
        );
        assert_eq!(found["secrets"], wanted["secrets"]);
        assert_eq!(found["grants"], wanted["grants"]);
    }
    // Both miss a byte that was changed, wherever it is.
    for at in (0..made.bytes.len()).step_by(made.bytes.len() / 23) {
        let mut bytes = made.bytes.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap_or_else(|e| panic!("{e}"));
        let (code, found) =
            python(&["open".as_ref(), &file, "--key-file".as_ref(), &keys.scratch.path("key")]);
        assert_eq!((code, &found["ok"]), (Some(1), &json(&false)), "byte {at}");
        file::open(&bytes, Way::StaticFile(KEY_FILE)).map(drop).expect_err("it was changed");
    }
}

#[test]
fn what_was_made_elsewhere_is_read_by_octant_value_by_value() {
    let (keys, contents) = (Keys::new(), contents());
    let (given, file) = (keys.scratch.path("contents"), keys.scratch.path("vault"));
    fs::write(&given, shown(&contents).to_string()).unwrap_or_else(|e| panic!("{e}"));
    let made = agrees(&[
        "make".as_ref(),
        &file,
        &given,
        "--passphrase".as_ref(),
        &keys.scratch.path("passphrase"),
        "--key-file".as_ref(),
        &keys.scratch.path("key"),
        "--shares".as_ref(),
        "2/4".as_ref(),
    ]);
    let shares: Vec<String> =
        serde_json::from_value(made["shares"].clone()).unwrap_or_else(|e| panic!("{made}: {e}"));
    assert_eq!(shares.len(), 4);
    let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{e}"));
    for (slot, way) in [
        (0, Way::Passphrase(PASSPHRASE)),
        (1, Way::StaticFile(KEY_FILE)),
        (2, Way::Shares(&shares[1..3])),
        (2, Way::Shares(&shares)),
    ] {
        let opened = file::open(&bytes, way).unwrap_or_else(|e| panic!("slot {slot}: {e}"));
        assert_eq!((json(&opened.vault), opened.slot, opened.torn), (made["vault"].clone(), slot, 0));
        assert!(opened.contents == contents, "slot {slot}: {:#?}", opened.contents.secrets);
    }
    // Python reads its own as well, and what both have read is the same.
    keys.shares(&shares[2..]);
    let wanted = shown(&contents);
    for (code, found) in keys.opened(&file) {
        assert_eq!(code, Some(0), "{found}");
        assert_eq!((&found["secrets"], &found["grants"]), (&wanted["secrets"], &wanted["grants"]));
    }
}
