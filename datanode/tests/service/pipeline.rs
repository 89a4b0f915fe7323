//! Pipeline writes over real sockets and real directories.

use std::fs;

use crate::common::fake_namenode::{CLUSTER, FakeNamenode};
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{
    chunks, client, connect, content, copy, header, put, read, send, trailer_of, write,
};
use richardstore_proto::wire;
use richardstore_proto::wire::write_file_request_part::Part;
use richardstore_proto::{
    Blake3Root, ClusterId, ContentHash, ErrorCode, PipelineResult, WriteTrailer,
};
use richardstore_runtime::Offload;

async fn three(namenode: &FakeNamenode) -> [TestNode; 3] {
    [
        TestNode::start(namenode).await,
        TestNode::start(namenode).await,
        TestNode::start(namenode).await,
    ]
}

#[tokio::test]
async fn i01_three_nodes_acknowledge_only_what_is_on_their_disks() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    for (generation, length) in [(1, 0), (2, 1), (3, 65_536), (4, 3_000_001)] {
        let bytes = content(1, length);
        let result = write(&[&nodes[0], &nodes[1], &nodes[2]], generation, &bytes).await;
        let result = result.unwrap();
        assert_eq!(result.acknowledged, nodes.each_ref().map(TestNode::id));
        assert!(result.failed.is_empty());
        for node in &nodes {
            let path = node.replica_file(&trailer_of(&bytes).hash).unwrap();
            assert_eq!(fs::read(path).unwrap(), bytes);
        }
    }
}

#[tokio::test]
async fn i02_a_trailer_that_does_not_match_publishes_nothing_anywhere() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    let bytes = content(2, 1_500_000);
    let right = trailer_of(&bytes);
    let wrong = [
        WriteTrailer {
            hash: ContentHash::EMPTY,
            ..right
        },
        WriteTrailer {
            blake3_root: Blake3Root::new([1; 32]),
            ..right
        },
        WriteTrailer {
            size: right.size + 1,
            ..right
        },
    ];
    for trailer in wrong {
        let rest = vec![nodes[1].info(), nodes[2].info()];
        let mut parts = vec![header(3, rest, CLUSTER)];
        parts.extend(chunks(&bytes));
        parts.push(Part::Trailer(trailer.into()));
        let error = send(&nodes[0], parts).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::HashMismatch);
        for node in &nodes {
            assert_eq!(node.replica_file(&right.hash), None);
            assert_eq!(node.replica_file(&ContentHash::EMPTY), None);
            assert!(node.temp_files().is_empty());
        }
    }
}

#[tokio::test]
async fn i02_a_stream_that_is_cut_leaves_nothing_on_any_node() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    let bytes = content(3, 2_000_000);
    let rest = vec![nodes[1].info(), nodes[2].info()];
    let mut parts = vec![header(4, rest, CLUSTER)];
    parts.extend(chunks(&bytes));
    let error = send(&nodes[0], parts).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    for node in &nodes {
        until("temporary files are gone", || node.temp_files().is_empty()).await;
        assert_eq!(node.replica_file(&trailer_of(&bytes).hash), None);
    }
}

