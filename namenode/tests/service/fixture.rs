//! A namenode in a directory of its own, and datanodes that say what a test wants.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, TableDefinition};
use richardstore_namenode::{Namenode, NamenodeConfig};
use richardstore_proto::wire::name_node_client::NameNodeClient;
use richardstore_proto::wire::{self, to_bytes};
use richardstore_proto::{ContentHash, ErrorCode, Generation, StoreError};
use richardstore_runtime::{Channel, Channels, Environment, SharedClock, SystemClock, tcp_dial};
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::{Response, Status};

/// No condition is waited for longer than this.
pub const DEADLINE: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub type Client = NameNodeClient<Channel>;

/// A namenode that can be stopped and started again on its directory.
pub struct Rig {
    pub client: Client,
    channel: Channel,
    config: NamenodeConfig,
    clock: SharedClock,
    namenode: Option<Namenode>,
    _dir: Arc<TempDir>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut NamenodeConfig)) -> Self {
        Self::by_clock(Arc::new(SystemClock), change).await
    }

    /// One whose wall clock is `clock`.
    pub async fn by_clock(clock: SharedClock, change: impl FnOnce(&mut NamenodeConfig)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = NamenodeConfig {
            dir: dir.path().join("namenode"),
            listen: "127.0.0.1:0".to_owned(),
            // The nodes of a test beat when it says so; a slow machine must not make them stale.
            stale_after_ms: 600_000,
            dead_after_ms: 1_200_000,
            // What repair orders would come between the commands that most tests are about.
            repair_bytes_per_second: 0,
            ..NamenodeConfig::default()
        };
        change(&mut config);
        let (namenode, channel) = serve(&config, &clock).await;
        Self {
            client: NameNodeClient::new(channel.clone()),
            channel,
            config,
            clock,
            namenode: Some(namenode),
            _dir: dir,
        }
    }

    /// Stops the namenode and starts it again on the same directory.
    pub async fn restart(&mut self) {
        self.restart_with(|_| ()).await;
    }

    /// The record of a file becomes noise while the namenode is down.
    pub async fn restart_with_damage(&mut self, hash: ContentHash) {
        self.restart_with(|dir| {
            let files = TableDefinition::<&[u8; 32], &[u8]>::new("files");
            let database = Database::open(dir.join("metadata.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            let mut table = transaction.open_table(files).unwrap();
            let noise = [1; 50];
            table.insert(hash.as_bytes(), noise.as_slice()).unwrap();
            drop(table);
            transaction.commit().unwrap();
        })
        .await;
    }

    async fn restart_with(&mut self, meanwhile: impl FnOnce(&Path)) {
        let namenode = self.namenode.take().unwrap();
        assert!(
            namenode.stop(STOP_LIMIT).await,
            "the namenode stops in time"
        );
        meanwhile(&self.config.dir);
        let (namenode, channel) = serve(&self.config, &self.clock).await;
        self.namenode = Some(namenode);
        self.client = NameNodeClient::new(channel.clone());
        self.channel = channel;
    }

    pub async fn stop(mut self) {
        let namenode = self.namenode.take().unwrap();
        assert!(
            namenode.stop(STOP_LIMIT).await,
            "the namenode stops in time"
        );
    }

    /// Stops it with a limit that calls under way may outlast.
    pub async fn abandon(mut self, limit: Duration) {
        let namenode = self.namenode.take().unwrap();
        let _ = namenode.stop(limit).await;
    }

    pub fn namenode(&self) -> &Namenode {
        self.namenode.as_ref().unwrap()
    }

    /// The connection, for other services than the namenode's.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Nodes 1 to `count`, registered.
    pub async fn nodes(&self, count: u8) -> Vec<FakeNode> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            let mut node = FakeNode::new(number);
            node.register(&self.client).await.unwrap();
            nodes.push(node);
        }
        nodes
    }

    /// One allocation for one file.
    pub async fn allocate(&self) -> wire::Allocation {
        let request = wire::WriteFileRequest {
            count: 1,
            ..wire::WriteFileRequest::default()
        };
        let mut response = answer(self.client.clone().write_file(request).await).unwrap();
        response.allocations.remove(0)
    }

    /// Allocates and commits all of `hashes` on `nodes`, without reports.
    pub async fn store_many(&self, hashes: &[ContentHash], nodes: &[FakeNode]) {
        let nodes: Vec<_> = nodes.iter().map(FakeNode::id).collect();
        for hashes in hashes.chunks(64) {
            let request = wire::WriteFileRequest {
                count: u32::try_from(hashes.len()).unwrap(),
                ..wire::WriteFileRequest::default()
            };
            let allocated = answer(self.client.clone().write_file(request).await).unwrap();
            let commits = hashes.iter().zip(allocated.allocations);
            let files = commits
                .map(|(hash, allocation)| wire::FileCommit {
                    file: Some(file(*hash, allocation.generation)),
                    nodes: nodes.clone(),
                })
                .collect();
            let request = wire::CommitFilesRequest { files };
            let response = answer(self.client.clone().commit_files(request).await).unwrap();
            assert!(response.results.iter().all(|result| result.created));
        }
    }

    /// Commits `hash` under `generation` as acknowledged by `nodes`.
    pub async fn commit(
        &self,
        hash: ContentHash,
        generation: u64,
        nodes: &[&FakeNode],
    ) -> Result<wire::CommitResult, StoreError> {
        let file = wire::FileCommit {
            file: Some(file(hash, generation)),
            nodes: nodes.iter().map(|node| node.id()).collect(),
        };
        let request = wire::CommitFilesRequest { files: vec![file] };
        let mut response = answer(self.client.clone().commit_files(request).await)?;
        let result = response.results.remove(0);
        match result.error_code {
            0 => Ok(result),
            code => Err(StoreError::new(ErrorCode::from_number(code), result.error)),
        }
    }

    /// Allocates and commits `hash` on all of `nodes`, which report it. Returns the generation.
    pub async fn store(&self, hash: ContentHash, nodes: &mut [FakeNode]) -> u64 {
        let generation = self.allocate().await.generation;
        let acknowledged: Vec<&FakeNode> = nodes.iter().collect();
        self.commit(hash, generation, &acknowledged).await.unwrap();
        for node in nodes {
            node.added(&self.client, hash, generation).await;
        }
        generation
    }

    pub async fn read(&self, hash: ContentHash) -> Result<wire::StreamInfo, StoreError> {
        let hash = to_bytes(hash.as_bytes());
        answer(
            self.client
                .clone()
                .read_file(wire::ReadFileRequest { hash })
                .await,
        )
    }

    pub async fn delete(&self, hash: ContentHash) -> bool {
        let hash = to_bytes(hash.as_bytes());
        let request = wire::DeleteFileRequest { hash };
        answer(self.client.clone().delete_file(request).await)
            .unwrap()
            .existed
    }

    pub async fn info(&self) -> wire::InfoResponse {
        answer(self.client.clone().info(wire::InfoRequest {}).await).unwrap()
    }
}

