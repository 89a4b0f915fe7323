//! Uploads as a client sees them.

use std::collections::BTreeSet;

use richardstore_proto::{ErrorCode, wire};
use richardstore_runtime::ManualClock;

use crate::fixture::{FakeNode, Rig, answer, hash, until};

#[tokio::test]
async fn i01_a_committed_file_is_readable_at_once_and_after_a_restart() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let allocation = rig.allocate().await;
    let targets: BTreeSet<_> = allocation
        .targets
        .iter()
        .map(|node| node.node_id.clone())
        .collect();
    assert_eq!(targets.len(), 3);
    assert_eq!(
        rig.read(hash(1)).await.unwrap_err().code,
        ErrorCode::NotFound
    );

    let acknowledged: Vec<&FakeNode> = nodes.iter().collect();
    let result = rig
        .commit(hash(1), allocation.generation, &acknowledged)
        .await
        .unwrap();
    assert_eq!((result.created, result.replicas), (true, 3));
    let found = rig.read(hash(1)).await.unwrap();
    assert_eq!(found.file.unwrap().generation, allocation.generation);
    assert_eq!(found.nodes.len(), 3);

    rig.restart().await;
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 3);
    for node in &mut nodes {
        node.session += 1;
        node.register(&rig.client).await.unwrap();
    }
    assert!(rig.allocate().await.generation > allocation.generation);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_commit_whose_reply_was_lost_gets_the_same_success_again() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(2).await;
    let nodes: Vec<&FakeNode> = nodes.iter().collect();
    let generation = rig.allocate().await.generation;
    let first = rig.commit(hash(1), generation, &nodes).await.unwrap();
    let again = rig.commit(hash(1), generation, &nodes).await.unwrap();
    assert_eq!(
        (again.replicas, again.created_ms),
        (first.replicas, first.created_ms)
    );
    assert_eq!(rig.info().await.files, 1);
    rig.stop().await;
}

#[tokio::test]
async fn i01_too_few_acknowledgements_are_no_upload() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(3).await;
    let generation = rig.allocate().await.generation;
    let refused = rig.commit(hash(1), generation, &[&nodes[0]]).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InsufficientReplicas);
    let twice = rig
        .commit(hash(1), generation, &[&nodes[0], &nodes[0]])
        .await;
    assert_eq!(twice.unwrap_err().code, ErrorCode::InsufficientReplicas);
    let stranger = FakeNode::new(99);
    let unknown = rig
        .commit(hash(1), generation, &[&nodes[0], &stranger])
        .await;
    assert_eq!(unknown.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(rig.info().await.files, 0);
    rig.commit(hash(1), generation, &[&nodes[0], &nodes[1]])
        .await
        .unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn one_datanode_is_enough_where_there_is_only_one() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(1).await;
    rig.store(hash(1), &mut nodes).await;
    let info = rig.info().await;
    assert_eq!((info.under_replicated, &*info.status), (1, "degraded"));
    rig.stop().await;
}

