//! Twelve ways to tamper with a log, by somebody who can write its files, and in some of them has its key. Each is
//! detected, and the message names the first bad entry; what only a checkpoint from outside can show is `not proven`
//! without one.

use super::{Dir, STAMP, append, boot, draft, item, open, segment, verify};
use crate::files::{snapshot_name, tile_path};
use crate::head::HeadFile;
use crate::publish::{Witnesses, read_key};
use crate::refusal::Refusal;
use crate::segment::{HEADER, Header, Step, Walker, file_name, push_frame};
use crate::store::{Item, Options, Store};
use octant_api::ledger::{Damage, Kind, VerifyReport};
use octant_api::text::Json;
use octant_ids::{Aid, Sha256};
use octant_tlog::checkpoint::{Checkpoint, Signed, sign};
use octant_tlog::entry::{Content, Draft, Place, Stamp, View, encode};
use octant_tlog::merkle::leaf_hash;
use octant_tlog::state::{State, Tip};
use octant_tlog::tile::Tile;
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const ENTRIES: u64 = 40;

fn agent() -> Aid {
    Aid::new(9, [9; 10])
}

/// A log of forty entries, some of them of one agent, with a checkpoint; and that checkpoint, as an outsider keeps it.
fn log(dir: &Path) -> String {
    let mut store = open(dir);
    let lifecycle = Draft { kind: Kind::Lifecycle, agent: Some(agent()), ..draft("provisioned") };
    store.commit(&[lifecycle.into()], STAMP).unwrap();
    for n in 2..=ENTRIES {
        let about = (n % 4 == 0).then(agent);
        let item: Item = Draft { agent: about, ..draft(&format!("entry {n}")) }.into();
        store.commit(&[item], Stamp { mono_ns: n, wall_ms: 1000 + n }).unwrap()[0].as_ref().unwrap();
    }
    drop(store);
    fs::read_to_string(dir.join("checkpoint")).unwrap()
}

/// The entries of the only segment.
fn entries(dir: &Path) -> Vec<Vec<u8>> {
    let file = fs::File::open(segment(dir)).unwrap();
    let mut walker = Walker::new(&file, HEADER);
    let mut all = Vec::new();
    while let Step::Frame { bytes, .. } = walker.step().unwrap() {
        all.push(bytes.to_vec());
    }
    all
}

/// Puts entries into the segment with checksums that are right.
fn put(dir: &Path, entries: &[Vec<u8>]) {
    let mut bytes = Header { first: 1, prev: Sha256::ZERO }.encode().to_vec();
    for (entry, durable) in entries.iter().zip(0..) {
        push_frame::<_, Infallible>(&mut bytes, durable, |out| {
            out.extend_from_slice(entry);
            Ok(())
        })
        .unwrap();
    }
    fs::write(segment(dir), bytes).unwrap();
}

/// The entry with something of it changed, at a place.
fn changed(bytes: &[u8], place: Option<Place>, change: impl FnOnce(&mut Draft, &mut Stamp)) -> Vec<u8> {
    let (mut draft, own, mut stamp) = View::of(bytes).unwrap().parts().unwrap();
    change(&mut draft, &mut stamp);
    let mut out = Vec::new();
    encode(&mut out, &draft, &place.unwrap_or(own), stamp);
    out
}

/// Links entries anew, as somebody does who writes a new history; partitions too if wanted.
fn relinked(entries: &[Vec<u8>], partitions: bool) -> Vec<Vec<u8>> {
    let mut tip = Tip::START;
    let mut state = State::default();
    let mut all = Vec::new();
    for entry in entries {
        let view = View::of(entry).unwrap();
        let again = if partitions {
            let mut out = Vec::new();
            let (draft, _, stamp) = view.parts().unwrap();
            state.seal(view.boot, &draft, stamp, &mut out, |_, _, _| {}).unwrap();
            out
        } else {
            let place =
                Place { seq: tip.seq + 1, prev: tip.hash, boot: view.boot, partition: view.partition };
            changed(entry, Some(place), |_, _| {})
        };
        tip = Tip { seq: tip.seq + 1, hash: leaf_hash(&again) };
        all.push(again);
    }
    all
}

