//! Private files: root's alone, replaced as a whole, and refused when somebody else could have written them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The most bytes of such a file.
const MAX: u64 = 1 << 20;

/// Why a private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else owns it or may write or read it.
    #[error(
        "{0}: belongs to another user or is open to others; chown it to root and chmod it to 600 if you trust what is in it"
    )]
    Open(PathBuf),
    /// It has more than 1 MiB, or is not what this version writes.
    #[error("{path}: {why}; restore it, or remove it to begin anew")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot be written.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file's text; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    let fail = |source| FileError::Read { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let file = match options.read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    let meta = file.metadata().map_err(fail)?;
    if meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o077 != 0 || !meta.is_file() {
        return Err(FileError::Open(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX {
        return Err(FileError::Content { path: path.to_owned(), why: "more than 1 MiB".into() });
    }
    Ok(Some(text))
}

/// Replaces the file durably; its directory is made when it is not there.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), FileError> {
    replace(path, text).map_err(|source| FileError::Write { path: path.to_owned(), source })
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    make_directory(directory)?;
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

/// A directory for private files.
pub(crate) fn make_directory(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(directory, Permissions::from_mode(0o700)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory that is removed at the end.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("octant-console-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let scratch = Scratch::new("files");
        let path = scratch.0.join("private/file");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(read(&path).unwrap().is_none());
        write(&path, "text").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("text"));
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        for mode in [0o640, 0o602] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(FileError::Open(_))), "{mode:o}");
        }
        write(&path, "new").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("new"), "replacing it closes it again");
        let link = scratch.0.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link), Err(FileError::Read { .. })));
        write(&path, &"x".repeat((1 << 20) + 1)).unwrap();
        assert!(matches!(read(&path), Err(FileError::Content { .. })));
    }
}
