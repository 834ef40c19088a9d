//! Fuzzes the reading of a line of the wire.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_wire::fuzz_line(bytes));
