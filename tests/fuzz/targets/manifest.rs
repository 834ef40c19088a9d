//! Fuzzes the reading of a manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_manifest::fuzz_manifest(bytes));
