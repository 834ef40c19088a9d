//! Fuzzes the reading of an image's documents.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _read = octant_oci::fuzz_layout(bytes);
});
