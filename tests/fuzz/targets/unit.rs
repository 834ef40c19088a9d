//! Fuzzes the reading of a unit file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_init::fuzz_unit(bytes));
