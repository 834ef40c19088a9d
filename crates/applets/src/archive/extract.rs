//! From an archive's members to files below one directory, whatever the members say.
//!
//! The kernel resolves every place beneath that directory and through no symbolic link, so that neither `..` nor a link
//! which the archive has made itself, nor one that was there before, leads out. What is there is replaced, never
//! written into. Directories get their permissions and times at the end, when nothing more is put into them.

use nix::sys::stat::{Mode, SFlag, umask};
use octant_tree::{Dir, Place, PlaceError};
use std::collections::BTreeMap;
use std::fs::{FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::time::{Duration, SystemTime};

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    /// With what it says.
    Symlink(Vec<u8>),
    /// With the name of the member that it is the same as.
    Hardlink(Vec<u8>),
    Fifo,
    /// A device: block or character, major and minor number.
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
}

/// A member of an archive, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    /// User and group.
    pub(crate) owner: (u32, u32),
    pub(crate) size: u64,
}

/// What is restored, and what happens to what is there already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    /// All bits of the mode, without the umask.
    pub(crate) permissions: bool,
    pub(crate) owner: bool,
    /// Now, in place of the time in the archive.
    pub(crate) touch: bool,
    pub(crate) keep_old: bool,
}

/// Why a member was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// Its name is none below the directory.
    #[error("refused: {0}")]
    Name(#[from] PlaceError),
    /// It would take the place of the directory itself.
    #[error("refused: it is the directory itself, and no directory")]
    Root,
    /// It is there and is kept.
    #[error("exists already")]
    Exists,
    /// A part of its way is not there, is a link, or may not be written.
    #[error("cannot be made: {0}")]
    Make(#[source] io::Error),
    /// Its bytes cannot be read.
    #[error("cannot be read from the archive: {0}")]
    Read(#[source] io::Error),
    /// Its bytes cannot be written.
    #[error("cannot be written: {0}")]
    Write(#[source] io::Error),
    /// Its owner, permissions or times cannot be set.
    #[error("is written, but its {0} cannot be set: {1}")]
    Dress(&'static str, #[source] io::Error),
}

/// The directory below which an archive is unpacked.
pub(crate) struct Target {
    dir: Dir,
    policy: Policy,
    umask: u32,
    directories: BTreeMap<Place, (u32, i64)>,
}

impl Target {
    /// The working directory.
    pub(crate) fn here(policy: Policy) -> io::Result<Self> {
        // It can only be read by setting it.
        let mask = umask(Mode::empty());
        umask(mask);
        let dir = Dir::open(std::path::Path::new("."))?.across_mounts();
        Ok(Self { dir, policy, umask: mask.bits(), directories: BTreeMap::new() })
    }

    /// Writes one member with its bytes.
    pub(crate) fn put(&mut self, member: &Member, body: &mut dyn Read) -> Result<(), PutError> {
        let Some(place) = Place::of_archive(&member.name)? else {
            return if member.kind == Kind::Directory { Ok(()) } else { Err(PutError::Root) };
        };
        self.parents(&place)?;
        if member.kind == Kind::Directory {
            return self.directory(member, place);
        }
        if let Kind::Hardlink(to) = &member.kind
            && Place::of_archive(to)?.as_ref() == Some(&place)
        {
            // The same as itself, which it is; removed first, it would be lost.
            return Ok(());
        }
        self.clear(&place)?;
        match &member.kind {
            Kind::File => return self.file(member, &place, body),
            Kind::Hardlink(to) => {
                let to = Place::of_archive(to)?.ok_or(PutError::Root)?;
                return self.dir.make_same(&place, &to).map_err(PutError::Make);
            }
            Kind::Symlink(to) => self.dir.make_link(&place, to),
            Kind::Fifo => self.dir.make_node(&place, SFlag::S_IFIFO, self.mode(member), 0),
            Kind::Device { block, major, minor } => {
                let kind = if *block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
                let device = nix::sys::stat::makedev((*major).into(), (*minor).into());
                self.dir.make_node(&place, kind, self.mode(member), device)
            }
            Kind::Directory => Ok(()),
        }
        .map_err(PutError::Make)?;
        if self.policy.owner {
            let (user, group) = member.owner;
            self.dir.own(&place, user, group).map_err(|e| PutError::Dress("owner", e))?;
        }
        if !self.policy.touch {
            self.dir.date(&place, member.mtime).map_err(|e| PutError::Dress("time", e))?;
        }
        Ok(())
    }

    /// The permissions and times of directories, the deepest first. The failures.
    pub(crate) fn finish(self) -> Vec<(String, PutError)> {
        let mut failures = Vec::new();
        for (place, (mode, mtime)) in self.directories.iter().rev() {
            let mut failed = |what, result: io::Result<()>| {
                failures.extend(result.err().map(|e| (place.to_string(), PutError::Dress(what, e))));
            };
            failed("permissions", self.dir.permit(place, *mode));
            if !self.policy.touch {
                failed("time", self.dir.date(place, *mtime));
            }
        }
        failures
    }

    fn mode(&self, member: &Member) -> u32 {
        if self.policy.permissions { member.mode & 0o7777 } else { member.mode & 0o777 & !self.umask }
    }

    /// Makes what is missing above a place.
    fn parents(&self, place: &Place) -> Result<(), PutError> {
        let mut missing = Vec::new();
        let mut above = place.parent();
        while let Some(parent) = above {
            match self.dir.directory(&parent) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    above = parent.parent();
                    missing.push(parent);
                }
                Err(error) => return Err(PutError::Make(error)),
            }
        }
        for parent in missing.iter().rev() {
            self.dir.make_directory(parent).map_err(PutError::Make)?;
        }
        Ok(())
    }

    /// Removes what is in the way, unless it is kept.
    fn clear(&self, place: &Place) -> Result<(), PutError> {
        if self.policy.keep_old {
            return Ok(());
        }
        match self.dir.remove(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PutError::Make(error)),
            _ => Ok(()),
        }
    }

    fn directory(&mut self, member: &Member, place: Place) -> Result<(), PutError> {
        if self.dir.directory(&place).is_err() {
            // Not there, or something that is no directory: a link above all.
            self.clear(&place)?;
            self.dir.make_directory(&place).map_err(PutError::Make)?;
        }
        if self.policy.owner {
            let (user, group) = member.owner;
            self.dir.own(&place, user, group).map_err(|e| PutError::Dress("owner", e))?;
        }
        self.directories.insert(place, (self.mode(member), member.mtime));
        Ok(())
    }

    fn file(&self, member: &Member, place: &Place, body: &mut dyn Read) -> Result<(), PutError> {
        let mut file = match self.dir.make_file(place, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(PutError::Exists),
            other => other.map_err(PutError::Make)?,
        };
        copy(body, &mut file, member.size)?;
        if self.policy.owner {
            let (user, group) = member.owner;
            fchown(&file, Some(user), Some(group)).map_err(|e| PutError::Dress("owner", e))?;
        }
        // After the owner: a change of owner takes the bits that set one.
        file.set_permissions(Permissions::from_mode(self.mode(member)))
            .map_err(|e| PutError::Dress("permissions", e))?;
        if !self.policy.touch {
            let time = time(member.mtime);
            file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
                .map_err(|e| PutError::Dress("time", e))?;
        }
        Ok(())
    }
}

/// The time of so many seconds.
fn time(seconds: i64) -> SystemTime {
    let length = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(length)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(length)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Copies exactly `size` bytes.
pub(crate) fn copy(body: &mut dyn Read, sink: &mut dyn Write, size: u64) -> Result<(), PutError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match body.read(&mut buffer[..most]) {
            Ok(0) => return Err(PutError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PutError::Read(error)),
        };
        sink.write_all(&buffer[..count]).map_err(PutError::Write)?;
        left -= count as u64;
    }
    Ok(())
}

