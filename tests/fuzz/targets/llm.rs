//! Fuzzes what programs and providers of language models send, in every dialect.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _read = octant_llm::fuzz_llm(bytes);
});
