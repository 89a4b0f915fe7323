//! [`place`]: which datanodes get the replicas of a new file. Pure: the same candidates and seed give the same chain.
//!
//! Never chosen: a node that is not live, has not registered in this epoch, takes no writes, is being emptied, lacks the
//! room, or is excluded by the caller. Among the rest each step takes the best [`Score`]: a rack the chain does not use
//! yet, then the least load for the room there is, then a pseudo-random order that changes with the seed. The last
//! spreads the copies of one node over all others, so that all of them can help when it is lost.

use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::{MAX_WHOLE_BYTES, NodeState};

use crate::record::NodeIndex;

/// Room a node must have for a file whose size nobody knows yet, in bytes. The node itself refuses what does not fit.
pub const ROOM_FOR_UNKNOWN_SIZE: u64 = 1 << 20;

/// A datanode as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub index: NodeIndex,
    /// Its failure domain; empty is a domain like any other.
    pub rack: String,
    /// How it is doing.
    pub state: NodeState,
    /// It registered since the namenode started, so that its statistics are real.
    pub registered: bool,
    /// It takes no writes.
    pub read_only: bool,
    /// Bytes that may still be written, less what was promised and is not in its statistics yet.
    pub available_bytes: u64,
    /// Writes under way or just placed there.
    pub load: u64,
}

/// What a file needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Nodes.
    pub count: usize,
    /// Bytes on each; 0 is unknown.
    pub bytes: u64,
    /// Rotates among equals: the write's generation.
    pub seed: u64,
}

/// Smaller is better; the order of the fields is the order of their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    copies_in_rack: usize,
    pressure: u64,
    turn: u64,
    index: NodeIndex,
}

/// The chain for `wanted`, first node first; shorter than asked for where there are not enough nodes.
pub fn place(
    candidates: &[Candidate],
    wanted: Wanted,
    excluded: &BTreeSet<NodeIndex>,
) -> Vec<NodeIndex> {
    place_beside(candidates, wanted, excluded, &[])
}

/// As [`place`], for a file that has replicas in `racks` already, one entry each.
pub fn place_beside(
    candidates: &[Candidate],
    wanted: Wanted,
    excluded: &BTreeSet<NodeIndex>,
    racks: &[&str],
) -> Vec<NodeIndex> {
    let mut open: Vec<&Candidate> = candidates
        .iter()
        .filter(|node| takes(node, wanted.bytes) && !excluded.contains(&node.index))
        .collect();
    let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
    for rack in racks {
        *copies.entry(rack).or_default() += 1;
    }
    let mut chain = Vec::with_capacity(wanted.count.min(open.len()));
    while chain.len() < wanted.count {
        let best = open
            .iter()
            .enumerate()
            .min_by_key(|(_, node)| score(node, &copies, wanted.seed))
            .map(|(at, _)| at);
        let Some(best) = best else { break };
        let node = open.swap_remove(best);
        *copies.entry(&node.rack).or_default() += 1;
        chain.push(node.index);
    }
    chain
}

/// Whether a small file takes the chain of the one before it that is placed in the same call: going down one chain, they share
/// messages, where a chain for each would be a message for each on each hop.
pub fn go_together(
    before: &Wanted,
    wanted: &Wanted,
    chain: &[NodeIndex],
    candidates: &[Candidate],
) -> bool {
    let small = (1..=MAX_WHOLE_BYTES as u64).contains(&wanted.bytes);
    let still_takes = |index: &NodeIndex| {
        let mut nodes = candidates.iter();
        nodes.any(|node| node.index == *index && takes(node, wanted.bytes))
    };
    small
        && before.bytes == wanted.bytes
        && before.count == wanted.count
        && chain.iter().all(still_takes)
}

/// Why a write cannot be placed on enough nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The nodes are there, their disks are full or take no writes.
    Room {
        /// Nodes that would take it.
        fit: usize,
    },
    /// Too few nodes are there.
    Nodes {
        /// Nodes that would take it.
        fit: usize,
    },
}

/// Whether fewer than `needed` nodes would take a write of `bytes` (0 is unknown), and what there is too little of.
pub fn shortage(
    candidates: &[Candidate],
    bytes: u64,
    excluded: &BTreeSet<NodeIndex>,
    needed: usize,
) -> Option<Shortage> {
    let asked = || {
        candidates
            .iter()
            .filter(|node| !excluded.contains(&node.index))
    };
    let fit = asked().filter(|node| takes(node, bytes)).count();
    if fit >= needed {
        return None;
    }
    let there = asked()
        .filter(|node| node.state == NodeState::Live && node.registered)
        .count();
    Some(if there >= needed {
        Shortage::Room { fit }
    } else {
        Shortage::Nodes { fit }
    })
}

