//! Root file systems from OCI images on disk.
//!
//! Owns: reading an OCI image layout (a directory or a tar file), the application of its layers, and [`Images`], where
//! what was imported is kept.
//! Promises: no byte of an image is used before its digest and size are verified; an imported image is a tree of plain
//! files, directories and links, complete or not there at all; nothing that an image says reaches outside of its own tree.
//! Never: fetches anything, keeps owners, setuid bits, extended attributes or device nodes, changes an imported image.
#![forbid(unsafe_code)]

mod archive;
mod error;
mod fuzz;
mod images;
mod import;
mod layers;
mod layout;
mod model;
mod saved;
mod unpack;

#[cfg(test)]
mod tests;

pub use error::ImageError;
pub use fuzz::{fuzz_layer, fuzz_layout};
pub use images::{Image, Images, NameError};
pub use import::{Choice, Imported};
pub use model::{Config, Platform};

/// Limits of every image, whoever made it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of an index, a manifest or a configuration.
    pub document_bytes: u64,
    /// The most layers.
    pub layers: usize,
    /// The most bytes of a layer as it is kept in the image.
    pub layer_bytes: u64,
    /// The most bytes of all layers together, decompressed.
    pub unpacked_bytes: u64,
    /// The most entries of all layers together, those too that later layers hide.
    pub entries: u64,
    /// The most files in the tar file of a layout.
    pub files: usize,
}

impl Limits {
    /// What holds where nobody says otherwise: several times the largest images in common use, and what an import can
    /// still come back from.
    pub const DEFAULT: Self = Self {
        document_bytes: 4 << 20,
        layers: 256,
        layer_bytes: 16 << 30,
        unpacked_bytes: 32 << 30,
        entries: 1 << 20,
        files: 4096,
    };
}
