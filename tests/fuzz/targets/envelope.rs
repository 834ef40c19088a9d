//! Fuzzes the reading of a signed envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_manifest::fuzz_envelope(bytes));
