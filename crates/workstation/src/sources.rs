//! Which paths of the host can be bound into a workstation: none of Octant's own, none of the kernel's.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::fstatfs;
use octant_ids::Layout;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Why a path cannot be bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{path}: {error}; no component of a granted path may be a symbolic link")]
    Open { path: String, error: io::Error },
    #[error("{path} is neither a directory nor a regular file")]
    Kind { path: String },
    #[error("{path} is in a file system of the kernel's own ({magic:#x})")]
    Kernel { path: String, magic: i64 },
    #[error("{path} is, holds or lies in {own}, which is Octant's own")]
    Own { path: String, own: String },
}

/// File systems through which the kernel, another process or a device can be reached (linux/magic.h).
const KERNEL_FILE_SYSTEMS: [i64; 17] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x1cd1,      // devpts
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x6265_6570, // configfs
    0x6e73_6673, // nsfs
    0xf97c_ff8c, // selinuxfs
    0x0bad_1dea, // futexfs
];
/// Trees that are the kernel's whatever is mounted there.
const KERNEL_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A directory's identity, the same through every bind mount of it.
type Id = (u64, u64);

/// Octant's own directories, by path and by identity.
#[derive(Debug)]
pub(crate) struct Guard {
    own: Vec<(PathBuf, Option<Id>)>,
    above: Vec<(PathBuf, Id)>,
}

