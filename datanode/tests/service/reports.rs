//! Reports: exactly once and in order, and the same whatever happened to the index.

use std::collections::BTreeMap;
use std::fs;

use crate::common::fake_namenode::FakeNamenode;
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{content, generation, put};
use richardstore_proto::{ContentHash, Generation};

type Replicas = BTreeMap<ContentHash, Generation>;

async fn put_some(node: &TestNode, count: u8) -> Replicas {
    let mut replicas = Replicas::new();
    for number in 1..=count {
        let bytes = content(number, 100 * usize::from(number));
        let hash = put(node, u64::from(number), &bytes).await;
        replicas.insert(hash, generation(u64::from(number)));
    }
    replicas
}

async fn until_reported(namenode: &FakeNamenode, node: &TestNode, replicas: &Replicas) {
    let id = node.id();
    until("the namenode knows all replicas", || {
        namenode.replicas(id) == *replicas
    })
    .await;
}

#[tokio::test]
async fn i10_events_are_sent_again_from_where_the_namenode_asks() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let id = node.id();
    let (address, state) = namenode.stop().await;
    let mut replicas = put_some(&node, 4).await;
    // The answer of the first two was lost on the way: the namenode has them, the datanode does not know.
    let namenode = FakeNamenode::restart((address, state)).await;
    until_reported(&namenode, &node, &replicas).await;
    let after = namenode.view(id, |view| view.next_sequence);
    let late = put(&node, 9, &content(99, 10)).await;
    replicas.insert(late, generation(9));
    until_reported(&namenode, &node, &replicas).await;
    namenode.view(id, |view| {
        assert_eq!(view.next_sequence, after + 1);
        let sequences: Vec<_> = view.events.iter().map(|event| event.sequence.0).collect();
        assert_eq!(sequences, (1..view.next_sequence).collect::<Vec<_>>());
    });
}

#[tokio::test]
async fn i10_a_namenode_that_lost_its_last_transaction_gets_the_events_again() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let id = node.id();
    let replicas = put_some(&node, 3).await;
    until_reported(&namenode, &node, &replicas).await;
    node.stop().await;
    // Put back to before the acknowledged events, which the datanode has trimmed: only a new journal helps.
    let lost = namenode.view(id, |view| {
        let last = view.events.pop().unwrap();
        view.replicas.remove(&last.replica.hash);
        view.next_sequence -= 1;
        last.replica.hash
    });
    node.restart().await;
    until("the lost replica is known again", || {
        namenode.replicas(id).contains_key(&lost)
    })
    .await;
    until_reported(&namenode, &node, &replicas).await;
}

#[tokio::test]
async fn i11_an_agreeing_full_report_is_two_messages() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let id = node.id();
    let replicas = put_some(&node, 20).await;
    until_reported(&namenode, &node, &replicas).await;
    let before = namenode.view(id, |view| view.full_report_steps);
    namenode.state().full_report_wanted = true;
    node.reported(&namenode).await;
    let steps = namenode.view(id, |view| view.full_report_steps) - before;
    assert_eq!(steps, 2, "the root digest and the end");
}

#[tokio::test]
async fn a_full_report_announces_what_is_unknown_and_takes_back_what_is_gone() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let id = node.id();
    let replicas = put_some(&node, 20).await;
    until_reported(&namenode, &node, &replicas).await;
    let ghost = ContentHash::new([0xab; 32]);
    let (unknown, other) = {
        let mut hashes = replicas.keys();
        (*hashes.next().unwrap(), *hashes.next().unwrap())
    };
    namenode.view(id, |view| {
        view.replicas.remove(&unknown);
        view.replicas.insert(other, generation(1_000));
        view.replicas.insert(ghost, generation(1));
    });
    namenode.state().full_report_wanted = true;
    until_reported(&namenode, &node, &replicas).await;
}

#[tokio::test]
async fn a_replica_removed_by_hand_is_taken_back_after_a_restart() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let mut replicas = put_some(&node, 5).await;
    until_reported(&namenode, &node, &replicas).await;
    node.stop().await;
    let removed = *replicas.keys().next().unwrap();
    fs::remove_file(node.replica_file(&removed).unwrap()).unwrap();
    fs::remove_file(node.directory.path().join("index.clean")).unwrap();
    replicas.remove(&removed);
    node.restart().await;
    until_reported(&namenode, &node, &replicas).await;
}

#[tokio::test]
async fn i09_without_its_index_a_datanode_reports_the_same() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let id = node.id();
    let replicas = put_some(&node, 30).await;
    until_reported(&namenode, &node, &replicas).await;
    let journal = namenode.view(id, |view| view.journal_id);
    node.stop().await;
    fs::remove_dir_all(node.directory.path().join("index")).unwrap();
    // The namenode forgets as well, so that all it knows afterwards came from the rebuilt index.
    namenode.view(id, |view| view.replicas.clear());
    node.restart().await;
    until_reported(&namenode, &node, &replicas).await;
    assert_ne!(namenode.view(id, |view| view.journal_id), journal);
}

#[tokio::test]
async fn a_clean_stop_keeps_the_journal() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let id = node.id();
    let replicas = put_some(&node, 3).await;
    until_reported(&namenode, &node, &replicas).await;
    let journal = namenode.view(id, |view| view.journal_id);
    node.stop().await;
    node.restart().await;
    node.reported(&namenode).await;
    assert_eq!(namenode.view(id, |view| view.journal_id), journal);
    assert_eq!(namenode.replicas(id), replicas);
}

#[tokio::test]
async fn i09_a_crash_keeps_every_acknowledged_replica_in_the_report() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let replicas = put_some(&node, 10).await;
    let directory = node.directory.path().to_owned();
    drop(node.running.take());
    let config = crate::common::node::config(&directory, &namenode.address.to_string());
    // The lock goes when the last call of the dropped datanode has ended.
    let started = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            let environment = richardstore_runtime::Environment::system();
            match richardstore_datanode::Datanode::start(config.clone(), environment).await {
                Ok(datanode) => return datanode,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    node.running = Some(started.await.unwrap());
    until_reported(&namenode, &node, &replicas).await;
}
