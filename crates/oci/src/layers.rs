//! The application of layers (OCI image-spec 1.1, layer.md): pure. What is on disk is written afterwards, from the
//! finished tree, so no layer can make another one's entries lead somewhere.

use crate::archive::{Item, Kind};
use crate::error::EntryError;
use octant_tree::limits::LINK_BYTES;
use octant_tree::{Entry, Place, Tree};

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source {
    /// The layer's number, from 0.
    pub(crate) layer: usize,
    /// The number of the entry in the layer's archive.
    pub(crate) entry: u64,
    pub(crate) exec: bool,
    pub(crate) mtime: i64,
}

/// One layer, read.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// What it hides of the layers below.
    hidden: Vec<Hidden>,
    /// What it adds, in order, and the entry that says so.
    added: Vec<(u64, Place, Added)>,
    /// Device nodes and pipes, which are left out.
    pub(crate) nodes: u64,
}

#[derive(Debug)]
enum Hidden {
    /// What is at this place.
    At(Place),
    /// What lies in this directory; in the tree itself when there is none.
    Below(Option<Place>),
}

#[derive(Debug)]
enum Added {
    Entry(Entry<Source>),
    /// The same file as at this place.
    Same(Place),
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS, whose names these are, keeps for itself.
const AUFS: &[u8] = b".wh..wh.";

impl Layer {
    /// Takes the next entry of layer number `layer`.
    pub(crate) fn take(&mut self, layer: usize, item: &Item) -> Result<(), EntryError> {
        let Some(place) = Place::of_archive(&item.name)? else {
            // The tree itself is a directory, whatever it is said to be.
            return Ok(());
        };
        if place.as_bytes().split(|&b| b == b'/').any(|name| name.starts_with(WHITEOUT)) {
            return self.hide(&place);
        }
        let added = match item.kind {
            Kind::Node => {
                self.nodes += 1;
                return Ok(());
            }
            Kind::Directory => Added::Entry(Entry::Directory),
            Kind::File => Added::Entry(Entry::File(Source {
                layer,
                entry: item.index,
                exec: item.exec,
                mtime: item.mtime,
            })),
            Kind::Symlink => match item.link.len() {
                // A NUL ends what a link says, so one that has it says something else to whoever looks.
                1..=LINK_BYTES if !item.link.contains(&0) => Added::Entry(Entry::Link(item.link.clone())),
                found => return Err(EntryError::Link { found }),
            },
            Kind::Hardlink => match Place::of_archive(&item.link)? {
                Some(other) => Added::Same(other),
                None => return Err(EntryError::Hardlink("the tree itself".into())),
            },
        };
        self.added.push((item.index, place, added));
        Ok(())
    }

    /// Takes a whiteout. Nothing lies below one but what AUFS keeps.
    fn hide(&mut self, place: &Place) -> Result<(), EntryError> {
        let wrong = || EntryError::Whiteout(place.to_string());
        if place.name() == OPAQUE {
            self.hidden.push(Hidden::Below(place.parent()));
        } else if !place.as_bytes().split(|&b| b == b'/').any(|name| name.starts_with(AUFS)) {
            let hidden = place.name().strip_prefix(WHITEOUT).ok_or_else(wrong)?;
            let hidden = place.sibling(hidden).map_err(|_| wrong())?;
            self.hidden.push(Hidden::At(hidden));
        }
        Ok(())
    }

    /// Applies it to what the layers below have made. What it hides goes first, whatever the order in the archive: a
    /// layer hides only what is below it. The error names the entry.
    pub(crate) fn apply(self, tree: &mut Tree<Source>) -> Result<(), (u64, EntryError)> {
        for hidden in &self.hidden {
            match hidden {
                Hidden::At(place) => {
                    tree.remove(place);
                }
                Hidden::Below(Some(place)) => tree.remove_below(place),
                Hidden::Below(None) => tree.clear(),
            }
        }
        for (number, place, added) in self.added {
            let entry = match added {
                Added::Entry(entry) => entry,
                Added::Same(other) => match tree.get(&other) {
                    Some(entry) if !entry.is_directory() => entry.clone(),
                    _ => return Err((number, EntryError::Hardlink(other.to_string()))),
                },
            };
            tree.put(place, entry).map_err(|error| (number, error.into()))?;
        }
        Ok(())
    }
}

/// Top-level places that every workstation lays out itself; an image's own would never be seen.
const OURS: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "workspace", "octant"];
/// Files in `/etc` that every workstation has of its own, and where they are inside.
const OUR_ETC: [&str; 5] = ["passwd", "group", "hosts", "nsswitch.conf", "octant"];
/// Where a workstation with a root of its own has its own files of `/etc`.
pub(crate) const ETC: &str = "/run/octant/etc";

/// Makes the tree of an image one that a workstation can lie over: its own places are not in it, and its own files in
/// `/etc` are links to where it has them. What the image has there, a directory, a file or a link, is not looked at.
pub(crate) fn make_room(tree: &mut Tree<Source>) -> Result<(), EntryError> {
    for name in OURS {
        tree.remove(&Place::parse(name.as_bytes())?);
    }
    let etc = Place::parse(b"etc")?;
    tree.put(etc.clone(), Entry::Directory)?;
    for name in OUR_ETC {
        let place = etc.join(&Place::parse(name.as_bytes())?)?;
        tree.put(place, Entry::Link(format!("{ETC}/{name}").into_bytes()))?;
    }
    Ok(())
}
