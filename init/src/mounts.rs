//! The mounts of the early boot, and their undoing at the end.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use octant_api::boot::Mode;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One row of the table. A place that is a mount point already is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where.
    pub(crate) target: &'static str,
    /// File system type.
    pub(crate) kind: &'static str,
    /// Options of the file system.
    pub(crate) options: &'static str,
    /// Flags.
    pub(crate) flags: MsFlags,
    /// Whether the boot cannot go on without it; the others are for kernels that have them.
    pub(crate) fatal: bool,
    /// Whether a PID namespace needs its own too.
    pub(crate) namespace: bool,
}

const NSN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NS_ND: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NS_NX: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);

const fn row(
    target: &'static str,
    kind: &'static str,
    options: &'static str,
    flags: MsFlags,
    fatal: bool,
) -> Row {
    Row { target, kind, options, flags, fatal, namespace: false }
}

/// In order. Types, flags and modes are systemd's (src/shared/mount-setup.c), with size limits added. /dev comes early,
/// because Debian's cloud kernels do not mount it by themselves (DEVTMPFS_MOUNT is off).
pub(crate) const TABLE: [Row; 14] = [
    Row { target: "/proc", kind: "proc", options: "", flags: NSN, fatal: true, namespace: true },
    row("/sys", "sysfs", "", NSN, true),
    row(
        "/dev",
        "devtmpfs",
        "mode=0755,size=4m,nr_inodes=64k",
        MsFlags::MS_NOSUID.union(MsFlags::MS_STRICTATIME),
        true,
    ),
    row("/dev/pts", "devpts", "mode=0620,gid=5,ptmxmode=0666", NS_NX, false),
    row("/dev/shm", "tmpfs", "mode=1777", NS_ND, true),
    row("/run", "tmpfs", "mode=0755,size=20%", NS_ND, true),
    row("/tmp", "tmpfs", "mode=1777,size=50%", NS_ND, false),
    row("/sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", NSN, true),
    row("/sys/kernel/security", "securityfs", "", NSN, false),
    row("/sys/fs/bpf", "bpf", "mode=0700", NSN, false),
    row("/sys/fs/pstore", "pstore", "", NSN, false),
    row("/sys/firmware/efi/efivars", "efivarfs", "", NSN.union(MsFlags::MS_RDONLY), false),
    row("/sys/kernel/debug", "debugfs", "mode=0700", NSN, false),
    row("/sys/kernel/tracing", "tracefs", "mode=0700", NSN, false),
];

/// A mount that the boot cannot go on without.
#[derive(Debug, thiserror::Error)]
#[error("mount {what} at {target}: {source}")]
pub(crate) struct MountError {
    /// Type or source.
    pub(crate) what: String,
    /// Where.
    pub(crate) target: String,
    /// Why.
    pub(crate) source: io::Error,
}

fn failed(what: &str, target: &str) -> impl FnOnce(nix::Error) -> MountError {
    move |error| MountError { what: what.into(), target: target.into(), source: error.into() }
}

/// The rows that this mode needs.
pub(crate) fn rows(mode: Mode) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| match mode {
        Mode::Machine => true,
        Mode::Namespace => row.namespace,
        // Whoever made the container made its mounts; what it left out it does not want us to have.
        Mode::Container => false,
    })
}

/// Makes the root a mount that can be pivoted away from.
///
/// The kernel's own initial root cannot be moved or pivoted (pivot_root(2): EINVAL), and every workstation begins with
/// pivot_root. So the root is bound to a second place, that is moved over the first, and entered.
///
/// # Errors
/// [`MountError`] with the failing call.
pub(crate) fn make_root_pivotable() -> Result<(), MountError> {
    let none: Option<&str> = None;
    let place = "/.octant-root";
    let io_failed = |source| MountError { what: "a directory".into(), target: place.into(), source };
    match std::fs::create_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_failed(error)),
        _ => {}
    }
    mount(Some("/"), place, none, MsFlags::MS_BIND, none).map_err(failed("the root", place))?;
    nix::unistd::chdir(place).map_err(failed("the directory", place))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(failed("the bound root", "/"))?;
    nix::unistd::chroot(".").map_err(failed("a new root", "/"))?;
    nix::unistd::chdir("/").map_err(failed("the directory", "/"))?;
    // The kernel makes its first tmpfs for everybody to write in (mm/shmem.c), and so would be the root of all paths.
    std::fs::set_permissions("/", std::fs::Permissions::from_mode(0o755)).map_err(|source| MountError {
        what: "the mode of the root".into(),
        target: "/".into(),
        source,
    })?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("private", "/"))
}

/// Cuts the propagation of mounts between this mount namespace and the one it was copied from.
///
/// # Errors
/// [`MountError`].
pub(crate) fn make_private() -> Result<(), MountError> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(failed("private", "/"))
}

