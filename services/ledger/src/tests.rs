//! The ledger on real files, under real crashes, over the real wire.

mod crash;
mod damage;
mod edges;
mod full;
mod interleave;
mod log;
mod process;
mod service;
mod tamper;

use crate::publish::Witnesses;
use crate::read::Reader;
use crate::segment::{HEADER, Step, Walker};
use crate::store::{Item, Options, Store};
use octant_api::ledger::{Kind, VerifyReport};
use octant_api::text::Json;
use octant_ids::Principal;
use octant_ticket::{Issuer, Keys};
use octant_tlog::entry::{BootId, Draft, Stamp, boot_id};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A directory of its own, removed at the end.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    /// On a disk, where a sync is a sync.
    pub(crate) fn new() -> Self {
        Self::below(std::env::temp_dir())
    }

    /// In memory where there is such a place, for tests that make hundreds of ledgers.
    pub(crate) fn quick() -> Self {
        let memory = PathBuf::from("/dev/shm");
        Self::below(if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    fn below(parent: PathBuf) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("octant-ledger-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = parent.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) const STAMP: Stamp = Stamp { mono_ns: 1, wall_ms: 2 };
pub(crate) const BOOT: &str = "00112233445566778899aabbccddeeff";

pub(crate) fn boot() -> BootId {
    boot_id(BOOT).unwrap()
}

pub(crate) fn draft(payload: &str) -> Draft {
    Draft::new(Principal::Service("agents".parse().unwrap()), Kind::Note, Json::of(payload).unwrap())
}

pub(crate) fn item(payload: &str) -> Item {
    draft(payload).into()
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, boot(), Options::default()).unwrap().0
}

pub(crate) fn verify(reader: &Reader) -> VerifyReport {
    reader.verify(&AtomicBool::new(false), &[], &Witnesses::default()).unwrap()
}

pub(crate) fn no_tickets() -> Issuer {
    Issuer::new(Keys::new([]).unwrap())
}

/// Where the good frames of a segment end.
pub(crate) fn end_of(path: &Path) -> u64 {
    let file = std::fs::File::open(path).unwrap();
    let mut walker = Walker::new(&file, HEADER);
    while let Step::Frame { .. } = walker.step().unwrap() {}
    walker.offset()
}

pub(crate) fn append(store: &mut Store, from: u64, count: u64) {
    for n in from..from + count {
        let appended = store.commit(&[item(&format!("entry {n}"))], STAMP).unwrap();
        assert_eq!(appended[0].as_ref().unwrap().seq, n);
    }
}

/// The only segment's file.
pub(crate) fn segment(dir: &Path) -> PathBuf {
    dir.join("segments").join(crate::segment::file_name(1))
}

/// Runs a test of this program again on a file system of 3 MiB of its own, whose directory is in the variable.
pub(crate) fn on_a_small_disk(test: &str, variable: &str) {
    let dir = Dir::new();
    let root = nix::unistd::geteuid().is_root();
    let script = format!("mount -t tmpfs -o size=3m tmpfs \"$0\" && exec \"$1\" --exact {test}");
    let status = std::process::Command::new("unshare")
        .arg(if root { "-m" } else { "-rm" })
        .args(["sh", "-c", &script])
        .arg(&dir.0)
        .arg(std::env::current_exe().unwrap())
        .env(variable, &dir.0)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
