//! `grant`, `revoke`, `leases`, `backup`, `restore`.

use super::*;
use std::fs;
use std::io::Seek;
use std::os::unix::fs::PermissionsExt;

fn aid() -> String {
    octant_ids::Aid::new(1_773_495_425_123, [7; 10]).to_string()
}

fn info() -> Value {
    json!({
        "id": 7, "name": "a", "to": {"service": "router"}, "modes": ["use"], "ttl_max_ms": 3_600_000, "created_ms": 0,
        "by": 0,
    })
}

#[test]
fn a_grant_says_who_for_what_how_long_and_why() {
    let dir = Dir::new();
    let vault = play(&dir, 3, |_| reply(info()));
    let (exit, stdout, stderr) = octant(
        &dir.0,
        &[
            "vault",
            "grant",
            "a",
            "--to",
            "service:router",
            "--mode",
            "use,sign,use",
            "--host",
            "*.example.com",
            "--host",
            "b",
            "--ttl",
            "2h",
            "--until",
            "2999-01-01",
            "--reason",
            "billing",
        ],
    );
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(stdout, "grant 7: a: use to service:router, leases up to 1h00m, by operator:0\n");
    let to = format!("agent:{}", aid());
    let (exit, _, stderr) =
        octant(&dir.0, &["vault", "grant", "a", "--to", &to, "--mode", "reveal", "--unlimited"]);
    assert_eq!(exit, Exit::Ok);
    assert!(stderr.contains(&format!("WARNING: reveal lets {to} see the value of a")), "{stderr}");
    assert!(stderr.contains("WARNING: --unlimited"), "{stderr}");
    let manifest = format!("manifest:{}", Sha256([7; 32]));
    let (_, stdout, _) =
        octant(&dir.0, &["vault", "grant", "a", "--to", &manifest, "--mode", "use", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["id"], 7);
    let asked = vault.join().unwrap();
    let expected = json!({
        "name": "a", "to": {"service": "router"}, "modes": ["use", "sign"], "hosts": ["*.example.com", "b"],
        "ttl_max_ms": 7_200_000, "until_ms": 32_472_144_000_000_u64, "reason": "billing",
    });
    assert_eq!((asked[0].method.as_str(), &asked[0].params), ("vault.grant", &expected));
    let expected = json!({
        "name": "a", "to": {"agent": aid()}, "modes": ["reveal"], "hosts": [], "unlimited": true, "reason": "",
    });
    assert_eq!(asked[1].params, expected);
    assert_eq!(asked[2].params["to"], json!({"manifest": Sha256([7; 32]).to_string()}));
}

#[test]
fn a_grant_to_a_signed_manifest_is_to_the_digest_that_verifying_it_shows() {
    let dir = Dir::new();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    assert_eq!(octant(&dir.0, &["manifest", "keygen", "alice", "--into", &at("")]).0, Exit::Ok);
    let (_, text, _) = octant(&dir.0, &["manifest", "new", "hello", "--operator", "alice"]);
    fs::write(at("manifest.toml"), text).unwrap();
    let sign = ["manifest", "sign", &at("manifest.toml"), "--key", &at("alice.key"), "-o", &at("signed")];
    assert_eq!(octant(&dir.0, &sign).0, Exit::Ok);
    fs::create_dir_all(at("etc/trusted")).unwrap();
    fs::copy(at("alice.pub"), at("etc/trusted/alice.pub")).unwrap();
    let (_, stdout, _) = octant(&dir.0, &["manifest", "verify", &at("signed"), "--json"]);
    let verified: Value = serde_json::from_str(&stdout).unwrap();

    let grant = |file: &str| {
        let to = format!("manifest-file:{}", at(file));
        octant(&dir.0, &["vault", "grant", "a", "--to", &to, "--mode", "use"])
    };
    let vault = play(&dir, 1, |_| reply(info()));
    assert_eq!(grant("signed").0, Exit::Ok);
    assert_eq!(vault.join().unwrap()[0].params["to"]["manifest"], verified["digest"]);
    let (exit, _, stderr) = grant("manifest.toml");
    assert_eq!((exit, stderr.contains("not signed")), (Exit::Invalid, true), "{stderr}");
    assert_eq!(grant("nothing").0, Exit::NotFound);
}

#[test]
fn what_is_no_grant_is_refused() {
    let dir = Dir::new();
    for (args, why) in [
        (&["--to", "router", "--mode", "use"][..], "manifest-file:PATH"),
        (&["--to", "service:router"], "--mode"),
        (&["--mode", "use"], "--to"),
        (&["--to", "service:router", "--mode", "all"], "reveal"),
        (&["--to", "service:router", "--mode", "use", "--ttl", "1h", "--unlimited"], "cannot be used with"),
    ] {
        let (exit, _, stderr) = octant(&dir.0, &[&["vault", "grant", "a"][..], args].concat());
        assert_eq!((exit, stderr.contains(why)), (Exit::Usage, true), "{args:?}: {stderr}");
    }
}

#[test]
fn what_is_taken_away_is_named_one_way() {
    let dir = Dir::new();
    let vault = play(&dir, 5, |asked| {
        let durable = asked.params["what"]["grant"].is_null();
        reply(json!({"grants": 1, "leases": 2, "durable": durable}))
    });
    let aid = aid();
    let revoke = |args: &[&str]| octant(&dir.0, &[&["vault", "revoke"][..], args].concat());
    assert_eq!(
        revoke(&["--secret", "a"]),
        (Exit::Ok, "1 grants and 2 leases are gone\n".into(), String::new())
    );
    assert_eq!(revoke(&["--agent", &aid]).0, Exit::Ok);
    assert_eq!(
        revoke(&["--service", "router", "--json"]).1,
        "{\"grants\":1,\"leases\":2,\"durable\":true}\n"
    );
    for json in [&[][..], &["--json"]] {
        let (exit, _, stderr) = revoke(&[&["--grant", "7"][..], json].concat());
        assert_eq!((exit, stderr.contains("not on stable storage")), (Exit::Ok, true), "{stderr}");
    }
    let asked = vault.join().unwrap();
    let what: Vec<_> = asked.iter().map(|asked| asked.params["what"].clone()).collect();
    let grant = json!({"grant": 7});
    assert_eq!(
        what,
        [json!({"secret": "a"}), json!({"agent": aid}), json!({"service": "router"}), grant.clone(), grant]
    );
    assert_eq!(revoke(&[]).0, Exit::Usage);
    assert_eq!(revoke(&["--secret", "a", "--grant", "7"]).0, Exit::Usage);
}

#[test]
fn leases_fit_the_console_with_whole_holders() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |_| {
        let lease = |name: &str, change: Value| {
            let mut lease = json!({"holder": {"agent": aid()}, "name": name, "mode": "use", "grant": 7});
            lease.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            lease
        };
        let leases = [lease("a", json!({"expires_in_ms": 90_000})), lease(&"b".repeat(100), json!({}))];
        reply(json!({"leases": leases, "total": 1001}))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "leases", "--agent", &aid()]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.contains(&format!("{}  use   1m30s  7      a\n", aid())), "{stdout}");
    assert!(
        stdout.contains("use   -      7      bbb") && stdout.lines().all(|line| line.len() <= 80),
        "{stdout}"
    );
    assert_eq!(stderr, "octant: 2 of 1001 leases are shown; --agent AID shows one agent's\n");
    let (_, stdout, _) = octant(&dir.0, &["vault", "leases", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["total"], 1001);
    let asked = vault.join().unwrap();
    assert_eq!((&asked[0].params, &asked[1].params), (&json!({"agent": aid()}), &json!({})));
}

