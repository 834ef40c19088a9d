//! Files that were never a vault's, and headers that ask too much of who reads them.

use super::{CANARY, DATA, Made, VAULT, begin, changes, content, key, open, raw, refused};
use crate::format::{self, FRAME_MAX, FormatError, HEADER_MAX, MAGIC};
use crate::state::Op;
use octant_crypto::sign::SigningKey;
use octant_sys::clock;

/// A file with this text as its header, which no MAC vouches for.
fn with_header(text: &[u8]) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap();
    [&MAGIC[..], &len.to_be_bytes(), text, &[0; 32]].concat()
}

#[test]
fn another_file_is_none() {
    let made = Made::new();
    for bytes in
        [&b""[..], b"O", b"OCTVLT", b"octvlt1\n", b"OCTVLT1\r", b"OCTVLT1", b"\x7fELF\x02\x01\x01\0", CANARY]
    {
        assert_eq!(raw(bytes).map(drop).unwrap_err(), FormatError::Magic, "{bytes:?}");
    }
    let later = [b"OCTVLT2\n", &made.bytes[8..]].concat();
    assert_eq!(raw(&later).map(drop).unwrap_err(), FormatError::Version('2'));
    // xorshift (Marsaglia 2003): the test must fail in the same way again.
    let mut seed = 0x9e37_79b9_u32;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_be_bytes()[0]
    };
    for round in 0..300 {
        let garbage: Vec<u8> = std::iter::repeat_with(&mut random).take(round * 7).collect();
        let (text, frames) = (made.text.clone(), made.frames[0].start);
        for bytes in [
            garbage.clone(),
            [&MAGIC[..], &garbage].concat(),
            with_header(&garbage),
            [&made.bytes[..text.start], &garbage].concat(),
            [&made.bytes[..text.end], &garbage].concat(),
        ] {
            refused(&made, &bytes, &format_args!("{round}: {} bytes of garbage", garbage.len()));
        }
        // Behind the header, and behind everything, too few bytes for a frame's head are the beginning of one.
        for start in [frames, made.bytes.len()] {
            let bytes = [&made.bytes[..start], &garbage].concat();
            let torn = made.open(&bytes).map(|contents| contents.opened.torn);
            let torn_tail = start == made.bytes.len() && garbage.len() < 16;
            assert_eq!(torn.is_ok(), torn_tail, "{round}: garbage from {start} on: {torn:?}");
        }
    }
}

#[test]
fn lengths_beyond_their_limits_are_refused_before_there_is_memory_for_them() {
    let made = Made::new();
    for len in [u32::try_from(HEADER_MAX).unwrap() + 1, 1 << 31, u32::MAX] {
        let mut bytes = made.bytes.clone();
        bytes[8..12].copy_from_slice(&len.to_be_bytes());
        let error = refused(&made, &bytes, &format_args!("a header of {len} bytes"));
        assert!(error.to_string().contains("more than 262144"), "{error}");
    }
    let largest = u32::try_from(FRAME_MAX).unwrap() + 16;
    for frame in &made.frames {
        for len in [0, 1, 15, largest + 1, 1 << 31, u32::MAX] {
            let mut bytes = made.bytes.clone();
            let head = &mut bytes[frame.start..frame.start + 16];
            head[..4].copy_from_slice(&u32::to_be_bytes(len));
            let crc = crc32c::crc32c(&head[..12]);
            head[12..].copy_from_slice(&crc.to_be_bytes());
            refused(&made, &bytes, &format_args!("a frame of {len} bytes"));
        }
    }
    // A frame that may be so long, and is not there: the file ends in the middle of it.
    let mut bytes = made.bytes.clone();
    let mut head = [largest.to_be_bytes().as_slice(), &13_u64.to_be_bytes()].concat();
    head.extend_from_slice(&crc32c::crc32c(&head).to_be_bytes());
    bytes.extend_from_slice(&head);
    assert_eq!(made.open(&bytes).unwrap().opened.torn, 16);
}

/// What stands in a frame is as hostile as its author, who may be another program with the data key.
#[test]
fn what_is_in_a_frame_has_a_form_of_its_own() {
    for content in [
        &b"\0"[..],
        b"\0\0\0\x05{}",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0\0\0\0\0",
        b"\0\0\0\x02{}\0\0\0\0",
        b"\0\0\0\x02{}\0\0\0\x01",
        b"\0\0\0\x13{\"op\":\"nothing\"}   \0\0\0\0",
    ] {
        let mut made = Made::new();
        let (frame, _) = format::frame(&made.header, &made.data, made.next, 13, content).unwrap();
        made.bytes.extend_from_slice(&frame);
        refused(&made, &made.bytes, &format_args!("{content:?}"));
    }
}

/// A file of these changes alone, and what is said of it.
fn file_of(ops: Vec<(Op, Vec<u8>)>) -> Result<(), FormatError> {
    let made = Made::new();
    let mut header = made.header.clone();
    let (bytes, _) = format::file(&mut header, &made.data, &content(ops)).unwrap();
    open(&bytes, &made.data).map(drop)
}

