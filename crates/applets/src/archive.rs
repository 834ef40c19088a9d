//! Archives and compressed files.
//!
//! What is unpacked is hostile until shown otherwise: names lead nowhere but below the directory in which it is unpacked
//! ([`extract`]), and what a compressed stream may grow to is bounded ([`bound`]).

mod bound;
mod codec;
mod compress;
mod cpio;
mod extract;
mod pattern;
mod tar;
mod unzip;

pub(crate) use compress::{
    bunzip2, bzcat, bzip2, gunzip, gzip, unxz, unzstd, xz, xzcat, zcat, zstd, zstdcat,
};
pub(crate) use cpio::cpio;
pub(crate) use extract::shown;
pub(crate) use pattern::matches;
pub(crate) use tar::tar;
pub(crate) use unzip::unzip;
