//! Reads against a cluster whose replicas fail in every way.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use crate::fake_cluster::{FakeCluster, PATIENCE, ReadFault, file_info, some_bytes, until};
use futures_util::StreamExt;
use futures_util::future::join_all;
use richardstore_client::{Client, ClientConfig, ClientError, GetOptions};
use richardstore_proto::{ContentHash, ErrorCode};
use richardstore_runtime::Environment;

const LENGTH: usize = 1_000_003;

#[tokio::test]
async fn a_whole_file_a_range_and_nothing_are_read_exactly() {
    let cluster = FakeCluster::start(3).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    let range = cluster.read_range(&hash, 70_000, Some(100)).await.unwrap();
    assert_eq!(range, bytes[70_000..70_100]);
    let tail = cluster.read_range(&hash, 999_999, Some(100)).await.unwrap();
    assert_eq!(tail, bytes[999_999..]);
    let end = cluster
        .read_range(&hash, LENGTH as u64, None)
        .await
        .unwrap();
    assert!(end.is_empty());
    let empty = cluster.with_file(&bytes.slice(0..0));
    assert!(cluster.read(&empty).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_offset_past_the_end_and_an_unknown_hash_are_told_apart() {
    let cluster = FakeCluster::start(1).await;
    let hash = cluster.with_file(&some_bytes(10));
    let error = cluster.read_range(&hash, 11, None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RangeNotSatisfiable);
    let error = cluster.read(&ContentHash::MIN).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_stream_that_breaks_is_resumed_at_its_offset_on_another_replica() {
    let cluster = FakeCluster::start(3).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    cluster.nodes[0].fail_reads(ReadFault::BreakAfter(200_000));
    cluster.nodes[1].fail_reads(ReadFault::EndAfter(300_000));
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    for node in &cluster.nodes {
        // Twice where this machine was slow enough for a second one to be asked as well.
        assert!((1..=2).contains(&node.reads.load(Ordering::SeqCst)));
    }
}

#[tokio::test]
async fn a_read_that_moves_on_is_resumed_however_often_it_breaks() {
    let cluster = FakeCluster::start(2).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    for node in &cluster.nodes {
        node.fail_reads(ReadFault::BreakAfter(150_000));
    }
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    assert_eq!(
        cluster.read_range(&hash, 1, None).await.unwrap(),
        bytes[1..]
    );
}

#[tokio::test]
async fn a_replica_that_stands_still_is_left_for_another() {
    let cluster = FakeCluster::start_with(2, |config| config.read_progress_timeout_ms = 300).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    cluster.nodes[0].fail_reads(ReadFault::StallAfter(100_000));
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_silent_replica_is_hedged_and_cancelled() {
    // Without a hedge, the silence would be waited out for an hour.
    let patient = |config: &mut ClientConfig| config.read_progress_timeout_ms = 3_600_000;
    let cluster = FakeCluster::start_with(3, patient).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    cluster.nodes[0].fail_reads(ReadFault::Silent);
    let read = tokio::time::timeout(PATIENCE, cluster.read(&hash)).await;
    assert_eq!(read.expect("a hedge").unwrap(), bytes);
    assert_eq!(cluster.nodes[1].reads.load(Ordering::SeqCst), 1);
    assert_eq!(cluster.nodes[2].reads.load(Ordering::SeqCst), 0);
    let silent = cluster.nodes[0].clone();
    until("the silent read to be cancelled", || {
        silent.cancelled.load(Ordering::SeqCst) == 1
    })
    .await;
}

#[tokio::test]
async fn i05_a_corrupt_replica_is_read_around_and_reported() {
    let cluster = FakeCluster::start(3).await;
    let bytes = some_bytes(LENGTH);
    let hash = cluster.with_file(&bytes);
    cluster.nodes[0].fail_reads(ReadFault::SaysCorrupt);
    cluster.nodes[1].fail_reads(ReadFault::NotFound);
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    let bad = cluster.nodes[0].info.node_id;
    until("the report", || {
        cluster.namenode.state().bad_replicas == [(hash, bad)]
    })
    .await;
}

#[tokio::test]
async fn i05_wrong_bytes_of_a_small_file_are_replaced_before_any_is_handed_out() {
    let cluster = FakeCluster::start(2).await;
    let bytes = some_bytes(5_000);
    let hash = cluster.with_file(&bytes);
    cluster.nodes[0].fail_reads(ReadFault::WrongBytes);
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    let bad = cluster.nodes[0].info.node_id;
    until("the report", || {
        cluster.namenode.state().bad_replicas == [(hash, bad)]
    })
    .await;
}

#[tokio::test]
async fn i05_wrong_bytes_of_a_large_file_end_in_an_error_before_the_last_chunk() {
    let cluster = FakeCluster::start(1).await;
    let hash = cluster.with_file(&some_bytes(LENGTH));
    cluster.nodes[0].fail_reads(ReadFault::WrongBytes);
    let options = GetOptions::default();
    let mut stream = cluster.client.get(&hash, 0, None, options).await.unwrap();
    let mut delivered = 0;
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(chunk) => delivered += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ClientError::Corrupt { .. }), "{error}");
    assert!(delivered < LENGTH);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn i05_a_small_file_that_is_wrong_everywhere_is_not_read_for_ever() {
    let cluster = FakeCluster::start(2).await;
    let hash = cluster.with_file(&some_bytes(5_000));
    for node in &cluster.nodes {
        node.fail_reads(ReadFault::WrongBytes);
    }
    let error = cluster.read(&hash).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt);
    for node in &cluster.nodes {
        // Twice, and as often again where this machine was slow enough for a second one to be asked as well.
        assert!((2..=4).contains(&node.reads.load(Ordering::SeqCst)));
    }
}

#[tokio::test]
async fn i05_when_all_replicas_are_corrupt_the_error_says_so() {
    let cluster = FakeCluster::start(3).await;
    let hash = cluster.with_file(&some_bytes(LENGTH));
    for node in &cluster.nodes {
        node.fail_reads(ReadFault::SaysCorrupt);
    }
    let error = cluster.read(&hash).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt);
}

#[tokio::test]
async fn replicas_are_looked_up_once_more_before_a_read_fails() {
    let cluster = FakeCluster::start(3).await;
    let hash = cluster.with_file(&some_bytes(LENGTH));
    for node in &cluster.nodes {
        node.fail_reads(ReadFault::NotFound);
    }
    let error = cluster.read(&hash).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert_eq!(cluster.namenode.state().lookups, 2);
    for node in &cluster.nodes {
        assert_eq!(node.reads.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_says_that_the_file_existed() {
    let cluster = FakeCluster::start(1).await;
    let hash = cluster.with_file(&some_bytes(10));
    cluster.namenode.state().lose_delete_answers = 1;
    assert!(cluster.client.delete(&hash).await.unwrap());
    assert!(!cluster.client.delete(&hash).await.unwrap());
}

#[tokio::test]
async fn a_listing_is_paged_by_the_last_hash() {
    let cluster = FakeCluster::start(1).await;
    let mut hashes: Vec<_> = (1..=3).map(|n| cluster.with_file(&some_bytes(n))).collect();
    hashes.sort_unstable();
    let first = cluster.client.list(None, "", 2).await.unwrap();
    assert!(first.more);
    let last = first.files[1].file.hash;
    let rest = cluster.client.list(Some(last), "", 2).await.unwrap();
    assert!(!rest.more);
    let listed = first.files.iter().chain(&rest.files);
    assert_eq!(
        listed.map(|file| file.file.hash).collect::<Vec<_>>(),
        hashes
    );
}

/// Another gateway has a client of its own, which hears nothing of this delete.
#[tokio::test]
async fn i03_a_file_that_was_read_a_moment_ago_is_gone_for_every_client_once_its_delete_is_answered()
 {
    let cluster = FakeCluster::start(3).await;
    let hash = cluster.with_file(&some_bytes(4096));
    let namenode = cluster.client.namenode().to_owned();
    let other = Client::new(ClientConfig::new(namenode), Environment::system());
    let read = || async {
        let reads = (0..20).map(|_| cluster.client.get(&hash, 0, None, GetOptions::default()));
        join_all(reads).await
    };
    assert!(read().await.iter().all(Result::is_ok));
    assert!(other.delete(&hash).await.unwrap());
    // The datanodes still hold it.
    assert!(cluster.nodes.iter().all(|node| !node.disk().is_empty()));
    for answer in read().await {
        assert_eq!(answer.err().unwrap().code(), ErrorCode::NotFound);
    }
}

/// A cluster whose client remembers, with a file that it has just looked up.
async fn remembering() -> (FakeCluster, ContentHash, Bytes) {
    let cluster = FakeCluster::start_with(3, |config| config.remembered_files = 100).await;
    cluster.namenode.state().lease_ms = 3_600_000;
    let bytes = some_bytes(1_000);
    let hash = cluster.with_file(&bytes);
    let until = Instant::now() + PATIENCE;
    // Nothing is remembered before the lease is there.
    while cluster.client.look_up_counts().remembered == 0 {
        assert!(Instant::now() < until);
        assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    }
    (cluster, hash, bytes)
}

#[tokio::test]
async fn i03_a_file_that_is_remembered_needs_no_look_up_until_it_is_to_be_forgotten() {
    let (cluster, hash, bytes) = remembering().await;
    let before = cluster.namenode.state().lookups;
    // In much less time than it is remembered for, however slow the machine: it may also have been asked for once more.
    for _ in 0..10 {
        assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    }
    assert!(cluster.namenode.state().lookups < before + 10);
    cluster.namenode.forget(hash);
    let until = Instant::now() + PATIENCE;
    while cluster.namenode.state().forgotten == 0 {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
    cluster.namenode.state().files.clear();
    let gone = cluster.read(&hash).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
    assert!(cluster.client.close(PATIENCE).await);
    assert!(cluster.namenode.state().released);
}

#[tokio::test]
async fn where_the_remembered_nodes_have_lost_a_file_the_namenode_is_asked_at_once() {
    let (cluster, hash, bytes) = remembering().await;
    let holder = cluster.nodes[2].info.node_id;
    cluster.namenode.state().files.get_mut(&hash).unwrap().1 = vec![holder];
    for node in &cluster.nodes[..2] {
        node.disk().remove(&hash);
    }
    let asked = Instant::now();
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    assert_eq!(cluster.read(&hash).await.unwrap(), bytes);
    assert!(asked.elapsed() < PATIENCE);
}

#[tokio::test]
async fn look_ups_that_share_a_call_each_get_their_own_answer() {
    let cluster = FakeCluster::start(3).await;
    let hashes: Vec<_> = (0..80)
        .map(|size| cluster.with_file(&some_bytes(size)))
        .collect();
    let missing = file_info(b"missing").hash;
    let look_ups = hashes
        .iter()
        .chain([&missing])
        .map(|hash| cluster.client.locate(hash));
    let answers = join_all(look_ups).await;
    for (size, (hash, answer)) in hashes.iter().zip(&answers).enumerate() {
        let file = answer.as_ref().unwrap().file;
        assert_eq!((file.hash, file.size), (*hash, size as u64));
    }
    let last = answers.last().unwrap().as_ref().unwrap_err();
    assert_eq!(last.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn small_files_that_are_wanted_at_once_come_together_and_each_ends_by_itself() {
    let cluster = FakeCluster::start(2).await;
    let contents: Vec<_> = (1..=64).map(|count| some_bytes(count * 100)).collect();
    let hashes: Vec<_> = contents
        .iter()
        .map(|bytes| cluster.with_file(bytes))
        .collect();
    // One of them is nowhere any more, and one is on the other node only.
    for node in &cluster.nodes {
        node.disk().remove(&hashes[7]);
    }
    cluster.nodes[0].disk().remove(&hashes[8]);
    let answers = join_all(hashes.iter().map(|hash| cluster.read(hash))).await;
    for (place, (answer, bytes)) in answers.iter().zip(&contents).enumerate() {
        match (place, answer) {
            (7, answer) => assert!(answer.is_err(), "{answer:?}"),
            (_, answer) => assert_eq!(answer.as_ref().unwrap(), bytes),
        }
    }
    let sizes = |place: usize| cluster.nodes[place].whole_reads.lock().unwrap().clone();
    let all: Vec<_> = (0..2).flat_map(sizes).collect();
    assert!(all.iter().all(|count| *count <= 16));
    let files: usize = all.iter().sum();
    assert!(all.len() <= files / 2, "files of each call: {all:?}");
}

#[tokio::test]
async fn i05_a_small_file_comes_from_another_replica_whatever_is_wrong_with_the_first() {
    for fault in [
        ReadFault::Silent,
        ReadFault::SaysCorrupt,
        ReadFault::NotFound,
        ReadFault::WrongBytes,
        ReadFault::BreakAfter(1),
        ReadFault::EndAfter(1),
        ReadFault::StreamsOnly,
    ] {
        let cluster = FakeCluster::start(2).await;
        let bytes = some_bytes(4096);
        let hash = cluster.with_file(&bytes);
        cluster.nodes[0].fail_reads(fault);
        let read = tokio::time::timeout(PATIENCE, cluster.read(&hash)).await;
        assert_eq!(read.expect("an answer").unwrap(), bytes, "{fault:?}");
        let asked = |place: usize| cluster.nodes[place].reads.load(Ordering::SeqCst);
        match fault {
            ReadFault::StreamsOnly => assert!(asked(0) > 0),
            _ => assert!(asked(1) > 0, "{fault:?}"),
        }
    }
}
