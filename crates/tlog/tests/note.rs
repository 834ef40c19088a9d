//! Signed notes and checkpoints against published examples.

use octant_tlog::note::{Algorithm, Note, NoteKey, Verifier};

/// The example of the Go package golang.org/x/mod/sumdb/note, whose keys and note are public.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn the_published_note_and_keys() {
    let verifier: Verifier = PETER.parse().unwrap();
    assert_eq!(verifier.to_string(), PETER);
    assert_eq!((verifier.name(), verifier.algorithm()), ("PeterNeumann", Algorithm::Ed25519));
    let note = Note::parse(PETER_NOTE).unwrap();
    assert_eq!(note.to_string(), PETER_NOTE);
    assert_eq!(note.signed_by(&verifier), Ok(None));
    let key = NoteKey::from_text(PETER_PRIVATE).unwrap();
    assert_eq!(key.to_text(), PETER_PRIVATE);
    assert_eq!(key.verifier(), verifier);
}
