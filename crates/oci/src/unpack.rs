//! The writing of a finished tree: each file once, read from the layer that has it.

use crate::archive::{Item, Kind, Stop, walk};
use crate::error::ImageError;
use crate::layers::Source;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use octant_ids::Sha256;
use octant_tree::{Content, Dir, Entry, Place, Tree};
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

/// A tree that is being written below a directory.
#[derive(Debug)]
pub(crate) struct Unpack<'a> {
    root: &'a Dir,
    /// Where each file goes, all its places.
    wanted: BTreeMap<(usize, u64), (Source, Vec<&'a Place>)>,
    /// What has been written.
    written: BTreeMap<(usize, u64), (Sha256, u64)>,
}

impl<'a> Unpack<'a> {
    /// Makes the directories and links.
    pub(crate) fn begin(root: &'a Dir, tree: &'a Tree<Source>) -> Result<Self, ImageError> {
        let mut wanted: BTreeMap<_, (Source, Vec<&Place>)> = BTreeMap::new();
        for (place, entry) in tree {
            let made = match entry {
                Entry::Directory => root.make_directory(place),
                Entry::Link(to) => root.make_link(place, to),
                Entry::File(source) => {
                    let key = (source.layer, source.entry);
                    wanted.entry(key).or_insert_with(|| (*source, Vec::new())).1.push(place);
                    Ok(())
                }
            };
            made.map_err(|source| ImageError::Write { place: place.to_string(), source })?;
        }
        Ok(Self { root, wanted, written: BTreeMap::new() })
    }

    /// Writes those files whose bytes are in this layer.
    pub(crate) fn layer(&mut self, layer: usize, reader: impl Read) -> Result<(), Stop> {
        walk(reader, &mut |item, body| {
            let (Kind::File, Some((source, places))) = (item.kind, self.wanted.get(&(layer, item.index)))
            else {
                return Ok(());
            };
            let written = self.file(&item, *source, places, body)?;
            self.written.insert((layer, item.index), written);
            Ok(())
        })
    }

    fn file(
        &self,
        item: &Item,
        source: Source,
        places: &[&Place],
        body: &mut dyn Read,
    ) -> Result<(Sha256, u64), Stop> {
        let Some((first, others)) = places.split_first() else { return Ok((Sha256::ZERO, 0)) };
        let failed =
            |place: &Place, source| Stop::Visit(ImageError::Write { place: place.to_string(), source });
        let mut file = self.root.make_file(first, source.exec).map_err(|error| failed(first, error))?;
        let written = copy(body, &mut file).map_err(|error| match error {
            Copy::Read(error) => Stop::Io(error),
            Copy::Write(error) => failed(first, error),
        })?;
        if written.1 != item.size {
            return Err(Stop::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        // Programs compare it with what they noted of the file elsewhere (Python's compiled modules).
        let time = TimeSpec::new(source.mtime, 0);
        futimens(&file, &time, &time).map_err(|error| failed(first, error.into()))?;
        for place in others {
            self.root.make_same(place, first).map_err(|error| failed(place, error))?;
        }
        Ok(written)
    }

    /// The tree as it was written.
    pub(crate) fn end(self, tree: &Tree<Source>) -> Result<Tree, ImageError> {
        tree.try_map(|place, source| match self.written.get(&(source.layer, source.entry)) {
            Some(&(sha256, size)) => Ok(Content { sha256, size, exec: source.exec }),
            None => Err(ImageError::Write {
                place: place.to_string(),
                source: io::Error::other("its layer does not have it any more"),
            }),
        })
    }
}

enum Copy {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut dyn Read, to: &mut File) -> Result<(Sha256, u64), Copy> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((Sha256(hasher.finalize().into()), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Copy::Read(error)),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(Copy::Write)?;
        size += count as u64;
    }
}
