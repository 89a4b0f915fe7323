//! Commands: delivered until confirmed, withheld in safe mode, and the way by which deleted files stay deleted.

use richardstore_proto::wire::command::Action;
use richardstore_proto::{ErrorCode, wire};
use richardstore_runtime::ManualClock;

use crate::fixture::{FakeNode, Rig, done, hash, hashes, removed, until};

fn deletes(response: &wire::HeartbeatResponse) -> Vec<(Vec<u8>, u64)> {
    response
        .commands
        .iter()
        .filter_map(|command| match command.action.as_ref() {
            Some(Action::Delete(delete)) => Some((delete.hash.to_vec(), delete.generation)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn i10_a_delete_reaches_every_holder_once_and_ends_when_all_confirmed() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes).await;
    assert!(rig.delete(hash(1)).await);
    assert!(!rig.delete(hash(1)).await);
    assert_eq!(
        rig.read(hash(1)).await.unwrap_err().code,
        ErrorCode::NotFound
    );

    for node in &nodes {
        let response = node.heartbeat(&rig.client).await.unwrap();
        assert_eq!(deletes(&response), [(vec![1; 32], generation)]);
        let again = node.heartbeat(&rig.client).await.unwrap();
        assert!(again.commands.is_empty(), "it is in the node's hands");
        assert_eq!(rig.info().await.tombstones, 1);
        let outcome = done(&response.commands[0]);
        node.heartbeat_with(&rig.client, vec![outcome.clone()])
            .await
            .unwrap();
        node.heartbeat_with(&rig.client, vec![outcome])
            .await
            .unwrap();
    }
    let info = rig.info().await;
    assert_eq!((info.tombstones, info.commands_pending), (0, 0));
    rig.stop().await;
}

#[tokio::test]
async fn i10_commands_are_handed_out_again_after_a_restart_of_the_namenode() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    let before = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert_eq!(before.commands.len(), 1);

    rig.restart().await;
    assert!(nodes[0].heartbeat(&rig.client).await.unwrap().unregistered);
    for node in &mut nodes {
        node.register(&rig.client).await.unwrap();
    }
    let after = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert_eq!(after.commands, before.commands);
    assert!(after.namenode_epoch > before.namenode_epoch);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_restarted_datanode_gets_its_commands_again_at_once() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    let before = nodes[0].heartbeat(&rig.client).await.unwrap();
    nodes[0].session += 1;
    nodes[0].register(&rig.client).await.unwrap();
    let after = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert_eq!(after.commands, before.commands);
    rig.stop().await;
}

#[tokio::test]
async fn i10_a_failed_command_is_tried_again_later() {
    let day_ms = 24 * 3_600_000;
    let clock = ManualClock::at(2 * day_ms);
    let rig = Rig::by_clock(clock.clone(), |_| {}).await;
    let mut nodes = rig.nodes(2).await;
    rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    let first = nodes[0].heartbeat(&rig.client).await.unwrap();
    let failed = wire::CommandOutcome {
        error_code: ErrorCode::Internal.number(),
        error: "the disk said no".to_owned(),
        ..done(&first.commands[0])
    };
    let at_once = nodes[0]
        .heartbeat_with(&rig.client, vec![failed])
        .await
        .unwrap();
    assert!(at_once.commands.is_empty(), "not without a pause");
    // A step of the clock does not delay it.
    clock.set_ms(day_ms);
    let again = until("the command to be tried again", || async {
        let response = nodes[0].heartbeat(&rig.client).await.unwrap();
        (!response.commands.is_empty()).then_some(response)
    })
    .await;
    assert_eq!(again.commands, first.commands);
    rig.stop().await;
}

#[tokio::test]
async fn i07_safe_mode_withholds_commands_until_all_nodes_are_back() {
    let mut rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    rig.store(hash(2), &mut nodes).await;

    rig.restart().await;
    for node in &mut nodes[..2] {
        node.register(&rig.client).await.unwrap();
        let response = node.heartbeat(&rig.client).await.unwrap();
        assert!(!response.active && response.commands.is_empty());
    }
    let info = rig.info().await;
    assert_eq!(info.status, "safe mode");
    assert!(
        info.reason.starts_with("2 of 3 known datanodes are back"),
        "{}",
        info.reason
    );
    assert_eq!(
        rig.read(hash(2)).await.unwrap().nodes.len(),
        3,
        "reads go on"
    );
    assert_eq!(rig.allocate().await.targets.len(), 2, "uploads go on");

    nodes[2].register(&rig.client).await.unwrap();
    let response = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert!(response.active);
    assert_eq!(response.commands.len(), 1);
    assert_eq!(rig.info().await.status, "running");
    rig.stop().await;
}

#[tokio::test]
async fn i07_safe_mode_ends_without_a_node_that_stays_away() {
    let mut rig = Rig::with(|config| {
        config.heartbeat_interval_ms = 50;
        config.stale_after_ms = 1_500;
        config.dead_after_ms = 4_000;
    })
    .await;
    let mut nodes = rig.nodes(3).await;
    rig.restart().await;
    for node in &mut nodes[..2] {
        node.register(&rig.client).await.unwrap();
    }
    assert_eq!(rig.info().await.status, "safe mode");
    until("safe mode to end", || async {
        for node in &nodes[..2] {
            node.heartbeat(&rig.client).await.unwrap();
        }
        (rig.info().await.status == "degraded").then_some(())
    })
    .await;
    let info = rig.info().await;
    assert_eq!(
        (info.nodes_live, info.nodes_dead),
        (2, 1),
        "{}",
        info.reason
    );
    rig.stop().await;
}

#[tokio::test]
async fn i03_a_deleted_file_that_is_reported_again_gets_a_delete() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(3).await;
    let generation = rig.store(hash(1), &mut nodes[..2]).await;
    rig.delete(hash(1)).await;
    // A node that nobody thought of has it, too: its report was late.
    nodes[2].added(&rig.client, hash(1), generation).await;
    let response = nodes[2].heartbeat(&rig.client).await.unwrap();
    assert_eq!(deletes(&response), [(vec![1; 32], generation)]);
    assert_eq!(
        rig.read(hash(1)).await.unwrap_err().code,
        ErrorCode::NotFound
    );
    rig.stop().await;
}

