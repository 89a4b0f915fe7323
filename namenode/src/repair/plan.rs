//! [`plan`]: which commands the files at hand need. Pure: the same cases and nodes give the same commands.
//!
//! The file with the fewest good replicas comes first. A good replica is one on a node that is live or stale and that
//! nobody reported as bad. A file gets one command at a time, so each is judged by what the ones before it led to:
//! - too few good replicas: copy from the least busy node that has one, to other nodes and, where possible, other racks;
//! - enough of them, or nowhere to put more, and a bad one: have its node look at it and put it aside;
//! - more than the target on nodes whose reports are fresh: trim one where the rack is most crowded, then the disk fullest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use richardstore_proto::ContentHash;

use super::case::{Case, Holding, Limits, RepairNode};
use crate::placement::{Candidate, Wanted, place_beside};
use crate::record::{CommandRecordAction, FileRecord, NodeIndex};

/// The nodes by number.
pub type Nodes = BTreeMap<NodeIndex, RepairNode>;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// For whom, and what.
    pub commands: Vec<(NodeIndex, CommandRecordAction)>,
    /// Files that are short and only wait for their turn, with the good replicas they have.
    pub waiting: Vec<(usize, ContentHash)>,
}

/// Plans at most `room` commands for `cases`, and charges the nodes with them.
pub fn plan(mut cases: Vec<Case>, nodes: &mut Nodes, room: usize, limits: Limits) -> Plan {
    cases.sort_by_cached_key(|case| (good(case, nodes).len().min(case.replication), case.hash));
    cases.dedup_by_key(|case| case.hash);
    let mut plan = Plan::default();
    for case in &cases {
        let good = good(case, nodes);
        let full = plan.commands.len() >= room;
        if good.len() >= case.replication {
            let command = quarantine(case, &good, nodes).or_else(|| trim(case, nodes));
            plan.commands.extend(command.filter(|_| !full));
            continue;
        }
        let copy = if full {
            Copy::Later
        } else {
            copy(case, &good, nodes, limits)
        };
        match copy {
            Copy::Now { source, targets } => {
                charge(nodes, case.size, source, &targets);
                let hash = case.hash;
                let action = CommandRecordAction::Replicate { hash, targets };
                plan.commands.push((source, action));
            }
            Copy::Later => plan.waiting.push((good.len(), case.hash)),
            // With nowhere else to go, the place that the bad replica takes is the one to use.
            Copy::Never => plan.commands.extend(quarantine(case, &good, nodes)),
        }
    }
    plan
}

/// Whether a trim or quarantine of the replica on `node` may still be carried out: the others that it relied on are on
/// record and `stands` says that each still stands.
pub fn still_safe(
    action: &CommandRecordAction,
    node: NodeIndex,
    file: &FileRecord,
    stands: impl Fn(NodeIndex) -> bool,
) -> bool {
    let (keep, least) = match action {
        CommandRecordAction::Trim { keep, .. } => (keep, file.replication.max(1)),
        CommandRecordAction::Quarantine { keep, .. } => (keep, 1),
        CommandRecordAction::Delete { .. } | CommandRecordAction::Replicate { .. } => return true,
    };
    let standing = keep
        .iter()
        .filter(|keeper| **keeper != node && file.replica(**keeper).is_some() && stands(**keeper))
        .count();
    standing >= usize::try_from(least).unwrap_or(usize::MAX)
}

fn good<'a>(case: &'a Case, nodes: &Nodes) -> Vec<&'a Holding> {
    let counts = |holding: &&Holding| {
        !holding.suspect && nodes.get(&holding.node).is_some_and(RepairNode::counts)
    };
    case.holdings.iter().filter(counts).collect()
}

enum Copy {
    Now {
        source: NodeIndex,
        targets: Vec<NodeIndex>,
    },
    /// The nodes that could have enough to do.
    Later,
    /// Nobody can send it, or nobody can take it.
    Never,
}

