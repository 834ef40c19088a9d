//! `put`, `rotate`, `rollback`, `destroy`, `rm`, `list`, `show`, `reveal` without a terminal.

use super::*;
use octant_sys::clock;
use std::fs;

#[test]
fn a_value_is_the_whole_of_standard_input_or_of_a_file() {
    let dir = Dir::new();
    let file = dir.0.join("value");
    fs::write(&file, b"\0binary\xff").unwrap();
    let vault = play(&dir, 4, |_| reply(json!({"epoch": 8, "version": 1})));
    let put =
        |args: &[&str], input: &[u8]| octant_given(&dir.0, &[&["vault", "put"][..], args].concat(), input);
    let (exit, stdout, stderr) = put(
        &[
            "prod/db",
            "--kind",
            "password",
            "--username",
            "app",
            "--url",
            "db:5432",
            "--about",
            "the \"db\"",
            "--label",
            "a=b=c",
            "--label",
            "team=x",
        ],
        b"two\nlines\n",
    );
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "prod/db is stored, version 1\n"), "{stderr}");
    assert_eq!(stderr, "octant: the value from standard input ends with a newline, which is part of it\n");
    let before = clock::wall_ms();
    let (exit, stdout, stderr) =
        put(&["b", "--from", file.to_str().unwrap(), "--expires", "90d", "--json"], b"");
    assert_eq!((exit, stdout.as_str(), stderr.as_str()), (Exit::Ok, "{\"epoch\":8,\"version\":1}\n", ""));
    assert_eq!(put(&["c", "--kind", "key-pair", "--from", "-"], &[b'\n'; 32]).2, "", "a seed may end so");
    assert_eq!(put(&["d", "--kind", "key-pair", "--generate"], b"not read").0, Exit::Ok);
    let asked = vault.join().unwrap();
    let expected = json!({
        "name": "prod/db", "kind": "password", "about": "the \"db\"", "username": "app", "url": "db:5432",
        "labels": {"a": "b=c", "team": "x"},
    });
    assert_eq!((asked[0].method.as_str(), &asked[0].params), ("vault.put", &expected));
    assert_eq!(
        (&asked[0].pipes, &asked[1].pipes),
        (&vec![b"two\nlines\n".to_vec()], &vec![b"\0binary\xff".to_vec()])
    );
    let expires = asked[1].params["not_after_ms"].as_u64().unwrap();
    assert!((before + 7_776_000_000..before + 7_776_600_000).contains(&expires));
    assert_eq!((&asked[3].params["generate"], asked[3].pipes.len()), (&json!(true), 0));
}