/// Mounts one row. `Ok(false)` when it was there already or is optional and the kernel does not have it.
///
/// # Errors
/// [`MountError`] for a row that is fatal.
pub(crate) fn mount_row(row: &Row, mode: Mode) -> Result<bool, MountError> {
    // A namespace inherits a /proc that shows other processes: its own goes over it.
    if mode == Mode::Machine && is_mount_point(row.target) {
        return Ok(false);
    }
    // What cannot be made here is reported by the mount that then fails.
    let _may_be_read_only = std::fs::create_dir_all(row.target);
    match mount(Some(row.kind), row.target, Some(row.kind), row.flags, Some(row.options)) {
        Ok(()) => Ok(true),
        Err(_) if !row.fatal => Ok(false),
        Err(error) => Err(failed(row.kind, row.target)(error)),
    }
}

/// Whether something is mounted at `path`: it is on another device than its parent.
fn is_mount_point(path: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let path = Path::new(path);
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(parent)) => own != parent,
        _ => false,
    }
}

/// Mounts the data disk.
///
/// # Errors
/// [`MountError`].
pub(crate) fn mount_data(device: &Path, target: &Path) -> Result<(), MountError> {
    let name = device.display().to_string();
    let failed = |error: nix::Error| MountError {
        what: name.clone(),
        target: target.display().to_string(),
        source: error.into(),
    };
    mount(Some(device), target, Some("ext4"), NSN, None::<&str>).map_err(failed)
}

/// Where something is mounted, the last first, without the kernel's own file systems, which need no unmounting.
fn to_unmount(mountinfo: &str) -> Vec<String> {
    const KERNEL: [&str; 13] = [
        "proc",
        "sysfs",
        "devtmpfs",
        "devpts",
        "cgroup2",
        "securityfs",
        "bpf",
        "pstore",
        "efivarfs",
        "debugfs",
        "tracefs",
        "rootfs",
        "ramfs",
    ];
    let mut out = Vec::new();
    for line in mountinfo.lines() {
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        let (target, kind) = (head.split(' ').nth(4), tail.split(' ').next());
        if let (Some(target), Some(kind)) = (target, kind)
            && target != "/"
            && !KERNEL.contains(&kind)
        {
            out.push(unescape(target));
        }
    }
    out.reverse();
    out
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Unmounts everything once; what stays is returned with the reason and who holds it.
#[must_use]
pub(crate) fn unmount_all() -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut busy = Vec::new();
    for target in to_unmount(&mountinfo) {
        if let Err(error) = umount2(target.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
            busy.push(format!("{target}: {error}, held by {}", holders(&target)));
        }
    }
    busy
}

/// The last resort for what stayed busy: read-only if that is possible, and out of the tree.
pub(crate) fn detach_all() {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let none: Option<&str> = None;
    for target in to_unmount(&mountinfo) {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND;
        let _best_effort = mount(none, target.as_str(), none, read_only.difference(MsFlags::MS_BIND), none);
        let _best_effort = umount2(target.as_str(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let _best_effort = mount(none, "/", none, remount, none);
}

/// The processes with a file, a directory or a mapping below `target`.
fn holders(target: &str) -> String {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() {
            continue;
        }
        let dir = entry.path();
        let links = ["cwd", "root", "exe"].into_iter().map(|link| dir.join(link));
        let fds = std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        if links.chain(fds).any(|link| std::fs::read_link(link).is_ok_and(|to| to.starts_with(target))) {
            let comm = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
            out.push(format!("{name} ({})", comm.trim_end()));
        }
    }
    if out.is_empty() { "nobody that can be seen".into() } else { out.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_hardened() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.flags.contains(MsFlags::MS_NOSUID), "{}", row.target);
            let device_files = row.kind == "devtmpfs" || row.kind == "devpts";
            assert_eq!(!row.flags.contains(MsFlags::MS_NODEV), device_files, "{}", row.target);
            let parents =
                TABLE[at..].iter().filter(|other| row.target.starts_with(&format!("{}/", other.target)));
            assert_eq!(parents.count(), 0, "{} is mounted before what it lies in", row.target);
        }
        let kernel_views = ["proc", "sysfs", "cgroup2", "devpts"];
        assert!(
            TABLE
                .iter()
                .filter(|row| kernel_views.contains(&row.kind))
                .all(|row| { row.flags.contains(MsFlags::MS_NOEXEC) })
        );
    }

    #[test]
    fn a_namespace_mounts_only_proc_and_a_container_nothing() {
        assert_eq!(rows(Mode::Namespace).map(|row| row.target).collect::<Vec<_>>(), ["/proc"]);
        assert_eq!(rows(Mode::Container).count(), 0);
        assert_eq!(rows(Mode::Machine).count(), TABLE.len());
    }

    #[test]
    fn what_must_be_unmounted_is_found_last_first() {
        let mountinfo = "1 0 0:1 / / rw - rootfs none rw\n\
                         2 1 0:2 / /proc rw - proc proc rw\n\
                         3 1 254:0 / /var/lib/octant rw,nosuid shared:1 - ext4 /dev/vda rw\n\
                         4 3 0:9 / /var/lib/octant/a\\040b rw - tmpfs none rw\n";
        assert_eq!(to_unmount(mountinfo), ["/var/lib/octant/a b", "/var/lib/octant"]);
    }
}
