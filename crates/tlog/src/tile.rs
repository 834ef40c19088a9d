//! Tiles (C2SP tlog-tiles): the tree and the entries as files that never change once they are full.
//!
//! A hash tile of level l holds up to 256 roots of complete subtrees of height 8·l side by side; all hashes of other
//! heights are computed from those. An entry bundle holds up to 256 entries. A tile that is not full has its width in
//! its path, so that it too never changes.

use crate::merkle::{EMPTY_ROOT, Nodes, node_hash};
use octant_ids::Sha256;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How many hashes or entries a full tile has.
pub const WIDTH: u16 = 1 << HEIGHT;
/// How many levels of the tree are between two levels of tiles.
pub const HEIGHT: u8 = 8;
/// How many levels of tiles the largest tree has.
const LEVELS: u8 = 8;
/// The highest level that a path may name.
const MAX_LEVEL: u8 = 63;
/// The bytes of a hash.
const HASH_BYTES: usize = 32;
/// The longest path that is read: longer than any that [`Tile::path`] makes.
const PATH_BYTES: usize = 80;
/// How many tiles [`TiledNodes`] keeps. A proof needs at most two of each of the eight levels.
const KEPT: usize = 32;

/// One tile of the tree, or the bundle of the same entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// The level: its hashes are of height 8 times this.
    pub level: u8,
    /// Which of its level, from 0.
    pub index: u64,
    /// How many hashes it has: 1 to 256.
    pub width: u16,
}

/// Why a tile cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a width that a tile can have.
    #[error("a tile has 1 to 256 hashes or entries, not {0}")]
    Width(u16),
    /// The bytes of a hash tile do not fit its width.
    #[error(
        "a tile of {width} hashes has 32 bytes for each, but {bytes} are there: it is cut off or another tile"
    )]
    Length {
        /// How many hashes it should have.
        width: u16,
        /// How many bytes there are.
        bytes: usize,
    },
    /// An entry that does not fit in a bundle.
    #[error("an entry of {0} bytes is too long for a bundle; the limit is 65535")]
    EntryTooLong(usize),
    /// A bundle ends before its last entry does.
    #[error("the bundle ends within entry {0}, counted from 0: it is cut off")]
    Short(u16),
    /// A bundle goes on after its last entry.
    #[error("{0} bytes follow the last entry of the bundle: it is another one, or of another width")]
    Trailing(usize),
}

impl Tile {
    /// The tile of this level and index in a tree of `size` leaves, as wide as the tree makes it; `None` when the tree
    /// does not reach it.
    #[must_use]
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0);
        let rest = hashes.checked_sub(index.checked_mul(WIDTH.into())?).filter(|rest| *rest > 0)?;
        let width = u16::try_from(rest).map_or(WIDTH, |rest| rest.min(WIDTH));
        Some(Self { level, index, width })
    }

    /// The tiles of a tree of `size` leaves that are not full: those on its right edge, lowest level first.
    pub fn partial(size: u64) -> impl Iterator<Item = Self> {
        (0..LEVELS).filter_map(move |level| {
            let hashes = size >> (level * HEIGHT);
            Self::at(level, hashes / u64::from(WIDTH), size)
        })
    }

    /// Where the hashes are, such as `tile/0/x001/x234/067` or `tile/1/000.p/12`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, self.place())
    }

    /// Where the entries are, such as `tile/entries/x001/x234/067`. The level does not matter.
    #[must_use]
    pub fn entries_path(&self) -> String {
        format!("tile/entries/{}", self.place())
    }

    fn place(&self) -> String {
        let mut place = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            place = format!("x{:03}/{place}", rest % 1000);
            rest /= 1000;
        }
        if self.width < WIDTH {
            place = format!("{place}.p/{}", self.width);
        }
        place
    }

    /// Reads the path of a hash tile; `None` for all others and for all other ways to write one.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let tile = Self { level: level.parse().ok()?, ..Self::parse_place(place)? };
        (tile.level <= MAX_LEVEL && tile.path() == path).then_some(tile)
    }

    /// Reads the path of an entry bundle, as a tile of level 0.
    #[must_use]
    pub fn parse_entries(path: &str) -> Option<Self> {
        let tile = Self::parse_place(path.strip_prefix("tile/entries/")?)?;
        (tile.entries_path() == path).then_some(tile)
    }

    /// Index and width. The caller compares with what would be printed, so that `+1`, `x000/001` and the like are
    /// refused there.
    fn parse_place(place: &str) -> Option<Self> {
        if place.len() > PATH_BYTES {
            return None;
        }
        let (index, width) = match place.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..WIDTH).contains(width))?),
            None => (place, WIDTH),
        };
        let digits = |total: u64, part: &str| {
            let part: u64 = part.strip_prefix('x').unwrap_or(part).parse().ok()?;
            total.checked_mul(1000)?.checked_add(part)
        };
        let index = index.split('/').try_fold(0, digits)?;
        Some(Self { level: 0, index, width })
    }
}