/// Makes head and checkpoint agree with the entries that stand there now: what the log's key allows.
fn agree(dir: &Path) {
    let all = entries(dir);
    let tip = Tip { seq: all.len() as u64, hash: leaf_hash(all.last().unwrap()) };
    HeadFile::open(&dir.join("head")).unwrap().0.reset(tip).unwrap();
    let mut tree = octant_tlog::merkle::Frontier::default();
    all.iter().for_each(|entry| tree.push(leaf_hash(entry), |_, _, _| {}));
    resign(dir, tip.seq, tree.root());
}

fn resign(dir: &Path, size: u64, root: Sha256) {
    let key = read_key(dir).unwrap().unwrap();
    let origin = key.name().to_owned();
    let text = sign(&key, &Checkpoint { origin, size, root, extensions: Vec::new() });
    fs::write(dir.join("checkpoint"), text).unwrap();
}

fn verify_with(dir: &Path, outside: &[String]) -> VerifyReport {
    let store = open(dir);
    store.reader().verify(&AtomicBool::new(false), outside, &Witnesses::default()).unwrap()
}

fn found(dir: &Path, outside: &[String]) -> Damage {
    verify_with(dir, outside).damage.expect("it is detected")
}

/// Detected by whoever has nothing but the log itself.
fn detected(tamper: impl FnOnce(&Path, Vec<Vec<u8>>) -> Vec<Vec<u8>>) -> Damage {
    let dir = Dir::quick();
    log(&dir.0);
    let all = tamper(&dir.0, entries(&dir.0));
    put(&dir.0, &all);
    let damage = found(&dir.0, &[]);
    // And nothing is appended to it.
    let mut store = open(&dir.0);
    assert!(matches!(store.commit(&[item("x")], STAMP), Err(Refusal::Damaged(_))));
    damage
}

/// Consistent in itself: without a checkpoint from outside it is not proven, with one it is detected.
fn detected_from_outside(tamper: impl FnOnce(&Path, Vec<Vec<u8>>) -> Vec<Vec<u8>>) -> (VerifyReport, Damage) {
    let dir = Dir::quick();
    let outside = log(&dir.0);
    let all = tamper(&dir.0, entries(&dir.0));
    put(&dir.0, &all);
    agree(&dir.0);
    let alone = verify_with(&dir.0, &[]);
    assert_eq!(alone.damage, None, "{:?}", alone.damage);
    (alone, found(&dir.0, &[outside]))
}

#[test]
fn an_untampered_log_verifies_and_says_what_it_cannot_prove() {
    let dir = Dir::quick();
    let outside = log(&dir.0);
    let alone = verify_with(&dir.0, &[]);
    assert_eq!((alone.entries, alone.damage), (ENTRIES, None));
    assert_eq!(alone.not_proven.len(), 4, "{:?}", alone.not_proven);
    let with = verify_with(&dir.0, std::slice::from_ref(&outside));
    assert_eq!((with.entries, with.damage, with.not_proven), (ENTRIES, None, Vec::new()));
    assert_eq!((with.outside.len(), with.outside[0].size), (1, ENTRIES));
}

#[test]
fn an_edited_entry() {
    let edit = |bytes: &[u8]| {
        changed(bytes, None, |draft, _| draft.content = Content::Payload(Json::of("edited").unwrap()))
    };
    for seq in [1_usize, 7, 40] {
        let damage = detected(|_, mut all| {
            all[seq - 1] = edit(&all[seq - 1]);
            all
        });
        assert_eq!(damage.seq, seq as u64, "{damage:?}");
    }
}

#[test]
fn a_deleted_entry() {
    let damage = detected(|_, mut all| {
        all.remove(11);
        all
    });
    assert_eq!(damage.seq, 12, "{damage:?}");
}

#[test]
fn an_inserted_entry() {
    let damage = detected(|_, mut all| {
        let before = View::of(&all[19]).unwrap();
        let place = Place { seq: 21, prev: leaf_hash(&all[19]), boot: before.boot, partition: None };
        let forged = changed(&all[20], Some(place), |draft, _| {
            draft.agent = None;
            draft.content = Content::Payload(Json::of("never happened").unwrap());
        });
        all.insert(20, forged);
        all
    });
    assert_eq!(damage.seq, 21, "{damage:?}");
}

