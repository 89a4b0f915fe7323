//! Nodes that are away on purpose, and nodes that are gone for good.

use std::collections::BTreeSet;

use richardstore_proto::wire::command::Action;
use richardstore_proto::wire::{self, NodeAction};
use richardstore_proto::{ContentHash, ErrorCode, StoreError};

use crate::fixture::{FakeNode, Rig, answer, done, hash, until};

async fn rig() -> Rig {
    Rig::with(|config| {
        config.heartbeat_interval_ms = 100;
        config.stale_after_ms = 2_500;
        config.dead_after_ms = 5_000;
        config.repair_bytes_per_second = 1 << 30;
    })
    .await
}

async fn ask(
    rig: &Rig,
    request: wire::SetNodeAdminRequest,
) -> Result<wire::SetNodeAdminResponse, StoreError> {
    answer(rig.client.clone().set_node_admin(request).await)
}

fn removal(node: &str, accept_loss: bool) -> wire::SetNodeAdminRequest {
    wire::SetNodeAdminRequest {
        node: node.to_owned(),
        action: NodeAction::Remove.into(),
        accept_loss,
        ..wire::SetNodeAdminRequest::default()
    }
}

fn maintenance(node: &str, maintenance_ms: u64) -> wire::SetNodeAdminRequest {
    wire::SetNodeAdminRequest {
        node: node.to_owned(),
        action: NodeAction::Maintenance.into(),
        maintenance_ms,
        ..wire::SetNodeAdminRequest::default()
    }
}

/// Heartbeats of these nodes, and the first command that one of them gets.
async fn beat(rig: &Rig, nodes: &[FakeNode], beating: &[usize]) -> Option<(usize, wire::Command)> {
    let mut first = None;
    for &at in beating {
        let answer = nodes[at].heartbeat(&rig.client).await.unwrap();
        let command = answer.commands.into_iter().next();
        first = first.or(command.map(|command| (at, command)));
    }
    first
}

/// Heartbeats of these nodes, without a command, until as many others are dead.
async fn until_dead(rig: &Rig, nodes: &[FakeNode], beating: &[usize], dead: u32) {
    until("the others to be dead", || async {
        assert_eq!(beat(rig, nodes, beating).await, None);
        (rig.info().await.nodes_dead == dead).then_some(())
    })
    .await;
}

async fn holders(rig: &Rig, hash: ContentHash) -> BTreeSet<u8> {
    let located = rig.read(hash).await.unwrap();
    located.nodes.iter().map(|node| node.node_id[0]).collect()
}

async fn names(rig: &Rig) -> Vec<String> {
    let request = wire::ListNodesRequest {};
    let nodes = answer(rig.client.clone().list_nodes(request).await).unwrap();
    let infos = nodes.nodes.into_iter().filter_map(|status| status.node);
    infos.map(|info| info.name).collect()
}

#[tokio::test]
async fn i03_a_removed_node_is_waited_for_by_nobody_and_refused_when_it_returns() {
    let mut rig = rig().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    rig.store(hash(2), &mut nodes).await;
    let refused = ask(&rig, removal("node-3", true)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict, "it is alive");
    until_dead(&rig, &nodes, &[0, 1], 1).await;
    rig.delete(hash(2)).await;
    let removed = ask(&rig, removal("node-3", false)).await.unwrap();
    assert_eq!((&*removed.admin, removed.blocking), ("removed", 0));
    let again = ask(&rig, removal("node-3", false)).await.unwrap();
    assert_eq!(again.admin, "removed", "the answer may have got lost");

    until("the deletes to be confirmed", || async {
        if let Some((at, command)) = beat(&rig, &nodes, &[0, 1]).await {
            let outcomes = vec![done(&command)];
            nodes[at]
                .heartbeat_with(&rig.client, outcomes)
                .await
                .unwrap();
        }
        (rig.info().await.tombstones == 0).then_some(())
    })
    .await;
    for restarted in [false, true] {
        if restarted {
            rig.restart().await;
            for node in &mut nodes[..2] {
                node.register(&rig.client).await.unwrap();
            }
        }
        let refused = nodes[2].register(&rig.client).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Fenced, "which ends the datanode");
        assert!(refused.message.contains("wipe its directory"), "{refused}");
        beat(&rig, &nodes, &[0, 1]).await;
        assert_eq!(holders(&rig, hash(1)).await, BTreeSet::from([1, 2]));
        assert!(rig.read(hash(2)).await.is_err());
        assert_eq!(names(&rig).await, ["node-1", "node-2"]);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_node_with_the_last_replica_is_removed_only_when_the_loss_is_accepted() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    let generation = rig.allocate().await.generation;
    let both = [&nodes[2], &nodes[3]];
    rig.commit(hash(1), generation, &both).await.unwrap();
    rig.store(hash(2), &mut nodes).await;
    until_dead(&rig, &nodes, &[0, 1], 2).await;
    let asked = ask(&rig, removal("node-3", false)).await.unwrap();
    assert!(asked.checked);
    assert_eq!((&*asked.admin, asked.blocking), ("in_service", 1));
    assert_eq!(asked.first[0].hash, *hash(1).as_bytes().as_slice());
    assert_eq!(names(&rig).await.len(), 4);
    let removed = ask(&rig, removal("node-3", true)).await.unwrap();
    assert_eq!((&*removed.admin, removed.blocking), ("removed", 1));
    assert_eq!(removed.first.len(), 1, "what is lost is named");
    // The file stays on record: unreadable is not deleted.
    assert_eq!(holders(&rig, hash(1)).await, BTreeSet::from([4]));
    let unknown = ask(&rig, removal("node-9", true)).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound);
    rig.stop().await;
}