fn copy(case: &Case, good: &[&Holding], nodes: &Nodes, limits: Limits) -> Copy {
    let senders = sources(case, nodes);
    if senders.is_empty() {
        return Copy::Never;
    }
    let candidates: Vec<Candidate> = nodes.values().map(RepairNode::as_target).collect();
    let wanted = Wanted {
        count: case.replication - good.len(),
        bytes: case.size,
        seed: case.generation.0,
    };
    let racks: Vec<&str> = good
        .iter()
        .filter_map(|holding| nodes.get(&holding.node))
        .map(|node| node.candidate.rack.as_str())
        .collect();
    // A node that is on record never gets another one: a bad replica would only be said to be there already.
    let mut excluded: BTreeSet<NodeIndex> =
        case.holdings.iter().map(|holding| holding.node).collect();
    if place_beside(&candidates, wanted, &excluded, &racks).is_empty() {
        return Copy::Never;
    }
    let has_room = |node: &RepairNode| node.has_room(case.size, limits);
    let Some(source) = senders
        .into_iter()
        .find(|index| nodes.get(index).is_some_and(has_room))
    else {
        return Copy::Later;
    };
    let busy = nodes.iter().filter(|(_, node)| !has_room(node));
    excluded.extend(busy.map(|(index, _)| *index));
    let with_avoided: BTreeSet<NodeIndex> = excluded.union(&case.avoid).copied().collect();
    let mut targets = place_beside(&candidates, wanted, &with_avoided, &racks);
    if targets.is_empty() {
        targets = place_beside(&candidates, wanted, &excluded, &racks);
    }
    if targets.is_empty() {
        return Copy::Later;
    }
    Copy::Now { source, targets }
}

/// Who can send it, best first. A replica that was reported as bad is the last choice, and no danger: its node verifies
/// what it sends, and a report may be wrong.
fn sources(case: &Case, nodes: &Nodes) -> Vec<NodeIndex> {
    let mut sources: Vec<_> = case
        .holdings
        .iter()
        .filter_map(|holding| Some((holding, nodes.get(&holding.node)?)))
        .filter(|(_, node)| node.takes_commands())
        .map(|(holding, node)| {
            let doubtful = holding.suspect || holding.unsettled;
            let load = node.active_reads.saturating_add(streams(node));
            let avoided = case.avoid.contains(&holding.node);
            (doubtful, avoided, load, holding.node)
        })
        .collect();
    sources.sort_unstable();
    sources.into_iter().map(|(.., index)| index).collect()
}

fn streams(node: &RepairNode) -> u64 {
    u64::try_from(node.streams).unwrap_or(u64::MAX)
}

fn charge(nodes: &mut Nodes, bytes: u64, source: NodeIndex, targets: &[NodeIndex]) {
    for index in std::iter::once(&source).chain(targets) {
        if let Some(node) = nodes.get_mut(index) {
            node.charge(bytes, *index != source);
            node.spend(bytes);
        }
    }
}

fn quarantine(
    case: &Case,
    good: &[&Holding],
    nodes: &Nodes,
) -> Option<(NodeIndex, CommandRecordAction)> {
    let takes_commands = |holding: &&Holding| {
        nodes
            .get(&holding.node)
            .is_some_and(RepairNode::takes_commands)
    };
    let keep: Vec<NodeIndex> = good
        .iter()
        .copied()
        .filter(|holding| !holding.unsettled && takes_commands(holding))
        .map(|holding| holding.node)
        .collect();
    if keep.is_empty() {
        // Perhaps the last copy, and perhaps only the report is wrong.
        return None;
    }
    let bad = case
        .holdings
        .iter()
        .filter(|holding| holding.suspect && !holding.unsettled)
        .find(takes_commands)?;
    let action = CommandRecordAction::Quarantine {
        hash: case.hash,
        generation: bad.generation,
        keep,
    };
    Some((bad.node, action))
}

