//! `init`, `slots`, `rekey`.

use super::*;
use nix::unistd::geteuid;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const SHARES: &str = "octant-share-1-aaaaa\noctant-share-1-bbbbb\noctant-share-1-ccccc\n";

fn initialised(kind: &str) -> Value {
    json!({"vault": "ab".repeat(16), "fingerprint": Sha256::ZERO.to_string(), "slot": slot(1, kind)})
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_passphrase_comes_as_one_line_of_standard_input_or_of_a_file() {
    let dir = Dir::new();
    let file = dir.0.join("passphrase");
    fs::write(&file, "correct horse\r\n").unwrap();
    let file = file.to_str().unwrap();
    let vault = play(&dir, 4, |_| reply(initialised("passphrase")));
    let (exit, stdout, stderr) = octant_given(
        &dir.0,
        &["vault", "init", "--passphrase", "--label", "office", "--cost", "128MiB/4"],
        b"correct horse\nnot read\n",
    );
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let id = "ab".repeat(16);
    assert!(
        stdout.starts_with(&format!("vault {id} is made and unsealed\nthis machine is 0000")),
        "{stdout}"
    );
    assert!(
        stdout.contains("slot 1: passphrase: about passphrase\nnext: `octant vault slots add`"),
        "{stdout}"
    );
    for args in [
        &["--passphrase-file", file][..],
        &["--passphrase", "--passphrase-file", file],
        &["--passphrase-file", "-"],
    ] {
        let args = [&["vault", "init", "--replace", "disk lost", "--json"][..], args].concat();
        let (exit, stdout, stderr) = octant_given(&dir.0, &args, b"correct horse");
        assert_eq!(exit, Exit::Ok, "{stderr}");
        assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["vault"], id);
    }
    let asked = vault.join().unwrap();
    assert_eq!(asked[0].method, "vault.init");
    let cost = json!({"memory_kib": 131_072, "passes": 4, "lanes": 1});
    let slot = json!({"kind": "passphrase", "label": "office", "cost": cost, "threshold": 0, "count": 0, "pcrs": []});
    assert_eq!(asked[0].params, json!({"slot": slot}));
    assert_eq!(asked[1].params["replace"], "disk lost");
    assert!(asked.iter().all(|asked| asked.pipes == [b"correct horse"]));
}