#[tokio::test]
async fn files_of_a_node_in_maintenance_are_not_copied_until_its_time_is_over() {
    let mut rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    rig.store(hash(1), &mut nodes[..3]).await;
    let status = ask(&rig, maintenance("node-1", 12_000)).await.unwrap();
    assert!(status.maintenance_until_ms > 0);
    // Remembered by a restart, which does not wait for the node either.
    rig.restart().await;
    for node in &mut nodes[1..] {
        node.register(&rig.client).await.unwrap();
    }
    until("the cluster to be well without it", || async {
        assert_eq!(beat(&rig, &nodes, &[1, 2, 3]).await, None);
        let info = rig.info().await;
        (info.status == "running" && info.nodes_in_maintenance == 1).then_some(())
    })
    .await;
    let (at, command) = until("the maintenance to be over", || async {
        let ordered = beat(&rig, &nodes, &[1, 2, 3]).await;
        let info = rig.info().await;
        if info.nodes_in_maintenance == 1 {
            assert_eq!(ordered, None);
            assert_eq!((info.nodes_dead, info.nodes_stale), (0, 0));
        }
        ordered
    })
    .await;
    let Some(Action::Replicate(copy)) = &command.action else {
        panic!("{command:?}");
    };
    assert!([1, 2].contains(&at));
    assert_eq!(copy.targets[0].node_id[0], 4);
    rig.stop().await;
}

#[tokio::test]
async fn a_file_that_maintenance_leaves_with_too_few_replicas_is_copied_at_once() {
    let rig = rig().await;
    let mut nodes = rig.nodes(4).await;
    for node in ["node-1", "node-2"] {
        ask(&rig, maintenance(node, 600_000)).await.unwrap();
    }
    // Stored before, as far as the namenode knows: a write would not go there.
    rig.store(hash(1), &mut nodes[..3]).await;
    let (at, command) = until("a copy", || async { beat(&rig, &nodes, &[2, 3]).await }).await;
    let Some(Action::Replicate(copy)) = &command.action else {
        panic!("{command:?}");
    };
    assert_eq!((at, copy.targets[0].node_id[0]), (2, 4));
    rig.stop().await;
}

#[tokio::test]
async fn maintenance_is_bounded_and_can_be_ended() {
    let rig = rig().await;
    rig.nodes(2).await;
    let week_ms = 7 * 24 * 3_600_000;
    let refused = ask(&rig, maintenance("node-1", week_ms + 1)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidArgument);
    ask(&rig, maintenance("node-1", 0)).await.unwrap();
    assert_eq!(rig.info().await.nodes_in_maintenance, 1);
    let end = wire::SetNodeAdminRequest {
        action: NodeAction::EndMaintenance.into(),
        ..maintenance("node-1", 0)
    };
    let status = ask(&rig, end).await.unwrap();
    assert_eq!(status.maintenance_until_ms, 0);
    assert_eq!(rig.info().await.nodes_in_maintenance, 0);
    rig.stop().await;
}
