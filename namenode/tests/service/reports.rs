//! What datanodes say they hold: exactly once, in order, and reconciled without trusting old lists.

use std::time::Duration;

use richardstore_proto::wire::block_report_request::Step;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{
    ContentHash, ErrorCode, Generation, RangeDigest, RangeDigests, range_bounds,
};

use crate::fixture::{Client, FakeNode, Rig, added, answer, entry, file, hash, removed, until};

fn digests(held: &[(ContentHash, u64)], with_ranges: bool) -> Step {
    let mut digests = RangeDigests::default();
    for (hash, generation) in held {
        digests.add(hash, Generation(*generation));
    }
    let ranges = digests.ranges().iter().enumerate();
    Step::Digests(wire::ReportDigests {
        root: (!with_ranges).then(|| digests.root().on_wire(0)),
        ranges: if with_ranges {
            ranges
                .map(|(range, digest)| digest.on_wire(range))
                .collect()
        } else {
            Vec::new()
        },
    })
}

fn range_page(range: usize, entries: Vec<wire::ReplicaEntry>) -> Step {
    let (_, through) = range_bounds(range).unwrap();
    let after = match range {
        0 => Vec::new(),
        range => range_bounds(range - 1).unwrap().1.as_bytes().to_vec(),
    };
    Step::Entries(wire::ReportEntries {
        after: after.into(),
        through: to_bytes(through.as_bytes()),
        entries,
    })
}

async fn replicas(client: &Client, number: usize) -> u64 {
    let nodes = answer(client.clone().list_nodes(wire::ListNodesRequest {}).await)
        .unwrap()
        .nodes;
    nodes[number].replicas
}

