//! Entries for fuzzers and for the replay of their corpora: any bytes, no panic, and a few things that must hold.

use crate::checkpoint::{Checkpoint, Signed};
use crate::entry::{View, encode};
use crate::merkle::leaf_hash;
use crate::note::{Note, NoteKey, Verifier};
use crate::proof::InclusionProof;
use crate::state::State;
use crate::tile::{self, Tile};

/// The longest text of an error: it does not repeat the input.
const ERROR_BYTES: usize = 1 << 10;

/// Keys that signed nothing a fuzzer has seen: of a log and of a witness, by the name that the input says.
fn strangers(name: &str) -> Vec<Verifier> {
    let keys = [NoteKey::from_seed(name, [0x5a; 32]), NoteKey::cosigner(name, [0x5a; 32])];
    keys.iter().flatten().map(NoteKey::verifier).collect()
}

fn bearable(error: &dyn std::error::Error) {
    assert!(error.to_string().len() < ERROR_BYTES, "an error of unreasonable length");
}

/// Reads bytes as a signed note, as a verifier key and as a private key.
///
/// # Panics
/// When what is read is not printed as it was, or a key has signed it that did not.
pub fn note(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Note::parse(text) {
        Ok(note) => {
            assert_eq!(note.to_string(), text, "a note is printed as it was read");
            let names = note.signatures.iter().take(3).flat_map(|signature| strangers(&signature.name));
            assert!(names.into_iter().all(|key| note.signed_by(&key).is_err()), "nobody signed this");
        }
        Err(error) => bearable(&error),
    }
    match text.parse::<Verifier>() {
        Ok(key) => assert_eq!(key.to_string(), text, "a key is printed as it was read"),
        Err(error) => bearable(&error),
    }
    match NoteKey::from_text(text) {
        Ok(key) => assert_eq!(key.to_text(), text.strip_suffix('\n').unwrap_or(text)),
        Err(error) => bearable(&error),
    }
}

/// Reads bytes as a signed checkpoint, and as the text of one.
///
/// # Panics
/// When what is read is not printed as it was, or a key has signed it that did not.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Signed::parse_unverified(text) {
        Ok(signed) => {
            assert_eq!(signed.to_text(), text, "a checkpoint is printed as it was read");
            assert_eq!(signed.checkpoint.to_text(), signed.note.text);
            for key in strangers(&signed.checkpoint.origin) {
                assert!(Signed::open(text, &key).is_err(), "nobody signed this");
                assert!(signed.cosigned_by(&key).is_err(), "nobody cosigned this");
            }
            let (mut added, lines) = (signed.clone(), text.rsplit("\n\n").next().unwrap_or_default());
            assert_eq!(added.add(lines), Ok(0), "what is there is not added again");
            assert_eq!(added, signed);
        }
        Err(error) => bearable(&error),
    }
    match Checkpoint::parse(text) {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.to_text(), text, "a checkpoint's text is printed as it was read")
        }
        Err(error) => bearable(&error),
    }
}

/// Reads bytes that begin with `tile/` as a path, and others as an entry bundle behind a byte with its width less one.
///
/// # Panics
/// When what is read is not printed as it was.
pub fn tile(bytes: &[u8]) {
    if bytes.starts_with(b"tile/") {
        let Ok(path) = str::from_utf8(bytes) else { return };
        assert!(Tile::parse(path).is_none_or(|tile| tile.path() == path));
        assert!(Tile::parse_entries(path).is_none_or(|tile| tile.entries_path() == path));
        return;
    }
    let Some((width, bundle)) = bytes.split_first() else { return };
    let width = u16::from(*width) + 1;
    match tile::entries(bundle, width) {
        Ok(entries) => {
            assert_eq!(entries.len(), usize::from(width));
            let mut again = Vec::new();
            assert!(entries.iter().all(|entry| tile::push_entry(&mut again, entry).is_ok()));
            assert_eq!(again, bundle, "a bundle is written as it was read");
        }
        Err(error) => bearable(&error),
    }
    match tile::hashes(bundle, width) {
        Ok(hashes) => assert!(hashes.iter().flat_map(|hash| hash.0).eq(bundle.iter().copied())),
        Err(error) => bearable(&error),
    }
}

/// Reads bytes as an entry, and as a stored state.
///
/// # Panics
/// When what is read is not written as it was.
pub fn entry(bytes: &[u8]) {
    match View::of(bytes) {
        Ok(view) => {
            let Ok((draft, place, stamp)) = view.parts() else {
                panic!("an entry has a payload, or stands for one")
            };
            let mut again = Vec::new();
            encode(&mut again, &draft, &place, stamp);
            assert_eq!(again, bytes, "an entry is written as it was read");
        }
        Err(error) => bearable(&error),
    }
    if let Err(error) = State::default().accept(bytes, |_, _, _| {}) {
        bearable(&error);
    }
    match State::decode(bytes) {
        // Lists are written in order, so another order is not written as it was read; it is read as the same.
        Ok(state) => assert_eq!(State::decode(&state.encode()).as_ref(), Ok(&state)),
        Err(error) => bearable(&error),
    }
}

/// Reads bytes as an inclusion proof.
///
/// # Panics
/// When what is read is printed as another proof, or proves something by a key that did not sign it.
pub fn proof(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let proof = match InclusionProof::parse(text) {
        Ok(proof) => proof,
        Err(error) => return bearable(&error),
    };
    let printed = proof.to_text();
    assert_eq!(InclusionProof::parse(&printed).as_ref(), Ok(&proof), "a proof is printed as it was read");
    // Only extra data is left out.
    assert!(printed == text || text.contains("\nextra "));
    let Ok(signed) = Signed::parse_unverified(&proof.checkpoint) else { return };
    for key in strangers(&signed.checkpoint.origin) {
        assert!(proof.verify(&leaf_hash(bytes), &key).is_err(), "nobody signed this");
    }
}
