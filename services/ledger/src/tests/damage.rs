//! Damage: whatever is changed or removed below the acknowledged head is noticed and named.

use super::{Dir, STAMP, append, boot, end_of, item, open, segment, verify};
use crate::refusal::Refusal;
use crate::segment::file_name;
use crate::store::{Options, Store};
use crate::{PageLimits, ReadError};
use octant_api::ledger::Damage;
use proptest::prelude::*;
use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;

const EVERYTHING: PageLimits = PageLimits { entries: 10_000, bytes: 1 << 30, looked_at: 10_000 };

fn damage(store: &Store) -> Damage {
    match store.reader().refusal() {
        Some(Refusal::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

fn small() -> Options {
    Options { segment_bytes: 1000, ..Options::default() }
}

/// Reading what stands before the damage works, nothing can be appended, and verifying names the place.
fn is_read_only(store: &mut Store, damage: &Damage) {
    let reader = store.reader();
    let before = reader.page(1, EVERYTHING, |_| true).unwrap().entries;
    assert_eq!(before.len() as u64, damage.seq - 1);
    assert_eq!(store.commit(&[item("x")], STAMP), Err(Refusal::Damaged(damage.clone())));
    assert_eq!(store.probe(), Err(Refusal::Damaged(damage.clone())));
    let report = verify(&reader);
    assert_eq!((report.entries, report.damage.as_ref()), (damage.seq - 1, Some(damage)));
    assert!(!damage.next.is_empty() && !damage.what.is_empty());
}

/// Ten entries in one segment, closed.
fn ten(dir: &Path) -> u64 {
    let mut store = open(dir);
    append(&mut store, 1, 10);
    drop(store);
    end_of(&segment(dir))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_byte_of_the_last_segment_is_found_at_the_start(
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let dir = Dir::quick();
        let end = usize::try_from(ten(&dir.0)).unwrap();
        let mut bytes = fs::read(segment(&dir.0)).unwrap();
        bytes[at.index(end)] ^= flip;
        fs::write(segment(&dir.0), bytes).unwrap();
        let mut store = open(&dir.0);
        let damage = damage(&store);
        prop_assert!(damage.offset <= at.index(end) as u64);
        is_read_only(&mut store, &damage);
        // And it stays so.
        drop(store);
        prop_assert_eq!(super::damage::damage(&open(&dir.0)), damage);
    }

    #[test]
    fn any_cut_below_the_head_is_found_at_the_start(at in any::<prop::sample::Index>(), zeros in any::<bool>()) {
        let dir = Dir::quick();
        let end = ten(&dir.0);
        // Zeros in the place of the last frame's own zeros would be no damage.
        let cut = at.index(usize::try_from(end).unwrap() - if zeros { 8 } else { 0 });
        let mut bytes = fs::read(segment(&dir.0)).unwrap();
        let whole = bytes.len();
        bytes.truncate(cut);
        if zeros {
            bytes.resize(whole, 0);
        }
        fs::write(segment(&dir.0), bytes).unwrap();
        let mut store = open(&dir.0);
        let damage = damage(&store);
        is_read_only(&mut store, &damage);
    }

    #[test]
    fn any_flipped_byte_of_an_earlier_segment_is_found_by_verify(
        which in 0_usize..4,
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let dir = Dir::quick();
        let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
        append(&mut store, 1, 50);
        let mut files: Vec<_> =
            fs::read_dir(dir.0.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "log"));
        files.sort();
        let path = &files[which];
        let mut bytes = fs::read(path).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        fs::write(path, bytes).unwrap();
        let report = verify(&store.reader());
        let damage = report.damage.unwrap();
        prop_assert_eq!(&damage.segment, path.file_name().unwrap().to_str().unwrap());
        prop_assert!(damage.offset <= place as u64);
        prop_assert_eq!(report.entries, damage.seq - 1);
        // Found once, it refuses appends; entries before it are still read.
        prop_assert!(matches!(store.commit(&[item("x")], STAMP), Err(Refusal::Damaged(_))));
        let limits = PageLimits { looked_at: (damage.seq - 1).max(1), ..EVERYTHING };
        if damage.seq > 1 {
            let page = store.reader().page(1, limits, |_| true).unwrap();
            prop_assert_eq!(page.entries.len() as u64, damage.seq - 1);
        }
        // A flip in a header changes no entry; in an entry, its reading fails where it stands.
        if place >= 64 {
            let one = PageLimits { entries: 1, ..EVERYTHING };
            let read = store.reader().page(damage.seq, one, |_| true);
            prop_assert!(matches!(read, Err(ReadError::Damaged(found)) if found.seq == damage.seq));
        }
    }
}

#[test]
fn an_entry_that_was_replaced_together_with_its_checksum_is_found() {
    let (dir, other) = (Dir::quick(), Dir::quick());
    ten(&dir.0);
    let mut store = open(&other.0);
    for n in 1..=10 {
        store.commit(&[item(&format!("entri {n}"))], STAMP).unwrap();
    }
    drop(store);
    fs::copy(segment(&other.0), segment(&dir.0)).unwrap();
    let store = open(&dir.0);
    assert!(damage(&store).what.contains("not the one that was acknowledged"), "{:?}", damage(&store));
}

#[test]
fn a_missing_segment_is_found() {
    let dir = Dir::quick();
    let make = |name: &str| {
        let path = dir.0.join(name);
        let (mut store, _) = Store::open(&path, boot(), small()).unwrap();
        append(&mut store, 1, 50);
        drop(store);
        let mut firsts = crate::read::segments(&path.join("segments")).unwrap();
        assert!(firsts.len() > 3);
        firsts.sort_unstable();
        (path, firsts)
    };
    let remove =
        |path: &Path, first: u64| fs::remove_file(path.join("segments").join(file_name(first))).unwrap();

    let (path, firsts) = make("first");
    remove(&path, firsts[0]);
    assert_eq!(damage(&open(&path)).seq, 1);

    let (path, firsts) = make("middle");
    remove(&path, firsts[1]);
    let store = open(&path);
    assert_eq!(verify(&store.reader()).damage.unwrap().seq, firsts[1]);

    let (path, firsts) = make("last");
    remove(&path, *firsts.last().unwrap());
    let mut store = open(&path);
    let found = damage(&store);
    assert_eq!(found.seq, *firsts.last().unwrap());
    is_read_only(&mut store, &found);

    let (path, firsts) = make("all");
    firsts.iter().for_each(|first| remove(&path, *first));
    assert!(damage(&open(&path)).what.contains("no segment is left"));

    let (path, firsts) = make("header");
    let last = path.join("segments").join(file_name(*firsts.last().unwrap()));
    fs::write(last, b"OCT").unwrap();
    let mut store = open(&path);
    let found = damage(&store);
    assert_eq!(found.seq, *firsts.last().unwrap());
    is_read_only(&mut store, &found);
}

#[test]
fn a_missing_or_spoilt_head_is_found_and_one_torn_slot_is_not_enough_to_spoil_it() {
    let dir = Dir::quick();
    let make = |name: &str| {
        let path = dir.0.join(name);
        ten(&path);
        path
    };
    let path = make("missing");
    fs::remove_file(path.join("head")).unwrap();
    assert!(damage(&open(&path)).what.contains("head file"));

    let path = make("spoilt");
    fs::write(path.join("head"), [7; 1024]).unwrap();
    assert!(damage(&open(&path)).what.contains("head file"));

    let path = make("ahead");
    let donor = dir.0.join("donor");
    let mut store = open(&donor);
    append(&mut store, 1, 11);
    drop(store);
    fs::copy(donor.join("head"), path.join("head")).unwrap();
    assert_eq!(damage(&open(&path)).seq, 11);

    for slot in [0, 512] {
        let path = make(&format!("slot-{slot}"));
        let mut bytes = fs::read(path.join("head")).unwrap();
        bytes[slot + 20] ^= 1;
        fs::write(path.join("head"), bytes).unwrap();
        let mut store = open(&path);
        append(&mut store, 11, 1);
    }
}

thread_local! {
    static SYNCS_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn failing_sync(file: &fs::File) -> io::Result<()> {
    let left = SYNCS_LEFT.get();
    SYNCS_LEFT.set(left.saturating_sub(1));
    if left == 0 {
        Err(io::Error::from_raw_os_error(nix::errno::Errno::EIO as i32))
    } else {
        file.sync_data()
    }
}

#[test]
fn after_a_failed_sync_nothing_is_appended_until_it_is_opened_again() {
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), Options { sync: failing_sync, ..small() }).unwrap();
    append(&mut store, 1, 3);
    SYNCS_LEFT.set(0);
    assert!(matches!(store.commit(&[item("lost")], STAMP), Err(Refusal::Storage { .. })));
    SYNCS_LEFT.set(u32::MAX);
    // The next sync would succeed, which says nothing about the pages that failed.
    assert!(matches!(store.commit(&[item("later")], STAMP), Err(Refusal::Storage { .. })));
    assert!(matches!(store.probe(), Err(Refusal::Storage { .. })));
    assert_eq!(store.reader().tip().seq, 3);
    assert_eq!(store.reader().page(1, EVERYTHING, |_| true).unwrap().entries.len(), 3);
    drop(store);
    let mut store = open(&dir.0);
    let tip = store.reader().tip().seq;
    append(&mut store, tip + 1, 2);
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn the_probe_notices_what_happens_behind_the_ledgers_back() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 4);
    store.probe().unwrap();
    let entries = store.reader().tip().seq;
    assert_eq!(entries, 4, "a probe leaves no entry");
    let mut bytes = fs::read(segment(&dir.0)).unwrap();
    let last = bytes.windows(7).rposition(|window| window == b"entry 4").unwrap();
    bytes[last] ^= 1;
    fs::write(segment(&dir.0), bytes).unwrap();
    assert!(matches!(store.probe(), Err(Refusal::Damaged(damage)) if damage.seq == 4));
    assert!(store.commit(&[item("x")], STAMP).is_err());

    let other = Dir::quick();
    let mut store = open(&other.0);
    append(&mut store, 1, 4);
    fs::copy(dir.0.join("head"), other.0.join("head")).unwrap();
    store.probe().unwrap();
    fs::write(other.0.join("head"), [0; 1024]).unwrap();
    assert!(matches!(store.probe(), Err(Refusal::Storage { .. })));
}

#[test]
fn a_second_writer_is_refused() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 1);
    let error = Store::open(&dir.0, boot(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("another process writes this ledger"), "{error}");
    append(&mut store, 2, 1);
}
