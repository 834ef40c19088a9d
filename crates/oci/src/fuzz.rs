//! Entries for fuzzers and for the replay of their corpora: any bytes, no panic, and a few things that must hold.

use crate::archive::{Budget, Measured, Stop, decompressed, walk};
use crate::layers::{Layer, Source, make_room};
use crate::model::{Compression, ConfigDocument, Index, Manifest, read};
use octant_tree::{Entry, Tree};
use std::cell::RefCell;
use std::rc::Rc;

/// The most bytes that a fuzzer's layer may unpack to.
const UNPACKED: u64 = 1 << 20;

/// Reads bytes as a layer, however compressed, and applies it twice, over nothing and over itself; whether it is one.
///
/// # Panics
/// When something lies in what is no directory, or has a name that leads out of the tree.
#[must_use]
pub fn fuzz_layer(bytes: &[u8]) -> bool {
    let mut good = false;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut tree: Tree<Source> = Tree::default();
        for number in 0..2 {
            let left: Budget = Rc::new(RefCell::new(UNPACKED));
            let mut layer = Layer::default();
            let walked = walk(Measured::new(decompressed(bytes, compression), Some(left)), &mut |item, _| {
                layer.take(number, &item).map_err(|why| Stop::Entry(item.index, why))
            });
            if walked.is_err() || layer.apply(&mut tree).is_err() {
                break;
            }
            good = number == 1 && !tree.is_empty() || good;
        }
        let _full = make_room(&mut tree);
        for (place, _) in &tree {
            let names: Vec<&[u8]> = place.as_bytes().split(|&b| b == b'/').collect();
            assert!(names.iter().all(|name| !matches!(*name, b"" | b"." | b"..")), "{place} leads out");
            if let Some(parent) = place.parent() {
                assert_eq!(tree.get(&parent), Some(&Entry::Directory), "{place} lies in no directory");
            }
        }
    }
    good
}

/// Reads bytes as each of the documents of a layout; whether they are one.
#[must_use]
pub fn fuzz_layout(bytes: &[u8]) -> bool {
    let index = read::<Index>("an index", bytes);
    if let Ok(index) = &index {
        for descriptor in &index.manifests {
            let _none = (descriptor.sha256(), descriptor.name());
        }
    }
    let manifest = read::<Manifest>("a manifest", bytes).and_then(|manifest| manifest.check());
    let config = read::<ConfigDocument>("a configuration", bytes);
    index.is_ok() || manifest.is_ok() || config.is_ok()
}
