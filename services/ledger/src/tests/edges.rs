//! What somebody found who looked for ways to break the ledger: crashes between two files, full disks, several operators'
//! commands at once, callers who lie.

use super::{BOOT, Dir, STAMP, append, boot, draft, item, no_tickets, open, segment, verify};
use crate::core;
use crate::files::tile_path;
use crate::head::HeadFile;
use crate::publish::Witnesses;
use crate::refusal::Refusal;
use crate::segment::{Header, file_name, push_frame};
use crate::store::{Item, Options, Store};
use crate::{Ledger, PageLimits, WriterLimits};
use octant_api::error::Code;
use octant_api::ledger::{
    AcknowledgeRequest, AppendRequest, ArchiveRequest, EraseRequest, Kind, PAYLOAD_MAX, VerifyReport,
};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use octant_tlog::checkpoint::cosign;
use octant_tlog::entry::{Draft, Place, encode};
use octant_tlog::merkle::leaf_hash;
use octant_tlog::note::NoteKey;
use octant_tlog::state::{Rule, Tip};
use octant_tlog::tile::Tile;
use std::convert::Infallible;
use std::fs;
use std::path::Path;

const ALL: PageLimits = PageLimits { entries: 1_000_000, bytes: 1 << 30, looked_at: 1_000_000 };

fn operator() -> Principal {
    Principal::Operator(0)
}

fn agents() -> Principal {
    Principal::Service("agents".parse().unwrap())
}

fn small() -> Options {
    Options { segment_bytes: 20_000, ..Options::default() }
}

/// A thousand entries in segments of 20 kB.
fn thousand(dir: &Path) -> Store {
    let (mut store, _) = Store::open(dir, boot(), small()).unwrap();
    for n in 0..10 {
        let items: Vec<Item> = (0..100).map(|k| item(&format!("entry {n} {k}"))).collect();
        store.commit(&items, STAMP).unwrap();
    }
    store.publish(true).unwrap();
    store
}

fn spoil(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_kill_between_the_segment_and_the_head_is_no_reason_to_refuse() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 5);
    let head = fs::read(dir.0.join("head")).unwrap();
    append(&mut store, 6, 2);
    drop(store);
    fs::write(dir.0.join("head"), head).unwrap();
    // The first thing that is asked of it is whether it is well.
    let mut store = open(&dir.0);
    store.probe().unwrap();
    append(&mut store, 8, 1);
}

#[test]
fn a_witness_that_is_replaced_leaves_right_cosignatures_behind() {
    let witness = |n: u8| NoteKey::cosigner(&format!("witness{n}.example"), [n; 32]).unwrap();
    let options = |keys: &[u8]| {
        let keys = keys.iter().map(|n| witness(*n).verifier()).collect();
        Options { witnesses: Witnesses::new(keys, 1), ..Options::default() }
    };
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), options(&[1])).unwrap();
    append(&mut store, 1, 5);
    store.publish(true).unwrap();
    let published = store.reader().publication();
    let line = cosign(&witness(1), &published.latest.unwrap().note.text, 1_700_000_000);
    let again = cosign(&witness(1), &store.reader().publication().latest.unwrap().note.text, 1_700_000_001);
    let published = store.reader().publication();
    let checked = published.cosigned(5, &line, &options(&[1]).witnesses).unwrap().unwrap();
    store.cosign(checked).unwrap();
    let published = store.reader().publication();
    assert!(
        published.cosigned(5, &again, &options(&[1]).witnesses).unwrap().is_none(),
        "one of each is enough"
    );
    drop(store);
    let (mut store, _) = Store::open(&dir.0, boot(), options(&[2])).unwrap();
    append(&mut store, 6, 1);
    let none = std::sync::atomic::AtomicBool::new(false);
    let report = store.reader().verify(&none, &[], &store.options.witnesses).unwrap();
    assert_eq!(report.damage, None);
}

/// A segment of so many entries, of which the seventh says something else; linked anew, with a head that agrees.
fn rewrite(dir: &Path, entries: u64) {
    let mut bytes = Header { first: 1, prev: Sha256::ZERO }.encode().to_vec();
    let mut tip = Tip::START;
    for n in 1..=entries {
        let text = if n == 7 { "nothing to see".to_owned() } else { format!("entry {n}") };
        let mut out = Vec::new();
        let place = Place { seq: n, prev: tip.hash, boot: boot(), partition: None };
        encode(&mut out, &draft(&text), &place, STAMP);
        tip = Tip { seq: n, hash: leaf_hash(&out) };
        push_frame::<_, Infallible>(&mut bytes, n - 1, |to| {
            to.extend_from_slice(&out);
            Ok(())
        })
        .unwrap();
    }
    fs::write(segment(dir), bytes).unwrap();
    fs::remove_file(dir.join("head")).unwrap();
    HeadFile::open(&dir.join("head")).unwrap().0.reset(tip).unwrap();
}

