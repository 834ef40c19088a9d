//! The mount API of Linux 5.2 and later, by descriptor: open_tree(2), move_mount(2), mount_setattr(2),
//! fsopen(2), fsconfig(2), fsmount(2). Everything is prepared detached and attached at the end, so that no
//! half-made mount is ever visible by a path.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Mount attributes (`MOUNT_ATTR_*`, linux/mount.h).
pub mod attr {
    /// Nothing can be written through the mount.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// No file can be executed.
    pub const NOEXEC: u64 = 0x8;
}

const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

// The kernel's struct mount_attr.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn fd_of(result: libc::c_long) -> io::Result<OwnedFd> {
    let Ok(fd @ 0..) = i32::try_from(result) else { return Err(io::Error::last_os_error()) };
    // SAFETY: only called with the result of a system call that returns a new descriptor nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A detached copy of the one mount that `at` lies in, rooted at `at`; mounts below it are not copied.
///
/// # Errors
/// What open_tree(2) reports.
pub fn clone_tree(at: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is a NUL-terminated constant; the kernel reads nothing else.
    fd_of(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Attaches the detached tree at `target` (absolute, or relative to the working directory).
///
/// # Errors
/// What move_mount(2) reports.
pub fn attach(tree: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    let (from, at) = (tree.as_raw_fd(), libc::AT_FDCWD);
    // SAFETY: both paths are NUL-terminated and live until the call returns.
    done(unsafe {
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), at, target.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
    })
}

/// Sets attributes of the mount at `at`, and makes it private when `private`.
///
/// # Errors
/// What mount_setattr(2) reports.
pub fn set_attributes(at: BorrowedFd<'_>, set: u64, private: bool, recursive: bool) -> io::Result<()> {
    let propagation = if private { libc::MS_PRIVATE } else { 0 };
    let attr = MountAttr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (call, size) = (libc::SYS_mount_setattr, size_of::<MountAttr>());
    // SAFETY: `attr` has the kernel's layout and the size passed, and lives until the call returns.
    done(unsafe { libc::syscall(call, at.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size) })
}

/// Shows the detached mount's files with other owners: user and group ids on disk are looked up in the user
/// namespace, whose maps say what they are here (mount_setattr(2), MOUNT_ATTR_IDMAP).
///
/// # Errors
/// `EINVAL` when the file system cannot do that; otherwise what mount_setattr(2) reports.
pub fn map_owners(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let userns_fd = u64::from(user_namespace.as_raw_fd().unsigned_abs());
    let attr = MountAttr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    let (call, size) = (libc::SYS_mount_setattr, size_of::<MountAttr>());
    // SAFETY: `attr` has the kernel's layout and the size passed, and lives until the call returns.
    done(unsafe {
        libc::syscall(call, tree.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const attr, size)
    })
}

/// A new file system of the named type, configured with `options` (an empty value sets a flag), as a detached
/// mount with the given attributes.
///
/// # Errors
/// What fsopen(2), fsconfig(2) or fsmount(2) reports.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: `kind` is NUL-terminated; 1 is FSOPEN_CLOEXEC.
    let context = fd_of(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    let fd = context.as_raw_fd();
    for (key, value) in options {
        let (command, value) = match value.is_empty() {
            true => (FSCONFIG_SET_FLAG, std::ptr::null()),
            false => (FSCONFIG_SET_STRING, value.as_ptr()),
        };
        // SAFETY: key is NUL-terminated, value is NUL-terminated or null exactly where the command takes none.
        done(unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key.as_ptr(), value, 0) })?;
    }
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, null, null, 0) })?;
    // SAFETY: no pointers; 1 is FSMOUNT_CLOEXEC.
    fd_of(unsafe { libc::syscall(libc::SYS_fsmount, fd, 1, attributes) })
}

/// Attaches the detached tree at an already opened place.
///
/// # Errors
/// What move_mount(2) reports.
pub fn attach_at(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    let (from, at, none) = (tree.as_raw_fd(), at.as_raw_fd(), c"".as_ptr());
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are NUL-terminated constants.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, none, at, none, flags) })
}
