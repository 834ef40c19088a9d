//! Killed at each change of a file, one after the other: a child does a piece of the ledger's work and is killed before the
//! n-th system call that changes a file, for every n that there is.

use super::super::{BOOT, Dir, STAMP, append, boot, draft, item, no_tickets};
use crate::publish::Witnesses;
use crate::refusal::Refusal;
use crate::segment::file_name;
use crate::store::{Item, Options, Store};
use crate::{Ledger, PageLimits, WriterLimits};
use octant_api::ledger::{AcknowledgeRequest, ArchiveRequest, EraseRequest, Kind};
use octant_ids::{Principal, Sha256};
use octant_sys::step::{self, Ended};
use octant_tlog::checkpoint::cosign;
use octant_tlog::note::NoteKey;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

const SCENE: &str = "OCTANT_LEDGER_KILL_SCENE";
const PLACE: &str = "OCTANT_LEDGER_KILL_PLACE";
/// More changes than any scene makes: one that never ends is not waited for.
const CHANGES_MAX: usize = 1000;
/// Of which entry the damage is that an operator accepts.
const LOST: u64 = 40;

fn witness() -> NoteKey {
    NoteKey::cosigner("witness.example", [3; 32]).unwrap()
}

fn witnesses() -> Witnesses {
    Witnesses::new(vec![witness().verifier()], 1)
}

/// Segments so small that work comes to a change of segment.
fn options() -> Options {
    Options { segment_bytes: 28_000, witnesses: witnesses(), ..Options::default() }
}

fn erasable(text: &str) -> Item {
    let caller = Principal::Service("vault".parse().unwrap());
    let request = octant_api::ledger::AppendRequest {
        erasable: true,
        ..octant_api::ledger::AppendRequest::new(Kind::Note, octant_api::text::Json::of(text).unwrap())
    };
    crate::core::item(&caller, request, octant_tlog::state::Tip::START, || Ok([4; 32])).unwrap()
}

/// The directory of one child: its ledger, and what it has heard from it.
struct Place<'a>(&'a Path);

impl Place<'_> {
    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn store(&self) -> Store {
        Store::open(&self.state(), boot(), options()).unwrap().0
    }

    /// Appends, and writes down what was acknowledged last.
    fn commit(&self, store: &mut Store, items: &[Item]) -> u64 {
        let done = store.commit(items, STAMP).unwrap();
        let last = done.last().unwrap().as_ref().unwrap();
        let noted =
            fs::OpenOptions::new().create(true).write(true).truncate(false).open(self.0.join("noted"));
        let line = [&last.seq.to_le_bytes()[..], &last.hash.0].concat();
        noted.unwrap().write_all_at(&line, 0).unwrap();
        last.seq
    }

    fn noted(&self) -> Option<(u64, Sha256)> {
        let bytes = fs::read(self.0.join("noted")).ok()?;
        let (seq, hash) = bytes.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*seq), Sha256(*hash.first_chunk()?)))
    }
}

/// What the child does.
fn play(scene: &str, place: &Place<'_>) {
    let mut store = place.store();
    match scene {
        "first" => {
            place.commit(&mut store, &[item("one"), item("two")]);
            store.publish(true).unwrap();
        }
        "grown" => grown(&mut store, place),
        "loss" => {
            let reason = "a test".to_owned();
            store.acknowledge(&Principal::Operator(0), &AcknowledgeRequest { seq: LOST, reason }).unwrap();
            place.commit(&mut store, &[item("after the loss")]);
        }
        other => panic!("{other:?} is no scene"),
    }
}

/// A tile that becomes whole, a change of segment, checkpoints, a cosignature, an erasure, an archive.
fn grown(store: &mut Store, place: &Place<'_>) {
    place.commit(store, &[item("a"), item("b")]);
    let secret = place.commit(store, &[item("c"), erasable("a name")]);
    store.publish(true).unwrap();
    let mut signed = store.reader().publication().latest.unwrap();
    signed.add(&cosign(&witness(), &signed.note.text, 1_700_000_000)).unwrap();
    store.cosign(signed).unwrap();
    for round in 0..2 {
        let many: Vec<Item> = (0..20).map(|n| item(&format!("{round} {n}"))).collect();
        place.commit(store, &many);
        if round == 1 {
            let request = EraseRequest { seq: secret, reason: "asked for".into() };
            store.erase(&Principal::Operator(0), &request).unwrap();
        }
    }
    let firsts = store.reader().firsts();
    if firsts.len() > 1 {
        let request = ArchiveRequest { before: firsts[firsts.len() - 1] };
        store.archive(&Principal::Operator(0), request).unwrap();
    }
    store.publish(true).unwrap();
    place.commit(store, &[item("z")]);
}

/// Not a test of its own: the process that the tests below kill.
#[test]
fn child_that_is_traced() {
    let (Ok(scene), Some(place)) = (std::env::var(SCENE), std::env::var_os(PLACE)) else { return };
    step::traced().unwrap();
    play(&scene, &Place(Path::new(&place)));
}

/// Has a child play the scene and kills it before its `n`th change, counted from 0; false when it ended before that.
fn killed(scene: &str, place: &Place<'_>, n: usize) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::kill::child_that_is_traced", "--nocapture"])
        .env(SCENE, scene)
        .env(PLACE, place.0)
        .stdout(Stdio::null())
        .spawn();
    match step::kill_before(child.unwrap(), place.0, n).unwrap() {
        Ended::Killed => true,
        Ended::ByItself { code: Some(0), .. } => false,
        ended => panic!("{scene}: {ended:?}"),
    }
}

