//! What happens at the same time, what fails in the middle, and what an operator had better not be able to do.

use super::world::{BOOT, PASSPHRASE, Scratch, World, call, file, run, unseal};
use crate::format::Header;
use crate::hex::Hex;
use crate::slots::{self, Lock, Slot};
use crate::store::{Place, StoreError};
use octant_api::error::Code;
use octant_api::vault::{
    BackupRequest, DoctorRequest, Mark, NewSlot, RekeyRequest, SealRequest, SlotAddRequest, SlotKind,
    SlotRemoveRequest, State, With,
};
use octant_crypto::memory::Key;
use octant_crypto::passphrase::Argon2Cost;
use octant_ids::Sha256;
use octant_wire::Client;
use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The doctor reads the file while it is written: that harms neither, and what it finds is one state.
#[test]
fn a_look_at_the_vault_is_in_nobodys_way() {
    run(async {
        let world = World::new();
        world.init().await;
        let (ended, looker) = (Cell::new(false), Client::new(world.scratch.path("vault.sock")));
        let looking = async {
            let mut reports = Vec::new();
            while !ended.get() {
                reports.push(call(&looker, &DoctorRequest {}, None).await.unwrap().0);
            }
            reports
        };
        let changing = async {
            for number in 1..60_u32 {
                let slot = NewSlot::of(SlotKind::StaticFile);
                let added = world.call(&SlotAddRequest { slot }, Some(&[7; 32])).await.unwrap().0;
                assert_eq!(added.slot.slot, number);
                world.call(&SlotRemoveRequest { slot: number }, None).await.unwrap();
                world.put(&format!("n{number}"), b"x").await;
            }
            ended.set(true);
        };
        let (reports, ()) = tokio::join!(looking, changing);
        assert!(reports.len() > 50, "{} looks", reports.len());
        for check in
            reports.iter().flat_map(|report| &report.checks).filter(|check| check.what.contains("file"))
        {
            assert_eq!(check.mark, Mark::Good, "{check:?}");
        }
    });
}

/// What a crash left half made is cleared away when the directory is taken, and by nobody who only reads.
#[test]
fn what_is_being_made_is_removed_by_the_next_process_alone() {
    let scratch = Scratch::new();
    let making = scratch.path("state/vault.new");
    fs::write(&making, b"OCTVLT1\n").unwrap();
    let place = Place::take(&scratch.path("state")).unwrap();
    assert!(!making.exists());
    fs::write(&making, b"OCTVLT1\n").unwrap();
    assert!(place.read().unwrap().is_none());
    assert!(making.exists());
    assert!(matches!(Place::take(&scratch.path("state")), Err(StoreError::Locked(_))));
    assert!(making.exists());
}

#[test]
fn a_backup_into_a_longer_file_is_a_whole_backup() {
    run(async {
        let world = World::new();
        world.init().await;
        let path = world.scratch.path("backup");
        fs::write(&path, vec![0xff; 100_000]).unwrap();
        let into = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let copied = world.operator.call_with(&BackupRequest {}, &[OwnedFd::from(into)]).await.unwrap().0;
        assert!(fs::read(&path).unwrap() == fs::read(file(&world.scratch)).unwrap());
        assert_eq!(copied.bytes, fs::metadata(&path).unwrap().len());
    });
}

/// Shares are handed over when the file that needs them is there already. Whoever is gone by then must have another way.
#[test]
fn a_new_data_key_never_depends_on_what_its_answer_carries() {
    run(async {
        let world = World::new();
        world.init().await;
        let before = fs::read(file(&world.scratch)).unwrap();
        let shares = NewSlot { threshold: 2, count: 3, ..NewSlot::of(SlotKind::Shares) };
        let alone = RekeyRequest { slots: vec![shares.clone()] };
        let error = world.call(&alone, None).await.map(drop).unwrap_err();
        assert_eq!(error.code, Code::InvalidParams, "{error}");
        assert!(error.message.contains("beside the shares"), "{error}");
        assert_eq!(fs::read(file(&world.scratch)).unwrap(), before);
        let both = RekeyRequest { slots: vec![shares, NewSlot::of(SlotKind::Passphrase)] };
        let (_, given) = world.call(&both, Some(b"another passphrase")).await.unwrap();
        let given = String::from_utf8(given.unwrap()).unwrap();
        let given: Vec<&str> = given.lines().collect();
        world.call(&SealRequest {}, None).await.unwrap();
        world.call(&unseal(With::Share), Some(given[0].as_bytes())).await.unwrap();
        let unsealed = world.call(&unseal(With::Share), Some(given[2].as_bytes())).await.unwrap().0;
        assert_eq!(unsealed.status.state, State::Unsealed);
    });
}

/// A slot with a passphrase of this cost, which nobody has computed.
fn dear(header: &Header, number: u32, cost: Argon2Cost, data: &Key) -> Slot {
    let (lock, own) = (Lock::Passphrase { cost }, Key::random().unwrap());
    slots::wrap(header, number, String::new(), 1, lock, [9; 32], (&own, data)).unwrap()
}

