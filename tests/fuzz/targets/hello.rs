//! Fuzzes the begin of TLS.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_egress::fuzz_hello(bytes));