#[test]
fn a_vault_has_the_machine_that_its_header_names() {
    let made = Made::new();
    let machine = SigningKey::from_seed(&[3; 32]).unwrap();
    let first = || begin(&made.header, &made.data, &machine);
    assert_eq!(file_of(first()), Ok(()));
    let error = file_of(vec![first().remove(0)]).unwrap_err();
    assert!(error.to_string().contains("no machine's identity"), "{error}");
    // The seed of another machine, a seed that was cut, and another machine altogether.
    let other = SigningKey::from_seed(&[4; 32]).unwrap();
    let mut ops = first();
    ops[1].1 = crate::values::seal_machine(&made.data, &VAULT, &other).unwrap();
    assert!(file_of(ops).is_err());
    for len in [0, 31, 32, 47, 79] {
        let mut ops = first();
        ops[1].1.truncate(len);
        assert!(file_of(ops).is_err(), "{len} bytes of a seed");
    }
    let error = file_of(begin(&Made::of([9; 16], 1, key(DATA), 0).header, &made.data, &other)).unwrap_err();
    assert!(!error.to_string().is_empty());
    let mut header = made.header.clone();
    header.machine.0[0] ^= 1;
    let error = file_of(begin(&header, &made.data, &machine)).unwrap_err();
    assert!(error.to_string().contains("another machine"), "{error}");
    // A value of a secret that is not there.
    let mut ops = first();
    ops.push(changes(&VAULT, &made.data, 0)[0].remove(2));
    assert!(file_of(ops).unwrap_err().to_string().contains("which is not there"));
}

/// The header's text as JSON, changed.
fn changed(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let made = Made::new();
    let mut header = serde_json::to_value(&made.header).unwrap();
    change(&mut header);
    with_header(&serde_json::to_vec(&header).unwrap())
}

#[test]
fn a_passphrase_that_costs_too_little_or_too_much_is_refused_before_anything_is_spent() {
    let started = clock::monotonic_ns();
    for (memory_kib, passes, lanes) in [
        (8, 1, 1),
        (65_535, 3, 1),
        (65_536, 2, 1),
        (65_536, 3, 0),
        (65_536, 3, 17),
        (2 * 1024 * 1024 + 1, 3, 1),
        (65_536, 65, 1),
        (2 * 1024 * 1024, 64, 1),
        (u32::MAX, u32::MAX, u32::MAX),
    ] {
        let bytes = changed(|header| {
            let cost = &mut header["slots"][0]["lock"]["cost"];
            *cost = serde_json::json!({ "memory_kib": memory_kib, "passes": passes, "lanes": lanes });
        });
        let error = raw(&bytes).map(drop).unwrap_err();
        assert!(error.to_string().contains("slot 2"), "{error}");
    }
    assert!(clock::monotonic_ns() - started < 5_000_000_000);
}

#[test]
fn a_header_has_limits_and_nothing_that_is_not_known() {
    assert!(raw(&changed(|_| {})).is_ok(), "only the MAC is wrong");
    let slot = |header: &serde_json::Value| header["slots"][0].clone();
    let wrong: [&dyn Fn(&mut serde_json::Value); 13] = [
        &|header| header["slots"] = serde_json::json!([]),
        &|header| header["slots"] = vec![slot(header); 2].into(),
        &|header| {
            let slots = (0..17).map(|number| {
                let mut slot = slot(header);
                slot["slot"] = number.into();
                slot
            });
            let slots: Vec<_> = slots.collect();
            (header["next_slot"], header["slots"]) = (17.into(), slots.into());
        },
        &|header| header["next_slot"] = 2.into(),
        &|header| header["more"] = 1.into(),
        &|header| header["key"] = (-1).into(),
        &|header| header["vault"] = "00".into(),
        &|header| header["vault"] = header["vault"].as_str().unwrap().to_uppercase().into(),
        &|header| header["slots"][0]["more"] = 1.into(),
        &|header| header["slots"][0]["label"] = "x".repeat(513).into(),
        &|header| header["slots"][0]["lock"] = serde_json::json!({ "kind": "none" }),
        &|header| header["slots"][0]["lock"]["more"] = 1.into(),
        &|header| {
            header["slots"][0]["lock"] = serde_json::json!({ "kind": "shares", "threshold": 1, "count": 3, "set": "0011223344556677" });
        },
    ];
    for (number, change) in wrong.iter().enumerate() {
        let error = raw(&changed(change)).map(drop).expect_err(&format!("change {number}"));
        assert!(matches!(error, FormatError::Header(_)), "{number}: {error}");
    }
    for text in [&b"null"[..], b"[]", b"{}", &b"[".repeat(100_000), &b"{\"slots\":".repeat(10_000)] {
        assert!(matches!(raw(&with_header(text)).map(drop), Err(FormatError::Header(_))));
    }
}
