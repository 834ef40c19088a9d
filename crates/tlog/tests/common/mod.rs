//! A tree that is computed as RFC 6962 section 2.1 defines it, and trees kept in memory.
#![allow(dead_code, reason = "each test program uses a part")]

use octant_ids::Sha256;
use octant_tlog::merkle::{EMPTY_ROOT, Frontier, Nodes, leaf_hash, node_hash};
use octant_tlog::tile::Tile;
use std::collections::HashMap;
use std::convert::Infallible;

/// MTH of the RFC, word for word: no frontier, no tiles, no sharing.
pub(crate) fn naive_root(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => EMPTY_ROOT,
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH of the RFC.
pub(crate) fn naive_path(index: usize, leaves: &[Sha256]) -> Vec<Sha256> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, other) = if index < left.len() {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - left.len(), right), naive_root(left))
    };
    path.push(other);
    path
}

/// SUBPROOF of the RFC; `whole` is its b.
pub(crate) fn naive_consistency(old: usize, leaves: &[Sha256], whole: bool) -> Vec<Sha256> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut proof, other) = if old <= left.len() {
        (naive_consistency(old, left, whole), naive_root(right))
    } else {
        (naive_consistency(old - left.len(), right, false), naive_root(left))
    };
    proof.push(other);
    proof
}

/// Leaf hashes that differ from each other and are quickly made.
pub(crate) fn leaves(count: usize) -> Vec<Sha256> {
    (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
}

/// Every node that a frontier completed.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) frontier: Frontier,
    pub(crate) nodes: HashMap<(u8, u64), Sha256>,
}

impl Memory {
    pub(crate) fn of(leaves: &[Sha256]) -> Self {
        let mut memory = Self::default();
        for leaf in leaves {
            memory.push(*leaf);
        }
        memory
    }

    pub(crate) fn push(&mut self, leaf: Sha256) {
        let nodes = &mut self.nodes;
        self.frontier.push(leaf, |height, index, hash| {
            assert_eq!(nodes.insert((height, index), hash), None, "a node is completed once");
        });
    }

    /// The bytes of a tile, as a log would store it.
    pub(crate) fn tile(&self, tile: Tile) -> Vec<u8> {
        let first = tile.index * 256;
        let hashes = (first..first + u64::from(tile.width)).map(|n| self.nodes[&(tile.level * 8, n)].0);
        hashes.collect::<Vec<_>>().concat()
    }
}

impl Nodes for Memory {
    type Error = Infallible;

    fn node(&self, height: u8, index: u64) -> Result<Sha256, Infallible> {
        Ok(self.nodes[&(height, index)])
    }
}
