//! From a layout to a tree on disk.

use crate::Limits;
use crate::archive::{Budget, Measured, Stop, decompressed, result, walk};
use crate::error::ImageError;
use crate::layers::{Layer, make_room};
use crate::layout::{Blob, Layout};
use crate::model::{
    Compression, Config, ConfigDocument, Descriptor, INDEXES, Index, MANIFESTS, Manifest, Platform, read,
};
use crate::unpack::Unpack;
use octant_ids::Sha256;
use octant_tree::{Dir, Tree};
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

/// Which of the images in a layout.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The name that its index gives it; without one there must be only one.
    pub reference: Option<String>,
    /// What it must be for.
    pub platform: Platform,
}

impl Default for Choice {
    fn default() -> Self {
        Self { reference: None, platform: Platform::here() }
    }
}

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The image.
    pub image: crate::Image,
    /// Whether it was there already.
    pub known: bool,
}

/// An image whose documents have been verified and read, and its layers verified.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The digest of its manifest, which names it.
    pub(crate) digest: Sha256,
    pub(crate) platform: Platform,
    pub(crate) config: Config,
    layers: Vec<Diff>,
}

/// One layer.
#[derive(Debug)]
struct Diff {
    descriptor: Descriptor,
    compression: Compression,
    /// The digest of what it decompresses to.
    diff_id: Sha256,
}

/// How deep indexes may name indexes.
const INDEX_DEPTH: usize = 3;
/// The most images in one index.
const INDEX_ENTRIES: usize = 1000;

/// Finds and reads the image that is meant.
pub(crate) fn choose(layout: &Layout, choice: &Choice, limits: &Limits) -> Result<Chosen, ImageError> {
    let index: Index = read("index.json", &layout.document("index.json", limits)?)?;
    let descriptor = pick(layout, index, choice, limits)?;
    let bytes = layout.verified("the manifest", &descriptor, limits)?;
    let manifest: Manifest = read("the manifest", &bytes)?;
    manifest.check()?;
    if manifest.layers.len() > limits.layers {
        return Err(ImageError::Limit { what: "layers".into(), limit: limits.layers as u64 });
    }
    let bytes = layout.verified("the configuration", &manifest.config, limits)?;
    let config: ConfigDocument = read("the configuration", &bytes)?;
    let platform = Platform { os: config.os, architecture: config.architecture };
    if platform != choice.platform {
        let (wanted, has) = (choice.platform.to_string(), platform.to_string());
        return Err(ImageError::Platform { wanted, has });
    }
    let wrong = |why: String| ImageError::Document { what: "the configuration".into(), why };
    if config.rootfs.kind != "layers" || config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(wrong("it does not list the manifest's layers".into()));
    }
    let layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids).map(|(descriptor, diff_id)| {
        let compression = Compression::of(&descriptor.media_type).ok_or_else(|| ImageError::Document {
            what: "the manifest".into(),
            why: format!("a layer of the type {:.100?}", descriptor.media_type),
        })?;
        let diff_id = diff_id.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
        let diff_id = diff_id.ok_or_else(|| wrong("a layer without a SHA-256 digest".into()))?;
        Ok(Diff { descriptor, compression, diff_id })
    });
    Ok(Chosen {
        digest: descriptor.sha256()?,
        platform,
        config: config.config.unwrap_or_default(),
        layers: layers.collect::<Result<_, ImageError>>()?,
    })
}

/// The descriptor of the one manifest that is meant.
fn pick(layout: &Layout, index: Index, choice: &Choice, limits: &Limits) -> Result<Descriptor, ImageError> {
    let mut candidates = entries(index)?;
    if let Some(wanted) = &choice.reference {
        let names = names(&candidates);
        candidates.retain(|descriptor| descriptor.name() == Some(wanted));
        if candidates.is_empty() {
            return Err(ImageError::Reference { wanted: wanted.clone(), names });
        }
    }
    for _ in 0..INDEX_DEPTH {
        let all = platforms(&candidates);
        candidates.retain(|descriptor| descriptor.platform.as_ref().is_none_or(|p| *p == choice.platform));
        match candidates.as_slice() {
            [] => return Err(ImageError::Platform { wanted: choice.platform.to_string(), has: all }),
            [one] if INDEXES.contains(&one.media_type.as_str()) => {
                let bytes = layout.verified("an index", one, limits)?;
                candidates = entries(read("an index", &bytes)?)?;
            }
            [one] if MANIFESTS.contains(&one.media_type.as_str()) => return Ok(one.clone()),
            [one] => {
                let why = format!("{:.100?} is neither an index nor a manifest", one.media_type);
                return Err(ImageError::Document { what: "index.json".into(), why });
            }
            several => {
                return Err(ImageError::Which { count: several.len(), names: names(several) });
            }
        }
    }
    Err(ImageError::Limit { what: "indexes in indexes".into(), limit: INDEX_DEPTH as u64 })
}

