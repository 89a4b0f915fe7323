//! Uploads against a cluster whose nodes fail in every way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fake_cluster::{FakeCluster, WriteFault, file_info, plain, some_bytes, source, until};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use richardstore_client::{ClientError, PutOptions, SourceError};
use richardstore_proto::{ErrorCode, Generation};

const LENGTH: usize = 1_000_003;
const LARGER_THAN_REPLAY: usize = 6 << 20;

fn small(bytes: &Bytes) -> PutOptions {
    PutOptions {
        size_hint: Some(bytes.len() as u64),
        ..plain()
    }
}

/// Nothing of any upload is left at the namenode.
async fn all_abandoned(cluster: &FakeCluster, count: usize) {
    until("the abandon", || {
        let state = cluster.namenode.state();
        state.abandoned.len() == count && state.open.is_empty()
    })
    .await;
}

#[tokio::test]
async fn i01_an_upload_is_committed_with_all_of_its_chain() {
    let cluster = FakeCluster::start(3).await;
    let bytes = some_bytes(LENGTH);
    let seen = Arc::new(AtomicU64::new(0));
    let options = PutOptions {
        progress: Some(Arc::new({
            let seen = seen.clone();
            move |sent| seen.store(sent, Ordering::SeqCst)
        })),
        ..plain()
    };
    let outcome = cluster.client.put(source(&bytes), options).await.unwrap();
    let file = file_info(&bytes);
    assert_eq!(
        (
            outcome.file.hash,
            outcome.file.size,
            outcome.file.blake3_root
        ),
        (file.hash, file.size, file.blake3_root)
    );
    assert_eq!((outcome.created, outcome.replicas), (true, 3));
    assert_eq!(seen.load(Ordering::SeqCst), LENGTH as u64);
    assert_eq!(cluster.read(&file.hash).await.unwrap(), bytes);
    let state = cluster.namenode.state();
    assert!(state.open.is_empty() && state.abandoned.is_empty());
}

/// Of which several share a call to the namenode.
#[tokio::test]
async fn i01_small_uploads_at_once_each_get_a_generation_and_a_commit_of_their_own() {
    let cluster = FakeCluster::start(3).await;
    let contents: Vec<Bytes> = (0..100).map(|size| some_bytes(1000 + size)).collect();
    let uploads = contents.iter().map(|bytes| {
        let options = PutOptions {
            size_hint: Some(bytes.len() as u64),
            ..plain()
        };
        cluster.client.put(source(bytes), options)
    });
    let mut generations = std::collections::BTreeSet::new();
    for (outcome, bytes) in join_all(uploads).await.into_iter().zip(&contents) {
        let outcome = outcome.unwrap();
        assert_eq!(outcome.file.hash, file_info(bytes).hash);
        assert_eq!((outcome.created, outcome.replicas), (true, 3));
        generations.insert(outcome.file.generation);
        assert_eq!(cluster.read(&outcome.file.hash).await.unwrap(), *bytes);
    }
    assert_eq!(generations.len(), contents.len());
    until("what was asked for ahead is given back", || {
        cluster.namenode.state().open.is_empty()
    })
    .await;
    let state = cluster.namenode.state();
    let given_back: Vec<_> = state.abandoned.iter().copied().map(Generation).collect();
    assert!(given_back.iter().all(|one| !generations.contains(one)));
}

#[tokio::test]
async fn small_uploads_at_once_share_messages_and_those_whose_head_fails_find_another() {
    let cluster = FakeCluster::start(4).await;
    cluster.nodes[0].fail_writes(WriteFault::AnswerLost);
    let contents: Vec<Bytes> = (0..100).map(|size| some_bytes(1000 + size)).collect();
    let uploads = contents.iter().map(|bytes| {
        let options = PutOptions {
            size_hint: Some(bytes.len() as u64),
            ..plain()
        };
        cluster.client.put(source(bytes), options)
    });
    for (outcome, bytes) in join_all(uploads).await.into_iter().zip(&contents) {
        let outcome = outcome.unwrap();
        assert_eq!(cluster.read(&outcome.file.hash).await.unwrap(), *bytes);
    }
    let sizes = |place: usize| cluster.nodes[place].whole.lock().unwrap().clone();
    let (all, failed): (Vec<_>, _) = ((0..4).flat_map(sizes).collect(), sizes(0));
    assert!(!failed.is_empty(), "the node that fails was no head");
    let files: usize = all.iter().sum();
    assert_eq!(files, contents.len() + failed.iter().sum::<usize>());
    assert!(all.len() <= files / 4, "files of each message: {all:?}");
}

