//! The tree against the published vectors, against the RFC's own recursive definition, and with anything changed.

mod common;

use common::{Memory, leaves, naive_consistency, naive_path, naive_root};
use octant_ids::Sha256;
use octant_tlog::checkpoint::hash_from_base64;
use octant_tlog::merkle::{
    EMPTY_ROOT, Frontier, MAX_SIZE, ProofError, ProveError, consistency, inclusion, leaf_hash, root,
    verify_consistency, verify_inclusion,
};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;

/// The reference data of Certificate Transparency: eight leaves, in hexadecimal.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
/// The roots of the trees of the first 1 to 8 of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];
/// Leaf (from 0), size, proof.
const INCLUSION: [(u64, u64, &[&str]); 4] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
];
/// Old size, new size, proof.
const CONSISTENCY: [(u64, u64, &[&str]); 4] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// A proof that a public log of Certificate Transparency gave for its entry 10000 when it had 961984011 of them.
const PUBLIC_ROOT: &str = "AWxD3p811N3m4WTinWRXPvBZHfT9IR9g/R4C7SKLPiU=";
const PUBLIC_LEAF: &str = "nCs3mfIydh9x4CKyQ+u2xtmpxmFggA5MLymHwNQSlLg=";
const PUBLIC_PROOF: [&str; 30] = [
    "T46AmJsuOM/gFiGlUp+IJJebp+1Z5qratFNW7U0JyOQ=",
    "9Jj1Feodn42uRYEfffkV4HF/EIPFQ5Zo9IwkxbQ2uhk=",
    "D53/1oCNebF4J59HHgioovKZxrmrKcVuCVhy3Izg8Ck=",
    "wSFDgGSrsXRPA+1c8WHoAFCsWeUv8NDyP/Q/SgsyVyY=",
    "516/RcwsgdwdzHn18v1dJHqBkgFUbNhmCIWOGjsMJaE=",
    "naTFY2ajLFgrgs5XUl+zJYZnnlJksLGsA1VYwpLfqbY=",
    "mKBRJo6qao+0Kdh/rhGkZUbHUAxMhrtrclrTpIbNjIg=",
    "Co4ueOFE7lpifLio94irxxsv1wFMMaK3tPu2ZQkHlro=",
    "yRgy800K6JMYCC05sWfqF2kvCg2riT/pVM+nEa6V5+0=",
    "n2O38XJZC8/Wpbwi9HhgVizlUyeUHVZvYyQB1607MRc=",
    "go3tAjuNfNSCj87y2Rg1xOroDknGN1eaf3cgvzObf7Q=",
    "8D0Mj3/J7ySSnFb0afIHYXv6rlOhECnsebY6XKi1IR8=",
    "6rcez46ZU8M5vPiWVMAUfJfAOV0pPP/mch/lYzZhj/M=",
    "2rtIeXrPvSdUyHc5maIgSAVB2BzaKaupWxSAiVayDE4=",
    "nniW/IMFQPN5xw8UsHFn7CRStYbm1gLu7NNa6kkRqJQ=",
    "mRPPi7sQS22MduIEyvcNzCNFqIt6kLwYPkNKrVtIcu8=",
    "JvTivzESNS9wHI8aph5a7uieVmtS/p9PciMZ5D6GyOo=",
    "UTyQd+Ym0wY4zG+qK806bBORwi1CSVvFQ/KknnqoZj8=",
    "hXODrqN+ff+U6zPqRQ+ZQKs6im1fPcxIerDSfNwflhE=",
    "II6GE+WY/DrpZzfHztLwkR46o37zVkNLCyPYlf68zA0=",
    "d609kWWcNBllbA8Jb/ad4XAVVGnScLRmtP8FYyr+Dck=",
    "rikBsP0G0gioXRpBFED2CzQdSLrGPvRd0bEcbEZw1rI=",
    "GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0=",
    "pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=",
    "f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA=",
    "WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=",
    "f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ=",
    "NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=",
    "C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI=",
    "30HzZbwT4DdqHQi4f7+WRG6M4YwVGaKgGXicDvSFT6k=",
];

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn hash(hex: &str) -> Sha256 {
    hex.parse().unwrap()
}

