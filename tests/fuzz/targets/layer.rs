//! Fuzzes the reading and application of an image's layers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _read = octant_oci::fuzz_layer(bytes);
});
