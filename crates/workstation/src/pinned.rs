//! Executables that the plan names by the digest of their bytes.
//!
//! A file of the host can be changed by whoever owns it, before and after it was looked at. So what is executed is a copy
//! that the spawner makes while it computes the digest, in memory that is mounted nowhere but in its own mount namespace.
//! A copy is made once for each digest and shared by every workstation that needs it.

use crate::enforce::Made;
use crate::plan::Plan;
use crate::step::{SpawnError, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use octant_ids::Sha256;
use octant_sys::mount;
use sha2::Digest;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The largest file: while it is read the spawner serves nobody else.
const FILE_MAX: u64 = 64 << 20;
/// How many bytes all copies can have together.
const BYTES_MAX: &std::ffi::CStr = c"268435456";
/// The copy that is being made.
const NEW: &str = "new";

/// The copies.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// Where they are mounted, once there are any.
    at: PathBuf,
    dir: Option<OwnedFd>,
}

impl Pinned {
    /// None yet; they are going to be mounted on the directory `at`, which is made.
    pub(crate) fn new(at: PathBuf) -> Self {
        Self { at, dir: None }
    }

    /// Puts copies in place of the plan's sources that are pinned, or says which of them has other bytes.
    pub(crate) fn replace(&mut self, plan: &Plan, sources: &mut [OwnedFd]) -> Made<()> {
        for (path, digest) in &plan.pins {
            let refused = |text: String| SpawnError::refused(Step::Sources, format!("{path}: {text}"));
            let place = plan.binds.iter().position(|bind| bind.source == *path);
            let source = place.and_then(|place| sources.get_mut(place));
            let source = source.ok_or_else(|| refused("it has a digest and is not granted".to_owned()))?;
            *source = self.copy(source.as_fd(), *digest).map_err(|error| refused(error.to_string()))?;
        }
        Ok(())
    }

    /// A copy of the file, if its bytes have this digest.
    fn copy(&mut self, source: BorrowedFd<'_>, wanted: Sha256) -> Result<OwnedFd, PinError> {
        let size = fstat(source)?.st_size;
        if u64::try_from(size).map_or(true, |size| size > FILE_MAX) {
            return Err(PinError::Large(size));
        }
        // The descriptor is one that names the file only.
        let mut file = File::open(format!("/proc/self/fd/{}", source.as_raw_fd()))?;
        let dir = self.dir()?;
        let name = wanted.to_string();
        let path = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(dir, name.as_str(), path, Mode::empty());
        let found = match made {
            // The file is looked at all the same: that it is not what was signed is said at the next spawn.
            Ok(_) => digest_of(&mut file, &mut io::sink())?,
            Err(Errno::ENOENT) => match write_new(dir, &mut file) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    // Whoever runs one keeps it.
                    forget_all(dir)?;
                    file.rewind()?;
                    write_new(dir, &mut file)?
                }
                other => other?,
            },
            Err(error) => return Err(error.into()),
        };
        match made {
            _ if found != wanted => {
                // There only where it was written just now, and written over otherwise.
                let _may_not_be_there = unlinkat(dir, NEW, UnlinkatFlags::NoRemoveDir);
                Err(PinError::Differs { found, wanted })
            }
            Ok(made) => Ok(made),
            Err(_) => {
                renameat2(dir, NEW, dir, name.as_str(), RenameFlags::empty())?;
                Ok(openat(dir, name.as_str(), path, Mode::empty())?)
            }
        }
    }

    /// The directory of copies. It is mounted when the first is needed.
    fn dir(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.dir.is_none() {
            match std::fs::create_dir(&self.at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let below = nix::fcntl::open(self.at.as_path(), flags, Mode::empty())?;
            let options = [(c"mode", c"0700"), (c"size", BYTES_MAX)];
            let attributes = mount::attr::NOSUID | mount::attr::NODEV;
            let tree = mount::new_filesystem(c"tmpfs", &options, attributes)?;
            mount::attach_at(tree.as_fd(), below.as_fd())?;
            self.dir = Some(tree);
        }
        self.dir.as_ref().map(AsFd::as_fd).ok_or_else(|| Errno::EBADF.into())
    }
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
enum PinError {
    #[error("it has {0} bytes; a file with a digest can have {FILE_MAX}")]
    Large(i64),
    #[error(
        "its SHA-256 is {found}, and the manifest has {wanted}; look at what changed it, or sign the new one"
    )]
    Differs { found: Sha256, wanted: Sha256 },
    #[error("it cannot be copied: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for PinError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

fn write_new(dir: BorrowedFd<'_>, file: &mut File) -> io::Result<Sha256> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let new = openat(dir, NEW, flags, Mode::from_bits_truncate(0o555))?;
    digest_of(file, &mut File::from(new))
}

fn forget_all(dir: BorrowedFd<'_>) -> io::Result<()> {
    for name in crate::image::names(dir)? {
        unlinkat(dir, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
    }
    Ok(())
}

/// Copies a file, up to the limit, and computes the digest of what was copied.
fn digest_of(from: &mut File, to: &mut dyn Write) -> io::Result<Sha256> {
    let mut hash = sha2::Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    let mut left = FILE_MAX;
    loop {
        let count = from.read(&mut chunk)?;
        // It may grow while it is read.
        left = left.checked_sub(count as u64).ok_or(Errno::EFBIG)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        to.write_all(bytes)?;
    }
    Ok(Sha256(hash.finalize().into()))
}
