//! An OCI image layout on disk: a directory, or a tar file with the same names in it.

use crate::Limits;
use crate::error::ImageError;
use crate::model::{Descriptor, Marker, read};
use crate::saved::{self, Saved};
use octant_ids::Sha256;
use octant_tree::{Dir, Place, hash};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where the layout's files are.
#[derive(Debug)]
pub(crate) enum Layout {
    Directory(Dir),
    /// The tar file, and where in it each file lies.
    Tar(File, BTreeMap<Place, (u64, u64)>),
    /// One of the two in an older form, and what makes a layout of it.
    Saved(Box<Self>, Saved),
}

/// A blob whose digest and size have been verified. It lies where whoever brought the image can still write, so whoever
/// reads it to the end asks [`Blob::verify`] of what was read too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob {
    pub(crate) digest: Sha256,
    pub(crate) size: u64,
}

impl Layout {
    /// Opens a layout and checks that it says what it is.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Read { what: path.display().to_string(), source };
        let file = File::open(path).map_err(failed)?;
        let layout = if file.metadata().map_err(failed)?.is_dir() {
            Self::Directory(Dir::open(path).map_err(failed)?)
        } else {
            let index = index(&file, limits)?;
            Self::Tar(file, index)
        };
        if layout.length("oci-layout").is_none() && layout.length(saved::LIST).is_some() {
            let saved = saved::read_saved(&layout, limits)?;
            return Ok(Self::Saved(Box::new(layout), saved));
        }
        let marker: Marker = read("oci-layout", &layout.document("oci-layout", limits)?)?;
        match marker.image_layout_version.as_str() {
            "1.0.0" => Ok(layout),
            other => Err(ImageError::Layout(format!("its version is {other:.100?}, not 1.0.0"))),
        }
    }

    /// The length of a file, where it is one.
    pub(crate) fn length(&self, name: &str) -> Option<u64> {
        self.file(name).ok().map(|(_, size)| size)
    }

    /// A file of the layout and its length.
    fn file(&self, name: &str) -> io::Result<(Section, u64)> {
        let place = Place::parse(name.as_bytes()).map_err(io::Error::other)?;
        match self {
            Self::Directory(dir) => {
                let file = dir.file(&place)?;
                let size = file.metadata()?.len();
                Ok((Section { file, at: 0, left: size }, size))
            }
            Self::Saved(under, saved) => match saved.made.get(name) {
                Some(bytes) => {
                    let size = bytes.len() as u64;
                    Ok((Section { file: in_memory(bytes)?, at: 0, left: size }, size))
                }
                None => {
                    let digest = name.strip_prefix("blobs/sha256/").and_then(|digits| digits.parse().ok());
                    let place = digest.and_then(|digest: Sha256| saved.blobs.get(&digest));
                    under.file(place.ok_or(io::ErrorKind::NotFound)?)
                }
            },
            Self::Tar(file, index) => {
                let (at, size) = *index.get(&place).ok_or(io::ErrorKind::NotFound)?;
                Ok((Section { file: file.try_clone()?, at, left: size }, size))
            }
        }
    }

    /// A document that no digest names.
    pub(crate) fn document(&self, name: &str, limits: &Limits) -> Result<Vec<u8>, ImageError> {
        let (section, size) = self.file(name).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ImageError::Layout(format!("it has no {name}")),
            _ => ImageError::Read { what: name.to_owned(), source },
        })?;
        whole(name, section, size, limits)
    }

    /// Verifies a blob: its size and digest.
    pub(crate) fn verify(&self, what: &str, of: &Descriptor, limit: u64) -> Result<Blob, ImageError> {
        let (digest, expected) = (of.sha256()?, of.size);
        if expected > limit {
            return Err(ImageError::Limit { what: format!("the bytes of {what}"), limit });
        }
        let mut section = self.section(digest, what)?;
        if section.left != expected {
            return Err(ImageError::Size { what: what.to_owned(), expected, found: section.left });
        }
        let (found, size) =
            hash(&mut section).map_err(|source| ImageError::Read { what: what.to_owned(), source })?;
        let blob = Blob { digest, size: expected };
        blob.is(what, found, size).map(|()| blob)
    }

    /// A verified blob that is a document. What is used are the bytes that were hashed.
    pub(crate) fn verified(
        &self,
        what: &str,
        of: &Descriptor,
        limits: &Limits,
    ) -> Result<Vec<u8>, ImageError> {
        let blob = self.verify(what, of, limits.document_bytes)?;
        let bytes = whole(what, self.section(blob.digest, what)?, blob.size, limits)?;
        let (found, size) = hash(&mut bytes.as_slice())
            .map_err(|source| ImageError::Read { what: what.to_owned(), source })?;
        blob.is(what, found, size).map(|()| bytes)
    }

    /// A verified blob, for reading.
    pub(crate) fn reader(&self, what: &str, blob: Blob) -> Result<Section, ImageError> {
        self.section(blob.digest, what)
    }

    fn section(&self, digest: Sha256, what: &str) -> Result<Section, ImageError> {
        let (section, _) = self.file(&saved::blob(digest)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ImageError::Missing(digest),
            _ => ImageError::Read { what: what.to_owned(), source },
        })?;
        Ok(section)
    }
}

impl Blob {
    /// Whether this is what was found.
    pub(crate) fn is(&self, what: &str, found: Sha256, size: u64) -> Result<(), ImageError> {
        if found != self.digest {
            return Err(ImageError::Digest { what: what.to_owned(), expected: self.digest, found });
        }
        if size != self.size {
            return Err(ImageError::Size { what: what.to_owned(), expected: self.size, found: size });
        }
        Ok(())
    }
}

fn whole(what: &str, section: Section, size: u64, limits: &Limits) -> Result<Vec<u8>, ImageError> {
    if size > limits.document_bytes {
        return Err(ImageError::Limit { what: format!("the bytes of {what}"), limit: limits.document_bytes });
    }
    let mut bytes = Vec::new();
    section
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(|source| ImageError::Read { what: what.to_owned(), source })?;
    Ok(bytes)
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(nix::sys::memfd::memfd_create(c"document", flags)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// A part of a file, read without moving the file's own position.
#[derive(Debug)]
pub(crate) struct Section {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Where each file of a tar file lies.
fn index(file: &File, limits: &Limits) -> Result<BTreeMap<Place, (u64, u64)>, ImageError> {
    let layout = |why: String| ImageError::Layout(why);
    let failed = |source: io::Error| ImageError::Layout(format!("it is no tar file: {source}"));
    let mut magic = [0; 2];
    if file.read_at(&mut magic, 0).is_ok_and(|count| count == 2) && magic == [0x1f, 0x8b] {
        return Err(layout("it is compressed; uncompress it first (gunzip)".into()));
    }
    let mut archive = tar::Archive::new(file);
    let mut found = BTreeMap::new();
    // With the seek the bodies are not read; raw, so that a long name is not read into memory either.
    for entry in archive.entries_with_seek().map_err(failed)?.raw(true) {
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let place = Place::of_archive(&entry.path_bytes()).map_err(|error| layout(error.to_string()))?;
        let place = place.ok_or_else(|| layout("a file without a name".into()))?;
        if found.insert(place.clone(), (entry.raw_file_position(), entry.size())).is_some() {
            return Err(layout(format!("{place} is in it twice")));
        }
        if found.len() > limits.files {
            return Err(ImageError::Limit {
                what: "files in the tar file".into(),
                limit: limits.files as u64,
            });
        }
    }
    Ok(found)
}
