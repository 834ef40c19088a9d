//! What can be wrong with an image, or with the place where images are kept.

use octant_ids::Sha256;
use octant_tree::{FormError, PlaceError, ScanError, TreeError};
use std::io;
use std::path::PathBuf;

/// Why an image is not imported, found or verified.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The image's own files cannot be read.
    #[error("cannot read {what} of the image: {source}")]
    Read {
        /// Which part.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The place where images are kept cannot be read or written.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Keep {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever imports it was not to go on.
    #[error("the import could not be put on record")]
    Unrecorded,
    /// Not an OCI image layout.
    #[error("this is no OCI image layout: {0}")]
    Layout(String),
    /// A file that a digest names is not there.
    #[error("the image does not have the blob {0}")]
    Missing(Sha256),
    /// A blob's bytes are not those that its digest names.
    #[error("{what} is not what its digest says: expected {expected}, found {found}")]
    Digest {
        /// Which blob.
        what: String,
        /// The digest that it should have.
        expected: Sha256,
        /// The digest that it has.
        found: Sha256,
    },
    /// A blob's length is not the one that was announced.
    #[error("{what} has {found} bytes, and {expected} were announced")]
    Size {
        /// Which blob.
        what: String,
        /// How many were announced.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// More than there may be.
    #[error("{what}: more than the limit of {limit}")]
    Limit {
        /// Of what.
        what: String,
        /// How much there may be.
        limit: u64,
    },
    /// A document that is not what it should be.
    #[error("{what} cannot be understood: {why}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing for this machine.
    #[error("the image is not for {wanted}; it has: {has}")]
    Platform {
        /// This machine.
        wanted: String,
        /// What there is.
        has: String,
    },
    /// More than one image, and nobody said which.
    #[error("there are {count} images in it ({names}); say which with --reference")]
    Which {
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// No image of that name.
    #[error("no image in it has the reference {wanted:?}; it has: {names}")]
    Reference {
        /// The name asked for.
        wanted: String,
        /// The names that there are.
        names: String,
    },
    /// A layer's archive cannot be read.
    #[error("layer {layer}: {source}")]
    Archive {
        /// The layer's number, from 0.
        layer: usize,
        /// Why.
        source: io::Error,
    },
    /// An entry of a layer that cannot be.
    #[error("layer {layer}, entry {entry}: {why}")]
    Entry {
        /// The layer's number, from 0.
        layer: usize,
        /// The entry's number, from 0.
        entry: u64,
        /// What is wrong with it.
        why: EntryError,
    },
    /// There is no room for a workstation's own places.
    #[error("a workstation's own places cannot be laid out in it: {0}")]
    Room(EntryError),
    /// The tree cannot be written.
    #[error("cannot write {place}: {source}")]
    Write {
        /// Which part of it.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A name that none can have.
    #[error(transparent)]
    Name(#[from] crate::NameError),
    /// There is no such image.
    #[error("there is no image {0}")]
    NotFound(String),
    /// An imported image is not what it was.
    #[error("the image {digest} is not what was imported: {why}")]
    Changed {
        /// Which.
        digest: Sha256,
        /// What differs.
        why: String,
    },
    /// An imported image cannot be read.
    #[error("the image {digest} cannot be read: {source}")]
    Scan {
        /// Which.
        digest: Sha256,
        /// Why.
        source: ScanError,
    },
    /// An imported image's list of files cannot be understood.
    #[error("the list of files of the image {digest} cannot be read: {source}")]
    Form {
        /// Which.
        digest: Sha256,
        /// Why.
        source: FormError,
    },
}

/// What is wrong with one entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Its name.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Where it would lie.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It is another name of something that is not there, or is a directory.
    #[error("it is another name of {0}, which is no file of the image")]
    Hardlink(String),
    /// A link that says nothing or too much.
    #[error("a symbolic link says {found} bytes; 1 to {limit} are possible", limit = octant_tree::limits::LINK_BYTES)]
    Link {
        /// How many.
        found: usize,
    },
    /// A kind that no image needs.
    #[error("an entry of kind {0:?}, which images do not have")]
    Kind(char),
    /// Bytes where none can be.
    #[error("it has {0} bytes, although it is no file")]
    Bytes(u64),
    /// A whiteout that hides nothing that could be.
    #[error("the whiteout {0} names nothing")]
    Whiteout(String),
    /// An extended header that cannot be read, is too long, or says what the plain header denies.
    #[error("an extended header {0}")]
    Extended(&'static str),
}
