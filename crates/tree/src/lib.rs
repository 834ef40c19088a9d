//! Trees of files as data, and as directories on disk.
//!
//! Owns: [`Place`], [`Tree`] and its canonical form, what differs between trees and how two become one; [`Dir`], through
//! which a tree is written to disk and read back; [`Store`], which keeps files and trees by their digests, and [`Shelf`], which gives them out;
//! [`pack`], by which one process reads what another keeps.
//! Promises: in a [`Tree`] everything lies in a directory of the same tree, so nothing in it is reached through a link;
//! [`Dir`] never leaves its directory, follows no symbolic link and, unless its maker says so, crosses no mount, whatever the tree says.
//! Never: keeps owners, setuid bits, extended attributes or device nodes: a file is its bytes and whether it is a program.
#![forbid(unsafe_code)]

mod canonical;
mod changes;
mod dir;
mod fuzz;
mod pack;
mod place;
mod scan;
mod store;
mod tree;

pub use canonical::FormError;
pub use changes::{Change, Conflict, changes, merge};
pub use dir::{Dir, remove_all};
pub use fuzz::fuzz_pack;
pub use pack::{LeftOut, Wish, list, pack};
pub use place::{Place, PlaceError};
pub use scan::{Odd, ScanError, hash};
pub use store::{Shelf, Store, StoreError};
pub use tree::{Content, Entry, Tree, TreeError};

/// Limits of every tree, whoever made it.
pub mod limits {
    /// The most bytes of a path.
    pub const PATH_BYTES: usize = 1024;
    /// The most bytes of one name in a path, which is what file systems take.
    pub const NAME_BYTES: usize = 255;
    /// The most names in a path.
    pub const DEPTH: usize = 64;
    /// The most bytes of what a symbolic link says.
    pub const LINK_BYTES: usize = 1024;
    /// The most files, directories and links of one tree.
    pub const ENTRIES: usize = 1 << 20;
}
