//! `import`.

use super::*;
use std::fs;

/// Plays a vault that has these secrets and takes what is new, but for the name `refused`.
fn play_store(dir: &Dir, turns: usize, there: &'static [&'static str]) -> JoinHandle<Vec<Asked>> {
    play(dir, turns, move |asked| match asked.method.as_str() {
        "vault.list" => {
            let prefix = asked.params["prefix"].as_str().unwrap();
            let secret = |name: &&str| json!({"name": name, "kind": "opaque", "current": 1, "versions": []});
            let found = there.iter().filter(|name| name.starts_with(prefix));
            reply(json!({"secrets": found.map(secret).collect::<Vec<_>>()}))
        }
        "vault.put" if asked.params["name"] == "refused" => {
            refusal(-32602, "put a secret (refused): because")
        }
        "vault.put" if asked.params["name"] == "full" => refusal(-32010, "put a secret (full): no space"),
        "vault.put" => reply(json!({"epoch": 8, "version": 1})),
        "vault.rotate" => reply(json!({"epoch": 8, "version": 5})),
        other => panic!("{other}"),
    })
}

fn file(dir: &Dir, name: &str, content: &str) -> String {
    let path = dir.0.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_entry_becomes_a_secret_and_the_file_is_shredded_when_asked_for() {
    let dir = Dir::new();
    let env = file(&dir, ".env", "# x\nexport A=hunter1\nB=\"hunter\\n2\"\nC='hunter $3'\nD=$hunter4\n");
    let vault = play_store(&dir, 5, &[]);
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "import", &env, "--prefix", "prod/", "--shred"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(
        stdout.starts_with("LINE  RESULT  NAME\n2     stored  prod/A\n3     stored  prod/B\n"),
        "{stdout}"
    );
    assert!(stdout.contains("line 5: it has a $, which is taken as it is"), "{stdout}");
    assert_eq!(stdout.matches("taken as it is").count(), 1, "{stdout}");
    assert!(
        stdout.contains("4 of 4 entries are stored\n") && stdout.contains("is overwritten and removed"),
        "{stdout}"
    );
    assert!(stderr.contains("may still have the old blocks"), "{stderr}");
    assert!(!stdout.contains("hunter") && !stderr.contains("hunter"), "{stdout}{stderr}");
    assert!(!Path::new(&env).exists());
    let asked = vault.join().unwrap();
    assert_eq!(asked[0].params["prefix"], "prod/");
    let stored: Vec<_> =
        asked[1..].iter().map(|a| (a.params["name"].as_str().unwrap(), &a.pipes[0][..])).collect();
    let expected: [(&str, &[u8]); 4] =
        [("prod/A", b"hunter1"), ("prod/B", b"hunter\n2"), ("prod/C", b"hunter $3"), ("prod/D", b"$hunter4")];
    assert_eq!(stored, expected);
}

#[test]
fn a_json_object_is_imported_as_well_and_a_file_is_kept_without_being_asked() {
    let dir = Dir::new();
    let json = file(&dir, "secrets.json", "{\"A\": \"hunter1\",\n \"B\": \"hunter2\"}");
    let vault = play_store(&dir, 6, &[]);
    let (exit, _, stderr) = octant(&dir.0, &["vault", "import", &json]);
    assert_eq!((exit, stderr.contains("--shred overwrites and removes it")), (Exit::Ok, true), "{stderr}");
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "import", &json, "--json"]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&document["count"], &document["stored"], &document["shredded"]),
        (&json!(2), &json!(2), &json!(false))
    );
    assert_eq!(document["entries"][1], json!({"line": 2, "name": "B", "result": "stored", "version": 1}));
    assert!(Path::new(&json).exists());
    vault.join().unwrap();
}

