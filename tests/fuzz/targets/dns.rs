//! Fuzzes a question for a name.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_egress::fuzz_dns(bytes));
