//! From a directory on disk to the tree that it is.

use crate::dir::{Dir, kind};
use crate::limits::LINK_BYTES;
use crate::place::{Place, PlaceError};
use crate::tree::{Content, Entry, Tree, TreeError};
use nix::sys::stat::SFlag;
use octant_ids::Sha256;
use sha2::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

/// Why a directory cannot be read as a tree.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Something cannot be read.
    #[error("{place}: {source}")]
    Read {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A name that is too long or too deep.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A link that says too much.
    #[error("the link {0} has more than {LINK_BYTES} bytes")]
    Link(Place),
    /// Too many entries.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What is in a directory and no part of a tree: a device node, a pipe, a socket, a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Odd(pub Place);

/// The digest and length of what a reader still has.
///
/// # Errors
/// It cannot be read.
pub fn hash(reader: &mut impl Read) -> io::Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((Sha256(hasher.finalize().into()), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Dir {
    /// The tree that is on disk below this directory, and what is no part of a tree. `take` gets each file, open for
    /// reading, and gives its digest and length ([`hash`] is the least that it can do).
    ///
    /// # Errors
    /// [`ScanError`].
    pub fn scan(
        &self,
        take: &mut dyn FnMut(&mut File) -> io::Result<(Sha256, u64)>,
    ) -> Result<(Tree, Vec<Odd>), ScanError> {
        let mut scan = Scan { tree: Tree::default(), odd: Vec::new(), take };
        scan.directory(self, None)?;
        Ok((scan.tree, scan.odd))
    }
}

struct Scan<'a> {
    tree: Tree,
    odd: Vec<Odd>,
    take: &'a mut dyn FnMut(&mut File) -> io::Result<(Sha256, u64)>,
}

impl Scan<'_> {
    /// As deep as [`Place`] allows.
    fn directory(&mut self, dir: &Dir, at: Option<&Place>) -> Result<(), ScanError> {
        let shown = at.map_or_else(|| ".".into(), ToString::to_string);
        for name in dir.names().map_err(|source| ScanError::Read { place: shown.clone(), source })? {
            let inner = Place::parse(name.as_bytes())?;
            let place = at.map_or_else(|| Ok(inner.clone()), |at| at.join(&inner))?;
            let failed = |source| ScanError::Read { place: place.to_string(), source };
            let entry = match kind(&dir.stat(&name).map_err(failed)?) {
                SFlag::S_IFDIR => {
                    match dir.directory(&inner) {
                        Ok(below) => {
                            self.tree.put(place.clone(), Entry::Directory)?;
                            self.directory(&below, Some(&place))?;
                        }
                        // Something is mounted there, which is somebody else's.
                        Err(error) if error.raw_os_error() == Some(nix::libc::EXDEV) => {
                            self.odd.push(Odd(place))
                        }
                        Err(error) => return Err(failed(error)),
                    }
                    continue;
                }
                SFlag::S_IFREG => {
                    let mut file = dir.file(&inner).map_err(failed)?;
                    let exec = file.metadata().map_err(failed)?.permissions().mode() & 0o111 != 0;
                    let (sha256, size) = (self.take)(&mut file).map_err(failed)?;
                    Entry::File(Content { sha256, size, exec })
                }
                SFlag::S_IFLNK => match dir.link(&name).map_err(failed)? {
                    to if to.len() > LINK_BYTES => return Err(ScanError::Link(place)),
                    to => Entry::Link(to),
                },
                _ => {
                    self.odd.push(Odd(place));
                    continue;
                }
            };
            self.tree.put(place, entry)?;
        }
        Ok(())
    }
}
