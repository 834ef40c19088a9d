//! What is kept of workspaces after their agents' ends: trees of files in this service's own directory.

use octant_api::agents::{Artefacts, LeftOut};
use octant_ids::Sha256;
use octant_tree::{Shelf, Store, StoreError, Wish};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The name of the store in the state directory; the operator's command reads what is in it.
const DIR: &str = "artefacts";

/// The store, and how much it may hold.
#[derive(Debug)]
pub(crate) struct Archive {
    dir: PathBuf,
    most: u64,
}

impl Archive {
    /// In this state directory, with at most so many bytes of files.
    pub(crate) fn new(state: &std::path::Path, most: u64) -> Self {
        Self { dir: state.join(DIR), most }
    }

    /// A wish for no more than there is room for.
    pub(crate) fn bounded(&self, wish: Wish) -> Result<Wish, StoreError> {
        let room = self.most.saturating_sub(Store::open(&self.dir)?.bytes()?);
        Ok(Wish { bytes: wish.bytes.min(room), ..wish })
    }

    /// Keeps what comes out of the pipe.
    pub(crate) fn take(&self, wish: &Wish, stream: OwnedFd) -> Result<Artefacts, StoreError> {
        let mut stream = BufReader::with_capacity(64 << 10, File::from(stream));
        let (tree, left_out) = Store::open(&self.dir)?.unpack(&mut stream, wish)?;
        let whole = wish.places.is_none() && left_out.named.is_empty();
        let named = left_out.named.into_iter().map(|(place, why)| LeftOut { place, why });
        Ok(Artefacts {
            tree: Some(tree.digest()),
            entries: tree.len() as u64,
            bytes: tree.bytes(),
            left_out: named.collect(),
            more_left_out: left_out.more,
            whole,
            ..Artefacts::default()
        })
    }

    /// Gives a tree and its files out through a pipe, in a thread that ends when nobody reads it any more; how many
    /// entries and bytes.
    pub(crate) fn give(&self, tree: Sha256) -> Result<(OwnedFd, u64, u64), StoreError> {
        let shelf = Shelf::new(&self.dir);
        let found = shelf.tree(tree)?;
        let pipe = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (read, write) = pipe.map_err(|_| StoreError::Stream("there is no pipe for it"))?;
        tokio::task::spawn_blocking(move || {
            let mut write = BufWriter::with_capacity(64 << 10, File::from(write));
            if let Err(error) = shelf.pack(tree, &mut write) {
                tracing::warn!("artefacts {tree} were not given out whole: {error}");
            }
        });
        Ok((read, found.len() as u64, found.bytes()))
    }

    /// Removes a tree, and the files that no other has.
    pub(crate) fn remove(&self, tree: Sha256) -> Result<(), StoreError> {
        Store::open(&self.dir)?.remove(tree)
    }
}
