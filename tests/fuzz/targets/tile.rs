//! Fuzzes the reading of a tile's path and of an entry bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::fuzz::tile(bytes));