/// The hashes of a hash tile of this width.
///
/// # Errors
/// Not a width, or not as many bytes as it needs.
pub fn hashes(bytes: &[u8], width: u16) -> Result<Vec<Sha256>, TileError> {
    if !(1..=WIDTH).contains(&width) {
        return Err(TileError::Width(width));
    }
    if bytes.len() != usize::from(width) * HASH_BYTES {
        return Err(TileError::Length { width, bytes: bytes.len() });
    }
    Ok(bytes.as_chunks::<HASH_BYTES>().0.iter().map(|hash| Sha256(*hash)).collect())
}

/// Adds an entry to a bundle.
///
/// # Errors
/// [`TileError::EntryTooLong`].
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle of this width.
///
/// # Errors
/// Not a width, or the bundle is longer or shorter than its entries.
pub fn entries(bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    if !(1..=WIDTH).contains(&width) {
        return Err(TileError::Width(width));
    }
    let mut rest = bundle;
    let mut found = Vec::with_capacity(width.into());
    for number in 0..width {
        let short = TileError::Short(number);
        let Some((length, after)) = rest.split_first_chunk() else { return Err(short) };
        let Some((entry, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
            return Err(short);
        };
        found.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(found) } else { Err(TileError::Trailing(rest.len())) }
}

/// The nodes of a tree whose tiles are kept somewhere. Each tile is read once a proof: make one of these for each.
///
/// What it reads is believed: check a proof against the root before it is handed out.
#[derive(Debug)]
pub struct TiledNodes<R> {
    size: u64,
    read: R,
    kept: RefCell<BTreeMap<(u8, u64), Vec<Sha256>>>,
}

/// Why a node could not be had from the tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError<E> {
    /// The tree does not reach so far.
    #[error("the tree of {size} leaves has no complete subtree {index} of height {height}")]
    Outside {
        /// The tree's size.
        size: u64,
        /// The height that was asked for.
        height: u8,
        /// The index that was asked for.
        index: u64,
    },
    /// The tile could not be read.
    #[error("{path}: {error}")]
    Read {
        /// The tile's path.
        path: String,
        /// Why.
        error: E,
    },
    /// The tile has not the bytes that it should have.
    #[error("{path}: {error}; rebuild it from the entries")]
    Tile {
        /// The tile's path.
        path: String,
        /// What is wrong with it.
        error: TileError,
    },
}

impl<E, R: Fn(Tile) -> Result<Vec<u8>, E>> TiledNodes<R> {
    /// The nodes of the tree of `size` leaves. `read` is asked for tiles as wide as that tree makes them, and answers
    /// exactly their bytes: from a file that is wider meanwhile, the first 32 for each hash.
    pub fn new(size: u64, read: R) -> Self {
        Self { size, read, kept: RefCell::default() }
    }

    /// The size of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn load(&self, tile: Tile) -> Result<Vec<Sha256>, NodeError<E>> {
        let bytes = (self.read)(tile).map_err(|error| NodeError::Read { path: tile.path(), error })?;
        hashes(&bytes, tile.width).map_err(|error| NodeError::Tile { path: tile.path(), error })
    }
}

impl<E, R: Fn(Tile) -> Result<Vec<u8>, E>> Nodes for TiledNodes<R> {
    type Error = NodeError<E>;

    fn node(&self, height: u8, index: u64) -> Result<Sha256, NodeError<E>> {
        let outside = || NodeError::Outside { size: self.size, height, index };
        let (level, inner) = (height / HEIGHT, height % HEIGHT);
        let wide = 1_usize << inner;
        let first =
            index.checked_shl(inner.into()).filter(|first| first >> inner == index).ok_or_else(outside)?;
        // The place in the tile: a number below 256 is the lowest byte.
        let at = usize::from(first.to_le_bytes()[0]);
        let tile = Tile::at(level, first / u64::from(WIDTH), self.size).ok_or_else(outside)?;
        let mut kept = self.kept.borrow_mut();
        let key = (tile.level, tile.index);
        if !kept.contains_key(&key) {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(key, self.load(tile)?);
        }
        let row = kept.get(&key).and_then(|row| row.get(at..at + wide)).ok_or_else(outside)?;
        Ok(complete(row))
    }
}

/// The root over a row of hashes whose number is a power of two, 128 at most.
fn complete(row: &[Sha256]) -> Sha256 {
    match row {
        [] => EMPTY_ROOT,
        [hash] => *hash,
        row => {
            let (left, right) = row.split_at(row.len() / 2);
            node_hash(&complete(left), &complete(right))
        }
    }
}