fn check(store: &Store, kept: &[String]) {
    assert_eq!(store.reader().refusal(), None);
    let report = store.reader().verify(&AtomicBool::new(false), kept, &witnesses()).unwrap();
    assert_eq!((report.entries, report.damage), (store.reader().tip().seq, None));
    let outside: Vec<_> = report.outside.iter().filter_map(|compared| compared.wrong.as_ref()).collect();
    assert!(outside.is_empty(), "{outside:?}");
}

/// After a kill: opens, verifies, has everything that was acknowledged and every published checkpoint, goes on.
fn survived(place: &Place<'_>) {
    let state = place.state();
    let published = ["checkpoint", "checkpoint.witnessed"].map(|name| fs::read_to_string(state.join(name)));
    let kept: Vec<String> = published.into_iter().flatten().collect();
    let mut store = place.store();
    if let Some((seq, hash)) = place.noted() {
        let limits = PageLimits { entries: 1, bytes: usize::MAX, looked_at: 1 };
        let found = store.reader().page(seq, limits, |_| true).unwrap().entries;
        let found = found.first().map(|entry| (entry.seq, entry.hash));
        assert!(
            found == Some((seq, hash)),
            "entry {seq} was acknowledged; the last is {:?}",
            store.reader().tip()
        );
    }
    // Before the first append: the head file may have been behind.
    store.probe().unwrap();
    check(&store, &kept);
    let next = store.reader().tip().seq + 1;
    append(&mut store, next, 2);
    drop(store);
    let store = place.store();
    check(&store, &[]);
    leftovers(&store, &state.join("payloads"));
}

/// No payload lies there that no entry has, since nobody could ever erase it, nor one that was erased.
fn leftovers(store: &Store, payloads: &Path) {
    let all = PageLimits { entries: usize::MAX, bytes: usize::MAX, looked_at: u64::MAX };
    let entries = store.reader().page(1, all, |_| true).unwrap().entries;
    let erased = entries.iter().filter(|entry| entry.kind == Kind::Erasure);
    let erased: Vec<serde_json::Value> = erased.map(|entry| entry.payload.read().unwrap()).collect();
    for file in fs::read_dir(payloads).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let seq: u64 = name.parse().unwrap();
        let entry = entries.iter().find(|entry| entry.seq == seq);
        // An archived entry is not read.
        let first = store.reader().first();
        assert!(
            seq < first || entry.is_some_and(|entry| entry.erasable.is_some()),
            "{name} belongs to no entry"
        );
        assert!(erased.iter().all(|said| said["entry"] != seq), "{name} was to be erased");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Plays the scene from the same start, killed at each of its changes; `after` looks at what is left.
#[expect(clippy::print_stdout, reason = "shown with a failure: where the kill was")]
fn killed_everywhere(scene: &str, start: Option<&Path>, after: impl Fn(&Place<'_>)) -> usize {
    for n in 0..CHANGES_MAX {
        let dir = Dir::quick();
        let place = Place(&dir.0);
        if let Some(start) = start {
            copy(start, &place.state());
        }
        let ended = !killed(scene, &place, n);
        println!("{scene}: killed before change {n}");
        after(&place);
        if ended {
            return n;
        }
    }
    panic!("{scene} makes more than {CHANGES_MAX} changes")
}

fn with_entries(count: u64) -> Dir {
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    append(&mut store, 1, count);
    store.publish(true).unwrap();
    dir
}

#[test]
fn the_first_start_can_be_killed_at_every_change() {
    let changes = killed_everywhere("first", None, survived);
    assert!(changes > 20, "{changes}");
}

#[test]
fn work_can_be_killed_at_every_change() {
    let start = with_entries(250);
    let changes = killed_everywhere("grown", Some(&start.0), survived);
    assert!(changes > 60, "{changes}");
}

#[test]
fn a_start_after_a_kill_can_be_killed_in_turn() {
    let (start, dir) = (with_entries(250), Dir::quick());
    let place = Place(&dir.0);
    copy(&start.0, &place.state());
    // xorshift (Marsaglia 2003): the test must fail in the same way again.
    let mut seed = 0x9e37_79b9_u32;
    for _ in 0..25 {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        killed("grown", &place, (seed % 90) as usize);
        let _ = killed("first", &place, (seed % 7) as usize);
    }
    survived(&place);
}

#[test]
fn an_acknowledgement_of_a_loss_can_be_killed_at_every_change() {
    let start = with_entries(90);
    let path = start.0.join("segments").join(file_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let text = format!("entry {LOST}\"");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    killed_everywhere("loss", Some(&start.0), |place| {
        let mut store = place.store();
        if let Some(Refusal::Damaged(damage)) = store.reader().refusal() {
            assert_eq!(damage.seq, LOST);
            let request = AcknowledgeRequest { seq: LOST, reason: "again".into() };
            store.acknowledge(&Principal::Operator(0), &request).unwrap();
        }
        drop(store);
        let limits = WriterLimits::default();
        let ledger = Ledger::open(&place.state(), BOOT, options(), limits, no_tickets()).unwrap();
        ledger.writer().append(draft("on it goes")).unwrap().blocking_recv().unwrap().unwrap();
        let all = PageLimits { entries: 1000, bytes: 1 << 20, looked_at: 1000 };
        let kinds: Vec<Kind> = ledger
            .reader()
            .page(LOST, all, |_| true)
            .unwrap()
            .entries
            .iter()
            .map(|entry| entry.kind)
            .collect();
        assert!(kinds.starts_with(&[Kind::Lost, Kind::Key]), "{kinds:?}");
        drop(ledger);
        survived(place);
    });
}
