//! [`ContentHasher`]: every digest of a file in one pass over its bytes, whatever pieces they arrive in.
//!
//! Memory: one segment of leaves (8 KiB), 32 bytes for each 16 MiB that passed, and the leaves that nobody took yet.

use blake3::hazmat::HasherExt;
use richardstore_proto::{Blake3Root, ContentHash};
use sha2::{Digest, Sha256};

use crate::tree::{GROUP_BYTES, Leaf, SEGMENT_GROUPS, root_of, subtree_of};

/// Hashes bytes to their SHA-256 name, their BLAKE3 root, and the BLAKE3 leaves of their 64 KiB groups.
pub struct ContentHasher {
    sha256: Sha256,
    /// The group being filled. It is closed when a byte after it arrives, and not before: the only group of a short
    /// file is hashed as the root, another as a leaf.
    group: blake3::Hasher,
    size: u64,
    /// Leaves of the segment being filled; closed late for the same reason.
    segment: Vec<Leaf>,
    segments: Vec<Leaf>,
    complete: Vec<Leaf>,
}

/// What a [`ContentHasher`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    /// SHA-256 of the bytes: the file's name.
    pub hash: ContentHash,
    /// BLAKE3 of the bytes; equal to `blake3::hash` of them.
    pub blake3_root: Blake3Root,
    /// Bytes.
    pub size: u64,
    /// The leaves of the 64 KiB groups, without those that [`ContentHasher::take_leaves`] gave out. Empty where the whole
    /// file is one group, which the root itself verifies.
    pub leaves: Vec<[u8; 32]>,
    /// One subtree hash for each 256 leaves; empty where there are no more than 256.
    pub segments: Vec<[u8; 32]>,
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentHasher {
    /// A hasher that has seen no bytes.
    pub fn new() -> Self {
        Self {
            sha256: Sha256::new(),
            group: blake3::Hasher::new(),
            size: 0,
            segment: Vec::new(),
            segments: Vec::new(),
            complete: Vec::new(),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.size > 0 && self.size.is_multiple_of(GROUP_BYTES) {
                self.close_group();
            }
            let room = GROUP_BYTES - self.size % GROUP_BYTES;
            let take = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (now, later) = rest.split_at(take);
            self.group.update(now);
            self.size += now.len() as u64;
            rest = later;
        }
    }

    /// The leaves that are complete and were not taken yet, in order. Taking them now and then keeps memory flat.
    pub fn take_leaves(&mut self) -> Vec<[u8; 32]> {
        std::mem::take(&mut self.complete)
    }

    /// All bytes were seen.
    pub fn finish(mut self) -> ContentDigest {
        let blake3_root = if self.size <= GROUP_BYTES {
            *self.group.finalize().as_bytes()
        } else {
            self.push_leaf();
            if self.segments.is_empty() {
                root_of(&self.segment)
            } else {
                self.segments.push(subtree_of(&self.segment));
                root_of(&self.segments)
            }
        };
        self.complete.append(&mut self.segment);
        ContentDigest {
            hash: ContentHash::new(self.sha256.finalize().into()),
            blake3_root: Blake3Root::new(blake3_root),
            size: self.size,
            leaves: self.complete,
            segments: self.segments,
        }
    }

    fn close_group(&mut self) {
        self.push_leaf();
        self.group = blake3::Hasher::new();
        self.group.set_input_offset(self.size);
    }

    fn push_leaf(&mut self) {
        if self.segment.len() == SEGMENT_GROUPS {
            self.segments.push(subtree_of(&self.segment));
            self.complete.append(&mut self.segment);
        }
        self.segment.push(self.group.finalize_non_root());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop, proptest};

    const GROUP: usize = 64 << 10;
    const SEGMENT: usize = GROUP * SEGMENT_GROUPS;

    fn bytes(size: usize) -> Vec<u8> {
        (0..size)
            .map(|at| (at % 251).to_le_bytes()[0] ^ (at >> 16).to_le_bytes()[0])
            .collect()
    }

    fn check(content: &[u8], pieces: usize) {
        let mut hasher = ContentHasher::new();
        let mut taken = Vec::new();
        for piece in content.chunks(pieces) {
            hasher.update(piece);
            taken.extend(hasher.take_leaves());
        }
        let digest = hasher.finish();
        assert_eq!(
            digest.blake3_root.as_bytes(),
            blake3::hash(content).as_bytes()
        );
        let sha256: [u8; 32] = Sha256::digest(content).into();
        assert_eq!(digest.hash.as_bytes(), &sha256);
        assert_eq!(digest.size, content.len() as u64);
        let groups = content.len().div_ceil(GROUP);
        taken.extend(digest.leaves);
        assert_eq!(taken.len(), if groups < 2 { 0 } else { groups });
        let segments = groups.div_ceil(SEGMENT_GROUPS);
        assert_eq!(
            digest.segments.len(),
            if segments < 2 { 0 } else { segments }
        );
    }

    #[test]
    fn the_root_is_blake3_of_the_whole_at_every_boundary() {
        for groups in [0, 1, 2, 3, 4, 5, 8, 9] {
            for off in [-1025i64, -1, 0, 1, 1024] {
                if let Ok(size) = usize::try_from(groups * GROUP as i64 + off) {
                    check(&bytes(size), 37_777);
                }
            }
        }
    }

    #[test]
    fn segments_merge_to_the_same_root() {
        for size in [
            SEGMENT - 1,
            SEGMENT,
            SEGMENT + 1,
            2 * SEGMENT,
            2 * SEGMENT + GROUP + 9,
        ] {
            check(&bytes(size), 1 << 20);
        }
    }

    #[test]
    fn the_empty_file_has_a_hash() {
        let digest = ContentHasher::new().finish();
        assert_eq!(digest.hash, ContentHash::EMPTY);
        assert_eq!(digest.blake3_root.as_bytes(), blake3::hash(b"").as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn pieces_do_not_change_the_digest(
            groups in 0usize..6, off in 0usize..2_100, pieces in prop::sample::select(vec![
                1_000, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP,
            ]),
        ) {
            check(&bytes((groups * GROUP + off).saturating_sub(1_050)), pieces);
        }
    }
}