#[test]
fn a_history_rewritten_without_the_key_is_neither_taken_nor_signed() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 40);
    drop(store);
    let before = fs::read_to_string(dir.0.join("checkpoint")).unwrap();
    rewrite(&dir.0, 40);
    let store = open(&dir.0);
    assert!(matches!(store.reader().refusal(), Some(Refusal::Damaged(_))));
    drop(store);
    assert_eq!(
        fs::read_to_string(dir.0.join("checkpoint")).unwrap(),
        before,
        "what is in doubt is not signed"
    );
    // Nor does it help to take the checkpoint away.
    fs::remove_file(dir.0.join("checkpoint")).unwrap();
    rewrite(&dir.0, 35);
    let store = open(&dir.0);
    assert!(
        matches!(store.reader().refusal(), Some(Refusal::Damaged(damage)) if damage.what.contains("gone"))
    );
    drop(store);
    // Nor everything but the key.
    for name in ["head", "segments/00000000000000000001.log"] {
        fs::remove_file(dir.0.join(name)).unwrap();
    }
    let store = open(&dir.0);
    assert!(
        matches!(store.reader().refusal(), Some(Refusal::Damaged(damage)) if damage.what.contains("key"))
    );
}

#[test]
fn nothing_is_acknowledged_that_cannot_be_read() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let agent = Aid::new(1, [1; 10]);
    let lifecycle = Draft { kind: Kind::Lifecycle, agent: Some(agent), ..draft("provisioned") };
    store.commit(&[lifecycle.into()], STAMP).unwrap();
    let reason = serde_json::json!({ "reason": "r".repeat(PAYLOAD_MAX - 20) });
    let request =
        AppendRequest { agent: Some(agent), ..AppendRequest::new(Kind::Seal, Json::of(&reason).unwrap()) };
    let seal = core::item(&agents(), request, store.reader().tip(), || Ok([4; 32])).unwrap();
    let done = store.commit(&[item("before"), seal, item("after")], STAMP).unwrap();
    assert!(matches!(done[1], Err(Refusal::Rule(Rule::Long(_)))), "{done:?}");
    assert_eq!((done[0].as_ref().unwrap().seq, done[2].as_ref().unwrap().seq), (2, 3));
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn thousands_of_segments_are_archived_with_one_entry() {
    let dir = Dir::quick();
    let options = || Options { segment_bytes: 100, ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    append(&mut store, 1, 1500);
    let archived = store.archive(&operator(), ArchiveRequest { before: u64::MAX }).unwrap();
    assert!(archived.segments.len() > 1400);
    assert_eq!(verify(&store.reader()).damage, None);
    drop(store);
    let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    append(&mut store, 1502, 1);
}

fn erasable(store: &mut Store, text: &str) -> u64 {
    let request = AppendRequest { erasable: true, ..AppendRequest::new(Kind::Note, Json::of(text).unwrap()) };
    let item = core::item(&agents(), request, Tip::START, || Ok([4; 32])).unwrap();
    store.commit(&[item], STAMP).unwrap()[0].as_ref().unwrap().seq
}

#[test]
fn verify_beside_an_erasure_or_an_archiving_ends_nothing() {
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    for n in 0..20 {
        let items: Vec<Item> = (0..1000).map(|k| item(&format!("entry {n} {k}"))).collect();
        store.commit(&items, STAMP).unwrap();
    }
    let seq = erasable(&mut store, "a person");
    let beside = |store: &mut Store, work: &dyn Fn(&mut Store)| -> VerifyReport {
        let reader = store.reader();
        let verifying = std::thread::spawn(move || verify(&reader));
        work(store);
        verifying.join().unwrap()
    };
    beside(&mut store, &|store| {
        store.erase(&operator(), &EraseRequest { seq, reason: "asked for".into() }).unwrap();
    });
    store.commit(&[item("x")], STAMP).unwrap();
    beside(&mut store, &|store| {
        store.archive(&operator(), ArchiveRequest { before: 15_000 }).unwrap();
    });
    store.commit(&[item("x")], STAMP).unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn a_payloads_fault_is_told_from_the_logs_and_an_erasure_ends_it() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let (first, second) = (erasable(&mut store, "one"), erasable(&mut store, "two"));
    append(&mut store, 3, 3);
    let path = |seq: u64| dir.0.join(format!("payloads/{seq:020}"));
    let kept = fs::read(path(first)).unwrap();
    spoil(&path(first), 34);
    fs::remove_file(path(second)).unwrap();
    for seq in [first, second] {
        let damage = verify(&store.reader()).damage.unwrap();
        assert_eq!((damage.segment.as_str(), damage.seq), ("payloads", seq));
        assert!(damage.next.contains(&format!("octant ledger erase {seq}")), "{damage:?}");
        assert_eq!(store.reader().refusal(), None, "the log goes on");
        store.erase(&operator(), &EraseRequest { seq, reason: "lost".into() }).unwrap();
    }
    assert_eq!(verify(&store.reader()).damage, None);
    // One that comes back after its erasure is noticed.
    fs::write(path(first), kept).unwrap();
    let damage = verify(&store.reader()).damage.unwrap();
    assert!(damage.seq == first && damage.what.contains("still there"), "{damage:?}");
}

#[test]
fn the_tiles_of_archived_entries_are_all_that_is_left_of_them_and_are_checked() {
    let dir = Dir::quick();
    let mut store = thousand(&dir.0);
    let last = *store.reader().firsts().last().unwrap();
    store.archive(&operator(), ArchiveRequest { before: last }).unwrap();
    drop(store);
    let path = tile_path(&dir.0, Tile { level: 0, index: 0, width: 256 });
    spoil(&path, 40);
    let (store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert!(verify(&store.reader()).damage.is_some());
    drop(store);
    spoil(&path, 40);
    let (store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert_eq!(verify(&store.reader()).damage, None, "mended, it goes on");
    drop(store);
}

#[test]
fn a_wrong_tile_after_an_archiving_can_be_acknowledged() {
    let dir = Dir::quick();
    let mut store = thousand(&dir.0);
    let firsts = store.reader().firsts();
    store.archive(&operator(), ArchiveRequest { before: firsts[2] }).unwrap();
    let before = store.reader().publication().key;
    drop(store);
    spoil(&tile_path(&dir.0, Tile { level: 0, index: 2, width: 256 }), 40);
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    let damage = verify(&store.reader()).damage.unwrap();
    let request = AcknowledgeRequest { seq: damage.seq, reason: "a bad sector".into() };
    store.acknowledge(&operator(), &request).unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
    let keys = store.reader().page(1, ALL, |entry| entry.kind == Kind::Key).unwrap().entries;
    assert!(keys.len() == 1 && keys[0].payload.text().contains(&before));
}

#[test]
fn a_tile_that_a_loss_of_power_took_is_made_again() {
    let dir = Dir::quick();
    drop(thousand(&dir.0));
    let path = tile_path(&dir.0, Tile { level: 0, index: 0, width: 256 });
    let right = fs::read(&path).unwrap();
    fs::write(&path, vec![0; 4096]).unwrap();
    let (store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
    assert_eq!(fs::read(&path).unwrap(), right);
}

#[test]
fn what_verify_found_is_not_forgotten_by_a_restart() {
    let dir = Dir::quick();
    let mut store = thousand(&dir.0);
    let path = segment(&dir.0);
    spoil(&path, 500);
    let damage = verify(&store.reader()).damage.unwrap();
    assert!(store.commit(&[item("x")], STAMP).is_err());
    drop(store);
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert_eq!(store.reader().refusal(), Some(Refusal::Damaged(damage)));
    assert!(store.commit(&[item("x")], STAMP).is_err());
    // Put right, it verifies, and the next start goes on.
    spoil(&path, 500);
    assert_eq!(verify(&store.reader()).damage, None);
    drop(store);
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    append(&mut store, 1001, 1);
}

#[test]
fn nobody_but_the_ledger_says_that_segments_were_archived() {
    let search = Principal::Service("search".parse().unwrap());
    let archive = Json::from_text(r#"{"first":5}"#.into()).unwrap();
    for (kind, caller) in [
        (Kind::Archive, &search),
        (Kind::Archive, &agents()),
        (Kind::Command, &search),
        (Kind::Decision, &search),
    ] {
        let request = AppendRequest::new(kind, archive.clone());
        let refused = core::item(caller, request, Tip::START, || Ok([4; 32])).unwrap_err();
        assert_eq!(refused.code, Code::Denied, "{kind:?} of {caller}");
    }
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    append(&mut store, 1, 600);
    let firsts = store.reader().firsts();
    drop(store);
    fs::remove_file(dir.0.join("segments").join(file_name(firsts[0]))).unwrap();
    fs::write(dir.0.join("archived"), b"no number").unwrap();
    let (store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert!(matches!(store.reader().refusal(), Some(Refusal::Damaged(damage)) if damage.seq == 1));
}

#[test]
fn only_who_intended_says_what_became_of_it_and_a_flood_hurts_its_own_only() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let intent = |name: &str| {
        let draft = Draft { kind: Kind::Intent, ..draft("x") };
        Item::from(Draft { actor: Principal::Service(name.parse().unwrap()), ..draft })
    };
    let outcome = |name: &str, seq: u64| {
        let draft = Draft { kind: Kind::Outcome, intent: Some(seq), ..draft("done") };
        Item::from(Draft { actor: Principal::Service(name.parse().unwrap()), ..draft })
    };
    store.commit(&[intent("agents")], STAMP).unwrap();
    let done = store.commit(&[outcome("vault", 1)], STAMP).unwrap();
    assert!(matches!(done[0], Err(Refusal::Rule(Rule::Outcome { intent: 1, .. }))), "{done:?}");
    let flood: Vec<Item> = (0..3000).map(|_| intent("vault")).collect();
    flood.chunks(500).for_each(|part| drop(store.commit(part, STAMP).unwrap()));
    let unknown = store.reader().page(1, ALL, |entry| entry.kind == Kind::Outcome).unwrap().entries;
    assert!(unknown.iter().all(|entry| entry.intent != Some(1)) && unknown.len() > 1000, "{}", unknown.len());
    store.commit(&[outcome("agents", 1)], STAMP).unwrap()[0].as_ref().unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn one_caller_does_not_take_every_place_in_the_queue() {
    let dir = Dir::quick();
    let limits = WriterLimits { queue: 400, ..WriterLimits::default() };
    let ledger = Ledger::open(&dir.0, BOOT, Options::default(), limits, no_tickets()).unwrap();
    let of =
        |name: &str| Draft { actor: Principal::Service(name.parse().unwrap()), ..draft(&"x".repeat(2000)) };
    let hold = ledger.writer().run(|_| std::thread::sleep(std::time::Duration::from_millis(300))).unwrap();
    let flood = (0..400).filter_map(|_| ledger.writer().append(of("vault")).ok()).count();
    assert!(flood <= 101, "{flood}");
    ledger.writer().append(of("agents")).unwrap().blocking_recv().unwrap().unwrap();
    hold.blocking_recv().unwrap();
}

#[test]
fn a_ledger_of_another_version_says_so_and_can_be_left_behind() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 3);
    drop(store);
    let mut bytes = fs::read(segment(&dir.0)).unwrap();
    bytes[..8].copy_from_slice(b"OCTLDG01");
    fs::write(segment(&dir.0), &bytes).unwrap();
    // One that old has neither key nor checkpoint.
    for name in ["log.key", "log.pub", "checkpoint"] {
        fs::remove_file(dir.0.join(name)).unwrap();
    }
    let mut store = open(&dir.0);
    let Some(Refusal::Damaged(damage)) = store.reader().refusal() else { panic!("it is refused") };
    assert!(damage.seq == 1 && damage.what.contains("another version"), "{damage:?}");
    let request = AcknowledgeRequest { seq: 1, reason: "an old version's".into() };
    store.acknowledge(&operator(), &request).unwrap();
    append(&mut store, 3, 2);
    assert_eq!(verify(&store.reader()).damage, None);
    let aside = fs::read_dir(dir.0.join("damaged")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(aside.join(file_name(1))).unwrap(), bytes, "it is kept");
}

#[test]
fn a_crash_in_the_middle_of_an_import_is_no_checkpoint() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 3);
    fs::write(dir.0.join("outside/00000000000000000003-0011.tmp"), b"half").unwrap();
    assert_eq!(verify(&store.reader()).damage, None);
}

const CHILD: &str = "OCTANT_LEDGER_TILE_CHILD";

#[test]
fn a_disk_that_is_full_when_a_tile_is_due_ends_nothing() {
    super::on_a_small_disk("tests::edges::child_on_a_small_disk", CHILD);
}

/// Not a test of its own: it needs the small disk that the test above makes.
#[test]
fn child_on_a_small_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let state = dir.join("state");
    let fill = || {
        let mut len = 4 << 20;
        while fs::write(dir.join("ballast"), vec![1; len]).is_err() {
            len -= 4096;
        }
    };
    let options = || Options { reserve_bytes: 0, ..Options::default() };
    let (mut store, _) = Store::open(&state, boot(), options()).unwrap();
    append(&mut store, 1, 10);
    fill();
    let mut last = 10;
    let refused = loop {
        match store.commit(&[item("small")], STAMP) {
            Ok(_) => last += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refused, Refusal::NoSpace { .. }) && last >= 256, "{refused} after {last}");
    drop(store);
    let (mut store, _) = Store::open(&state, boot(), options()).unwrap();
    assert_eq!(store.reader().page(1, ALL, |_| true).unwrap().entries.len() as u64, last);
    fs::remove_file(dir.join("ballast")).unwrap();
    append(&mut store, last + 1, 1);
    assert_eq!(verify(&store.reader()).damage, None);
}
