//! Crashes: killed in the middle of appending, and power lost with writes on their way.

mod kill;

use super::{BOOT, Dir, STAMP, append, boot, draft, end_of, item, no_tickets, open, segment, verify};
use crate::Ledger;
use crate::store::{Options, Store};
use crate::writer::WriterLimits;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CHILD: &str = "OCTANT_LEDGER_CRASH_CHILD";

/// Not a test of its own: the process that the next test kills. It appends from many threads and writes down
/// which number was acknowledged last.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let ledger = Arc::new(
        Ledger::open(&dir.join("state"), BOOT, options, WriterLimits::default(), no_tickets()).unwrap(),
    );
    let noted = Arc::new(fs::File::create(dir.join("acknowledged")).unwrap());
    let threads: Vec<_> = (0..16_u64)
        .map(|thread| {
            let (ledger, noted) = (Arc::clone(&ledger), Arc::clone(&noted));
            std::thread::spawn(move || -> () {
                loop {
                    let text = "x".repeat(usize::try_from(thread * 300).unwrap());
                    let answer = ledger.writer().append(draft(&text)).unwrap();
                    let seq = answer.blocking_recv().unwrap().unwrap().seq;
                    noted.write_all_at(&seq.to_le_bytes(), thread * 8).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn last_acknowledged(dir: &Path) -> u64 {
    let noted = fs::read(dir.join("acknowledged")).unwrap_or_default();
    noted.as_chunks::<8>().0.iter().map(|seq| u64::from_le_bytes(*seq)).max().unwrap_or(0)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = Dir::new();
    let mut before = 0;
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child_that_appends_until_it_is_killed"])
            .env(CHILD, &dir.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while last_acknowledged(&dir.0) <= before {
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20 + round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = last_acknowledged(&dir.0);
        let (store, _) = Store::open(&dir.0.join("state"), boot(), Options::default()).unwrap();
        assert_eq!(store.reader().refusal(), None);
        before = store.reader().tip().seq;
        assert!(before >= acknowledged, "{acknowledged} was acknowledged, {before} is the last one left");
        let report = verify(&store.reader());
        assert_eq!((report.entries, report.damage), (before, None));
        fs::remove_file(dir.0.join("acknowledged")).unwrap();
    }
    assert!(before > 100);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("segments")).unwrap();
    for file in ["head", "log.key", "log.pub", "checkpoint", "segments/00000000000000000001.log"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

static IMAGES: AtomicU64 = AtomicU64::new(0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// The disk keeps whole sectors, each of them or not, of what was written since the last sync; the head file
    /// may be older still.
    #[test]
    fn power_lost_in_the_middle_of_a_batch_loses_nothing_acknowledged(
        acknowledged in 1_u64..40,
        old_head in any::<prop::sample::Index>(),
        batch in prop::collection::vec(1_usize..3000, 1..12),
        kept in prop::collection::vec(any::<bool>(), 1..64),
        keeps_length in any::<bool>(),
    ) {
        let dir = Dir::quick();
        let live = dir.0.join("live");
        let mut store = open(&live);
        let old_head = 1 + u64::try_from(old_head.index(usize::try_from(acknowledged).unwrap())).unwrap();
        append(&mut store, 1, old_head);
        let head = fs::read(live.join("head")).unwrap();
        append(&mut store, old_head + 1, acknowledged - old_head);
        let durable = fs::read(segment(&live)).unwrap();
        let drafts: Vec<_> = batch.iter().map(|len| item(&"y".repeat(*len))).collect();
        store.commit(&drafts, STAMP).unwrap();
        let written = fs::read(segment(&live)).unwrap();

        let image = dir.0.join(format!("image-{}", IMAGES.fetch_add(1, Ordering::SeqCst)));
        copy(&live, &image);
        let mut disk = durable.clone();
        disk.resize(if keeps_length { written.len() } else { durable.len() }, 0);
        let mut keep = kept.iter().cycle();
        for (sector, new) in disk.chunks_mut(512).zip(written.chunks(512)) {
            if sector[..] != new[..sector.len()] && *keep.next().unwrap() {
                sector.copy_from_slice(&new[..sector.len()]);
            }
        }
        fs::write(segment(&image), disk).unwrap();
        fs::write(image.join("head"), head).unwrap();

        let mut store = open(&image);
        // Before the first append: the head file is behind.
        store.probe().unwrap();
        prop_assert_eq!(store.reader().refusal(), None);
        let tip = store.reader().tip();
        prop_assert!((acknowledged..=acknowledged + batch.len() as u64).contains(&tip.seq));
        append(&mut store, tip.seq + 1, 3);
        drop(store);
        let store = open(&image);
        prop_assert_eq!(store.reader().refusal(), None);
        let report = verify(&store.reader());
        prop_assert_eq!((report.entries, report.damage), (tip.seq + 3, None));
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_put_on_record() {
    let dir = Dir::new();
    let mut store = open(&dir.0);
    append(&mut store, 1, 5);
    drop(store);
    let end = end_of(&segment(&dir.0));
    let file = fs::OpenOptions::new().write(true).read(true).open(segment(&dir.0)).unwrap();
    file.write_all_at(&[0x51; 70], end).unwrap();
    let ledger =
        Ledger::open(&dir.0, BOOT, Options::default(), WriterLimits::default(), no_tickets()).unwrap();
    ledger.writer().append(draft("after")).unwrap().blocking_recv().unwrap().unwrap();
    let limits = crate::PageLimits { entries: 9, bytes: 9999, looked_at: 9 };
    let entries = ledger.reader().page(6, limits, |_| true).unwrap().entries;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].kind, octant_api::ledger::Kind::Lost);
    let payload: serde_json::Value = entries[0].payload.read().unwrap();
    assert_eq!((payload["offset"].as_u64(), payload["bytes"].as_u64()), (Some(end), Some(70)));
}

#[test]
fn a_segment_that_was_only_being_made_leaves_no_trace() {
    let dir = Dir::new();
    let mut store = open(&dir.0);
    append(&mut store, 1, 5);
    drop(store);
    fs::write(dir.0.join("segments/new.tmp"), b"OCTL").unwrap();
    let mut store = open(&dir.0);
    append(&mut store, 6, 1);
    // An empty new segment after a change of segment is where it goes on.
    drop(store);
    let options = Options { segment_bytes: 100, ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options).unwrap();
    append(&mut store, 7, 3);
    drop(store);
    let mut store = open(&dir.0);
    append(&mut store, 10, 1);
    let report = verify(&store.reader());
    assert_eq!((report.entries, report.segments, report.damage), (10, 4, None));
}
