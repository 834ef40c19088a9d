//! Tiles: their paths, their bytes, and that the tree over them is the tree.

mod common;

use common::{Memory, leaves, naive_root};
use octant_ids::Sha256;
use octant_tlog::merkle::{
    Frontier, Nodes, ProveError, consistency, inclusion, leaf_hash, root, verify_consistency,
    verify_inclusion,
};
use octant_tlog::tile::{NodeError, Tile, TileError, TiledNodes, entries, hashes, push_entry};
use proptest::prelude::{any, prop_assert_eq, proptest};
use proptest::sample::Index;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

const fn tile(level: u8, index: u64, width: u16) -> Tile {
    Tile { level, index, width }
}

#[test]
fn the_paths_of_the_specification() {
    for (tile, path) in [
        (tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (tile(0, 0, 256), "tile/0/000"),
        (tile(1, 0, 12), "tile/1/000.p/12"),
        (tile(2, 999, 255), "tile/2/999.p/255"),
        (tile(0, 1000, 1), "tile/0/x001/000.p/1"),
        (tile(63, u64::MAX, 256), "tile/63/x018/x446/x744/x073/x709/x551/615"),
    ] {
        assert_eq!(tile.path(), path);
        assert_eq!(Tile::parse(path), Some(tile));
        let bundle = format!("tile/entries/{}", path.splitn(3, '/').nth(2).unwrap());
        assert_eq!(tile.entries_path(), bundle);
        assert_eq!(Tile::parse_entries(&bundle), Some(Tile { level: 0, ..tile }));
        assert_eq!(Tile::parse(&bundle), None);
        assert_eq!(Tile::parse_entries(path), None);
    }
}

#[test]
fn a_path_has_one_form() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/0/000/",
        "tile//000",
        "tile/00/000",
        "tile/+0/000",
        "tile/64/000",
        "tile/256/000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/1000",
        "tile/0/x000/000",
        "tile/0/x001/x000",
        "tile/0/001/000",
        "tile/0/x1/000",
        "tile/0/xx01/000",
        "tile/0/X001/000",
        "tile/0/-01",
        "tile/0/+01",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/../000",
        "tile/0/000 ",
        "tile/0/٠٠٠",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/8/0/000",
        "tile/data/000",
    ] {
        assert_eq!(Tile::parse(path), None, "{path:?}");
    }
    let long = format!("tile/0/{}000", "x000/".repeat(10_000));
    assert_eq!(Tile::parse(&long), None);
}

#[test]
fn the_right_edges_of_the_specification() {
    let edge = |size| Tile::partial(size).collect::<Vec<_>>();
    assert_eq!(edge(0), []);
    assert_eq!(edge(256), [tile(1, 0, 1)]);
    assert_eq!(edge(70_000), [tile(0, 273, 112), tile(1, 1, 17), tile(2, 0, 1)]);
    assert_eq!(edge(1 << 24), [tile(3, 0, 1)]);
    assert_eq!(edge(u64::MAX).len(), 8);
    assert_eq!(Tile::at(0, 272, 70_000), Some(tile(0, 272, 256)));
    assert_eq!(Tile::at(0, 274, 70_000), None);
    assert_eq!(Tile::at(1, 0, 255), None);
    assert_eq!(Tile::at(8, 0, u64::MAX), None);
    assert_eq!(Tile::at(0, u64::MAX, u64::MAX), None);
}

#[test]
fn bytes_that_do_not_fit_are_no_tile() {
    let leaves = leaves(256);
    let bytes: Vec<u8> = leaves.iter().flat_map(|hash| hash.0).collect();
    assert_eq!(hashes(&bytes, 256), Ok(leaves.clone()));
    assert_eq!(hashes(&bytes[..32], 1), Ok(leaves[..1].to_vec()));
    for width in [0, 257, u16::MAX] {
        assert_eq!(hashes(&bytes, width), Err(TileError::Width(width)));
        assert_eq!(entries(&bytes, width), Err(TileError::Width(width)));
    }
    for length in [0, 31, 33, 64, 8192] {
        assert_eq!(hashes(&bytes[..length], 1), Err(TileError::Length { width: 1, bytes: length }));
    }
}

#[test]
fn a_bundle_has_the_entries_that_were_put_in() {
    let long = vec![7; 65_535];
    let mut bundle = Vec::new();
    for entry in [&b""[..], b"one", &long] {
        push_entry(&mut bundle, entry).unwrap();
    }
    assert_eq!(&bundle[..7], b"\0\0\0\x03one");
    assert_eq!(entries(&bundle, 3), Ok(vec![&b""[..], b"one", &long]));
    assert_eq!(entries(&bundle, 2), Err(TileError::Trailing(65_537)));
    assert_eq!(entries(&bundle, 4), Err(TileError::Short(3)));
    assert_eq!(entries(&bundle[..bundle.len() - 1], 3), Err(TileError::Short(2)));
    assert_eq!(entries(&bundle[..3], 3), Err(TileError::Short(1)));
    let before = bundle.clone();
    assert_eq!(push_entry(&mut bundle, &[0; 65_536]), Err(TileError::EntryTooLong(65_536)));
    assert_eq!(bundle, before, "nothing is added then");
}

