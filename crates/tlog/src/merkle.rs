//! The Merkle tree over the entries (RFC 6962 section 2.1): its root, and proofs about it.
//!
//! A tree of n leaves is the row of complete subtrees that n's binary digits name, largest first; [`Frontier`] keeps
//! their roots and nothing else. Proofs are made from the roots of complete subtrees ([`Nodes`]), which never change
//! once they are there, and are checked as RFC 9162 says (2.1.3.2 and 2.1.4.2).

use octant_ids::Sha256;
use sha2::Digest;

/// The root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Sha256 = Sha256([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// The largest tree: sizes are written as signed 64-bit numbers by other implementations.
pub const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

/// The longest proof that is read (C2SP tlog-witness and tlog-proof): a hash for each level of the largest tree.
pub const MAX_PROOF: usize = 63;

/// The hash of a leaf: SHA-256(0x00 ‖ bytes).
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::new().chain_update([0x00]).chain_update(bytes).finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut bytes = [0x01; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// The roots of the row of complete subtrees, largest first, as one: each is the left child of what follows it.
fn fold(peaks: &[Sha256]) -> Sha256 {
    match peaks.split_last() {
        Some((last, rest)) => rest.iter().rev().fold(*last, |right, left| node_hash(left, &right)),
        None => EMPTY_ROOT,
    }
}

/// A growing tree: its size and the roots of its complete subtrees, largest first. At most 63 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Sha256>,
}

impl Frontier {
    /// Adds a leaf by its hash. `completed` is called for the leaf and then for each subtree that the leaf completes,
    /// with its height (a subtree of height h has 2^h leaves), its index among those of that height, and its root.
    ///
    /// One [`node_hash`] a leaf on average, and at most 62.
    pub fn push(&mut self, leaf: Sha256, mut completed: impl FnMut(u8, u64, Sha256)) {
        let (mut height, mut index, mut hash) = (0, self.size, leaf);
        completed(height, index, hash);
        while index & 1 == 1 {
            // One peak for each binary one of the size, so there is one here.
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            index >>= 1;
            completed(height, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        fold(&self.peaks)
    }

    /// The roots of the complete subtrees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Sha256] {
        &self.peaks
    }

    /// A tree that was stored as [`Self::size`] and [`Self::peaks`]; `None` when the numbers of them do not fit, or the
    /// size is beyond [`MAX_SIZE`]. Whether the hashes are right shows only in the root.
    #[must_use]
    pub fn from_parts(size: u64, peaks: Vec<Sha256>) -> Option<Self> {
        (size <= MAX_SIZE && u32::try_from(peaks.len()) == Ok(size.count_ones()))
            .then_some(Self { size, peaks })
    }
}

/// Where the roots of complete subtrees are kept.
pub trait Nodes {
    /// Why one could not be had.
    type Error;

