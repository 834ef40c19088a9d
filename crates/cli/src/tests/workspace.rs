//! `octant workspace` on directories of the test.

use super::{Dir, octant};
use crate::deeds::NO_LEDGER;
use octant_ids::Exit;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A directory with this in it, kept; the snapshot.
fn kept(dir: &Dir, name: &str, files: &[(&str, &str)]) -> String {
    let work = dir.0.join(name);
    for (file, text) in files {
        let path = work.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let (exit, digest, error) = octant(&dir.0, &["workspace", "snapshot", work.to_str().unwrap()]);
    assert_eq!((exit, error), (Exit::Ok, format!("octant: {NO_LEDGER}\n")));
    assert_eq!(digest.trim().len(), 64);
    digest.trim().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_snapshot_is_restored_as_it_was() {
    let dir = Dir::new();
    let work = dir.0.join("work");
    fs::create_dir_all(work.join("empty")).unwrap();
    symlink("/etc/shadow", work.join("link")).unwrap();
    fs::write(work.join("run.sh"), "#!/bin/sh").unwrap();
    fs::set_permissions(work.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    let digest = kept(&dir, "work", &[("src/main.rs", "fn main() {}")]);
    let into = dir.0.join("again");
    let restore = || octant(&dir.0, &["workspace", "restore", &digest[..8], into.to_str().unwrap()]);
    assert_eq!(restore().0, Exit::Ok);
    assert_eq!(read(&into.join("src/main.rs")), "fn main() {}");
    assert_eq!(fs::read_link(into.join("link")).unwrap(), Path::new("/etc/shadow"));
    assert_eq!(fs::metadata(into.join("run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(into.join("empty").is_dir());
    assert_eq!(kept(&dir, "again", &[]), digest, "the same files are the same snapshot");
    let (exit, _, error) = restore();
    assert_eq!(exit, Exit::Failed);
    assert!(error.contains("is there already"), "{error}");
    let (exit, list, _) = octant(&dir.0, &["workspace", "list"]);
    assert_eq!(exit, Exit::Ok);
    assert!(list.contains(&digest), "{list}");
    assert_eq!(octant(&dir.0, &["workspace", "rm", &digest]).0, Exit::Ok);
    let (exit, _, error) = octant(&dir.0, &["workspace", "rm", &digest]);
    assert_eq!(exit, Exit::NotFound);
    assert!(error.contains("octant workspace list"), "{error}");
}

#[test]
fn changes_apart_are_merged_and_others_refused_with_a_list() {
    let dir = Dir::new();
    let base = kept(&dir, "base", &[("a", "1"), ("b", "1"), ("d/x", "1")]);
    let ours = kept(&dir, "ours", &[("a", "2"), ("b", "1"), ("d/x", "1")]);
    let theirs = kept(&dir, "theirs", &[("a", "1"), ("b", "1"), ("d/x", "1"), ("d/new", "3")]);
    let (exit, diff, error) = octant(&dir.0, &["workspace", "diff", &base, &theirs]);
    assert_eq!((exit, diff.as_str()), (Exit::Failed, "+ d/new\n"), "{error}");
    assert_eq!(
        octant(&dir.0, &["workspace", "diff", &base, &base]),
        (Exit::Ok, String::new(), String::new())
    );
    let (exit, merged, error) = octant(&dir.0, &["workspace", "merge", "--base", &base, &ours, &theirs]);
    assert_eq!(exit, Exit::Ok, "{error}");
    let into = dir.0.join("merged");
    let (exit, _, _) = octant(&dir.0, &["workspace", "restore", merged.trim(), into.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok);
    assert_eq!((read(&into.join("a")), read(&into.join("d/new"))), ("2".into(), "3".into()));

    let other = kept(&dir, "other", &[("a", "4"), ("b", "4"), ("d", "a file now")]);
    let merge = ["workspace", "merge", "--base", &base, &ours, &other];
    let (exit, text, error) = octant(&dir.0, &merge);
    assert_eq!((exit, text.as_str()), (Exit::Failed, ""));
    assert!(error.contains("1 conflicts") && error.contains("a: changed on both sides"), "{error}");
    let (_, _, error) = octant(&dir.0, &["workspace", "merge", "--base", &base, &theirs, &other]);
    assert!(error.contains("d: no directory any more on one side"), "{error}");
}

#[test]
fn too_much_is_refused_and_what_is_no_file_is_named() {
    let dir = Dir::new();
    let work = dir.0.join("work");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("big"), vec![0; (1 << 20) + 1]).unwrap();
    let path = work.to_str().unwrap();
    let (exit, _, error) = octant(&dir.0, &["workspace", "snapshot", path, "--limit", "1"]);
    assert_eq!(exit, Exit::Invalid);
    assert!(error.contains("--limit"), "{error}");
    assert_eq!(octant(&dir.0, &["workspace", "list", "--json"]).1, "[]\n");
    nix::unistd::mkfifo(&work.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (exit, _, error) = octant(&dir.0, &["workspace", "snapshot", path]);
    assert_eq!(exit, Exit::Ok);
    assert!(error.contains("left out") && error.contains("pipe"), "{error}");
}
