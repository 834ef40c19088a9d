//! Fuzzes the check of an export.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::bundle::fuzz_export(bytes));
