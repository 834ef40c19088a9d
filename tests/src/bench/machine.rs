//! A virtual machine's way from the kernel's hand-over to ready: Octant against BusyBox init on the same image.
//!
//! BusyBox does by a script what PID 1 has to do before any service: mounts, the same modules, the data disk. It
//! starts no service and checks nothing; Octant's figure ends when its services are healthy.

use crate::table::{Row, Samples, spread};
use octant_tests::cpio::Cpio;
use octant_tests::environment::path;
use octant_tests::guest::{Boot, Guest};
use std::fs;
use std::path::{Path, PathBuf};

const ROUNDS: usize = 5;
const LIMIT_S: u64 = 120;
const SETUP: &str = "#!/bb/busybox sh
/bb/busybox mount -t proc proc /proc
/bb/busybox mount -t sysfs sysfs /sys
/bb/busybox mount -t devtmpfs dev /dev
/bb/busybox mkdir -p /dev/pts /dev/shm /run /tmp
/bb/busybox mount -t devpts devpts /dev/pts
/bb/busybox mount -t tmpfs shm /dev/shm
/bb/busybox mount -t tmpfs run /run
/bb/busybox mount -t tmpfs tmp /tmp
/bb/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
for name in $(/bb/busybox sed 's/#.*//; s/^-//' /etc/octant/modules); do /bb/busybox modprobe $name 2>/dev/null; done
/bb/busybox mount -t ext4 /dev/vda /var/lib/octant
echo busybox: ready >/dev/console
/bb/busybox poweroff -f
";

/// The overlay with a BusyBox that the kernel can start instead of Octant.
fn busybox_overlay(busybox: &Path, target: &Path) -> Result<(), String> {
    let program = fs::read(busybox).map_err(|e| format!("{}: {e}", busybox.display()))?;
    let mut archive = Cpio::default();
    archive.directory("bb");
    ["busybox", "init"].iter().for_each(|name| archive.file(&format!("bb/{name}"), 0o755, &program));
    archive.file("bb/setup", 0o755, SETUP.as_bytes());
    archive.file("etc/inittab", 0o644, b"::sysinit:/bb/setup\n");
    fs::write(target, archive.finish()).map_err(|e| format!("{}: {e}", target.display()))
}

/// Nanoseconds from the kernel's last word to the line that says ready.
fn handover(scratch: &Path, boot: &Boot<'_>, ready: &str) -> u64 {
    let mut guest = Guest::boot(scratch, boot);
    guest.until("the hand-over", LIMIT_S, |line| line.contains(" as init process"));
    let before = guest.age_ns();
    guest.until("ready", LIMIT_S, |line| line.contains(ready));
    let took = guest.age_ns() - before;
    guest.kill();
    took
}

/// The row of the table; none where there is no BusyBox.
pub(crate) fn row(scratch: &Path, busybox: Option<PathBuf>) -> Result<Option<Row>, String> {
    let Some(busybox) = busybox else { return Ok(None) };
    let overlay = scratch.join("busybox.cpio");
    busybox_overlay(&busybox, &overlay)?;
    let disk = scratch.join("machine.ext4");
    fs::copy(path("OCTANT_DATA"), &disk).map_err(|e| format!("{}: {e}", disk.display()))?;
    let data = || Some((disk.display().to_string(), "raw"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let octant = Boot { append: "loglevel=7", data: data(), ..Boot::default() };
        let peer = Boot {
            append: "loglevel=7 rdinit=/bb/init",
            overlay: Some(&overlay),
            data: data(),
            ..Boot::default()
        };
        let pair =
            (handover(scratch, &octant, "octant: ready after"), handover(scratch, &peer, "busybox: ready"));
        if round > 0 {
            ours.push(pair.0);
            theirs.push(pair.1);
        }
    }
    let (ours, theirs) = (Samples::new(ours), Samples::new(theirs));
    let accel = std::env::var("OCTANT_ACCEL").unwrap_or_default();
    Ok(Some(Row {
        what: format!("virtual machine ({accel}): the kernel's hand-over to ready"),
        ours: spread(&ours),
        peers: format!("BusyBox init, same image, no services: {}", spread(&theirs)),
        goal: "≤ BusyBox + 1 s".into(),
        met: Some(ours.median() <= theirs.median() + 1_000_000_000),
    }))
}
