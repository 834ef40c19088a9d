//! Fuzzes the reading of a signed note and of keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::fuzz::note(bytes));
