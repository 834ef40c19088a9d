//! What the log comes to while it is written or read: the state over its entries, the right edge of its tiles, and the
//! whole tiles that came about.

use octant_ids::Sha256;
use octant_tlog::entry::{BootId, Draft, Stamp, View};
use octant_tlog::state::{Broken, Mark, Rule, State, Tip};
use octant_tlog::tile::Tile;

/// The hashes of a whole tile.
const WIDTH: usize = 256;
/// The bytes of a whole tile.
pub(crate) const TILE: usize = WIDTH * 32;

/// A whole hash tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) tile: Tile,
    /// [`TILE`] bytes.
    pub(crate) bytes: Vec<u8>,
}

/// The hashes of the last, partial tile of each level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Edge {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Level {
    /// How many whole tiles stand before it.
    whole: u64,
    hashes: Vec<Sha256>,
}

impl Edge {
    /// Adds the root of a subtree that became complete; gives the tile that is whole by it. Only the heights of tiles'
    /// hashes count.
    pub(crate) fn push(&mut self, height: u8, hash: Sha256) -> Option<Whole> {
        if !height.is_multiple_of(8) {
            return None;
        }
        let number = height / 8;
        let level = usize::from(number);
        while self.levels.len() <= level {
            self.levels.push(Level::default());
        }
        let Level { whole, hashes } = &mut self.levels[level];
        hashes.push(hash);
        if hashes.len() < WIDTH {
            return None;
        }
        let bytes = hashes.drain(..).flat_map(|hash| hash.0).collect();
        let tile = Tile { level: number, index: *whole, width: 256 };
        *whole += 1;
        Some(Whole { tile, bytes })
    }

    /// The first hashes of a partial tile; none when it is not the last one of its level, or not so wide.
    pub(crate) fn read(&self, tile: Tile) -> Option<Vec<u8>> {
        let level = self.levels.get(usize::from(tile.level)).filter(|level| level.whole == tile.index)?;
        let hashes = level.hashes.get(..usize::from(tile.width))?;
        Some(hashes.iter().flat_map(|hash| hash.0).collect())
    }

    /// The tile of each level that becomes whole next.
    pub(crate) fn next_tiles(&self) -> Vec<Tile> {
        let levels = self.levels.iter().zip(0..);
        levels.map(|(level, number)| Tile { level: number, index: level.whole, width: 256 }).collect()
    }

    /// As bytes: for each level the count of whole tiles, the count of hashes, the hashes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for level in &self.levels {
            out.extend_from_slice(&level.whole.to_le_bytes());
            // At most 255.
            out.extend_from_slice(&(level.hashes.len() as u64).to_le_bytes());
            level.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
        }
        out
    }

    /// Reads what [`Edge::encode`] wrote, for a tree of this size.
    pub(crate) fn decode(mut bytes: &[u8], size: u64) -> Option<Self> {
        let mut edge = Self::default();
        while !bytes.is_empty() {
            let (whole, rest) = bytes.split_first_chunk::<8>()?;
            let (count, rest) = rest.split_first_chunk::<8>()?;
            let (whole, count) = (u64::from_le_bytes(*whole), u64::from_le_bytes(*count));
            let at = size.checked_shr(u32::try_from(edge.levels.len()).ok()?.checked_mul(8)?).unwrap_or(0);
            if (whole, count) != (at / 256, at % 256) {
                return None;
            }
            let (hashes, rest) = rest.split_at_checked(usize::try_from(count).ok()? * 32)?;
            let hashes = hashes.as_chunks::<32>().0.iter().copied().map(Sha256).collect();
            edge.levels.push(Level { whole, hashes });
            bytes = rest;
        }
        Some(edge)
    }
}

/// The log up to some entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fold {
    pub(crate) state: State,
    pub(crate) edge: Edge,
}

/// Subtrees that became complete, until the entries that completed them are durable.
pub(crate) type Completed = Vec<(u8, Sha256)>;

impl Fold {
    /// Takes bytes as the next entry. Tiles that are whole by it are given to `whole`.
    pub(crate) fn accept<'a>(
        &mut self,
        bytes: &'a [u8],
        mut whole: impl FnMut(Whole),
    ) -> Result<View<'a>, Broken> {
        let Self { state, edge } = self;
        state.accept(bytes, |height, _, hash| {
            if let Some(tile) = edge.push(height, hash) {
                whole(tile);
            }
        })
    }

    /// Makes a draft the next entry. Its tiles follow by [`Fold::settle`], when it is durable.
    pub(crate) fn seal(
        &mut self,
        boot: BootId,
        draft: &Draft,
        stamp: Stamp,
        out: &mut Vec<u8>,
        completed: &mut Completed,
    ) -> Result<Tip, Rule> {
        self.state.seal(boot, draft, stamp, out, |height, _, hash| {
            if height.is_multiple_of(8) {
                completed.push((height, hash));
            }
        })
    }

    /// The tiles that are whole now that entries are durable.
    pub(crate) fn settle(&mut self, completed: &mut Completed) -> Vec<Whole> {
        completed.drain(..).filter_map(|(height, hash)| self.edge.push(height, hash)).collect()
    }

    /// Returns to where it stood before entries that could not be kept.
    pub(crate) fn back(&mut self, mark: Mark) {
        self.state.back(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_tlog::merkle::{Frontier, Nodes, root};
    use octant_tlog::tile::TiledNodes;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn leaf(n: u64) -> Sha256 {
        octant_tlog::merkle::leaf_hash(&n.to_le_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whole_tiles_and_the_edge_are_the_tree(size in prop_oneof![1_u64..600, 65_500_u64..65_600]) {
            let (mut edge, mut tree, mut files) = (Edge::default(), Frontier::default(), HashMap::new());
            for n in 0..size {
                tree.push(leaf(n), |height, _, hash| {
                    if let Some(whole) = edge.push(height, hash) {
                        files.insert((whole.tile.level, whole.tile.index), whole.bytes);
                    }
                });
            }
            let again = Edge::decode(&edge.encode(), size).unwrap();
            prop_assert_eq!(&again, &edge);
            prop_assert!(Edge::decode(&edge.encode(), size + 1).is_none());
            let read = |tile: Tile| {
                let file = || files.get(&(tile.level, tile.index)).map(|b| b[..usize::from(tile.width) * 32].to_vec());
                edge.read(tile).or_else(file).ok_or("no such tile")
            };
            let nodes = TiledNodes::new(size, read);
            prop_assert_eq!(nodes.node(0, size - 1).unwrap(), leaf(size - 1));
            prop_assert_eq!(root(&nodes, size).unwrap(), tree.root());
        }
    }
}