#[tokio::test]
async fn i02_a_client_that_vanishes_leaves_nothing_on_any_node() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    let (parts, queue) = tokio::sync::mpsc::channel(64);
    let rest = vec![nodes[1].info(), nodes[2].info()];
    let mut first = vec![header(4, rest, CLUSTER)];
    first.extend(chunks(&content(3, 2_000_000)));
    for part in first {
        let part = wire::WriteFileRequestPart { part: Some(part) };
        parts.send(part).await.unwrap();
    }
    let mut client = connect(&nodes[0]);
    let call = tokio::spawn(async move {
        let queue = tokio_stream::wrappers::ReceiverStream::new(queue);
        client.write_file(queue).await
    });
    for node in &nodes {
        until("the write has reached the node", || {
            !node.temp_files().is_empty()
        })
        .await;
    }
    call.abort();
    for node in &nodes {
        until("temporary files are gone", || node.temp_files().is_empty()).await;
        let id = node.id();
        until("the place is free again", || {
            namenode.view(id, |view| view.stats.active_writes) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_chain_goes_on_without_a_node_that_is_down() {
    let namenode = FakeNamenode::start().await;
    let mut nodes = three(&namenode).await;
    let chain = nodes.each_ref().map(TestNode::info);
    nodes[1].stop().await;
    let bytes = content(4, 1_000_000);
    let mut parts = vec![header(5, chain[1..].to_vec(), CLUSTER)];
    parts.extend(chunks(&bytes));
    parts.push(Part::Trailer(trailer_of(&bytes).into()));
    let PipelineResult {
        acknowledged,
        failed,
    } = send(&nodes[0], parts).await.unwrap();
    assert_eq!(acknowledged, [chain[0].node_id]);
    let failed: Vec<_> = failed.into_iter().map(|it| (it.node_id, it.code)).collect();
    let unavailable = |node: usize| (chain[node].node_id, ErrorCode::Unavailable);
    assert_eq!(failed, [unavailable(1), unavailable(2)]);
    assert!(nodes[0].replica_file(&trailer_of(&bytes).hash).is_some());
}

#[tokio::test]
async fn i10_bytes_of_another_cluster_are_refused() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let foreign = header(6, Vec::new(), ClusterId::new([9; 16]));
    let error = send(&node, vec![foreign]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::WrongCluster);
}

#[tokio::test]
async fn a_copy_carries_bytes_and_generation_to_the_whole_chain() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    let bytes = content(5, 1_234_567);
    let hash = put(&nodes[0], 8, &bytes).await;
    let result = copy(&nodes[0], &hash, &nodes[1..]).await.unwrap();
    assert_eq!(result.acknowledged, [nodes[1].id(), nodes[2].id()]);
    for node in &nodes {
        assert_eq!(fs::read(node.replica_file(&hash).unwrap()).unwrap(), bytes);
        let id = node.id();
        until("the copy is reported with its generation", || {
            namenode.replicas(id).get(&hash).map(|it| it.0) == Some(8)
        })
        .await;
    }
}

#[tokio::test]
async fn i05_a_corrupt_replica_is_not_copied() {
    let namenode = FakeNamenode::start().await;
    let nodes = three(&namenode).await;
    let hash = put(&nodes[0], 8, &content(6, 2_000_000)).await;
    nodes[0].damage(&hash, 1_900_000);
    let error = copy(&nodes[0], &hash, &nodes[1..]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Corrupt);
    for node in &nodes[1..] {
        until("temporary files are gone", || node.temp_files().is_empty()).await;
        assert_eq!(node.replica_file(&hash), None);
    }
}

#[tokio::test]
async fn i11_writes_over_the_limit_are_refused_and_the_place_comes_back() {
    let namenode = FakeNamenode::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut config = crate::common::node::config(directory.path(), &namenode.address.to_string());
    config.max_writes = 0;
    let environment = richardstore_runtime::Environment::system();
    let datanode = richardstore_datanode::Datanode::start(config, environment);
    let datanode = datanode.await.unwrap();
    let mut client = client(&datanode.address().to_string());
    let status = client
        .write_file(tokio_stream::iter(Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    datanode.stop(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_range_has_exactly_its_bytes() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(7, 3_000_000);
    let hash = put(&node, 1, &bytes).await;
    for (offset, length) in [
        (0, 0),
        (100, 100),
        (65_535, 2),
        (2_999_999, 1),
        (1_000_000, 0),
    ] {
        let (got, end) = read(&node, &hash, offset, length).await;
        end.unwrap();
        let from = usize::try_from(offset).unwrap();
        let to = match usize::try_from(length).unwrap() {
            0 => bytes.len(),
            length => from + length,
        };
        assert_eq!(got, bytes[from..to], "{offset}+{length}");
    }
    let (_, end) = read(&node, &hash, 3_000_001, 0).await;
    assert_eq!(end.unwrap_err().code, ErrorCode::RangeNotSatisfiable);
    let (_, end) = read(&node, &ContentHash::MIN, 0, 0).await;
    assert_eq!(end.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn i05_wrong_bytes_are_never_sent_and_the_namenode_is_told() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let bytes = content(8, 2_000_000);
    let hash = put(&node, 1, &bytes).await;
    node.damage(&hash, 1_500_000);
    let (got, end) = read(&node, &hash, 0, 0).await;
    assert_eq!(end.unwrap_err().code, ErrorCode::Corrupt);
    assert!(got.len() <= 1_500_000 && bytes.starts_with(&got));
    let id = node.id();
    until("the bad replica is reported", || {
        namenode.view(id, |view| view.bad_replicas.contains(&hash))
    })
    .await;
    let (_, end) = read(&node, &hash, 1_480_000, 40_000).await;
    assert_eq!(end.unwrap_err().code, ErrorCode::Corrupt);
}

#[tokio::test]
async fn everything_works_in_place_without_threads_for_blocking_work() {
    let namenode = FakeNamenode::start().await;
    let [first, second, third] = [
        TestNode::start_on(&namenode, Offload::Inline).await,
        TestNode::start_on(&namenode, Offload::Inline).await,
        TestNode::start_on(&namenode, Offload::Inline).await,
    ];
    let bytes = content(9, 2_000_000);
    let hash = trailer_of(&bytes).hash;
    let result = write(&[&first, &second], 3, &bytes).await.unwrap();
    assert_eq!(result.acknowledged, [first.id(), second.id()]);
    assert_eq!(read(&second, &hash, 0, 0).await, (bytes.clone(), Ok(())));
    let copied = copy(&second, &hash, std::slice::from_ref(&third)).await;
    assert_eq!(copied.unwrap().acknowledged, [third.id()]);
    assert_eq!(read(&third, &hash, 0, 0).await, (bytes, Ok(())));
    let id = third.id();
    until("the copy is reported", || {
        namenode.replicas(id).contains_key(&hash)
    })
    .await;
}
