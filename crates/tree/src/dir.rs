//! A directory on disk that is written and read only within itself.

use crate::place::Place;
use nix::dir::Dir as Listing;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// An open directory. Every place is resolved by the kernel beneath it (openat2(2)): through no symbolic link, over no
/// mount, never out of it; and nothing that is there already is opened for writing.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Whose everything is that is made in it; whoever makes it, where nobody is named.
    owner: Option<u32>,
    /// Whether what is mounted below counts as part of it.
    across: bool,
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

impl Dir {
    /// Opens a directory; its last name may not be a link.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(nix::fcntl::open(path, OFlag::O_RDONLY | DIRECTORY, Mode::empty())?))
    }

    /// A directory that is open already.
    #[must_use]
    pub fn of(fd: OwnedFd) -> Self {
        Self { fd, owner: None, across: false }
    }

    /// The same directory, with what is mounted below it: for a tree that is the caller's own, as with tar(1).
    #[must_use]
    pub fn across_mounts(self) -> Self {
        Self { across: true, ..self }
    }

    /// The same directory; what is made in it is this user's and group's.
    #[must_use]
    pub fn owned_by(self, owner: u32) -> Self {
        Self { owner: Some(owner), ..self }
    }

    fn give(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
        Ok(fchownat(parent, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Opens what lies at a place.
    fn beneath(&self, place: &Place, flags: OFlag) -> io::Result<OwnedFd> {
        let mut resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if !self.across {
            resolve |= ResolveFlag::RESOLVE_NO_XDEV;
        }
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(resolve);
        Ok(openat2(&self.fd, place.as_path(), how)?)
    }

    /// The directory that a place lies in, and its name there.
    fn at<'p>(&self, place: &'p Place) -> io::Result<(OwnedFd, &'p OsStr)> {
        let parent = match place.parent() {
            Some(parent) => self.beneath(&parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?,
            None => self.fd.try_clone()?,
        };
        Ok((parent, OsStr::from_bytes(place.name())))
    }

    /// The directory at a place.
    ///
    /// # Errors
    /// There is none, or a link is on the way.
    pub fn directory(&self, place: &Place) -> io::Result<Self> {
        self.beneath(place, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(Self::of)
    }

    /// The file at a place, for reading.
    ///
    /// # Errors
    /// There is none, it is no regular file, or a link is on the way.
    pub fn file(&self, place: &Place) -> io::Result<File> {
        // Without O_NONBLOCK the open of a pipe would wait for a writer.
        let fd = self.beneath(place, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        regular(fd.as_fd())?;
        Ok(fd.into())
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Something is there, or what is above is not.
    pub fn make_directory(&self, place: &Place) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(&parent, name, mode)?;
        // The umask of whoever runs this is none of the tree's business.
        fchmod(openat(&parent, name, OFlag::O_RDONLY | DIRECTORY, Mode::empty())?, mode)?;
        self.give(&parent, name)
    }

    /// Makes a file, for writing.
    ///
    /// # Errors
    /// Something is there, or what is above is not.
    pub fn make_file(&self, place: &Place, exec: bool) -> io::Result<File> {
        let (parent, name) = self.at(place)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(if exec { 0o755 } else { 0o644 });
        let file = openat(&parent, name, flags, mode)?;
        fchmod(&file, mode)?;
        self.give(&parent, name)?;
        Ok(file.into())
    }

    /// Makes a symbolic link; what it says is not looked at.
    ///
    /// # Errors
    /// Something is there, or what is above is not.
    pub fn make_link(&self, place: &Place, to: &[u8]) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        symlinkat(OsStr::from_bytes(to), &parent, name)?;
        self.give(&parent, name)
    }

    /// Gives a file of this directory a second place.
    ///
    /// # Errors
    /// Something is there, or what is above is not.
    pub fn make_same(&self, place: &Place, file: &Place) -> io::Result<()> {
        let (from, old) = self.at(file)?;
        let (to, new) = self.at(place)?;
        Ok(linkat(&from, old, &to, new, AtFlags::empty())?)
    }

    /// Makes a pipe, a socket or a device.
    ///
    /// # Errors
    /// Something is there, what is above is not, or the caller may not make one.
    pub fn make_node(&self, place: &Place, kind: SFlag, mode: u32, device: u64) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        mknodat(&parent, name, kind, Mode::from_bits_truncate(mode), device)?;
        self.give(&parent, name)
    }

    /// Removes what lies at a place, if it is no directory.
    ///
    /// # Errors
    /// Nothing is there, or it is a directory.
    pub fn remove(&self, place: &Place) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        Ok(unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Gives what lies at a place, a link itself too, to a user and a group.
    ///
    /// # Errors
    /// The caller may not.
    pub fn own(&self, place: &Place, user: u32, group: u32) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        Ok(fchownat(&parent, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Sets when what lies at a place, a link itself too, was read and changed.
    ///
    /// # Errors
    /// The caller may not.
    pub fn date(&self, place: &Place, seconds: i64) -> io::Result<()> {
        let (parent, name) = self.at(place)?;
        let time = TimeSpec::new(seconds, 0);
        Ok(utimensat(&parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets the permissions of the directory at a place.
    ///
    /// # Errors
    /// There is none, or the caller may not.
    pub fn permit(&self, place: &Place, mode: u32) -> io::Result<()> {
        Ok(fchmod(&self.directory(place)?.fd, Mode::from_bits_truncate(mode))?)
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut listing =
            Listing::from_fd(openat(&self.fd, ".", OFlag::O_RDONLY | DIRECTORY, Mode::empty())?)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What is under a name in it, without following a link.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// What a link in it says.
    ///
    /// # Errors
    /// It is no link.
    pub fn link(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        Ok(nix::fcntl::readlinkat(&self.fd, name)?.into_vec())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The type bits of a file's mode.
pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn regular(fd: BorrowedFd<'_>) -> io::Result<()> {
    if kind(&fstat(fd)?) == SFlag::S_IFREG {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Removes what is under a name in a directory, with all below it; follows no link. What is not there is removed already.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_all(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => return Ok(()),
        // What Linux says of a directory; POSIX would say EPERM.
        Err(nix::errno::Errno::EISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let dir = Dir::of(openat(parent, name, OFlag::O_RDONLY | DIRECTORY, Mode::empty())?);
    for inner in dir.names()? {
        remove_all(dir.as_fd(), &inner)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
