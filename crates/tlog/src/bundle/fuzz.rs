//! Entry for fuzzers and for the replay of their corpus.

use super::{Check, Given, Wrong};
use crate::note::NoteKey;

/// Reads bytes as an export, once against a key that did not sign it and once against its own.
///
/// # Panics
/// When the export verifies with the key that did not sign it, when a report contradicts itself, or an error's text is
/// unreasonably long.
pub fn fuzz_export(bytes: &[u8]) {
    let Ok(key) = NoteKey::from_seed("octant/0000000000000000", [0x5a; 32]) else { return };
    let stranger = Given { key: Some(key.verifier()), ..Given::default() };
    assert!(read(bytes, stranger).is_err(), "an export verified that the key did not sign");
    match read(bytes, Given::default()) {
        Ok(report) => {
            assert!(!report.key_given && !report.not_proven.is_empty(), "without a key nobody is known");
            assert!(report.from > 0 && report.to <= report.size, "a range outside the log");
            assert!(!report.complete || report.entries == report.size, "complete, but not all");
        }
        Err(wrong) => assert!(wrong.to_string().len() < 4096, "an error of unreasonable length"),
    }
}

fn read(bytes: &[u8], given: Given) -> Result<super::Report, Wrong> {
    let mut check = Check::new(given);
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    for line in lines {
        check.line(line)?;
    }
    check.finish()
}