    /// The root of the complete subtree of 2^`height` leaves that has this `index` among those of its height. Asked
    /// only for subtrees that lie within the tree's size.
    ///
    /// # Errors
    /// It cannot be had.
    fn node(&self, height: u8, index: u64) -> Result<Sha256, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {size}; leaves count from 0")]
    Outside {
        /// The leaf.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {new} does not extend one of {old}")]
    Order {
        /// The older tree's size.
        old: u64,
        /// The newer tree's size.
        new: u64,
    },
    /// A stored hash could not be had.
    #[error("{0}")]
    Node(E),
}

/// The root of the first `size` leaves.
///
/// # Errors
/// A node cannot be had.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Sha256, N::Error> {
    range(nodes, 0, size)
}

/// The proof that leaf `index` is in the tree of `size` leaves: the hashes beside the way from the leaf to the root,
/// the leaf's sibling first.
///
/// # Errors
/// [`ProveError::Outside`], or a node cannot be had.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Sha256>, ProveError<N::Error>> {
    if index >= size {
        return Err(ProveError::Outside { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut beside = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            beside.push((middle, end));
            end = middle;
        } else {
            beside.push((start, middle));
            start = middle;
        }
    }
    hashes(nodes, &beside)
}

/// The proof that the tree of `new` leaves begins with the tree of `old` leaves; empty when they are of one size, and
/// when the older one is empty.
///
/// # Errors
/// [`ProveError::Order`], or a node cannot be had.
pub fn consistency<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Sha256>, ProveError<N::Error>> {
    if old > new {
        return Err(ProveError::Order { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new);
    let mut beside = Vec::new();
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            beside.push((middle, end));
            end = middle;
        } else {
            beside.push((start, middle));
            start = middle;
        }
    }
    if start > 0 {
        // The old tree's last part; when it is the whole of the old tree the verifier knows its root already.
        beside.push((start, end));
    }
    hashes(nodes, &beside)
}

/// The largest power of two below `leaves`, which is at least 2: how many leaves the left child has.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The roots of ranges that were collected from the top down, as a proof lists them: from the bottom up.
fn hashes<N: Nodes>(nodes: &N, beside: &[(u64, u64)]) -> Result<Vec<Sha256>, ProveError<N::Error>> {
    beside.iter().rev().map(|&(start, end)| range(nodes, start, end).map_err(ProveError::Node)).collect()
}

/// The root of a range that is a subtree of the tree: complete, or its right edge.
fn range<N: Nodes>(nodes: &N, mut start: u64, end: u64) -> Result<Sha256, N::Error> {
    let mut peaks = Vec::new();
    while start < end {
        let height = (end - start).ilog2();
        // Below 64, so it fits.
        peaks.push(nodes.node(u8::try_from(height).unwrap_or(u8::MAX), start >> height)?);
        start += 1 << height;
    }
    Ok(fold(&peaks))
}

/// Why a proof does not hold. It says nothing about who is wrong: the leaf, the proof or the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf lies outside the tree, so nothing can prove it.
    #[error("leaf {index} is not in a tree of {size}; leaves count from 0")]
    Outside {
        /// The leaf.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {new} cannot extend one of {old}: something was taken away")]
    Order {
        /// The older tree's size.
        old: u64,
        /// The newer tree's size.
        new: u64,
    },
    /// The number of hashes does not fit the sizes.
    #[error("the proof has {0} hashes, which is not the number that the sizes need")]
    Length(usize),
    /// The hashes lead to another root for the (newer) tree.
    #[error("the proof leads to the root {got}, but the checkpoint says {wanted}")]
    Root {
        /// Where they lead.
        got: Sha256,
        /// What was to be shown.
        wanted: Sha256,
    },
    /// The hashes lead to another root for the older tree: the log was rewritten, or the proof is for another one.
    #[error(
        "the proof leads to the older root {got}, but {wanted} was seen: the newer tree does not extend it"
    )]
    OldRoot {
        /// Where they lead.
        got: Sha256,
        /// What was seen.
        wanted: Sha256,
    },
}

/// Checks that the leaf with this hash is the one at `index` of the tree of `size` leaves with this root.
///
/// # Errors
/// It is not shown; see [`ProofError`].
pub fn verify_inclusion(
    leaf: &Sha256,
    index: u64,
    size: u64,
    proof: &[Sha256],
    root: &Sha256,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Outside { index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for beside in proof {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(beside, &hash);
            (node, last) = rise(node, last);
        } else {
            hash = node_hash(&hash, beside);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    same(hash, root)
}

/// Checks that the tree of `new` leaves begins with the tree of `old` leaves.
///
/// # Errors
/// It is not shown; see [`ProofError`].
pub fn verify_consistency(
    old: u64,
    old_root: &Sha256,
    new: u64,
    new_root: &Sha256,
    proof: &[Sha256],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Order { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::Length(proof.len()));
        }
        // Every tree extends the empty one, but the empty one has one root only.
        let wanted = if old == 0 { &EMPTY_ROOT } else { new_root };
        same_old(*wanted, old_root)?;
        return if new == 0 { same(EMPTY_ROOT, new_root) } else { Ok(()) };
    }
    // The subtree where both trees part ways: its root is the proof's first hash, or the old root itself when the old
    // tree is complete.
    let shift = old.trailing_zeros();
    let (mut node, mut last) = ((old - 1) >> shift, (new - 1) >> shift);
    let (start, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(ProofError::Length(0))?
    };
    let (mut before, mut after) = (*start, *start);
    for beside in rest {
        if last == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if node & 1 == 1 || node == last {
            before = node_hash(beside, &before);
            after = node_hash(beside, &after);
            (node, last) = rise(node, last);
        } else {
            after = node_hash(&after, beside);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    same_old(before, old_root)?;
    same(after, new_root)
}

/// Skips the levels at which a node on the right edge has no sibling: up to where it is a right child.
fn rise(node: u64, last: u64) -> (u64, u64) {
    let levels = if node == 0 { 0 } else { node.trailing_zeros() };
    (node >> levels, last >> levels)
}

fn same(got: Sha256, wanted: &Sha256) -> Result<(), ProofError> {
    if got == *wanted { Ok(()) } else { Err(ProofError::Root { got, wanted: *wanted }) }
}

fn same_old(got: Sha256, wanted: &Sha256) -> Result<(), ProofError> {
    if got == *wanted { Ok(()) } else { Err(ProofError::OldRoot { got, wanted: *wanted }) }
}