#[tokio::test]
async fn small_uploads_reach_a_datanode_of_an_older_version_by_streams() {
    let cluster = FakeCluster::start(3).await;
    for node in &cluster.nodes {
        node.fail_writes(WriteFault::StreamsOnly);
    }
    let bytes = some_bytes(4096);
    let options = PutOptions {
        size_hint: Some(4096),
        ..plain()
    };
    let outcome = cluster.client.put(source(&bytes), options).await.unwrap();
    assert_eq!(outcome.replicas, 3);
    assert_eq!(cluster.read(&outcome.file.hash).await.unwrap(), bytes);
}

#[tokio::test]
async fn small_uploads_for_which_there_is_no_room_together_are_each_asked_for_alone() {
    let cluster = FakeCluster::start(3).await;
    cluster.namenode.state().room_for_one = true;
    let contents: Vec<Bytes> = (0..30).map(|size| some_bytes(1000 + size)).collect();
    let uploads = contents.iter().map(|bytes| {
        let options = PutOptions {
            size_hint: Some(bytes.len() as u64),
            ..plain()
        };
        cluster.client.put(source(bytes), options)
    });
    for outcome in join_all(uploads).await {
        assert_eq!(outcome.unwrap().replicas, 3);
    }
    until("what had no room is given back", || {
        let state = cluster.namenode.state();
        state.open.is_empty() && !state.abandoned.is_empty()
    })
    .await;
}

#[tokio::test]
async fn i02_small_uploads_that_follow_each_other_find_allocations_and_what_is_left_is_given_back()
{
    let cluster = FakeCluster::start(3).await;
    for size in 0..60 {
        let bytes = some_bytes(1000 + size);
        let outcome = cluster.client.put(source(&bytes), small(&bytes)).await;
        assert_eq!(outcome.unwrap().replicas, 3);
    }
    assert!(cluster.namenode.state().allocations <= 45);
    until("what nobody took is given back", || {
        cluster.namenode.state().open.is_empty()
    })
    .await;
    let state = cluster.namenode.state();
    let used = state.files.values().map(|(file, _)| file.generation.0);
    assert!(
        used.into_iter()
            .all(|used| !state.abandoned.contains(&used))
    );
}

#[tokio::test]
async fn i03_a_small_upload_that_was_allocated_before_a_delete_begins_anew_with_a_younger_write() {
    let cluster = FakeCluster::start(3).await;
    // On a machine that is busy they may not follow each other soon enough, and nothing is asked for ahead.
    for size in 0..100 {
        let bytes = some_bytes(size);
        let outcome = cluster.client.put(source(&bytes), small(&bytes)).await;
        outcome.unwrap();
        if !cluster.namenode.state().open.is_empty() {
            break;
        }
    }
    let stocked = {
        let mut state = cluster.namenode.state();
        assert!(!state.open.is_empty(), "some are there ahead");
        state.deleted_before = state.next_generation;
        state.next_generation
    };
    let bytes = some_bytes(1000);
    let outcome = cluster.client.put(source(&bytes), small(&bytes)).await;
    assert!(outcome.unwrap().file.generation.0 >= stocked);
    assert_eq!(cluster.namenode.state().refused, 1);
}

#[tokio::test]
async fn a_small_upload_whose_file_is_deleted_all_the_time_is_refused_at_last() {
    let cluster = FakeCluster::start(3).await;
    cluster.namenode.state().deleted_before = u64::MAX;
    let bytes = some_bytes(1000);
    let refused = cluster.client.put(source(&bytes), small(&bytes)).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::DeletedMeanwhile);
    assert_eq!(cluster.namenode.state().refused, 3);
    until("every write is given back", || {
        cluster.namenode.state().open.is_empty()
    })
    .await;
}

