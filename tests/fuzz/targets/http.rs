//! Fuzzes requests in which secrets are put.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_egress::fuzz_http(bytes));