/// The hash with one bit changed.
fn flipped(hash: &Sha256, bit: u8) -> Sha256 {
    let mut bytes = hash.0;
    bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
    Sha256(bytes)
}

#[test]
fn the_published_roots_and_proofs() {
    assert_eq!(EMPTY_ROOT, hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    let mut tree = Memory::default();
    assert_eq!(tree.frontier.root(), EMPTY_ROOT);
    for (leaf, wanted) in LEAVES.iter().zip(ROOTS) {
        tree.push(leaf_hash(&bytes(leaf)));
        assert_eq!(tree.frontier.root(), hash(wanted));
        assert_eq!(root(&tree, tree.frontier.size()), Ok(hash(wanted)));
    }
    let at = |size: u64| hash(ROOTS[usize::try_from(size).unwrap() - 1]);
    for (index, size, proof) in INCLUSION {
        let proof: Vec<_> = proof.iter().map(|text| hash(text)).collect();
        assert_eq!(inclusion(&tree, index, size), Ok(proof.clone()), "{index} in {size}");
        let leaf = leaf_hash(&bytes(LEAVES[usize::try_from(index).unwrap()]));
        assert_eq!(verify_inclusion(&leaf, index, size, &proof, &at(size)), Ok(()), "{index} in {size}");
    }
    for (old, new, proof) in CONSISTENCY {
        let proof: Vec<_> = proof.iter().map(|text| hash(text)).collect();
        assert_eq!(consistency(&tree, old, new), Ok(proof.clone()), "{old} in {new}");
        assert_eq!(verify_consistency(old, &at(old), new, &at(new), &proof), Ok(()), "{old} in {new}");
    }
}

#[test]
fn a_public_log_proves_its_entry() {
    let hash = |text| hash_from_base64(text).unwrap();
    let mut proof = PUBLIC_PROOF.map(hash);
    let check = |proof: &[Sha256], index| {
        verify_inclusion(&hash(PUBLIC_LEAF), index, 961_984_011, proof, &hash(PUBLIC_ROOT))
    };
    assert_eq!(check(&proof, 10_000), Ok(()));
    assert!(check(&proof, 10_001).is_err());
    proof.swap(3, 4);
    assert!(check(&proof, 10_000).is_err());
}

#[test]
fn every_proof_of_the_small_trees_is_the_one_of_the_rfc() {
    let leaves = leaves(40);
    let tree = Memory::of(&leaves);
    for size in 0..=40_usize {
        let some = &leaves[..size];
        let whole = naive_root(some);
        assert_eq!(root(&tree, size as u64), Ok(whole));
        for (index, leaf) in some.iter().enumerate() {
            let proof = inclusion(&tree, index as u64, size as u64).unwrap();
            assert_eq!(proof, naive_path(index, some), "{index} in {size}");
            assert_eq!(verify_inclusion(leaf, index as u64, size as u64, &proof, &whole), Ok(()));
        }
        for old in 1..=size {
            let proof = consistency(&tree, old as u64, size as u64).unwrap();
            assert_eq!(proof, naive_consistency(old, some, true), "{old} in {size}");
            let before = naive_root(&leaves[..old]);
            assert_eq!(verify_consistency(old as u64, &before, size as u64, &whole, &proof), Ok(()));
        }
    }
}

#[test]
fn the_edges_of_consistency() {
    let tree = Memory::of(&leaves(5));
    let whole = tree.frontier.root();
    assert_eq!(consistency(&tree, 0, 5), Ok(vec![]));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 5, &whole, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 0, &EMPTY_ROOT, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 5, &whole, &[whole]), Err(ProofError::Length(1)));
    assert!(matches!(verify_consistency(0, &whole, 5, &whole, &[]), Err(ProofError::OldRoot { .. })));
    assert!(matches!(verify_consistency(0, &EMPTY_ROOT, 0, &whole, &[]), Err(ProofError::Root { .. })));
    assert_eq!(verify_consistency(5, &whole, 5, &whole, &[]), Ok(()));
    assert!(matches!(verify_consistency(5, &EMPTY_ROOT, 5, &whole, &[]), Err(ProofError::OldRoot { .. })));
    assert_eq!(consistency(&tree, 5, 4), Err(ProveError::Order { old: 5, new: 4 }));
    assert_eq!(verify_consistency(5, &whole, 4, &whole, &[]), Err(ProofError::Order { old: 5, new: 4 }));
    assert_eq!(verify_consistency(3, &whole, 5, &whole, &[]), Err(ProofError::Length(0)));
}

