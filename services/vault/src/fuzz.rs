//! Entry for fuzzers and for the replay of their corpus: any bytes, no panic, and a few things that must hold.

use crate::format::{self, FormatError};
use crate::raw::{Contents, Raw};
use crate::state::{LeaseRecord, Now, Op, State};
use crate::store::StoreError;
use octant_crypto::memory::Key;
use std::path::Path;

/// The data key of every file in tests/corpus/vault.
const DATA: [u8; 32] = [0xd7; 32];
const BOOT: &str = "00112233445566778899aabbccddeeff";
const NOW: Now = Now { wall_ms: 0, boot_ns: 0 };
/// The longest text of an error: it does not repeat the input.
const ERROR_BYTES: usize = 1 << 10;

/// Reads bytes as a vault's file under a fixed data key. Bytes that begin otherwise are what somebody with that key writes: a
/// header's text, then the contents of frames, each behind its length (u32, big endian); the seals are made here. Says
/// whether it is a vault.
///
/// # Panics
/// When what was read is not the same after it was written anew, or an error repeats the input.
pub fn fuzz_vault(bytes: &[u8]) -> bool {
    let Ok(data) = Key::from_bytes(&DATA) else { return false };
    let file = if bytes.starts_with(&format::MAGIC[..6]) { Ok(bytes.to_vec()) } else { sealed(bytes, &data) };
    let read = file.and_then(|file| read(file, &data));
    match &read {
        Ok(contents) => written_anew(&contents.state),
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < ERROR_BYTES, "an error of unreasonable length");
            assert!(!text.chars().any(char::is_control), "an error that controls a terminal");
        }
    }
    read.is_ok()
}

fn read(file: Vec<u8>, data: &Key) -> Result<Contents, FormatError> {
    let raw = Raw::parse(file, Path::new("vault")).map_err(|error| match error {
        StoreError::Format { source, .. } => source,
        other => FormatError::Header(other.to_string()),
    })?;
    raw.contents(data, BOOT, None)
}

/// A file with these parts, and seals that are right.
fn sealed(bytes: &[u8], data: &Key) -> Result<Vec<u8>, FormatError> {
    let parts: Result<Vec<&[u8]>, _> = format::parts(bytes).collect();
    let mut parts = parts.map_err(|what| FormatError::Header(what.to_owned()))?.into_iter();
    let text = parts.next().unwrap_or_default();
    let (header, mut file) = format::sealed_header(text, data)?;
    let mut end = format::end_of(&file);
    let mut epoch = header.epoch;
    for (number, content) in (0..).zip(parts) {
        epoch += u64::from(number >= header.frames);
        let (frame, next) = format::frame(&header, data, end, epoch, content)?;
        file.extend_from_slice(&frame);
        end = next;
    }
    Ok(file)
}

/// What is in a new file is what was in the old one.
fn written_anew(state: &State) {
    let mut again = State::new(BOOT);
    for (op, value) in state.changes(NOW) {
        let op = serde_json::to_vec(&op).and_then(|text| serde_json::from_slice::<Op>(&text));
        let fits = op.is_ok_and(|op| again.apply(op, value).is_ok());
        assert!(fits, "a change that says what is there does not fit");
    }
    let leases = |state: &State| {
        let mut leases: Vec<LeaseRecord> = state.live_leases(NOW).cloned().collect();
        leases.sort_by_key(|lease| lease.token);
        leases
    };
    assert!(again.machine == state.machine && again.secrets == state.secrets && again.grants == state.grants);
    assert_eq!(
        (again.next_grant, again.ledger, again.wall_ms),
        (state.next_grant, state.ledger, state.wall_ms)
    );
    assert_eq!(leases(&again), leases(state));
}
