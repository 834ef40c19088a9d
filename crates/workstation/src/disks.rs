//! The disks on which what is granted lies: a cgroup bounds reading and writing a disk at a time.

use crate::plan::{Bind, Plan};
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::fstatfs;
use octant_manifest::Io;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A whole block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Disk {
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

/// Why what is granted has no disk that the manifest's bounds could be kept on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error(
        "the manifest bounds what is read and written in a second, and {path} lies on a file system where that cannot be kept: {why}; take the bounds (resources.io_*) out, or grant a place that is on a disk"
    )]
    Boundless { path: String, why: &'static str },
    #[error("which disk {path} lies on: {error}")]
    Unknown { path: String, error: io::Error },
}

const NO_DISK: &str = "it has no disk of its own (memory, an overlay, btrfs, a network)";
const UNKNOWN_OWNER: &str =
    "the kernel does not know there whose data it writes (it does with ext4, XFS and F2FS)";
/// File systems whose data is written back in the name of the cgroup that it comes from (linux/magic.h): on any other only
/// what goes past the page cache would be bounded.
const WRITES_HAVE_OWNERS: [i64; 3] = [0xef53, 0x5846_5342, 0xf2f5_2010];
/// The major number of devices that no hardware is behind.
const ANONYMOUS: u64 = 0;
const BLOCK_DEVICES: &str = "/sys/dev/block";

impl Disk {
    /// What stands in `io.max`: written, and the same when it is read.
    pub(crate) fn line(self, io: &Io) -> String {
        let Io { read_bytes, write_bytes, read_ops, write_ops } = *io;
        let text = |bound: Option<u64>| bound.map_or("max".to_owned(), |bound| bound.to_string());
        let [rbps, wbps, riops, wiops] = [read_bytes, write_bytes, read_ops, write_ops].map(text);
        format!("{}:{} rbps={rbps} wbps={wbps} riops={riops} wiops={wiops}", self.major, self.minor)
    }

    /// The disk with this device number, or that has the partition with it.
    fn whole(self, devices: &Path) -> io::Result<Self> {
        let device = devices.join(format!("{}:{}", self.major, self.minor));
        if !device.join("partition").try_exists()? {
            return device.join("dev").try_exists()?.then_some(self).ok_or(io::ErrorKind::NotFound.into());
        }
        // The entry is a link to the partition's directory, which lies in that of its disk.
        let text = std::fs::read_to_string(device.join("../dev"))?;
        let numbers = text.trim().split_once(':');
        let disk = numbers
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        disk.ok_or_else(|| io::Error::other(format!("{text:?} is no device number")))
    }
}

/// Each disk that something of the plan lies on; none where the plan has no bounds.
///
/// Copies of files with a digest are in memory that is the spawner's, whatever disk they were read from.
pub(crate) fn of(plan: &Plan, sources: &[OwnedFd]) -> Result<Vec<Disk>, DiskError> {
    if plan.limits.io == Io::UNLIMITED {
        return Ok(Vec::new());
    }
    let there = plan.binds.iter().zip(sources).filter(|(bind, _)| !plan.pins.contains_key(&bind.source));
    let disks = there.map(|(bind, source)| disk_of(bind, source, &plan.limits.io));
    disks.collect::<Result<BTreeSet<_>, _>>().map(|disks| disks.into_iter().collect())
}

fn disk_of(bind: &Bind, source: &OwnedFd, io: &Io) -> Result<Disk, DiskError> {
    let path = || bind.source.clone();
    let unknown = |error: io::Error| DiskError::Unknown { path: path(), error };
    let device = fstat(source).map_err(|error| unknown(error.into()))?.st_dev;
    let device = Disk { major: major(device), minor: minor(device) };
    if device.major == ANONYMOUS {
        return Err(DiskError::Boundless { path: path(), why: NO_DISK });
    }
    let writes_bounded = io.write_bytes.is_some() || io.write_ops.is_some();
    if bind.write && writes_bounded {
        let kind = fstatfs(source.as_fd()).map_err(|error| unknown(error.into()))?.filesystem_type().0;
        if !WRITES_HAVE_OWNERS.contains(&(kind & 0xffff_ffff)) {
            return Err(DiskError::Boundless { path: path(), why: UNKNOWN_OWNER });
        }
    }
    device.whole(Path::new(BLOCK_DEVICES)).map_err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::sample;
    use std::fs;

    #[test]
    fn a_partition_is_bounded_with_its_disk() {
        let dir = std::env::temp_dir().join(format!("octant-disks-{}", std::process::id()));
        let (disk, numbers) = (dir.join("devices/pci0/block/sda"), dir.join("dev/block"));
        fs::create_dir_all(disk.join("sda2")).unwrap();
        fs::create_dir_all(&numbers).unwrap();
        fs::write(disk.join("dev"), "8:0\n").unwrap();
        fs::write(disk.join("sda2/dev"), "8:2\n").unwrap();
        fs::write(disk.join("sda2/partition"), "2\n").unwrap();
        std::os::unix::fs::symlink("../../devices/pci0/block/sda", numbers.join("8:0")).unwrap();
        std::os::unix::fs::symlink("../../devices/pci0/block/sda/sda2", numbers.join("8:2")).unwrap();
        let [whole, part, none] = [0, 2, 3].map(|minor| Disk { major: 8, minor }.whole(&numbers));
        let sda = Disk { major: 8, minor: 0 };
        assert_eq!((whole.unwrap(), part.unwrap()), (sda, sda));
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(disk.join("dev"), "8\n").unwrap();
        assert!(Disk { major: 8, minor: 2 }.whole(&numbers).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_line_is_as_the_kernel_shows_it() {
        let io = Io { read_bytes: Some(1 << 20), write_ops: Some(100), ..Io::UNLIMITED };
        let line = Disk { major: 253, minor: 16 }.line(&io);
        assert_eq!(line, "253:16 rbps=1048576 wbps=max riops=max wiops=100");
    }

    #[test]
    fn what_has_no_disk_is_refused_where_there_are_bounds_alone() {
        // A file system in memory, wherever this runs.
        let memory = || OwnedFd::from(fs::File::open("/dev").unwrap());
        let mut plan = sample();
        let error = of(&plan, &[memory(), memory()]).unwrap_err().to_string();
        assert!(error.contains("/srv/logs") && error.contains("no disk of its own"), "{error}");
        plan.limits.io = Io::UNLIMITED;
        assert_eq!(of(&plan, &[memory(), memory()]).unwrap(), []);
        // Nothing granted, or copies alone: there is nothing to bound.
        plan.limits.io = Io { read_ops: Some(8), ..Io::UNLIMITED };
        plan.binds.truncate(1);
        plan.pins.insert("/srv/logs".into(), octant_ids::Sha256::ZERO);
        assert_eq!(of(&plan, &[memory()]).unwrap(), []);
    }
}