#[test]
fn a_leaf_outside_has_no_proof() {
    let tree = Memory::of(&leaves(5));
    assert_eq!(inclusion(&tree, 5, 5), Err(ProveError::Outside { index: 5, size: 5 }));
    assert_eq!(inclusion(&tree, 0, 0), Err(ProveError::Outside { index: 0, size: 0 }));
    let outside = Err(ProofError::Outside { index: 5, size: 5 });
    assert_eq!(verify_inclusion(&EMPTY_ROOT, 5, 5, &[], &EMPTY_ROOT), outside);
    let outside = Err(ProofError::Outside { index: 0, size: 0 });
    assert_eq!(verify_inclusion(&EMPTY_ROOT, 0, 0, &[], &EMPTY_ROOT), outside);
}

/// An inner node must not pass as a leaf, nor a leaf as a node: the two prefixes keep them apart.
#[test]
fn a_leaf_that_looks_like_a_node_is_not_one() {
    let leaves = leaves(2);
    let looks = [leaves[0].0, leaves[1].0].concat();
    assert_ne!(leaf_hash(&looks), naive_root(&leaves));
}

#[test]
fn a_push_costs_one_node_hash_on_average_and_calls_in_order() {
    let (mut frontier, mut nodes) = (Frontier::default(), 0_u64);
    for (n, leaf) in leaves(4096).into_iter().enumerate() {
        let mut heights = Vec::new();
        frontier.push(leaf, |height, index, _| {
            assert_eq!(index, n as u64 >> height);
            heights.push(height);
        });
        assert_eq!(heights, (0..=u8::try_from((n + 1).trailing_zeros()).unwrap()).collect::<Vec<_>>());
        nodes += heights.len() as u64 - 1;
    }
    assert_eq!(nodes, 4095);
}

#[test]
fn parts_that_do_not_fit_are_no_frontier() {
    let hashes = leaves(64);
    assert_eq!(Frontier::from_parts(0, vec![]), Some(Frontier::default()));
    assert_eq!(Frontier::from_parts(0, hashes[..1].to_vec()), None);
    assert_eq!(Frontier::from_parts(3, hashes[..1].to_vec()), None);
    assert_eq!(Frontier::from_parts(3, hashes[..3].to_vec()), None);
    assert!(Frontier::from_parts(MAX_SIZE, hashes[..63].to_vec()).is_some());
    assert_eq!(Frontier::from_parts(MAX_SIZE + 1, hashes[..1].to_vec()), None);
    assert_eq!(Frontier::from_parts(u64::MAX, hashes), None);
}