#[tokio::test]
async fn i10_a_report_that_comes_twice_counts_once() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes[..2]).await;
    let event = added(1, hash(1), generation);
    for _ in 0..2 {
        let response = nodes[2]
            .report(&rig.client, vec![event.clone()])
            .await
            .unwrap();
        assert_eq!(response.next_sequence, 2);
    }
    assert_eq!(replicas(&rig.client, 2).await, 1);
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_gap_applies_nothing_and_asks_for_what_is_missing() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes[..2]).await;
    let early = vec![added(3, hash(1), generation)];
    let response = nodes[2].report(&rig.client, early).await.unwrap();
    assert_eq!(response.next_sequence, 1);
    assert_eq!(replicas(&rig.client, 2).await, 0);

    let torn = vec![added(1, hash(1), generation), added(3, hash(1), generation)];
    let refused = nodes[2].report(&rig.client, torn).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn i10_events_of_another_journal_are_not_taken() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes[..2]).await;
    nodes[2].journal = 99;
    let events = vec![added(1, hash(1), generation)];
    let response = nodes[2].report(&rig.client, events).await.unwrap();
    assert!(response.unregistered);
    let step = digests(&[], false);
    assert!(
        nodes[2]
            .full_report(&rig.client, step)
            .await
            .unwrap()
            .unregistered
    );
    assert_eq!(replicas(&rig.client, 2).await, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_replica_is_struck_off_and_the_file_stays() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    for node in &nodes {
        let event = removed(node.next_sequence, hash(1), generation);
        node.report(&rig.client, vec![event]).await.unwrap();
    }
    let found = rig.read(hash(1)).await.unwrap();
    assert!(found.nodes.is_empty());
    assert_eq!(rig.info().await.files, 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_full_report_that_agrees_is_one_message() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    let node = &nodes[0];
    assert!(
        node.heartbeat(&rig.client)
            .await
            .unwrap()
            .full_report_wanted
    );
    let step = digests(&[(hash(1), generation)], false);
    let response = node.full_report(&rig.client, step).await.unwrap();
    assert!(response.root_agrees);
    let step = Step::Done(wire::ReportDone {
        sequence: node.next_sequence,
    });
    node.full_report(&rig.client, step).await.unwrap();
    assert!(
        !node
            .heartbeat(&rig.client)
            .await
            .unwrap()
            .full_report_wanted
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_full_report_asks_for_exactly_what_differs() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let both = rig.store(hash(1), &mut nodes).await;
    let lost = rig.store(hash(2), &mut nodes).await;
    let node = &nodes[0];
    // The datanode holds 1 and 3, the namenode thinks 1 and 2.
    let held = [(hash(1), both), (hash(3), lost)];
    let step = digests(&held, false);
    assert!(
        !node
            .full_report(&rig.client, step)
            .await
            .unwrap()
            .root_agrees
    );
    let step = digests(&held, true);
    let response = node.full_report(&rig.client, step).await.unwrap();
    assert_eq!(response.differing, [2, 3]);

    let response = node
        .full_report(&rig.client, range_page(2, Vec::new()))
        .await
        .unwrap();
    assert_eq!(
        (response.announce, response.recheck),
        (vec![], vec![entry(hash(2), lost)])
    );
    let response = node
        .full_report(&rig.client, range_page(3, vec![entry(hash(3), lost)]))
        .await
        .unwrap();
    assert_eq!(
        (response.announce, response.recheck),
        (vec![entry(hash(3), lost)], vec![])
    );
    assert_eq!(
        replicas(&rig.client, 0).await,
        2,
        "the report itself changes nothing"
    );
    rig.stop().await;
}

#[tokio::test]
async fn pages_out_of_order_or_out_of_range_are_refused() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(1).await;
    for entries in [
        vec![entry(hash(9), 1)],
        vec![entry(hash(2), 1), entry(hash(2), 1)],
    ] {
        let refused = nodes[0]
            .full_report(&rig.client, range_page(2, entries))
            .await
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument);
    }
    let step = Step::Digests(wire::ReportDigests {
        root: Some(RangeDigest::default().on_wire(0)),
        ranges: vec![RangeDigest::default().on_wire(256)],
    });
    let refused = nodes[0].full_report(&rig.client, step).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn i05_a_replica_reported_as_bad_is_asked_last() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let report = |node: &FakeNode| wire::ReportBadReplicaRequest {
        hash: to_bytes(hash(1).as_bytes()),
        node_id: node.id(),
        reason: "checksum".to_owned(),
    };
    let mut client = rig.client.clone();
    client.report_bad_replica(report(&nodes[1])).await.unwrap();
    client
        .report_bad_replica(report(&FakeNode::new(99)))
        .await
        .unwrap();
    for _ in 0..6 {
        let found = rig.read(hash(1)).await.unwrap().nodes;
        assert_eq!((found.len(), &found[2].node_id), (3, &nodes[1].id()));
    }
    rig.stop().await;
}

/// The node says that it holds what `held` says, which agrees with what is believed.
async fn report_all(rig: &Rig, node: &FakeNode, held: &[(ContentHash, u64)]) {
    let agreed = node.full_report(&rig.client, digests(held, false)).await;
    assert!(agreed.unwrap().root_agrees);
    let sequence = node.next_sequence;
    let done = Step::Done(wire::ReportDone { sequence });
    node.full_report(&rig.client, done).await.unwrap();
    let beat = node.heartbeat(&rig.client).await.unwrap();
    assert!(!beat.full_report_wanted);
}

/// Seed 303 of the simulation: the disk was wiped between the acknowledgement and the commit.
#[tokio::test]
async fn i06_a_node_that_came_anew_since_it_acknowledged_is_checked_after_the_commit() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.allocate().await.generation;
    // It was given another disk.
    (nodes[2].session, nodes[2].journal) = (2, 9);
    nodes[2].register(&rig.client).await.unwrap();
    report_all(&rig, &nodes[2], &[]).await;
    let acknowledged: Vec<&FakeNode> = nodes.iter().collect();
    rig.commit(hash(1), generation, &acknowledged)
        .await
        .unwrap();
    let beat = nodes[2].heartbeat(&rig.client).await.unwrap();
    assert!(beat.full_report_wanted, "it may hold nothing of that");

    // Of the next write it cannot have lost anything.
    report_all(&rig, &nodes[2], &[(hash(1), generation)]).await;
    let generation = rig.allocate().await.generation;
    rig.commit(hash(2), generation, &[&nodes[2]])
        .await
        .unwrap_err();
    let acknowledged: Vec<&FakeNode> = nodes.iter().collect();
    rig.commit(hash(2), generation, &acknowledged)
        .await
        .unwrap();
    let beat = nodes[2].heartbeat(&rig.client).await.unwrap();
    assert!(!beat.full_report_wanted);
    rig.stop().await;
}