#[test]
fn reordered_entries() {
    let damage = detected(|_, mut all| {
        all.swap(4, 5);
        all
    });
    assert_eq!(damage.seq, 5, "{damage:?}");
}

#[test]
fn a_duplicated_entry() {
    let damage = detected(|_, mut all| {
        all.insert(9, all[8].clone());
        all
    });
    assert_eq!(damage.seq, 10, "{damage:?}");
}

#[test]
fn a_cut_tail() {
    // Without the key the head and the checkpoint tell.
    let damage = detected(|_, mut all| {
        all.truncate(30);
        all
    });
    assert_eq!(damage.seq, 31, "{damage:?}");
    // With it, only somebody outside can.
    let (alone, damage) = detected_from_outside(|_, mut all| {
        all.truncate(30);
        all
    });
    assert!(alone.not_proven.iter().any(|line| line.contains("cut off the end")), "{:?}", alone.not_proven);
    assert_eq!(damage.seq, 31, "{damage:?}");
    assert!(damage.what.contains("covers 40 entries"), "{damage:?}");
}

#[test]
fn a_restored_old_copy() {
    let (live, old) = (Dir::quick(), Dir::quick());
    log(&live.0);
    for name in ["head", "log.key", "log.pub", "checkpoint"] {
        fs::copy(live.0.join(name), old.0.join(name)).unwrap();
    }
    fs::create_dir(old.0.join("segments")).unwrap();
    fs::copy(segment(&live.0), segment(&old.0)).unwrap();
    let mut store = open(&live.0);
    append(&mut store, ENTRIES + 1, 5);
    drop(store);
    let outside = fs::read_to_string(live.0.join("checkpoint")).unwrap();
    let alone = verify_with(&old.0, &[]);
    assert_eq!(alone.damage, None);
    assert!(alone.not_proven.iter().any(|line| line.contains("older copy")), "{:?}", alone.not_proven);
    let damage = found(&old.0, &[outside]);
    assert_eq!(damage.seq, ENTRIES + 1, "{damage:?}");
}

#[test]
fn a_chain_rewritten_with_the_logs_key() {
    let (alone, damage) = detected_from_outside(|_, mut all| {
        all[14] =
            changed(&all[14], None, |draft, _| draft.content = Content::Payload(Json::of("better").unwrap()));
        relinked(&all, true)
    });
    assert!(alone.not_proven.iter().any(|line| line.contains("rewritten")), "{:?}", alone.not_proven);
    assert!(damage.what.contains("another root"), "{damage:?}");
    assert_eq!(damage.seq, 1, "with one checkpoint, it is one of the entries from 1 on: {damage:?}");
}

#[test]
fn a_second_checkpoint_from_outside_narrows_down_what_was_rewritten() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 10);
    store.publish(true).unwrap();
    let early = fs::read_to_string(dir.0.join("checkpoint")).unwrap();
    append(&mut store, 11, 10);
    drop(store);
    let late = fs::read_to_string(dir.0.join("checkpoint")).unwrap();
    let mut all = entries(&dir.0);
    all[14] =
        changed(&all[14], None, |draft, _| draft.content = Content::Payload(Json::of("better").unwrap()));
    put(&dir.0, &relinked(&all, true));
    agree(&dir.0);
    let damage = found(&dir.0, &[early, late]);
    assert_eq!(damage.seq, 11, "{damage:?}");
}

#[test]
fn a_split_view() {
    // The same log, continued in two ways with the same key; each is consistent in itself.
    let (one, two) = (Dir::quick(), Dir::quick());
    log(&one.0);
    for name in ["head", "log.key", "log.pub", "checkpoint"] {
        fs::copy(one.0.join(name), two.0.join(name)).unwrap();
    }
    fs::create_dir(two.0.join("segments")).unwrap();
    fs::copy(segment(&one.0), segment(&two.0)).unwrap();
    for (dir, text) in [(&one.0, "shown to one"), (&two.0, "shown to the other")] {
        let mut store = open(dir);
        store.commit(&[item(text)], STAMP).unwrap()[0].as_ref().unwrap();
    }
    let alone = verify_with(&two.0, &[]);
    assert_eq!(alone.damage, None);
    assert!(alone.not_proven.iter().any(|line| line.contains("everybody is shown the same")));
    let outside = fs::read_to_string(one.0.join("checkpoint")).unwrap();
    let damage = found(&two.0, &[outside]);
    assert!(damage.what.contains("somebody was shown another log"), "{damage:?}");
}

