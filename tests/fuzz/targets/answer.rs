//! Fuzzes an operator's answers, and what is signed in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _read = octant_manifest::fuzz_answer(bytes);
});