fn entries(index: Index) -> Result<Vec<Descriptor>, ImageError> {
    if index.schema_version != 2 {
        let why = format!("its schema version is {}, not 2", index.schema_version);
        return Err(ImageError::Document { what: "an index".into(), why });
    }
    if index.manifests.len() > INDEX_ENTRIES {
        return Err(ImageError::Limit { what: "images in an index".into(), limit: INDEX_ENTRIES as u64 });
    }
    Ok(index.manifests)
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.take(20).collect();
    if texts.is_empty() { "none".into() } else { texts.join(", ") }
}

fn names(of: &[Descriptor]) -> String {
    listed(
        of.iter().map(|descriptor| {
            format!("{:.100}", descriptor.name().unwrap_or(&descriptor.digest).escape_debug())
        }),
    )
}

fn platforms(of: &[Descriptor]) -> String {
    listed(of.iter().filter_map(|descriptor| descriptor.platform.as_ref()).map(ToString::to_string))
}

/// What an unpacked image is.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) tree: Tree,
    /// Device nodes and pipes that were left out.
    pub(crate) nodes: u64,
}

/// Writes the image below `root`, which is empty.
pub(crate) fn unpack(
    layout: &Layout,
    chosen: &Chosen,
    limits: &Limits,
    root: &Dir,
) -> Result<Unpacked, ImageError> {
    let mut layers = Vec::new();
    for (number, diff) in chosen.layers.iter().enumerate() {
        let what = format!("layer {number}");
        layers.push((number, diff, layout.verify(&what, &diff.descriptor, limits.layer_bytes)?));
    }

    // First what there is, then each file once, from the layer that has its last version.
    let (mut tree, mut nodes, mut entries) = (Tree::default(), 0, 0);
    let left: Budget = Rc::new(RefCell::new(limits.unpacked_bytes));
    for &(number, diff, blob) in &layers {
        let mut layer = Layer::default();
        read_layer(layout, (number, diff, blob), &left, &mut |reader| {
            walk(reader, &mut |item, _| {
                entries += 1;
                if entries > limits.entries {
                    let what = "entries of all layers".into();
                    return Err(Stop::Visit(ImageError::Limit { what, limit: limits.entries }));
                }
                layer.take(number, &item).map_err(|why| Stop::Entry(item.index, why))
            })
        })?;
        nodes += layer.nodes;
        layer.apply(&mut tree).map_err(|(entry, why)| ImageError::Entry { layer: number, entry, why })?;
    }
    make_room(&mut tree).map_err(ImageError::Room)?;

    let left: Budget = Rc::new(RefCell::new(limits.unpacked_bytes));
    let mut unpack = Unpack::begin(root, &tree)?;
    for &(number, diff, blob) in &layers {
        read_layer(layout, (number, diff, blob), &left, &mut |reader| unpack.layer(number, reader))?;
    }
    Ok(Unpacked { tree: unpack.end(&tree)?, nodes })
}

/// Lets `act` read one layer. Its bytes are those that were verified, before and after decompression, or there is an
/// error.
fn read_layer(
    layout: &Layout,
    (number, diff, blob): (usize, &Diff, Blob),
    left: &Budget,
    act: &mut dyn FnMut(&mut dyn Read) -> Result<(), Stop>,
) -> Result<(), ImageError> {
    let what = format!("layer {number}");
    let stopped = |stop| match stop {
        Stop::Io(source) => ImageError::Archive { layer: number, source },
        Stop::Entry(entry, why) => ImageError::Entry { layer: number, entry, why },
        Stop::Visit(error) => error,
    };
    let packed = Measured::new(layout.reader(&what, blob)?, None);
    let seen = packed.seen.clone();
    let mut unpacked = Measured::new(decompressed(packed, diff.compression), Some(left.clone()));
    act(&mut unpacked).map_err(stopped)?;
    // What follows the end of the archive belongs to the digests too.
    io::copy(&mut unpacked, &mut io::sink()).map_err(|error| stopped(Stop::Io(error)))?;
    let (digest, size) = result(&seen);
    blob.is(&what, digest, size)?;
    match result(&unpacked.seen).0 {
        found if found == diff.diff_id => Ok(()),
        found => {
            let what = format!("{what}, decompressed,");
            Err(ImageError::Digest { what, expected: diff.diff_id, found })
        }
    }
}
