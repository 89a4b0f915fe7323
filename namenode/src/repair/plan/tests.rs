//! Exact commands for exact cases, and what holds for all of them.

use super::super::fixture::{bad, case, dead, expected, hash, held, in_rack, live, node, nodes};
use super::*;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use richardstore_proto::{Generation, NodeState};

const LIMITS: Limits = Limits {
    streams: 2,
    stream_bytes: 1_000,
    reserved: 0,
};

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

#[test]
fn a_replica_on_a_node_in_maintenance_is_neither_made_again_nor_relied_on() {
    for away in [live(1), node(1, NodeState::Stale), dead(1)] {
        let all = || nodes([expected(away.clone()), live(2), live(3), live(4), live(5)]);
        let file = case(1, [held(1), held(2), held(3)]);
        assert!(file.is_well(&all()));
        assert_eq!(planned(vec![file], all()), []);
        // With a second one lost it is short as it was before.
        let mut two_away = all();
        two_away.insert(NodeIndex(2), dead(2));
        let commands = planned(vec![case(1, [held(1), held(2), held(3)])], two_away);
        assert_eq!((commands.len(), commands[0].0), (1, NodeIndex(3)));
        let surplus = case(1, [held(1), held(2), held(3), held(4)]);
        assert_eq!(planned(vec![surplus], all()), []);
    }
}

#[test]
fn files_that_maintenance_leaves_with_too_few_are_copied_first() {
    let all = nodes([
        expected(dead(1)),
        expected(dead(2)),
        live(3),
        live(4),
        dead(5),
    ]);
    let two_left = case(1, [held(3), held(4), held(5)]);
    let one_left = case(2, [held(1), held(2), held(3)]);
    let commands = planned(vec![two_left.clone(), one_left], all.clone());
    assert_eq!(commands, [copies(3, 2, &[4])]);
    let single = Case {
        replication: 1,
        ..case(3, [held(1)])
    };
    let mut there = all;
    there.insert(NodeIndex(1), expected(live(1)));
    let commands = planned(vec![single], there);
    assert_eq!((commands.len(), commands[0].0), (1, NodeIndex(1)));
}

#[test]
fn the_files_of_a_failed_volume_are_copied_from_others_where_there_are_any() {
    let mut failed = live(1);
    failed.failed = true;
    let all = || nodes([failed.clone(), live(2), live(3), live(4)]);
    let file = case(1, [held(1), held(2), held(3)]);
    let commands = planned(vec![file], all());
    assert_eq!(commands, [copies(2, 1, &[4])]);
    let last = Case {
        replication: 1,
        ..case(2, [held(1)])
    };
    let commands = planned(vec![last], all());
    assert_eq!((commands.len(), commands[0].0), (1, NodeIndex(1)));
    // It is not what a removal elsewhere may rely on.
    let surplus = case(3, (1..=4).map(held));
    assert_eq!(planned(vec![surplus], all()), []);
}

/// Nodes 1 to 3 in rack a, 4 and 5 in rack b, and a file on the first three.
fn crowded() -> (Nodes, Case) {
    let a = (1..=3).map(|index| in_rack("a", live(index)));
    let b = (4..=5).map(|index| in_rack("b", live(index)));
    (nodes(a.chain(b)), case(1, [held(1), held(2), held(3)]))
}

#[test]
fn i06_a_file_in_one_rack_is_copied_to_another_and_then_dropped_where_it_is_crowded() {
    let (mut all, file) = crowded();
    all.get_mut(&NodeIndex(5)).unwrap().candidate.load = 1_000;
    let commands = planned(vec![file], all.clone());
    assert_eq!(commands, [copies(1, 1, &[4])]);
    let copied = case(1, (1..=4).map(held));
    assert_eq!(
        planned(vec![copied], all.clone()),
        [trims(3, 1, &[1, 2, 4])]
    );
    let moved = case(1, [held(1), held(2), held(4)]);
    assert_eq!(planned(vec![moved], all), []);
}

