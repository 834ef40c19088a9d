//! What the machine has: time, randomness, disk, memory.

use super::{Check, Part, Verdict};
use nix::sys::statvfs::{FsFlags, statvfs};
use octant_ids::Layout;
use octant_sys::{clock, entropy};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A disk that needs longer for one block is not waited for.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);
/// Every intent waits for one: beyond this, agents feel it.
const DURABLE_SLOW: Duration = Duration::from_millis(500);
/// The first day that Octant can have run on: a clock before it was never set.
const FIRST_DAY_MS: u64 = 1_735_689_600_000;
/// How far two clocks may be apart, in milliseconds.
const APART_MS: u64 = 60_000;
const MIB: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The machine's clock, milliseconds since 1970.
    wall_ms: u64,
    /// When the ledger's last entry was appended, by the clock of then.
    last_entry_ms: Option<u64>,
    /// The clock that goes on without power.
    rtc_ms: Option<u64>,
    /// Whether the random number generator is seeded.
    seeded: Result<(), String>,
    /// Where the state is.
    disk: Result<Disk, String>,
    /// How long one block took to be on stable storage; none where this user may not write.
    durable: Option<Result<Duration, String>>,
    /// Memory in all and what can be had, bytes.
    memory: Option<(u64, u64)>,
}

/// The file system of the state.
#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    bytes: (u64, u64),
    inodes: (u64, u64),
    read_only: bool,
}

/// Looks.
pub(super) fn gather(layout: &Layout, last_entry_ms: Option<u64>) -> Facts {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    Facts {
        wall_ms: clock::wall_ms(),
        last_entry_ms,
        rtc_ms: number("/sys/class/rtc/rtc0/since_epoch").map(|seconds| seconds.saturating_mul(1000)),
        seeded: entropy::fill_seeded(&mut [0; 16]).map_err(|error| error.to_string()),
        disk: disk(&layout.state),
        durable: durable(&layout.state),
        memory: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)),
    }
}

