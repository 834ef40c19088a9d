//! `octant secret`, against a socket that plays a workstation's own.

use super::*;
use std::fs;

fn token() -> String {
    "ab".repeat(32)
}

/// Everything that an agent can ask for, granted.
fn grant_all(asked: &Asked) -> Reply {
    match asked.method.as_str() {
        "agent.lease" => {
            let mode = &asked.params["mode"];
            reply(json!({"token": token(), "mode": mode, "expires_in_ms": 600_000, "renewable_ms": 600_000}))
        }
        "agent.reveal" => reply_with(json!({"version": 3, "bytes": 7}), &["hunter2"]),
        "agent.sign" => reply(signed(64)),
        "agent.release" => reply(json!({"leases": 1})),
        other => panic!("{other}"),
    }
}

fn signed(len: usize) -> Value {
    json!({"version": 1, "public_key": STANDARD.encode([1; 32]), "signature": STANDARD.encode(vec![7; len])})
}

fn methods(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.method.as_str()).collect()
}

#[test]
fn a_value_is_printed_as_it_is_and_its_lease_given_back() {
    let dir = Dir::new();
    let agent = play_at(&dir, "agent", 3, grant_all);
    let done = octant_given(&dir.0, &["secret", "get", "prod/a"], b"");
    assert_eq!(done, (Exit::Ok, "hunter2".into(), String::new()));
    let asked = agent.join().unwrap();
    assert_eq!(methods(&asked), ["agent.lease", "agent.reveal", "agent.release"]);
    assert_eq!(asked[0].params, json!({"name": "prod/a", "mode": "reveal", "ttl_ms": 60_000}));
    assert!(asked[1..].iter().all(|asked| asked.params == json!({"token": token()})));
}

#[test]
fn a_value_is_in_no_document_and_nobody_is_asked() {
    let dir = Dir::new();
    for args in [&["secret", "get", "a", "--json"][..], &["--json", "secret", "sign", "a", "--raw"]] {
        let (exit, stdout, stderr) = octant_given(&dir.0, args, b"");
        assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""));
        assert!(stderr.contains("not put into JSON"), "{stderr}");
    }
}

#[test]
fn a_lease_is_given_back_whatever_came_of_it() {
    for (bytes, pipes, exit) in [
        (7, &["hunter"][..], Exit::Unavailable),
        (7, &[], Exit::Unavailable),
        (0, &["hunter2"], Exit::Unavailable),
    ] {
        let dir = Dir::new();
        let agent = play_at(&dir, "agent", 3, move |asked| match asked.method.as_str() {
            "agent.reveal" => reply_with(json!({"version": 3, "bytes": bytes}), pipes),
            _ => grant_all(asked),
        });
        let (found, stdout, stderr) = octant_given(&dir.0, &["secret", "get", "a"], b"");
        assert_eq!((found, stdout.as_str()), (exit, ""), "{stderr}");
        assert!(!stderr.contains("hunter"), "{stderr}");
        assert_eq!(methods(&agent.join().unwrap())[2], "agent.release");
    }
    let dir = Dir::new();
    let agent = play_at(&dir, "agent", 3, |asked| match asked.method.as_str() {
        "agent.release" => refusal(-32003, "the vault is sealed"),
        _ => grant_all(asked),
    });
    let (exit, stdout, stderr) = octant_given(&dir.0, &["secret", "get", "a"], b"");
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "hunter2"));
    assert!(stderr.contains("ends within 1m00s: the vault is sealed"), "{stderr}");
    agent.join().unwrap();
}

#[test]
fn what_was_not_granted_is_denied() {
    let dir = Dir::new();
    let agent = play_at(&dir, "agent", 2, |_| refusal(-32001, "lease (a): it was not granted"));
    for args in [&["secret", "get", "a"][..], &["secret", "sign", "a"]] {
        let (exit, stdout, stderr) = octant_given(&dir.0, args, b"x");
        assert_eq!((exit, stdout.as_str()), (Exit::Denied, ""), "{stderr}");
    }
    agent.join().unwrap();
    let (exit, _, stderr) = octant(&Dir::new().0, &["secret", "get", "a"]);
    assert_eq!((exit, stderr.contains("inside a workstation only")), (Exit::Unavailable, true), "{stderr}");
}

