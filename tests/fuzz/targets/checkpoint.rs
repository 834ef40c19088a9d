//! Fuzzes the reading of a signed checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::fuzz::checkpoint(bytes));
