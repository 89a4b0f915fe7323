//! Small files that arrive together, over real sockets and real directories.

use std::fs;
use std::pin::Pin;

use crate::common::fake_namenode::{CLUSTER, FakeNamenode};
use crate::common::node::TestNode;
use crate::common::until;
use crate::common::writes::{client, connect, content, put, trailer_of};
use futures_util::Stream;
use richardstore_datanode::Datanode;
use richardstore_proto::wire;
use richardstore_proto::wire::data_node_client::DataNodeClient;
use richardstore_proto::wire::data_node_server::{DataNode, DataNodeServer};
use richardstore_proto::{
    ClusterId, ContentHash, DataNodeInfo, ErrorCode, Generation, MAX_WANTED_BYTES, MAX_WHOLE_BYTES,
    StoreError, WantedFile, WantedFiles, WholeFile, WholeFiles, WholeReads, WholeResults,
};
use richardstore_runtime::{Channel, Environment, bind, grpc_server, serve_grpc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

fn file(generation: u64, bytes: &[u8]) -> WholeFile {
    WholeFile {
        generation: Generation(generation),
        request_id: "test".to_owned(),
        data: bytes.to_vec().into(),
        trailer: trailer_of(bytes),
    }
}

async fn write(
    head: &TestNode,
    chain: Vec<DataNodeInfo>,
    files: &[WholeFile],
) -> Result<WholeResults, StoreError> {
    let whole = WholeFiles {
        chain,
        cluster_id: CLUSTER,
        files: files.to_vec(),
        copies: false,
    };
    let request = wire::WriteFilesRequest::from(whole);
    let answer = connect(head).write_files(request).await?;
    Ok(answer.into_inner().try_into().unwrap())
}

#[tokio::test]
async fn i01_i05_of_files_that_arrive_together_the_wrong_one_fails_alone() {
    let namenode = FakeNamenode::start().await;
    let nodes = [
        TestNode::start(&namenode).await,
        TestNode::start(&namenode).await,
        TestNode::start(&namenode).await,
    ];
    let contents = [1, 4096, MAX_WHOLE_BYTES].map(|length| content(1, length));
    let mut files: Vec<WholeFile> = (1..)
        .zip(&contents)
        .map(|(generation, bytes)| file(generation, bytes))
        .collect();
    files[1].trailer.hash = ContentHash::EMPTY;
    let chain = vec![nodes[1].info(), nodes[2].info()];
    let WholeResults(results) = write(&nodes[0], chain, &files).await.unwrap();
    assert_eq!(
        results[1].as_ref().unwrap_err().code,
        ErrorCode::HashMismatch
    );
    for place in [0, 2] {
        let result = results[place].as_ref().unwrap();
        assert_eq!(result.acknowledged, nodes.each_ref().map(TestNode::id));
        assert!(result.failed.is_empty());
        for node in &nodes {
            let path = node.replica_file(&files[place].trailer.hash).unwrap();
            assert_eq!(fs::read(path).unwrap(), contents[place]);
        }
    }
    for node in &nodes {
        assert_eq!(node.replica_file(&ContentHash::EMPTY), None);
        let real = trailer_of(&contents[1]).hash;
        assert_eq!(node.replica_file(&real), None);
        assert!(node.temp_files().is_empty());
    }
}

#[tokio::test]
async fn i01_a_node_that_is_gone_is_named_for_each_file() {
    let namenode = FakeNamenode::start().await;
    let nodes = [
        TestNode::start(&namenode).await,
        TestNode::start(&namenode).await,
    ];
    let gone = DataNodeInfo {
        node_id: richardstore_proto::NodeId::new([9; 16]),
        address: "127.0.0.1:1".to_owned(),
        ..nodes[0].info()
    };
    let files = [file(1, b"one"), file(2, b"two")];
    let chain = vec![nodes[1].info(), gone.clone()];
    let WholeResults(results) = write(&nodes[0], chain, &files).await.unwrap();
    for result in results {
        let result = result.unwrap();
        assert_eq!(result.acknowledged, [nodes[0].id(), nodes[1].id()]);
        let failed: Vec<_> = result.failed.iter().map(|failed| failed.node_id).collect();
        assert_eq!(failed, [gone.node_id]);
    }
}

#[tokio::test]
async fn i02_a_node_that_hangs_keeps_small_files_from_no_other() {
    let namenode = FakeNamenode::start().await;
    let head = TestNode::start(&namenode).await;
    let sound = TestNode::start(&namenode).await;
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = DataNodeInfo {
        node_id: richardstore_proto::NodeId::new([9; 16]),
        address: listener.local_addr().unwrap().to_string(),
        ..head.info()
    };
    let files = [file(1, b"one")];
    let hash = files[0].trailer.hash;
    let chain = vec![hung.clone(), sound.info()];
    let writing = async { write(&head, chain, &files).await.unwrap() };
    let there = until("the other has it", || sound.replica_file(&hash).is_some());
    let mut writing = std::pin::pin!(writing);
    tokio::select! {
        biased;
        _ = &mut writing => panic!("the node that hangs was not waited for"),
        () = there => {}
    }
    let WholeResults(results) = writing.await;
    let result = results[0].as_ref().unwrap();
    assert_eq!(result.acknowledged, [head.id(), sound.id()]);
    let failed: Vec<_> = result.failed.iter().map(|failed| failed.node_id).collect();
    assert_eq!(failed, [hung.node_id]);
}

#[tokio::test]
async fn i10_files_of_another_cluster_and_files_in_a_circle_are_refused() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let files = [file(1, b"one")];
    let circle = write(&node, vec![node.info()], &files).await.unwrap_err();
    assert_eq!(circle.code, ErrorCode::InvalidArgument);
    let other = TestNode::start(&namenode).await;
    let twice = write(&node, vec![other.info(); 2], &files).await;
    assert_eq!(twice.unwrap_err().code, ErrorCode::InvalidArgument);
    let foreign = WholeFiles {
        chain: Vec::new(),
        cluster_id: ClusterId::new([9; 16]),
        files: files.to_vec(),
        copies: false,
    };
    let request = wire::WriteFilesRequest::from(foreign);
    let answer = connect(&node).write_files(request).await;
    let refused = StoreError::from(answer.unwrap_err());
    assert_eq!(refused.code, ErrorCode::WrongCluster);
    assert_eq!(node.replica_file(&files[0].trailer.hash), None);
}