/// A name as GNU tar lists it: on one line, and with nothing in it that could control a terminal.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                c if c.is_control() => octal(&mut shown, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => shown.push(c),
            }
        }
        octal(&mut shown, chunk.invalid());
    }
    shown
}

fn octal(shown: &mut String, bytes: &[u8]) {
    shown.extend(bytes.iter().map(|byte| format!("\\{byte:03o}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_each_and_control_no_terminal() {
        assert_eq!(shown(b"a b"), "a b");
        assert_eq!(shown("ä".as_bytes()), "ä");
        assert_eq!(shown(b"a\nb\\c\x1b"), "a\\nb\\\\c\\033");
        assert_eq!(shown(b"a\xff\n"), "a\\377\\n");
    }

    #[test]
    fn exactly_so_many_bytes_are_copied() {
        let mut sink = Vec::new();
        copy(&mut &b"abcdef"[..], &mut sink, 4).unwrap();
        assert_eq!(sink, b"abcd");
        assert!(matches!(copy(&mut &b"ab"[..], &mut sink, 4), Err(PutError::Read(_))));
    }

    #[test]
    fn times_that_no_clock_has_do_no_harm() {
        for seconds in [i64::MIN, -1, 0, i64::MAX] {
            let _ = time(seconds);
        }
        assert_eq!(time(7), SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    }
}
