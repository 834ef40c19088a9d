//! Other implementations read what is written here, and come to the same answers: the crates `tlog_tiles` and
//! `signed_note`, which share no code with this one.

mod common;

use common::{Memory, leaves};
use octant_ids::Sha256;
use octant_tlog::checkpoint::{Checkpoint, Signed, cosign, sign};
use octant_tlog::merkle::{self, leaf_hash, verify_consistency, verify_inclusion};
use octant_tlog::note::{Note, NoteKey, Verifier};
use octant_tlog::tile::{Tile, TiledNodes};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;
use signed_note::{Note as OtherNote, NoteError, StandardSigner, StandardVerifier, VerifierList};
use std::convert::Infallible;
use tlog_tiles::{Hash, HashReader, TileHashReader, TileReader};

/// The other implementation's reader over tiles that are stored as here.
struct Tiles<'a> {
    memory: &'a Memory,
    /// A bit of a tile that is changed.
    changed: Option<(Tile, usize)>,
}

/// The other's tiles have their height in the path: `tile/8/0/000`.
fn ours(tile: &tlog_tiles::Tile) -> Tile {
    let path = tile.path().replacen("tile/8/", "tile/", 1);
    Tile::parse(&path).unwrap_or_else(|| panic!("{path} is a path"))
}

