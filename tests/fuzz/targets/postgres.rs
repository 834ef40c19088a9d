//! Fuzzes the begin of a session with a database, both sides.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_egress::fuzz_postgres(bytes));
