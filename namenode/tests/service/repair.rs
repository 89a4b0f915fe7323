//! Repair: what is ordered when nodes go, come back, or hold wrong bytes; and what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::command::Action;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode};
use tokio::time::Instant;

use crate::fixture::{FakeNode, Rig, answer, done, hash, hashes, removed, until};

/// Longer than the pause between two walks over the lists of repair.
const QUIET: Duration = Duration::from_millis(2_500);

async fn rig() -> Rig {
    Rig::with(|config| {
        config.heartbeat_interval_ms = 100;
        config.stale_after_ms = 2_500;
        config.dead_after_ms = 5_000;
        config.repair_bytes_per_second = 1 << 30;
    })
    .await
}

/// A command of repair, and the node (as its place in the test's list) that got it.
#[derive(Debug, Clone)]
struct Order {
    at: usize,
    command: wire::Command,
}

impl Order {
    /// The numbers of a copy's targets.
    fn targets(&self) -> Vec<u8> {
        match &self.command.action {
            Some(Action::Replicate(copy)) => {
                copy.targets.iter().map(|node| node.node_id[0]).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One heartbeat of each of these nodes, and what they are told to do.
async fn beat(rig: &Rig, nodes: &[FakeNode], beating: &[usize]) -> Vec<Order> {
    let mut orders = Vec::new();
    for &at in beating {
        let answer = nodes[at].heartbeat(&rig.client).await.unwrap();
        let commands = answer.commands.into_iter();
        orders.extend(commands.map(|command| Order { at, command }));
    }
    orders
}

/// Heartbeats until somebody is told to do something.
async fn orders(rig: &Rig, nodes: &[FakeNode], beating: &[usize]) -> Vec<Order> {
    until("a command", || async {
        let orders = beat(rig, nodes, beating).await;
        (!orders.is_empty()).then_some(orders)
    })
    .await
}

/// Heartbeats for a while, in which nobody is told anything.
async fn quiet(rig: &Rig, nodes: &[FakeNode], beating: &[usize]) {
    let end = Instant::now() + QUIET;
    until("the end of a quiet time", || async {
        let orders = beat(rig, nodes, beating).await;
        assert!(orders.is_empty(), "{orders:?}");
        (Instant::now() >= end).then_some(())
    })
    .await;
}

async fn tell_done(rig: &Rig, node: &FakeNode, order: &Order) {
    let outcomes = vec![done(&order.command)];
    let answer = node.heartbeat_with(&rig.client, outcomes).await.unwrap();
    assert!(answer.commands.is_empty());
}

async fn full_report(rig: &Rig, node: &FakeNode) {
    let sequence = node.next_sequence;
    let step = Step::Done(wire::ReportDone { sequence });
    node.full_report(&rig.client, step).await.unwrap();
}

async fn report_removed(rig: &Rig, node: &mut FakeNode, hash: ContentHash, generation: u64) {
    let event = removed(node.next_sequence, hash, generation);
    node.report(&rig.client, vec![event]).await.unwrap();
    node.next_sequence += 1;
}

async fn report_bad(rig: &Rig, node: &FakeNode, hash: ContentHash) {
    let request = wire::ReportBadReplicaRequest {
        hash: to_bytes(hash.as_bytes()),
        node_id: node.id(),
        reason: "a bit flipped".to_owned(),
    };
    rig.client
        .clone()
        .report_bad_replica(request)
        .await
        .unwrap();
}

async fn holders(rig: &Rig, hash: ContentHash) -> BTreeSet<u8> {
    let located = rig.read(hash).await.unwrap();
    located.nodes.iter().map(|node| node.node_id[0]).collect()
}

#[tokio::test]
async fn i06_the_files_of_a_dead_node_are_copied_once_and_surplus_goes_after_its_fresh_report() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    let generation = rig.store(hash(1), &mut nodes[..3]).await;
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;

    let ordered = orders(&rig, &nodes, &[1, 2, 3]).await;
    assert_eq!(ordered.len(), 1);
    assert_eq!(ordered[0].targets(), [4]);
    assert!([1, 2].contains(&ordered[0].at));
    nodes[3].added(&rig.client, hash(1), generation).await;
    tell_done(&rig, &nodes[ordered[0].at], &ordered[0]).await;
    quiet(&rig, &nodes, &[1, 2, 3]).await;
    assert_eq!(holders(&rig, hash(1)).await, BTreeSet::from([2, 3, 4]));

    nodes[0].session += 1;
    nodes[0].register(&rig.client).await.unwrap();
    for node in &nodes[1..] {
        full_report(&rig, node).await;
    }
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;
    full_report(&rig, &nodes[0]).await;
    let trims = orders(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!(trims.len(), 1);
    let Order { at, command } = &trims[0];
    let Some(Action::Delete(delete)) = &command.action else {
        panic!("{command:?}");
    };
    assert_eq!(delete.generation, generation);
    // Done, and not reported: nobody may count on that replica, so nothing else is trimmed.
    tell_done(&rig, &nodes[*at], &trims[0]).await;
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;
    report_removed(&rig, &mut nodes[*at], hash(1), generation).await;
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!(holders(&rig, hash(1)).await.len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_restart_with_copies_under_way_orders_none_of_them_twice() {
    let mut rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    rig.store_many(&hashes(30), &nodes[..3]).await;
    let mut before = BTreeSet::new();
    while before.len() < 30 {
        let orders = orders(&rig, &nodes, &[1, 2, 3]).await;
        before.extend(orders.iter().map(|order| order.command.id));
    }
    rig.restart().await;
    for node in &mut nodes[1..] {
        node.register(&rig.client).await.unwrap();
    }
    assert!(beat(&rig, &nodes, &[1, 2, 3]).await.is_empty(), "safe mode");
    let mut after = BTreeSet::new();
    while after.len() < 30 {
        let orders = orders(&rig, &nodes, &[1, 2, 3]).await;
        after.extend(orders.iter().map(|order| order.command.id));
    }
    assert_eq!(after, before);
    quiet(&rig, &nodes, &[1, 2, 3]).await;
    rig.stop().await;
}

#[tokio::test]
async fn i10_nothing_is_ordered_between_the_end_of_a_copy_and_its_report() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    let generation = rig.store(hash(1), &mut nodes[..3]).await;
    let copy = orders(&rig, &nodes, &[1, 2, 3]).await;
    tell_done(&rig, &nodes[copy[0].at], &copy[0]).await;
    quiet(&rig, &nodes, &[1, 2, 3]).await;
    nodes[3].added(&rig.client, hash(1), generation).await;
    quiet(&rig, &nodes, &[1, 2, 3]).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_copy_that_failed_is_tried_from_another_node() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    rig.store(hash(1), &mut nodes[..3]).await;
    let first = orders(&rig, &nodes, &[1, 2, 3]).await;
    let failed = wire::CommandOutcome {
        error_code: ErrorCode::Unavailable.number(),
        error: "the target did not answer".to_owned(),
        ..done(&first[0].command)
    };
    let source = &nodes[first[0].at];
    source
        .heartbeat_with(&rig.client, vec![failed])
        .await
        .unwrap();
    let second = orders(&rig, &nodes, &[1, 2, 3]).await;
    assert_ne!(second[0].at, first[0].at);
    assert_ne!(second[0].command.id, first[0].command.id);
    assert_eq!(second[0].targets(), [4]);
    rig.stop().await;
}

#[tokio::test]
async fn i07_an_outage_of_all_nodes_and_their_return_one_by_one_copies_nothing() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    rig.store(hash(1), &mut nodes[..3]).await;
    rig.store(hash(2), &mut nodes[1..]).await;
    until("all nodes to be dead", || async {
        (rig.info().await.nodes_dead == 4).then_some(())
    })
    .await;
    for back in 1..=4 {
        let beating: Vec<usize> = (0..back).collect();
        let end = Instant::now() + Duration::from_millis(600);
        until("the next node to be back", || async {
            let orders = beat(&rig, &nodes, &beating).await;
            assert!(orders.is_empty(), "{orders:?}");
            (Instant::now() >= end).then_some(())
        })
        .await;
    }
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!(rig.info().await.commands_pending, 0);
    rig.stop().await;
}

#[tokio::test]
async fn i05_a_bad_replica_with_no_other_node_is_put_aside_and_made_again_there() {
    let rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    report_bad(&rig, &nodes[0], hash(1)).await;
    let all = [0, 1, 2];
    let aside = orders(&rig, &nodes, &all).await;
    let [Order { at: 0, command }] = &aside[..] else {
        panic!("{aside:?}");
    };
    let Some(Action::Quarantine(replica)) = &command.action else {
        panic!("{command:?}");
    };
    assert_eq!(replica.generation, generation);
    tell_done(&rig, &nodes[0], &aside[0]).await;
    report_removed(&rig, &mut nodes[0], hash(1), generation).await;
    let copy = orders(&rig, &nodes, &all).await;
    assert_eq!(copy[0].targets(), [1]);
    nodes[0].added(&rig.client, hash(1), generation).await;
    tell_done(&rig, &nodes[copy[0].at], &copy[0]).await;
    quiet(&rig, &nodes, &all).await;
    assert_eq!(holders(&rig, hash(1)).await.len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn i06_a_damaged_record_holds_up_no_command_of_another_file() {
    for told in [false, true] {
        let mut rig = rig().await;
        let mut nodes = rig.nodes(3).await;
        let mut aside = BTreeMap::new();
        for number in 1..=2 {
            rig.store(hash(number), &mut nodes).await;
            report_bad(&rig, &nodes[0], hash(number)).await;
            aside.insert(number, orders(&rig, &nodes, &[0, 1, 2]).await);
        }
        rig.restart_with_damage(hash(1)).await;
        nodes[0].register(&rig.client).await.unwrap();
        if told {
            tell_done(&rig, &nodes[0], &aside[&1][0]).await;
        }
        for node in &mut nodes[1..] {
            node.register(&rig.client).await.unwrap();
        }
        let again = orders(&rig, &nodes, &[0, 1, 2]).await;
        let ids = |orders: &[Order]| -> Vec<u64> {
            orders.iter().map(|order| order.command.id).collect()
        };
        assert_eq!(ids(&again), ids(&aside[&2]), "told: {told}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn i05_when_every_replica_is_bad_nothing_is_removed() {
    let rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    for node in &nodes {
        report_bad(&rig, node, hash(1)).await;
    }
    // A command that was ordered between two of these reports is called off when it would be handed out.
    quiet(&rig, &nodes, &[0, 1, 2]).await;
    rig.stop().await;
}

#[tokio::test]
async fn repair_makes_no_copies_where_the_operator_gave_it_no_bytes() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes[..2]).await;
    quiet(&rig, &nodes, &[0, 1, 2]).await;
    rig.stop().await;
}

#[tokio::test]
async fn after_a_mass_loss_repair_says_that_it_rests_and_goes_on_when_the_operator_says_so() {
    let rig = rig().await;
    let nodes = rig.nodes(7).await;
    // Of those that die it is the last one: nothing is short before most are gone.
    let mut holders = [nodes[0].clone(), nodes[1].clone(), nodes[6].clone()];
    rig.store(hash(1), &mut holders).await;
    until("the word that repair rests", || async {
        assert!(beat(&rig, &nodes, &[0, 1, 2]).await.is_empty());
        let info = rig.info().await;
        let said = info
            .reason
            .starts_with("repair rests: 3 of 7 datanodes are there");
        (said && info.status == "degraded").then_some(())
    })
    .await;
    quiet(&rig, &nodes, &[0, 1, 2]).await;

    let request = |action: wire::SafeModeAction| wire::SetSafeModeRequest {
        action: action.into(),
    };
    let mut client = rig.client.clone();
    let asked = client
        .set_safe_mode(request(wire::SafeModeAction::Get))
        .await;
    let asked = answer(asked).unwrap();
    assert!(!asked.on && asked.repair_rests.contains("safemode leave"));
    let left = client
        .set_safe_mode(request(wire::SafeModeAction::Leave))
        .await;
    assert_eq!(answer(left).unwrap().repair_rests, "");
    let ordered = orders(&rig, &nodes, &[0, 1, 2]).await;
    assert!(ordered[0].at < 2);
    assert_eq!(ordered[0].targets(), [3]);
    rig.stop().await;
}

#[tokio::test]
async fn i06_files_in_one_rack_spread_when_another_one_appears_and_then_stay() {
    let mut rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    for node in &nodes {
        full_report(&rig, node).await;
    }
    quiet(&rig, &nodes, &[0, 1, 2]).await;
    let info = rig.info().await;
    assert_eq!((info.misplaced, info.misplaced_checked), (0, true));

    let mut other = FakeNode::new(4);
    other.rack = "b".to_owned();
    other.register(&rig.client).await.unwrap();
    full_report(&rig, &other).await;
    nodes.push(other);
    let ordered = orders(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!((ordered.len(), ordered[0].targets()), (1, vec![4]));
    assert_eq!(rig.info().await.misplaced, 1);
    // What was ordered is durable, and the restart knows of no other.
    rig.restart().await;
    for node in &mut nodes {
        node.session += 1;
        node.register(&rig.client).await.unwrap();
        full_report(&rig, node).await;
    }
    let again = orders(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!(again[0].command.id, ordered[0].command.id);
    nodes[3].added(&rig.client, hash(1), generation).await;
    tell_done(&rig, &nodes[again[0].at], &again[0]).await;

    let ordered = orders(&rig, &nodes, &[0, 1, 2, 3]).await;
    let at = ordered[0].at;
    assert!(at < 3, "the crowded rack gives one up");
    assert!(matches!(ordered[0].command.action, Some(Action::Delete(_))));
    report_removed(&rig, &mut nodes[at], hash(1), generation).await;
    tell_done(&rig, &nodes[at], &ordered[0]).await;
    quiet(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!(holders(&rig, hash(1)).await.len(), 3);
    until("the walk to find everything in place", || async {
        beat(&rig, &nodes, &[0, 1, 2, 3]).await;
        let info = rig.info().await;
        (info.misplaced == 0 && info.misplaced_checked).then_some(())
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn the_files_of_a_node_whose_volume_failed_are_copied_while_it_is_there() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    rig.store(hash(1), &mut nodes[..3]).await;
    assert!(beat(&rig, &nodes, &[0, 1, 2, 3]).await.is_empty());
    nodes[0].stats.volume_failed = true;
    nodes[0].stats.read_only = true;
    let ordered = orders(&rig, &nodes, &[0, 1, 2, 3]).await;
    assert_eq!((ordered.len(), ordered[0].targets()), (1, vec![4]));
    assert!(ordered[0].at != 0, "others have it too");
    let reason = rig.info().await.reason;
    assert!(
        reason.contains("1 datanode with a failed volume"),
        "{reason}"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_wiped_disk_that_returns_under_its_old_name_is_a_new_node_and_gets_the_files_again() {
    let rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    // Same name, address and rack; the identity was on the disk.
    let mut wiped = FakeNode {
        number: 9,
        journal: 9,
        session: 1,
        next_sequence: 1,
        cluster_id: String::new(),
        ..nodes[2].clone()
    };
    wiped.register(&rig.client).await.unwrap();
    nodes.push(wiped);
    assert_eq!(holders(&rig, hash(1)).await, BTreeSet::from([1, 2, 3]));
    let ordered = orders(&rig, &nodes, &[0, 1, 3]).await;
    assert_eq!((ordered.len(), ordered[0].targets()), (1, vec![9]));
    nodes[3].added(&rig.client, hash(1), generation).await;
    tell_done(&rig, &nodes[ordered[0].at], &ordered[0]).await;
    assert_eq!(holders(&rig, hash(1)).await, BTreeSet::from([1, 2, 9]));
    // The old one is left over; the name alone does not say which is meant.
    let request = |node: String| wire::SetNodeAdminRequest {
        node,
        action: wire::NodeAction::Remove.into(),
        ..wire::SetNodeAdminRequest::default()
    };
    let mut client = rig.client.clone();
    let asked = client.set_node_admin(request("node-3".to_owned())).await;
    assert_eq!(answer(asked).unwrap_err().code, ErrorCode::Conflict);
    let id = richardstore_proto::NodeId::new([3; 16]).to_string();
    let asked = client.set_node_admin(request(id)).await;
    assert_eq!(answer(asked).unwrap().admin, "removed");
    quiet(&rig, &nodes, &[0, 1, 3]).await;
    let info = rig.info().await;
    assert_eq!((info.nodes_live, info.nodes_dead), (3, 0));
    rig.stop().await;
}
