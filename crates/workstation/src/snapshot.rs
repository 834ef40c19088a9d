//! What a workspace begins with: a snapshot that the operator keeps, by its digest.

use crate::enforce::Made;
use crate::plan::Scratch;
use crate::step::{SpawnError, Step};
use octant_ids::Sha256;
use octant_tree::{Dir, Shelf, Tree};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// The most bytes of a snapshot: while it is copied the spawner serves nobody else.
const BYTES_MAX: u64 = 1 << 30;

/// A snapshot, ready to be written.
pub(crate) struct Snapshot {
    digest: Sha256,
    tree: Tree,
    shelf: Shelf,
}

impl Snapshot {
    /// Finds it, reads the list of its files, and sees whether they fit into the workspace.
    pub(crate) fn open(digest: Sha256, workspaces: &Path, into: &Scratch) -> Made<Self> {
        let shelf = Shelf::new(workspaces);
        let tree = shelf.tree(digest).map_err(|error| {
            let text = format!("the snapshot sha256:{digest}: {error}; `octant workspace list` shows each");
            SpawnError::refused(Step::Sources, text)
        })?;
        let (bytes, entries, most) = (tree.bytes(), tree.len() as u64, into.bytes.min(BYTES_MAX));
        if bytes > most || entries >= into.inodes {
            let text = format!(
                "the snapshot sha256:{digest} has {bytes} bytes in {entries} entries, and the workspace takes {most} in {}",
                into.inodes
            );
            return Err(SpawnError::refused(Step::Sources, text));
        }
        Ok(Self { digest, tree, shelf })
    }

    /// Writes it into an empty file system; every file is verified, and `owner`'s.
    pub(crate) fn write(&self, into: BorrowedFd<'_>, owner: u32) -> io::Result<()> {
        let dir = Dir::of(into.try_clone_to_owned()?).owned_by(owner);
        self.shelf.restore(&self.tree, &dir).map_err(io::Error::other)
    }
}

impl fmt::Debug for Snapshot {
    /// Its files can be many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.digest)
    }
}