#[test]
fn what_is_not_taken_is_said_by_its_line_and_nothing_is_shredded() {
    let dir = Dir::new();
    let big = "x".repeat(65_537);
    let content =
        format!("THERE=hunter1\nhun ter2=hunter3\nrefused=hunter4\nEMPTY=\nBIG={big}\nNEW=hunter5\n");
    let env = file(&dir, ".env", &content);
    let vault = play_store(&dir, 7, &["THERE"]);
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "import", &env, "--shred"]);
    assert_eq!(exit, Exit::Failed);
    for text in [
        "1     EXISTS    THERE\n",
        "2     NO NAME   -\n",
        "3     REFUSED   refused\n",
        "4     EMPTY     EMPTY\n",
        "5     TOO LONG  BIG\n",
        "6     stored    NEW\n",
        "line 1: it is there already; --rotate gives it a new version\n",
        "line 3: put a secret (refused): because\n",
        "1 of 6 entries are stored\n",
    ] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    assert!(stderr.contains("5 of 6 entries of") && stderr.contains("the file is kept as it is"), "{stderr}");
    assert!(!(stdout + &stderr).contains("hun"), "neither a value nor what stands where a key should");
    assert_eq!(fs::read_to_string(&env).unwrap(), content);
    let (exit, stdout, _) = octant(&dir.0, &["vault", "import", &env, "--rotate", "--json"]);
    assert_eq!(exit, Exit::Failed);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        document["entries"][0],
        json!({"line": 1, "name": "THERE", "result": "rotated", "version": 5})
    );
    assert!(document["entries"][1]["name"].is_null() && document["entries"][1]["result"] == "no_name");
    assert_eq!(vault.join().unwrap().len(), 3 + 4);
}

/// What would fail for every other entry too is an error of its own, and ends the work.
#[test]
fn a_vault_that_is_full_is_not_asked_again_and_again() {
    let dir = Dir::new();
    let env = file(&dir, ".env", "A=hunter1\nfull=hunter2\nB=hunter3\n");
    let vault = play_store(&dir, 3, &[]);
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "import", &env, "--shred"]);
    assert_eq!((exit, stderr.contains("no space")), (Exit::Unavailable, true), "{stderr}");
    assert!(stdout.contains("1     stored  A\n1 of 3 entries are stored\n"), "{stdout}");
    assert!(Path::new(&env).exists());
    vault.join().unwrap();
}

/// Nobody plays the vault here: nothing is stored of a file that cannot be read to its end.
#[test]
fn a_file_that_cannot_be_read_to_its_end_stores_nothing() {
    let dir = Dir::new();
    for (content, exit, why) in [
        ("A=1\nB=\"hunter2\nC=3\n", Exit::Invalid, "line 2: the quotes of this value are not closed"),
        ("A=hunter1\nA=hunter2\n", Exit::Invalid, "line 2: it has the same key as line 1"),
        ("{\"A\": [\"hunter2\"]}", Exit::Invalid, "line 1: the value is no text"),
        ("# hunter2\n", Exit::Invalid, "there are no entries in it"),
        (&"# hunter2\n".repeat(110_000), Exit::Invalid, "longer than 1048576 bytes"),
    ] {
        let env = file(&dir, ".env", content);
        let (found, stdout, stderr) = octant(&dir.0, &["vault", "import", &env, "--shred"]);
        assert_eq!((found, stdout.as_str()), (exit, ""), "{stderr}");
        assert!(stderr.contains(why) && !stderr.contains("hunter"), "{stderr}");
        assert!(Path::new(&env).exists());
    }
    let (exit, _, _) = octant(&dir.0, &["vault", "import", "/nonexistent"]);
    assert_eq!(exit, Exit::NotFound);
    for args in [&["--shred", "--keep"][..], &["--prefix", "a b"]] {
        assert_eq!(octant(&dir.0, &[&["vault", "import", "x"][..], args].concat()).0, Exit::Usage);
    }
}

#[test]
fn what_would_be_lost_under_other_names_is_not_shredded() {
    let dir = Dir::new();
    let (env, other) = (file(&dir, ".env", "A=hunter1\n"), dir.0.join("other"));
    fs::hard_link(&env, &other).unwrap();
    let link = dir.0.join("link");
    std::os::unix::fs::symlink(dir.0.join("target"), &link).unwrap();
    fs::write(dir.0.join("target"), "A=hunter1\n").unwrap();
    let vault = play_store(&dir, 4, &[]);
    for (path, why) in [(env.as_str(), "other names"), (link.to_str().unwrap(), "symbolic link")] {
        let (exit, stdout, stderr) = octant(&dir.0, &["vault", "import", path, "--shred"]);
        assert_eq!((exit, stderr.contains(why)), (Exit::Failed, true), "{stderr}");
        assert!(stdout.contains("1 of 1 entries are stored"), "{stdout}");
    }
    assert_eq!(fs::read(&other).unwrap(), b"A=hunter1\n");
    assert_eq!(fs::read(dir.0.join("target")).unwrap(), b"A=hunter1\n");
    vault.join().unwrap();
}