impl TileReader for Tiles<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile| {
            let tile = ours(tile);
            let mut bytes = self.memory.tile(tile);
            if let Some((_, bit)) = self.changed.filter(|(changed, _)| *changed == tile) {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn theirs(hashes: &[Sha256]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(hash.0)).collect()
}

fn key() -> NoteKey {
    NoteKey::from_seed("octant/0123456789abcdef", [7; 32]).unwrap()
}

fn verifiers(keys: &[String]) -> VerifierList {
    VerifierList::new(keys.iter().map(|key| Box::new(StandardVerifier::new(key).unwrap()) as _).collect())
}

#[test]
fn leaves_and_nodes_are_hashed_alike() {
    let (left, right) = (leaf_hash(b"left"), leaf_hash(b""));
    assert_eq!(tlog_tiles::record_hash(b"left").0, left.0);
    assert_eq!(tlog_tiles::record_hash(b"").0, right.0);
    assert_eq!(tlog_tiles::node_hash(Hash(left.0), Hash(right.0)).0, merkle::node_hash(&left, &right).0);
    assert_eq!(tlog_tiles::EMPTY_HASH.0, merkle::EMPTY_ROOT.0);
}

/// Their reader recomputes the root from the tiles before it answers, and finds every changed bit that it reads.
#[test]
fn their_reader_takes_our_tiles_and_no_others() {
    let memory = Memory::of(&leaves(70_000));
    for size in [1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000] {
        let top = Hash(merkle::root(&memory, size).unwrap().0);
        let tiles = Tiles { memory: &memory, changed: None };
        let reader = TileHashReader::new(size, top, &tiles);
        let first = reader.read_hashes(&[tlog_tiles::stored_hash_index(0, size - 1)]).unwrap();
        assert_eq!(first, theirs(&[memory.nodes[&(0, size - 1)]]));
        for edge in Tile::partial(size) {
            for bit in [0, usize::from(edge.width) * 256 - 1] {
                let tiles = Tiles { memory: &memory, changed: Some((edge, bit)) };
                let reader = TileHashReader::new(size, top, &tiles);
                assert!(reader.read_hashes(&[0]).is_err(), "{} bit {bit}", edge.path());
            }
        }
    }
}

#[test]
fn paths_are_alike() {
    for (level, index, width) in
        [(0, 0, 256), (0, 999, 1), (1, 1000, 255), (3, 1_234_067, 256), (7, 1 << 40, 17)]
    {
        let tile = Tile { level, index, width };
        let mut other = tlog_tiles::Tile::new(8, level, index, width.into(), false);
        assert_eq!(ours(&other), tile);
        assert_eq!(tlog_tiles::Tile::from_path(&tile.path().replacen("tile/", "tile/8/", 1)).unwrap(), other);
        other.set_is_data();
        assert_eq!(other.path().replacen("8/data", "entries", 1), tile.entries_path());
    }
}

proptest! {
    // Each case builds trees; the laws themselves are tried more often in the tests beside this one.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proofs_are_alike(size in 1_u64..700, index in any::<Index>(), old in any::<Index>(), bit in 0_usize..256, pick in any::<Index>()) {
        let count = usize::try_from(size).unwrap();
        let (index, old) = (index.index(count) as u64, old.index(count) as u64 + 1);
        let memory = Memory::of(&leaves(count));
        let nodes = TiledNodes::new(size, |tile| Ok::<_, Infallible>(memory.tile(tile)));
        let tiles = Tiles { memory: &memory, changed: None };
        let (top, before) = (memory.frontier.root(), merkle::root(&memory, old).unwrap());
        let reader = TileHashReader::new(size, Hash(top.0), &tiles);
        prop_assert_eq!(tlog_tiles::tree_hash(size, &reader).unwrap().0, top.0);

        let leaf = memory.nodes[&(0, index)];
        let mut proof = merkle::inclusion(&nodes, index, size).unwrap();
        prop_assert_eq!(&tlog_tiles::prove_record(size, index, &reader).unwrap(), &theirs(&proof));
        let check = |proof: &[Sha256]| tlog_tiles::check_record(&theirs(proof), size, Hash(top.0), index, Hash(leaf.0)).is_ok();
        prop_assert!(check(&proof));
        if !proof.is_empty() {
            let at = pick.index(proof.len());
            proof[at].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!check(&proof));
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &top).is_err());
        }

        let mut proof = merkle::consistency(&nodes, old, size).unwrap();
        prop_assert_eq!(&tlog_tiles::prove_tree(size, old, &reader).unwrap(), &theirs(&proof));
        let check = |proof: &[Sha256]| tlog_tiles::check_tree(&theirs(proof), size, Hash(top.0), old, Hash(before.0)).is_ok();
        prop_assert!(check(&proof));
        if !proof.is_empty() {
            let at = pick.index(proof.len());
            proof[at].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!check(&proof));
            prop_assert!(verify_consistency(old, &before, size, &top, &proof).is_err());
        }
    }

    /// Any claim about a proof, right or wrong: both say the same about it.
    #[test]
    fn verdicts_are_alike(
        size in 1_u64..70, index in 0_u64..70, old in 1_u64..70, claimed in 1_u64..70, of in 1_u64..70
    ) {
        let memory = Memory::of(&leaves(70));
        let top = |size| merkle::root(&memory, size).unwrap();
        if index < size {
            let proof = merkle::inclusion(&memory, index, size).unwrap();
            let leaf = memory.nodes[&(0, index)];
            let mine = verify_inclusion(&leaf, claimed - 1, of, &proof, &top(size)).is_ok();
            let other = tlog_tiles::check_record(&theirs(&proof), of, Hash(top(size).0), claimed - 1, Hash(leaf.0));
            prop_assert_eq!(mine, other.is_ok());
        }
        if old <= size {
            let proof = merkle::consistency(&memory, old, size).unwrap();
            let mine = verify_consistency(claimed, &top(old), of, &top(size), &proof).is_ok();
            let other = tlog_tiles::check_tree(&theirs(&proof), of, Hash(top(size).0), claimed, Hash(top(old).0));
            prop_assert_eq!(mine, other.is_ok());
        }
    }

    #[test]
    fn their_reader_takes_our_notes_and_no_others(size in 1_u64..1 << 60, root in any::<[u8; 32]>(), at in any::<Index>(), bit in 0_u8..8) {
        let key = key();
        let checkpoint = Checkpoint { origin: key.name().into(), size, root: Sha256(root), extensions: vec![] };
        let witness = NoteKey::cosigner("witness.example/w1", [9; 32]).unwrap();
        let mut signed = Signed::open(&sign(&key, &checkpoint), &key.verifier()).unwrap();
        signed.add(&cosign(&witness, &signed.note.text, 1_700_000_000)).unwrap();
        let mut bytes = signed.to_text().into_bytes();

        let known = verifiers(&[key.verifier().to_string()]);
        let other = OtherNote::from_bytes(&bytes).unwrap();
        let (verified, unverified) = other.verify(&known).unwrap();
        prop_assert_eq!((verified.len(), unverified.len()), (1, 1));
        prop_assert_eq!(other.to_bytes(), bytes.clone());
        let theirs = tlog_tiles::Checkpoint::from_bytes(other.text()).unwrap();
        prop_assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (key.name(), size, root));

        // What one of the two does not believe, the other does not either; a changed cosignature changes neither.
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let other = OtherNote::from_bytes(&bytes).is_ok_and(|note| note.verify(&known).is_ok());
        let mine = str::from_utf8(&bytes).is_ok_and(|text| Signed::open(text, &key.verifier()).is_ok());
        prop_assert_eq!(mine, other);
        let signed_bytes = signed.to_text().find("— witness").unwrap();
        prop_assert!(!mine || at >= signed_bytes);
    }

    #[test]
    fn keys_and_signatures_are_alike(seed in any::<[u8; 32]>(), name in "[a-z.]{1,20}(/[a-z0-9]{1,9})?", text in "([ -~]{0,60}\n){1,4}") {
        let key = NoteKey::from_seed(&name, seed).unwrap();
        let signer = StandardSigner::new(&key.to_text()).unwrap();
        let mut other = OtherNote::new(text.as_bytes(), &[]).unwrap();
        other.add_sigs(&[&signer]).unwrap();
        let theirs = String::from_utf8(other.to_bytes()).unwrap();
        let note = Note::parse(&theirs).unwrap();
        prop_assert_eq!(&note.text, &text);
        prop_assert_eq!(note.signed_by(&key.verifier()), Ok(None));
        prop_assert!(other.verify(&verifiers(&[key.verifier().to_string()])).is_ok());
    }
}

#[test]
fn keys_that_they_make_are_read() {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let vkey = signed_note::new_ed25519_verifier_key("example.com/log", &secret.verifying_key());
    let verifier: Verifier = vkey.parse().unwrap();
    assert_eq!(verifier.to_string(), vkey);
    assert_eq!(NoteKey::from_seed("example.com/log", [3; 32]).unwrap().verifier(), verifier);
}

/// They do not know cosignatures; the key of a witness is none of theirs.
#[test]
fn a_witness_key_is_not_a_log_key() {
    let witness = NoteKey::cosigner("witness.example/w1", [9; 32]).unwrap();
    assert!(StandardVerifier::new(&witness.verifier().to_string()).is_err());
    let key = key();
    let checkpoint =
        Checkpoint { origin: key.name().into(), size: 1, root: leaf_hash(b""), extensions: vec![] };
    let other = OtherNote::from_bytes(sign(&key, &checkpoint).as_bytes()).unwrap();
    let stranger = NoteKey::from_seed(key.name(), [8; 32]).unwrap().verifier();
    assert!(matches!(other.verify(&verifiers(&[stranger.to_string()])), Err(NoteError::UnverifiedNote)));
}
