//! Who may speak: clusters, sessions, epochs, addresses.

use richardstore_proto::ErrorCode;

use crate::fixture::{FakeNode, Rig, hash, until};

#[tokio::test]
async fn a_new_datanode_joins_and_is_told_the_cluster() {
    let rig = Rig::start().await;
    let mut node = FakeNode::new(1);
    let response = node.register(&rig.client).await.unwrap();
    assert_eq!(response.cluster_id, rig.namenode().cluster_id().to_string());
    assert_eq!(response.next_sequence, 1);
    assert!(response.full_report_wanted);
    let heartbeat = node.heartbeat(&rig.client).await.unwrap();
    assert!(heartbeat.active && !heartbeat.unregistered);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_datanode_of_another_cluster_is_refused_before_anything_counts() {
    let rig = Rig::start().await;
    let mut stranger = FakeNode::new(1);
    stranger.cluster_id = "00000000-0000-4000-8000-000000000000".to_owned();
    let refused = stranger.register(&rig.client).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongCluster);
    let refused = stranger.heartbeat(&rig.client).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongCluster);
    assert_eq!(rig.info().await.nodes_live, 0);
    rig.stop().await;
}

#[tokio::test]
async fn i10_an_older_session_of_a_node_is_fenced_everywhere() {
    let rig = Rig::start().await;
    let mut old = FakeNode::new(1);
    old.session = 4;
    old.register(&rig.client).await.unwrap();
    let mut new = old.clone();
    new.session = 5;
    new.register(&rig.client).await.unwrap();

    let heartbeat = old.heartbeat(&rig.client).await.unwrap_err();
    let registration = old.register(&rig.client).await.unwrap_err();
    let report = old.report(&rig.client, Vec::new()).await.unwrap_err();
    for refused in [heartbeat, registration, report] {
        assert_eq!(refused.code, ErrorCode::Fenced, "{refused}");
    }
    new.heartbeat(&rig.client).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_node_that_is_not_known_or_newly_started_is_asked_to_register() {
    let rig = Rig::start().await;
    let mut node = FakeNode::new(1);
    node.cluster_id = rig.namenode().cluster_id().to_string();
    assert!(node.heartbeat(&rig.client).await.unwrap().unregistered);
    node.register(&rig.client).await.unwrap();
    node.session += 1;
    assert!(node.heartbeat(&rig.client).await.unwrap().unregistered);
    assert!(
        node.report(&rig.client, Vec::new())
            .await
            .unwrap()
            .unregistered
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_new_address_is_taken_at_the_next_heartbeat_and_kept() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    rig.store(hash(1), &mut nodes).await;
    nodes[0].address = "10.1.2.3:4567".to_owned();
    nodes[0].heartbeat(&rig.client).await.unwrap();
    let addresses = |found: richardstore_proto::wire::StreamInfo| -> Vec<String> {
        found.nodes.into_iter().map(|node| node.address).collect()
    };
    let moved = nodes[0].address.clone();
    assert!(addresses(rig.read(hash(1)).await.unwrap()).contains(&moved));
    rig.restart().await;
    assert!(addresses(rig.read(hash(1)).await.unwrap()).contains(&moved));
    rig.stop().await;
}

#[tokio::test]
async fn addresses_and_names_without_sense_are_refused() {
    let rig = Rig::start().await;
    for address in [
        "",
        "nowhere",
        ":9000",
        "host:0",
        "host:port",
        "ho st:1",
        "a\u{0}:1",
    ] {
        let mut node = FakeNode::new(1);
        node.address = address.to_owned();
        let refused = node.register(&rig.client).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{address:?}");
    }
    let mut node = FakeNode::new(1);
    node.rack = "r".repeat(300);
    let refused = node.register(&rig.client).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_datanode_that_saw_a_newer_namenode_does_not_obey_this_one() {
    let rig = Rig::start().await;
    let mut node = FakeNode::new(1);
    node.register(&rig.client).await.unwrap();
    node.namenode_epoch += 1;
    let refused = node.heartbeat(&rig.client).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_journal_that_went_back_is_told_so_and_a_new_one_starts_over() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let generation = rig.allocate().await.generation;
    let node = &mut nodes[0];
    node.added(&rig.client, hash(1), generation).await;
    node.session += 1;
    node.next_sequence = 1;
    let response = node.register(&rig.client).await.unwrap();
    assert_eq!(
        response.next_sequence, 2,
        "ahead of the journal: it is of no use any more"
    );
    node.journal = 77;
    let response = node.register(&rig.client).await.unwrap();
    assert_eq!(response.next_sequence, 1);
    assert!(response.full_report_wanted);
    rig.stop().await;
}

#[tokio::test]
async fn a_silent_node_turns_stale_and_dead_gets_no_writes_and_is_read_last() {
    let rig = Rig::with(|config| {
        config.heartbeat_interval_ms = 50;
        config.stale_after_ms = 1_500;
        config.dead_after_ms = 5_000;
    })
    .await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    let silent = nodes[2].id();
    let beat = || async {
        for node in &nodes[..2] {
            node.heartbeat(&rig.client).await.unwrap();
        }
        rig.info().await
    };
    until("the silent node to be stale", || async {
        (beat().await.nodes_stale == 1).then_some(())
    })
    .await;
    let found = rig.read(hash(1)).await.unwrap().nodes;
    assert_eq!((found.len(), &found[2].node_id), (3, &silent));
    beat().await;
    assert_eq!(rig.allocate().await.targets.len(), 2);

    let info = until("the silent node to be dead", || async {
        let info = beat().await;
        (info.nodes_dead == 1).then_some(info)
    })
    .await;
    assert_eq!(info.status, "degraded");
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 2);

    let back = nodes[2].heartbeat(&rig.client).await.unwrap();
    assert!(back.full_report_wanted, "it has to prove what it holds");
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 3);
    rig.stop().await;
}
