//! Replays the corpora of the fuzz targets, and mutates them a little.

use crate::{Draft, Envelope, fuzz_answer, fuzz_envelope, fuzz_manifest};
use proptest::prelude::{any, proptest};
use std::fs;
use std::path::PathBuf;

/// The seeds of a target, by file name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target);
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut seeds: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{} has the corpus of {target}", dir.display());
    seeds
}

/// Seeds named `ok-*` are read; all others are refused.
#[test]
fn the_corpus_of_manifests() {
    for (name, bytes) in seeds("manifest") {
        fuzz_manifest(&bytes);
        let read = Draft::parse(&bytes);
        assert_eq!(read.is_ok(), name.starts_with("ok-"), "{name}: {:?}", read.err().map(|e| e.to_string()));
    }
}

#[test]
fn the_corpus_of_envelopes() {
    for (name, bytes) in seeds("envelope") {
        fuzz_envelope(&bytes);
        let read = Envelope::parse(&bytes);
        assert_eq!(read.is_ok(), name.starts_with("ok-"), "{name}: {:?}", read.err().map(|e| e.to_string()));
    }
}

#[test]
fn the_corpus_of_answers() {
    for (name, bytes) in seeds("answer") {
        assert_eq!(fuzz_answer(&bytes), name.starts_with("ok-"), "{name}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_answered(bytes in any::<Vec<u8>>()) {
        fuzz_manifest(&bytes);
        fuzz_envelope(&bytes);
        fuzz_answer(&bytes);
    }

    #[test]
    fn damaged_seeds_are_answered(pick in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for target in ["manifest", "envelope", "answer"] {
            let seeds = seeds(target);
            let mut bytes = pick.get(&seeds).1.clone();
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            match target {
                "manifest" => fuzz_manifest(&bytes),
                "answer" => drop(fuzz_answer(&bytes)),
                _ => fuzz_envelope(&bytes),
            }
        }
    }
}