/// What a log of this size would have stored, and how often each tile was read.
struct Store<'a> {
    memory: &'a Memory,
    reads: RefCell<BTreeMap<Tile, u32>>,
}

impl<'a> Store<'a> {
    fn of(memory: &'a Memory) -> Self {
        Self { memory, reads: RefCell::default() }
    }

    fn read(&self, tile: Tile) -> Vec<u8> {
        *self.reads.borrow_mut().entry(tile).or_default() += 1;
        self.memory.tile(tile)
    }

    /// The nodes of a tree of this size, which may be smaller than what is stored by now.
    fn nodes(&self, size: u64) -> TiledNodes<impl Fn(Tile) -> Result<Vec<u8>, Infallible>> {
        self.reads.borrow_mut().clear();
        TiledNodes::new(size, |tile| Ok(self.read(tile)))
    }
}

#[test]
fn trees_around_the_borders_of_tiles() {
    let leaves = leaves(65_537 + 300);
    let memory = Memory::of(&leaves);
    let store = Store::of(&memory);
    for size in [1_usize, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_537 + 300] {
        let whole = naive_root(&leaves[..size]);
        assert_eq!(root(&store.nodes(size as u64), size as u64), Ok(whole), "{size}");
        for index in [0, 1, 127, 255, 256, 511, 65_279, 65_280, 65_535, 65_536, size - 1] {
            if index >= size {
                continue;
            }
            let proof = inclusion(&store.nodes(size as u64), index as u64, size as u64).unwrap();
            let verdict = verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &whole);
            assert_eq!(verdict, Ok(()), "{index} in {size}");
            assert!(store.reads.borrow().values().all(|reads| *reads == 1), "a tile was read twice");
        }
        for old in [1, 2, 255, 256, 257, 512, 65_535, 65_536, 65_537, size] {
            if old > size {
                continue;
            }
            let proof = consistency(&store.nodes(size as u64), old as u64, size as u64).unwrap();
            let before = root(&memory, old as u64).unwrap();
            let verdict = verify_consistency(old as u64, &before, size as u64, &whole, &proof);
            assert_eq!(verdict, Ok(()), "{old} in {size}");
            assert!(store.reads.borrow().values().all(|reads| *reads == 1), "a tile was read twice");
        }
    }
}

