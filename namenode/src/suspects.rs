//! [`Suspects`]: replicas that somebody reported as bad. Reads ask them last until a repair replaced them. Bounded: the
//! oldest report is forgotten first, since all it costs is one read that goes on elsewhere.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use richardstore_proto::ContentHash;

use crate::record::NodeIndex;

/// Reports remembered.
const MAX_SUSPECTS: usize = 16_384;

/// A bounded set of (hash, node).
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    members: BTreeSet<(ContentHash, NodeIndex)>,
    order: VecDeque<(ContentHash, NodeIndex)>,
}

impl Suspects {
    /// Remembers a report. `false` when it was known.
    pub fn add(&mut self, hash: ContentHash, node: NodeIndex) -> bool {
        if !self.members.insert((hash, node)) {
            return false;
        }
        self.order.push_back((hash, node));
        if self.order.len() > MAX_SUSPECTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
        true
    }

    /// The replica was put aside, or found to be good.
    pub fn remove(&mut self, hash: &ContentHash, node: NodeIndex) {
        // `order` keeps it until it is the oldest there: taking it out would mean a search.
        self.members.remove(&(*hash, node));
    }

    /// Clears the suspects of `hash` on nodes that do not hold it any more.
    pub fn keep_of(&mut self, hash: &ContentHash, held: impl Fn(NodeIndex) -> bool) {
        let of_hash = (*hash, NodeIndex(0))..=(*hash, NodeIndex(u32::MAX));
        let gone: Vec<_> = self
            .members
            .range(of_hash)
            .filter(|(_, node)| !held(*node))
            .copied()
            .collect();
        for member in gone {
            self.members.remove(&member);
        }
    }

    /// At most `limit` hashes of suspects, ascending, from the one behind `after`.
    pub fn page(&self, after: Option<ContentHash>, limit: usize) -> Vec<ContentHash> {
        let start = match after {
            Some(after) => Bound::Excluded((after, NodeIndex(u32::MAX))),
            None => Bound::Unbounded,
        };
        let mut page: Vec<ContentHash> = self
            .members
            .range((start, Bound::Unbounded))
            .map(|(hash, _)| *hash)
            .take(limit)
            .collect();
        page.dedup();
        page
    }

    /// Whether the replica of `hash` on `node` was reported.
    pub fn contains(&self, hash: &ContentHash, node: NodeIndex) -> bool {
        self.members.contains(&(*hash, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> ContentHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ContentHash::new(bytes)
    }

    #[test]
    fn i11_only_the_newest_reports_are_remembered() {
        let mut suspects = Suspects::default();
        for number in 0..=MAX_SUSPECTS {
            assert!(suspects.add(hash(number), NodeIndex(1)));
        }
        assert!(!suspects.contains(&hash(0), NodeIndex(1)));
        assert!(suspects.contains(&hash(1), NodeIndex(1)));
        assert_eq!(suspects.members.len(), MAX_SUSPECTS);
    }

    #[test]
    fn suspects_are_listed_until_they_are_cleared() {
        let mut suspects = Suspects::default();
        suspects.add(hash(1), NodeIndex(1));
        suspects.add(hash(1), NodeIndex(2));
        suspects.add(hash(9), NodeIndex(2));
        assert_eq!(suspects.page(None, 9).len(), 2);
        assert_eq!(suspects.page(Some(hash(1)), 9), [hash(9)]);
        suspects.remove(&hash(9), NodeIndex(2));
        assert!(suspects.page(Some(hash(1)), 9).is_empty());
        assert!(suspects.add(hash(9), NodeIndex(2)), "reported anew");
    }

    #[test]
    fn a_report_is_about_one_node_and_counts_once() {
        let mut suspects = Suspects::default();
        assert!(suspects.add(hash(1), NodeIndex(1)));
        assert!(!suspects.add(hash(1), NodeIndex(1)));
        assert!(!suspects.contains(&hash(1), NodeIndex(2)));
    }
}
