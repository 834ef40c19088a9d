//! Listening sockets, made before anything is started and kept for as long as PID 1 lives.

use crate::units::Socket;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// How many clients may queue while a service restarts.
const BACKLOG: i32 = 128;

/// A bound and listening AF_UNIX socket.
///
/// # Errors
/// What socket(2), bind(2), listen(2) and chown(2) report.
pub(crate) fn listening(path: &Path, what: Socket) -> io::Result<OwnedFd> {
    let kind = if what.packets { SockType::SeqPacket } else { SockType::Stream };
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    remove_stale(path)?;
    // Closed to everybody until its owner and mode are right: a client must not slip in between.
    let before = umask(Mode::from_bits_truncate(0o777));
    let bound = UnixAddr::new(path).and_then(|address| bind(fd.as_raw_fd(), &address));
    umask(before);
    bound?;
    let (user, group) = (Uid::from_raw(what.owner), Gid::from_raw(what.owner));
    let follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(nix::fcntl::AT_FDCWD, path, Some(user), Some(group), follow)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(what.mode))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// Removes the socket that an earlier run left at `path`; anything else there is an error.
///
/// # Errors
/// `AlreadyExists` when something that is no socket stands there; otherwise what unlink(2) reports.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is no socket", path.display())))
        }
    }
}
