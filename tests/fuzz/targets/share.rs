//! Fuzzes the reading of a share of a secret, as somebody types it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_crypto::share_text::fuzz(bytes));
