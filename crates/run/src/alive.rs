//! Whether a run is still there: a file that it has locked for as long as it is, whatever ends it.

use crate::error::{RunError, with};
use crate::gate::DIR;
use crate::places::{Places, private_dir};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use octant_ids::Aid;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest path that is noted.
const LEFT_MAX: u64 = 4096;

/// A run that is there.
#[derive(Debug)]
pub(crate) struct Alive {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Alive {
    /// From before anything about it is on record until everything is. What it leaves outside its own places, if it is
    /// killed, is noted.
    pub(crate) fn new(places: &Places, aid: Aid, leaves: Option<&Path>) -> Result<Self, RunError> {
        private_dir(&places.runs())?;
        let path = places.runs().join(aid.to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(with("make the lock of this run", &path))?;
        let left = leaves.map_or(&b""[..], |leaves| leaves.as_os_str().as_bytes());
        file.write_all(left).map_err(with("note what this run may leave in", &path))?;
        match lock(file).map_err(with("lock", &path))? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => Err(with("lock", &path)(Errno::EWOULDBLOCK.into())),
        }
    }

    /// Whether a run is there; what one has left that is not is removed.
    pub(crate) fn is(places: &Places, aid: Aid) -> Result<bool, RunError> {
        Self::is_at(&places.runs().join(aid.to_string()))
    }

    fn is_at(path: &Path) -> Result<bool, RunError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(with("open", path))?,
        };
        let mut left = Vec::new();
        (&file).take(LEFT_MAX).read_to_end(&mut left).map_err(with("read", path))?;
        if lock(file).map_err(with("lock", path))?.is_none() {
            return Ok(true);
        }
        if left.starts_with(DIR.as_bytes()) {
            let _gone_already = fs::remove_dir_all(OsStr::from_bytes(&left));
        }
        fs::remove_file(path).map_err(with("remove", path))?;
        Ok(false)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // One that stays is removed when it is found unlocked.
        let _it_may_stay = fs::remove_file(&self.path);
    }
}

/// None where somebody else has it.
fn lock(file: File) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}
