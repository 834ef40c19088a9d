//! Fuzzes mailboxes with a play of three agents.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    octant_agents::fuzz_mailbox(bytes);
});
