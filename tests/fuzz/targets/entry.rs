//! Fuzzes the reading of an entry's canonical form and of a stored state.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::fuzz::entry(bytes));