fn trim(case: &Case, nodes: &Nodes) -> Option<(NodeIndex, CommandRecordAction)> {
    let trusted: Vec<(&Holding, &RepairNode)> = case
        .holdings
        .iter()
        .filter(|holding| !holding.suspect && !holding.unsettled)
        .filter_map(|holding| Some((holding, nodes.get(&holding.node)?)))
        .filter(|(_, node)| node.is_trusted())
        .collect();
    if trusted.len() <= case.replication.max(1) {
        return None;
    }
    let mut racks: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, node) in &trusted {
        *racks.entry(&node.candidate.rack).or_default() += 1;
    }
    let (drop, _) = trusted.iter().max_by_key(|(holding, node)| {
        let crowd = racks[node.candidate.rack.as_str()];
        (crowd, Reverse(node.candidate.available_bytes), holding.node)
    })?;
    let action = CommandRecordAction::Trim {
        hash: case.hash,
        generation: drop.generation,
        keep: trusted
            .iter()
            .map(|(holding, _)| holding.node)
            .filter(|node| *node != drop.node)
            .collect(),
    };
    Some((drop.node, action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;
    use richardstore_proto::{Generation, NodeState};

    const LIMITS: Limits = Limits {
        streams: 2,
        stream_bytes: 1_000,
    };

    fn node(index: u32, state: NodeState) -> RepairNode {
        RepairNode {
            candidate: Candidate {
                index: NodeIndex(index),
                rack: String::new(),
                state,
                registered: true,
                read_only: false,
                available_bytes: 100 << 30,
                load: 0,
            },
            draining: matches!(
                state,
                NodeState::Decommissioning | NodeState::Decommissioned
            ),
            fresh: true,
            active_reads: 0,
            streams: 0,
            stream_bytes: 0,
            incoming_bytes: 0,
            allowance_bytes: 1 << 20,
        }
    }

    fn live(index: u32) -> RepairNode {
        node(index, NodeState::Live)
    }

    fn dead(index: u32) -> RepairNode {
        node(index, NodeState::Dead)
    }

    fn in_rack(rack: &str, mut node: RepairNode) -> RepairNode {
        node.candidate.rack = rack.to_owned();
        node
    }

    fn nodes(all: impl IntoIterator<Item = RepairNode>) -> Nodes {
        all.into_iter()
            .map(|node| (node.candidate.index, node))
            .collect()
    }

    fn held(index: u32) -> Holding {
        Holding {
            node: NodeIndex(index),
            generation: Generation(7),
            suspect: false,
            unsettled: false,
        }
    }

    fn bad(index: u32) -> Holding {
        Holding {
            suspect: true,
            ..held(index)
        }
    }

    fn hash(file: u8) -> ContentHash {
        ContentHash::new([file; 32])
    }

    fn case(file: u8, holdings: impl IntoIterator<Item = Holding>) -> Case {
        Case {
            hash: hash(file),
            size: 100,
            replication: 3,
            generation: Generation(7),
            holdings: holdings.into_iter().collect(),
            avoid: BTreeSet::new(),
        }
    }

    fn copies(source: u32, file: u8, targets: &[u32]) -> (NodeIndex, CommandRecordAction) {
        let action = CommandRecordAction::Replicate {
            hash: hash(file),
            targets: targets.iter().map(|index| NodeIndex(*index)).collect(),
        };
        (NodeIndex(source), action)
    }

    fn trims(node: u32, file: u8, keep: &[u32]) -> (NodeIndex, CommandRecordAction) {
        let action = CommandRecordAction::Trim {
            hash: hash(file),
            generation: Generation(7),
            keep: keep.iter().map(|index| NodeIndex(*index)).collect(),
        };
        (NodeIndex(node), action)
    }

    fn quarantines(node: u32, file: u8, keep: &[u32]) -> (NodeIndex, CommandRecordAction) {
        let action = CommandRecordAction::Quarantine {
            hash: hash(file),
            generation: Generation(7),
            keep: keep.iter().map(|index| NodeIndex(*index)).collect(),
        };
        (NodeIndex(node), action)
    }

    fn planned(cases: Vec<Case>, mut nodes: Nodes) -> Vec<(NodeIndex, CommandRecordAction)> {
        plan(cases, &mut nodes, 100, LIMITS).commands
    }

    #[test]
    fn the_copy_of_a_dead_node_is_made_again_from_the_least_busy_holder() {
        let mut busy = live(2);
        busy.active_reads = 5;
        let nodes = nodes([dead(1), busy, live(3), live(4)]);
        let case = case(1, [held(1), held(2), held(3)]);
        assert_eq!(planned(vec![case], nodes), [copies(3, 1, &[4])]);
    }

    #[test]
    fn the_file_with_the_fewest_good_replicas_comes_first() {
        let nodes = nodes([dead(1), dead(2), live(3), live(4), live(5)]);
        let cases = vec![
            case(1, [held(1), held(3), held(4)]),
            case(2, [held(1), held(2), held(3)]),
        ];
        let commands = planned(cases, nodes);
        let CommandRecordAction::Replicate {
            hash: first,
            targets,
        } = &commands[0].1
        else {
            panic!("{commands:?}");
        };
        assert_eq!((*first, targets.len()), (hash(2), 2));
        assert_eq!(commands.len(), 2);
    }

    #[test]
    fn a_stale_node_counts_and_is_neither_source_nor_target() {
        let stale = |index| node(index, NodeState::Stale);
        let all = [stale(1), live(2), live(3), live(4)];
        let whole = case(1, [held(1), held(2), held(3)]);
        assert_eq!(planned(vec![whole], nodes(all.clone())), []);
        let short = case(2, [held(1), held(2)]);
        let commands = planned(vec![short], nodes(all));
        assert_eq!(commands[0].0, NodeIndex(2));
        let alone = nodes([stale(1), live(2), dead(3)]);
        assert_eq!(planned(vec![case(3, [held(1)])], alone), []);
    }

    #[test]
    fn i06_a_node_that_is_emptied_is_a_source_and_counts_for_nothing() {
        let emptied = [NodeState::Decommissioning, NodeState::Decommissioned];
        for state in emptied {
            let all = nodes([node(1, state), live(2), live(3), live(4)]);
            let two_elsewhere = case(1, [held(1), held(2), held(3)]);
            let only_there = case(2, [held(1)]);
            let enough = case(3, [held(1), held(2), held(3), held(4)]);
            let commands = planned(vec![two_elsewhere, only_there, enough], all);
            let [(_, to_all), to_one] = &commands[..] else {
                panic!("{commands:?}");
            };
            let CommandRecordAction::Replicate {
                hash: first,
                targets,
            } = to_all
            else {
                panic!("{to_all:?}");
            };
            assert_eq!((*first, targets.len()), (hash(2), 3));
            assert_eq!(to_one.1, copies(2, 1, &[4]).1);
        }
        let mut silent = node(1, NodeState::Stale);
        silent.draining = true;
        let all = nodes([silent, live(2), live(3), live(4)]);
        let case = case(1, [held(1), held(2), held(3)]);
        assert_eq!(planned(vec![case], all), [copies(2, 1, &[4])]);
    }

    #[test]
    fn a_new_copy_goes_to_a_rack_that_has_none() {
        let nodes = nodes([
            in_rack("a", live(1)),
            in_rack("b", live(2)),
            in_rack("c", dead(3)),
            in_rack("a", live(4)),
            in_rack("b", live(5)),
            in_rack("c", live(6)),
        ]);
        let case = case(1, [held(1), held(2), held(3)]);
        assert_eq!(planned(vec![case], nodes), [copies(1, 1, &[6])]);
    }

    #[test]
    fn what_failed_is_tried_with_others_and_again_when_there_are_none() {
        let avoiding = |avoid: &[u32]| Case {
            avoid: avoid.iter().map(|index| NodeIndex(*index)).collect(),
            ..case(1, [held(1), held(2)])
        };
        let all = || nodes([live(1), live(2), live(3), live(4)]);
        let commands = planned(vec![avoiding(&[1, 3])], all());
        assert_eq!(commands, [copies(2, 1, &[4])]);
        let commands = planned(vec![avoiding(&[1, 2, 3, 4])], all());
        assert_eq!((commands.len(), commands[0].0), (1, NodeIndex(1)));
    }

    #[test]
    fn i11_streams_and_bytes_of_each_node_are_bounded_and_the_rest_waits() {
        let all = || nodes([live(1), live(2), dead(3), live(4)]);
        let cases = || (1..=9).map(|file| case(file, [held(1), held(2), held(3)]));
        let done = plan(cases().collect(), &mut all(), 100, LIMITS);
        assert_eq!(done.commands.len(), 2, "as many as the target takes");
        assert_eq!(done.waiting.len(), 7);
        let large = cases().map(|case| Case { size: 900, ..case });
        let done = plan(large.collect(), &mut all(), 100, LIMITS);
        assert_eq!(done.commands.len(), 1, "two would be too many bytes");
        let huge = cases().map(|case| Case {
            size: 1 << 30,
            ..case
        });
        let mut after = all();
        assert_eq!(
            plan(huge.collect(), &mut after, 100, LIMITS).commands.len(),
            1
        );
        assert!(after[&NodeIndex(4)].allowance_bytes < 0, "paid off later");
        let mut spent = all();
        spent.get_mut(&NodeIndex(4)).unwrap().allowance_bytes = 0;
        assert_eq!(
            plan(cases().collect(), &mut spent, 100, LIMITS).commands,
            []
        );
        assert_eq!(
            plan(cases().collect(), &mut all(), 0, LIMITS).waiting.len(),
            9
        );
    }

    #[test]
    fn i06_surplus_goes_from_the_most_crowded_rack_and_there_from_the_fullest_disk() {
        let mut full = in_rack("a", live(2));
        full.candidate.available_bytes = 1 << 30;
        let nodes = nodes([
            in_rack("a", live(1)),
            full,
            in_rack("b", live(3)),
            in_rack("c", live(4)),
        ]);
        let case = case(1, (1..=4).map(held));
        assert_eq!(planned(vec![case], nodes), [trims(2, 1, &[1, 3, 4])]);
    }

    #[test]
    fn i06_only_checked_live_undoubted_replicas_count_when_one_is_to_go() {
        let spoil: [fn(&mut RepairNode, &mut Holding); 5] = [
            |node, _| node.fresh = false,
            |node, _| node.candidate.state = NodeState::Stale,
            |node, _| node.candidate.state = NodeState::Dead,
            |node, _| node.candidate.registered = false,
            |_, holding| holding.unsettled = true,
        ];
        for spoil in spoil {
            let (mut last, mut holding) = (live(4), held(4));
            spoil(&mut last, &mut holding);
            let nodes = nodes([live(1), live(2), live(3), last]);
            let case = case(1, [held(1), held(2), held(3), holding]);
            assert_eq!(planned(vec![case], nodes), []);
        }
    }

    #[test]
    fn i05_a_bad_replica_is_replaced_elsewhere_before_it_is_put_aside() {
        let all = || nodes([live(1), live(2), live(3), live(4)]);
        let short = case(1, [bad(1), held(2), held(3)]);
        assert_eq!(planned(vec![short], all()), [copies(2, 1, &[4])]);
        let whole = case(1, [bad(1), held(2), held(3), held(4)]);
        assert_eq!(planned(vec![whole], all()), [quarantines(1, 1, &[2, 3, 4])]);
    }

    #[test]
    fn i05_with_no_other_node_the_bad_replica_makes_room_for_its_successor() {
        let all = nodes([live(1), live(2), live(3)]);
        let case = case(1, [bad(1), held(2), held(3)]);
        assert_eq!(planned(vec![case], all), [quarantines(1, 1, &[2, 3])]);
    }

    #[test]
    fn i05_the_last_good_replica_and_all_bad_ones_stay_where_they_are() {
        let all_bad = case(1, [bad(1), bad(2), bad(3)]);
        assert_eq!(
            planned(vec![all_bad], nodes([live(1), live(2), live(3)])),
            []
        );
        // The good one is on a node that may be gone.
        let unsure = case(1, [bad(1), held(2), held(3)]);
        let all = nodes([live(1), dead(2), node(3, NodeState::Stale)]);
        assert_eq!(planned(vec![unsure], all), []);
    }

    #[test]
    fn i06_a_removal_is_called_off_when_what_it_relied_on_is_gone() {
        let (node, action) = trims(4, 1, &[1, 2, 3]);
        let record = |holders: &[u32]| FileRecord {
            size: 1,
            blake3_root: richardstore_proto::Blake3Root::new([0; 32]),
            replication: 3,
            generation: Generation(7),
            created_ms: 0,
            replicas: holders
                .iter()
                .map(|index| crate::record::Replica {
                    node: NodeIndex(*index),
                    generation: Generation(7),
                })
                .collect(),
        };
        let whole = record(&[1, 2, 3, 4]);
        assert!(still_safe(&action, node, &whole, |_| true));
        assert!(!still_safe(&action, node, &whole, |keeper| keeper.0 != 2));
        assert!(!still_safe(&action, node, &record(&[1, 2, 4]), |_| true));
    }

    fn any_nodes() -> impl Strategy<Value = Nodes> {
        let states = select(vec![
            NodeState::Live,
            NodeState::Live,
            NodeState::Live,
            NodeState::Stale,
            NodeState::Dead,
            NodeState::Decommissioning,
        ]);
        let one = (states, any::<bool>(), select(vec!["", "a", "b"]), 0usize..3);
        prop::collection::vec(one, 1..8).prop_map(|all| {
            nodes(
                (1..)
                    .zip(all)
                    .map(|(index, (state, fresh, rack, streams))| {
                        let mut node = in_rack(rack, node(index, state));
                        node.fresh = fresh;
                        node.streams = streams;
                        node
                    }),
            )
        })
    }

    fn any_cases() -> impl Strategy<Value = Vec<Case>> {
        let holding = (
            1u32..8,
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.1),
        );
        let one = (prop::collection::vec(holding, 0..7), 1usize..4, 0u64..1_500);
        prop::collection::vec(one, 0..12).prop_map(|all| {
            (1..)
                .zip(all)
                .map(|(file, (holdings, replication, size))| {
                    let by_node: BTreeMap<u32, Holding> = holdings
                        .into_iter()
                        .map(|(index, suspect, unsettled)| {
                            let holding = Holding {
                                suspect,
                                unsettled,
                                ..held(index)
                            };
                            (index, holding)
                        })
                        .collect();
                    Case {
                        replication,
                        size,
                        ..case(file, by_node.into_values())
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn i06_no_plan_takes_a_file_below_its_target_or_puts_two_on_a_node(
            before in any_nodes(),
            cases in any_cases(),
            room in 0usize..20,
        ) {
            let mut after = before.clone();
            let done = plan(cases.clone(), &mut after, room, LIMITS);
            prop_assert!(done.commands.len() <= room);
            let mut seen = BTreeSet::new();
            for (node, action) in &done.commands {
                let hash = action.repairs().unwrap();
                prop_assert!(seen.insert(*hash), "one command a file");
                let case = cases.iter().find(|case| case.hash == *hash).unwrap();
                let holders: BTreeSet<_> = case.holdings.iter().map(|held| held.node).collect();
                prop_assert!(holders.contains(node) && before[node].takes_commands());
                let good = good(case, &before).len();
                match action {
                    CommandRecordAction::Replicate { targets, .. } => {
                        let unique: BTreeSet<_> = targets.iter().collect();
                        prop_assert_eq!(unique.len(), targets.len());
                        prop_assert!(good + targets.len() <= case.replication);
                        for target in targets {
                            prop_assert!(!holders.contains(target));
                            prop_assert_eq!(before[target].candidate.state, NodeState::Live);
                        }
                    }
                    CommandRecordAction::Trim { keep, .. } => {
                        prop_assert!(keep.len() >= case.replication && !keep.contains(node));
                        for keeper in keep {
                            let held = case.holdings.iter().find(|held| held.node == *keeper);
                            let held = held.unwrap();
                            prop_assert!(!held.suspect && !held.unsettled);
                            prop_assert!(before[keeper].is_trusted());
                        }
                    }
                    CommandRecordAction::Quarantine { keep, .. } => {
                        prop_assert!(!keep.is_empty() && !keep.contains(node));
                        let held = case.holdings.iter().find(|held| held.node == *node);
                        prop_assert!(held.unwrap().suspect);
                    }
                    CommandRecordAction::Delete { .. } => panic!("{action:?}"),
                }
            }
            for (index, node) in &after {
                prop_assert!(node.streams <= before[index].streams.max(LIMITS.streams));
            }
            let again = plan(cases, &mut before.clone(), room, LIMITS);
            prop_assert_eq!(again, done);
        }
    }
}