/// Every passphrase's slot is tried with what is given, so all of them together have the limit that one has.
#[test]
fn passphrases_together_cost_no_more_than_one_may() {
    let data = Key::from_bytes(&[1; 32]).unwrap();
    let mut header = Header {
        vault: Hex([1; 16]),
        key: 1,
        epoch: 1,
        frames: 0,
        created_ms: 1,
        machine: Sha256([2; 32]),
        next_slot: 16,
        slots: Vec::new(),
    };
    let half = Argon2Cost { memory_kib: 1024 * 1024, passes: 8, lanes: 1 };
    for number in 0..2 {
        header.slots.push(dear(&header, number, half, &data));
        assert_eq!(slots::check(&header), Ok(()));
    }
    header.slots.push(dear(&header, 2, Argon2Cost::FLOOR, &data));
    let error = slots::check(&header).unwrap_err();
    assert!(error.contains("more than 16777216"), "{error}");
    // What cannot be read is not written.
    let error = crate::format::file(&mut header, &data, &[Vec::new()]).map(drop).unwrap_err();
    assert!(error.to_string().contains("more than 16777216"), "{error}");
    header.slots = (0..16).map(|number| dear(&header, number, Argon2Cost::FLOOR, &data)).collect();
    assert_eq!(slots::check(&header), Ok(()), "sixteen that cost the usual are fine");
}

#[test]
fn a_passphrase_that_would_make_them_cost_too_much_is_refused_before_it_is_computed() {
    run(async {
        let world = World::new();
        world.init().await;
        let cost = octant_api::vault::Argon2Cost { memory_kib: 2 * 1024 * 1024, passes: 8, lanes: 1 };
        let slot = NewSlot { cost: Some(cost), ..NewSlot::of(SlotKind::Passphrase) };
        let started = octant_sys::clock::monotonic_ns();
        let error = world.call(&SlotAddRequest { slot }, Some(b"a second one")).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidParams, "{error}");
        assert!(error.message.contains("in all"), "{error}");
        assert!(octant_sys::clock::monotonic_ns() - started < 3_000_000_000);
    });
}

/// The beginning of a frame, or room for one: what a crash in the middle of a write leaves.
#[test]
fn what_was_never_finished_is_cut_off_and_said() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("db", b"x").await;
        let (mut scratch, mut ledger) = world.end().await;
        let good = fs::read(file(&scratch)).unwrap();
        let first = 12 + u32::from_be_bytes(good[8..12].try_into().unwrap()) as usize + 32;
        for torn in [good[first..first + 60].to_vec(), vec![0; 15], vec![0; 4000]] {
            let mut bytes = good.clone();
            bytes.extend_from_slice(&torn);
            fs::write(file(&scratch), bytes).unwrap();
            let world = World::start(scratch, ledger, &[], BOOT);
            match world.unseal().await {
                // A whole head of a frame that was written already is no beginning of the next one.
                Err(error) => assert_eq!((torn.len(), error.code), (60, Code::Damaged), "{error}"),
                Ok(unsealed) => {
                    let said = format!("{} bytes of a change that nobody was told of", torn.len());
                    let warnings = unsealed.status.warnings;
                    assert!(warnings.iter().any(|warning| warning.contains(&said)), "{warnings:?}");
                    assert!(fs::read(file(&world.scratch)).unwrap() == good);
                }
            }
            (scratch, ledger) = world.end().await;
        }
        fs::write(file(&scratch), good).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        world.unseal().await.unwrap();
        world.put("after", b"x").await;
    });
}

/// Numbers that only grow never come to their end: a file in which they have was made to be refused.
#[test]
fn a_header_whose_numbers_are_used_up_is_refused() {
    run(async {
        let world = World::new();
        world.init().await;
        let (scratch, ledger) = world.end().await;
        let bytes = fs::read(file(&scratch)).unwrap();
        let len = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        for (name, value) in [("epoch", u64::MAX), ("key", u64::MAX), ("next_slot", u64::from(u32::MAX))] {
            let mut header: serde_json::Value = serde_json::from_slice(&bytes[12..12 + len]).unwrap();
            header[name] = value.into();
            let text = serde_json::to_vec(&header).unwrap();
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            let changed = [&bytes[..8], &length, &text, &bytes[12 + len..]].concat();
            fs::write(file(&scratch), changed).unwrap();
            let world = World::start(Arc::clone(&scratch), Arc::clone(&ledger), &[], BOOT);
            let status = world.vault.status();
            assert_eq!(status.state, State::Damaged, "{name}");
            assert!(status.why.contains(name), "{}", status.why);
            world.call(&unseal(With::Passphrase), Some(PASSPHRASE)).await.unwrap_err();
            world.end().await;
        }
    });
}