#[test]
fn what_is_no_passphrase_is_refused_and_not_shown() {
    let dir = Dir::new();
    let file = dir.0.join("passphrase");
    fs::write(&file, "hunter2\nhunter3\n").unwrap();
    let path = file.to_str().unwrap();
    for (args, input, exit, why) in [
        (&["--passphrase-file", path][..], &b""[..], Exit::Invalid, "has more than one line"),
        (&["--passphrase"], b"", Exit::Invalid, "nothing came from standard input"),
        (&["--passphrase"], b"\nhunter2", Exit::Invalid, "nothing came from standard input"),
        (&["--passphrase"], b"hunter2\n", Exit::Invalid, "has 7 bytes, and a passphrase has 8 to 1024"),
        (&["--passphrase"], &[b'h'; 1025], Exit::Invalid, "has 1025 bytes"),
        (&["--passphrase"], &[b'h'; 65_536], Exit::Invalid, "longer than"),
        (
            &["--passphrase-file", "/nonexistent"],
            b"",
            Exit::NotFound,
            "cannot read the passphrase from /nonexistent",
        ),
        (&["--passphrase", "--tpm"], b"", Exit::Usage, "cannot be used with"),
        (&[], b"", Exit::Usage, "--passphrase"),
        (&["--shares", "3/2"], b"", Exit::Usage, "2/3"),
        (&["--shares", "2/3", "--pcrs", "7"], b"", Exit::Usage, "cannot be used with"),
        (&["--tpm", "--shares-into", "x"], b"", Exit::Usage, "cannot be used with"),
        (&["--key-file", "x", "--label", "y", "--print-shares"], b"", Exit::Usage, "cannot be used with"),
        (&["--tpm", "--pcrs", "24"], b"", Exit::Usage, "24"),
        (&["--tpm", "--cost", "64MiB/3"], b"", Exit::Usage, "cannot be used with"),
    ] {
        // Where a pipe holds no more than the limit, one byte more comes from a file.
        let (found, stdout, stderr) = if input.len() > 4096 {
            fs::write(&file, [input, b"h"].concat()).unwrap();
            let input = File::open(&file).unwrap();
            octant_on(Links::default(), &dir.0, &[&["vault", "init"][..], args].concat(), &input, None)
        } else {
            octant_given(&dir.0, &[&["vault", "init"][..], args].concat(), input)
        };
        assert_eq!((found, stdout.as_str()), (exit, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(why) && !stderr.contains("hunter"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_key_file_is_made_for_the_vaults_user_alone_and_then_used() {
    let dir = Dir::new();
    let vault = play(&dir, 4, |asked| match asked.method.as_str() {
        "vault.init" => reply(initialised("static_file")),
        _ => reply(json!({"slot": slot(2, "static_file"), "epoch": 8})),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "init", "--key-file"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let path = dir.0.join("etc/vault/key");
    assert!(stdout.contains(&format!("{} is made\n", path.display())), "{stdout}");
    assert!(stdout.contains("STATIC") && stderr.contains("WARNING: STATIC slot"), "{stdout}{stderr}");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o400, 0o755));
    let owner = if geteuid().is_root() { 961 } else { geteuid().as_raw() };
    assert_eq!(fs::metadata(&path).unwrap().uid(), owner);
    let key = fs::read(&path).unwrap();
    assert!(key.len() == 64 && key != [0; 64]);

    let (exit, stdout, _) = octant(&dir.0, &["vault", "slots", "add", "--key-file", "--json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((exit, &document["epoch"], document.get("key_files_made")), (Exit::Ok, &json!(8), None));
    let other = dir.0.join("other.key");
    let args = ["vault", "slots", "add", "--json", "--key-file", other.to_str().unwrap()];
    let (exit, stdout, stderr) = octant(&dir.0, &args);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["key_files_made"][0], other.to_str().unwrap());
    assert_eq!(octant(&dir.0, &args).0, Exit::Ok);

    fs::write(&other, [7; 31]).unwrap_or_else(|_| {
        fs::remove_file(&other).unwrap();
        fs::write(&other, [7; 31]).unwrap();
    });
    let (exit, _, stderr) = octant(&dir.0, &args);
    assert_eq!((exit, stderr.contains("31 bytes")), (Exit::Invalid, true), "{stderr}");
    let asked = vault.join().unwrap();
    assert_eq!((&asked[0].pipes, &asked[1].pipes), (&vec![key.clone()], &vec![key]));
    assert_eq!(asked[2].pipes, asked[3].pipes);
    assert_eq!(asked[0].params["slot"]["kind"], "static_file");
}

#[test]
fn a_key_file_that_was_made_for_nothing_is_kept_and_named() {
    let dir = Dir::new();
    let vault = play(&dir, 1, |_| refusal(-32008, "there is a vault already"));
    let (exit, _, stderr) = octant(&dir.0, &["vault", "init", "--key-file"]);
    assert_eq!(exit, Exit::Failed);
    assert!(stderr.contains("the new key file") && stderr.contains("is kept"), "{stderr}");
    assert!(dir.0.join("etc/vault/key").exists());
    vault.join().unwrap();
}

#[test]
fn a_tpm_slot_takes_nothing_along_but_what_it_is_bound_to() {
    let dir = Dir::new();
    let pem = dir.0.join("release.pem");
    fs::write(&pem, "-----BEGIN PUBLIC KEY-----\n").unwrap();
    let vault = play(&dir, 2, |_| reply(initialised("tpm")));
    let args = ["vault", "init", "--tpm", "--pcrs", "7,11", "--release-key", pem.to_str().unwrap()];
    assert_eq!(octant(&dir.0, &args).0, Exit::Ok);
    assert_eq!(octant(&dir.0, &["vault", "init", "--tpm"]).0, Exit::Ok);
    let asked = vault.join().unwrap();
    let slot = &asked[0].params["slot"];
    assert_eq!(
        (&slot["pcrs"], &slot["release_key"]),
        (&json!([7, 11]), &json!("-----BEGIN PUBLIC KEY-----\n"))
    );
    assert_eq!((asked[0].pipes.len(), &asked[1].params["slot"]["pcrs"]), (0, &json!([])));
}

#[test]
fn shares_are_printed_once_on_a_terminal() {
    let dir = Dir::new();
    let vault = play(&dir, 1, |asked| {
        let slot = &asked.params["slot"];
        assert_eq!((&slot["threshold"], &slot["count"]), (&json!(2), &json!(3)));
        reply_with(initialised("shares"), &[SHARES])
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "init", "--shares", "2/3"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("octant-share-1-")).count(), 3, "{stdout}");
    assert!(stderr.contains("keep them apart") && !stderr.contains("octant-share"), "{stderr}");
    vault.join().unwrap();
}

/// A vault whose shares nobody saw would be lost: the refusal comes before the request, which nobody answers here.
#[test]
fn shares_do_not_go_where_they_are_not_meant_to() {
    let dir = Dir::new();
    let init = ["vault", "init", "--shares", "2/3"];
    let (exit, stdout, stderr) = octant_given(&dir.0, &init, b"");
    assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""));
    assert!(stderr.contains("--shares-into DIR"), "{stderr}");
    for more in [&["--json"][..], &["--json", "--print-shares"]] {
        let (exit, stdout, stderr) = octant(&dir.0, &[&init[..], more].concat());
        assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""));
        assert!(stderr.contains("--shares-into DIR"), "{stderr}");
    }
    fs::write(dir.0.join("share-2.txt"), "an older one").unwrap();
    let into = [&init[..], &["--shares-into", dir.0.to_str().unwrap()]].concat();
    let (exit, _, stderr) = octant(&dir.0, &into);
    assert_eq!((exit, stderr.contains("share-2.txt is there already")), (Exit::Failed, true), "{stderr}");
    assert!(!dir.0.join("share-1.txt").exists(), "what was made for it is gone");
    assert_eq!(fs::read(dir.0.join("share-2.txt")).unwrap(), b"an older one");

    let vault = play(&dir, 1, |_| reply_with(initialised("shares"), &[SHARES]));
    let (exit, stdout, _) = octant_given(&dir.0, &[&init[..], &["--print-shares"]].concat(), b"");
    assert_eq!((exit, stdout.matches("octant-share-1-").count()), (Exit::Ok, 3));
    vault.join().unwrap();
}

#[test]
fn shares_go_into_a_file_each_that_their_owner_alone_can_read() {
    let dir = Dir::new();
    let into = dir.0.join("new/shares");
    let vault = play(&dir, 1, |_| reply_with(json!({"slot": slot(2, "shares"), "epoch": 8}), &[SHARES]));
    let args =
        ["vault", "slots", "add", "--shares", "2/3", "--shares-into", into.to_str().unwrap(), "--json"];
    let (exit, stdout, stderr) = octant_given(&dir.0, &args, b"");
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(!stdout.contains("octant-share") && !stderr.contains("octant-share"), "{stdout}{stderr}");
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["share_files"].as_array().unwrap().len(), 3);
    for (i, share) in SHARES.lines().enumerate() {
        let path = into.join(format!("share-{}.txt", i + 1));
        assert_eq!((fs::read_to_string(&path).unwrap(), mode(&path)), (format!("{share}\n"), 0o400));
    }
    assert_eq!(mode(&into), 0o700);
    vault.join().unwrap();
}

#[test]
fn shares_that_do_not_arrive_are_said_to_be_lost() {
    for pipes in [&[][..], &["octant-share-1-a\noctant-share-1-b\n"], &["a\nb\n\x1b[2J\n"]] {
        let dir = Dir::new();
        let vault = play(&dir, 1, move |_| reply_with(initialised("shares"), pipes));
        let (exit, stdout, stderr) = octant(&dir.0, &["vault", "init", "--shares", "2/3"]);
        assert_eq!(exit, Exit::Failed, "{stderr}");
        assert!(!stdout.contains('\x1b') && stderr.contains("nobody has them"), "{stderr}");
        assert!(stderr.contains("`octant vault slots add` adds another way"), "{stderr}");
        vault.join().unwrap();
    }
    let dir = Dir::new();
    let vault = play(&dir, 1, |_| refusal(-32008, "there is a vault already"));
    let into = dir.0.join("shares");
    let (exit, _, _) =
        octant(&dir.0, &["vault", "init", "--shares", "2/3", "--shares-into", into.to_str().unwrap()]);
    assert_eq!((exit, fs::read_dir(&into).unwrap().count()), (Exit::Failed, 0));
    vault.join().unwrap();
}

#[test]
fn slots_are_listed_and_taken_away_by_their_number() {
    let dir = Dir::new();
    let vault = play(&dir, 3, |asked| match asked.method.as_str() {
        "vault.status" => reply(status(json!({"slots": [slot(1, "tpm"), slot(4, "static_file")]}))),
        _ => reply(json!({"epoch": 9})),
    });
    let (exit, stdout, _) = octant(&dir.0, &["vault", "slots"]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.contains("4     2026-03-14  STATIC static_file"), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["vault", "slots", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["slots"][0]["kind"], "tpm");
    let (exit, _, stderr) = octant(&dir.0, &["vault", "slots", "rm", "4"]);
    assert_eq!((exit, stderr.contains("say --yes")), (Exit::Usage, true), "{stderr}");
    assert_eq!(octant(&dir.0, &["vault", "slots", "rm", "4", "--yes"]).1, "slot 4 is gone\n");
    assert_eq!(vault.join().unwrap()[2].params, json!({"slot": 4}));
}

#[test]
fn a_new_key_takes_every_slot_that_remains_in_the_order_of_what_comes_with_them() {
    let dir = Dir::new();
    let (key, file) = (dir.0.join("key"), dir.0.join("passphrase"));
    fs::write(&key, [7; 64]).unwrap();
    fs::write(&file, "third horse\n").unwrap();
    let vault = play(&dir, 2, |asked| {
        if asked.method == "vault.status" {
            let mut board = slot(1, "tpm");
            board["label"] = json!("this board");
            return reply(status(json!({"slots": [board, slot(2, "passphrase")]})));
        }
        let kinds = ["passphrase", "passphrase", "passphrase", "static_file", "tpm", "shares", "shares"];
        let slots: Vec<Value> = (5..).zip(kinds).map(|(number, kind)| slot(number, kind)).collect();
        reply_with(
            json!({"epoch": 9, "slots": slots}),
            &[SHARES, "octant-share-1-ddddd\noctant-share-1-eeeee\n"],
        )
    });
    let args = [
        "vault",
        "rekey",
        "--shares",
        "2/3",
        "--passphrase",
        "--passphrase",
        "--tpm",
        "--pcrs",
        "7",
        "--yes",
        "--shares",
        "2/2",
        "--key-file",
        key.to_str().unwrap(),
        "--passphrase-file",
        file.to_str().unwrap(),
        "--shares-into",
        dir.0.to_str().unwrap(),
    ];
    let (exit, stdout, stderr) = octant_given(&dir.0, &args, b"first horse\nsecond horse\n");
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(
        stdout
            .starts_with("everything is sealed anew, with 7 slots:\nslot 5: passphrase: about passphrase\n"),
        "{stdout}"
    );
    for text in
        ["slot 8: STATIC static_file", "slot 11: shares", "shares of slot 10:\n", "shares of slot 11:\n"]
    {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    let asked = vault.join().unwrap();
    let texts: Vec<_> = asked[1].pipes.iter().map(|pipe| String::from_utf8_lossy(pipe)).collect();
    assert_eq!(texts, ["first horse", "second horse", "third horse", &"\x07".repeat(64)]);
    let slots = asked[1].params["slots"].as_array().unwrap();
    let kinds: Vec<_> = slots.iter().map(|slot| slot["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["passphrase", "passphrase", "passphrase", "static_file", "tpm", "shares", "shares"]);
    assert_eq!((&slots[4]["label"], &slots[4]["pcrs"]), (&json!("this board"), &json!([7])));
    assert_eq!((&slots[0]["label"], &slots[6]["count"]), (&json!(""), &json!(2)));
    assert_eq!(fs::read_to_string(dir.0.join("set-2-share-2.txt")).unwrap(), "octant-share-1-eeeee\n");
    assert_eq!(fs::read_to_string(dir.0.join("set-1-share-3.txt")).unwrap(), "octant-share-1-ccccc\n");
}

/// What was approved for the old slot opens the new one.
#[test]
fn a_new_key_binds_the_one_tpm_slot_to_what_it_was_bound_to() {
    let dir = Dir::new();
    let pem = dir.0.join("release.pem");
    fs::write(&pem, "another key").unwrap();
    let board = |number: u32| {
        let mut board = slot(number, "tpm");
        (board["pcrs"], board["release_key"]) = (json!([4, 7]), json!("the key"));
        board
    };
    let pem = pem.to_str().unwrap();
    let (one, two) = (vec![board(1)], vec![board(1), board(2)]);
    let rows = [
        (one.clone(), &[][..], json!([4, 7]), json!("the key")),
        (one.clone(), &["--pcrs", "11"], json!([11]), json!("the key")),
        (one, &["--release-key", pem], json!([4, 7]), json!("another key")),
        (two, &[], json!([]), Value::Null),
    ];
    for (before, args, pcrs, key) in rows {
        let dir = Dir::new();
        let vault = play(&dir, 2, move |asked| match asked.method.as_str() {
            "vault.status" => reply(status(json!({"slots": before}))),
            _ => reply(json!({"epoch": 9, "slots": [slot(3, "tpm")]})),
        });
        let (exit, _, stderr) = octant(&dir.0, &[&["vault", "rekey", "--tpm", "--yes"][..], args].concat());
        assert_eq!(exit, Exit::Ok, "{stderr}");
        let asked = vault.join().unwrap();
        let new = &asked[1].params["slots"][0];
        assert_eq!((&new["pcrs"], &new["release_key"]), (&pcrs, &key), "{args:?}");
        assert_eq!(stderr.contains("2 TPM slots"), key == Value::Null, "{stderr}");
    }
}

#[test]
fn a_new_key_is_not_made_without_being_asked_for() {
    let dir = Dir::new();
    let vault = play(&dir, 1, |_| reply(status(json!({}))));
    let (exit, _, stderr) = octant_given(&dir.0, &["vault", "rekey", "--passphrase"], b"hunter2\n");
    assert_eq!((exit, stderr.contains("say --yes")), (Exit::Usage, true), "{stderr}");
    assert_eq!(vault.join().unwrap().len(), 1);
    assert_eq!(octant(&dir.0, &["vault", "rekey", "--yes"]).0, Exit::Usage);
    let many = [&["vault", "rekey", "--yes"][..], &["--passphrase"; 9]].concat();
    let (exit, _, stderr) = octant(&dir.0, &many);
    assert_eq!((exit, stderr.contains("9 ways to unseal are too many")), (Exit::Usage, true), "{stderr}");
}
