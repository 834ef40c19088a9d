//! `policy`: release keys and approvals.

use super::*;
use octant_api::vault::POLICY_REF;
use octant_tpm::{APPROVALS_MAX, Approval, PcrSet, PcrValues, PolicyRef, ReleasePublicKey, pcr_policy};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn policy(dir: &Dir, args: &[&str]) -> Done {
    octant_given(&dir.0, &[&["vault", "policy"][..], args].concat(), b"")
}

impl Dir {
    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn approvals(&self, name: &str) -> Vec<Approval> {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }
}

/// A directory with a key pair in it, and its public half.
fn keys() -> (Dir, ReleasePublicKey) {
    let dir = Dir::new();
    let (exit, stdout, stderr) = policy(&dir, &["keygen", "--into", &dir.at("")]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert!(stdout.contains("keep it secret") && !stdout.contains("BEGIN"), "{stdout}");
    let public = fs::read_to_string(dir.at("release.pub")).unwrap();
    (dir, ReleasePublicKey::from_pem(&public).unwrap())
}

fn value(number: u8) -> String {
    format!("{number}={}", Sha256([number; 32]))
}

fn approve(dir: &Dir, args: &[&str]) -> Done {
    policy(dir, &[&["approve", "--key", &dir.at("release.key")][..], args].concat())
}

#[test]
fn a_key_pair_is_made_once() {
    let (dir, _) = keys();
    let mode = |name: &str| fs::metadata(dir.at(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("release.key"), mode("release.pub") & 0o600), (0o400, 0o600));
    let before = fs::read(dir.at("release.key")).unwrap();
    let (exit, _, stderr) = policy(&dir, &["keygen", "--into", &dir.at("")]);
    assert_eq!((exit, stderr.contains("release.key is there already")), (Exit::Failed, true), "{stderr}");
    assert_eq!(fs::read(dir.at("release.key")).unwrap(), before);
    // Nor is half a pair left beside an older public key.
    fs::remove_file(dir.at("release.key")).unwrap();
    let public = fs::read(dir.at("release.pub")).unwrap();
    let (exit, _, stderr) = policy(&dir, &["keygen", "--into", &dir.at("")]);
    assert_eq!((exit, stderr.contains("release.pub is there already")), (Exit::Failed, true), "{stderr}");
    assert!(!dir.0.join("release.key").exists());
    assert_eq!(fs::read(dir.at("release.pub")).unwrap(), public);
    fs::remove_file(dir.at("release.pub")).unwrap();
    let (exit, stdout, _) = policy(&dir, &["keygen", "--json", "--into", &dir.at("")]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((exit, document["key"].as_str().unwrap().len()), (Exit::Ok, 130));
}

#[test]
fn an_approval_is_of_these_values_for_a_vault_and_verifies_with_the_public_key() {
    let (dir, public) = keys();
    let args = ["--pcr", &value(11), "--pcr", &value(7)];
    let (exit, stdout, stderr) = approve(&dir, &args);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    let printed: Vec<Approval> = serde_json::from_str(&stdout).unwrap();
    let values = PcrValues::new([(7, Sha256([7; 32])), (11, Sha256([11; 32]))]).unwrap();
    assert_eq!((printed[0].pcrs, printed[0].policy), (PcrSet::default(), pcr_policy(&values)));
    assert!(printed[0].is_signed_by(&public, &PolicyRef::new(POLICY_REF).unwrap()));
    assert!(!printed[0].is_signed_by(&public, &PolicyRef::new(b"vault").unwrap()));

    let file = dir.at("one.json");
    let (exit, stdout, _) = approve(&dir, &[&args[..], &["-o", &file]].concat());
    assert_eq!((exit, stdout), (Exit::Ok, format!("PCRs 7, 11 are approved; {file} has 1 approvals\n")));
    assert_eq!(dir.approvals("one.json"), printed);
    let (exit, _, stderr) = approve(&dir, &["--pcr", &value(7), "-o", &file]);
    assert_eq!((exit, stderr.contains("is there already")), (Exit::Failed, true), "{stderr}");
    assert_eq!(dir.approvals("one.json"), printed);
}

#[test]
fn approvals_are_added_to_those_that_a_file_has() {
    let (dir, public) = keys();
    let file = dir.at("approvals.json");
    let add = |args: &[&str]| approve(&dir, &[args, &["--into", &file]].concat());
    assert_eq!(add(&["--pcr", &value(7)]).0, Exit::Ok);
    let (exit, stdout, _) = add(&["--pcr", &value(11), "--json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (exit, &document["approvals"], &document["approval"]["pcrs"]),
        (Exit::Ok, &json!(2), &json!([11]))
    );
    let (exit, stdout, _) = add(&["--pcr", &value(7)]);
    assert_eq!((exit, stdout.contains("are approved already")), (Exit::Ok, true), "{stdout}");
    let list = dir.approvals("approvals.json");
    let numbers: Vec<Vec<u8>> = list.iter().map(|approval| approval.pcrs.numbers().collect()).collect();
    assert_eq!(numbers, [[7], [11]]);
    assert!(list.iter().all(|one| one.is_signed_by(&public, &PolicyRef::new(POLICY_REF).unwrap())));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(!dir.0.join("approvals.json.new").exists());

    let (_, other) = keys();
    fs::write(dir.at("other.pub"), other.to_pem().unwrap()).unwrap();
    for (key, signed) in [("release.pub", "yes"), ("other.pub", "NO")] {
        let (exit, stdout, _) = policy(&dir, &["show", &file, "--key", &dir.at(key)]);
        assert_eq!((exit, stdout.matches(signed).count()), (Exit::Ok, 2), "{stdout}");
    }
    let (exit, stdout, _) = policy(&dir, &["show", &file, "--json"]);
    assert_eq!((exit, serde_json::from_str::<Vec<Approval>>(&stdout).unwrap()), (Exit::Ok, list));
    assert_eq!(policy(&dir, &["show"]).0, Exit::NotFound, "the vault's own list is not there");
}

#[test]
fn what_is_no_list_or_is_full_is_kept_as_it_is() {
    let (dir, _) = keys();
    let file = dir.at("approvals.json");
    assert_eq!(approve(&dir, &["--pcr", &value(7), "--into", &file]).0, Exit::Ok);
    let full = vec![dir.approvals("approvals.json").remove(0); APPROVALS_MAX];
    for text in ["", "{}", "[1]", &serde_json::to_string(&full).unwrap()] {
        fs::write(&file, text).unwrap();
        let (exit, stdout, stderr) = approve(&dir, &["--pcr", &value(11), "--into", &file]);
        assert_eq!((exit, stdout.as_str()), (Exit::Invalid, ""), "{stderr}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn what_is_no_value_or_no_key_is_refused() {
    let (dir, _) = keys();
    let (seven, zero) = (value(7), format!("11={}", Sha256::ZERO));
    for (args, exit, why) in [
        (&[][..], Exit::Usage, "--pcr"),
        (&["--pcr", "7"], Exit::Usage, "N=HEX"),
        (&["--pcr", "7=00"], Exit::Usage, "N=HEX"),
        (&["--pcr", &seven, "--pcr", &seven], Exit::Invalid, "PCR 7 is named twice"),
        (&["--pcr", &seven, "-o", "x", "--into", "y"], Exit::Usage, "cannot be used with"),
        (&["--pcr", &zero], Exit::Ok, "WARNING: PCR 11 is zero"),
    ] {
        let (found, _, stderr) = approve(&dir, args);
        assert_eq!((found, stderr.contains(why)), (exit, true), "{args:?}: {stderr}");
    }
    let public = dir.at("release.pub");
    let (exit, _, stderr) = policy(&dir, &["approve", "--key", &public, "--pcr", &seven]);
    assert_eq!((exit, stderr.contains("not an ECDSA P-256 private key")), (Exit::Invalid, true), "{stderr}");
    let (exit, _, stderr) = policy(&dir, &["approve", "--key", "/nonexistent", "--pcr", &seven]);
    assert_eq!((exit, stderr.contains("cannot read the release key")), (Exit::NotFound, true), "{stderr}");
}