fn id_of(fd: BorrowedFd<'_>) -> io::Result<Id> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The identities of every directory above an open one, up to the root or to one that is known.
fn ids_above(fd: BorrowedFd<'_>, known: impl Fn(Id) -> bool) -> io::Result<Vec<Id>> {
    const DEEPEST: usize = 128;
    let mut ids: Vec<Id> = Vec::new();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut here = openat(fd, "..", flags, Mode::empty())?;
    for _ in 0..DEEPEST {
        let id = id_of(here.as_fd())?;
        if ids.last() == Some(&id) || known(id) {
            return Ok(ids);
        }
        ids.push(id);
        here = openat(here.as_fd(), "..", flags, Mode::empty())?;
    }
    Err(io::Error::other("the directory is too deep"))
}

impl Guard {
    /// Looks at where Octant's directories are now.
    pub(crate) fn new(layout: &Layout) -> io::Result<Self> {
        let mut guard = Self { own: Vec::new(), above: Vec::new() };
        for path in [&layout.etc, &layout.state, &layout.run, &layout.log] {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            match nix::fcntl::open(path.as_path(), flags, Mode::empty()) {
                Ok(fd) => {
                    guard.own.push((path.clone(), Some(id_of(fd.as_fd())?)));
                    guard.own.push((resolved(fd.as_fd())?, None));
                    // They mostly lie beside each other, and what is above one is above the others then.
                    let above = ids_above(fd.as_fd(), |id| guard.above.iter().any(|row| row.1 == id))?;
                    guard.above.extend(above.into_iter().map(|id| (path.clone(), id)));
                }
                // Not there (yet): by path alone.
                Err(nix::errno::Errno::ENOENT) => guard.own.push((path.clone(), None)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(guard)
    }

    /// Opens a granted path for binding, or says why it cannot be bound.
    pub(crate) fn open(&self, source: &str) -> Result<OwnedFd, SourceError> {
        let path = || source.to_owned();
        let failed = |error: io::Error| SourceError::Open { path: path(), error };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let fd = openat2(nix::fcntl::AT_FDCWD, source, how).map_err(|error| failed(error.into()))?;
        let stat = fstat(&fd).map_err(|error| failed(error.into()))?;
        let kind = stat.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFDIR.bits() && kind != SFlag::S_IFREG.bits() {
            return Err(SourceError::Kind { path: path() });
        }
        let magic = fstatfs(&fd).map_err(|error| failed(error.into()))?.filesystem_type().0;
        let magic = magic & 0xffff_ffff;
        if KERNEL_FILE_SYSTEMS.contains(&magic) {
            return Err(SourceError::Kernel { path: path(), magic });
        }
        let resolved = resolved(fd.as_fd()).map_err(failed)?;
        self.by_path(source, &resolved)?;
        self.by_identity(source, fd.as_fd(), kind == SFlag::S_IFDIR.bits())?;
        Ok(fd)
    }

    fn by_path(&self, source: &str, resolved: &Path) -> Result<(), SourceError> {
        let own = |own: &Path| SourceError::Own { path: source.to_owned(), own: own.display().to_string() };
        for tree in KERNEL_TREES {
            if resolved.starts_with(tree) || Path::new(tree).starts_with(resolved) {
                return Err(SourceError::Own {
                    path: source.to_owned(),
                    own: format!("{tree}, the kernel's tree"),
                });
            }
        }
        match self.own.iter().find(|(path, _)| resolved.starts_with(path) || path.starts_with(resolved)) {
            Some((path, _)) => Err(own(path)),
            None => Ok(()),
        }
    }

    fn by_identity(&self, source: &str, fd: BorrowedFd<'_>, is_dir: bool) -> Result<(), SourceError> {
        let failed = |error: io::Error| SourceError::Open { path: source.to_owned(), error };
        let own = |own: &Path| SourceError::Own { path: source.to_owned(), own: own.display().to_string() };
        let id = id_of(fd).map_err(failed)?;
        if let Some((path, _)) = self.above.iter().find(|(_, above)| *above == id) {
            return Err(own(path));
        }
        let mut chain = vec![id];
        if is_dir {
            chain.extend(ids_above(fd, |_| false).map_err(failed)?);
        } else if let Some(parent) = Path::new(source).parent() {
            // A file has no `..`; its directory was resolved without links just now.
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let parent =
                nix::fcntl::open(parent, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
            chain.push(id_of(parent.as_fd()).map_err(failed)?);
            chain.extend(ids_above(parent.as_fd(), |_| false).map_err(failed)?);
        }
        match self.own.iter().find(|(_, id)| id.is_some_and(|id| chain.contains(&id))) {
            Some((path, _)) => Err(own(path)),
            None => Ok(()),
        }
    }
}

/// The path that the kernel gives for an open file.
fn resolved(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(guard: &Guard, path: &Path) -> String {
        guard.open(path.to_str().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn octants_own_directories_what_is_in_them_and_what_holds_them_are_refused() {
        let dir = std::env::temp_dir().join(format!("octant-sources-{}", std::process::id()));
        let layout = Layout::under(&dir.join("octant"));
        for path in [&layout.etc, &layout.state, &layout.run, &dir.join("data")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::create_dir(layout.state.join("ledger")).unwrap();
        std::fs::write(layout.state.join("ledger/segment"), b"x").unwrap();
        std::os::unix::fs::symlink(&layout.state, dir.join("link")).unwrap();
        let guard = Guard::new(&layout).unwrap();
        guard.open(dir.join("data").to_str().unwrap()).unwrap();
        let own = [
            layout.etc.clone(),
            layout.state.join("ledger"),
            layout.state.join("ledger/segment"),
            dir.join("octant"),
            dir.clone(),
            "/".into(),
        ];
        for path in own {
            assert!(refused(&guard, &path).contains("Octant's own"), "{}", path.display());
        }
        // A log directory that is not there yet is refused by its path as soon as it is.
        std::fs::create_dir(&layout.log).unwrap();
        assert!(refused(&guard, &layout.log).contains("Octant's own"));
        assert!(refused(&guard, &dir.join("link")).contains("symbolic link"));
        assert!(refused(&guard, &dir.join("link/ledger")).contains("symbolic link"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// A granted path that somebody swaps for a link all the while is opened as itself or not at all.
    #[test]
    fn a_path_that_is_swapped_under_the_guard_is_never_another() {
        use nix::fcntl::{RenameFlags, renameat2};
        let dir = std::env::temp_dir().join(format!("octant-swap-{}", std::process::id()));
        let layout = Layout::under(&dir.join("octant"));
        for path in [&layout.state, &dir.join("granted/inner"), &dir.join("other")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink(&layout.state, dir.join("other/inner")).unwrap();
        let guard = Guard::new(&layout).unwrap();
        let (granted, other) = (dir.join("granted"), dir.join("other"));
        let right = |fd: OwnedFd| id_of(fd.as_fd()).unwrap();
        let inner = right(guard.open(granted.join("inner").to_str().unwrap()).unwrap());
        let (mut opened, mut refused) = (0, 0);
        let stop = &std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swap = scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let at = nix::fcntl::AT_FDCWD;
                    renameat2(at, &granted, at, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            });
            let path = dir.join("granted/inner");
            // Until both have been seen often, whichever thread is quicker.
            for _ in 0..200_000 {
                match guard.open(path.to_str().unwrap()) {
                    Ok(fd) => {
                        assert_eq!(right(fd), inner, "another directory was opened");
                        opened += 1;
                    }
                    Err(_) => refused += 1,
                }
                if opened.min(refused) > 1000 {
                    break;
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            swap.join().unwrap();
        });
        assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_kernels_trees_and_special_files_are_refused() {
        let guard = Guard::new(&Layout::under(Path::new("/nonexistent/octant"))).unwrap();
        for path in ["/proc", "/proc/1", "/sys", "/dev", "/dev/null", "/dev/shm"] {
            assert!(guard.open(path).is_err(), "{path}");
        }
    }
}