#[tokio::test]
async fn i11_files_over_the_limit_are_refused_and_where_there_is_room_they_are_taken_together() {
    let namenode = FakeNamenode::start().await;
    let files: Vec<WholeFile> = (1..=8)
        .map(|generation| file(generation, &generation.to_be_bytes()))
        .collect();
    for max_writes in [0, 2] {
        let directory = tempfile::tempdir().unwrap();
        let mut config =
            crate::common::node::config(directory.path(), &namenode.address.to_string());
        config.max_writes = max_writes;
        let datanode = Datanode::start(config, Environment::system())
            .await
            .unwrap();
        let id = datanode.node_id();
        until("it has joined", || {
            namenode.view(id, |view| view.full_reports) > 0
        })
        .await;
        let whole = WholeFiles {
            chain: Vec::new(),
            cluster_id: CLUSTER,
            files: files.clone(),
            copies: false,
        };
        let mut client = client(&datanode.address().to_string());
        let answer = client.write_files(wire::WriteFilesRequest::from(whole));
        match answer.await {
            Ok(answer) => {
                let WholeResults(results) = answer.into_inner().try_into().unwrap();
                assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
                assert_eq!(max_writes, 2);
            }
            Err(status) => assert_eq!((status.code(), max_writes), (Code::Unavailable, 0)),
        }
        datanode.stop(std::time::Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn i05_of_files_that_are_wanted_together_the_damaged_one_fails_alone() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let contents = [1, 4096, 300, MAX_WANTED_BYTES].map(|length| content(2, length));
    let files: Vec<WholeFile> = (1..)
        .zip(&contents)
        .map(|(generation, bytes)| file(generation, bytes))
        .collect();
    let WholeResults(results) = write(&node, Vec::new(), &files).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let large = content(3, MAX_WANTED_BYTES + 1);
    put(&node, 9, &large).await;
    let damaged = node.replica_file(&files[1].trailer.hash).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[77] ^= 1;
    fs::write(&damaged, bytes).unwrap();

    let absent = ContentHash::MIN;
    let mut wanted: Vec<_> = files.iter().map(|file| file.trailer.hash).collect();
    wanted.extend([absent, trailer_of(&large).hash]);
    let wanted = WantedFiles(
        wanted
            .into_iter()
            .map(|hash| WantedFile {
                hash,
                request_id: "test".to_owned(),
            })
            .collect(),
    );
    let request = wire::ReadFilesRequest::from(wanted);
    let answer = connect(&node).read_files(request).await.unwrap();
    let WholeReads(reads) = answer.into_inner().try_into().unwrap();
    let codes: Vec<_> = reads
        .iter()
        .map(|read| read.as_ref().err().map(|error| error.code))
        .collect();
    let expected = [
        None,
        Some(ErrorCode::Corrupt),
        None,
        None,
        Some(ErrorCode::NotFound),
        Some(ErrorCode::InvalidArgument),
    ];
    assert_eq!(codes, expected);
    for place in [0, 2, 3] {
        let read = reads[place].as_ref().unwrap();
        assert_eq!(read.data, contents[place]);
        assert_eq!(read.file.hash, files[place].trailer.hash);
        assert_eq!(read.file.generation, files[place].generation);
    }
    let bad = files[1].trailer.hash;
    until("the namenode hears of the damage", || {
        namenode.view(node.id(), |view| view.bad_replicas.contains(&bad))
    })
    .await;
}

/// A datanode that knows streams only.
struct Older(DataNodeClient<Channel>);

#[tonic::async_trait]
impl DataNode for Older {
    type ReadFileStream =
        Pin<Box<dyn Stream<Item = Result<wire::ReadFileResponsePart, Status>> + Send>>;

    async fn write_file(
        &self,
        request: Request<Streaming<wire::WriteFileRequestPart>>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        let (mut stream, mut parts) = (request.into_inner(), Vec::new());
        while let Some(part) = stream.message().await? {
            parts.push(part);
        }
        self.0.clone().write_file(tokio_stream::iter(parts)).await
    }

    async fn write_files(
        &self,
        _: Request<wire::WriteFilesRequest>,
    ) -> Result<Response<wire::WriteFilesResponse>, Status> {
        Err(Status::unimplemented("not known"))
    }

    async fn read_file(
        &self,
        _: Request<wire::ReadReplicaRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn read_files(
        &self,
        _: Request<wire::ReadFilesRequest>,
    ) -> Result<Response<wire::ReadFilesResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn copy_file(
        &self,
        _: Request<wire::CopyFileRequest>,
    ) -> Result<Response<wire::WriteFileResult>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn info(
        &self,
        _: Request<wire::DataNodeInfoRequest>,
    ) -> Result<Response<wire::DataNodeInfoResponse>, Status> {
        Err(Status::unimplemented("not part of this test"))
    }
}

#[tokio::test]
async fn a_node_of_an_older_version_gets_the_files_by_streams() {
    let namenode = FakeNamenode::start().await;
    let head = TestNode::start(&namenode).await;
    let real = TestNode::start(&namenode).await;
    let bound = bind("127.0.0.1:0").await.unwrap();
    let older = DataNodeInfo {
        address: bound.address().to_string(),
        ..real.info()
    };
    let server = DataNodeServer::new(Older(client(&real.address())));
    let stop = CancellationToken::new();
    tokio::spawn(serve_grpc(
        bound,
        grpc_server().add_service(server),
        stop.clone(),
    ));
    let files = [file(1, b"one"), file(2, b"two")];
    let WholeResults(results) = write(&head, vec![older], &files).await.unwrap();
    for (result, file) in results.iter().zip(&files) {
        let acknowledged = &result.as_ref().unwrap().acknowledged;
        assert_eq!(*acknowledged, [head.id(), real.id()]);
        assert!(real.replica_file(&file.trailer.hash).is_some());
    }
    stop.cancel();
}
