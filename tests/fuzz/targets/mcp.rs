//! Fuzzes the reading of requests of MCP.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| octant_mcp::fuzz_request(bytes));
