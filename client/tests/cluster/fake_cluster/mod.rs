//! A cluster for tests: one namenode and some datanodes as real gRPC servers in this process, with disks in memory and
//! faults on demand.

mod datanode;
mod namenode;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use richardstore_client::{Client, ClientConfig, ClientError, GetOptions, PutOptions, SourceError};
use richardstore_proto::wire::data_node_server::DataNodeServer;
use richardstore_proto::wire::name_node_server::NameNodeServer;
use richardstore_proto::{Blake3Root, ContentHash, FileInfo, Generation};
use richardstore_runtime::{Environment, bind, grpc_server, serve_grpc};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

pub use self::datanode::{Node, ReadFault, WriteFault};
pub use self::namenode::FakeNameNode;

/// The id of the cluster.
pub const CLUSTER: &str = "0a0b0c0d-0000-4000-8000-000000000001";
/// How long a test waits for something that happens in the background.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The cluster. Its servers end with it.
pub struct FakeCluster {
    pub nodes: Vec<Arc<Node>>,
    pub namenode: Arc<FakeNameNode>,
    pub client: Client,
    stop: CancellationToken,
}

impl FakeCluster {
    /// A namenode and `count` datanodes.
    pub async fn start(count: u8) -> Self {
        Self::start_with(count, |_| {}).await
    }

    /// The same, with the client's configuration changed by `configure`.
    pub async fn start_with(count: u8, configure: impl FnOnce(&mut ClientConfig)) -> Self {
        let stop = CancellationToken::new();
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for number in 1..=count {
            let bound = bind("127.0.0.1:0").await.unwrap();
            let node = Arc::new(Node::new(number, bound.address().to_string()));
            let server = DataNodeServer::from_arc(node.clone());
            serve(bound, grpc_server().add_service(server), &stop);
            nodes.push(node);
        }
        for node in &nodes {
            assert!(node.all.set(nodes.clone()).is_ok());
        }
        let namenode = Arc::new(FakeNameNode::new(nodes.clone()));
        let bound = bind("127.0.0.1:0").await.unwrap();
        let mut config = ClientConfig::new(bound.address().to_string());
        let server = NameNodeServer::from_arc(namenode.clone());
        serve(bound, grpc_server().add_service(server), &stop);
        configure(&mut config);
        Self {
            nodes,
            namenode,
            client: Client::new(config, Environment::system()),
            stop,
        }
    }

    /// A file that is on the disks of all nodes and known to the namenode.
    pub fn with_file(&self, bytes: &Bytes) -> ContentHash {
        let file = file_info(bytes);
        for node in &self.nodes {
            node.disk().insert(file.hash, bytes.clone());
        }
        let holders = self.nodes.iter().map(|node| node.info.node_id).collect();
        let mut namenode = self.namenode.state();
        namenode.files.insert(file.hash, (file, holders));
        file.hash
    }

    /// Reads the whole file.
    pub async fn read(&self, hash: &ContentHash) -> Result<Vec<u8>, ClientError> {
        self.read_range(hash, 0, None).await
    }

    /// Reads a range.
    pub async fn read_range(
        &self,
        hash: &ContentHash,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Vec<u8>, ClientError> {
        let options = GetOptions::default();
        let mut stream = self.client.get(hash, offset, length, options).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        assert_eq!(bytes.len() as u64, stream.length);
        Ok(bytes)
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn serve(bound: richardstore_runtime::BoundServer, router: Router, stop: &CancellationToken) {
    let stop = stop.clone();
    tokio::spawn(async move { serve_grpc(bound, router, stop).await });
}

/// `length` bytes that differ from their neighbours.
pub fn some_bytes(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The facts about `bytes`.
pub fn file_info(bytes: &[u8]) -> FileInfo {
    FileInfo {
        hash: ContentHash::new(Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
        blake3_root: Blake3Root::new(*blake3::hash(bytes).as_bytes()),
        generation: Generation(1),
        replication: 3,
        created_ms: 1,
    }
}

/// A source that yields `bytes` in pieces of 100,000.
pub fn source(
    bytes: &Bytes,
) -> impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin + use<> {
    let pieces: Vec<_> = (0..bytes.len())
        .step_by(100_000)
        .map(|at| Ok(bytes.slice(at..bytes.len().min(at + 100_000))))
        .collect();
    stream::iter(pieces)
}

/// Options of an upload without wishes.
pub fn plain() -> PutOptions {
    PutOptions::default()
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}