#[test]
fn a_file_is_moved_only_when_it_is_known_where_it_is_and_another_rack_takes_it() {
    let spoil: [fn(&mut Nodes, &mut Case); 6] = [
        |nodes, _| nodes.get_mut(&NodeIndex(2)).unwrap().fresh = false,
        |_, case| case.holdings[0].unsettled = true,
        |nodes, _| {
            for index in [4, 5] {
                nodes.get_mut(&NodeIndex(index)).unwrap().fresh = false;
            }
        },
        |nodes, _| {
            for index in [4, 5] {
                let node = nodes.get_mut(&NodeIndex(index)).unwrap();
                node.candidate.available_bytes = 10;
            }
        },
        |nodes, _| {
            for index in [4, 5] {
                nodes.get_mut(&NodeIndex(index)).unwrap().draining = true;
            }
        },
        |_, case| {
            case.replication = 1;
            case.holdings.truncate(1);
        },
    ];
    for spoil in spoil {
        let (mut nodes, mut case) = crowded();
        spoil(&mut nodes, &mut case);
        assert_eq!(planned(vec![case], nodes), []);
    }
}

#[test]
fn a_misplaced_file_waits_while_another_one_is_short_and_for_its_share_of_the_streams() {
    let (all, misplaced) = crowded();
    let limits = Limits {
        streams: 8,
        reserved: 5,
        ..LIMITS
    };
    let small = |file| Case {
        size: 1,
        ..case(file, [held(1), held(2), held(3)])
    };
    let files = || (1..=9).map(small).collect();
    let done = plan(files(), &mut all.clone(), 100, limits);
    assert_eq!(done.commands.len(), 4, "two on each node of the other rack");
    let done = plan(files(), &mut all.clone(), 6, limits);
    assert_eq!(done.commands.len(), 1, "five are reserved for short files");
    let short = Case {
        size: 900,
        ..case(0, [held(1), held(2)])
    };
    let mut busy = all;
    for node in busy.values_mut() {
        node.allowance_bytes = 0;
    }
    let done = plan(vec![misplaced, short], &mut busy, 100, limits);
    assert_eq!((done.commands.len(), done.waiting.len()), (0, 1));
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

    #[test]
    fn i06_plans_carried_out_bring_every_file_to_its_target_and_over_racks_and_then_rest(
        racks in prop::collection::vec(select(vec!["a", "b", "c"]), 1..8),
        held_by in prop::collection::btree_set(1u32..8, 1..7),
        replication in 1usize..4,
    ) {
        let all = nodes((1..).zip(&racks).map(|(index, rack)| in_rack(rack, live(index))));
        let held_by = held_by.into_iter().filter(|index| all.contains_key(&NodeIndex(*index)));
        let mut file = Case { replication, ..case(1, held_by.map(held)) };
        if file.holdings.is_empty() {
            return Ok(());
        }
        let mut steps = 0;
        while let [(node, action)] = &planned(vec![file.clone()], all.clone())[..] {
            steps += 1;
            prop_assert!(steps <= 12, "it goes on for ever: {file:?}");
            let before = file.holdings.len();
            match action {
                CommandRecordAction::Replicate { targets, .. } => {
                    file.holdings.extend(targets.iter().map(|target| held(target.0)));
                    file.holdings.sort_by_key(|holding| holding.node);
                }
                CommandRecordAction::Trim { .. } => {
                    file.holdings.retain(|holding| holding.node != *node);
                    prop_assert!(file.holdings.len() >= replication.min(before));
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(file.holdings.len(), replication.min(all.len()));
        let rack = |index: &NodeIndex| all[index].candidate.rack.clone();
        let used: BTreeSet<_> = file.holdings.iter().map(|held| rack(&held.node)).collect();
        let there: BTreeSet<_> = all.keys().map(rack).collect();
        if replication >= 2 && file.holdings.len() >= 2 && there.len() >= 2 {
            prop_assert!(used.len() >= 2, "{file:?}");
        }
    }
}
