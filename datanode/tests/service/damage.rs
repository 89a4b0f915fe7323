//! Damaged replicas: reported, put aside on command, healed in place, and found by the scrub.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::fake_namenode::FakeNamenode;
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{content, generation, put, read};
use richardstore_proto::{Command, CommandAction, CommandId, ContentHash, ErrorCode, ReplicaEntry};

fn quarantine(id: u64, hash: ContentHash, up_to: u64) -> Command {
    Command {
        id: CommandId(id),
        action: CommandAction::Quarantine(ReplicaEntry {
            hash,
            generation: generation(up_to),
        }),
    }
}

async fn carry_out(namenode: &FakeNamenode, node: &TestNode, command: Command) {
    let id = node.id();
    namenode.view(id, |view| view.commands.push(command));
    until("the command is confirmed", || {
        namenode.view(id, |view| view.commands.is_empty())
    })
    .await;
    namenode.view(id, |view| {
        assert!(view.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    });
}

async fn reported_as_bad(namenode: &FakeNamenode, node: &TestNode, hash: &ContentHash) {
    let id = node.id();
    until("the namenode is told", || {
        namenode.view(id, |view| view.bad_replicas.contains(hash))
    })
    .await;
}

async fn reported_as_held(
    namenode: &FakeNamenode,
    node: &TestNode,
    hash: &ContentHash,
    held: bool,
) {
    until("the report says so", || {
        namenode.replicas(node.id()).contains_key(hash) == held
    })
    .await;
}

fn kept(node: &TestNode) -> Vec<PathBuf> {
    let kept = fs::read_dir(node.directory.path().join("replicas/quarantine")).unwrap();
    kept.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn i05_a_bad_replica_is_put_aside_on_command_and_reported_as_gone() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(1, 300_000);
    let hash = put(&node, 3, &bytes).await;
    reported_as_held(&namenode, &node, &hash, true).await;
    node.damage(&hash, 200_000);
    carry_out(&namenode, &node, quarantine(1, hash, 3)).await;
    reported_as_held(&namenode, &node, &hash, false).await;
    assert_eq!(node.replica_file(&hash), None);
    assert_eq!(kept(&node).len(), 1);
    // Delivered again it does nothing (I10), and the file can come back.
    carry_out(&namenode, &node, quarantine(2, hash, 3)).await;
    put(&node, 4, &bytes).await;
    assert_eq!(read(&node, &hash, 0, 0).await, (bytes, Ok(())));
    reported_as_held(&namenode, &node, &hash, true).await;
}

#[tokio::test]
async fn i06_a_sound_replica_stays_and_is_reported_again() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(2, 300_000);
    let hash = put(&node, 3, &bytes).await;
    reported_as_held(&namenode, &node, &hash, true).await;
    // As a namenode that believed a wrong finding.
    namenode.view(node.id(), |view| view.replicas.remove(&hash));
    carry_out(&namenode, &node, quarantine(1, hash, 3)).await;
    reported_as_held(&namenode, &node, &hash, true).await;
    assert_eq!(read(&node, &hash, 0, 0).await, (bytes, Ok(())));
    assert!(kept(&node).is_empty());
}

#[tokio::test]
async fn i06_a_replica_newer_than_the_finding_stays() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let hash = put(&node, 5, &content(3, 1000)).await;
    node.damage(&hash, 7);
    carry_out(&namenode, &node, quarantine(1, hash, 4)).await;
    assert!(node.replica_file(&hash).is_some());
}

#[tokio::test]
async fn i05_a_copy_onto_the_node_with_the_bad_replica_heals_it() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(4, 300_000);
    let hash = put(&node, 3, &bytes).await;
    node.damage(&hash, 250_000);
    let (_, ended) = read(&node, &hash, 0, 0).await;
    assert_eq!(ended.unwrap_err().code, ErrorCode::Corrupt);
    reported_as_bad(&namenode, &node, &hash).await;
    put(&node, 3, &bytes).await;
    assert_eq!(read(&node, &hash, 0, 0).await, (bytes, Ok(())));
    assert_eq!(kept(&node).len(), 1);
}

#[tokio::test]
async fn i05_the_scrub_finds_damage_that_nobody_reads_and_reports_it() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let mut damaged = Vec::new();
    for (seed, at) in (10u8..).zip([0, 70_000, 299_999]) {
        let hash = put(&node, 3, &content(seed, 300_000)).await;
        node.damage(&hash, at);
        damaged.push(hash);
    }
    for (seed, length) in (20u8..).zip([0, 1000]) {
        let hash = put(&node, 3, &content(seed, 2000)).await;
        let path = node.replica_file(&hash).unwrap();
        fs::write(path, &content(seed, 2000)[..length]).unwrap();
        damaged.push(hash);
    }
    let sound = put(&node, 3, &content(30, 300_000)).await;
    node.stop().await;
    node.scrub_interval = Duration::from_millis(40);
    node.restart().await;
    let began = Instant::now();
    for hash in &damaged {
        reported_as_bad(&namenode, &node, hash).await;
    }
    println!(
        "the scrub found {} of {} damaged replicas in {:.1} s",
        damaged.len(),
        damaged.len(),
        began.elapsed().as_secs_f32()
    );
    namenode.view(node.id(), |view| {
        assert_eq!(view.bad_replicas.len(), damaged.len());
        assert!(!view.bad_replicas.contains(&sound));
    });
    // It is the namenode that decides when a bad one may go.
    assert!(kept(&node).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn i05_damage_found_while_the_namenode_is_away_is_told_when_it_returns() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    let hash = put(&node, 3, &content(40, 300_000)).await;
    node.damage(&hash, 5);
    node.stop().await;
    let away = namenode.stop().await;
    node.scrub_interval = Duration::from_millis(40);
    node.restart().await;
    let namenode = FakeNamenode::restart(away).await;
    reported_as_bad(&namenode, &node, &hash).await;
    node.stop().await;
}

#[tokio::test]
async fn i05_a_namenode_that_comes_back_is_told_again_of_what_is_still_bad() {
    let namenode = FakeNamenode::start().await;
    let mut node = TestNode::start(&namenode).await;
    // The scrub would find it anew.
    node.stop().await;
    node.scrub_interval = Duration::ZERO;
    node.restart().await;
    let (healed, bad) = (content(1, 300_000), content(2, 300_000));
    let healed_hash = put(&node, 3, &healed).await;
    let bad_hash = put(&node, 4, &bad).await;
    for hash in [&healed_hash, &bad_hash] {
        node.damage(hash, 200_000);
        read(&node, hash, 0, 0).await.1.unwrap_err();
        reported_as_bad(&namenode, &node, hash).await;
    }
    put(&node, 5, &healed).await;
    let namenode = FakeNamenode::restart(namenode.stop().await).await;
    reported_as_bad(&namenode, &node, &bad_hash).await;
    namenode.view(node.id(), |view| {
        assert!(!view.bad_replicas.contains(&healed_hash));
    });
}