fn disk(state: &Path) -> Result<Disk, String> {
    // Before the first start there is no such directory yet; it is going to be on this file system.
    let path = state.ancestors().find(|path| path.exists()).unwrap_or(state);
    let found = statvfs(path).map_err(|errno| format!("{}: {errno}", path.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Ok(Disk {
        path: path.to_owned(),
        bytes: (bytes(found.blocks_available()), bytes(found.blocks())),
        inodes: (found.files_available(), found.files()),
        read_only: found.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// Writes one block, has it on stable storage and takes it away again, in a thread that is left behind where the disk
/// stands still: this process ends soon.
fn durable(state: &Path) -> Option<Result<Duration, String>> {
    let path = state.join(format!(".doctor-{}", std::process::id()));
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || {
        let _not_waited_for = say.send(write_block(&path).map_err(|error| {
            let why = format!("{}: {error}", path.display());
            (error.kind(), why)
        }));
    });
    match hear.recv_timeout(DURABLE_WITHIN) {
        Ok(Err((io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound, _))) => None,
        Ok(done) => Some(done.map_err(|(_, why)| why)),
        Err(_) => Some(Err(format!("not on stable storage within {} s", DURABLE_WITHIN.as_secs()))),
    }
}

fn write_block(path: &Path) -> io::Result<Duration> {
    let start = clock::monotonic_ns();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(&[0xa5; 4096]).and_then(|()| file.sync_all());
    let took = Duration::from_nanos(clock::monotonic_ns().saturating_sub(start));
    fs::remove_file(path)?;
    written.map(|()| took)
}

/// All memory and what can be had, bytes, from `/proc/meminfo`.
pub(crate) fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((of("MemTotal:")?, of("MemAvailable:")?))
}

fn check(what: &str, verdict: Verdict, found: impl Into<String>, how: impl Into<String>) -> Check {
    Check::new(Part::Machine, what, verdict, found, how)
}

/// What the facts mean.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![clock_of(facts), rtc(facts), entropy_of(facts)];
    match &facts.disk {
        Err(why) => checks.push(check(
            "disk",
            Verdict::Broken,
            why,
            "See whether the data disk is mounted: `df`, `dmesg`.",
        )),
        Ok(disk) => checks.extend([space(disk), inodes(disk)]),
    }
    checks.extend([durable_of(facts), memory_of(facts)]);
    checks
}

fn clock_of(facts: &Facts) -> Check {
    let found = crate::out::utc(facts.wall_ms);
    if facts.wall_ms < FIRST_DAY_MS {
        let how = "The clock was never set. Manifests, leases and certificates have dates: set it with `date -s`, and the \
                   hardware clock with `hwclock -w`.";
        return check("clock", Verdict::Broken, found, how);
    }
    match facts.last_entry_ms {
        Some(last) if last > facts.wall_ms.saturating_add(APART_MS) => {
            let found = format!("{found}, and the ledger's last entry is of {}", crate::out::utc(last));
            let how = "The clock has gone back behind the ledger: what expires lives longer than it should. Set the clock.";
            check("clock", Verdict::Broken, found, how)
        }
        Some(_) => check("clock", Verdict::Ok, format!("{found}, after the ledger's last entry"), ""),
        None => check("clock", Verdict::Ok, format!("{found}; there is no ledger to compare it with"), ""),
    }
}

fn rtc(facts: &Facts) -> Check {
    let Some(rtc_ms) = facts.rtc_ms else {
        return check("hardware clock", Verdict::Unknown, "none, or not shown to this user", "");
    };
    let apart = rtc_ms.abs_diff(facts.wall_ms);
    let found = format!("{} s apart from the clock", apart / 1000);
    if apart <= APART_MS {
        return check("hardware clock", Verdict::Ok, found, "");
    }
    let how = "After the next start the clock begins with the hardware clock's time. Where the clock is right, `hwclock -w` \
               sets it.";
    check("hardware clock", Verdict::Weaker, found, how)
}

fn entropy_of(facts: &Facts) -> Check {
    match &facts.seeded {
        Ok(()) => check("entropy", Verdict::Ok, "the kernel's generator is seeded", ""),
        Err(why) => check(
            "entropy",
            Verdict::Broken,
            why,
            "No key can be made, and no agent started, before the kernel's generator is seeded: give a virtual machine a \
             virtio-rng device, or wait until the machine has had some input.",
        ),
    }
}

/// What is left of something that the ledger cannot do without.
fn left(what: &'static str, found: String, left: u64, all: u64, enough: u64, how: &str) -> Check {
    // Some file systems do not count.
    if all == 0 {
        return check(what, Verdict::Ok, "without a limit", "");
    }
    let percent = left.saturating_mul(100) / all;
    if left < enough || percent < 1 {
        return check(what, Verdict::Broken, found, how);
    }
    if percent < 10 {
        return check(what, Verdict::Weaker, found, how);
    }
    check(what, Verdict::Ok, found, "")
}

fn space(disk: &Disk) -> Check {
    let path = disk.path.display();
    if disk.read_only {
        let how = "The ledger takes no record on it, so nothing is started: see `dmesg` for why the kernel made it read-only.";
        return check("disk space", Verdict::Broken, format!("{path} is read-only"), how);
    }
    let (free, all) = disk.bytes;
    let found = format!("{} MiB of {} MiB left at {path}", free / MIB, all / MIB);
    let how = "A full disk stops the ledger, and with it every spawn. `octant ledger archive`, `octant image remove`, \
               `octant agent artefacts --remove` and `octant workspace remove` make room.";
    left("disk space", found, free, all, 32 * MIB, how)
}

fn inodes(disk: &Disk) -> Check {
    let (free, all) = disk.inodes;
    let found = format!("{free} of {all} left at {}", disk.path.display());
    let how =
        "No new file can be made when there are none left: remove images and workspaces with many files.";
    left("disk inodes", found, free, all, 1024, how)
}

fn durable_of(facts: &Facts) -> Check {
    match &facts.durable {
        None => check(
            "durable write",
            Verdict::Unknown,
            "nothing was started here yet, or only root may write",
            "",
        ),
        Some(Err(why)) => {
            let how = "Nothing can be put on record, so nothing is started. See `dmesg` for the disk.";
            check("durable write", Verdict::Broken, why, how)
        }
        Some(Ok(took)) => {
            let found = format!("4 KiB in {}.{:01} ms", took.as_millis(), took.as_micros() / 100 % 10);
            if *took <= DURABLE_SLOW {
                return check("durable write", Verdict::Ok, found, "");
            }
            let how = "Every intent waits for one such write. Look for what else writes to this disk, or use another.";
            check("durable write", Verdict::Weaker, found, how)
        }
    }
}

fn memory_of(facts: &Facts) -> Check {
    let Some((all, free)) = facts.memory else {
        return check("memory", Verdict::Unknown, "/proc/meminfo does not say", "");
    };
    let found = format!("{} MiB of {} MiB can be had", free / MIB, all / MIB);
    let how = "The kernel kills processes when there is none left. `octant top` shows who has it; end or suspend agents, or give \
               the machine more.";
    left("memory", found, free, all, 32 * MIB, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Facts {
        Facts {
            wall_ms: FIRST_DAY_MS + 1_000_000,
            last_entry_ms: Some(FIRST_DAY_MS + 900_000),
            rtc_ms: Some(FIRST_DAY_MS + 1_001_000),
            seeded: Ok(()),
            disk: Ok(Disk {
                path: "/data".into(),
                bytes: (500 * MIB, 1000 * MIB),
                inodes: (50_000, 100_000),
                read_only: false,
            }),
            durable: Some(Ok(Duration::from_millis(3))),
            memory: Some((1000 * MIB, 500 * MIB)),
        }
    }

    #[test]
    fn a_sound_machine_has_nothing_to_say() {
        let checks = judge(&complete());
        assert!(checks.iter().all(|c| c.verdict == Verdict::Ok && c.how.is_empty()), "{checks:?}");
    }

    #[test]
    fn each_thing_that_breaks_is_one_row_with_what_to_do() {
        type Break = fn(&mut Facts);
        let disk: fn(&mut Facts) -> &mut Disk = |f| f.disk.as_mut().unwrap();
        let rows: [(Break, &str, Verdict, &str); 15] = [
            (|f| (f.wall_ms, f.rtc_ms) = (5, Some(5)), "clock", Verdict::Broken, "date -s"),
            (|f| f.last_entry_ms = Some(FIRST_DAY_MS * 2), "clock", Verdict::Broken, "gone back"),
            (|f| f.rtc_ms = Some(1), "hardware clock", Verdict::Weaker, "hwclock"),
            (|f| f.seeded = Err("EAGAIN".into()), "entropy", Verdict::Broken, "virtio-rng"),
            (|f| f.disk.as_mut().unwrap().bytes.0 = MIB, "disk space", Verdict::Broken, "archive"),
            (|f| f.disk.as_mut().unwrap().bytes.0 = 60 * MIB, "disk space", Verdict::Weaker, "archive"),
            (|f| f.disk.as_mut().unwrap().read_only = true, "disk space", Verdict::Broken, "dmesg"),
            (|f| f.disk.as_mut().unwrap().inodes.0 = 3, "disk inodes", Verdict::Broken, "many files"),
            (|f| f.disk.as_mut().unwrap().inodes.0 = 5000, "disk inodes", Verdict::Weaker, "many files"),
            (|f| f.durable = Some(Err("EIO".into())), "durable write", Verdict::Broken, "dmesg"),
            (|f| f.durable = Some(Ok(Duration::from_secs(2))), "durable write", Verdict::Weaker, "intent"),
            (|f| f.durable = None, "durable write", Verdict::Unknown, ""),
            (|f| f.memory = Some((1000 * MIB, MIB)), "memory", Verdict::Broken, "octant top"),
            (|f| f.memory = Some((1000 * MIB, 50 * MIB)), "memory", Verdict::Weaker, "octant top"),
            (|f| f.memory = None, "memory", Verdict::Unknown, ""),
        ];
        for (break_it, what, verdict, hint) in rows {
            let mut facts = complete();
            break_it(&mut facts);
            let checks = judge(&facts);
            let row = checks.iter().find(|c| c.what == what).unwrap();
            assert!(row.verdict == verdict && row.how.contains(hint), "{row:?}");
            assert_eq!(checks.iter().filter(|c| c.verdict != Verdict::Ok).count(), 1, "{checks:?}");
        }
        let mut facts = complete();
        disk(&mut facts).inodes = (0, 0);
        assert!(
            judge(&facts).iter().all(|c| c.verdict == Verdict::Ok),
            "a file system that does not count them"
        );
        facts.disk = Err("gone".into());
        assert!(judge(&facts).iter().any(|c| c.what == "disk" && c.verdict == Verdict::Broken));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = gather(&Layout::under(&std::env::temp_dir()), None);
        assert!(facts.memory.is_some_and(|(all, free)| all > free && free > 0));
        assert!(facts.disk.is_ok_and(|disk| disk.bytes.1 > 0));
        let block = std::env::temp_dir().join(format!("octant-block-{}", std::process::id()));
        write_block(&block).unwrap();
        assert!(!block.exists(), "nothing is left");
    }
}