/// The tiles of a tree that nobody could build in a test: every hash says where it stands. The proofs lead to a root,
/// and what they cost is counted instead of timed.
#[test]
fn a_proof_over_ten_million_entries_reads_few_tiles() {
    let made = |tile: Tile| {
        let hash = |n: u64| leaf_hash(format!("{} {}", tile.level, tile.index * 256 + n).as_bytes()).0;
        (0..u64::from(tile.width)).flat_map(hash).collect::<Vec<u8>>()
    };
    let size = 10_000_000;
    for index in [0, 1, 9_999_999, 5_000_000, 1 << 23, (1 << 23) - 1] {
        let reads = RefCell::new(Vec::new());
        let nodes = TiledNodes::new(size, |tile| {
            reads.borrow_mut().push(tile);
            Ok::<_, Infallible>(made(tile))
        });
        inclusion(&nodes, index, size).unwrap();
        // Of each of the three levels the one on the leaf's way, and the one on the right edge.
        let mut reads = reads.take();
        let count = reads.len();
        assert!(count <= 5, "{count} tiles for one proof");
        reads.sort_unstable();
        reads.dedup();
        assert_eq!(reads.len(), count, "a tile was read twice");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let gone = TiledNodes::new(70_000, |_| Err::<Vec<u8>, _>("no such file"));
    let error = inclusion(&gone, 69_999, 70_000).unwrap_err();
    assert_eq!(error.to_string(), "tile/0/273.p/112: no such file");
    let cut = TiledNodes::new(70_000, |_| Ok::<_, Infallible>(vec![0; 100]));
    let error = inclusion(&cut, 0, 70_000).unwrap_err();
    assert!(matches!(
        error,
        ProveError::Node(NodeError::Tile { error: TileError::Length { bytes: 100, .. }, .. })
    ));
    assert!(error.to_string().starts_with("tile/0/000: "), "{error}");
}

#[test]
fn a_node_outside_the_tree_is_not_answered() {
    let nodes = TiledNodes::new(300, |tile: Tile| Ok::<_, Infallible>(vec![0; usize::from(tile.width) * 32]));
    assert!(nodes.node(0, 299).is_ok());
    assert!(nodes.node(8, 0).is_ok());
    for (height, index) in
        [(0, 300), (1, 150), (8, 1), (9, 0), (0, u64::MAX), (1, 1 << 63), (7, u64::MAX), (64, 0), (255, 0)]
    {
        let outside = NodeError::Outside { size: 300, height, index };
        assert_eq!(nodes.node(height, index), Err(outside), "{height} {index}");
    }
}

proptest! {
    #[test]
    fn any_tile_has_a_path_that_names_it(level in 0_u8..=63, index in any::<u64>(), small in 0_u64..3000, width in 1_u16..=256) {
        for index in [index, small] {
            let tile = tile(level, index, width);
            prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
            prop_assert_eq!(Tile::parse_entries(&tile.entries_path()), Some(Tile { level: 0, ..tile }));
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>(), place in "[x0-9/.p]{0,40}", bytes in any::<Vec<u8>>(), width in any::<u16>()) {
        for path in [text, format!("tile/{place}"), format!("tile/0/{place}")] {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }
        let _ = entries(&bytes, width);
        let _ = hashes(&bytes, width);
    }

    #[test]
    fn any_entries_come_back(wanted in proptest::collection::vec(any::<Vec<u8>>(), 1..=256)) {
        let mut bundle = Vec::new();
        for entry in &wanted {
            push_entry(&mut bundle, entry).unwrap();
        }
        let found = entries(&bundle, u16::try_from(wanted.len()).unwrap()).unwrap();
        prop_assert_eq!(found, wanted.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    /// A log that stores tiles as its frontier completes nodes, and the right edge at each checkpoint, can prove
    /// everything about every checkpoint.
    #[test]
    fn stored_as_completed_and_proven(size in 1_usize..2000, old in any::<Index>(), index in any::<Index>()) {
        let leaves = leaves(size);
        let old = old.index(size) + 1;
        let (mut frontier, mut rows) = (Frontier::default(), HashMap::<u8, Vec<Sha256>>::new());
        let (mut files, mut before) = (HashMap::new(), None);
        for leaf in &leaves {
            frontier.push(*leaf, |height, index, hash| if height % 8 == 0 {
                let row = rows.entry(height / 8).or_default();
                row.push(hash);
                if row.len() == 256 {
                    files.insert(tile(height / 8, index / 256, 256), std::mem::take(row));
                }
            });
            if frontier.size() == old as u64 || frontier.size() == size as u64 {
                before = before.or(Some(frontier.root()));
                for edge in Tile::partial(frontier.size()) {
                    files.insert(edge, rows[&edge.level].clone());
                }
            }
        }
        let read = |tile: Tile| {
            let hashes = files.get(&tile).ok_or_else(|| tile.path())?;
            Ok::<_, String>(hashes.iter().flat_map(|hash| hash.0).collect())
        };
        let (old, size, index, top) = (old as u64, size as u64, index.index(size), frontier.root());
        prop_assert_eq!(root(&TiledNodes::new(old, read), old), Ok(before.unwrap()));
        let proof = inclusion(&TiledNodes::new(size, read), index as u64, size).unwrap();
        prop_assert_eq!(verify_inclusion(&leaves[index], index as u64, size, &proof, &top), Ok(()));
        let proof = consistency(&TiledNodes::new(size, read), old, size).unwrap();
        prop_assert_eq!(verify_consistency(old, &before.unwrap(), size, &top, &proof), Ok(()));
    }

    /// One bit of one tile: whatever proof reads it does not hold.
    #[test]
    fn a_changed_tile_proves_nothing(index in 0_u64..70_000, pick in any::<Index>(), bit in any::<Index>()) {
        let made = |tile: Tile| {
            let hash = |n: u64| leaf_hash(format!("{} {}", tile.level, tile.index * 256 + n).as_bytes()).0;
            (0..u64::from(tile.width)).flat_map(hash).collect::<Vec<u8>>()
        };
        let size = 70_000;
        let read = RefCell::new(Vec::new());
        let honest = TiledNodes::new(size, |tile| {
            read.borrow_mut().push(tile);
            Ok::<_, Infallible>(made(tile))
        });
        let proof = inclusion(&honest, index, size).unwrap();
        let changed = read.take();
        let changed = *pick.get(&changed);
        let at = bit.index(usize::from(changed.width) * 256);
        let forged = TiledNodes::new(size, |tile| {
            let mut bytes = made(tile);
            if tile == changed {
                bytes[at / 8] ^= 1 << (at % 8);
            }
            Ok::<_, Infallible>(bytes)
        });
        let other = inclusion(&forged, index, size).unwrap();
        let child = index >> (8 * changed.level);
        // The way itself is not part of its proof: the verifier computes it from the leaf.
        let own = at as u64 / 256 + changed.index * 256 == child;
        prop_assert_eq!(other == proof, own);
    }
}