#[tokio::test]
async fn i02_uploads_that_go_away_while_a_call_is_made_for_them_give_their_generations_back() {
    let cluster = FakeCluster::start(3).await;
    let uploads: Vec<_> = (0..60)
        .map(|size| {
            let client = cluster.client.clone();
            let options = PutOptions {
                size_hint: Some(1),
                ..plain()
            };
            tokio::spawn(async move { client.put(source(&some_bytes(size)), options).await })
        })
        .collect();
    until("a generation", || {
        cluster.namenode.state().next_generation > 1
    })
    .await;
    for upload in &uploads {
        upload.abort();
    }
    for upload in uploads {
        drop(upload.await);
    }
    until("all generations back", || {
        let state = cluster.namenode.state();
        let ended = state.abandoned.len() + state.files.len();
        state.open.is_empty() && ended as u64 + 1 >= state.next_generation
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_larger_than_it_was_said_to_be_is_stored_all_the_same() {
    let cluster = FakeCluster::start(3).await;
    let bytes = some_bytes(LENGTH);
    let options = PutOptions {
        size_hint: Some(10),
        ..plain()
    };
    let outcome = cluster.client.put(source(&bytes), options).await.unwrap();
    assert_eq!(outcome.file.size, LENGTH as u64);
    assert_eq!(cluster.read(&outcome.file.hash).await.unwrap(), bytes);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let cluster = FakeCluster::start(3).await;
    let outcome = cluster.client.put(source(&Bytes::new()), plain()).await;
    assert_eq!(outcome.unwrap().file, {
        let mut file = file_info(b"");
        file.created_ms = 77;
        file
    });
}

#[tokio::test]
async fn known_content_is_not_read_from_its_source() {
    let cluster = FakeCluster::start(3).await;
    let hash = cluster.with_file(&some_bytes(LENGTH));
    let never = stream::pending::<Result<Bytes, SourceError>>();
    let options = PutOptions {
        declared_hash: Some(hash),
        ..plain()
    };
    let outcome = cluster.client.put(never, options).await.unwrap();
    assert_eq!((outcome.created, outcome.file.hash), (false, hash));
}

#[tokio::test]
async fn i05_bytes_with_another_hash_than_declared_are_published_nowhere() {
    let cluster = FakeCluster::start(3).await;
    let declared = file_info(b"something else").hash;
    let options = PutOptions {
        declared_hash: Some(declared),
        ..plain()
    };
    let bytes = some_bytes(LENGTH);
    let error = cluster
        .client
        .put(source(&bytes), options)
        .await
        .unwrap_err();
    let computed = file_info(&bytes).hash;
    assert_eq!(error, ClientError::HashMismatch { declared, computed });
    all_abandoned(&cluster, 1).await;
    assert!(cluster.nodes.iter().all(|node| node.disk().is_empty()));
}

#[tokio::test]
async fn i02_a_source_that_fails_leaves_nothing() {
    let cluster = FakeCluster::start(3).await;
    let gone = SourceError::new(ErrorCode::PayloadTooLarge, "too much");
    let bytes = source(&some_bytes(LENGTH)).chain(stream::iter([Err(gone.clone())]));
    let error = cluster.client.put(bytes, plain()).await.unwrap_err();
    assert_eq!(error, ClientError::Source(gone));
    all_abandoned(&cluster, 1).await;
    assert!(cluster.nodes.iter().all(|node| node.disk().is_empty()));
}

#[tokio::test]
async fn i02_an_upload_whose_future_is_dropped_is_abandoned() {
    let cluster = FakeCluster::start(3).await;
    let bytes = source(&some_bytes(LENGTH)).chain(stream::pending());
    let client = cluster.client.clone();
    let upload = tokio::spawn(async move { client.put(bytes, plain()).await });
    let head = cluster.nodes[0].clone();
    until("bytes at the head", || {
        head.received_bytes.load(Ordering::SeqCst) > 0
    })
    .await;
    upload.abort();
    all_abandoned(&cluster, 1).await;
    until("the cut at the head", || {
        head.cut_writes.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(cluster.nodes.iter().all(|node| node.disk().is_empty()));
}

#[tokio::test]
async fn an_upload_is_replayed_to_another_head_while_its_beginning_is_remembered() {
    let cluster = FakeCluster::start(4).await;
    cluster.nodes[0].fail_writes(WriteFault::BreakAfter(500_000));
    cluster.nodes[1].fail_writes(WriteFault::AnswerLost);
    let bytes = some_bytes(LENGTH);
    cluster.namenode.state().chain = 2;
    let outcome = cluster.client.put(source(&bytes), plain()).await.unwrap();
    assert_eq!(outcome.file.hash, file_info(&bytes).hash);
    let (_, holders) = cluster.namenode.state().files[&outcome.file.hash].clone();
    assert_eq!(
        holders,
        [cluster.nodes[2].info.node_id, cluster.nodes[3].info.node_id]
    );
    all_abandoned(&cluster, 2).await;
}

#[tokio::test]
async fn i02_an_upload_too_long_to_be_replayed_ends_in_a_clean_error() {
    let cluster = FakeCluster::start(4).await;
    cluster.nodes[0].fail_writes(WriteFault::BreakAfter(5 << 20));
    let bytes = some_bytes(LARGER_THAN_REPLAY);
    let error = cluster
        .client
        .put(source(&bytes), plain())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    all_abandoned(&cluster, 1).await;
    assert!(cluster.namenode.state().files.is_empty());
}

#[tokio::test]
async fn the_search_for_a_head_ends() {
    let cluster = FakeCluster::start(5).await;
    for node in &cluster.nodes {
        node.fail_writes(WriteFault::Refuses);
    }
    let bytes = some_bytes(LENGTH);
    let error = cluster
        .client
        .put(source(&bytes), plain())
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageFull);
    all_abandoned(&cluster, 3).await;
}

#[tokio::test]
async fn a_cluster_without_room_says_so_and_not_that_it_is_too_small() {
    let cluster = FakeCluster::start(3).await;
    for node in &cluster.nodes {
        node.fail_writes(WriteFault::Refuses);
    }
    let bytes = some_bytes(LENGTH);
    let error = cluster.client.put(source(&bytes), plain()).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::StorageFull);
    all_abandoned(&cluster, 2).await;
    cluster.nodes[0].fail_writes(WriteFault::None);
    let error = cluster.client.put(source(&bytes), plain()).await;
    assert_eq!(error.unwrap_err().code(), ErrorCode::StorageFull);
    all_abandoned(&cluster, 3).await;
}

#[tokio::test]
async fn a_node_that_failed_in_the_chain_is_replaced_by_a_copy() {
    let cluster = FakeCluster::start(4).await;
    cluster.nodes[1].fail_writes(WriteFault::Refuses);
    let bytes = some_bytes(LENGTH);
    let outcome = cluster.client.put(source(&bytes), plain()).await.unwrap();
    assert_eq!(outcome.replicas, 3);
    assert_eq!(cluster.nodes[0].copies.load(Ordering::SeqCst), 1);
    assert_eq!(cluster.nodes[3].disk()[&outcome.file.hash], bytes);
    assert!(cluster.nodes[1].disk().is_empty());
    // What the namenode needs to choose another rack than theirs.
    let had_it = [&cluster.nodes[0], &cluster.nodes[2]].map(|node| node.info.node_id);
    assert_eq!(cluster.namenode.state().acknowledged, had_it);
}

#[tokio::test]
async fn a_node_that_was_only_cut_off_behind_one_that_failed_gets_a_copy() {
    let cluster = FakeCluster::start(3).await;
    cluster.nodes[1].fail_writes(WriteFault::Gone);
    let bytes = some_bytes(LENGTH);
    let outcome = cluster.client.put(source(&bytes), plain()).await.unwrap();
    assert_eq!(outcome.replicas, 2);
    assert_eq!(cluster.nodes[2].disk().len(), 1);
    assert_eq!(cluster.nodes[1].disk().len(), 0);
}

#[tokio::test]
async fn without_a_replacement_enough_replicas_are_a_success_and_too_few_are_not() {
    let cluster = FakeCluster::start(3).await;
    cluster.nodes[1].fail_writes(WriteFault::Refuses);
    let bytes = some_bytes(LENGTH);
    let outcome = cluster.client.put(source(&bytes), plain()).await.unwrap();
    assert_eq!(outcome.replicas, 2);
    cluster.nodes[2].fail_writes(WriteFault::Refuses);
    let other = some_bytes(LENGTH - 1);
    let error = cluster
        .client
        .put(source(&other), plain())
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ClientError::InsufficientReplicas {
            acknowledged: 1,
            required: 2,
            ..
        }
    ));
    all_abandoned(&cluster, 1).await;
    assert_eq!(cluster.namenode.state().files.len(), 1);
}

#[tokio::test]
async fn i10_a_commit_whose_answer_was_lost_is_repeated_with_the_same_answer() {
    let cluster = FakeCluster::start(3).await;
    cluster.namenode.state().lose_commit_answers = 2;
    let bytes = some_bytes(LENGTH);
    let outcome = cluster.client.put(source(&bytes), plain()).await.unwrap();
    assert_eq!(outcome.replicas, 3);
    assert_eq!(cluster.read(&outcome.file.hash).await.unwrap(), bytes);
    assert!(cluster.namenode.state().abandoned.is_empty());
}

#[tokio::test]
async fn a_long_upload_renews_its_allocation_and_stops_when_it_is_lost() {
    let cluster = FakeCluster::start(3).await;
    cluster.namenode.state().expires_in_ms = 30;
    let (pieces, source) = tokio::sync::mpsc::channel(1);
    let client = cluster.client.clone();
    let source = tokio_stream::wrappers::ReceiverStream::new(source);
    let upload = tokio::spawn(async move { client.put(source, plain()).await });
    until("a renewal", || cluster.namenode.state().renewals >= 3).await;
    cluster.namenode.state().forgets_writes = true;
    let renewals = cluster.namenode.state().renewals;
    until("a renewal", || cluster.namenode.state().renewals > renewals).await;
    let mut open = true;
    while open {
        open = pieces.send(Ok(some_bytes(100_000))).await.is_ok();
    }
    let error = upload.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::LeaseLost { generation: 1 }));
}