proptest! {
    #[test]
    fn the_frontier_is_the_tree(size in 0_usize..700, cut in any::<Index>()) {
        let leaves = leaves(size);
        let cut = cut.index(size + 1);
        let begun = Memory::of(&leaves[..cut]).frontier;
        let mut frontier = Frontier::from_parts(begun.size(), begun.peaks().to_vec()).unwrap();
        prop_assert_eq!(&frontier, &begun);
        for leaf in &leaves[cut..] {
            frontier.push(*leaf, |_, _, _| {});
        }
        prop_assert_eq!(frontier.size(), size as u64);
        prop_assert_eq!(frontier.root(), naive_root(&leaves));
    }

    #[test]
    fn an_inclusion_proof_holds_and_nothing_in_it_can_be_changed(
        size in 1_usize..600, index in any::<Index>(), pick in any::<Index>(), bit in any::<u8>(), other in any::<u64>()
    ) {
        let leaves = leaves(size);
        let index = index.index(size);
        let tree = Memory::of(&leaves);
        let (leaf, top) = (leaves[index], tree.frontier.root());
        let (index, size) = (index as u64, size as u64);
        let proof = inclusion(&tree, index, size).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &top), Ok(()));

        prop_assert!(verify_inclusion(&flipped(&leaf, bit), index, size, &proof, &top).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &flipped(&top, bit)).is_err());
        let longer = [&proof[..], &[top]].concat();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &longer, &top), Err(ProofError::Length(longer.len())));
        if !proof.is_empty() {
            let mut changed = proof.clone();
            let at = pick.index(proof.len());
            changed[at] = flipped(&proof[at], bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &changed, &top).is_err());
            prop_assert!(verify_inclusion(&leaf, index, size, &proof[1..], &top).is_err());
        }
        // A size alone may be exchanged for one whose tree has the same shape on this way; the checkpoint binds it to
        // its root, and of that there is another.
        let smaller = other % size;
        let top_of_smaller = root(&tree, smaller).unwrap();
        prop_assert!(verify_inclusion(&leaf, index, smaller, &proof, &top_of_smaller).is_err());
        for wrong in [other, other % size, index ^ 1, index + 1, index.wrapping_sub(1)] {
            if wrong != index {
                prop_assert!(verify_inclusion(&leaf, wrong, size, &proof, &top).is_err(), "as leaf {}", wrong);
            }
        }
    }

    #[test]
    fn a_consistency_proof_holds_and_nothing_in_it_can_be_changed(
        new in 1_usize..600, old in any::<Index>(), pick in any::<Index>(), bit in any::<u8>(), other in any::<u64>()
    ) {
        let leaves = leaves(new);
        let old = old.index(new) + 1;
        let (before, tree) = (Memory::of(&leaves[..old]).frontier.root(), Memory::of(&leaves));
        let after = tree.frontier.root();
        let (old, new) = (old as u64, new as u64);
        let proof = consistency(&tree, old, new).unwrap();
        prop_assert_eq!(verify_consistency(old, &before, new, &after, &proof), Ok(()));

        prop_assert!(verify_consistency(old, &flipped(&before, bit), new, &after, &proof).is_err());
        prop_assert!(verify_consistency(old, &before, new, &flipped(&after, bit), &proof).is_err());
        let longer = [&proof[..], &[after]].concat();
        prop_assert!(verify_consistency(old, &before, new, &after, &longer).is_err());
        if !proof.is_empty() {
            let mut changed = proof.clone();
            let at = pick.index(proof.len());
            changed[at] = flipped(&proof[at], bit);
            prop_assert!(verify_consistency(old, &before, new, &after, &changed).is_err());
            prop_assert!(verify_consistency(old, &before, new, &after, &proof[1..]).is_err());
        }
        let smaller = other % new;
        let top_of_smaller = root(&tree, smaller).unwrap();
        prop_assert!(verify_consistency(old, &before, smaller, &top_of_smaller, &proof).is_err() || smaller == old);
        // The older tree is of the size it is of: the other one's root is another.
        for wrong in [other, other % new, old - 1, old + 1] {
            if wrong != old {
                prop_assert!(verify_consistency(wrong, &before, new, &after, &proof).is_err(), "from {}", wrong);
            }
        }
    }

    /// A log that was rewritten before `old` cannot be shown to extend what was seen.
    #[test]
    fn a_rewritten_log_has_no_proof(new in 2_usize..300, old in any::<Index>(), at in any::<Index>()) {
        let mut changed = leaves(new);
        let old = old.index(new) + 1;
        let before = naive_root(&changed[..old]);
        changed[at.index(old)] = EMPTY_ROOT;
        let forged = Memory::of(&changed);
        let proof = consistency(&forged, old as u64, new as u64).unwrap();
        let verdict = verify_consistency(old as u64, &before, new as u64, &forged.frontier.root(), &proof);
        let old_root = matches!(verdict, Err(ProofError::OldRoot { .. }));
        // When the older tree is complete, its root is not computed but taken, and the newer root shows the change.
        prop_assert!(old_root || (old.is_power_of_two() && verdict.is_err()), "{:?}", verdict);
    }

    #[test]
    fn any_numbers_and_hashes_are_answered(
        a in any::<u64>(), b in any::<u64>(), hashes in proptest::collection::vec(any::<[u8; 32]>(), 2..140)
    ) {
        let hashes: Vec<_> = hashes.into_iter().map(Sha256).collect();
        let (top, proof) = (hashes[0], &hashes[1..]);
        prop_assert!(verify_inclusion(&top, a, b, proof, &top).is_err());
        prop_assert!(verify_consistency(a, &top, b, &proof[0], proof).is_err());
    }
}
