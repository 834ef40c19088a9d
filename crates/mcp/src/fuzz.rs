//! The entry for fuzzing.

use crate::answer::result_of;
use crate::client::{Heard, begun, found, hear, page, taken};
use crate::request::{METHODS, Revision, read};
use octant_api::rpc::Method;

/// Reads arbitrary bytes as the parameters of every method, as what a tool answered, and as a line of a server that nobody
/// here wrote with its list and its results. It must return for every input.
pub fn fuzz_request(bytes: &[u8]) {
    const ROWS: &[Method] = &METHODS;
    // Only that they return matters here.
    if let Ok(text) = std::str::from_utf8(bytes) {
        for row in ROWS {
            let _ = read(row, text);
        }
    }
    let _ = result_of(Revision::V2026, Ok(bytes));
    if let Ok(Heard::Answer { result: Ok(result), .. }) = hear(bytes) {
        let _ = (begun(&result), found(&result), page(result.clone()), taken(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_corpus_of_requests_is_survived() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/mcp");
        let mut files = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            fuzz_request(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 10, "the corpus has only {files} files");
    }
}