/// Two write the same at the same time, and one of them is slow to commit: what its node had by then was trimmed.
#[tokio::test]
async fn i06_a_node_that_removed_what_it_acknowledged_is_checked_after_the_commit() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(4).await;
    let slow = rig.allocate().await.generation;
    nodes[3].added(&rig.client, hash(1), slow).await;
    let generation = rig.store(hash(1), &mut nodes[1..]).await;
    let gone = removed(nodes[3].next_sequence, hash(1), generation);
    nodes[3].report(&rig.client, vec![gone]).await.unwrap();
    nodes[3].next_sequence += 1;
    report_all(&rig, &nodes[3], &[]).await;
    let acknowledged = [&nodes[0], &nodes[3]];
    rig.commit(hash(1), slow, &acknowledged).await.unwrap();
    let beat = nodes[3].heartbeat(&rig.client).await.unwrap();
    assert!(beat.full_report_wanted, "it holds nothing of that");
    rig.stop().await;
}

/// The caller of a commit goes away between the durable commit and what follows it.
#[tokio::test]
async fn i06_a_holder_is_checked_after_a_commit_whose_caller_went_away() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let ids: Vec<_> = nodes.iter().map(FakeNode::id).collect();
    let mut tried = Vec::new();
    // When the moment is, nobody knows: a little later each time, until a call is cut whose commit is done.
    for attempt in 1..100 {
        let generation = rig.allocate().await.generation;
        nodes[2].session += 1;
        nodes[2].journal += 1;
        nodes[2].register(&rig.client).await.unwrap();
        let mut held = Vec::new();
        for (name, generation) in &tried {
            held.extend(
                rig.read(*name)
                    .await
                    .is_ok()
                    .then_some((*name, *generation)),
            );
        }
        report_all(&rig, &nodes[2], &held).await;
        let name = hash(attempt);
        tried.push((name, generation));
        let mut request = tonic::Request::new(wire::CommitFilesRequest {
            files: vec![wire::FileCommit {
                file: Some(file(name, generation)),
                nodes: ids.clone(),
            }],
        });
        request.set_timeout(Duration::from_micros(200 * u64::from(attempt)));
        let is_cut = rig.client.clone().commit_files(request).await.is_err();
        // Mutations are carried out in their order: what was cut is mostly done when this one is, or never will be.
        rig.allocate().await;
        if is_cut && rig.read(name).await.is_ok() {
            until("it to be asked: it may hold nothing of that", || async {
                let beat = nodes[2].heartbeat(&rig.client).await.unwrap();
                beat.full_report_wanted.then_some(())
            })
            .await;
            rig.stop().await;
            return;
        }
    }
    panic!("no call was cut in the middle of its commit");
}

#[tokio::test]
async fn i06_what_a_node_reported_in_a_journal_that_is_over_is_not_believed_when_the_write_ends() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.allocate().await.generation;
    nodes[2].added(&rig.client, hash(1), generation).await;
    (nodes[2].session, nodes[2].journal, nodes[2].next_sequence) = (2, 9, 1);
    nodes[2].register(&rig.client).await.unwrap();
    rig.commit(hash(1), generation, &[&nodes[0], &nodes[1]])
        .await
        .unwrap();
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 2);
    // Where it still has it, its full report tells.
    nodes[2].added(&rig.client, hash(1), generation).await;
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 3);
    rig.stop().await;
}
