//! [`Misplaced`]: which files lie in one rack only, although there are others. Pure, soft and bounded.
//!
//! Nothing in the tables tells it, since racks are the nodes' and change with them. So all files are looked through, a page at
//! a time, and only while there is more than one rack and the nodes have been the same for a while: a rack that comes and
//! goes must not move files back and forth. A file in two racks is in place, so that a move is never undone by another one.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use super::case::Case;
use super::plan::Nodes;
use super::sweep::Sweep;
use super::turn::Turn;
use crate::record::NodeIndex;

/// Files that are remembered. The walk waits while they are so many: those behind it are not forgotten, only found later.
const MAX_FOUND: usize = 32_768;

/// The racks that a file could be in: those of nodes that count and are there.
pub fn racks_in_use(nodes: &Nodes) -> BTreeSet<String> {
    nodes
        .values()
        .filter(|node| node.is_trusted())
        .map(|node| node.candidate.rack.clone())
        .collect()
}

/// The rack of all good replicas of a file that has as many as it should and could be in another of `racks` too. `None` also
/// where a replica is doubted: whoever wants to move a file has to know where it is.
pub fn only_rack(case: &Case, nodes: &Nodes, racks: &BTreeSet<String>) -> Option<String> {
    if racks.len() < 2 || case.replication < 2 {
        return None;
    }
    let mut rack: Option<&str> = None;
    let mut good = 0;
    for holding in &case.holdings {
        if holding.suspect || holding.unsettled {
            return None;
        }
        let Some(node) = nodes.get(&holding.node).filter(|node| node.counts()) else {
            continue;
        };
        if !node.is_trusted() || rack.is_some_and(|rack| rack != node.candidate.rack) {
            return None;
        }
        rack = Some(&node.candidate.rack);
        good += 1;
    }
    rack.filter(|_| good >= case.replication).map(str::to_owned)
}

/// The files found, and how far the walk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misplaced {
    layout: BTreeMap<NodeIndex, String>,
    settled_from_ms: u64,
    walk: Sweep<ContentHash>,
    checked: bool,
    found: BTreeSet<ContentHash>,
    turn: Turn<ContentHash>,
}

impl Misplaced {
    /// Takes in the nodes. When they or their racks are others than before, the walk begins anew after `settle_ms`.
    pub fn observe(&mut self, nodes: &Nodes, settle_ms: u64, now_ms: u64) {
        let counting = nodes.iter().filter(|(_, node)| node.counts());
        let layout: BTreeMap<NodeIndex, String> = counting
            .map(|(index, node)| (*index, node.candidate.rack.clone()))
            .collect();
        if layout != self.layout {
            *self = Self {
                settled_from_ms: now_ms.saturating_add(settle_ms),
                // What was found is looked at again in its turn.
                found: std::mem::take(&mut self.found),
                layout,
                ..Self::default()
            };
        }
        if self.is_one_rack() {
            self.found.clear();
            self.checked = true;
        }
    }

    /// Where the walk goes on; `None` while it rests, or waits for the nodes to settle or for moves to be made.
    #[allow(clippy::option_option)] // "rests" and "from the beginning" are different answers
    pub fn position(&mut self, now_ms: u64) -> Option<Option<ContentHash>> {
        let waits =
            self.is_one_rack() || now_ms < self.settled_from_ms || self.found.len() >= MAX_FOUND;
        (!waits).then(|| self.walk.position(true, now_ms)).flatten()
    }

    /// A page was walked up to `last`; `full` where there may be more behind it.
    pub fn walked(&mut self, last: Option<ContentHash>, full: bool, now_ms: u64) {
        self.checked |= !full;
        self.walk.advance(last, full, now_ms);
    }

    /// The file was looked at.
    pub fn note(&mut self, hash: ContentHash, misplaced: bool) {
        if !misplaced {
            self.found.remove(&hash);
        } else if self.found.len() < MAX_FOUND {
            self.found.insert(hash);
        }
    }

    /// At most `limit` of the files found, each in its turn; none before the nodes have settled.
    pub fn turn(&mut self, limit: usize, now_ms: u64) -> Vec<ContentHash> {
        if now_ms < self.settled_from_ms {
            return Vec::new();
        }
        self.turn.next(&self.found, None, limit)
    }

    /// How many are known, and whether all files were looked through since the nodes last changed.
    pub fn count(&self) -> (usize, bool) {
        (self.found.len(), self.checked)
    }

    fn is_one_rack(&self) -> bool {
        let mut racks = self.layout.values();
        let first = racks.next();
        racks.all(|rack| Some(rack) == first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{in_rack, live, nodes};
    use super::*;

    fn file(number: u32) -> ContentHash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ContentHash::new(bytes)
    }

    fn racks(names: &[&str]) -> Nodes {
        nodes(
            (1..)
                .zip(names)
                .map(|(index, rack)| in_rack(rack, live(index))),
        )
    }

    #[test]
    fn in_one_rack_nothing_is_misplaced_and_nothing_is_looked_through() {
        let mut misplaced = Misplaced::default();
        misplaced.observe(&racks(&["a", "a"]), 30, 0);
        assert_eq!(misplaced.position(1_000), None);
        assert_eq!(misplaced.count(), (0, true));
    }

    #[test]
    fn a_change_of_racks_is_looked_into_once_it_has_lasted() {
        let mut misplaced = Misplaced::default();
        let two = racks(&["a", "b"]);
        misplaced.observe(&two, 30, 100);
        assert_eq!(misplaced.position(129), None);
        assert_eq!(misplaced.position(130), Some(None));
        misplaced.walked(Some(file(5)), true, 130);
        misplaced.observe(&two, 30, 140);
        assert_eq!(misplaced.position(140), Some(Some(file(5))));
        assert_eq!(misplaced.count(), (0, false));
        misplaced.walked(None, false, 140);
        assert_eq!(misplaced.count(), (0, true));
        misplaced.observe(&racks(&["a", "b", "b"]), 30, 150);
        assert_eq!(
            (misplaced.position(179), misplaced.count()),
            (None, (0, false))
        );
        assert_eq!(misplaced.position(180), Some(None));
    }

    #[test]
    fn files_found_take_turns_and_go_when_they_are_in_place() {
        let mut misplaced = Misplaced::default();
        misplaced.observe(&racks(&["a", "b"]), 0, 0);
        for number in 1..=3 {
            misplaced.note(file(number), true);
        }
        assert_eq!(misplaced.turn(2, 0), [file(1), file(2)]);
        assert_eq!(misplaced.turn(2, 0), [file(3)]);
        misplaced.note(file(1), false);
        assert_eq!(misplaced.turn(9, 0), []);
        assert_eq!(misplaced.turn(9, 0), [file(2), file(3)]);
        misplaced.observe(&racks(&["a"]), 0, 0);
        assert_eq!(misplaced.count(), (0, true));
    }

    #[test]
    fn i11_the_walk_waits_while_it_has_found_as_much_as_may_be_remembered() {
        let mut misplaced = Misplaced::default();
        misplaced.observe(&racks(&["a", "b"]), 0, 0);
        for number in 0..u32::try_from(MAX_FOUND + 9).unwrap() {
            misplaced.note(file(number), true);
        }
        assert_eq!(misplaced.count(), (MAX_FOUND, false));
        assert_eq!(misplaced.position(0), None);
        misplaced.note(file(0), false);
        assert_eq!(misplaced.position(0), Some(None));
    }
}