#[test]
fn a_checkpoint_signed_again() {
    let dir = Dir::quick();
    log(&dir.0);
    resign(&dir.0, ENTRIES, Sha256([3; 32]));
    let damage = found(&dir.0, &[]);
    assert_eq!((damage.segment.as_str(), damage.seq), ("checkpoint", ENTRIES), "{damage:?}");
    assert!(damage.what.contains("another root"), "{damage:?}");
}

#[test]
fn a_row_dropped_from_a_partition() {
    let dir = Dir::quick();
    log(&dir.0);
    let mut all = entries(&dir.0);
    // Entry 8 is the agent's third. The chain is mended, head and checkpoint are signed anew; the partition tells.
    all.remove(7);
    put(&dir.0, &relinked(&all, false));
    agree(&dir.0);
    let damage = found(&dir.0, &[]);
    assert_eq!(damage.seq, 11, "the agent's next entry: {damage:?}");
    assert!(damage.what.contains("one of that agent's entries is missing"), "{damage:?}");
}

#[test]
fn an_altered_timestamp() {
    for seq in [3_usize, 40] {
        let damage = detected(|_, mut all| {
            all[seq - 1] = changed(&all[seq - 1], None, |_, stamp| stamp.wall_ms -= 1);
            all
        });
        assert_eq!(damage.seq, seq as u64, "{damage:?}");
    }
}

/// Any byte of any file that counts.
#[test]
fn any_flipped_byte_in_segments_snapshots_tiles_and_checkpoints_makes_verify_fail() {
    let dir = Dir::quick();
    let options = || Options { segment_bytes: 24_000, ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    append(&mut store, 1, 600);
    drop(store);
    let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
    let firsts = store.reader().firsts();
    drop(store);
    assert!(firsts.len() > 2, "{firsts:?}");
    let segments = dir.0.join("segments");
    let mut files = vec![dir.0.join("checkpoint")];
    files.extend(firsts.iter().map(|first| segments.join(file_name(*first))));
    // That of the last segment is made again when it is not whole: it is derived, and then needed at once.
    let (last, earlier) = firsts[1..].split_last().unwrap();
    files.extend(earlier.iter().map(|first| segments.join(snapshot_name(*first))));
    files.extend([0, 1].map(|index| tile_path(&dir.0, Tile { level: 0, index, width: 256 })));
    for path in files {
        let right = fs::read(&path).unwrap();
        // The last segment goes on with zeros that are no part of it.
        let end = right.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for at in (0..end).step_by(1 + end / 31).chain([end - 1]) {
            let mut flipped = right.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
            let report = verify(&store.reader());
            assert!(report.damage.is_some(), "byte {at} of {}", path.display());
            drop(store);
            fs::write(&path, &right).unwrap();
        }
    }
    let snapshot = segments.join(snapshot_name(*last));
    let right = fs::read(&snapshot).unwrap();
    let mut flipped = right.clone();
    flipped[100] ^= 1;
    fs::write(&snapshot, flipped).unwrap();
    let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
    assert_eq!(fs::read(&snapshot).unwrap(), right);
}

#[test]
fn a_checkpoint_of_another_log_proves_nothing_here() {
    let (dir, other) = (Dir::quick(), Dir::quick());
    log(&dir.0);
    let strange = log(&other.0);
    let report = verify_with(&dir.0, &[strange.clone(), "no checkpoint at all".to_owned()]);
    assert!(report.outside[0].wrong.as_ref().unwrap().contains("another log"), "{:?}", report.outside);
    assert!(report.outside[1].wrong.as_ref().unwrap().contains("not a checkpoint"), "{:?}", report.outside);
    let signed = Signed::parse_unverified(&strange).unwrap();
    assert_eq!(report.outside[0].size, signed.checkpoint.size);
    assert_eq!(open(&dir.0).reader().refusal(), None, "what an outsider says does not stop the log");
}
