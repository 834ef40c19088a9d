//! `unseal`.

use super::*;
use std::fs;

fn unsealed() -> Value {
    json!({"status": status(json!({"warnings": ["a\u{1b}b"]})), "slot": 2})
}

fn sealed(shares: u32) -> Value {
    let why = format!("{} more shares are needed", 3 - shares);
    json!({"status": status(json!({"state": "sealed", "why": why, "shares": shares, "slots": [slot(3, "shares")]}))})
}

#[test]
fn each_way_brings_what_it_needs_and_nothing_else() {
    let dir = Dir::new();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("etc/vault")).unwrap();
    fs::write(at("etc/vault/key"), [7; 64]).unwrap();
    fs::write(at("other"), b"binary\0\nkey").unwrap();
    fs::write(at("passphrase"), "correct horse\n").unwrap();
    fs::write(at("share"), "octant-share-1-aaaaa\n").unwrap();
    // Options, standard input, what the request says, what comes in a pipe.
    type Row<'a> = (&'a [&'a str], &'a [u8], &'a str, Option<&'a [u8]>);
    let rows: [Row<'_>; 8] = [
        (&["--passphrase"], b"correct horse\n", "passphrase", Some(b"correct horse")),
        (&["--passphrase-file", &at("passphrase")], b"", "passphrase", Some(b"correct horse")),
        (&["--passphrase-file", "-"], b"correct horse", "passphrase", Some(b"correct horse")),
        (&["--key-file"], b"", "static_file", Some(&[7; 64])),
        (&["--key-file", &at("other")], b"", "static_file", Some(b"binary\0\nkey")),
        (&["--share"], b"octant-share-1-aaaaa\n", "share", Some(b"octant-share-1-aaaaa")),
        (&["--share", &at("share")], b"", "share", Some(b"octant-share-1-aaaaa")),
        (&["--machine"], b"", "machine", None),
    ];
    let vault = play(&dir, rows.len(), |_| reply(unsealed()));
    for (args, input, ..) in rows {
        let (exit, stdout, stderr) = octant_given(&dir.0, &[&["vault", "unseal"][..], args].concat(), input);
        assert_eq!(exit, Exit::Ok, "{args:?}: {stderr}");
        assert_eq!(stdout, "the vault is unsealed, by slot 2\n");
        assert_eq!(stderr, "octant: WARNING: a?b\n");
    }
    for (asked, (_, _, with, pipe)) in vault.join().unwrap().iter().zip(rows) {
        assert_eq!((asked.method.as_str(), &asked.params), ("vault.unseal", &json!({"with": with})));
        assert_eq!(asked.pipes, Vec::from_iter(pipe));
    }
}

#[test]
fn reasons_go_with_the_request_and_the_document_is_the_answer() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |_| reply(unsealed()));
    let args = [
        "vault",
        "unseal",
        "--machine",
        "--accept-machine",
        "board replaced",
        "--accept-rollback",
        "restored",
        "--json",
    ];
    let (exit, stdout, stderr) = octant(&dir.0, &args);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["slot"], 2);
    assert_eq!(octant(&dir.0, &args).0, Exit::Ok);
    let asked = vault.join().unwrap();
    let expected =
        json!({"with": "machine", "accept_machine": "board replaced", "accept_rollback": "restored"});
    assert_eq!(asked[0].params, expected);
}

#[test]
fn shares_are_given_until_they_are_enough() {
    let dir = Dir::new();
    let files: Vec<String> = (1..=4)
        .map(|n| {
            let path = dir.0.join(format!("share-{n}.txt"));
            fs::write(&path, format!("octant-share-1-aaaa{n}\n")).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let vault = play(&dir, 4, |asked| match asked.pipes[0].last() {
        Some(b'3') => reply(unsealed()),
        Some(last) => reply(sealed(u32::from(*last - b'0'))),
        None => panic!("no share"),
    });
    let (exit, stdout, _) = octant(&dir.0, &["vault", "unseal", "--share", &files[0]]);
    assert_eq!(exit, Exit::Ok, "a share that is not the last one is taken");
    let expected = "the vault is still sealed: 2 more shares are needed (1 given since the last unseal; shares: \
                    about shares)\n";
    assert_eq!(stdout, expected);
    let given: Vec<&str> = files.iter().flat_map(|file| ["--share", file]).collect();
    let (exit, stdout, _) = octant(&dir.0, &[&["vault", "unseal"][..], &given].concat());
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "the vault is unsealed, by slot 2\n"));
    let asked = vault.join().unwrap();
    assert_eq!(asked.len(), 4, "the fourth share is not needed, and not given");
    assert!(asked.iter().all(|asked| asked.params["with"] == "share"));
}

#[test]
fn without_a_terminal_somebody_has_to_say_by_what() {
    let dir = Dir::new();
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "unseal"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""));
    assert!(stderr.contains("say --passphrase or --share"), "{stderr}");
    for args in [&["--passphrase", "--machine"][..], &["--share", "--key-file"], &["--machine", "--share"]] {
        assert_eq!(octant(&dir.0, &[&["vault", "unseal"][..], args].concat()).0, Exit::Usage, "{args:?}");
    }
    let (exit, _, stderr) = octant(&dir.0, &["vault", "unseal", "--share", "octant-share-1-hunter2"]);
    assert_eq!((exit, stderr.contains("hunter")), (Exit::Usage, false), "{stderr}");
}

#[test]
fn a_vault_that_took_it_and_stays_sealed_is_not_believed() {
    let dir = Dir::new();
    let vault = play(&dir, 3, |asked| match asked.params["with"].as_str() {
        Some("machine") => reply(sealed(0)),
        Some("share") => reply(json!({"status": status(json!({"state": "damaged", "why": "torn"}))})),
        _ => reply(json!({"status": status(json!({}))})),
    });
    let (exit, _, stderr) = octant(&dir.0, &["vault", "unseal", "--machine"]);
    assert_eq!((exit, stderr.contains("and is sealed")), (Exit::Unavailable, true), "{stderr}");
    let (exit, _, stderr) = octant_given(&dir.0, &["vault", "unseal", "--share"], b"octant-share-1-aaaaa");
    assert_eq!((exit, stderr.contains("damaged: torn")), (Exit::Unhealthy, true), "{stderr}");
    let (exit, stdout, _) = octant_given(&dir.0, &["vault", "unseal", "--passphrase"], b"correct horse");
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "the vault was unsealed already\n"));
    vault.join().unwrap();
}
