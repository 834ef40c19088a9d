//! What a witness remembers.

use super::{Dir, Lines, ORIGIN, Tree, ask, log_key, open, open_with, witness_key};
use crate::state::{Directory, Log};
use crate::{Config, Level, StateError, Witness, WitnessError};
use octant_tlog::checkpoint::Signed;
use octant_tlog::note::NoteKey;
use std::fs;
use std::path::PathBuf;

/// The one file of this ending below a directory.
fn file(dir: &Dir, ending: &str) -> PathBuf {
    let mut found = fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|extension| extension == ending)).unwrap()
}

#[test]
fn it_remembers_over_a_restart_and_refuses_fork_and_rollback_then_too() {
    let (dir, lines) = (Dir::new(), Lines::default());
    let tree = Tree::new(&[1; 9]);
    let other = Tree::new(&[2; 9]);
    assert_eq!(ask(&open(&dir.0, &lines), &tree.request(0, 6)).0, 200);
    let witness = open(&dir.0, &lines);
    assert_eq!(ask(&witness, &tree.request(0, 6)), (409, "6\n".into()));
    assert_eq!(ask(&witness, &tree.request(4, 5)), (409, "6\n".into()));
    assert_eq!(ask(&witness, &other.request(6, 6)), (409, "6\n".into()));
    assert_eq!(ask(&witness, &other.request(6, 9)).0, 422);
    assert_eq!(ask(&witness, &tree.request(6, 6)).0, 200);
    assert_eq!(ask(&witness, &tree.request(6, 9)).0, 200);
    let lines = lines.of(Level::Info);
    assert!(lines.iter().any(|line| line.contains("cosigned last at 6 entries")), "{lines:?}");
}

#[test]
fn a_fork_is_kept_as_two_checkpoints_that_anyone_can_check() {
    let (dir, lines) = (Dir::new(), Lines::default());
    let (tree, other) = (Tree::new(&[1; 9]), Tree::new(&[2; 9]));
    let witness = open(&dir.0, &lines);
    assert_eq!(ask(&witness, &tree.request(0, 6)).0, 200);
    let mut fork = other.request(0, 6);
    fork.push_str("\u{2014} somebody Az3grlgtzPICa5OS8npVmf1Myq8=\n");
    // Once as a first checkpoint, once as the next one; it is one fork.
    assert_eq!(ask(&witness, &fork), (409, "6\n".into()));
    assert_eq!(ask(&witness, &other.request(6, 6)), (409, "6\n".into()));
    let errors = lines.of(Level::Error);
    assert!(errors.len() == 1 && errors[0].contains("a second tree of 6 entries"), "{errors:?}");
    let notes = fs::read_dir(dir.0.join("forks")).unwrap().map(|entry| entry.unwrap().path());
    let notes: Vec<String> = notes.map(|path| fs::read_to_string(path).unwrap()).collect();
    let signed = |note: &String| Signed::open(note, &log_key().verifier()).unwrap();
    let [first, second] = [signed(&notes[0]), signed(&notes[1])];
    assert_eq!((notes.len(), first.checkpoint.size, second.checkpoint.size), (2, 6, 6));
    assert_ne!(first.checkpoint.root, second.checkpoint.root);
    assert!(notes.iter().all(|note| !note.contains("somebody")), "only what the log signed is evidence");
    // It goes on with the tree that it knows.
    assert_eq!(ask(&witness, &tree.request(6, 9)).0, 200);
}

#[test]
fn forks_do_not_fill_the_disk() {
    let (dir, lines) = (Dir::new(), Lines::default());
    let witness = open(&dir.0, &lines);
    assert_eq!(ask(&witness, &Tree::new(&[0; 2]).request(0, 2)).0, 200);
    for leaf in 1..50 {
        assert_eq!(ask(&witness, &Tree::new(&[leaf; 2]).request(2, 2)), (409, "2\n".into()));
    }
    let kept = fs::read_dir(dir.0.join("forks")).unwrap().count();
    assert!((2..=33).contains(&kept), "{kept}");
}

#[test]
fn any_changed_byte_of_the_state_ends_the_witnessing_of_that_log_alone() {
    let dir = Dir::new();
    let logs = || vec![log_key().verifier(), NoteKey::from_seed("other", [7; 32]).unwrap().verifier()];
    let tree = Tree::new(&[1; 9]);
    assert_eq!(ask(&open_with(&dir.0, &Lines::default(), witness_key(), logs()), &tree.request(0, 6)).0, 200);
    let path = file(&dir, "checkpoint");
    let right = fs::read(&path).unwrap();
    let mut damages = vec![Vec::new(), right[..right.len() - 1].to_vec(), vec![b'x'; 1 << 20], vec![0xff; 9]];
    for at in 0..right.len() {
        damages.push([&right[..at], &[right[at] ^ 1], &right[at + 1..]].concat());
    }
    let (log, own) = (log_key().verifier(), witness_key().verifier());
    let directory = Directory::open(&dir.0).unwrap();
    for (number, damage) in damages.iter().enumerate() {
        fs::write(&path, damage).unwrap();
        let loaded = Log::load(&directory, ORIGIN, &[&log], &own);
        assert!(matches!(loaded.seen(), Err(StateError::Damaged { .. })), "{number}: {loaded:?}");
    }
    drop(directory);
    let mut other = Tree::new(&[3; 9]);
    other.key = NoteKey::from_seed("other", [7; 32]).unwrap().into();
    let lines = Lines::default();
    let witness = open_with(&dir.0, &lines, witness_key(), logs());
    for body in [tree.request(0, 6), tree.request(6, 9)] {
        let (status, body) = ask(&witness, &body);
        assert!(status == 500 && body.contains("cannot be relied on"), "{status} {body}");
    }
    assert_eq!(lines.of(Level::Error).len(), 1);
    assert_eq!(Some(&fs::read(&path).unwrap()), damages.last(), "it is left as it is");
    assert_eq!(ask(&witness, &other.request(0, 9)).0, 200);
    drop(witness);
    fs::write(&path, right).unwrap();
    assert_eq!(ask(&open(&dir.0, &Lines::default()), &tree.request(6, 9)).0, 200);
}

