//! Fuzzes the reading of an inclusion proof.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::fuzz::proof(bytes));
