//! Parts of files put together by somebody who has many files, and no data key.

use super::{DATA, Made, OWN, SALT, VAULT, key, open, raw, refused};
use crate::format::{self, FormatError, Header};
use crate::slots::{self, Lock};
use octant_crypto::passphrase::Argon2Cost;

#[test]
fn frames_stand_where_they_were_written() {
    let made = Made::new();
    let all = made.frames.clone();
    assert_eq!(made.with_frames(&all), made.bytes);
    for first in 0..all.len() {
        for second in 0..all.len() {
            let mut frames = all.clone();
            frames.insert(second, all[first].clone());
            refused(&made, &made.with_frames(&frames), &format_args!("frame {first} also at {second}"));
            if first != second {
                let mut frames = all.clone();
                frames.swap(first, second);
                refused(&made, &made.with_frames(&frames), &format_args!("{first} and {second} swapped"));
            }
        }
        let mut frames = all.clone();
        frames.remove(first);
        // Without its last frame a file is an earlier state.
        if first < all.len() - 1 {
            refused(&made, &made.with_frames(&frames), &format_args!("without frame {first}"));
        }
    }
    let mut twice = all.clone();
    twice.extend(all.iter().cloned());
    refused(&made, &made.with_frames(&twice), &"every frame twice");
    let whole_twice = [&made.bytes[..], &made.bytes].concat();
    refused(&made, &whole_twice, &"the whole file twice");
}

/// The frames of `from` from number `at` on, in the place of those of `into`.
fn spliced(into: &Made, from: &Made, at: usize) -> Vec<u8> {
    let mut bytes = into.bytes[..into.frames[at].start].to_vec();
    bytes.extend_from_slice(&from.bytes[from.frames[at].start..]);
    bytes
}

#[test]
fn frames_of_another_file_do_not_fit() {
    let here = Made::new();
    for (what, there) in [
        ("the same vault with another history", Made::of(VAULT, 1, key(DATA), 9)),
        ("the same history written again", Made::new()),
        ("another vault under the same data key", Made::of([0xb2; 16], 1, key(DATA), 0)),
        ("the same vault under an earlier data key", Made::of(VAULT, 2, key(DATA), 0)),
        ("the same vault under another data key", Made::of(VAULT, 1, key([0xd8; 32]), 0)),
    ] {
        for at in 0..here.frames.len() {
            let bytes = spliced(&here, &there, at);
            // Behind a header of the same bytes, all frames of a file are that file.
            if bytes != there.bytes {
                refused(&here, &bytes, &format_args!("{what}, from frame {at} on"));
            }
            // One frame of it alone.
            let mut bytes = here.bytes[..here.frames[at].start].to_vec();
            bytes.extend_from_slice(&there.bytes[there.frames[at].clone()]);
            refused(&here, &bytes, &format_args!("{what}, frame {at}"));
        }
        let error = open(&there.bytes, &key([0xee; 32])).map(drop).unwrap_err();
        assert_eq!(error, FormatError::HeaderMac, "{what}, opened with a key of nothing");
    }
}

/// A frame whose head says another epoch, with the right checksum.
#[test]
fn an_epoch_cannot_be_claimed() {
    let made = Made::new();
    for (number, frame) in made.frames.iter().enumerate() {
        for epoch in [0, 6, 7, 8, 9, 12, 13, u64::MAX] {
            let mut bytes = made.bytes.clone();
            let head = &mut bytes[frame.start..frame.start + 16];
            head[4..12].copy_from_slice(&u64::to_be_bytes(epoch));
            let crc = crc32c::crc32c(&head[..12]);
            head[12..].copy_from_slice(&crc.to_be_bytes());
            if bytes != made.bytes {
                refused(&made, &bytes, &format_args!("frame {number} as epoch {epoch}"));
            }
        }
    }
    // What was written as the last frame is no frame of the next epoch either.
    let last = made.frames.last().unwrap().clone();
    let mut bytes = made.bytes.clone();
    let mut again = made.bytes[last].to_vec();
    again[4..12].copy_from_slice(&13_u64.to_be_bytes());
    let crc = crc32c::crc32c(&again[..12]);
    again[12..16].copy_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&again);
    let error = refused(&made, &bytes, &"the last frame as the next one");
    assert!(matches!(error, FormatError::Frame { what: "a frame does not open", .. }), "{error}");
}

/// A header with these slots and the frames and MAC that were there: what somebody without the data key can make.
fn forged(made: &Made, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = made.header.clone();
    change(&mut header);
    let text = serde_json::to_vec(&header).unwrap();
    let len = u32::try_from(text.len()).unwrap();
    let mut bytes = format::MAGIC.to_vec();
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&text);
    bytes.extend_from_slice(&made.bytes[made.text.end..]);
    bytes
}

#[test]
fn slots_of_another_vault_open_nothing() {
    let here = Made::new();
    let there = Made::of([0xb2; 16], 1, key([0xd8; 32]), 0);
    assert_eq!(forged(&here, |_| {}), here.bytes);
    for (one, other) in [(&here, &there), (&there, &here)] {
        let bytes = forged(one, |header| header.slots = other.header.slots.clone());
        let read = raw(&bytes).unwrap();
        assert!(read.header.slots[0].open(&read.header, &OWN).is_err(), "the vault is bound to the slot");
        assert_eq!(refused(one, &bytes, &"slots of another vault"), FormatError::HeaderMac);
        // Neither with the other's data key.
        assert_eq!(open(&bytes, &other.data).map(drop).unwrap_err(), FormatError::HeaderMac);
    }
    // The same slot under another number, of another kind, or of another number of data key.
    for change in [
        |header: &mut Header| header.slots[0].slot = 1,
        |header: &mut Header| header.slots[0].lock = Lock::StaticFile {},
        |header: &mut Header| header.key = 2,
        |header: &mut Header| header.vault.0[0] ^= 1,
    ] {
        let bytes = forged(&here, change);
        let read = raw(&bytes).unwrap();
        assert!(read.header.slots[0].open(&read.header, &OWN).is_err());
        refused(&here, &bytes, &"a slot that says something else of itself");
    }
}

/// Whoever knows a passphrase and a vault's identifier can make a slot for it, around a data key of their own. It opens
/// nothing of the vault, since the header is under the vault's own data key.
#[test]
fn a_slot_that_somebody_made_gives_a_key_to_nothing() {
    let made = Made::new();
    let lock = Lock::Passphrase { cost: Argon2Cost::FLOOR };
    let slot = slots::wrap(&made.header, 2, String::new(), 5, lock, SALT, (&OWN, &key([0xee; 32]))).unwrap();
    let bytes = forged(&made, |header| header.slots = vec![slot]);
    let read = raw(&bytes).unwrap();
    let data = read.header.slots[0].open(&read.header, &OWN).unwrap();
    assert_eq!(open(&bytes, &data).map(drop).unwrap_err(), FormatError::HeaderMac);
    refused(&made, &bytes, &"a slot that was made elsewhere");
}
