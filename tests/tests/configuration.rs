//! The machine's configuration: applied, refused, left for the one that worked; on an instance and on a machine.

use crate::boot::with_data;
use crate::exports::said;
use crate::namespace::Instance;
use octant_tests::cpio::Cpio;
use octant_tests::environment::{Scratch, binary};
use octant_tests::guest::{Boot, Guest};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A key whose role may configure machines; the one that `cargo x` makes signs manifests alone. Gives its public half.
fn admin(scratch: &Scratch) -> Vec<u8> {
    let made = said(
        Command::new(binary())
            .args(["manifest", "keygen", "root", "--role", "admin", "--into"])
            .arg(scratch.path("")),
    );
    assert_eq!(made.0, Some(0), "{made:?}");
    fs::read(scratch.path("root.pub")).unwrap_or_else(|e| panic!("{e}"))
}

/// Signs a configuration with that key.
fn signed(scratch: &Scratch, serial: u32, more: &str) -> PathBuf {
    let (text, envelope) = (scratch.path(&format!("{serial}.toml")), scratch.path(&format!("{serial}.json")));
    let head = format!(
        "config = 1\nserial = {serial}\n[audience]\nmachines = [\"*\"]\nnot_after = 2999-01-01T00:00:00Z\n"
    );
    fs::write(&text, head + more).unwrap_or_else(|e| panic!("{}: {e}", text.display()));
    let key = scratch.path("root.key");
    let made = said(
        Command::new(binary())
            .args(["config", "sign"])
            .arg(&text)
            .arg("--key")
            .arg(&key)
            .arg("--output")
            .arg(&envelope),
    );
    assert_eq!(made.0, Some(0), "{made:?}");
    envelope
}

/// A public key that nobody has the other half of.
const BOB: &str =
    "[operators.bob]\nkey = \"6lpsaerjrMNZAmb6sgIFbxrzphNZZ3YK9JwYBIScgxQ=\"\nrole = \"developer\"\n";

#[test]
fn a_configuration_that_does_not_work_is_left_for_the_one_that_did() {
    let instance = Instance::new("configuration");
    instance.write("etc/trusted/root.pub", &admin(&instance.scratch));
    let within = "[machine]\nhealth_within = \"10s\"\n";
    let good = signed(&instance.scratch, 2, &format!("{within}{BOB}[limits]\nmax_agents = 5\n"));
    // In order for whoever checks it, and the gate cannot start with it.
    let bad = signed(
        &instance.scratch,
        3,
        &format!(
            "{within}[egress]\nextra_roots = \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\"\n"
        ),
    );
    let old = signed(&instance.scratch, 1, "");
    let flipped = instance.scratch.path("flipped.json");
    let whole = fs::read_to_string(&good).unwrap_or_else(|e| panic!("{e}"));
    fs::write(&flipped, whole.replacen("Y29uZmln", "Y29uZmlo", 1)).unwrap_or_else(|e| panic!("{e}"));
    let mut up = Command::new("timeout")
        .args(["--kill-after=5", "120"])
        .arg(binary())
        .args(["up", "--accept-missing=cgroup", "--dir"])
        .arg(instance.dir())
        .spawn()
        .unwrap_or_else(|e| panic!("octant up: {e}"));
    let octant = |words: &[&str], file: Option<&PathBuf>| {
        said(Command::new(binary()).arg("--dir").arg(instance.dir()).args(words).args(file))
    };
    // (words, file, exit code, what is said)
    let apply: &[&str] = &["config", "apply", "--wait", "60s"];
    let steps: [(&[&str], Option<&PathBuf>, i32, &str); 9] = [
        (&["health", "--wait", "60s"], None, 0, "healthy: 7 units"),
        (apply, Some(&good), 0, "configuration 1 is in force"),
        (&["trust", "list"], None, 0, " bob "),
        (apply, Some(&bad), 10, "egress.extra_roots"),
        (&["health", "--wait", "60s"], None, 0, "healthy: 7 units"),
        (apply, Some(&bad), 10, ""),
        (apply, Some(&flipped), 7, ""),
        (apply, Some(&old), 7, ""),
        (&["config", "show"], None, 0, "in force: configuration 1\n"),
    ];
    for (number, (words, file, code, expected)) in steps.into_iter().enumerate() {
        let done = octant(words, file);
        assert!(done.0 == Some(code) && done.1.contains(expected), "step {number}: {done:?}");
    }
    let record = octant(&["ledger", "tail", "-n", "400"], None).1;
    for expected in [
        "intend configuration 1: serial 2, sha256 ",
        "configuration 1 works",
        "intend configuration 2: serial 3, sha256 ",
        "configuration 2 does not work: egress is failed: ",
        "configuration 1 is in force again",
    ] {
        assert!(record.contains(expected), "{expected}\n{record}");
    }
    assert_eq!(octant(&["poweroff"], None).0, Some(0));
    assert!(up.wait().is_ok_and(|ended| ended.success()));
    // The next start begins with it, and with whom it trusts.
    let again = instance.accepting("octant config show; octant trust list");
    assert!(again.1.contains("in force: configuration 1\n") && again.1.contains(" bob "), "{again:?}");
}

#[test]
fn a_machine_takes_its_configuration_from_the_firmware_and_refuses_another() {
    let scratch = Scratch::new("smbios");
    let data = with_data(&scratch);
    let mut archive = Cpio::default();
    archive.file("etc/octant/trusted/root.pub", 0o644, &admin(&scratch));
    let overlay = scratch.path("root.cpio");
    fs::write(&overlay, archive.finish()).unwrap_or_else(|e| panic!("{}: {e}", overlay.display()));
    let strings = |file: &PathBuf| -> Vec<String> {
        let text = said(Command::new(binary()).args(["base64", "-w0"]).arg(file)).1;
        let parts = text.as_bytes().chunks(400).enumerate();
        parts.map(|(n, part)| format!("octant.config.{n}={}", String::from_utf8_lossy(part))).collect()
    };
    let boot = |strings: &[String]| {
        let append = "octant.config=smbios octant.job=hostname;octant%20health%20--wait%2060s;sleep%2012;octant%20config%20show";
        let boot = Boot {
            append,
            data: Some(data.clone()),
            overlay: Some(&overlay),
            oem_strings: strings,
            ..Boot::default()
        };
        let mut guest = Guest::boot(&scratch.path(""), &boot);
        guest.until("the job's end", 300, |line| line.contains("octant: job exit 0"));
        guest.until_off(60);
        guest.log.join("\n")
    };
    let log = boot(&strings(&signed(&scratch, 1, "[machine]\nhostname = \"edge-7\"\n")));
    for expected in [
        "configuration 1 from smbios: serial 1, signed by root (trusted)",
        "\nedge-7",
        "configuration 1 works",
        "in force: configuration 1",
    ] {
        assert!(log.contains(expected), "{expected}\n{log}");
    }
    let other = signed(&scratch, 2, "[machine]\nhostname = \"edge-8\"\n");
    let flipped =
        fs::read_to_string(&other).unwrap_or_else(|e| panic!("{e}")).replacen("Y29uZmln", "Y29uZmlo", 1);
    fs::write(&other, flipped).unwrap_or_else(|e| panic!("{e}"));
    let log = boot(&strings(&other));
    for expected in
        ["configuration from smbios: the signature of operator", "\nedge-7", "in force: configuration 1"]
    {
        assert!(log.contains(expected), "{expected}\n{log}");
    }
}
