//! Replays what fuzzing starts from and what it found: tests/corpus/share.

use octant_crypto::share_text::{LabelledShare, fuzz};
use std::path::Path;

#[test]
fn shares_are_read_or_refused_as_their_names_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/share");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        fuzz(&bytes);
        let read = std::str::from_utf8(&bytes).is_ok_and(|text| LabelledShare::parse(text).is_ok());
        assert_eq!(read, name.starts_with("ok-"), "{name}");
        seen += 1;
    }
    assert!(seen >= 30, "the corpus is not where it was");
}
