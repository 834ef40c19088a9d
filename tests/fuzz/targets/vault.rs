//! Fuzzes the reading of a vault's file: header and frames under a fixed data key, and what somebody with that key writes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    octant_vault::fuzz_vault(bytes);
});
