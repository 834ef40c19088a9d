//! An inclusion proof in a log of ten million entries: the tree's tiles are written as the log writes them, over leaves
//! that stand for entries; then proofs of random entries are made from the files, each without anything kept.

use crate::table::{Row, Samples, us};
use octant_ids::Sha256;
use octant_sys::clock::monotonic_ns;
use octant_tlog::merkle::{Frontier, inclusion, leaf_hash, verify_inclusion};
use octant_tlog::tile::{HEIGHT, Tile, TiledNodes, WIDTH};
use std::fs;
use std::path::Path;

const ENTRIES: u64 = 10_000_000;
const PROOFS: u64 = 2_000;
/// A step that is prime to [`ENTRIES`]: every proof is of another part of the log.
const STEP: u64 = 4_999_999;

fn leaf(index: u64) -> Sha256 {
    leaf_hash(&index.to_be_bytes())
}

/// Writes every tile; gives the root.
fn write(dir: &Path) -> Result<Sha256, String> {
    let mut tree = Frontier::default();
    // The hashes of the tile that grows at each level, and how many stand before it.
    let mut levels: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut failed = None;
    for index in 0..ENTRIES {
        tree.push(leaf(index), |height, _, hash| {
            if !height.is_multiple_of(HEIGHT) {
                return;
            }
            let level = height / HEIGHT;
            levels.resize(levels.len().max(usize::from(level) + 1), (0, Vec::new()));
            let (whole, bytes) = &mut levels[usize::from(level)];
            bytes.extend_from_slice(&hash.0);
            if bytes.len() == usize::from(WIDTH) * 32 {
                let tile = Tile { level, index: *whole, width: WIDTH };
                failed = put(dir, tile, bytes).err().or(failed.take());
                bytes.clear();
                *whole += 1;
            }
        });
    }
    for tile in Tile::partial(ENTRIES) {
        let bytes = levels.get(usize::from(tile.level)).map_or(&[][..], |level| &level.1);
        put(dir, tile, bytes)?;
    }
    failed.map_or_else(|| Ok(tree.root()), Err)
}

fn put(dir: &Path, tile: Tile, bytes: &[u8]) -> Result<(), String> {
    let path = dir.join(tile.path());
    let parent = path.parent().unwrap_or(dir);
    // Most tiles have a neighbour that has made the directory.
    fs::write(&path, bytes)
        .or_else(|_| fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes)))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The row of the table.
pub(crate) fn row(dir: &Path) -> Result<Row, String> {
    eprintln!("bench: inclusion proofs");
    let root = write(dir)?;
    let mut samples = Vec::new();
    for at in 0..PROOFS {
        let index = at * STEP % ENTRIES;
        let before = monotonic_ns();
        let nodes = TiledNodes::new(ENTRIES, |tile: Tile| fs::read(dir.join(tile.path())));
        let proof = inclusion(&nodes, index, ENTRIES).map_err(|e| e.to_string())?;
        samples.push(monotonic_ns() - before);
        verify_inclusion(&leaf(index), index, ENTRIES, &proof, &root).map_err(|e| e.to_string())?;
    }
    let samples = Samples::new(samples);
    Ok(Row {
        what: "inclusion proof among 10,000,000 entries, from tiles".into(),
        ours: format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990))),
        peers: String::new(),
        goal: "p50 ≤ 1 ms".into(),
        met: Some(samples.median() <= 1_000_000),
    })
}
