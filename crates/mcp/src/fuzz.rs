//! The entry for fuzzing.

use crate::answer::result_of;
use crate::request::{METHODS, Revision, read};
use octant_api::rpc::Method;

/// Reads arbitrary bytes as the parameters of every method, and as what a tool answered. It must return for every input.
pub fn fuzz_request(bytes: &[u8]) {
    const ROWS: &[Method] = &METHODS;
    // Only that they return matters here.
    if let Ok(text) = std::str::from_utf8(bytes) {
        for row in ROWS {
            let _ = read(row, text);
        }
    }
    let _ = result_of(Revision::V2026, Ok(bytes));
}
