//! [`order`]: in which order a reader asks the nodes that hold a file. Pure.

use richardstore_proto::NodeState;

use crate::record::NodeIndex;

/// A node that holds the file, as a reader's choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub index: NodeIndex,
    /// How it is doing.
    pub state: NodeState,
    /// It registered since the namenode started.
    pub registered: bool,
    /// Somebody reported its replica as bad.
    pub suspect: bool,
    /// Reads under way there.
    pub active_reads: u32,
}

/// Smaller is asked earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    dead: bool,
    suspect: bool,
    state: NodeState,
    unregistered: bool,
    load: u32,
}

/// Whom a reader asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOrder {
    /// The holders, best first.
    pub nodes: Vec<NodeIndex>,
    /// So many of the first are equally good.
    pub equal: usize,
}

/// The holders, best first. Among equals `seed` rotates the start. A dead node is left out while a good one can answer;
/// with none left it is still worth the try.
pub fn order(holders: &[Holder], seed: u64) -> ReadOrder {
    let one_is_good = holders
        .iter()
        .any(|holder| holder.state != NodeState::Dead && !holder.suspect);
    let mut scored: Vec<(Score, usize, NodeIndex)> = holders
        .iter()
        .enumerate()
        .filter(|(_, holder)| !one_is_good || holder.state != NodeState::Dead)
        .map(|(at, holder)| (score(holder), turn(at, holders.len(), seed), holder.index))
        .collect();
    scored.sort_unstable();
    let best = scored.first().map(|(score, ..)| *score);
    let as_good = scored.iter().take_while(|(score, ..)| Some(*score) == best);
    ReadOrder {
        equal: as_good.count(),
        nodes: scored.into_iter().map(|(.., index)| index).collect(),
    }
}

fn score(holder: &Holder) -> Score {
    Score {
        dead: holder.state == NodeState::Dead,
        suspect: holder.suspect,
        state: holder.state,
        unregistered: !holder.registered,
        // Powers of two: the figure is a heartbeat old, so small differences are noise and would make a herd.
        load: u32::BITS - (holder.active_reads / 4).leading_zeros(),
    }
}

fn turn(at: usize, count: usize, seed: u64) -> usize {
    let count = count.max(1);
    let start = usize::try_from(seed % u64::try_from(count).unwrap_or(u64::MAX)).unwrap_or(0);
    (at + count - start) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    fn holder(index: u32, state: NodeState) -> Holder {
        Holder {
            index: NodeIndex(index),
            state,
            registered: true,
            suspect: false,
            active_reads: 0,
        }
    }

    fn asked(holders: &[Holder], seed: u64) -> Vec<u32> {
        let nodes = order(holders, seed).nodes;
        nodes.iter().map(|index| index.0).collect()
    }

    fn equal(holders: &[Holder]) -> usize {
        order(holders, 0).equal
    }

    #[test]
    fn equal_holders_take_turns() {
        let holders = [1, 2, 3].map(|index| holder(index, NodeState::Live));
        assert_eq!(asked(&holders, 0), [1, 2, 3]);
        assert_eq!(asked(&holders, 1), [2, 3, 1]);
        assert_eq!(asked(&holders, 2), [3, 1, 2]);
        assert_eq!(asked(&holders, 3), [1, 2, 3]);
        assert_eq!(equal(&holders), 3);
    }

    #[test]
    fn stale_nodes_come_after_live_ones_and_dead_ones_are_left_out() {
        let holders = [
            holder(1, NodeState::Dead),
            holder(2, NodeState::Stale),
            holder(3, NodeState::Decommissioning),
            holder(4, NodeState::Live),
        ];
        assert_eq!(asked(&holders, 0), [4, 3, 2]);
        assert_eq!(equal(&holders), 1);
    }

    #[test]
    fn a_dead_node_is_offered_when_it_is_all_there_is() {
        assert_eq!(asked(&[holder(1, NodeState::Dead)], 0), [1]);
    }

    #[test]
    fn a_suspect_replica_comes_last_of_the_living() {
        let holders = [
            Holder {
                suspect: true,
                ..holder(1, NodeState::Live)
            },
            holder(2, NodeState::Stale),
            holder(3, NodeState::Dead),
        ];
        assert_eq!(asked(&holders, 0), [2, 1]);
        assert_eq!(asked(&[holders[0], holders[2]], 0), [1, 3]);
    }

    #[test]
    fn a_clearly_busier_node_waits_and_a_slightly_busier_one_does_not() {
        let mut holders = [holder(1, NodeState::Live), holder(2, NodeState::Live)];
        holders[0].active_reads = 3;
        assert_eq!(asked(&holders, 0), [1, 2]);
        holders[0].active_reads = 40;
        assert_eq!(asked(&holders, 0), [2, 1]);
    }

    proptest! {
        #[test]
        fn every_good_holder_is_offered_once_and_before_all_others(
            nodes in prop::collection::vec((0usize..5, any::<bool>(), any::<u32>()), 0..12),
            seed in any::<u64>(),
        ) {
            let states = [
                NodeState::Live,
                NodeState::Decommissioning,
                NodeState::Decommissioned,
                NodeState::Stale,
                NodeState::Dead,
            ];
            let holders: Vec<Holder> = (0..)
                .zip(nodes)
                .map(|(index, (state, suspect, active_reads))| Holder {
                    suspect,
                    active_reads,
                    ..holder(index, states[state])
                })
                .collect();
            let good = |index: &u32| {
                let found = holders.iter().find(|holder| holder.index.0 == *index).unwrap();
                found.state != NodeState::Dead && !found.suspect
            };
            let asked = asked(&holders, seed);
            let unique: BTreeSet<&u32> = asked.iter().collect();
            prop_assert_eq!(unique.len(), asked.len());
            let all_good = (0..).take(holders.len()).filter(good).count();
            prop_assert_eq!(asked.iter().take_while(|index| good(index)).count(), all_good);
            prop_assert_eq!(asked.is_empty(), holders.is_empty());
        }
    }

    #[test]
    fn no_holder_is_no_order() {
        assert_eq!(asked(&[], 9), [0u32; 0]);
        assert_eq!(equal(&[]), 0);
    }
}