fn takes(node: &Candidate, bytes: u64) -> bool {
    let room = if bytes == 0 {
        ROOM_FOR_UNKNOWN_SIZE
    } else {
        bytes
    };
    node.state == NodeState::Live
        && node.registered
        && !node.read_only
        && node.available_bytes >= room
}

fn score(node: &Candidate, racks: &BTreeMap<&str, usize>, seed: u64) -> Score {
    Score {
        copies_in_rack: racks.get(node.rack.as_str()).copied().unwrap_or(0),
        pressure: pressure(node.load, node.available_bytes),
        turn: mix(seed ^ mix(u64::from(node.index.0))),
        index: node.index,
    }
}

/// Load relative to room, kept to its three leading bits: nodes within some 15 % of each other count as equal and take
/// turns, where exact figures would send every file to the emptiest disk.
fn pressure(load: u64, available_bytes: u64) -> u64 {
    let mebibytes = u128::from(available_bytes >> 20).saturating_add(1);
    let exact = ((u128::from(load) + 1) << 40) / mebibytes;
    let exact = u64::try_from(exact).unwrap_or(u64::MAX);
    let drop = (u64::BITS - exact.leading_zeros()).saturating_sub(3);
    exact >> drop << drop
}

/// The finalizer of splitmix64: neighbouring seeds give unrelated orders.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    fn node(index: u32) -> Candidate {
        Candidate {
            index: NodeIndex(index),
            rack: String::new(),
            state: NodeState::Live,
            registered: true,
            read_only: false,
            available_bytes: 100 << 30,
            load: 0,
        }
    }

    fn wanted(count: usize, seed: u64) -> Wanted {
        Wanted {
            count,
            bytes: 4096,
            seed,
        }
    }

    fn indices(chain: &[NodeIndex]) -> Vec<u32> {
        chain.iter().map(|index| index.0).collect()
    }

    #[test]
    fn only_live_registered_writable_nodes_with_room_are_chosen() {
        let nodes = [
            node(1),
            Candidate {
                state: NodeState::Stale,
                ..node(2)
            },
            Candidate {
                state: NodeState::Dead,
                ..node(3)
            },
            Candidate {
                state: NodeState::Decommissioning,
                ..node(4)
            },
            Candidate {
                registered: false,
                ..node(5)
            },
            Candidate {
                read_only: true,
                ..node(6)
            },
            Candidate {
                available_bytes: 4095,
                ..node(7)
            },
            node(8),
        ];
        let excluded = BTreeSet::from([NodeIndex(8)]);
        assert_eq!(indices(&place(&nodes, wanted(3, 7), &excluded)), [1]);
    }

    #[test]
    fn small_files_go_together_as_long_as_their_nodes_have_room() {
        let nodes = [node(1), node(2)];
        let chain = [NodeIndex(2), NodeIndex(1)];
        let small = wanted(2, 7);
        assert!(go_together(&small, &wanted(2, 8), &chain, &nodes));
        let more = wanted(3, 8);
        assert!(!go_together(&small, &more, &chain, &nodes));
        let large = Wanted {
            bytes: MAX_WHOLE_BYTES as u64 + 1,
            ..small
        };
        assert!(!go_together(&large, &large, &chain, &nodes));
        let unknown = Wanted { bytes: 0, ..small };
        assert!(!go_together(&unknown, &unknown, &chain, &nodes));
        let full = [
            node(1),
            Candidate {
                available_bytes: 1,
                ..node(2)
            },
        ];
        assert!(!go_together(&small, &small, &chain, &full));
    }

    #[test]
    fn a_second_copy_goes_to_another_rack_even_when_that_one_is_busier() {
        let nodes = [
            Candidate {
                rack: "a".into(),
                ..node(1)
            },
            Candidate {
                rack: "a".into(),
                ..node(2)
            },
            Candidate {
                rack: "b".into(),
                load: 50,
                ..node(3)
            },
        ];
        for seed in 0..32 {
            let chain = indices(&place(&nodes, wanted(2, seed), &BTreeSet::new()));
            assert!(chain[0] < 3 && chain[1] == 3, "{chain:?}");
        }
    }

    #[test]
    fn load_counts_relative_to_room() {
        let small_idle = Candidate {
            available_bytes: 10 << 30,
            ..node(1)
        };
        let large_busy = Candidate { load: 3, ..node(2) };
        let chain = place(&[small_idle, large_busy], wanted(1, 0), &BTreeSet::new());
        assert_eq!(indices(&chain), [2]);
    }

    #[test]
    fn equal_nodes_take_turns_as_head_and_as_partners() {
        let nodes: Vec<_> = (0..6).map(node).collect();
        let mut heads = BTreeMap::new();
        let mut pairs = BTreeSet::new();
        for seed in 0..600 {
            let chain = indices(&place(&nodes, wanted(2, seed), &BTreeSet::new()));
            *heads.entry(chain[0]).or_insert(0) += 1;
            pairs.insert((chain[0].min(chain[1]), chain[0].max(chain[1])));
        }
        assert!(
            heads.values().all(|&count| (60..140).contains(&count)),
            "{heads:?}"
        );
        assert_eq!(pairs.len(), 15, "every pair of nodes shares some files");
    }

    #[test]
    fn a_full_node_takes_no_file_of_unknown_size() {
        let nodes = [Candidate {
            available_bytes: ROOM_FOR_UNKNOWN_SIZE - 1,
            ..node(1)
        }];
        let unknown = Wanted {
            bytes: 0,
            ..wanted(1, 0)
        };
        assert!(place(&nodes, unknown, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn full_disks_are_told_from_missing_nodes() {
        let full = Candidate {
            available_bytes: 10,
            ..node(1)
        };
        let away = Candidate {
            state: NodeState::Dead,
            ..node(2)
        };
        let none = BTreeSet::new();
        let judge = |nodes: &[Candidate]| shortage(nodes, 4096, &none, 2);
        assert_eq!(judge(&[node(3), node(4)]), None);
        let room = Some(Shortage::Room { fit: 1 });
        assert_eq!(judge(&[node(3), full.clone()]), room);
        assert_eq!(judge(&[full, away]), Some(Shortage::Nodes { fit: 0 }));
    }

    fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (
            select(vec!["", "a", "b", "c"]),
            select(vec![
                NodeState::Live,
                NodeState::Live,
                NodeState::Live,
                NodeState::Stale,
                NodeState::Dead,
                NodeState::Decommissioning,
            ]),
            prop::bool::weighted(0.9),
            prop::bool::weighted(0.1),
            any::<u64>(),
            0..1000u64,
        );
        prop::collection::vec(one, 0..24).prop_map(|nodes| {
            (0u32..)
                .zip(nodes)
                .map(
                    |(index, (rack, state, registered, read_only, available_bytes, load))| {
                        Candidate {
                            index: NodeIndex(index),
                            rack: rack.to_owned(),
                            state,
                            registered,
                            read_only,
                            available_bytes,
                            load,
                        }
                    },
                )
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_chain_has_no_duplicate_no_unfit_node_and_as_many_racks_as_it_can(
            nodes in any_candidates(),
            count in 0usize..8,
            bytes in any::<u64>(),
            seed in any::<u64>(),
            excluded in prop::collection::btree_set((0u32..24).prop_map(NodeIndex), 0..6),
        ) {
            let wanted = Wanted { count, bytes, seed };
            let chain = place(&nodes, wanted, &excluded);
            let fit: Vec<&Candidate> = nodes
                .iter()
                .filter(|node| takes(node, bytes) && !excluded.contains(&node.index))
                .collect();
            prop_assert_eq!(chain.len(), count.min(fit.len()));
            let unique: BTreeSet<_> = chain.iter().copied().collect();
            prop_assert_eq!(unique.len(), chain.len());
            let chosen: Vec<&Candidate> = fit
                .iter()
                .copied()
                .filter(|node| unique.contains(&node.index))
                .collect();
            prop_assert_eq!(chosen.len(), chain.len());
            for node in &chosen {
                prop_assert_eq!(node.state, NodeState::Live);
                prop_assert!(node.registered && !node.read_only);
            }
            let racks = |nodes: &[&Candidate]| {
                nodes.iter().map(|node| node.rack.clone()).collect::<BTreeSet<_>>().len()
            };
            prop_assert_eq!(racks(&chosen), racks(&fit).min(chain.len()));
            prop_assert_eq!(place(&nodes, wanted, &excluded), chain);
        }
    }
}