#[tokio::test]
async fn a_write_is_refused_where_there_is_no_node_and_where_there_is_no_room() {
    let rig = Rig::start().await;
    let request = wire::WriteFileRequest {
        count: 1,
        size_hint: 1 << 20,
        ..wire::WriteFileRequest::default()
    };
    let refused = answer(rig.client.clone().write_file(request.clone()).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InsufficientReplicas);

    for number in 1..=3 {
        let mut node = FakeNode::new(number);
        node.stats.available_bytes = 1000;
        node.register(&rig.client).await.unwrap();
    }
    let full = answer(rig.client.clone().write_file(request.clone()).await).unwrap_err();
    assert_eq!(full.code, ErrorCode::StorageFull);
    let small = wire::WriteFileRequest {
        size_hint: 10,
        ..request
    };
    answer(rig.client.clone().write_file(small).await).unwrap();
    assert_eq!(
        rig.info().await.writes_in_flight,
        1,
        "refused writes leave nothing"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_batch_has_ascending_generations_and_is_spread_over_racks() {
    let rig = Rig::start().await;
    for number in 1..=6 {
        let mut node = FakeNode::new(number);
        node.rack = format!("rack-{}", number % 3);
        node.register(&rig.client).await.unwrap();
    }
    let request = wire::WriteFileRequest {
        count: 64,
        ..wire::WriteFileRequest::default()
    };
    let response = answer(rig.client.clone().write_file(request.clone()).await).unwrap();
    assert_eq!(response.min_replication, 2);
    let generations: Vec<u64> = response
        .allocations
        .iter()
        .map(|one| one.generation)
        .collect();
    let first = generations[0];
    assert_eq!(generations, (first..first + 64).collect::<Vec<_>>());
    for allocation in &response.allocations {
        let racks: BTreeSet<&str> = allocation.targets.iter().map(|node| &*node.rack).collect();
        assert_eq!(racks.len(), 3);
    }
    let too_many = wire::WriteFileRequest {
        count: 65,
        ..request
    };
    let refused = answer(rig.client.clone().write_file(too_many).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn known_content_need_not_be_sent_again() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let request = wire::WriteFileRequest {
        count: 1,
        declared_hash: wire::to_bytes(hash(1).as_bytes()),
        ..wire::WriteFileRequest::default()
    };
    let response = answer(rig.client.clone().write_file(request.clone()).await).unwrap();
    assert_eq!(response.existing.unwrap().nodes.len(), 3);
    assert!(response.allocations.is_empty());
    let request = wire::WriteFileRequest {
        declared_hash: wire::to_bytes(hash(2).as_bytes()),
        ..request
    };
    let response = answer(rig.client.clone().write_file(request).await).unwrap();
    assert_eq!((response.existing, response.allocations.len()), (None, 1));
    rig.stop().await;
}

#[tokio::test]
async fn a_write_under_way_gets_replacements_it_does_not_know_yet() {
    let rig = Rig::start().await;
    rig.nodes(4).await;
    let allocation = rig.allocate().await;
    let chain: Vec<_> = allocation
        .targets
        .iter()
        .map(|node| node.node_id.clone())
        .collect();
    let request = wire::WriteFileRequest {
        generation: allocation.generation,
        targets_wanted: 2,
        excluded_nodes: chain.clone(),
        ..wire::WriteFileRequest::default()
    };
    let response = answer(rig.client.clone().write_file(request.clone()).await).unwrap();
    let replacement = &response.allocations[0];
    assert_eq!(replacement.generation, allocation.generation);
    assert_eq!(replacement.targets.len(), 1, "only one node is left");
    assert!(!chain.contains(&replacement.targets[0].node_id));

    let unknown = wire::WriteFileRequest {
        generation: allocation.generation + 1000,
        ..request
    };
    let refused = answer(rig.client.clone().write_file(unknown).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    rig.stop().await;
}

#[tokio::test]
async fn a_replacement_avoids_the_racks_of_the_nodes_that_have_the_bytes() {
    let rig = Rig::start().await;
    let racks = ["a", "a", "b", "b", "b", "b", "b", "c"];
    let mut nodes = Vec::new();
    for (number, rack) in (1..).zip(racks) {
        let mut node = FakeNode::new(number);
        rack.clone_into(&mut node.rack);
        node.register(&rig.client).await.unwrap();
        nodes.push(node);
    }
    for _ in 0..20 {
        let request = wire::WriteFileRequest {
            generation: rig.allocate().await.generation,
            targets_wanted: 1,
            excluded_nodes: vec![nodes[1].id()],
            acknowledged_nodes: vec![nodes[0].id(), nodes[2].id()],
            ..wire::WriteFileRequest::default()
        };
        let response = answer(rig.client.clone().write_file(request).await).unwrap();
        let targets = response.allocations[0].targets.iter();
        let racks: Vec<_> = targets.map(|node| node.rack.as_str()).collect();
        assert_eq!(racks, ["c"], "the only rack without the bytes");
    }
    rig.stop().await;
}

#[tokio::test]
async fn i02_an_abandoned_write_cannot_be_committed() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(2).await;
    let generation = rig.allocate().await.generation;
    let request = wire::AbandonWritesRequest {
        generations: vec![generation],
    };
    answer(rig.client.clone().abandon_writes(request).await).unwrap();
    let refused = rig
        .commit(hash(1), generation, &[&nodes[0], &nodes[1]])
        .await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(rig.info().await.writes_in_flight, 0);
    rig.stop().await;
}

#[tokio::test]
async fn i03_the_commit_of_a_write_that_is_older_than_a_delete_says_so() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let generation = rig.allocate().await.generation;
    rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    let refused = rig
        .commit(hash(1), generation, &[&nodes[0], &nodes[1]])
        .await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::DeletedMeanwhile);
    rig.stop().await;
}

#[tokio::test]
async fn i11_a_write_that_is_not_renewed_runs_out() {
    let rig = Rig::with(|config| config.write_timeout_ms = 1_000).await;
    rig.nodes(2).await;
    let (kept, lost) = (
        rig.allocate().await.generation,
        rig.allocate().await.generation,
    );
    let renew = |generations: Vec<u64>| {
        let mut client = rig.client.clone();
        async move {
            let request = wire::RenewWritesRequest { generations };
            answer(client.renew_writes(request).await).unwrap().unknown
        }
    };
    until("the write that nobody renews to run out", || async {
        assert!(renew(vec![kept]).await.is_empty());
        (rig.info().await.writes_in_flight == 1).then_some(())
    })
    .await;
    assert_eq!(renew(vec![lost]).await, [lost]);
    rig.stop().await;
}

/// Seed 85 of the simulation: the clock was a day ahead when a write was allocated, and it stayed in flight for a day.
#[tokio::test]
async fn i02_a_write_runs_out_in_time_although_the_clock_was_set_back() {
    let day_ms = 24 * 3_600_000;
    let clock = ManualClock::at(2 * day_ms);
    let rig = Rig::by_clock(clock.clone(), |config| config.write_timeout_ms = 1_000).await;
    rig.nodes(2).await;
    rig.allocate().await;
    clock.set_ms(day_ms);
    rig.allocate().await;
    until("both writes to run out", || async {
        (rig.info().await.writes_in_flight == 0).then_some(())
    })
    .await;
    rig.stop().await;
}
