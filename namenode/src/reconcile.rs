//! [`compare`]: one page of a full report against what the namenode believes. Pure.
//!
//! The answer changes nothing here: it makes the datanode journal what is missing, so that every change comes through
//! the one path that counts each event exactly once (I10), and none is taken from a list that was old when it arrived.

use std::cmp::Ordering;

use richardstore_proto::ReplicaEntry;

/// What the datanode is to do about a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Journal these additions again: unknown here, or known with an older generation.
    pub announce: Vec<ReplicaEntry>,
    /// Look again: believed here, and not listed, or listed with an older generation.
    pub recheck: Vec<ReplicaEntry>,
}

/// Merges two lists in ascending order of hash, each hash at most once in each.
pub fn compare(reported: &[ReplicaEntry], believed: &[ReplicaEntry]) -> Difference {
    let mut difference = Difference::default();
    let (mut reported, mut believed) = (
        reported.iter().copied().peekable(),
        believed.iter().copied().peekable(),
    );
    loop {
        let order = match (reported.peek(), believed.peek()) {
            (Some(theirs), Some(ours)) => theirs.hash.cmp(&ours.hash),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return difference,
        };
        match order {
            Ordering::Less => difference.announce.extend(reported.next()),
            Ordering::Greater => difference.recheck.extend(believed.next()),
            Ordering::Equal => {
                let (theirs, ours) = (reported.next(), believed.next());
                match theirs
                    .map(|entry| entry.generation)
                    .cmp(&ours.map(|entry| entry.generation))
                {
                    Ordering::Equal => {}
                    Ordering::Greater => difference.announce.extend(theirs),
                    Ordering::Less => difference.recheck.extend(ours),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, proptest};
    use richardstore_proto::{ContentHash, Generation};
    use std::collections::BTreeMap;

    fn entry(byte: u8, generation: u64) -> ReplicaEntry {
        ReplicaEntry {
            hash: ContentHash::new([byte; 32]),
            generation: Generation(generation),
        }
    }

    #[test]
    fn equal_lists_ask_for_nothing() {
        let page = [entry(1, 5), entry(2, 6)];
        assert_eq!(compare(&page, &page), Difference::default());
    }

    #[test]
    fn the_unknown_is_announced_and_the_missing_rechecked() {
        let difference = compare(
            &[entry(1, 1), entry(3, 3), entry(4, 9)],
            &[entry(2, 2), entry(3, 3), entry(4, 4), entry(5, 5)],
        );
        assert_eq!(difference.announce, [entry(1, 1), entry(4, 9)]);
        assert_eq!(difference.recheck, [entry(2, 2), entry(5, 5)]);
    }

    #[test]
    fn a_replica_older_than_believed_is_looked_at_again() {
        let difference = compare(&[entry(1, 3)], &[entry(1, 7)]);
        assert_eq!(difference.announce, []);
        assert_eq!(difference.recheck, [entry(1, 7)]);
    }

    fn any_page() -> impl Strategy<Value = BTreeMap<u8, u64>> {
        prop::collection::btree_map(any::<u8>(), 1u64..4, 0..20)
    }

    proptest! {
        #[test]
        fn every_difference_is_asked_about_exactly_once(theirs in any_page(), ours in any_page()) {
            let page = |map: &BTreeMap<u8, u64>| -> Vec<_> {
                map.iter().map(|(&byte, &generation)| entry(byte, generation)).collect()
            };
            let difference = compare(&page(&theirs), &page(&ours));
            let differing = (0..=u8::MAX).filter(|byte| theirs.get(byte) != ours.get(byte)).count();
            assert_eq!(difference.announce.len() + difference.recheck.len(), differing);
        }
    }
}