async fn serve(config: &NamenodeConfig, clock: &SharedClock) -> (Namenode, Channel) {
    let environment = Environment {
        clock: clock.clone(),
        channels: Channels::new(tcp_dial()),
        ..Environment::system()
    };
    let namenode = Namenode::start(config.clone(), environment.clone())
        .await
        .unwrap();
    let channel = environment
        .channels
        .get(&namenode.address().to_string())
        .unwrap();
    (namenode, channel)
}

/// A datanode without a disk.
#[derive(Clone)]
pub struct FakeNode {
    pub number: u8,
    pub name: String,
    pub session: u64,
    pub journal: u8,
    pub next_sequence: u64,
    pub cluster_id: String,
    pub namenode_epoch: u64,
    pub address: String,
    pub rack: String,
    pub stats: wire::NodeStats,
}

impl FakeNode {
    pub fn new(number: u8) -> Self {
        Self {
            number,
            name: format!("node-{number}"),
            session: 1,
            journal: number,
            next_sequence: 1,
            cluster_id: String::new(),
            namenode_epoch: 0,
            address: format!("127.0.0.1:{}", 10_000 + u16::from(number)),
            rack: String::new(),
            stats: wire::NodeStats {
                capacity_bytes: 1 << 40,
                available_bytes: 1 << 39,
                ..wire::NodeStats::default()
            },
        }
    }

    pub fn id(&self) -> tonic::codegen::Bytes {
        to_bytes(&[self.number; 16])
    }

    pub fn journal_id(&self) -> tonic::codegen::Bytes {
        to_bytes(&[self.journal; 16])
    }

