//! `octant config` where Octant does not run.

use super::{Dir, Done, octant, octant_with};
use crate::Links;
use octant_ids::Exit;
use octant_manifest::{SigningKey, Wrong};
use std::fs;

/// As an owner of tables would.
fn check(owner: &str, names: &[&str], text: &str) -> Result<(), Wrong> {
    #[derive(serde::Deserialize)]
    struct Init {
        hostname: Option<String>,
    }
    match owner {
        "init" => match octant_manifest::table::<Init>(text, names, &["health_within"])?.hostname {
            Some(name) if name.contains(' ') => {
                Err(Wrong { offset: None, field: "hostname".into(), why: "has a blank".into() })
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn config(dir: &Dir, args: &[&str]) -> Done {
    octant_with(Links { check_table: Some(check), ..Links::default() }, &dir.0, args)
}

fn text(serial: u64, hostname: &str) -> String {
    format!(
        "config = 1\nserial = {serial}\n[audience]\nmachines = [\"*\"]\nnot_after = 2999-01-01T00:00:00Z\n[machine]\nhostname = \"{hostname}\"\n"
    )
}

#[test]
fn a_configuration_is_written_checked_signed_compared_and_applied() {
    let dir = Dir::new();
    let key = SigningKey::from_seed([1; 32]);
    fs::create_dir_all(dir.0.join("etc/trusted")).unwrap();
    fs::create_dir_all(dir.0.join("state")).unwrap();
    fs::write(dir.0.join("etc/trusted/ada.pub"), key.public_file("ada", "admin")).unwrap();
    fs::write(dir.0.join("ada.key"), key.private_file()).unwrap();
    let path = |name: &str| dir.0.join(name).display().to_string();
    let put = |name: &str, text: &str| fs::write(dir.0.join(name), text).unwrap();
    let ok = |args: &[&str], expected: &str| {
        let (exit, stdout, stderr) = config(&dir, args);
        assert!(exit == Exit::Ok && stdout.contains(expected), "{args:?}: {exit:?} {stdout} {stderr}");
        stdout
    };
    let refused = |args: &[&str], exit: Exit, expected: &str| {
        let (found, stdout, stderr) = config(&dir, args);
        assert!(found == exit && stderr.contains(expected), "{args:?}: {found:?} {stdout} {stderr}");
    };
    let template = ok(&["config", "new"], "serial = 1 ");
    put("new.toml", &template);
    ok(&["config", "check", &path("new.toml")], "serial 1, in order");
    ok(&["config", "show"], "next: octant config new");
    put("bad.toml", &text(1, "a b"));
    refused(&["config", "check", &path("bad.toml")], Exit::Invalid, "line 7, machine.hostname: has a blank");
    refused(&["config", "sign", &path("bad.toml"), "--key", &path("ada.key")], Exit::Invalid, "has a blank");
    let (_, json, _) = config(&dir, &["--json", "config", "check", &path("bad.toml")]);
    assert!(json.contains(r#""field":"machine.hostname""#) && json.contains(r#""valid":false"#), "{json}");
    for (serial, name) in [(1, "one"), (2, "two")] {
        put(&format!("{name}.toml"), &text(serial, name));
        let (from, to) = (path(&format!("{name}.toml")), path(&format!("{name}.json")));
        ok(&["config", "sign", &from, "--key", &path("ada.key"), "--output", &to], "signed with key");
    }
    ok(&["config", "check", &path("one.json")], "signed by ada");
    refused(&["config", "apply", &path("one.toml")], Exit::Unverified, "octant config sign");
    ok(&["config", "apply", &path("one.json")], "is in force from the next start on");
    ok(&["config", "show"], "in force: configuration 1\nsigned by: ada, key ");
    let diff = ok(&["config", "diff", &path("two.toml")], "machine.hostname");
    assert!(diff.contains("\"one\"") && diff.contains("\"two\"") && diff.contains("at once"), "{diff}");
    ok(&["config", "apply", &path("two.json")], "configuration 2 is in force");
    refused(&["config", "check", &path("one.json")], Exit::Unverified, "2 was accepted already");
    ok(&["config", "show", "--text", "1"], "hostname = \"one\"");
    refused(&["config", "rollback", "7"], Exit::NotFound, "there is no configuration 7");
    ok(&["config", "rollback", "1"], "configuration 1 is in force");
    ok(&["--json", "config", "show"], r#""in_force":1,"worked":null,"serial":2"#);
    ok(&["config", "rollback"], "the image's own octant.toml is in force");
    refused(&["config", "rollback"], Exit::NotFound, "no earlier configuration");
    let (exit, _, stderr) = octant(&dir.0, &["config", "check", &path("one.toml")]);
    assert_eq!((exit, stderr.contains("no PID 1 in it")), (Exit::Unavailable, true), "{stderr}");
}