#[test]
fn a_message_is_signed_from_a_file_or_from_standard_input() {
    let dir = Dir::new();
    let file = dir.0.join("message");
    fs::write(&file, "hello\n").unwrap();
    let path = file.to_str().unwrap();
    let agent = play_at(&dir, "agent", 12, grant_all);
    let text = STANDARD.encode([7; 64]) + "\n";
    let raw = "\x07".repeat(64);
    for (args, expected) in [
        (&[][..], Some(text.clone())),
        (&["-"], Some(text)),
        (&[path, "--raw"], Some(raw)),
        (&[path, "--json"], None),
    ] {
        let args = [&["secret", "sign", "prod/key"][..], args].concat();
        let (exit, stdout, stderr) = octant_given(&dir.0, &args, b"hello\n");
        assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
        match expected {
            Some(expected) => assert_eq!(stdout, expected),
            None => assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), signed(64)),
        }
    }
    for asked in agent.join().unwrap().chunks(3) {
        assert_eq!(methods(asked), ["agent.lease", "agent.sign", "agent.release"]);
        assert_eq!(asked[0].params["mode"], "sign");
        assert_eq!(asked[1].params, json!({"token": token(), "message": STANDARD.encode("hello\n")}));
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_before_anybody_is_asked() {
    let dir = Dir::new();
    let file = dir.0.join("message");
    fs::write(&file, vec![7; 65_537]).unwrap();
    let input = File::open(&file).unwrap();
    for args in [&["secret", "sign", "a"][..], &["secret", "sign", "a", file.to_str().unwrap()]] {
        let (exit, stdout, stderr) = octant_on(Links::default(), &dir.0, args, &input, None);
        assert_eq!((exit, stdout.as_str()), (Exit::Invalid, ""), "{stderr}");
        assert!(stderr.contains("longer than 65536 bytes") && stderr.contains("sha256sum"), "{stderr}");
    }
    fs::write(&file, vec![7; 65_536]).unwrap();
    let agent = play_at(&dir, "agent", 6, |asked| match asked.method.as_str() {
        "agent.sign" if asked.params["message"] == "" => reply(signed(63)),
        _ => grant_all(asked),
    });
    assert_eq!(octant(&dir.0, &["secret", "sign", "a", file.to_str().unwrap()]).0, Exit::Ok);
    let (exit, _, stderr) = octant(&dir.0, &["secret", "sign", "a"]);
    assert_eq!((exit, stderr.contains("a signature of 63 bytes")), (Exit::Unavailable, true), "{stderr}");
    agent.join().unwrap();
}

#[test]
fn a_lease_is_taken_and_given_back_by_its_token() {
    let dir = Dir::new();
    let agent = play_at(&dir, "agent", 4, |asked| match asked.params["token"].as_str() {
        Some(other) if other != token() => reply(json!({"leases": 0})),
        _ => grant_all(asked),
    });
    let args = ["secret", "lease", "prod/a", "--mode", "use", "--ttl", "10min"];
    let (exit, stdout, stderr) = octant(&dir.0, &args);
    assert_eq!((exit, &stdout), (Exit::Ok, &format!("{}\n", token())));
    assert_eq!(stderr, "octant: the lease of prod/a for use ends in 10m00s\n");
    let (_, json, stderr) = octant(&dir.0, &["secret", "lease", "b", "--mode", "sign", "--json"]);
    let document: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&document["token"], &document["mode"], stderr.as_str()),
        (&json!(token()), &json!("sign"), "")
    );
    let release = |input: &str| octant_given(&dir.0, &["secret", "release"], input.as_bytes());
    assert_eq!(release(&stdout), (Exit::Ok, "the lease is given back\n".into(), String::new()));
    assert_eq!(release(&"cd".repeat(32)).1, "there was no such lease any more\n");
    let asked = agent.join().unwrap();
    assert_eq!(asked[0].params, json!({"name": "prod/a", "mode": "use", "ttl_ms": 600_000}));
    assert_eq!(asked[1].params, json!({"name": "b", "mode": "sign"}));
    assert_eq!((asked[2].method.as_str(), &asked[2].params), ("agent.release", &json!({"token": token()})));
}

#[test]
fn what_is_no_token_is_refused_and_not_shown() {
    let dir = Dir::new();
    for bad in [String::new(), "hunter2\n".into(), token().to_uppercase(), token() + "hunter2"] {
        let (exit, stdout, stderr) = octant_given(&dir.0, &["secret", "release"], bad.as_bytes());
        assert_eq!((exit, stdout.as_str()), (Exit::Invalid, ""), "{stderr}");
        assert!(!stderr.contains("hunter2") && stderr.contains("token"), "{stderr}");
    }
    for bad in [&["secret", "lease", "a"][..], &["secret", "lease", "a", "--mode", "all"]] {
        assert_eq!(octant(&dir.0, bad).0, Exit::Usage);
    }
}