#[tokio::test]
async fn i02_a_replica_of_an_abandoned_write_gets_a_delete() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let generation = rig.allocate().await.generation;
    nodes[0].added(&rig.client, hash(1), generation).await;
    let early = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert!(
        early.commands.is_empty(),
        "the write may still be committed"
    );
    let request = wire::AbandonWritesRequest {
        generations: vec![generation],
    };
    rig.client.clone().abandon_writes(request).await.unwrap();
    let late = nodes[0].heartbeat(&rig.client).await.unwrap();
    assert_eq!(deletes(&late), [(vec![1; 32], generation)]);
    rig.stop().await;
}

#[tokio::test]
async fn i04_a_reupload_after_a_delete_survives_it() {
    let rig = Rig::start().await;
    let mut nodes = rig.nodes(2).await;
    let old = rig.store(hash(1), &mut nodes).await;
    rig.delete(hash(1)).await;
    let new = rig.store(hash(1), &mut nodes).await;
    assert!(new > old);
    for node in &nodes {
        let response = node.heartbeat(&rig.client).await.unwrap();
        for (_, generation) in deletes(&response) {
            assert!(generation < new, "the delete means the old write only");
        }
        let outcomes = response.commands.iter().map(done).collect();
        node.heartbeat_with(&rig.client, outcomes).await.unwrap();
    }
    assert_eq!(rig.read(hash(1)).await.unwrap().nodes.len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn i11_many_commands_come_in_bounded_portions() {
    let rig = Rig::start().await;
    let nodes = rig.nodes(2).await;
    rig.store_many(&hashes(300), &nodes).await;
    for name in hashes(300) {
        assert!(rig.delete(name).await);
    }
    let node = &nodes[0];
    let first = node.heartbeat(&rig.client).await.unwrap();
    assert_eq!((first.commands.len(), first.more_commands), (256, true));
    let outcomes = first.commands.iter().map(done).collect();
    let second = node.heartbeat_with(&rig.client, outcomes).await.unwrap();
    assert_eq!((second.commands.len(), second.more_commands), (44, false));
    rig.stop().await;
}

/// What may be between two steps of a command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Restart {
    Namenode,
    Datanode,
    Both,
}

async fn restart(rig: &mut Rig, node: &mut FakeNode, what: Restart) {
    if what != Restart::Datanode {
        rig.restart().await;
    }
    if what != Restart::Namenode {
        node.session += 1;
    }
    node.register(&rig.client).await.unwrap();
}

/// The one command that the node gets, which may take a while to be handed out again.
async fn handed_out(rig: &Rig, node: &FakeNode) -> wire::Command {
    until("the command to be handed out", || async {
        let answer = node.heartbeat(&rig.client).await.unwrap();
        assert!(answer.commands.len() <= 1);
        answer.commands.into_iter().next()
    })
    .await
}

#[tokio::test]
async fn i10_a_command_is_redelivered_until_confirmed_whoever_restarts_between_any_two_steps() {
    for what in [Restart::Namenode, Restart::Datanode, Restart::Both] {
        for place in 0..4 {
            let mut rig = Rig::start().await;
            let mut nodes = rig.nodes(1).await;
            let generation = rig.store(hash(1), &mut nodes).await;
            let mut node = nodes.remove(0);
            assert!(rig.delete(hash(1)).await);
            if place == 0 {
                restart(&mut rig, &mut node, what).await;
            }
            let first = handed_out(&rig, &node).await;
            if place == 1 {
                restart(&mut rig, &mut node, what).await;
                assert_eq!(handed_out(&rig, &node).await, first);
            }
            let event = removed(node.next_sequence, hash(1), generation);
            node.report(&rig.client, vec![event]).await.unwrap();
            node.next_sequence += 1;
            if place == 2 {
                // Carried out and reported, and not confirmed: it is done again, which finds nothing to do.
                restart(&mut rig, &mut node, what).await;
                assert_eq!(handed_out(&rig, &node).await, first);
            }
            assert_eq!(rig.info().await.tombstones, 1, "{what:?} {place}");
            let outcomes = vec![done(&first)];
            node.heartbeat_with(&rig.client, outcomes.clone())
                .await
                .unwrap();
            if place == 3 {
                // The answer was lost with the restart: it confirms again what nobody knows any more.
                restart(&mut rig, &mut node, what).await;
                node.heartbeat_with(&rig.client, outcomes).await.unwrap();
            }
            let answer = node.heartbeat(&rig.client).await.unwrap();
            assert_eq!(answer.commands, [], "{what:?} {place}");
            let info = rig.info().await;
            assert_eq!((info.tombstones, info.commands_pending), (0, 0));
            assert!(rig.read(hash(1)).await.is_err());
            rig.stop().await;
        }
    }
}
