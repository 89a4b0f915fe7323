//! Sessions with the namenode: joining, fencing, outages and commands.

use std::time::Duration;

use crate::common::fake_namenode::{CLUSTER, FakeNamenode};
use crate::common::node::{TestNode, config};
use crate::common::until;
use crate::common::writes::{content, generation, put, read};
use richardstore_datanode::{Datanode, DatanodeError};
use richardstore_proto::{
    Blake3Root, ClusterId, Command, CommandAction, CommandId, ContentHash, ErrorCode, FileInfo,
    RememberedDelete,
};
use richardstore_runtime::Environment;

const LIMIT: Duration = Duration::from_secs(30);

async fn failure_of(node: &TestNode) -> ErrorCode {
    let running = node.running.as_ref().unwrap();
    tokio::time::timeout(LIMIT, running.failed()).await.unwrap();
    running.failure().unwrap().code
}

#[tokio::test]
async fn a_datanode_outlives_its_namenode_and_registers_again() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let id = node.id();
    let bytes = content(1, 300_000);
    let hash = put(&node, 1, &bytes).await;
    let gone = namenode.stop().await;
    assert_eq!(read(&node, &hash, 0, 0).await, (bytes, Ok(())));
    let second = put(&node, 2, &content(2, 10)).await;
    let namenode = FakeNamenode::restart(gone).await;
    until("a second registration", || {
        namenode.view(id, |view| view.registered && view.registrations >= 2)
    })
    .await;
    until("what was written meanwhile is reported", || {
        namenode.replicas(id).contains_key(&second)
    })
    .await;
}

#[tokio::test]
async fn a_datanode_starts_before_its_namenode_and_serves_nothing_foreign() {
    let namenode = FakeNamenode::start().await;
    let address = namenode.address;
    let gone = namenode.stop().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &address.to_string());
    let datanode = Datanode::start(config, Environment::system())
        .await
        .unwrap();
    let namenode = FakeNamenode::restart(gone).await;
    let id = datanode.node_id();
    until("it joined", || {
        namenode.view(id, |view| view.heartbeats > 1)
    })
    .await;
    datanode.stop(LIMIT).await;
}

#[tokio::test]
async fn i10_a_foreign_cluster_ends_the_datanode() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    node.stop().await;
    namenode.state().cluster = ClusterId::new([8; 16]);
    node.restart().await;
    assert_eq!(failure_of(&node).await, ErrorCode::WrongCluster);
    node.stop().await;
    // What it had is still its own: back at the right namenode it goes on.
    namenode.state().cluster = CLUSTER;
    node.restart().await;
    node.reported(&namenode).await;
}

#[tokio::test]
async fn i10_a_newer_session_under_the_same_id_ends_the_older() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    namenode.state().refuse = Some(ErrorCode::Fenced);
    assert_eq!(failure_of(&node).await, ErrorCode::Fenced);
}

#[tokio::test]
async fn i10_commands_of_an_older_namenode_are_not_obeyed() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let hash = put(&node, 1, &content(3, 1000)).await;
    let id = node.id();
    let before = {
        let mut state = namenode.state();
        state.epoch -= 1;
        let view = state.nodes.get_mut(&id).unwrap();
        view.commands.push(delete(1, hash, 9));
        view.heartbeats
    };
    until("the old namenode was heard", || {
        namenode.view(id, |view| view.heartbeats > before + 2)
    })
    .await;
    assert!(node.replica_file(&hash).is_some());
    // The fence holds across a restart too.
    node.stop().await;
    node.restart().await;
    let registrations = namenode.view(id, |view| view.registrations);
    until("it registered again", || {
        namenode.view(id, |view| view.registrations > registrations)
    })
    .await;
    assert!(node.replica_file(&hash).is_some());
    namenode.state().epoch += 1;
    until("the right namenode is obeyed", || {
        node.replica_file(&hash).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_its_session_left_alone() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let identity = node.directory.path().join("identity.json");
    let before = std::fs::read(&identity).unwrap();
    let config = config(node.directory.path(), &namenode.address.to_string());
    let second = Datanode::start(config, Environment::system()).await;
    assert!(matches!(second, Err(DatanodeError::Volume(_))));
    assert_eq!(std::fs::read(&identity).unwrap(), before);
}

fn delete(id: u64, hash: ContentHash, up_to: u64) -> Command {
    Command {
        id: CommandId(id),
        action: CommandAction::Delete(RememberedDelete {
            hash,
            generation: generation(up_to),
            marker: generation(id),
        }),
    }
}

#[tokio::test]
async fn i04_a_delete_of_an_older_generation_keeps_the_newer_replica() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(4, 5000);
    let hash = put(&node, 3, &bytes).await;
    // The same content again: the replica now belongs to the newer write.
    assert_eq!(put(&node, 7, &bytes).await, hash);
    let id = node.id();
    namenode.view(id, |view| {
        view.commands
            .extend([delete(1, hash, 6), delete(2, ContentHash::MIN, 6)]);
    });
    until("both commands are confirmed", || {
        namenode.view(id, |view| view.commands.is_empty())
    })
    .await;
    namenode.view(id, |view| {
        assert!(view.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    });
    assert_eq!(read(&node, &hash, 0, 0).await, (bytes, Ok(())));
    until("the newer replica is reported", || {
        namenode.replicas(id).get(&hash) == Some(&generation(7))
    })
    .await;
}

#[tokio::test]
async fn i10_a_delete_is_done_confirmed_and_reported_once() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let id = node.id();
    let hash = put(&node, 3, &content(5, 5000)).await;
    until("it is reported", || {
        namenode.replicas(id).contains_key(&hash)
    })
    .await;
    namenode.view(id, |view| view.commands.push(delete(1, hash, 3)));
    until("it is reported as gone", || {
        !namenode.replicas(id).contains_key(&hash)
    })
    .await;
    until("it is confirmed", || {
        namenode.view(id, |view| view.commands.is_empty())
    })
    .await;
    assert_eq!(node.replica_file(&hash), None);
    namenode.view(id, |view| {
        assert_eq!(view.outcomes.len(), 1);
        let removals = view.events.iter().filter(|event| event.removed);
        assert_eq!(removals.count(), 1);
    });
}

#[tokio::test]
async fn a_replicate_command_ends_well_only_when_all_targets_have_the_file() {
    let namenode = FakeNamenode::start().await;
    let source = TestNode::start(&namenode).await;
    let mut target = TestNode::start(&namenode).await;
    let bytes = content(6, 700_000);
    let hash = put(&source, 3, &bytes).await;
    let replicate = |id| Command {
        id: CommandId(id),
        action: CommandAction::Replicate {
            file: FileInfo {
                hash,
                size: 700_000,
                blake3_root: Blake3Root::new([0; 32]),
                generation: generation(3),
                replication: 2,
                created_ms: 0,
            },
            targets: vec![target.info()],
        },
    };
    let (first, second) = (replicate(1), replicate(2));
    let id = source.id();
    namenode.view(id, |view| view.commands.push(first));
    until("the target has it", || target.replica_file(&hash).is_some()).await;
    until("the copy is confirmed", || {
        namenode.view(id, |view| view.outcomes.len() == 1)
    })
    .await;
    target.stop().await;
    namenode.view(id, |view| view.commands.push(second));
    until("the failure is told", || {
        namenode.view(id, |view| view.outcomes.len() == 2)
    })
    .await;
    namenode.view(id, |view| {
        assert_eq!(view.outcomes[0].result, Ok(()));
        let (code, _) = view.outcomes[1].result.clone().unwrap_err();
        assert_eq!(code, ErrorCode::Unavailable);
    });
}
