//! Replays the corpora of the fuzz targets, and mutates them a little.

use octant_tlog::checkpoint::Signed;
use octant_tlog::entry::View;
use octant_tlog::fuzz;
use octant_tlog::note::Note;
use octant_tlog::proof::InclusionProof;
use octant_tlog::tile::{Tile, entries, hashes};
use octant_tlog::witness::{Request, fuzz_request};
use proptest::prelude::{any, proptest};
use proptest::sample::Index;
use std::fs;
use std::path::PathBuf;

/// A target: its corpus, its entry, and whether the bytes are read.
type Target = (&'static str, fn(&[u8]), fn(&[u8]) -> bool);

const TARGETS: [Target; 6] = [
    ("entry", fuzz::entry, |bytes| View::of(bytes).is_ok()),
    ("note", fuzz::note, |bytes| str::from_utf8(bytes).is_ok_and(|text| Note::parse(text).is_ok())),
    ("checkpoint", fuzz::checkpoint, |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| Signed::parse_unverified(text).is_ok())
    }),
    ("tile", fuzz::tile, is_tile),
    ("proof", fuzz::proof, |bytes| {
        str::from_utf8(bytes).is_ok_and(|text| InclusionProof::parse(text).is_ok())
    }),
    ("request", fuzz_request, |bytes| {
        Request::parse(bytes).is_ok_and(|request| Signed::parse_unverified(request.checkpoint).is_ok())
    }),
];

fn is_tile(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"tile/") {
        let path = str::from_utf8(bytes).unwrap();
        return Tile::parse(path).is_some() || Tile::parse_entries(path).is_some();
    }
    bytes.split_first().is_some_and(|(width, bundle)| {
        let width = u16::from(*width) + 1;
        entries(bundle, width).is_ok() || hashes(bundle, width).is_ok()
    })
}

/// The seeds of a target, by file name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target);
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut seeds: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 20, "{} has the corpus of {target}", dir.display());
    seeds
}

/// Seeds named `ok-*` are read; all others are refused.
#[test]
fn the_corpora_are_survived_and_told_apart() {
    for (target, entry, read) in TARGETS {
        for (name, bytes) in seeds(target) {
            entry(&bytes);
            assert_eq!(read(&bytes), name.starts_with("ok-"), "{target}/{name}");
        }
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_answered(bytes in any::<Vec<u8>>()) {
        for (_, entry, _) in TARGETS {
            entry(&bytes);
        }
    }

    #[test]
    fn damaged_seeds_are_answered(pick in any::<Index>(), at in any::<Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for (target, entry, _) in TARGETS {
            let mut bytes = pick.get(&seeds(target)).1.clone();
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            entry(&bytes);
        }
    }
}