#[test]
fn what_cannot_be_a_value_is_refused_before_anybody_is_asked() {
    let dir = Dir::new();
    let big = dir.0.join("big");
    fs::write(&big, vec![b'h'; 65_537]).unwrap();
    let big = big.to_str().unwrap();
    for (args, exit, why) in [
        (&["a"][..], Exit::Invalid, "nothing came from standard input, and the value cannot be empty"),
        (&["a", "--from", big], Exit::Invalid, "longer than 65536 bytes"),
        (&["a", "--from", "/nonexistent"], Exit::NotFound, "cannot read the value from /nonexistent"),
        (&["a", "--from", big, "--generate"], Exit::Usage, "cannot be used with"),
        (&["a b"], Exit::Usage, "not a secret's name"),
        (&["a", "--expires", "2001-01-01"], Exit::Usage, "over already"),
        (&["a", "--label", "x"], Exit::Usage, "NAME=TEXT"),
        (&["a", "--kind", "other"], Exit::Usage, "oauth-refresh"),
    ] {
        let (found, stdout, stderr) = octant_given(&dir.0, &[&["vault", "put"][..], args].concat(), b"");
        assert_eq!((found, stdout.as_str()), (exit, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(why) && !stderr.contains("hhhh"), "{args:?}: {stderr}");
    }
}

#[test]
fn the_longest_value_goes_through_whole() {
    let dir = Dir::new();
    let value: Vec<u8> = (0..65_536_u32).map(|n| (n % 251) as u8).collect();
    let file = dir.0.join("value");
    fs::write(&file, &value).unwrap();
    let vault = play(&dir, 1, |_| reply(json!({"epoch": 8, "version": 1})));
    let (exit, _, stderr) = octant(&dir.0, &["vault", "put", "a", "--from", file.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(vault.join().unwrap()[0].pipes == [value]);
}

#[test]
fn versions_change_by_their_number() {
    let dir = Dir::new();
    let vault = play(&dir, 5, |_| reply(json!({"epoch": 8, "version": 4})));
    let done = |args: &[&str], input: &[u8]| octant_given(&dir.0, &[&["vault"][..], args].concat(), input);
    assert_eq!(done(&["rotate", "a"], b"hunter3").1, "a has version 4 now\n");
    assert_eq!(done(&["rotate", "a", "--generate", "--json"], b"").1, "{\"epoch\":8,\"version\":4}\n");
    assert_eq!(done(&["rollback", "a", "3"], b"").1, "a is at version 4 again\n".replace('4', "3"));
    assert_eq!(done(&["destroy", "a", "2"], b"").1, "the value of version 2 of a is destroyed\n");
    let (exit, _, stderr) = done(&["rm", "a"], b"y\n");
    assert_eq!(exit, Exit::Usage, "what comes in a pipe is no answer");
    assert!(
        stderr.contains("the removal of a has to be confirmed") && stderr.contains("say --yes"),
        "{stderr}"
    );
    assert_eq!(done(&["rm", "a", "--yes"], b"").1, "a is removed\n");
    let asked = vault.join().unwrap();
    let methods: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["vault.rotate", "vault.rotate", "vault.rollback", "vault.destroy", "vault.remove"]);
    assert_eq!((&asked[0].pipes, &asked[0].params), (&vec![b"hunter3".to_vec()], &json!({"name": "a"})));
    assert_eq!(asked[1].params, json!({"name": "a", "generate": true}));
    assert_eq!(
        (&asked[2].params, &asked[4].params),
        (&json!({"name": "a", "version": 3}), &json!({"name": "a"}))
    );
}

fn secret(name: &str) -> Value {
    json!({
        "name": name, "kind": "key_pair", "current": 2, "about": "signs\u{1b} it", "labels": {"team": "x"},
        "versions": [
            {"version": 1, "state": "destroyed", "created_ms": 0, "not_after_ms": 1},
            {"version": 2, "state": "active", "created_ms": 1_773_495_425_123_u64,
             "not_after_ms": 4_102_444_799_999_u64, "public_key": "07".repeat(32)},
        ],
    })
}

#[test]
fn the_list_goes_through_all_pages_and_not_in_a_circle() {
    let dir = Dir::new();
    let vault = play(&dir, 6, |asked| {
        let after = asked.params["after"].as_str();
        match (asked.params["prefix"].as_str().unwrap(), after) {
            ("prod/", None) => reply(json!({"secrets": [secret("prod/a")], "next": "prod/a"})),
            ("prod/", Some("prod/a")) => reply(json!({"secrets": [secret("prod/b")]})),
            ("", None) => reply(json!({"secrets": [], "next": "b"})),
            ("", Some("b")) => reply(json!({"secrets": [], "next": "b"})),
            other => panic!("{other:?}"),
        }
    });
    let (exit, stdout, _) = octant(&dir.0, &["vault", "list", "prod/"]);
    assert_eq!(exit, Exit::Ok);
    assert_eq!(
        stdout,
        "NAME    KIND      VERSION  ENDS        ABOUT\nprod/a  key_pair  2        2099-12-31  signs? it\n\
         prod/b  key_pair  2        2099-12-31  signs? it\n"
    );
    let (_, stdout, _) = octant(&dir.0, &["vault", "list", "prod/", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["secrets"][1]["name"], "prod/b");
    let (exit, _, stderr) = octant(&dir.0, &["vault", "list"]);
    assert_eq!((exit, stderr.contains("leads back to b")), (Exit::Unavailable, true), "{stderr}");
    vault.join().unwrap();
}

#[test]
fn a_secret_is_shown_with_its_versions_and_grants() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |asked| {
        assert_eq!((asked.method.as_str(), &asked.params), ("vault.show", &json!({"name": "a"})));
        let grant = json!({
            "id": 7, "name": "a", "to": {"service": "router"}, "modes": ["use", "sign"], "hosts": ["*.example.com"],
            "created_ms": 0, "by": 0, "reason": "billing\u{7}", "until_ms": 4_102_444_799_999_u64,
        });
        reply(json!({"secret": secret("a"), "grants": [grant], "leases": 3}))
    });
    let (exit, stdout, _) = octant(&dir.0, &["vault", "show", "a"]);
    assert_eq!(exit, Exit::Ok);
    for text in [
        "  about       signs? it\n",
        "  label       team=x\n",
        "  version 1   destroyed, stored 1970-01-01T00:00:00.000Z, EXPIRED",
        "  version 2*  active, stored 2026-03-14T13:37:05.123Z",
        "use, sign to service:router, for *.example.com, leases WITHOUT END",
        "by operator:0: billing?",
        "  leases      3\n",
    ] {
        assert!(stdout.replace("\n              ", " ").contains(text.trim_end()), "{text}: {stdout}");
    }
    let (_, stdout, _) = octant(&dir.0, &["vault", "show", "a", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["grants"][0]["id"], 7);
    vault.join().unwrap();
}

/// Nobody plays the vault here: it is not even asked.
#[test]
fn a_value_is_shown_to_nobody_but_a_person() {
    let dir = Dir::new();
    let reveal = ["vault", "reveal", "a", "--reason", "r"];
    for columns in [None, Some(80)] {
        let input = piped(b"a\n");
        let (exit, stdout, stderr) = octant_on(Links::default(), &dir.0, &reveal, &input, columns);
        assert_eq!((exit, stdout.as_str()), (Exit::Denied, ""));
        assert!(stderr.contains("not both a terminal") && stderr.contains("octant vault grant"), "{stderr}");
    }
    let (exit, _, stderr) = octant(&dir.0, &[&reveal[..], &["--json"]].concat());
    assert_eq!((exit, stderr.contains("a value is not put into JSON")), (Exit::Usage, true), "{stderr}");
    assert_eq!(octant(&dir.0, &["vault", "reveal", "a"]).0, Exit::Usage, "there is no reason");
}