#[test]
fn the_state_of_another_witness_or_another_log_is_not_its_own() {
    let dir = Dir::new();
    let tree = Tree::new(&[1; 9]);
    assert_eq!(ask(&open(&dir.0, &Lines::default()), &tree.request(0, 6)).0, 200);
    // Another key of the same name.
    let key = NoteKey::cosigner("w1.example", [9; 32]).unwrap();
    let other = open_with(&dir.0, &Lines::default(), key, vec![log_key().verifier()]);
    let (status, body) = ask(&other, &tree.request(6, 9));
    assert!(status == 500 && body.contains("own cosignature"), "{body}");
    drop(other);
    // Another key of the log under the same origin.
    let key = NoteKey::from_seed(ORIGIN, [9; 32]).unwrap();
    let mut forged = Tree::new(&[1; 9]);
    forged.key = key.into();
    let logs = vec![forged.key.verifier()];
    let other = open_with(&dir.0, &Lines::default(), witness_key(), logs);
    assert_eq!(ask(&other, &forged.request(6, 9)).0, 500);
}

#[test]
fn a_state_that_cannot_be_written_is_not_cosigned() {
    let dir = Dir::new();
    let lines = Lines::default();
    let tree = Tree::new(&[1; 9]);
    let witness = open(&dir.0, &lines);
    assert_eq!(ask(&witness, &tree.request(0, 3)).0, 200);
    let path = file(&dir, "checkpoint");
    // A directory where the new file has to go, as a disk that is full would refuse it.
    let new = path.with_extension("new");
    fs::create_dir(&new).unwrap();
    let (status, body) = ask(&witness, &tree.request(3, 6));
    assert!(status == 503 && body.contains("try again"), "{status} {body}");
    assert_eq!(ask(&witness, &tree.request(6, 9)), (409, "3\n".into()), "the old state stands");
    fs::remove_dir(&new).unwrap();
    assert_eq!(ask(&witness, &tree.request(3, 6)).0, 200);
    // A directory in place of the file itself: now nobody knows what is there.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(ask(&witness, &tree.request(6, 9)).0, 500);
    fs::remove_dir(&path).unwrap();
    let (status, body) = ask(&witness, &tree.request(6, 9));
    assert!(status == 500 && body.contains("started again"), "{status} {body}");
    assert_eq!(lines.of(Level::Error).len(), 2, "{:?}", lines.all());
}

/// Anybody can send the newest checkpoint again, since it is public.
#[test]
fn what_is_stored_already_costs_no_disk() {
    let dir = Dir::new();
    let tree = Tree::new(&[1; 9]);
    let witness = open(&dir.0, &Lines::default());
    assert_eq!(ask(&witness, &tree.request(0, 0)).0, 200);
    assert_eq!(ask(&witness, &tree.request(0, 6)).0, 200);
    let path = file(&dir, "checkpoint");
    let before = fs::read(&path).unwrap();
    // Nothing can be written.
    fs::create_dir(path.with_extension("new")).unwrap();
    let (status, cosignature) = ask(&witness, &tree.request(6, 6));
    assert_eq!(status, 200, "{cosignature}");
    let mut signed = Signed::parse_unverified(&tree.checkpoint(6)).unwrap();
    signed.add(&cosignature).unwrap();
    signed.cosigned_by(&witness_key().verifier()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(ask(&witness, &tree.request(6, 9)).0, 503, "what is new is stored first");
}

#[test]
fn a_directory_has_one_witness_and_keys_have_one_use() {
    let dir = Dir::new();
    let config = |key, logs| Config { key, logs, dir: dir.0.clone(), say: Lines::default().say() };
    let right = || config(witness_key(), vec![log_key().verifier()]);
    let first = Witness::open(right()).unwrap();
    let second = Witness::open(right()).unwrap_err();
    assert!(matches!(second, WitnessError::State(StateError::Taken { .. })), "{second}");
    drop(first);
    Witness::open(right()).unwrap();
    let wrong = Witness::open(config(log_key(), vec![log_key().verifier()])).unwrap_err();
    assert!(matches!(wrong, WitnessError::Key { .. }), "{wrong}");
    let wrong = Witness::open(config(witness_key(), vec![witness_key().verifier()])).unwrap_err();
    assert!(matches!(wrong, WitnessError::LogKey { .. }), "{wrong}");
    let wrong = Witness::open(config(witness_key(), Vec::new())).unwrap_err();
    assert!(matches!(wrong, WitnessError::NoLog), "{wrong}");
}
