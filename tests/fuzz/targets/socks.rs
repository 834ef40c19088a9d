//! Fuzzes what a program says to SOCKS.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_egress::fuzz_socks(bytes));
