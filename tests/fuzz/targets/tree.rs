//! Fuzzes the reading of a tree's canonical form: what is read is written the same again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = octant_tree::Tree::from_bytes(bytes) {
        assert_eq!(tree.to_bytes(), bytes);
    }
});
