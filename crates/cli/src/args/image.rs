//! `octant image`, as data.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Import an OCI image from disk and print its digest
    #[command(after_help = "\
Every blob is verified. Device nodes, owners, setuid bits and extended attributes are left out. Nothing is\n\
fetched: `skopeo copy docker://python:3.12-slim oci:DIR` makes such a directory elsewhere.

Example:
  octant image import /srv/python --name python:3.12")]
    Import {
        /// The image layout: a directory, or a tar file that is not compressed
        path: PathBuf,
        /// A name that stands for the image from now on
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Which image, where there are several: its reference name in the layout's index
        #[arg(long, value_name = "REF")]
        reference: Option<String>,
    },
    /// List imported images
    #[command(after_help = "Example:\n  octant image list")]
    List,
    /// Remove an image and its names; refused while an agent runs in it
    #[command(name = "rm", after_help = "Example:\n  octant image rm python:3.12")]
    Remove {
        /// The image: a name, its digest, or the digest's first 8 or more digits
        image: String,
    },
    /// Read an image's files again and compare them with what was imported; exits 7 when they differ
    #[command(after_help = "Example:\n  octant image verify python:3.12")]
    Verify {
        /// The image: a name, its digest, or the digest's first 8 or more digits
        image: String,
    },
}
