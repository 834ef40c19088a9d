//! Fuzzes the stream of a tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _read = octant_tree::fuzz_pack(bytes);
});
