//! A full disk: appends are refused, reading goes on, and room alone makes it go on.

use super::{BOOT, STAMP, boot, draft, item, no_tickets, verify};
use crate::refusal::Refusal;
use crate::store::{Options, Store};
use crate::{Ledger, PageLimits, WriterLimits};
use std::fs;
use std::path::Path;
use std::process::Command;

const CHILD: &str = "OCTANT_LEDGER_FULL_CHILD";

/// Runs the test below on a file system of 3 MiB of its own.
#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    super::on_a_small_disk("tests::full::child_on_a_small_disk", CHILD);
}

/// Not a test of its own: it needs the small disk that the test above makes.
#[test]
fn child_on_a_small_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    direct(&dir.join("direct"), &dir.join("ballast"));
    through_the_writer(&dir.join("writer"), &dir.join("ballast"));
}

fn direct(state: &Path, ballast: &Path) {
    // Small segments, so that the disk is full at a change of segment as well as within one.
    let options = Options { segment_bytes: 300 << 10, reserve_bytes: 0, ..Options::default() };
    let (mut store, _) = Store::open(state, boot(), options.clone()).unwrap();
    let payload = "x".repeat(20_000);
    let mut appended = 0;
    for round in 0..3 {
        let refused = loop {
            match store.commit(&[item(&payload)], STAMP) {
                Ok(done) => {
                    appended += 1;
                    assert_eq!(done[0].as_ref().unwrap().seq, appended);
                }
                Err(refusal) => break refusal,
            }
        };
        assert!(matches!(refused, Refusal::NoSpace { .. }), "{refused}");
        assert!(matches!(store.probe(), Err(Refusal::NoSpace { .. })));
        let limits = PageLimits { entries: 9999, bytes: 1 << 30, looked_at: 9999 };
        assert_eq!(store.reader().page(1, limits, |_| true).unwrap().entries.len() as u64, appended);
        let report = verify(&store.reader());
        assert_eq!((report.entries, report.damage), (appended, None));
        if round == 0 {
            // It also opens on the full disk, for reading and with the same answer to an append.
            drop(store);
            store = Store::open(state, boot(), options.clone()).unwrap().0;
            assert_eq!(store.reader().refusal(), None);
            continue;
        }
        if round == 1 {
            grow(ballast.parent().unwrap(), 5 - round);
            store.probe().unwrap();
        }
    }
    assert!(appended > 20);
    fs::remove_dir_all(state).unwrap();
}

fn grow(mount: &Path, mib: u32) {
    let size = format!("remount,size={mib}m");
    assert!(Command::new("mount").args(["-o", &size]).arg(mount).status().unwrap().success());
}

fn through_the_writer(state: &Path, ballast: &Path) {
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let ledger = Ledger::open(state, BOOT, options, WriterLimits::default(), no_tickets()).unwrap();
    let append = || ledger.writer().append(draft(&"x".repeat(60_000))).unwrap().blocking_recv().unwrap();
    let health = || ledger.writer().probe().unwrap().blocking_recv().unwrap();
    append().unwrap();
    health().unwrap();
    // Takes what is left of the disk.
    let mut len = 4 << 20;
    while fs::write(ballast, vec![1; len]).is_err() {
        len -= 64 << 10;
    }
    let refused = loop {
        if let Err(refusal) = append() {
            break refusal;
        }
    };
    assert!(matches!(refused, Refusal::NoSpace { .. }), "{refused}");
    assert!(matches!(health(), Err(Refusal::NoSpace { .. })));
    assert_eq!(refused.answer().code, octant_api::error::Code::Full);
    fs::remove_file(ballast).unwrap();
    append().unwrap();
    health().unwrap();
    assert_eq!(ledger.reader().refusal(), None);
}
