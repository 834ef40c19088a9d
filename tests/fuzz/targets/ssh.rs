//! Fuzzes the reading of logins, hosts' keys and an SSH agent's messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_ssh::fuzz(bytes));
