//! Durable steps on files, each of which can be the last one before the power goes.

use crate::StoreError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The steps. Tests say after how many of them the power goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    #[cfg(test)]
    pub(crate) left: std::rc::Rc<std::cell::Cell<Option<usize>>>,
}

impl Disk {
    fn step(&self, path: &Path, done: impl FnOnce() -> io::Result<()>) -> Result<(), StoreError> {
        let fail = |source| StoreError { path: path.to_owned(), source };
        #[cfg(test)]
        if let Some(left) = self.left.get() {
            let Some(fewer) = left.checked_sub(1) else { return Err(fail(io::Error::other("power cut"))) };
            self.left.set(Some(fewer));
        }
        done().map_err(fail)
    }

    /// A directory for root alone; one that is there is as good.
    pub(crate) fn make_dir(&self, path: &Path) -> Result<(), StoreError> {
        if path.is_dir() {
            return Ok(());
        }
        self.step(path, || {
            DirBuilder::new().mode(0o700).recursive(true).create(path)?;
            path.parent().map_or(Ok(()), sync)
        })
    }

    /// A new file with these bytes, on the disk, for root alone.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_as(path, bytes, 0o600)
    }

    /// The same with a mode.
    pub(crate) fn write_as(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let half = bytes.len() / 2;
        let mut file = None;
        self.step(path, || {
            let mut options = OpenOptions::new();
            let mut open = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
            open.write_all(&bytes[..half])?;
            file = Some(open);
            Ok(())
        })?;
        self.step(path, || {
            file.map_or(Ok(()), |mut file| file.write_all(&bytes[half..]).and_then(|()| file.sync_all()))
        })
    }

    /// The file has these bytes, or as it was.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = Path::new(&new);
        self.write(new, bytes)?;
        self.rename(new, path)
    }

    /// Renames in one directory, and has that on the disk.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.step(to, || fs::rename(from, to))?;
        self.sync_dir(to.parent().unwrap_or(Path::new("/")))
    }

    /// A file that is not there is as good.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        self.step(path, || fs::remove_file(path))?;
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }

    /// The same for a directory with what is in it.
    pub(crate) fn remove_all(&self, path: &Path) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        self.step(path, || fs::remove_dir_all(path))
    }

    /// What has happened in a directory is on the disk.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.step(path, || sync(path))
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
