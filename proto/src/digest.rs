//! Range digests: how two sides find out in one small message that they agree about millions of replicas.
//!
//! The hash space is cut into [`RANGES`] equal ranges. Each range has a count and a sum; the sum adds, modulo 2^128, a
//! keyed digest of every (hash, generation) in it. Addition does not care about order and can be taken back, so each
//! change updates one range in constant time. (The idea is that of Merkle-tree anti-entropy as in Dynamo, with one
//! level.)

use crate::wire::{self, WireError, to_bytes};
use crate::{ContentHash, Generation};

/// How many ranges the hash space is cut into: the first byte of the hash is the range.
pub const RANGES: usize = 256;

/// Count and sum of one range, or of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeDigest {
    /// How many replicas.
    pub count: u64,
    /// Sum of their digests modulo 2^128.
    pub sum: u128,
}

/// The digests of all ranges of one datanode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeDigests {
    ranges: Vec<RangeDigest>,
}

/// The range that a hash belongs to, below [`RANGES`].
pub fn hash_range(hash: &ContentHash) -> usize {
    usize::from(hash.as_bytes()[0])
}

/// First and last hash of `range`, both inclusive. `None` for a number that is no range.
pub fn range_bounds(range: usize) -> Option<(ContentHash, ContentHash)> {
    let first = u8::try_from(range).ok()?;
    let mut low = *ContentHash::MIN.as_bytes();
    let mut high = *ContentHash::MAX.as_bytes();
    low[0] = first;
    high[0] = first;
    Some((ContentHash::new(low), ContentHash::new(high)))
}

impl RangeDigest {
    /// Takes a replica in.
    pub fn add(&mut self, hash: &ContentHash, generation: Generation) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(replica_digest(hash, generation));
    }

    /// Takes a replica out that was added before.
    pub fn remove(&mut self, hash: &ContentHash, generation: Generation) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(replica_digest(hash, generation));
    }

    /// As it goes over the wire, for one range; the sum most significant byte first. The root goes as range 0.
    pub fn on_wire(&self, range: usize) -> wire::RangeDigest {
        wire::RangeDigest {
            range: u32::try_from(range).unwrap_or(u32::MAX),
            count: self.count,
            sum: to_bytes(&self.sum.to_be_bytes()),
        }
    }

    fn combine(&mut self, other: &RangeDigest) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl TryFrom<&wire::RangeDigest> for RangeDigest {
    type Error = WireError;

    fn try_from(digest: &wire::RangeDigest) -> Result<Self, WireError> {
        let sum = <[u8; 16]>::try_from(&digest.sum[..]).map_err(|_| WireError::Value("sum"))?;
        Ok(Self {
            count: digest.count,
            sum: u128::from_be_bytes(sum),
        })
    }
}

impl Default for RangeDigests {
    fn default() -> Self {
        Self {
            ranges: vec![RangeDigest::default(); RANGES],
        }
    }
}

impl RangeDigests {
    /// Takes a replica in.
    pub fn add(&mut self, hash: &ContentHash, generation: Generation) {
        self.ranges[hash_range(hash)].add(hash, generation);
    }

    /// Takes a replica out that was added before.
    pub fn remove(&mut self, hash: &ContentHash, generation: Generation) {
        self.ranges[hash_range(hash)].remove(hash, generation);
    }

    /// Sets one range, as read from a database. A number that is no range is ignored.
    pub fn set(&mut self, range: usize, digest: RangeDigest) {
        if let Some(slot) = self.ranges.get_mut(range) {
            *slot = digest;
        }
    }

    /// One digest per range, in order.
    pub fn ranges(&self) -> &[RangeDigest] {
        &self.ranges
    }

    /// The digest of everything.
    pub fn root(&self) -> RangeDigest {
        let mut root = RangeDigest::default();
        for range in &self.ranges {
            root.combine(range);
        }
        root
    }

    /// The ranges in which `other` is different.
    pub fn differing(&self, other: &RangeDigests) -> Vec<usize> {
        (0..RANGES)
            .filter(|&range| self.ranges[range] != other.ranges[range])
            .collect()
    }
}

fn replica_digest(hash: &ContentHash, generation: Generation) -> u128 {
    let mut input = [0u8; 40];
    input[..32].copy_from_slice(hash.as_bytes());
    input[32..].copy_from_slice(&generation.0.to_be_bytes());
    let digest = blake3::hash(&input);
    let mut half = [0u8; 16];
    half.copy_from_slice(&digest.as_bytes()[..16]);
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    proptest! {
        #[test]
        fn the_digest_does_not_depend_on_order_and_removal_takes_back(
            replicas in prop::collection::vec(any::<([u8; 32], u64)>(), 0..40),
            gone in any::<([u8; 32], u64)>(),
        ) {
            let mut forward = RangeDigests::default();
            let mut backward = RangeDigests::default();
            backward.add(&ContentHash::new(gone.0), Generation(gone.1));
            for (hash, generation) in &replicas {
                forward.add(&ContentHash::new(*hash), Generation(*generation));
            }
            for (hash, generation) in replicas.iter().rev() {
                backward.add(&ContentHash::new(*hash), Generation(*generation));
            }
            assert_eq!(forward.differing(&backward), [usize::from(gone.0[0])]);
            backward.remove(&ContentHash::new(gone.0), Generation(gone.1));
            assert_eq!(forward, backward);
            assert_eq!(forward.root(), backward.root());
        }
    }

    #[test]
    fn another_generation_is_another_digest() {
        let (mut old, mut new) = (RangeDigest::default(), RangeDigest::default());
        old.add(&ContentHash::EMPTY, Generation(1));
        new.add(&ContentHash::EMPTY, Generation(2));
        assert_ne!(old, new);
    }

    #[test]
    fn a_digest_survives_the_wire() {
        let mut digest = RangeDigest::default();
        digest.add(&ContentHash::EMPTY, Generation(1));
        let sent = digest.on_wire(7);
        assert_eq!((sent.range, RangeDigest::try_from(&sent)), (7, Ok(digest)));
    }

    #[test]
    fn bounds_hold_exactly_their_range() {
        let (low, high) = range_bounds(0xe3).unwrap();
        assert!(low <= ContentHash::EMPTY && ContentHash::EMPTY <= high);
        assert_eq!((hash_range(&low), hash_range(&high)), (0xe3, 0xe3));
        assert_eq!(range_bounds(256), None);
    }
}