    pub async fn register(
        &mut self,
        client: &Client,
    ) -> Result<wire::RegisterResponse, StoreError> {
        let request = wire::RegisterRequest {
            node_id: self.id(),
            cluster_id: self.cluster_id.clone(),
            session_epoch: self.session,
            name: self.name.clone(),
            address: self.address.clone(),
            rack: self.rack.clone(),
            stats: Some(self.stats),
            journal_id: self.journal_id(),
            journal_next: self.next_sequence,
            version: "test".to_owned(),
        };
        let response = answer(client.clone().register(request).await)?;
        self.cluster_id.clone_from(&response.cluster_id);
        self.namenode_epoch = response.namenode_epoch;
        Ok(response)
    }

    pub async fn heartbeat(&self, client: &Client) -> Result<wire::HeartbeatResponse, StoreError> {
        self.heartbeat_with(client, Vec::new()).await
    }

    pub async fn heartbeat_with(
        &self,
        client: &Client,
        outcomes: Vec<wire::CommandOutcome>,
    ) -> Result<wire::HeartbeatResponse, StoreError> {
        let request = wire::HeartbeatRequest {
            node_id: self.id(),
            session_epoch: self.session,
            namenode_epoch: self.namenode_epoch,
            address: self.address.clone(),
            stats: Some(self.stats),
            outcomes,
            cluster_id: self.cluster_id.clone(),
        };
        answer(client.clone().heartbeat(request).await)
    }

    /// Journals and reports one new replica.
    pub async fn added(&mut self, client: &Client, hash: ContentHash, generation: u64) {
        let event = added(self.next_sequence, hash, generation);
        let response = self.report(client, vec![event]).await.unwrap();
        assert_eq!(response.next_sequence, self.next_sequence + 1);
        self.next_sequence += 1;
    }

    pub async fn report(
        &self,
        client: &Client,
        events: Vec<wire::JournalEvent>,
    ) -> Result<wire::IncrementalBlockReportResponse, StoreError> {
        let request = wire::IncrementalBlockReportRequest {
            node_id: self.id(),
            session_epoch: self.session,
            journal_id: self.journal_id(),
            events,
        };
        answer(client.clone().incremental_block_report(request).await)
    }

    pub async fn full_report(
        &self,
        client: &Client,
        step: wire::block_report_request::Step,
    ) -> Result<wire::BlockReportResponse, StoreError> {
        let request = wire::BlockReportRequest {
            node_id: self.id(),
            session_epoch: self.session,
            journal_id: self.journal_id(),
            step: Some(step),
        };
        answer(client.clone().block_report(request).await)
    }
}

pub fn hash(byte: u8) -> ContentHash {
    ContentHash::new([byte; 32])
}

/// `count` different hashes.
pub fn hashes(count: u16) -> Vec<ContentHash> {
    (0..count)
        .map(|number| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            ContentHash::new(bytes)
        })
        .collect()
}

pub fn file(hash: ContentHash, generation: u64) -> wire::FileInfo {
    wire::FileInfo {
        hash: to_bytes(hash.as_bytes()),
        size: 100,
        blake3_root: to_bytes(&[7; 32]),
        generation,
        replication: 0,
        created_ms: 0,
    }
}

pub fn entry(hash: ContentHash, generation: u64) -> wire::ReplicaEntry {
    richardstore_proto::ReplicaEntry {
        hash,
        generation: Generation(generation),
    }
    .into()
}

pub fn added(sequence: u64, hash: ContentHash, generation: u64) -> wire::JournalEvent {
    wire::JournalEvent {
        sequence,
        hash: to_bytes(hash.as_bytes()),
        generation,
        size: 100,
        blake3_root: to_bytes(&[7; 32]),
        removed: false,
    }
}

pub fn removed(sequence: u64, hash: ContentHash, generation: u64) -> wire::JournalEvent {
    wire::JournalEvent {
        removed: true,
        ..added(sequence, hash, generation)
    }
}

pub fn done(command: &wire::Command) -> wire::CommandOutcome {
    wire::CommandOutcome {
        id: command.id,
        error_code: 0,
        error: String::new(),
    }
}

/// The answer, or the error as the store's own.
pub fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, StoreError> {
    result.map(Response::into_inner).map_err(StoreError::from)
}

/// Asks `probe` until it has an answer; fails the test at the deadline.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < give_up, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