fn copied(bytes: u64) -> Value {
    json!({"vault": "ab".repeat(16), "epoch": 7, "bytes": bytes})
}

#[test]
fn a_copy_is_written_by_the_vault_into_a_new_file() {
    let dir = Dir::new();
    let file = dir.0.join("copy");
    let path = file.to_str().unwrap();
    let vault = play(&dir, 1, |asked| {
        (&asked.files[0]).write_all(b"sealed bytes").unwrap();
        reply(copied(12))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "backup", path]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.starts_with(&format!("{path}: 12 bytes, vault abab")), "{stdout}");
    assert_eq!(fs::read(&file).unwrap(), b"sealed bytes");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(vault.join().unwrap()[0].method, "vault.backup");
    let (exit, _, stderr) = octant(&dir.0, &["vault", "backup", path]);
    assert_eq!((exit, stderr.contains("choose another name")), (Exit::Failed, true), "{stderr}");
    assert_eq!(fs::read(&file).unwrap(), b"sealed bytes");
}

#[test]
fn half_a_copy_is_not_left_behind() {
    for whole in [true, false] {
        let dir = Dir::new();
        let path = dir.0.join("copy");
        let vault = play(&dir, 1, move |asked| {
            (&asked.files[0]).write_all(b"sealed").unwrap();
            if whole { refusal(-32015, "no space") } else { reply(copied(12)) }
        });
        let (exit, stdout, stderr) = octant(&dir.0, &["vault", "backup", path.to_str().unwrap()]);
        assert_eq!(
            (exit, stdout.as_str()),
            (if whole { Exit::Failed } else { Exit::Unavailable }, ""),
            "{stderr}"
        );
        assert!(!path.exists());
        vault.join().unwrap();
    }
}

#[test]
fn a_copy_is_restored_with_a_reason_and_said_how_to_unseal() {
    let dir = Dir::new();
    let file = dir.0.join("copy");
    let path = file.to_str().unwrap();
    fs::write(&file, b"sealed bytes").unwrap();
    let restore = |args: &[&str]| octant(&dir.0, &[&["vault", "restore", path][..], args].concat());
    let (exit, _, stderr) = restore(&["--reason", "disk replaced"]);
    assert_eq!((exit, stderr.contains("say --yes")), (Exit::Usage, true), "{stderr}");
    assert_eq!(restore(&["--yes"]).0, Exit::Usage, "there is no reason");
    let vault = play(&dir, 2, |_| reply(copied(12)));
    let (exit, stdout, stderr) = restore(&["--reason", "disk replaced", "--yes"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("octant vault unseal --accept-rollback REASON"), "{stdout}");
    let (_, stdout, _) = restore(&["--reason", "disk replaced", "--yes", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["epoch"], 7);
    let mut asked = vault.join().unwrap();
    assert_eq!(
        (asked[0].method.as_str(), &asked[0].params),
        ("vault.restore", &json!({"reason": "disk replaced"}))
    );
    let mut content = String::new();
    let file = &mut asked[0].files[0];
    file.rewind().unwrap();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "sealed bytes");
    let (exit, _, _) = octant(&dir.0, &["vault", "restore", "/dev/null", "--reason", "r", "--yes"]);
    assert_eq!(exit, Exit::Invalid);
}
