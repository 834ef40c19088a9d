//! Fuzzes what a witness does with a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_tlog::witness::fuzz_request(bytes));
