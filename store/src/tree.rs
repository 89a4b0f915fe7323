//! Arithmetic of a file's BLAKE3 tree above its 64 KiB groups. Pure.
//!
//! Leaves are the chaining values of the groups, in order. 256 of them make a *segment* (16 MiB of the file), so that a
//! reader of a large file holds one segment of leaves and 32 bytes for each 16 MiB, and not every leaf.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes that are verified together.
pub(crate) const GROUP_BYTES: u64 = 64 << 10;
/// Groups of a segment. A power of two, so that a full segment is a subtree of the BLAKE3 tree.
pub(crate) const SEGMENT_GROUPS: usize = 256;

/// The hash of a subtree that is not the whole file.
pub(crate) type Leaf = [u8; 32];

/// How many groups a file of `size` bytes has.
pub(crate) fn groups_of(size: u64) -> u64 {
    size.div_ceil(GROUP_BYTES)
}

/// The leaf of the group that begins at `offset`. `bytes` is not empty.
pub(crate) fn leaf_of(offset: u64, bytes: &[u8]) -> Leaf {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The root of a whole file made of at least two subtrees of equal size (the last may be smaller).
pub(crate) fn root_of(subtrees: &[Leaf]) -> [u8; 32] {
    let (left, right) = split(subtrees);
    *merge_subtrees_root(&subtree_of(left), &subtree_of(right), Mode::Hash).as_bytes()
}

/// The hash of at least one subtree of equal size (the last may be smaller) as a part of a larger file.
pub(crate) fn subtree_of(subtrees: &[Leaf]) -> Leaf {
    if let [only] = subtrees {
        return *only;
    }
    let (left, right) = split(subtrees);
    merge_subtrees_non_root(&subtree_of(left), &subtree_of(right), Mode::Hash)
}

/// BLAKE3's left side is the largest power of two that leaves something for the right.
fn split(subtrees: &[Leaf]) -> (&[Leaf], &[Leaf]) {
    subtrees.split_at(subtrees.len().div_ceil(2).next_power_of_two())
}
