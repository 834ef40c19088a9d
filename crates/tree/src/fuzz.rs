//! The entry for fuzzers of the stream, and for the replay of their corpus.

use crate::pack::{NAMED, Wish, list};
use crate::tree::Tree;

/// Reads bytes as a stream of a tree, with narrow limits; whether they are one.
///
/// # Panics
/// When a tree is beyond what was wished for or has no canonical form, or what was left out would control a terminal.
#[must_use]
pub fn fuzz_pack(bytes: &[u8]) -> bool {
    let wish = Wish { places: None, bytes: 4096, entries: 64 };
    let Ok((tree, left_out)) = list(&mut &*bytes, &wish) else { return false };
    assert!(tree.bytes() <= wish.bytes, "more bytes than were wished for");
    assert!(tree.len() as u64 <= wish.entries, "more entries than were wished for");
    assert!(left_out.named.len() as u64 <= NAMED, "more names than are kept");
    let mut texts = left_out.named.iter().flat_map(|(name, why)| [name, why]);
    assert!(!texts.any(|text| text.chars().any(char::is_control)), "a text that controls a terminal");
    assert_eq!(Tree::from_bytes(&tree.to_bytes()).as_ref(), Ok(&tree), "a tree without a form");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tests/corpus/pack: seeds named `ok-*` are read, all others are refused; damaged ones are answered.
    #[test]
    fn the_corpus_of_streams() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/pack");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (name, bytes) = (entry.file_name(), std::fs::read(entry.path()).unwrap());
            assert_eq!(fuzz_pack(&bytes), name.to_str().unwrap().starts_with("ok-"), "{name:?}");
            for at in 0..bytes.len().min(300) {
                let _cut = fuzz_pack(&bytes[..at]);
                let mut other = bytes.clone();
                other[at] ^= 0x5f;
                let _damaged = fuzz_pack(&other);
            }
            count += 1;
        }
        assert!(count >= 16, "the corpus is not where it was");
    }
}
